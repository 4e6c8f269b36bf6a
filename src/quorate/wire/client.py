"""The client's role: calls out over one HTTP/2 connection.

    call = conn.call(b"/etcdserverpb.KV/Put", [], on_headers, on_message, on_end, timeout_ns)
    call.send_last(request)         # or send, any number of times, and half_close

The callbacks come from `receive`, `tick` or `cancel`, on the loop: `on_headers(fields)` at most once,
`on_message(bytes)` any number of times, and `on_end(error, trailers)` exactly once; `error` is None for status OK.
Calls beyond what the server permits at once wait their turn, unsent. A call that the server certainly did not process
(refused, or above the GOAWAY's last stream) ends with `unprocessed` set: it is safe to send it again on another
connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from quorate import errors
from quorate.errors import RpcError
from quorate.wire import frames, grpc
from quorate.wire.deframe import GrpcStream
from quorate.wire.flow import Stream
from quorate.wire.frames import Http2Error, Limits, TransportStats
from quorate.wire.grpc import PREFIX_BYTES
from quorate.wire.headers import Field, encode_field, encode_fields
from quorate.wire.http2 import Connection

OnHeaders = Callable[[list[Field]], None]
OnMessage = Callable[[bytes], None]
OnEnd = Callable[[RpcError | None, list[Field]], None]

HEADS_KEPT: Final = 64
HEAD_BLOCK_BYTES: Final = 256
END_BOTH = frames.FLAG_END_HEADERS | frames.FLAG_END_STREAM


class ResponseHead:
    """Response HEADERS or trailers: the fields, and the first value of each name. Kept, so nobody may change them."""

    def __init__(self, fields: list[Field]) -> None:
        self.fields = fields
        self.found = dict(reversed(fields))


class ClientCall(GrpcStream):
    """One RPC on the client's side."""

    def __init__(
        self, conn: ClientConnection, block: bytes, on_headers: OnHeaders | None, on_message: OnMessage, on_end: OnEnd
    ) -> None:
        super().__init__(conn, 0, conn.limits.max_receive_bytes)
        self.client = conn
        self.ended = False
        self.unprocessed = False
        self.on_drain: Callable[[], None] | None = None
        self.block = block
        self._on_headers: OnHeaders | None = on_headers
        self._on_message: OnMessage | None = on_message
        self._on_end: OnEnd | None = on_end
        self._early: list[bytes] = []  # messages given before the stream could open
        self._closing = False
        self._headers_seen = False
        self._http_status = 200

    # What the caller uses

    def send(self, message: bytes) -> None:
        """Queue one request message."""
        if self.ended or self._closing:
            return
        if self.id == 0:
            self._early.append(message)
        else:
            self.client.stats.sent_bytes += len(message)
            self.send_message(message)

    def send_last(self, message: bytes) -> None:
        """Queue one request message and send no more: in one frame, when it may leave now."""
        size = PREFIX_BYTES + len(message)
        conn = self.conn
        if self.ended or self._closing or not self.id or not conn.can_send(self, size):
            self.send(message)
            self.half_close()
            return
        self._closing = True
        self.client.stats.sent_bytes += len(message)
        self.send_window -= size
        conn.send_window -= size
        conn.sent_frames += 1
        head = (size << 16 | frames.FLAG_END_STREAM).to_bytes(5, "big")
        conn.put(b"".join((head, self.id.to_bytes(4, "big"), len(message).to_bytes(PREFIX_BYTES, "big"), message)))
        conn.sent_end(self)

    def half_close(self) -> None:
        """Send no more messages."""
        if self.ended or self._closing:
            return
        self._closing = True
        if self.id:
            self.conn.send_end(self, frames.frame(frames.DATA, frames.FLAG_END_STREAM, self.id, b""))

    def cancel(self) -> None:
        """Give the call up; on_end gets Canceled."""
        self.give_up(grpc.CANCELED)

    def queued_bytes(self) -> int:
        """Return how many bytes wait for the server."""
        return self.queued + sum([len(message) for message in self._early])

    # What the connection calls

    def opened(self) -> None:
        """The stream has its id and its HEADERS are queued: send what has waited."""
        early = self._early
        self._early = []
        closing = self._closing
        self._closing = False
        last = early.pop() if closing and early else None
        for message in early:
            self.send(message)
        if last is not None:
            self.send_last(last)
        elif closing:
            self.half_close()

    def give_up(self, error: RpcError) -> None:
        """End the call from our side."""
        if self.ended:
            return
        if self.id and not self.done:
            self.conn.reset(self.id, frames.CANCEL)
            self.conn.forget(self)
        self.finish(error, [])

    def finish(self, error: RpcError | None, trailers: list[Field]) -> None:
        """Tell the caller the outcome, once."""
        if self.ended:
            return
        self.ended = True
        on_end = self._on_end
        self._on_headers = None
        self._on_message = None
        self._on_end = None
        self.on_drain = None
        self._early = []
        if on_end is not None:
            on_end(error, trailers)

    def message(self, message: bytes) -> None:
        """Hand a message to the caller."""
        self.client.stats.received_bytes += len(message)
        if self._on_message is not None:
            self._on_message(message)

    def half_closed(self) -> None:
        """DATA with END_STREAM: an answer without trailers."""
        self._close()
        if self._http_status != 200:
            self.finish(self._http_error(), [])
        else:
            self.finish(RpcError(errors.INTERNAL, "server closed the stream without sending trailers"), [])

    def broken(self, error: RpcError) -> None:
        """The server's messages cannot be read."""
        self.give_up(error)

    def received(self, data: bytes, start: int, end: int, ended: bool) -> None:
        """Take DATA; the body of an answer that is not gRPC is dropped."""
        if not self._headers_seen:
            self.conn.reset_stream(self, frames.PROTOCOL_ERROR)
        elif self._http_status == 200:
            super().received(data, start, end, ended)
        elif ended:
            self.half_closed()

    def aborted(self, code: int) -> None:
        """The server has reset the stream, or the connection is lost."""
        if code < 0:
            self.finish(grpc.CONNECTION_LOST, [])
            return
        self.unprocessed = code == frames.REFUSED_STREAM
        text = f"stream terminated by RST_STREAM with error code: {code}"
        self.finish(RpcError(grpc.code_of_reset(code), text), [])

    def expired(self) -> None:
        """Our deadline has passed."""
        self.give_up(grpc.DEADLINE)

    def drained(self) -> None:
        """Tell the caller that it may send more."""
        if self.on_drain is not None:
            self.on_drain()

    def headers(self, head: ResponseHead, ended: bool) -> None:
        """Take response HEADERS or trailers."""
        fields, found = head.fields, head.found
        status = found.get(b":status", b"")
        if (
            self._headers_seen == bool(status)
            or (status and not status.isdigit())
            or (self._headers_seen and not ended)
        ):
            self.conn.reset_stream(self, frames.PROTOCOL_ERROR)
            return
        if status:
            if status[:1] == b"1" and not ended:
                return  # an interim response
            self._headers_seen = True
            self._http_status = int(status)
            self.gzip = found.get(b"grpc-encoding", b"") == b"gzip"
            if not ended:
                if self._on_headers is not None:
                    self._on_headers(fields)
                return
        cut = self.held > 0  # inside a message
        self._close()
        code = found.get(b"grpc-status", b"")
        if not code.isdigit():
            self.finish(self._http_error(), fields)
        elif int(code) == 0:
            self.finish(grpc.TRUNCATED if cut else None, fields)
        else:
            self.finish(RpcError(int(code), grpc.decode_text(found.get(b"grpc-message", b""))), fields)

    def _http_error(self) -> RpcError:
        status = self._http_status
        return RpcError(grpc.code_of_http_status(status), f"unexpected HTTP status code received from server: {status}")

    def _close(self) -> None:
        """The server has ended the stream; whatever we still wanted to send is moot."""
        if not self.done:
            if self.send_open:
                self.conn.reset(self.id, frames.NO_ERROR)
            self.conn.forget(self)


class ClientConnection(Connection):
    """One connection to a server."""

    def __init__(
        self, limits: Limits, clock: Callable[[], int], stats: TransportStats, authority: bytes, scheme: bytes = b"http"
    ) -> None:
        super().__init__(limits, clock, stats, False)
        self.user_agent = b"grpc-python-quorate/0.1"
        self.ready: Callable[[], None] | None = None
        """Called once, when the server's SETTINGS have come."""
        self.went_away: Callable[[int, bytes], None] | None = None
        """Called when the server sends GOAWAY with its code and debug data: new calls belong elsewhere."""
        self.deadline_set: Callable[[], None] | None = None
        """Called when a call with a deadline begins: `tick` is wanted soon."""
        self._authority = authority
        self._scheme = scheme
        self._next_id = 1
        self._max_streams = frames.MAX_STREAM_ID
        self._waiting: deque[ClientCall] = deque()
        self._blocks: dict[bytes, bytes] = {}
        self._heads: dict[bytes, ResponseHead] = {}  # what equal blocks have meant since the table changed last

    def call(
        self,
        path: bytes,
        headers: list[Field],
        on_headers: OnHeaders | None,
        on_message: OnMessage,
        on_end: OnEnd,
        timeout_ns: int = 0,
    ) -> ClientCall:
        """Begin a call. `headers` are metadata with lower-case names; a timeout of 0 means none."""
        block = self._request_block(path)
        if headers:
            block += encode_fields(headers)
        if timeout_ns > 0:
            block += encode_field(b"grpc-timeout", grpc.format_timeout(timeout_ns))
        call = ClientCall(self, block, on_headers, on_message, on_end)
        if self.closed or self.draining:
            call.unprocessed = True
            call.finish(grpc.CONNECTION_LOST, [])
            return call
        if timeout_ns > 0:
            self.set_deadline(call, self.clock() + timeout_ns)
            if self.deadline_set is not None:
                self.deadline_set()
        if self._waiting or not self._settled or len(self.streams) >= self._max_streams:
            self._waiting.append(call)
        else:
            self._open(call)
        return call

    def _request_block(self, path: bytes) -> bytes:
        block = self._blocks.get(path)
        if block is None:
            block = encode_fields(
                [
                    (b":method", b"POST"),
                    (b":scheme", self._scheme),
                    (b":path", path),
                    (b":authority", self._authority),
                    (b"content-type", b"application/grpc"),
                    (b"user-agent", self.user_agent),
                    (b"te", b"trailers"),
                    (b"grpc-accept-encoding", b"identity,gzip"),
                ]
            )
            self._blocks[path] = block
        return block

    def _open(self, call: ClientCall) -> None:
        call.id = self._next_id
        self._next_id += 2
        call.send_window = self.peer_window
        self.streams[call.id] = call
        self.put(self.head(frames.FLAG_END_HEADERS, call.id, call.block))
        self.sent_frames += 1
        call.block = b""
        call.opened()
        if self._next_id > frames.MAX_STREAM_ID:
            self.draining = True  # the ids are used up

    def _open_waiting(self) -> None:
        while self._waiting and len(self.streams) < self._max_streams and not self.closed and not self.draining:
            call = self._waiting.popleft()
            if not call.ended:
                self._open(call)

    def received_headers(self, stream_id: int, block: bytes, ended: bool) -> None:
        """Take response HEADERS or trailers."""
        head = self._heads.get(block)
        if head is None:
            head = self._read_head(block)
        stream = self.streams.get(stream_id)
        if stream is None:
            if self.is_idle(stream_id):
                raise Http2Error(frames.PROTOCOL_ERROR, "HEADERS on an idle stream")
            self._control()
            return
        if not stream.recv_open:
            self.reset_stream(stream, frames.STREAM_CLOSED)
            return
        assert isinstance(stream, ClientCall)
        if ended:
            stream.recv_open = False
        stream.headers(head, ended)

    def _read_head(self, block: bytes) -> ResponseHead:
        generation = self._decoder.generation
        head = ResponseHead(self._decoder.decode(block))
        if generation != self._decoder.generation:
            # What the kept blocks refer to may have moved in the table.
            self._heads.clear()
        elif len(block) <= HEAD_BLOCK_BYTES:
            if len(self._heads) >= HEADS_KEPT:
                self._heads.clear()
            self._heads[block] = head
        return head

    def is_idle(self, stream_id: int) -> bool:
        """Tell whether we have never opened a stream."""
        return stream_id >= self._next_id or stream_id & 1 == 0

    def sent_end(self, stream: Stream) -> None:
        """Our messages are out; the answer is still to come."""
        stream.send_open = False

    def forget(self, stream: Stream) -> None:
        """Remove a stream, and open one that has waited for its place."""
        super().forget(stream)
        if self._waiting:
            self._open_waiting()

    def peer_max_streams(self, count: int) -> None:
        """Hold to the server's limit."""
        self._max_streams = count
        if self._settled:
            self._open_waiting()

    def settled(self) -> None:
        """The server's SETTINGS have come."""
        self._open_waiting()
        if self.ready is not None:
            self.ready()

    def going_away(self, last_id: int, code: int, debug: bytes) -> None:
        """Fail the calls that the server will not answer, and take no new ones."""
        self.draining = True
        lost = [call for call in self.streams.values() if call.id > last_id]
        for call in lost:
            assert isinstance(call, ClientCall)
            self.forget(call)
            call.unprocessed = True
            call.finish(RpcError(errors.UNAVAILABLE, "the connection is draining"), [])
        self._fail_waiting()
        if self.went_away is not None:
            self.went_away(code, debug)
        if not self.streams:
            self._shut("")

    def _fail_waiting(self) -> None:
        waiting = self._waiting
        self._waiting = deque()
        for call in waiting:
            call.unprocessed = True
            call.finish(grpc.CONNECTION_LOST, [])

    def _last_stream_gone(self) -> None:
        self._shut("")

    def _shut(self, text: str) -> None:
        super()._shut(text)
        self._fail_waiting()

    def tick(self, now_ns: int) -> None:
        """Do what is due, for calls that wait to be opened too."""
        super().tick(now_ns)
        for call in list(self._waiting):
            if call.deadline_ns and call.deadline_ns <= now_ns:
                call.finish(grpc.DEADLINE, [])

    def keepalive_wanted(self) -> bool:
        """Servers dislike pings without calls."""
        return bool(self.streams)

    def close(self) -> None:
        """Say goodbye; open calls end with Unavailable."""
        if not self.closed:
            self.put(frames.goaway(0, frames.NO_ERROR, b""))
            self._shut("")
