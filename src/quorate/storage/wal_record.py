"""The records of the write-ahead log: framing, checksums, names (etcd: server/storage/wal/{encoder,decoder,util}.go).

    | u64 LE: pad flag, 56-bit length | Record: 08 type 10 crc 1a len data | zeros to a multiple of 8 |

The length counts the Record only. When padding follows, the top byte of the word is 0x80 + its size (1 to 7). A word of
zero is unwritten, preallocated space: the end of a segment. `crc` is CRC-32C over the data of this and all earlier
records, across segments; a record of type CRC carries the running value and no data, and opens every segment. Nothing
but `data` is covered by a checksum, so readers check the rest by its form.

Example, the head of a log (its metadata is node 97e6743b0e6fffb3, cluster 858f3e332583e1fd):

    0400000000000084 08041000 00000000                  CRC, running value 0
    2000000000000000 0801109fabd48206 1a16 08b3ffbf...  METADATA, crc 6055159f, 22 bytes

A segment is preallocated to SEGMENT_BYTES and starts with CRC, METADATA and (unless it is the first) STATE; the first
one has SNAPSHOT{0, 0} there. Its name is `%016x-%016x.wal`: its number, and the index of the first entry it may hold.
"""

from __future__ import annotations

import struct
from typing import Final

import google_crc32c

from quorate.raft.codec import Reader, decode_conf_state, encode_conf_state, encode_hard_state, varint
from quorate.raft.types import ConfState, Entry, HardState

METADATA: Final = 1
ENTRY: Final = 2
STATE: Final = 3
CRC: Final = 4
SNAPSHOT: Final = 5

SEGMENT_BYTES: Final = 64_000_000
SECTOR_BYTES: Final = 512
FRAME_BYTES: Final = 8

_extend: Final = google_crc32c.extend
_pack: Final = struct.Struct("<IIQ").pack
# By the number of padding bytes: the high half of the length word, and the padding itself.
_HIGH: Final = [0] + [(0x80 | pad) << 24 for pad in range(1, 8)]
_PAD: Final = [bytes(pad) for pad in range(8)]
# Seven bits of a varint: with more to follow, and as the last.
_MORE: Final = [bytes([value | 0x80]) for value in range(128)]
_LAST: Final = [bytes([value]) for value in range(128)]
# The first three bytes of an entry record, 08 02 10, as the low end of a little-endian word.
_ENTRY_HEAD: Final = 0x100208


class WalSnapshot:
    """What the log remembers of a snapshot. `conf_state` is None at index 0 and in records written before etcd 3.5."""

    def __init__(self, index: int = 0, term: int = 0, conf_state: ConfState | None = None) -> None:
        self.index: int = index
        self.term: int = term
        self.conf_state: ConfState | None = conf_state

    def __repr__(self) -> str:
        return f"WalSnapshot({self.index}, {self.term}, {self.conf_state!r})"


def encode_wal_snapshot(snapshot: WalSnapshot) -> bytes:
    """Return walpb.Snapshot. Raises ValueError when a snapshot past index 0 lacks its ConfState."""
    head = b"\x08" + varint(snapshot.index) + b"\x10" + varint(snapshot.term)
    if snapshot.conf_state is None:
        if snapshot.index > 0:
            raise ValueError(f"walpb: missing ConfState for a snapshot at index {snapshot.index}")
        return head
    conf_state = encode_conf_state(snapshot.conf_state)
    return head + b"\x1a" + varint(len(conf_state)) + conf_state


def decode_wal_snapshot(data: bytes) -> WalSnapshot:
    """Return the snapshot in `data`. Raises ValueError."""
    reader = Reader(data)
    snapshot = WalSnapshot()
    while reader.pos < reader.end:
        key = reader.varint()
        if key >> 3 == 1:
            snapshot.index = reader.scalar(key)
        elif key >> 3 == 2:
            snapshot.term = reader.scalar(key)
        elif key >> 3 == 3:
            snapshot.conf_state = decode_conf_state(reader.bytes(key))
        else:
            reader.skip(key)
    return snapshot


class Framer:
    """Turns entries, states and other records into framed bytes, and carries the running checksum.

    `parts` holds what was framed since `take`, `size` its length in bytes.
    """

    def __init__(self, crc: int) -> None:
        self.crc: int = crc
        self.parts: list[bytes] = []
        self.size: int = 0
        # The encoding of an entry's type and term, and of what follows the low seven bits of its index, are the same
        # for many entries in a row.
        self._type: int = -1
        self._term: int = -1
        self._head: bytes = b""
        self._index_high: int = -1
        self._index_tail: bytes = b""

    def take(self) -> bytes:
        """Return and forget what was framed."""
        framed = b"".join(self.parts)
        self.parts = []
        self.size = 0
        return framed

    def add_entries(self, entries: list[Entry]) -> None:
        """Frame a batch of entries. The hot path."""
        parts = self.parts
        crc = self.crc
        size = self.size
        for entry in entries:
            body = self._entry(entry)
            crc = _extend(crc, body)
            length = len(body)
            if crc >> 28 == 0 or length >= 0x4000:
                framed = frame(ENTRY, crc, body)
                parts.append(framed)
                size += len(framed)
                continue
            # The usual case spelled out: the checksum's varint has five bytes, which with the three before it fill a
            # second 64-bit word; the data's length has one byte or two.
            if length < 128:
                prefix = b"\x1a" + _LAST[length]
                total = length + 10
            else:
                prefix = b"\x1a" + _MORE[length & 127] + _LAST[length >> 7]
                total = length + 11
            pad = -total & 7
            word = (
                _ENTRY_HEAD
                | ((crc & 127) | 128) << 24
                | ((crc >> 7 & 127) | 128) << 32
                | ((crc >> 14 & 127) | 128) << 40
                | ((crc >> 21 & 127) | 128) << 48
                | (crc >> 28) << 56
            )
            parts.append(_pack(total, _HIGH[pad], word))
            parts.append(prefix)
            parts.append(body)
            if pad:
                parts.append(_PAD[pad])
            size += FRAME_BYTES + total + pad
        self.crc = crc
        self.size = size

    def _entry(self, entry: Entry) -> bytes:
        # The same bytes as raft.codec.encode_entry.
        if entry.term != self._term or entry.type != self._type:
            self._term = entry.term
            self._type = entry.type
            self._head = b"\x08" + varint(entry.type) + b"\x10" + varint(entry.term) + b"\x18"
        index = entry.index
        if index < 128:
            index_low = _LAST[index]
            tail = b""
        else:
            index_low = _MORE[index & 127]
            if index >> 7 != self._index_high:
                self._index_high = index >> 7
                self._index_tail = varint(index >> 7)
            tail = self._index_tail
        data = entry.data
        if data is None:
            return self._head + index_low + tail
        length = len(data)
        if length < 128:
            return b"".join((self._head, index_low, tail, b'"', _LAST[length], data))
        if length < 0x4000:
            return b"".join((self._head, index_low, tail, b'"', _MORE[length & 127], _LAST[length >> 7], data))
        return b"".join((self._head, index_low, tail, b'"', varint(length), data))

    def add_state(self, state: HardState) -> None:
        """Frame a hard state."""
        self.add(STATE, encode_hard_state(state))

    def add(self, kind: int, data: bytes) -> None:
        """Frame a record with data."""
        self.crc = _extend(self.crc, data)
        self._append(frame(kind, self.crc, data))

    def add_crc(self) -> None:
        """Frame the record that tells the running checksum."""
        self._append(frame(CRC, self.crc, None))

    def _append(self, framed: bytes) -> None:
        self.parts.append(framed)
        self.size += len(framed)


def frame(kind: int, crc: int, data: bytes | None) -> bytes:
    """Return one record with its length word and padding."""
    record = b"\x08" + varint(kind) + b"\x10" + varint(crc)
    if data is not None:
        record = b"".join((record, b"\x1a", varint(len(data)), data))
    length = len(record)
    pad = -length & 7
    return b"".join((length.to_bytes(7, "little"), bytes([0x80 | pad if pad else 0]), record, _PAD[pad]))


def wal_name(number: int, index: int) -> str:
    """Return a segment's name."""
    return f"{number:016x}-{index:016x}.wal"


def parse_wal_name(name: str) -> tuple[int, int] | None:
    """Return a segment's number and index, or None for any other name."""
    if len(name) != 37 or name[16] != "-" or not name.endswith(".wal"):
        return None
    digits = name[:16] + name[17:33]
    if not all(digit in "0123456789abcdef" for digit in digits):
        return None
    return int(name[:16], 16), int(name[17:33], 16)
