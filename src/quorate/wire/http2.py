"""The HTTP/2 connection that both roles share: frames in, streams, flow control, settings, pings, and defence.

Contract: `receive` takes what a socket gave, in pieces of any size, and calls the streams' methods before it returns;
`take_output` gives what must be written. Nothing else happens by itself: time comes in through `tick`. After a
violation a GOAWAY with the code of RFC 9113 is queued, all streams are aborted and `closed` is set; the owner writes
what is left and closes the socket. No input raises.

Bounds a connection: one partial frame, one header block (`max_header_block_bytes`), half-received messages
(`max_assembly_bytes`), output (see `flow`), and token buckets for frames that cost us and bring nothing. When all
connections together hold or queue too much, those that use more than their share are refused or cut off.

Left out: priorities (read and ignored), server push (refused), a dynamic table for what we send.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.wire import frames
from quorate.wire.flow import Outbox, Stream
from quorate.wire.frames import (
    DATA,
    FLAG_ACK,
    FLAG_END_HEADERS,
    FLAG_END_STREAM,
    FLAG_PADDED,
    FLAG_PRIORITY,
    HEADERS,
    MAX_WINDOW,
    PREFACE,
    SETTINGS,
    Bucket,
    Http2Error,
    Limits,
    TransportStats,
)
from quorate.wire.headers import EMPTY_TABLE, TABLE_SIZE, HeaderDecoder

FRAME_HEAD: Final = 9
RESET_IDS_KEPT: Final = 1024
MAX_SETTINGS: Final = 64
KEEPALIVE_PING: Final = b"keepaliv"
DRAIN_PING: Final = b"draining"


class Connection(Outbox):
    """One HTTP/2 connection, of either role."""

    def __init__(self, limits: Limits, clock: Callable[[], int], stats: TransportStats, is_server: bool) -> None:
        super().__init__(limits, stats)
        self.clock = clock
        self.streams: dict[int, Stream] = {}
        self.held_bytes = 0  # what all streams hold, see Stream.held
        self.recv_window = limits.connection_window
        self.draining = False
        self.small_table = False  # the peer wants a smaller header table than the usual one
        self.peer_last_id = 0  # the highest stream that the peer has opened
        self.pings_unexcused = True  # nothing was sent since the last ping of the peer
        self._is_server = is_server
        self._preface_left = len(PREFACE) if is_server else 0
        self._settled = False  # the peer's first SETTINGS have come
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = FRAME_HEAD
        self._decoder = HeaderDecoder(limits.max_header_list_bytes)
        self._block_id = 0  # the stream of the header block under way; 0 = none
        self._block_end = False
        self._block: list[bytes] = []
        self._block_bytes = 0
        self._recv_low = limits.connection_window // 2
        self._stream_low = limits.stream_window // 2
        self._max_frame = limits.max_frame_bytes
        self._reset_ids: dict[int, None] = {}  # streams that we have reset: the peer may not know yet
        self._controls = Bucket(limits.control_burst, limits.controls_per_second, clock)
        self._resets = Bucket(limits.reset_burst, limits.resets_per_second, clock)
        self._excused = 0  # how many of sent_frames have been set against control frames
        self._active = True
        self._active_ns = clock()
        self._began_ns = self._active_ns
        self._ping_ns = 0  # when our unanswered keepalive ping left; 0 = none
        self._partial_ns = 0
        self._stalled_ns = 0  # since when nothing of what is queued has gone out; 0 = it goes
        self._greet()

    def _greet(self) -> None:
        limits = self.limits
        values = [
            (frames.SET_INITIAL_WINDOW_SIZE, limits.stream_window),
            (frames.SET_MAX_FRAME_SIZE, limits.max_frame_bytes),
            (frames.SET_MAX_HEADER_LIST_SIZE, limits.max_header_list_bytes),
        ]
        if self._is_server:
            values.append((frames.SET_MAX_CONCURRENT_STREAMS, limits.max_concurrent_streams))
        else:
            values.append((frames.SET_ENABLE_PUSH, 0))
            self.put(PREFACE)
        self.put(frames.settings_frame(values))
        self.put(frames.window_update(0, limits.connection_window - frames.DEFAULT_WINDOW))

    # What the owner calls

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer."""
        if self.closed:
            return
        self._active = True
        if self._have:
            self._chunks.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._chunks)
            self._chunks = []
            self._have = 0
        try:
            at = self._take_preface(data) if self._preface_left else 0
            at = self._parse(data, at)
        except Http2Error as error:
            self.fail(error.code, error.text)
            return
        if at:
            self._partial_ns = 0
        if at < len(data) and not self.closed:
            self._chunks = [data[at:] if at else data]
            self._have = len(data) - at

    def receive_eof(self) -> None:
        """The peer has closed its side: no gRPC client does that with calls it still wants answered."""
        self._shut("")

    def lost(self) -> None:
        """The socket is gone."""
        self._shut("")

    def fail(self, code: int, text: str) -> None:
        """End the connection with a GOAWAY."""
        if self.closed:
            return
        self.stats.goaways += 1
        self.put(frames.goaway(self.peer_last_id, code, text.encode()))
        self._shut(text)

    def tick(self, now_ns: int) -> None:
        """Do what is due: deadlines, keepalive, time limits. Every second; sooner while `deadline_ns` is set."""
        if self.closed:
            return
        if self.deadline_ns and now_ns >= self.deadline_ns:
            self._expire(now_ns)
        if not self._settled:
            if now_ns - self._began_ns > self.limits.handshake_ns:
                self._shut("no preface in time")
            return
        if self._have or self._block_id:
            if self._partial_ns == 0:
                self._partial_ns = now_ns
            elif now_ns - self._partial_ns > self.limits.partial_ns:
                self.fail(frames.ENHANCE_YOUR_CALM, "unfinished frame")
                return
        if self.queued_bytes and self._is_stuck(now_ns):
            self.fail(frames.ENHANCE_YOUR_CALM, "replies are not read")
            return
        self._keep_alive(now_ns)

    def _is_stuck(self, now_ns: int) -> bool:
        """Tell whether the peer takes nothing while too much waits for all peers together."""
        if self.moved or self._stalled_ns == 0:
            self.moved = False
            self._stalled_ns = now_ns
            return False
        limits = self.limits
        crowded = self.stats.queued_bytes > limits.max_total_queued_bytes // 2
        return crowded and self.queued_bytes > limits.share_bytes and now_ns - self._stalled_ns > limits.stall_ns

    # Ends

    def _shut(self, text: str) -> None:
        """Close: every open stream is aborted, once."""
        if self.closed:
            return
        self.closed = True
        self.close_text = text
        self._chunks = []
        self._have = 0
        self._block = []
        lost = list(self.streams.values())
        self.streams.clear()
        for stream in lost:
            self._drop(stream)
            stream.aborted(-1)
        self.signal()

    def _drop(self, stream: Stream) -> None:
        stream.done = True
        self.discard(stream)
        if stream.held:
            self.held_bytes -= stream.held
            self.stats.held_bytes -= stream.held
            stream.held = 0

    def forget(self, stream: Stream) -> None:
        """Remove a stream that is over. The last one of a draining connection closes it."""
        if not stream.done:
            del self.streams[stream.id]
            self._drop(stream)
            if self.draining and not self.streams:
                self._last_stream_gone()

    def _last_stream_gone(self) -> None:
        raise NotImplementedError

    def reset(self, stream_id: int, code: int) -> None:
        """Send RST_STREAM, and remember that frames of the stream may still be under way."""
        if len(self._reset_ids) >= RESET_IDS_KEPT:
            del self._reset_ids[next(iter(self._reset_ids))]
        self._reset_ids[stream_id] = None
        self.put_control(frames.rst_stream(stream_id, code))

    def reset_stream(self, stream: Stream, code: int) -> None:
        """Reset an open stream for a violation of the peer: it is aborted on our side too."""
        self.reset(stream.id, code)
        self.forget(stream)
        stream.aborted(code)

    def hold(self, stream: Stream, size: int) -> bool:
        """Count bytes that a stream keeps; False when the connection's budget is spent."""
        stream.held += size
        self.held_bytes += size
        self.stats.held_bytes += size
        limits = self.limits
        if self.stats.held_bytes > limits.max_total_held_bytes:
            return self.held_bytes <= limits.share_bytes + limits.max_receive_bytes
        return self.held_bytes <= limits.max_assembly_bytes

    def release(self, stream: Stream) -> None:
        """The stream keeps nothing any more."""
        if not stream.done:
            self.held_bytes -= stream.held
            self.stats.held_bytes -= stream.held
            stream.held = 0

    def when_free(self, stream: Stream, message: bytes) -> None:
        """Call `stream.serve` with a whole request, now or when its turn has come. For the server's role."""
        raise NotImplementedError

    def head(self, flags: int, stream_id: int, block: bytes) -> bytes:
        """Return the frames of a header block.

        What we send uses no table. But a peer that makes its table smaller waits for us to say that we know: the next
        block must begin with a size update (RFC 7541, 4.2), and for such peers every one does.
        """
        if self.small_table:
            block = EMPTY_TABLE + block
        return frames.header_frames(flags, stream_id, block)

    def _shrink_table(self) -> None:
        if self.small_table:
            return
        self.small_table = True
        for stream in self.streams.values():
            tail = stream.tail
            if len(tail) > FRAME_HEAD and tail[3] == HEADERS and tail[4] & FLAG_END_HEADERS:
                stream.tail = self.head(tail[4], stream.id, tail[FRAME_HEAD:])

    # Frames

    def _take_preface(self, data: bytes) -> int:
        """Return how much of the data was preface."""
        done = len(PREFACE) - self._preface_left
        size = min(self._preface_left, len(data))
        if data[:size] != PREFACE[done : done + size]:
            raise Http2Error(frames.PROTOCOL_ERROR, "bad connection preface")
        self._preface_left -= size
        return size

    def _parse(self, data: bytes, at: int) -> int:
        """Handle all whole frames from an offset on, and return the offset of what is left."""
        size = len(data)
        while size - at >= FRAME_HEAD:
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            start = at + FRAME_HEAD
            end = start + length
            if length > self._max_frame:
                raise Http2Error(frames.FRAME_SIZE_ERROR, "frame too large")
            if end > size:
                self._need = FRAME_HEAD + length
                return at
            kind = data[at + 3]
            flags = data[at + 4]
            stream_id = (data[at + 5] & 0x7F) << 24 | data[at + 6] << 16 | data[at + 7] << 8 | data[at + 8]
            if self._block_id or not self._settled:
                self._check_order(kind, flags, stream_id)
            if kind == DATA:
                self._data(data, start, end, flags, stream_id)
            elif kind == HEADERS:
                self._headers(data, start, end, flags, stream_id)
            else:
                self._other(kind, flags, stream_id, data[start:end])
            at = end
            if self.closed:
                return at
        self._need = FRAME_HEAD
        return at

    def _check_order(self, kind: int, flags: int, stream_id: int) -> None:
        if self._block_id:
            if kind != frames.CONTINUATION or stream_id != self._block_id:
                raise Http2Error(frames.PROTOCOL_ERROR, "header block interrupted")
        elif kind != SETTINGS or flags & FLAG_ACK:
            raise Http2Error(frames.PROTOCOL_ERROR, "first frame is not SETTINGS")

    def _data(self, data: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        length = end - start
        self.recv_window -= length
        if self.recv_window < self._recv_low:
            self._grant_connection()
        stream = self.streams.get(stream_id)
        if stream is None or not stream.recv_open:
            self._stray_data(stream, stream_id)
            return
        stream.recv_window -= length
        if stream.recv_window < 0:
            self.reset_stream(stream, frames.FLOW_CONTROL_ERROR)
            return
        if flags & FLAG_PADDED:
            if length == 0 or data[start] >= length:
                raise Http2Error(frames.PROTOCOL_ERROR, "padding longer than its frame")
            end -= data[start]
            start += 1
        ended = flags & FLAG_END_STREAM != 0
        if start == end and not ended:
            self._control()
        if ended:
            stream.recv_open = False
        stream.received(data, start, end, ended)
        if stream.recv_window < self._stream_low:
            self.grant(stream)

    def _grant_connection(self) -> None:
        if self.recv_window < 0:
            raise Http2Error(frames.FLOW_CONTROL_ERROR, "connection window exceeded")
        self.put(frames.window_update(0, self.limits.connection_window - self.recv_window))
        self.recv_window = self.limits.connection_window

    def grant(self, stream: Stream) -> None:
        """Open a stream's receive window again, unless its receiver has paused it."""
        if stream.recv_open and not stream.paused and not stream.done and stream.recv_window < self._stream_low:
            self.put(frames.window_update(stream.id, self.limits.stream_window - stream.recv_window))
            stream.recv_window = self.limits.stream_window

    def _stray_data(self, stream: Stream | None, stream_id: int) -> None:
        if stream is not None:
            self.reset_stream(stream, frames.STREAM_CLOSED)
            return
        if self.is_idle(stream_id):
            raise Http2Error(frames.PROTOCOL_ERROR, "DATA on an idle stream")
        self._control()
        if stream_id not in self._reset_ids:
            self.reset(stream_id, frames.STREAM_CLOSED)

    def is_idle(self, stream_id: int) -> bool:
        """Tell whether a stream has never been opened."""
        raise NotImplementedError

    def _headers(self, data: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        if stream_id == 0:
            raise Http2Error(frames.PROTOCOL_ERROR, "HEADERS on stream 0")
        if flags & FLAG_PADDED:
            if start == end:
                raise Http2Error(frames.FRAME_SIZE_ERROR, "HEADERS too short")
            end -= data[start]
            start += 1
        if flags & FLAG_PRIORITY:
            start += 5
            if start <= end and self._depends_on(data, start - 5) == stream_id:
                raise Http2Error(frames.PROTOCOL_ERROR, "stream depends on itself")
        if start > end:
            raise Http2Error(frames.PROTOCOL_ERROR, "padding longer than its frame")
        block = data[start:end]
        ended = flags & FLAG_END_STREAM != 0
        if flags & FLAG_END_HEADERS:
            self.received_headers(stream_id, block, ended)
            return
        self._block_id = stream_id
        self._block_end = ended
        self._block = [block]
        self._block_bytes = len(block)

    def received_headers(self, stream_id: int, block: bytes, ended: bool) -> None:
        """Take a whole header block."""
        raise NotImplementedError

    def _continuation(self, flags: int, payload: bytes) -> None:
        if self._block_id == 0:
            raise Http2Error(frames.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._block.append(payload)
        self._block_bytes += len(payload)
        if self._block_bytes > self.limits.max_header_block_bytes or len(self._block) > self.limits.max_continuations:
            raise Http2Error(frames.ENHANCE_YOUR_CALM, "header block too large")
        if flags & FLAG_END_HEADERS:
            stream_id = self._block_id
            self._block_id = 0
            block = b"".join(self._block)
            self._block = []
            self.received_headers(stream_id, block, self._block_end)

    def _control(self) -> None:
        """Charge a frame that brings nothing. Every frame that we sent excuses two, the window updates it may earn."""
        if self._controls.tokens == 0:
            self._controls.give(2 * (self.sent_frames - self._excused))
            self._excused = self.sent_frames
        if not self._controls.take():
            raise Http2Error(frames.ENHANCE_YOUR_CALM, "too many control frames")

    def _other(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == frames.CONTINUATION:
            self._continuation(flags, payload)
            return
        self._control()
        if kind == frames.WINDOW_UPDATE:
            self._window_update(stream_id, payload)
        elif kind == frames.RST_STREAM:
            self._rst_stream(stream_id, payload)
        elif kind == frames.PRIORITY:
            self._priority(stream_id, payload)
        elif kind == frames.PUSH_PROMISE:
            raise Http2Error(frames.PROTOCOL_ERROR, "PUSH_PROMISE")
        elif kind in (SETTINGS, frames.PING, frames.GOAWAY):
            if stream_id:
                raise Http2Error(frames.PROTOCOL_ERROR, "connection frame on a stream")
            if kind == SETTINGS:
                self._settings(flags, payload)
            elif kind == frames.PING:
                self._ping(flags, payload)
            else:
                if len(payload) < 8:
                    raise Http2Error(frames.FRAME_SIZE_ERROR, "GOAWAY too short")
                last_id = int.from_bytes(payload[:4], "big") & MAX_WINDOW
                self.going_away(last_id, int.from_bytes(payload[4:8], "big"), payload[8:])

    def _window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Http2Error(frames.FRAME_SIZE_ERROR, "WINDOW_UPDATE is not 4 bytes")
        increment = int.from_bytes(payload, "big") & MAX_WINDOW
        if stream_id == 0:
            self.send_window += increment
            if increment == 0:
                raise Http2Error(frames.PROTOCOL_ERROR, "window increment of 0")
            if self.send_window > MAX_WINDOW:
                raise Http2Error(frames.FLOW_CONTROL_ERROR, "connection window overflows")
            self.pump()
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            if self.is_idle(stream_id):
                raise Http2Error(frames.PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")
            return
        stream.send_window += increment
        if increment == 0:
            self.reset_stream(stream, frames.PROTOCOL_ERROR)
        elif stream.send_window > MAX_WINDOW:
            self.reset_stream(stream, frames.FLOW_CONTROL_ERROR)
        else:
            self.enroll(stream)
            self.pump()

    def _rst_stream(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Http2Error(frames.FRAME_SIZE_ERROR, "RST_STREAM is not 4 bytes")
        if self.is_idle(stream_id):
            raise Http2Error(frames.PROTOCOL_ERROR, "RST_STREAM on an idle stream")
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        if not self._resets.take():
            raise Http2Error(frames.ENHANCE_YOUR_CALM, "too many reset streams")
        self.forget(stream)
        stream.aborted(int.from_bytes(payload, "big"))

    def _priority(self, stream_id: int, payload: bytes) -> None:
        if stream_id == 0:
            raise Http2Error(frames.PROTOCOL_ERROR, "PRIORITY on stream 0")
        bad = frames.NO_ERROR
        if len(payload) != 5:
            bad = frames.FRAME_SIZE_ERROR
        elif self._depends_on(payload, 0) == stream_id:
            bad = frames.PROTOCOL_ERROR
        if bad:
            stream = self.streams.get(stream_id)
            if stream is None:
                raise Http2Error(bad, "bad PRIORITY")
            self.reset_stream(stream, bad)

    def _depends_on(self, data: bytes, at: int) -> int:
        return int.from_bytes(data[at : at + 4], "big") & MAX_WINDOW

    def _settings(self, flags: int, payload: bytes) -> None:
        size = len(payload)
        if flags & FLAG_ACK:
            if size:
                raise Http2Error(frames.FRAME_SIZE_ERROR, "SETTINGS acknowledgement with a payload")
            return
        if size % 6:
            raise Http2Error(frames.FRAME_SIZE_ERROR, "SETTINGS is not a multiple of 6 bytes")
        if size > 6 * MAX_SETTINGS:
            raise Http2Error(frames.ENHANCE_YOUR_CALM, "too many settings")
        # Before what the settings let go, for the peer holds us to the old ones until it has read this.
        self.put_control(frames.SETTINGS_ACK)
        for at in range(0, size, 6):
            self._setting(int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big"))
        if not self._settled:
            self._settled = True
            self.settled()
        self.pump()

    def _setting(self, key: int, value: int) -> None:
        if key == frames.SET_INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise Http2Error(frames.FLOW_CONTROL_ERROR, "initial window too large")
            change = value - self.peer_window
            self.peer_window = value
            for stream in list(self.streams.values()):
                stream.send_window += change
                if stream.send_window > MAX_WINDOW:
                    raise Http2Error(frames.FLOW_CONTROL_ERROR, "stream window overflows")
                self.enroll(stream)
        elif key == frames.SET_MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME_SIZE <= value < 1 << 24:
                raise Http2Error(frames.PROTOCOL_ERROR, "bad maximum frame size")
            self.peer_frame_bytes = min(value, 4 * frames.DEFAULT_FRAME_SIZE)  # more would harm fairness
        elif key == frames.SET_HEADER_TABLE_SIZE:
            if value < TABLE_SIZE:
                self._shrink_table()
        elif key == frames.SET_ENABLE_PUSH:
            if value > 1 or (value == 1 and not self._is_server):
                raise Http2Error(frames.PROTOCOL_ERROR, "bad ENABLE_PUSH")
        elif key == frames.SET_MAX_CONCURRENT_STREAMS:
            self.peer_max_streams(value)

    def settled(self) -> None:
        """The peer's first SETTINGS have come."""

    def peer_max_streams(self, count: int) -> None:
        """The peer takes at most so many streams of ours."""

    def going_away(self, last_id: int, code: int, debug: bytes) -> None:
        """The peer has sent GOAWAY."""

    # Pings and time

    def _ping(self, flags: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise Http2Error(frames.FRAME_SIZE_ERROR, "PING is not 8 bytes")
        if flags & FLAG_ACK:
            if payload == DRAIN_PING:
                self.drain_answered()
            return
        self.put_control(frames.PING_ACK + payload)
        self.pinged()

    def pinged(self) -> None:
        """The peer has sent a PING, which has been answered."""

    def drain_answered(self) -> None:
        """The peer has seen our first GOAWAY."""

    def _keep_alive(self, now_ns: int) -> None:
        limits = self.limits
        if self._active:
            self._active = False
            self._active_ns = now_ns
            self._ping_ns = 0
        elif self._ping_ns:
            if now_ns - self._ping_ns >= limits.keepalive_timeout_ns:
                self._shut("keepalive ping not answered in time")
        elif limits.keepalive_ns and now_ns - self._active_ns >= limits.keepalive_ns and self.keepalive_wanted():
            self._ping_ns = now_ns
            self.put(frames.PING_HEAD + KEEPALIVE_PING)

    def keepalive_wanted(self) -> bool:
        """Tell whether an idle connection is worth a ping."""
        return True

    def set_deadline(self, stream: Stream, deadline_ns: int) -> None:
        """Have `stream.expired()` called by the first tick after the deadline."""
        stream.deadline_ns = deadline_ns
        if self.deadline_ns == 0 or deadline_ns < self.deadline_ns:
            self.deadline_ns = deadline_ns

    def _expire(self, now_ns: int) -> None:
        self.deadline_ns = 0
        for stream in list(self.streams.values()):
            deadline_ns = stream.deadline_ns
            if deadline_ns == 0 or stream.done:
                continue
            if deadline_ns <= now_ns:
                stream.deadline_ns = 0
                stream.expired()
            else:
                self.set_deadline(stream, deadline_ns)
