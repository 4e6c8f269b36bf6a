"""Data directories and snapshots change hands between ours and real etcd 3.5.1, and nothing that a client sees changes.

No downgrade is asked for: what ours leaves behind, 3.5 takes as it is.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from quorate.proto import rpc_pb2 as pb
from tests.interchange.visible import NOSPACE, Client
from tests.oracle import Member, real_binary

pytestmark = [pytest.mark.process, pytest.mark.oracle]

FLAGS = {"from the WAL alone": [], "with snapshots": ["--snapshot-count=25"]}


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    """A member, not started; kind and directory change, ports stay."""
    found = Member("ours", str(tmp_path / "data"))
    found.health_path = "/health?exclude=NOSPACE"
    yield found
    found.close()


def other(kind: str) -> str:
    return "real" if kind == "ours" else "ours"


def wait_for_snapshot(member: Member) -> None:
    deadline = time.monotonic() + 10
    while not list(Path(member.data_dir, "member/snap").glob("*.snap")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("flags", FLAGS.values(), ids=list(FLAGS))
@pytest.mark.parametrize("first", ["ours", "real"])
def test_a_directory_changes_hands_four_times(member: Member, first: str, flags: list[str]) -> None:
    member.kind, member.flags = first, flags
    member.start()
    for number in range(5):
        with Client(member) as client:
            client.write_history(number)
            before = client.view()
        assert len(before.alarms) == 1
        assert len(before.leases) == number + 1
        assert len(before.history) > 15
        if flags:
            wait_for_snapshot(member)
        member.stop()
        member.kind = other(member.kind)
        member.start()
        with Client(member) as client:
            assert client.view() == before, f"{other(member.kind)} -> {member.kind}"
    member.stop()


@pytest.mark.parametrize("first", ["ours", "real"])
def test_a_killed_member_s_directory_is_taken_over(member: Member, first: str) -> None:
    member.kind, member.flags = first, FLAGS["with snapshots"]
    member.start()
    with Client(member) as client:
        client.write_history(0)
        before = client.view()
    wait_for_snapshot(member)
    member.kill()
    member.kind = other(first)
    member.start()
    with Client(member) as client:
        assert client.view() == before


def restore(saved: Path, target: Path, member: Member) -> None:
    peer = f"http://127.0.0.1:{member.peer_port}"
    command = [real_binary("etcdutl"), "snapshot", "restore", str(saved), f"--data-dir={target}", "--name=m1"]
    command += [f"--initial-cluster=m1={peer}", f"--initial-advertise-peer-urls={peer}"]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize("kind", ["ours", "real"])
def test_a_saved_snapshot_is_accepted_and_restored_for_both(member: Member, tmp_path: Path, kind: str) -> None:
    member.kind, member.flags = kind, FLAGS["with snapshots"]
    member.start()
    with Client(member) as client:
        client.write_history(0)
        client.alarm(2, client.range_all().header.member_id)
        before = client.view()
    saved = tmp_path / "saved.db"
    assert member.etcdctl("snapshot", "save", str(saved)).returncode == 0
    member.stop()
    status = subprocess.run(
        [real_binary("etcdutl"), "snapshot", "status", str(saved), "-w", "json"], check=True, capture_output=True
    )
    facts = json.loads(status.stdout)
    assert facts["revision"] == before.revision
    assert facts["totalSize"] == saved.stat().st_size - 32  # the rest is the checksum
    assert facts["totalKey"] > len(before.kvs)
    restored = tmp_path / "restored"
    restore(saved, restored, member)
    for number, successor in enumerate(("real", "ours", "real")):
        # The first two start on copies of what was restored, the last on what ours has left.
        if number < 2:
            shutil.copytree(restored, tmp_path / successor)
        member.kind, member.data_dir = successor, str(tmp_path / ("ours" if number == 2 else successor))
        member.start()
        with Client(member) as client:
            after = client.view()
            assert client.call("Maintenance", "Status", pb.StatusRequest(), pb.StatusResponse).raftIndex > 0  # type: ignore[attr-defined]
        member.stop()
        assert after.hash == before.hash, successor
        assert after.cluster_id == before.cluster_id
        assert (after.kvs, after.leases, after.history) == (before.kvs, before.leases, before.history)
        assert (after.alarms, after.members) == (before.alarms, before.members)


def test_an_alarm_refuses_writes_after_the_change_too(member: Member) -> None:
    member.start()
    with Client(member) as client:
        client.write_history(0)
    member.stop()
    member.kind = "real"
    member.start()
    refused = member.etcdctl("put", "a", "b")
    assert "etcdserver: mvcc: database space exceeded" in refused.stderr
    assert member.etcdctl("alarm", "disarm").stdout.endswith(f"alarm:{pb.AlarmType.Name(NOSPACE)} \n")
    member.stop()
    member.kind = "ours"
    member.start()
    assert member.etcdctl("alarm", "list").stdout == ""
    assert member.etcdctl("put", "a", "b").stdout == "OK\n"


AS_ROOT = "--user=root:secret"


def close_the_door(member: Member, number: int) -> str:
    """Enable authentication; add a user, a role and a learner that never comes, and remove the learner of before.

    Return the members."""

    def ctl(*args: str) -> str:
        done = member.etcdctl(*args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    if number == 0:
        ctl("user", "add", "root:secret")
        ctl("user", "grant-role", "root", "root")
    ctl("role", "add", f"role{number}")
    ctl("role", "grant-permission", f"role{number}", "readwrite", "a", "b")
    ctl("user", "add", f"user{number}:word{number}")
    ctl("user", "grant-role", f"user{number}", f"role{number}")
    for line in ctl("member", "list").splitlines():
        if line.endswith("true"):
            ctl("member", "remove", line.partition(",")[0])
    ctl("member", "add", f"learner{number}", "--learner", f"--peer-urls=http://127.0.0.1:{number + 1}")
    listed = ctl("member", "list")
    ctl("auth", "enable")
    return listed


def open_the_door(member: Member, number: int) -> None:
    """See that authentication is on and knows all users so far, and disable it."""
    refused = member.etcdctl("get", "a")
    assert "etcdserver: user name is empty" in refused.stderr
    assert "Authentication Status: true" in member.etcdctl("auth", "status", AS_ROOT).stdout
    users = member.etcdctl("user", "list", AS_ROOT).stdout.split()
    assert users == sorted(["root", *[f"user{each}" for each in range(number + 1)]])
    for each in (0, number):
        as_user = f"--user=user{each}:word{each}"
        assert member.etcdctl("get", "a", as_user).returncode == 0
        assert "permission denied" in member.etcdctl("get", "c", as_user).stderr
    assert member.etcdctl("auth", "disable", AS_ROOT).stdout == "Authentication Disabled\n"


def test_ten_changes_of_hands_with_users_and_members(member: Member) -> None:
    member.kind, member.flags = "real", ["--snapshot-count=25", "--bcrypt-cost=4"]
    member.start()
    for number in range(10):
        with Client(member) as client:
            client.write_history(number)
            before = client.view()
        members = close_the_door(member, number)
        member.stop()
        member.kind = other(member.kind)
        member.start()
        open_the_door(member, number)
        with Client(member) as client:
            seen = client.view()
        assert member.etcdctl("member", "list").stdout == members
        assert seen == replace(before, members=seen.members), f"{other(member.kind)} -> {member.kind}"
        assert (len(seen.leases), len(seen.alarms), len(seen.members)) == (number + 1, 1, 2)
