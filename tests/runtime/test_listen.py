"""Sockets: our listener against grpcio, curl, h2load and plain sockets; our connector against a grpcio server."""

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
from concurrent import futures

import grpc
import grpc.aio
import pytest
import trustme

from quorate.ports import NullLog
from quorate.runtime.listen import Connector, Listener
from quorate.runtime.loop import UvLoop
from quorate.runtime.tls.contexts import ServerContext
from quorate.runtime.tls.info import TlsInfo
from quorate.runtime.tls.serve import TlsGate
from quorate.wire import frames
from quorate.wire.frames import Limits
from quorate.wire.rpc import Router
from quorate.wire.web import HttpHandler
from tests.wire.rig import EchoService, goaway_of, split_frames

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Web(HttpHandler):
    """A few pages: one at once, one in pieces, one that never ends, one that counts its upload."""

    def __init__(self):
        self.open = []
        self.gone = 0

    def handle(self, request, reply):
        path = request.path()
        if path == b"/version":
            reply.respond(200, [(b"content-type", b"application/json")], b'{"etcdserver":"3.6.14"}')
        elif path == b"/endless":
            reply.start(200, [])
            reply.write(b"hello")
            reply.on_end = self.end
            self.open.append(reply)
        elif path == b"/flood":
            reply.start(200, [])
            for _ in range(200):
                reply.write(b"x" * 100_000)
            reply.end()
        elif path == b"/upload":
            reply.respond(200, [], b"%d" % len(request.body))
        else:
            reply.respond(404, [], b"404 page not found\n")

    def end(self):
        self.gone += 1


class World:
    """A listener with the echo service, its loop in a thread of its own."""

    def __init__(self, limits=None, info=None):
        self.loop = UvLoop()
        self.router = Router()
        self.service = EchoService(self.router)
        self.web = Web()
        self.limits = limits or Limits()
        self.listener = Listener(self.loop, self.router, self.web, self.limits)
        self.thread = threading.Thread(target=self.loop.run, daemon=True)
        self.thread.start()
        log = NullLog()
        gate = TlsGate(self.loop, ServerContext(info, log), log, "rejected", False) if info is not None else None
        self.await_(self.listener.start("127.0.0.1", 0, gate))
        self.port = self.listener.port
        self.target = f"127.0.0.1:{self.port}"

    def await_(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop.aio).result(10)

    def do(self, function):
        """Call on the loop and return the result."""

        async def call():
            return function()

        return self.await_(call())

    def until(self, condition, seconds=5.0):
        end = time.monotonic() + seconds
        while not self.do(condition):
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.005)

    def close(self):
        self.do(self.listener.close)
        self.until(lambda: not self.listener.hub.links)
        self.loop.aio.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture
def world():
    world = World()
    yield world
    world.close()


@pytest.fixture
def channel(world):
    with grpc.insecure_channel(world.target, options=UNLIMITED) as channel:
        yield channel


def method(channel, kind, name):
    return getattr(channel, kind)(f"/test.Echo/{name}", lambda m: m, lambda m: m)


# grpcio, blocking


def test_unary_calls_and_their_counts(world, channel):
    call = method(channel, "unary_unary", "Unary")
    assert call(b"hello", timeout=5) == b"hello"
    assert call(b"", timeout=5) == b""
    pending = [call.future(b"%d" % number, timeout=5) for number in range(500)]
    assert [future.result() for future in pending] == [b"%d" % number for number in range(500)]
    unary = world.router.methods[b"/test.Echo/Unary"]
    assert (unary.started, unary.received, unary.sent, unary.handled[0]) == (502,) * 4


def test_big_messages_beyond_the_windows(world, channel):
    big = bytes(range(256)) * 8000
    assert method(channel, "unary_unary", "Unary")(big, timeout=20) == big
    assert len(method(channel, "unary_unary", "Big")(b"30000000", timeout=30)) == 30_000_000
    with pytest.raises(grpc.RpcError) as caught:
        method(channel, "unary_unary", "Unary")(b"x" * 2_097_153, timeout=20)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == "grpc: received message larger than max (2097153 vs. 2097152)"


def test_server_streams(world, channel):
    messages = list(method(channel, "unary_stream", "ServerStream")(b"1000 3000", timeout=20))
    assert [len(message) for message in messages] == [3000] * 1000


def test_client_streams(world, channel):
    answer = method(channel, "stream_unary", "ClientStream")(iter([b"x" * 100_000] * 200), timeout=20)
    assert answer == b"200 20000000"


def test_bidirectional_streams(world, channel):
    def requests():
        for number in range(300):
            yield b"%d" % number

    answers = list(method(channel, "stream_stream", "Bidi")(requests(), timeout=20))
    assert answers == [b"%d" % number for number in range(300)]


def test_metadata_both_ways_and_statuses(world, channel):
    call = method(channel, "unary_unary", "Meta")
    assert call(b"token", metadata=[("token", "secret")], timeout=5) == b"secret"
    with pytest.raises(grpc.RpcError) as caught:
        method(channel, "unary_unary", "Fail")("nö: 100%".encode(), timeout=5)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "nö: 100%"
    with pytest.raises(grpc.RpcError) as caught:
        method(channel, "unary_unary", "Nope")(b"", timeout=5)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details() == "unknown method Nope for service test.Echo"
    with pytest.raises(grpc.RpcError) as caught:
        method(channel, "unary_unary", "Crash")(b"", timeout=5)
    assert caught.value.code() == grpc.StatusCode.INTERNAL


def test_deadlines_and_cancellation(world, channel):
    call = method(channel, "unary_unary", "Hang")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"", timeout=0.2)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    world.until(lambda: len(world.service.ended) == 1)
    pending = call.future(b"")
    world.until(lambda: len(world.service.hanging) == 2)
    pending.cancel()
    world.until(lambda: len(world.service.ended) == 2)
    hang = world.router.methods[b"/test.Echo/Hang"]
    assert sum(hang.handled) == 2


def test_the_server_keeps_deadlines_itself(world):
    with socket.create_connection(("127.0.0.1", world.port), timeout=10) as plain:
        from quorate.wire.headers import encode_fields
        from tests.wire.test_attacks import HELLO, data, fields

        block = encode_fields(fields(b"/test.Echo/Hang", (b"grpc-timeout", b"50m")))
        plain.sendall(HELLO + frames.frame(frames.HEADERS, 4, 1, block) + data(1, b""))
        before = time.monotonic()
        receive_until(plain, b"context deadline exceeded")
        assert 0.04 < time.monotonic() - before < 1
    assert len(world.service.ended) == 1


def test_gzip_requests(world):
    options = [*UNLIMITED, ("grpc.default_compression_algorithm", int(grpc.Compression.Gzip))]
    with grpc.insecure_channel(world.target, options=options) as channel:
        message = b"compress me " * 10_000
        assert method(channel, "unary_unary", "Unary")(message, timeout=5) == message
        answers = list(method(channel, "stream_stream", "Bidi")(iter([message] * 5), timeout=5))
        assert answers == [message] * 5
    with grpc.insecure_channel(world.target, options=UNLIMITED) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            method(channel, "unary_unary", "Unary")(message, timeout=5, compression=grpc.Compression.Deflate)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


# grpcio, asyncio


def test_the_asyncio_client_with_every_kind(world):
    async def talk():
        async with grpc.aio.insecure_channel(world.target, options=UNLIMITED) as channel:
            unary = method(channel, "unary_unary", "Unary")
            answers = await asyncio.gather(*[unary(b"%d" % n, timeout=10) for n in range(200)])
            assert answers == [b"%d" % n for n in range(200)]
            stream = method(channel, "unary_stream", "ServerStream")(b"50 100000", timeout=10)
            assert sum([len(message) async for message in stream]) == 5_000_000
            bidi = method(channel, "stream_stream", "Bidi")(timeout=10)
            for number in range(20):
                await bidi.write(b"%d" % number)
                assert await bidi.read() == b"%d" % number
            await bidi.done_writing()
            assert await bidi.code() == grpc.StatusCode.OK
            cancelled = method(channel, "stream_stream", "Bidi")()
            await cancelled.write(b"x")
            assert await cancelled.read() == b"x"
            cancelled.cancel()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await method(channel, "unary_unary", "Hang")(b"", timeout=0.1)
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED

    asyncio.run(talk())
    world.until(lambda: len(world.service.ended) == 2)


# curl, h2load, plain sockets


def curl(*words):
    return subprocess.run(["curl", "-sS", "--max-time", "10", *words], capture_output=True, check=True).stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge", "--http2"])
def test_curl(world, version):
    base = f"http://{world.target}"
    assert json.loads(curl(version, f"{base}/version")) == {"etcdserver": "3.6.14"}
    if version != "--http2-prior-knowledge":  # with which curl 7.88 cannot use a connection twice
        both = curl(version, f"{base}/version", f"{base}/nothing")
        assert both == b'{"etcdserver":"3.6.14"}404 page not found\n'
    assert curl(version, "--data-binary", "x" * 50_000, f"{base}/upload") == b"50000"
    assert len(curl(version, f"{base}/flood")) == 20_000_000
    assert b"200" in curl(version, "-I", f"{base}/version").splitlines()[0]


@pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load is not installed")
def test_h2load(world, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(b"\0\0\0\0\3abc")
    command = ["h2load", "-n", "5000", "-c", "5", "-m", "20", "-d", str(body), "-H", "content-type: application/grpc"]
    command += ["-H", "te: trailers", f"http://{world.target}/test.Echo/Unary"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "5000 succeeded, 0 failed" in output
    assert world.router.methods[b"/test.Echo/Unary"].handled[0] == 5000


def receive_until(plain, text):
    """Read up to a text; a connection that closes before it is an error, not a wait without end."""
    seen = b""
    while text not in seen:
        piece = plain.recv(65536)
        assert piece, seen
        seen += piece


def exchange(world, data, pause=0.0):
    """Send bytes, and return all that comes until the server closes."""
    with socket.create_connection(("127.0.0.1", world.port), timeout=10) as plain:
        for at in range(0, len(data), 1 if pause else len(data)):
            plain.sendall(data[at : at + (1 if pause else len(data))])
            time.sleep(pause)
        seen = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := plain.recv(65536):
                seen += piece
        return seen


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\x02\x00\x01", b"\0\0\0\0", b"PRX / HTTP/1.1\r\n\r\n", b"PRI * HTTP/9\r\n"]
)
def test_garbage_is_closed_cleanly(world, data):
    seen = exchange(world, data)
    assert seen == b"" or seen.startswith(b"HTTP/1.1 400") or goaway_of(seen)[0] == frames.PROTOCOL_ERROR
    assert json.loads(curl(f"http://{world.target}/version"))


def test_the_first_bytes_may_come_one_by_one(world):
    assert b"200 OK" in exchange(world, b"GET /version HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 0.001)
    assert b"200 OK" in exchange(world, b"POST /upload HTTP/1.0\r\nContent-Length: 2\r\n\r\nab", 0.001)
    seen = exchange(world, frames.PREFACE + frames.settings_frame([]) + frames.frame(9, 4, 1, b""), 0.001)
    assert goaway_of(seen) == (frames.PROTOCOL_ERROR, b"CONTINUATION without HEADERS")


def test_a_goaway_reaches_a_client_that_is_still_sending(world):
    flood = frames.PREFACE + frames.settings_frame([]) + frames.frame(frames.PING, 0, 0, bytes(8)) * 300_000
    with socket.create_connection(("127.0.0.1", world.port), timeout=10) as plain:
        sender = threading.Thread(target=send_quietly, args=(plain, flood))
        sender.start()
        seen = b""
        with contextlib.suppress(OSError):
            while piece := plain.recv(65536):
                seen += piece
        sender.join(10)
    kinds = {kind for kind, *_ in split_frames(seen)}
    assert frames.GOAWAY in kinds
    assert goaway_of(seen)[0] == frames.ENHANCE_YOUR_CALM


def send_quietly(plain, data):
    with contextlib.suppress(OSError):
        plain.sendall(data)


def test_a_client_that_never_reads_is_not_read_from_and_costs_little():
    limits = Limits()
    limits.max_queued_bytes = 4 << 20
    world = World(limits)
    try:
        from tests.wire.test_attacks import HELLO, data, headers

        with socket.create_connection(("127.0.0.1", world.port)) as plain:
            plain.settimeout(0.3)
            plain.sendall(HELLO + frames.window_update(0, 1 << 30) + frames.settings_frame([(4, 1 << 30)]))
            with contextlib.suppress(TimeoutError):
                for number in range(9_000):
                    stream = 2 * number + 1
                    plain.sendall(headers(stream, b"/test.Echo/Big") + data(stream, b"100000"))
            link = next(iter(world.listener.hub.links))
            world.until(lambda: link.read_paused)
            assert world.do(link.endpoint.backlog) < 8 << 20
            # Once it reads, all is served.
            total = 0
            plain.settimeout(5)
            while total < 30_000_000:
                piece = plain.recv(1 << 20)
                assert piece
                total += len(piece)
            world.until(lambda: world.router.methods[b"/test.Echo/Big"].sent > 100)
        world.until(lambda: not world.listener.hub.links)
    finally:
        world.close()


def test_an_endless_reply_ends_with_its_client(world):
    with socket.create_connection(("127.0.0.1", world.port), timeout=10) as plain:
        plain.sendall(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n")
        receive_until(plain, b"hello")
        world.do(lambda: world.web.open[0].write(b"more"))
        receive_until(plain, b"more")
    world.until(lambda: world.web.gone == 1)


def test_silent_clients_are_dropped():
    limits = Limits()
    limits.handshake_ns = 300_000_000
    world = World(limits)
    try:
        with contextlib.ExitStack() as stack:
            clients = []
            for start in (b"", b"PR", b"PRI * HTTP/2.0\r\n", b"GET / HT"):
                plain = stack.enter_context(socket.create_connection(("127.0.0.1", world.port), timeout=10))
                plain.sendall(start)
                clients.append(plain)
            for plain in clients:
                with contextlib.suppress(ConnectionResetError):
                    while plain.recv(65536):
                        pass
    finally:
        world.close()


# Drain


def test_drain_finishes_open_calls_and_refuses_new_connections(world, channel):
    slow = method(channel, "unary_unary", "Hang").future(b"slow", timeout=10)
    world.until(lambda: len(world.service.hanging) == 1)
    done = threading.Event()
    world.do(lambda: world.listener.drain(10_000_000_000, done.set))
    assert not done.wait(0.1)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", world.port), timeout=1)
    call, message = world.service.hanging[0]
    world.do(lambda: call.complete(message))
    assert slow.result() == b"slow"
    assert done.wait(10)


def test_drain_cuts_off_what_does_not_end(world, channel):
    slow = method(channel, "unary_unary", "Hang").future(b"slow", timeout=10)
    world.until(lambda: len(world.service.hanging) == 1)
    done = threading.Event()
    world.do(lambda: world.listener.drain(200_000_000, done.set))
    assert done.wait(10)
    with pytest.raises(grpc.RpcError) as caught:
        slow.result()
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


# TLS


def test_tls_with_grpcio_curl_and_our_client(tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    root, cert, key = (tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(str(root))
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    world = World(info=TlsInfo(str(cert), str(key)))
    try:
        credentials = grpc.ssl_channel_credentials(root.read_bytes())
        with grpc.secure_channel(f"localhost:{world.port}", credentials, options=UNLIMITED) as channel:
            assert method(channel, "unary_unary", "Unary")(b"x" * 500_000, timeout=10) == b"x" * 500_000
        for version in ("--http1.1", "--http2"):
            url = f"https://localhost:{world.port}/version"
            words = [version, "--cacert", str(root), "--resolve", f"localhost:{world.port}:127.0.0.1", url]
            assert json.loads(curl(*words)) == {"etcdserver": "3.6.14"}
    finally:
        world.close()


# Our connector


class Answers(grpc.GenericRpcHandler):
    """A grpcio server with the same methods as the echo service."""

    def service(self, details):
        name = details.method.rpartition("/")[2]
        if name == "Unary":
            return grpc.unary_unary_rpc_method_handler(lambda request, context: request)
        if name == "ServerStream":
            return grpc.unary_stream_rpc_method_handler(self.server_stream)
        if name == "ClientStream":
            return grpc.stream_unary_rpc_method_handler(lambda requests, context: b"%d" % sum(map(len, requests)))
        if name == "Bidi":
            return grpc.stream_stream_rpc_method_handler(lambda requests, context: requests)
        if name == "Fail":
            return grpc.unary_unary_rpc_method_handler(self.fail)
        if name == "Hang":
            return grpc.unary_unary_rpc_method_handler(lambda request, context: time.sleep(0.5) or b"")
        return None

    def server_stream(self, request, context):
        count, size = request.split()
        for _ in range(int(count)):
            yield b"m" * int(size)

    def fail(self, request, context):
        context.set_trailing_metadata([("x-more", "yes")])
        context.abort(grpc.StatusCode.OUT_OF_RANGE, request.decode())


@pytest.fixture
def other_server():
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Answers()], options=UNLIMITED)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait(5)


class Result:
    def __init__(self, conn, name, messages=(), timeout_ns=0):
        self.messages = []
        self.done = asyncio.get_running_loop().create_future()
        path = f"/test.Echo/{name}".encode()
        self.call = conn.call(path, [], None, self.messages.append, self.ended, timeout_ns)
        for message in messages:
            self.call.send(message)
        self.call.half_close()

    def ended(self, error, trailers):
        self.done.set_result((error.code, error.text) if error else (0, ""))
        self.trailers = dict(trailers)


def test_our_client_against_a_grpcio_server(other_server):
    loop = UvLoop()

    async def talk():
        connector = Connector(loop)
        conn = await connector.connect("127.0.0.1", other_server)
        unary = [Result(conn, "Unary", [b"%d" % number]) for number in range(100)]
        big = Result(conn, "Unary", [b"b" * 5_000_000])
        stream = Result(conn, "ServerStream", [b"300 10000"])
        upload = Result(conn, "ClientStream", [b"x" * 50_000] * 50)
        bidi = Result(conn, "Bidi", [b"1", b"22", b"333"])
        failed = Result(conn, "Fail", ["spät".encode()])
        late = Result(conn, "Hang", [b""], 100_000_000)
        results = [*unary, big, stream, upload, bidi, failed, late]
        outcomes = await asyncio.wait_for(asyncio.gather(*[result.done for result in results]), 20)
        assert outcomes[:-2] == [(0, "")] * 104
        assert outcomes[-2] == (11, "spät")
        assert outcomes[-1][0] == 4  # either side may notice first
        assert [result.messages for result in unary] == [[b"%d" % number] for number in range(100)]
        assert big.messages == [b"b" * 5_000_000]
        assert len(stream.messages) == 300
        assert upload.messages == [b"2500000"]
        assert bidi.messages == [b"1", b"22", b"333"]
        assert failed.trailers[b"x-more"] == b"yes"
        unknown = Result(conn, "Nope", [b""])
        assert (await unknown.done)[0] == 12
        conn.close()
        await asyncio.sleep(0.05)
        connector.close()

    try:
        loop.aio.run_until_complete(talk())
    finally:
        loop.close()


def test_our_client_against_our_server_and_its_end(world):
    async def talk():
        conn = await Connector(world.loop).connect("127.0.0.1", world.port)
        result = Result(conn, "Unary", [b"u" * 1_500_000])
        assert await result.done == (0, "")
        hanging = Result(conn, "Hang", [b""])
        while not world.service.hanging:
            await asyncio.sleep(0.001)
        world.listener.hub.abort_all()
        assert (await hanging.done)[0] == 14
        assert conn.closed

    world.await_(talk())
