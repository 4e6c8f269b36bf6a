"""Whatever bytes come: an answer, a protocol error or a close, never another exception, and nothing left behind."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.wire import frames
from quorate.wire.client import ClientConnection
from quorate.wire.frames import Limits, TransportStats
from quorate.wire.headers import encode_fields
from quorate.wire.http1 import Http1Connection
from quorate.wire.web import FunctionHandler
from tests.wire.rig import Clock, Server, grpc_message
from tests.wire.test_attacks import fields

EXAMPLES = int(os.environ.get("QUORATE_FUZZ_EXAMPLES", "400"))
STREAMS = st.sampled_from([0, 1, 1, 1, 2, 3, 3, 5, 7, 2**31 - 1])
PATHS = st.sampled_from([b"/test.Echo/" + name for name in (b"Unary", b"Bidi", b"Hang", b"ClientStream", b"No")])
BLOCKS = st.one_of(
    PATHS.map(lambda path: encode_fields(fields(path))),
    PATHS.map(lambda path: encode_fields(fields(path, (b"grpc-timeout", b"5m"), (b"grpc-encoding", b"gzip")))),
    st.just(encode_fields([(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/version")])),
    st.just(encode_fields([(b":status", b"200"), (b"content-type", b"application/grpc")])),
    st.just(encode_fields([(b"grpc-status", b"0")])),
    st.binary(max_size=30),
)
BODIES = st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(grpc_message), st.just(b"\0\0\x20\0\0"))


def frame_of(kind, payloads):
    return st.builds(frames.frame, st.just(kind), st.integers(0, 255), STREAMS, payloads)


FRAMES = st.one_of(
    st.builds(frames.frame, st.just(frames.HEADERS), st.sampled_from([4, 5]), STREAMS, BLOCKS),
    st.builds(frames.frame, st.just(frames.DATA), st.sampled_from([0, 1]), STREAMS, BODIES),
    frame_of(frames.HEADERS, BLOCKS),
    frame_of(frames.DATA, BODIES),
    frame_of(frames.CONTINUATION, BLOCKS),
    frame_of(frames.RST_STREAM, st.binary(min_size=4, max_size=4)),
    frame_of(frames.WINDOW_UPDATE, st.binary(min_size=4, max_size=4)),
    frame_of(frames.PING, st.binary(min_size=8, max_size=8)),
    frame_of(frames.GOAWAY, st.binary(min_size=8, max_size=12)),
    st.lists(st.tuples(st.integers(0, 7), st.sampled_from([0, 1, 65535, 16384, 2**31 - 1])), max_size=4).map(
        frames.settings_frame
    ),
    st.builds(frames.frame, st.integers(0, 12), st.integers(0, 255), STREAMS, st.binary(max_size=40)),
    st.binary(max_size=20),
)


def check_over(conn):
    for stream in conn.streams.values():
        assert not stream.done
    conn.lost()
    assert conn.held_bytes == 0
    assert conn.queued_bytes == 0
    assert conn.streams == {}


@given(st.lists(FRAMES, max_size=14), st.integers(1, 200))
@settings(max_examples=EXAMPLES, deadline=None)
def test_frames_at_random_to_a_server(pieces, step):
    server = Server()
    server.conn.http = FunctionHandler(lambda request, reply: reply.respond(200, [], b"hello"))
    data = frames.PREFACE + frames.settings_frame([]) + b"".join(pieces)
    for at in range(0, len(data), step):
        server.conn.receive(data[at : at + step])
        server.clock.now_ns += 3_000_000
        server.conn.tick(server.clock.now_ns)
    for call, message in server.service.hanging:
        call.complete(message)
    server.conn.take_output()
    assert server.stats.handler_errors == 0
    check_over(server.conn)
    for path, method in server.router.methods.items():
        assert method.started == sum(method.handled), path


@given(st.lists(FRAMES, max_size=14), st.integers(1, 200))
@settings(max_examples=EXAMPLES, deadline=None)
def test_frames_at_random_to_a_client(pieces, step):
    clock = Clock()
    conn = ClientConnection(Limits(), clock, TransportStats(), b"localhost")
    ends = []
    for path in (b"/a", b"/b", b"/c"):
        call = conn.call(path, [], None, lambda message: None, lambda error, trailers: ends.append(error), 10**9)
        call.send(b"request")
    data = frames.settings_frame([]) + b"".join(pieces)
    for at in range(0, len(data), step):
        conn.receive(data[at : at + step])
    conn.take_output()
    check_over(conn)
    assert len(ends) == 3


@given(st.binary(max_size=300))
@settings(max_examples=EXAMPLES, deadline=None)
def test_bytes_at_random_to_a_server(data):
    server = Server()
    server.conn.receive(data)
    server = Server()
    server.conn.receive(frames.PREFACE + frames.settings_frame([]))
    server.conn.receive(data)
    check_over(server.conn)


HTTP1 = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"GET / HTTP/1.1\r\n",
                b"POST /x HTTP/1.1\r\n",
                b"Host: h\r\n",
                b"Content-Length: 3\r\n",
                b"Transfer-Encoding: chunked\r\n",
                b"Expect: 100-continue\r\n",
                b"Connection: close\r\n",
                b"Upgrade: h2c\r\n",
                b"\r\n",
                b"3\r\nabc\r\n",
                b"0\r\n\r\n",
                b"abc",
                b"CONNECT a:1 HTTP/1.1\r\n",
                b" folded\r\n",
            ]
        ),
        st.binary(max_size=12),
    ),
    max_size=14,
)


@given(HTTP1, st.integers(1, 60))
@settings(max_examples=EXAMPLES, deadline=None)
def test_bytes_at_random_to_http1(pieces, step):
    clock = Clock()
    stats = TransportStats()
    handler = FunctionHandler(lambda request, reply: reply.respond(200, [], b"hello"))
    conn = Http1Connection(handler, Limits(), clock, "1.2.3.4:5", stats)
    data = b"".join(pieces)
    for at in range(0, len(data), step):
        conn.receive(data[at : at + step])
        conn.take_output()
    conn.receive_eof()
    conn.lost()
    conn.take_output()
    assert conn.closed
    assert stats.handler_errors == 0
