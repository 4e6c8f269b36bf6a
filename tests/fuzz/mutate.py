"""Deterministic mutations of byte strings: the same seed gives the same inputs on every machine."""

from __future__ import annotations

import random

MAX_BYTES = 1 << 16
_NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x3FFF, 0x4000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
_NUMBERS += [2**32, 2**56, 2**63 - 1, 2**63, 2**64 - 1]
_VARINTS = [b"\x00", b"\x7f", b"\xff\x01", b"\xff" * 9 + b"\x01", b"\xff" * 10, b"\x80" * 9 + b"\x00", b"\x80"]


def _place(rng: random.Random, data: bytearray) -> int:
    return rng.randrange(len(data) + 1)


def _once(rng: random.Random, data: bytearray, others: list[bytes]) -> None:
    kind = rng.randrange(11)
    at = _place(rng, data)
    size = min(1 << rng.randrange(9), len(data) - at)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1 and at < len(data):
        data[at] = rng.randrange(256)
    elif kind == 2:
        del data[at : at + size]
    elif kind == 3:
        data[at:at] = rng.randbytes(1 << rng.randrange(5))
    elif kind == 4:
        data[at:at] = data[at : at + size] * rng.randrange(1, 4)
    elif kind == 5:
        width = rng.choice([1, 2, 4, 8])
        value = rng.choice(_NUMBERS) % (1 << 8 * width)
        data[at : at + width] = value.to_bytes(width, rng.choice(["big", "little"]))
    elif kind == 6:
        data[at : at + rng.randrange(3)] = rng.choice(_VARINTS)
    elif kind == 7:
        other = rng.choice(others)
        start = rng.randrange(len(other) + 1)
        data[at : at + size] = other[start : start + (1 << rng.randrange(10))]
    elif kind == 8:
        del data[at:]
    elif kind == 9 and data:
        other_at = rng.randrange(len(data))
        data[at : at + size] = data[other_at : other_at + size]
    elif kind == 10 and at < len(data):
        data[at] = (data[at] + rng.choice([-1, 1])) % 256


def mutate(rng: random.Random, corpus: list[bytes]) -> bytes:
    """Return one of the corpus, changed at a few places."""
    data = bytearray(rng.choice(corpus))
    for _ in range(1 << rng.randrange(4)):
        _once(rng, data, corpus)
    return bytes(data[:MAX_BYTES])
