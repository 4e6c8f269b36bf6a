"""The seam between the transport and the services: a call as a service sees it, and the table of methods.

`wire.http2` makes one `ServerCall` a stream and finds its method by path in a `Router`. A service never sees frames,
headers or connections; the transport never sees a service's messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mypy_extensions import mypyc_attr

from quorate.measure import Histogram
from quorate.ports import Completion

NEVER_NS: Final = 1 << 62


@mypyc_attr(allow_interpreted_subclasses=True)
class ServerCall(Completion):
    """One RPC on the server's side. All methods are called on the loop and never block.

    A unary method gets the call with its only message and answers once: `complete(response)` or `fail(error)`.
    A streaming method sets the three callbacks below, may `send` any number of messages, and ends with `finish` or
    `fail`. After the call has ended, by either side, everything here is a harmless no-op.
    """

    path: bytes
    """The method's path, such as b"/etcdserverpb.KV/Put"."""

    ended: bool
    """True once the trailers are queued or the client has reset the stream."""

    on_message: Callable[[bytes], None] | None
    """Gets each further message of a streaming call, without its gRPC prefix."""

    on_half_close: Callable[[], None] | None
    """The client will send no more messages."""

    on_end: Callable[[], None] | None
    """The call is over without our doing: reset, deadline or lost connection. Not called after `finish` or `fail`."""

    on_drain: Callable[[], None] | None
    """The bytes waiting for the client fell to zero after `queued_bytes` had been above zero."""

    def metadata(self, name: bytes) -> bytes | None:
        """Return the first value of a request header by its lower-case name."""
        raise NotImplementedError

    def peer(self) -> str:
        """Return the client's address as "host:port"."""
        raise NotImplementedError

    def send(self, message: bytes) -> None:
        """Queue one response message of a stream; it leaves at the end of the turn, as flow control permits."""
        raise NotImplementedError

    def finish(self) -> None:
        """End a stream with status OK."""
        raise NotImplementedError

    def queued_bytes(self) -> int:
        """Return how many bytes of this call wait for the client's flow-control window or its socket."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class CallObserver:
    """Who is told about calls: of all when they begin and end (`Method.traced`), or of slow unary ones at their end."""

    def began(self, call: ServerCall, method: Method) -> None:
        """Its first message, or its headers if it is a stream, have come. `call.path` and `metadata` may be asked."""
        raise NotImplementedError

    def ended(self, call: ServerCall, method: Method, code: int, took_ns: int) -> None:
        """The service has answered, or the client has gone."""
        raise NotImplementedError

    def slow(
        self, call: ServerCall, method: Method, request: bytes, response: bytes | None, code: int, took_ns: int
    ) -> None:
        """A unary call took longer than `Method.slow_ns`; `response` is None when it failed."""
        raise NotImplementedError


UnaryHandler = Callable[[ServerCall, bytes], None]
StreamHandler = Callable[[ServerCall], None]


class Method:
    """One method of a service: either `unary` or `stream` is set.

    The four counts are what the metrics grpc_server_{started,handled,msg_received,msg_sent}_total report; `seconds` is
    grpc_server_handling_seconds if that is wanted. `broken` counts streams that the client's bytes ended.
    """

    def __init__(self, path: bytes, kind: str, unary: UnaryHandler | None, stream: StreamHandler | None) -> None:
        self.path = path
        self.kind = kind  # "unary", "server_stream", "client_stream" or "bidi_stream", as the metrics' label
        self.unary = unary
        self.stream = stream
        self.started = 0
        self.received = 0
        self.sent = 0
        self.handled = [0] * 17  # by status code
        self.broken = 0
        self.seconds: Histogram | None = None
        self.slow_ns = NEVER_NS
        self.traced = False
        self.observer: CallObserver | None = None

    def note_end(self, call: ServerCall, code: int, request: bytes, response: bytes | None, took_ns: int) -> None:
        """Count how a call ended and how long it took, and tell whoever wants to know.

        `request` is a unary call's, `response` that of one that went well.
        """
        self.handled[code] += 1
        if self.seconds is not None:
            self.seconds.observe(took_ns / 1e9)
        observer = self.observer
        if observer is not None:
            if self.traced:
                observer.ended(call, self, code, took_ns)
            if took_ns > self.slow_ns:
                observer.slow(call, self, request, response, code, took_ns)


class Router:
    """The methods by path. Services add theirs at start; the transport looks them up."""

    def __init__(self) -> None:
        self.methods: dict[bytes, Method] = {}

    def unary(self, path: str, handler: UnaryHandler) -> None:
        """Add a unary method."""
        self._add(Method(path.encode(), "unary", handler, None))

    def stream(self, path: str, kind: str, handler: StreamHandler) -> None:
        """Add a streaming method; `kind` is its label in the metrics."""
        self._add(Method(path.encode(), kind, None, handler))

    def _add(self, method: Method) -> None:
        assert method.path not in self.methods, method.path
        self.methods[method.path] = method
