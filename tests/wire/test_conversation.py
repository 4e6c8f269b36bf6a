"""Random conversations with the h2 library, whose state machine is strict: it raises for any frame of ours that breaks
the rules. Both roles; every call must end as it should, in spite of settings, windows, padding, pings and resets."""

import contextlib

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.wire.client import ClientConnection
from quorate.wire.frames import Limits, TransportStats
from tests.wire.rig import Clock, Server, grpc_message, request_fields

Codes = h2.settings.SettingCodes
EXAMPLES = 150
SETTINGS = st.dictionaries(
    st.sampled_from([Codes.HEADER_TABLE_SIZE, Codes.INITIAL_WINDOW_SIZE, Codes.MAX_FRAME_SIZE]),
    st.integers(0, 3),
    min_size=1,
)
VALUES = {
    Codes.HEADER_TABLE_SIZE: [0, 100, 4096, 65536],
    Codes.INITIAL_WINDOW_SIZE: [0, 10, 65535, 1 << 20],
    Codes.MAX_FRAME_SIZE: [16384, 20000, 65536, 1 << 20],
}
KINDS = st.sampled_from(["Unary", "Fail", "ClientStream", "Bidi", "Nope"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), KINDS, st.integers(0, 40_000), st.integers(0, 50)),
        st.tuples(st.just("settings"), SETTINGS),
        st.tuples(st.just("ping")),
        st.tuples(st.just("priority"), st.integers(1, 9)),
        st.tuples(st.just("window"), st.integers(1, 100_000)),
        st.tuples(st.just("reset"), st.integers(0, 5)),
        st.tuples(st.just("carry"), st.integers(1, 5000)),
    ),
    max_size=25,
)


def chosen(wanted):
    return {code: VALUES[code][number] for code, number in wanted.items()}


class Wire:
    """Carries bytes between the h2 library and one of our connections, in pieces."""

    def __init__(self, theirs, ours) -> None:
        self.h2 = theirs
        self.ours = ours
        self.step = 1 << 20
        self.events = []

    def carry(self) -> None:
        while True:
            there, back = self.h2.data_to_send(), self.ours.take_output()
            for at in range(0, len(there), self.step):
                self.ours.receive(there[at : at + self.step])
            for at in range(0, len(back), self.step):
                for event in self.h2.receive_data(back[at : at + self.step]):
                    self.events.append(event)
                    self.take(event)
            if not there and not back:
                return

    def take(self, event) -> None:
        if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
            self.h2.increment_flow_control_window(event.flow_controlled_length)
            with contextlib.suppress(h2.exceptions.ProtocolError):
                self.h2.increment_flow_control_window(event.flow_controlled_length, event.stream_id)

    def do(self, step) -> None:
        """The steps that are the same in both roles."""
        if step[0] == "settings":
            self.h2.update_settings(chosen(step[1]))
        elif step[0] == "ping":
            self.h2.ping(b"12345678")
        elif step[0] == "window":
            self.h2.increment_flow_control_window(step[1])
        elif step[0] == "carry":
            self.step = step[1]
        self.carry()

    def settle(self) -> None:
        """Open all windows and let everything end."""
        self.step = 1 << 20
        self.h2.update_settings({Codes.INITIAL_WINDOW_SIZE: 1 << 22})
        self.h2.increment_flow_control_window(1 << 24)
        self.carry()


def send(wire: Wire, stream: int, data: bytes, padding: int | None) -> None:
    """Send all of it and END_STREAM, as the windows permit."""
    while True:
        extra = 0 if padding is None else padding + 1
        room = min(wire.h2.local_flow_control_window(stream), wire.h2.max_outbound_frame_size) - extra
        assert room > 0, "our side has not opened its window"
        piece, data = data[:room], data[room:]
        wire.h2.send_data(stream, piece, end_stream=not data, pad_length=padding)
        if not data:
            return
        wire.carry()


@given(STEPS)
@settings(max_examples=EXAMPLES, deadline=None)
def test_h2_as_a_client_of_our_server(steps):
    limits = Limits()
    limits.max_ping_strikes = 1000
    server = Server(limits)
    config = h2.config.H2Configuration(client_side=True, header_encoding=None)
    wire = Wire(h2.connection.H2Connection(config), server.conn)
    wire.h2.initiate_connection()
    wire.carry()
    calls = {}
    cancelled = set()
    for step in steps:
        if step[0] == "call":
            _, kind, size, padding = step
            stream = wire.h2.get_next_available_stream_id()
            wire.h2.send_headers(stream, request_fields(f"/test.Echo/{kind}"))
            calls[stream] = (kind, size)
            wire.carry()
            try:
                send(wire, stream, grpc_message(b"m" * size), padding % 7 or None)
            except h2.exceptions.StreamClosedError:
                assert kind == "Nope"  # it is answered before its message is there
        elif step[0] == "priority":
            wire.h2.prioritize(2 * step[1] + 1, weight=7)
        elif step[0] == "reset" and calls:
            stream = sorted(calls)[step[1] % len(calls)]
            with contextlib.suppress(h2.exceptions.ProtocolError):
                wire.h2.reset_stream(stream, 8)
                cancelled.add(stream)
        wire.do(step)
    wire.settle()
    assert not server.conn.closed
    assert server.conn.streams == {}
    codes = {"Unary": b"0", "Fail": b"5", "ClientStream": b"0", "Bidi": b"0", "Nope": b"12"}
    bodies = {}
    ends = {}
    for event in wire.events:
        if isinstance(event, h2.events.DataReceived):
            bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
        elif isinstance(event, (h2.events.TrailersReceived, h2.events.ResponseReceived)):
            code = dict(event.headers).get(b"grpc-status")
            if code is not None:
                assert event.stream_id not in ends
                ends[event.stream_id] = code
    for stream, (kind, size) in calls.items():
        if stream in cancelled:
            continue
        assert ends[stream] == codes[kind]
        if kind in ("Unary", "Bidi"):
            assert bodies[stream] == grpc_message(b"m" * size)


ANSWERS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.integers(0, 40_000)),
        st.tuples(st.just("answer"), st.integers(0, 40_000), st.sampled_from([b"0", b"5", b"14"]), st.integers(0, 50)),
        st.tuples(st.just("settings"), SETTINGS),
        st.tuples(st.just("streams"), st.integers(1, 5)),
        st.tuples(st.just("ping")),
        st.tuples(st.just("window"), st.integers(1, 100_000)),
        st.tuples(st.just("refuse")),
        st.tuples(st.just("carry"), st.integers(1, 5000)),
    ),
    max_size=25,
)


@given(ANSWERS)
@settings(max_examples=EXAMPLES, deadline=None)
def test_h2_as_a_server_of_our_client(steps):
    conn = ClientConnection(Limits(), Clock(), TransportStats(), b"localhost")
    config = h2.config.H2Configuration(client_side=False, header_encoding=None)
    wire = Wire(h2.connection.H2Connection(config), conn)
    wire.h2.initiate_connection()
    results = []
    sizes = []
    answered = {}

    def waiting():
        """Streams whose request is whole and not answered yet."""
        whole = [event.stream_id for event in wire.events if isinstance(event, h2.events.StreamEnded)]
        return [stream for stream in whole if stream not in answered]

    def begin(size):
        messages, ends = [], []
        sizes.append(size)
        results.append((messages, ends))
        call = conn.call(
            b"/x", [], None, messages.append, lambda error, trailers: ends.append(error.code if error else 0)
        )
        call.send(b"q" * size)
        call.half_close()

    def answer(stream, size, status, padding):
        answered[stream] = (size, int(status))
        wire.h2.send_headers(stream, [(b":status", b"200"), (b"content-type", b"application/grpc")])
        data = grpc_message(b"a" * size)
        while data:
            extra = padding + 1 if padding else 0
            room = min(wire.h2.local_flow_control_window(stream), wire.h2.max_outbound_frame_size) - extra
            wire.h2.send_data(stream, data[:room], pad_length=padding or None)
            data = data[room:]
            wire.carry()
        wire.h2.send_headers(stream, [(b"grpc-status", status)], end_stream=True)

    for step in steps:
        if step[0] == "call":
            begin(step[1])
        elif step[0] == "answer" and waiting():
            answer(waiting()[0], *step[1:])
        elif step[0] == "refuse" and waiting():
            stream = waiting()[-1]
            answered[stream] = (None, 14)
            wire.h2.reset_stream(stream, 7)
        elif step[0] == "streams":
            wire.h2.update_settings({Codes.MAX_CONCURRENT_STREAMS: step[1]})
        wire.do(step)
    wire.settle()
    while waiting():
        answer(waiting()[0], 3, b"0", 0)
        wire.carry()
    assert not conn.closed
    assert conn.streams == {}
    requests = {}
    for event in wire.events:
        if isinstance(event, h2.events.DataReceived):
            requests[event.stream_id] = requests.get(event.stream_id, b"") + event.data
    # Calls leave in the order they were made.
    for number, (stream, (messages, ends)) in enumerate(zip(sorted(answered), results, strict=True)):
        size, code = answered[stream]
        assert requests[stream] == grpc_message(b"q" * sizes[number])
        assert ends == [code]
        assert messages == ([] if size is None else [b"a" * size])
