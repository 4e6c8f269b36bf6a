"""The stable part of the log, in memory: what the write-ahead log holds on disk, from the last compaction on.

    compacted ...  | offset | entries[0] entries[1] ...
                     term is   index offset+1
                     known

Entries are contiguous. The entry at `offset` itself is gone, only its term is kept, so that an append behind it can be
checked. The snapshot stands for what is compacted; it may lie anywhere in [offset, last].
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

from quorate.raft.codec import entry_size
from quorate.raft.types import NO_LIMIT, ConfState, Entry, HardState, Snapshot

COMPACTED: Final = -1
"""In place of a term: the index was compacted away."""

UNAVAILABLE: Final = -2
"""In place of a term: the index is beyond the last entry."""


class StorageError(Exception):
    """The request does not fit what is stored; the texts are etcd's."""


class CompactedError(StorageError):
    """The entries asked for are compacted away."""

    def __init__(self) -> None:
        super().__init__("requested index is unavailable due to compaction")


def limited(entries: list[Entry], start: int, stop: int, max_size: int) -> list[Entry]:
    """Return entries[start:stop], cut where their encoded sizes pass `max_size`, but at least one."""
    if max_size < NO_LIMIT:
        size = 0
        for place in range(start, stop):
            size += entry_size(entries[place])
            if size > max_size:
                stop = max(place, start + 1)
                break
    return entries[start:stop]


@mypyc_attr(allow_interpreted_subclasses=True)
class MemoryStorage:
    """The stable log of one member. Everything in it must be on disk before raft is told so."""

    def __init__(self) -> None:
        self._hard_state = HardState()
        self._snapshot = Snapshot()
        self._offset = 0
        self._offset_term = 0
        self._entries: list[Entry] = []

    def hard_state(self) -> HardState:
        """Return what `set_hard_state` stored last."""
        return self._hard_state

    def conf_state(self) -> ConfState:
        """Return the configuration to start from: the snapshot's."""
        return self._snapshot.conf_state

    def snapshot(self) -> Snapshot:
        """Return the newest snapshot; an empty one when there is none."""
        return self._snapshot

    def first_index(self) -> int:
        """Return the index of the first entry that is, or would be, here."""
        return self._offset + 1

    def last_index(self) -> int:
        """Return the index of the last entry, or of the one before the first when there is none."""
        return self._offset + len(self._entries)

    def term(self, index: int) -> int:
        """Return an entry's term, or COMPACTED or UNAVAILABLE."""
        place = index - self._offset
        if place > 0:
            if place > len(self._entries):
                return UNAVAILABLE
            return self._entries[place - 1].term
        return self._offset_term if place == 0 else COMPACTED

    def entries(self, low: int, high: int, max_size: int) -> list[Entry]:
        """Return entries [low, high) as far as `max_size` encoded bytes allow, at least one. Raises CompactedError."""
        if low <= self._offset:
            raise CompactedError
        assert high <= self.last_index() + 1, f"entries' hi({high}) is out of bound lastindex({self.last_index()})"
        return limited(self._entries, low - self._offset - 1, high - self._offset - 1, max_size)

    def set_hard_state(self, state: HardState) -> None:
        """Store a hard state."""
        self._hard_state = state

    def append(self, entries: list[Entry]) -> None:
        """Store entries that are on disk. They replace what stands at and behind the first of them."""
        if not entries:
            return
        skip = self._offset + 1 - entries[0].index
        if skip > 0:
            entries = entries[skip:]
            if not entries:
                return
        place = entries[0].index - self._offset - 1
        count = len(self._entries)
        assert place <= count, f"missing log entry [last: {self.last_index()}, append at: {entries[0].index}]"
        if place < count:
            del self._entries[place:]
        self._entries.extend(entries)

    def create_snapshot(self, index: int, conf_state: ConfState | None, data: bytes | None) -> Snapshot:
        """Store and return the snapshot at `index`; without `conf_state` the previous one goes on.

        The log stays as it is until `compact`. Raises StorageError when a newer snapshot is there.
        """
        if index <= self._snapshot.index:
            raise StorageError("requested index is older than the existing snapshot")
        term = self.term(index)
        assert term >= 0, f"snapshot {index} is out of bound lastindex({self.last_index()})"
        state = self._snapshot.conf_state if conf_state is None else conf_state
        self._snapshot = Snapshot(data, index, term, state)
        return self._snapshot

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Replace everything by a snapshot that was received. Raises StorageError when a newer one is there."""
        if snapshot.index <= self._snapshot.index:
            raise StorageError("requested index is older than the existing snapshot")
        self._snapshot = snapshot
        self._offset = snapshot.index
        self._offset_term = snapshot.term
        self._entries = []

    def compact(self, index: int) -> None:
        """Drop the entries up to and including `index`; costs what is kept and dropped. Raises CompactedError."""
        if index <= self._offset:
            raise CompactedError
        assert index <= self.last_index(), f"compact {index} is out of bound lastindex({self.last_index()})"
        self._offset_term = self.term(index)
        del self._entries[: index - self._offset]
        self._offset = index
