"""A member's data directory through restarts and crashes. (Between ours and real etcd: tests/interchange.)"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest

from quorate.membership.member import compute_cluster_id, compute_member_id
from quorate.ports import NullLog
from quorate.proto.etcdserver_pb2 import Metadata
from quorate.runtime.disk import OsDisk
from quorate.storage.wal import Wal
from tests.oracle import Member

pytestmark = [pytest.mark.process, pytest.mark.oracle]


@pytest.fixture
def member(tmp_path: Path) -> Member:
    """A member of our kind on a directory of its own, not started; its ports stay the same through restarts."""
    found = Member("ours", str(tmp_path / "data"))
    yield found  # type: ignore[misc]
    found.close()


def ctl(member: Member, *words: str) -> str:
    done = member.etcdctl(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fill(member: Member, prefix: str, count: int) -> None:
    operations = "".join(f"put {prefix}{number} value{number}\n" for number in range(count))
    for start in range(0, count, 100):
        lines = operations.splitlines()[start : start + 100]
        done = member.etcdctl("txn", stdin="\n" + "\n".join(lines) + "\n\n\n")
        assert done.returncode == 0, done.stderr


def facts(member: Member) -> dict[str, object]:
    """What must survive: every record with its revisions, leases, members, the hash of the history."""
    status = json.loads(ctl(member, "endpoint", "status", "-w", "json"))[0]["Status"]
    return {
        "kvs": json.loads(ctl(member, "get", "", "--prefix", "-w", "json")).get("kvs"),
        "revision": status["header"]["revision"],
        "member": status["header"]["member_id"],
        "cluster": status["header"]["cluster_id"],
        "leases": ctl(member, "lease", "list"),
        "members": ctl(member, "member", "list"),
        "hash": ctl(member, "endpoint", "hashkv").split()[1],
    }


def write_a_little(member: Member) -> None:
    fill(member, "k", 30)
    ctl(member, "put", "k3", "again")
    ctl(member, "del", "k4")
    lease = ctl(member, "lease", "grant", "1000").split()[1]
    ctl(member, "put", "leased", "x", f"--lease={lease}")
    ctl(member, "compaction", "3")


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_everything_survives_a_restart(member: Member, sig: int) -> None:
    member.start()
    write_a_little(member)
    before = facts(member)
    assert member.stop(sig) == -sig
    for _ in range(2):
        member.start()
        assert facts(member) == before
        member.stop(sig)


def test_snapshots_are_made_and_used(member: Member, tmp_path: Path) -> None:
    member.flags = ["--snapshot-count=10", "--snapshot-catchup-entries=3"]
    member.start()
    for number in range(40):
        ctl(member, "put", f"k{number}", "x")
    before = facts(member)
    deadline = time.monotonic() + 10
    while not any(name.endswith(".snap") for name in os.listdir(tmp_path / "data/member/snap")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    member.kill()
    member.start()
    assert facts(member) == before
    assert "recovered v2 store from snapshot" in member.log_tail(20000)


def test_a_torn_end_is_repaired(member: Member, tmp_path: Path) -> None:
    member.start()
    fill(member, "k", 20)
    before = facts(member)
    member.kill()
    segment = next((tmp_path / "data/member/wal").glob("*.wal"))
    content = segment.read_bytes().rstrip(b"\0")
    with open(segment, "r+b") as file:
        file.seek(len(content) + (-len(content) % 8))
        file.write(b"\0\x10\0\0\0\0\0\0\x08\x02")  # a record of 4096 bytes, of which two came to the disk
    member.start()
    assert facts(member) == before


@pytest.mark.parametrize("part", ["wal", "db"])
def test_damage_stops_the_member_and_is_named(member: Member, tmp_path: Path, part: str) -> None:
    member.start()
    fill(member, "k", 50)
    member.stop()
    if part == "wal":
        path = next((tmp_path / "data/member/wal").glob("*.wal"))
        at = path.read_bytes().index(b"value7")
        damage = b"\xff"
    else:
        path = tmp_path / "data/member/snap/db"
        at, damage = 0, os.urandom(8192)  # both metas
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(damage)
    member.start(wait=False)
    assert member.process is not None
    assert member.process.wait(15) == 1
    last = json.loads(Path(member.log_path).read_text().splitlines()[-1])
    assert last["level"] == "fatal"
    assert str(path).endswith(last["path"].rpartition("data/")[2])
    if part == "wal":
        assert last["offset"] > 0


def test_a_second_member_does_not_get_the_directory(member: Member) -> None:
    member.start()
    other = Member("ours", member.data_dir)
    try:
        other.start(wait=False)
        time.sleep(1.0)
        assert other.process is not None
        assert other.process.poll() is None  # it waits for the lock, as etcd does
        ctl(member, "put", "a", "b")
        member.stop()
        other.wait_healthy()
        assert ctl(other, "get", "a") == "a\nb\n"
    finally:
        other.close()


def test_force_new_cluster(member: Member) -> None:
    member.start()
    fill(member, "k", 10)
    done = member.etcdctl("member", "add", "m2", "--peer-urls=http://127.0.0.1:1", "--learner")
    added = done.returncode == 0
    member.kill()
    member.flags = ["--force-new-cluster"]
    member.start()
    assert len(ctl(member, "member", "list").splitlines()) == 1
    assert len(ctl(member, "get", "", "--prefix", "--keys-only").split()) == 10
    assert added, done.stderr


def test_a_first_start_that_was_cut_short_goes_on(member: Member, tmp_path: Path) -> None:
    peer = f"http://127.0.0.1:{member.peer_port}"
    member_id = compute_member_id([peer], "etcd-cluster")
    cluster_id = compute_cluster_id([member_id])
    metadata = Metadata(NodeID=member_id, ClusterID=cluster_id).SerializeToString()
    os.makedirs(tmp_path / "data/member/snap", 0o700)
    Wal.create(OsDisk(), str(tmp_path / "data/member/wal"), metadata, NullLog()).close()
    member.start()
    assert ctl(member, "member", "list").startswith(f"{member_id:x}, started, m1, ")
    member.stop()
    member.start()


def test_a_cut_short_start_of_another_member_is_not_taken_over(member: Member, tmp_path: Path) -> None:
    os.makedirs(tmp_path / "data/member/snap", 0o700)
    metadata = Metadata(NodeID=5, ClusterID=6).SerializeToString()
    Wal.create(OsDisk(), str(tmp_path / "data/member/wal"), metadata, NullLog()).close()
    member.start(wait=False)
    assert member.process is not None
    assert member.process.wait(15) == 1
    assert "which never started, and --initial-cluster describes another one" in member.log_tail()


def test_a_database_without_its_log_is_not_mixed_with_a_new_one(member: Member, tmp_path: Path) -> None:
    member.start()
    ctl(member, "put", "a", "b")
    member.stop()
    shutil.rmtree(tmp_path / "data/member/wal")
    member.start(wait=False)
    assert member.process is not None
    assert member.process.wait(15) == 1
    assert "has data, but there is no WAL in" in member.log_tail()
    assert not (tmp_path / "data/member/wal").exists()


def test_a_wal_directory_of_its_own(member: Member, tmp_path: Path) -> None:
    member.flags = [f"--wal-dir={tmp_path}/elsewhere/wal"]
    member.start()
    ctl(member, "put", "a", "b")
    member.kill()
    assert not (tmp_path / "data/member/wal").exists()
    member.start()
    assert ctl(member, "get", "a") == "a\nb\n"


def test_a_write_that_fails_stops_the_member_and_loses_nothing_acknowledged(member: Member) -> None:
    member.start()
    fill(member, "k", 30)
    time.sleep(0.5)  # the batch commit is done, so that the log is what fails
    assert member.process is not None
    resource.prlimit(member.process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
    assert member.etcdctl("--command-timeout=2s", "put", "refused", "x" * 10_000).returncode != 0
    assert member.process.wait(15) == 1
    member.start()
    assert len(ctl(member, "get", "k", "--prefix", "--keys-only").split()) == 30
    assert ctl(member, "get", "refused") == ""
    assert "repaired" in member.log_tail(20000)  # half of the entry had come to the disk


def test_a_file_with_much_free_space_is_defragmented_at_the_start(member: Member) -> None:
    member.start()
    for number in range(40):
        assert member.etcdctl("put", f"big{number}", "x" * 100_000).returncode == 0
    ctl(member, "del", "big", "--prefix")
    ctl(member, "compaction", "42")
    deadline = time.monotonic() + 20
    while status_of(member)["dbSizeInUse"] > 1_000_000:  # type: ignore[operator]
        assert time.monotonic() < deadline
        ctl(member, "put", "a", "b")  # freed pages are free with the commit after the next
        time.sleep(0.05)
    before = facts(member)
    assert member.stop() == -signal.SIGTERM
    member.flags = ["--bootstrap-defrag-threshold-megabytes=1000"]
    member.start()
    assert '"Skipping defragmentation"' in member.log_tail(20_000)
    size = status_of(member)["dbSize"]
    assert member.stop() == -signal.SIGTERM
    member.flags = ["--bootstrap-defrag-threshold-megabytes=1", "--downgrade-check-time=0s"]
    member.start()
    while status_of(member)["dbSize"] * 4 > size:  # type: ignore[operator]
        assert time.monotonic() < deadline + 20
        time.sleep(0.05)
    assert facts(member) == before


def status_of(member: Member) -> dict[str, object]:
    return json.loads(ctl(member, "endpoint", "status", "-w", "json"))[0]["Status"]


def test_memory_is_locked_where_the_system_allows_it(member: Member) -> None:
    allowed = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY or os.geteuid() == 0
    member.flags = ["--experimental-memory-mlock"]
    if not allowed:
        with pytest.raises(RuntimeError, match="cannot lock memory"):
            member.start()
        return
    member.start()
    assert member.process is not None
    status = Path(f"/proc/{member.process.pid}/status").read_text()
    assert int(status.split("VmLck:")[1].split()[0]) > 10_000
