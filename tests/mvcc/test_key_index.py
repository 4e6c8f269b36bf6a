"""Order statistics against a sorted list; the documented example of etcd's key index; cost of a page."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.mvcc import key_index, sorted_keys
from quorate.mvcc.key_index import KeyIndex
from quorate.mvcc.sorted_keys import SortedKeys
from quorate.mvcc.value_cache import ENTRY_OVERHEAD, ValueCache

NAME = st.binary(min_size=1, max_size=2)


def compare(fast: SortedKeys, slow: list[bytes], start: bytes, end: bytes, limit: int) -> None:
    low = bisect_left(slow, start)
    high = bisect_left(slow, end) if end else len(slow)
    inside = slow[low : max(low, high)]
    assert fast.length == len(slow)
    assert fast.rank(start) == low
    assert fast.count(start, end) == len(inside)
    assert fast.page(start, end, limit) == (inside[:limit] if limit > 0 else inside)


@settings(derandomize=True, deadline=None)
@given(st.sets(NAME, max_size=300), st.lists(st.tuples(NAME, NAME, st.one_of(st.just(b""), NAME), st.integers(-1, 40))))
def test_sorted_keys_and_a_sorted_list_agree(initial: set[bytes], steps: list[tuple[bytes, bytes, bytes, int]]) -> None:
    fast = SortedKeys()
    slow = sorted(initial)
    fast.load(slow)
    slow = list(slow)
    for key, start, end, limit in steps:
        place = bisect_left(slow, key)
        if place < len(slow) and slow[place] == key:
            fast.remove(key)
            del slow[place]
        else:
            fast.add(key)
            slow.insert(place, key)
        compare(fast, slow, start, end, limit)


@pytest.mark.parametrize("order", ["ascending", "descending", "mixed"])
def test_chunks_split_and_vanish(order: str) -> None:
    keys = [b"%06d" % n for n in range(5 * sorted_keys.CHUNK_MAX)]
    arriving = {"ascending": keys, "descending": keys[::-1], "mixed": keys[::3] + keys[1::3] + keys[2::3]}[order]
    fast = SortedKeys()
    for key in arriving:
        fast.add(key)
    for start, end, limit in ((b"", b"", 0), (b"000900", b"004321", 0), (b"0012345", b"", 2000), (b"9", b"", 0)):
        compare(fast, keys, start, end, limit)
    for key in arriving[: len(keys) * 3 // 4]:
        fast.remove(key)
    left = sorted(arriving[len(keys) * 3 // 4 :])
    compare(fast, left, b"", b"", 0)
    compare(fast, left, b"0021", b"0044", 7)
    for key in left:
        fast.remove(key)
    compare(fast, [], b"", b"", 0)
    fast.add(b"x")
    compare(fast, [b"x"], b"a", b"y", 1)


def test_the_worked_example_of_etcd() -> None:
    """put(1.0); put(2.0); tombstone(3.0); put(4.0); tombstone(5.0), from the head of etcd's key_index.go."""
    index = KeyIndex()
    assert index.put(b"foo", 1, 0) == (1, 1)
    assert index.put(b"foo", 2, 0) == (1, 2)
    index.tombstone(b"foo", 3, 0)
    assert index.put(b"foo", 4, 0) == (4, 1)
    index.tombstone(b"foo", 5, 0)
    assert [index.at(b"foo", rev) for rev in range(7)] == [(0, 0), (1, 0), (2, 0), (0, 0), (4, 0), (0, 0), (0, 0)]
    after = {2: [2, 3, 4, 5], 3: [3, 4, 5], 4: [4, 5], 5: [5], 6: []}
    for rev, mains in after.items():
        index.compact(b"foo", rev)
        assert [main for main, _, _ in index.revisions(b"foo")] == mains
    assert not index.entries
    assert index.dead.length == 0


def test_a_key_that_compaction_reduced_to_its_creation_is_small_again() -> None:
    index = KeyIndex()
    index.put(b"a", 2, 0)
    index.tombstone(b"a", 3, 0)
    index.put(b"a", 4, 0)
    assert not isinstance(index.entries[b"a"], int)
    index.compact(b"a", 4)
    assert index.entries[b"a"] == 4
    assert index.put(b"a", 5, 0) == (4, 2)


def test_only_the_last_sub_revision_of_a_transaction_is_readable() -> None:
    index = KeyIndex()
    for sub in range(3):
        index.put(b"a", 2, sub)
    assert index.current(b"a") == index.at(b"a", 2) == (2, 2)
    index.put(b"a", 3, 0)
    assert index.at(b"a", 2) == (2, 2)
    index.compact(b"a", 2)
    assert index.revisions(b"a") == [(2, 2, False), (3, 0, False)]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(NAME, st.booleans()), max_size=60),
    st.tuples(NAME, st.one_of(st.just(b""), NAME)),
    st.integers(1, 9),
)
def test_the_log_of_births_and_deaths_counts_as_a_walk_does(
    steps: list[tuple[bytes, bool]], bounds: tuple[bytes, bytes], log_min: int
) -> None:
    start, end = bounds
    index: Any = KeyIndex()
    main = 1
    counts = [0, 0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_index, "FLIP_LOG_MIN", log_min)
        for key, put in steps:
            main += 1
            if put:
                index.put(key, main, 0)
            elif index.current(key)[0]:
                index.tombstone(key, main, 0)
            inside = [k for k in index.entries if index.current(k)[0] and k >= start and (not end or k < end)]
            counts.append(len(inside))
    for rev in range(1, main + 1):
        assert index.count_at(start, end, rev) == counts[rev]
        assert len(index.page_at(start, end, rev, 0)) == counts[rev]


def test_a_page_at_an_older_revision_looks_at_a_page_of_keys_only() -> None:
    index = KeyIndex()
    for n in range(20_000):
        index.put(b"%05d" % n, 2 + n, 0)
    for n in range(50):
        index.put(b"new%d" % n, 30_000 + n, 0)

    class Counting(dict[bytes, Any]):
        looked_at = 0

        def get(self, *args: Any) -> Any:
            Counting.looked_at += 1
            return super().get(*args)

    index.entries = Counting(index.entries)
    assert len(index.page_at(b"1", b"", 29_000, 500)) == 500
    assert index.count_at(b"0", b"", 29_000) == 20_000
    assert Counting.looked_at < 1_100


def test_value_cache_keeps_what_is_used_and_stays_in_its_budget() -> None:
    entry = 100 + 5 + ENTRY_OVERHEAD
    cache = ValueCache(20 * entry)
    for n in range(1000):
        cache.put(b"k%04d" % n, b"%0100d" % n)
        assert cache.get(b"k0000") == b"%0100d" % 0
        assert cache.size() <= 22
    assert cache.get(b"k0999") == b"%0100d" % 999
    assert cache.get(b"k0500") is None
    cache.put(b"k0999", b"new")
    assert cache.get(b"k0999") == b"new"
    cache.drop(b"k0999")
    assert cache.get(b"k0999") is None
    for key in (b"k0000", b"never"):
        cache.drop(key)
    assert cache.get(b"k0000") is None


def test_an_old_record_never_comes_back_through_the_older_generation() -> None:
    cache = ValueCache(8 * (ENTRY_OVERHEAD + 6))
    current: dict[bytes, bytes] = {}
    for n in range(500):
        key = b"%d" % (n * 7 % 11)
        if n % 5 == 4:
            cache.drop(key)
            current.pop(key, None)
        else:
            current[key] = b"%d" % n
            cache.put(key, current[key])
        for known in (b"%d" % m for m in range(11)):
            found = cache.get(known)
            assert found is None or found == current[known]
