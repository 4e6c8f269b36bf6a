"""What every call passes before its service sees it, in etcd's order, and how methods get into the router.

    all calls:  learner -> client-api-version is UTF-8 -> hasleader -> parse -> who asks -> the service's own checks

"Who asks" is for methods that need the root role, or any user, whatever they are asked for, while authentication is
enabled; what depends on keys is checked further in. A call that comes with a token from an entry of the log that this
member has not applied yet waits for that before anything else.

A stream that came with `hasleader: true` is closed with NO_LEADER once there has been no leader for three election
timeouts, so that the client looks for a member on the right side of a partition.

etcd asks first whether the cluster's version has the capability "v3rpc"; every version from 3.0 to ours has, and a
member does not run in a newer cluster, so nothing is left to ask.

Contract: methods are objects made once; no closure or task is made for a call. Bytes that are spliced into the log are
made canonical first (fields in order, none unknown), since every member must be able to decode them.
Source: etcd's server/etcdserver/api/v3rpc/interceptor.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from google.protobuf.message import DecodeError, Message

from quorate import errors
from quorate.api.strict import complaint, unary_error
from quorate.auth.access import NEEDS_NOTHING
from quorate.errors import INTERNAL, RpcError
from quorate.proto.rpc_pb2 import RangeRequest
from quorate.server.core import Server
from quorate.wire.rpc import Router, ServerCall

M = TypeVar("M", bound=Message)

# What a learner serves.
LEARNER_NEVER: Final = 0
LEARNER_ALWAYS: Final = 1
LEARNER_SERIALIZABLE: Final = 2
"""Range, when it is serializable."""

_MAX_VERSIONS: Final = 64
_UNKNOWN_VERSION: Final = b"unknown"
_EARLY_BYTES_MAX: Final = 1 << 20


class Guard:
    """The checks that all methods share.

    `unary_calls` and `stream_calls` count calls by the client's API version, for the metric
    etcd_server_client_requests_total; versions beyond the first 64 are counted together, so that a client cannot fill
    our memory.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.unary_calls: dict[bytes, int] = {}
        self.stream_calls: dict[bytes, int] = {}
        self._needing_leader: dict[ServerCall, None] = {}
        self._sweep_at = 64
        server.no_leader_calls.append(self._close_leaderless)

    def refuse(self, call: ServerCall, learner: int, raw: bytes, counts: dict[bytes, int]) -> RpcError | None:
        """Return why a call must not be served, None when it may."""
        server = self.server
        if learner != LEARNER_ALWAYS and server.is_learner() and not _learner_may(learner, raw):
            return errors.NOT_SUPPORTED_FOR_LEARNER
        version = call.metadata(b"client-api-version")
        if version is None:
            version = _UNKNOWN_VERSION
        if version in counts:
            counts[version] += 1
        elif not _count_first(counts, version):
            return errors.INVALID_CLIENT_API_VERSION
        if not server.has_leader() and call.metadata(b"hasleader") == b"true":
            return errors.NO_LEADER
        return None

    def refuse_stream(self, call: ServerCall, learner: int) -> RpcError | None:
        """Return why a stream must not be served; one that may and needs a leader is watched from now on."""
        error = self.refuse(call, learner, b"", self.stream_calls)
        if error is None and call.metadata(b"hasleader") == b"true":
            if len(self._needing_leader) >= self._sweep_at:
                self._needing_leader = {one: None for one in self._needing_leader if not one.ended}
                self._sweep_at = max(64, 2 * len(self._needing_leader))
            self._needing_leader[call] = None
        return error

    def early_index(self, call: ServerCall) -> int:
        """Return the log index that a call's token makes it wait for, 0 when it need not."""
        return self.server.access.early_index(call, self.server.applied_index)

    def _close_leaderless(self) -> None:
        calls = list(self._needing_leader)
        self._needing_leader = {}
        for call in calls:
            if not call.ended:
                ended = call.on_end
                call.fail(errors.NO_LEADER)
                if ended is not None:
                    ended()


def _learner_may(learner: int, raw: bytes) -> bool:
    if learner != LEARNER_SERIALIZABLE:
        return False
    try:
        return RangeRequest.FromString(raw).serializable
    except DecodeError:
        return True  # the parser's error comes next


def _count_first(counts: dict[bytes, int], version: bytes) -> bool:
    """Count a version not seen before; False when it is not UTF-8."""
    try:
        version.decode()
    except UnicodeDecodeError:
        return False
    name = version if len(counts) < _MAX_VERSIONS else b"other"
    counts[name] = counts.get(name, 0) + 1
    return True


class UnaryMethod(Generic[M]):
    """A unary method as the router calls it: checks, parses, and calls `serve(call, request)`."""

    def __init__(
        self, guard: Guard, message: type[M], serve: Callable[[ServerCall, M], None], learner: int, need: int
    ) -> None:
        self.guard = guard
        self.message = message
        self.serve = serve
        self.learner = learner
        self.need = need

    def handle(self, call: ServerCall, raw: bytes) -> None:
        """Serve one call."""
        guard = self.guard
        enabled = guard.server.auth.enabled
        if enabled and guard.early_index(call):
            _EarlyCall(guard, call, raw, self.handle)
            return
        error = guard.refuse(call, self.learner, raw, guard.unary_calls)
        if error is None:
            try:
                request = self.message.FromString(raw)
                request.DiscardUnknownFields()
                text = None if request.SerializeToString() == raw else complaint(self.message, raw)
            except DecodeError:
                error = unary_error(self.message, raw)
            else:
                if text is not None:
                    error = _undecodable(text)
                elif enabled and self.need:
                    error = guard.server.refusals.call(self.need, call)
                if error is None:
                    self.serve(call, request)
                    return
        call.fail(error)


class RawMethod(Generic[M]):
    """A unary method whose service wants the request's bytes as well: `serve(call, request, raw)`.

    With `logged` the bytes may go into the log, and are made canonical.
    """

    def __init__(
        self,
        guard: Guard,
        message: type[M],
        serve: Callable[[ServerCall, M, bytes], None],
        learner: int,
        logged: bool,
        need: int,
    ) -> None:
        self.guard = guard
        self.message = message
        self.parse = message.FromString
        self.serve = serve
        self.learner = learner
        self.logged = logged
        self.need = need

    def handle(self, call: ServerCall, raw: bytes) -> None:
        """Serve one call."""
        guard = self.guard
        enabled = guard.server.auth.enabled
        if enabled and guard.early_index(call):
            _EarlyCall(guard, call, raw, self.handle)
            return
        error = guard.refuse(call, self.learner, raw, guard.unary_calls)
        if error is not None:
            call.fail(error)
            return
        try:
            request = self.parse(raw)
        except DecodeError:
            call.fail(unary_error(self.message, raw))
            return
        if self.logged:
            request.DiscardUnknownFields()
            canonical = request.SerializeToString()
            if canonical != raw:
                text = complaint(self.message, raw)
                if text is not None:
                    call.fail(_undecodable(text))
                    return
                raw = canonical
        if enabled and self.need:
            error = guard.server.refusals.call(self.need, call)
            if error is not None:
                call.fail(error)
                return
        self.serve(call, request, raw)


def _undecodable(text: str) -> RpcError:
    return RpcError(INTERNAL, "grpc: error unmarshalling request: " + text)


def add_unary(
    router: Router,
    guard: Guard,
    path: str,
    message: type[M],
    serve: Callable[[ServerCall, M], None],
    learner: int = LEARNER_NEVER,
    need: int = NEEDS_NOTHING,
) -> None:
    """Put a unary method into the router; `need` is what auth.access asks of the caller."""
    router.unary(path, UnaryMethod(guard, message, serve, learner, need).handle)


def add_raw(
    router: Router,
    guard: Guard,
    path: str,
    message: type[M],
    serve: Callable[[ServerCall, M, bytes], None],
    learner: int = LEARNER_NEVER,
    logged: bool = True,
    need: int = NEEDS_NOTHING,
) -> None:
    """Put a unary method into the router whose service gets the request's bytes as well."""
    router.unary(path, RawMethod(guard, message, serve, learner, logged, need).handle)


class StreamMethod:
    """A streaming method as the router calls it: checks, then calls `serve(call)`."""

    def __init__(self, guard: Guard, serve: Callable[[ServerCall], None], learner: int, need: int) -> None:
        self.guard = guard
        self.serve = serve
        self.learner = learner
        self.need = need

    def handle(self, call: ServerCall) -> None:
        """Serve one call."""
        guard = self.guard
        enabled = guard.server.auth.enabled
        if enabled and guard.early_index(call):
            _EarlyStream(guard, call, self.handle)
            return
        error = guard.refuse_stream(call, self.learner)
        if error is None and enabled and self.need:
            error = guard.server.refusals.call(self.need, call)
        if error is not None:
            call.fail(error)
        else:
            self.serve(call)


def add_stream(
    router: Router,
    guard: Guard,
    path: str,
    kind: str,
    serve: Callable[[ServerCall], None],
    learner: int = LEARNER_NEVER,
    need: int = NEEDS_NOTHING,
) -> None:
    """Put a streaming method into the router; `kind` as `Router.stream` has it."""
    router.stream(path, kind, StreamMethod(guard, serve, learner, need).handle)


class _EarlyCall:
    """A unary call whose token this member does not know yet."""

    def __init__(self, guard: Guard, call: ServerCall, raw: bytes, handle: Callable[[ServerCall, bytes], None]) -> None:
        self._call = call
        self._raw = raw
        self._handle = handle
        guard.server.access.wait(guard.early_index(call), self._resume)

    def _resume(self, error: RpcError | None) -> None:
        if error is not None:
            self._call.fail(error)
        elif not self._call.ended:
            self._handle(self._call, self._raw)


class _EarlyStream:
    """A stream whose token this member does not know yet: keeps what comes until it does."""

    def __init__(self, guard: Guard, call: ServerCall, handle: Callable[[ServerCall], None]) -> None:
        self._call = call
        self._handle = handle
        self._messages: list[bytes] = []
        self._bytes = 0
        self._half_closed = False
        call.on_message = self._on_message
        call.on_half_close = self._on_half_close
        guard.server.access.wait(guard.early_index(call), self._resume)

    def _on_message(self, raw: bytes) -> None:
        self._messages.append(raw)
        self._bytes += len(raw) + 64
        if self._bytes > _EARLY_BYTES_MAX:
            self._messages = []
            self._call.fail(errors.INVALID_AUTH_TOKEN)

    def _on_half_close(self) -> None:
        self._half_closed = True

    def _resume(self, error: RpcError | None) -> None:
        call = self._call
        if error is not None:
            call.fail(error)
        if call.ended:
            return
        _forget(call)
        self._handle(call)
        for raw in self._messages:
            if not call.ended and call.on_message is not None:
                call.on_message(raw)
        if self._half_closed and not call.ended and call.on_half_close is not None:
            call.on_half_close()


def _forget(call: ServerCall) -> None:
    # In a function of its own: who assigns None here is believed by the compiler that it stays so.
    call.on_message = None
    call.on_half_close = None


class ServerStream(Generic[M]):
    """Collects the one request of a server-streaming call, then calls `serve(call, request)`."""

    def __init__(self, call: ServerCall, message: type[M], serve: Callable[[ServerCall, M], None]) -> None:
        self.call = call
        self.message = message
        self.serve = serve
        self.received = False
        call.on_message = self._on_message
        call.on_half_close = self._on_half_close

    def _on_message(self, raw: bytes) -> None:
        if self.received:
            return
        self.received = True
        try:
            request = self.message.FromString(raw)
        except DecodeError:
            self.call.fail(unary_error(self.message, raw))
            return
        self.serve(self.call, request)

    def _on_half_close(self) -> None:
        if not self.received:
            self.call.fail(RpcError(errors.UNKNOWN, "EOF"))
