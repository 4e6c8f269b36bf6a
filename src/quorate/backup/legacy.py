"""`backup` of etcd up to 3.5: a copy of a stopped (or, in ways, a running) member's directory as a cluster of its own.

The copy is started with --force-new-cluster. Its members are replaced by one that cannot be reached, so that it never
meets the cluster it comes from: in the store of version 2 in the newest .snap file, in the database, and in the log,
where entries that change members or their attributes become empty ones, so that all indexes stay. Without `with_v3` the
entries of version 3 become empty too, and the database starts empty.
Source: etcd 3.5's etcdutl/etcdutl/backup_command.go.
"""

from __future__ import annotations

import json
import re
from typing import Final

from quorate.backup.contents import newest_snap, read_wal
from quorate.backup.offline import BackupError, Paths, change, reading, require_file
from quorate.errors import CorruptError
from quorate.membership.member import Member, go_json, member_json
from quorate.membership.v2store import Membership, decode_v2store, encode_v2store
from quorate.ports import Disk, Log
from quorate.raft.types import ENTRY_CONF_CHANGE, ConfState, Entry, Snapshot
from quorate.server.entry import CLUSTER_MEMBER_ATTR_SET, V2, parse_entry
from quorate.storage.bolt.tx import WriteTx
from quorate.storage.schema import (
    CLUSTER,
    CONSISTENT_INDEX,
    MEMBERS,
    MEMBERS_REMOVED,
    META,
    TERM,
    encode_u64,
    member_key,
)
from quorate.storage.snapfile import save as save_snap
from quorate.storage.wal import Wal
from quorate.storage.wal_reader import WalContents
from quorate.storage.wal_record import WalSnapshot

_CALLER: Final = "etcdutl/backup_command.go"
_NAME: Final = "etcdctl-v2-backup"
_PEER_URL: Final = "http://use-flag--force-new-cluster:2080"
_ATTRIBUTES: Final = re.compile(r"/0/members/[0-9a-fA-F]{1,16}/attributes")


def backup(disk: Disk, source: Paths, target: Paths, with_v3: bool, member_id: int, log: Log) -> None:
    """Copy a directory. `member_id` is the new member's. Raises BackupError, CorruptError, OSError."""
    require_file(disk, source.db)
    if disk.exists(target.db) or (disk.exists(target.wal) and disk.list_dir(target.wal)):
        raise BackupError(f'backup-dir "{target.data_dir}" is not empty')
    member = Member(member_id, [_PEER_URL], _NAME)
    disk.make_dirs(target.snap)
    start = _save_snap(disk, source, target, member, log)
    contents = _translated(disk, source, start, with_v3, log)
    _save_db(disk, source, target, member, contents, with_v3, log)
    parent = target.wal.rpartition("/")[0]
    if parent:
        disk.make_dirs(parent)
    wal = Wal.create(disk, target.wal, contents.metadata, log)
    try:
        wal.save(contents.hard_state, contents.entries)
        wal.sync()
        wal.save_snapshot(start)
    finally:
        wal.close()


def _save_snap(disk: Disk, source: Paths, target: Paths, member: Member, log: Log) -> WalSnapshot:
    snapshot = newest_snap(disk, source, log)
    if snapshot is None:
        return WalSnapshot()
    conf_state = ConfState([member.id])
    path = f"{source.snap}/{snapshot.term:016x}-{snapshot.index:016x}.snap"
    try:
        data = _with_members(snapshot.data or b"", member)
    except ValueError as error:
        raise CorruptError(path, -1, str(error)) from error
    save_snap(disk, target.snap, Snapshot(data, snapshot.index, snapshot.term, conf_state), log)
    return WalSnapshot(snapshot.index, snapshot.term, conf_state)


def _with_members(data: bytes, member: Member) -> bytes:
    """Return a v2 store with this member only; keys that clients wrote through the v2 API stay."""
    version = decode_v2store(data).version
    fresh = json.loads(encode_v2store(Membership({member.id: member}, set(), version)))
    store = json.loads(data)
    zero = store["Root"]["Children"]["0"]["Children"]
    zero["members"] = fresh["Root"]["Children"]["0"]["Children"]["members"]
    zero.pop("removed_members", None)
    return go_json(store).encode()


def _translated(disk: Disk, source: Paths, start: WalSnapshot, with_v3: bool, log: Log) -> WalContents:
    contents, _ = read_wal(disk, source.wal, start, log)
    contents.entries = [_translate(entry, with_v3, log) for entry in contents.entries]
    return contents


def _translate(entry: Entry, with_v3: bool, log: Log) -> Entry:
    # An empty entry is what a new leader begins with; it changes nothing, and the indexes stay as they are.
    empty = Entry(0, entry.term, entry.index, None)
    if entry.type == ENTRY_CONF_CHANGE:
        log.info(_CALLER, "ignoring EntryConfChange raft entry")
        return empty
    if not entry.data:
        return entry
    parsed = parse_entry(entry.data, entry.index)
    if parsed.kind == V2:
        path = getattr(parsed.request, "Path", "")
        if getattr(parsed.request, "Method", "") == "PUT" and _ATTRIBUTES.search(path):
            log.info(_CALLER, "ignoring member attribute update on", entry=str(entry.index), **{"v2Req.Path": path})
            return empty
        return entry
    if parsed.kind == CLUSTER_MEMBER_ATTR_SET:
        log.info(_CALLER, "ignoring cluster_member_attr_set")
        return empty
    if with_v3:
        return entry
    log.info(_CALLER, "ignoring v3 raft entry")
    return empty


def _save_db(
    disk: Disk, source: Paths, target: Paths, member: Member, contents: WalContents, with_v3: bool, log: Log
) -> None:
    if with_v3:
        try:
            with reading(disk, source.db, log, wait=False) as (_, tx):
                new = disk.open(target.db, create=True, mode=0o600)
                try:
                    offset = 0
                    for chunk in tx.stream():
                        new.write_at(chunk, offset)
                        offset += len(chunk)
                    new.sync()
                finally:
                    new.close()
        except BlockingIOError:
            raise BackupError(f"timed out waiting to acquire lock on {source.db}: stop the member first") from None
    log.info("membership/store.go", "Trimming membership information from the backend...")

    def edit(tx: WriteTx) -> None:
        for name in (CLUSTER, MEMBERS, MEMBERS_REMOVED):
            tx.delete_bucket(name)
            tx.create_bucket(name)
        tx.create_bucket(MEMBERS).put(member_key(member.id), member_json(member))
        if not with_v3:
            meta = tx.create_bucket(META)
            meta.put(CONSISTENT_INDEX, encode_u64(contents.hard_state.commit))
            meta.put(TERM, encode_u64(contents.hard_state.term))

    change(disk, target.db, log, edit)
