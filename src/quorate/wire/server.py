"""The server's role: requests in, services called, replies out; graceful drain; enforcement of ping manners.

A unary call is dispatched when its message is complete, as grpc-go does, and its reply leaves as one join of constant
blocks and the message: HEADERS, DATA, trailers. When a reply ends before the client's messages do, RST_STREAM(NO_ERROR)
follows it. Further unary and HTTP requests wait in `_waiting` when replies pile up unread, beyond `max_queued_bytes` or
beyond a share of what all connections may have; and when those served in this turn have taken `slice_ns`, so that no
connection holds up the others. What waits counts against `max_assembly_bytes`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate import errors
from quorate.errors import RpcError
from quorate.wire import frames, grpc
from quorate.wire.deframe import GrpcStream
from quorate.wire.endpoint import BUSY, IDLE, UNUSED
from quorate.wire.flow import Stream
from quorate.wire.frames import Http2Error, Limits, TransportStats
from quorate.wire.grpc import OK_TRAILERS, OK_TRAILERS_PREFIX, PREFIX_BYTES
from quorate.wire.http2 import DRAIN_PING, Connection
from quorate.wire.http2web import WebStream
from quorate.wire.request import HTTP, MALFORMED, RequestHead, RequestReader
from quorate.wire.rpc import Method, Router, ServerCall
from quorate.wire.web import HttpHandler

WAITING_BYTES: Final = 256  # what a request that waits costs beside its message
HEADS_KEPT: Final = 256
HEAD_BLOCK_BYTES: Final = 1024
GAPS_KEPT: Final = 64
IDLE_PING_NS: Final = 2 * 3600 * frames.SECOND_NS  # grpc-go: defaultPingTimeout, without calls

END_HEADERS: Final = frames.FLAG_END_HEADERS
END_BOTH: Final = frames.FLAG_END_HEADERS | frames.FLAG_END_STREAM


class ServerStream(GrpcStream):
    """The transport's side of one RPC."""

    def __init__(self, conn: ServerConnection, stream_id: int, head: RequestHead, method: Method) -> None:
        super().__init__(conn, stream_id, conn.limits.max_receive_bytes)
        self.server = conn
        self.head = head
        self.method = method
        self.gzip = head.gzip
        self.call: Http2Call | None = None  # None before a unary method's message, and after the end
        self.began = False  # response HEADERS are sent
        self.body_bytes = 0

    def received(self, data: bytes, start: int, end: int, ended: bool) -> None:
        """Take DATA, and hold it against the content-length if there is one."""
        if self.call is not None and self.method.unary is not None:
            return  # the service has its message; grpc-go reads no further either
        expected = self.head.content_length
        if expected >= 0:
            self.body_bytes += end - start
            if self.body_bytes > expected or (ended and self.body_bytes != expected):
                self.conn.reset_stream(self, frames.PROTOCOL_ERROR)
                return
        super().received(data, start, end, ended)

    def message(self, message: bytes) -> None:
        """Dispatch a unary call, or hand on a message of a stream."""
        server = self.server
        server.stats.received_bytes += len(message)
        call = self.call
        if self.method.unary is None:
            if call is not None:
                self.method.received += 1
                if call.on_message is not None:
                    server.deliver(self, call.on_message, message)
        elif call is None:
            server.dispatch(self, message)

    def serve(self, message: bytes) -> None:
        """Call the unary method."""
        self.server.call_unary(self, message)

    def unaffordable(self) -> None:
        """End the call, for too much waits already."""
        self.broken(grpc.OUT_OF_BUDGET)

    def half_closed(self) -> None:
        """Tell a streaming service; a unary call must have got its message."""
        call = self.call
        if self.method.unary is not None:
            if call is None:
                self.end(grpc.NO_MESSAGE)
        elif call is not None and call.on_half_close is not None:
            self.server.notify(self, call.on_half_close)

    def broken(self, error: RpcError) -> None:
        """End the call with an error that the service did not cause."""
        if self.method.stream is not None and error.code != errors.DEADLINE_EXCEEDED:
            self.method.broken += 1
        self._lose(error.code)
        self.end(error)

    def expired(self) -> None:
        """End the call for its deadline."""
        self.broken(grpc.DEADLINE)

    def aborted(self, code: int) -> None:  # noqa: ARG002
        """The client has reset the stream or is gone."""
        self._lose(errors.CANCELED)

    def _lose(self, code: int) -> None:
        """Tell the service that the call is over without its doing."""
        call = self.call
        if call is None or call.ended:
            return
        call.ended = True
        self.call = None
        call.note_end(code, None)
        on_end = call.on_end
        call.clear()
        if on_end is not None:
            self.server.notify(self, on_end)

    def drained(self) -> None:
        """Tell the service that it may send more."""
        call = self.call
        if call is not None and call.on_drain is not None:
            self.server.notify(self, call.on_drain)

    def begin(self) -> None:
        """Send the response HEADERS, once."""
        if not self.began:
            self.began = True
            head = self.head
            self.conn.sent_frames += 1
            if self.conn.small_table:
                self.conn.put(self.conn.head(END_HEADERS, self.id, head.reply_block))
            else:
                self.conn.put(b"".join((head.reply_prefix, self.id.to_bytes(4, "big"), head.reply_block)))

    def end(self, error: RpcError | None) -> None:
        """Send the trailers behind what is queued; a call that has sent nothing fails in one frame."""
        if self.done or self.ending:
            return
        block = OK_TRAILERS if error is None else grpc.trailers_block(error)
        if not self.began:
            self.began = True
            block = self.head.reply_block + block
        self.conn.sent_frames += 1
        self.conn.send_end(self, self.conn.head(END_BOTH, self.id, block))


class Http2Call(ServerCall):
    """A call as the service sees it."""

    def __init__(self, stream: ServerStream) -> None:
        self.path = stream.head.path
        self.ended = False
        self.on_message = None
        self.on_half_close = None
        self.on_end = None
        self.on_drain = None
        self._stream = stream
        self.request = b""  # of a unary call
        self.start_ns = stream.server.clock()

    def note_end(self, code: int, response: bytes | None) -> None:
        """Count how the call ended and how long it took, and tell whoever wants to know."""
        stream = self._stream
        stream.method.note_end(self, code, self.request, response, stream.server.clock() - self.start_ns)

    def metadata(self, name: bytes) -> bytes | None:
        """Return the first value of a request header."""
        return self._stream.head.value(name)

    def peer(self) -> str:
        """Return the client's address."""
        return self._stream.server.peer

    def common_name(self) -> str | None:
        """Return the CommonName of the client's verified certificate."""
        return self._stream.server.common_name

    def complete(self, response: bytes) -> None:
        """Answer a unary call, or send the last message of a stream and end it."""
        if self.ended:
            return
        self.ended = True
        stream = self._stream
        method = stream.method
        method.sent += 1
        self.note_end(0, response)
        stream.call = None
        stream.server.reply(stream, response)
        if self.on_end is not None or method.unary is None:
            self.clear()

    def fail(self, error: RpcError) -> None:
        """End the call with an error."""
        if self.ended:
            return
        self.ended = True
        stream = self._stream
        self.note_end(error.code, None)
        stream.call = None
        stream.end(error)
        self.clear()

    def send(self, message: bytes) -> None:
        """Queue a message of a stream."""
        if self.ended:
            return
        stream = self._stream
        stream.begin()
        stream.method.sent += 1
        stream.server.stats.sent_bytes += len(message)
        stream.send_message(message)

    def finish(self) -> None:
        """End a stream with status OK."""
        if self.ended:
            return
        self.ended = True
        stream = self._stream
        self.note_end(0, b"")
        stream.call = None
        stream.begin()
        stream.end(None)
        self.clear()

    def queued_bytes(self) -> int:
        """Return how many bytes wait for the client."""
        return self._stream.queued

    def crowded(self) -> bool:
        """Tell whether the client should be sent nothing more until it reads."""
        return self._stream.server.is_full()

    def put_off(self) -> bool:
        """Have the method of a unary call called anew later, if nothing large should be sent now."""
        stream = self._stream
        if self.ended or stream.call is not self or not stream.server.crowded():
            return False
        stream.server.put_off(stream, self.request)
        return True

    def clear(self) -> None:
        """Let go of the service, so that no cycle outlives the call."""
        self.on_message = None
        self.on_half_close = None
        self.on_end = None
        self.on_drain = None


class ServerConnection(Connection):
    """One client's HTTP/2 connection."""

    def __init__(
        self, router: Router, limits: Limits, clock: Callable[[], int], peer: str, stats: TransportStats
    ) -> None:
        super().__init__(limits, clock, stats, True)
        self.peer = peer
        self.common_name: str | None = None  # of the client's verified certificate
        self.http: HttpHandler | None = None
        """Answers requests that are not gRPC; without it they are refused as grpc-go does."""
        self._reader = RequestReader(router)
        self._heads: dict[bytes, RequestHead] = {}
        self._gaps: list[tuple[int, int]] = []  # ranges of ids that the client skipped
        self._refuse_after = frames.MAX_STREAM_ID
        self._drain_ns = 0
        self._waiting: dict[int, tuple[Stream, bytes]] = {}  # by stream id, in order
        self._served = 0  # in this turn
        self._served_ns = 0  # when the first of them was
        self._late = False  # this turn's time is up
        self._ping_ns_seen = 0
        self._ping_strikes = 0
        self._ping_frames = 0

    # Requests

    def received_headers(self, stream_id: int, block: bytes, ended: bool) -> None:
        """Open a stream, or take the trailers of one."""
        head = self._heads.get(block)
        if head is None:
            head = self._read_head(block)
        if stream_id <= self.peer_last_id or stream_id & 1 == 0:
            self._received_trailers(stream_id, head, ended)
            return
        if stream_id != self.peer_last_id + 2 and stream_id != 1:
            self._note_gap(self.peer_last_id + 2 - (self.peer_last_id + 1) % 2, stream_id - 2)
        self.peer_last_id = stream_id
        if stream_id > self._refuse_after or len(self.streams) >= self.limits.max_concurrent_streams:
            self._control()
            self.reset(stream_id, frames.REFUSED_STREAM)
        elif head.method is not None:
            self._open_rpc(stream_id, head, head.method, ended)
        else:
            self._open_other(stream_id, head, ended)

    def _read_head(self, block: bytes) -> RequestHead:
        generation = self._decoder.generation
        head = self._reader.read(self._decoder.decode(block))
        if generation != self._decoder.generation:
            # What the kept blocks refer to may have moved in the table.
            self._heads.clear()
        elif len(block) <= HEAD_BLOCK_BYTES:
            if len(self._heads) >= HEADS_KEPT:
                self._heads.clear()
            self._heads[block] = head
        return head

    def _note_gap(self, first: int, last: int) -> None:
        self._gaps.append((first, last))
        if len(self._gaps) > GAPS_KEPT:
            del self._gaps[0]

    def is_idle(self, stream_id: int) -> bool:
        """Tell whether the client has never opened a stream."""
        if stream_id > self.peer_last_id or stream_id & 1 == 0:
            return True
        return any(first <= stream_id <= last for first, last in self._gaps)

    def _received_trailers(self, stream_id: int, head: RequestHead, ended: bool) -> None:
        stream = self.streams.get(stream_id)
        if stream is None:
            if self.is_idle(stream_id):
                raise Http2Error(frames.PROTOCOL_ERROR, "bad stream id")
            if stream_id not in self._reset_ids:
                raise Http2Error(frames.STREAM_CLOSED, "HEADERS on a closed stream")
            self._control()
        elif not stream.recv_open:
            self.reset_stream(stream, frames.STREAM_CLOSED)
        elif not ended or any(name[:1] == b":" for name, _ in head.fields):
            self.reset_stream(stream, frames.PROTOCOL_ERROR)
        else:
            stream.recv_open = False
            stream.received(b"", 0, 0, True)

    def _open_rpc(self, stream_id: int, head: RequestHead, method: Method, ended: bool) -> None:
        stream = ServerStream(self, stream_id, head, method)
        self.streams[stream_id] = stream
        if head.timeout_ns >= 0:
            self.set_deadline(stream, self.clock() + head.timeout_ns)
        if method.stream is not None:
            call = Http2Call(stream)
            stream.call = call
            method.started += 1
            if method.traced and method.observer is not None:
                method.observer.began(call, method)
            try:
                method.stream(call)
            except Exception as error:
                self._failed(stream, error)
        if ended and not stream.done:
            stream.recv_open = False
            stream.received(b"", 0, 0, True)

    def _open_other(self, stream_id: int, head: RequestHead, ended: bool) -> None:
        """Answer or refuse a request that is no RPC of ours."""
        if head.kind == MALFORMED:
            self._control()
            self.reset(stream_id, frames.PROTOCOL_ERROR)
            return
        if head.kind == HTTP and self.http is not None:
            stream = WebStream(self, stream_id, head, self.http, self.peer)
            stream.request.common_name = self.common_name
            self.streams[stream_id] = stream
            stream.open(ended)
            return
        refusal = head.refusal
        if head.kind == HTTP:
            unsupported = RequestHead(head.fields)
            content_type = grpc.quote(head.value(b"content-type") or b"")
            text = f"invalid gRPC request content-type {content_type}"
            unsupported.refuse(415, b"application/grpc", RpcError(errors.INVALID_ARGUMENT, text))
            refusal = unsupported.refusal
        self.put_control(self.head(END_BOTH, stream_id, refusal))
        if not ended:
            self.reset(stream_id, frames.NO_ERROR)

    # Calling services

    def dispatch(self, stream: ServerStream, message: bytes) -> None:
        """Call a unary method, now or when its turn has come."""
        call = Http2Call(stream)
        call.request = message
        stream.call = call
        method = stream.method
        method.started += 1
        method.received += 1
        if method.traced and method.observer is not None:
            method.observer.began(call, method)
        self.when_free(stream, message)

    def when_free(self, stream: Stream, message: bytes) -> None:
        """Serve a whole request, now or when its turn has come."""
        if self._late or self._waiting or self.is_full():
            self.put_off(stream, message)
            self.signal()
            return
        self._served += 1
        if self._served == 1:
            self._served_ns = self.clock()
        elif self._served & 7 == 0:
            self._late = self.clock() - self._served_ns > self.limits.slice_ns
        stream.serve(message)

    def put_off(self, stream: Stream, message: bytes) -> None:
        """Let a request wait."""
        if self.hold(stream, len(message) + WAITING_BYTES):
            self._waiting[stream.id] = (stream, message)
        else:
            stream.unaffordable()

    def is_full(self) -> bool:
        """Tell whether the client leaves unread what it may, or more than its share of what all may."""
        limits = self.limits
        if self.queued_bytes > limits.max_queued_bytes:
            return True
        return self.queued_bytes > limits.share_bytes and self.stats.queued_bytes > limits.max_total_queued_bytes

    def call_unary(self, stream: ServerStream, message: bytes) -> None:
        """Call a unary method with its message."""
        unary = stream.method.unary
        call = stream.call
        if unary is None or call is None:
            return
        try:
            unary(call, message)
        except Exception as error:
            self._failed(stream, error)

    def take_output(self) -> bytes:
        """Return everything queued; then serve what has waited."""
        output = super().take_output()
        self._served = 0
        self._late = False
        if self._waiting:
            self._serve_waiting()
        return output

    def _serve_waiting(self) -> None:
        self._served_ns = self.clock()
        for stream_id in list(self._waiting):
            if self.is_full():
                return  # until something is read
            waiting = self._waiting.pop(stream_id, None)
            if waiting is not None:
                stream, message = waiting
                self.release(stream)
                stream.serve(message)
            if self.clock() - self._served_ns > self.limits.slice_ns:
                self._late = True
                self.signal()
                return

    def _drop(self, stream: Stream) -> None:
        super()._drop(stream)
        if self._waiting:
            self._waiting.pop(stream.id, None)

    def deliver(self, stream: ServerStream, on_message: Callable[[bytes], None], message: bytes) -> None:
        """Hand a message to a streaming service."""
        try:
            on_message(message)
        except Exception as error:
            self._failed(stream, error)

    def notify(self, stream: ServerStream, callback: Callable[[], None]) -> None:
        """Tell a service something."""
        try:
            callback()
        except Exception as error:
            self._failed(stream, error)

    def _failed(self, stream: ServerStream, error: Exception) -> None:
        """End the call of a service that raised. Only an RpcError is meant for the client."""
        if not isinstance(error, RpcError):
            self.stats.handler_errors += 1
            if self.handler_failed is not None:
                self.handler_failed(stream.head.path, error)
            error = RpcError(errors.INTERNAL, "internal error")
        call = stream.call
        if call is not None:
            call.fail(error)

    # Replies

    def reply(self, stream: ServerStream, response: bytes) -> None:
        """Send one message and status OK."""
        size = len(response)
        self.stats.sent_bytes += size
        if self.small_table or stream.recv_open or stream.began or not self.can_send(stream, size + PREFIX_BYTES):
            stream.begin()
            stream.send_message(response)
            stream.end(None)
            return
        body = size + PREFIX_BYTES
        stream.send_window -= body
        self.send_window -= body
        self.sent_frames += 1
        head = stream.head
        sid = stream.id.to_bytes(4, "big")
        self.put(
            b"".join(
                (
                    head.reply_prefix,
                    sid,
                    head.reply_block,
                    (body << 16).to_bytes(5, "big"),
                    sid,
                    size.to_bytes(PREFIX_BYTES, "big"),
                    response,
                    OK_TRAILERS_PREFIX,
                    sid,
                    OK_TRAILERS,
                )
            )
        )
        stream.send_open = False
        self.forget(stream)

    def sent_end(self, stream: Stream) -> None:
        """The reply is complete: the stream is over, whatever the client still wanted to send."""
        stream.send_open = False
        if stream.recv_open:
            self.reset(stream.id, frames.NO_ERROR)
        self.forget(stream)

    def worth(self) -> int:
        """Return what closing would cost the client."""
        if self.streams:
            return BUSY
        return IDLE if self.peer_last_id else UNUSED

    # Drain and pings

    def drain(self) -> None:
        """Take no new streams, finish the open ones, then close (grpc-go: outgoingGoAwayHandler)."""
        if self.draining or self.closed:
            return
        self.draining = True
        self._drain_ns = self.clock()
        self.put(frames.goaway(frames.MAX_STREAM_ID, frames.NO_ERROR, b"graceful_stop"))
        self.put(frames.PING_HEAD + DRAIN_PING)
        if not self._settled:
            self._shut("")

    def drain_answered(self) -> None:
        """The client knows: name the last stream that it will get an answer for."""
        if self.draining and self._refuse_after == frames.MAX_STREAM_ID:
            self._refuse_after = self.peer_last_id
            self.put(frames.goaway(self.peer_last_id, frames.NO_ERROR, b""))
            if not self.streams:
                self._shut("")

    def _last_stream_gone(self) -> None:
        if self._refuse_after != frames.MAX_STREAM_ID:
            self._shut("")

    def tick(self, now_ns: int) -> None:
        """Do what is due."""
        super().tick(now_ns)
        if self._waiting and not self.closed:
            self.signal()  # what waits for other connections to be read
        if self.draining and not self.closed and now_ns - self._drain_ns >= self.limits.drain_ping_ns:
            self.drain_answered()

    def pinged(self) -> None:
        """Hold the client to the keepalive policy (grpc-go: handlePing)."""
        now_ns = self.clock()
        last_ns = self._ping_ns_seen
        self._ping_ns_seen = now_ns
        if self.sent_frames != self._ping_frames:
            # HEADERS or DATA left since the last ping: bandwidth probes and the like are excused.
            self._ping_frames = self.sent_frames
            self._ping_strikes = 0
            return
        limits = self.limits
        idle = not self.streams and not limits.ping_without_calls
        if last_ns and now_ns - last_ns < (IDLE_PING_NS if idle else limits.min_ping_interval_ns):
            self._ping_strikes += 1
            if self._ping_strikes > limits.max_ping_strikes:
                raise Http2Error(frames.ENHANCE_YOUR_CALM, "too_many_pings")
