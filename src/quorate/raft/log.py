"""The log as raft sees it: the stable storage, and a tail that is not durable yet.

      storage                     unstable
    | first ... offset-1 | offset ... in_progress-1 | in_progress ... last |
                           handed out to be written   not handed out yet

    applied <= applying <= committed <= last

Entries in [applied+1, applying] were handed out to be applied. The tail may overlap the end of the storage: then it
replaces it, and the storage will be told. A snapshot that was received stands before the tail, while it is not durable
yet; then the storage is not asked at all.
"""

from __future__ import annotations

from quorate.errors import CorruptError
from quorate.raft.codec import entry_size
from quorate.raft.logger import INFO, Logger
from quorate.raft.storage import COMPACTED, UNAVAILABLE, CompactedError, MemoryStorage, limited
from quorate.raft.types import NO_LIMIT, Entry, Snapshot


def entries_size(entries: list[Entry]) -> int:
    """Return the sum of the entries' encoded sizes."""
    size = 0
    for entry in entries:
        size += entry_size(entry)
    return size


def payload_size(entries: list[Entry]) -> int:
    """Return the sum of the entries' data sizes."""
    size = 0
    for entry in entries:
        data = entry.data
        if data is not None:
            size += len(data)
    return size


def log_corrupt(text: str) -> CorruptError:
    """Return the error for a log that contradicts what was promised to others; the member must stop."""
    return CorruptError("raft log", -1, text)


class Log:
    """The log of one member. See the module for the order of its indexes."""

    def __init__(self, storage: MemoryStorage, max_applying_size: int, logger: Logger) -> None:
        self.storage: MemoryStorage = storage
        self.logger: Logger = logger
        last = storage.last_index()
        self.unstable: list[Entry] = []
        self.offset: int = last + 1
        """The index of unstable[0], or of the next entry."""
        self.in_progress: int = last + 1
        self.snapshot: Snapshot | None = None
        self.snapshot_in_progress: bool = False
        self.committed: int = storage.first_index() - 1
        self.applying: int = self.committed
        self.applied: int = self.committed
        self.max_applying_size: int = max_applying_size
        self.applying_size: int = 0
        """The encoded size of the entries that were handed out and not yet reported as applied."""
        self.applying_paused: bool = False

    # -- reading

    def first_index(self) -> int:
        """Return the index of the first entry that is, or would be, in the log."""
        if self.snapshot is not None:
            return self.snapshot.index + 1
        return self.storage.first_index()

    def last_index(self) -> int:
        """Return the index of the last entry."""
        return self.offset + len(self.unstable) - 1

    def last_term(self) -> int:
        """Return the term of the last entry."""
        return self.term(self.last_index())

    def term(self, index: int) -> int:
        """Return an entry's term, or COMPACTED or UNAVAILABLE (both negative)."""
        place = index - self.offset
        if place >= 0:
            return self.unstable[place].term if place < len(self.unstable) else UNAVAILABLE
        if self.snapshot is not None:
            return self.snapshot.term if index == self.snapshot.index else COMPACTED
        return self.storage.term(index)

    def match(self, index: int, term: int) -> bool:
        """Tell whether the log holds this entry."""
        return self.term(index) == term

    def slice(self, low: int, high: int, max_size: int) -> list[Entry]:
        """Return entries [low, high) as far as `max_size` encoded bytes allow, at least one. Raises CompactedError."""
        assert low <= high <= self.last_index() + 1, (low, high, self.last_index())
        if low == high:
            return []
        if low < self.first_index():
            raise CompactedError
        offset = self.offset
        if low >= offset:
            return limited(self.unstable, low - offset, high - offset, max_size)
        cut = min(high, offset)
        entries = self.storage.entries(low, cut, max_size)
        if high <= offset or len(entries) < cut - low:
            return entries
        if max_size < NO_LIMIT:
            max_size -= entries_size(entries)
            if max_size <= 0 or entry_size(self.unstable[0]) > max_size:
                return entries
        entries.extend(limited(self.unstable, 0, high - offset, max_size))
        return entries

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Tell whether a log that ends with this entry is at least as complete as ours (paper 5.4.1)."""
        own_term = self.last_term()
        return term > own_term or (term == own_term and index >= self.last_index())

    def find_conflict_by_term(self, index: int, term: int) -> tuple[int, int]:
        """Return the last (index, term) at or below `index` whose term does not exceed `term`.

        All entries behind it are of later terms and so cannot be in a log whose entry at `index` is of `term`. The
        term is 0 when it is not known, because the log does not reach there.
        """
        while index > 0:
            own = self.term(index)
            if own < 0:
                return index, 0
            if own <= term:
                return index, own
            index -= 1
        return 0, 0

    def has_conf_change(self, low: int, high: int) -> bool:
        """Tell whether a configuration change stands in [low, high)."""
        while low < high:
            entries = self.slice(low, high, self.max_applying_size)
            for entry in entries:
                if entry.type != 0:
                    return True
            low += len(entries)
        return False

    # -- appending

    def append(self, entries: list[Entry]) -> None:
        """Put entries behind, or in place of, the uncommitted part of the log."""
        first = entries[0].index
        assert first > self.committed, f"after({first - 1}) is out of range [committed({self.committed})]"
        offset = self.offset
        if first == offset + len(self.unstable):
            self.unstable.extend(entries)
        elif first <= offset:
            if self.logger.level <= INFO:
                self.logger.info(f"replace the unstable entries from index {first}")
            self.unstable = list(entries)
            self.offset = first
            self.in_progress = first
        else:
            assert first < offset + len(self.unstable), (first, offset, len(self.unstable))
            if self.logger.level <= INFO:
                self.logger.info(f"truncate the unstable entries before index {first}")
            del self.unstable[first - offset :]
            self.unstable.extend(entries)
            self.in_progress = min(self.in_progress, first)

    def maybe_append(self, index: int, term: int, entries: list[Entry], commit: int) -> int:
        """Take a leader's entries behind (index, term), and its commit index; return the last index that agrees.

        Returns -1, and changes nothing, when the log does not hold (index, term). Entries that are there already are
        kept, together with what follows them: the message may be older than what came after it.
        """
        if not self.match(index, term):
            return -1
        last_new = index + len(entries)
        if index == self.last_index():
            conflict = 0
        else:
            conflict = self._count_matching(entries)
        if conflict < len(entries):
            first = index + 1 + conflict
            if first <= self.committed:
                raise log_corrupt(f"entry {first} conflict with committed entry [committed({self.committed})]")
            self.append(entries if conflict == 0 else entries[conflict:])
        self.commit_to(min(commit, last_new))
        return last_new

    def _count_matching(self, entries: list[Entry]) -> int:
        count = 0
        for entry in entries:
            own = self.term(entry.index)
            if own != entry.term:
                if entry.index <= self.last_index() and self.logger.level <= INFO:
                    self.logger.info(
                        f"found conflict at index {entry.index} "
                        f"[existing term: {max(own, 0)}, conflicting term: {entry.term}]"
                    )
                break
            count += 1
        return count

    def restore(self, snapshot: Snapshot) -> None:
        """Replace the whole log by a snapshot."""
        if self.logger.level <= INFO:
            self.logger.info(
                f"log [{self.describe()}] starts to restore snapshot [index: {snapshot.index}, term: {snapshot.term}]"
            )
        self.committed = snapshot.index
        self.offset = snapshot.index + 1
        self.in_progress = self.offset
        self.unstable = []
        self.snapshot = snapshot
        self.snapshot_in_progress = False

    # -- becoming durable

    def next_unstable(self) -> list[Entry]:
        """Return the entries that were not handed out to be written yet."""
        return self.unstable[self.in_progress - self.offset :]

    def has_next_unstable(self) -> bool:
        """Tell whether `next_unstable` has any."""
        return self.in_progress - self.offset < len(self.unstable)

    def next_snapshot(self) -> Snapshot | None:
        """Return the snapshot that was not handed out to be written yet."""
        return None if self.snapshot_in_progress else self.snapshot

    def accept_unstable(self) -> None:
        """Take note that everything has been handed out to be written."""
        self.in_progress = self.offset + len(self.unstable)
        if self.snapshot is not None:
            self.snapshot_in_progress = True

    def stable_to(self, index: int, term: int) -> None:
        """Take note that the storage holds the log up to this entry.

        The entry may have been replaced since it was handed out; the report is then of no use. Its term tells: two
        writes of the same index and term are of the same log.
        """
        if index < self.offset or index > self.last_index():
            if self.snapshot is not None and index == self.snapshot.index:
                self._ignored(f"entry at index {index} matched unstable snapshot; ignoring")
            else:
                self._ignored(f"entry at index {index} missing from unstable log; ignoring")
            return
        own = self.unstable[index - self.offset].term
        if own != term:
            self._ignored(
                f"entry at (index,term)=({index},{term}) mismatched with entry at ({index},{own}) "
                "in unstable log; ignoring"
            )
            return
        count = index + 1 - self.offset
        if count == len(self.unstable):
            self.unstable = []
        else:
            del self.unstable[:count]
        self.offset = index + 1
        self.in_progress = max(self.in_progress, self.offset)

    def _ignored(self, text: str) -> None:
        if self.logger.level <= INFO:
            self.logger.info(text)

    def stable_snapshot_to(self, index: int) -> None:
        """Take note that the storage holds the snapshot at `index`."""
        if self.snapshot is not None and self.snapshot.index == index:
            self.snapshot = None
            self.snapshot_in_progress = False

    # -- committing and applying

    def commit_to(self, index: int) -> None:
        """Commit up to `index`; the commit index never goes back."""
        if index <= self.committed:
            return
        if index > self.last_index():
            raise log_corrupt(
                f"tocommit({index}) is out of range [lastIndex({self.last_index()})]. "
                "Was the raft log corrupted, truncated, or lost?"
            )
        self.committed = index

    def maybe_commit(self, index: int, term: int) -> bool:
        """Commit up to `index` if its entry is of `term`; False when that changes nothing."""
        if index <= self.committed or term == 0 or self.term(index) != term:
            return False
        self.commit_to(index)
        return True

    def _max_appliable(self, allow_unstable: bool) -> int:
        return self.committed if allow_unstable else min(self.committed, self.offset - 1)

    def has_next_committed(self, allow_unstable: bool) -> bool:
        """Tell whether `next_committed` has any."""
        if self.applying_paused or self.snapshot is not None:
            return False
        return self.applying < self._max_appliable(allow_unstable)

    def next_committed(self, allow_unstable: bool) -> list[Entry]:
        """Return committed entries to apply, as far as the size limit allows; none while a snapshot is pending."""
        if not self.has_next_committed(allow_unstable):
            return []
        room = NO_LIMIT
        if self.max_applying_size < NO_LIMIT:
            room = self.max_applying_size - self.applying_size
            assert room > 0, (self.max_applying_size, self.applying_size)
        return self.slice(self.applying + 1, self._max_appliable(allow_unstable) + 1, room)

    def accept_applying(self, index: int, size: int, allow_unstable: bool) -> None:
        """Take note that entries up to `index`, of `size` encoded bytes, were handed out to be applied."""
        assert self.applying <= index <= self.committed, (self.applying, index, self.committed)
        self.applying = index
        self.applying_size += size
        # When the last ones did not fit, the next would not either: wait until some are applied.
        self.applying_paused = self.applying_size >= self.max_applying_size or index < self._max_appliable(
            allow_unstable
        )

    def applied_to(self, index: int, size: int) -> None:
        """Take note that entries up to `index`, of `size` encoded bytes, are applied."""
        assert self.applied <= index <= self.committed, (
            f"applied({index}) is out of range [prevApplied({self.applied}), committed({self.committed})]"
        )
        self.applied = index
        self.applying = max(self.applying, index)
        self.applying_size = max(self.applying_size - size, 0)
        self.applying_paused = self.applying_size >= self.max_applying_size

    def describe(self) -> str:
        """Return etcd's text of the indexes."""
        return (
            f"committed={self.committed}, applied={self.applied}, applying={self.applying}, "
            f"unstable.offset={self.offset}, unstable.offsetInProgress={self.in_progress}, "
            f"len(unstable.Entries)={len(self.unstable)}"
        )
