"""The storage version of a stopped member's database, raised or lowered: `migrate` (etcd 3.6).

3.6 added one field, `storageVersion` in the bucket `meta`; a file of 3.5 has a `term` and no such field. Lowering is
refused while the log holds entries that the lower version could not apply. Source: etcd's server/storage/schema.
"""

from __future__ import annotations

from typing import Final

from quorate.backup.contents import newest_snap, read_wal
from quorate.backup.offline import BackupError, Paths, change, explain, reading, require_file
from quorate.errors import CorruptError
from quorate.membership.version import Version, parse_version
from quorate.ports import Disk, Log
from quorate.raft.types import ENTRY_NORMAL
from quorate.server.entry import DOWNGRADE_VERSION_TEST, parse_entry
from quorate.storage.bolt.tx import WriteTx
from quorate.storage.schema import META, STORAGE_VERSION, TERM, decode_u64
from quorate.storage.wal_record import WalSnapshot

V3_5: Final = Version(3, 5)
V3_6: Final = Version(3, 6)
_CALLER: Final = "etcdutl/migrate_command.go"


def parse_target(text: str) -> Version:
    """Return the version that --target-version names. Raises BackupError."""
    if text.count(".") != 1:
        raise BackupError(f'wrong target version format, expected "X.Y", got "{text}"')
    try:
        target = parse_version(text + ".0")
    except ValueError as error:
        raise BackupError(f"failed to parse target version: {error}") from None
    if target < V3_5:
        raise BackupError(f'target version "{target.cluster()}" not supported. Minimal "3.5"')
    return target


def migrate(disk: Disk, data_dir: str, target: Version, force: bool, log: Log) -> None:
    """Give the database a storage version. Raises BackupError, CorruptError, OSError."""
    paths = Paths(data_dir)
    require_file(disk, paths.db)
    try:
        current = _stored_version(disk, paths.db, log)
    except BackupError:
        text = "failed to detect storage version. Please make sure you are using data dir from etcd v3.5 and older"
        log.error(_CALLER, text)  # noqa: TRY400
        raise
    if current == target:
        fields: dict[str, object] = {"storage-version": target.cluster()}
        log.info(_CALLER, "storage version up-to-date", **fields)
        return
    try:
        needed = _needed_version(disk, paths, log)
    except (BackupError, CorruptError, OSError) as error:
        log.error(_CALLER, "Failed to finalize config", error=explain(error))  # noqa: TRY400
        raise
    try:
        _check_plan(current, target, needed)
    except BackupError as error:
        if not force:
            raise
        log.info(_CALLER, "normal migrate failed, trying with force", error=str(error))
        _set(disk, paths.db, target, log)
        if target < V3_6:
            log.warn(_CALLER, "forcefully cleared storage version")
        else:
            log.warn(_CALLER, "forcefully set storage version", **{"storage-version": target.cluster()})
        return
    _set(disk, paths.db, target, log)
    log.info("schema/migration.go", "updated storage version", **{"new-storage-version": str(target)})


def _stored_version(disk: Disk, path: str, log: Log) -> Version:
    with reading(disk, path, log) as (_, tx):
        meta = tx.bucket(META)
        stored = meta.get(STORAGE_VERSION) if meta is not None else None
        term = meta.get(TERM) if meta is not None else None
    if stored:
        try:
            return parse_version(stored.decode("ascii", "replace"))
        except ValueError as error:
            raise CorruptError(path, -1, f"bucket meta: storageVersion: {error}") from None
    if not decode_u64(term):
        raise BackupError("missing term information")
    return V3_5


def _needed_version(disk: Disk, paths: Paths, log: Log) -> Version | None:
    """Return the lowest version that can apply all entries behind the newest snapshot; None: any."""
    try:
        snapshot = newest_snap(disk, paths, log)
    except (CorruptError, OSError) as error:
        raise BackupError(f"failed to get the lastest snapshot: {explain(error)}") from None
    start = WalSnapshot() if snapshot is None else WalSnapshot(snapshot.index, snapshot.term, snapshot.conf_state)
    try:
        contents, _ = read_wal(disk, paths.wal, start, log)
    except (CorruptError, OSError) as error:
        raise BackupError(f"failed to read wal: {explain(error)}") from None
    needed: Version | None = None
    for entry in contents.entries:
        if entry.type == ENTRY_NORMAL and parse_entry(entry.data or b"", entry.index).kind == DOWNGRADE_VERSION_TEST:
            # The only kind of entry that came after 3.5; etcd writes it in its own tests alone.
            needed = V3_6
    return needed


def _check_plan(current: Version, target: Version, needed: Version | None) -> None:
    if current.major != target.major:
        raise BackupError("cannot create migration plan: changing major storage version is not supported")
    highest = max(current.minor, target.minor)
    if highest > V3_6.minor:
        first = max(current.minor, V3_6.minor) + 1 if target.minor > current.minor else current.minor
        raise BackupError(f'cannot create migration plan: version "3.{first}.0" is not supported')
    if target < current and needed is not None and target < needed:
        raise BackupError(
            "cannot downgrade storage, WAL contains newer entries, as the target version "
            f"({target}) is lower than the version ({needed}) detected from WAL logs"
        )


def _set(disk: Disk, path: str, target: Version, log: Log) -> None:
    def edit(tx: WriteTx) -> None:
        meta = tx.create_bucket(META)
        if target < V3_6:
            meta.delete(STORAGE_VERSION)
        else:
            meta.put(STORAGE_VERSION, str(target).encode())

    change(disk, path, log, edit)
