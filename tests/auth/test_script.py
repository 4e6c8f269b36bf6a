"""The operators' script: the real etcdctl gives the same output, exit codes and error texts with both servers."""

from __future__ import annotations

import re

import pytest

from tests.oracle import Member, running

pytestmark = [pytest.mark.oracle, pytest.mark.process]

ROOT, USER = "--user=root:pw", "--user=alice:secret"
SCRIPT: list[tuple[list[str], str | None]] = [
    (["auth", "status"], None),
    (["auth", "enable"], None),
    (["user", "add", "root", "--new-user-password=pw"], None),
    (["user", "add", "root:pw"], None),
    (["user", "add", "alice", "--interactive=false"], "secret\n"),
    (["user", "add", "cn", "--no-password"], None),
    (["user", "grant-role", "root", "root"], None),
    (["user", "grant-role", "alice", "ghost"], None),
    (["role", "add", "dev"], None),
    (["role", "add", "dev"], None),
    (["role", "grant-permission", "dev", "--prefix=true", "readwrite", "app/"], None),
    (["role", "grant-permission", "dev", "read", "one"], None),
    (["role", "grant-permission", "dev", "--from-key=true", "write", "z"], None),
    (["role", "grant-permission", "ghost", "read", "one"], None),
    (["role", "get", "dev"], None),
    (["user", "grant-role", "alice", "dev"], None),
    (["user", "get", "alice", "--detail"], None),
    (["put", "app/1", "before"], None),
    (["auth", "enable"], None),
    ([ROOT, "auth", "enable"], None),
    (["user", "list"], None),
    (["put", "app/1", "v"], None),
    ([ROOT, "user", "list"], None),
    ([ROOT, "role", "list"], None),
    ([ROOT, "auth", "status"], None),
    (["--user=root:wrong", "user", "list"], None),
    (["--user=ghost:pw", "user", "list"], None),
    (["--user=cn:pw", "get", "app/1"], None),
    ([USER, "put", "app/1", "v"], None),
    ([USER, "put", "zz", "v"], None),
    ([USER, "get", "zz"], None),
    ([USER, "get", "app/", "--prefix"], None),
    ([USER, "get", "one"], None),
    ([USER, "put", "one", "v"], None),
    ([USER, "get", "", "--prefix"], None),
    ([USER, "del", "app/", "--prefix", "--prev-kv"], None),
    ([USER, "user", "get", "alice"], None),
    ([USER, "user", "get", "root"], None),
    ([USER, "role", "get", "dev"], None),
    ([USER, "user", "list"], None),
    ([USER, "txn"], 'version("app/1") = "0"\n\nput app/2 x\n\nget two\n\n'),
    ([USER, "txn"], 'version("app/1") = "0"\n\nput app/2 x\n\nget app/3\n\n'),
    ([ROOT, "user", "passwd", "alice", "--interactive=false"], "changed\n"),
    ([USER, "get", "one"], None),
    (["--user=alice:changed", "get", "one"], None),
    ([ROOT, "user", "delete", "root"], None),
    ([ROOT, "role", "delete", "root"], None),
    ([ROOT, "user", "revoke-role", "root", "root"], None),
    ([ROOT, "role", "revoke-permission", "dev", "one"], None),
    ([ROOT, "role", "revoke-permission", "dev", "one"], None),
    (["--user=alice:changed", "get", "one"], None),
    ([ROOT, "role", "delete", "dev"], None),
    ([ROOT, "user", "get", "alice"], None),
    (["--user=alice:changed", "put", "app/1", "v"], None),
    ([ROOT, "user", "delete", "alice"], None),
    (["--user=alice:changed", "put", "app/1", "v"], None),
    (["auth", "disable"], None),
    ([ROOT, "auth", "disable"], None),
    (["auth", "status"], None),
    (["get", "app/2"], None),
    ([ROOT, "get", "app/2"], None),
]


def play(member: Member) -> list[tuple[list[str], int, str, str]]:
    """Run the script; return each command with its exit code and what it printed."""
    lines = []
    for words, stdin in SCRIPT:
        done = member.etcdctl(*words, stdin=stdin)
        lines.append((words, done.returncode, done.stdout, plain(done.stderr, member)))
    return lines


def plain(text: str, member: Member) -> str:
    """Return stderr without times and addresses."""
    text = re.sub(r'"ts":"[^"]*"', '"ts":""', text.replace(member.endpoint, "SERVER"))
    return re.sub(r"0x[0-9a-f]+", "0x", text)


def test_the_script() -> None:
    flags = ["--bcrypt-cost=4"]
    with running("real", flags=flags) as real:
        expected = play(real)
    with running("ours", flags=flags) as ours:
        found = play(ours)
    for one, other in zip(expected, found, strict=True):
        assert other == one
    codes = [code for _, code, _, _ in expected]
    assert set(codes) == {0, 1, 2}
