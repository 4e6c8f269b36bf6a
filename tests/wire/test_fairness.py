"""What one client may take from the others: time of a turn, and memory for replies that are not read."""

from quorate.wire import frames
from quorate.wire.frames import Limits
from quorate.wire.headers import encode_fields
from tests.wire.rig import SECOND, Server, grpc_message, request_fields


def block_of(path):
    return encode_fields([(name.encode(), value.encode()) for name, value in request_fields(path)])


def test_a_request_that_waits_is_forgotten_when_it_is_reset():
    limits = Limits()
    limits.max_queued_bytes = 1000
    server = Server(limits)
    server.conn.receive(frames.PREFACE + frames.settings_frame([(frames.SET_INITIAL_WINDOW_SIZE, 0)]))
    block = block_of("/test.Echo/Big")
    for stream in (1, 3, 5):
        server.conn.receive(frames.frame(frames.HEADERS, 4, stream, block))
        server.conn.receive(frames.frame(frames.DATA, 1, stream, grpc_message(b"1500")))
    assert server.method("Big").handled[0] == 1
    assert server.stats.queued_bytes == 1505
    assert server.stats.held_bytes > 0
    server.conn.receive(frames.rst_stream(3, frames.CANCEL))
    server.conn.receive(frames.rst_stream(1, frames.CANCEL))
    server.conn.take_output()
    assert server.method("Big").handled[0] == 2
    assert (server.stats.held_bytes, server.method("Big").handled[1]) == (0, 1)
    server.conn.lost()
    assert server.stats.queued_bytes == 0


def test_no_connection_holds_up_the_others_for_longer_than_its_slice():
    server = Server()

    def slow(call, message):
        server.clock.now_ns += 15_000_000
        call.complete(message)

    server.router.unary("/test.Echo/Slow", slow)
    block = block_of("/test.Echo/Slow")
    server.conn.receive(frames.PREFACE + frames.settings_frame([]))
    for number in range(100):
        server.conn.receive(frames.frame(frames.HEADERS, 4, 2 * number + 1, block))
        server.conn.receive(frames.frame(frames.DATA, 1, 2 * number + 1, grpc_message(b"m")))
    method = server.method("Slow")
    assert method.handled[0] == 8
    turns = 0
    while server.conn.has_output():
        done = method.handled[0]
        server.conn.take_output()
        assert method.handled[0] - done <= 2
        turns += 1
    assert method.handled[0] == 100


def test_when_too_much_waits_to_be_read_who_reads_nothing_is_cut_off():
    limits = Limits()
    limits.max_total_queued_bytes = 10_000
    limits.share_bytes = 3000
    servers = [Server(limits) for _ in range(2)]
    servers[1].conn.stats = servers[0].stats
    for server in servers:
        server.conn.receive(frames.PREFACE + frames.settings_frame([(frames.SET_INITIAL_WINDOW_SIZE, 0)]))
        block = block_of("/test.Echo/Big")
        server.conn.receive(frames.frame(frames.HEADERS, 4, 1, block))
    servers[0].conn.receive(frames.frame(frames.DATA, 1, 1, grpc_message(b"9000")))
    servers[1].conn.receive(frames.frame(frames.DATA, 1, 1, grpc_message(b"2000")))
    for second in range(13):
        for server in servers:
            server.clock.now_ns += SECOND
            server.conn.tick(server.clock.now_ns)
        assert servers[0].conn.closed == (second > 10)
    assert not servers[1].conn.closed, "it has no more than its share"


def test_a_service_may_put_a_large_answer_off_until_others_are_read():
    limits = Limits()
    limits.max_total_queued_bytes = 1000
    one, other = Server(limits), Server(limits)
    other.conn.stats = one.stats
    calls = []

    def careful(call, message):
        calls.append(call)
        if not call.put_off():
            call.complete(message)

    other.router.unary("/test.Echo/Careful", careful)
    for server in (one, other):
        server.conn.receive(frames.PREFACE + frames.settings_frame([(frames.SET_INITIAL_WINDOW_SIZE, 0)]))
    one.conn.receive(frames.frame(frames.HEADERS, 4, 1, block_of("/test.Echo/Big")))
    one.conn.receive(frames.frame(frames.DATA, 1, 1, grpc_message(b"1500")))
    for stream in (1, 3):
        other.conn.receive(frames.frame(frames.HEADERS, 4, stream, block_of("/test.Echo/Careful")))
        other.conn.receive(frames.frame(frames.DATA, 1, stream, grpc_message(b"m")))
    method = other.method("Careful")
    for _ in range(5):
        other.conn.tick(other.clock.now_ns)
        other.conn.take_output()
    assert (method.started, method.handled[0]) == (2, 0)
    assert len(calls) > 4
    other.conn.receive(frames.rst_stream(3, frames.CANCEL))
    one.conn.receive(frames.window_update(1, 2000))
    one.conn.take_output()
    other.conn.tick(other.clock.now_ns)
    other.conn.take_output()
    assert (method.handled[0], method.handled[1]) == (1, 1)
    other.conn.lost()
    assert (one.stats.held_bytes, one.stats.queued_bytes) == (0, 0)


def test_calls_that_wait_for_their_turn_are_answered_however_their_messages_came():
    limits = Limits()
    limits.slice_ns = -1
    server = Server(limits)
    server.conn.receive(frames.PREFACE + frames.settings_frame([]))
    message = grpc_message(b"m" * 300)
    for stream in range(1, 81, 2):
        server.conn.receive(frames.frame(frames.HEADERS, 4, stream, block_of("/test.Echo/Unary")))
        if stream % 4 == 1:
            server.conn.receive(frames.frame(frames.DATA, 1, stream, message))
        else:
            server.conn.receive(frames.frame(frames.DATA, 0, stream, message[:100]))
            server.conn.receive(frames.frame(frames.DATA, 1, stream, message[100:]))
    while server.conn.has_output():
        server.conn.take_output()
    assert server.method("Unary").handled[0] == 40
    assert server.stats.held_bytes == 0
