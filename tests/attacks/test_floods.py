"""Floods of frames, requests and objects against the client port of a running server."""

from __future__ import annotations

import threading

import grpc
import pytest

from quorate.proto.rpc_pb2 import (
    Compare,
    LeaseGrantRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
    WatchCreateRequest,
    WatchRequest,
)
from quorate.wire import frames
from quorate.wire.headers import encode_fields, encode_integer
from tests.attacks.rig import KV, MB, OPTIONS, Raw, Watch, call, data, headers, raws, rpc_fields
from tests.wire.rig import goaway_of, split_frames

pytestmark = pytest.mark.process

WATCH = b"/etcdserverpb.Watch/Watch"
OPEN = headers(1, WATCH)
FLOODS = {
    "PING": frames.frame(frames.PING, 0, 0, bytes(8)),
    "SETTINGS": frames.settings_frame([]),
    "SETTINGS of many": frames.settings_frame([(99, 1)] * 64),
    "PRIORITY": frames.frame(frames.PRIORITY, 0, 3, bytes(5)),
    "WINDOW_UPDATE": frames.window_update(0, 1),
    "RST_STREAM": frames.frame(frames.RST_STREAM, 0, 1, bytes(4)),
    "empty DATA": frames.frame(frames.DATA, 0, 1, b""),
    "unknown": frames.frame(99, 0, 0, b"x" * 100),
    "CONTINUATION": frames.frame(frames.CONTINUATION, 0, 3, b""),
    "header table sizes": None,
}
EXPECTED = {
    "RST_STREAM": [frames.ENHANCE_YOUR_CALM, frames.PROTOCOL_ERROR],
    "header table sizes": [frames.COMPRESSION_ERROR],
}


def flood(client: Raw, piece: bytes, count: int) -> None:
    """Send a piece so often, or until the server has had enough."""
    batch = piece * max(1, 65536 // len(piece))
    sent = 0
    while sent < count and client.send(batch):
        sent += max(1, 65536 // len(piece))


@pytest.mark.parametrize("name", FLOODS)
def test_frames_that_bring_nothing(member, name):
    with Watch(member, 40) as watch:
        client = Raw(member.client_port)
        client.send(OPEN)
        if name == "CONTINUATION":
            client.send(frames.frame(frames.HEADERS, 0, 3, b""))
        seen = threading.Thread(target=client.read_to_end)
        seen.start()
        if name == "header table sizes":
            for number in range(1, 3000):
                if not client.send(frames.frame(frames.HEADERS, 5, 2 * number + 1, b"\x20\x3f\xe1\x1f" * 4000)):
                    break
        else:
            flood(client, FLOODS[name], 1_000_000)
        seen.join(30)
        assert goaway_of(client.seen)[0] in EXPECTED.get(name, [frames.ENHANCE_YOUR_CALM])
        client.close()
        watch.served()


def test_rapid_reset(member):
    """Calls that are reset at once; the server says goodbye, again and again."""
    with Watch(member, 60) as watch:
        for _ in range(10):
            client = Raw(member.client_port)
            client.drop()
            for start in range(0, 50_000, 100):
                part = b"".join(
                    [
                        call(2 * number + 1, KV + b"Range", RangeRequest(key=b"a").SerializeToString())
                        + frames.rst_stream(2 * number + 1, frames.CANCEL)
                        for number in range(start, start + 100)
                    ]
                )
                if not client.send(part):
                    break
            client.close()
        watch.served()


def test_header_bombs(member):
    bomb = encode_fields(rpc_fields(KV + b"Range"))
    bomb += b"\x40\x01a" + encode_integer(4000, 0x7F, 0) + b"z" * 4000 + b"\xbe" * 10_000
    with Watch(member, 60) as watch:
        for _ in range(200):
            client = Raw(member.client_port)
            client.send(frames.frame(frames.HEADERS, 5, 1, bomb))
            assert goaway_of(client.read_to_end())[0] == frames.ENHANCE_YOUR_CALM
            client.close()
        watch.served()


def test_large_header_lists_that_are_all_different(member):
    """Each list is as large as is allowed, and fills the caches of a connection."""
    with Watch(member, 120) as watch, raws(member.client_port, 20) as clients:
        for client in clients:
            client.drop()
            for number in range(100):
                more = (b"x-%d" % number, b"v" * 900)
                client.send(headers(2 * number + 1, KV + b"Range", more, (b"x-big", b"w" * 12_000), end=True))
        watch.served()


def test_half_received_messages_of_many_streams(member):
    """Requests that never end: a connection keeps at most so much of them, and the listener too."""
    prefix = b"\0" + (2_000_000).to_bytes(4, "big")
    with Watch(member, 250) as watch, raws(member.client_port, 2) as clients:
        for client in clients:
            client.drop()
            client.send(frames.window_update(0, 1 << 20))
            for number in range(100):
                stream = 2 * number + 1
                part = headers(stream, KV + b"Put") + frames.frame(frames.DATA, 0, stream, prefix)
                part += frames.frame(frames.DATA, 0, stream, b"x" * 16384) * 60
                if not client.send(part):
                    break
        watch.served()


def test_gzip_bombs_and_garbage(member):
    import gzip

    bomb = gzip.compress(bytes(200 * MB), 9, mtime=0)
    assert len(bomb) < MB
    with Watch(member, 80) as watch:
        client = Raw(member.client_port)
        client.drop()
        for number in range(30):
            stream = 2 * number + 1
            message = bomb if number % 2 else bytes(range(256)) * 100
            body = b"\1" + len(message).to_bytes(4, "big") + message
            client.send(headers(stream, KV + b"Put", (b"grpc-encoding", b"gzip")))
            for at in range(0, len(body), 16384):
                piece = body[at : at + 16384]
                client.send(frames.frame(frames.DATA, 1 if at + 16384 >= len(body) else 0, stream, piece))
        watch.served()
        client.close()


def deep_txn(levels: int) -> bytes:
    """Txn{success: [request_txn: Txn{...}]} so many levels deep."""

    def field(number: int, content: bytes) -> bytes:
        return encode_integer(number << 3 | 2, 0x7F, 0) + varint(len(content)) + content

    def varint(value: int) -> bytes:
        out = bytearray()
        while value >= 128:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        return bytes([*out, value])

    body = b""
    for _ in range(levels):
        body = field(2, field(4, body))
    return body


def test_deeply_nested_transactions_and_many_groups(member):
    with Watch(member, 220) as watch:
        client = Raw(member.client_port)
        client.drop()
        for number, body in enumerate([deep_txn(40), deep_txn(5000), b"\x0b" * 500_000, b"\x12\x00" * 700_000] * 3):
            client.send(call(2 * number + 1, KV + b"Txn", body))
        watch.served()
        client.close()


def test_many_watchers_on_one_stream_and_many_streams(member):
    create = WatchRequest(create_request=WatchCreateRequest(key=b"w", range_end=b"x")).SerializeToString()
    with Watch(member, 200) as watch:
        client = Raw(member.client_port)
        client.drop()
        client.send(frames.window_update(0, 1 << 30) + frames.settings_frame([(4, 1 << 30)]) + OPEN)
        for _ in range(20):
            client.send(data(1, create, end=False) * 500)
            watch.served(1)
        for stream in range(3, 4003, 2):
            client.send(headers(stream, WATCH) + data(stream, create, end=False))
        with grpc.insecure_channel(member.endpoint, options=OPTIONS) as channel:
            put = channel.unary_unary("/etcdserverpb.KV/Put", PutRequest.SerializeToString)
            for _ in range(5):
                put(PutRequest(key=b"w1", value=b"v"), timeout=60)
        watch.served()
        client.close()


def test_leases_and_small_transactions_by_the_thousand(member):
    with Watch(member, 120) as watch:
        clients = [Raw(member.client_port) for _ in range(4)]
        compare = Compare(key=b"t", target=Compare.VERSION, version=0)
        op = RequestOp(request_put=PutRequest(key=b"t", value=b"1"))
        txn = TxnRequest(compare=[compare], failure=[op]).SerializeToString()
        grant = LeaseGrantRequest(TTL=600).SerializeToString()
        for client in clients:
            client.drop()
            for number in range(2000):
                stream = 4 * number + 1
                part = call(stream, b"/etcdserverpb.Lease/LeaseGrant", grant)
                client.send(part + call(stream + 2, KV + b"Txn", txn))
        watch.served()
        for client in clients:
            client.close()


def test_stream_limit():
    """--max-concurrent-streams is told and kept."""
    from tests.oracle import Member

    small = Member("ours", flags=["--max-concurrent-streams=10"])
    try:
        small.start()
        client = Raw(small.client_port)
        for stream in range(1, 41, 2):
            client.send(headers(stream, WATCH))
        client.send(call(41, b"/etcdserverpb.Nothing/Here", b""))
        while not any(kind == frames.RST_STREAM and stream == 39 for kind, _, stream, _ in whole_frames(client.seen)):
            assert client.read()
        found = whole_frames(client.seen)
        refused = {stream for kind, _, stream, code in found if kind == frames.RST_STREAM and code == b"\0\0\0\x07"}
        assert refused >= set(range(21, 40, 2))
        assert not refused & set(range(1, 20, 2))
        settings = next(payload for kind, flags, _, payload in found if kind == frames.SETTINGS and not flags)
        assert b"\0\x03\0\0\0\x0a" in settings
        client.close()
    finally:
        small.close()


def whole_frames(seen: bytes) -> list[tuple[int, int, int, bytes]]:
    """The frames in what was read so far, without one that is not all there yet."""
    at = 0
    while len(seen) - at >= 9 and len(seen) - at >= 9 + int.from_bytes(seen[at : at + 3], "big"):
        at += 9 + int.from_bytes(seen[at : at + 3], "big")
    return split_frames(seen[:at])
