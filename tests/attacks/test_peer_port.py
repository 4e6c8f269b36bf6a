"""The peer port without TLS, under attack from somebody who knows its protocol."""

from __future__ import annotations

import os
import threading

import pytest

from quorate.raft.codec import encode_message
from quorate.raft.types import MSG_APP, MSG_HEARTBEAT, MSG_SNAP, ConfState, Entry, Message, Snapshot
from quorate.wire import frames
from tests.attacks.rig import LIMIT_S, MB, Raw, Watch, raws
from tests.attacks.test_floods import FLOODS, flood
from tests.oracle import Member
from tests.wire.rig import goaway_of

pytestmark = pytest.mark.process


class Victim:
    """What an attacker learns of the member: its ids, as anybody can who asks it."""

    def __init__(self, member: Member) -> None:
        self.port = member.peer_port
        client = Raw(self.port, b"GET /members HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        head = client.read_to_end().decode()
        self.cluster = head.lower().split("x-etcd-cluster-id: ")[1].split("\r\n")[0]
        self.id = int(head.split('"id":')[1].split(",")[0])
        client.close()

    def post(self, path: str, body: bytes, sender: int = 7, length: int | None = None) -> bytes:
        """A request as a member sends it."""
        lines = [f"POST {path} HTTP/1.1", "Host: h", "X-Server-Version: 3.5.0", "X-Min-Cluster-Version: 3.0.0"]
        lines += [f"X-Etcd-Cluster-ID: {self.cluster}", f"X-Server-From: {sender:x}", "X-PeerURLs: http://127.0.0.1:1"]
        lines += [f"Content-Length: {len(body) if length is None else length}", "", ""]
        return "\r\n".join(lines).encode() + body


@pytest.fixture(scope="module")
def victim(member):
    return Victim(member)


def answer(port: int, request: bytes) -> bytes:
    """The status line of the answer to a request."""
    client = Raw(port, request)
    while b"\r\n" not in client.seen and client.read():
        pass
    client.close()
    return client.seen.split(b"\r\n")[0]


def test_message_bodies_that_announce_more_than_there_is(member, victim):
    with Watch(member, 60) as watch, raws(victim.port, 100, victim.post("/raft", b"x" * 1000, length=60 * MB)):
        too_long = answer(victim.port, victim.post("/raft", b"", length=10**12))
        assert too_long == b"HTTP/1.1 413 Request Entity Too Large"
        watch.served()


def test_large_message_bodies_at_once(member, victim):
    """Each may be large, all together may not take more than the listener has for them."""
    beginning = victim.post("/raft", b"", length=60 * MB)
    with Watch(member, 350) as watch, raws(victim.port, 4, beginning) as clients:
        for _ in range(50):
            for client in clients:
                client.send(bytes(MB))
        watch.served()


def test_messages_of_nothing_but_empty_entries(member, victim):
    with Watch(member, 200) as watch:
        for _ in range(3):
            status = answer(victim.port, victim.post("/raft", b"\x08\x03" + b"\x3a\x00" * (8 * MB)))
            assert status == b"HTTP/1.1 400 Bad Request"
        watch.served()


def test_garbage_and_messages_from_nobody(member, victim):
    strangers = [
        Message(MSG_HEARTBEAT, victim.id, 7, 0),
        Message(MSG_APP, victim.id + 1, 7, 5, 5, 5, [Entry(0, 5, 6, b"x")], 5),
        Message(MSG_APP, victim.id, 7, 1, 1, 10**9, [Entry(0, 1, 10**9 + 1, b"x")], 10**9),
    ]
    bodies = [os.urandom(500), b"\x72\x02" * 5000, *map(encode_message, strangers)]
    with Watch(member, 60) as watch:
        for number in range(40):
            for path in ("/raft", "/leases", "/leases/internal", "/members/promote/5", "/raft/snapshot"):
                assert answer(victim.port, victim.post(path, bodies[number % len(bodies)])).startswith(b"HTTP/1.1 ")
        watch.served()


def test_deeply_nested_json(member, victim):
    request = b"GET /members/hashkv HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n" + b"[" * 60_000
    with Watch(member, 40):
        for _ in range(20):
            assert answer(victim.port, request) == b"HTTP/1.1 400 Bad Request"


def test_thousands_of_strangers_who_want_to_be_answered(member, victim):
    """Whoever sends its URLs is remembered, but not everybody for ever."""
    body = encode_message(Message(MSG_HEARTBEAT, victim.id + 1, 7, 0))
    with Watch(member, 60) as watch:
        for start in range(0, 3000, 100):
            requests = b"".join([victim.post("/raft", body, 1000 + number) for number in range(start, start + 100)])
            client = Raw(victim.port, requests + b"GET /version HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            assert client.read_to_end().count(b"HTTP/1.1 403") == 100
            client.close()
        watch.served()


def test_snapshots_that_are_not_wanted_or_never_come(member, victim):
    stranger = Message(MSG_SNAP, victim.id + 1, 7, 5)
    stranger.snapshot = Snapshot(b"{}", 100, 5, ConfState([7], [], [], [], False))
    head = encode_message(stranger)
    body = len(head).to_bytes(8, "big") + head
    with Watch(member, 60) as watch:
        assert answer(victim.port, victim.post("/raft/snapshot", body + b"x" * MB)) == b"HTTP/1.1 403 Forbidden"
        assert answer(victim.port, victim.post("/raft/snapshot", b"\xff" * 100)) == b"HTTP/1.1 400 Bad Request"
        beginning = victim.post("/raft/snapshot", (60 * MB).to_bytes(8, "big") + b"x" * 1000, length=70 * MB)
        with raws(victim.port, 50, beginning) as clients:
            seen = [client for client in clients[4:] if client.read().startswith(b"HTTP/1.1 503")]
            assert len(seen) == 46
            watch.served()
        assert [name for name in os.listdir(f"{member.data_dir}/member/snap") if name.startswith("tmp")] == []


def test_streams_for_nobody(member, victim):
    lines = f"X-Etcd-Cluster-ID: {victim.cluster}\r\nX-Server-Version: 3.5.0\r\nX-Raft-To: {victim.id:x}\r\n\r\n"
    with Watch(member, 60) as watch:
        for number in range(200):
            request = f"GET /raft/stream/{'msgapp' if number % 2 else 'message'}/{number:x} HTTP/1.1\r\nHost: h\r\n"
            assert answer(victim.port, (request + lines).encode()) == b"HTTP/1.1 404 Not Found"
        watch.served()


@pytest.mark.parametrize("name", ["PING", "SETTINGS", "CONTINUATION"])
def test_frames_that_bring_nothing(member, victim, name):
    """The peer port speaks HTTP/2 too."""
    with Watch(member, 40) as watch:
        client = Raw(victim.port)
        if name == "CONTINUATION":
            client.send(frames.frame(frames.HEADERS, 0, 3, b""))
        seen = threading.Thread(target=client.read_to_end)
        seen.start()
        flood(client, FLOODS[name], 1_000_000)
        seen.join(LIMIT_S)
        assert goaway_of(client.seen)[0] == frames.ENHANCE_YOUR_CALM
        client.close()
        watch.served()


def test_idle_and_slow_connections(member, victim):
    crumbs = b"POST /raft HTTP/1.1\r\nX-A: "
    with Watch(member, 100) as watch, raws(victim.port, 500, b""), raws(victim.port, 100, crumbs) as slow:
        for _ in range(20):
            for client in slow:
                client.send(b"a")
            watch.served(1)
