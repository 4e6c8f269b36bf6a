"""Entries of the log that concern authentication: what they do, and the response's bytes.

Contract: deterministic; raises the RpcError that goes to whoever proposed the entry. Who may manage users is checked
here, as in etcd: at the entry, by the user that its header names.

Requests that only look (UserGet, RoleList, AuthStatus, ...) are in the log of real etcd. Ours are answered after a
read index instead; here they do nothing.
Source: etcd's server/etcdserver/apply/apply_auth.go (needAdminPermission) and apply.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from quorate.auth.store import AuthInfo, AuthStore
from quorate.auth.tokens import Tokens
from quorate.proto.raft_internal_pb2 import InternalAuthenticateRequest
from quorate.proto.rpc_pb2 import (
    AuthRoleAddRequest,
    AuthRoleDeleteRequest,
    AuthRoleGrantPermissionRequest,
    AuthRoleRevokePermissionRequest,
    AuthUserAddRequest,
    AuthUserChangePasswordRequest,
    AuthUserDeleteRequest,
    AuthUserGrantRoleRequest,
    AuthUserRevokeRoleRequest,
)
from quorate.server import entry as kinds
from quorate.wire.protobuf import bytes_field

LOOKS: Final = (
    kinds.AUTH_STATUS,
    kinds.AUTH_USER_GET,
    kinds.AUTH_USER_LIST,
    kinds.AUTH_ROLE_GET,
    kinds.AUTH_ROLE_LIST,
)


class AuthEntries:
    """Applies entries to the auth store. `header` gives a response's header."""

    def __init__(self, auth: AuthStore, tokens: Tokens, header: Callable[[], bytes]) -> None:
        self._auth = auth
        self._tokens = tokens
        self._header = header

    def execute(self, kind: int, request: object, info: AuthInfo, index: int, answer: bool) -> bytes:
        """Execute one request. `answer` is False when nobody waits for the response."""
        auth = self._auth
        if kind == kinds.AUTHENTICATE:
            return self._authenticate(cast(InternalAuthenticateRequest, request), index, answer)
        if kind in LOOKS:
            return b""
        if auth.enabled:
            error = auth.admin_error(info)
            if error is not None:
                raise error
        if kind == kinds.AUTH_ENABLE:
            auth.enable()
        elif kind == kinds.AUTH_DISABLE:
            auth.disable()
        elif kind < kinds.AUTH_ROLE_ADD:
            self._change_user(kind, request)
        else:
            self._change_role(kind, request)
        return self._header()

    def _authenticate(self, request: InternalAuthenticateRequest, index: int, answer: bool) -> bytes:
        token = self._auth.authenticate(request.name, request.simple_token, index)
        if not answer:
            return b""
        # Tokens that no log entry makes are made by the member that is asked, and by no other.
        token = token or self._tokens.sign(request.name, self._auth.revision)
        return self._header() + bytes_field(2, token.encode())

    def _change_user(self, kind: int, request: object) -> None:
        auth = self._auth
        if kind == kinds.AUTH_USER_ADD:
            auth.user_add(cast(AuthUserAddRequest, request))
        elif kind == kinds.AUTH_USER_DELETE:
            auth.user_delete(cast(AuthUserDeleteRequest, request).name)
        elif kind == kinds.AUTH_USER_CHANGE_PASSWORD:
            auth.user_change_password(cast(AuthUserChangePasswordRequest, request))
        elif kind == kinds.AUTH_USER_GRANT_ROLE:
            grant = cast(AuthUserGrantRoleRequest, request)
            auth.user_grant_role(grant.user, grant.role)
        else:
            assert kind == kinds.AUTH_USER_REVOKE_ROLE, kind
            revocation = cast(AuthUserRevokeRoleRequest, request)
            auth.user_revoke_role(revocation.name, revocation.role)

    def _change_role(self, kind: int, request: object) -> None:
        auth = self._auth
        if kind == kinds.AUTH_ROLE_ADD:
            auth.role_add(cast(AuthRoleAddRequest, request).name)
        elif kind == kinds.AUTH_ROLE_DELETE:
            auth.role_delete(cast(AuthRoleDeleteRequest, request).role)
        elif kind == kinds.AUTH_ROLE_GRANT_PERMISSION:
            auth.role_grant(cast(AuthRoleGrantPermissionRequest, request))
        else:
            assert kind == kinds.AUTH_ROLE_REVOKE_PERMISSION, kind
            auth.role_revoke(cast(AuthRoleRevokePermissionRequest, request))
