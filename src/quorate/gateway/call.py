"""One call that came through the gateway, as its service sees it, and its replies as JSON.

A unary method's answer is one JSON object. A stream's are lines, `{"result":...}` each; an error that comes before the
first of them is the same as a unary method's, a later one is a last line `{"error":...}` without its end.
Source: grpc-gateway 1.16, runtime/{handler,errors}.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate import errors
from quorate.errors import RpcError
from quorate.gateway.encode import text, to_json
from quorate.gateway.routes import Route
from quorate.ports import Timer
from quorate.wire import grpc
from quorate.wire.frames import TransportStats
from quorate.wire.rpc import Method, ServerCall
from quorate.wire.web import STATUS_TEXTS, Field, HttpReply

JSON: Final = (b"Content-Type", b"application/json")
FROM_GRPC: Final = (b"Grpc-Metadata-Content-Type", b"application/grpc")

# runtime.HTTPStatusFromCode, by gRPC code.
HTTP_STATUS: Final = (200, 408, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401)


def refuse(reply: HttpReply, extra: list[Field], error: RpcError) -> None:
    """Answer with an error; `extra` are headers that every answer to this request has."""
    message = text(error.text)
    parts = [f'"code":{error.code}']
    if error.text:
        parts = [f'"error":{message}', *parts, f'"message":{message}']
    reply.respond(HTTP_STATUS[error.code], [*extra, JSON], ("{" + ",".join(parts) + "}").encode())


class GatewayCall(ServerCall):
    """A call, with the HTTP reply that it fills."""

    def __init__(
        self,
        route: Route,
        method: Method,
        reply: HttpReply,
        extra: list[Field],
        metadata: dict[bytes, bytes],
        peer: str,
        stats: TransportStats,
        clock: Callable[[], int],
    ) -> None:
        self.path = method.path
        self.ended = False
        self.on_message = None
        self.on_half_close = None
        self.on_end = None
        self.on_drain = None
        self.handler_failed: Callable[[bytes, Exception], None] | None = None
        self.timer: Timer | None = None
        self.headless = False
        """The request's body was empty: a stream is then answered without its own headers, and errors are its lines."""

        self._route = route
        self._method = method
        self._reply = reply
        self._extra = extra
        self._metadata = metadata
        self._peer = peer
        self._stats = stats
        self._began = False
        self._started = False
        self._request = b""  # a unary call's
        self._clock = clock
        self._start_ns = 0
        reply.on_end = self.lost
        reply.on_drain = self._drained

    # What the service asks and says

    def metadata(self, name: bytes) -> bytes | None:
        """Return the first value of a header."""
        return self._metadata.get(name)

    def peer(self) -> str:
        """Return the HTTP client's address."""
        return self._peer

    def queued_bytes(self) -> int:
        """Return how many bytes wait for the client."""
        return self._reply.queued_bytes()

    def complete(self, response: bytes) -> None:
        """Answer a unary call, or send the last message of a stream and end it."""
        if self.ended:
            return
        if self._route.writes_stream:
            self.send(response)
            self.finish()
            return
        self._sent(response)
        self._over(errors.OK, response)
        body = to_json(self._route.response.FromString(response)).encode()
        self._reply.respond(200, [*self._extra, JSON, FROM_GRPC], body)

    def send(self, message: bytes) -> None:
        """Write a message of a stream as one line."""
        if self.ended:
            return
        self._sent(message)
        self._begin()
        self._reply.write(b'{"result":' + to_json(self._route.response.FromString(message)).encode() + b"}\n")

    def finish(self) -> None:
        """End a stream."""
        if self.ended:
            return
        self._over(errors.OK)
        self._begin()
        self._reply.end()

    def fail(self, error: RpcError) -> None:
        """End the call with an error."""
        if self.ended:
            return
        self._over(error.code)
        if not self._began and not self.headless:
            refuse(self._reply, self._extra, error)
            return
        status = HTTP_STATUS[error.code]
        if not self._began:
            self._reply.start(status, self._headers())
        reason = STATUS_TEXTS.get(status, b"").decode()
        message = f'"message":{text(error.text)},' if error.text else ""
        line = f'{{"error":{{"grpc_code":{error.code},"http_code":{status},{message}"http_status":"{reason}"}}}}'
        self._reply.write(line.encode())
        self._reply.end()

    def _headers(self) -> list[Field]:
        return [*self._extra, JSON] if self.headless else [*self._extra, JSON, FROM_GRPC]

    def _begin(self) -> None:
        if not self._began:
            self._began = True
            self._reply.start(200, self._headers())

    def _sent(self, message: bytes) -> None:
        self._method.sent += 1
        self._stats.sent_bytes += len(message)

    def _over(self, code: int, response: bytes | None = None) -> None:
        self.ended = True
        if self._started:
            self._method.note_end(self, code, self._request, response, self._clock() - self._start_ns)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self._reply.on_end = None
        self._reply.on_drain = None
        self._forget()

    def _forget(self) -> None:
        self.on_message = None
        self.on_half_close = None
        self.on_end = None
        self.on_drain = None

    # What happens to the call

    def begin(self, message: bytes | None) -> None:
        """Call the method: a unary one with its message, a stream without."""
        method = self._method
        method.started += 1
        self._started = True
        self._start_ns = self._clock()
        if method.traced and method.observer is not None:
            method.observer.began(self, method)
        if method.unary is not None:
            assert message is not None
            unary = method.unary
            self._request = message
            self._received(message)
            self._guarded(lambda: unary(self, message))
        elif method.stream is not None:
            stream = method.stream
            self._guarded(lambda: stream(self))

    def take(self, message: bytes) -> None:
        """Give a streaming service a message."""
        deliver = self.on_message
        if deliver is not None and not self.ended:
            self._received(message)
            self._guarded(lambda: deliver(message))

    def half_close(self) -> None:
        """Tell a streaming service that there are no more messages."""
        notify = self.on_half_close
        if notify is not None and not self.ended:
            self._guarded(notify)

    def lost(self) -> None:
        """The client is gone."""
        self._lose(errors.CANCELED)

    def expired(self) -> None:
        """The time is up."""
        if not self.ended:
            ended = self.on_end
            self.fail(grpc.DEADLINE)
            if ended is not None:
                ended()

    def _lose(self, code: int) -> None:
        if self.ended:
            return
        ended = self.on_end
        self._over(code)
        if ended is not None:
            ended()

    def _drained(self) -> None:
        if self.on_drain is not None:
            self._guarded(self.on_drain)

    def _received(self, message: bytes) -> None:
        self._method.received += 1
        self._stats.received_bytes += len(message)

    def _guarded(self, call: Callable[[], None]) -> None:
        """Let a service work; one that raises ends its call. Only an RpcError is meant for the client."""
        try:
            call()
        except RpcError as error:
            self.fail(error)
        except Exception as error:
            self._stats.handler_errors += 1
            if self.handler_failed is not None:
                self.handler_failed(self.path, error)
            self.fail(RpcError(errors.INTERNAL, "internal error"))
