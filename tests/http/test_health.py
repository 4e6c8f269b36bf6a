"""/health, /livez, /readyz, /version and the peer's paths: with a server made up for it, and beside real etcd."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from quorate.errors import NO_LEADER, TIMEOUT, RpcError
from quorate.http.health import Health
from quorate.http.mux import Mux, Request, Response
from quorate.ports import Completion, NullLog
from quorate.proto.rpc_pb2 import RangeRequest
from tests.oracle import Member, free_port


@dataclass
class Alarms:
    raised: list[tuple[int, int]] = field(default_factory=list)

    def list(self, alarm: int = 0) -> list[tuple[int, int]]:
        return [pair for pair in self.raised if alarm in (0, pair[0])]


@dataclass
class FakeServer:
    alarms: Alarms = field(default_factory=Alarms)
    leader: bool = True
    learner: bool = False
    local: RpcError | None = None
    quorum: RpcError | None = None

    def has_leader(self) -> bool:
        return self.leader

    def is_learner(self) -> bool:
        return self.learner

    def range(self, request: RangeRequest, done: Completion) -> None:
        error = self.local if request.serializable else self.quorum
        if error is None:
            done.complete(b"")
        else:
            done.fail(error)


def ask(server: FakeServer | None, target: str, method: str = "GET") -> Response:
    mux = Mux(NullLog())
    Health(NullLog(), lambda: server).register(mux)  # type: ignore[arg-type,return-value]
    answers: list[Response] = []
    mux.handle(Request(method, target, {}), answers.append)
    assert len(answers) == 1
    return answers[0]


@pytest.mark.parametrize(
    ("server", "query", "status", "reason"),
    [
        (FakeServer(), "", 200, ""),
        (FakeServer(alarms=Alarms([(1, 5)])), "", 503, "ALARM NOSPACE"),
        (FakeServer(alarms=Alarms([(1, 5)])), "?exclude=NOSPACE", 200, ""),
        (FakeServer(alarms=Alarms([(1, 5)])), "?exclude=nospace", 503, "ALARM NOSPACE"),
        (FakeServer(alarms=Alarms([(1, 5), (2, 5)])), "?exclude=NOSPACE", 503, "ALARM CORRUPT"),
        (FakeServer(alarms=Alarms([(1, 5), (2, 5)])), "?exclude=NOSPACE&exclude=CORRUPT", 200, ""),
        (FakeServer(leader=False), "", 503, "RAFT NO LEADER"),
        (FakeServer(leader=False), "?serializable=true", 200, ""),
        (FakeServer(quorum=TIMEOUT), "", 503, "RANGE ERROR:etcdserver: request timed out"),
        (FakeServer(quorum=TIMEOUT), "?serializable=true", 200, ""),
        (FakeServer(local=NO_LEADER), "?serializable=true", 503, "RANGE ERROR:etcdserver: no leader"),
        (None, "", 503, "RAFT NO LEADER"),
    ],
)
def test_health(server: FakeServer | None, query: str, status: int, reason: str) -> None:
    answer = ask(server, "/health" + query)
    assert answer.status == status
    assert json.loads(answer.body) == {"health": "true" if status == 200 else "false", "reason": reason}
    assert answer.body.endswith(b"}" if status == 200 else b"}\n")


@pytest.mark.parametrize(
    ("server", "target", "status", "body"),
    [
        (FakeServer(), "/livez", 200, "ok\n"),
        (FakeServer(), "/livez?verbose", 200, "[+]serializable_read ok\nok\n"),
        (FakeServer(), "/livez/serializable_read", 200, "ok\n"),
        (FakeServer(), "/livez/linearizable_read", 404, "404 page not found\n"),
        (FakeServer(quorum=TIMEOUT), "/livez", 200, "ok\n"),
        (FakeServer(local=TIMEOUT), "/livez", 503,
         "[-]serializable_read failed: etcdserver: request timed out\n\n"),
        (FakeServer(), "/readyz?verbose", 200,
         "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n"),
        (FakeServer(alarms=Alarms([(1, 1)])), "/readyz", 200, "ok\n"),
        (FakeServer(alarms=Alarms([(2, 1)])), "/readyz/data_corruption", 503,
         "[-]data_corruption failed: alarm activated: CORRUPT\n\n"),
        (FakeServer(alarms=Alarms([(2, 1)])), "/readyz?exclude=data_corruption", 200, "ok\n"),
        (FakeServer(learner=True), "/readyz/non_learner", 503, "[-]non_learner failed: not supported for learner\n\n"),
        (FakeServer(quorum=TIMEOUT), "/readyz?exclude=data_corruption&exclude=nonsense", 503,
         "[+]serializable_read ok\n[-]linearizable_read failed: etcdserver: request timed out\n[+]non_learner ok\n\n"),
    ],
)  # fmt: skip
def test_checks(server: FakeServer, target: str, status: int, body: str) -> None:
    answer = ask(server, target)
    assert (answer.status, answer.body.decode()) == (status, body)
    assert ("Content-Type", "text/plain; charset=utf-8") in answer.headers
    assert ("X-Content-Type-Options", "nosniff") in answer.headers


def test_only_get() -> None:
    for path in ("/health", "/livez", "/readyz", "/readyz/non_learner"):
        answer = ask(FakeServer(), path, "POST")
        assert (answer.status, answer.body) == (405, b"Method Not Allowed\n")
        assert ("Allow", "GET") in answer.headers


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Member, Member, dict[str, int]]]:
    ports = {"real": free_port(), "ours": free_port()}
    members = [Member(kind, flags=[f"--listen-metrics-urls=http://127.0.0.1:{ports[kind]}"]) for kind in ports]
    try:
        yield members[0].start(), members[1].start(), ports
    finally:
        for member in members:
            member.close()


def fetch(port: int, method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders() if name.lower() != "date"}
        return answer.status, found, answer.read()
    finally:
        connection.close()


REQUESTS = [
    ("client", "GET", "/health", {}),
    ("client", "GET", "/health?exclude=NOSPACE", {}),
    ("client", "POST", "/health", {}),
    ("client", "OPTIONS", "/health", {}),
    ("client", "OPTIONS", "/nowhere", {}),
    ("client", "POST", "/version", {}),
    ("client", "GET", "/nowhere", {}),
    ("client", "GET", "/", {}),
    ("client", "GET", "/members", {}),
    ("client", "GET", "/v2/keys", {}),
    ("client", "GET", "/config/local/log", {}),
    ("client", "GET", "/health", {"Host": "evil.example", "Origin": "http://evil.example"}),
    ("peer", "GET", "/health", {}),
    ("peer", "GET", "/nowhere", {}),
    ("peer", "POST", "/version", {}),
    ("peer", "POST", "/members", {}),
    ("metrics", "GET", "/health", {}),
    ("metrics", "GET", "/version", {}),
    ("metrics", "GET", "/nowhere", {}),
]


@pytest.mark.oracle
@pytest.mark.process
@pytest.mark.parametrize(("where", "method", "path", "headers"), REQUESTS)
def test_answers_are_real_etcd_s(
    pair: tuple[Member, Member, dict[str, int]], where: str, method: str, path: str, headers: dict[str, str]
) -> None:
    answers = []
    for member in pair[:2]:
        ports = {"client": member.client_port, "peer": member.peer_port, "metrics": pair[2][member.kind]}
        answers.append(fetch(ports[where], method, path, headers))
    assert answers[0] == answers[1]


@pytest.mark.oracle
@pytest.mark.process
def test_versions_and_members(pair: tuple[Member, Member, dict[str, int]]) -> None:
    ours = pair[1]
    deadline = time.monotonic() + 10
    while b"unknown" in fetch(ours.client_port, "GET", "/version", {})[2]:
        assert time.monotonic() < deadline  # the file is written a moment after the member is healthy
        time.sleep(0.02)
    for port in (ours.client_port, ours.peer_port):
        status, headers, body = fetch(port, "GET", "/version", {})
        assert (status, headers["content-type"]) == (200, "application/json")
        assert json.loads(body) == {"etcdserver": "3.6.14", "etcdcluster": "3.5.0", "storage": "3.5.0"}
    found = []
    for member in pair[:2]:
        status, headers, body = fetch(member.peer_port, "GET", "/members", {})
        assert status == 200
        assert int(headers["x-etcd-cluster-id"], 16) > 0
        entry = json.loads(body)[0]
        assert entry["peerURLs"] == [f"http://127.0.0.1:{member.peer_port}"]
        assert entry["clientURLs"] == [member.url]
        found.append((list(entry), entry["name"], body[-1:]))
        status, headers, body = fetch(member.peer_port, "GET", "/raft/probing", {})
        assert json.loads(body)["OK"] is True
        assert headers["content-type"].startswith("text/plain")
    assert found[0] == found[1]


@pytest.mark.process
def test_kubernetes_probes(pair: tuple[Member, Member, dict[str, int]]) -> None:
    for port in (pair[1].client_port, pair[2]["ours"]):
        for path in ("/livez", "/readyz", "/readyz/linearizable_read", "/livez?verbose"):
            status, _, body = fetch(port, "GET", path, {})
            assert (status, body[-3:]) == (200, b"ok\n")
