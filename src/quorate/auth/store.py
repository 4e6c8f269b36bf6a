"""The users, the roles and what they permit: changed by entries of the log, kept in the backend, read from memory.

    bucket     key             value
    auth       authEnabled     1 byte, 0 or 1
               authRevision    u64, big endian; 1 in a new cluster
    authUsers  name            authpb.User     0a 05 "alice" 12 3c "$2a$10$..." 1a 04 "dev" 22 00
    authRoles  name            authpb.Role     0a 03 "dev" 12 07 { 08 02 12 01 "a" 1a 01 "b" }

Contract: everything that changes is called while an entry is applied, in the order of the log, alike on every member;
each effective change adds one to the revision. An operation that cannot be done raises one of errors' RpcErrors and has
changed nothing. Checks return the error, None for permission; they cost a lookup and a bisection.

The user `root` and the role `root` are protected while authentication is enabled; whoever has that role may do
everything, and the role needs no object of its own.
Source of the format and the rules: etcd's server/auth/store.go, server/storage/schema/auth*.go.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from google.protobuf.message import DecodeError

from quorate import errors
from quorate.auth.password import MAX_BYTES, hash_password
from quorate.auth.ranges import FROM_KEY, RangeSet, valid_grant
from quorate.auth.tokens import Tokens
from quorate.errors import UNKNOWN, CorruptError, RpcError
from quorate.ports import Log, Loop
from quorate.proto.auth_pb2 import Permission, Role, User
from quorate.proto.rpc_pb2 import (
    AuthRoleGrantPermissionRequest,
    AuthRoleRevokePermissionRequest,
    AuthUserAddRequest,
    AuthUserChangePasswordRequest,
)
from quorate.storage.backend import Backend
from quorate.storage.schema import AUTH, AUTH_ROLES, AUTH_USERS, decode_u64, encode_u64
from quorate.wire.protobuf import bytes_field, message_field, varint_field

ROOT: Final = "root"
NO_PASSWORD_USER: Final = RpcError(UNKNOWN, "auth: authentication failed, password was given for no password user")

_ENABLED_KEY: Final = b"authEnabled"
_REVISION_KEY: Final = b"authRevision"
_NAMES_END: Final = b"\xff"  # no byte of UTF-8 text is as great
_HEADER_FIELD: Final = 100
_CALLER: Final = "auth/store.go"
_TYPE_NAMES: Final = ("READ", "WRITE", "READWRITE")


class AuthInfo:
    """Who asks, and the auth revision of which that is known; "" and 0 for nobody.

    `header` is both as part of a log entry: field 100 (header) with its fields 2 (username) and 3 (auth_revision).
    """

    def __init__(self, username: str, revision: int) -> None:
        self.username = username
        self.revision = revision
        fields = b""
        if username:
            fields += bytes_field(2, username.encode())
        if revision:
            fields += varint_field(3, revision)
        self.header = message_field(_HEADER_FIELD, fields) if fields else b""


NOBODY: Final = AuthInfo("", 0)


class _Account:
    """A user, and what all roles together permit."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.root = ROOT in user.roles
        self.readable: RangeSet | None = None  # made when it is first needed after a change
        self.writable: RangeSet | None = None


class AuthStore:
    """The users and roles of a cluster, as one member knows them. `enabled` and `revision` are read-only for others."""

    def __init__(self, loop: Loop, log: Log, backend: Backend, tokens: Tokens, bcrypt_cost: int) -> None:
        self._loop = loop
        self._log = log
        self._backend = backend
        self._tokens = tokens
        self._bcrypt_cost = bcrypt_cost
        self.enabled = False
        self.revision = 0
        self._accounts: dict[str, _Account] = {}
        self._roles: dict[str, Role] = {}
        self._infos: dict[str, AuthInfo] = {}

    # -- From and to the backend

    def recover(self) -> None:
        """Load everything: at start, and when a snapshot has replaced the backend. Raises CorruptError."""
        self._tokens.drop_all()
        self._infos = {}
        try:
            self.revision = decode_u64(self._backend.get(AUTH, _REVISION_KEY))
            self._accounts = {}
            for name, value in self._backend.range(AUTH_USERS, b"", _NAMES_END):
                self._accounts[name.decode()] = _Account(User.FromString(value))
            self._roles = {}
            for name, value in self._backend.range(AUTH_ROLES, b"", _NAMES_END):
                self._roles[name.decode()] = Role.FromString(value)
        except (ValueError, DecodeError) as error:
            raise CorruptError("db", -1, f"buckets auth, authUsers, authRoles: {error}") from error
        self.enabled = self._backend.get(AUTH, _ENABLED_KEY) == b"\x01"
        if self.revision == 0:
            self._changed()

    def _changed(self) -> None:
        """Count a change, and forget what was derived from what was before."""
        self.revision += 1
        self._backend.put(AUTH, _REVISION_KEY, encode_u64(self.revision))
        self._infos = {}
        for account in self._accounts.values():
            account.readable = account.writable = None

    def _put_user(self, user: User) -> None:
        self._backend.put(AUTH_USERS, user.name, user.SerializeToString())
        self._accounts[user.name.decode()] = _Account(user)

    def _put_role(self, role: Role) -> None:
        self._backend.put(AUTH_ROLES, role.name, role.SerializeToString())
        self._roles[role.name.decode()] = role

    # -- On and off

    def enable(self) -> None:
        """Enable authentication; nothing happens when it is. Raises ROOT_USER_NOT_EXIST, ROOT_ROLE_NOT_EXIST."""
        if self.enabled:
            return
        account = self._accounts.get(ROOT)
        if account is None:
            raise errors.ROOT_USER_NOT_EXIST
        if not account.root:
            raise errors.ROOT_ROLE_NOT_EXIST
        self._backend.put(AUTH, _ENABLED_KEY, b"\x01")
        self.enabled = True
        self._log.info(_CALLER, "enabled authentication")

    def disable(self) -> None:
        """Disable authentication and drop all tokens; nothing happens when it is disabled."""
        if not self.enabled:
            return
        self._backend.put(AUTH, _ENABLED_KEY, b"\x00")
        self.enabled = False
        self._changed()
        self._tokens.drop_all()
        self._log.info(_CALLER, "disabled authentication")

    def authenticate(self, username: str, prefix: str, index: int) -> str:
        """Return the simple token that the log entry at `index` makes ("" for other kinds of tokens).

        The password was checked before the entry was proposed. Raises AUTH_NOT_ENABLED, AUTH_FAILED.
        """
        if not self.enabled:
            raise errors.AUTH_NOT_ENABLED
        account = self._accounts.get(username)
        if account is None or account.user.options.no_password:
            raise errors.AUTH_FAILED
        return self._tokens.assign(username, prefix, index)

    def password_of(self, username: str) -> bytes:
        """Return the hash that a password must match. Raises AUTH_NOT_ENABLED, AUTH_FAILED, NO_PASSWORD_USER."""
        if not self.enabled:
            raise errors.AUTH_NOT_ENABLED
        account = self._accounts.get(username)
        if account is None:
            raise errors.AUTH_FAILED
        if account.user.options.no_password:
            raise NO_PASSWORD_USER
        return account.user.password

    # -- Users

    def user_add(self, request: AuthUserAddRequest) -> None:
        """Add a user. Raises USER_EMPTY, USER_ALREADY_EXIST, NO_PASSWORD_USER."""
        if not request.name:
            raise errors.USER_EMPTY
        if request.name in self._accounts:
            raise errors.USER_ALREADY_EXIST
        user = User(name=request.name.encode())
        user.options.CopyFrom(request.options)
        if not user.options.no_password:
            user.password = self._password(request.password, request.hashedPassword)
        self._put_user(user)
        self._changed()
        self._log.info(_CALLER, "added a user", **{"user-name": request.name})

    def _password(self, password: str, hashed: str) -> bytes:
        """Return the hash that a request carries in base64; entries of etcd before 3.5 have the password itself."""
        if password and not hashed:
            salt = self._loop.random_bits(128).to_bytes(16, "big")
            return hash_password(password.encode()[:MAX_BYTES], self._bcrypt_cost, salt)
        try:
            return base64.b64decode(hashed.replace("\n", "").replace("\r", ""), validate=True)
        except (binascii.Error, ValueError):
            raise NO_PASSWORD_USER from None

    def user_delete(self, name: str) -> None:
        """Delete a user and drop its tokens. Raises INVALID_AUTH_MGMT, USER_NOT_FOUND."""
        if self.enabled and name == ROOT:
            raise errors.INVALID_AUTH_MGMT
        if name not in self._accounts:
            raise errors.USER_NOT_FOUND
        del self._accounts[name]
        self._backend.delete(AUTH_USERS, name.encode())
        self._changed()
        self._tokens.drop_user(name)
        self._log.info(_CALLER, "deleted a user", **{"user-name": name})

    def user_change_password(self, request: AuthUserChangePasswordRequest) -> None:
        """Change a password and drop the user's tokens. Raises USER_NOT_FOUND, NO_PASSWORD_USER."""
        user = self._user(request.name)
        password = b""
        if not user.options.no_password:
            password = self._password(request.password, request.hashedPassword)
        user.password = password
        self._put_user(user)
        self._changed()
        self._tokens.drop_user(request.name)
        self._log.info(_CALLER, "changed a password of a user", **{"user-name": request.name})

    def user_grant_role(self, name: str, role: str) -> None:
        """Give a user a role; nothing changes when it has it. Raises USER_NOT_FOUND, ROLE_NOT_FOUND."""
        user = self._user(name)
        if role != ROOT and role not in self._roles:
            raise errors.ROLE_NOT_FOUND
        if role in user.roles:
            fields = {"user-name": name, "duplicate-role-name": role}
            self._log.warn(_CALLER, "ignored grant role request to a user", **fields)
            return
        roles = sorted([*user.roles, role], key=str.encode)
        del user.roles[:]
        user.roles.extend(roles)
        self._put_user(user)
        self._changed()
        fields = {"user-name": name, "added-role-name": role}
        self._log.info(_CALLER, "granted a role to a user", **fields)

    def user_revoke_role(self, name: str, role: str) -> None:
        """Take a role from a user. Raises INVALID_AUTH_MGMT, USER_NOT_FOUND, ROLE_NOT_GRANTED."""
        if self.enabled and name == ROOT and role == ROOT:
            raise errors.INVALID_AUTH_MGMT
        user = self._user(name)
        if role not in user.roles:
            raise errors.ROLE_NOT_GRANTED
        self._put_user(_without_role(user, role))
        self._changed()
        fields = {"user-name": name, "revoked-role-name": role}
        self._log.info(_CALLER, "revoked a role from a user", **fields)

    def user_roles(self, name: str) -> list[str]:
        """Return the roles of a user, sorted. Raises USER_NOT_FOUND."""
        return list(self._user(name).roles)

    def users(self) -> list[str]:
        """Return the names of all users, sorted."""
        return sorted(self._accounts, key=str.encode)

    def _user(self, name: str) -> User:
        account = self._accounts.get(name)
        if account is None:
            raise errors.USER_NOT_FOUND
        return account.user

    # -- Roles

    def role_add(self, name: str) -> None:
        """Add a role. Raises ROLE_EMPTY, ROLE_ALREADY_EXIST."""
        if not name:
            raise errors.ROLE_EMPTY
        if name in self._roles:
            raise errors.ROLE_ALREADY_EXIST
        self._put_role(Role(name=name.encode()))
        self._changed()
        self._log.info(_CALLER, "created a role", **{"role-name": name})

    def role_delete(self, name: str) -> None:
        """Delete a role and take it from all users. Raises INVALID_AUTH_MGMT, ROLE_NOT_FOUND."""
        if self.enabled and name == ROOT:
            raise errors.INVALID_AUTH_MGMT
        if name not in self._roles:
            raise errors.ROLE_NOT_FOUND
        del self._roles[name]
        self._backend.delete(AUTH_ROLES, name.encode())
        holders = [account.user for account in self._accounts.values() if name in account.user.roles]
        for user in holders:
            self._put_user(_without_role(user, name))
        self._changed()
        self._log.info(_CALLER, "deleted a role", **{"role-name": name})

    def role_grant(self, request: AuthRoleGrantPermissionRequest) -> None:
        """Add a permission to a role, or change its type.

        Raises PERMISSION_NOT_GIVEN, INVALID_AUTH_MGMT, ROLE_NOT_FOUND.
        """
        if not request.HasField("perm"):
            raise errors.PERMISSION_NOT_GIVEN
        perm = request.perm
        if not valid_grant(perm.key, perm.range_end):
            raise errors.INVALID_AUTH_MGMT
        role = self._role(request.name)
        # Of several permissions with this key only the first is looked at, as in etcd: a further one is added again.
        first = next((one for one in role.keyPermission if one.key >= perm.key), None)
        if first is not None and first.key == perm.key and first.range_end == perm.range_end:
            first.permType = perm.permType
        else:
            perms = sorted([*role.keyPermission, perm], key=_key_of)
            role = Role(name=role.name, keyPermission=perms)
        self._put_role(role)
        self._changed()
        fields = {"user-name": request.name, "permission-name": _type_name(perm.permType)}
        self._log.info(_CALLER, "granted/updated a permission to a user", **fields)

    def role_revoke(self, request: AuthRoleRevokePermissionRequest) -> None:
        """Take a permission from a role. Raises ROLE_NOT_FOUND, PERMISSION_NOT_GRANTED."""
        role = self._role(request.role)
        kept = [perm for perm in role.keyPermission if perm.key != request.key or perm.range_end != request.range_end]
        if len(kept) == len(role.keyPermission):
            raise errors.PERMISSION_NOT_GRANTED
        self._put_role(Role(name=role.name, keyPermission=kept))
        self._changed()
        self._log.info(_CALLER, "revoked a permission on range", **{"role-name": request.role})

    def role_permissions(self, name: str) -> list[Permission]:
        """Return the permissions of a role, sorted by key. Raises ROLE_NOT_FOUND."""
        role = self._role(name)
        if name == ROOT:
            return [Permission(permType=Permission.READWRITE, range_end=FROM_KEY)]
        return list(role.keyPermission)

    def roles(self) -> list[str]:
        """Return the names of all roles, sorted."""
        return sorted(self._roles, key=str.encode)

    def _role(self, name: str) -> Role:
        role = self._roles.get(name)
        if role is None:
            raise errors.ROLE_NOT_FOUND
        return role

    # -- Who may do what. Only meaningful while authentication is enabled.

    def info(self, username: str) -> AuthInfo:
        """Return a user at the present revision."""
        found = self._infos.get(username)
        if found is None:
            found = self._infos[username] = AuthInfo(username, self.revision)
        return found

    def root(self) -> AuthInfo:
        """Return who the member is when it asks itself."""
        return self.info(ROOT)

    def has_role(self, username: str, role: str) -> bool:
        """Tell whether a user has a role."""
        account = self._accounts.get(username)
        return account is not None and role in account.user.roles

    def admin_error(self, info: AuthInfo) -> RpcError | None:
        """Return why somebody may not do what needs the root role. The revision does not matter."""
        if not info.username:
            return errors.USER_EMPTY
        account = self._accounts.get(info.username)
        if account is None:
            return errors.USER_NOT_FOUND
        return None if account.root else errors.PERMISSION_DENIED_ERROR

    def read_error(self, info: AuthInfo, key: bytes, end: bytes) -> RpcError | None:
        """Return why somebody may not read a range."""
        return self._range_error(info, key, end, False)

    def write_error(self, info: AuthInfo, key: bytes, end: bytes) -> RpcError | None:
        """Return why somebody may not write a range."""
        return self._range_error(info, key, end, True)

    def _range_error(self, info: AuthInfo, key: bytes, end: bytes, write: bool) -> RpcError | None:
        if info.revision == 0:
            return errors.USER_EMPTY
        if info.revision < self.revision:
            return errors.AUTH_OLD_REVISION
        account = self._accounts.get(info.username)
        if account is None:
            return errors.PERMISSION_DENIED_ERROR
        if account.root:
            return None
        granted = account.writable if write else account.readable
        if granted is None:
            granted = self._granted(account, write)
        return None if granted.covers(key, end) else errors.PERMISSION_DENIED_ERROR

    def _granted(self, account: _Account, write: bool) -> RangeSet:
        wanted = (Permission.READWRITE, Permission.WRITE if write else Permission.READ)
        ranges: list[tuple[bytes, bytes]] = []
        for name in account.user.roles:
            role = self._roles.get(name)
            if role is not None:
                ranges += [(perm.key, perm.range_end) for perm in role.keyPermission if perm.permType in wanted]
        granted = RangeSet(ranges)
        if write:
            account.writable = granted
        else:
            account.readable = granted
        return granted


def _without_role(user: User, role: str) -> User:
    kept = [one for one in user.roles if one != role]
    other = User(name=user.name, password=user.password, roles=kept)
    if user.HasField("options"):
        other.options.CopyFrom(user.options)
    return other


def _key_of(perm: Permission) -> bytes:
    return perm.key


def _type_name(kind: int) -> str:
    return _TYPE_NAMES[kind] if 0 <= kind < len(_TYPE_NAMES) else str(kind)
