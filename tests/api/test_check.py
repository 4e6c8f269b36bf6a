"""What every call passes: learners, client versions, leaders, parsing, and canonical bytes for the log."""

import pytest

from quorate import errors
from quorate.proto import rpc_pb2 as pb
from tests.api.fakes import NO_LEADER, Bench, text_of

RANGE, PUT = "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put"
STATUS, LIST = "/etcdserverpb.Maintenance/Status", "/etcdserverpb.Cluster/MemberList"
WATCH, SNAPSHOT = "/etcdserverpb.Watch/Watch", "/etcdserverpb.Maintenance/Snapshot"
LEASE = "/etcdserverpb.Lease/LeaseKeepAlive"
NEEDS_LEADER = {b"hasleader": b"true"}


def test_a_learner_serves_little():
    bench = Bench()
    bench.server.cluster.members[7].is_learner = True
    refused = text_of(errors.NOT_SUPPORTED_FOR_LEARNER)
    assert bench.error(RANGE, pb.RangeRequest(key=b"k")) == refused
    assert bench.error(PUT, pb.PutRequest(key=b"k")) == refused
    assert bench.error(LIST, pb.MemberListRequest()) == refused
    assert bench.error("/grpc.health.v1.Health/Check", b"") == refused
    assert bench.stream(WATCH).error is errors.NOT_SUPPORTED_FOR_LEARNER
    assert bench.call(RANGE, pb.RangeRequest(key=b"k", serializable=True)).error is None
    assert bench.call(STATUS, pb.StatusRequest()).error is None
    assert bench.stream(SNAPSHOT, pb.SnapshotRequest()).error is None
    assert bench.error(RANGE, b"\xff")[0] == errors.INTERNAL


def test_client_versions_are_checked_and_counted():
    bench = Bench()
    for version in (b"3.5", b"3.5", b"3.6"):
        bench.call(STATUS, b"", {b"client-api-version": version})
    bench.call(STATUS, b"")
    bench.stream(WATCH, metadata={b"client-api-version": b"3.4"})
    refused = text_of(errors.INVALID_CLIENT_API_VERSION)
    assert bench.error(STATUS, b"", {b"client-api-version": b"\xff"}) == refused
    assert bench.stream(WATCH, metadata={b"client-api-version": b"\xff"}).error is errors.INVALID_CLIENT_API_VERSION
    guard = bench.services.guard
    assert guard.unary_calls == {b"3.5": 2, b"3.6": 1, b"unknown": 1}
    assert guard.stream_calls == {b"3.4": 1}


def test_client_versions_do_not_fill_the_memory():
    bench = Bench()
    for number in range(1000):
        bench.call(STATUS, b"", {b"client-api-version": b"%d" % number})
    counts = bench.services.guard.unary_calls
    assert len(counts) == 65
    assert sum(counts.values()) == 1000


def test_calls_that_need_a_leader():
    bench = Bench()
    assert bench.call(STATUS, b"", NEEDS_LEADER).error is None
    bench.server.lead = 0
    assert bench.error(STATUS, b"", NEEDS_LEADER) == NO_LEADER
    assert bench.call(STATUS, b"", {b"hasleader": b"yes"}).error is None
    assert bench.call(STATUS, b"").error is None
    assert bench.stream(WATCH, metadata=NEEDS_LEADER).error is errors.NO_LEADER


@pytest.mark.parametrize("path", [WATCH, LEASE])
def test_streams_that_need_a_leader_end_without_one(path):
    bench = Bench()
    needing = bench.stream(path, metadata=NEEDS_LEADER)
    other = bench.stream(path)
    over = bench.stream(path, metadata=NEEDS_LEADER)
    over.reset()
    watchers = bench.server.watch_hub.streams
    for call in bench.server.no_leader_calls:
        call()
    assert needing.error is errors.NO_LEADER
    assert other.error is None
    assert over.error is None
    if path == WATCH:
        assert bench.server.watch_hub.streams == watchers - 1


def test_ended_streams_that_needed_a_leader_are_forgotten():
    bench = Bench()
    for _ in range(1000):
        bench.stream(WATCH, metadata=NEEDS_LEADER).reset()
    assert len(bench.services.guard._needing_leader) <= 64


def test_malformed_requests():
    bench = Bench()
    text = "grpc: error unmarshalling request: unexpected EOF"
    for path, method in bench.router.methods.items():
        if method.unary is not None:
            assert bench.error(path.decode(), b"\xff") == (errors.INTERNAL, text)
    wrong = "grpc: error unmarshalling request: proto: wrong wireType = 0 for field Key"
    assert bench.error(PUT, b"\x08\x01") == (errors.INTERNAL, wrong)
    assert bench.error(RANGE, b"\x08\x01") == (errors.INTERNAL, wrong)
    wrong = "grpc: error unmarshalling request: proto: wrong wireType = 3 for field Linearizable"
    assert bench.error("/etcdserverpb.Cluster/MemberList", b"\x0b\x0c") == (errors.INTERNAL, wrong)


def test_only_canonical_bytes_go_into_the_log():
    bench = Bench()
    request = pb.PutRequest(key=b"k", value=b"v", lease=0).SerializeToString()
    for raw in (
        request,
        b"\x12\x01v\x0a\x01k",
        request + b"\xd2\x7f\x01a",
        b"\x0a\x01j" + request,
        request + b"\x18\x00",
    ):
        bench.call(PUT, raw)
    assert bench.server.logged == [request] * 5
    assert bench.get(b"k").version == 5


def test_streams_end_at_malformed_messages():
    bench = Bench()
    for path in (WATCH, LEASE):
        call = bench.stream(path, b"\xff")
        assert call.error.text == "grpc: failed to unmarshal the received message: unexpected EOF"
    assert bench.stream(SNAPSHOT, b"\xff").error.code == errors.INTERNAL
    call = bench.stream(SNAPSHOT)
    call.half_close()
    assert call.error.code == errors.UNKNOWN
