"""The files of the snapshot directory (etcd: server/etcdserver/api/snap/snapshotter.go, db.go).

    <term>-<index>.snap   | 08 crc | 12 len data |: data is a raftpb.Snapshot, crc its CRC-32C, never 0
    <index>.snap.db       a database received from the leader, not yet in the place of `db`
    db                    the database
    tmp*, db.tmp*         a download, a defragmentation: worth nothing after a restart

Numbers in names have 16 hex digits, so that names sort by age. A .snap file is written and synced in place, before its
record enters the write-ahead log: only a snapshot that the log knows counts. One that cannot be read is renamed to
`.broken`, and the next older one is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import google_crc32c

from quorate.measure import DISK_SECONDS, Histogram
from quorate.ports import Disk, Log
from quorate.raft.codec import Reader, decode_snapshot, encode_snapshot, varint
from quorate.raft.types import Snapshot
from quorate.storage.wal_record import WalSnapshot

_CALLER: Final = "snap/snapshotter.go"
_SNAP_SUFFIX: Final = ".snap"
_DB_SUFFIX: Final = ".snap.db"
_HEX_DIGITS: Final = 16


def snap_name(term: int, index: int) -> str:
    """Return the name of a snapshot's file."""
    return f"{term:016x}-{index:016x}.snap"


def snap_db_name(index: int) -> str:
    """Return the name of a received database."""
    return f"{index:016x}.snap.db"


def encode_snap(snapshot: Snapshot) -> bytes:
    """Return the content of a .snap file."""
    data = encode_snapshot(snapshot)
    crc = google_crc32c.extend(0, data)
    return b"".join((b"\x08", varint(crc), b"\x12", varint(len(data)), data))


def decode_snap(content: bytes) -> Snapshot:
    """Return the snapshot in a .snap file's content. Raises ValueError with etcd's reason."""
    if not content:
        raise ValueError("snap: empty snapshot")
    reader = Reader(content)
    crc = 0
    data = b""
    while reader.pos < reader.end:
        key = reader.varint()
        if key >> 3 == 1:
            crc = reader.scalar(key)
        elif key >> 3 == 2:
            data = reader.bytes(key)
        else:
            reader.skip(key)
    if not data or crc == 0:
        raise ValueError("snap: empty snapshot")
    if google_crc32c.extend(0, data) != crc:
        raise ValueError("snap: crc mismatch")
    return decode_snapshot(data)


class SaveTimes:
    """How long saving took, for the metrics. Counted in the thread that saves."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.clock = clock
        self.marshal_seconds: Histogram = Histogram(DISK_SECONDS)
        self.fsync_seconds: Histogram = Histogram(DISK_SECONDS)
        self.total_seconds: Histogram = Histogram(DISK_SECONDS)

    def observe(self, histogram: Histogram, since_ns: int) -> int:
        """Count the time since then and return the present one."""
        now_ns = self.clock()
        histogram.observe((now_ns - since_ns) / 1e9)
        return now_ns


def save(disk: Disk, directory: str, snapshot: Snapshot, log: Log, times: SaveTimes | None = None) -> str:
    """Write a snapshot's file, durably, and return its path. Raises OSError, leaving no file behind if it can."""
    path = f"{directory}/{snap_name(snapshot.term, snapshot.index)}"
    began_ns = mark_ns = 0 if times is None else times.clock()
    content = encode_snap(snapshot)
    if times is not None:
        mark_ns = times.observe(times.marshal_seconds, began_ns)
    file = disk.open(path, create=True, mode=0o666)
    try:
        file.truncate(0)
        file.write_at(content, 0)
        file.sync()
        if times is not None:
            times.observe(times.fsync_seconds, mark_ns)
        disk.sync_dir(directory)
    except OSError as error:
        log.warn(_CALLER, "failed to write a snap file", path=path, error=str(error))
        disk.remove(path)
        raise
    finally:
        file.close()
    if times is not None:
        times.observe(times.total_seconds, began_ns)
    return path


def load_newest(disk: Disk, directory: str, candidates: list[WalSnapshot], log: Log) -> Snapshot | None:
    """Return the newest readable snapshot that is among the candidates, or None.

    Others, left behind by a crash before their record entered the log, are passed over. Unreadable ones are renamed.
    """
    known = {(candidate.term, candidate.index) for candidate in candidates}
    for name in reversed(_snap_names(disk, directory, log)):
        snapshot = _load(disk, f"{directory}/{name}", log)
        if snapshot is not None and (snapshot.term, snapshot.index) in known:
            return snapshot
    return None


def _load(disk: Disk, path: str, log: Log) -> Snapshot | None:
    file = disk.open(path, read_only=True)
    try:
        content = file.read_at(file.size(), 0)
    finally:
        file.close()
    try:
        return decode_snap(content)
    except ValueError as error:
        log.warn(_CALLER, "failed to read a snap file", path=path, error=str(error))
    broken = path + ".broken"
    disk.rename(path, broken)
    log.warn(_CALLER, "renamed to a broken snap file", path=path, **{"broken-path": broken})
    return None


def _snap_names(disk: Disk, directory: str, log: Log) -> list[str]:
    names = []
    for name in disk.list_dir(directory):
        if name.endswith(_SNAP_SUFFIX):
            names.append(name)
        elif name != "db":
            log.warn(_CALLER, "found unexpected non-snap file; skipping", path=name)
    return names


def clean_up(disk: Disk, directory: str, log: Log) -> None:
    """Remove what an interrupted download or defragmentation left behind. For the start of the member."""
    for name in disk.list_dir(directory):
        if name.startswith("db.tmp"):
            log.info(_CALLER, "found orphaned defragmentation file; deleting", path=name)
        elif not name.startswith("tmp"):
            continue
        disk.remove(f"{directory}/{name}")


def release_snap_dbs(disk: Disk, directory: str, index: int, log: Log) -> None:
    """Remove received databases older than a snapshot at `index`."""
    for name in disk.list_dir(directory):
        if not name.endswith(_DB_SUFFIX):
            continue
        digits = name[: -len(_DB_SUFFIX)]
        if len(digits) != _HEX_DIGITS or any(digit not in "0123456789abcdef" for digit in digits):
            log.error(_CALLER, "failed to parse index from filename", path=name, error="invalid syntax")
        elif int(digits, 16) < index:
            log.info(_CALLER, "found orphaned .snap.db file; deleting", path=name)
            disk.remove(f"{directory}/{name}")
