"""The fields format: a `"Name" : value` a line (etcd: etcdctl/ctlv3/command/printer_fields.go)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quorate.cli.etcdctl.gotext import quote
from quorate.cli.etcdctl.output import Printer, write
from quorate.cli.etcdctl.simple import lease_id

ALARMS = {0: "NONE", 1: "NOSPACE", 2: "CORRUPT"}
PERMISSIONS = ("READ", "WRITE", "READWRITE")
HEADER_ONLY = (
    "revoke", "role-add", "role-delete", "role-grant", "role-revoke", "user-add", "user-passwd", "user-grant",
    "user-revoke", "user-delete",
)  # fmt: skip


def _text(value: bool) -> str:
    return "true" if value else "false"


class FieldsPrinter(Printer):
    """Lines of names and values."""

    name = "fields"

    def __init__(self, hexadecimal: bool) -> None:
        self.hexadecimal = hexadecimal
        self._lines: list[str] = []

    def show(self, kind: str, answer: Any, *extra: Any) -> None:  # noqa: ARG002
        """Print an answer."""
        self._lines = []
        if kind in HEADER_ONLY:
            self.header(answer.header)
        elif kind in KINDS:
            KINDS[kind](self, answer)
        else:
            raise self.unsupported()
        write("".join([line + "\n" for line in self._lines]).encode("utf-8", "surrogateescape"))

    def line(self, name: str, value: object) -> None:
        """Add a line."""
        self._lines.append(f'"{name}" : {value}')

    def blank(self) -> None:
        """Add an empty line."""
        self._lines.append("")

    def member_id(self, name: str, number: int) -> None:
        """Add a member's or cluster's id."""
        self.line(name, f"{number:x}" if self.hexadecimal else number)

    def lease(self, name: str, number: int) -> None:
        """Add a lease's id."""
        self.line(name, lease_id(number) if self.hexadecimal else number)

    def header(self, header: Any) -> None:
        """Add the response header."""
        self.member_id("ClusterID", header.cluster_id)
        self.member_id("MemberID", header.member_id)
        if header.revision > 0:
            self.line("Revision", header.revision)
        self.line("RaftTerm", header.raft_term)

    def pair(self, prefix: str, kv: Any) -> None:
        """Add a key with all its fields."""
        self.line(prefix + "Key", quote(kv.key))
        self.line(prefix + "CreateRevision", kv.create_revision)
        self.line(prefix + "ModRevision", kv.mod_revision)
        self.line(prefix + "Version", kv.version)
        self.line(prefix + "Value", quote(kv.value))
        self.lease(prefix + "Lease", kv.lease)


def _get(out: FieldsPrinter, answer: Any) -> None:
    out.header(answer.header)
    for kv in answer.kvs:
        out.pair("", kv)
    out.line("More", _text(answer.more))
    out.line("Count", answer.count)


def _put(out: FieldsPrinter, answer: Any) -> None:
    out.header(answer.header)
    if answer.HasField("prev_kv"):
        out.pair("Prev", answer.prev_kv)


def _delete(out: FieldsPrinter, answer: Any) -> None:
    out.header(answer.header)
    out.line("Deleted", answer.deleted)
    for kv in answer.prev_kvs:
        out.pair("Prev", kv)


def _txn(out: FieldsPrinter, answer: Any) -> None:
    out.header(answer.header)
    out.line("Succeeded", _text(answer.succeeded))
    parts = {"response_range": _get, "response_put": _put, "response_delete_range": _delete}
    for each in answer.responses:
        kind = each.WhichOneof("response")
        if kind in parts:
            parts[kind](out, getattr(each, kind))


def _watch(out: FieldsPrinter, answer: Any) -> None:
    out.header(answer.header)
    for event in answer.events:
        out.line("Type", "DELETE" if event.type else "PUT")
        if event.HasField("prev_kv"):
            out.pair("Prev", event.prev_kv)
        out.pair("", event.kv)


def _granted(out: FieldsPrinter, answer: Any) -> None:
    out.header(answer.header)
    out.lease("ID", answer.ID)
    out.line("TTL", answer.TTL)


def _time_to_live(out: FieldsPrinter, answer: Any) -> None:
    _granted(out, answer)
    out.line("GrantedTTL", answer.grantedTTL)
    for key in answer.keys:
        out.line("Key", quote(key))


def _leases(out: FieldsPrinter, answer: Any) -> None:
    out.header(answer.header)
    for each in answer.leases:
        out.lease("ID", each.ID)


def _members(out: FieldsPrinter, answer: Any) -> None:
    out.header(answer.header)
    for member in answer.members:
        out.member_id("ID", member.ID)
        out.line("Name", quote(member.name))
        for url in member.peerURLs:
            out.line("PeerURL", quote(url))
        for url in member.clientURLs:
            out.line("ClientURL", quote(url))
        out.line("IsLearner", _text(member.isLearner))
        out.blank()


def _health(out: FieldsPrinter, found: Any) -> None:
    for each in found:
        out.line("Endpoint", quote(each.endpoint))
        out.line("Health", _text(each.health))
        out.line("Took", each.took)
        out.line("Error", each.error)
        out.blank()


def _status(out: FieldsPrinter, found: Any) -> None:
    for endpoint, status in found:
        out.header(status.header)
        out.line("Version", quote(status.version))
        out.line("StorageVersion", quote(status.storageVersion))
        out.line("DBSize", status.dbSize)
        out.line("DBSizeInUse", status.dbSizeInUse)
        out.line("DBSizeQuota", status.dbSizeQuota)
        out.line("Leader", status.leader)
        out.line("IsLearner", _text(status.isLearner))
        out.line("RaftIndex", status.raftIndex)
        out.line("RaftTerm", status.raftTerm)
        out.line("RaftAppliedIndex", status.raftAppliedIndex)
        out.line("Errors", "[" + " ".join(status.errors) + "]")
        out.line("Endpoint", quote(endpoint))
        out.line("DowngradeTargetVersion", quote(status.downgradeInfo.targetVersion))
        out.line("DowngradeEnabled", _text(status.downgradeInfo.enabled))
        out.blank()


def _hashes(out: FieldsPrinter, found: Any) -> None:
    for endpoint, answer in found:
        out.header(answer.header)
        out.line("Endpoint", quote(endpoint))
        out.line("Hash", answer.hash)
        out.line("HashRevision", answer.hash_revision)
        out.blank()


def _alarms(out: FieldsPrinter, answer: Any) -> None:
    out.header(answer.header)
    for alarm in answer.alarms:
        out.member_id("MemberID", alarm.memberID)
        out.line("AlarmType", ALARMS.get(alarm.alarm, str(alarm.alarm)))
        out.blank()


def _role(out: FieldsPrinter, answer: Any) -> None:
    out.header(answer.header)
    for perm in answer.perm:
        out.line("PermType", " " + PERMISSIONS[perm.permType])
        out.line("Key", quote(perm.key))
        out.line("RangeEnd", quote(perm.range_end))


def _roles(out: FieldsPrinter, answer: Any) -> None:
    out.header(answer.header)
    out._lines.append('"Roles" :' + "".join([" " + quote(role) for role in answer.roles]))


KINDS: dict[str, Callable[[FieldsPrinter, Any], None]] = {
    "get": _get,
    "put": _put,
    "delete": _delete,
    "txn": _txn,
    "watch": _watch,
    "grant": _granted,
    "keep-alive": _granted,
    "time-to-live": _time_to_live,
    "leases": _leases,
    "member-list": _members,
    "endpoint-health": _health,
    "endpoint-status": _status,
    "endpoint-hashkv": _hashes,
    "alarm": _alarms,
    "role-get": _role,
    "role-list": _roles,
}
