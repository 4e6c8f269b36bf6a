"""The write-ahead log, in etcd's format (etcd: server/storage/wal/wal.go).

`Wal.create` starts one, `Wal.open` reads one and goes on with it. Then `save` frames and writes a batch in one piece,
and `sync` makes it durable; only then may anything that depends on the batch leave the member. A hard state that
changes the commit index alone waits in memory for the next write, as in etcd.

Threads. `sync` blocks on the disk, and may run in the storage thread while the loop does other things, but no other
method may be called meanwhile, except `release_to`. When a segment is full, `sync` also cuts: it closes the segment and
starts the next one, which takes several times as long as a plain sync; `cut_due` tells beforehand. Cutting there, and
not in `save` as etcd does, keeps that wait off the loop. A segment exceeds SEGMENT_BYTES by what was saved before the
next sync.

Errors. After any OSError the log refuses to go on: what the failed call has or has not brought to the disk is unknown,
and a second fdatasync may succeed although the first one lost pages. The member must stop; the next start sorts it out.

Invariants: a segment that is not the last one is synced and ends where its last record ends; the directory entry of a
segment is durable before anything in it is acknowledged; the next segment waits preallocated as `0.tmp` or `1.tmp`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from quorate.errors import CorruptError
from quorate.measure import DISK_SECONDS, Histogram
from quorate.ports import LOCK_OFD, Disk, File, Log
from quorate.raft.types import Entry, HardState
from quorate.storage.wal_reader import RecordReader, WalContents, list_segments, read_log, select_segments
from quorate.storage.wal_record import (
    METADATA,
    SEGMENT_BYTES,
    SNAPSHOT,
    Framer,
    WalSnapshot,
    encode_wal_snapshot,
    parse_wal_name,
    wal_name,
)

_HELD_BYTES_MAX: Final = 64 * 1024
_COPY_BYTES: Final = 1 << 20
_SLOW_SYNC_NS: Final = 1_000_000_000
_CALLER: Final = "wal/wal.go"
_PIPELINE: Final = "wal/file_pipeline.go"
_REPAIR: Final = "wal/repair.go"
_NO_STATE: Final = HardState()


def no_clock() -> int:
    """A clock that stands still: durations are not measured."""
    return 0


class WalOptions:
    """How a log behaves. `clock` gives monotonic nanoseconds and is called in the thread that calls `sync`."""

    def __init__(
        self,
        clock: Callable[[], int] = no_clock,
        unsafe_no_fsync: bool = False,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self.clock: Callable[[], int] = clock
        self.unsafe_no_fsync: bool = unsafe_no_fsync
        self.segment_bytes: int = segment_bytes


class Wal:
    """An open log. Made by `create` and `open`.

    `fsync_seconds`, `write_seconds` (a batch of records) and `bytes_written` are for the metrics.
    """

    def __init__(self, disk: Disk, path: str, metadata: bytes, log: Log, options: WalOptions) -> None:
        self.path: str = path
        self.fsync_seconds: Histogram = Histogram(DISK_SECONDS)
        self.write_seconds: Histogram = Histogram(DISK_SECONDS)
        self.bytes_written: int = 0
        self.cut_due: bool = False
        self._disk: Disk = disk
        self._log: Log = log
        self._options: WalOptions = options
        self._metadata: bytes = metadata
        self._state: HardState = _NO_STATE
        self._last_index: int = 0
        self._framer: Framer = Framer(0)
        self._segments: list[File] = []  # locked, ascending; the last one is written to
        self._tail_number: int = 0
        self._offset: int = 0
        self._spare: File | None = None
        self._spares: int = 0
        self._failed: bool = False
        self._closed: bool = False

    # -- coming and going

    @staticmethod
    def create(disk: Disk, path: str, metadata: bytes, log: Log, options: WalOptions | None = None) -> Wal:
        """Make a new log in the directory `path`, which must hold none. Raises OSError."""
        if disk.exists(path) and any(name.endswith(".wal") for name in disk.list_dir(path)):
            raise FileExistsError(errno.EEXIST, "file exists", path)
        wal = Wal(disk, path, metadata, log, WalOptions() if options is None else options)
        building = path + ".tmp"
        disk.remove_tree(building)
        disk.make_dirs(building, 0o700)
        name = wal_name(0, 0)
        segment = disk.open(f"{building}/{name}", create=True, mode=0o600)
        wal._lock(segment)
        segment.allocate(wal._options.segment_bytes)
        wal._segments.append(segment)
        wal._framer.add_crc()
        wal._framer.add(METADATA, metadata)
        wal._framer.add(SNAPSHOT, encode_wal_snapshot(WalSnapshot()))
        wal._flush()
        wal._sync_tail()
        disk.sync_dir(building)
        disk.remove_tree(path)
        disk.rename(building, path)
        disk.sync_dir(_parent(path))
        segment.path = f"{path}/{name}"
        wal._prepare_spare()
        return wal

    @staticmethod
    def open(
        disk: Disk, path: str, start: WalSnapshot, log: Log, options: WalOptions | None = None
    ) -> tuple[Wal, WalContents]:
        """Read the log from a snapshot on and go on writing behind its last good record.

        A torn end is cut off; the segment as it was is kept beside it as `.broken`. Raises CorruptError for any other
        damage, OSError; BlockingIOError when another process has the log open.
        """
        names = select_segments(list_segments(disk, path, log), path, start.index)
        wal = Wal(disk, path, b"", log, WalOptions() if options is None else options)
        try:
            for name in names:
                segment = disk.open(f"{path}/{name}")
                wal._segments.append(segment)
                wal._lock(segment)
            reader = RecordReader(wal._segments)
            contents, last_index, torn = read_log(reader, path, start)
            if torn:
                wal._repair(reader.valid)
            wal._go_on(reader, contents, last_index)
        except BaseException:
            wal._close_files()
            raise
        wal._prepare_spare()
        return wal, contents

    def _go_on(self, reader: RecordReader, contents: WalContents, last_index: int) -> None:
        tail = self._segments[-1]
        number = parse_wal_name(tail.path.rpartition("/")[2])
        if number is None:
            raise CorruptError(tail.path, -1, "wal: bad wal name")
        self._tail_number = number[0]
        self._metadata = contents.metadata
        self._state = contents.hard_state
        self._last_index = last_index
        self._framer = Framer(reader.crc)
        self._offset = reader.valid
        # What a crash left behind the end must never be taken for records, once something is written before it. It must
        # be gone from the disk before that write: else sectors of both could mix.
        length = max(tail.size(), self._options.segment_bytes)
        tail.truncate(self._offset)
        tail.allocate(length)
        self._sync_tail()

    def _repair(self, valid: int) -> None:
        tail = self._segments[-1]
        self._log.info(_REPAIR, "repairing", path=tail.path)
        broken = self._disk.open(tail.path + ".broken", create=True, mode=0o600)
        try:
            broken.truncate(0)
            size = tail.size()
            for offset in range(0, size, _COPY_BYTES):
                broken.write_at(tail.read_at(min(_COPY_BYTES, size - offset), offset), offset)
            broken.sync()
        finally:
            broken.close()
        self._disk.sync_dir(self.path)
        tail.truncate(valid)
        self._sync_tail()
        self._log.info(_REPAIR, "repaired", path=tail.path, error="unexpected EOF")

    def close(self) -> None:
        """Write and sync what is held, unless the log has failed; give back files and locks. Raises OSError."""
        if self._closed:
            return
        self._closed = True
        try:
            if not self._failed:
                self._flush()
                self._sync_tail()
        finally:
            spare, self._spare = self._spare, None
            if spare is not None:
                self._disk.remove(spare.path)
                spare.close()
            self._close_files()

    def _close_files(self) -> None:
        for segment in self._segments:
            segment.close()
        self._segments.clear()

    def _lock(self, segment: File) -> None:
        if not segment.lock(LOCK_OFD, wait=False):
            raise BlockingIOError(errno.EAGAIN, "fileutil: file already locked", segment.path)

    # -- writing

    def save(self, state: HardState | None, entries: list[Entry]) -> None:
        """Append entries, then the hard state if it is not empty. Durable after the next `sync`. Raises OSError.

        A state that differs from the last one in nothing but the commit index, without entries, is held back in memory
        until something else is written. After entries, sync before entries are saved again: readers take what looks
        otherwise for damage (wal_behind).
        """
        self._check()
        must_write = bool(entries)
        if entries:
            self._framer.add_entries(entries)
            self._last_index = entries[len(entries) - 1].index
        if state is not None and not state.is_empty():
            last = self._state
            must_write = must_write or state.term != last.term or state.vote != last.vote
            self._state = state
            self._framer.add_state(state)
        if must_write or self._framer.size > _HELD_BYTES_MAX:
            self._flush()

    def sync(self) -> None:
        """Make everything saved durable; cut when the segment is full. Raises OSError."""
        self._check()
        self._flush()
        if self.cut_due:
            self._cut()
        else:
            self._sync_tail()

    def save_snapshot(self, snapshot: WalSnapshot) -> None:
        """Append the record of a snapshot, and sync. Raises OSError, ValueError without a ConfState."""
        self._check()
        self._framer.add(SNAPSHOT, encode_wal_snapshot(snapshot))
        if self._last_index < snapshot.index:
            self._last_index = snapshot.index
        self._flush()
        self._sync_tail()

    def _check(self) -> None:
        if self._failed or self._closed:
            raise OSError(errno.EIO, "wal: closed, or an earlier write or sync has failed", self.path)

    def _flush(self) -> None:
        size = self._framer.size
        if size == 0:
            return
        clock = self._options.clock
        start = clock()
        self._failed = True  # until proved otherwise
        self._segments[-1].write_at(self._framer.take(), self._offset)
        self._failed = False
        self.write_seconds.observe((clock() - start) / 1e9)
        self._offset += size
        self.bytes_written += size
        if self._offset >= self._options.segment_bytes:
            self.cut_due = True

    def _sync_tail(self) -> None:
        if self._options.unsafe_no_fsync:
            return
        clock = self._options.clock
        self._failed = True
        start = clock()
        self._segments[-1].sync()
        took = clock() - start
        self._failed = False
        self.fsync_seconds.observe(took / 1e9)
        if took > _SLOW_SYNC_NS:
            self._log.warn(_CALLER, "slow fdatasync", **{"took": f"{took / 1e9:.6f}s", "expected-duration": "1s"})

    # -- segments

    def _cut(self) -> None:
        self._segments[-1].truncate(self._offset)
        self._sync_tail()
        self._failed = True
        segment = self._spare
        if segment is None:
            segment = self._make_spare()
        self._spare = None
        self._segments.append(segment)
        self._tail_number += 1
        self._offset = 0
        framer = Framer(self._framer.crc)
        self._framer = framer
        framer.add_crc()
        framer.add(METADATA, self._metadata)
        if not self._state.is_empty():
            framer.add_state(self._state)
        self._flush()
        self._sync_tail()
        self._failed = True
        path = f"{self.path}/{wal_name(self._tail_number, self._last_index + 1)}"
        self._disk.rename(segment.path, path)
        self._disk.sync_dir(self.path)
        segment.path = path
        self._failed = False
        self.cut_due = False
        self._log.info(_CALLER, "created a new WAL segment", path=path)
        self._prepare_spare()

    def _prepare_spare(self) -> None:
        # Whoever has no room for another segment now may have it when this one is full.
        try:
            self._spare = self._make_spare()
        except OSError as error:
            self._log.error(_PIPELINE, "failed to preallocate space when creating a new WAL", error=str(error))

    def _make_spare(self) -> File:
        # Two names take turns, so that the file being renamed and the next one never meet.
        path = f"{self.path}/{self._spares % 2}.tmp"
        self._spares += 1
        spare = self._disk.open(path, create=True, mode=0o600)
        locked = False
        try:
            self._lock(spare)
            locked = True
            spare.truncate(0)  # it may be the leftover of an earlier run, and not empty
            spare.allocate(self._options.segment_bytes)
        except OSError:
            spare.close()
            if locked:
                self._disk.remove(path)  # the part of the space that it got is wanted elsewhere
            raise
        return spare

    def release_to(self, index: int) -> None:
        """Unlock the segments that are not needed for entries from `index` on, so that `purge` may remove them.

        The last one whose first index lies before `index` is kept, and so are all after it.
        """
        keep = len(self._segments) - 1
        for place, segment in enumerate(self._segments):
            parsed = parse_wal_name(segment.path.rpartition("/")[2])
            if parsed is not None and parsed[1] >= index:
                keep = place - 1
                break
        if keep <= 0:
            return
        released = self._segments[:keep]
        del self._segments[:keep]
        for segment in released:
            segment.close()


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or ("/" if path.startswith("/") else ".")
