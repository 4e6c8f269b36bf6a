"""Whether what stands behind the end of a log proves that the end is damage, and no crash.

A crash leaves a log's last, unsynced batch in pieces: some of its sectors, in any order. What was synced before is
whole. A member writes a batch (entries, then the hard state) only when the one before is synced, so records that go on
behind the end with a hard state *between* entries cannot all be of one batch: the first of them was synced, and with it
the place where the log now seems to end. Only records whose checksums continue each other count, so nothing but true
records can prove this. (etcd does not look: it takes any zero word for the end, and a zeroed sector for a torn write.)

    end | entry  entry  state | entry ...     damage
    end | entry  entry  state                 may be the rest of a torn batch
"""

from __future__ import annotations

from typing import Final

import google_crc32c

from quorate.raft.codec import Reader
from quorate.storage.wal_record import CRC, ENTRY, FRAME_BYTES, METADATA, SNAPSHOT, STATE

WINDOW_BYTES: Final = 1 << 20
_extend: Final = google_crc32c.extend


def proves_damage(data: bytes) -> bool:
    """Tell whether `data`, the file from a multiple of 8 bytes behind the end on, has records of two batches."""
    size = len(data)
    if data.count(0) == size:
        return False
    at = 0
    crc = -1  # the checksum after the record before, -1 when what is before is no record
    stage = 0  # 1 an entry was seen, 2 a state behind it
    while at + FRAME_BYTES < size:
        length = int.from_bytes(data[at : at + 7], "little")
        pad = -length & 7
        end = at + FRAME_BYTES + length + pad
        if length == 0 or end > size or data[at + 7] != (0x80 | pad if pad else 0):
            at += 8
            crc = -1
            continue
        kind, stored, body = _decode(data[at + FRAME_BYTES : end - pad])
        if kind == 0:
            at += 8
            crc = -1
            continue
        if crc >= 0 and stored == (crc if kind == CRC else _extend(crc, body)):
            if kind == ENTRY:
                if stage == 2:
                    return True
                stage = 1
            elif kind == STATE and stage == 1:
                stage = 2
        else:
            stage = 0
        crc = stored
        at = end
    return False


def _decode(record: bytes) -> tuple[int, int, bytes]:
    """Return type, checksum and data of a record; type 0 when it is none."""
    reader = Reader(record)
    body = b""
    try:
        if reader.varint() != 0x08:
            return 0, 0, b""
        kind = reader.varint()
        if not METADATA <= kind <= SNAPSHOT or reader.varint() != 0x10:
            return 0, 0, b""
        crc = reader.varint()
        if reader.pos < reader.end:
            key = reader.varint()
            if key != 0x1A:
                return 0, 0, b""
            body = reader.bytes(key)
    except ValueError:
        return 0, 0, b""
    if reader.pos != reader.end or crc > 0xFFFFFFFF:
        return 0, 0, b""
    return kind, crc, body
