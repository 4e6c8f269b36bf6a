"""Random users, roles, permissions and requests get equal answers from real etcd 3.5.1 and from ours.

A seeded walk: it manages users and roles, enables and disables authentication, and asks for keys as root, as users, as
nobody and with tokens that are wrong. Where 3.6.14, our level, has closed what 3.5.1 left open, the walk stays away and
`test_levels` says what ours does: nested transactions, and puts with prev_kv or a lease in transactions, of users;
watches from a key on; Compact, leases, Status, MemberList and Alarm without a user; grants of empty ranges; RoleGet of
root; tokens while authentication is disabled. It asks for no empty range either (its end not behind its key), which
real etcd permits or not by the shape of its interval tree.

A bounded number of operations runs here; QUORATE_AUTH_OPERATIONS=20000 runs the long form, QUORATE_AUTH_SEED another
walk.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator

import grpc
import pytest

from quorate.proto import rpc_pb2 as pb
from quorate.proto.auth_pb2 import Permission
from tests.oracle import Member, running

pytestmark = [pytest.mark.oracle, pytest.mark.process]

OPERATIONS = int(os.environ.get("QUORATE_AUTH_OPERATIONS", "1500"))
SEED = int(os.environ.get("QUORATE_AUTH_SEED", "1"))

KV, LEASE, AUTH = "/etcdserverpb.KV/", "/etcdserverpb.Lease/", "/etcdserverpb.Auth/"
MAINTENANCE = "/etcdserverpb.Maintenance/"
KEYS = [b"a", b"a\0", b"ab", b"b", b"c", b"ca", b"d", b"e", b"\xff", b"\xff\xff"]
ENDS = [b"", b"", b"", b"\0", b"b", b"c", b"d", b"e", b"z", b"\xff\xff\xff"]
USERS = ["u0", "u1", "u2", "u3", "nobody"]
ROLES = ["r0", "r1", "r2", "r3", "r4", "r5"]
PASSWORDS = ["x", "yy", "", "z" * 72]
LEASES = [11, 12, 13]
TOKEN = re.compile(r"[a-zA-Z]{16}\.\d+\Z")

Identity = tuple[str, str] | None
"""A token for real and one for ours, None for a call without one."""


class Pair:
    """Both servers, asked the same."""

    def __init__(self, real: Member, ours: Member) -> None:
        self.channels = [grpc.insecure_channel(member.endpoint) for member in (real, ours)]
        self.count = 0
        self.refused = 0
        self.trace: list[object] = []

    def call(self, path: str, request: object, response: type, identity: Identity = None) -> object:
        """Ask both; return real's answer, or (code, text)."""
        self.trace.append((path, identity, str(request).replace("\n", " ")))
        futures = []
        for side, channel in enumerate(self.channels):
            method = channel.unary_unary(
                path, request_serializer=lambda m: m.SerializeToString(), response_deserializer=response.FromString
            )
            metadata = [] if identity is None else [("token", identity[side])]
            futures.append(method.future(request, timeout=15, metadata=metadata))
        outcomes = [outcome(future) for future in futures]
        self.compare(outcomes)
        return outcomes[0]

    def compare(self, outcomes: list[object]) -> None:
        self.count += 1
        self.refused += isinstance(outcomes[0], tuple)
        real, ours = (plain(one) for one in outcomes)
        if real != ours:
            steps = "\n".join(str(step) for step in self.trace[-80:])
            raise AssertionError(f"{steps}\nreal: {real}\nours: {ours}")

    def log_in(self, name: str, password: str) -> Identity:
        """Authenticate; both tokens, None when both refuse."""
        self.trace.append(("Authenticate", name, password))
        request = pb.AuthenticateRequest(name=name, password=password)
        outcomes = []
        for channel in self.channels:
            method = channel.unary_unary(
                AUTH + "Authenticate",
                request_serializer=pb.AuthenticateRequest.SerializeToString,
                response_deserializer=pb.AuthenticateResponse.FromString,
            )
            outcomes.append(outcome(method.future(request, timeout=15)))
        tokens = [one.token for one in outcomes if isinstance(one, pb.AuthenticateResponse)]
        assert all(TOKEN.match(token) for token in tokens)
        for one in outcomes:
            if isinstance(one, pb.AuthenticateResponse):
                one.token = ""
        self.compare(outcomes)
        return (tokens[0], tokens[1]) if tokens else None

    def watch(self, request: pb.WatchRequest, identity: Identity) -> None:
        """Create a watcher on a stream of its own and compare the answer."""
        self.trace.append(("Watch", identity, str(request).replace("\n", " ")))
        outcomes = []
        for side, channel in enumerate(self.channels):
            method = channel.stream_stream(
                "/etcdserverpb.Watch/Watch",
                request_serializer=pb.WatchRequest.SerializeToString,
                response_deserializer=pb.WatchResponse.FromString,
            )
            metadata = [] if identity is None else [("token", identity[side])]
            call = method(iter([request]), timeout=15, metadata=metadata)
            answer = next(call)
            call.cancel()
            if answer.canceled and "rpc error" in answer.cancel_reason:
                # 3.5.1 says PermissionDenied whatever the reason, and repeats the watch id that was asked for.
                answer.cancel_reason = "refused"
                answer.watch_id = 0
            outcomes.append(answer)
        self.compare(outcomes)


def outcome(future: grpc.Future) -> object:
    try:
        return future.result()
    except grpc.RpcError as error:
        return error.code().name, error.details()


def plain(one: object) -> object:
    """Return an outcome without what names the member."""
    if isinstance(one, tuple):
        return one
    copy = type(one).FromString(one.SerializeToString())  # type: ignore[attr-defined]
    copy.header.cluster_id = copy.header.member_id = copy.header.raft_term = 0
    return str(copy)


class Walk:
    """The random walk over a pair."""

    def __init__(self, pair: Pair, seed: int) -> None:
        self.pair = pair
        self.rng = random.Random(seed)
        self.enabled = False
        self.root: Identity = None
        self.identities: list[Identity] = []
        # One end for each key of a role: Go sorts a role's permissions by key alone, and differently in each release.
        self.ends = {(role, key): self.range_end(key) for role in ROLES for key in KEYS}

    def range_end(self, key: bytes) -> bytes:
        end = self.rng.choice(ENDS)
        return end if end in (b"", b"\0") or end > key else b""

    # -- Who asks

    def user(self) -> Identity:
        """Return the tokens of some user, which may not be valid any more."""
        return self.rng.choice(self.identities) if self.identities else self.root

    def somebody(self) -> Identity:
        """Return anybody: root, a user, nobody, or a token that never was."""
        if not self.enabled:
            return None
        pick = self.rng.random()
        if pick < 0.55:
            return self.user()
        if pick < 0.85:
            return self.root
        if pick < 0.95:
            return None
        wrong = self.rng.choice(["abc", "abc.1", "a.b.c", "", "abc.-1", "abc.18446744073709551616"])
        return wrong, wrong

    def manager(self) -> Identity:
        """Return who manages: mostly root."""
        return self.root if self.enabled and self.rng.random() < 0.8 else self.somebody()

    # -- What is asked

    def step(self) -> None:
        steps: list[tuple[int, Callable[[], None]]] = [
            (14, self.put), (16, self.range), (8, self.delete), (12, self.txn), (6, self.watch), (3, self.lease),
            (3, self.maintain), (4, self.log_in), (8, self.manage_user), (12, self.manage_role), (5, self.look),
            (1, self.switch),
        ]  # fmt: skip
        self.rng.choices([run for _, run in steps], [weight for weight, _ in steps])[0]()

    def key_range(self) -> tuple[bytes, bytes]:
        key = self.rng.choice(KEYS)
        return key, self.range_end(key)

    def put_request(self, plain_only: bool = False) -> pb.PutRequest:
        request = pb.PutRequest(key=self.rng.choice(KEYS), value=b"v")
        if not plain_only:
            request.prev_kv = self.rng.random() < 0.3
            if self.rng.random() < 0.2:
                request.lease = self.rng.choice([*LEASES, 99])
            if self.rng.random() < 0.1:
                request.ignore_value, request.value = True, b""
        return request

    def put(self) -> None:
        self.pair.call(KV + "Put", self.put_request(), pb.PutResponse, self.somebody())

    def range_request(self) -> pb.RangeRequest:
        key, end = self.key_range()
        return pb.RangeRequest(
            key=key, range_end=end, serializable=self.rng.random() < 0.3, count_only=self.rng.random() < 0.2,
            revision=self.rng.choice([0, 0, 0, 1 << 40]),
        )  # fmt: skip

    def range(self) -> None:
        self.pair.call(KV + "Range", self.range_request(), pb.RangeResponse, self.somebody())

    def delete(self) -> None:
        key, end = self.key_range()
        request = pb.DeleteRangeRequest(key=key, range_end=end, prev_kv=self.rng.random() < 0.3)
        self.pair.call(KV + "DeleteRange", request, pb.DeleteRangeResponse, self.somebody())

    def txn(self) -> None:
        who = self.somebody()
        free = not self.enabled or who == self.root
        request = pb.TxnRequest()
        for _ in range(self.rng.randrange(3)):
            key, end = self.key_range()
            request.compare.append(
                pb.Compare(key=key, range_end=end, target=pb.Compare.VERSION, result=pb.Compare.GREATER, version=0)
            )
        read_only = self.rng.random() < 0.3
        for branch in (request.success, request.failure):
            for _ in range(self.rng.randrange(3)):
                branch.append(self.op(free, read_only, 0))
        self.pair.call(KV + "Txn", request, pb.TxnResponse, who)

    def op(self, free: bool, read_only: bool, depth: int) -> pb.RequestOp:
        pick = 0.0 if read_only else self.rng.random()
        if pick < 0.35:
            request = self.range_request()
            request.revision = 0
            return pb.RequestOp(request_range=request)
        if pick < 0.65:
            return pb.RequestOp(request_put=self.put_request(plain_only=not free))
        if pick < 0.9 or not free or depth > 1:
            key, end = self.key_range()
            return pb.RequestOp(
                request_delete_range=pb.DeleteRangeRequest(key=key, range_end=end, prev_kv=self.rng.random() < 0.3)
            )
        return pb.RequestOp(request_txn=pb.TxnRequest(success=[self.op(free, False, depth + 1)]))

    def watch(self) -> None:
        key, end = self.key_range()
        who = self.somebody()
        if end == b"\0" and self.enabled and who != self.root:
            end = b""
        self.pair.watch(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=key, range_end=end)), who)

    def lease(self) -> None:
        who = self.root if self.enabled else None
        lease = self.rng.choice(LEASES)
        if self.rng.random() < 0.6:
            self.pair.call(LEASE + "LeaseGrant", pb.LeaseGrantRequest(ID=lease, TTL=9999), pb.LeaseGrantResponse, who)
            return
        # Of a lease without keys, and of none, 3.5.1 asks no user at all; root may always.
        self.pair.call(LEASE + "LeaseRevoke", pb.LeaseRevokeRequest(ID=lease), pb.LeaseRevokeResponse, who)

    def maintain(self) -> None:
        who = self.root if self.enabled else None
        self.pair.call(LEASE + "LeaseLeases", pb.LeaseLeasesRequest(), pb.LeaseLeasesResponse, who)
        self.pair.call(MAINTENANCE + "Alarm", pb.AlarmRequest(), pb.AlarmResponse, who)

    def log_in(self) -> None:
        identity = self.pair.log_in(self.rng.choice([*USERS, "root", "ghost"]), self.rng.choice([*PASSWORDS, "wrong"]))
        if identity is not None:
            self.identities = [*self.identities[-15:], identity]

    def manage_user(self) -> None:
        rng, who = self.rng, self.manager()
        name, role, password = rng.choice([*USERS, "", "root"]), rng.choice([*ROLES, "root"]), rng.choice(PASSWORDS)
        pick = rng.random()
        if pick < 0.35:
            add = pb.AuthUserAddRequest(name=name, password=password)
            if name == "nobody":
                add.options.no_password = True
            self.pair.call(AUTH + "UserAdd", add, pb.AuthUserAddResponse, who)
        elif pick < 0.45:
            delete = pb.AuthUserDeleteRequest(name=name)
            if name != "root" or self.enabled:
                self.pair.call(AUTH + "UserDelete", delete, pb.AuthUserDeleteResponse, who)
        elif pick < 0.55:
            if name != "root":
                change = pb.AuthUserChangePasswordRequest(name=name, password=password)
                self.pair.call(AUTH + "UserChangePassword", change, pb.AuthUserChangePasswordResponse, who)
        elif pick < 0.85:
            # A user with the root role makes most answers alike: seldom.
            role = role if role != "root" or rng.random() < 0.2 else "r0"
            grant = pb.AuthUserGrantRoleRequest(user=name, role=role)
            self.pair.call(AUTH + "UserGrantRole", grant, pb.AuthUserGrantRoleResponse, who)
        elif name != "root" or self.enabled:
            revoke = pb.AuthUserRevokeRoleRequest(name=name, role=role)
            self.pair.call(AUTH + "UserRevokeRole", revoke, pb.AuthUserRevokeRoleResponse, who)

    def manage_role(self) -> None:
        rng, who = self.rng, self.manager()
        name = rng.choice([*ROLES, *ROLES, "", "root"])
        key = rng.choice(KEYS)
        end = self.ends.get((name, key), b"")
        pick = rng.random()
        if pick < 0.15:
            self.pair.call(AUTH + "RoleAdd", pb.AuthRoleAddRequest(name=name), pb.AuthRoleAddResponse, who)
        elif pick < 0.2:
            self.pair.call(AUTH + "RoleDelete", pb.AuthRoleDeleteRequest(role=name), pb.AuthRoleDeleteResponse, who)
        elif pick < 0.7:
            grant = pb.AuthRoleGrantPermissionRequest(name=name)
            if rng.random() < 0.97:
                grant.perm.CopyFrom(Permission(permType=rng.randrange(3), key=key, range_end=end))
            self.pair.call(AUTH + "RoleGrantPermission", grant, pb.AuthRoleGrantPermissionResponse, who)
        else:
            revoke = pb.AuthRoleRevokePermissionRequest(role=name, key=key, range_end=end)
            self.pair.call(AUTH + "RoleRevokePermission", revoke, pb.AuthRoleRevokePermissionResponse, who)

    def look(self) -> None:
        rng, who = self.rng, self.somebody()
        user, role = pb.AuthUserGetRequest(name=rng.choice([*USERS, ""])), rng.choice(ROLES)
        looks: list[tuple[str, object, type]] = [
            ("UserGet", user, pb.AuthUserGetResponse),
            ("RoleGet", pb.AuthRoleGetRequest(role=role), pb.AuthRoleGetResponse),
            ("UserList", pb.AuthUserListRequest(), pb.AuthUserListResponse),
            ("RoleList", pb.AuthRoleListRequest(), pb.AuthRoleListResponse),
            ("AuthStatus", pb.AuthStatusRequest(), pb.AuthStatusResponse),
        ]
        name, request, response = rng.choice(looks)
        self.pair.call(AUTH + name, request, response, who)

    def switch(self) -> None:
        """Enable or disable; it stays enabled most of the time."""
        if self.enabled and self.rng.random() < 0.7:
            return
        if self.enabled:
            found = self.pair.call(AUTH + "AuthDisable", pb.AuthDisableRequest(), pb.AuthDisableResponse, self.root)
            assert not isinstance(found, tuple)
            self.enabled, self.root, self.identities = False, None, []
        else:
            self.enable()

    def enable(self) -> None:
        found = self.pair.call(AUTH + "AuthEnable", pb.AuthEnableRequest(), pb.AuthEnableResponse)
        if not isinstance(found, tuple):
            self.enabled = True
            self.root = self.pair.log_in("root", "pw")
            assert self.root is not None

    def begin(self) -> None:
        """Be refused for the want of a root user, and get one."""
        self.enable()
        for name in ("root", *USERS[:4]):
            add = pb.AuthUserAddRequest(name=name, password="pw" if name == "root" else "x")
            self.pair.call(AUTH + "UserAdd", add, pb.AuthUserAddResponse)
        self.enable()
        grant = pb.AuthUserGrantRoleRequest(user="root", role="root")
        self.pair.call(AUTH + "UserGrantRole", grant, pb.AuthUserGrantRoleResponse)
        self.enable()
        for name in USERS[:4]:
            self.identities.append(self.pair.log_in(name, "x"))


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    flags = ["--bcrypt-cost=4"]
    with running("real", flags=flags) as real, running("ours", flags=flags) as ours:
        found = Pair(real, ours)
        yield found
        for channel in found.channels:
            channel.close()


def test_equal_answers(pair: Pair) -> None:
    walk = Walk(pair, SEED)
    walk.begin()
    while pair.count < OPERATIONS:
        walk.step()
    print(f"\n{pair.count} operations compared, {pair.refused} of them refused")
    # Both are of some interest.
    assert OPERATIONS / 10 < pair.refused < OPERATIONS * 0.9
