"""The log over its storage: against a naive twin that is one list, and the storage's own rules."""

from __future__ import annotations

import random

import pytest

from quorate.raft.codec import entry_size
from quorate.raft.log import Log
from quorate.raft.logger import Logger
from quorate.raft.storage import COMPACTED, UNAVAILABLE, CompactedError, MemoryStorage, StorageError, limited
from quorate.raft.types import NO_LIMIT, ConfState, Entry, Snapshot


def entries(first: int, *terms: int) -> list[Entry]:
    return [Entry(0, term, first + place, b"x" * (place % 7)) for place, term in enumerate(terms)]


def ids(found: list[Entry]) -> list[tuple[int, int]]:
    return [(entry.index, entry.term) for entry in found]


def stored(*terms: int, offset: int = 0) -> MemoryStorage:
    storage = MemoryStorage()
    if offset:
        storage.apply_snapshot(Snapshot(b"s", offset, 1, ConfState([1])))
    storage.append(entries(offset + 1, *terms))
    return storage


# -------------------------------------------------------------------------------- storage


def test_storage_knows_the_term_before_its_first_entry() -> None:
    storage = stored(3, 4, 5, offset=2)
    assert [storage.term(index) for index in range(1, 7)] == [COMPACTED, 1, 3, 4, 5, UNAVAILABLE]
    storage.compact(4)
    assert [storage.term(index) for index in range(3, 7)] == [COMPACTED, 4, 5, UNAVAILABLE]
    assert (storage.first_index(), storage.last_index()) == (5, 5)


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (entries(1, 1, 1), [(3, 3), (4, 4), (5, 5)]),  # all compacted
        (entries(3, 3, 4, 5), [(3, 3), (4, 4), (5, 5)]),  # the same
        (entries(3, 3, 6, 6), [(3, 3), (4, 6), (5, 6)]),  # a conflict
        (entries(3, 3, 4, 5, 5), [(3, 3), (4, 4), (5, 5), (6, 5)]),  # more
        (entries(1, 1, 1, 5), [(3, 5)]),  # some compacted, the tail cut
        (entries(4, 5), [(3, 3), (4, 5)]),  # the tail cut
        (entries(6, 5), [(3, 3), (4, 4), (5, 5), (6, 5)]),  # behind
    ],
)
def test_storage_append_overwrites(new: list[Entry], expected: list[tuple[int, int]]) -> None:
    storage = stored(3, 4, 5, offset=2)
    storage.append(new)
    assert ids(storage.entries(3, storage.last_index() + 1, NO_LIMIT)) == expected


def test_storage_append_leaves_no_gap() -> None:
    with pytest.raises(AssertionError, match="missing log entry"):
        stored(1, 1).append(entries(4, 1))


def test_storage_compacts_and_snapshots_within_bounds() -> None:
    storage = stored(1, 1, 1, offset=2)
    for call in (storage.compact, lambda index: storage.entries(index, 4, NO_LIMIT)):
        with pytest.raises(CompactedError, match="unavailable due to compaction"):
            call(2)
    with pytest.raises(AssertionError, match="out of bound"):
        storage.compact(6)
    snapshot = storage.create_snapshot(4, ConfState([1, 2]), b"data")
    assert (snapshot.index, snapshot.term, storage.snapshot().data) == (4, 1, b"data")
    assert storage.create_snapshot(5, None, None).conf_state.voters == [1, 2]
    for call in (
        lambda: storage.create_snapshot(4, None, None),
        lambda: storage.apply_snapshot(Snapshot(None, 5, 1)),
    ):
        with pytest.raises(StorageError, match="older than the existing snapshot"):
            call()
    storage.apply_snapshot(Snapshot(None, 9, 7))
    assert (storage.first_index(), storage.last_index(), storage.term(9)) == (10, 9, 7)


def test_compacting_a_large_log_keeps_the_rest() -> None:
    storage = MemoryStorage()
    storage.append([Entry(0, 1, index) for index in range(1, 105_001)])
    storage.compact(100_000)
    assert (storage.first_index(), storage.last_index()) == (100_001, 105_000)
    assert ids(storage.entries(100_001, 100_003, NO_LIMIT)) == [(100_001, 1), (100_002, 1)]


def test_limits_count_encoded_bytes_and_let_one_entry_through() -> None:
    found = entries(1, 1, 1, 1, 1)
    sizes = [entry_size(entry) for entry in found]
    assert len(limited(found, 0, 4, 0)) == 1
    assert len(limited(found, 0, 4, sizes[0] + sizes[1])) == 2
    assert len(limited(found, 0, 4, sizes[0] + sizes[1] + sizes[2] - 1)) == 2
    assert len(limited(found, 1, 3, NO_LIMIT)) == 2
    assert limited(found, 2, 2, 5) == []


# -------------------------------------------------------------------------------- the log


class Twin:
    """A log that is one list, from index 1 on."""

    def __init__(self) -> None:
        self.terms: list[int] = []
        self.committed = 0

    def term(self, index: int) -> int:
        return self.terms[index - 1] if 0 < index <= len(self.terms) else 0

    def maybe_append(self, index: int, term: int, new: list[int], commit: int) -> int:
        if index > len(self.terms) or (index and self.term(index) != term):
            return -1
        for place, value in enumerate(new):
            at = index + place
            if at >= len(self.terms) or self.terms[at] != value:
                self.terms[at:] = new[place:]
                break
        self.committed = max(self.committed, min(commit, index + len(new)))
        return index + len(new)


def test_the_log_against_its_twin() -> None:
    rng = random.Random(4)
    for _ in range(150):
        storage = MemoryStorage()
        log = Log(storage, rng.choice([20, 60, NO_LIMIT]), Logger())
        twin = Twin()
        term = 1
        for _ in range(80):
            term += rng.random() < 0.1
            move(rng, log, storage, twin, term)
            compare(rng, log, twin)


def move(rng: random.Random, log: Log, storage: MemoryStorage, twin: Twin, term: int) -> None:
    last = len(twin.terms)
    roll = rng.random()
    if roll < 0.4:
        index = rng.randint(twin.committed, last)
        new = [rng.randint(max(twin.term(index), 1), term) for _ in range(rng.randrange(4))]
        new.sort()
        commit = rng.randint(0, last + 2)
        expected = twin.maybe_append(index, twin.term(index), new, commit)
        assert log.maybe_append(index, twin.term(index), entries(index + 1, *new), commit) == expected
    elif roll < 0.5:
        assert log.maybe_append(last + 1, term, entries(last + 2, term), last) == -1
        assert log.maybe_append(last, term + 1, [], last) == -1
    elif roll < 0.75:
        storage.append(log.next_unstable())
        at, its_term = log.last_index(), log.last_term()
        log.accept_unstable()
        assert not log.has_next_unstable()
        if last:
            log.stable_to(at, its_term)
    elif roll < 0.85:
        found = log.next_committed(allow_unstable=True)
        assert bool(found) == log.has_next_committed(allow_unstable=True)
        assert [entry.index for entry in found] == list(range(log.applying + 1, log.applying + 1 + len(found)))
        if found:
            size = sum(entry_size(entry) for entry in found)
            log.accept_applying(found[-1].index, size, allow_unstable=True)
            log.applied_to(found[-1].index, size)
    elif roll < 0.9 and storage.first_index() <= min(log.applied, storage.last_index()):
        storage.compact(rng.randint(storage.first_index(), min(log.applied, storage.last_index())))


def compare(rng: random.Random, log: Log, twin: Twin) -> None:
    first = log.first_index()
    assert log.last_index() == len(twin.terms)
    assert log.committed == twin.committed
    for index in range(first, len(twin.terms) + 1):
        assert log.term(index) == twin.term(index)
    low = rng.randint(first, len(twin.terms) + 1)
    high = rng.randint(low, len(twin.terms) + 1)
    assert ids(log.slice(low, high, NO_LIMIT)) == [(index, twin.term(index)) for index in range(low, high)]
    limit = rng.randrange(60)
    some = log.slice(low, high, limit)
    assert ids(some) == ids(log.slice(low, high, NO_LIMIT))[: len(some)]
    sizes = [entry_size(entry) for entry in log.slice(low, high, NO_LIMIT)]
    fit = len([1 for count in range(1, len(sizes) + 1) if sum(sizes[:count]) <= limit])
    assert len(some) == min(max(fit, 1), len(sizes))


def test_reading_below_the_first_index_says_so() -> None:
    log = Log(stored(1, 1, 1, offset=4), NO_LIMIT, Logger())
    with pytest.raises(CompactedError):
        log.slice(4, 6, NO_LIMIT)
    assert (log.term(3), log.term(4), log.term(8)) == (COMPACTED, 1, UNAVAILABLE)


@pytest.mark.parametrize(
    ("index", "term", "expected"),
    [
        # The leader's log 1 1 1 5 5 5 against hints; the last entry at or below the index with no higher term.
        (6, 4, (3, 1)),
        (6, 5, (6, 5)),
        (2, 9, (2, 1)),
        (9, 4, (9, 0)),
        (3, 0, (0, 0)),
    ],
)
def test_find_conflict_by_term(index: int, term: int, expected: tuple[int, int]) -> None:
    log = Log(stored(1, 1, 1, 5, 5, 5), NO_LIMIT, Logger())
    found = log.find_conflict_by_term(index, term)
    assert found == expected


def test_a_report_about_replaced_entries_is_ignored() -> None:
    # What was handed out as 3/1 is replaced by 3/2 before it is reported as stored.
    log = Log(stored(1, 1), NO_LIMIT, Logger())
    log.append(entries(3, 1, 1))
    log.accept_unstable()
    log.append(entries(3, 2))
    log.stable_to(4, 1)
    log.stable_to(3, 1)
    assert (log.offset, ids(log.unstable)) == (3, [(3, 2)])
    assert ids(log.next_unstable()) == [(3, 2)]
    log.accept_unstable()
    log.stable_to(3, 2)
    assert (log.offset, log.unstable) == (4, [])


def test_entries_that_were_replaced_while_being_written_are_handed_out_again() -> None:
    log = Log(stored(1, 1), NO_LIMIT, Logger())
    log.append(entries(3, 1, 1, 1))
    log.accept_unstable()
    log.append(entries(4, 2))
    assert ids(log.next_unstable()) == [(4, 2)]
    log.append(entries(5, 2))
    assert ids(log.next_unstable()) == [(4, 2), (5, 2)]
    log.stable_to(3, 1)
    assert ids(log.next_unstable()) == [(4, 2), (5, 2)]


def test_a_snapshot_hides_the_storage_until_it_is_stored() -> None:
    storage = stored(1, 1, 1)
    log = Log(storage, NO_LIMIT, Logger())
    log.restore(Snapshot(b"s", 9, 4, ConfState([1])))
    assert (log.first_index(), log.last_index(), log.committed) == (10, 9, 9)
    assert [log.term(index) for index in (2, 8, 9, 10)] == [COMPACTED, COMPACTED, 4, UNAVAILABLE]
    assert log.next_committed(allow_unstable=True) == []
    assert log.next_snapshot() is not None
    log.accept_unstable()
    assert log.next_snapshot() is None
    log.append(entries(10, 4))
    storage.apply_snapshot(Snapshot(b"s", 9, 4, ConfState([1])))
    log.stable_snapshot_to(9)
    log.applied_to(9, 0)
    assert (log.term(9), log.last_index()) == (4, 10)


def test_unstable_entries_are_not_applied_when_storage_is_asynchronous() -> None:
    log = Log(stored(1), NO_LIMIT, Logger())
    log.append(entries(2, 1, 1))
    log.commit_to(3)
    assert ids(log.next_committed(allow_unstable=False)) == [(1, 1)]
    assert ids(log.next_committed(allow_unstable=True)) == [(1, 1), (2, 1), (3, 1)]
