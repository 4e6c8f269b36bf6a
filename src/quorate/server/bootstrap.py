"""From what is on disk to the parts of a server: the first start of a member, and every later one.

First start: the directories, identity from the initial cluster and its token, a new WAL whose metadata holds that
identity, and the cluster's first entries. Later starts:

    snapshots the WAL knows -> newest readable .snap among them -> membership -> `db`, or the received database that the
    snapshot belongs to -> WAL from the snapshot on -> raft, with everything behind the snapshot to be delivered again

Which of the two it is decides the presence of a WAL segment, not of any other file. What is read is checked before it
is believed: CorruptError names the file (and the offset, where one place is to blame) and nothing is half loaded.

Order matters for crashes: nothing refers to a file before that file is durable. A crash between the creation of the WAL
and its first entries leaves a WAL that names a member and holds nothing; the next start writes the entries then.

A member that joins a running cluster begins with an empty log; the others send it everything. So does one that died
after such a start and before it heard from anybody.
Source: etcd's server/etcdserver/bootstrap.go, server/config/config.go, server/storage/backend.go.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from stat import S_IFDIR, filemode
from typing import Final

from google.protobuf.message import DecodeError

from quorate.errors import CorruptError
from quorate.lease.lessor import Lessor
from quorate.membership.cluster import MEMBERS_BUCKET, Cluster
from quorate.membership.member import format_initial_cluster, hex_id, parse_initial_cluster
from quorate.membership.v2store import Membership, decode_v2store
from quorate.mvcc.store import Store, StoreOptions
from quorate.mvcc.watch import WatchHub
from quorate.ports import Disk, Log, Loop
from quorate.proto.etcdserver_pb2 import Metadata
from quorate.raft.core import Config
from quorate.raft.node import RawNode
from quorate.raft.storage import MemoryStorage
from quorate.raft.types import Entry, HardState, Snapshot
from quorate.server.alarm import Alarms
from quorate.server.bootcheck import check_history
from quorate.server.bootinitial import check_initial, has_duplicate
from quorate.server.bootlog import (
    StartError,
    effective_ids,
    filling_entries,
    first_entries,
    isolating_entries,
    voter_ids,
)
from quorate.server.config import ServerConfig
from quorate.server.join import (
    RESOLVE_LIMIT_NS,
    DiscoveryError,
    DiscoveryFailedError,
    Elsewhere,
    Nobody,
    Registry,
    check_not_bootstrapped,
    join,
)
from quorate.server.parts import ServerParts
from quorate.server.raftlog import RaftLog
from quorate.server.transport import NullTransport
from quorate.storage.backend import Backend, BackendOptions
from quorate.storage.bolt import Db
from quorate.storage.schema import BUCKETS, CONSISTENT_INDEX, META, TERM, decode_u64
from quorate.storage.snapfile import clean_up, load_newest, snap_db_name, snap_name
from quorate.storage.wal import Wal, WalOptions
from quorate.storage.wal_reader import WalContents, valid_snapshots
from quorate.storage.wal_record import WalSnapshot

MAX_MESSAGE_BYTES: Final = 512 * 1024
MAX_INFLIGHT_MESSAGES: Final = 512
FILLED_ENTRIES_MAX: Final = 100_000

_CALLER: Final = "etcdserver/bootstrap.go"
# What fsync says of a directory that is not ours to write, and on a file system that cannot sync one.
_NOT_SYNCABLE: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL, errno.EOPNOTSUPP)


@dataclass
class BootstrapOptions:
    """What only the start of a member needs to know."""

    initial_cluster: dict[str, list[str]] = field(default_factory=dict)
    """Peer URLs by member name."""

    initial_cluster_token: str = "etcd-cluster"
    peer_urls: list[str] = field(default_factory=list)
    """The peer URLs that this member advertises."""

    new_cluster: bool = True
    force_new_cluster: bool = False
    unsafe_no_fsync: bool = False
    skip_v2_check: bool = False
    registry: Registry | None = None
    """A discovery service that knows the members of a new cluster; `initial_cluster` is then this one alone."""

    backend: BackendOptions = field(default_factory=BackendOptions)
    store: StoreOptions = field(default_factory=StoreOptions)


class Bootstrap:
    """One start of one member. `run` returns the parts; when it raises, everything opened has been closed again."""

    def __init__(
        self,
        loop: Loop,
        disk: Disk,
        log: Log,
        config: ServerConfig,
        options: BootstrapOptions,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self.elsewhere: Elsewhere = Nobody() if elsewhere is None else elsewhere
        self.first_peers: dict[int, list[str]] = {}
        self.loop = loop
        self.disk = disk
        self.log = log
        self.config = config
        self.options = options
        self.wal: Wal | None = None
        self.backend: Backend | None = None
        self.storage = MemoryStorage()
        self.db_path = f"{config.snap_dir}/db"

    def run(self) -> ServerParts:
        """Open or create everything. Raises StartError, CorruptError, OSError."""
        try:
            return self._run()
        except BaseException:
            if self.wal is not None:
                self.wal.close()
            if self.backend is not None:
                self.backend.close()
            raise

    def _run(self) -> ServerParts:
        config = self.config
        touch_directory(self.disk, config.data_dir, self.log, "cannot access data directory")
        touch_directory(self.disk, f"{config.data_dir}/member", self.log, "cannot access member directory")
        touch_directory(self.disk, config.snap_dir, self.log, "cannot access snapshot directory")
        clean_up(self.disk, config.snap_dir, self.log)
        known = have_wal(self.disk, config.wal_dir)
        cluster, replay = self._restart() if known else self._first_start()
        parts = self._parts(cluster, replay)
        if known and config.initial_corrupt_check:
            check_history(parts.store, cluster, self.elsewhere, config.request_timeout_ns, self.log)
        return parts

    # -- The first start

    def _first_start(self) -> tuple[Cluster, Cluster]:
        config = self.config
        initial = self._initial_cluster()
        local_id = self._local_id(initial)
        if self._open_backend() > 0:
            # etcd would go on, and silently pass over as many new entries as the old file has seen.
            raise StartError(f"database file ({self.db_path}) has data, but there is no WAL in {config.wal_dir}")
        metadata = Metadata(NodeID=local_id, ClusterID=initial.cluster_id).SerializeToString(deterministic=True)
        parent = config.wal_dir.rpartition("/")[0]
        if parent:
            self.disk.make_dirs(parent)
        self.wal = Wal.create(self.disk, config.wal_dir, metadata, self.log, self._wal_options())
        if self.options.new_cluster:
            self._write_first_entries(initial)
        else:
            # The others send everything, from the first entry or a snapshot on.
            self._fill_storage(None, HardState(), [])
        self._note_peers(initial)
        fields: dict[str, object] = {"local-member-id": hex_id(local_id), "cluster-id": hex_id(initial.cluster_id)}
        self.log.info("etcdserver/raft.go", "starting local member", **fields)
        return self._empty_cluster(local_id, initial.cluster_id)

    def _note_peers(self, initial: Cluster) -> None:
        self.first_peers = {member.id: member.peer_urls for member in initial.member_list()}

    def _empty_cluster(self, local_id: int, cluster_id: int) -> tuple[Cluster, Cluster]:
        # The first entries fill it, in the same transaction in which they are applied.
        assert self.backend is not None
        cluster = Cluster(self.log, self.config.max_learners)
        cluster.set_id(local_id, cluster_id)
        cluster.attach(self.backend)
        replay = Cluster.from_membership(self.log, Membership({}, set(), None), self.config.max_learners)
        replay.set_id(local_id, cluster_id)
        return cluster, replay

    def _initial_cluster(self) -> Cluster:
        options, config = self.options, self.config
        urls = options.initial_cluster
        check_initial(
            config.name,
            urls,
            options.peer_urls if options.new_cluster else None,
            self.elsewhere.resolver(RESOLVE_LIMIT_NS),
        )
        initial = self._cluster_of(urls)
        if not options.new_cluster:
            return join(initial, self._local_id(initial), self.elsewhere, self.log)
        if len(urls) > 1:
            check_not_bootstrapped(initial, self._local_id(initial), self.elsewhere)
        if options.registry is not None:
            return self._discovered(options.registry, self._local_id(initial))
        return initial

    def _cluster_of(self, urls: dict[str, list[str]]) -> Cluster:
        try:
            return Cluster.from_initial(self.log, urls, self.options.initial_cluster_token, self.config.max_learners)
        except ValueError as error:
            raise StartError(str(error)) from None

    def _discovered(self, registry: Registry, local_id: int) -> Cluster:
        own = format_initial_cluster(self.options.initial_cluster)
        try:
            text = registry.join(local_id, own, self.log)
        except DiscoveryError as error:
            raise DiscoveryFailedError(error) from None
        try:
            urls = parse_initial_cluster(text)
        except ValueError as error:
            raise StartError(str(error)) from None
        if has_duplicate(urls):
            raise StartError(f"discovery cluster {format_initial_cluster(urls)} has duplicate url")
        found = self._cluster_of(urls)
        if local_id not in found.members:
            raise StartError(f"discovery cluster {text} does not have this member, {own}")
        return found

    def _local_id(self, initial: Cluster) -> int:
        member = initial.member_by_name(self.config.name)
        assert member is not None, self.config.name
        return member.id

    def _write_first_entries(self, initial: Cluster) -> None:
        assert self.wal is not None
        if not self.options.unsafe_no_fsync:
            # Also what an earlier first start has made and not made durable, before it was cut short.
            make_path_durable(self.disk, self.db_path)
            make_path_durable(self.disk, self.config.wal_dir)
        state, entries = first_entries(initial)
        self.wal.save(state, entries)
        self.wal.sync()
        self._fill_storage(None, state, entries)

    # -- Every later start

    def _restart(self) -> tuple[Cluster, Cluster]:
        config = self.config
        candidates = valid_snapshots(self.disk, config.wal_dir, self.log)
        snapshot = load_newest(self.disk, config.snap_dir, candidates, self.log)
        membership = Membership({}, set(), None)
        if snapshot is None:
            self.log.info(_CALLER, "No snapshot found. Recovering WAL from scratch!")
        else:
            membership = self._membership_of(snapshot)
        had_db = self.disk.exists(self.db_path)
        index = self._recover_backend(snapshot, had_db)
        start = WalSnapshot() if snapshot is None else WalSnapshot(snapshot.index, snapshot.term, snapshot.conf_state)
        wal, contents = Wal.open(self.disk, config.wal_dir, start, self.log, self._wal_options())
        self.wal = wal
        local_id, cluster_id = read_metadata(contents.metadata, config.wal_dir)
        if snapshot is None and not contents.entries and contents.hard_state.is_empty():
            if index > 0:
                raise StartError(f"database file ({self.db_path}) has data, but the log in {config.wal_dir} is empty")
            return self._finish_first_start(local_id, cluster_id)
        check_commit(contents, start.index, config.wal_dir)
        self._fill_log(snapshot, contents, index, local_id)
        if self.options.force_new_cluster:
            self._isolate(snapshot, contents, index, local_id, cluster_id)
        else:
            fields: dict[str, object] = {
                "cluster-id": hex_id(cluster_id),
                "local-member-id": hex_id(local_id),
                "commit-index": contents.hard_state.commit,
            }
            self.log.info(_CALLER, "restarting local member", **fields)
        self._fill_storage(snapshot, contents.hard_state, contents.entries)
        return self._load_cluster(membership, local_id, cluster_id)

    def _finish_first_start(self, local_id: int, cluster_id: int) -> tuple[Cluster, Cluster]:
        """Do what a crash has kept an earlier first start from doing."""
        if not self.options.new_cluster:
            self._fill_storage(None, HardState(), [])
            self._note_peers(self._initial_cluster())
            return self._empty_cluster(local_id, cluster_id)
        initial = self._initial_cluster()
        if (local_id, cluster_id) != (self._local_id(initial), initial.cluster_id):
            raise StartError(
                f"{self.config.wal_dir} was made for member {hex_id(local_id)} of cluster {hex_id(cluster_id)}, which "
                "never started, and --initial-cluster describes another one"
            )
        self._write_first_entries(initial)
        self._note_peers(initial)
        return self._empty_cluster(local_id, cluster_id)

    def _membership_of(self, snapshot: Snapshot) -> Membership:
        path = f"{self.config.snap_dir}/{snap_name(snapshot.term, snapshot.index)}"
        try:
            membership = decode_v2store(snapshot.data or b"")
        except ValueError as error:
            raise CorruptError(path, -1, str(error)) from error
        if membership.has_user_data and not self.options.skip_v2_check:
            raise StartError("detected disallowed custom content in v2store for stage --v2-deprecation=write-only")
        fields: dict[str, object] = {"snapshot-index": snapshot.index, "snapshot-size": len(snapshot.data or b"")}
        self.log.info(_CALLER, "recovered v2 store from snapshot", **fields)
        return membership

    def _recover_backend(self, snapshot: Snapshot | None, had_db: bool) -> int:
        """Open the db that belongs to the snapshot; return its consistent index."""
        index = 0
        if had_db or snapshot is None:
            index = self._open_backend()
        if snapshot is None or snapshot.index <= index:
            return index
        # The snapshot came from a leader, and the crash came before its database was put in place.
        fields: dict[str, object] = {"consistent-index": index, "snapshot-index": snapshot.index}
        self.log.info("storage/backend.go", "Recovering from snapshot backend", **fields)
        received = f"{self.config.snap_dir}/{snap_db_name(snapshot.index)}"
        if not self.disk.exists(received):
            raise CorruptError(
                self.db_path,
                -1,
                f"database file ({self.db_path} index {index}) does not match with snapshot (index {snapshot.index}): "
                "failed to find database snapshot file (snap: snapshot file doesn't exist)",
            )
        if self.backend is not None:
            self.backend.close()
            self.backend = None
        # An empty one would be taken for a database that is yet to be made.
        Db.open(self.disk, received, self.log, read_only=True).close()
        self.disk.rename(received, self.db_path)
        self.disk.sync_dir(self.config.snap_dir)
        index = self._open_backend()
        if 0 < index < snapshot.index:
            text = f"index {index} does not match with snapshot (index {snapshot.index})"
            raise CorruptError(self.db_path, -1, text)
        return index

    def _open_backend(self) -> int:
        """Open the db, make its buckets, and return its consistent index."""
        start = self.loop.monotonic_ns()
        backend = Backend(self.loop, self.disk, self.db_path, self.log, self.options.backend)
        self.backend = backend
        took = f"{(self.loop.monotonic_ns() - start) / 1e6:.6f}ms"
        self.log.info("etcdserver/backend.go", "opened backend db", path=self.db_path, took=took)
        for bucket in BUCKETS:
            backend.create_bucket(bucket)
        try:
            return decode_u64(backend.get(META, CONSISTENT_INDEX))
        except ValueError as error:
            raise CorruptError(self.db_path, -1, f"bucket meta: consistent_index: {error}") from error

    def _fill_log(self, snapshot: Snapshot | None, contents: WalContents, index: int, local_id: int) -> None:
        """Bring a log that ends before the database up to it, if nobody else can send what it lacks.

        Files that were copied while the member ran are like that when the log came first. What is missing has been
        applied; but entries that would now be written at the same indexes would be taken for it and passed over, which
        is what etcd does.
        """
        assert self.wal is not None
        assert self.backend is not None
        start = 0 if snapshot is None else snapshot.index
        last = contents.entries[-1].index if contents.entries else start
        if index <= last or not (self.options.force_new_cluster or voter_ids(snapshot, contents.entries) == {local_id}):
            return
        path = self.config.wal_dir
        what = f"the log ends at {last}, and the database ({self.db_path}) has seen entries up to {index}"
        if index - last > FILLED_ENTRIES_MAX:
            raise CorruptError(path, -1, f"{what}: too many are lost")
        voters = Cluster(self.log)
        voters.load(self.backend)
        if not self.options.force_new_cluster and {member.id for member in voters.voters()} - {local_id}:
            raise CorruptError(path, -1, f"{what}: what is lost has changed the membership")
        state = contents.hard_state
        term = max(state.term, decode_u64(self.backend.get(META, TERM)))
        added = filling_entries(last, index, term)
        contents.hard_state = HardState(term, state.vote if term == state.term else 0, index)
        contents.entries = contents.entries + added
        self.wal.save(contents.hard_state, added)
        self.wal.sync()
        self.log.warn(_CALLER, "filled the log up to the database with empty entries", path=path, entries=len(added))

    def _isolate(
        self, snapshot: Snapshot | None, contents: WalContents, index: int, local_id: int, cluster_id: int
    ) -> None:
        """Make this member a cluster of its own: drop what is not committed, remove everybody else."""
        assert self.wal is not None
        state = contents.hard_state
        old_commit = state.commit
        last = contents.entries[-1].index if contents.entries else 0
        # A commit index alone is not written to the WAL, so the db may know of a later one.
        commit = min(max(old_commit, index), max(last, old_commit))
        entries = [entry for entry in contents.entries if entry.index <= commit]
        added = isolating_entries(effective_ids(snapshot, entries), local_id, state.term, commit)
        self.wal.save(None, added)
        self.wal.sync()
        contents.entries = entries + added
        contents.hard_state = HardState(state.term, state.vote, commit + len(added))
        fields: dict[str, object] = {
            "cluster-id": hex_id(cluster_id),
            "local-member-id": hex_id(local_id),
            "wal-commit-index": old_commit,
            "commit-index": contents.hard_state.commit,
        }
        self.log.info(_CALLER, "forcing restart member", **fields)

    def _load_cluster(self, membership: Membership, local_id: int, cluster_id: int) -> tuple[Cluster, Cluster]:
        """Return the cluster as of the db's consistent index, and as of the snapshot."""
        assert self.backend is not None
        replay = Cluster.from_membership(self.log, membership, self.config.max_learners)
        replay.set_id(local_id, cluster_id)
        cluster = Cluster(self.log, self.config.max_learners)
        cluster.set_id(local_id, cluster_id)
        if self.backend.range(MEMBERS_BUCKET, b"", b"\xff", 1):
            cluster.load(self.backend)
            cluster.adopt(membership)
        elif membership.members:
            cluster.members = {member_id: member.clone() for member_id, member in membership.members.items()}
            cluster.removed = set(membership.removed)
            cluster.version = membership.version
            cluster.save_all(self.backend)
        else:
            cluster.attach(self.backend)
        return cluster, replay

    # -- Common

    def _wal_options(self) -> WalOptions:
        clock: Callable[[], int] = self.loop.monotonic_ns
        return WalOptions(clock, self.options.unsafe_no_fsync)

    def _fill_storage(self, snapshot: Snapshot | None, state: HardState, entries: list[Entry]) -> None:
        if snapshot is not None:
            self.storage.apply_snapshot(snapshot)
        self.storage.set_hard_state(state)
        self.storage.append(entries)

    def _parts(self, cluster: Cluster, replay: Cluster) -> ServerParts:
        assert self.backend is not None
        assert self.wal is not None
        config, backend = self.config, self.backend
        lessor = Lessor(
            backend,
            config.min_lease_ttl_s,
            config.request_timeout_ns,
            config.lease_checkpoint,
            config.lease_checkpoint_persist,
        )
        lessor.recover()
        hub = WatchHub()
        store = Store(backend, lessor, hub, self.options.store, self.loop, self.log)
        store.restore()
        alarms = Alarms(backend)
        alarms.recover()
        raft_config = Config(
            cluster.local_id,
            self.storage,
            self._random,
            election_tick=config.election_ticks,
            heartbeat_tick=1,
            applied=self.storage.snapshot().index,
            max_size_per_msg=MAX_MESSAGE_BYTES,
            max_inflight_msgs=MAX_INFLIGHT_MESSAGES,
            check_quorum=True,
            pre_vote=config.pre_vote,
            logger=RaftLog(self.log),
        )
        return ServerParts(
            loop=self.loop,
            disk=self.disk,
            log=self.log,
            config=config,
            member_id=cluster.local_id,
            cluster=cluster,
            replay=replay,
            node=RawNode(raft_config),
            raft_storage=self.storage,
            wal=self.wal,
            backend=backend,
            lessor=lessor,
            watch_hub=hub,
            store=store,
            alarms=alarms,
            transport=NullTransport(),
            first_peers=self.first_peers,
        )

    def _random(self, limit: int) -> int:
        return self.loop.random_bits(32) % limit


def touch_directory(disk: Disk, path: str, log: Log, what: str) -> None:
    """Make a directory (0700) where it is absent, and prove that files can be made in it. Raises StartError."""
    try:
        if disk.exists(path):
            mode = disk.mode(path)
            if mode != 0o700:
                reason = (
                    f'directory "{path}" exist, but the permission is "{filemode(S_IFDIR | mode)}". '
                    'The recommended permission is "-rwx------" to prevent possible unprivileged access to the data'
                )
                log.warn("fileutil/fileutil.go", "check file permission", error=reason)
        else:
            disk.make_dirs(path)
        probe = f"{path}/.touch"
        file = disk.open(probe, create=True)
        file.close()
        disk.remove(probe)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StartError(f"{what}: {error.filename or path}: {reason}") from None


def make_path_durable(disk: Disk, path: str) -> None:
    """Make durable that `path` is in its directory, that in its own, and so on, as far as we may. Raises OSError."""
    while path not in ("", ".", "/"):
        head, slash, _ = path.rstrip("/").rpartition("/")
        path = head or slash or "."
        try:
            disk.sync_dir(path)
        except OSError as error:
            if error.errno not in _NOT_SYNCABLE:
                raise


def have_wal(disk: Disk, path: str) -> bool:
    """Tell whether a member has been here: whether there is any WAL segment."""
    return disk.exists(path) and any(name.endswith(".wal") for name in disk.list_dir(path))


def read_metadata(metadata: bytes, path: str) -> tuple[int, int]:
    """Return the ids of member and cluster in a WAL's metadata; CorruptError when it names none."""
    parsed = Metadata()
    try:
        parsed.ParseFromString(metadata)
    except DecodeError as error:
        raise CorruptError(path, -1, f"wal: metadata: {error}") from error
    if parsed.NodeID == 0:
        raise CorruptError(path, -1, "wal: metadata names no member")
    return parsed.NodeID, parsed.ClusterID


def check_commit(contents: WalContents, snapshot_index: int, path: str) -> None:
    """Refuse a WAL whose commit index lies outside of what it holds."""
    last = contents.entries[-1].index if contents.entries else snapshot_index
    commit = contents.hard_state.commit
    if contents.hard_state.is_empty() and not contents.entries:
        # A snapshot's record was the last thing that was written.
        contents.hard_state = HardState(contents.hard_state.term, 0, snapshot_index)
        return
    if not snapshot_index <= commit <= last:
        text = f"wal: state.commit {commit} is out of range [{snapshot_index}, {last}]"
        raise CorruptError(path, -1, text)
