"""Connections by the thousand: idle, half-open, slow; HTTP/1 in crumbs; pings; more than there are descriptors."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
import subprocess
import threading
import time

import psutil
import pytest

from quorate.proto.rpc_pb2 import AuthenticateRequest, RangeRequest
from quorate.wire import frames
from tests.attacks.rig import KV, Raw, Watch, call, headers, raws
from tests.attacks.test_floods import whole_frames
from tests.oracle import Member
from tests.wire.rig import goaway_of

pytestmark = pytest.mark.process

GET = b"GET /version HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize("greeting", ["nothing", "preface", "half a preface", "half a header", "half a body"])
def test_two_thousand_connections_that_say_little(member, greeting):
    says = {
        "nothing": b"",
        "preface": frames.PREFACE + frames.settings_frame([]),
        "half a preface": frames.PREFACE[:10],
        "half a header": GET[:-10],
        "half a body": b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nabc",
    }[greeting]
    with Watch(member, 120) as watch, raws(member.client_port, 2000, says):
        watch.served()


def test_connections_that_vanish_without_a_word(member):
    """RST instead of FIN, in the middle of a request: nothing of them stays."""
    with Watch(member, 80) as watch:
        before = descriptors(member)
        for _ in range(10):
            with raws(member.client_port, 100) as clients:
                for client in clients:
                    client.send(call(1, KV + b"Range", RangeRequest(key=b"a").SerializeToString())[:-3])
                    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        watch.served()
        end = time.monotonic() + 30
        while descriptors(member) > before + 5:
            assert time.monotonic() < end
            time.sleep(0.05)


def descriptors(member: Member) -> int:
    return psutil.Process(member.process.pid).num_fds()


def test_a_request_header_in_crumbs(member):
    """Slowloris: each connection sends a byte now and then."""
    with Watch(member, 60) as watch, raws(member.client_port, 100, b"GET / HTTP/1.1\r\nX-A: ") as clients:
        for _ in range(20):
            for client in clients:
                client.send(b"a")
            watch.served(1)


def test_endless_headers_and_bodies_over_http1(member):
    with Watch(member, 60) as watch:
        for start, piece in (
            (b"GET / HTTP/1.1\r\n", b"X-A: b\r\n" * 1000),
            (b"GET /", b"x" * 8000),
            (b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\n", b"x" * 8000),
            (b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1000),
            (b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * 8000),
        ):
            client = Raw(member.client_port, start)
            reader = threading.Thread(target=client.read_to_end)
            reader.start()
            while client.send(piece):
                pass
            reader.join(30)
            assert client.seen.startswith(b"HTTP/1.1 4"), start
            client.close()
            watch.served(1)


def test_pings_too_often_end_the_connection_as_in_etcd():
    """--grpc-keepalive-min-time against real etcd: GOAWAY(ENHANCE_YOUR_CALM, too_many_pings) after the same ping."""
    found = {}
    for kind in ("real", "ours"):
        member = Member(kind, flags=["--grpc-keepalive-min-time=30s"])
        try:
            member.start()
            with raws(member.client_port, 1) as [client]:
                client.send(headers(1, b"/etcdserverpb.Watch/Watch"))
                answered = 0
                for number in range(10):
                    client.send(frames.frame(frames.PING, 0, 0, number.to_bytes(8, "big")))
                    # The server's own ping, which measures bandwidth, needs no answer here.
                    if not answers_ping(client, number):
                        break
                    answered += 1
                goaway = goaway_of(client.seen[: end_of_frames(client.seen)])
                assert goaway is not None
                found[kind] = (goaway, answered)
        finally:
            member.close()
    assert found["ours"][0] == found["real"][0] == (frames.ENHANCE_YOUR_CALM, b"too_many_pings")
    assert abs(found["ours"][1] - found["real"][1]) <= 1


def answers_ping(client: Raw, number: int) -> bool:
    """Read until a ping is answered; False when the connection ends instead."""
    wanted = (frames.PING, 1, 0, number.to_bytes(8, "big"))
    while True:
        seen = whole_frames(client.seen)
        if any(kind == frames.GOAWAY for kind, *_ in seen):
            return False
        if wanted in seen:
            return True
        if not client.read():
            return False


def end_of_frames(seen: bytes) -> int:
    return sum(9 + len(payload) for *_, payload in whole_frames(seen))


def test_more_connections_than_descriptors():
    """Who is idle makes room: with all descriptors taken by idlers, new clients are still served, and the disk is."""
    member = Member("ours")
    wrapped = subprocess.Popen

    def limited(*args, **kwargs):
        def lower():
            resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))

        return wrapped(*args, preexec_fn=lower, **kwargs)

    subprocess.Popen = limited
    try:
        member.start()
    finally:
        subprocess.Popen = wrapped
    try:
        with Watch(member, 60) as watch, contextlib.ExitStack() as stack:
            for greeting in (b"", frames.PREFACE + frames.settings_frame([]), GET):
                stack.enter_context(raws(member.client_port, 400, greeting))
                watch.served(2)
                with Raw(member.client_port, GET).socket as fresh:
                    fresh.settimeout(30)
                    assert fresh.recv(100).startswith(b"HTTP/1.1 200")
            assert descriptors(member) <= 400
    finally:
        member.close()


def test_brute_force_of_passwords(member):
    """Hundreds of wrong passwords at once: each is a bcrypt check, which others do not feel."""
    for words in (["user", "add", "root:secret"], ["user", "grant-role", "root", "root"], ["user", "add", "u:right"]):
        assert member.etcdctl(*words).returncode == 0
    with Watch(member, 80) as watch, raws(member.client_port, 10) as clients:
        assert member.etcdctl("role", "add", "all").returncode == 0
        for client in clients:
            client.drop()
            for stream in range(1, 200, 2):
                guess = AuthenticateRequest(name="u", password=os.urandom(4).hex()).SerializeToString()
                client.send(call(stream, b"/etcdserverpb.Auth/Authenticate", guess))
        watch.served(20)
