"""HTTP requests that come over HTTP/2 without being gRPC: the same handler answers them as over HTTP/1.1.

Real etcd on a plaintext port cannot answer these; over TLS it can (server.md, section 9).
"""

from __future__ import annotations

from quorate.wire import frames
from quorate.wire.flow import Stream
from quorate.wire.headers import encode_fields
from quorate.wire.http2 import Connection
from quorate.wire.request import RequestHead
from quorate.wire.web import DEFAULT_LIMIT, STREAMED, Field, HttpHandler, HttpReply, HttpRequest

END_BOTH = frames.FLAG_END_HEADERS | frames.FLAG_END_STREAM


class WebStream(Stream):
    """The transport's side of one HTTP request."""

    def __init__(self, conn: Connection, stream_id: int, head: RequestHead, handler: HttpHandler, peer: str) -> None:
        super().__init__(stream_id, conn.limits.stream_window, conn.peer_window)
        self.conn = conn
        self.head = head
        self.handler = handler
        self.request = WebRequest(self, head, peer)
        self.reply: WebReply | None = WebReply(self)
        self.is_head = head.verb == b"HEAD"
        self._limit = DEFAULT_LIMIT
        self._body = bytearray()
        self._body_bytes = 0

    def open(self, ended: bool) -> None:
        """Ask the handler what it wants, once the stream is among the connection's."""
        self._limit = self.handler.body_limit(self.request)
        if self._limit == DEFAULT_LIMIT:
            self._limit = self.conn.limits.max_body_bytes
        if self._limit == STREAMED:
            self._handle()
        if ended and not self.done:
            self.recv_open = False
            self.received(b"", 0, 0, True)

    def serve(self, message: bytes) -> None:
        """Call the handler with the whole body."""
        self.request.body = message
        self._handle()

    def unaffordable(self) -> None:
        """Refuse the request."""
        if self.reply is not None:
            self.reply.respond(503, [], b"")

    def _handle(self) -> None:
        reply = self.reply
        if reply is not None:
            try:
                self.handler.handle(self.request, reply)
            except Exception as error:
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        conn = self.conn
        conn.stats.handler_errors += 1
        if conn.handler_failed is not None:
            conn.handler_failed(self.head.path, error)
        reply = self.reply
        if reply is None:
            return
        if reply.started:
            reply.abort()
        else:
            reply.respond(500, [], b"")

    def received(self, data: bytes, start: int, end: int, ended: bool) -> None:
        """Take body bytes."""
        self._body_bytes += end - start
        expected = self.head.content_length
        if expected >= 0 and (self._body_bytes > expected or (ended and self._body_bytes != expected)):
            self.conn.reset_stream(self, frames.PROTOCOL_ERROR)
            return
        request = self.request
        if self._limit == STREAMED:
            try:
                if start < end and request.on_body is not None:
                    request.on_body(data[start:end])
                if ended and request.on_body_end is not None:
                    request.on_body_end()
            except Exception as error:
                self._failed(error)
            return
        if start < end:
            self._body += data[start:end]
            if self._body_bytes > self._limit or not self.conn.hold(self, end - start):
                if self.reply is not None:
                    self.reply.respond(413, [], b"")
                return
        if ended:
            message = bytes(self._body)
            self._body = bytearray()
            self.conn.release(self)
            self.conn.when_free(self, message)

    def aborted(self, code: int) -> None:  # noqa: ARG002
        """The client has reset the stream or is gone."""
        reply = self.reply
        if reply is not None and not reply.ended:
            reply.ended = True
            self.reply = None
            on_end = reply.on_end
            reply.clear()
            if on_end is not None:
                on_end()

    def expired(self) -> None:
        """Web requests have no deadline."""

    def drained(self) -> None:
        """Tell the handler that it may write more."""
        reply = self.reply
        if reply is not None and reply.on_drain is not None:
            reply.on_drain()


class WebRequest(HttpRequest):
    """A request that came over HTTP/2."""

    def __init__(self, stream: WebStream, head: RequestHead, peer: str) -> None:
        fields = [(name, value) for name, value in head.fields if name[:1] != b":" and name != b"host"]
        super().__init__(head.verb, head.path, [(b"host", head.authority), *fields], peer, b"2")
        self._stream = stream

    def pause_body(self) -> None:
        """Grant the stream no more window."""
        self._stream.paused = True

    def resume_body(self) -> None:
        """Grant window again."""
        self._stream.paused = False
        self._stream.conn.grant(self._stream)


class WebReply(HttpReply):
    """The answer to a request that came over HTTP/2."""

    def __init__(self, stream: WebStream) -> None:
        self.ended = False
        self.started = False
        self.on_end = None
        self.on_drain = None
        self._stream = stream

    def respond(self, status: int, headers: list[Field], body: bytes) -> None:
        """Send a whole reply."""
        self.start(status, [*headers, (b"content-length", b"%d" % len(body))])
        self.write(body)
        self.end()

    def start(self, status: int, headers: list[Field]) -> None:
        """Begin a reply."""
        if self.ended or self.started:
            return
        self.started = True
        fields = [(b":status", b"%d" % status)]
        fields += [(name.lower(), value) for name, value in headers if name.lower() != b"connection"]
        block = encode_fields(fields)
        conn = self._stream.conn
        conn.sent_frames += 1
        conn.put(conn.head(frames.FLAG_END_HEADERS, self._stream.id, block))

    def write(self, chunk: bytes) -> None:
        """Send more of the body."""
        if self.started and not self.ended and not self._stream.is_head:
            self._stream.conn.send_data(self._stream, chunk)

    def end(self) -> None:
        """Complete the reply."""
        if self.ended or not self.started:
            return
        self.ended = True
        stream = self._stream
        stream.reply = None
        stream.conn.send_end(stream, frames.frame(frames.DATA, frames.FLAG_END_STREAM, stream.id, b""))
        self.clear()

    def abort(self) -> None:
        """Reset the stream."""
        if not self.ended:
            self.ended = True
            self._stream.reply = None
            if not self._stream.done:
                self._stream.conn.reset(self._stream.id, frames.INTERNAL_ERROR)
                self._stream.conn.forget(self._stream)
            self.clear()

    def queued_bytes(self) -> int:
        """Return how many bytes wait for the client."""
        return self._stream.queued

    def clear(self) -> None:
        """Let go of the handler."""
        self.on_end = None
        self.on_drain = None
