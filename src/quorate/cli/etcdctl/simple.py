"""The simple format (etcd: etcdctl/ctlv3/command/printer_simple.go)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from quorate.cli.etcdctl.gotext import encode
from quorate.cli.etcdctl.output import Printer, write
from quorate.cli.etcdctl.table import hash_rows, member_rows, status_rows
from quorate.client.policy import prefix_end
from quorate.proto.auth_pb2 import Permission

OPEN_END = b"\0"


class SimplePrinter(Printer):
    """Lines for people and scripts."""

    name = "simple"

    def __init__(self, hexadecimal: bool) -> None:
        self.hexadecimal = hexadecimal
        self.value_only = False

    def show(self, kind: str, answer: Any, *extra: Any) -> None:
        """Print an answer."""
        if kind in KINDS:
            write(KINDS[kind](self, answer, *extra))
        elif kind == "endpoint-health":
            _health(answer)
        else:
            write((LINES[kind](answer, *extra) + "\n").encode("utf-8", "surrogateescape"))

    def pair(self, kv: Any) -> bytes:
        """Return a key and its value, a line each."""
        key, value = kv.key, kv.value
        if self.hexadecimal:
            key, value = [b"".join([b"\\x%02x" % byte for byte in data]) for data in (key, value)]
        both: bytes = value + b"\n" if self.value_only else key + b"\n" + value + b"\n"
        return both

    def pairs(self, kvs: Any) -> bytes:
        """Return several."""
        return b"".join([self.pair(kv) for kv in kvs])


def _get(printer: SimplePrinter, answer: Any) -> bytes:
    return printer.pairs(answer.kvs)


def _put(printer: SimplePrinter, answer: Any) -> bytes:
    return b"OK\n" + (printer.pair(answer.prev_kv) if answer.HasField("prev_kv") else b"")


def _delete(printer: SimplePrinter, answer: Any) -> bytes:
    return b"%d\n" % answer.deleted + printer.pairs(answer.prev_kvs)


def _txn(printer: SimplePrinter, answer: Any) -> bytes:
    out = b"SUCCESS\n" if answer.succeeded else b"FAILURE\n"
    parts = {"response_range": _get, "response_put": _put, "response_delete_range": _delete}
    for each in answer.responses:
        kind = each.WhichOneof("response")
        out += b"\n" + (parts[kind](printer, getattr(each, kind)) if kind in parts else b"")
    return out


def _watch(printer: SimplePrinter, answer: Any) -> bytes:
    out = b""
    for event in answer.events:
        out += b"DELETE\n" if event.type else b"PUT\n"
        if event.HasField("prev_kv"):
            out += printer.pair(event.prev_kv)
        out += printer.pair(event.kv)
    return out


def _time_to_live(_: SimplePrinter, answer: Any, keys: bool) -> bytes:
    lease = b"lease " + lease_id(answer.ID).encode()
    if answer.grantedTTL == 0 and answer.TTL == -1:
        return lease + b" already expired\n"
    out = lease + b" granted with TTL(%ds), remaining(%ds)" % (answer.grantedTTL, answer.TTL)
    return out + (b", attached keys([" + b" ".join(answer.keys) + b"])" if keys else b"") + b"\n"


def _role_get(_: SimplePrinter, answer: Any, role: str) -> bytes:
    out = b"Role " + encode(role) + b"\n"
    for heading, wanted in ((b"KV Read:\n", Permission.READ), (b"KV Write:\n", Permission.WRITE)):
        out += heading
        if role == "root" and not answer.perm:
            out += b"\t[, <open ended>\n"
        for perm in answer.perm:
            if perm.permType in (wanted, Permission.READWRITE):
                out += b"\t" + _span(perm.key, perm.range_end) + b"\n"
    return out


def _span(key: bytes, end: bytes) -> bytes:
    if not end:
        return key
    out = b"[" + key + (b", <open ended>" if end == OPEN_END else b", " + end + b")")
    return out + (b" (prefix " + key + b")" if key and prefix_end(key) == end else b"")


def _role_revoke(_: SimplePrinter, __: Any, role: str, key: bytes, end: bytes) -> bytes:
    if not end:
        what = b"key " + key
    elif end == OPEN_END:
        what = b"range [" + key + b", <open ended>"
    else:
        what = b"range [" + key + b", " + end + b")"
    return b"Permission of " + what + b" is revoked from role " + encode(role) + b"\n"


def _health(found: Any) -> None:
    for each in found:
        if each.error:
            sys.stderr.write(f"{each.endpoint} is unhealthy: failed to commit proposal: {each.error}\n")
        else:
            text = f"{each.endpoint} is healthy: successfully committed proposal: took = {each.took}\n"
            write(text.encode())
    sys.stderr.flush()


def _rows(make: Callable[[Any], tuple[list[str], list[list[str]]]]) -> Callable[[SimplePrinter, Any], bytes]:
    def show(_: SimplePrinter, answer: Any) -> bytes:
        return "".join([", ".join(row) + "\n" for row in make(answer)[1]]).encode()

    return show


def lease_id(number: int) -> str:
    """Return a lease's id as Go's %016x prints an int64."""
    return f"{number:016x}" if number >= 0 else f"-{-number:015x}"


def _names(_: SimplePrinter, names: Any) -> bytes:
    return b"".join([encode(name) + b"\n" for name in names])


def _member(verb: str) -> Callable[..., str]:
    return lambda answer, member_id: f"Member {member_id:16x} {verb} cluster {answer.header.cluster_id:16x}"


def _member_add(answer: Any) -> str:
    learner = "as learner " if answer.member.isLearner else ""
    return f"Member {answer.member.ID:16x} added {learner}to cluster {answer.header.cluster_id:16x}"


def _alarms(_: SimplePrinter, answer: Any) -> bytes:
    out = ""
    for each in answer.alarms:
        name = {1: "NOSPACE", 2: "CORRUPT"}.get(each.alarm, str(each.alarm))
        member = f"memberID:{each.memberID} " if each.memberID else ""
        out += f"{member}alarm:{name} \n" if each.alarm else f"{member}\n"
    return out.encode()


KINDS: dict[str, Callable[..., bytes]] = {
    "get": _get,
    "put": _put,
    "delete": _delete,
    "txn": _txn,
    "watch": _watch,
    "time-to-live": _time_to_live,
    "role-get": _role_get,
    "role-revoke": _role_revoke,
    "role-list": lambda printer, answer: _names(printer, answer.roles),
    "user-list": lambda printer, answer: _names(printer, answer.users),
    "alarm": _alarms,
    "member-list": _rows(member_rows),
    "endpoint-status": _rows(status_rows),
    "endpoint-hashkv": _rows(hash_rows),
    "leases": lambda _, answer: (
        f"found {len(answer.leases)} leases\n" + "".join([lease_id(each.ID) + "\n" for each in answer.leases])
    ).encode(),
}
LINES: dict[str, Callable[..., str]] = {
    "grant": lambda answer: f"lease {lease_id(answer.ID)} granted with TTL({answer.TTL}s)",
    "revoke": lambda _, lease: f"lease {lease_id(lease)} revoked",
    "keep-alive": lambda answer: f"lease {lease_id(answer.ID)} keepalived with TTL({answer.TTL})",
    "member-add": _member_add,
    "member-remove": _member("removed from"),
    "member-update": _member("updated in"),
    "member-promote": _member("promoted in"),
    "move-leader": lambda _, leader, target: f"Leadership transferred from {leader:x} to {target:x}",
    "downgrade-validate": lambda answer: f"Downgrade validate success, cluster version {answer.version}",
    "downgrade-enable": lambda answer: f"Downgrade enable success, cluster version {answer.version}",
    "downgrade-cancel": lambda answer: f"Downgrade cancel success, cluster version {answer.version}",
    "role-add": lambda _, role: f"Role {role} created",
    "role-delete": lambda _, role: f"Role {role} deleted",
    "role-grant": lambda _, role: f"Role {role} updated",
    "user-add": lambda _, user: f"User {user} created",
    "user-delete": lambda _, user: f"User {user} deleted",
    "user-get": lambda answer, user: f"User: {user}\nRoles:" + "".join([f" {role}" for role in answer.roles]),
    "user-passwd": lambda _: "Password updated",
    "user-grant": lambda _, user, role: f"Role {role} is granted to user {user}",
    "user-revoke": lambda _, user, role: f"Role {role} is revoked from user {user}",
    "auth-status": lambda answer: (
        f"Authentication Status: {str(answer.enabled).lower()}\nAuthRevision: {answer.authRevision}"
    ),
}
