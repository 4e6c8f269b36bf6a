"""Bad input gets the error that real etcd gives, or a clean close, and the server goes on serving."""

from __future__ import annotations

import gzip
import random
import struct
from collections.abc import Callable

import pytest

from quorate.proto import rpc_pb2 as pb
from tests.parity.pair import Pair
from tests.parity.rawclient import Answer, prefixed, raw, request

pytestmark = [pytest.mark.oracle, pytest.mark.process]

GOOD = prefixed(pb.RangeRequest(key=b"k").SerializeToString())
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\x04\0\0\0\0\0"

REQUESTS: dict[str, Callable[[int], Answer]] = {
    "good": lambda port: request(port, GOOD),
    "content type with a suffix": lambda port: request(port, GOOD, content_type="application/grpc+proto"),
    "wrong content type": lambda port: request(port, GOOD, content_type="text/plain"),
    "unknown method": lambda port: request(port, GOOD, path="/etcdserverpb.KV/Nothing"),
    "unknown service": lambda port: request(port, GOOD, path="/nothing.Here/Range"),
    "malformed path": lambda port: request(port, GOOD, path="/nothing"),
    "invalid protobuf": lambda port: request(port, prefixed(b"\xff\xff\xff")),
    "wrong wire type": lambda port: request(port, prefixed(b"\x08\x01")),
    "length beyond the message": lambda port: request(port, prefixed(b"\x0a\x7fshort")),
    "compressed flag without an encoding": lambda port: request(port, prefixed(b"abc", flag=1)),
    "unknown encoding": lambda port: request(port, prefixed(b"abc", flag=1), headers=[("grpc-encoding", "rot13")]),
    "gzip": lambda port: request(port, prefixed(gzip.compress(GOOD[5:]), flag=1), headers=[("grpc-encoding", "gzip")]),
    "gzip that is none": lambda port: request(port, prefixed(b"abc", flag=1), headers=[("grpc-encoding", "gzip")]),
    "announced too large": lambda port: request(port, prefixed(b"abc", length=2**31)),
    "too large": lambda port: request(port, prefixed(b"\x0a" + b"\xff\xff\x7f" + b"x" * 2_097_151)),
    "truncated message": lambda port: request(port, prefixed(b"abc", length=100)),
    "truncated prefix": lambda port: request(port, b"\0\0\0"),
    "no message": lambda port: request(port, b""),
    "unknown flag in the prefix": lambda port: request(port, prefixed(GOOD[5:], flag=9)),
    "bad timeout": lambda port: request(port, GOOD, headers=[("grpc-timeout", "soon")]),
    "bad base64 in binary metadata": lambda port: request(port, GOOD, headers=[("x-bin", "!!!")]),
}

# The text after these words is the protobuf library's own.
LIBRARY_TEXT = ("grpc: error unmarshalling request:", "grpc: failed to decompress")


# What 3.5.1's gRPC library answers otherwise than the newer one of 3.6, which ours follows.
NEWER = {
    "wrong content type": Answer(http="404"),  # not gRPC: the HTTP paths are looked up, as etcd does behind TLS
    "malformed path": Answer(http="200", status="12", message='malformed method name: "/nothing"'),
    "no message": Answer(http="200", status="13"),
    "bad timeout": Answer(http="400", status="13"),
}


def comparable(answer: Answer) -> Answer:
    answer.message = answer.message or None  # an empty grpc-message says what none says
    for start in LIBRARY_TEXT:
        if answer.message and start in answer.message:
            answer.message = start
    return answer


@pytest.mark.parametrize("name", REQUESTS)
def test_requests(pair: Pair, name: str) -> None:
    ours = comparable(REQUESTS[name](pair.ours.member.client_port))
    if name in NEWER:
        expected = NEWER[name]
        ours.message = ours.message if expected.message else None
        assert ours == expected
    else:
        assert ours == comparable(REQUESTS[name](pair.real.member.client_port))
    check_serving(pair)


def frame(kind: int, flags: int, stream: int, payload: bytes, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


BROKEN = {
    "garbage": b"\x00\x01\x02garbage\xff\xfe" * 50,
    "a preface with one wrong byte": PREFACE[:-3] + b"X\r\n" + SETTINGS,
    "an oversized frame": PREFACE + SETTINGS + frame(0, 0, 1, b"", length=2**24 - 1) + b"x" * 1000,
    "data on stream 0": PREFACE + SETTINGS + frame(0, 0, 0, b"abc"),
    "data on an idle stream": PREFACE + SETTINGS + frame(0, 0, 7, b"abc"),
    "headers on an even stream": PREFACE + SETTINGS + frame(1, 4, 2, b"\x82\x86\x84"),
    "settings of a wrong length": PREFACE + SETTINGS + frame(4, 0, 0, b"abc"),
    "a short ping": PREFACE + SETTINGS + frame(6, 0, 0, b"abc"),
    "continuation out of the blue": PREFACE + SETTINGS + frame(9, 4, 1, b"\x82"),
    "invalid hpack": PREFACE + SETTINGS + frame(1, 5, 1, b"\xff\xff\xff\xff\xff\xff"),
    "a window that overflows": PREFACE + SETTINGS + frame(8, 0, 0, struct.pack(">I", 2**31 - 1)),
    "http/1 garbage": b"GET\r\n\r\n\r\n",
    "http/1 with a huge header": b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 2_000_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_connections_are_closed(pair: Pair, name: str) -> None:
    raw(pair.ours.member.client_port, BROKEN[name], finish=False)
    check_serving(pair)


@pytest.mark.parametrize("cut", [1, 5, 23, 24, 30, 40])
def test_a_client_that_goes_away(pair: Pair, cut: int) -> None:
    whole = PREFACE + SETTINGS + frame(1, 4, 1, b"\x83\x86" + b"\x00\x05:path\x05/a/b/")
    raw(pair.ours.member.client_port, whole[:cut], finish=True)
    check_serving(pair)


def test_random_bytes_never_stop_the_server(pair: Pair) -> None:
    rng = random.Random(7)
    for _ in range(150):
        start = rng.choice([b"", PREFACE, PREFACE + SETTINGS, b"GET / HTTP/1.1\r\n"])
        body = b"".join(
            frame(rng.randrange(12), rng.randrange(256), rng.choice([0, 1, 1, 3, 2]), rng.randbytes(rng.randrange(40)))
            for _ in range(rng.randrange(6))
        )
        raw(pair.ours.member.client_port, start + (body if rng.random() < 0.7 else rng.randbytes(60)), finish=True)
    check_serving(pair)


def check_serving(pair: Pair) -> None:
    answer = request(pair.ours.member.client_port, GOOD)
    assert (answer.http, answer.status) == ("200", "0")
