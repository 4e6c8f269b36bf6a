"""Targets of the wire room: frames, header blocks and their cache, gRPC messages, protobuf scanning, HTTP/1."""

from __future__ import annotations

import gzip
import hashlib

import h11
import hpack
from google.protobuf.message import DecodeError

from quorate.errors import RpcError
from quorate.proto.kv_pb2 import KeyValue
from quorate.wire import frames, grpc
from quorate.wire.client import ClientConnection
from quorate.wire.frames import Http2Error, Limits, TransportStats
from quorate.wire.headers import HeaderDecoder, encode_fields
from quorate.wire.http1 import Http1Connection
from quorate.wire.protobuf import BYTES, VARINT, FieldScanner, bytes_field, signed, varint_field
from quorate.wire.web import STREAMED, FunctionHandler
from tests.fuzz.target import Cutter, cut, piece, target
from tests.wire.rig import Clock, Server, grpc_message

LIMITS = ("bad integer in a header block", "header list too large", "table size update out of place")
GREETING = frames.PREFACE + frames.settings_frame([])


def _fields(path: bytes, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b"content-type", b"application/grpc")]
    return [*fields, (b"te", b"trailers"), *more]


def _blocks() -> list[bytes]:
    encoder = hpack.Encoder()
    plain = [
        encode_fields(_fields(b"/test.Echo/" + name, *more))
        for name in (b"Unary", b"Bidi", b"Hang", b"ClientStream", b"Nope")
        for more in ((), ((b"grpc-timeout", b"5m"), (b"grpc-encoding", b"gzip"), (b"token", b"abc.def")))
    ]
    coded = [
        encoder.encode(
            [(name.decode(), value.decode()) for name, value in _fields(b"/test.Echo/Unary", (b"x-a", b"b"))]
        )
        for _ in range(2)
    ]
    web = encode_fields([(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/version"), (b"host", b"h")])
    answer = encode_fields([(b":status", b"200"), (b"content-type", b"application/grpc")])
    end = encode_fields([(b"grpc-status", b"0"), (b"grpc-message", b"all%20well")])
    return [*plain, *coded, web, answer, end]


# Frames as a program: kind, flags, stream, payload behind its length; so a mutation changes what a frame says, and
# rarely the framing itself. A kind above 200 puts the payload in as it stands.


def _program_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return bytes([kind, flags, stream]) + piece(payload)


def _frames_of(cutter: Cutter) -> list[bytes]:
    out = []
    while cutter:
        kind, flags, stream = cutter.byte(), cutter.byte(), cutter.byte()
        payload = cutter.piece()
        if kind > 200:
            out.append(payload)
        else:
            out.append(frames.frame(kind % 12, flags, stream if stream < 250 else 2**31 - 1, payload[:16384]))
    return out


def _server_programs() -> list[bytes]:
    programs = []
    blocks = _blocks()
    message = grpc_message(b"hello")
    for number, block in enumerate(blocks):
        stream = 2 * (number % 3) + 1
        call = _program_frame(frames.HEADERS, 4, stream, block) + _program_frame(frames.DATA, 1, stream, message)
        split = _program_frame(frames.HEADERS, 0, stream, block[:7])
        split += _program_frame(frames.CONTINUATION, 4, stream, block[7:])
        programs += [bytes([7]) + call, bytes([200]) + split + _program_frame(frames.RST_STREAM, 0, stream, bytes(4))]
    controls = _program_frame(frames.PING, 0, 0, bytes(8)) + _program_frame(frames.WINDOW_UPDATE, 0, 0, b"\0\0\1\0")
    controls += _program_frame(frames.SETTINGS, 0, 0, b"\0\4\0\0\0\0") + _program_frame(frames.GOAWAY, 0, 0, bytes(8))
    controls += _program_frame(frames.PRIORITY, 0, 3, b"\0\0\0\1\x10")
    zipped = gzip.compress(b"hello" * 9, mtime=0)
    body = b"\1" + len(zipped).to_bytes(4, "big") + zipped
    zipped_call = _program_frame(frames.HEADERS, 4, 1, blocks[1]) + _program_frame(frames.DATA, 1, 1, body)
    padded = _program_frame(frames.HEADERS, 0x2C, 1, b"\2\0\0\0\0\0" + blocks[0] + b"pp")
    padded += _program_frame(frames.DATA, 9, 1, b"\1" + message + b"p")
    many = b"".join([_program_frame(frames.HEADERS, 5, stream, blocks[10]) for stream in range(1, 30, 2)])
    return [*programs, b"\x01" + controls, b"\xff" + zipped_call + controls, b"\x0b" + padded, b"\xff" + many]


@target(_server_programs)
def server_frames(data: bytes) -> None:
    """A server takes any frames in any pieces: no exception, no handler error, each call counted once, nothing kept."""
    cutter = Cutter(data)
    step = cutter.byte() + 1
    server = Server()
    server.conn.http = FunctionHandler(lambda request, reply: reply.respond(200, [], b"hello"))
    for part in cut(GREETING + b"".join(_frames_of(cutter)), step):
        server.conn.receive(part)
        server.clock.now_ns += 3_000_000
        server.conn.tick(server.clock.now_ns)
    for call, message in server.service.hanging:
        call.complete(message)
    server.conn.take_output()
    assert server.stats.handler_errors == 0
    conn = server.conn
    assert all(not stream.done for stream in conn.streams.values())
    conn.lost()
    assert (conn.held_bytes, conn.queued_bytes, len(conn.streams)) == (0, 0, 0)
    for path, method in server.router.methods.items():
        assert method.started == sum(method.handled), path


def _client_programs() -> list[bytes]:
    answer, end = _blocks()[-2:]
    whole = _program_frame(frames.HEADERS, 4, 1, answer) + _program_frame(frames.DATA, 0, 1, grpc_message(b"hi"))
    whole += _program_frame(frames.HEADERS, 5, 1, end)
    refused = _program_frame(frames.RST_STREAM, 0, 3, b"\0\0\0\7") + _program_frame(
        frames.GOAWAY, 0, 0, bytes(8) + b"x"
    )
    push = _program_frame(frames.PUSH_PROMISE, 4, 1, bytes(4))
    return [
        b"\xff" + whole + refused,
        b"\x05" + whole,
        b"\xff" + push,
        b"\x20" + _program_frame(frames.HEADERS, 5, 5, end),
    ]


@target(_client_programs)
def client_frames(data: bytes) -> None:
    """A client takes any frames: no exception, and each of its calls ends exactly once."""
    cutter = Cutter(data)
    step = cutter.byte() + 1
    conn = ClientConnection(Limits(), Clock(), TransportStats(), b"localhost")
    ends: list[object] = []
    for path in (b"/a", b"/b", b"/c"):
        call = conn.call(path, [], None, lambda message: None, lambda error, trailers: ends.append(error), 10**9)
        call.send(b"request")
    for part in cut(frames.settings_frame([]) + b"".join(_frames_of(cutter)), step):
        conn.receive(part)
    conn.take_output()
    conn.lost()
    assert (conn.held_bytes, conn.queued_bytes, len(conn.streams)) == (0, 0, 0)
    assert len(ends) == 3


def _block_lists() -> list[bytes]:
    blocks = _blocks()
    encoder = hpack.Encoder()
    long = encoder.encode([("x-long", "value" * 30), ("x-coded", "".join(map(chr, range(32, 127))))])
    resized = b"\x20" + b"\x3f\xe1\x1f" + blocks[0]
    return [b"".join(map(piece, blocks[:4])), b"".join(map(piece, blocks[10:])), piece(long) * 3, piece(resized)]


@target(_block_lists)
def header_blocks(data: bytes) -> None:
    """Our header decoder and the library's give the same fields; what only ours refuses is a limit of ours."""
    ours, theirs = HeaderDecoder(1 << 20), hpack.Decoder(1 << 20)
    theirs.max_allowed_table_size = 4096
    cutter = Cutter(data)
    while cutter:
        block = cutter.piece()
        found: list[tuple[bytes, bytes]] | None = None
        expected: list[tuple[bytes, bytes]] | None = None
        text = ""
        try:
            found = ours.decode(block)
        except Http2Error as error:
            text = error.text
        try:
            expected = [(bytes(name), bytes(value)) for name, value in theirs.decode(block, raw=True)]
        except (hpack.HPACKError, UnicodeDecodeError):
            pass
        if expected is None or found is None:
            assert found is None, "the library refuses what we take"
            assert expected is None or text in LIMITS, text
            return
        assert found == expected
        assert HeaderDecoder(1 << 21).decode(encode_fields(found)) == found


@target(lambda: [bytes([1, 0, 5]) + data for data in _block_lists()] + [bytes([0, 9, 1, 2]) * 8])
def header_cache(data: bytes) -> None:
    """A connection that keeps decoded header blocks answers exactly as one that decodes each anew."""
    cutter = Cutter(data)
    order = cutter.take(cutter.byte() % 24)
    blocks = _blocks()
    while cutter:
        blocks.append(cutter.piece())
    kept, anew = Server(), Server()
    kept.conn.receive(GREETING)
    anew.conn.receive(GREETING)
    for number, choice in enumerate([*order, *range(10, len(blocks)), *range(10, len(blocks))]):
        part = frames.frame(frames.HEADERS, 5, 2 * number + 1, blocks[choice % len(blocks)])
        anew.conn._heads.clear()
        anew.conn._reader._known.clear()
        kept.conn.receive(part)
        anew.conn.receive(part)
        assert kept.conn.take_output() == anew.conn.take_output()
        assert kept.conn.closed == anew.conn.closed


# gRPC messages


def _bodies() -> list[bytes]:
    zipped = gzip.compress(b"z" * 300, mtime=0)
    coded = b"\1" + len(zipped).to_bytes(4, "big") + zipped
    plain = grpc_message(b"") + grpc_message(b"abc") + grpc_message(b"x" * 400)
    return [
        b"\3" + plain,
        b"\xff" + coded + plain,
        b"\1" + coded[:-3],
        b"\x20" + plain + b"\2\0\0\0\0",
        b"\7" + b"\0\0\x20\0\0",
    ]


def _naive_messages(body: bytes, limit: int) -> tuple[list[bytes], int]:
    """The messages in a body and how it ends: 0 well, else a status code."""
    messages: list[bytes] = []
    at = 0
    while len(body) - at >= 5:
        length = int.from_bytes(body[at + 1 : at + 5], "big")
        if length > limit:
            return messages, 8
        if body[at] > 1:
            return messages, 13
        message = body[at + 5 : at + 5 + length]
        if len(message) < length:
            break
        at += 5 + length
        if body[at - 5 - length]:
            try:
                message = grpc.gunzip(message, limit)
            except RpcError as error:
                return messages, error.code
        messages.append(message)
    return messages, 0 if at == len(body) else 2


@target(_bodies)
def grpc_messages(data: bytes) -> None:
    """However a body is cut into DATA frames, the messages and the status are those of the body as a whole."""
    step = max(1, data[0] if data else 1)
    body = data[1:4000]
    limits = Limits(max_receive_bytes=1000)
    server = Server(limits)
    seen: list[bytes] = []
    server.router.stream("/test.Echo/Take", "bidi_stream", lambda call: setattr(call, "on_message", seen.append))
    block = encode_fields(_fields(b"/test.Echo/Take", (b"grpc-encoding", b"gzip")))
    server.conn.receive(GREETING + frames.frame(frames.HEADERS, 4, 1, block))
    parts = cut(body, step)
    for number, part in enumerate(parts):
        server.conn.receive(frames.frame(frames.DATA, 1 if number == len(parts) - 1 else 0, 1, part))
    method = server.router.methods[b"/test.Echo/Take"]
    expected, code = _naive_messages(body, 1000)
    assert seen == expected
    if parts and code:
        assert method.handled[code] == 1, code
    assert not server.conn.closed
    server.conn.lost()
    assert server.conn.held_bytes == 0


def _records() -> list[bytes]:
    full = KeyValue(key=b"k", create_revision=2, mod_revision=2**40, version=3, value=b"v" * 50, lease=-1)
    unknown = full.SerializeToString() + varint_field(99, 7) + bytes_field(100, b"more") + b"\x0d1234" + b"\x0912345678"
    return [full.SerializeToString(), unknown, KeyValue(key=b"a").SerializeToString(), b"\x0a\x00", b"\x0b\x0c"]


@target(_records)
def scanned_fields(data: bytes) -> None:
    """The scanner and the protobuf library see the same fields; what it refuses has groups or is malformed."""
    scanner = FieldScanner(data)
    seen: dict[tuple[int, int], object] = {}
    try:
        while scanner.next():
            assert scanner.tag_at < scanner.start <= scanner.end <= len(data)
            value: object = scanner.value if scanner.wire == VARINT else scanner.content()
            seen[scanner.number, scanner.wire] = value
    except ValueError:
        return
    message = KeyValue()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return  # tags and lengths of more than five bytes, and lengths beyond 2**31, are refused by the library alone
    assert message.key == seen.get((1, BYTES), b"")
    assert message.value == seen.get((5, BYTES), b"")
    assert message.lease == signed(seen.get((6, VARINT), 0))  # type: ignore[arg-type]
    assert message.mod_revision == signed(seen.get((3, VARINT), 0))  # type: ignore[arg-type]


# HTTP/1


def _requests() -> list[bytes]:
    get = b"GET /version HTTP/1.1\r\nHost: h\r\n\r\n"
    post = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
    chunked = (
        b"POST /s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\nA: b\r\n\r\n"
    )
    wait = b"PUT /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab"
    old = b"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    return [b"\3" + get + get, b"\xff" + post + get, b"\x05" + chunked + get, b"\xff" + wait + old, b"\1" + old + get]


class _Handler(FunctionHandler):
    def __init__(self) -> None:
        super().__init__(self._handle)
        self.bodies: list[bytes] = []

    def body_limit(self, request: object) -> int:
        return STREAMED if request.path() == b"/s" else 1000  # type: ignore[attr-defined]

    def _handle(self, request: object, reply: object) -> None:
        if request.path() != b"/s":  # type: ignore[attr-defined]
            self.bodies.append(request.body)  # type: ignore[attr-defined]
            reply.respond(200, [], b"hello")  # type: ignore[attr-defined]
            return
        parts: list[bytes] = []

        def over() -> None:
            self.bodies.append(b"".join(parts))
            reply.respond(200, [], b"streamed")  # type: ignore[attr-defined]

        request.on_body = parts.append  # type: ignore[attr-defined]
        request.on_body_end = over  # type: ignore[attr-defined]


def _serve_http1(pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    stats = TransportStats()
    handler = _Handler()
    conn = Http1Connection(handler, Limits(), Clock(), "1.2.3.4:5", stats)
    output = b""
    for part in pieces:
        conn.receive(part)
        while conn.has_output():
            output += conn.take_output()
    conn.receive_eof()
    output += conn.take_output()
    conn.lost()
    assert conn.closed
    assert stats.handler_errors == 0
    return handler.bodies, output


@target(_requests)
def http1_requests(data: bytes) -> None:
    """Bytes to an HTTP/1 server: no exception, the same bodies and replies however cut, replies well formed."""
    step = max(1, data[0] if data else 1)
    body = data[1:4000]
    found, output = _serve_http1(cut(body, step))
    whole, whole_output = _serve_http1([body] if body else [])
    assert found == whole
    assert hashlib.sha1(output).digest() == hashlib.sha1(whole_output).digest()
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    client.send(h11.EndOfMessage())
    if output and b"HEAD" not in body:
        client.receive_data(output)
        event = client.next_event()
        if isinstance(event, h11.InformationalResponse):
            event = client.next_event()
        assert isinstance(event, h11.Response) or event is h11.NEED_DATA
