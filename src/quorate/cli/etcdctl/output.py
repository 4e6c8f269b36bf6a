"""The five output formats. A command hands over a kind ("get", "member-list", ...) and the answer; a format that cannot
print a kind fails with status 4, as etcd's do, after the call took effect."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from quorate.cli.etcdctl.context import BAD_FEATURE, ExitError

# Kinds whose JSON and protobuf forms etcd's client makes from types of its own, with the header's fields on top.
FLAT = ("grant", "keep-alive", "time-to-live", "leases")


@dataclass
class Health:
    """What `endpoint health` found."""

    endpoint: str
    health: bool
    took: str
    error: str


class Printer:
    """Prints answers."""

    name = ""

    def show(self, kind: str, answer: Any, *extra: Any) -> None:
        """Print an answer; the simple format wants some of the request with it."""
        raise NotImplementedError

    def unsupported(self) -> ExitError:
        """Return the error of a kind this format cannot print."""
        return ExitError(BAD_FEATURE, f"{self.name} not supported as output format")


class ProtobufPrinter(Printer):
    """The message as it came."""

    name = "protobuf"

    def show(self, kind: str, answer: Any, *extra: Any) -> None:  # noqa: ARG002
        """Print the encoded message, without a line end."""
        if kind.startswith("endpoint-") or kind == "move-leader-none":
            raise self.unsupported()
        if kind == "revoke":
            header = answer.header
            text = (
                f"&ResponseHeader{{ClusterId:{header.cluster_id},MemberId:{header.member_id},"
                f"Revision:{header.revision},RaftTerm:{header.raft_term},}}"
            )
            raise ExitError(BAD_FEATURE, f"marshal unsupported for type clientv3.LeaseRevokeResponse ({{{text}}})")
        if kind in FLAT:
            answer = answer.header
        elif kind == "watch":
            copy = type(answer)()
            copy.CopyFrom(answer)
            copy.watch_id = 0
            copy.cancel_reason = ""
            copy.fragment = False
            answer = copy
        write(answer.SerializeToString())


def write(data: bytes) -> None:
    """Write bytes to stdout."""
    sys.stdout.buffer.write(data)
    sys.stdout.flush()


def make_printer(name: str, hexadecimal: bool) -> Printer | None:
    """Return the printer of a format, None for an unknown one."""
    if name == "simple":
        from quorate.cli.etcdctl.simple import SimplePrinter

        return SimplePrinter(hexadecimal)
    if name == "json":
        from quorate.cli.etcdctl.gojson import JsonPrinter

        return JsonPrinter(hexadecimal)
    if name == "fields":
        from quorate.cli.etcdctl.fields import FieldsPrinter

        return FieldsPrinter(hexadecimal)
    if name == "table":
        from quorate.cli.etcdctl.table import TablePrinter

        return TablePrinter()
    return ProtobufPrinter() if name == "protobuf" else None
