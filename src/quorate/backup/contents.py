"""What the log and the .snap files of a stopped member say, read without a lock and without a change."""

from __future__ import annotations

from quorate.backup.offline import Paths
from quorate.ports import Disk, File, Log
from quorate.raft.types import Snapshot
from quorate.storage.snapfile import decode_snap
from quorate.storage.wal_reader import (
    RecordReader,
    WalContents,
    list_segments,
    read_log,
    select_segments,
    valid_snapshots,
)
from quorate.storage.wal_record import WalSnapshot


def read_snap(disk: Disk, path: str) -> Snapshot:
    """Return the snapshot in a .snap file. Raises ValueError, OSError."""
    file = disk.open(path, read_only=True)
    try:
        return decode_snap(file.read_at(file.size(), 0))
    finally:
        file.close()


def snap_names(disk: Disk, directory: str) -> list[str]:
    """Return the names of the .snap files, the newest first."""
    return [name for name in reversed(disk.list_dir(directory)) if name.endswith(".snap")]


def newest_snap(disk: Disk, paths: Paths, log: Log) -> Snapshot | None:
    """Return the newest readable snapshot of those that the log knows. Raises CorruptError, OSError."""
    known = {(each.term, each.index) for each in valid_snapshots(disk, paths.wal, log)}
    for name in snap_names(disk, paths.snap):
        try:
            snapshot = read_snap(disk, f"{paths.snap}/{name}")
        except ValueError as error:
            log.warn("snap/snapshotter.go", "failed to read a snap file", path=name, error=str(error))
            continue
        if (snapshot.term, snapshot.index) in known:
            return snapshot
    return None


def read_wal(disk: Disk, directory: str, start: WalSnapshot, log: Log) -> tuple[WalContents, bool]:
    """Return what follows a snapshot, and whether the end is torn. Raises CorruptError, OSError."""
    files: list[File] = []
    try:
        for name in select_segments(list_segments(disk, directory, log), directory, start.index):
            files.append(disk.open(f"{directory}/{name}", read_only=True))
        contents, _, torn = read_log(RecordReader(files), directory, start)
    finally:
        for file in files:
            file.close()
    return contents, torn
