"""etcdserverpb.Watch: one bidirectional stream that carries any number of watchers.

    client                                       server
    create {key, range_end, start_revision ..}   {watch_id, created}, then its events
                                                 {watch_id -1, created, canceled, cancel_reason}: it could not be
    cancel {watch_id}                            {watch_id, canceled}; nothing for an unknown id
    progress                                     {watch_id -1} when every watcher has seen everything, else nothing
                                                 {watch_id, canceled, compact_revision}: too old to be served
                                                 {watch_id} without events, from time to time, with progress_notify

The client's half-close ends nothing: events keep coming until the call is over.

Contract: answers to requests come in the order of the requests, `created` before that watcher's events, everything with
the header of its moment. A response is joined from bytes that exist already: the cached header, and the event, which is
encoded once for all watchers of its shape, on all streams.

A slow client costs a bounded amount of memory: while SLOW_BYTES wait for it the hub delivers nothing (the watchers read
what they missed from the store later), and its requests wait here, up to INBOX_BYTES, after which the call is ended.

Who may watch what is asked when a watcher is created; it stays when the permission goes, as in etcd.
Source: etcd's server/etcdserver/api/v3rpc/watch.go.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from google.protobuf.message import DecodeError

from quorate import errors
from quorate.api.check import Guard, add_stream
from quorate.api.strict import stream_error
from quorate.errors import RpcError
from quorate.mvcc.watch import WatchError
from quorate.mvcc.watcher import FROM_KEY, WatchSink
from quorate.ports import Timer
from quorate.proto.rpc_pb2 import WatchCreateRequest, WatchRequest
from quorate.server.core import Server
from quorate.wire.protobuf import bytes_field, encode_varint, varint_field
from quorate.wire.rpc import Router, ServerCall

SLOW_BYTES: Final = 1 << 20
INBOX_BYTES: Final = 1 << 20
_ANSWER_BYTES: Final = 4 << 20
"""Above this many waiting bytes requests are no longer answered at once."""

MIN_PROGRESS_NS: Final = 100_000_000
DEFAULT_PROGRESS_NS: Final = 600_000_000_000
_FRAGMENT_OVERHEAD: Final = 512 * 1024

_EVENTS_TAG: Final = b"\x5a"  # field 11, bytes
_CREATED: Final = b"\x18\x01"
_CANCELED: Final = b"\x20\x01"
_FRAGMENT: Final = b"\x38\x01"
_NO_WATCH_ID: Final = varint_field(2, -1)
_COMPACTED_REASON: Final = bytes_field(6, errors.COMPACTED.text.encode())

_TOO_MANY_WAITING: Final = RpcError(
    errors.RESOURCE_EXHAUSTED, "etcdserver: too many watch requests while responses wait to be read"
)


class WatchService:
    """The Watch service over a server. `progress_ns` is the interval of progress notifications."""

    def __init__(self, server: Server, progress_ns: int = DEFAULT_PROGRESS_NS) -> None:
        self.server = server
        self.progress_ns = max(progress_ns, MIN_PROGRESS_NS)
        self.fragment_bytes = server.config.max_request_bytes + _FRAGMENT_OVERHEAD
        self._event = b""
        self._framed = b""

    def register(self, router: Router, guard: Guard) -> None:
        """Add the service's method to the router."""
        add_stream(router, guard, "/etcdserverpb.Watch/Watch", "bidi_stream", self.watch)

    def watch(self, call: ServerCall) -> None:
        """Serve Watch."""
        _WatchCall(self, call)

    def frame(self, events: list[bytes]) -> bytes:
        """Return events as fields of a response; a single one, which goes to many watchers in a row, is kept."""
        if len(events) == 1:
            event = events[0]
            if event is not self._event:
                self._event = event
                self._framed = _frame(event)
            return self._framed
        return b"".join([_frame(event) for event in events])


def _frame(event: bytes) -> bytes:
    return _EVENTS_TAG + encode_varint(len(event)) + event


class _Watch:
    """What the stream remembers of one watcher."""

    def __init__(self, watch_id: int, progress: bool, fragment: bool) -> None:
        self.id_field = varint_field(2, watch_id)
        self.progress = progress
        self.fragment = fragment
        self.quiet = True  # no event since the last tick


class _WatchCall(WatchSink):
    """One Watch call."""

    def __init__(self, service: WatchService, call: ServerCall) -> None:
        server = service.server
        self._service = service
        self._server = server
        self._call = call
        self._stream = server.watch_hub.stream(self)
        self._watches: dict[int, _Watch] = {}
        self._inbox: deque[bytes] = deque()
        self._inbox_bytes = 0
        self._timer: Timer | None = None
        self._started_ns = server.loop.monotonic_ns()
        # Up to a tenth more, so that the streams of a client that restarted do not all tick together.
        spread = service.progress_ns // 10
        self._period_ns = service.progress_ns + (server.loop.random_bits(32) * spread >> 32)
        call.on_message = self._on_message
        call.on_end = self._on_end
        call.on_drain = self._on_drain

    # From the client

    def _on_message(self, raw: bytes) -> None:
        if self._inbox or self._call.queued_bytes() > _ANSWER_BYTES:
            self._inbox.append(raw)
            self._inbox_bytes += len(raw) + 64
            if self._inbox_bytes > INBOX_BYTES:
                self._fail(_TOO_MANY_WAITING)
            return
        self._take(raw)

    def _on_drain(self) -> None:
        while self._inbox and self._call.queued_bytes() <= _ANSWER_BYTES:
            raw = self._inbox.popleft()
            self._inbox_bytes -= len(raw) + 64
            self._take(raw)

    def _on_end(self) -> None:
        self._stream.close()
        self._watches = {}
        self._inbox.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, error: RpcError) -> None:
        self._call.fail(error)
        self._on_end()

    def _take(self, raw: bytes) -> None:
        try:
            request = WatchRequest.FromString(raw)
        except DecodeError:
            self._fail(stream_error(WatchRequest, raw))
            return
        kind = request.WhichOneof("request_union")
        if kind == "create_request":
            self._create(request.create_request)
        elif kind == "cancel_request":
            self._cancel(request.cancel_request.watch_id)
        elif kind == "progress_request":
            self._progress_all()

    def _create(self, request: WatchCreateRequest) -> None:
        if request.start_revision < 0:
            self._refuse_create(_COMPACTED_REASON)
            return
        key = request.key or FROM_KEY
        denied = self._server.refusals.read(self._call, key, request.range_end)
        if denied is not None:
            # Why a client may not is told in the words of gRPC, since it has no status of its own to tell it.
            reason = f"rpc error: code = {errors.CODE_NAMES[denied.code]} desc = {denied.text}"
            self._refuse_create(bytes_field(6, reason.encode()))
            return
        try:
            watch_id = self._stream.watch(
                key,
                request.range_end,
                request.start_revision,
                request.watch_id,
                request.filters,
                request.prev_kv,
                request.progress_notify,
                request.fragment,
            )
        except WatchError as error:
            self._refuse_create(bytes_field(6, error.text.encode()))
            return
        watch = _Watch(watch_id, request.progress_notify, request.fragment)
        self._watches[watch_id] = watch
        self._call.send(self._header() + watch.id_field + _CREATED)
        if watch.progress and self._timer is None:
            self._start_ticking()

    def _refuse_create(self, reason: bytes) -> None:
        self._call.send(self._header() + _NO_WATCH_ID + _CREATED + _CANCELED + reason)

    def _cancel(self, watch_id: int) -> None:
        if self._stream.cancel(watch_id):
            watch = self._watches.pop(watch_id)
            self._call.send(self._header() + watch.id_field + _CANCELED)

    def _progress_all(self) -> None:
        # Like an event, an announcement goes only to a client that reads.
        if self.ready() and self._stream.progress_all():
            self._call.send(self._header() + _NO_WATCH_ID)

    def _header(self) -> bytes:
        return self._server.header(self._server.store.current_rev)

    # From the hub

    def ready(self) -> bool:
        """Tell whether the client reads fast enough to be sent more."""
        return self._call.queued_bytes() < SLOW_BYTES and not self._call.crowded()

    def events(self, watch_id: int, rev: int, events: list[bytes]) -> None:
        """Send events."""
        watch = self._watches[watch_id]
        watch.quiet = False
        head = self._server.header(rev) + watch.id_field
        message = head + self._service.frame(events)
        if watch.fragment and len(message) >= self._service.fragment_bytes and len(events) > 1:
            self._send_fragments(head, events)
        else:
            self._call.send(message)

    def _send_fragments(self, head: bytes, events: list[bytes]) -> None:
        """Send events in parts that stay below the limit, of at least one event each; all but the last say so."""
        limit = self._service.fragment_bytes
        base = len(head) + len(_FRAGMENT)
        parts: list[bytes] = []
        size = base
        for event in events:
            framed = _frame(event)
            if parts and size + len(framed) >= limit:
                self._call.send(head + _FRAGMENT + b"".join(parts))
                parts = []
                size = base
            parts.append(framed)
            size += len(framed)
        self._call.send(head + b"".join(parts))

    def compacted(self, watch_id: int, compact_rev: int) -> None:
        """Tell that a watcher is over. It stays known until the client cancels it."""
        watch = self._watches[watch_id]
        self._call.send(self._server.header(0) + watch.id_field + _CANCELED + varint_field(5, compact_rev))

    # Progress notifications

    def _start_ticking(self) -> None:
        # The ticks are those of a clock that started with the stream, whenever the first watcher asks for them.
        since = self._server.loop.monotonic_ns() - self._started_ns
        self._timer = self._server.loop.later(self._period_ns - since % self._period_ns, self._tick)

    def _tick(self) -> None:
        self._timer = None
        wanted = False
        for watch_id, watch in self._watches.items():
            if not watch.progress:
                continue
            wanted = True
            if watch.quiet and self.ready() and self._stream.in_sync(watch_id):
                self._call.send(self._header() + watch.id_field)
            watch.quiet = True
        if wanted:
            self._start_ticking()
