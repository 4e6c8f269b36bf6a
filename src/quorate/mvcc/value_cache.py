"""The records that were written or read lately, by user key, bounded in bytes.

Two generations instead of a linked list: new entries go into `young`; when it holds half of the budget it becomes
`old`, and what was old is dropped. A hit in `old` moves the entry to `young`, so that what is read stays. That
approximates LRU at one dictionary lookup a hit, with nothing that the garbage collector has to walk (bytes in, bytes
out).

What is dropped goes a few entries per insertion: freeing a hundred thousand objects at once would stall a turn.

Invariant: an entry in `young` is the key's current record; one in `old` is too, unless `young` has the key.
"""

from __future__ import annotations

from typing import Final

ENTRY_OVERHEAD: Final = 120
"""Bytes that an entry costs beside its record: two object headers, allocator slack, the dictionary's slots."""

_DROPS_PER_INSERT: Final = 4


class ValueCache:
    """Current records by user key, at most about `limit` bytes of them (0 keeps hardly anything)."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._dying: dict[bytes, bytes] = {}
        self._young_bytes = 0

    def get(self, key: bytes) -> bytes | None:
        """Return the key's current record when it is at hand."""
        record = self._young.get(key)
        if record is None:
            record = self._old.get(key)
            if record is not None:
                self.put(key, record)
        return record

    def put(self, key: bytes, record: bytes) -> None:
        """Keep the key's current record."""
        before = self._young.get(key)
        self._young[key] = record
        if before is not None:
            self._young_bytes += len(record) - len(before)
        else:
            self._young_bytes += len(record) + len(key) + ENTRY_OVERHEAD
        if self._dying:
            self._drop_some()
        if self._young_bytes > self._half:
            self._age()

    def drop(self, key: bytes) -> None:
        """Forget a key that was deleted."""
        record = self._young.pop(key, None)
        if record is not None:
            self._young_bytes -= len(record) + len(key) + ENTRY_OVERHEAD
        self._old.pop(key, None)

    def size(self) -> int:
        """Return about how many entries there are."""
        return len(self._young) + len(self._old)

    def _age(self) -> None:
        self._dying = self._old
        self._old = self._young
        self._young = {}
        self._young_bytes = 0

    def _drop_some(self) -> None:
        for _ in range(min(_DROPS_PER_INSERT, len(self._dying))):
            self._dying.popitem()
