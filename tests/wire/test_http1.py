"""The HTTP/1.1 server, without sockets."""

import random

import h11
import pytest

from quorate.wire.frames import Limits, TransportStats
from quorate.wire.http1 import Http1Connection
from quorate.wire.web import STREAMED, HttpHandler
from tests.wire.rig import SECOND, Clock


class Handler(HttpHandler):
    """Answers at once, later, or in pieces, by path."""

    def __init__(self):
        self.seen = []
        self.kept = []
        self.chunks = []
        self.gone = 0

    def body_limit(self, request):
        return STREAMED if request.path() == b"/stream" else super().body_limit(request)

    def handle(self, request, reply):
        self.seen.append((request.method, request.target, request.body))
        reply.on_end = self.end
        path = request.path()
        if path == b"/later":
            self.kept.append(reply)
        elif path == b"/stream":
            self.kept.append(reply)
            self.request = request
            request.on_body = self.chunks.append
            request.on_body_end = lambda: reply.respond(200, [], b"%d" % sum(map(len, self.chunks)))
        elif path == b"/pieces":
            self.kept.append(reply)
            reply.start(200, [(b"x-a", b"b")])
        elif path == b"/crash":
            raise ZeroDivisionError
        elif path == b"/bad":
            reply.respond(200, [(b"bad header", b"x\n")], b"")
        else:
            reply.respond(200, [(b"content-type", b"text/plain")], b"you said " + request.body)

    def end(self):
        self.gone += 1


class Rig:
    def __init__(self, limits=None):
        self.clock = Clock()
        self.handler = Handler()
        self.limits = limits or Limits()
        self.conn = Http1Connection(self.handler, self.limits, self.clock, "10.0.0.1:5", TransportStats())

    def send(self, data):
        self.conn.receive(data)
        output = self.conn.take_output()
        while self.conn.has_output():
            output += self.conn.take_output()
        return output

    def wait(self, seconds):
        self.clock.now_ns += seconds * SECOND
        self.conn.tick(self.clock.now_ns)


def get(path, more=""):
    return f"GET {path} HTTP/1.1\r\nHost: h\r\n{more}\r\n".encode()


def post(path, body, more=""):
    return f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


def parse(data, method="GET"):
    """Return (status, headers, body) of a reply, as h11's client sees it."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "h")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    status, headers, body = 0, {}, b""
    while True:
        event = client.next_event()
        if isinstance(event, h11.Response):
            status, headers = event.status_code, dict(event.headers)
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        else:
            return status, headers, body, isinstance(event, h11.EndOfMessage)


def test_requests_one_after_the_other():
    rig = Rig()
    rig.conn.date = lambda: b"Thu, 01 Jan 1970 00:00:00 GMT"
    status, headers, body, complete = parse(rig.send(get("/a")))
    assert (status, body, complete) == (200, b"you said ", True)
    assert headers[b"content-length"] == b"9"
    assert headers[b"date"].startswith(b"Thu")
    assert parse(rig.send(post("/b", b"hello")))[2] == b"you said hello"
    assert parse(rig.send(get("/a").replace(b"GET", b"HEAD")), "HEAD")[::2] == (200, b"")
    assert not rig.conn.closed
    assert parse(rig.send(get("/a", "Connection: close\r\n")))[2] == b"you said "
    assert rig.conn.closed


def test_chunked_bodies_and_expectations():
    rig = Rig()
    head = b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    assert rig.send(head) == b"HTTP/1.1 100 \r\n\r\n"
    assert parse(rig.send(b"3\r\nabc\r\n0\r\n\r\n"))[2] == b"you said abc"


def test_http_1_0_closes():
    rig = Rig()
    assert parse(rig.send(b"GET / HTTP/1.0\r\n\r\n"))[2] == b"you said "
    assert rig.conn.closed


def test_pipelined_requests_are_answered_in_order_however_they_come():
    data = b"".join(post(f"/p{number}", b"%d" % number) for number in range(40))
    whole = Rig().send(data)
    assert whole.count(b"HTTP/1.1 200") == 40
    chooser = random.Random(3)
    for _ in range(20):
        rig = Rig()
        cuts = sorted(chooser.sample(range(1, len(data)), 60))
        out = b"".join(rig.send(data[a:b]) for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True))
        assert out == whole
    rig = Rig()
    assert b"".join(rig.send(data[at : at + 1]) for at in range(len(data))) == whole


def test_thousands_of_pipelined_requests_do_not_nest():
    rig = Rig()
    assert rig.send(get("/") * 3000).count(b"HTTP/1.1 200") == 3000


def test_a_client_that_does_not_read_gets_one_reply_of_those_it_asked_for():
    rig = Rig()
    rig.conn.receive(get("/") * 3000)
    assert len(rig.handler.seen) == 1
    rig.conn.receive(get("/") * 10)
    assert rig.conn.reading_paused
    rig.conn.take_output()
    assert len(rig.handler.seen) == 2
    rig.conn.receive_eof()
    assert rig.send(b"").count(b"HTTP/1.1 200") == 3009
    assert rig.conn.closed


def test_a_late_reply_holds_the_next_request_back():
    rig = Rig()
    assert rig.send(get("/later") + get("/a")) == b""
    assert not rig.conn.reading_paused
    assert rig.send(get("/b")) == b""
    assert rig.conn.reading_paused
    rig.handler.kept[0].respond(404, [], b"late")
    out = rig.send(b"")
    assert not rig.conn.reading_paused
    assert out.index(b"late") < out.index(b"you said")
    assert out.count(b"HTTP/1.1 ") == 3
    assert [target for _, target, _ in rig.handler.seen] == [b"/later", b"/a", b"/b"]


def test_streamed_replies_are_chunked_and_their_end_is_seen():
    rig = Rig()
    out = rig.send(get("/pieces"))
    reply = rig.handler.kept[0]
    drained = []
    reply.on_drain = lambda: drained.append(1)
    reply.write(b"one")
    assert reply.queued_bytes() > 0
    out += rig.conn.take_output()
    assert drained == [1]
    reply.write(b"two")
    reply.end()
    out += rig.conn.take_output()
    status, headers, body, complete = parse(out)
    assert (status, body, complete) == (200, b"onetwo", True)
    assert headers[b"transfer-encoding"] == b"chunked"
    assert not rig.conn.closed
    rig.send(get("/pieces"))
    rig.conn.receive_eof()
    assert rig.conn.closed
    assert rig.handler.gone == 1


def test_a_broken_off_reply_closes():
    rig = Rig()
    out = rig.send(get("/pieces"))
    rig.handler.kept[0].write(b"x")
    rig.handler.kept[0].abort()
    assert rig.conn.closed
    assert not parse(out + rig.conn.take_output())[3]


def test_an_end_of_the_clients_side_still_gets_a_plain_reply():
    rig = Rig()
    rig.send(get("/later"))
    rig.conn.receive_eof()
    assert not rig.conn.closed
    rig.handler.kept[0].respond(200, [], b"ok")
    assert rig.conn.take_output().endswith(b"ok")
    assert rig.conn.closed
    rig = Rig()
    rig.conn.receive_eof()
    assert rig.conn.closed


def test_streamed_uploads():
    rig = Rig()
    rig.conn.receive(post("/stream", b"x" * 5_000_000)[:100_000])
    assert sum(map(len, rig.handler.chunks)) > 90_000
    rig.handler.request.pause_body()
    assert rig.conn.reading_paused
    rig.wait(1000)
    assert not rig.conn.closed
    rig.handler.request.resume_body()
    assert not rig.conn.reading_paused
    left = 5_000_000 - sum(map(len, rig.handler.chunks))
    assert parse(rig.send(b"x" * left))[2] == b"5000000"
    rig.send(post("/stream", b"x" * 100)[:-1])
    rig.conn.lost()
    assert rig.handler.gone == 1


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"garbage\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nBad Header: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3000000\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"a: b\r\n" * 20_000, 431),
    ],
)
def test_bad_requests_are_answered_and_closed(data, status):
    rig = Rig()
    assert parse(rig.send(data))[0] == status
    assert rig.conn.closed
    assert rig.send(get("/")) == b""


def test_chunked_bodies_have_the_limit_too():
    rig = Rig()
    head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    out = rig.send(head)
    for _ in range(50):
        out += rig.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    assert parse(out)[0] == 413
    assert rig.conn.closed


def test_a_failing_handler_is_a_500_and_told():
    rig = Rig()
    told = []
    rig.conn.handler_failed = lambda path, error: told.append(path)
    assert parse(rig.send(get("/crash")))[0] == 500
    assert told == [b"/crash"]
    assert parse(rig.send(get("/a")))[0] == 200
    rig.send(get("/bad"))
    assert rig.conn.closed


def test_time_limits():
    rig = Rig()
    rig.wait(9)
    assert not rig.conn.closed
    rig.wait(2)
    assert rig.conn.closed
    rig = Rig()
    rig.conn.receive(b"GET / HT")
    rig.wait(11)
    assert parse(rig.conn.take_output())[0] == 408
    rig = Rig()
    rig.conn.receive(post("/", b"12345")[:-1])
    rig.wait(61)
    assert parse(rig.conn.take_output())[0] == 408
    rig = Rig()
    rig.send(get("/"))
    rig.wait(299)
    assert not rig.conn.closed
    rig.wait(2)
    assert rig.conn.closed
    rig = Rig()
    rig.send(get("/later"))
    rig.wait(100_000)
    assert not rig.conn.closed


def test_drain():
    rig = Rig()
    rig.send(get("/"))
    rig.conn.drain()
    assert rig.conn.closed
    rig = Rig()
    rig.send(get("/later"))
    rig.conn.drain()
    assert not rig.conn.closed
    rig.handler.kept[0].respond(200, [], b"ok")
    assert parse(rig.conn.take_output())[1][b"connection"] == b"close"
    assert rig.conn.closed
