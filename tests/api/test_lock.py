"""Lock and Election: who gets in, in which order, and what is left when somebody goes away."""

import pytest

from quorate import errors
from quorate.api.steps import prefix_end
from quorate.proto import rpc_pb2 as pb
from quorate.proto.v3election_pb2 import (
    CampaignRequest,
    CampaignResponse,
    LeaderKey,
    LeaderRequest,
    LeaderResponse,
    ProclaimRequest,
    ProclaimResponse,
    ResignRequest,
    ResignResponse,
)
from quorate.proto.v3lock_pb2 import LockRequest, LockResponse, UnlockRequest, UnlockResponse
from tests.api.fakes import Bench

LOCK, UNLOCK = "/v3lockpb.Lock/Lock", "/v3lockpb.Lock/Unlock"
ELECTION = "/v3electionpb.Election/"


@pytest.fixture
def bench():
    bench = Bench()
    for lease in (1, 2, 3, 255):
        bench.call("/etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantRequest(ID=lease, TTL=60))
    bench.server.logged.clear()
    return bench


def lock(bench, lease, name=b"name"):
    return bench.call(LOCK, LockRequest(name=name, lease=lease))


def unlock(bench, key):
    return bench.answer(UNLOCK, UnlockRequest(key=key), UnlockResponse)


def got(call):
    assert call.error is None
    (response,) = call.take(LockResponse)
    return response


def keys(bench, prefix=b"name/"):
    request = pb.RangeRequest(key=prefix, range_end=prefix_end(prefix))
    return [kv.key for kv in bench.answer("/etcdserverpb.KV/Range", request, pb.RangeResponse).kvs]


def test_prefix_end():
    assert prefix_end(b"a/") == b"a0"
    assert prefix_end(b"a\xff\xff") == b"b"
    assert prefix_end(b"\xff") == b"\0"


# Lock


def test_a_free_lock(bench):
    response = got(lock(bench, 255))
    assert (response.key, response.header.revision) == (b"name/ff", 2)
    assert bench.get(b"name/ff").lease == 255
    assert got(lock(bench, 255)).key == b"name/ff", "it is held by the same lease"
    assert unlock(bench, b"name/ff").header.revision == 3
    assert unlock(bench, b"name/ff").header.revision == 3


def test_a_lock_without_a_lease_gets_one(bench):
    key = got(lock(bench, 0)).key
    lease = bench.get(key).lease
    assert key == b"name/%x" % lease
    assert bench.server.lessor.lookup(lease).ttl_s == 60


def test_waiters_go_in_order(bench):
    first, second, third = got(lock(bench, 1)), lock(bench, 2), lock(bench, 3)
    assert not second.ended
    unlock(bench, first.key)
    bench.turns()
    assert got(second).key == b"name/2"
    assert not third.ended
    unlock(bench, b"name/2")
    bench.turns()
    assert got(third).header.revision == 6
    assert (bench.server.watch_hub.watchers, bench.server.watch_hub.streams) == (0, 0)


def test_a_waiter_in_the_middle_goes_away(bench):
    got(lock(bench, 1))
    second, third = lock(bench, 2), lock(bench, 3)
    second.reset()
    bench.turns()
    assert keys(bench) == [b"name/1", b"name/3"]
    assert not third.ended
    unlock(bench, b"name/1")
    bench.turns()
    assert got(third).key == b"name/3"
    assert bench.server.watch_hub.streams == 0


def test_a_waiter_whose_lease_ends(bench):
    got(lock(bench, 1))
    second = lock(bench, 2)
    bench.call("/etcdserverpb.Lease/LeaseRevoke", pb.LeaseRevokeRequest(ID=2))
    bench.turns()
    assert not second.ended
    unlock(bench, b"name/1")
    bench.turns()
    assert (second.error.code, second.error.text) == (errors.UNKNOWN, "mutex: session is expired")


def test_a_caller_that_goes_away_before_the_answer_leaves_nothing(bench):
    bench.server.hold = True
    call = lock(bench, 1)
    call.reset()
    bench.server.hold = False
    bench.server.release()
    assert keys(bench) == []


def test_a_caller_that_goes_away_does_not_release_what_its_lease_held_before(bench):
    got(lock(bench, 1))
    bench.server.hold = True
    lock(bench, 1).reset()
    bench.server.hold = False
    bench.server.release()
    assert keys(bench) == [b"name/1"]


def test_lock_errors(bench):
    call = lock(bench, 12345)
    assert (call.error.code, call.error.text) == (errors.UNKNOWN, "etcdserver: requested lease not found")
    text = "etcdserver: key is not provided"
    assert bench.error(UNLOCK, UnlockRequest()) == (errors.UNKNOWN, text)
    bench.server.room = False
    assert lock(bench, 0).error.text == "etcdserver: mvcc: database space exceeded"
    assert lock(bench, 1).error.text == "etcdserver: mvcc: database space exceeded"


def test_waiting_survives_compaction(bench):
    got(lock(bench, 1))
    second = lock(bench, 2)
    for _ in range(3):
        bench.put(b"else")
    bench.call("/etcdserverpb.KV/Compact", pb.CompactionRequest(revision=6))
    unlock(bench, b"name/1")
    bench.turns()
    assert got(second).key == b"name/2"


# Election


def campaign(bench, lease, value=b"v"):
    return bench.call(ELECTION + "Campaign", CampaignRequest(name=b"name", lease=lease, value=value))


def leader_of(call):
    assert call.error is None
    (response,) = call.take(CampaignResponse)
    return response


def leader(bench):
    return bench.answer(ELECTION + "Leader", LeaderRequest(name=b"name"), LeaderResponse).kv.value


def test_campaign_and_succession(bench):
    assert bench.error(ELECTION + "Leader", LeaderRequest(name=b"name")) == (errors.UNKNOWN, "election: no leader")
    first = leader_of(campaign(bench, 1, b"a"))
    assert first.leader == LeaderKey(name=b"name", key=b"name/1", rev=2, lease=1)
    assert first.header.revision == 2
    second = campaign(bench, 2, b"b")
    assert leader(bench) == b"a"
    resigned = bench.answer(ELECTION + "Resign", ResignRequest(leader=first.leader), ResignResponse)
    assert resigned.header.revision == 4
    bench.turns()
    response = leader_of(second)
    assert (response.leader.rev, response.header.revision) == (3, 3)
    assert leader(bench) == b"b"
    assert bench.call(ELECTION + "Resign", ResignRequest(leader=first.leader)).error is None


def test_campaign_again_with_another_value(bench):
    leader_of(campaign(bench, 1, b"a"))
    response = leader_of(campaign(bench, 1, b"b"))
    assert response.leader.rev == 2
    assert leader(bench) == b"b"


def test_campaign_without_a_lease_gets_one(bench):
    lease = leader_of(campaign(bench, 0)).leader.lease
    assert bench.server.lessor.lookup(lease).ttl_s == 60


def test_a_candidate_that_goes_away_resigns(bench):
    leader_of(campaign(bench, 1))
    campaign(bench, 2).reset()
    bench.turns()
    assert keys(bench) == [b"name/1"]
    bench.server.hold = True
    campaign(bench, 3).reset()
    bench.server.hold = False
    bench.server.release()
    assert keys(bench) == [b"name/1"]


def test_proclaim(bench):
    won = leader_of(campaign(bench, 1, b"a")).leader
    response = bench.answer(ELECTION + "Proclaim", ProclaimRequest(leader=won, value=b"b"), ProclaimResponse)
    assert response.header.revision == 3
    assert leader(bench) == b"b"
    won.rev = 99
    not_leader = (errors.UNKNOWN, "election: not leader")
    assert bench.error(ELECTION + "Proclaim", ProclaimRequest(leader=won, value=b"c")) == not_leader


@pytest.mark.parametrize("name", ["Proclaim", "Resign"])
def test_requests_without_a_leader(bench, name):
    assert bench.error(ELECTION + name, b"") == (errors.UNKNOWN, '"leader" field must be provided')
    code, text = bench.error(ELECTION + name, ResignRequest(leader=LeaderKey(lease=1)))
    assert (code, text) == (errors.UNKNOWN, "etcdserver: key is not provided")


def observe(bench):
    return bench.stream(ELECTION + "Observe", LeaderRequest(name=b"name"))


def seen(bench, call):
    bench.turns()
    return [(response.header.revision, response.kv.value) for response in call.take(LeaderResponse)]


def test_observe_follows_the_leaders(bench):
    call = observe(bench)
    assert seen(bench, call) == []
    first = leader_of(campaign(bench, 1, b"a")).leader
    assert seen(bench, call) == [(2, b"a")]
    for value in (b"b", b"c"):
        bench.call(ELECTION + "Proclaim", ProclaimRequest(leader=first, value=value))
    assert seen(bench, call) == [(3, b"b"), (4, b"c")]
    campaign(bench, 2, b"d")
    assert seen(bench, call) == []
    bench.call(ELECTION + "Resign", ResignRequest(leader=first))
    assert seen(bench, call) == [(6, b"d")]
    late = observe(bench)
    assert seen(bench, late) == [(6, b"d")]
    call.reset()
    late.reset()
    bench.turns()
    assert (bench.server.watch_hub.streams, bench.server.watch_hub.watchers) == (0, 0)


def test_observe_of_a_slow_client(bench):
    won = leader_of(campaign(bench, 1, b"0")).leader
    call = observe(bench)
    bench.turns()
    call.waiting = 2 << 20
    for number in range(1, 300):
        bench.call(ELECTION + "Proclaim", ProclaimRequest(leader=won, value=b"%d" % number))
    bench.turns()
    assert len(call.messages) < 150
    for _ in range(50):
        call.drain()
        bench.server.loop.turn()
    assert [value for _, value in seen(bench, call)] == [b"%d" % number for number in range(300)]


def test_observe_ends_quietly_when_it_cannot_read(bench):
    bench.server.range = lambda request, done: done.fail(errors.TIMEOUT)
    call = observe(bench)
    assert call.finished
    assert call.error is None
