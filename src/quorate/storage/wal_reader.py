"""Reading the write-ahead log: which segments, which records, and what a crash may have done to the last ones.

`RecordReader` yields records of one segment after the other and believes nothing unchecked. `read_log` and
`valid_snapshots` give meaning to them (etcd: server/storage/wal/wal.go ReadAll, ValidSnapshotEntries).

How a log ends. A clean end is a zero length word, or the end of the last file. A *torn* end is what a crash leaves of
writes that were never synced, and so never acknowledged; it may be cut off. As appends go into zeroed space, a sector
holds what had been appended to it at some moment, and zeros behind. So in the last segment a record is torn when

- it runs past the end of the file, or
- it does not decode or its checksum is wrong, and one of its sectors, other than the one with its length word, is zero.

Anything else is corruption: CorruptError names file and offset. etcd's own test is a little laxer (a zero chunk of the
record within a sector suffices, decoder.go isTornEntry), and so may take a flipped bit for a torn write and cut off
entries that were acknowledged. For the same reason a record is never torn, and a zero length word never the end, when
what stands behind the length word is a whole record with the right checksum: then the word itself is damaged. And
neither is the end when what follows shows that it was synced once (wal_behind).

Types and terms are under no checksum either; hence the checks of form in `_Replay`.
"""

from __future__ import annotations

from typing import Final

import google_crc32c

from quorate.errors import CorruptError
from quorate.ports import Disk, File, Log
from quorate.raft.codec import Reader, decode_entry
from quorate.raft.types import ENTRY_CONF_CHANGE_V2, ENTRY_NORMAL, Entry, HardState
from quorate.storage.wal_behind import WINDOW_BYTES, proves_damage
from quorate.storage.wal_record import (
    CRC,
    ENTRY,
    FRAME_BYTES,
    METADATA,
    SECTOR_BYTES,
    SNAPSHOT,
    STATE,
    WalSnapshot,
    decode_wal_snapshot,
    parse_wal_name,
)

END: Final = 0
TORN: Final = -1

_CALLER: Final = "wal/util.go"
_WINDOW_BYTES: Final = 1 << 20
_extend: Final = google_crc32c.extend


class WalContents:
    """What a log says: `entries` follow the snapshot it was opened at, without gaps and without overridden ones."""

    def __init__(self, metadata: bytes, hard_state: HardState, entries: list[Entry]) -> None:
        self.metadata: bytes = metadata
        self.hard_state: HardState = hard_state
        self.entries: list[Entry] = entries


class RecordReader:
    """Reads the records of consecutive segments.

    After `next`, `data` is the record's data, `offset` where the record starts in `path`; `valid` is the offset behind
    the last good record of that file, and `crc` the running checksum.
    """

    def __init__(self, files: list[File]) -> None:
        self.crc: int = 0
        self.data: bytes = b""
        self.path: str = ""
        self.offset: int = 0
        self.valid: int = 0
        self._files: list[File] = files
        self._number: int = -1
        self._size: int = 0
        self._fresh: bool = True
        self._window: bytes = b""
        self._window_offset: int = 0
        self._next_file()

    def _next_file(self) -> bool:
        if self._number + 1 >= len(self._files):
            return False
        self._number += 1
        file = self._files[self._number]
        self.path = file.path
        self._size = file.size()
        self.valid = 0
        self._fresh = True
        self._window = b""
        self._window_offset = 0
        return True

    def _read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes, fewer only at the end of the file."""
        start = offset - self._window_offset
        if start < 0 or start + length > len(self._window):
            self._window = self._files[self._number].read_at(max(length, _WINDOW_BYTES), offset)
            self._window_offset = offset
            start = 0
        return self._window[start : start + length]

    def next(self) -> int:
        """Return the type of the next record, or END, or TORN. Raises CorruptError and OSError."""
        while True:
            self.offset = self.valid
            word = self._read(self.offset, FRAME_BYTES)
            if len(word) == FRAME_BYTES and word != b"\0\0\0\0\0\0\0\0":
                return self._record(word)
            if word and len(word) < FRAME_BYTES:
                if self._is_last():
                    return TORN  # and nothing behind it
                raise self._corrupt("unexpected EOF")
            if self._word_is_damaged():
                raise self._corrupt("length of a whole record is zero")
            if not self._next_file():
                self._check_behind(self.offset + FRAME_BYTES)
                return END

    def _record(self, word: bytes) -> int:
        length = int.from_bytes(word[:7], "little")
        pad = word[7] & 7 if word[7] & 0x80 else 0
        body = self.offset + FRAME_BYTES
        if length + pad > self._size - body:
            if self._is_last() and self._whole_length(body) in (length, 0):
                return TORN
            raise self._corrupt(f"record of {length} bytes exceeds the file of {self._size} bytes")
        if pad != -length & 7 or word[7] != (0x80 | pad if pad else 0):
            raise self._corrupt(f"malformed length word {word.hex()}")
        kind = self._decode(self._read(body, length))
        if kind == END:
            if self._is_torn(body, body + length + pad):
                self._check_behind(body + length + pad)
                return TORN
            raise self._corrupt("crc mismatch or malformed record")
        if self._fresh and kind != CRC:
            raise self._corrupt("segment does not start with a crc record")
        self._fresh = False
        self.valid = body + length + pad
        return kind

    def _decode(self, record: bytes) -> int:
        # Takes a good record in: sets data and crc and returns its type. Returns END when it is not good.
        kind = 0
        crc = 0
        data = b""
        reader = Reader(record)
        try:
            while reader.pos < reader.end:
                key = reader.varint()
                if key == 0x08:
                    kind = reader.varint()
                elif key == 0x10:
                    crc = reader.varint()
                elif key == 0x1A:
                    data = reader.bytes(key)
                else:
                    return END
        except ValueError:
            return END
        if kind == CRC:
            # The first segment of a reading may start anywhere in the chain.
            if data or (crc != self.crc and not (self._number == 0 and self._fresh)):
                return END
            self.crc = crc
        else:
            extended = _extend(self.crc, data)
            if crc != extended or kind < METADATA or kind > SNAPSHOT:
                return END
            self.crc = extended
        self.data = data
        return kind

    def _check_behind(self, offset: int) -> None:
        if proves_damage(self._files[self._number].read_at(WINDOW_BYTES, offset)):
            raise self._corrupt("damaged: whole records of later batches follow")

    def _is_last(self) -> bool:
        return self._number == len(self._files) - 1

    def _is_torn(self, body: int, end: int) -> bool:
        if not self._is_last() or self._whole_length(body) > 0:
            return False
        sector = (self.offset // SECTOR_BYTES + 1) * SECTOR_BYTES
        file = self._files[self._number]
        while sector < end:
            if not file.read_at(SECTOR_BYTES, sector).strip(b"\0"):
                return True
            sector += SECTOR_BYTES
        return False

    def _word_is_damaged(self) -> bool:
        # Word and record in different sectors: then the word's sector may be lost and the record's not.
        body = self.offset + FRAME_BYTES
        return body % SECTOR_BYTES != 0 and body < self._size and self._whole_length(body) > 0

    def _whole_length(self, body: int) -> int:
        """Return the length of the record at `body`, judged without its length word; 0 when none with the right
        checksum stands there."""
        head = Reader(self._read(body, min(32, self._size - body)))
        try:
            if head.varint() != 0x08 or not METADATA <= head.varint() <= SNAPSHOT or head.varint() != 0x10:
                return 0
            crc = head.varint()
            if head.varint() != 0x1A:
                return 0
            length = head.varint()
        except ValueError:
            return 0
        if length > self._size - body - head.pos:
            return 0
        extended: int = _extend(self.crc, self._read(body + head.pos, length))
        return head.pos + length if crc == extended else 0

    def _corrupt(self, text: str) -> CorruptError:
        return CorruptError(self.path, self.offset, f"wal: {text}")

    def corrupt(self, text: str) -> CorruptError:
        """Return the error for a record that is well-formed but cannot be believed."""
        return self._corrupt(text)


class _Replay:
    """Puts records together to the contents after a snapshot."""

    def __init__(self, reader: RecordReader, start: WalSnapshot) -> None:
        self.metadata: bytes | None = None
        self.state: HardState = HardState()
        self.entries: list[Entry] = []
        self.last_index: int = 0
        self.found: bool = False
        self._reader: RecordReader = reader
        self._start: WalSnapshot = start
        self._top_term: int = 0

    def take(self, kind: int) -> None:
        """Take the record that the reader stands on."""
        try:
            if kind == ENTRY:
                self._entry(decode_entry(self._reader.data))
            elif kind == STATE:
                self._state(_decode_state(self._reader.data))
            elif kind == METADATA:
                if self.metadata is not None and self.metadata != self._reader.data:
                    raise self._reader.corrupt("conflicting metadata found")
                self.metadata = self._reader.data
            elif kind == SNAPSHOT:
                self._snapshot(decode_wal_snapshot(self._reader.data))
        except ValueError as error:
            raise self._reader.corrupt(str(error)) from error

    def _entry(self, entry: Entry) -> None:
        start = self._start.index
        if entry.type > ENTRY_CONF_CHANGE_V2 or entry.term == 0 or entry.index == 0:
            raise self._reader.corrupt(f"impossible entry: type {entry.type}, term {entry.term}, index {entry.index}")
        if entry.type != ENTRY_NORMAL and entry.data is None:
            raise self._reader.corrupt(f"entry {entry.index} of type {entry.type} has no data")
        if entry.index > start:
            place = entry.index - start - 1
            if place > len(self.entries):
                raise self._reader.corrupt(
                    f"slice bounds out of range, snapshot[Index: {start}, Term: {self._start.term}], "
                    f"current entry[Index: {entry.index}, Term: {entry.term}], len(ents): {len(self.entries)}"
                )
            if place > 0 and entry.term < self.entries[place - 1].term:
                raise self._reader.corrupt(f"entry {entry.index} of term {entry.term} follows a newer one")
            if place < len(self.entries):
                del self.entries[place:]
            self.entries.append(entry)
        self.last_index = entry.index
        if entry.term > self._top_term:
            self._top_term = entry.term

    def _state(self, state: HardState) -> None:
        # An entry without data has the form of a hard state, and the type of a record is under no checksum. Terms never
        # fall, and no entry is newer than the hard state that was written after it.
        if state.term < self.state.term or state.term < self._top_term:
            raise self._reader.corrupt(f"hard state of term {state.term} after term {self._top_term}")
        self.state = state

    def _snapshot(self, snapshot: WalSnapshot) -> None:
        if snapshot.index == self._start.index:
            if snapshot.term != self._start.term:
                raise self._reader.corrupt(
                    f"snapshot mismatch: term {snapshot.term} at index {snapshot.index}, expected {self._start.term}"
                )
            self.found = True


def _decode_state(data: bytes) -> HardState:
    # Stricter than raft.codec: an entry must not pass for a hard state.
    reader = Reader(data)
    state = HardState()
    while reader.pos < reader.end:
        key = reader.varint()
        value = reader.scalar(key)
        if key == 0x08:
            state.term = value
        elif key == 0x10:
            state.vote = value
        elif key == 0x18:
            state.commit = value
        else:
            raise ValueError(f"unknown field {key >> 3} in a hard state")
    return state


def read_log(reader: RecordReader, directory: str, start: WalSnapshot) -> tuple[WalContents, int, bool]:
    """Read all records; returns the contents after `start`, the index of the last entry record, and whether the end is
    torn. Raises CorruptError."""
    replay = _Replay(reader, start)
    kind = reader.next()
    while kind > END:
        replay.take(kind)
        kind = reader.next()
    if replay.metadata is None:
        raise CorruptError(directory, -1, "wal: no metadata")
    if not replay.found:
        raise CorruptError(directory, -1, f"wal: snapshot not found: index {start.index}, term {start.term}")
    return WalContents(replay.metadata, replay.state, replay.entries), replay.last_index, kind == TORN


def list_segments(disk: Disk, directory: str, log: Log) -> list[str]:
    """Return the names of the segments, ascending. Raises FileNotFoundError when there is none."""
    names = []
    for name in disk.list_dir(directory):
        if parse_wal_name(name) is not None:
            names.append(name)
        elif not name.endswith(".tmp"):
            log.warn(_CALLER, "ignored file in WAL directory", path=name)
    if not names:
        raise FileNotFoundError(2, "wal: file not found", directory)
    return names


def select_segments(names: list[str], directory: str, index: int) -> list[str]:
    """Return the segments from the last one that may hold the record of a snapshot at `index`. Raises CorruptError."""
    first = -1
    for place, name in enumerate(names):
        parsed = parse_wal_name(name)
        if parsed is not None and parsed[1] <= index:
            first = place
    if first < 0:
        raise CorruptError(directory, -1, f"wal: file not found which matches the snapshot index '{index}'")
    previous = -1
    for name in names[first:]:
        parsed = parse_wal_name(name)
        number = -1 if parsed is None else parsed[0]
        if previous >= 0 and number != previous + 1:
            raise CorruptError(
                directory, -1, f"wal: file sequence numbers (starting from {first}) do not increase continuously"
            )
        previous = number
    return names[first:]


def valid_snapshots(disk: Disk, path: str, log: Log) -> list[WalSnapshot]:
    """Return the snapshots that a log knows and has committed, in the order written.

    Reads all segments without locking or changing them; a torn end is passed over. Raises CorruptError, OSError.
    """
    files: list[File] = []
    snapshots: list[WalSnapshot] = []
    state = HardState()
    try:
        for name in list_segments(disk, path, log):
            files.append(disk.open(f"{path}/{name}", read_only=True))
        reader = RecordReader(files)
        kind = reader.next()
        while kind > END:
            try:
                if kind == SNAPSHOT:
                    snapshots.append(decode_wal_snapshot(reader.data))
                elif kind == STATE:
                    state = _decode_state(reader.data)
            except ValueError as error:
                raise reader.corrupt(str(error)) from error
            kind = reader.next()
    finally:
        for file in files:
            file.close()
    return [snapshot for snapshot in snapshots if snapshot.index <= state.commit]
