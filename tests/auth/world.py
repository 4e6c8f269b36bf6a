"""A whole member in a virtual world with its services, asked as a client asks."""

from __future__ import annotations

from quorate.api.services import Services
from quorate.errors import RpcError
from quorate.ports import Disk
from quorate.proto import rpc_pb2 as pb
from quorate.proto.auth_pb2 import Permission
from quorate.server.config import ServerConfig
from quorate.wire.rpc import Router
from tests.api.fakes import FakeCall
from tests.server.world import Node

AUTH, KV, LEASE = "/etcdserverpb.Auth/", "/etcdserverpb.KV/", "/etcdserverpb.Lease/"
READ, WRITE, READWRITE = 0, 1, 2


class Call(FakeCall):
    """A call, maybe with a client certificate."""

    name: str | None = None

    def common_name(self) -> str | None:
        return self.name


class World:
    """One member. `token` names who asks: b"" for nobody."""

    def __init__(self, config: ServerConfig | None = None, disk: Disk | None = None) -> None:
        config = config or ServerConfig()
        config.bcrypt_cost = 4
        self.node = Node(disk, config)
        self.node.start()
        self.server = self.node.server
        self.loop = self.node.loop
        self.router = Router()
        Services(self.server).register(self.router)

    def restart(self) -> World:
        """Stop and start again on the same disk."""
        self.node.stop()
        return World(self.node.config, self.node.disk)

    def begin(self, path: str, request: object, token: bytes = b"", name: str | None = None) -> Call:
        """Make a unary call and leave it."""
        call = Call({b"token": token} if token else {}, path.encode())
        call.name = name
        method = self.router.methods[path.encode()]
        assert method.unary is not None
        method.unary(call, request.SerializeToString())  # type: ignore[attr-defined]
        return call

    def finish(self, call: Call) -> bytes:
        """Wait for the answer; raise the error."""
        self.loop.run_until(lambda: call.ended)
        if call.error is not None:
            raise call.error.with_traceback(None)
        return call.messages[0]

    def call(self, path: str, request: object, token: bytes = b"", name: str | None = None) -> bytes:
        return self.finish(self.begin(path, request, token, name))

    def error(self, path: str, request: object, token: bytes = b"", name: str | None = None) -> RpcError | None:
        """Return the error of a call, None when it is answered."""
        call = self.begin(path, request, token, name)
        self.loop.run_until(lambda: call.ended)
        return call.error

    def stream(self, path: str, *requests: object, token: bytes = b"") -> Call:
        """Open a stream and send requests."""
        call = Call({b"token": token} if token else {}, path.encode())
        method = self.router.methods[path.encode()]
        assert method.stream is not None
        method.stream(call)
        for request in requests:
            call.receive(request)
        self.loop.settle()
        return call

    # -- Users

    def add_user(self, name: str, *roles: str, password: str = "pw", token: bytes = b"") -> None:
        self.call(AUTH + "UserAdd", pb.AuthUserAddRequest(name=name, password=password), token)
        for role in roles:
            self.call(AUTH + "UserGrantRole", pb.AuthUserGrantRoleRequest(user=name, role=role), token)

    def add_role(self, name: str, *grants: tuple[int, bytes, bytes], token: bytes = b"") -> None:
        self.call(AUTH + "RoleAdd", pb.AuthRoleAddRequest(name=name), token)
        for kind, key, end in grants:
            perm = Permission(permType=kind, key=key, range_end=end)  # type: ignore[arg-type]
            self.call(AUTH + "RoleGrantPermission", pb.AuthRoleGrantPermissionRequest(name=name, perm=perm), token)

    def enable(self) -> None:
        self.call(AUTH + "AuthEnable", pb.AuthEnableRequest())

    def log_in(self, name: str, password: str = "pw") -> bytes:
        raw = self.call(AUTH + "Authenticate", pb.AuthenticateRequest(name=name, password=password))
        return pb.AuthenticateResponse.FromString(raw).token.encode()


def guarded(config: ServerConfig | None = None) -> tuple[World, bytes, bytes]:
    """Return a world with authentication, and the tokens of root and of a user who may read and write [a, c)."""
    world = World(config)
    world.add_role("r", (READWRITE, b"a", b"c"))
    world.add_user("root", "root")
    world.add_user("u", "r")
    world.enable()
    return world, world.log_in("root"), world.log_in("u")
