"""Watch: the conversation on one stream, what a slow client costs, and what is announced when nothing happens."""

import pytest

from quorate import errors
from quorate.api.watch import INBOX_BYTES, SLOW_BYTES
from quorate.proto import rpc_pb2 as pb
from quorate.server.config import ServerConfig
from tests.api.fakes import Bench

PATH = "/etcdserverpb.Watch/Watch"
SECOND = 1_000_000_000


def create(key=b"k", **fields):
    return pb.WatchRequest(create_request=pb.WatchCreateRequest(key=key, **fields))


def cancel(watch_id):
    return pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=watch_id))


PROGRESS = pb.WatchRequest(progress_request=pb.WatchProgressRequest())


@pytest.fixture
def bench():
    return Bench()


def take(call):
    return call.take(pb.WatchResponse)


def test_create_events_cancel(bench):
    call = bench.stream(PATH, create(prev_kv=True), create(b"other"))
    first, second = take(call)
    assert (first.watch_id, first.created, first.header.revision) == (0, True, 1)
    assert second.watch_id == 1
    bench.put(b"k", b"1")
    bench.put(b"k", b"2")
    bench.delete(b"k")
    one, two, three = take(call)
    assert one.watch_id == two.watch_id == three.watch_id == 0
    assert [response.header.revision for response in (one, two, three)] == [2, 3, 4]
    assert one.events[0].kv.value == b"1"
    assert not one.events[0].HasField("prev_kv")
    assert two.events[0].prev_kv.value == b"1"
    assert (three.events[0].type, three.events[0].kv.mod_revision) == (1, 4)
    call.receive(cancel(0))
    canceled = take(call)
    assert [(response.watch_id, response.canceled, response.cancel_reason) for response in canceled] == [(0, True, "")]
    call.receive(cancel(0))
    bench.put(b"k")
    assert take(call) == []


def test_half_close_changes_nothing(bench):
    call = bench.stream(PATH, create())
    call.half_close()
    bench.put(b"k")
    assert len(take(call)) == 2
    assert not call.ended


def test_requests_that_mean_nothing_are_ignored(bench):
    call = bench.stream(PATH, pb.WatchRequest(), b"\xd2\x7f\x01a")
    assert (take(call), call.ended) == ([], False)


def test_watch_ids(bench):
    call = bench.stream(PATH, create(watch_id=1), create(), create(), create(watch_id=-5), create(watch_id=1))
    responses = take(call)
    assert [response.watch_id for response in responses] == [1, 0, 2, -5, -1]
    refused = responses[-1]
    assert refused.created
    assert refused.canceled
    assert refused.cancel_reason == "mvcc: duplicate watch ID provided on the WatchStream"
    call.receive(cancel(1))
    call.receive(create(watch_id=1))
    assert [(response.watch_id, response.created) for response in take(call)] == [(1, False), (1, True)]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"start_revision": -1}, errors.COMPACTED.text),
        ({"range_end": b"k"}, "mvcc: watcher range is empty"),
        ({"range_end": b"a"}, "mvcc: watcher range is empty"),
    ],
)
def test_watches_that_cannot_be(bench, fields, reason):
    call = bench.stream(PATH, create(watch_id=7, **fields))
    (response,) = take(call)
    assert (response.watch_id, response.created, response.canceled, response.cancel_reason) == (-1, True, True, reason)
    assert response.header.revision == 1
    assert not call.ended


def test_from_key_and_empty_key(bench):
    call = bench.stream(PATH, create(b"m", range_end=b"\0"), create(b"", range_end=b"\0"), create(b""))
    take(call)
    bench.put(b"a")
    bench.put(b"z")
    assert sorted((response.watch_id, response.header.revision) for response in take(call)) == [(0, 3), (1, 2), (1, 3)]


def test_filters(bench):
    call = bench.stream(PATH, create(filters=[0]), create(filters=[1]), create(filters=[9]))
    take(call)
    bench.put(b"k")
    assert sorted(response.watch_id for response in take(call)) == [1, 2]
    bench.delete(b"k")
    assert sorted(response.watch_id for response in take(call)) == [0, 2]


def test_the_past_comes_after_created(bench):
    for _ in range(3):
        bench.put(b"k")
    call = bench.stream(PATH, create(start_revision=2))
    bench.turns()
    created, past = take(call)
    assert created.created
    assert [event.kv.mod_revision for event in past.events] == [2, 3, 4]
    assert past.header.revision == 4


def test_the_compacted_past(bench):
    for _ in range(4):
        bench.put(b"k")
    bench.call("/etcdserverpb.KV/Compact", pb.CompactionRequest(revision=4))
    call = bench.stream(PATH, create(start_revision=3), create(b"x"), create(start_revision=4))
    bench.turns()
    by_id = {}
    for response in take(call):
        by_id.setdefault(response.watch_id, []).append(response)
    created, ended = by_id[0]
    assert created.created
    assert (ended.canceled, ended.compact_revision, ended.cancel_reason) == (True, 4, "")
    assert (ended.header.revision, ended.header.member_id) == (0, 7)
    assert [event.kv.mod_revision for event in by_id[2][1].events] == [4, 5]
    call.receive(PROGRESS)
    assert take(call) == [], "the one that is over keeps its id, and suppresses announcements"
    call.receive(cancel(0))
    assert [response.canceled for response in take(call)] == [True]
    call.receive(PROGRESS)
    assert [(response.watch_id, response.header.revision) for response in take(call)] == [(-1, 5)]


def test_progress_on_request(bench):
    call = bench.stream(PATH, PROGRESS)
    assert take(call) == [], "without watchers there is nothing to announce"
    bench.put(b"k")
    call.receive(create())
    call.receive(create(start_revision=1))
    call.receive(PROGRESS)
    assert [response.watch_id for response in take(call)] == [0, 1], "one of them has not caught up"
    bench.turns()
    call.receive(PROGRESS)
    responses = take(call)
    assert [response.watch_id for response in responses] == [1, -1]
    assert (responses[1].header.revision, len(responses[1].events)) == (2, 0)
    call.receive(create(start_revision=100))
    call.receive(PROGRESS)
    assert [response.created for response in take(call)] == [True], "a revision to come has not been reached"


def tick(bench):
    loop = bench.server.loop
    bench.turns()
    assert loop.timers
    loop.turn()


def test_progress_notifications(bench):
    call = bench.stream(PATH, create(progress_notify=True), create(b"quiet", progress_notify=True), create(b"none"))
    take(call)
    started = bench.server.loop.now_ns
    tick(bench)
    assert bench.server.loop.now_ns - started == SECOND + SECOND // 20, "the interval and up to a tenth"
    assert [(response.watch_id, response.header.revision) for response in take(call)] == [(0, 1), (1, 1)]
    bench.put(b"k")
    take(call)
    tick(bench)
    assert [(response.watch_id, len(response.events)) for response in take(call)] == [(1, 0)]
    tick(bench)
    assert [response.watch_id for response in take(call)] == [0, 1]
    call.receive(cancel(0))
    call.receive(cancel(1))
    take(call)
    tick(bench)
    assert (take(call), [timer for timer in bench.server.loop.timers if timer.call]) == ([], [])


def test_progress_ticks_have_the_streams_phase(bench):
    call = bench.stream(PATH)
    started = bench.server.loop.now_ns
    bench.server.loop.now_ns += SECOND // 2
    call.receive(create(progress_notify=True))
    tick(bench)
    assert bench.server.loop.now_ns - started == SECOND + SECOND // 20
    call.reset()
    assert [timer for timer in bench.server.loop.timers if timer.call] == []


def test_the_interval_has_a_minimum():
    assert Bench(watch_progress_ns=1).services.watch.progress_ns == SECOND // 10


def test_fragments():
    bench = Bench(ServerConfig(max_request_bytes=1000 - 512 * 1024))
    request = pb.TxnRequest(
        success=[pb.RequestOp(request_put=pb.PutRequest(key=b"k%d" % n, value=b"v" * 300)) for n in range(7)]
    )
    whole = bench.stream(PATH, create(range_end=b"l"))
    parts = bench.stream(PATH, create(range_end=b"l", fragment=True))
    take(whole)
    take(parts)
    bench.call("/etcdserverpb.KV/Txn", request)
    (one,) = take(whole)
    sizes = [len(message) for message in parts.messages]
    fragments = take(parts)
    assert len(one.events) == 7
    assert not one.fragment
    assert [response.fragment for response in fragments] == [True, True, False]
    assert [len(response.events) for response in fragments] == [2, 2, 3] or max(sizes) < 1000
    assert [event for response in fragments for event in response.events] == list(one.events)
    assert {(response.watch_id, response.header.revision) for response in fragments} == {(0, 2)}


def test_an_event_larger_than_the_limit_travels_alone():
    bench = Bench(ServerConfig(max_request_bytes=1000 - 512 * 1024))
    call = bench.stream(PATH, create(range_end=b"l", fragment=True))
    take(call)
    big = pb.RequestOp(request_put=pb.PutRequest(key=b"k0", value=b"v" * 3000))
    small = pb.RequestOp(request_put=pb.PutRequest(key=b"k1"))
    bench.call("/etcdserverpb.KV/Txn", pb.TxnRequest(success=[big, small]))
    assert [(len(response.events), response.fragment) for response in take(call)] == [(1, True), (1, False)]
    bench.put(b"k0", b"v" * 3000)
    assert [(len(response.events), response.fragment) for response in take(call)] == [(1, False)]


def test_an_event_is_framed_once_for_all(bench):
    calls = [bench.stream(PATH, create()) for _ in range(3)]
    for call in calls:
        take(call)
    bench.put(b"k")
    assert len({bytes(call.messages[0]) for call in calls}) == 1


def test_a_slow_client_misses_nothing(bench):
    call = bench.stream(PATH, create(b"k"))
    call.slow = True
    take(call)
    values = [b"%d" % number + b"v" * (SLOW_BYTES // 4) for number in range(12)]
    for value in values:
        bench.put(b"k", value)
    assert call.waiting < 2 * SLOW_BYTES
    seen = []
    for _ in range(40):
        seen += [event.kv.value for response in take(call) for event in response.events]
        call.drain()
        bench.server.loop.turn()
    assert seen == values


def test_a_client_that_asks_and_does_not_read_is_ended(bench):
    call = bench.stream(PATH)
    call.slow = True
    streams = bench.server.watch_hub.streams
    for number in range(10_000_000):
        call.receive(create(watch_id=number + 1))
        if call.ended:
            break
        call.waiting += 64 * 1024
    assert call.error.code == errors.RESOURCE_EXHAUSTED
    assert number < INBOX_BYTES // 64 + 1000
    assert bench.server.watch_hub.streams == streams - 1


def test_requests_that_waited_are_answered_in_order(bench):
    call = bench.stream(PATH)
    call.waiting = 100 << 20
    for number in range(1, 5):
        call.receive(create(watch_id=number))
    assert take(call) == []
    call.drain()
    assert [response.watch_id for response in take(call)] == [1, 2, 3, 4]


def test_the_end_of_a_call_ends_its_watchers(bench):
    call = bench.stream(PATH, create(), create(b"x", start_revision=1))
    assert bench.server.watch_hub.watchers == 2
    call.reset()
    assert (bench.server.watch_hub.watchers, bench.server.watch_hub.streams) == (0, 0)
    bench.put(b"k")
    bench.turns()
