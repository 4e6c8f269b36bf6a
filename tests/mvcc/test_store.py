"""The store against its slow twin, at every revision, through compactions and restarts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quorate.errors import COMPACTED, FUTURE_REV, CorruptError, RpcError
from quorate.mvcc.loading import Loading
from quorate.mvcc.record import encode_key_value, key_value_fields
from quorate.mvcc.revision import is_tombstone, main_of, revision_key, sub_of, tombstone_key
from quorate.mvcc.store import RangeResult, StoreOptions
from tests.mvcc.fakes import Buckets, FakeBackend, Member
from tests.mvcc.model import Model, RefusedError

KEYS = st.sampled_from([b"a", b"aa", b"ab", b"b", b"c", b"c\xff", b"d", b"\xff"])
ENDS = st.one_of(st.just(b""), st.just(b"\x00"), KEYS)
LEASES = st.sampled_from([0, 0, 0, 1, 2])
OPERATION = st.one_of(
    st.tuples(st.just("put"), KEYS, st.binary(max_size=3), LEASES),
    st.tuples(st.just("put"), KEYS, st.binary(max_size=3), LEASES),
    st.tuples(st.just("delete"), KEYS, ENDS),
    st.tuples(st.just("range"), KEYS, ENDS, st.integers(-2, 2), st.integers(-1, 3)),
)
STEP = st.one_of(
    OPERATION,
    OPERATION,
    st.tuples(st.just("txn"), st.lists(OPERATION, max_size=6)),
    st.tuples(st.just("compact"), st.integers(-3, 1)),
    st.tuples(st.just("turns"), st.integers(1, 4)),
    st.tuples(st.just("restart")),
)


ERRORS = {"future": FUTURE_REV, "compacted": COMPACTED}


class Twins:
    """The store and the model, given the same and compared."""

    def __init__(self) -> None:
        self.member = Member(StoreOptions(cache_bytes=600, compaction_batch_limit=3))
        self.model = Model()

    def do(self, step: Any) -> None:
        kind = step[0]
        if kind == "txn":
            txn = self.member.store.begin()
            for operation in step[1]:
                self.operate(operation, txn)
            assert txn.changed == (self.model.sub > 0)
            txn.end()
            self.model.end()
        elif kind == "compact":
            self.compact(self.model.rev + step[1])
        elif kind == "turns":
            for _ in range(step[1]):
                self.member.loop.turn()
        elif kind == "restart":
            self.member = self.member.restart()
        elif kind == "put":
            want = self.model.put(step[1], step[2], step[3])
            self.model.end()
            got = self.member.store.put(step[1], step[2], step[3], True)
            assert (None if got is None else key_value_fields(got)) == want
        elif kind == "delete":
            txn = self.member.store.begin()
            self.operate(step, txn)
            txn.end()
            self.model.end()
        else:
            self.operate(step, self.member.store)
        assert self.member.store.current_rev == self.model.rev
        assert self.member.store.compact_rev == self.model.compact_rev
        assert self.member.leases.by_key == self.model.leases

    def operate(self, step: Any, target: Any) -> None:
        if step[0] == "put":
            want = self.model.put(step[1], step[2], step[3])
            got = target.put(step[1], step[2], step[3], True)
            assert (None if got is None else key_value_fields(got)) == want
        elif step[0] == "delete":
            deleted = self.model.delete_range(step[1], step[2])
            count, prevs = target.delete_range(step[1], step[2], True)
            assert count == len(deleted)
            assert [key_value_fields(prev) for prev in prevs] == deleted
        else:
            rev = 0 if step[3] == -2 else self.model.now() + step[3]
            self.compare_range(target, step[1], step[2], rev, step[4])

    def compare_range(self, target: Any, key: bytes, end: bytes, rev: int, limit: int) -> None:
        try:
            want = self.model.range(key, end, rev, limit)
        except RefusedError as refused:
            expected = ERRORS[str(refused)]
            for count_only in (False, True):
                with pytest.raises(RpcError, match=expected.text):
                    target.range(key, end, rev, limit, count_only)
            return
        result: RangeResult = target.range(key, end, rev, limit, False)
        assert ([key_value_fields(record) for record in result.kvs], result.count, result.rev) == want
        counted: RangeResult = target.range(key, end, rev, limit, True)
        assert (counted.kvs, counted.count, counted.rev) == ([], want[1], want[2])

    def compact(self, rev: int) -> None:
        try:
            self.model.compact(rev)
        except RefusedError as refused:
            expected = ERRORS[str(refused)]
            with pytest.raises(RpcError, match=expected.text):
                self.member.store.compact(rev, None)
        else:
            self.member.store.compact(rev, None)

    def compare_all(self) -> None:
        for rev in range(-1, self.model.rev + 2):
            for key, end in ((b"a", b"\x00"), (b"\x00", b"\x00"), (b"aa", b"c"), (b"b", b""), (b"c", b"a")):
                for limit in (0, 1, 2):
                    self.compare_range(self.member.store, key, end, rev, limit)

    def compare_disk(self) -> None:
        """Once compactions have finished, bucket and index hold what the model keeps, and agree with each other."""
        rows = self.member.backend.range(b"key", b"", b"\xff")
        on_disk = [(main_of(key), sub_of(key), key_value_fields(value)[0], is_tombstone(key)) for key, value in rows]
        index = self.member.store.index
        indexed = sorted((m, s, key, dead) for key in index.entries for m, s, dead in index.revisions(key))
        assert indexed == on_disk
        assert on_disk == [(e.main, e.sub, e.key, e.fields is None) for e in self.model.kept()]
        live = [key for key in index.entries if index.current(key)[0]]
        assert index.live.page(b"", b"", 0) == sorted(live)
        assert index.dead.page(b"", b"", 0) == sorted(set(index.entries) - set(live))


@settings(derandomize=True, max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, min_size=3, max_size=40))
def test_store_and_slow_twin_agree_at_every_revision(steps: list[Any]) -> None:
    twins = Twins()
    for step in steps:
        twins.do(step)
    twins.compare_all()
    twins.member.loop.run()
    twins.compare_all()
    twins.compare_disk()
    twins.member = twins.member.restart()
    twins.member.loop.run()
    twins.compare_all()
    twins.compare_disk()


def fill(member: Member, count: int) -> None:
    for n in range(count):
        member.store.put(b"k%03d" % (n % 10), b"v%d" % n, 0, False)


def test_a_crash_in_each_slice_of_a_compaction_changes_nothing_that_may_be_read() -> None:
    for turns in range(12):
        twins = Twins()
        for n in range(20):
            twins.do(("put", b"abcd"[n % 4 : n % 4 + 1], b"%d" % n, 0))
            if n % 5 == 4:
                twins.do(("delete", b"a", b""))
        twins.do(("compact", -4))
        twins.do(("turns", turns + 1))
        twins.compare_all()
        twins.do(("restart",))
        twins.compare_all()
        twins.member.loop.run()
        twins.compare_all()
        twins.compare_disk()


def test_first_write_is_revision_2_and_nothing_is_compacted() -> None:
    member = Member()
    assert (member.store.current_rev, member.store.compact_rev) == (1, -1)
    member.store.put(b"a", b"1", 0, False)
    assert member.store.current_rev == 2
    assert member.backend.range(b"key", b"", b"\xff") == [
        (bytes.fromhex("00000000000000025f0000000000000000"), bytes.fromhex("0a01611002180220012a0131"))
    ]


def test_compact_0_is_accepted_once_when_never_compacted() -> None:
    member = Member()
    member.store.compact(0, None)
    assert member.store.compact_rev == 0
    with pytest.raises(RpcError) as raised:
        member.store.compact(0, None)
    assert raised.value is COMPACTED


def test_raising_an_error_often_does_not_grow_its_traceback() -> None:
    member = Member()
    for _ in range(3):
        with pytest.raises(RpcError):
            member.store.range(b"a", b"", 9, 0, False)
    length, at = 0, FUTURE_REV.__traceback__
    while at is not None:
        length, at = length + 1, at.tb_next
    assert length < 8


def test_revision_does_not_go_backwards_after_a_crash_before_finished_compact() -> None:
    """etcd issue 17780: the last revision was a tombstone, compacted away before finishedCompactRev was written."""
    member = Member()
    member.store.put(b"a", b"1", 0, False)
    txn = member.store.begin()
    txn.delete_range(b"a", b"", False)
    txn.end()
    member.store.put(b"b", b"1", 0, False)
    txn = member.store.begin()
    txn.delete_range(b"b", b"", False)
    txn.end()
    content = Buckets()
    content.put(b"meta", b"scheduledCompactRev", revision_key(5, 0))
    reopened = Member(content=content)  # as members before 3.5.16 leave it: even the tombstone at 5 is gone
    assert reopened.store.current_rev == 5
    reopened.loop.run()
    assert reopened.store.compact_rev == 5
    assert reopened.restart().store.current_rev == 5


def test_bumped_revision_of_a_restored_snapshot_is_taken_over() -> None:
    """etcdutl snapshot restore --bump-revision --mark-compacted writes an empty record and schedules its compaction."""
    member = Member()
    fill(member, 10)
    content = member.backend.copy()
    content.put(b"key", revision_key(1_000_011, 0), b"")
    content.put(b"meta", b"scheduledCompactRev", revision_key(1_000_011, 0))
    bumped = Member(content=content)
    bumped.loop.run()
    assert bumped.store.current_rev == bumped.store.compact_rev == 1_000_011
    assert bumped.store.range(b"k", b"l", 0, 0, False).count == 10
    bumped.store.put(b"x", b"", 0, False)
    assert bumped.store.current_rev == 1_000_012


def test_physical_compaction_calls_back_when_the_deletion_is_committed() -> None:
    member = Member(StoreOptions(compaction_batch_limit=4))
    fill(member, 40)
    left: list[int] = []
    member.store.compact(41, lambda: left.append(len(member.backend.committed.range(b"key", b"", b"\xff"))))
    assert not left
    member.loop.run()
    assert left == [10]
    assert member.backend.committed.get(b"meta", b"finishedCompactRev") == revision_key(41, 0)
    assert member.store.compactor.keys_deleted == 30


def test_two_compactions_run_one_after_the_other() -> None:
    member = Member(StoreOptions(compaction_batch_limit=4))
    fill(member, 40)
    order: list[str] = []
    member.store.compact(10, lambda: order.append("first"))
    member.store.compact(30, lambda: order.append("second"))
    member.loop.run()
    assert order == ["first", "second"]
    assert member.store.compact_rev == 30


def test_a_snapshot_replaces_the_store_and_ends_the_wait_for_a_compaction() -> None:
    donor = Member()
    fill(donor, 50)
    member = Member(StoreOptions(compaction_batch_limit=4))
    fill(member, 20)
    done: list[int] = []
    member.store.compact(15, lambda: done.append(1))
    member.loop.turn()
    member.store.restore_from(FakeBackend(member.loop, donor.backend.copy()))
    member.loop.run()
    assert done == [1]
    assert (member.store.current_rev, member.store.compact_rev) == (51, -1)
    assert member.store.range(b"k", b"l", 0, 0, False).kvs == donor.store.range(b"k", b"l", 0, 0, False).kvs


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_what_was_loaded_in_steps_is_what_a_start_loads(limit: int) -> None:
    donor = Member()
    for number in range(60):
        donor.store.put(b"k%02d" % (number % 23), b"%d" % number, 7 if number % 5 == 0 else 0, False)
        if number % 9 == 0:
            txn = donor.store.begin()
            txn.delete_range(b"k%02d" % (number % 7), b"", False)
            txn.end()
    donor.store.compact(20, None)
    donor.loop.run()
    started = Member(content=donor.backend.copy())
    member = Member()
    member.store.put(b"old", b"1", 0, False)
    received = FakeBackend(member.loop, donor.backend.copy())
    loading = Loading(received)
    steps = 0
    while loading.step(limit):
        steps += 1
        assert member.store.range(b"old", b"", 0, 0, False).count == 1
    assert steps > 40 // limit
    member.store.restore_from(received, loading)
    for rev in range(started.store.compact_rev, started.store.current_rev + 1):
        for query in ((b"k", b"l", rev, 0, False), (b"k", b"l", rev, 0, True), (b"k03", b"k11", rev, 4, False)):
            ours, theirs = member.store.range(*query), started.store.range(*query)
            assert (ours.kvs, ours.count, ours.rev) == (theirs.kvs, theirs.count, theirs.rev)
    assert member.leases.by_key == started.leases.by_key != {}
    assert member.store.range(b"old", b"", 0, 0, False).count == 0


def test_leases_are_attached_again_and_unknown_ones_left_out() -> None:
    member = Member()
    member.store.put(b"a", b"", 7, False)
    member.store.put(b"b", b"", 8, False)
    member.store.put(b"b", b"", 0, False)
    member.store.put(b"c", b"", 9, False)
    txn = member.store.begin()
    txn.delete_range(b"c", b"", False)
    txn.end()
    content = member.backend.copy()
    content.put(b"key", revision_key(7, 0), bytes.fromhex("0a01641007180720013087ad4b"))
    reopened = Member(content=content)
    assert reopened.leases.by_key == {b"a": 7}


def test_a_record_that_is_none_stops_the_member() -> None:
    content = Buckets()
    content.put(b"key", revision_key(2, 0), b"\x0a\x7fabc")
    with pytest.raises(CorruptError, match="00000000000000025f0000000000000000"):
        Member(content=content)
    content = Buckets()
    content.put(b"key", b"\x00" * 8 + b"x" * 9, b"")
    content.put(b"key", revision_key(2, 0)[:-1], b"")
    with pytest.raises(CorruptError, match="is not a revision"):
        Member(content=content)
    content = Buckets()
    content.put(b"meta", b"finishedCompactRev", b"short")
    with pytest.raises(CorruptError, match="finishedCompactRev"):
        Member(content=content)


def test_a_revision_missing_on_disk_is_corruption() -> None:
    member = Member(StoreOptions(cache_bytes=0))
    member.store.put(b"a", b"1", 0, False)
    member.store.put(b"b", b"1", 0, False)
    member.backend.delete(b"key", revision_key(2, 0))
    with pytest.raises(CorruptError, match="2_0"):
        member.store.range(b"a", b"", 0, 0, False)


def test_counts_for_the_metrics() -> None:
    member = Member()
    member.store.put(b"ab", b"123", 0, False)
    txn = member.store.begin()
    txn.put(b"c", b"", 0, False)
    txn.range(b"a", b"", 0, 0, False)
    txn.delete_range(b"zz", b"", False)
    txn.end()
    counts = member.store.counts
    assert (counts.puts, counts.ranges, counts.deletes, counts.txns, counts.put_bytes) == (2, 1, 1, 1, 6)


def history() -> Buckets:
    """Revisions 2 to 7: a written twice and deleted, b and c in one transaction, a again."""
    member = Member()
    for value in (b"1", b"2"):
        member.store.put(b"a", value, 0, False)
    txn = member.store.begin()
    txn.put(b"b", b"", 0, False)
    txn.put(b"c", b"", 0, False)
    txn.end()
    txn = member.store.begin()
    txn.delete_range(b"a", b"", False)
    txn.end()
    for key in (b"a", b"b"):
        member.store.put(key, b"3", 0, False)
    return member.backend.copy()


LOST = [
    ("all", 2, 0, False),
    ("the first of two", 4, 0, False),
    ("a deletion", 5, 0, True),
    ("one between", 6, 0, False),
]


@pytest.mark.parametrize(("main", "sub", "dead"), [each[1:] for each in LOST], ids=[each[0] for each in LOST])
def test_a_lost_revision_stops_the_member(main: int, sub: int, dead: bool) -> None:
    content = history()
    Member(content=content.copy())
    content.delete(b"key", (tombstone_key if dead else revision_key)(main, sub))
    with pytest.raises(CorruptError, match="what is between them is lost"):
        Member(content=content)


def test_a_record_that_does_not_follow_stops_the_member() -> None:
    for main, record in (
        (2, encode_key_value(b"a", 2, 3, 1, b"1", 0)),  # of another revision
        (3, encode_key_value(b"a", 2, 3, 3, b"2", 0)),  # another version
        (3, encode_key_value(b"x", 2, 3, 2, b"2", 0)),  # of another key
        (6, encode_key_value(b"a", 2, 6, 3, b"3", 0)),  # as if it had not been deleted
    ):
        content = history()
        content.put(b"key", revision_key(main, 0), record)
        with pytest.raises(CorruptError, match="is not what follows for its key"):
            Member(content=content)
