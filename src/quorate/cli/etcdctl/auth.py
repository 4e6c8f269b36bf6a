"""auth, user, role."""

from __future__ import annotations

import sys

from quorate import errors
from quorate.cli.etcdctl.context import ERROR, Context, ExitError, bad_args
from quorate.cli.etcdctl.gotext import encode
from quorate.cli.etcdctl.kv import call
from quorate.cli.etcdctl.session import CallError
from quorate.cli.etcdctl.settings import ask
from quorate.client import methods
from quorate.client.policy import prefix_end
from quorate.proto import auth_pb2
from quorate.proto import rpc_pb2 as pb

PERMISSIONS = {
    "READ": auth_pb2.Permission.READ,
    "WRITE": auth_pb2.Permission.WRITE,
    "READWRITE": auth_pb2.Permission.READWRITE,
}


def _need(context: Context, count: int, text: str) -> list[str]:
    if len(context.args) != count:
        raise bad_args(text)
    return context.args


def enable(context: Context) -> None:
    """Enable authentication; make the root role and give it to root when that is what is missing."""
    _need(context, 0, "auth enable command does not accept any arguments")
    session, limit_s = context.session, context.command_timeout_s
    try:
        while True:
            try:
                session.call(methods.AUTH_ENABLE, pb.AuthEnableRequest(), limit_s)
                break
            except CallError as error:
                if error.text != errors.ROOT_ROLE_NOT_EXIST.text:
                    raise
            session.call(methods.ROLE_ADD, pb.AuthRoleAddRequest(name="root"), limit_s)
            session.call(methods.USER_GRANT_ROLE, pb.AuthUserGrantRoleRequest(user="root", role="root"), limit_s)
    except CallError as error:
        raise ExitError(ERROR, error.text) from None
    context.print("Authentication Enabled\n")


def disable(context: Context) -> None:
    """Disable authentication."""
    _need(context, 0, "auth disable command does not accept any arguments")
    call(context, methods.AUTH_DISABLE, pb.AuthDisableRequest())
    context.print("Authentication Disabled\n")


def status(context: Context) -> None:
    """Tell whether authentication is on."""
    _need(context, 0, "auth status command does not accept any arguments")
    context.printer.show("auth-status", call(context, methods.AUTH_STATUS, pb.AuthStatusRequest()))


# Users


def _one_word() -> str:
    words = sys.stdin.readline().split()
    return words[0] if words else ""


def _new_password(context: Context, name: str) -> str:
    if not context.on("interactive"):
        return _one_word()
    first = ask(f"Password of {name}: ")
    if not first:
        raise bad_args("empty password")
    if ask(f"Type password of {name} again for confirmation: ") != first:
        raise bad_args("given passwords are different")
    return first


def user_add(context: Context) -> None:
    """Add a user."""
    name = _need(context, 1, "user add command requires user name as its argument")[0]
    password = ""
    no_password = context.on("no-password")
    if not no_password:
        password = context.text("new-user-password")
        if not password and ":" in name:
            name, _, password = name.partition(":")
            if not name:
                raise bad_args("empty user name is not allowed")
        elif not password:
            password = _new_password(context, name)
    options = auth_pb2.UserAddOptions(no_password=no_password)
    request = pb.AuthUserAddRequest(name=name, password=password, options=options)
    context.printer.show("user-add", call(context, methods.USER_ADD, request, limited=False), name)


def user_delete(context: Context) -> None:
    """Delete a user."""
    name = _need(context, 1, "user delete command requires user name as its argument")[0]
    answer = call(context, methods.USER_DELETE, pb.AuthUserDeleteRequest(name=name), limited=False)
    context.printer.show("user-delete", answer, name)


def user_get(context: Context) -> None:
    """Show a user's roles, with --detail their permissions."""
    name = _need(context, 1, "user get command requires user name as its argument")[0]
    answer = call(context, methods.USER_GET, pb.AuthUserGetRequest(name=name), limited=False)
    if not context.on("detail"):
        context.printer.show("user-get", answer, name)
        return
    context.print(f"User: {name}\n")
    for role in answer.roles:
        context.print("\n")
        request = pb.AuthRoleGetRequest(role=role)
        context.printer.show("role-get", call(context, methods.ROLE_GET, request, limited=False), role)


def user_list(context: Context) -> None:
    """List all users."""
    _need(context, 0, "user list command requires no arguments")
    context.printer.show("user-list", call(context, methods.USER_LIST, pb.AuthUserListRequest(), limited=False))


def user_passwd(context: Context) -> None:
    """Change a password."""
    name = _need(context, 1, "user passwd command requires user name as its argument")[0]
    request = pb.AuthUserChangePasswordRequest(name=name, password=_new_password(context, name))
    context.printer.show("user-passwd", call(context, methods.USER_CHANGE_PASSWORD, request, limited=False))


def user_grant(context: Context) -> None:
    """Give a user a role."""
    user, role = _need(context, 2, "user grant command requires user name and role name as its argument")
    answer = call(context, methods.USER_GRANT_ROLE, pb.AuthUserGrantRoleRequest(user=user, role=role), limited=False)
    context.printer.show("user-grant", answer, user, role)


def user_revoke(context: Context) -> None:
    """Take a role from a user."""
    user, role = _need(context, 2, "user revoke-role requires user name and role name as its argument")
    answer = call(context, methods.USER_REVOKE_ROLE, pb.AuthUserRevokeRoleRequest(name=user, role=role), limited=False)
    context.printer.show("user-revoke", answer, user, role)


# Roles


def role_add(context: Context) -> None:
    """Add a role."""
    name = _need(context, 1, "role add command requires role name as its argument")[0]
    answer = call(context, methods.ROLE_ADD, pb.AuthRoleAddRequest(name=name), limited=False)
    context.printer.show("role-add", answer, name)


def role_delete(context: Context) -> None:
    """Delete a role."""
    name = _need(context, 1, "role delete command requires role name as its argument")[0]
    answer = call(context, methods.ROLE_DELETE, pb.AuthRoleDeleteRequest(role=name), limited=False)
    context.printer.show("role-delete", answer, name)


def role_get(context: Context) -> None:
    """Show a role's permissions."""
    name = _need(context, 1, "role get command requires role name as its argument")[0]
    answer = call(context, methods.ROLE_GET, pb.AuthRoleGetRequest(role=name), limited=False)
    context.printer.show("role-get", answer, name)


def role_list(context: Context) -> None:
    """List all roles."""
    _need(context, 0, "role list command requires no arguments")
    context.printer.show("role-list", call(context, methods.ROLE_LIST, pb.AuthRoleListRequest(), limited=False))


def _permitted(context: Context, args: list[str]) -> tuple[bytes, bytes]:
    prefix, from_key = context.on("prefix"), context.on("from-key")
    key = encode(args[0])
    if prefix and from_key and (not key or len(args) == 1):
        raise bad_args("--from-key and --prefix flags are mutually exclusive")
    if not key:
        return b"\0", b"\0" if prefix or from_key else b""
    if len(args) > 1:
        if prefix or from_key:
            raise bad_args(f"unexpected endkey argument with --{'prefix' if prefix else 'from-key'} flag")
        return key, encode(args[1])
    return key, prefix_end(key) if prefix else b"\0" if from_key else b""


def role_grant(context: Context) -> None:
    """Let a role read or write."""
    args = context.args
    if len(args) < 3:
        raise bad_args("role grant command requires role name, permission type, and key [endkey] as its argument")
    kind = PERMISSIONS.get(args[1].upper())
    if kind is None:
        raise bad_args(f"invalid permission type: {args[1]}")
    key, end = _permitted(context, args[2:])
    permission = auth_pb2.Permission(permType=kind, key=key, range_end=end)
    request = pb.AuthRoleGrantPermissionRequest(name=args[0], perm=permission)
    context.printer.show("role-grant", call(context, methods.ROLE_GRANT_PERMISSION, request, limited=False), args[0])


def role_revoke(context: Context) -> None:
    """Take a permission from a role."""
    args = context.args
    if len(args) < 2:
        raise bad_args("role revoke-permission command requires role name and key [endkey] as its argument")
    key, end = _permitted(context, args[1:])
    request = pb.AuthRoleRevokePermissionRequest(role=args[0], key=key, range_end=end)
    answer = call(context, methods.ROLE_REVOKE_PERMISSION, request, limited=False)
    context.printer.show("role-revoke", answer, args[0], encode(args[1]), end)
