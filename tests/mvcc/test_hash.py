"""HashKV against the formula computed the slow way, and against real etcd for the same history."""

from __future__ import annotations

from typing import Any

import pytest
from google_crc32c import value as crc32c
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quorate.errors import COMPACTED, FUTURE_REV, RpcError
from quorate.mvcc.record import encode_key_value, encode_tombstone
from quorate.mvcc.revision import revision_key, tombstone_key
from quorate.mvcc.store import StoreOptions
from tests.mvcc.fakes import Member
from tests.mvcc.model import Event, Model


def hash_of(member: Member, rev: int) -> tuple[int, int, int]:
    results: list[tuple[int, int, int]] = []
    member.store.hash_by_rev(rev, lambda *result: results.append(result))
    for _ in range(1000):
        if results:
            return results[0]
        member.loop.turn()
    raise AssertionError("no hash")


def slow_hash(model: Model, rev: int) -> int:
    """The formula, from the list of all changes as if nothing had been deleted yet."""
    latest: dict[bytes, Event] = {}
    for event in model.log:
        if event.main <= rev:
            latest[event.key] = event
    keep = {(event.main, event.sub) for event in latest.values() if event.fields is not None}
    data = b"key"
    for event in model.log:
        if event.main > rev:
            continue
        if event.main <= model.compact_rev and keep and (event.main, event.sub) not in keep:
            continue
        if event.main == model.compact_rev and event.fields is None:
            continue
        if event.fields is None:
            data += tombstone_key(event.main, event.sub) + encode_tombstone(event.key)
        else:
            data += revision_key(event.main, event.sub) + encode_key_value(*event.fields)
    return crc32c(data)


KEYS = st.sampled_from([b"a", b"b", b"c"])
STEP = st.one_of(
    st.tuples(st.just("put"), KEYS, st.binary(max_size=2)),
    st.tuples(st.just("put"), KEYS, st.binary(max_size=2)),
    st.tuples(st.just("delete"), KEYS, st.sampled_from([b"", b"\x00"])),
)


def play(member: Member, model: Model, steps: list[Any]) -> None:
    for step in steps:
        txn = member.store.begin()
        if step[0] == "put":
            txn.put(step[1], step[2], 0, False)
            model.put(step[1], step[2], 0)
        else:
            txn.delete_range(step[1], step[2], False)
            model.delete_range(step[1], step[2])
        txn.end()
        model.end()


@settings(derandomize=True, max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, max_size=20), st.integers(0, 20), st.lists(STEP, max_size=6), st.integers(0, 12), st.booleans())
def test_hash_is_the_formula_before_while_and_after_compacting(
    steps: list[Any], compact_at: int, more: list[Any], turns: int, restart: bool
) -> None:
    member = Member(StoreOptions(compaction_batch_limit=2, hash_batch=3))
    model = Model()
    play(member, model, steps)
    for rev in range(1, model.rev + 1):
        assert hash_of(member, rev) == (slow_hash(model, rev), model.rev, -1)
    compact_rev = min(compact_at, model.rev)
    member.store.compact(compact_rev, None)
    model.compact(compact_rev)
    play(member, model, more)
    for _ in range(turns):
        member.loop.turn()
    if restart:
        member = member.restart()
    member.loop.run()
    kept_hashes = {known.rev: known.compact_rev for known in member.store.hashes}
    for rev in range(max(compact_rev, 1), model.rev + 1):
        if rev in kept_hashes:
            continue
        if not model.kept() or not any(model.state(rev)):
            continue  # with nothing to keep the hash depends on what deletion has reached, in etcd too
        assert hash_of(member, rev) == (slow_hash(model, rev), model.rev, member.store.compact_rev)


def test_limits_of_the_revision_and_the_hash_of_nothing() -> None:
    member = Member()
    for n in range(9):
        member.store.put(b"a", b"%d" % n, 0, False)
    assert hash_of(member, -1)[0] == hash_of(Member(), 0)[0] == 1084519789
    assert hash_of(member, 0) == hash_of(member, 10)
    member.store.compact(5, None)
    for rev, error in ((11, FUTURE_REV), (4, COMPACTED), (1, COMPACTED)):
        with pytest.raises(RpcError) as raised:
            hash_of(member, rev)
        assert raised.value is error
    assert hash_of(member, 6)[2] == 5


def test_the_hash_of_a_finished_compaction_is_remembered_as_of_the_one_before() -> None:
    member = Member(StoreOptions(compaction_batch_limit=2))
    model = Model()
    play(member, model, [("put", b"abc"[n % 3 : n % 3 + 1], b"%d" % n) for n in range(40)])
    for rev in (5, 9):
        before = slow_hash(model, rev), 41, model.compact_rev
        member.store.compact(rev, None)
        model.compact(rev)
        member.loop.run()
        assert hash_of(member, rev) == before
    for rev in range(10, 25):
        member.store.compact(rev, None)
        member.loop.run()
    assert [known.rev for known in member.store.hashes] == list(range(15, 25))


def test_the_hash_of_a_compaction_at_zero_is_not_the_hash_of_now() -> None:
    member = Member()
    member.store.compact(0, None)
    member.loop.run()
    model = Model()
    play(member, model, [("put", b"a", b"1")])
    assert hash_of(member, 0) == hash_of(member, 2) == (slow_hash(model, 2), 2, 0)


def test_the_hash_of_an_interrupted_compaction_is_not_remembered() -> None:
    member = Member(StoreOptions(compaction_batch_limit=2))
    play(member, Model(), [("put", b"a", b"%d" % n) for n in range(20)])
    member.store.compact(15, None)
    for _ in range(3):
        member.loop.turn()
    member = member.restart()
    member.loop.run()
    assert member.store.compact_rev == 15
    assert member.store.hashes == []


def test_a_compaction_waits_for_a_hash_under_way() -> None:
    member = Member(StoreOptions(compaction_batch_limit=100, hash_batch=1))
    model = Model()
    play(member, model, [("put", b"ab"[n % 2 : n % 2 + 1], b"%d" % n) for n in range(20)])
    results: list[tuple[int, int, int]] = []
    member.store.hash_by_rev(10, lambda *result: results.append(result))
    member.loop.turn()
    finished: list[int] = []
    member.store.compact(20, lambda: finished.append(len(results)))
    member.loop.run()
    assert results == [(slow_hash(model, 10), 21, -1)]
    assert finished == [1]
