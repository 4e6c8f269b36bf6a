"""A data directory with authentication changes hands between real etcd 3.5.1 and ours, and stays closed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from quorate.proto import rpc_pb2 as pb
from quorate.proto.auth_pb2 import Permission
from tests.oracle import Member

pytestmark = [pytest.mark.oracle, pytest.mark.process]

AUTH, KV = "/etcdserverpb.Auth/", "/etcdserverpb.KV/"
DENIED = "etcdserver: permission denied"


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    found = Member("ours", str(tmp_path / "data"))
    yield found
    found.close()


class Client:
    """A client of a member, with the token of the last user that logged in."""

    def __init__(self, member: Member) -> None:
        self.channel = grpc.insecure_channel(member.endpoint)
        self.token = ""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def call(self, path: str, request: object, answer: type) -> object:
        """Return the answer, or the error's text."""
        method = self.channel.unary_unary(
            path, request_serializer=lambda m: m.SerializeToString(), response_deserializer=answer.FromString
        )
        metadata = [("token", self.token)] if self.token else []
        try:
            return method(request, timeout=10, wait_for_ready=True, metadata=metadata)
        except grpc.RpcError as error:
            return error.details()

    def log_in(self, name: str, password: str) -> None:
        self.token = ""
        request = pb.AuthenticateRequest(name=name, password=password)
        answer = self.call(AUTH + "Authenticate", request, pb.AuthenticateResponse)
        assert isinstance(answer, pb.AuthenticateResponse), answer
        self.token = answer.token

    def put(self, key: bytes) -> object:
        return self.call(KV + "Put", pb.PutRequest(key=key, value=b"v"), pb.PutResponse)


def set_up(client: Client) -> None:
    for name in ("root", "alice", "bob"):
        client.call(AUTH + "UserAdd", pb.AuthUserAddRequest(name=name, password=name), pb.AuthUserAddResponse)
    cn = pb.AuthUserAddRequest(name="cn")
    cn.options.no_password = True
    client.call(AUTH + "UserAdd", cn, pb.AuthUserAddResponse)
    client.call(AUTH + "RoleAdd", pb.AuthRoleAddRequest(name="dev"), pb.AuthRoleAddResponse)
    for key, end in ((b"a", b"b"), (b"m", b""), (b"x", b"\0")):
        perm = Permission(permType=2, key=key, range_end=end)
        grant = pb.AuthRoleGrantPermissionRequest(name="dev", perm=perm)
        client.call(AUTH + "RoleGrantPermission", grant, pb.AuthRoleGrantPermissionResponse)
    for name, role in (("root", "root"), ("alice", "dev")):
        request = pb.AuthUserGrantRoleRequest(user=name, role=role)
        client.call(AUTH + "UserGrantRole", request, pb.AuthUserGrantRoleResponse)
    client.call(AUTH + "AuthEnable", pb.AuthEnableRequest(), pb.AuthEnableResponse)


def work(client: Client, number: int) -> None:
    """Leave entries of several users, some of them refused when they are applied."""
    for name in ("alice", "bob", "root"):
        client.log_in(name, name)
        outcomes = [client.put(b"%c%d" % (first, number)) for first in b"abxz"]
        for _ in range(8):
            client.put(b"a")
        refused = [outcome for outcome in outcomes if outcome == DENIED]
        assert len(refused) == {"alice": 1, "bob": 4, "root": 0}[name]
    client.log_in("root", "root")
    role = pb.AuthRoleAddRequest(name=f"role{number}")
    assert isinstance(client.call(AUTH + "RoleAdd", role, pb.AuthRoleAddResponse), pb.AuthRoleAddResponse)


def view(client: Client) -> list[object]:
    """Return everything that must stay, and see that strangers are refused."""
    client.token = ""
    found: list[object] = [
        client.put(b"a"),
        client.call(AUTH + "UserList", pb.AuthUserListRequest(), pb.AuthUserListResponse),
        client.call(AUTH + "Authenticate", pb.AuthenticateRequest(name="bob", password="x"), pb.AuthenticateResponse),
    ]
    client.log_in("bob", "bob")
    found.append(client.put(b"a"))
    client.log_in("root", "root")
    status = client.call(AUTH + "AuthStatus", pb.AuthStatusRequest(), pb.AuthStatusResponse)
    assert isinstance(status, pb.AuthStatusResponse), status
    found += [status.enabled, status.authRevision]  # type: ignore[attr-defined]
    for name in ("root", "alice", "bob", "cn"):
        user = client.call(AUTH + "UserGet", pb.AuthUserGetRequest(name=name), pb.AuthUserGetResponse)
        found.append(list(user.roles))  # type: ignore[attr-defined]
    found.append(str(client.call(AUTH + "RoleGet", pb.AuthRoleGetRequest(role="dev"), pb.AuthRoleGetResponse).perm))  # type: ignore[attr-defined]
    everything = pb.RangeRequest(key=b"\0", range_end=b"\0")
    keys = client.call(KV + "Range", everything, pb.RangeResponse)
    found.append(str(keys.kvs))  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("flags", [[], ["--snapshot-count=20"]], ids=["from the WAL alone", "with snapshots"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
@pytest.mark.parametrize("first", ["ours", "real"])
def test_a_directory_changes_hands(member: Member, first: str, how: int, flags: list[str]) -> None:
    member.kind, member.flags = first, ["--bcrypt-cost=4", *flags]
    member.start()
    with Client(member) as client:
        set_up(client)
    for number in range(2):
        with Client(member) as client:
            work(client, number)
            before = view(client)
        member.stop(how)
        member.kind = "real" if member.kind == "ours" else "ours"
        member.start()
        with Client(member) as client:
            assert view(client) == before
