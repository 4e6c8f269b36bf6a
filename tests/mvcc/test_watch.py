"""The watch hub against a replay of the history: the rules of etcd's robustness suite (tests/robustness/validate).

Ordered, Unique, Atomic, Reliable, Resumable and PrevKV are checked on random histories with slow readers and
compactions; the bugs of etcd's past have a test each.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quorate.mvcc import watch as watch_module
from quorate.mvcc.record import encode_key_value
from quorate.mvcc.store import StoreOptions
from quorate.mvcc.watch import WatchError, WatchHub, WatchStream
from quorate.mvcc.watch_group import WatcherGroup, prefix_end
from quorate.mvcc.watcher import Watcher
from tests.mvcc.fakes import Buckets, FakeBackend, Member, Seen, Sink, see
from tests.mvcc.model import Model, in_range

KEYS = st.sampled_from([b"a", b"aa", b"ab", b"b", b"b\xff", b"c"])
RANGE = st.one_of(
    st.tuples(KEYS, st.just(b"")),
    st.tuples(KEYS, st.just(b"\x00")),
    KEYS.map(lambda key: (key, prefix_end(key))),
    st.tuples(KEYS, KEYS).filter(lambda bounds: bounds[0] < bounds[1]),
)
CHANGE = st.one_of(
    st.tuples(st.just("put"), KEYS, st.binary(max_size=1)),
    st.tuples(st.just("delete"), KEYS, st.sampled_from([b"", b"\x00"])),
)
STEP = st.one_of(
    st.tuples(st.just("txn"), st.lists(CHANGE, min_size=1, max_size=4)),
    CHANGE,
    CHANGE,
    st.tuples(st.just("watch"), RANGE, st.integers(-6, 3), st.booleans(), st.sets(st.integers(0, 2), max_size=1)),
    st.tuples(st.just("cancel"), st.integers(0, 5)),
    st.tuples(st.just("room"), st.integers(-1, 2)),
    st.tuples(st.just("turns"), st.integers(1, 3)),
    st.tuples(st.just("compact"), st.integers(-4, 0)),
    st.tuples(st.just("restore")),
)


class Watched:
    """What one watcher was promised."""

    def __init__(self, key: bytes, end: bytes, first: int, prev_kv: bool, filters: set[int]) -> None:
        self.key = key
        self.end = end
        self.first = first
        self.prev_kv = prev_kv
        self.filters = filters

    def expected(self, model: Model) -> list[Seen]:
        hidden = {0: "put", 1: "delete"}
        kinds = {hidden[number] for number in self.filters if number in hidden}
        return [
            (kind, kv, prev if self.prev_kv else None)
            for kind, kv, prev in model.events(self.key, self.end, self.first)
            if kind not in kinds
        ]


class Watching:
    """A store under watch beside the model that knows what should be seen."""

    def __init__(self) -> None:
        self.member = Member(StoreOptions(compaction_batch_limit=3, cache_bytes=500))
        self.model = Model()
        self.sink = Sink()
        self.stream = self.member.hub.stream(self.sink)
        self.watched: dict[int, Watched] = {}
        self.next_id = 1

    def do(self, step: Any) -> None:
        store = self.member.store
        if step[0] in ("put", "delete", "txn"):
            txn = store.begin()
            for change in step[1] if step[0] == "txn" else [step]:
                if change[0] == "put":
                    txn.put(change[1], change[2], 0, False)
                    self.model.put(change[1], change[2], 0)
                else:
                    txn.delete_range(change[1], change[2], False)
                    self.model.delete_range(change[1], change[2])
            txn.end()
            self.model.end()
        elif step[0] == "watch":
            (key, end), start, prev_kv, filters = step[1:]
            start = 0 if start == 3 else max(1, store.current_rev + start)
            self.stream.watch(key, end, start, self.next_id, sorted(filters), prev_kv, False, False)
            self.watched[self.next_id] = Watched(key, end, start or store.current_rev + 1, prev_kv, filters)
            self.next_id += 1
        elif step[0] == "cancel":
            assert self.stream.cancel(step[1]) == (step[1] in self.watched)
            self.watched.pop(step[1], None)
        elif step[0] == "room":
            self.sink.room = step[1]
        elif step[0] == "turns":
            for _ in range(step[1]):
                self.member.loop.turn()
        elif step[0] == "compact":
            rev = store.current_rev + step[1]
            changed = [event.key for event in self.model.log if event.main == rev]
            # Of a key's several changes in the transaction at the compact revision only the last survives, as in etcd.
            if rev > store.compact_rev and len(set(changed)) == len(changed):
                store.compact(rev, None)
                self.model.compact(rev)
        else:
            store.restore_from(FakeBackend(self.member.loop, self.content()))
        self.check(complete=False)

    def content(self) -> Buckets:
        backend = self.member.store.backend
        assert isinstance(backend, FakeBackend)
        return backend.copy()

    def check(self, complete: bool) -> None:
        ended = dict(self.sink.ended)
        assert len(ended) == len(self.sink.ended), "compacted is told once"
        for watch_id, watched in self.watched.items():
            calls = [call for call in self.sink.calls if call[0] == watch_id]
            want = watched.expected(self.model)
            got = [see(event) for call in calls for event in call[2]]
            assert len(got) <= len(want)
            for (kind, kv, prev), (want_kind, want_kv, want_prev) in zip(got, want, strict=False):
                assert (kind, kv) == (want_kind, want_kv)
                # PrevKV: nil is tolerated once the revision before is compacted.
                assert prev == want_prev or (prev is None and kv[2] - 1 < self.model.compact_rev)
            last = 0
            for _, rev, events in calls:
                mods = [see(event)[1][2] for event in events]
                assert last < mods[0], "a revision is never split over two responses"
                last = mods[-1]
                assert last <= rev <= self.model.rev
            if watch_id in ended:
                missed = [kv[2] for _, kv, _ in want[len(got) :]]
                assert not missed or missed[0] >= watched.first
                assert last < ended[watch_id]
                assert watched.first < ended[watch_id]
            elif complete:
                assert len(got) == len(want), "every event, to the last"
                assert self.stream.in_sync(watch_id) == (self.stream.watchers[watch_id].start_rev <= self.model.rev)


@settings(derandomize=True, max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, min_size=5, max_size=40), st.integers(2, 5))
def test_what_watchers_see_is_the_history(steps: list[Any], window: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch_module, "WINDOW_RECORDS", window)
        patch.setattr(watch_module, "_STEP_RECORDS", 2)
        patch.setattr(watch_module, "WATCHERS_PER_PASS", 2)
        watching = Watching()
        for step in steps:
            watching.do(step)
        watching.sink.room = -1
        watching.member.loop.run()
        watching.check(complete=True)


@settings(derandomize=True, deadline=None)
@given(
    st.lists(st.tuples(RANGE, st.booleans()), max_size=25),
    st.lists(st.one_of(KEYS, st.binary(min_size=1, max_size=3)), max_size=10),
)
def test_the_matching_structure_finds_whom_a_search_finds(changes: list[Any], keys: list[bytes]) -> None:
    group = WatcherGroup()
    members: list[Watcher] = []
    for serial, ((key, end), leaves) in enumerate(changes):
        watcher = Watcher(serial, Sink(), 0, key, end, 0, [], serial % 2 == 0, False, False)
        group.add(watcher)
        members.append(watcher)
        if leaves:
            group.remove(members.pop(len(members) // 2))
        for name in keys:
            found = group.match(name)
            want = [watcher for watcher in members if in_range(name, watcher.key, watcher.end)]
            assert sorted(w.serial for w in found) == [w.serial for w in want]
        assert group.members() == members
        assert (group.size, group.wanting_prev) == (len(members), sum(w.prev_kv for w in members))


def start(member: Member) -> tuple[Sink, WatchStream]:
    sink = Sink()
    return sink, member.hub.stream(sink)


def watch(stream: WatchStream, key: bytes, end: bytes = b"", rev: int = 0, watch_id: int = 0, **flags: bool) -> int:
    return stream.watch(key, end, rev, watch_id, [], flags.get("prev_kv", False), False, False)


def delete(member: Member, key: bytes, end: bytes = b"") -> None:
    txn = member.store.begin()
    txn.delete_range(key, end, False)
    txn.end()


def test_ids_are_the_lowest_free_at_a_counter_and_any_other_is_taken_as_is() -> None:
    _, stream = start(Member())
    assert [watch(stream, b"a", watch_id=n) for n in (0, 1, 2, 0, -7)] == [0, 1, 2, 3, -7]
    with pytest.raises(WatchError, match="mvcc: duplicate watch ID provided on the WatchStream"):
        watch(stream, b"a", watch_id=-7)
    assert stream.cancel(-7)
    assert not stream.cancel(-7)
    assert watch(stream, b"a", watch_id=-7) == -7
    assert stream.cancel(1)
    assert watch(stream, b"a") == 4
    for key, end in ((b"b", b"a"), (b"b", b"b")):
        with pytest.raises(WatchError, match="mvcc: watcher range is empty"):
            watch(stream, key, end)


def test_a_live_response_carries_its_own_revision_and_a_late_one_the_current() -> None:
    member = Member()
    sink, stream = start(member)
    watch(stream, b"a", prev_kv=True)
    for value in (b"1", b"2"):
        member.store.put(b"a", value, 0, False)
    assert [(call[0], call[1], len(call[2])) for call in sink.calls] == [(0, 2, 1), (0, 3, 1)]
    assert sink.seen(0)[1] == ("put", (b"a", 2, 3, 2, b"2", 0), (b"a", 2, 2, 1, b"1", 0))
    watch(stream, b"a", rev=2)
    assert len(sink.calls) == 2, "nothing is delivered before the caller has answered `created`"
    member.loop.run()
    assert [(call[0], call[1], len(call[2])) for call in sink.calls[2:]] == [(1, 3, 2)]


def test_several_changes_of_a_key_in_one_transaction_are_all_seen_and_have_the_value_before_it() -> None:
    member = Member()
    sink, stream = start(member)
    member.store.put(b"a", b"0", 0, False)
    watch(stream, b"a", prev_kv=True)
    txn = member.store.begin()
    txn.put(b"a", b"1", 0, False)
    txn.put(b"b", b"1", 0, False)
    txn.delete_range(b"a", b"", False)
    txn.put(b"a", b"2", 0, False)
    txn.delete_range(b"a", b"", False)
    txn.end()
    before = (b"a", 2, 2, 1, b"0", 0)
    gone = ("delete", (b"a", 0, 3, 0, b"", 0), before)
    live = [("put", (b"a", 2, 3, 2, b"1", 0), before), gone, ("put", (b"a", 3, 3, 1, b"2", 0), None), gone]
    assert sink.seen(0) == live
    watch(stream, b"a", rev=3, prev_kv=True)
    member.loop.run()
    assert sink.seen(1) == live
    assert len(sink.calls) == 2


def test_an_event_is_encoded_once_for_all_who_share_its_shape() -> None:
    member = Member()
    sink, stream = start(member)
    for key, end in ((b"a", b""), (b"a", b"b"), (b"\x00", b"\x00"), (b"A", b"aa")):
        watch(stream, key, end)
    member.store.put(b"a", b"1", 0, False)
    first = sink.calls[0][2][0]
    assert len(sink.calls) == 4
    assert all(call[2][0] is first for call in sink.calls)


def test_a_watch_from_the_compacted_past_is_ended_and_keeps_its_id() -> None:
    member = Member()
    sink, stream = start(member)
    for n in range(5):
        member.store.put(b"a", b"%d" % n, 0, False)
    member.store.compact(4, None)
    watch(stream, b"a", rev=3)
    watch(stream, b"a", rev=4)
    member.loop.run()
    assert sink.ended == [(0, 4)]
    assert [fields[2] for _, fields, _ in sink.seen(1)] == [4, 5, 6]
    assert not stream.progress_all()
    assert watch(stream, b"a") == 2
    assert stream.cancel(0)
    assert stream.progress_all()
    assert member.hub.watchers == 2


def test_a_watch_from_the_compact_revision_sees_the_deletion_there() -> None:
    """etcd issues 18089, 19179: the tombstone at the compact revision was purged."""
    member = Member()
    sink, stream = start(member)
    member.store.put(b"a", b"1", 0, False)
    delete(member, b"a")
    member.store.put(b"b", b"1", 0, False)
    member.store.compact(3, None)
    member.loop.run()
    member = member.restart()
    sink, stream = start(member)
    watch(stream, b"a", b"z", rev=3, prev_kv=True)
    member.loop.run()
    assert [(kind, fields[0], fields[2]) for kind, fields, _ in sink.seen(0)] == [("delete", b"a", 3), ("put", b"b", 4)]


def test_a_starved_watcher_loses_nothing_when_a_compaction_is_not_past_it() -> None:
    """etcd issues 17529, 17612: victims lost events when a compaction came while they waited."""
    member = Member()
    sink, stream = start(member)
    watch(stream, b"a")
    sink.room = 1
    for n in range(6):
        member.store.put(b"a", b"%d" % n, 0, False)
        member.loop.turn()
    member.store.compact(3, None)
    for _ in range(20):
        member.loop.turn()
    assert member.hub.slow_watchers() == 1
    assert len(sink.calls) == 1
    sink.room = -1
    member.loop.run()
    assert [fields[2] for _, fields, _ in sink.seen(0)] == [2, 3, 4, 5, 6, 7]
    assert sink.ended == []


def test_a_starved_watcher_that_a_compaction_overtook_is_told_when_it_can_hear() -> None:
    member = Member()
    sink, stream = start(member)
    watch(stream, b"a")
    sink.room = 0
    for n in range(6):
        member.store.put(b"a", b"%d" % n, 0, False)
    member.store.compact(6, None)
    for _ in range(20):
        member.loop.turn()
    assert sink.ended == []
    sink.room = -1
    member.loop.run()
    assert sink.ended == [(0, 6)]
    assert sink.calls == []


def test_progress_is_announced_only_when_every_watcher_has_seen_everything() -> None:
    """etcd issue 15220: progress ahead of events."""
    member = Member()
    sink, stream = start(member)
    assert not stream.progress_all()
    watch(stream, b"a")
    assert stream.progress_all()
    watch(stream, b"a", rev=4)
    assert not stream.progress_all()
    for n in range(3):
        member.store.put(b"a", b"%d" % n, 0, False)
    assert stream.progress_all()
    watch(stream, b"b", rev=2)
    assert not stream.progress_all()
    assert not stream.in_sync(2)
    member.loop.run()
    assert stream.progress_all()
    sink.room = 0
    member.store.put(b"a", b"", 0, False)
    assert not stream.progress_all()


def test_a_snapshot_under_watch_brings_no_event_twice_nor_an_old_one_to_a_watch_of_the_future() -> None:
    """etcd issues 15271, 20221: restoring the store made watchers travel in time."""
    donor = Member()
    member = Member()
    sink, stream = start(member)
    for n in range(4):
        donor.store.put(b"a", b"%d" % n, 0, False)
    for n in range(2):
        member.store.put(b"a", b"%d" % n, 0, False)
    watch(stream, b"a", b"b")
    watch(stream, b"a", rev=7)
    member.store.restore_from(FakeBackend(member.loop, donor.backend.copy()))
    assert not stream.progress_all()
    member.loop.run()
    for n in range(3):
        member.store.put(b"a", b"%d" % n, 0, False)
    assert [fields[2] for _, fields, _ in sink.seen(0)] == [4, 5, 6, 7, 8]
    assert [fields[2] for _, fields, _ in sink.seen(1)] == [7, 8]


def test_an_idle_watcher_survives_a_snapshot_that_is_compacted_below_what_it_has_seen() -> None:
    member = Member()
    sink, stream = start(member)
    watch(stream, b"idle")
    for n in range(5):
        member.store.put(b"a", b"%d" % n, 0, False)
    member.store.compact(5, None)
    member.loop.run()
    member.store.restore_from(FakeBackend(member.loop, member.backend.copy()))
    member.loop.run()
    member.store.put(b"idle", b"", 0, False)
    assert sink.ended == []
    assert len(sink.seen(0)) == 1


def test_a_transaction_larger_than_a_window_is_not_split() -> None:
    member = Member()
    txn = member.store.begin()
    for n in range(2500):
        txn.put(b"%05d" % n, b"", 0, False)
    txn.end()
    member.store.put(b"x", b"", 0, False)
    delete(member, b"0", b"1")
    sink, stream = start(member)
    watch(stream, b"0", b"\x00", rev=1)
    member.loop.run()
    assert [len(call[2]) for call in sink.calls] == [2501, 2500]


def test_large_values_make_the_window_small() -> None:
    member = Member()
    for n in range(200):
        member.store.put(b"a%02d" % n, bytes(1 << 18), 0, False)
    sink, stream = start(member)
    watch(stream, b"a", b"b", rev=1)
    member.loop.run()
    assert len(sink.seen(0)) == 200
    assert max(sum(len(event) for event in call[2]) for call in sink.calls) <= 17 << 20


def test_one_pass_stops_at_a_sink_that_fills_up() -> None:
    member = Member()
    for n in range(10):
        member.store.put(b"a", b"%d" % n, 0, False)
    sink, stream = start(member)
    for _ in range(5):
        watch(stream, b"a", rev=2)
    sink.room = 2
    assert not member.hub.sync_some(), "there is nothing more that could be done now"
    assert len(sink.calls) == 2
    assert member.hub.slow_watchers() == 3
    sink.room = -1
    member.loop.run()
    assert sorted(call[0] for call in sink.calls) == [0, 1, 2, 3, 4]


def test_closing_a_stream_ends_its_watchers_wherever_they_are() -> None:
    member = Member()
    member.store.put(b"a", b"", 0, False)
    sink, stream = start(member)
    watch(stream, b"a")
    watch(stream, b"a", rev=1)
    watch(stream, b"a", b"b", rev=9)
    assert (member.hub.streams, member.hub.watchers) == (1, 3)
    stream.close()
    stream.close()
    assert (member.hub.streams, member.hub.watchers, member.hub.slow_watchers(), member.hub.synced.size) == (0, 0, 0, 0)
    member.store.put(b"a", b"", 0, False)
    member.loop.run()
    assert sink.calls == []


class ClosingSink(Sink):
    """Closes its stream at the first event, as one whose connection breaks does."""

    stream: WatchStream

    def events(self, watch_id: int, rev: int, events: list[bytes]) -> None:
        super().events(watch_id, rev, events)
        self.stream.close()


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("room", [-1, 1])
def test_a_sink_may_close_its_stream_when_it_is_told(late: bool, room: int) -> None:
    member = Member()
    sink = ClosingSink()
    sink.stream = member.hub.stream(sink)
    member.store.put(b"a", b"", 0, False)
    for _ in range(3):
        watch(sink.stream, b"a", rev=1 if late else 0)
    other, stream = start(member)
    watch(stream, b"a", rev=1 if late else 0)
    sink.room = room
    member.store.put(b"a", b"", 0, False)
    member.loop.run()
    assert len(sink.calls) == 1
    assert [fields[2] for _, fields, _ in other.seen(0)] == ([2, 3] if late else [3])
    assert (member.hub.watchers, member.hub.slow_watchers(), member.hub.synced.size) == (1, 0, 1)


def test_nobody_watching_costs_no_event() -> None:
    member = Member()
    member.store.put(b"a", b"", 0, False)
    assert member.hub.events_sent == 0
    assert isinstance(member.hub, WatchHub)
    assert member.store.range(b"a", b"", 0, 0, False).kvs == [encode_key_value(b"a", 2, 2, 1, b"", 0)]
