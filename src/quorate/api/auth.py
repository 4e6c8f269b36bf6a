"""etcdserverpb.Auth: users, roles and permissions are managed, and passwords are exchanged for tokens.

    Authenticate   read index -> the password's hash is checked, off the loop -> log -> token;
                   from the start again when users or roles have changed meanwhile
    UserAdd, UserChangePassword
                   root? -> the password is hashed, off the loop -> log
    other changes  log; whether the caller may is decided when the entry is applied
    UserGet, ...   read index -> answer, from memory

Contract: a password never goes into the log, nor into a line of the member's own. Who may not manage users is refused
before a password is hashed, since that costs as much as an attacker could wish for.
Source: etcd's server/etcdserver/api/v3rpc/auth.go and server/etcdserver/v3_server.go.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Final, TypeVar

from google.protobuf.message import Message

from quorate import errors
from quorate.api.check import Guard, add_raw, add_unary
from quorate.auth.access import NEEDS_ROOT
from quorate.errors import RpcError
from quorate.ports import Completion
from quorate.proto import rpc_pb2 as pb
from quorate.proto.raft_internal_pb2 import InternalAuthenticateRequest
from quorate.server import entry as kinds
from quorate.server.core import Server
from quorate.wire.rpc import Router, ServerCall

M = TypeVar("M", bound=Message)

_CALLER: Final = "etcdserver/v3_server.go"
_TRIES: Final = 16
"""How often a password is checked anew because users or roles have changed meanwhile."""


class _Change:
    """A method whose request goes into the log as it is."""

    def __init__(self, server: Server, kind: int) -> None:
        self._server = server
        self._kind = kind

    def serve(self, call: ServerCall, request: Message, raw: bytes) -> None:
        self._server.change_auth(self._kind, request, raw, call)


class AuthService:
    """The Auth service over a server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def register(self, router: Router, guard: Guard) -> None:
        """Add the service's methods to the router."""
        prefix = "/etcdserverpb.Auth/"

        def change(name: str, message: type[M], kind: int) -> None:
            add_raw(router, guard, prefix + name, message, _Change(self._server, kind).serve)

        change("AuthEnable", pb.AuthEnableRequest, kinds.AUTH_ENABLE)
        change("AuthDisable", pb.AuthDisableRequest, kinds.AUTH_DISABLE)
        change("UserDelete", pb.AuthUserDeleteRequest, kinds.AUTH_USER_DELETE)
        change("UserGrantRole", pb.AuthUserGrantRoleRequest, kinds.AUTH_USER_GRANT_ROLE)
        change("UserRevokeRole", pb.AuthUserRevokeRoleRequest, kinds.AUTH_USER_REVOKE_ROLE)
        change("RoleAdd", pb.AuthRoleAddRequest, kinds.AUTH_ROLE_ADD)
        change("RoleDelete", pb.AuthRoleDeleteRequest, kinds.AUTH_ROLE_DELETE)
        change("RoleGrantPermission", pb.AuthRoleGrantPermissionRequest, kinds.AUTH_ROLE_GRANT_PERMISSION)
        change("RoleRevokePermission", pb.AuthRoleRevokePermissionRequest, kinds.AUTH_ROLE_REVOKE_PERMISSION)
        add_unary(router, guard, prefix + "AuthStatus", pb.AuthStatusRequest, self.status)
        add_unary(router, guard, prefix + "Authenticate", pb.AuthenticateRequest, self.authenticate)
        add_unary(router, guard, prefix + "UserAdd", pb.AuthUserAddRequest, self.user_add)
        add_unary(
            router, guard, prefix + "UserChangePassword", pb.AuthUserChangePasswordRequest, self.user_change_password
        )
        add_unary(router, guard, prefix + "UserGet", pb.AuthUserGetRequest, self.user_get)
        add_unary(router, guard, prefix + "UserList", pb.AuthUserListRequest, self.user_list)
        add_unary(router, guard, prefix + "RoleGet", pb.AuthRoleGetRequest, self.role_get)
        add_unary(router, guard, prefix + "RoleList", pb.AuthRoleListRequest, self.role_list)

    # -- Tokens

    def authenticate(self, call: ServerCall, request: pb.AuthenticateRequest) -> None:
        """Serve Authenticate."""
        self._server.linearizable(_Login(self._server, call, request).check)

    # -- Changes with a password

    def user_add(self, call: ServerCall, request: pb.AuthUserAddRequest) -> None:
        """Serve UserAdd."""
        if request.options.no_password:
            request.password = ""
            request.hashedPassword = ""
            self._server.change_auth(kinds.AUTH_USER_ADD, request, request.SerializeToString(), call)
        else:
            self._hash(kinds.AUTH_USER_ADD, request, call)

    def user_change_password(self, call: ServerCall, request: pb.AuthUserChangePasswordRequest) -> None:
        """Serve UserChangePassword."""
        if not request.password:
            kind = kinds.AUTH_USER_CHANGE_PASSWORD
            self._server.change_auth(kind, request, request.SerializeToString(), call)
        else:
            self._hash(kinds.AUTH_USER_CHANGE_PASSWORD, request, call)

    def _hash(
        self, kind: int, request: pb.AuthUserAddRequest | pb.AuthUserChangePasswordRequest, call: ServerCall
    ) -> None:
        refused = self._server.refusals.call(NEEDS_ROOT, call)
        if refused is not None:
            call.fail(refused)
            return

        def then(hashed: bytes, error: RpcError | None) -> None:
            if error is not None:
                call.fail(error)
                return
            request.hashedPassword = base64.b64encode(hashed).decode()
            self._server.change_auth(kind, request, request.SerializeToString(), call)

        password = request.password
        request.password = ""
        self._server.passwords.hash(password, then)

    # -- Looks

    def _look(self, call: ServerCall, answer: Callable[[], Message]) -> None:
        """Answer a call with what `answer` returns, or with the RpcError that it raises, once reads are safe."""
        server = self._server

        def then(error: RpcError | None) -> None:
            if error is not None:
                call.fail(error)
                return
            try:
                response = answer()
            except RpcError as refusal:
                refusal.__traceback__ = None
                call.fail(refusal)
                return
            call.complete(server.header(server.store.current_rev) + response.SerializeToString())

        server.linearizable(then)

    def _look_as_root(self, call: ServerCall, answer: Callable[[], Message]) -> None:
        def checked() -> Message:
            refused = self._server.refusals.call(NEEDS_ROOT, call)
            if refused is not None:
                raise refused
            return answer()

        self._look(call, checked)

    def status(self, call: ServerCall, _: pb.AuthStatusRequest) -> None:
        """Serve AuthStatus."""
        auth = self._server.auth
        self._look_as_root(call, lambda: pb.AuthStatusResponse(enabled=auth.enabled, authRevision=auth.revision))

    def user_list(self, call: ServerCall, _: pb.AuthUserListRequest) -> None:
        """Serve UserList."""
        auth = self._server.auth
        self._look_as_root(call, lambda: pb.AuthUserListResponse(users=auth.users()))

    def role_list(self, call: ServerCall, _: pb.AuthRoleListRequest) -> None:
        """Serve RoleList."""
        auth = self._server.auth
        self._look_as_root(call, lambda: pb.AuthRoleListResponse(roles=auth.roles()))

    def user_get(self, call: ServerCall, request: pb.AuthUserGetRequest) -> None:
        """Serve UserGet, for root and for the user itself."""
        auth = self._server.auth

        def answer() -> Message:
            self._allow(call, lambda username: username == request.name)
            return pb.AuthUserGetResponse(roles=auth.user_roles(request.name))

        self._look(call, answer)

    def role_get(self, call: ServerCall, request: pb.AuthRoleGetRequest) -> None:
        """Serve RoleGet, for root and for those who have the role."""
        auth = self._server.auth

        def answer() -> Message:
            self._allow(call, lambda username: auth.has_role(username, request.role))
            return pb.AuthRoleGetResponse(perm=auth.role_permissions(request.role))

        self._look(call, answer)

    def _allow(self, call: ServerCall, own: Callable[[str], bool]) -> None:
        """Raise what etcd says to callers that are neither root nor ask about what is their own."""
        server = self._server
        if not server.auth.enabled:
            return
        who = server.access.who(call)
        if isinstance(who, RpcError):
            raise who
        error = server.auth.admin_error(who)
        if error is not None and not own(who.username):
            raise error


class _Login(Completion):
    """An Authenticate call under way."""

    def __init__(self, server: Server, call: ServerCall, request: pb.AuthenticateRequest) -> None:
        self._server = server
        self._call = call
        self._name = request.name
        self._password = request.password
        self._revision = 0
        self._tries = 0

    def check(self, error: RpcError | None) -> None:
        """Have the password checked against the hash of now."""
        if self._call.ended:
            return
        auth = self._server.auth
        try:
            if error is not None:
                raise error
            hashed = auth.password_of(self._name)
        except RpcError as refusal:
            refusal.__traceback__ = None
            if refusal is not errors.AUTH_NOT_ENABLED:
                self._warn(refusal)
            self._call.fail(refusal)
            return
        self._revision = auth.revision
        self._tries += 1
        self._server.passwords.check(self._password, hashed, self._checked)

    def _warn(self, error: RpcError) -> None:
        fields = {"user": self._name, "error": error.text}
        self._server.log.warn(_CALLER, "invalid authentication was requested", **fields)

    def _checked(self, right: bool, error: RpcError | None) -> None:
        if error is None and not right:
            error = errors.AUTH_FAILED
            self._warn(error)
        if error is not None:
            self._call.fail(error)
            return
        prefix = self._server.tokens.new_prefix()
        request = InternalAuthenticateRequest(name=self._name, simple_token=prefix)
        self._server.change_auth(kinds.AUTHENTICATE, request, request.SerializeToString(), self)

    def complete(self, response: bytes) -> None:
        """Answer with the token, if the password was checked against what still holds."""
        if self._revision == self._server.auth.revision or self._tries >= _TRIES:
            self._call.complete(response)
        else:
            self._server.log.info(_CALLER, "revision when password checked became stale; retrying")
            self.check(None)

    def fail(self, error: RpcError) -> None:
        """Answer with the error."""
        self._call.fail(error)
