"""One HTTP request in the client's role: framings, pieces, sources, silence, nonsense."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.peer.exchange import Exchange, Field, Reply, Source, WholeReply, request_head


class Clock:
    now = 1

    def __call__(self) -> int:
        return self.now


class Heard(Reply):
    def __init__(self) -> None:
        self.status = 0
        self.headers: list[Field] = []
        self.body = b""
        self.ends: list[str] = []

    def on_head(self, status: int, headers: list[Field]) -> None:
        self.status = status
        self.headers = headers

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_end(self, error: str) -> None:
        self.ends.append(error)


class Pieces(Source):
    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.closes = 0

    def next_piece(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def close(self) -> None:
        self.closes += 1


def exchange(source: Source | None = None) -> tuple[Exchange, Heard, Clock]:
    clock, heard = Clock(), Heard()
    head = request_head(b"GET", "/x", "h:1", [(b"A", b"b")], -1 if source else 0)
    made = Exchange(clock, head, b"", source, heard, 5)
    made.wants_write = lambda _: None
    return made, heard, clock


def test_the_request() -> None:
    made, _, _ = exchange()
    assert made.take_output() == b"GET /x HTTP/1.1\r\nHost: h:1\r\nA: b\r\n\r\n"
    assert not made.has_output()
    assert request_head(b"POST", "/", "h", [], 0).endswith(b"Content-Length: 0\r\n\r\n")


def test_a_source_is_pulled_piece_by_piece() -> None:
    source = Pieces([b"one", b"three"])
    made, _, _ = exchange(source)
    sent = b""
    while made.has_output():
        sent += made.take_output()
    assert sent.endswith(b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n5\r\nthree\r\n0\r\n\r\n")
    assert source.closes == 1


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n003\r\nllo\r\n0\r\nT: 1\r\n\r\n",
            b"hello",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nA: b\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n", b""),
    ],
)
def test_framings_in_pieces_of_any_size(data: bytes, body: bytes) -> None:
    for size in (1, 2, 3, 7, len(data)):
        made, heard, _ = exchange()
        for start in range(0, len(data), size):
            made.receive(data[start : start + size])
        assert (heard.body, heard.ends) == (body, [""])
        assert made.closed
        made.receive(b"more")
        made.lost()
        assert heard.ends == [""]


def test_a_body_up_to_the_end_of_the_connection() -> None:
    made, heard, _ = exchange()
    made.receive(b"HTTP/1.0 200 OK\r\n\r\nhel")
    made.receive(b"lo")
    assert heard.ends == []
    made.receive_eof()
    assert (heard.body, heard.ends) == (b"hello", [""])


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "EOF"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "unexpected EOF"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "unexpected EOF"),
        (b"SSH-2.0\r\n\r\n", "malformed HTTP response"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "malformed HTTP response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "malformed content-length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "malformed chunked encoding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", "malformed chunked encoding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 3000, "malformed chunked encoding"),
        (b"x" * 70_000, "header is too long"),
    ],
)
def test_what_goes_wrong_is_told_once(data: bytes, error: str) -> None:
    source = Pieces([b"never"])
    made, heard, _ = exchange(source)
    if data:
        made.receive(data)
    made.lost()
    assert heard.ends == [error]
    assert source.closes == 1


def test_silence_ends_it_and_progress_does_not() -> None:
    made, heard, clock = exchange()
    made.tick(1000)
    assert not made.closed, "nothing is due before there is a connection"
    made.take_output()
    clock.now = 5
    made.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    made.tick(10)
    assert not made.closed
    made.tick(11)
    assert heard.ends == ["i/o timeout"]


def test_a_cancelled_exchange_says_nothing() -> None:
    source = Pieces([b"never"])
    made, heard, _ = exchange(source)
    made.cancel()
    made.refused("no")
    assert (heard.ends, source.closes, made.closed) == ([], 1, True)


def test_a_response_beyond_its_limit_is_an_error() -> None:
    got: list[tuple[int, bytes, str]] = []
    reply = WholeReply(4, lambda status, _headers, body, error: got.append((status, body, error)))
    made = Exchange(Clock(), b"", b"", None, reply, 5)
    made.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    assert got == [(0, b"", "response is too long")]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100), st.booleans())
def test_nothing_that_arrives_raises(data: bytes, sensible: bool) -> None:
    made, heard, _ = exchange()
    made.receive((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" if sensible else b"HTTP/1.1 ") + data)
    made.lost()
    assert len(heard.ends) == 1
