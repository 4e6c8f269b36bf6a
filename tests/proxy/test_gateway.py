"""`etcd gateway`: words and exit codes like real etcd's, and connections carried to whoever is alive."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.fakes.dns_server import dns_server
from tests.oracle import free_port, running
from tests.proxy.commands import Proxy, etcdctl, once

pytestmark = [pytest.mark.oracle, pytest.mark.process]

WORDS = [
    "gateway",
    "gateway --help",
    "gateway --nope",
    "gateway nope",
    "gateway help start",
    "gateway start --help",
    "gateway start -h",
    "gateway start --nope",
    "gateway start -x",
    "gateway start --listen-addr",
    "gateway start --retry-delay x",
    "gateway start --insecure-discovery=maybe",
    "gateway start --listen-addr foo",
    "gateway start --listen-addr 127.0.0.1:99999",
    "gateway start --endpoints foo",
    "gateway start --endpoints 127.0.0.1:1,foo",
    "gateway start --endpoints=",
    "gateway start --endpoints http://127.0.0.1:23790",
    "gateway start --endpoints 127.0.0.1:23790 --listen-addr 127.0.0.1:23790",
    "gateway start --endpoints 127.0.0.1:1 --listen-addr 192.0.2.1:1",
]


def without_log(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("{"))


@pytest.mark.parametrize("words", WORDS)
def test_words_and_exit_codes(words: str) -> None:
    real, ours = (once(kind, *words.split()) for kind in ("real", "ours"))
    assert (ours.returncode, ours.stdout) == (real.returncode, real.stdout)
    # Resolver texts name the resolver.
    assert re.sub("lookup.*|address 99999.*", "", without_log(ours.stderr)) == re.sub(
        "lookup.*|address 99999.*", "", without_log(real.stderr)
    )


class Backend:
    """Says its name to each connection, then sends back what it gets, until the other side ends."""

    def __init__(self, name: str, port: int = 0) -> None:
        self.name = name
        self.socket = socket.create_server(("127.0.0.1", port))
        self.port = int(self.socket.getsockname()[1])
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                conn, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn: socket.socket) -> None:
        with conn:
            try:
                conn.sendall(self.name.encode() + b"\n")
                while data := conn.recv(65536):
                    conn.sendall(data)
            except OSError:
                return

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


@contextmanager
def backends(*names: str) -> Iterator[list[Backend]]:
    found = [Backend(name) for name in names]
    try:
        yield found
    finally:
        for each in found:
            each.close()


def who(proxy: Proxy) -> str:
    with socket.create_connection(("127.0.0.1", proxy.port), 10) as conn:
        return conn.makefile().readline().strip()


def events(proxy: Proxy) -> list[dict[str, object]]:
    """Return what the log says of endpoints."""
    found = []
    for line in proxy.log().splitlines():
        entry = json.loads(line)
        if "endpoint" in entry["msg"] or entry["msg"] in ("activated", "ready to proxy client requests"):
            # 3.5 prints seconds, later releases a duration.
            found.append({key: entry[key] for key in entry if key not in ("ts", "caller", "interval")})
    return found


def test_endpoints_take_turns_and_dead_ones_are_left_out() -> None:
    dead = free_port()
    with backends("a", "b") as (a, b):
        seen, logs = [], []
        endpoints = f"--endpoints=127.0.0.1:{a.port},http://127.0.0.1:{dead},127.0.0.1:{b.port}"
        for kind in ("real", "ours"):
            proxy = Proxy(kind, "gateway", endpoints, "--retry-delay=300ms")
            try:
                proxy.wait_log("ready to proxy")
                seen.append([who(proxy) for _ in range(8)])
                proxy.wait_log("deactivated")
                proxy.wait_log("stay inactive")
                back = Backend("c", dead)
                try:
                    proxy.wait_log('"activated"')
                    seen[-1].append(sorted({who(proxy) for _ in range(9)}))  # type: ignore[arg-type]
                finally:
                    back.close()
            finally:
                proxy.close()
            logs.append([event for event in events(proxy) if "stay inactive" not in str(event["msg"])])
        assert seen[1] == seen[0]
        assert seen[1][:4] == ["a", "b", "a", "b"]
        assert seen[1][8] == ["a", "b", "c"]
        assert logs[1][:3] == logs[0][:3]


def test_nobody_there_means_hung_up() -> None:
    for kind in ("real", "ours"):
        with Proxy(kind, "gateway", f"--endpoints=127.0.0.1:{free_port()}") as proxy:
            assert who(proxy) == ""
            assert who(proxy) == ""
            proxy.wait_log("connection refused")


def test_much_is_carried_both_ways_and_ends_are_passed_on() -> None:
    data = bytes(range(256)) * 40_000
    with backends("echo") as (echo,), Proxy("ours", "gateway", f"--endpoints=127.0.0.1:{echo.port}") as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), 20) as conn:

            def send() -> None:
                conn.sendall(data)
                conn.shutdown(socket.SHUT_WR)

            threading.Thread(target=send, daemon=True).start()
            received = bytearray()
            while piece := conn.recv(65536):
                received += piece
        assert bytes(received) == b"echo\n" + data


def test_etcdctl_works_through_it() -> None:
    with running("ours") as member, Proxy("ours", "gateway", f"--endpoints={member.url}") as proxy:
        assert etcdctl(proxy.endpoint, "put", "a", "b").stdout == "OK\n"
        assert etcdctl(member.endpoint, "get", "a").stdout == "a\nb\n"
        assert f"{proxy.endpoint} is healthy" in etcdctl(proxy.endpoint, "endpoint", "health").stdout


def test_endpoints_from_the_dns_go_by_priority() -> None:
    with backends("first", "second") as (first, second):
        records = {
            ("_etcd-client._tcp.a.test", "SRV"): [f"10 5 {second.port} h.a.test.", f"1 5 {first.port} h.a.test."],
            ("h.a.test", "A"): ["127.0.0.1"],
        }
        with dns_server(records) as server:
            words = ("gateway", "--discovery-srv=a.test", "--insecure-discovery", "--retry-delay=30s")
            with Proxy("ours", *words, QUORATE_NAMESERVER=server.address) as proxy:
                assert [who(proxy) for _ in range(4)] == ["first"] * 4
                first.close()
                deadline = time.monotonic() + 10
                while (name := who(proxy)) != "second":
                    assert time.monotonic() < deadline, name
                first.__init__("again", first.port)  # type: ignore[misc]


def test_what_ends_it_is_the_signal() -> None:
    for kind in ("real", "ours"):
        for number in (signal.SIGTERM, signal.SIGINT):
            with Proxy(kind, "gateway", f"--endpoints=127.0.0.1:{free_port()}") as proxy:
                proxy.process.send_signal(number)
                expected = -number if kind == "ours" or number == signal.SIGTERM else proxy.process.wait(10)
                assert proxy.process.wait(10) == expected
