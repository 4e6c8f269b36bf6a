"""HTTP/1.1 on the server's side, on top of h11: requests to a handler, one at a time, over a kept-alive connection.

h11 parses and frames; this adds limits of header and body, time limits, streamed bodies both ways and `drain`. Bytes of
a pipelined next request are kept back, and the socket is left unread, until the reply before it is complete and taken:
so a client gets one reply a turn, and none while it does not read.

Left out: upgrades (a request for h2c or a websocket is answered as a plain one).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import h11

from quorate.wire import endpoint
from quorate.wire.endpoint import Endpoint
from quorate.wire.frames import Limits, TransportStats
from quorate.wire.web import DEFAULT_LIMIT, STATUS_TEXTS, STREAMED, Field, HttpHandler, HttpReply, HttpRequest

TINY_CHUNKS: Final = 1000  # so many of a body may be small: each costs as much as a large one
TINY_CHUNK_BYTES: Final = 64

IDLE: Final = 0  # between requests
HEADER: Final = 1  # a request has begun
BODY: Final = 2
ANSWERING: Final = 3  # the request is complete, its reply is not


class Http1Connection(Endpoint):
    """One client's HTTP/1.x connection."""

    def __init__(
        self, handler: HttpHandler, limits: Limits, clock: Callable[[], int], peer: str, stats: TransportStats
    ) -> None:
        super().__init__()
        self.peer = peer
        self.common_name: str | None = None  # of the client's verified certificate
        self.limits = limits
        self.stats = stats
        self.out_bytes = 0
        self.date: Callable[[], bytes] | None = None
        """Gives the value of the Date header."""
        self._handler = handler
        self._clock = clock
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.max_header_block_bytes)
        self._state = IDLE
        self._since_ns = clock()  # when the state began, or its last progress
        self._served = 0
        self._draining = False
        self._eof = False
        self._parsing = False
        self._unread = False  # a reply is complete and not yet taken: the next request waits
        self._kept: list[bytes] = []  # bytes that came while a reply was under way or not taken
        self._out: list[bytes] = []
        self._request: HttpRequest | None = None
        self._reply: Http1Reply | None = None
        self._limit = 0
        self._body = bytearray()
        self._body_bytes = 0
        self._pieces = 0  # of the body, if it comes in chunks
        self._chunked = False

    def receive(self, data: bytes) -> None:
        """Take bytes from the client."""
        if self.closed:
            return
        if self._state == ANSWERING or self._unread:
            self._kept.append(data)
            self._pause(True)
            return
        self._since_ns = self._clock()
        self._feed(data)

    def receive_eof(self) -> None:
        """The client sends no more: a plain reply is still completed, a streamed one has lost its reader."""
        self._eof = True
        if self.closed or self._unread:
            return
        if self._state != ANSWERING or (self._reply is not None and self._reply.started):
            self._shut("")

    def lost(self) -> None:
        """The socket is gone."""
        self._shut("")

    def take_output(self) -> bytes:
        """Return everything queued, and let a streamed reply continue."""
        data = b"".join(self._out)
        self._out = []
        self.out_bytes = 0
        self._signalled = False
        reply = self._reply
        if data and reply is not None and reply.on_drain is not None:
            reply.on_drain()
        if self._unread and not self.closed:
            self._unread = False
            self._go_on()
        return data

    def has_output(self) -> bool:
        """Tell whether `take_output` would give anything."""
        return self.out_bytes > 0

    def tick(self, now_ns: int) -> None:
        """Close what has idled or dawdled too long."""
        if self.closed or self._state == ANSWERING:
            return
        waited_ns = now_ns - self._since_ns
        limits = self.limits
        if self._state == IDLE:
            if waited_ns > (limits.idle_http1_ns if self._served else limits.handshake_ns):
                self._shut("")
        elif self._state == HEADER:
            if waited_ns > limits.handshake_ns:
                self._refuse(408, "header not complete in time")
        elif waited_ns > limits.partial_ns and not self.reading_paused:
            self._refuse(408, "body not complete in time")

    def worth(self) -> int:
        """Return what closing would cost the client."""
        if self._state == ANSWERING or self._unread:
            return endpoint.BUSY
        return endpoint.IDLE if self._served else endpoint.UNUSED

    def drain(self) -> None:
        """Close when the reply under way is complete, or now."""
        self._draining = True
        if self._state in (IDLE, HEADER):
            self._shut("")

    # In

    def _feed(self, data: bytes) -> None:
        self._parsing = True
        try:
            if data:
                self._h11.receive_data(data)
                if self._state == IDLE:
                    self._state = HEADER
            self._events()
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, str(error))
        finally:
            self._parsing = False

    def _events(self) -> None:
        while not self.closed:
            event = self._h11.next_event()
            if isinstance(event, h11.Request):
                self._began(event)
            elif isinstance(event, h11.Data):
                self._take_body(_data_of(event))
            elif isinstance(event, h11.EndOfMessage):
                self._complete()
                # Replies made at once are followed up here and not in `send_end`, where each would nest one deeper.
                if self._state == ANSWERING and self._request is None and not self.closed:
                    self._next()
                    if self._unread:
                        return
            elif isinstance(event, h11.ConnectionClosed):
                self._shut("")
            else:  # NEED_DATA or PAUSED
                return

    def _began(self, event: h11.Request) -> None:
        request = Http1Request(self, event)
        self._request = request
        self._reply = Http1Reply(self, request)
        self._state = BODY
        self._body = bytearray()
        self._body_bytes = 0
        self._pieces = 0
        self._chunked = request.header(b"transfer-encoding") is not None
        self._limit = self._handler.body_limit(request)
        if self._limit == DEFAULT_LIMIT:
            self._limit = self.limits.max_body_bytes
        length = request.header(b"content-length")
        if self._limit != STREAMED and length is not None and int(length) > self._limit:
            self._refuse(413, "request body too large")
            return
        if self._h11.they_are_waiting_for_100_continue:
            self.write(self._h11.send(h11.InformationalResponse(status_code=100, headers=[])))
        if self._limit == STREAMED:
            self._handle()

    def _handle(self) -> None:
        request = self._request
        reply = self._reply
        if request is None or reply is None:
            return
        try:
            self._handler.handle(request, reply)
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self.stats.handler_errors += 1
        request = self._request
        if self.handler_failed is not None:
            self.handler_failed(request.target if request is not None else b"", error)
        reply = self._reply
        if reply is not None and not reply.started:
            reply.respond(500, [], b"")
        else:
            self._shut("handler failed")

    def _take_body(self, data: bytes) -> None:
        request = self._request
        if request is None:
            return  # the reply is out; the rest of the body is read past
        self._body_bytes += len(data)
        self._pieces += 1
        if self._chunked and self._pieces > TINY_CHUNKS + self._body_bytes // TINY_CHUNK_BYTES:
            self._refuse(400, "chunks too small")
        elif self._limit == STREAMED:
            if request.on_body is not None:
                try:
                    request.on_body(data)
                except Exception as error:
                    self._failed(error)
        elif self._body_bytes > self._limit:
            self._refuse(413, "request body too large")
        else:
            self._body += data
            self.stats.held_bytes += len(data)
            limits = self.limits
            share = limits.share_bytes + limits.max_receive_bytes
            if self.stats.held_bytes > limits.max_total_held_bytes and len(self._body) > share:
                self._refuse(503, "too many unfinished bodies")

    def _drop_body(self) -> None:
        self.stats.held_bytes -= len(self._body)
        self._body = bytearray()

    def _complete(self) -> None:
        self._state = ANSWERING
        request = self._request
        if request is None:
            return
        if self._limit == STREAMED:
            if request.on_body_end is not None:
                try:
                    request.on_body_end()
                except Exception as error:
                    self._failed(error)
            return
        request.body = bytes(self._body)
        self._drop_body()
        self._handle()

    def _refuse(self, status: int, text: str) -> None:
        """Answer in place of the handler if nothing has been sent, and close."""
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = STATUS_TEXTS.get(status, b"Bad Request")
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
            response = h11.Response(
                status_code=status,
                headers=[*headers, (b"content-length", b"%d" % len(body))],
                reason=STATUS_TEXTS.get(status, b""),
            )
            try:
                self.write(self._h11.send(response))
                if self._request is None or self._request.method != b"HEAD":
                    self.write(self._h11.send(h11.Data(data=body)))
            except h11.LocalProtocolError:
                pass  # h11 has given the connection up already
        self._shut(text)

    # Out

    def write(self, data: bytes | None) -> None:
        """Queue bytes for the next write."""
        if data and not self.closed:
            self._out.append(data)
            self.out_bytes += len(data)
            self.signal()

    def send_head(self, status: int, headers: list[Field]) -> None:
        """Send the status line and headers."""
        fields = list(headers)
        if self.date is not None:
            fields.append((b"date", self.date()))
        if self._draining:
            fields.append((b"connection", b"close"))
        reason = STATUS_TEXTS.get(status, b"")
        self._send(h11.Response(status_code=status, headers=fields, reason=reason))

    def send_body(self, chunk: bytes) -> None:
        """Send body bytes."""
        self._send(h11.Data(data=chunk))

    def send_end(self) -> None:
        """Complete the reply, and go on with what the client sent meanwhile."""
        self._send(h11.EndOfMessage())
        self._request = None
        self._reply = None
        if self._state == ANSWERING and not self._parsing and not self.closed:
            self._next()
            if not self._unread and not self.closed:
                self._go_on()

    def _go_on(self) -> None:
        """Take what h11 has buffered and what was kept back: it may be the next request already."""
        kept = b"".join(self._kept)
        self._kept = []
        self._pause(False)
        self._feed(kept)
        if self._eof and not self._unread and self._state != ANSWERING:
            self._shut("")

    def _send(self, event: h11.Event) -> None:
        try:
            self.write(self._h11.send(event))
        except h11.LocalProtocolError as error:
            # The handler gave a header or a length that cannot be sent.
            self.stats.handler_errors += 1
            self._shut(str(error))

    def _next(self) -> None:
        self._served += 1
        if self._draining or self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            self._shut("")
            return
        if self._eof and not self._kept and not self._h11.trailing_data[0]:
            self._shut("")
            return
        self._h11.start_next_cycle()
        self._state = IDLE
        self._since_ns = self._clock()
        self._unread = self.out_bytes > 0
        if self._h11.trailing_data[0]:
            self._state = HEADER

    def _pause(self, paused: bool) -> None:
        if self.reading_paused != paused:
            self.reading_paused = paused
            if self.reading_changed is not None:
                self.reading_changed(self)

    def pause_body(self, paused: bool) -> None:
        """Stop or resume reading on the wish of a streamed body's receiver."""
        if self._state == BODY:
            self._since_ns = self._clock()
            self._pause(paused)

    def abort(self) -> None:
        """Close without completing the reply."""
        self._shut("reply broken off")

    def _shut(self, text: str) -> None:
        if self.closed:
            return
        self.closed = True
        self.close_text = text
        reply = self._reply
        self._reply = None
        self._request = None
        self._kept = []
        self._drop_body()
        if reply is not None and not reply.ended:
            reply.ended = True
            if reply.on_end is not None:
                reply.on_end()
        self.signal()


class Http1Request(HttpRequest):
    """A request that came over HTTP/1.x."""

    def __init__(self, conn: Http1Connection, event: h11.Request) -> None:
        headers = [(bytes(name), bytes(value)) for name, value in event.headers]
        super().__init__(bytes(event.method), bytes(event.target), headers, conn.peer, bytes(event.http_version))
        self.common_name = conn.common_name
        self._conn = conn

    def pause_body(self) -> None:
        """Stop reading the socket."""
        self._conn.pause_body(True)

    def resume_body(self) -> None:
        """Read again."""
        self._conn.pause_body(False)


class Http1Reply(HttpReply):
    """The answer to a request that came over HTTP/1.x."""

    def __init__(self, conn: Http1Connection, request: HttpRequest) -> None:
        self.ended = False
        self.started = False
        self.on_end = None
        self.on_drain = None
        self._conn = conn
        self._is_head = request.method == b"HEAD"

    def respond(self, status: int, headers: list[Field], body: bytes) -> None:
        """Send a whole reply."""
        self.start(status, [*headers, (b"content-length", b"%d" % len(body))])
        self.write(body)
        self.end()

    def start(self, status: int, headers: list[Field]) -> None:
        """Begin a reply."""
        if not self.ended and not self.started:
            self.started = True
            self._conn.send_head(status, headers)

    def write(self, chunk: bytes) -> None:
        """Send more of the body."""
        if self.started and not self.ended and chunk and not self._is_head:
            self._conn.send_body(chunk)

    def end(self) -> None:
        """Complete the reply."""
        if self.started and not self.ended:
            self.ended = True
            self.on_end = None
            self.on_drain = None
            self._conn.send_end()

    def abort(self) -> None:
        """Close the connection, so that the client sees a broken reply."""
        if not self.ended:
            self.ended = True
            self._conn.abort()

    def queued_bytes(self) -> int:
        """Return how many bytes wait for the client."""
        return self._conn.out_bytes


def _data_of(event: Any) -> bytes:
    """Return the data of an h11.Data, which is a bytearray at times, whatever its annotation says."""
    return bytes(event.data)
