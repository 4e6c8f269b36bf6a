"""Cluster, Maintenance, Auth and Health."""

import hashlib

import pytest

from quorate import errors
from quorate.api.snapshot import BLOB_BYTES
from quorate.membership.version import Downgrade
from quorate.proto import health_pb2
from quorate.proto import rpc_pb2 as pb
from tests.api.fakes import Bench, text_of

CLUSTER, MAINTENANCE = "/etcdserverpb.Cluster/", "/etcdserverpb.Maintenance/"
AUTH, HEALTH = "/etcdserverpb.Auth/", "/grpc.health.v1.Health/"


@pytest.fixture
def bench():
    return Bench()


# Cluster


def test_member_list(bench):
    response = bench.answer(CLUSTER + "MemberList", pb.MemberListRequest(linearizable=True), pb.MemberListResponse)
    assert (response.header.cluster_id, response.header.member_id, response.header.revision) == (99, 7, 0)
    (member,) = response.members
    assert (member.ID, member.name, member.isLearner) == (7, "m1", False)
    assert (list(member.peerURLs), list(member.clientURLs)) == (["http://p:1"], ["http://c:1"])
    bench.server.read_error = errors.TIMEOUT
    assert bench.error(CLUSTER + "MemberList", pb.MemberListRequest(linearizable=True)) == text_of(errors.TIMEOUT)
    assert bench.call(CLUSTER + "MemberList", pb.MemberListRequest()).error is None


def test_member_add(bench):
    request = pb.MemberAddRequest(peerURLs=["http://b:1", "http://a:1"], isLearner=True)
    response = bench.answer(CLUSTER + "MemberAdd", request, pb.MemberAddResponse)
    assert bench.server.asked == [("add", ["http://a:1", "http://b:1"], True)]
    assert (response.member.ID, list(response.member.peerURLs)) == (8, ["http://a:1", "http://b:1"])
    assert response.member.isLearner
    assert [member.ID for member in response.members] == [7, 8]
    bench.server.outcome = errors.TOO_MANY_LEARNERS
    assert bench.error(CLUSTER + "MemberAdd", request) == text_of(errors.TOO_MANY_LEARNERS)


@pytest.mark.parametrize("urls", [[], [""], ["http://a:1/x"], ["a:1"], ["http://a"]])
def test_bad_urls(bench, urls):
    assert bench.error(CLUSTER + "MemberAdd", pb.MemberAddRequest(peerURLs=urls)) == text_of(errors.MEMBER_BAD_URLS)
    update = pb.MemberUpdateRequest(ID=7, peerURLs=urls)
    assert bench.error(CLUSTER + "MemberUpdate", update) == text_of(errors.MEMBER_BAD_URLS)
    assert bench.server.asked == []


@pytest.mark.parametrize(
    ("name", "request_", "asked"),
    [
        ("MemberRemove", pb.MemberRemoveRequest(ID=7), ("remove", 7)),
        (
            "MemberUpdate",
            pb.MemberUpdateRequest(ID=7, peerURLs=["http://b:1", "http://a:1"]),
            ("update", 7, ["http://b:1", "http://a:1"]),
        ),
        ("MemberPromote", pb.MemberPromoteRequest(ID=7), ("promote", 7)),
    ],
)
def test_other_changes(bench, name, request_, asked):
    response = bench.answer(CLUSTER + name, request_, pb.MemberListResponse)
    assert [member.ID for member in response.members] == [7]
    assert bench.server.asked == [asked]
    bench.server.outcome = errors.MEMBER_NOT_FOUND
    assert bench.error(CLUSTER + name, request_) == text_of(errors.MEMBER_NOT_FOUND)


# Maintenance


def test_status(bench):
    bench.server.backend.put(b"meta", b"storageVersion", b"3.6.0")
    response = bench.answer(MAINTENANCE + "Status", pb.StatusRequest(), pb.StatusResponse)
    assert (response.version, response.storageVersion, response.leader) == ("3.6.14", "3.6.0", 7)
    assert (response.raftIndex, response.raftTerm, response.raftAppliedIndex) == (12, 2, 11)
    assert (response.dbSize, response.dbSizeInUse, response.dbSizeQuota) == (20480, 16384, 2147483648)
    assert response.HasField("downgradeInfo")
    assert not response.downgradeInfo.enabled
    assert (response.header.revision, list(response.errors)) == (1, [])


def test_status_of_a_file_that_does_not_name_its_version(bench):
    assert bench.answer(MAINTENANCE + "Status", pb.StatusRequest(), pb.StatusResponse).storageVersion == ""
    bench.server.backend.put(b"meta", b"term", bytes(7) + b"\2")
    assert bench.answer(MAINTENANCE + "Status", pb.StatusRequest(), pb.StatusResponse).storageVersion == "3.5.0"


def test_status_of_a_member_in_trouble(bench):
    bench.server.lead = 0
    bench.server.alarms.activate(2, 77)
    bench.server.alarms.activate(1, 0)
    bench.server.cluster.downgrade = Downgrade(True, "3.5.0")
    response = bench.answer(MAINTENANCE + "Status", pb.StatusRequest(), pb.StatusResponse)
    assert list(response.errors) == ["etcdserver: no leader", "alarm:NOSPACE ", "memberID:77 alarm:CORRUPT "]
    assert (response.downgradeInfo.enabled, response.downgradeInfo.targetVersion) == (True, "3.5.0")


def test_alarms(bench):
    activate = pb.AlarmRequest(action=1, memberID=77, alarm=1)
    response = bench.answer(MAINTENANCE + "Alarm", activate, pb.AlarmResponse)
    assert [(alarm.memberID, alarm.alarm) for alarm in response.alarms] == [(77, 1)]
    for request in (pb.AlarmRequest(action=7), pb.AlarmRequest(action=1, alarm=9), pb.AlarmRequest(action=-1)):
        assert bench.error(MAINTENANCE + "Alarm", request)[0] == errors.INVALID_ARGUMENT
    assert len(bench.server.logged) == 1


def test_hashes(bench):
    call = bench.call(MAINTENANCE + "Hash", pb.HashRequest())
    bench.turns()
    (response,) = call.take(pb.HashResponse)
    assert (response.hash, response.header.revision) == (4242, 1)
    bench.put(b"k")
    call = bench.call(MAINTENANCE + "HashKV", pb.HashKVRequest())
    bench.turns()
    (response,) = call.take(pb.HashKVResponse)
    assert (response.hash_revision, response.compact_revision, response.header.revision) == (2, -1, 2)
    assert response.hash != 0
    assert bench.error(MAINTENANCE + "HashKV", pb.HashKVRequest(revision=9)) == text_of(errors.FUTURE_REV)


def test_defragment(bench):
    call = bench.call(MAINTENANCE + "Defragment", pb.DefragmentRequest())
    assert not call.ended
    bench.turns()
    assert call.messages == [b""]
    bench.server.backend.defragmentation = OSError("no space left on device")
    call = bench.call(MAINTENANCE + "Defragment", pb.DefragmentRequest())
    bench.turns()
    assert (call.error.code, call.error.text) == (errors.UNKNOWN, "no space left on device")


def test_move_leader(bench):
    request = pb.MoveLeaderRequest(targetID=8)
    bench.server.outcome = errors.BAD_LEADER_TRANSFEREE
    assert bench.error(MAINTENANCE + "MoveLeader", request) == text_of(errors.BAD_LEADER_TRANSFEREE)
    bench.server.outcome = None
    assert bench.call(MAINTENANCE + "MoveLeader", request).messages == [b""]
    bench.server.lead = 8
    assert bench.error(MAINTENANCE + "MoveLeader", request) == text_of(errors.NOT_LEADER)


def test_downgrade(bench):
    for version in ("3.5", "3.5.0", "3.5.7"):
        request = pb.DowngradeRequest(action=0, version=version)
        assert bench.answer(MAINTENANCE + "Downgrade", request, pb.DowngradeResponse).version == "3.6"
    assert bench.server.asked == [("downgrade", 0, "3.5.0")] * 3
    assert bench.answer(MAINTENANCE + "Downgrade", pb.DowngradeRequest(action=2), pb.DowngradeResponse).version == "3.6"
    wrong = text_of(errors.WRONG_DOWNGRADE_VERSION_FORMAT)
    assert bench.error(MAINTENANCE + "Downgrade", pb.DowngradeRequest(action=1, version="x")) == wrong
    assert bench.error(MAINTENANCE + "Downgrade", pb.DowngradeRequest(action=9)) == text_of(errors.UNKNOWN_METHOD)
    bench.server.outcome = errors.DOWNGRADE_IN_PROCESS
    request = pb.DowngradeRequest(action=1, version="3.5")
    assert bench.error(MAINTENANCE + "Downgrade", request) == text_of(errors.DOWNGRADE_IN_PROCESS)


@pytest.fixture
def snapshots(bench):
    bench.server.backend.put(b"meta", b"storageVersion", b"3.6.0")
    bench.server.backend.snapshot_view = bench.server.backend.file_view
    return bench


@pytest.mark.parametrize("size", [1, BLOB_BYTES, 8 * BLOB_BYTES, 20 * BLOB_BYTES + 4096])
def test_snapshot(snapshots, size):
    backend = snapshots.server.backend
    backend.file = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    call = snapshots.stream(MAINTENANCE + "Snapshot", pb.SnapshotRequest())
    snapshots.turns(200)
    assert call.finished
    *blobs, last = call.take(pb.SnapshotResponse)
    assert b"".join(response.blob for response in blobs) == backend.file
    assert {len(response.blob) for response in blobs[:-1]} <= {BLOB_BYTES}
    rest = size
    for response in blobs:
        rest -= len(response.blob)
        assert (response.remaining_bytes, response.version) == (rest, "3.6.0")
    assert (last.blob, last.remaining_bytes) == (hashlib.sha256(backend.file).digest(), 0)
    assert not last.HasField("header")
    assert backend.views[0].closed


def test_snapshot_waits_for_a_slow_client(snapshots):
    backend = snapshots.server.backend
    backend.file = b"x" * (100 * BLOB_BYTES)
    call = snapshots.stream(MAINTENANCE + "Snapshot", pb.SnapshotRequest())
    call.slow = True
    most = 0
    for _ in range(1000):
        snapshots.turns(50)
        most = max(most, call.waiting)
        if call.ended:
            break
        call.drain()
    assert call.finished
    assert most < 30 * BLOB_BYTES
    assert len(call.messages) == 101


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_snapshot_of_a_client_that_goes_away(snapshots, turns):
    backend = snapshots.server.backend
    backend.file = b"x" * (100 * BLOB_BYTES)
    call = snapshots.stream(MAINTENANCE + "Snapshot", pb.SnapshotRequest())
    snapshots.turns(turns)
    call.reset()
    snapshots.turns(200)
    assert backend.views[0].closed


def test_snapshot_of_a_file_that_cannot_be_read(snapshots):
    snapshots.server.backend.file = b"x" * BLOB_BYTES
    call = snapshots.stream(MAINTENANCE + "Snapshot", pb.SnapshotRequest())
    snapshots.server.loop.turn()
    snapshots.server.backend.views[0].closed = True
    snapshots.turns()
    assert call.error.code == errors.UNKNOWN


def test_auth_is_off(bench):
    response = bench.answer(AUTH + "AuthStatus", pb.AuthStatusRequest(), pb.AuthStatusResponse)
    assert (response.enabled, response.authRevision, response.header.revision) == (False, 1, 1)
    request = pb.AuthenticateRequest(name="root", password="x")
    assert bench.error(AUTH + "Authenticate", request) == text_of(errors.AUTH_NOT_ENABLED)
    assert bench.answer(AUTH + "AuthDisable", b"", pb.AuthDisableResponse).header.revision == 1
    bench.server.read_error = errors.TIMEOUT
    for name in ("AuthStatus", "Authenticate", "UserList"):
        assert bench.error(AUTH + name, b"") == text_of(errors.TIMEOUT)


def test_every_method_of_etcd_is_there(bench):
    services = {
        "etcdserverpb.KV": ["Range", "Put", "DeleteRange", "Txn", "Compact"],
        "etcdserverpb.Watch": ["Watch"],
        "etcdserverpb.Lease": ["LeaseGrant", "LeaseRevoke", "LeaseKeepAlive", "LeaseTimeToLive", "LeaseLeases"],
        "etcdserverpb.Cluster": ["MemberAdd", "MemberRemove", "MemberUpdate", "MemberList", "MemberPromote"],
        "etcdserverpb.Maintenance": [
            "Alarm", "Status", "Defragment", "Hash", "HashKV", "Snapshot", "MoveLeader", "Downgrade",
        ],
        "etcdserverpb.Auth": [
            "AuthEnable", "AuthDisable", "AuthStatus", "Authenticate", "UserAdd", "UserGet", "UserList", "UserDelete",
            "UserChangePassword", "UserGrantRole", "UserRevokeRole", "RoleAdd", "RoleGet", "RoleList", "RoleDelete",
            "RoleGrantPermission", "RoleRevokePermission",
        ],
        "v3lockpb.Lock": ["Lock", "Unlock"],
        "v3electionpb.Election": ["Campaign", "Proclaim", "Leader", "Observe", "Resign"],
        "grpc.health.v1.Health": ["Check", "Watch"],
    }  # fmt: skip
    expected = {f"/{service}/{method}".encode() for service, methods in services.items() for method in methods}
    assert set(bench.router.methods) == expected


# Health


def test_health(bench):
    serving = health_pb2.HealthCheckResponse
    assert bench.answer(HEALTH + "Check", b"", serving).status == 1
    request = health_pb2.HealthCheckRequest(service="x")
    assert bench.error(HEALTH + "Check", request) == (errors.NOT_FOUND, "unknown service")
    call = bench.stream(HEALTH + "Watch", b"")
    assert [response.status for response in call.take(serving)] == [1]
    call.half_close()
    assert not call.ended
    call = bench.stream(HEALTH + "Watch", request)
    assert [response.status for response in call.take(serving)] == [3]
