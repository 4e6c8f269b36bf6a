"""What a hostile client may try: each attempt ends with the code of RFC 9113, and costs bounded memory until then.

The table follows RFC 9113 (as h2spec does) and the attacks listed for HTTP/2 servers: rapid reset (CVE-2023-44487),
CONTINUATION flood (CVE-2023-45288), HPACK bomb, floods of control frames, window games, hoarded and half-sent messages.
"""

import gzip

import pytest

from quorate.wire import frames
from quorate.wire.frames import (
    CONTINUATION,
    DATA,
    FLAG_END_HEADERS,
    FLAG_END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Limits,
    frame,
)
from quorate.wire.headers import encode_fields, encode_integer
from tests.wire.rig import SECOND, Server, goaway_of, grpc_message, resets_of, split_frames

HELLO = frames.PREFACE + frames.settings_frame([])


def fields(path: bytes = b"/test.Echo/Unary", *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        *more,
    ]


def headers(stream: int, path: bytes = b"/test.Echo/Unary", end=False) -> bytes:
    flags = FLAG_END_HEADERS | (FLAG_END_STREAM if end else 0)
    return frame(HEADERS, flags, stream, encode_fields(fields(path)))


def data(stream: int, message: bytes, end=True) -> bytes:
    return frame(DATA, FLAG_END_STREAM if end else 0, stream, grpc_message(message))


def call(stream: int, path: bytes = b"/test.Echo/Unary") -> bytes:
    return headers(stream, path) + data(stream, b"")


def greeted(limits: Limits | None = None) -> Server:
    server = Server(limits)
    server.conn.receive(HELLO)
    server.conn.take_output()
    return server


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


OPEN = headers(1)
CONNECTION_ERRORS = {
    "bad preface": (b"PRI * HTTP/2.0\r\n\r\nXX", frames.PROTOCOL_ERROR),
    "HTTP/1 instead": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", frames.PROTOCOL_ERROR),
    "no SETTINGS first": (frames.PREFACE + headers(1), frames.PROTOCOL_ERROR),
    "SETTINGS ack first": (frames.PREFACE + frames.SETTINGS_ACK, frames.PROTOCOL_ERROR),
    "frame too large": (HELLO + OPEN + frame(DATA, 0, 1, b"x" * 16385), frames.FRAME_SIZE_ERROR),
    "HEADERS on stream 0": (HELLO + headers(0), frames.PROTOCOL_ERROR),
    "HEADERS on an even stream": (HELLO + headers(2), frames.PROTOCOL_ERROR),
    "HEADERS on a skipped stream": (HELLO + headers(5) + headers(3), frames.PROTOCOL_ERROR),
    "HEADERS on a finished stream": (HELLO + call(1) + call(1), frames.STREAM_CLOSED),
    "DATA on stream 0": (HELLO + data(0, b""), frames.PROTOCOL_ERROR),
    "DATA on an idle stream": (HELLO + data(1, b""), frames.PROTOCOL_ERROR),
    "padding longer than DATA": (HELLO + OPEN + frame(DATA, 8, 1, b"\x05abc"), frames.PROTOCOL_ERROR),
    "padded DATA without padding": (HELLO + OPEN + frame(DATA, 8, 1, b""), frames.PROTOCOL_ERROR),
    "padding longer than HEADERS": (HELLO + frame(HEADERS, 0xC, 1, b"\x05abc"), frames.PROTOCOL_ERROR),
    "padded HEADERS without padding": (HELLO + frame(HEADERS, 0xC, 1, b""), frames.FRAME_SIZE_ERROR),
    "HEADERS that depend on themselves": (HELLO + frame(HEADERS, 0x24, 1, u32(1) + b"\0"), frames.PROTOCOL_ERROR),
    "HEADERS with half a priority": (HELLO + frame(HEADERS, 0x24, 1, b"\0\0"), frames.PROTOCOL_ERROR),
    "bad header block": (HELLO + frame(HEADERS, 4, 1, b"\x80"), frames.COMPRESSION_ERROR),
    "CONTINUATION alone": (HELLO + frame(CONTINUATION, 4, 1, b""), frames.PROTOCOL_ERROR),
    "CONTINUATION of another": (HELLO + frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 4, 3, b""), 1),
    "block interrupted": (HELLO + frame(HEADERS, 0, 1, b"") + frame(PING, 0, 0, bytes(8)), frames.PROTOCOL_ERROR),
    "block interrupted by an unknown frame": (HELLO + frame(HEADERS, 0, 1, b"") + frame(99, 0, 0, b""), 1),
    "RST_STREAM on stream 0": (HELLO + frame(RST_STREAM, 0, 0, u32(8)), frames.PROTOCOL_ERROR),
    "RST_STREAM on an idle stream": (HELLO + frame(RST_STREAM, 0, 1, u32(8)), frames.PROTOCOL_ERROR),
    "RST_STREAM of 3 bytes": (HELLO + OPEN + frame(RST_STREAM, 0, 1, b"123"), frames.FRAME_SIZE_ERROR),
    "PRIORITY on stream 0": (HELLO + frame(PRIORITY, 0, 0, bytes(5)), frames.PROTOCOL_ERROR),
    "PUSH_PROMISE": (HELLO + frame(PUSH_PROMISE, 4, 1, u32(2)), frames.PROTOCOL_ERROR),
    "PING on a stream": (HELLO + frame(PING, 0, 1, bytes(8)), frames.PROTOCOL_ERROR),
    "PING of 7 bytes": (HELLO + frame(PING, 0, 0, bytes(7)), frames.FRAME_SIZE_ERROR),
    "GOAWAY on a stream": (HELLO + frame(GOAWAY, 0, 1, bytes(8)), frames.PROTOCOL_ERROR),
    "GOAWAY of 7 bytes": (HELLO + frame(GOAWAY, 0, 0, bytes(7)), frames.FRAME_SIZE_ERROR),
    "SETTINGS on a stream": (HELLO + frame(SETTINGS, 0, 1, b""), frames.PROTOCOL_ERROR),
    "SETTINGS of 5 bytes": (HELLO + frame(SETTINGS, 0, 0, bytes(5)), frames.FRAME_SIZE_ERROR),
    "SETTINGS ack with a payload": (HELLO + frame(SETTINGS, 1, 0, bytes(6)), frames.FRAME_SIZE_ERROR),
    "push 2": (HELLO + frames.settings_frame([(2, 2)]), frames.PROTOCOL_ERROR),
    "window setting too large": (HELLO + frames.settings_frame([(4, 1 << 31)]), frames.FLOW_CONTROL_ERROR),
    "frame setting too small": (HELLO + frames.settings_frame([(5, 16383)]), frames.PROTOCOL_ERROR),
    "frame setting too large": (HELLO + frames.settings_frame([(5, 1 << 24)]), frames.PROTOCOL_ERROR),
    "65 settings": (HELLO + frames.settings_frame([(99, 1)] * 65), frames.ENHANCE_YOUR_CALM),
    "connection window of 0": (HELLO + frames.window_update(0, 0), frames.PROTOCOL_ERROR),
    "connection window overflow": (HELLO + frames.window_update(0, 2**31 - 1), frames.FLOW_CONTROL_ERROR),
    "WINDOW_UPDATE on an idle stream": (HELLO + frames.window_update(1, 1), frames.PROTOCOL_ERROR),
    "WINDOW_UPDATE of 3 bytes": (HELLO + frame(WINDOW_UPDATE, 0, 0, b"123"), frames.FRAME_SIZE_ERROR),
    "stream window overflow by settings": (
        HELLO + OPEN + frames.window_update(1, 2**31 - 65536) + frames.settings_frame([(4, 65536)]),
        frames.FLOW_CONTROL_ERROR,
    ),
}


@pytest.mark.parametrize("name", CONNECTION_ERRORS)
def test_violations_that_end_the_connection(name):
    attack, code = CONNECTION_ERRORS[name]
    server = Server()
    server.conn.receive(attack)
    assert server.conn.closed
    assert goaway_of(server.conn.take_output())[0] == code
    server.conn.receive(call(9))
    assert server.conn.take_output() == b""


def block(*pairs: tuple[bytes, bytes]) -> bytes:
    return frame(HEADERS, 5, 1, encode_fields(list(pairs)))


GOOD = fields()
STREAM_ERRORS = {
    "DATA after END_STREAM": (call(1, b"/test.Echo/Hang") + data(1, b""), frames.STREAM_CLOSED),
    "HEADERS after END_STREAM": (call(1, b"/test.Echo/Hang") + headers(1), frames.STREAM_CLOSED),
    "second HEADERS without END_STREAM": (OPEN + headers(1), frames.PROTOCOL_ERROR),
    "trailers with pseudo-fields": (OPEN + headers(1, end=True), frames.PROTOCOL_ERROR),
    "stream window of 0": (OPEN + frames.window_update(1, 0), frames.PROTOCOL_ERROR),
    "stream window overflow": (OPEN + frames.window_update(1, 2**31 - 1), frames.FLOW_CONTROL_ERROR),
    "PRIORITY of 4 bytes": (OPEN + frame(PRIORITY, 0, 1, bytes(4)), frames.FRAME_SIZE_ERROR),
    "PRIORITY on itself": (OPEN + frame(PRIORITY, 0, 1, u32(1) + b"\0"), frames.PROTOCOL_ERROR),
    "no :path": (block(*[f for f in GOOD if f[0] != b":path"]), frames.PROTOCOL_ERROR),
    "empty :path": (block(*[(k, b"" if k == b":path" else v) for k, v in GOOD]), frames.PROTOCOL_ERROR),
    "no :method": (block(*GOOD[1:]), frames.PROTOCOL_ERROR),
    "no :scheme": (block(GOOD[0], *GOOD[2:]), frames.PROTOCOL_ERROR),
    "two :path": (block((b":path", b"/a"), *GOOD), frames.PROTOCOL_ERROR),
    "unknown pseudo-field": (block((b":secret", b"a"), *GOOD), frames.PROTOCOL_ERROR),
    ":status in a request": (block((b":status", b"200"), *GOOD), frames.PROTOCOL_ERROR),
    "pseudo-field behind a field": (block(*GOOD, (b":authority", b"x")), frames.PROTOCOL_ERROR),
    "upper-case name": (block(*GOOD, (b"X-A", b"b")), frames.PROTOCOL_ERROR),
    "space in a name": (block(*GOOD, (b"x a", b"b")), frames.PROTOCOL_ERROR),
    "newline in a value": (block(*GOOD, (b"x-a", b"b\nc")), frames.PROTOCOL_ERROR),
    "space around a value": (block(*GOOD, (b"x-a", b" b")), frames.PROTOCOL_ERROR),
    "connection": (block(*GOOD, (b"connection", b"close")), frames.PROTOCOL_ERROR),
    "transfer-encoding": (block(*GOOD, (b"transfer-encoding", b"chunked")), frames.PROTOCOL_ERROR),
    "te: gzip": (block(*GOOD[:-1], (b"te", b"gzip")), frames.PROTOCOL_ERROR),
    "content-length too large": (block(*GOOD, (b"content-length", b"5")), frames.PROTOCOL_ERROR),
    "two content-lengths": (block(*GOOD, (b"content-length", b"0"), (b"content-length", b"5")), 1),
    "content-length of letters": (block(*GOOD, (b"content-length", b"five")), frames.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("name", STREAM_ERRORS)
def test_violations_that_end_the_stream(name):
    attack, code = STREAM_ERRORS[name]
    server = greeted()
    server.conn.receive(attack)
    assert not server.conn.closed
    assert resets_of(server.conn.take_output()) == {1: code}
    assert server.conn.streams == {}
    server.conn.receive(call(3))
    assert not server.conn.closed
    assert server.method("Unary").handled[0] == 1


def test_frames_of_a_stream_that_we_have_reset_are_passed_over():
    server = greeted()
    server.conn.receive(headers(1, b"/no.Such/Method"))
    assert resets_of(server.conn.take_output()) == {1: frames.NO_ERROR}
    server.conn.receive(data(1, b"x" * 100, end=False) + frames.window_update(1, 5) + frame(RST_STREAM, 0, 1, u32(8)))
    trailers = frame(HEADERS, 5, 1, encode_fields([(b"x-t", b"v")]))
    server.conn.receive(trailers + call(3))
    assert not server.conn.closed
    assert server.method("Unary").handled[0] == 1


def test_unknown_frames_settings_and_priorities_are_ignored():
    server = greeted()
    server.conn.receive(frame(99, 0xFF, 0, b"x") + frames.settings_frame([(99, 7), (1, 0), (6, 1)]))
    server.conn.receive(frame(PRIORITY, 0, 77, u32(5) + b"\x10"))
    padded = frame(HEADERS, 0x2C, 1, b"\x03" + u32(0) + b"\0" + encode_fields(fields()) + b"pad")
    server.conn.receive(padded + frame(DATA, 9, 1, b"\x02" + grpc_message(b"hi") + b"pp"))
    assert grpc_message(b"hi") in server.conn.take_output()
    assert not server.conn.closed


def test_a_client_that_ignores_the_windows():
    limits = Limits(max_receive_bytes=1000)
    limits.stream_window = 65535
    limits.connection_window = 200_000
    server = greeted(limits)
    server.conn.receive(headers(1, b"/test.Echo/Bidi"))
    server.conn.streams[1].paused = True
    for _ in range(5):
        server.conn.receive(frame(DATA, 0, 1, (grpc_message(b"x" * 11)) * 1000))
    assert resets_of(server.conn.take_output()) == {1: frames.FLOW_CONTROL_ERROR}
    limits.connection_window = 65535
    limits.max_frame_bytes = 100_000
    server = greeted(limits)
    server.conn.receive(headers(1, b"/test.Echo/ClientStream") + frame(DATA, 0, 1, b"x" * 70_000))
    assert goaway_of(server.conn.take_output())[0] == frames.FLOW_CONTROL_ERROR


def test_rapid_reset():
    server = greeted()
    for number in range(5000):
        server.conn.receive(call(2 * number + 1, b"/test.Echo/Hang") + frame(RST_STREAM, 0, 2 * number + 1, u32(8)))
        if server.conn.closed:
            break
    assert number == server.limits.reset_burst
    assert goaway_of(server.conn.take_output())[0] == frames.ENHANCE_YOUR_CALM
    assert len(server.service.ended) == number + 1
    assert server.conn.streams == {}


def test_resets_at_a_civil_pace_are_fine():
    server = greeted()
    for number in range(3000):
        server.clock.now_ns += SECOND // 150
        server.conn.receive(call(2 * number + 1, b"/test.Echo/Hang") + frame(RST_STREAM, 0, 2 * number + 1, u32(8)))
        server.conn.take_output()
    assert not server.conn.closed


def test_continuation_floods_by_count_and_by_size():
    server = greeted()
    server.conn.receive(frame(HEADERS, 0, 1, b""))
    for _ in range(1000):
        server.conn.receive(frame(CONTINUATION, 0, 1, b""))
    assert goaway_of(server.conn.take_output())[0] == frames.ENHANCE_YOUR_CALM
    server = greeted()
    server.conn.receive(frame(HEADERS, 0, 1, b""))
    for _ in range(5):
        server.conn.receive(frame(CONTINUATION, 0, 1, b"\x82" * 16000))
    assert goaway_of(server.conn.take_output())[0] == frames.ENHANCE_YOUR_CALM
    assert server.conn._block == []


def test_a_large_but_civil_header_block_over_continuations():
    server = greeted()
    blob = encode_fields(fields(b"/test.Echo/Meta", (b"x-big", b"v" * 40_000)))
    server.conn.receive(frame(HEADERS, 0, 1, blob[:10_000]))
    server.conn.receive(frame(CONTINUATION, 0, 1, blob[10_000:26_000]))
    server.conn.receive(frame(CONTINUATION, FLAG_END_HEADERS, 1, blob[26_000:]) + data(1, b"x-big"))
    assert server.method("Meta").handled[0] == 1
    assert len(server.conn._heads) == 0  # too large to keep


def test_hpack_bomb():
    server = greeted()
    bomb = b"\x40\x01a" + encode_integer(4000, 0x7F, 0) + b"z" * 4000 + b"\xbe" * 12_000
    server.conn.receive(frame(HEADERS, FLAG_END_HEADERS, 1, bomb))
    assert goaway_of(server.conn.take_output()) == (frames.ENHANCE_YOUR_CALM, b"header list too large")


FLOODS = {
    "PING": frame(PING, 0, 0, bytes(8)),
    "PING ack": frame(PING, 1, 0, bytes(8)),
    "SETTINGS": frames.settings_frame([]),
    "SETTINGS ack": frames.SETTINGS_ACK,
    "PRIORITY": frame(PRIORITY, 0, 3, bytes(5)),
    "WINDOW_UPDATE": frames.window_update(0, 1),
    "stream WINDOW_UPDATE": frames.window_update(1, 1),
    "RST_STREAM": frame(RST_STREAM, 0, 3, u32(8)),
    "empty DATA": frame(DATA, 0, 1, b""),
    "padding only": frame(DATA, 8, 1, b"\x02aa"),
    "DATA on a reset stream": frame(DATA, 0, 3, b"x"),
    "unknown frame": frame(99, 0, 0, b""),
    "GOAWAY": frame(GOAWAY, 0, 0, bytes(8)),
    "malformed requests": None,
}


@pytest.mark.parametrize("name", FLOODS)
def test_floods_of_cheap_frames(name):
    server = greeted()
    server.conn.receive(headers(1, b"/test.Echo/Bidi") + headers(3) + frame(RST_STREAM, 0, 3, u32(8)))
    server.conn.take_output()
    most = 0
    for number in range(20_000):
        piece = FLOODS[name] or frame(HEADERS, 5, 5 + 2 * number, b"\x82")
        server.conn.receive(piece)
        most = max(most, server.conn.out_bytes)
        if number % 10 == 0 and not server.conn.closed:
            server.conn.take_output()
        if server.conn.closed:
            break
    assert server.conn.closed
    assert number <= server.limits.control_burst
    assert goaway_of(server.conn.take_output())[0] == frames.ENHANCE_YOUR_CALM
    assert most < 100_000


def test_control_frames_whose_answers_are_never_read():
    limits = Limits()
    limits.control_burst = 10**9
    server = greeted(limits)
    server.limits.max_ping_strikes = 10**9
    for _ in range(100_000):
        server.conn.receive(FLOODS["PING"])
        if server.conn.closed:
            break
    assert goaway_of(server.conn.take_output())[0] == frames.ENHANCE_YOUR_CALM
    assert server.conn.out_bytes == 0


def test_window_updates_earned_by_data_are_no_flood():
    server = greeted()
    server.conn.receive(headers(1, b"/test.Echo/Bidi") + frames.window_update(0, 1 << 30))
    server.conn.receive(frames.window_update(1, 1 << 30))
    for _ in range(12_000):
        server.conn.receive(data(1, b"x", end=False) + frames.window_update(1, 6) + frames.window_update(0, 6))
        server.conn.take_output()
    assert not server.conn.closed


def test_hoarded_streams_are_refused():
    server = greeted(Limits(max_concurrent_streams=50))
    for number in range(100):
        server.conn.receive(headers(2 * number + 1, b"/test.Echo/Bidi"))
    assert len(server.conn.streams) == 50
    refused = resets_of(server.conn.take_output())
    assert set(refused.values()) == {frames.REFUSED_STREAM}
    assert len(refused) == 50


def test_half_sent_messages_share_a_budget():
    limits = Limits()
    limits.max_assembly_bytes = 1_000_000
    server = greeted(limits)
    half = b"\0" + u32(2_000_000) + b"x" * 16_000
    for number in range(100):
        stream = 2 * number + 1
        server.conn.receive(headers(stream) + frame(DATA, 0, stream, half))
        assert server.conn.held_bytes <= 1_000_000
    out = server.conn.take_output()
    assert len(server.conn.streams) == 1_000_000 // len(half)
    assert b"too many unfinished messages" in out
    server.conn.lost()
    assert server.conn.held_bytes == 0


def test_gzip_bomb():
    server = greeted()
    bomb = gzip.compress(b"\0" * (50 << 20))
    head = frame(HEADERS, 4, 1, encode_fields(fields(b"/test.Echo/Unary", (b"grpc-encoding", b"gzip"))))
    body = b"\1" + u32(len(bomb)) + bomb
    server.conn.receive(head)
    for at in range(0, len(body), 16000):
        server.conn.receive(frame(DATA, 0, 1, body[at : at + 16000]))
    assert b"larger than max 2097152" in server.conn.take_output()


def test_a_client_that_reads_nothing_holds_only_its_own_answers():
    limits = Limits()
    limits.output_high_bytes = 100_000
    limits.max_queued_bytes = 500_000
    server = greeted(limits)
    server.conn.receive(frames.window_update(0, 1 << 30) + frames.settings_frame([(4, 1 << 30)]))
    server.conn.take_output()
    for number in range(200):
        stream = 2 * number + 1
        server.conn.receive(headers(stream, b"/test.Echo/Big") + data(stream, b"50000"))
    assert server.method("Big").sent < 20
    assert server.conn.backlog() < 800_000
    for _ in range(300):
        server.conn.take_output()
    assert server.method("Big").sent == 200
    assert server.conn.backlog() == 0


def test_time_limits():
    server = Server()
    server.conn.receive(frames.PREFACE[:10])
    server.clock.now_ns += 11 * SECOND
    server.conn.tick(server.clock.now_ns)
    assert server.conn.closed
    for unfinished in (headers(1)[:20], frame(HEADERS, 0, 1, b"\x83")):
        server = greeted()
        server.conn.receive(unfinished)
        for _ in range(70):
            server.clock.now_ns += SECOND
            server.conn.tick(server.clock.now_ns)
        assert server.conn.close_text == "unfinished frame"


def test_kept_header_blocks_are_few():
    server = greeted()
    for number in range(2000):
        block = encode_fields(fields(b"/test.Echo/Unary", (b"x-n", b"%d" % number)))
        server.conn.receive(frame(HEADERS, 4, 2 * number + 1, block) + data(2 * number + 1, b""))
        server.conn.take_output()
    assert len(server.conn._heads) <= 256
    assert server.method("Unary").handled[0] == 2000


def test_remembered_resets_and_gaps_are_few():
    limits = Limits()
    limits.control_burst = 10**9
    server = greeted(limits)
    for number in range(3000):
        server.conn.receive(headers(4 * number + 1, b"/no.Such/Method"))
        server.conn.take_output()
    assert len(server.conn._reset_ids) <= 1024
    assert len(server.conn._gaps) <= 64
    assert split_frames(server.conn.take_output()) == []
