"""/debug/vars: what Go's expvar shows of an etcd, as one JSON object. /config/local/log: setting the log's level.

    {
    "cmdline": ["etcd","--name=m1"],
    "file_descriptor_limit": 20000,
    "memstats": {"Alloc":6831760,...},
    "raft.status": {"id":"8e9e05c52164694d","term":2,...,"progress":{"8e9e...":{"match":6,"next":7,"state":...}}}
    }

`memstats` has the names of Go's runtime.MemStats that mean something here (see runtime.usage). The log's level could be
set by a request up to etcd 3.4; here it can be where profiles are served (--enable-pprof).
Source: etcd's server/etcdserver/api/etcdhttp/base.go and metrics (expvar), raft's status.go.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from quorate.http.mux import Mux, Reply, Request, Response, not_allowed
from quorate.raft.core import ROLE_NAMES
from quorate.raft.node import Status
from quorate.raft.tracker import PROGRESS_NAMES
from quorate.server.core import Server

_LEVELS: Final = ("debug", "info", "warn", "error", "dpanic", "panic", "fatal")
_OLD_LEVELS: Final = {"notice": "info", "warning": "warn", "critical": "fatal", "trace": "debug"}


class DebugVars:
    """Answers /debug/vars."""

    def __init__(
        self,
        server: Callable[[], Server | None],
        command: Sequence[str],
        descriptors: Callable[[], int],
        memory: Callable[[], Mapping[str, object]],
    ) -> None:
        """`descriptors`: how many the process may open; `memory`: Go's names for what it uses, with the values."""
        self.server = server
        self.command = list(command)
        self.descriptors = descriptors
        self.memory = memory

    def register(self, mux: Mux) -> None:
        """Add the path."""
        mux.add("/debug/vars", self.show)

    def show(self, request: Request, reply: Reply) -> None:  # noqa: ARG002
        """Answer any method."""
        shown: dict[str, object] = {"cmdline": self.command, "file_descriptor_limit": self.descriptors()}
        shown["memstats"] = dict(self.memory())
        server = self.server()
        if server is not None:
            shown["raft.status"] = raft_status(server.node.status())
        lines = [f"{json.dumps(name)}: {json.dumps(value, separators=(',', ':'))}" for name, value in shown.items()]
        body = "{\n" + ",\n".join(lines) + "\n}\n"
        reply(Response(200, body.encode(), (("Content-Type", "application/json; charset=utf-8"),)))


def raft_status(status: Status) -> dict[str, object]:
    """Return raft's own words for its state."""
    progress = {
        f"{member:x}": {"match": one.match, "next": one.next, "state": PROGRESS_NAMES[one.state]}
        for member, one in sorted(status.progress.items())
    }
    return {
        "id": f"{status.id:x}",
        "term": status.term,
        "vote": f"{status.vote:x}",
        "commit": status.commit,
        "lead": f"{status.lead:x}",
        "raftState": ROLE_NAMES[status.state],
        "applied": status.applied,
        "progress": progress,
        "leadtransferee": f"{status.lead_transferee:x}",
    }


class LogLevel:
    """Answers PUT /config/local/log: {"Level":"DEBUG"}."""

    def __init__(self, set_level: Callable[[str], None]) -> None:
        self.set_level = set_level

    def register(self, mux: Mux) -> None:
        """Add the path."""
        mux.add("/config/local/log", self.change)

    def change(self, request: Request, reply: Reply) -> None:
        """Set the level, and answer 204."""
        if request.method != "PUT":
            reply(not_allowed("PUT"))
            return
        try:
            body = json.loads(request.body)
            wanted = {str(name).lower(): value for name, value in body.items()}.get("level", "")
        except (ValueError, AttributeError):
            reply(_message(400, "Invalid json body"))
            return
        level = _OLD_LEVELS.get(str(wanted).lower(), str(wanted).lower())
        if level not in _LEVELS:
            reply(_message(400, f"Invalid log level {wanted}"))
            return
        self.set_level(level)
        reply(Response(204, b"", ()))


def _message(status: int, text: str) -> Response:
    body = json.dumps({"message": text}, separators=(",", ":")).encode()
    return Response(status, body, (("Content-Type", "application/json"),))
