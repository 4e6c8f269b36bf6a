"""`etcd grpc-proxy` beside real etcd's: the same commands through both, each in front of a real member of its own."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.oracle import Member, free_port
from tests.parity.pair import Pair, Side
from tests.proxy.commands import Proxy

pytestmark = [pytest.mark.oracle, pytest.mark.process]


class Behind(Member):
    """A real member behind a proxy; what clients see of it is the proxy."""

    def __init__(self, proxy_kind: str, *words: str) -> None:
        super().__init__("real")
        self.proxy_kind = proxy_kind
        self.words = words
        self.proxy: Proxy | None = None

    @property
    def endpoint(self) -> str:
        return self.proxy.endpoint if self.proxy is not None else f"127.0.0.1:{self.client_port}"

    def start(self, wait: bool = True) -> Behind:
        super().start(wait)
        port = free_port()
        words = (f"--endpoints=127.0.0.1:{self.client_port}", f"--advertise-client-url=127.0.0.1:{port}", *self.words)
        self.proxy = Proxy(self.proxy_kind, "grpc-proxy", *words, port=port).wait_listening()
        return self

    def close(self) -> None:
        if self.proxy is not None:
            self.proxy.close()
        super().close()


class Behinds(Pair):
    """The real proxy and ours."""

    def __init__(self, *words: str) -> None:
        self.real, self.ours = Side(Behind("real", *words)), Side(Behind("ours", *words))
        self.sides = (self.real, self.ours)
        self.jobs = []


@pytest.fixture(scope="module")
def pair() -> Iterator[Behinds]:
    both = Behinds()
    try:
        both.start()
        yield both
    finally:
        both.close()


def ask(side: Side, path: str, method: str = "GET") -> tuple[int, str, str]:
    """Return status, content type and body of an HTTP request to the proxy."""
    request = urllib.request.Request(f"http://{side.member.endpoint}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


def test_keys(pair: Behinds) -> None:
    pair.run("put", "a", "1", code=0)
    pair.run("put", "a", "2", "--prev-kv")
    pair.run("get", "a")
    pair.run("get", "a", "--consistency=s")
    pair.run("put", "a", "3")
    pair.run("get", "a", "--consistency=s", "-w", "json")
    pair.run("put", "b", "1")
    pair.run("get", "a", "z", "--consistency=s")
    pair.run("put", "c", "1")
    pair.run("get", "a", "z", "--consistency=s")
    pair.run("get", "a", "d", "--sort-by=MODIFY", "--order=DESCEND", "--limit=2", "-w", "json")
    pair.run("get", "a", "--rev=2")
    pair.run("get", "a", "--rev=1000")
    pair.run("get", "")
    pair.run("put", "", "x")
    pair.run("del", "")
    pair.run("del", "b", "--prev-kv")
    pair.run("get", "b", "--consistency=s")
    pair.run("txn", stdin='value("a") = "3"\n\nput a 4\nget a\ndel c\n\nget a\n\n')
    pair.run("txn", stdin='mod("a") = "1"\n\nput a 5\n\nget a\nget z\n\n')
    pair.run("get", "a", "--consistency=s")
    pair.run("get", "c", "--consistency=s")
    pair.run("compaction", "4")
    pair.run("compaction", "4")
    pair.run("get", "a", "--rev=2", "--consistency=s")
    pair.run("get", "a", "--rev=2")
    pair.run("put", "large", "x" * 100_000)


def test_leases(pair: Behinds) -> None:
    pair.save("lease", r"lease (\w+) granted", pair.run("lease", "grant", "600"))
    pair.run("put", "leased", "x", "--lease={lease}")
    pair.run("lease", "timetolive", "{lease}", "--keys", "-w", "fields")
    pair.run("lease", "list")
    pair.run("lease", "keep-alive", "--once", "{lease}")
    pair.run("lease", "keep-alive", "--once", "1234")
    pair.run("lease", "revoke", "{lease}")
    pair.run("lease", "revoke", "{lease}")
    pair.run("get", "leased")
    pair.run("lease", "timetolive", "{lease}")


def test_watches(pair: Behinds) -> None:
    jobs = pair.background("watch", "w", "--prefix", "--prev-kv", "-w", "json")
    pair.run("put", "before", "x")
    for side in pair.sides:
        side.member.etcdctl("put", "seen", "x")  # the watch has begun when its first event comes
    for number in range(20):
        pair.both("put", f"w{number % 3}", str(number))
    for job in jobs:
        job.kill()
    pair.finish(pair.background("watch", "w0", "--rev=5"), 3)
    pair.finish(pair.background("watch", "a", "--rev=2"), 1)


def test_the_cluster_and_its_keeper(pair: Behinds) -> None:
    pair.run("member", "list")
    pair.run("member", "list", "-w", "json")
    pair.run("endpoint", "health", code=0)
    pair.run("alarm", "list")
    pair.run("defrag")
    pair.run("move-leader", "1234")
    pair.run("member", "add", "x", "--peer-urls=nonsense")
    pair.run("member", "remove", "1234")
    pair.run("member", "update", "1234", "--peer-urls=http://127.0.0.1:9")
    for side in pair.sides:
        saved = side.member.etcdctl("snapshot", "save", f"{side.member.owned}/saved")
        assert saved.returncode == 0, saved


def test_locks_and_elections(pair: Behinds) -> None:
    pair.run("lock", "l", "--ttl=10", "true", code=0)
    pair.finish(pair.background("elect", "e", "me"), 2)


def test_users(pair: Behinds) -> None:
    root = ("--user=root:pw",)
    pair.run("user", "add", "root:pw")
    pair.run("role", "add", "root")
    pair.run("user", "grant-role", "root", "root")
    pair.run("role", "add", "r")
    pair.run("role", "grant-permission", "r", "readwrite", "r", "s")
    pair.run("user", "add", "u:pw")
    pair.run("user", "grant-role", "u", "r")
    pair.run("auth", "enable")
    try:
        pair.run("put", "r1", "x")
        pair.run("put", "r1", "x", "--user=u:pw")
        pair.run("get", "r1", "--user=u:pw")
        pair.run("get", "a", "--user=u:pw")
        pair.run("get", "a", "--user=u:wrong")
        pair.run("user", "list", "--user=u:pw")
        pair.run("user", "list", *root)
        pair.run("role", "get", "r", *root)
        pair.finish(pair.background("watch", "r1", "--rev=2", "--user=u:pw"), 3)
    finally:
        pair.run("auth", "disable", *root)


def test_http(pair: Behinds) -> None:
    for method, path in (
        ("GET", "/health"),
        ("POST", "/health"),
        ("GET", "/proxy/health"),
        ("GET", "/nowhere"),
        ("GET", "/version"),
    ):
        real, ours = (ask(side, path, method) for side in pair.sides)
        assert ours == real, path
    for path in ("/metrics", "/proxy/metrics"):
        real, ours = (ask(side, path) for side in pair.sides)
        assert ours[:2] == real[:2]
    names = [sorted(line.split()[0] for line in text.splitlines() if line.startswith("etcd_grpc_proxy"))
             for _, _, text in (ask(side, "/proxy/metrics") for side in pair.sides)]  # fmt: skip
    assert names[1] == names[0]
    assert len(names[0]) == 5
    assert "etcd_server_has_leader 1" in ask(pair.ours, "/metrics")[2]


def test_message_limits_and_a_member_that_is_gone(pair: Behinds) -> None:
    """The last of this module's: it stops the members."""
    texts = []
    for side in pair.sides:
        with open(f"{side.member.owned}/large", "w") as file:
            file.write("x" * 1_600_000)
        with open(f"{side.member.owned}/large") as file:
            answer = side.member.etcdctl("put", "large", stdin=file.read())
        texts.append((answer.returncode, [line for line in answer.stderr.splitlines() if "Error" in line]))
    # The real client library adds what it was told about the call.
    assert [code for code, _ in texts] == [1, 1]
    assert all("message larger than max" in lines[0] and "vs. 1572864" in lines[0] for _, lines in texts), texts
    for side in pair.sides:
        side.member.stop()
    answers = [ask(side, path) for path in ("/health", "/metrics") for side in pair.sides]
    assert [answer[0] for answer in answers] == [503, 503, 500, 500]
    assert all(json.loads(body)["reason"].startswith("GET ERROR:") for _, _, body in answers[:2])
    assert answers[3] == answers[2]
