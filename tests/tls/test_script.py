"""The operators' script over TLS with client certificates: the real etcdctl prints the same with both servers.

One member and three, users named by certificates, passwords typed at a terminal; and nothing secret in any log.
"""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import termios
import time
from pathlib import Path

import pytest

from tests.cluster.harness import Cluster
from tests.oracle import real_binary
from tests.tls.certs import Authority, Pair
from tests.tls.world import TlsMember, client_context, tls_cluster, tls_member

pytestmark = [pytest.mark.oracle, pytest.mark.process]

PASSWORD = "Tr0ub4dor-of-root"
BY_NAME: list[tuple[str, list[str]]] = [
    # The certificate's CommonName, and what its owner asks for.
    ("root", ["user", "list"]),
    ("root", ["get", "", "--prefix", "--keys-only"]),
    ("alice", ["put", "app/1", "v"]),
    ("alice", ["get", "app/", "--prefix", "--keys-only"]),
    ("alice", ["get", "other"]),
    ("alice", ["user", "list"]),
    ("alice", ["member", "list"]),
    ("alice", ["--user=root:pw", "user", "list"]),
    ("alice", ["--user=root:wrong", "user", "list"]),
    ("ghost", ["get", "app/1"]),
    ("", ["get", "app/1"]),
    ("", ["--user=root:pw", "get", "app/1"]),
]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def people(authority: Authority) -> dict[str, Pair]:
    return {name: authority.issue(f"client-{name}", name) for name in ("root", "alice", "ghost", "")}


@pytest.fixture(scope="module")
def server(authority: Authority) -> Pair:
    return authority.issue("server", "etcd")


def strict(authority: Authority, server: Pair) -> list[str]:
    return [*server.flags(), f"--trusted-ca-file={authority.cert}", "--client-cert-auth", "--bcrypt-cost=4"]


def without_warnings(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("{"))


def test_users_named_by_certificates(authority: Authority, server: Pair, people: dict[str, Pair]) -> None:
    found = {}
    for kind in ("real", "ours"):
        with tls_member(kind, authority, strict(authority, server), people["root"]) as member:
            for words in (
                ["user", "add", "root:pw"],
                ["user", "grant-role", "root", "root"],
                ["user", "add", "alice", "--no-password"],
                ["role", "add", "app"],
                ["role", "grant-permission", "app", "--prefix=true", "readwrite", "app/"],
                ["user", "grant-role", "alice", "app"],
                ["auth", "enable"],
            ):
                done = member.etcdctl(*words)
                assert done.returncode == 0, (kind, words, done.stderr)
            answers = []
            for name, words in BY_NAME:
                member.client = people[name]
                done = member.etcdctl(*words, timeout=20)
                shown = done.stdout if "member" not in words else ""
                answers.append((name, words, done.returncode, shown, without_warnings(done.stderr)))
            found[kind] = answers
            status, text = gateway(member, client_context(authority, people["alice"]))
            assert status == 400
            assert (
                text
                == b"CommonName of client sending a request against gateway will be ignored and not used as expected\n"
            )
            assert gateway(member, client_context(authority, people[""]))[0] == 200
    for real, ours in zip(found["real"], found["ours"], strict=True):
        assert ours == real
    codes = [code for _, _, code, _, _ in found["ours"]]
    assert codes == [0, 0, 0, 0, 1, 1, 0, 0, 2, 1, 1, 0]


def gateway(member: TlsMember, context: object) -> tuple[int, bytes]:
    import http.client

    connection = http.client.HTTPSConnection("127.0.0.1", member.client_port, timeout=10, context=context)  # type: ignore[arg-type]
    try:
        connection.request("POST", "/v3/auth/authenticate", b'{"name":"root","password":"pw"}')
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def typed(member: TlsMember, words: list[str], answers: list[str]) -> tuple[int, str]:
    """Run the real etcdctl at a terminal, and type an answer each time it asks; return its status and what it shows."""
    main, side = pty.openpty()
    command = [real_binary("etcdctl"), f"--endpoints={member.endpoint}", *member.tls_words, *words]
    process = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, close_fds=True, start_new_session=True)
    os.close(side)
    shown, asked, end = "", 0, time.monotonic() + 30
    try:
        while time.monotonic() < end:
            if select.select([main], [], [], 0.1)[0]:
                try:
                    data = os.read(main, 4096)
                except OSError:
                    break
                if not data:
                    break
                shown += data.decode()
            elif process.poll() is not None:
                break
            hidden = not termios.tcgetattr(main)[3] & termios.ECHO
            if hidden and shown.count(": ") > asked and asked < len(answers) and shown.endswith(": "):
                os.write(main, answers[asked].encode() + b"\n")
                asked += 1
        status = process.wait(10)
    finally:
        os.close(main)
        if process.poll() is None:
            process.kill()
            process.wait()
    return status, shown.replace("\r", "")


OPERATORS: list[tuple[list[str], list[str]]] = [
    (["get", "/", "--prefix", "--keys-only"], []),
    (["user", "add", "root"], [PASSWORD, PASSWORD]),
    (["user", "add", "root2"], [PASSWORD, "different"]),
    (["user", "grant-role", "root", "root"], []),
    (["role", "add", "app"], []),
    (["role", "grant-permission", "app", "--prefix=true", "readwrite", "/app/"], []),
    (["user", "add", "dev"], ["dev-password", "dev-password"]),
    (["user", "grant-role", "dev", "app"], []),
    (["auth", "enable"], []),
    (["--user", "root", "user", "list"], [PASSWORD]),
    (["--user", "root", "user", "list"], ["wrong-password"]),
    (["--user=dev:dev-password", "put", "/app/1", "v"], []),
    (["--user=dev:dev-password", "get", "/", "--prefix", "--keys-only"], []),
    (["--user=dev:dev-password", "get", "/app/", "--prefix", "--keys-only"], []),
    (["--user=dev:dev-password", "user", "list"], []),
    (["--user", "root", "user", "passwd", "dev"], ["new-password", "new-password", PASSWORD]),
    (["--user=dev:dev-password", "get", "/app/1"], []),
    (["--user=dev:new-password", "get", "/app/1"], []),
    (["get", "/app/1"], []),
]
SECRETS = (PASSWORD, "wrong-password", "dev-password", "new-password", "different", "$2a$", "$2b$")


def operate(cluster: Cluster) -> list[tuple[list[str], int, str]]:
    """Run the script, a command on each member in turn."""
    lines = []
    for number, (words, answers) in enumerate(OPERATORS):
        member = cluster.members[number % len(cluster.members)]
        assert isinstance(member, TlsMember)
        status, shown = typed(member, words, answers)
        lines.append((words, status, without_warnings(shown)))
    return lines


@pytest.mark.parametrize("count", [1, 3])
def test_the_operators_script(count: int, authority: Authority, server: Pair, people: dict[str, Pair]) -> None:
    shown = {}
    for kind, more in (("real", []), ("ours", ["--log-level=debug"])):
        with tls_cluster([kind] * count, authority, server, people[""], ["--bcrypt-cost=4", *more]) as cluster:
            cluster.leader()
            shown[kind] = operate(cluster)
            for member in cluster.members:
                log = Path(member.log_path).read_text()
                for secret in SECRETS:
                    assert secret not in log, (kind, secret)
                assert not re.search(r"\b[A-Za-z]{16}\.[0-9]+", log), "a token"
                assert "PRIVATE KEY" not in log
    for real, ours in zip(shown["real"], shown["ours"], strict=True):
        assert ours == real
    assert [status for _, status, _ in shown["ours"]] == [0, 0, 128, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 1, 0, 2, 0, 1]
