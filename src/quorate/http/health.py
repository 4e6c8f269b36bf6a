"""/health, as load balancers and old probes ask it, and the /livez and /readyz checks of Kubernetes.

/health answers `{"health":"true","reason":""}` with 200, or 503 with the first of: an alarm that is not excluded, no
leader, a read that fails. `serializable=true` asks for this member alone. /livez and /readyz run named checks, each
also a path of its own; what fails is listed, and `verbose` lists everything.
Source: etcd's server/etcdserver/api/etcdhttp/health.go (3.6).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from quorate.errors import RpcError
from quorate.http.mux import Mux, Reply, Request, Response, not_allowed, text_error
from quorate.ports import Completion, Log
from quorate.proto.rpc_pb2 import RangeRequest
from quorate.server.alarm import CORRUPT
from quorate.server.core import Server

ALARM_NAMES: Final = {1: "NOSPACE", 2: "CORRUPT"}
_CALLER: Final = "etcdhttp/health.go"

Then = Callable[[str], None]
"""Gets the reason of a failure, or an empty text."""


class HealthStats:
    """What the metrics report about health checks."""

    def __init__(self) -> None:
        self.success = 0
        self.failures = 0
        self.checks: dict[tuple[str, str, str], int] = {}
        self.results: dict[tuple[str, str], int] = {}

    def record(self, kind: str, name: str, error: str) -> None:
        """Count one check of /livez or /readyz."""
        status = "error" if error else "success"
        key = (kind, name, status)
        self.checks[key] = self.checks.get(key, 0) + 1
        self.results[kind, name] = 0 if error else 1


class _Read(Completion):
    """Waits for a range; what it holds does not matter."""

    def __init__(self, then: Then) -> None:
        self.then = then

    def complete(self, response: bytes) -> None:  # noqa: ARG002
        """The read works."""
        self.then("")

    def fail(self, error: RpcError) -> None:
        """The read does not."""
        self.then(error.text)

    def as_root(self) -> bool:
        """Ask in the member's own name."""
        return True


class Health:
    """The health of one member. `server` is None until there is one to ask."""

    def __init__(self, log: Log, server: Callable[[], Server | None]) -> None:
        self.log = log
        self.server = server
        self.stats = HealthStats()
        self.suites: dict[str, dict[str, Callable[[Then], None]]] = {
            "livez": {"serializable_read": self._serializable_read},
            "readyz": {
                "data_corruption": self._data_corruption,
                "serializable_read": self._serializable_read,
                "linearizable_read": self._linearizable_read,
                "non_learner": self._non_learner,
            },
        }

    def register(self, mux: Mux) -> None:
        """Add the paths."""
        mux.add("/health", self.health)
        for kind, checks in self.suites.items():
            mux.add(f"/{kind}", self._root(kind))
            for name in checks:
                mux.add(f"/{kind}/{name}", self._single(kind, name))

    # -- /health

    def health(self, request: Request, reply: Reply) -> None:
        """Answer /health."""
        if request.method != "GET":
            self.log.warn(_CALLER, "/health error", status_code=405)
            reply(not_allowed())
            return
        serializable = request.values("serializable")[:1] == ["true"]

        def then(reason: str) -> None:
            self._answer_health(reason, reply)

        self._find_reason(set(request.values("exclude")), serializable, then)

    def _find_reason(self, excluded: set[str], serializable: bool, then: Then) -> None:
        server = self.server()
        if server is None:
            then("RAFT NO LEADER")
            return
        for alarm, member_id in server.alarms.list():
            name = ALARM_NAMES.get(alarm, "UNKNOWN")
            if name in excluded:
                continue
            what = f"memberID:{member_id} alarm:{name} "
            self.log.warn(_CALLER, "serving /health false due to an alarm", alarm=what)
            then(f"ALARM {name}")
            return
        if not serializable and not server.has_leader():
            self.log.warn(_CALLER, "serving /health false; no leader")
            then("RAFT NO LEADER")
            return

        def after_read(error: str) -> None:
            if error:
                self.log.warn(_CALLER, "serving /health false; Range fails", error=error)
            then(f"RANGE ERROR:{error}" if error else "")

        self._read(serializable, after_read)

    def _answer_health(self, reason: str, reply: Reply) -> None:
        body = json.dumps({"health": "false" if reason else "true", "reason": reason}, separators=(",", ":"))
        if not reason:
            self.stats.success += 1
            reply(Response(200, body.encode()))
            return
        self.stats.failures += 1
        self.log.warn(_CALLER, "/health error", output=body, status_code=503)
        reply(text_error(503, body))

    # -- /livez and /readyz

    def _root(self, kind: str) -> Callable[[Request, Reply], None]:
        def handle(request: Request, reply: Reply) -> None:
            excluded = {name for name in request.values("exclude") if name}
            names = [name for name in self.suites[kind] if name not in excluded]
            missing = sorted(excluded - set(self.suites[kind]))
            if missing:
                quoted = ",".join(f'"{name}"' for name in missing)
                self.log.warn(_CALLER, "some health checks cannot be excluded", missing_health_checks=quoted)
            self._run(kind, names, request, reply)

        return handle

    def _single(self, kind: str, name: str) -> Callable[[Request, Reply], None]:
        def handle(request: Request, reply: Reply) -> None:
            self._run(kind, [name], request, reply)

        return handle

    def _run(self, kind: str, names: list[str], request: Request, reply: Reply) -> None:
        if request.method != "GET":
            self.log.warn(_CALLER, "Health request error", path=request.path, status_code=405)
            reply(not_allowed())
            return
        lines: list[str] = []
        failed = [False]

        def next_check(position: int) -> None:
            if position == len(names):
                self._answer_checks(request, "".join(lines), failed[0], reply)
                return
            name = names[position]

            def then(error: str) -> None:
                self.stats.record(kind, name, error)
                lines.append(f"[-]{name} failed: {error}\n" if error else f"[+]{name} ok\n")
                failed[0] = failed[0] or bool(error)
                next_check(position + 1)

            self.suites[kind][name](then)

        next_check(0)

    def _answer_checks(self, request: Request, reason: str, failed: bool, reply: Reply) -> None:
        if failed:
            fields: dict[str, object] = {"path": request.path, "reason": reason, "status-code": 503}
            self.log.error(_CALLER, "Health check error", **fields)
            reply(text_error(503, reason))
            return
        response = text_error(200, "ok")
        if request.values("verbose"):
            response.body = reason.encode() + response.body
        reply(response)

    def _read(self, serializable: bool, then: Then) -> None:
        server = self.server()
        if server is None:
            then("etcdserver: no leader")
            return
        request = RangeRequest(key=b"\0", limit=1, keys_only=True, serializable=serializable)
        server.range(request, _Read(then))

    def _serializable_read(self, then: Then) -> None:
        self._read(True, then)

    def _linearizable_read(self, then: Then) -> None:
        self._read(False, then)

    def _data_corruption(self, then: Then) -> None:
        server = self.server()
        active = server is not None and bool(server.alarms.list(CORRUPT))
        then("alarm activated: CORRUPT" if active else "")

    def _non_learner(self, then: Then) -> None:
        server = self.server()
        then("not supported for learner" if server is not None and server.is_learner() else "")
