"""The settings that bear on the gateway: whether it is there, for whom, and on which port."""

from __future__ import annotations

import pytest

from tests.gateway.recorded import b64, of, put
from tests.gateway.twins import Answer, Side
from tests.oracle import Member, free_port

pytestmark = [pytest.mark.oracle, pytest.mark.process]

STRICT = ["--cors=http://good.example:80", "--host-whitelist=good.example,127.0.0.1"]


def ask_both(flags: list[str], questions: list[tuple[str, str, str, dict[str, str]]]) -> list[Answer]:
    """Ask real etcd and ours with these flags; return ours' answers, which must be like the other's."""
    members = [Member(kind, flags=flags) for kind in ("real", "ours")]
    try:
        for member in members:
            member.start(wait=False)
        for member in members:
            member.wait_healthy()
        sides = [Side(member) for member in members]
        answers = []
        for method, path, body, headers in questions:
            real, ours = (side.ask(method, path, body.encode(), headers) for side in sides)
            assert sides[1].seen(ours) == sides[0].seen(real), (method, path, headers)
            answers.append(ours)
        return answers
    finally:
        for member in members:
            member.close()


def test_without_the_gateway_its_paths_are_unknown() -> None:
    answers = ask_both(
        ["--enable-grpc-gateway=false"],
        [
            ("POST", "/v3/kv/range", of(key=b64("a")), {}),
            ("GET", "/v3/kv/range", "", {}),
            ("POST", "/v3/watch", "{}", {}),
        ],
    )
    assert [answer.status for answer in answers] == [404, 404, 404]


def test_hosts_and_origins_are_looked_at() -> None:
    answers = ask_both(
        STRICT,
        [
            ("POST", "/v3/kv/put", put("a", "b"), {"Host": "good.example:99"}),
            ("POST", "/v3/kv/put", put("a", "c"), {"Host": "evil.example"}),
            ("POST", "/v3/watch", "{}", {"Host": "evil.example"}),
            ("OPTIONS", "/v3/kv/put", "", {"Host": "evil.example"}),
            ("POST", "/v3/kv/range", of(key=b64("a")), {"Origin": "http://good.example:80"}),
            ("POST", "/v3/kv/range", of(key=b64("a")), {"Origin": "http://evil.example"}),
            ("OPTIONS", "/v3/kv/put", "", {"Origin": "http://good.example:80"}),
        ],
    )
    assert [answer.status for answer in answers] == [200, 421, 421, 421, 200, 200, 200]
    assert b'"value":"Yg=="' in answers[5].body


def test_a_port_for_http_alone_has_the_gateway() -> None:
    """Real etcd has that setting since 3.5.8, so that ours is asked alone."""
    port = free_port()
    member = Member("ours", flags=[f"--listen-client-http-urls=http://127.0.0.1:{port}"])
    member.health_path = ""
    try:
        grpc_port, member.client_port = member.client_port, port
        member.health_path = "/health"
        member.flags.append(f"--listen-client-urls=http://127.0.0.1:{grpc_port}")
        member.start(wait=False)
        member.wait_healthy()
        answer = Side(member).ask("POST", "/v3/kv/put", put("a", "b").encode(), {})
        assert answer.status == 200
    finally:
        member.close()


def test_calls_are_counted_as_grpc_calls() -> None:
    members = [Member(kind, flags=["--metrics=extensive"]).start() for kind in ("real", "ours")]
    try:
        counts = []
        for member in members:
            side = Side(member)
            for body in (put("a", "b"), of(value="YQ=="), "bad"):
                side.ask("POST", "/v3/kv/put", body.encode(), {})
            text = side.ask("GET", "/metrics", b"", {}).body.decode()
            lines = [line for line in text.splitlines() if line.startswith("grpc_server") and 'method="Put"' in line]
            lines = [line for line in lines if "_bucket" not in line and "_sum" not in line]
            counts.append(sorted(line for line in lines if not line.endswith(" 0")))
        assert counts[1] == counts[0]
        assert len(counts[0]) == 6
    finally:
        for member in members:
            member.close()
