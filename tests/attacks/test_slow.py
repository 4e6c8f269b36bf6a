"""Clients that do not read, do not write, or do either too slowly."""

from __future__ import annotations

import grpc
import pytest

from quorate.proto.rpc_pb2 import PutRequest, RangeRequest, WatchCreateRequest, WatchRequest
from quorate.wire import frames
from tests.attacks.rig import KV, MB, OPTIONS, Raw, Watch, call, data, headers, raws

pytestmark = pytest.mark.process

EVERYTHING = RangeRequest(key=b"big/", range_end=b"big0").SerializeToString()
VALUES = 20


@pytest.fixture(scope="module")
def big(member):
    """20 MB under big/."""
    with grpc.insecure_channel(member.endpoint, options=OPTIONS) as channel:
        put = channel.unary_unary("/etcdserverpb.KV/Put", PutRequest.SerializeToString)
        for number in range(VALUES):
            put(PutRequest(key=b"big/%d" % number, value=bytes([number]) * MB), timeout=30)
    return member


def test_big_ranges_whose_answers_find_no_window(big):
    """3 GB of answers are asked for by one client that opens no window."""
    with Watch(big, 250) as watch:
        client = Raw(big.client_port)
        client.send(frames.settings_frame([(frames.SET_INITIAL_WINDOW_SIZE, 0)]))
        for number in range(150):
            client.send(call(2 * number + 1, KV + b"Range", EVERYTHING), 2)
        watch.served(20)
        client.close()


def test_big_ranges_of_a_client_that_does_not_read(big):
    with Watch(big, 250) as watch:
        client = Raw(big.client_port, receive_buffer=4096)
        client.send(frames.window_update(0, 1 << 30) + frames.settings_frame([(4, 1 << 30)]))
        for number in range(150):
            client.send(call(2 * number + 1, KV + b"Range", EVERYTHING), 2)
        watch.served(20)
        client.close()


def test_big_ranges_of_many_clients_that_do_not_read(big):
    with Watch(big, 800) as watch, raws(big.client_port, 60, receive_buffer=4096) as clients:
        for client in clients:
            client.send(call(1, KV + b"Range", EVERYTHING) + call(3, KV + b"Range", EVERYTHING))
        watch.served(20)


@pytest.mark.parametrize("path", [b"/metrics", b"/version", b"/nothing"])
def test_pipelined_http1_requests_whose_answers_are_not_read(member, path):
    request = b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n" % path
    with Watch(member, 60) as watch:
        client = Raw(member.client_port, request * 20, receive_buffer=4096)
        for _ in range(200):
            if not client.send(request * 500, 0.2):
                break
        watch.served(20)
        client.close()


def test_web_requests_over_http2_whose_answers_are_not_read(member):
    from quorate.wire.headers import encode_fields

    block = encode_fields([(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/metrics"), (b"host", b"h")])
    with Watch(member, 100) as watch:
        client = Raw(member.client_port)
        client.send(frames.settings_frame([(frames.SET_INITIAL_WINDOW_SIZE, 0)]))
        for start in range(0, 8000, 100):
            part = b"".join([frames.frame(frames.HEADERS, 5, 2 * n + 1, block) for n in range(start, start + 100)])
            if not client.send(part, 1):
                break
        watch.served(20)
        client.close()


def test_watches_of_a_hot_key_that_are_not_read(member):
    """100 connections with 20 watch streams each, of a key that is written all the while."""
    create = WatchRequest(create_request=WatchCreateRequest(key=b"hot")).SerializeToString()
    with Watch(member, 700) as watch, raws(member.client_port, 100, receive_buffer=4096) as clients:
        for client in clients:
            path = b"/etcdserverpb.Watch/Watch"
            streams = range(1, 41, 2)
            client.send(b"".join([headers(stream, path) + data(stream, create, end=False) for stream in streams]))
        with grpc.insecure_channel(member.endpoint, options=OPTIONS) as channel:
            put = channel.unary_unary("/etcdserverpb.KV/Put", PutRequest.SerializeToString)
            for number in range(300):
                put(PutRequest(key=b"hot", value=bytes([number % 256]) * 20_000), timeout=60)
        watch.served()


def test_watch_streams_of_one_connection_that_are_not_read(member):
    """2000 streams of one connection, each of which may queue a little."""
    create = WatchRequest(create_request=WatchCreateRequest(key=b"hot")).SerializeToString()
    with Watch(member, 200) as watch:
        client = Raw(member.client_port, receive_buffer=4096)
        client.send(frames.settings_frame([(frames.SET_INITIAL_WINDOW_SIZE, 0)]))
        for stream in range(1, 4001, 2):
            client.send(headers(stream, b"/etcdserverpb.Watch/Watch") + data(stream, create, end=False))
        with grpc.insecure_channel(member.endpoint, options=OPTIONS) as channel:
            put = channel.unary_unary("/etcdserverpb.KV/Put", PutRequest.SerializeToString)
            for number in range(100):
                put(PutRequest(key=b"hot", value=bytes([number % 256]) * 20_000), timeout=60)
        watch.served()
        client.close()


def test_watches_of_history_that_are_not_read(member):
    """300 streams that ask for the same 6 MB of events, and open no window."""
    with grpc.insecure_channel(member.endpoint, options=OPTIONS) as channel:
        put = channel.unary_unary("/etcdserverpb.KV/Put", PutRequest.SerializeToString)
        for number in range(60):
            put(PutRequest(key=b"past", value=bytes([number]) * 100_000), timeout=30)
    create = WatchRequest(create_request=WatchCreateRequest(key=b"past", start_revision=1)).SerializeToString()
    with Watch(member, 250) as watch:
        client = Raw(member.client_port)
        client.drop()
        client.send(frames.settings_frame([(frames.SET_INITIAL_WINDOW_SIZE, 0)]))
        for stream in range(1, 601, 2):
            client.send(headers(stream, b"/etcdserverpb.Watch/Watch") + data(stream, create, end=False))
        watch.served(50)
        client.close()


def test_unary_messages_in_small_pieces(member):
    """Messages that never end, in DATA frames of two bytes: what is kept of them is little more than what was sent."""
    with Watch(member, 150) as watch:
        client = Raw(member.client_port)
        client.drop()
        size = 300_000
        for stream in range(1, 41, 2):
            client.send(headers(stream, KV + b"Put") + frames.frame(0, 0, stream, b"\0" + (1 << 20).to_bytes(4, "big")))
            client.send(frames.frame(0, 0, stream, b"xx") * (size // 2))
        watch.served(10)
        client.close()


def test_maintenance_by_the_hundred(big):
    """Snapshots that nobody reads, hashes of everything, and defragmentation, all at once."""
    service = b"/etcdserverpb.Maintenance/"
    with Watch(big, 150) as watch:
        client = Raw(big.client_port)
        client.drop()
        client.send(frames.settings_frame([(frames.SET_INITIAL_WINDOW_SIZE, 0)]))
        for number in range(30):
            for place, method in enumerate((b"Snapshot", b"HashKV", b"Hash", b"Status")):
                client.send(call(8 * number + 2 * place + 1, service + method, b""))
        for number in range(3):
            client.send(call(1001 + 2 * number, service + b"Defragment", b""))
        watch.served()
        client.close()
