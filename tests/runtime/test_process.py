"""The process around a member: readiness, signals, ports, the log's lines, and what stops it at once."""

from __future__ import annotations

import errno
import json
import os
import pty
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.errors import CorruptError
from quorate.runtime.log import ZapLog
from quorate.runtime.logout import FileOutput
from quorate.runtime.member import MemberLoop, MemberThread
from quorate.runtime.process import notify_ready
from quorate.runtime.settings import MemberSettings
from quorate.runtime.sockets import ListenError, address_of, listen
from quorate.runtime.urls import parse_url, parse_urls
from tests.oracle import Member, free_port, our_command, our_path, real_binary

pytestmark = pytest.mark.process


@pytest.fixture
def member() -> Iterator[Member]:
    found = Member("ours")
    yield found
    found.close()


def lines(member: Member) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(member.log_path).read_text().splitlines()]


# What others wait for, in etcd's order.
MILESTONES = [
    "Running: ",
    "configuring peer listeners",
    "configuring client listeners",
    "starting an etcd server",
    "starting local member",
    "serving peer traffic",
    "now serving peer/client/metrics",
    "published local member to cluster through raft",
    "ready to serve client requests",
    "serving client traffic insecurely; this is strongly discouraged!",
    "notifying init daemon",
    "successfully notified init daemon",
    "received signal; shutting down",
    "closing etcd server",
    "closed etcd server",
]


@pytest.mark.parametrize(("sig", "name"), [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupt")])
def test_a_life(member: Member, sig: int, name: str) -> None:
    member.start()
    assert member.stop(sig) == -sig
    found = lines(member)
    assert all(list(line)[:2] == ["level", "ts"] for line in found)
    messages = [line["msg"] for line in found]
    places = [messages.index(text) for text in MILESTONES]
    assert places == sorted(places)
    assert not {"error", "fatal", "panic"} & {line["level"] for line in found}
    received = found[messages.index("received signal; shutting down")]
    assert received["signal"] == name


def test_an_open_watch_does_not_hold_up_the_end_for_long(member: Member) -> None:
    member.start()
    command = [real_binary("etcdctl"), f"--endpoints={member.endpoint}", "watch", "a"]
    watch = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        start = time.monotonic()
        assert member.stop() == -signal.SIGTERM
        assert time.monotonic() - start < 4.5  # those who have not gone by then are cut off after 5 s
    finally:
        watch.kill()
        watch.wait()


def test_systemd_is_told(member: Member, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as waiting:
        waiting.bind(path)
        waiting.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        member.start(wait=False)
        assert waiting.recv(100) == b"READY=1"


def test_abstract_notify_sockets() -> None:
    name = f"quorate-test-{os.getpid()}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as waiting:
        waiting.bind("\0" + name)
        waiting.settimeout(5)
        notify_ready("@" + name)
        assert waiting.recv(100) == b"READY=1"
    notify_ready("")
    with pytest.raises(OSError, match=r"refused|No such file"):
        notify_ready("@" + name)


def test_under_a_terminal_with_a_bare_environment_every_line_is_json(tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    words = [
        "--name=m1", "--data-dir=d", f"--listen-client-urls={urls[0]}", f"--advertise-client-urls={urls[0]}",
        f"--listen-peer-urls={urls[1]}", f"--initial-advertise-peer-urls={urls[1]}", f"--initial-cluster=m1={urls[1]}",
    ]  # fmt: skip
    ours, theirs = pty.openpty()
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": our_path()}
    process = subprocess.Popen(
        [*our_command(), *words], stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, env=env, close_fds=True
    )
    os.close(theirs)
    seen = b""
    try:
        deadline = time.monotonic() + 20
        while b"ready to serve client requests" not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([ours], [], [], 0.2)[0]:
                seen += os.read(ours, 65536)
        process.terminate()
        while True:
            assert select.select([ours], [], [], 20)[0], "neither a line nor the end"
            try:
                more = os.read(ours, 65536)
            except OSError:
                break
            if not more:
                break
            seen += more
        assert process.wait(20) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    for line in seen.decode().splitlines():
        assert json.loads(line)["msg"]


def test_a_port_in_use_stops_the_start_before_anything_is_written(member: Member) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        member.client_port = taken.getsockname()[1]
        member.start(wait=False)
        assert member.process is not None
        assert member.process.wait(15) == 1
    last = lines(member)[-1]
    assert (last["level"], last["msg"]) == ("fatal", "discovery failed")
    assert last["error"] == f"listen tcp 127.0.0.1:{member.client_port}: bind: address already in use"
    assert not os.path.exists(member.data_dir)


def start_and_fail(member: Member) -> str:
    member.start(wait=False)
    assert member.process is not None
    assert member.process.wait(15) == 1
    last = lines(member)[-1]
    assert (last["level"], last["msg"]) == ("fatal", "discovery failed")
    return str(last["error"])


def test_starts_that_etcd_refuses_too(member: Member, tmp_path: Path) -> None:
    peer = f"http://127.0.0.1:{member.peer_port}"
    member.flags = ["--initial-cluster=other=http://127.0.0.1:1"]
    assert start_and_fail(member) == 'couldn\'t find local name "m1" in the initial cluster configuration'
    member.flags = ["--initial-cluster=m1=http://127.0.0.1:1"]
    assert start_and_fail(member) == (
        f"--initial-cluster has m1=http://127.0.0.1:1 but missing from --initial-advertise-peer-urls={peer} "
        f'(resolved urls: "{peer}" != "http://127.0.0.1:1")'
    )
    member.flags = ["--auto-compaction-retention=abc"]
    assert start_and_fail(member) == 'error parsing CompactionRetention: time: invalid duration "abc"'
    member.flags = [f"--initial-cluster=m1={peer},m2={peer}"]
    assert start_and_fail(member) == f"initial cluster m1={peer},m2={peer} has duplicate url"
    member.flags = ["--initial-cluster=m1"]
    assert start_and_fail(member).startswith("error setting up initial cluster: ")
    member.flags = []
    member.data_dir = "/proc/nowhere"
    assert start_and_fail(member).startswith("cannot access data directory: ")


def test_a_cluster_that_does_not_answer_cannot_be_joined(member: Member) -> None:
    peer = f"http://127.0.0.1:{member.peer_port}"
    reason = "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs"
    for cluster in (f"m1={peer},m2=http://127.0.0.1:1", f"m1={peer}"):
        member.flags = [f"--initial-cluster={cluster}", "--initial-cluster-state=existing"]
        assert reason in start_and_fail(member)


def test_an_early_client_waits_until_the_member_is_ready(tmp_path: Path) -> None:
    sock = listen(parse_url("http://127.0.0.1:0"))
    with sock, socket.create_connection(sock.getsockname(), timeout=2) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(10)


def test_listening(tmp_path: Path) -> None:
    with listen(parse_url("http://localhost:0")) as sock:
        assert address_of(sock).startswith("127.0.0.1:")
        taken = address_of(sock)
        with pytest.raises(ListenError, match="address already in use"):
            listen(parse_url(f"http://{taken}"))
    path = tmp_path / "s"
    for _ in range(2):  # what an earlier run has left is replaced
        with listen(parse_url(f"unix://{path}")) as sock:
            assert address_of(sock) == str(path)
    with pytest.raises(ListenError, match=r"listen unix .*: bind: no such file or directory"):
        listen(parse_url(f"unix://{tmp_path}/no/s"))


def test_the_last_line_names_file_and_offset(tmp_path: Path) -> None:
    path = tmp_path / "log"
    codes: list[int] = []
    loop = MemberLoop(ZapLog([FileOutput(str(path))]), codes.append)
    try:
        loop.fatal(CorruptError("/d/member/wal/0.wal", 512, "crc mismatch"))
        loop.fatal(OSError(errno.ENOSPC, "No space left on device", "/d/member/snap/db"))
        loop.fatal(OSError(errno.EIO, "Input/output error"))
        loop.fatal(KeyError("x"))
    finally:
        loop.close()
    assert codes == [1, 1, 1, 1]
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["level"] for line in found} == {"fatal"}
    assert (found[0]["path"], found[0]["offset"]) == ("/d/member/wal/0.wal", 512)
    assert found[1]["msg"] == "the disk is full; the member stops"
    assert found[1]["path"] == "/d/member/snap/db"
    assert found[2]["msg"] == "a file operation has failed; the member stops"
    assert "KeyError" in found[3]["stacktrace"]


def embedded(tmp_path: Path) -> MemberSettings:
    here = parse_urls(["http://127.0.0.1:0"])
    return MemberSettings(name="e", data_dir=str(tmp_path / "e"), listen_client_urls=here, listen_peer_urls=here)


def test_a_member_may_be_embedded(tmp_path: Path) -> None:
    for _ in range(2):
        path = tmp_path / "log"
        thread = MemberThread(embedded(tmp_path), ZapLog([FileOutput(str(path))])).start()
        try:
            address = thread.member.client_addresses[0]
            host, _, port = address.rpartition(":")
            with socket.create_connection((host, int(port)), timeout=5) as client:
                client.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                assert b'{"health":"true","reason":""}' in client.recv(4096)
        finally:
            thread.stop()
        assert thread.exit_code is None
        assert "closed etcd server" in path.read_text()


def test_an_embedded_member_that_cannot_start_says_why(tmp_path: Path) -> None:
    settings = embedded(tmp_path)
    settings.initial_cluster = "other=http://127.0.0.1:1"
    thread = MemberThread(settings, ZapLog([FileOutput("/dev/null")]))
    with pytest.raises(Exception, match="couldn't find local name"):
        thread.start()
