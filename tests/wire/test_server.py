"""The server's role against the h2 library as client, without sockets."""

import contextlib
import gc
import gzip
import random

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import hpack
import pytest

from quorate import errors
from quorate.wire import frames
from quorate.wire.frames import Limits
from quorate.wire.headers import encode_fields
from quorate.wire.server import Http2Call, ServerStream
from quorate.wire.web import STREAMED, FunctionHandler, HttpHandler
from tests.wire.rig import (
    SECOND,
    Server,
    goaway_of,
    grpc_message,
    request_fields,
    resets_of,
    split_frames,
)


class Peer:
    """An h2 client wired to our server connection."""

    def __init__(self, server: Server | None = None, feed=None) -> None:
        self.server = server if server is not None else Server()
        config = h2.config.H2Configuration(client_side=True, header_encoding=None, validate_outbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.feed = feed if feed is not None else self.server.conn.receive
        self.headers: dict[int, dict[bytes, bytes]] = {}
        self.trailers: dict[int, dict[bytes, bytes]] = {}
        self.data: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.pings = 0
        self.goaway = None
        self.auto_window = True
        self.turn()

    def turn(self) -> None:
        """Carry bytes both ways until both are silent."""
        while True:
            out = self.h2.data_to_send()
            if out:
                self.feed(out)
            back = self.server.conn.take_output()
            if back:
                for event in self.h2.receive_data(back):
                    self.event(event)
            if not out and not back:
                return

    def event(self, event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            self.headers[event.stream_id] = dict(event.headers)
        elif isinstance(event, h2.events.TrailersReceived):
            self.trailers[event.stream_id] = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            self.data[event.stream_id] = self.data.get(event.stream_id, b"") + event.data
            if self.auto_window and event.flow_controlled_length:
                self.h2.increment_flow_control_window(event.flow_controlled_length)
                with contextlib.suppress(h2.exceptions.StreamClosedError):
                    self.h2.increment_flow_control_window(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.ended.add(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.resets[event.stream_id] = event.error_code
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = (event.error_code, event.additional_data)
        elif isinstance(event, h2.events.PingAckReceived):
            self.pings += 1

    def open(self, path="/test.Echo/Unary", end=False, fields=None, **more) -> int:
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, fields if fields is not None else request_fields(path, **more), end_stream=end)
        return stream

    def send(self, stream: int, message: bytes, end=False) -> None:
        self.send_raw(stream, grpc_message(message), end)

    def send_raw(self, stream: int, data: bytes, end=False) -> None:
        while data:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            assert room > 0
            piece, data = data[:room], data[room:]
            self.h2.send_data(stream, piece, end_stream=end and not data)
            if data:
                self.turn()

    def call(self, message: bytes, path="/test.Echo/Unary", **more) -> int:
        stream = self.open(path, **more)
        self.send(stream, message, end=True)
        self.turn()
        return stream

    def status(self, stream: int) -> tuple[int, str]:
        fields = self.trailers.get(stream) or self.headers[stream]
        return int(fields[b"grpc-status"]), fields.get(b"grpc-message", b"").decode()


def test_a_unary_call():
    peer = Peer()
    stream = peer.call(b"hello")
    assert peer.headers[stream] == {b":status": b"200", b"content-type": b"application/grpc"}
    assert peer.data[stream] == grpc_message(b"hello")
    assert peer.trailers[stream] == {b"grpc-status": b"0"}
    assert stream in peer.ended
    assert peer.server.conn.streams == {}


def test_repeated_calls_use_the_kept_header_block():
    peer = Peer()
    for number in range(50):
        stream = peer.call(b"%d" % number)
        assert peer.data[stream] == grpc_message(b"%d" % number)
    assert len(peer.server.conn._heads) == 1


def test_blocks_that_change_the_table_are_never_taken_for_kept_ones():
    peer = Peer()
    for number in range(400):
        stream = peer.call(b"x-n", "/test.Echo/Meta", grpc_timeout=f"{1000 + number}m", x_n=str(number % 3))
        assert peer.data[stream] == grpc_message(b"%d" % (number % 3))
        stream = peer.call(b"a%d" % number)
        assert peer.data[stream] == grpc_message(b"a%d" % number)


def test_counts_of_methods_and_bytes():
    peer = Peer()
    peer.call(b"12345")
    peer.call(b"gone", "/test.Echo/Fail")
    peer.call(b"3 10", "/test.Echo/ServerStream")
    unary = peer.server.method("Unary")
    assert (unary.started, unary.received, unary.sent, unary.handled[0]) == (1, 1, 1, 1)
    failed = peer.server.method("Fail")
    assert (failed.started, failed.received, failed.sent, failed.handled[errors.NOT_FOUND]) == (1, 1, 0, 1)
    stream = peer.server.method("ServerStream")
    assert (stream.started, stream.received, stream.sent, stream.handled[0]) == (1, 1, 3, 1)
    assert peer.server.stats.received_bytes == 5 + 4 + 4
    assert peer.server.stats.sent_bytes == 5 + 30


def test_a_failure_before_any_message_is_trailers_only():
    peer = Peer()
    stream = peer.call("näh 100%".encode(), "/test.Echo/Fail")
    assert peer.headers[stream][b"grpc-message"] == b"n%C3%A4h 100%25"
    assert peer.headers[stream][b":status"] == b"200"
    assert stream not in peer.trailers
    assert stream in peer.ended


def test_all_kinds_of_streams():
    peer = Peer()
    stream = peer.call(b"3 4", "/test.Echo/ServerStream")
    assert peer.data[stream] == grpc_message(b"mmmm") * 3
    stream = peer.open("/test.Echo/ClientStream")
    for size in (0, 10, 100):
        peer.send(stream, b"x" * size)
    peer.h2.end_stream(stream)
    peer.turn()
    assert peer.data[stream] == grpc_message(b"3 110")
    stream = peer.open("/test.Echo/Bidi")
    for number in range(3):
        peer.send(stream, b"%d" % number)
        peer.turn()
        assert peer.data[stream].endswith(grpc_message(b"%d" % number))
    peer.h2.end_stream(stream)
    peer.turn()
    assert peer.status(stream) == (0, "")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/no.Such/Method", "unknown service no.Such"),
        ("/test.Echo/Nope", "unknown method Nope for service test.Echo"),
        ("/test.Ech/Unary", "unknown service test.Ech"),
        ("/nothing", 'malformed method name: "/nothing"'),
        ("test.Echo/Unary", 'malformed method name: "test.Echo/Unary"'),
    ],
)
def test_unknown_methods_in_the_words_of_grpc_go(path, text):
    peer = Peer()
    stream = peer.call(b"", path)
    assert peer.status(stream) == (errors.UNIMPLEMENTED, text)


@pytest.mark.parametrize(
    ("content_type", "status", "code", "text"),
    [
        ("application/grpcfoo", b"415", 3, 'invalid gRPC request content-type "application/grpcfoo"'),
        ("application/json", b"415", 3, 'invalid gRPC request content-type "application/json"'),
    ],
)
def test_content_types_that_are_not_grpc(content_type, status, code, text):
    peer = Peer()
    fields = [(k, content_type if k == "content-type" else v) for k, v in request_fields()]
    stream = peer.open(fields=fields, end=True)
    peer.turn()
    assert peer.headers[stream][b":status"] == status
    assert peer.status(stream) == (code, text)


@pytest.mark.parametrize("content_type", ["application/grpc+proto", "application/grpc;charset=utf-8"])
def test_content_types_of_grpc(content_type):
    peer = Peer()
    fields = [(k, content_type if k == "content-type" else v) for k, v in request_fields()]
    stream = peer.open(fields=fields)
    peer.send(stream, b"x", end=True)
    peer.turn()
    assert peer.status(stream) == (0, "")
    assert peer.headers[stream][b"content-type"].decode() == content_type.partition(";")[0]


def test_other_refusals_of_grpc_go():
    peer = Peer()
    stream = peer.open(fields=[(":method", "GET"), *request_fields()[1:]], end=True)
    peer.turn()
    assert peer.headers[stream][b":status"] == b"405"
    assert peer.status(stream) == (13, 'Received a HEADERS frame with :method "GET" which should be POST')
    stream = peer.open(grpc_timeout="5x")
    peer.turn()
    assert peer.headers[stream][b":status"] == b"400"
    assert peer.status(stream)[1] == 'malformed grpc-timeout: transport: timeout unit is not recognized: "5x"'
    assert peer.resets[stream] == frames.NO_ERROR


def test_gzip_requests_and_unknown_encodings():
    peer = Peer()
    stream = peer.open(grpc_encoding="gzip")
    packed = gzip.compress(b"z" * 1000)
    peer.send_raw(stream, b"\1" + len(packed).to_bytes(4, "big") + packed, end=True)
    peer.turn()
    assert peer.data[stream] == grpc_message(b"z" * 1000)
    stream = peer.call(b"plain", grpc_encoding="gzip")
    assert peer.data[stream] == grpc_message(b"plain")
    stream = peer.call(b"x", grpc_encoding="snappy")
    assert peer.status(stream) == (12, 'grpc: Decompressor is not installed for grpc-encoding "snappy"')
    assert peer.headers[stream][b"grpc-accept-encoding"] == b"identity,gzip"
    stream = peer.open()
    peer.send_raw(stream, b"\1\0\0\0\0", end=True)
    peer.turn()
    assert peer.status(stream) == (13, "grpc: compressed flag set with identity or empty encoding")
    stream = peer.open()
    peer.send_raw(stream, b"\2\0\0\0\0", end=True)
    peer.turn()
    assert peer.status(stream) == (13, "grpc: received unexpected payload format 2")


def test_messages_larger_than_the_limit_are_refused_by_their_prefix():
    peer = Peer()
    stream = peer.open()
    peer.send_raw(stream, b"\0" + (2097153).to_bytes(4, "big"))
    peer.turn()
    assert peer.status(stream) == (8, "grpc: received message larger than max (2097153 vs. 2097152)")
    assert peer.resets[stream] == frames.NO_ERROR
    stream = peer.call(b"x" * 2097152)
    assert len(peer.data[stream]) == 2097152 + 5


def test_a_unary_call_without_a_message_and_a_cut_one():
    peer = Peer()
    stream = peer.open(end=True)
    peer.turn()
    assert peer.status(stream)[0] == errors.INTERNAL
    assert "received no request message" in peer.status(stream)[1]
    stream = peer.open()
    peer.send_raw(stream, grpc_message(b"hello")[:-1], end=True)
    peer.turn()
    assert peer.status(stream) == (2, "unexpected EOF")


def test_a_crashing_service_costs_one_call_and_is_told():
    peer = Peer()
    told = []
    peer.server.conn.handler_failed = lambda path, error: told.append((path, type(error)))
    stream = peer.call(b"", "/test.Echo/Crash")
    assert peer.status(stream) == (13, "internal error")
    assert told == [(b"/test.Echo/Crash", ZeroDivisionError)]
    assert peer.status(peer.call(b"fine")) == (0, "")


def test_metadata():
    peer = Peer()
    stream = peer.call(b"x-token", "/test.Echo/Meta", x_token="secret")
    assert peer.data[stream] == grpc_message(b"secret")
    assert peer.server.conn.streams == {}


# Deadlines and cancellation


def test_a_deadline_ends_the_call_and_tells_the_service():
    peer = Peer()
    server = peer.server
    stream = peer.call(b"", "/test.Echo/Hang", grpc_timeout="100m")
    server.clock.now_ns += 99_000_000
    server.conn.tick(server.clock.now_ns)
    peer.turn()
    assert stream not in peer.ended
    server.clock.now_ns += 2_000_000
    server.conn.tick(server.clock.now_ns)
    peer.turn()
    assert peer.status(stream) == (4, "context deadline exceeded")
    assert len(server.service.ended) == 1
    assert server.method("Hang").handled[4] == 1
    assert server.conn.deadline_ns == 0
    call, message = server.service.hanging[0]
    call.complete(message)  # too late, and harmless
    peer.turn()


def test_the_first_of_several_deadlines_is_kept():
    peer = Peer()
    server = peer.server
    first = peer.call(b"", "/test.Echo/Hang", grpc_timeout="3S")
    second = peer.call(b"", "/test.Echo/Hang", grpc_timeout="1S")
    for _ in range(2):
        server.clock.now_ns += 1_500_000_000
        server.conn.tick(server.clock.now_ns)
        peer.turn()
    assert second in peer.ended
    assert first in peer.ended


def test_a_reset_by_the_client_cancels_the_call():
    peer = Peer()
    stream = peer.call(b"", "/test.Echo/Hang")
    peer.h2.reset_stream(stream, frames.CANCEL)
    peer.turn()
    assert len(peer.server.service.ended) == 1
    assert peer.server.method("Hang").handled[errors.CANCELED] == 1
    call = peer.server.service.calls[0]
    assert call.ended
    call.complete(b"late")
    call.send(b"late")
    call.fail(errors.STOPPED)
    assert peer.server.conn.take_output() == b""


def test_a_lost_connection_ends_every_call_once():
    peer = Peer()
    peer.call(b"", "/test.Echo/Hang")
    peer.open("/test.Echo/Bidi")
    peer.turn()
    peer.server.conn.lost()
    peer.server.conn.lost()
    assert len(peer.server.service.ended) == 2
    assert peer.server.conn.closed


# Flow control


def test_a_big_answer_waits_for_the_windows_and_says_so():
    peer = Peer()
    peer.auto_window = False
    stream = peer.call(b"200000", "/test.Echo/Big")
    assert len(peer.data[stream]) == 65535
    assert peer.server.conn.queued_bytes == 200005 - 65535
    peer.h2.increment_flow_control_window(50000, stream)
    peer.turn()
    assert len(peer.data[stream]) == 65535
    peer.h2.increment_flow_control_window(20000)
    peer.turn()
    assert len(peer.data[stream]) == 85535
    peer.h2.increment_flow_control_window(1 << 20)
    peer.h2.increment_flow_control_window(1 << 20, stream)
    peer.turn()
    assert peer.data[stream] == grpc_message(b"x" * 200000)
    assert peer.status(stream) == (0, "")
    assert peer.server.conn.queued_bytes == 0


def test_streams_share_the_connection_window_fairly():
    peer = Peer()
    peer.auto_window = False
    streams = [peer.open("/test.Echo/Big") for _ in range(4)]
    peer.h2.increment_flow_control_window(1 << 20)
    peer.turn()
    peer.server.conn.send_window = 0
    for stream in streams:
        peer.send(stream, b"60000", end=True)
    peer.turn()
    peer.server.conn.send_window = 8 * 16384
    peer.server.conn.pump()
    peer.turn()
    assert [len(peer.data[stream]) for stream in streams] == [32768] * 4


def test_a_changed_initial_window_moves_open_streams():
    peer = Peer()
    peer.auto_window = False
    peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10})
    peer.turn()
    stream = peer.call(b"100", "/test.Echo/Big")
    assert len(peer.data[stream]) == 10
    peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 5})
    peer.turn()
    assert peer.server.conn.streams[stream].send_window == -5
    peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1000})
    peer.turn()
    assert len(peer.data[stream]) == 105


def test_drain_is_told_when_the_queue_of_a_stream_is_empty():
    peer = Peer()
    peer.auto_window = False
    stream = peer.open("/test.Echo/Bidi")
    peer.turn()
    call = peer.server.service.calls[0]
    drained = []
    call.on_drain = lambda: drained.append(call.queued_bytes())
    call.send(b"a" * 100_000)
    assert call.queued_bytes() > 0
    assert drained == []
    peer.turn()
    peer.h2.increment_flow_control_window(100_000)
    peer.h2.increment_flow_control_window(100_000, stream)
    peer.turn()
    assert drained == [0]
    assert len(peer.data[stream]) == 100_005


def test_output_beyond_the_mark_stays_with_its_stream():
    limits = Limits()
    limits.output_high_bytes = 50_000
    peer = Peer(Server(limits))
    peer.h2.increment_flow_control_window(1 << 20)
    stream = peer.open("/test.Echo/Bidi")
    peer.h2.increment_flow_control_window(1 << 20, stream)
    peer.turn()
    call = peer.server.service.calls[0]
    for _ in range(30):
        call.send(b"a" * 10_000)
    assert peer.server.conn.out_bytes < 50_000 + 16384 + 9
    assert call.queued_bytes() > 200_000
    peer.turn()
    assert len(peer.data[stream]) == 30 * 10_005


def test_requests_wait_while_too_many_answers_are_unread():
    limits = Limits()
    limits.max_queued_bytes = 100_000
    peer = Peer(Server(limits))
    peer.auto_window = False
    for _ in range(4):
        peer.call(b"90000", "/test.Echo/Big")
    big = peer.server.method("Big")
    assert big.started == 4
    assert big.sent == 2
    for stream in (1, 3, 5, 7):
        peer.h2.increment_flow_control_window(1 << 20, stream)
    peer.h2.increment_flow_control_window(1 << 20)
    peer.auto_window = True
    peer.turn()
    assert big.sent == 4
    assert all(len(peer.data[stream]) == 90_005 for stream in (1, 3, 5, 7))


def test_bulk_uploads_never_stall_and_windows_open_again():
    peer = Peer()
    stream = peer.open("/test.Echo/ClientStream")
    for _ in range(30):
        peer.send(stream, b"x" * 1_000_000)
    peer.h2.end_stream(stream)
    peer.turn()
    assert peer.data[stream] == grpc_message(b"30 30000000")
    assert peer.server.conn.held_bytes == 0


# However the bytes come


def conversation() -> bytes:
    """Return what a client sends in a mixed conversation, windows permitting."""
    peer = Peer(feed=lambda data: None)
    peer.h2.receive_data(peer.server.conn.take_output() or Server().conn.take_output())
    out = [frames.PREFACE + frames.settings_frame([])]
    config = h2.config.H2Configuration(client_side=True, header_encoding=None)
    client = h2.connection.H2Connection(config)
    client.initiate_connection()
    client.clear_outbound_data_buffer()
    for number in range(12):
        stream = 2 * number + 1
        path = ("/test.Echo/Unary", "/test.Echo/Bidi", "/test.Echo/ClientStream", "/no.Such/M")[number % 4]
        client.send_headers(stream, request_fields(path, x_number=str(number // 4)))
        body = b"".join(grpc_message(b"v" * (number * 50 + extra)) for extra in range(1 if number % 4 == 0 else 3))
        client.send_data(stream, body[:7])
        client.send_data(stream, body[7:], end_stream=True, pad_length=number or None)
        client.ping(b"12345678")
    out.append(client.data_to_send())
    return b"".join(out)


def answers(data: bytes, cuts: list[int]) -> bytes:
    server = Server()
    out = [server.conn.take_output()]
    last = 0
    for cut in [*cuts, len(data)]:
        server.conn.receive(data[last:cut])
        out.append(server.conn.take_output())
        last = cut
    assert not server.conn.closed, server.conn.close_text
    assert server.conn.held_bytes == 0
    return b"".join(out)


def test_whole_bytewise_and_in_random_pieces_the_answers_are_equal():
    data = conversation()
    whole = answers(data, [])
    assert answers(data, list(range(1, len(data)))) == whole
    chooser = random.Random(7)
    for _ in range(30):
        cuts = sorted(chooser.sample(range(1, len(data)), chooser.randint(1, 40)))
        assert answers(data, cuts) == whole


def test_a_big_message_fed_bytewise_costs_linear_time():
    server = Server()
    body = grpc_message(b"x" * 40_000)
    data = frames.PREFACE + frames.settings_frame([])
    peer = Peer(server=Server())
    peer.h2.send_headers(1, request_fields())
    data += peer.h2.data_to_send()
    for at in range(0, len(body), 16000):
        end = 1 if at + 16000 >= len(body) else 0
        data += frames.frame(frames.DATA, end, 1, body[at : at + 16000])
    for at in range(len(data)):
        server.conn.receive(data[at : at + 1])
    assert server.method("Unary").handled[0] == 1


# Drain, keepalive and pings


def test_drain_finishes_open_calls_and_then_closes():
    peer = Peer()
    stream = peer.call(b"slow", "/test.Echo/Hang")
    conn = peer.server.conn
    conn.drain()
    peer.server.conn.drain()
    assert not conn.closed
    out = conn.take_output()
    kinds = [(kind, payload) for kind, _, _, payload in split_frames(out)]
    assert kinds == [
        (frames.GOAWAY, b"\x7f\xff\xff\xff\0\0\0\0graceful_stop"),
        (frames.PING, b"draining"),
    ]
    conn.receive(frames.PING_ACK + b"draining")
    assert split_frames(conn.take_output())[0][3] == (1).to_bytes(4, "big") + bytes(4)
    assert not conn.closed
    call, message = peer.server.service.hanging[0]
    call.complete(message)
    assert conn.closed
    assert split_frames(conn.take_output())[0][2] == stream


def test_a_drained_connection_refuses_later_streams_and_closes_without_an_answer_to_its_ping():
    peer = Peer()
    peer.call(b"slow", "/test.Echo/Hang")
    server = peer.server
    server.conn.drain()
    server.conn.take_output()
    server.clock.now_ns += 2 * SECOND
    server.conn.tick(server.clock.now_ns)
    server.conn.take_output()
    peer.h2.send_headers(3, request_fields(), end_stream=False)
    server.conn.receive(peer.h2.data_to_send())
    assert resets_of(server.conn.take_output()) == {3: frames.REFUSED_STREAM}
    idle = Peer().server
    idle.conn.drain()
    idle.clock.now_ns += 2 * SECOND
    idle.conn.tick(idle.clock.now_ns)
    assert idle.conn.closed


def test_pings_are_answered_and_too_many_end_the_connection():
    peer = Peer()
    server = peer.server
    peer.call(b"", "/test.Echo/Hang")
    for _ in range(5):
        server.clock.now_ns += 5 * SECOND
        peer.h2.ping(b"12345678")
        peer.turn()
    assert peer.pings == 5
    assert peer.goaway is None
    for _ in range(3):
        server.clock.now_ns += 4 * SECOND
        peer.h2.ping(b"12345678")
        peer.turn()
    assert peer.goaway == (frames.ENHANCE_YOUR_CALM, b"too_many_pings")
    assert server.conn.closed


def test_pings_without_calls_are_held_to_two_hours_and_answers_excuse_pings():
    peer = Peer()
    server = peer.server
    for _ in range(20):
        peer.call(b"x")
        peer.h2.ping(b"12345678")
        peer.turn()
    assert peer.goaway is None
    for _ in range(3):
        server.clock.now_ns += 60 * SECOND
        peer.h2.ping(b"12345678")
        peer.turn()
    assert peer.goaway == (frames.ENHANCE_YOUR_CALM, b"too_many_pings")


def test_the_server_pings_an_idle_client_and_gives_up_on_a_silent_one():
    peer = Peer()
    server = peer.server
    server.conn.tick(server.clock.now_ns)
    server.clock.now_ns += 7200 * SECOND
    server.conn.tick(server.clock.now_ns)
    assert [kind for kind, *_ in split_frames(server.conn.take_output())] == [frames.PING]
    server.clock.now_ns += 19 * SECOND
    server.conn.tick(server.clock.now_ns)
    assert not server.conn.closed
    server.clock.now_ns += 2 * SECOND
    server.conn.tick(server.clock.now_ns)
    assert server.conn.closed
    assert server.conn.close_text == "keepalive ping not answered in time"


# Requests that are not gRPC


def get_fields(path="/version", method="GET"):
    return [(":method", method), (":scheme", "http"), (":path", path), (":authority", "h:1"), ("user-agent", "curl")]


def test_http_requests_go_to_the_handler():
    peer = Peer()
    seen = []

    def handle(request, reply):
        seen.append((request.method, request.path(), request.query(), request.header(b"host"), request.body))
        reply.respond(200, [(b"Content-Type", b"application/json")], b'{"a":1}')

    peer.server.conn.http = FunctionHandler(handle)
    stream = peer.open(fields=get_fields("/version?x=1"), end=True)
    peer.turn()
    assert seen == [(b"GET", b"/version", b"x=1", b"h:1", b"")]
    assert peer.headers[stream][b"content-length"] == b"7"
    assert peer.headers[stream][b"content-type"] == b"application/json"
    assert peer.data[stream] == b'{"a":1}'
    assert stream in peer.ended
    stream = peer.open(fields=get_fields("/version", "HEAD"), end=True)
    peer.turn()
    assert stream not in peer.data or peer.data[stream] == b""
    assert peer.headers[stream][b":status"] == b"200"
    stream = peer.open(fields=get_fields("/up", "POST"))
    peer.send_raw(stream, b"body", end=True)
    peer.turn()
    assert seen[-1][-1] == b"body"
    assert peer.server.conn.streams == {}


def test_http_bodies_have_a_limit():
    peer = Peer()
    peer.server.limits.max_body_bytes = 10
    peer.server.conn.http = FunctionHandler(lambda request, reply: reply.respond(200, [], b""))
    stream = peer.open(fields=get_fields("/up", "POST"))
    peer.send_raw(stream, b"x" * 11)
    peer.turn()
    assert peer.headers[stream][b":status"] == b"413"
    assert peer.resets[stream] == frames.NO_ERROR
    assert peer.server.conn.held_bytes == 0


class Uploads(HttpHandler):
    def __init__(self):
        self.chunks = []
        self.request = None
        self.gone = 0

    def body_limit(self, request):
        return STREAMED

    def handle(self, request, reply):
        self.request = request
        self.reply = reply
        request.on_body = self.chunks.append
        request.on_body_end = lambda: reply.respond(200, [], b"%d" % sum(map(len, self.chunks)))
        reply.on_end = self.end

    def end(self):
        self.gone += 1


def test_streamed_uploads_can_be_paused():
    peer = Peer()
    uploads = Uploads()
    peer.server.conn.http = uploads
    stream = peer.open(fields=get_fields("/up", "POST"))
    peer.turn()
    uploads.request.pause_body()
    window = peer.h2.local_flow_control_window(stream)
    peer.send_raw(stream, b"x" * window)
    peer.turn()
    assert peer.h2.local_flow_control_window(stream) == 0
    uploads.request.resume_body()
    peer.turn()
    assert peer.h2.local_flow_control_window(stream) > 0
    peer.h2.end_stream(stream)
    peer.turn()
    assert peer.data[stream] == b"%d" % window


def test_a_broken_off_upload_and_streamed_replies():
    peer = Peer()
    uploads = Uploads()
    peer.server.conn.http = uploads
    stream = peer.open(fields=get_fields("/up", "POST"))
    peer.turn()
    uploads.reply.start(200, [])
    uploads.reply.write(b"one")
    uploads.reply.write(b"two")
    peer.turn()
    assert peer.data[stream] == b"onetwo"
    peer.h2.reset_stream(stream)
    peer.turn()
    assert uploads.gone == 1
    uploads.reply.write(b"late")
    uploads.reply.end()
    stream = peer.open(fields=get_fields("/up", "POST"))
    peer.turn()
    uploads.reply.start(200, [])
    uploads.reply.abort()
    peer.turn()
    assert peer.resets[stream] == frames.INTERNAL_ERROR
    assert uploads.gone == 1


def test_wants_write_is_called_once_a_turn():
    server = Server()
    server.conn.take_output()
    called = []
    server.conn.wants_write = called.append
    for _ in range(2):
        client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        server = Server()
        server.conn.take_output()
        server.conn.wants_write = called.append
        called.clear()
        client.initiate_connection()
        for stream in (1, 3, 5):
            client.send_headers(stream, request_fields())
            client.send_data(stream, grpc_message(b"x"), end_stream=True)
        server.conn.receive(client.data_to_send())
        assert called == [server.conn]
        server.conn.take_output()
        assert goaway_of(server.conn.take_output()) is None


def test_a_verdict_is_kept_whatever_the_timeout_but_not_for_a_bad_one():
    peer = Peer()
    for number in range(300):
        stream = peer.call(b"x", grpc_timeout=f"{number + 1}S")
        assert peer.status(stream) == (0, "")
    assert len(peer.server.conn._reader._known) == 1
    stream = peer.call(b"x", grpc_timeout="5q")
    assert peer.headers[stream][b":status"] == b"400"
    fields = [("grpc-timeout", "1S"), *request_fields()]
    stream = peer.open(fields=fields, end=True)
    peer.turn()
    assert peer.resets[stream] == frames.PROTOCOL_ERROR


def test_finished_calls_leave_nothing_for_the_garbage_collector():
    peer = Peer()
    service = peer.server.service
    gc.collect()
    gc.disable()
    try:
        for path in ("Unary", "Fail", "Hang", "Bidi", "ServerStream", "ClientStream") * 5:
            peer.call(b"1 1", f"/test.Echo/{path}")
        for number, (call, message) in enumerate(service.hanging):
            if number % 2:
                call.complete(message)
        peer.turn()
        peer.server.conn.lost()
        del call
        service.calls.clear()
        service.hanging.clear()
        service.ended.clear()
        assert [each for each in gc.get_objects() if isinstance(each, (ServerStream, Http2Call))] == []
    finally:
        gc.enable()


def test_a_client_with_a_small_header_table_is_told_that_we_know():
    server = Server()
    client = hpack.Decoder()
    settings = frames.settings_frame([(frames.SET_HEADER_TABLE_SIZE, 0), (frames.SET_INITIAL_WINDOW_SIZE, 0)])
    server.conn.receive(frames.PREFACE + frames.settings_frame([(frames.SET_INITIAL_WINDOW_SIZE, 0)]))
    block = encode_fields([(name.encode(), value.encode()) for name, value in request_fields()])
    call = frames.frame(frames.HEADERS, 4, 1, block) + frames.frame(frames.DATA, 1, 1, grpc_message(b"early"))
    server.conn.receive(call)
    before = split_frames(server.conn.take_output())
    assert [payload[:1] for kind, _, _, payload in before if kind == frames.HEADERS] == [b"\x88"]
    server.conn.receive(settings)
    server.conn.receive(frames.window_update(1, 1000))
    server.conn.receive(frames.frame(frames.HEADERS, 5, 3, block[:-1] + b"x"))
    for path in ("/test.Echo/Unary", "/test.Echo/Fail", "/no/method"):
        block = encode_fields([(name.encode(), value.encode()) for name, value in request_fields(path)])
        stream = server.conn.peer_last_id + 2
        server.conn.receive(frames.frame(frames.HEADERS, 4, stream, block))
        server.conn.receive(frames.frame(frames.DATA, 1, stream, grpc_message(b"m")) + frames.window_update(stream, 99))
    client.max_allowed_table_size = 0
    blocks = [payload for kind, _, _, payload in split_frames(server.conn.take_output()) if kind == frames.HEADERS]
    assert len(blocks) >= 5
    for payload in blocks:
        assert payload[:1] == b"\x20"
        assert client.decode(payload)


def test_a_status_that_is_longer_than_a_frame_takes_several():
    server = Server()
    peer = Peer(server)
    stream = peer.call(b"\xe2\x82\xac".ljust(3) * 6000, "/test.Echo/Fail")
    assert peer.status(stream)[0] == 5
    assert len(peer.status(stream)[1]) > 16384
