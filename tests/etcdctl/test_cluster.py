"""lease, member, endpoint, alarm, defrag, snapshot, move-leader, auth: ours prints what the real one prints."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from tests.etcdctl.twins import Twins
from tests.oracle import real_binary

pytestmark = [pytest.mark.oracle, pytest.mark.process]
MODES = ("simple", "json", "fields", "table")


def no_zero_revision(text: str) -> str:
    """Put back the line that 3.6 leaves out of fields when the revision is 0."""
    return re.sub(r'("MemberID" : \S+\n)("RaftTerm")', r'\1"Revision" : 0\n\2', text)


def test_lease(twins: Twins) -> None:
    for mode in MODES:
        twins.run("lease", "grant", "1000", "-w", mode)
        twins.run("lease", "timetolive", "7777", "-w", mode)
    twins.save("lease", r"lease (\w+) granted", twins.run("lease", "grant", "1000", code=0))
    twins.run("put", "on-lease", "v", "--lease={lease}", code=0)
    for mode in MODES:
        twins.run("lease", "timetolive", "{lease}", "--keys", "-w", mode)
        twins.run("lease", "keep-alive", "{lease}", "--once", "-w", mode)
        twins.run("get", "on-lease", "-w", mode)
    twins.run("lease", "revoke", "{lease}", code=0)
    twins.run("lease", "revoke", "{lease}", code=1)
    twins.run("lease", "keep-alive", "{lease}", "--once", code=2)
    for args in (
        ["grant"],
        ["grant", "abc"],
        ["grant", "99999999999"],
        ["revoke"],
        ["revoke", "zz"],
        ["timetolive"],
        ["timetolive", "0x12"],
        ["keep-alive"],
        ["keep-alive", "7777"],
    ):
        twins.run("lease", *args)


def test_lease_list(twins: Twins) -> None:
    for lease in twins.tools:
        for line in lease.run(("lease", "list")).stdout.split()[3:]:
            lease.run(("lease", "revoke", line))
    twins.save("one", r"lease (\w+) granted", twins.run("lease", "grant", "1000"))
    for mode in MODES:
        twins.run("lease", "list", "-w", mode)


@pytest.mark.parametrize("mode", MODES)
def test_member_list(twins: Twins, mode: str) -> None:
    twins.run("member", "list", "-w", mode, change=no_zero_revision if mode == "fields" else str)


def test_member_changes(twins: Twins) -> None:
    for args in (
        ["add"],
        ["add", "m2"],
        ["add", "m2", "http://127.0.0.1:1"],
        ["add", "m2", "--peer-urls=127.0.0.1:1"],
        ["remove"],
        ["remove", "zz"],
        ["remove", "1234"],
        ["update", "1234"],
        ["update", "1234", "--peer-urls=http://127.0.0.1:1"],
        ["promote", "1234"],
        ["promote"],
    ):
        twins.run("member", *args)
    twins.save("first", r"(?m)^(\w+), started, m1", twins.run("member", "list"))
    for mode in ("simple", "json"):
        peer = f"http://127.0.0.1:{7 + (mode == 'json')}"
        # 3.6 says "added as learner".
        added = twins.run(
            "member", "add", "late", f"--peer-urls={peer}", "--learner", "-w", mode,
            change=lambda text: text.replace("as learner ", ""), sort=True,
        )  # fmt: skip
        pattern = r"Member +(\w+) added" if mode == "simple" else r'"member":\{"ID":(\d+)'
        twins.save("late", pattern, added)
        if mode == "json":
            for tool in twins.tools:
                tool.saved["late"] = f"{int(tool.saved['late']):x}"
        twins.run("member", "list", "-w", mode, sort=True)
        # A voter: of a learner real 3.5.1 forgets with an update that it is one.
        twins.run("member", "update", "{first}", "--peer-urls=PEERURL", "-w", mode, sort=True)
        twins.run("member", "promote", "{late}", "-w", mode)
        twins.run("member", "remove", "{late}", "-w", mode, sort=True)
    twins.run("member", "remove", "{late}", "-w", "fields")


def columns_of_3_5(text: str) -> str:
    """Leave out the columns that 3.6 has added."""
    rows = [row.split(", ") for row in text.splitlines()]
    return "".join(", ".join([*row[:3], row[4], *row[8:14]]) + "\n" for row in rows)


def fields_of_3_5(text: str) -> str:
    """Leave out what a server of 3.6 says more."""
    return re.sub(r',"storageVersion".*"downgradeInfo":\{\}', "", text)


def test_endpoint_status(twins: Twins) -> None:
    twins.run("endpoint", "status", change=columns_of_3_5)
    twins.run("endpoint", "status", "--cluster", change=columns_of_3_5)
    twins.run("endpoint", "status", "-w", "json", own=fields_of_3_5)
    twins.run("endpoint", "status", "-w", "protobuf", code=4)
    twins.run("endpoint", "status", "--endpoints=127.0.0.1:1", "--command-timeout=300ms", endpoint=False)


def test_endpoint_status_has_the_columns_of_3_6(twins: Twins) -> None:
    table = twins.ours.run(("endpoint", "status", "-w", "table")).stdout
    assert "| PERCENTAGE NOT IN USE |" in table
    fields = twins.ours.run(("endpoint", "status", "-w", "fields")).stdout
    assert [line.split('"')[1] for line in fields.splitlines() if line] == [
        "ClusterID", "MemberID", "Revision", "RaftTerm", "Version", "StorageVersion", "DBSize", "DBSizeInUse",
        "DBSizeQuota", "Leader", "IsLearner", "RaftIndex", "RaftTerm", "RaftAppliedIndex", "Errors", "Endpoint",
        "DowngradeTargetVersion", "DowngradeEnabled",
    ]  # fmt: skip


def test_endpoint_health_and_hash(twins: Twins) -> None:
    for mode in ("simple", "json", "fields"):
        twins.run("endpoint", "health", "-w", mode)
        twins.run("endpoint", "health", "--cluster", "-w", mode)
    twins.run("endpoint", "health", "-w", "protobuf")
    twins.run("endpoint", "health", "--endpoints=127.0.0.1:1", "--command-timeout=300ms", endpoint=False)
    twins.run("put", "k", "v")
    for tool in twins.tools:  # against its own server: hashes differ with the ids of leases
        answer = tool.run(("endpoint", "hashkv", "-w", "json"))
        number = re.findall(r'"hash":(\d+)', answer.stdout)[0]
        words = [real_binary("etcdctl"), "endpoint", "hashkv", f"--endpoints={tool.member.endpoint}"]
        real = subprocess.run(words, capture_output=True, text=True, check=True)
        assert real.stdout == f"{tool.member.endpoint}, {number}\n"
    table = twins.ours.run(("endpoint", "hashkv"))
    assert re.fullmatch(r"127.0.0.1:\d+, \d+, 0\n", table.stdout)  # the third column is 3.6's
    twins.run("endpoint", "hashkv", "--rev=99999", code=1)


def test_alarm_and_defrag(twins: Twins) -> None:
    twins.run("alarm", "list")
    twins.run("alarm", "list", "-w", "json")
    twins.run("alarm", "list", "x")
    twins.run("alarm", "disarm")
    twins.run("alarm", "disarm", "-w", "json")
    # 3.6 says how long it took.
    twins.run("defrag", change=lambda text: text.partition(". took")[0] + "\n")
    twins.run("defrag", "--cluster", change=lambda text: text.partition(". took")[0] + "\n")


def test_snapshot_save(twins: Twins) -> None:
    twins.run("put", "k", "v" * 100_000)
    twins.run("snapshot", "save", "snap.db", code=0)
    path = Path(twins.ours.member.owned) / "snap.db"
    data = path.read_bytes()
    assert hashlib.sha256(data[:-32]).digest() == data[-32:]
    assert path.stat().st_mode & 0o777 == 0o600
    status = subprocess.run([real_binary("etcdutl"), "snapshot", "status", path], capture_output=True, check=False)
    assert status.returncode == 0
    twins.run("snapshot", "save", "none/snap.db", code=5)
    twins.run("snapshot", "save", "--endpoints=a:1,b:2", "snap.db", endpoint=False, code=5)
    assert twins.ours.run(("snapshot", "save")).code == 128


def test_move_leader(twins: Twins) -> None:
    twins.run("move-leader")
    twins.run("move-leader", "zz")
    twins.run("move-leader", "1234")


def test_users_and_roles(twins: Twins) -> None:
    for mode in MODES:
        out = ["-w", mode]
        for args in (
            ["auth", "status"],
            ["role", "add", "r1"],
            ["role", "add", "r1"],
            ["role", "grant-permission", "r1", "read", "foo"],
            ["role", "grant-permission", "r1", "readwrite", "pfx", "--prefix"],
            ["role", "grant-permission", "r1", "write", "a", "z"],
            ["role", "grant-permission", "r1", "read", "k", "--from-key"],
            ["role", "grant-permission", "r1", "read", "", "--prefix"],
            ["role", "get", "r1"],
            ["role", "list"],
            ["role", "revoke-permission", "r1", "foo"],
            ["role", "revoke-permission", "r1", "a", "z"],
            ["role", "revoke-permission", "r1", "k", "--from-key"],
            ["role", "revoke-permission", "r1", "none"],
            ["user", "add", "u1:pw"],
            ["user", "add", "u2", "--no-password"],
            ["user", "add", "u3", "--new-user-password=x"],
            ["user", "grant-role", "u1", "r1"],
            ["user", "grant-role", "u1", "none"],
            ["user", "get", "u1"],
            ["user", "get", "u1", "--detail"],
            ["user", "list"],
            ["user", "revoke-role", "u1", "r1"],
            ["user", "delete", "u1"],
            ["user", "delete", "u2"],
            ["user", "delete", "u3"],
            ["user", "delete", "u1"],
            ["role", "delete", "r1"],
            ["role", "delete", "r1"],
        ):
            twins.run(*args, *out)


def test_user_and_role_arguments(twins: Twins) -> None:
    for words in (
        "role add", "role delete", "role get", "role list x", "role grant-permission r1 read",
        "role grant-permission r1 bogus k", "role grant-permission r1 read k e --prefix",
        "role grant-permission r1 read k --prefix --from-key", "role revoke-permission r1", "user add", "user add :pw",
        "user delete", "user get", "user list x", "user grant-role u", "user revoke-role u", "user passwd",
        "auth enable x", "auth disable x", "role get none", "user get none",
    ):  # fmt: skip
        twins.run(*words.split(), stdin="")


def test_passwords_from_stdin(twins: Twins) -> None:
    twins.run("user", "add", "p1", "--interactive=false", stdin="secret more\n", code=0)
    twins.run("user", "passwd", "p1", "--interactive=false", stdin="other\n", code=0)
    twins.run("user", "add", "p2", stdin="one\none\n")
    twins.run("user", "add", "p3", stdin="one\ntwo\n", code=128)
    twins.run("user", "delete", "p1")
    twins.run("user", "delete", "p2")


def test_authentication(twins: Twins) -> None:
    twins.run("auth", "enable", code=1)
    twins.run("user", "add", "root:pw", code=0)
    twins.run("--user=root:pw", "get", "k")
    twins.run("auth", "enable", code=0)
    try:
        twins.run("get", "k", code=1)
        twins.run("--user=root:bad", "get", "k", code=2)
        twins.run("--user=root:pw", "get", "k", code=0)
        twins.run("--user=root", "--password=pw", "put", "k", "v", code=0)
        twins.run("get", "k", env={"ETCDCTL_USER": "root:pw"}, code=0)
        twins.run("--user=root", "user", "list", stdin="pw\n", code=0)
        twins.run("--user=root:pw", "user", "add", "u:pw", code=0)
        twins.run("--user=u:pw", "get", "k", code=1)
        twins.run("--user=u:pw", "endpoint", "health")
        twins.run("--user=u:pw", "txn", stdin="\nget k\n\n\n", code=1)
        twins.run("--user=root:pw", "member", "list")
    finally:
        twins.run("--user=root:pw", "auth", "disable", code=0)
    twins.run("auth", "status")
