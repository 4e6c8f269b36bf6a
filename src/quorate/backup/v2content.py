"""Whether clients have left keys of version 2 in a member's files, on which 3.6 refuses to start: `check v2store`.

Looked at are the newest .snap file that the log knows, and the entries behind it: of requests of version 2 only those
are harmless by which members publish themselves and agree on the cluster's version.
Source: etcd 3.5's etcdutl/etcdutl/check_command.go.
"""

from __future__ import annotations

import re
from typing import Final

from quorate.backup.contents import newest_snap, read_wal
from quorate.backup.offline import BackupError, Paths
from quorate.membership.v2store import decode_v2store
from quorate.ports import Disk, Log
from quorate.raft.types import ENTRY_NORMAL, Entry
from quorate.server.entry import V2, parse_entry
from quorate.storage.wal_record import WalSnapshot

_OWN: Final = re.compile(r"/0/members/[0-9a-fA-F]{1,16}/attributes|/0/version")


def check_v2_content(disk: Disk, paths: Paths, log: Log) -> None:
    """Raise BackupError when there is such content; CorruptError, OSError."""
    if not disk.exists(paths.wal) or not any(name.endswith(".wal") for name in disk.list_dir(paths.wal)):
        return
    snapshot = newest_snap(disk, paths, log)
    start = WalSnapshot()
    in_store = False
    if snapshot is not None:
        start = WalSnapshot(snapshot.index, snapshot.term, snapshot.conf_state)
        try:
            in_store = decode_v2store(snapshot.data or b"").has_user_data
        except ValueError as error:
            raise BackupError(f"failed to recover v2store from snapshot: {error}") from None
    contents, _ = read_wal(disk, paths.wal, start, log)
    in_log = any(_is_custom(entry) for entry in contents.entries)
    if in_store and in_log:
        raise BackupError("detected custom v2 content in both v2store and WAL records")
    if in_store:
        raise BackupError("detected custom content in v2store")
    if in_log:
        raise BackupError("detected custom v2 content in WAL records")


def _is_custom(entry: Entry) -> bool:
    if entry.type != ENTRY_NORMAL or not entry.data:
        return False
    parsed = parse_entry(entry.data, entry.index)
    if parsed.kind != V2:
        return False
    method, path = getattr(parsed.request, "Method", ""), getattr(parsed.request, "Path", "")
    return method != "PUT" or _OWN.fullmatch(path) is None
