"""Streams, and the outgoing half of an HTTP/2 connection: one output buffer, and a queue a stream for what must wait.

DATA goes straight to the output when the stream's window, the connection's window and the output buffer have room and
nobody waits; else it queues with its stream, and `pump` takes one frame a stream in turn. HEADERS and control frames
never wait. So the output is bounded by `Limits.output_high_bytes` plus small frames, and what a slow peer costs shows
in `queued` of its streams.

Invariants: `queued` is the sum of the bytes in `queue` not yet sent; a stream is in `ring` once when `in_ring` is set;
a stream with bytes to send and an open window is in `ring`.
"""

from __future__ import annotations

from collections import deque

from quorate.wire import frames
from quorate.wire.endpoint import Endpoint
from quorate.wire.frames import Http2Error, Limits, TransportStats


class Stream:
    """One stream of an HTTP/2 connection. The roles subclass it; the connection calls the methods below."""

    def __init__(self, stream_id: int, recv_window: int, send_window: int) -> None:
        self.id = stream_id
        self.recv_open = True  # the peer may send more DATA or trailers
        self.send_open = True  # we have not yet sent END_STREAM
        self.done = False  # no longer among the connection's streams
        self.recv_window = recv_window
        self.send_window = send_window  # may become negative (RFC 9113, 6.9.2)
        self.paused = False  # the receiver wants no more window granted
        self.held = 0  # received bytes that the stream keeps; counted against Limits.max_assembly_bytes
        self.deadline_ns = 0  # 0 = none
        self.queue: deque[bytes] | None = None
        self.queue_at = 0  # how much of queue[0] has been sent
        self.queued = 0
        self.in_ring = False
        self.tail = b""  # the frame with END_STREAM that follows the last queued byte
        self.ending = False

    def received(self, data: bytes, start: int, end: int, ended: bool) -> None:
        """Take DATA: data[start:end], and whether it was the last of the stream."""
        raise NotImplementedError

    def aborted(self, code: int) -> None:
        """The stream is gone: reset by the peer with `code`, or lost with the connection (code -1)."""
        raise NotImplementedError

    def expired(self) -> None:
        """The stream's deadline has passed."""
        raise NotImplementedError

    def drained(self) -> None:
        """Nothing is queued any more."""

    def serve(self, message: bytes) -> None:
        """Serve a whole request; see Connection.when_free."""
        raise NotImplementedError

    def unaffordable(self) -> None:
        """End it: a whole request cannot be served now, and cannot wait either."""
        raise NotImplementedError


class Outbox(Endpoint):
    """The outgoing half of a connection."""

    def __init__(self, limits: Limits, stats: TransportStats) -> None:
        super().__init__()
        self.limits = limits
        self.stats = stats
        self.send_window = frames.DEFAULT_WINDOW
        self.peer_window = frames.DEFAULT_WINDOW
        self.peer_frame_bytes = frames.DEFAULT_FRAME_SIZE
        self.queued_bytes = 0  # over all streams
        self.moved = False  # something queued has gone out; the connection watches that it does now and then
        self.out_bytes = 0
        self.sent_frames = 0  # HEADERS and DATA frames of replies
        self._high = limits.output_high_bytes
        self._out: list[bytes] = []
        self._control_bytes = 0
        self._ring: deque[Stream] = deque()

    def take_output(self) -> bytes:
        """Return everything queued; the caller must write it. What waited for room in the output moves up."""
        out = self._out
        self._out = []
        self.out_bytes = 0
        self._control_bytes = 0
        self._signalled = False
        if self._ring:
            self.pump()
        return out[0] if len(out) == 1 else b"".join(out)

    def has_output(self) -> bool:
        """Tell whether `take_output` would give anything."""
        return self.out_bytes > 0

    def backlog(self) -> int:
        """Return how many bytes wait to be sent, in the output and in all streams."""
        return self.out_bytes + self.queued_bytes

    def crowded(self) -> bool:
        """Tell whether so much waits to be read, here or on all connections, that nothing large may be added."""
        limits = self.limits
        return self.queued_bytes > limits.max_queued_bytes or self.stats.queued_bytes > limits.max_total_queued_bytes

    def put(self, frame: bytes) -> None:
        """Queue whole frames for the next write."""
        self._out.append(frame)
        self.out_bytes += len(frame)
        if not self._signalled:
            self.signal()

    def put_control(self, frame: bytes) -> None:
        """Queue a frame that the peer provoked. Raises Http2Error when it provokes many and reads none."""
        self._control_bytes += len(frame)
        if self._control_bytes > self.limits.max_control_bytes:
            raise Http2Error(frames.ENHANCE_YOUR_CALM, "too many unread control frames")
        self.put(frame)

    def can_send(self, stream: Stream, size: int) -> bool:
        """Tell whether so many bytes may leave now as one DATA frame."""
        return (
            size <= stream.send_window
            and size <= self.send_window
            and size <= self.peer_frame_bytes
            and self.out_bytes < self._high
            and stream.queued == 0
            and not self._ring
        )

    def send_data(self, stream: Stream, piece: bytes) -> None:
        """Send bytes on a stream as windows permit."""
        size = len(piece)
        if size == 0:
            return
        if self.can_send(stream, size):
            stream.send_window -= size
            self.send_window -= size
            self.sent_frames += 1
            self.put(b"".join(((size << 16).to_bytes(5, "big"), stream.id.to_bytes(4, "big"), piece)))
            return
        queue = stream.queue
        if queue is None:
            queue = deque()
            stream.queue = queue
        queue.append(piece)
        stream.queued += size
        self.queued_bytes += size
        self.stats.queued_bytes += size
        self.enroll(stream)
        self.pump()

    def send_end(self, stream: Stream, tail: bytes) -> None:
        """Send the frame that carries END_STREAM, behind whatever the stream has queued."""
        stream.ending = True
        if stream.queued:
            stream.tail = tail
        else:
            self.put(tail)
            self.sent_end(stream)

    def sent_end(self, stream: Stream) -> None:
        """Our side of the stream is closed; the roles decide what follows."""
        raise NotImplementedError

    def enroll(self, stream: Stream) -> None:
        """Put a stream that can send into the ring."""
        if stream.queued and not stream.in_ring and stream.send_window > 0:
            stream.in_ring = True
            self._ring.append(stream)

    def pump(self) -> None:
        """Move queued DATA to the output, one frame a stream in turn, while windows and the output have room."""
        ring = self._ring
        while ring and self.send_window > 0 and self.out_bytes < self._high:
            stream = ring.popleft()
            stream.in_ring = False
            if stream.done or stream.send_window <= 0:
                continue
            self._emit(stream)
            if stream.queued:
                self.enroll(stream)
            elif stream.ending:
                self.put(stream.tail)
                self.sent_end(stream)
            else:
                stream.drained()

    def _emit(self, stream: Stream) -> None:
        queue = stream.queue
        assert queue is not None
        room = min(stream.send_window, self.send_window, self.peer_frame_bytes, stream.queued)
        size = room
        pieces = [(size << 16).to_bytes(5, "big"), stream.id.to_bytes(4, "big")]
        while room > 0:
            piece = queue[0]
            at = stream.queue_at
            left = len(piece) - at
            if left > room:
                pieces.append(piece[at : at + room])
                stream.queue_at = at + room
                break
            pieces.append(piece[at:] if at else piece)
            queue.popleft()
            stream.queue_at = 0
            room -= left
        stream.queued -= size
        self.queued_bytes -= size
        self.stats.queued_bytes -= size
        self.moved = True
        stream.send_window -= size
        self.send_window -= size
        self.sent_frames += 1
        self.put(b"".join(pieces))

    def discard(self, stream: Stream) -> None:
        """Drop what a stream has queued."""
        if stream.queued:
            self.queued_bytes -= stream.queued
            self.stats.queued_bytes -= stream.queued
            stream.queued = 0
        stream.queue = None
