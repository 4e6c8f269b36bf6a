"""Lease: grants and looks, and the stream of keep-alives."""

import pytest

from quorate import errors
from quorate.proto import rpc_pb2 as pb
from tests.api.fakes import Bench, text_of

PREFIX = "/etcdserverpb.Lease/"
ALIVE = PREFIX + "LeaseKeepAlive"


@pytest.fixture
def bench():
    return Bench()


def grant(bench, lease_id=5, ttl=60):
    request = pb.LeaseGrantRequest(ID=lease_id, TTL=ttl)
    return bench.answer(PREFIX + "LeaseGrant", request, pb.LeaseGrantResponse)


def keep(lease_id):
    return pb.LeaseKeepAliveRequest(ID=lease_id)


def take(call):
    return [(response.ID, response.TTL) for response in call.take(pb.LeaseKeepAliveResponse)]


def test_grant(bench):
    response = grant(bench, 5, 1)
    assert (response.ID, response.TTL, response.header.revision) == (5, 2, 1)
    assert grant(bench, 0).ID != 0
    request = pb.LeaseGrantRequest(ID=5, TTL=60)
    assert bench.error(PREFIX + "LeaseGrant", request) == text_of(errors.LEASE_EXIST)
    request = pb.LeaseGrantRequest(TTL=9_000_000_001)
    assert bench.error(PREFIX + "LeaseGrant", request) == text_of(errors.LEASE_TTL_TOO_LARGE)
    bench.server.room = False
    assert bench.error(PREFIX + "LeaseGrant", pb.LeaseGrantRequest(TTL=5)) == text_of(errors.NO_SPACE)


def test_revoke_deletes_keys(bench):
    grant(bench)
    bench.put(b"k", lease=5)
    request = pb.LeaseRevokeRequest(ID=5)
    assert bench.answer(PREFIX + "LeaseRevoke", request, pb.LeaseRevokeResponse).header.revision == 3
    assert bench.get(b"k") is None
    assert bench.error(PREFIX + "LeaseRevoke", request) == text_of(errors.LEASE_NOT_FOUND)


def test_time_to_live(bench):
    grant(bench)
    bench.put(b"b", lease=5)
    bench.put(b"a", lease=5)
    bench.server.loop.now_ns += 10_500_000_000
    response = bench.answer(
        PREFIX + "LeaseTimeToLive", pb.LeaseTimeToLiveRequest(ID=5, keys=True), pb.LeaseTimeToLiveResponse
    )
    assert (response.ID, response.TTL, response.grantedTTL, list(response.keys)) == (5, 49, 60, [b"a", b"b"])
    assert response.header.revision == 3
    response = bench.answer(PREFIX + "LeaseTimeToLive", pb.LeaseTimeToLiveRequest(ID=5), pb.LeaseTimeToLiveResponse)
    assert list(response.keys) == []
    response = bench.answer(
        PREFIX + "LeaseTimeToLive", pb.LeaseTimeToLiveRequest(ID=6, keys=True), pb.LeaseTimeToLiveResponse
    )
    assert (response.ID, response.TTL, response.grantedTTL) == (6, -1, 0)
    bench.server.outcome = errors.LEADER_CHANGED
    assert bench.error(PREFIX + "LeaseTimeToLive", pb.LeaseTimeToLiveRequest(ID=5)) == text_of(errors.LEADER_CHANGED)


def test_leases(bench):
    grant(bench, 5, 60)
    grant(bench, 6, 30)
    response = bench.answer(PREFIX + "LeaseLeases", pb.LeaseLeasesRequest(), pb.LeaseLeasesResponse)
    assert [status.ID for status in response.leases] == [6, 5]


def test_keep_alive_answers_each_request(bench):
    grant(bench)
    call = bench.stream(ALIVE, keep(5), keep(6), keep(5))
    assert take(call) == [(5, 60), (6, 0), (5, 60)]
    call.half_close()
    assert call.finished


def test_keep_alive_answers_in_order_and_with_the_header_of_before(bench):
    grant(bench)
    bench.server.hold = True
    call = bench.stream(ALIVE, keep(5), keep(6))
    call.half_close()
    bench.server.hold = False
    bench.put(b"k")
    bench.server.release()
    first, second = call.take(pb.LeaseKeepAliveResponse)
    assert (first.ID, first.header.revision, second.ID, second.header.revision) == (5, 1, 6, 2)
    assert call.finished


def test_keep_alive_ends_at_an_error(bench):
    bench.server.outcome = errors.TIMEOUT
    call = bench.stream(ALIVE, keep(5), keep(6))
    assert call.error is errors.TIMEOUT
    bench.server.outcome = errors.LEASE_NOT_FOUND
    call = bench.stream(ALIVE, keep(5))
    assert take(call) == [(5, 0)]


def test_keep_alive_of_a_client_that_has_gone(bench):
    bench.server.hold = True
    call = bench.stream(ALIVE, keep(5), keep(6))
    call.reset()
    bench.server.release()
    assert call.messages == []


def test_keep_alive_waits_for_a_slow_client(bench):
    grant(bench)
    call = bench.stream(ALIVE)
    call.waiting = 2 << 20
    for _ in range(10):
        call.receive(keep(5))
    assert take(call) == []
    call.drain()
    assert len(take(call)) == 10
    call.waiting = 2 << 20
    for _ in range(100_000):
        call.receive(keep(5))
    assert call.error.code == errors.RESOURCE_EXHAUSTED


def test_many_keep_alives_at_once_do_not_nest(bench):
    grant(bench)
    bench.server.hold = True
    call = bench.stream(ALIVE, *[keep(5) for _ in range(5000)])
    bench.server.hold = False
    bench.server.release()
    assert len(take(call)) == 5000
