"""HTTP/2 frames: constants, builders, the limits a peer is held to, and the counts the transport keeps.

    | length u24 BE | type u8 | flags u8 | R, stream id u31 BE | payload |

A SETTINGS acknowledgement is 00 00 00 | 04 | 01 | 00 00 00 00. Numbers and names: RFC 9113, sections 4 to 7.
Parsing stands in `http2`, where it is done in place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

FLAG_END_STREAM: Final = 0x1
FLAG_ACK: Final = 0x1
FLAG_END_HEADERS: Final = 0x4
FLAG_PADDED: Final = 0x8
FLAG_PRIORITY: Final = 0x20

NO_ERROR: Final = 0
PROTOCOL_ERROR: Final = 1
INTERNAL_ERROR: Final = 2
FLOW_CONTROL_ERROR: Final = 3
SETTINGS_TIMEOUT: Final = 4
STREAM_CLOSED: Final = 5
FRAME_SIZE_ERROR: Final = 6
REFUSED_STREAM: Final = 7
CANCEL: Final = 8
COMPRESSION_ERROR: Final = 9
CONNECT_ERROR: Final = 10
ENHANCE_YOUR_CALM: Final = 11
INADEQUATE_SECURITY: Final = 12
HTTP_1_1_REQUIRED: Final = 13

SET_HEADER_TABLE_SIZE: Final = 1
SET_ENABLE_PUSH: Final = 2
SET_MAX_CONCURRENT_STREAMS: Final = 3
SET_INITIAL_WINDOW_SIZE: Final = 4
SET_MAX_FRAME_SIZE: Final = 5
SET_MAX_HEADER_LIST_SIZE: Final = 6

DEFAULT_WINDOW: Final = 65535
DEFAULT_FRAME_SIZE: Final = 16384
MAX_WINDOW: Final = 2**31 - 1
MAX_STREAM_ID: Final = 2**31 - 1

SECOND_NS: Final = 1_000_000_000

SETTINGS_ACK: Final = b"\x00\x00\x00\x04\x01\x00\x00\x00\x00"
PING_ACK: Final = b"\x00\x00\x08\x06\x01\x00\x00\x00\x00"
PING_HEAD: Final = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00"
WINDOW_UPDATE_HEAD: Final = b"\x00\x00\x04\x08\x00"
RST_STREAM_HEAD: Final = b"\x00\x00\x04\x03\x00"


class Http2Error(Exception):
    """A violation that ends the whole connection: `code` goes into GOAWAY, with `text` for people."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    """Return one whole frame."""
    return frame_prefix(kind, flags, len(payload)) + stream_id.to_bytes(4, "big") + payload


def header_frames(flags: int, stream_id: int, block: bytes) -> bytes:
    """Return HEADERS, and CONTINUATION frames when the block is longer than any peer must take in one frame."""
    if len(block) <= DEFAULT_FRAME_SIZE:
        return frame(HEADERS, flags | FLAG_END_HEADERS, stream_id, block)
    out = [frame(HEADERS, flags & ~FLAG_END_HEADERS, stream_id, block[:DEFAULT_FRAME_SIZE])]
    for at in range(DEFAULT_FRAME_SIZE, len(block), DEFAULT_FRAME_SIZE):
        last = FLAG_END_HEADERS if at + DEFAULT_FRAME_SIZE >= len(block) else 0
        out.append(frame(CONTINUATION, last, stream_id, block[at : at + DEFAULT_FRAME_SIZE]))
    return b"".join(out)


def frame_prefix(kind: int, flags: int, length: int) -> bytes:
    """Return the first five bytes of a frame, to be followed by the stream id and the payload."""
    return (length << 16 | kind << 8 | flags).to_bytes(5, "big")


def settings_frame(values: list[tuple[int, int]]) -> bytes:
    """Return a SETTINGS frame of (identifier, value) pairs."""
    payload = b"".join([key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in values])
    return frame(SETTINGS, 0, 0, payload)


def window_update(stream_id: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame; stream 0 means the connection."""
    return WINDOW_UPDATE_HEAD + stream_id.to_bytes(4, "big") + increment.to_bytes(4, "big")


def rst_stream(stream_id: int, code: int) -> bytes:
    """Return an RST_STREAM frame."""
    return RST_STREAM_HEAD + stream_id.to_bytes(4, "big") + code.to_bytes(4, "big")


def goaway(last_id: int, code: int, debug: bytes) -> bytes:
    """Return a GOAWAY frame."""
    return frame(GOAWAY, 0, 0, last_id.to_bytes(4, "big") + code.to_bytes(4, "big") + debug)


class Limits:
    """What a peer may make us hold or do. The defaults are etcd's where etcd has one (embed/config.go)."""

    def __init__(self, max_receive_bytes: int = 2097152, max_concurrent_streams: int = 10_000) -> None:
        self.max_receive_bytes = max_receive_bytes  # one gRPC message, compressed or not
        # etcd says 2**32 - 1. A finite number bounds what hoarded streams cost.
        self.max_concurrent_streams = max_concurrent_streams
        # Receive windows. The stream's is larger than a usual message, so that a unary request waits for no update.
        self.stream_window = min(max(4 << 20, max_receive_bytes + (64 << 10)), 16 << 20)
        self.connection_window = 16 << 20
        self.max_frame_bytes = DEFAULT_FRAME_SIZE
        self.max_header_block_bytes = 64 << 10  # compressed, over HEADERS and CONTINUATION frames
        self.max_header_list_bytes = 64 << 10  # decoded, 32 bytes added a field (RFC 7541, 4.1)
        self.max_continuations = 32
        self.max_assembly_bytes = 64 << 20  # half-received messages and bodies of all streams of a connection
        self.max_body_bytes = 2097152  # the body of an HTTP request that a handler wants whole
        self.output_high_bytes = 1 << 20  # DATA beyond this waits in the streams' own queues
        self.max_control_bytes = 256 << 10  # queued output that a peer who does not read has provoked by control frames
        self.max_queued_bytes = 64 << 20  # above this, further requests of the connection wait unserved
        # The same over all connections of a listener: who has more than its share then waits, or is cut off.
        self.max_total_held_bytes = 1 << 30
        self.max_total_queued_bytes = 512 << 20
        self.share_bytes = 1 << 20
        self.stall_ns = 10 * SECOND_NS  # how long a client may take nothing of what is queued, when too much is
        self.slice_ns = 20_000_000  # after so long, further requests of a connection wait for the next turn
        self.reset_burst = 1000  # streams that the client resets before their answer
        self.resets_per_second = 200
        self.control_burst = 4096  # SETTINGS, PING, PRIORITY, RST_STREAM, WINDOW_UPDATE, empty DATA, unknown frames
        self.controls_per_second = 200
        self.min_ping_interval_ns = 5 * SECOND_NS
        self.max_ping_strikes = 2
        self.ping_without_calls = False
        self.keepalive_ns = 7200 * SECOND_NS
        self.keepalive_timeout_ns = 20 * SECOND_NS
        self.handshake_ns = 10 * SECOND_NS  # preface and first SETTINGS; the header of a first HTTP/1.1 request
        self.partial_ns = 60 * SECOND_NS  # a frame or header block begun and not completed
        self.idle_http1_ns = 300 * SECOND_NS
        self.drain_ping_ns = SECOND_NS


class TransportStats:
    """Counts over all connections of a listener. The byte counts are of message payloads, as etcd's metrics are."""

    def __init__(self) -> None:
        self.received_bytes = 0
        self.sent_bytes = 0
        self.held_bytes = 0  # half-received messages and bodies
        self.queued_bytes = 0  # what waits for windows and sockets
        self.connections = 0
        self.goaways = 0  # connections that we ended for a violation
        self.handler_errors = 0


class Bucket:
    """A token bucket that reads the clock only when it runs empty."""

    def __init__(self, burst: int, per_second: int, clock: Callable[[], int]) -> None:
        self.tokens = burst
        self.burst = burst
        self.per_second = per_second
        self.clock = clock
        self.filled_ns = clock()

    def give(self, count: int) -> None:
        """Put tokens back for work that excuses later ones."""
        self.tokens = min(self.burst, self.tokens + count)

    def take(self) -> bool:
        """Take one token; False when the peer has overdrawn."""
        if self.tokens > 0:
            self.tokens -= 1
            return True
        now_ns = self.clock()
        earned = (now_ns - self.filled_ns) * self.per_second // SECOND_NS
        if earned <= 0:
            return False
        self.filled_ns = now_ns
        self.tokens = min(self.burst, earned) - 1
        return True
