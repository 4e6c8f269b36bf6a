"""A data directory for a member of a new cluster, from a snapshot file: `snapshot restore`.

    <data-dir>/member/snap/db                the file without its digest: same revisions, leases, users; other members
    <data-dir>/member/snap/<1>-<n>.snap      the membership at index n, the number of members
    <data-dir>/member/wal/<0>-<0>.wal        identity, the n changes that add the members, a snapshot record at n

Member and cluster get new ids, made of peer URLs and token, so that a restored member never meets the old cluster. The
directory is built under another name and renamed when it is durable: a restore that was cut short leaves nothing that
a member would start on. Source: etcd's etcdutl/snapshot/v3_snapshot.go.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from quorate.backup.offline import COPY_BYTES, BackupError, Paths, change, check_pages, join, reading
from quorate.backup.records import RecordCheck
from quorate.backup.status import DIGEST_BYTES, digest_of, has_digest
from quorate.membership.cluster import Cluster
from quorate.membership.member import (
    Member,
    hex_id,
    member_json,
    parse_initial_cluster,
    parse_urls,
)
from quorate.membership.v2store import Membership, encode_v2store
from quorate.mvcc.revision import main_of, revision_key
from quorate.ports import Disk, Log
from quorate.proto.etcdserver_pb2 import Metadata
from quorate.raft.types import ConfState, HardState, Snapshot
from quorate.server.bootinitial import check_initial
from quorate.server.bootlog import StartError, first_entries
from quorate.storage.bolt.tree import Scan
from quorate.storage.bolt.tx import ReadTx, WriteTx
from quorate.storage.schema import (
    CONSISTENT_INDEX,
    KEY,
    MEMBERS,
    MEMBERS_REMOVED,
    META,
    SCHEDULED_COMPACT_REV,
    TERM,
    encode_u64,
    member_key,
)
from quorate.storage.snapfile import save as save_snap
from quorate.storage.wal import Wal
from quorate.storage.wal_record import WalSnapshot

_CALLER: Final = "snapshot/v3_snapshot.go"
_REVISION_MAX: Final = (1 << 63) - 1
_TERM: Final = 1


@dataclass
class RestoreOptions:
    """What `snapshot restore` is told; the names are those of its flags."""

    path: str
    """The snapshot file."""

    name: str = "default"
    data_dir: str = ""
    """Empty: `<name>.etcd`."""

    wal_dir: str = ""
    """Empty: `<data-dir>/member/wal`."""

    initial_cluster: str = "default=http://localhost:2380"
    initial_cluster_token: str = "etcd-cluster"
    peer_urls: list[str] = field(default_factory=lambda: ["http://localhost:2380"])
    skip_hash_check: bool = False
    bump_revision: int = 0
    mark_compacted: bool = False
    progress: Callable[[int, int], None] | None = None
    """Called with the bytes copied and those in all."""

    memory_map_size: int = 0
    """Without effect: nothing is mapped beyond the file's size. It shows in the log, as in etcd."""


def restore(disk: Disk, options: RestoreOptions, log: Log) -> None:
    """Make the directory. Raises BackupError, CorruptError, OSError; then nothing of it is left behind."""
    if bool(options.bump_revision) != options.mark_compacted:
        raise BackupError("--mark-compacted required if --revision-bump > 0")
    cluster = _cluster_of(options, log)
    paths = Paths(options.data_dir or f"{options.name}.etcd", options.wal_dir)
    if disk.exists(paths.data_dir) and not _is_empty(disk, paths.data_dir):
        raise BackupError(f'data-dir "{paths.data_dir}" not empty or could not be read')
    if disk.exists(paths.wal):
        raise BackupError(f'wal-dir "{paths.wal}" exists')
    shown: dict[str, object] = {
        "path": options.path,
        "wal-dir": paths.wal,
        "data-dir": paths.data_dir,
        "snap-dir": paths.snap,
        "initial-memory-map-size": options.memory_map_size,
    }
    log.info(_CALLER, "restoring snapshot", **shown)
    made = not disk.exists(paths.data_dir)
    building = Paths(paths.data_dir, options.wal_dir)
    building.member = f"{paths.member}.tmp"
    building.snap = f"{building.member}/snap"
    building.db = f"{building.snap}/db"
    building.wal = options.wal_dir or f"{building.member}/wal"
    try:
        _build(disk, options, cluster, building, log)
        disk.rename(building.member, paths.member)
        disk.sync_dir(paths.data_dir)
        with suppress(PermissionError):
            disk.sync_dir(join(paths.data_dir, ".."))
    except BaseException:
        disk.remove_tree(paths.data_dir if made else building.member)
        if options.wal_dir:
            disk.remove_tree(options.wal_dir)
        raise
    log.info(_CALLER, "restored snapshot", **shown)


def _cluster_of(options: RestoreOptions, log: Log) -> Cluster:
    """Check the flags as etcd does, in its order, and return the new cluster."""
    try:
        advertised = parse_urls(options.peer_urls)
        urls = parse_initial_cluster(options.initial_cluster)
        check_initial(options.name, urls, advertised)
        return Cluster.from_initial(log, urls, options.initial_cluster_token)
    except (ValueError, StartError) as error:
        raise BackupError(str(error)) from None


def _is_empty(disk: Disk, path: str) -> bool:
    try:
        return not disk.list_dir(path)
    except OSError:
        return False


def _build(disk: Disk, options: RestoreOptions, cluster: Cluster, paths: Paths, log: Log) -> None:
    size = _checked_size(disk, options)
    disk.make_dirs(paths.snap)
    _copy(disk, options.path, paths.db, size, options.progress)
    last = _check(disk, paths.db, options.skip_hash_check, log)
    if options.bump_revision > _REVISION_MAX - last:
        raise BackupError(f"--bump-revision {options.bump_revision} goes beyond the last possible revision")
    log.info("schema/membership.go", "Trimming membership information from the backend...")

    def edit(tx: WriteTx) -> None:
        _set_members(tx, cluster, log)
        if options.mark_compacted:
            _bump(tx, last, options.bump_revision, log)
        meta = tx.create_bucket(META)
        meta.put(CONSISTENT_INDEX, encode_u64(len(cluster.members)))
        meta.put(TERM, encode_u64(_TERM))

    change(disk, paths.db, log, edit)
    disk.sync_dir(paths.snap)
    member = cluster.member_by_name(options.name)
    assert member is not None, options.name
    _write_log(disk, paths, cluster, member.id, log)
    disk.sync_dir(paths.member)


def _checked_size(disk: Disk, options: RestoreOptions) -> int:
    """Return how many bytes of the file are the database, once its digest is checked."""
    file = disk.open(options.path, read_only=True)
    try:
        size = file.size()
        try:
            digest = file.read_at(DIGEST_BYTES, max(size - DIGEST_BYTES, 0))
        except IsADirectoryError:
            raise BackupError(f"read {options.path}: is a directory") from None
        if size < DIGEST_BYTES:
            raise BackupError(f"seek {options.path}: invalid argument")
        if not has_digest(size):
            if not options.skip_hash_check:
                raise BackupError("snapshot missing hash but --skip-hash-check=false")
            return size
        size -= DIGEST_BYTES
        if not options.skip_hash_check and (found := digest_of(file, size)) != digest:
            raise BackupError(f"expected sha256 {_go_bytes(digest)}, got {_go_bytes(found)}")
        return size
    finally:
        file.close()


def _go_bytes(data: bytes) -> str:
    return "[" + " ".join(map(str, data)) + "]"


def _copy(disk: Disk, source: str, target: str, size: int, progress: Callable[[int, int], None] | None) -> None:
    old = disk.open(source, read_only=True)
    try:
        new = disk.open(target, create=True, mode=0o600)
        try:
            for offset in range(0, size, COPY_BYTES):
                new.write_at(old.read_at(min(COPY_BYTES, size - offset), offset), offset)
                if progress is not None:
                    progress(min(offset + COPY_BYTES, size), size)
            new.sync()
        finally:
            new.close()
    finally:
        old.close()


def _check(disk: Disk, path: str, unsigned: bool, log: Log) -> int:
    """Refuse a database whose pages contradict each other, and without a digest also records; return its revision."""
    with reading(disk, path, log) as (db, tx):
        check_pages(db, "snapshot")
        tree = tx.bucket(KEY)
        last = tree.last() if tree is not None else None
        if unsigned:
            _check_records(tx)
        return main_of(last[0]) if last is not None and len(last[0]) >= 17 else 0


def _check_records(tx: ReadTx) -> None:
    check = RecordCheck.of(tx)
    tree = tx.bucket(KEY)
    if tree is not None:
        scan = Scan(tree, b"", None)
        while scan.next_leaf():
            check.add(scan.keys, scan.values)
    check.finish()
    found = check.malformed + check.problems
    if found:
        text = f"snapshot file integrity check failed. {len(found)} errors found.\n"
        raise BackupError(text + "\n".join(found))


def _set_members(tx: WriteTx, cluster: Cluster, log: Log) -> None:
    for name in (MEMBERS, MEMBERS_REMOVED):
        tx.delete_bucket(name)
        tx.create_bucket(name)
    members = tx.create_bucket(MEMBERS)
    for member in cluster.member_list():
        members.put(member_key(member.id), member_json(member))
        fields: dict[str, object] = {
            "cluster-id": hex_id(cluster.cluster_id),
            "local-member-id": "0",
            "added-peer-id": hex_id(member.id),
            "added-peer-peer-urls": member.peer_urls,
            "added-peer-is-learner": member.is_learner,
        }
        log.info("membership/cluster.go", "added member", **fields)


def _bump(tx: WriteTx, last: int, amount: int, log: Log) -> None:
    """Let the revision jump, and have everything up to there compacted when the member starts."""
    fields: dict[str, object] = {
        "latest-revision": last,
        "bump-amount": amount,
        "new-latest-revision": last + amount,
    }
    log.info(_CALLER, "bumping latest revision", **fields)
    revision = revision_key(last + amount, 0)
    tx.create_bucket(KEY).put(revision, b"")
    log.info(_CALLER, "marking revision compacted", revision=last + amount)
    tx.create_bucket(META).put(SCHEDULED_COMPACT_REV, revision)


def _write_log(disk: Disk, paths: Paths, cluster: Cluster, member_id: int, log: Log) -> None:
    state, entries = first_entries(cluster)
    ids = sorted(cluster.members)
    index = len(entries)
    conf_state = ConfState(list(ids))
    metadata = Metadata(NodeID=member_id, ClusterID=cluster.cluster_id).SerializeToString(deterministic=True)
    parent = paths.wal.rpartition("/")[0]
    if parent:
        disk.make_dirs(parent)
    wal = Wal.create(disk, paths.wal, metadata, log)
    try:
        # As etcd: a vote for the first one, so that the state is a whole one.
        wal.save(HardState(state.term, ids[0], state.commit), entries)
        wal.sync()
        bare = {member.id: Member(member.id, member.peer_urls) for member in cluster.member_list()}
        data = encode_v2store(Membership(bare, set(), None))
        save_snap(disk, paths.snap, Snapshot(data, index, _TERM, conf_state), log)
        wal.save_snapshot(WalSnapshot(index, _TERM, conf_state))
    finally:
        wal.close()
