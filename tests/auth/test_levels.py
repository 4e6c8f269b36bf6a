"""Who may do what, for every RPC, at the level of etcd 3.6.14; the tests name what 3.5.1 does otherwise."""

from __future__ import annotations

import pytest

from quorate import errors
from quorate.auth.jwt import JwtTokens
from quorate.auth.password import TOO_LONG
from quorate.http.health import Health
from quorate.ports import NullLog
from quorate.proto import rpc_pb2 as pb
from quorate.proto.auth_pb2 import Permission
from quorate.proto.v3election_pb2 import CampaignRequest
from quorate.proto.v3lock_pb2 import LockRequest
from quorate.server.config import ServerConfig
from tests.auth.world import AUTH, KV, LEASE, READWRITE, WRITE, Call, World, guarded

CLUSTER, MAINTENANCE = "/etcdserverpb.Cluster/", "/etcdserverpb.Maintenance/"
DENIED, EMPTY = errors.PERMISSION_DENIED_ERROR, errors.USER_EMPTY


@pytest.fixture
def shared() -> tuple[World, bytes, bytes]:
    """A world with authentication, the tokens of root and of a user."""
    return guarded()


ROOT_ONLY = {
    KV + "Compact": pb.CompactionRequest(revision=0),
    MAINTENANCE + "Defragment": pb.DefragmentRequest(),
    MAINTENANCE + "Hash": pb.HashRequest(),
    MAINTENANCE + "HashKV": pb.HashKVRequest(),
    MAINTENANCE + "MoveLeader": pb.MoveLeaderRequest(targetID=5),
    MAINTENANCE + "Downgrade": pb.DowngradeRequest(version="x"),
    MAINTENANCE + "Alarm": pb.AlarmRequest(action=pb.AlarmRequest.DEACTIVATE, alarm=pb.NOSPACE),
    CLUSTER + "MemberAdd": pb.MemberAddRequest(peerURLs=["http://127.0.0.1:1"]),
    CLUSTER + "MemberRemove": pb.MemberRemoveRequest(ID=5),
    CLUSTER + "MemberUpdate": pb.MemberUpdateRequest(ID=5, peerURLs=["http://127.0.0.1:1"]),
    CLUSTER + "MemberPromote": pb.MemberPromoteRequest(ID=5),
    AUTH + "AuthEnable": pb.AuthEnableRequest(),
    AUTH + "AuthDisable": pb.AuthDisableRequest(),
    AUTH + "AuthStatus": pb.AuthStatusRequest(),
    AUTH + "UserAdd": pb.AuthUserAddRequest(name="u"),
    AUTH + "UserDelete": pb.AuthUserDeleteRequest(name="x"),
    AUTH + "UserChangePassword": pb.AuthUserChangePasswordRequest(name="x", password="y"),
    AUTH + "UserGrantRole": pb.AuthUserGrantRoleRequest(user="x", role="y"),
    AUTH + "UserRevokeRole": pb.AuthUserRevokeRoleRequest(name="x", role="y"),
    AUTH + "UserList": pb.AuthUserListRequest(),
    AUTH + "UserGet": pb.AuthUserGetRequest(name="root"),
    AUTH + "RoleAdd": pb.AuthRoleAddRequest(name=""),
    AUTH + "RoleDelete": pb.AuthRoleDeleteRequest(role="x"),
    AUTH + "RoleGrantPermission": pb.AuthRoleGrantPermissionRequest(name="x"),
    AUTH + "RoleRevokePermission": pb.AuthRoleRevokePermissionRequest(role="x"),
    AUTH + "RoleList": pb.AuthRoleListRequest(),
    AUTH + "RoleGet": pb.AuthRoleGetRequest(role="x"),
}
"""3.5.1 asks nobody for Compact, MoveLeader, Downgrade and Alarm, and says `auth: ...` for Hash, HashKV, Defragment."""

ANY_USER = {
    LEASE + "LeaseGrant": pb.LeaseGrantRequest(TTL=100),
    LEASE + "LeaseRevoke": pb.LeaseRevokeRequest(ID=5),
    LEASE + "LeaseTimeToLive": pb.LeaseTimeToLiveRequest(ID=5),
    LEASE + "LeaseLeases": pb.LeaseLeasesRequest(),
    MAINTENANCE + "Status": pb.StatusRequest(),
    MAINTENANCE + "Alarm": pb.AlarmRequest(),
    CLUSTER + "MemberList": pb.MemberListRequest(linearizable=True),
}
"""3.5.1 asks nobody for these."""


@pytest.mark.parametrize("path", ROOT_ONLY)
def test_for_root_alone(shared: tuple[World, bytes, bytes], path: str) -> None:
    world, root, user = shared
    request = ROOT_ONLY[path]
    assert world.error(path, request) is EMPTY
    assert world.error(path, request, b"wrong") is errors.INVALID_AUTH_TOKEN
    assert world.error(path, request, user) is DENIED
    assert world.error(path, request, root) not in (EMPTY, DENIED, errors.INVALID_AUTH_TOKEN)


@pytest.mark.parametrize("path", ANY_USER)
def test_for_any_user(shared: tuple[World, bytes, bytes], path: str) -> None:
    world, root, user = shared
    request = ANY_USER[path]
    assert world.error(path, request) is EMPTY
    assert world.error(path, request, b"wrong") is errors.INVALID_AUTH_TOKEN
    for token in (user, root):
        assert world.error(path, request, token) in (None, errors.LEASE_NOT_FOUND)


def test_for_everybody(shared: tuple[World, bytes, bytes]) -> None:
    world, _, _ = shared
    assert world.error(AUTH + "Authenticate", pb.AuthenticateRequest(name="u", password="no")) is errors.AUTH_FAILED
    assert world.error(AUTH + "Authenticate", pb.AuthenticateRequest(name="v", password="pw")) is errors.AUTH_FAILED
    assert world.log_in("u")
    call = world.stream(MAINTENANCE + "Snapshot", pb.SnapshotRequest())
    assert call.error is EMPTY


def test_what_is_one_s_own(shared: tuple[World, bytes, bytes]) -> None:
    world, root, user = shared
    raw = world.call(AUTH + "UserGet", pb.AuthUserGetRequest(name="u"), user)
    assert list(pb.AuthUserGetResponse.FromString(raw).roles) == ["r"]
    raw = world.call(AUTH + "RoleGet", pb.AuthRoleGetRequest(role="r"), user)
    assert pb.AuthRoleGetResponse.FromString(raw).perm[0].range_end == b"c"
    assert world.error(AUTH + "UserGet", pb.AuthUserGetRequest(name="x"), root) is errors.USER_NOT_FOUND
    # Whoever is nobody may ask about nobody.
    assert world.error(AUTH + "UserGet", pb.AuthUserGetRequest()) is errors.USER_NOT_FOUND


def test_the_root_role_grants_everything_whatever_it_holds() -> None:
    """3.5.1 answers with what was granted to an object of that name."""
    world, root, _ = guarded()
    world.add_role("root", (READWRITE, b"a", b""), token=root)
    raw = world.call(AUTH + "RoleGet", pb.AuthRoleGetRequest(role="root"), root)
    perms = pb.AuthRoleGetResponse.FromString(raw).perm
    assert [(p.permType, p.key, p.range_end) for p in perms] == [(READWRITE, b"", b"\0")]


def test_empty_ranges_are_not_granted(shared: tuple[World, bytes, bytes]) -> None:
    """3.5.1 grants them."""
    world, root, _ = shared
    for key, end in ((b"", b""), (b"", b"\0"), (b"b", b"a"), (b"b", b"b")):
        perm = Permission(key=key, range_end=end)
        request = pb.AuthRoleGrantPermissionRequest(name="r", perm=perm)
        assert world.error(AUTH + "RoleGrantPermission", request, root) is errors.INVALID_AUTH_MGMT


def test_long_passwords(shared: tuple[World, bytes, bytes]) -> None:
    """3.5.1 cuts them."""
    world, root, user = shared
    request = pb.AuthUserAddRequest(name="long", password="x" * 73)
    assert world.error(AUTH + "UserAdd", request, root) is TOO_LONG
    assert world.error(AUTH + "UserAdd", request, user) is DENIED  # before anything is computed


# Keys


def range_op(key: bytes, end: bytes = b"") -> pb.RequestOp:
    return pb.RequestOp(request_range=pb.RangeRequest(key=key, range_end=end))


def put_op(key: bytes, **fields: object) -> pb.RequestOp:
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=b"v", **fields))  # type: ignore[arg-type]


def delete_op(key: bytes, end: bytes = b"", prev_kv: bool = False) -> pb.RequestOp:
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key, range_end=end, prev_kv=prev_kv))


def txn(*success: pb.RequestOp, failure: tuple[pb.RequestOp, ...] = (), **fields: object) -> pb.TxnRequest:
    return pb.TxnRequest(success=success, failure=failure, **fields)  # type: ignore[arg-type]


def nested(*ops: pb.RequestOp) -> pb.RequestOp:
    return pb.RequestOp(request_txn=pb.TxnRequest(failure=ops))


def test_keys() -> None:
    world, root, user = guarded()
    # w: may write [w, x) and read nothing there
    world.add_role("w", (WRITE, b"w", b"x"), token=root)
    world.call(AUTH + "UserGrantRole", pb.AuthUserGrantRoleRequest(user="u", role="w"), root)
    compare = pb.Compare(key=b"a", range_end=b"d")
    for path, request, error in (
        ("Range", pb.RangeRequest(key=b"a", range_end=b"c"), None),
        ("Range", pb.RangeRequest(key=b"a", range_end=b"c\0"), DENIED),
        ("Range", pb.RangeRequest(key=b"a", range_end=b"\0"), DENIED),
        ("Range", pb.RangeRequest(key=b"w"), DENIED),
        ("Range", pb.RangeRequest(key=b"c", serializable=True), DENIED),
        ("Range", pb.RangeRequest(key=b"a", revision=1 << 40), errors.FUTURE_REV),
        ("Range", pb.RangeRequest(key=b"c", revision=1 << 40), DENIED),
        ("Put", pb.PutRequest(key=b"a", prev_kv=True), None),
        ("Put", pb.PutRequest(key=b"w"), None),
        ("Put", pb.PutRequest(key=b"w", ignore_value=True), None),
        ("Put", pb.PutRequest(key=b"w", prev_kv=True), DENIED),
        ("Put", pb.PutRequest(key=b"c"), DENIED),
        ("Put", pb.PutRequest(key=b"c", lease=9), DENIED),
        ("Put", pb.PutRequest(key=b"a", lease=9), errors.LEASE_NOT_FOUND),
        ("DeleteRange", pb.DeleteRangeRequest(key=b"w", range_end=b"x"), None),
        ("DeleteRange", pb.DeleteRangeRequest(key=b"w", range_end=b"x", prev_kv=True), DENIED),
        ("DeleteRange", pb.DeleteRangeRequest(key=b"a", range_end=b"\0"), DENIED),
        ("Txn", txn(), None),
        ("Txn", txn(range_op(b"a", b"c")), None),
        ("Txn", txn(range_op(b"c")), DENIED),
        ("Txn", txn(put_op(b"a"), compare=[compare]), DENIED),
        ("Txn", txn(compare=[compare]), DENIED),
        ("Txn", txn(put_op(b"a"), failure=(put_op(b"c"),)), DENIED),
        ("Txn", txn(put_op(b"a"), failure=(range_op(b"c"),)), DENIED),
        ("Txn", txn(delete_op(b"w")), None),
        ("Txn", txn(delete_op(b"w", prev_kv=True)), DENIED),
        ("Txn", txn(delete_op(b"a", b"d")), DENIED),
        # 3.5.1 permits the rest.
        ("Txn", txn(put_op(b"w", prev_kv=True)), DENIED),
        ("Txn", txn(put_op(b"a"), failure=(nested(put_op(b"c")),)), DENIED),
        ("Txn", txn(nested(nested(range_op(b"c"))), put_op(b"a")), DENIED),
        ("Txn", txn(pb.RequestOp(request_txn=pb.TxnRequest(compare=[compare])), put_op(b"a")), DENIED),
    ):
        before = world.server.store.current_rev
        assert world.error(KV + path, request, user) is error, (path, request)
        assert error is None or world.server.store.current_rev == before
        assert world.error(KV + path, request, root) is not DENIED
        if request != txn():  # which needs nothing, of nobody
            assert world.error(KV + path, request) is EMPTY


def test_the_keys_of_a_lease() -> None:
    world, root, user = guarded()
    world.call(LEASE + "LeaseGrant", pb.LeaseGrantRequest(ID=7, TTL=100), user)
    keep, look = pb.LeaseKeepAliveRequest(ID=7), pb.LeaseTimeToLiveRequest(ID=7, keys=True)
    assert world.error(KV + "Put", pb.PutRequest(key=b"a", lease=7), user) is None
    assert world.stream(LEASE + "LeaseKeepAlive", keep, token=user).error is None
    assert world.error(LEASE + "LeaseTimeToLive", look, user) is None
    world.call(KV + "Put", pb.PutRequest(key=b"x", lease=7), root)
    # A lease with a key that is not the user's is not the user's any more. 3.5.1 checks only the first and the last.
    assert world.error(KV + "Put", pb.PutRequest(key=b"a", lease=7), user) is DENIED
    assert world.error(KV + "Txn", txn(put_op(b"a", lease=7)), user) is DENIED
    assert world.stream(LEASE + "LeaseKeepAlive", keep, token=user).error is DENIED
    assert world.stream(LEASE + "LeaseKeepAlive", keep).error is EMPTY
    assert world.error(LEASE + "LeaseTimeToLive", look, user) is DENIED
    assert world.error(LEASE + "LeaseTimeToLive", pb.LeaseTimeToLiveRequest(ID=7), user) is None
    assert world.error(LEASE + "LeaseLeases", pb.LeaseLeasesRequest(), user) is DENIED
    assert world.error(LEASE + "LeaseRevoke", pb.LeaseRevokeRequest(ID=7), user) is DENIED
    assert world.stream(LEASE + "LeaseKeepAlive", keep, token=root).error is None
    assert world.error(LEASE + "LeaseLeases", pb.LeaseLeasesRequest(), root) is None
    assert world.error(LEASE + "LeaseRevoke", pb.LeaseRevokeRequest(ID=7), root) is None


def test_an_expired_lease_goes_although_nobody_asks() -> None:
    world, root, _ = guarded()
    world.call(LEASE + "LeaseGrant", pb.LeaseGrantRequest(ID=7, TTL=2), root)
    world.call(KV + "Put", pb.PutRequest(key=b"x", lease=7), root)
    world.loop.advance(8_000_000_000)
    assert world.server.lessor.lookup(7) is None
    assert world.node.parts.store.range(b"x", b"", 0, 0, False).kvs == []


def create(key: bytes, end: bytes = b"", **fields: object) -> pb.WatchRequest:
    return pb.WatchRequest(create_request=pb.WatchCreateRequest(key=key, range_end=end, **fields))  # type: ignore[arg-type]


def test_watchers() -> None:
    """3.5.1 always says PermissionDenied, repeats the watch id, and lets a key's reader watch all keys from it on."""
    world, root, user = guarded()
    for token, request, reason in (
        (user, create(b"a", b"c"), ""),
        (root, create(b"", b"\0"), ""),
        (user, create(b"a", b"\0", watch_id=5), "PermissionDenied desc = etcdserver: permission denied"),
        (user, create(b"c"), "PermissionDenied desc = etcdserver: permission denied"),
        (user, create(b"", b"\0"), "PermissionDenied desc = etcdserver: permission denied"),
        (b"", create(b"a"), "InvalidArgument desc = etcdserver: user name is empty"),
        (b"no", create(b"a"), "Unauthenticated desc = etcdserver: invalid auth token"),
    ):
        answer = world.stream("/etcdserverpb.Watch/Watch", request, token=token).take(pb.WatchResponse)[0]
        expected = f"rpc error: code = {reason}" if reason else ""
        assert (answer.created, answer.cancel_reason) == (True, expected)
        assert answer.canceled == bool(reason)
        assert answer.watch_id == (-1 if reason else 0)


def test_a_watcher_stays_when_its_permission_goes() -> None:
    world, root, user = guarded()
    watch = world.stream("/etcdserverpb.Watch/Watch", create(b"a", b"c"), token=user)
    world.call(AUTH + "UserRevokeRole", pb.AuthUserRevokeRoleRequest(name="u", role="r"), root)
    world.call(KV + "Put", pb.PutRequest(key=b"a"), root)
    assert len(watch.take(pb.WatchResponse)[-1].events) == 1
    watch.receive(create(b"a"))
    assert watch.take(pb.WatchResponse)[-1].canceled


def test_lock_and_election_act_for_the_caller() -> None:
    world, _, user = guarded()
    for path, mine, other in (
        ("/v3lockpb.Lock/Lock", LockRequest(name=b"a"), LockRequest(name=b"x")),
        ("/v3electionpb.Election/Campaign", CampaignRequest(name=b"b"), CampaignRequest(name=b"x")),
    ):
        assert world.error(path, mine, user) is None
        for token, request, text in ((user, other, DENIED.text), (b"", mine, EMPTY.text)):
            error = world.error(path, request, token)
            assert error is not None
            assert (error.code, error.text) == (errors.UNKNOWN, text)


# Credentials


def test_where_a_token_may_be() -> None:
    """3.5.1 knows no "Bearer "."""
    world, _, user = guarded()
    raw = pb.RangeRequest(key=b"a").SerializeToString()
    for headers, error in (
        ({b"token": user}, None),
        ({b"authorization": user}, None),
        ({b"authorization": b"Bearer " + user}, None),
        ({b"token": b"Bearer " + user}, None),
        ({b"token": b"x", b"authorization": user}, errors.INVALID_AUTH_TOKEN),
        ({b"token": b""}, errors.INVALID_AUTH_TOKEN),
        ({b"authorization": b"bearer " + user}, errors.INVALID_AUTH_TOKEN),
        ({}, EMPTY),
    ):
        call = Call(headers)
        handler = world.router.methods[b"/etcdserverpb.KV/Range"].unary
        assert handler is not None
        handler(call, raw)
        world.loop.run_until(lambda call=call: call.ended)  # type: ignore[misc]
        assert call.error is error, headers


def test_tokens_mean_nothing_while_authentication_is_off() -> None:
    """3.5.1 refuses unknown ones even then."""
    world, root, _ = guarded()
    world.call(AUTH + "AuthDisable", pb.AuthDisableRequest(), root)
    assert world.error(KV + "Put", pb.PutRequest(key=b"z"), b"wrong") is None
    assert world.error(AUTH + "UserAdd", pb.AuthUserAddRequest(name="v"), b"wrong") is None
    refusal = world.error(AUTH + "Authenticate", pb.AuthenticateRequest(name="u", password="pw"))
    assert refusal is errors.AUTH_NOT_ENABLED


def test_the_name_in_a_certificate() -> None:
    world, _, user = guarded(ServerConfig(client_cert_auth=True))
    read = pb.RangeRequest(key=b"a")
    assert world.error(KV + "Range", read, name="u") is None
    assert world.error(KV + "Range", read, name="ghost") is DENIED
    assert world.error(KV + "Range", read, name="") is DENIED
    assert world.error(KV + "Range", read) is EMPTY
    assert world.error(KV + "Put", pb.PutRequest(key=b"x"), name="root") is None
    assert world.error(KV + "Put", pb.PutRequest(key=b"x"), user, name="root") is DENIED  # the token counts
    assert world.error(AUTH + "UserList", pb.AuthUserListRequest(), name="ghost") is errors.USER_NOT_FOUND
    gateway = Call({b"grpcgateway-accept": b"x"})
    gateway.name = "root"
    assert world.server.refusals.call(1, gateway) is EMPTY
    without, _, _ = guarded()
    assert without.error(KV + "Range", read, name="u") is EMPTY


# Tokens that this member does not know yet


def test_a_call_waits_for_the_entry_that_made_its_token() -> None:
    world, root, _ = guarded()
    tokens = world.server.tokens
    index = world.server.applied_index + 2
    token = b"p.%d" % index
    call = world.begin(KV + "Range", pb.RangeRequest(key=b"a"), token)
    stream = world.stream("/etcdserverpb.Watch/Watch", create(b"a"), token=token)
    stream.half_close()
    world.loop.settle()
    assert not call.ended
    assert not stream.messages
    world.call(KV + "Put", pb.PutRequest(key=b"x"), root)
    assert not call.ended
    tokens.assign("u", "p", index)  # as the entry does
    world.call(KV + "Put", pb.PutRequest(key=b"x"), root)
    world.finish(call)
    assert stream.take(pb.WatchResponse)[0].created


def test_a_call_does_not_wait_for_ever() -> None:
    world, _, _ = guarded()
    call = world.begin(KV + "Range", pb.RangeRequest(key=b"a"), b"p.99999999")
    stream = world.stream("/etcdserverpb.Watch/Watch", create(b"a"), token=b"p.99999999")
    world.loop.advance(6_000_000_000)
    assert not call.ended
    world.loop.advance(3_000_000_000)
    assert call.error is errors.INVALID_AUTH_TOKEN
    assert stream.error is errors.INVALID_AUTH_TOKEN
    flood = world.stream("/etcdserverpb.Watch/Watch", *[create(b"a" * 60_000)] * 20, token=b"p.99999999")
    assert flood.error is errors.INVALID_AUTH_TOKEN


# Authenticate


def test_a_password_changed_meanwhile_does_not_count() -> None:
    world, root, _ = guarded()
    call = world.begin(AUTH + "Authenticate", pb.AuthenticateRequest(name="u", password="pw"))
    # While the old one is computed, another one is applied.
    hashed = pb.AuthUserChangePasswordRequest(name="u", hashedPassword="eA==")
    world.call(AUTH + "UserChangePassword", hashed, root)
    world.loop.run_until(lambda: call.ended)
    assert call.error is errors.AUTH_FAILED


def test_passwords_are_computed_elsewhere() -> None:
    world = World()
    jobs: list[object] = []
    inner = world.loop.work

    def compute(job: object, done: object) -> None:
        jobs.append(job)
        inner(job, done)  # type: ignore[arg-type]

    world.loop.compute = compute  # type: ignore[method-assign, assignment]
    world.add_user("root", "root")
    world.enable()
    world.log_in("root")
    assert len(jobs) == 2


def test_no_password_is_stored() -> None:
    """Neither in the log nor in the database."""
    world = World()
    secret = "correct horse"
    world.add_user("root", "root", password=secret)
    none = pb.AuthUserAddRequest(name="cn", password=secret)
    none.options.no_password = True
    world.call(AUTH + "UserAdd", none)
    world.call(AUTH + "UserChangePassword", pb.AuthUserChangePasswordRequest(name="root", password=secret))
    world.enable()
    world.log_in("root", secret)
    disk = world.node.disk
    world.node.stop()
    found = b""
    for directory in ("d/member/wal", "d/member/snap"):
        for name in disk.list_dir(directory):
            file = disk.open(f"{directory}/{name}", read_only=True)
            found += file.read_at(file.size(), 0)
    assert b"$2a$04$" in found
    assert secret.encode() not in found


# What stays


def test_a_restart_and_a_crash() -> None:
    world, root, user = guarded()
    world.call(KV + "Put", pb.PutRequest(key=b"a"), user)
    again = world.restart()
    assert again.server.auth.enabled
    assert again.error(KV + "Range", pb.RangeRequest(key=b"a"), user) is errors.INVALID_AUTH_TOKEN
    assert again.error(KV + "Range", pb.RangeRequest(key=b"a")) is EMPTY
    user = again.log_in("u")
    assert again.error(KV + "Range", pb.RangeRequest(key=b"a"), user) is None
    # Without a stop: the entries that the backend lacks are replayed, with the users that they name.
    root = again.log_in("root")
    again.add_user("late", token=root)
    revision = again.server.auth.revision
    again.node.disk.crash()  # type: ignore[attr-defined]
    crashed = World(again.node.config, again.node.disk)
    assert crashed.server.auth.revision == revision
    assert "late" in crashed.server.auth.users()


def test_signed_tokens() -> None:
    world, root, _ = guarded()
    signer = JwtTokens(world.loop, "HS256", b"secret", b"", 60_000_000_000)
    world.server.access._tokens = signer
    revision = world.server.auth.revision
    token = signer.sign("u", revision).encode()
    assert world.error(KV + "Range", pb.RangeRequest(key=b"a"), token) is None
    assert world.error(KV + "Put", pb.PutRequest(key=b"a"), token) is None
    root = signer.sign("root", revision).encode()
    world.call(AUTH + "RoleAdd", pb.AuthRoleAddRequest(name="other"), root)
    for stale in (token, root):
        assert world.error(KV + "Range", pb.RangeRequest(key=b"a"), stale) is errors.AUTH_OLD_REVISION
        assert world.error(KV + "Put", pb.PutRequest(key=b"a"), stale) is errors.AUTH_OLD_REVISION
    # What needs the root role does not ask for the revision.
    assert world.error(AUTH + "UserList", pb.AuthUserListRequest(), root) is None
    ahead = signer.sign("u", revision + 9).encode()
    assert world.error(KV + "Range", pb.RangeRequest(key=b"a"), ahead) is errors.AUTH_OLD_REVISION
    watch = world.stream("/etcdserverpb.Watch/Watch", create(b"a"), token=token).take(pb.WatchResponse)[0]
    assert watch.cancel_reason.endswith("InvalidArgument desc = etcdserver: revision of auth store is old")


def test_the_health_check_needs_no_user() -> None:
    world, _, _ = guarded()
    found: list[str] = []
    Health(NullLog(), lambda: world.server)._find_reason(set(), False, found.append)
    world.loop.settle()
    assert found == [""]


def test_shared_errors_collect_no_traceback() -> None:
    world, _, user = guarded()
    error = world.error(KV + "Put", pb.PutRequest(key=b"x"), user)
    assert error is not None
    assert error.__traceback__ is None
