"""Directories and snapshots of real etcd 3.4.23 are taken over, with everything that a client can see."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.interchange.visible import Client
from tests.oracle import ROOT, Member, real_3_4

pytestmark = [pytest.mark.process, pytest.mark.oracle]


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    """A member of 3.4, not started; kind and directory change, ports stay."""
    found = Member("3.4", str(tmp_path / "data"))
    yield found
    found.close()


@pytest.mark.parametrize("snapshots", [False, True], ids=["from the WAL alone", "with snapshots"])
@pytest.mark.parametrize("stop", ["stopped", "killed"])
def test_a_directory_is_taken_over(member: Member, snapshots: bool, stop: str) -> None:
    member.flags = ["--snapshot-count=25"] if snapshots else []
    member.start()
    with Client(member) as client:
        for number in range(3):
            client.write_history(number)
        client.alarm(2, client.range_all().header.member_id)
        before = client.view()
    assert len(before.leases) == 3
    if stop == "killed":
        member.kill()
    else:
        member.stop()
    for kind in ("ours", "real", "ours"):
        member.kind = kind
        member.start()
        with Client(member) as client:
            after = client.view()
        assert after == before, kind
        member.stop()


def test_users_and_roles_are_taken_over(member: Member) -> None:
    member.start()
    ctl = [real_3_4("etcdctl"), f"--endpoints={member.endpoint}"]
    for words in (
        "user add root:pw", "user grant-role root root", "role add dev", "user add bob:secret",
        "role grant-permission dev --prefix=true readwrite app/", "user grant-role bob dev", "auth enable",
    ):  # fmt: skip
        subprocess.run([*ctl, *words.split()], check=True, capture_output=True, env={"ETCDCTL_API": "3"})
    member.stop()
    member.kind = "ours"
    member.start()
    assert member.etcdctl("--user=bob:secret", "put", "app/1", "x").stdout == "OK\n"
    assert "permission denied" in member.etcdctl("--user=bob:secret", "put", "other", "x").stderr
    assert "invalid user ID or password" in member.etcdctl("--user=bob:wrong", "get", "app/1").stderr
    assert member.etcdctl("--user=root:pw", "user", "list").stdout.split() == ["bob", "root"]


def test_a_snapshot_is_restored(member: Member, tmp_path: Path) -> None:
    member.start()
    with Client(member) as client:
        client.write_history(0)
        client.alarm(2, client.range_all().header.member_id)
        before = client.view()
    saved = tmp_path / "saved.db"
    env = {"ETCDCTL_API": "3"}
    command = [real_3_4("etcdctl"), f"--endpoints={member.endpoint}", "snapshot", "save", str(saved)]
    subprocess.run(command, check=True, capture_output=True, env=env)
    member.stop()
    status = [*command[:1], "snapshot", "status", str(saved), "-w", "json"]
    assert subprocess.run(status, check=True, capture_output=True, env=env).stdout
    member.kind, member.data_dir = "ours", str(tmp_path / "restored")
    peer = f"http://127.0.0.1:{member.peer_port}"
    words = [f"--data-dir={member.data_dir}", "--name=m1", f"--initial-cluster=m1={peer}"]
    words.append(f"--initial-advertise-peer-urls={peer}")
    command = [sys.executable, "-m", "quorate.cli.etcdutl.main", "snapshot", "restore", str(saved), *words]
    subprocess.run(command, check=True, capture_output=True, env={"PYTHONPATH": str(ROOT / "src")})
    member.start()
    with Client(member) as client:
        after = client.view()
    assert replace(after, members=[], cluster_id=0, alarms=[]) == replace(before, members=[], cluster_id=0, alarms=[])
