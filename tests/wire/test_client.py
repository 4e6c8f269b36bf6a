"""The client's role: against our own server's role, and against the h2 library as server."""

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from quorate import errors
from quorate.wire import frames
from quorate.wire.client import ClientConnection
from quorate.wire.frames import Limits, TransportStats
from tests.wire.rig import SECOND, Clock, Server, goaway_of, grpc_message, resets_of


class Call:
    """A call of the client with what came back."""

    def __init__(self, conn: ClientConnection, method: str, headers=(), timeout_ns: int = 0) -> None:
        self.headers = None
        self.messages: list[bytes] = []
        self.error = None
        self.trailers = None
        self.ends = 0
        path = f"/test.Echo/{method}".encode()
        self.call = conn.call(path, list(headers), self.on_headers, self.messages.append, self.on_end, timeout_ns)

    def on_headers(self, fields) -> None:
        self.headers = fields

    def on_end(self, error, trailers) -> None:
        self.error = error
        self.trailers = trailers
        self.ends += 1

    def request(self, *messages: bytes):
        for message in messages:
            self.call.send(message)
        self.call.half_close()
        return self

    def outcome(self) -> tuple[int, str]:
        assert self.ends == 1
        return (self.error.code, self.error.text) if self.error else (0, "")


class Pair:
    def __init__(self, limits: Limits | None = None) -> None:
        self.server = Server(limits)
        self.clock = self.server.clock
        self.conn = ClientConnection(Limits(2**31 - 1), self.clock, TransportStats(), b"localhost")

    def turn(self) -> None:
        while True:
            there = self.conn.take_output()
            if there:
                self.server.conn.receive(there)
            back = self.server.conn.take_output()
            if back:
                self.conn.receive(back)
            if not there and not back:
                return


def test_all_kinds_of_calls():
    pair = Pair()
    unary = Call(pair.conn, "Unary").request(b"hello")
    stream = Call(pair.conn, "ServerStream").request(b"3 5")
    upload = Call(pair.conn, "ClientStream").request(b"a", b"bb", b"")
    bidi = Call(pair.conn, "Bidi")
    failed = Call(pair.conn, "Fail").request("wäh".encode())
    pair.turn()
    bidi.call.send(b"1")
    pair.turn()
    bidi.request(b"2")
    pair.turn()
    assert unary.messages == [b"hello"]
    assert dict(unary.headers)[b":status"] == b"200"
    assert unary.outcome() == (0, "")
    assert stream.messages == [b"mmmmm"] * 3
    assert upload.messages == [b"3 3"]
    assert bidi.messages == [b"1", b"2"]
    assert bidi.outcome() == (0, "")
    assert failed.outcome() == (errors.NOT_FOUND, "wäh")
    assert pair.conn.streams == {}
    assert pair.server.conn.streams == {}


def test_metadata_reaches_the_service():
    pair = Pair()
    call = Call(pair.conn, "Meta", [(b"x-token", b"t" * 40_000)]).request(b"x-token")
    pair.turn()
    assert call.messages == [b"t" * 40_000]


def test_big_messages_cross_the_windows_both_ways():
    pair = Pair()
    unary = Call(pair.conn, "Unary").request(b"u" * 2_000_000)
    stream = Call(pair.conn, "ServerStream").request(b"5 3000000")
    pair.turn()
    assert unary.messages == [b"u" * 2_000_000]
    assert [len(message) for message in stream.messages] == [3_000_000] * 5
    assert pair.conn.held_bytes == 0


def test_deadlines_are_sent_and_kept_on_our_side_too():
    pair = Pair()
    call = Call(pair.conn, "Hang", timeout_ns=SECOND).request(b"")
    pair.turn()
    assert pair.server.conn.deadline_ns > 0
    pair.clock.now_ns += SECOND
    pair.conn.tick(pair.clock.now_ns)
    assert call.outcome() == (4, "context deadline exceeded")
    pair.turn()
    assert pair.server.method("Hang").handled[errors.CANCELED] == 1


def test_cancel_resets_the_stream():
    pair = Pair()
    call = Call(pair.conn, "Hang").request(b"")
    pair.turn()
    call.call.cancel()
    call.call.cancel()
    pair.turn()
    assert call.outcome() == (1, "context canceled")
    assert len(pair.server.service.ended) == 1


def test_calls_beyond_the_limit_wait_their_turn():
    pair = Pair(Limits(max_concurrent_streams=2))
    pair.turn()
    calls = [Call(pair.conn, "Hang").request(b"%d" % number) for number in range(5)]
    late = Call(pair.conn, "Hang", timeout_ns=SECOND).request(b"late")
    pair.turn()
    assert len(pair.server.service.hanging) == 2
    pair.clock.now_ns += 2 * SECOND
    pair.conn.tick(pair.clock.now_ns)
    assert late.outcome()[0] == errors.DEADLINE_EXCEEDED
    for number in range(5):
        call, message = pair.server.service.hanging[number]
        call.complete(message)
        pair.turn()
    assert [call.messages for call in calls] == [[b"%d" % number] for number in range(5)]
    assert len(pair.server.service.hanging) == 5


def test_graceful_drain_of_the_server():
    pair = Pair()
    gone = []
    pair.conn.went_away = lambda code, debug: gone.append((code, debug))
    slow = Call(pair.conn, "Hang").request(b"slow")
    pair.turn()
    pair.server.conn.drain()
    pair.turn()
    assert gone == [(0, b"graceful_stop"), (0, b"")]
    late = Call(pair.conn, "Unary").request(b"x")
    assert late.outcome()[0] == errors.UNAVAILABLE
    assert late.call.unprocessed
    call, message = pair.server.service.hanging[0]
    call.complete(message)
    pair.turn()
    assert slow.messages == [b"slow"]
    assert slow.outcome() == (0, "")
    assert pair.conn.closed
    assert pair.server.conn.closed


def test_a_lost_connection_fails_every_call():
    pair = Pair()
    calls = [Call(pair.conn, "Hang").request(b"") for _ in range(3)]
    pair.turn()
    pair.conn.lost()
    assert [call.outcome()[0] for call in calls] == [errors.UNAVAILABLE] * 3
    assert not calls[0].call.unprocessed


def test_close_says_goodbye():
    pair = Pair()
    pair.turn()
    pair.conn.close()
    assert pair.conn.closed
    assert goaway_of(pair.conn.take_output()) == (0, b"")


# Against the h2 library


class H2Server:
    def __init__(self) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        self.h2.initiate_connection()
        self.events: list = []
        self.clock = Clock()
        self.conn = ClientConnection(Limits(1000), self.clock, TransportStats(), b"localhost")

    def turn(self) -> None:
        while True:
            there = self.conn.take_output()
            if there:
                self.events += self.h2.receive_data(there)
            back = self.h2.data_to_send()
            if back:
                self.conn.receive(back)
            if not there and not back:
                return


def answer(server: H2Server, stream: int, fields, end=False) -> None:
    server.h2.send_headers(stream, fields, end_stream=end)


def test_the_request_that_h2_sees():
    server = H2Server()
    Call(server.conn, "Unary", [(b"x-a", b"b")], timeout_ns=3 * SECOND).request(b"hi")
    server.turn()
    request = next(event for event in server.events if isinstance(event, h2.events.RequestReceived))
    fields = dict(request.headers)
    assert fields[b":path"] == b"/test.Echo/Unary"
    assert fields[b":authority"] == b"localhost"
    assert fields[b"content-type"] == b"application/grpc"
    assert fields[b"te"] == b"trailers"
    assert fields[b"x-a"] == b"b"
    assert fields[b"grpc-timeout"] == b"3000000u"
    data = next(event for event in server.events if isinstance(event, h2.events.DataReceived))
    assert data.data == grpc_message(b"hi")
    assert any(isinstance(event, h2.events.StreamEnded) for event in server.events)


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ([(b":status", b"200"), (b"grpc-status", b"5"), (b"grpc-message", b"no%21")], (5, "no!")),
        ([(b":status", b"503")], (14, "unexpected HTTP status code received from server: 503")),
        ([(b":status", b"404")], (12, "unexpected HTTP status code received from server: 404")),
        ([(b":status", b"200"), (b"grpc-status", b"x")], (2, "unexpected HTTP status code received from server: 200")),
    ],
)
def test_answers_without_a_body(fields, outcome):
    server = H2Server()
    call = Call(server.conn, "Unary").request(b"")
    server.turn()
    answer(server, 1, fields, end=True)
    server.turn()
    assert call.outcome() == outcome
    assert server.conn.streams == {}


def test_answers_that_break_the_rules():
    server = H2Server()
    calls = [Call(server.conn, "Unary").request(b"") for _ in range(5)]
    server.turn()
    for stream in (1, 3, 7, 9):
        answer(server, stream, [(b":status", b"200"), (b"content-type", b"application/grpc")])
    server.h2.send_data(1, b"", end_stream=True)  # no trailers
    server.h2.send_data(3, b"\0" + (5000).to_bytes(4, "big"))  # over our limit
    server.h2.reset_stream(5, frames.REFUSED_STREAM)
    server.h2.send_data(7, b"\0\0")
    server.h2.send_headers(7, [(b"grpc-status", b"0")], end_stream=True)  # inside a message
    server.h2.reset_stream(9, frames.ENHANCE_YOUR_CALM)
    server.turn()
    assert calls[0].outcome() == (13, "server closed the stream without sending trailers")
    assert calls[1].outcome() == (8, "grpc: received message larger than max (5000 vs. 1000)")
    assert calls[2].outcome() == (14, "stream terminated by RST_STREAM with error code: 7")
    assert calls[2].call.unprocessed
    assert calls[3].outcome() == (2, "unexpected EOF")
    assert calls[4].outcome()[0] == errors.RESOURCE_EXHAUSTED
    assert server.conn.streams == {}
    assert server.conn.held_bytes == 0


def test_goaway_fails_what_the_server_has_not_seen():
    server = H2Server()
    calls = [Call(server.conn, "Unary").request(b"") for _ in range(3)]
    server.turn()
    server.h2.close_connection(last_stream_id=1)
    server.turn()
    assert calls[0].ends == 0
    assert [call.outcome()[0] for call in calls[1:]] == [errors.UNAVAILABLE] * 2
    assert all(call.call.unprocessed for call in calls[1:])


@pytest.mark.parametrize(
    "attack",
    [
        frames.frame(frames.PUSH_PROMISE, 4, 1, bytes(4)),
        frames.frame(frames.HEADERS, 5, 3, b"\x88"),
        frames.frame(frames.HEADERS, 5, 2, b"\x88"),
        frames.frame(frames.DATA, 0, 99, b"x"),
        frames.settings_frame([(frames.SET_ENABLE_PUSH, 1)]),
    ],
)
def test_violations_of_the_server_end_the_connection(attack):
    server = H2Server()
    call = Call(server.conn, "Unary").request(b"")
    server.turn()
    server.conn.receive(attack)
    assert server.conn.closed
    assert goaway_of(server.conn.take_output())[0] == frames.PROTOCOL_ERROR
    assert call.outcome()[0] == errors.UNAVAILABLE


def test_data_before_headers_and_a_second_head():
    server = H2Server()
    calls = [Call(server.conn, "Unary").request(b"") for _ in range(2)]
    server.turn()
    server.conn.receive(frames.frame(frames.DATA, 0, 1, b"x"))
    server.conn.receive(frames.frame(frames.HEADERS, 4, 3, b"\x88") * 2)
    assert [call.outcome()[0] for call in calls] == [errors.INTERNAL] * 2
    assert resets_of(server.conn.take_output()) == {1: frames.PROTOCOL_ERROR, 3: frames.PROTOCOL_ERROR}


def test_keepalive_pings_only_with_calls():
    server = H2Server()
    server.conn.limits.keepalive_ns = 10 * SECOND
    server.turn()

    def wait(seconds: int) -> None:
        server.clock.now_ns += seconds * SECOND
        server.conn.tick(server.clock.now_ns)

    wait(1)
    wait(20)
    assert server.conn.take_output() == b""
    call = Call(server.conn, "Unary").request(b"")
    server.turn()
    wait(1)
    wait(11)
    server.turn()
    assert any(isinstance(event, h2.events.PingReceived) for event in server.events)
    wait(1)
    wait(11)
    wait(21)
    assert server.conn.closed
    assert call.outcome()[0] == errors.UNAVAILABLE


def test_the_last_message_and_the_end_share_a_frame() -> None:
    pair = Pair()
    pair.turn()
    call = Call(pair.conn, "Unary")
    call.call.send_last(b"hi")
    out = pair.conn.take_output()
    data = frames.frame(frames.DATA, frames.FLAG_END_STREAM, 1, grpc_message(b"hi"))
    assert out.endswith(data)
    assert out.count(data[3:9]) == 1
    pair.server.conn.receive(out)
    pair.turn()
    assert call.outcome() == (0, "")
    assert len(call.messages) == 1


@pytest.mark.parametrize("size", [0, 16_379, 16_380, 70_000, 300_000])
def test_last_messages_of_any_size_arrive(size: int) -> None:
    pair = Pair()
    waiting = []
    for _ in range(3):  # before the server's greeting, and beyond what windows take at once
        waiting.append(Call(pair.conn, "Unary"))
        waiting[-1].call.send_last(b"x" * size)
        waiting[-1].call.send(b"more")
    pair.turn()
    for call in waiting:
        assert call.outcome() == (0, "")
        assert [len(message) for message in call.messages] == [size]


def test_equal_blocks_mean_what_the_table_says_now() -> None:
    """The server names its status by the newest entry of its table, which changes between two calls."""
    conn = ClientConnection(Limits(2**31 - 1), Clock(), TransportStats(), b"localhost")
    conn.receive(frames.settings_frame([]))
    newest = bytes([0x80 | 62])
    outcomes = []
    for stream, status in ((1, b"5"), (3, b""), (5, b"7"), (7, b"")):
        call = Call(conn, "Unary")
        call.call.send_last(b"x")
        head = b"\x88" + (b"\x40\x0bgrpc-status\x01" + status if status else newest)
        conn.receive(frames.frame(frames.HEADERS, frames.FLAG_END_HEADERS | frames.FLAG_END_STREAM, stream, head))
        outcomes.append(call.outcome()[0])
    assert outcomes == [5, 5, 7, 7]


def test_a_call_that_new_settings_let_go_leaves_behind_their_acknowledgement() -> None:
    conn = ClientConnection(Limits(2**31 - 1), Clock(), TransportStats(), b"localhost")
    conn.receive(frames.settings_frame([(frames.SET_MAX_CONCURRENT_STREAMS, 1)]))
    for _ in range(2):
        Call(conn, "Unary").call.send_last(b"x")
    conn.take_output()
    conn.receive(frames.settings_frame([(frames.SET_MAX_CONCURRENT_STREAMS, 2)]))
    out = conn.take_output()
    assert out.startswith(frames.SETTINGS_ACK)
    assert out[len(frames.SETTINGS_ACK) + 3] == frames.HEADERS
