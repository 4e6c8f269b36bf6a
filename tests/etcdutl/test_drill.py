"""Backups in earnest: restores into clusters of either kind, two members of three lost, volumes copied under load."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from quorate.proto import rpc_pb2 as pb
from tests.backup.history import saved
from tests.cluster.harness import Cluster, cluster, until
from tests.etcdutl.side import OURS, ours, real
from tests.interchange.visible import OPTIONS, Client, View
from tests.oracle import ROOT, Member

pytestmark = [pytest.mark.oracle, pytest.mark.process]


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    """A member, not started."""
    found = Member("ours", str(tmp_path / "data"))
    yield found
    found.close()


def restore(path: Path, member: Member, *more: str, initial_cluster: str = "", by: str = "ours") -> None:
    peer = member.peer_url
    flags = [f"--data-dir={member.data_dir}", f"--name={member.name}", f"--initial-advertise-peer-urls={peer}"]
    flags.append(f"--initial-cluster={initial_cluster or f'{member.name}={peer}'}")
    tool = ours if by == "ours" else real
    done = tool(Path(member.owned), "snapshot", "restore", str(path), *flags, *more)
    assert done.code == 0, done


def same_data(after: View, before: View) -> None:
    assert (after.revision, after.hash, after.compact_revision) == (
        before.revision,
        before.hash,
        before.compact_revision,
    )
    assert (after.kvs, after.at_older_revisions, after.history) == (
        before.kvs,
        before.at_older_revisions,
        before.history,
    )
    assert (after.leases, after.alarms) == (before.leases, before.alarms)


# Who took the snapshot, who restores it, who starts on it.
HANDS = [hands for hands in itertools.product(("ours", "real"), repeat=3) if len(set(hands)) > 1]


@pytest.mark.parametrize(("taken", "by", "starts"), HANDS)
def test_a_snapshot_restored_into_one_member(member: Member, taken: str, by: str, starts: str) -> None:
    path, before = saved(taken)
    member.kind = starts
    restore(path, member, by=by)
    member.start()
    with Client(member) as client:
        same_data(client.view(), before)
        client.put(b"goes", b"on")
        assert client.range_all().header.revision == before.revision + 1


@pytest.mark.parametrize("kinds", [["ours"] * 3, ["real", "ours", "real"]], ids=["ours", "mixed"])
def test_a_snapshot_restored_into_three_members(kinds: list[str]) -> None:
    path, before = saved("real")
    made = Cluster(kinds)
    try:
        for member in made.members:
            restore(path, member, initial_cluster=made.initial_cluster())
        made.start()
        made.leader()
        assert made.agree() == before.revision
        with Client(made.members[0]) as client:
            same_data(client.view(), before)
        made.puts(made.members[1], [f"more{number}" for number in range(20)])
        assert made.agree() == before.revision + 20
        listed = made.ctl_json(made.members[2], "member", "list")["members"]
        assert sorted(each["name"] for each in listed) == ["m1", "m2", "m3"]
    finally:
        made.close()


def compacted_watch(member: Member, revision: int) -> int:
    """Watch from a revision on; return the compact revision that the cancellation names."""
    with grpc.insecure_channel(member.endpoint, OPTIONS) as channel:
        stream = channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=pb.WatchRequest.SerializeToString,
            response_deserializer=pb.WatchResponse.FromString,
        )
        create = pb.WatchCreateRequest(key=b"\0", range_end=b"\0", start_revision=revision)
        for response in stream(iter([pb.WatchRequest(create_request=create)]), timeout=10):
            if response.canceled:
                found: int = response.compact_revision
                return found
    raise AssertionError("the watch was not cancelled")


@pytest.mark.parametrize("starts", ["ours", "real"])
def test_revisions_move_forward(member: Member, starts: str) -> None:
    path, before = saved("real")
    member.kind = starts
    restore(path, member, "--bump-revision=1000000", "--mark-compacted")
    moved = before.revision + 1_000_000
    member.start()
    with Client(member) as client:
        everything = client.range_all()
        assert everything.header.revision == moved
        assert [kv.SerializeToString() for kv in everything.kvs if kv.key] == before.kvs
        assert client.put(b"next", b"1").header.revision == moved + 1
        assert client.leases() == before.leases
    assert compacted_watch(member, before.revision) == moved
    refused = member.etcdctl("get", "k00", f"--rev={before.revision}")
    assert "required revision has been compacted" in refused.stderr
    member.stop()
    member.start()
    with Client(member) as client:
        assert client.range_all().header.revision == moved + 1
    assert compacted_watch(member, before.revision) == moved
    member.stop()
    checked = ours(Path(member.owned), "verify", f"--data-dir={member.data_dir}")
    assert checked.code == 0, checked


def test_two_of_three_members_are_lost_for_ever(tmp_path: Path) -> None:
    with cluster(["ours", "real", "ours"]) as old:
        leader = old.leader()
        old.puts(leader, [f"k{number}" for number in range(50)])
        lease = old.ctl(leader, "lease", "grant", "5000").split()[1]
        old.ctl(leader, "put", "leased", "x", f"--lease={lease}")
        revision = old.agree()
        survivor = old.followers()[0]
        path = tmp_path / "saved.db"
        old.ctl(survivor, "snapshot", "save", str(path))
        old.ctl(survivor, "put", "after the snapshot", "x")
        for lost in old.running():
            if lost is not survivor:
                lost.kill()
        assert survivor.etcdctl("put", "no", "quorum", "--command-timeout=1s", timeout=10).returncode != 0
        survivor.stop()

        # The way back for one who has the survivor's disk: nothing is lost.
        alone = Member("ours", str(tmp_path / "copy"), flags=["--force-new-cluster"], name=survivor.name)
        shutil.copytree(survivor.data_dir, alone.data_dir)
        try:
            alone.start()
            assert alone.etcdctl("get", "after the snapshot").stdout == "after the snapshot\nx\n"
            assert len(alone.etcdctl("member", "list").stdout.splitlines()) == 1
            assert alone.etcdctl("put", "writes", "again").returncode == 0
        finally:
            alone.close()

    # And from the backup: a new cluster of three, which clients of the old one notice.
    new = Cluster(["ours"] * 3)
    try:
        bump = ["--bump-revision=1000", "--mark-compacted", "--initial-cluster-token=new"]
        for member in new.members:
            restore(path, member, *bump, initial_cluster=new.initial_cluster())
        new.start()
        new.leader()
        assert new.agree() == revision + 1000
        first = new.members[0]
        assert new.ctl(first, "get", "k49") == "k49\nx\n"
        assert new.ctl(first, "get", "after the snapshot") == ""
        assert new.ctl(first, "lease", "timetolive", lease, "--keys").endswith("attached keys([leased])\n")
        assert compacted_watch(first, revision) == revision + 1000
        new.puts(new.members[2], ["goes on"])
        new.agree()
    finally:
        new.close()


@pytest.mark.parametrize("kind", ["ours", "real"])
def test_a_copied_directory_of_a_running_member_starts(member: Member, tmp_path: Path, kind: str) -> None:
    """A volume snapshot shows all files at one moment; here the member is held while they are copied."""
    member.kind, member.flags = kind, ["--snapshot-count=200"]
    member.start()
    acknowledged = 0
    stop = threading.Event()

    def write() -> None:
        nonlocal acknowledged
        with Client(member) as client:
            while not stop.is_set():
                client.put(b"k%d" % (acknowledged % 100), b"%d" % acknowledged)
                acknowledged += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(2):
            enough = acknowledged + 150
            until(lambda enough=enough: acknowledged > enough)  # type: ignore[misc]
            before, target = acknowledged, tmp_path / f"copy{number}"
            assert member.process is not None
            os.kill(member.process.pid, signal.SIGSTOP)
            shutil.copytree(member.data_dir, target)
            os.kill(member.process.pid, signal.SIGCONT)
            copy = Member("ours" if number % 2 else "real", str(target), name=member.name)
            copy.initial_cluster, copy.peer_port = f"{member.name}={member.peer_url}", member.peer_port
            copy.peer_listen_port = Member("ours").peer_port
            try:
                copy.start()
                with Client(copy) as client:
                    found = client.range_all()
                    assert len(found.kvs) == 100
                    assert max(int(kv.value) for kv in found.kvs) >= before - 1
                copy.stop()
                checked = ours(tmp_path, "verify", f"--data-dir={target}")
                assert checked.code == 0, checked
            finally:
                copy.close()
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize("kind", ["ours", "real"])
def test_a_copy_whose_log_is_older_than_its_database_loses_nothing(member: Member, tmp_path: Path, kind: str) -> None:
    """As `cp -r` leaves it. Real etcd starts on it too, and then passes over as many new writes as are missing."""
    member.kind = kind
    member.start()
    with Client(member) as client:
        client.write_history(0)
        client.alarm(2, client.range_all().header.member_id)
    target = tmp_path / "copy"
    shutil.copytree(Path(member.data_dir, "member/wal"), target / "member/wal")
    with Client(member) as client:
        client.write_history(1)
        client.alarm(2, client.range_all().header.member_id)
        before = client.view()
    member.stop()
    shutil.copytree(Path(member.data_dir, "member/snap"), target / "member/snap")
    assert b"acknowledged entries are lost" in ours(tmp_path, "verify", f"--data-dir={target}").stdout
    member.kind, member.data_dir = "ours", str(target)
    member.start()
    with Client(member) as client:
        same_data(client.view(), before)
        for number in range(20):
            client.put(b"new", b"%d" % number)
        after = client.view()
    assert after.revision == before.revision + 20
    member.kill()
    member.start()
    with Client(member) as client:
        assert client.view() == after
    member.stop()
    assert ours(tmp_path, "verify", f"--data-dir={target}").code == 0


def test_a_database_in_use_is_waited_for(member: Member) -> None:
    member.start()
    checked = ours(Path(member.owned), "verify", f"--data-dir={member.data_dir}")
    assert checked.code == 2
    assert b"stop the member first" in checked.stdout
    process = subprocess.Popen(
        [*OURS, "defrag", f"--data-dir={member.data_dir}"],
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT / "src")},
    )
    assert process.stderr is not None
    try:
        assert process.stderr.readline().startswith("waiting for etcd to close and release its lock on")
        assert process.poll() is None
        member.stop()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.stderr.close()


@pytest.mark.parametrize(
    ("by", "starts", "more"),
    [
        ("ours", "ours", []),
        ("ours", "real", []),
        ("real", "ours", []),
        ("ours", "ours", ["--with-v3=false"]),
        ("ours", "real", ["--with-v3=false"]),
    ],
)
def test_a_backup_of_the_old_kind(member: Member, tmp_path: Path, by: str, starts: str, more: list[str]) -> None:
    member.flags = ["--snapshot-count=20"]
    member.start()
    with Client(member) as client:
        client.write_history(0)
        client.alarm(2, client.range_all().header.member_id)
        before = client.view()
    member.stop()
    tool, target = (ours if by == "ours" else real), tmp_path / "backup"
    done = tool(tmp_path, "backup", f"--data-dir={member.data_dir}", f"--backup-dir={target}", *more)
    assert done.code == 0, done
    copy = Member(starts, str(target), flags=["--force-new-cluster"], name="default")
    try:
        copy.start()
        with Client(copy) as client:
            if more:
                assert client.range_all().count == 0
            else:
                same_data(client.view(), before)
            client.put(b"goes", b"on")
        assert len(copy.etcdctl("member", "list").stdout.splitlines()) == 1
    finally:
        copy.close()


def test_a_directory_of_3_6_and_back(member: Member, tmp_path: Path) -> None:
    path, before = saved("real")
    restore(path, member)
    folder = Path(member.owned)

    def migrate(target: str, *more: str) -> tuple[int, str, list[str]]:
        done = ours(folder, "migrate", f"--data-dir={member.data_dir}", f"--target-version={target}", *more)
        return done.code, done.errors, [message for _, message, _ in done.log]

    database = f"{member.data_dir}/member/snap/db"
    assert migrate("3.5") == (0, "", ["storage version up-to-date"])
    assert migrate("3.6") == (0, "", ["updated storage version"])
    status = ours(folder, "snapshot", "status", database)
    assert status.stdout.endswith(b" kB, 3.6.0\n")
    assert status.stdout.split(b", ")[2] == b"%d" % len(before.kvs)
    assert ours(folder, "snapshot", "status", database, "-wfields").stdout.endswith(b'"Version" : 3.6.0\n')
    assert b'"version":"3.6.0"}' in ours(folder, "snapshot", "status", database, "-wjson").stdout
    # 3.5 does not look at it.
    hashes = [tool(folder, "snapshot", "status", database).stdout.split(b", ")[0] for tool in (ours, real)]
    assert hashes[0] == hashes[1]
    wrong = 'Error: cannot create migration plan: version "3.7.0" is not supported'
    assert migrate("3.7")[:2] == (1, wrong)
    assert migrate("3.7", "--force")[0] == 0
    assert migrate("3.5")[0] == 1
    assert migrate("3.5", "--force")[0] == 0
    assert migrate("3")[:2] == (128, 'Error: wrong target version format, expected "X.Y", got "3"')
    assert migrate("3.4")[:2] == (128, 'Error: target version "3.4" not supported. Minimal "3.5"')
    member.kind = "real"
    member.start()
    with Client(member) as client:
        same_data(client.view(), before)


def test_hashkv_of_a_file_is_what_a_member_says(member: Member) -> None:
    path, before = saved("real")
    folder = Path(member.owned)
    done = ours(folder, "hashkv", str(path))
    assert done.stdout.decode() == f"{before.hash}, {before.revision}, {before.compact_revision}\n"
    restore(path, member)
    member.start()
    with Client(member) as client:
        for revision in (before.compact_revision, before.compact_revision + 3, before.revision):
            answer = client.call("Maintenance", "HashKV", pb.HashKVRequest(revision=revision), pb.HashKVResponse)
            found = ours(folder, "hashkv", str(path), f"--rev={revision}", "-wjson").stdout.decode()
            wanted = {"hash": answer.hash, "hashRevision": revision, "compactRevision": answer.compact_revision}  # type: ignore[attr-defined]
            assert json.loads(found) == wanted
    early = ours(folder, "hashkv", str(path), f"--rev={before.compact_revision - 1}")
    assert (early.code, early.errors) == (1, "Error: mvcc: required revision has been compacted")
    late = ours(folder, "hashkv", str(path), f"--rev={before.revision + 1}")
    assert (late.code, late.errors) == (1, "Error: mvcc: required revision is a future revision")
    table = ours(folder, "hashkv", str(path), "-wtable").stdout.decode().splitlines()
    assert [title.strip() for title in table[1].split("|")[1:4]] == ["HASH", "HASH REVISION", "COMPACT REVISION"]
