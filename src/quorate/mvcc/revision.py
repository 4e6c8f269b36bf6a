"""Revisions and the keys of the `key` bucket (etcd: server/storage/mvcc/revision.go).

A revision is a pair (main, sub): `main` counts the transactions that changed something, `sub` the changes inside one.
Both are non-negative 63-bit integers. The bucket's keys sort like the pairs:

    | main u64 BE | 0x5f | sub u64 BE |            17 bytes: a put
    | main u64 BE | 0x5f | sub u64 BE | 0x74 |     18 bytes: a tombstone ("t")

    (2, 0) put            0000000000000002 5f 0000000000000000
    (3, 1) tombstone      0000000000000003 5f 0000000000000001 74

The meta keys scheduledCompactRev and finishedCompactRev hold a 17-byte revision with sub 0.
"""

from __future__ import annotations

from typing import Final

from quorate.errors import CorruptError

PUT_LENGTH: Final = 17
TOMBSTONE_LENGTH: Final = 18

_SUB_ZERO: Final = b"_" + bytes(8)
_SEPARATOR: Final = 0x5F
_TOMBSTONE: Final = 0x74


def revision_key(main: int, sub: int) -> bytes:
    """Return the bucket key of the put at (main, sub)."""
    if sub == 0:
        return main.to_bytes(8, "big") + _SUB_ZERO
    return main.to_bytes(8, "big") + b"_" + sub.to_bytes(8, "big")


def tombstone_key(main: int, sub: int) -> bytes:
    """Return the bucket key of the tombstone at (main, sub)."""
    return main.to_bytes(8, "big") + b"_" + sub.to_bytes(8, "big") + b"t"


def main_of(key: bytes) -> int:
    """Return the main revision of a bucket key that `check_key` has accepted."""
    return int.from_bytes(key[:8], "big")


def sub_of(key: bytes) -> int:
    """Return the sub revision of a bucket key that `check_key` has accepted."""
    return int.from_bytes(key[9:17], "big")


def is_tombstone(key: bytes) -> bool:
    """Tell whether a bucket key marks a deletion."""
    return len(key) == TOMBSTONE_LENGTH


def check_key(key: bytes) -> None:
    """Raise CorruptError unless `key` is a well-formed key of the `key` bucket."""
    length = len(key)
    if (
        (length == PUT_LENGTH or (length == TOMBSTONE_LENGTH and key[17] == _TOMBSTONE))
        and key[8] == _SEPARATOR
        and key[0] < 0x80
        and key[9] < 0x80
    ):
        return
    raise CorruptError("db", -1, f"bucket key: {key!r} is not a revision")
