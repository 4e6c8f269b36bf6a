"""What the log says of requests that took long or failed, and where their time went.

    apply request took too long     one entry, or one read, over --warning-apply-duration; counted in slow_apply_total
    failed to apply request         an entry whose request was refused by the state
    trace[N] put                    a request that took over 100 ms in all, with the steps that took most of it

Texts are made only when a line is really written: fields are objects with a `__str__`, which the log asks for last.
Source: etcd's server/etcdserver/txn/util.go, pkg/traceutil/trace.go.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError, Message

from quorate.errors import COMPACTED, FUTURE_REV, LEASE_EXIST, LEASE_NOT_FOUND, LEASE_TTL_TOO_LARGE, RpcError
from quorate.measure import format_duration
from quorate.ports import Log, Loop, Moment
from quorate.proto.raft_internal_pb2 import InternalRaftRequest
from quorate.proto.rpc_pb2 import RangeRequest, TxnRequest
from quorate.server import entry as kinds
from quorate.server.gotext import loggable
from quorate.server.stats import ServerStats

TRACE_NS: Final = 100_000_000

_UTIL: Final = "txn/util.go"
_TRACE: Final = "traceutil/trace.go"
_TRACED: Final = {
    kinds.PUT: "put",
    kinds.TXN: "transaction",
    kinds.DELETE_RANGE: "delete_range",
    kinds.COMPACTION: "compact",
    kinds.LEASE_GRANT: "lease_grant",
    kinds.LEASE_REVOKE: "lease_revoke",
}


_INNER: Final = {
    LEASE_NOT_FOUND.text: "lease not found",
    LEASE_EXIST.text: "lease already exists",
    LEASE_TTL_TOO_LARGE.text: "too large lease TTL",
    COMPACTED.text: "mvcc: required revision has been compacted",
    FUTURE_REV.text: "mvcc: required revision is a future revision",
}


class _Request:
    """A request as text, made when it is asked for."""

    def __init__(self, kind: int, request: object, data: bytes = b"") -> None:
        self._kind = kind
        self._request = request
        self._data = data  # of the entry, which holds the header

    def __str__(self) -> str:
        request = self._request
        if not isinstance(request, Message):
            return ""
        if self._kind == kinds.EMPTY:
            return loggable(request)
        named = f"{kinds.NAMES.get(self._kind, 'unknown')}:<{loggable(request)}>"
        if self._kind not in (kinds.PUT, kinds.TXN):
            named += " "
        try:
            header = InternalRaftRequest.FromString(self._data).header
        except DecodeError:
            return named
        return f"header:<{loggable(header)}> {named}"


def _inner(kind: int, error: RpcError) -> str:
    """Return the words that etcd has inside for an error that clients see in others."""
    if kinds.AUTH_FIRST <= kind <= kinds.AUTH_LAST:
        return error.text.replace("etcdserver: ", "auth: ", 1)
    return _INNER.get(error.text, error.text)


class SlowLog:
    """Says what was slow. `warning_ns`: from when on an entry or a read is."""

    def __init__(self, loop: Loop, log: Log, warning_ns: int, stats: ServerStats) -> None:
        self._loop = loop
        self._log = log
        self._stats = stats
        self.warning_ns = warning_ns

    def entry(
        self, kind: int, request: object, data: bytes, response: bytes, error: RpcError | None, took_ns: int
    ) -> None:
        """An entry was applied, and was slow or refused."""
        size = f"size:{len(response)}" if error is None else ""
        if took_ns > self.warning_ns:
            self._too_long("", _Request(kind, request, data), size, error, took_ns)
        if error is not None:
            fields: dict[str, object] = {"took": format_duration(took_ns), "request": _Request(kind, request, data)}
            self._log.warn(_UTIL, "failed to apply request", **fields, response=size, error=_inner(kind, error))

    def read(self, request: object, response: bytes, error: RpcError | None, begun_ns: int, run_ns: int) -> None:
        """A read that came at `begun_ns` and was run at `run_ns` is answered, and took longer than it should."""
        now_ns = self._loop.monotonic_ns()
        size = f"size:{len(response)}" if error is None else ""
        ranged = isinstance(request, RangeRequest)
        if now_ns - begun_ns > self.warning_ns:
            prefix = "read-only range " if ranged else "read-only txn "
            self._too_long(prefix, _Request(kinds.EMPTY, request), size, error, now_ns - begun_ns)
        if now_ns - begun_ns > TRACE_NS:
            waited = "agreement among raft nodes before linearized reading"
            steps = [(waited, run_ns - begun_ns), ("range keys from in-memory index tree", now_ns - run_ns)]
            self._trace("range" if ranged else "transaction", _detail(request, len(response)), steps)

    def write(self, kind: int, request: object, response: object, begun_ns: int, apply_ns: int, end_ns: int) -> None:
        """A client's write that came at `begun_ns` is applied, after more than TRACE_NS."""
        size = len(response) if isinstance(response, bytes) else 0
        steps = [("process raft request", apply_ns - begun_ns), ("apply request", end_ns - apply_ns)]
        if kind in _TRACED:
            self._trace(_TRACED[kind], _detail(request, size), steps)

    def _too_long(self, prefix: str, request: _Request, response: str, error: RpcError | None, took_ns: int) -> None:
        self._stats.slow_apply_total += 1
        fields: dict[str, object] = {
            "took": format_duration(took_ns),
            "expected-duration": format_duration(self.warning_ns),
            "prefix": prefix,
            "request": request,
            "response": response,
        }
        if error is not None:
            fields["error"] = error.text
        self._log.warn(_UTIL, "apply request took too long", **fields)

    def _trace(self, operation: str, detail: str, steps: list[tuple[str, int]]) -> None:
        number = self._loop.random_bits(31)
        end_ns = self._loop.time_ns()
        total_ns = sum([took_ns for _, took_ns in steps])
        least_ns = TRACE_NS // (len(steps) + 1)
        said = [
            f"trace[{number}] '{name}'  (duration: {format_duration(took_ns)})"
            for name, took_ns in steps
            if took_ns > least_ns
        ]
        fields: dict[str, object] = {
            "detail": detail,
            "duration": format_duration(total_ns),
            "start": Moment(end_ns - total_ns),
            "end": Moment(end_ns),
            "steps": said,
            "step_count": len(said),
        }
        self._log.info(_TRACE, f"trace[{number}] {operation}", **fields)


def _detail(request: object, response_size: int) -> str:
    """Return what a trace says of its request, "{key:a; req_size:9; }"."""
    parts: list[str] = []
    if isinstance(request, RangeRequest):
        parts = [f"range_begin:{_text(request.key)}", f"range_end:{_text(request.range_end)}"]
    elif isinstance(request, TxnRequest):
        parts = [f"read_only:{'false' if _writes(request) else 'true'}"]
    elif isinstance(request, Message) and "key" in request.DESCRIPTOR.fields_by_name:
        key: bytes = getattr(request, "key")  # noqa: B009
        parts = [f"key:{_text(key)}", f"req_size:{request.ByteSize()}"]
    parts.append(f"response_size:{response_size}")
    return "{" + "".join([f"{part}; " for part in parts]) + "}"


def _writes(request: TxnRequest) -> bool:
    return any(op.WhichOneof("request") not in (None, "request_range") for op in (*request.success, *request.failure))


def _text(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")
