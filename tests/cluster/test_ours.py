"""Three of our own members as processes: they serve, survive the loss of any one, and agree afterwards."""

from __future__ import annotations

import json
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator

import pytest

from tests.cluster.harness import Cluster, CommandError, cluster, peer_get, until

pytestmark = [pytest.mark.process, pytest.mark.oracle]  # etcdctl is the real one


@pytest.fixture(scope="module")
def three() -> Iterator[Cluster]:
    with cluster(["ours", "ours", "ours"]) as made:
        yield made


def test_every_member_takes_writes_and_sees_them(three: Cluster) -> None:
    for member in three.members:
        three.ctl(member, "put", "from", member.name)
        for reader in three.members:
            assert three.ctl(reader, "get", "from", "--print-value-only").strip() == member.name
    three.agree()
    assert {three.status(member)["version"] for member in three.members} == {"3.6.14"}


def test_members_tell_each_other_what_etcd_tells(three: Cluster) -> None:
    member = three.members[0]
    status, headers, body = peer_get(member, "/members")
    listed = json.loads(body)
    assert status == 200
    assert {entry["name"] for entry in listed} == {"m1", "m2", "m3"}
    assert listed == sorted(listed, key=lambda entry: entry["id"])
    cluster_id = headers["X-Etcd-Cluster-Id"]
    assert json.loads(peer_get(member, "/version")[2])["etcdserver"] == "3.6.14"
    assert json.loads(peer_get(member, "/raft/probing")[2])["OK"] is True
    assert peer_get(member, "/downgrade/enabled")[2] == b"false"
    assert peer_get(member, "/raft/stream/msgapp/1")[::2] == (412, b"incompatible version\n")
    said = {"X-Server-Version": "3.5.1", "X-Min-Cluster-Version": "3.0.0"}
    assert peer_get(member, "/raft/stream/msgapp/1", said)[::2] == (412, b"cluster ID mismatch\n")
    said["X-Etcd-Cluster-ID"] = cluster_id
    assert peer_get(member, "/raft/stream/msgapp/1", said)[::2] == (404, b"error sender not found\n")
    assert peer_get(member, "/raft/stream/other/1", said)[::2] == (404, b"invalid path\n")
    assert peer_get(member, "/raft/stream/message/x", said)[::2] == (404, b"invalid from\n")
    other = f"{listed[1]['id'] if listed[0]['name'] == 'm1' else listed[0]['id']:x}"
    said["X-Raft-To"] = "1"
    assert peer_get(member, f"/raft/stream/message/{other}", said)[::2] == (412, b"to field mismatch\n")
    assert peer_get(member, "/raft")[0] == 405
    assert peer_get(member, "/nothing")[0] == 404


def test_the_network_is_counted(three: Cluster) -> None:
    leader = three.leader()
    with urllib.request.urlopen(f"{leader.url}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    counted = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    for other in three.followers():
        ids = f'Local="{three.id_of(leader)}",Remote="{three.id_of(other)}"'
        assert counted[f"etcd_network_active_peers{{{ids}}}"] == "1"
        assert counted[f"etcd_network_known_peers{{{ids}}}"] == "1"
        assert float(counted[f'etcd_network_peer_sent_bytes_total{{To="{three.id_of(other)}"}}']) > 0
        assert float(counted[f'etcd_network_peer_received_bytes_total{{From="{three.id_of(other)}"}}']) > 0


def test_leases_are_renewed_through_followers(three: Cluster) -> None:
    follower = three.followers()[0]
    lease = three.ctl(follower, "lease", "grant", "60").split()[1]
    three.ctl(follower, "put", "leased", "1", f"--lease={lease}")
    assert "keepalived with TTL(60)" in three.ctl(follower, "lease", "keep-alive", "--once", lease)
    found = three.ctl_json(follower, "lease", "timetolive", lease, "--keys")
    assert found["granted-ttl"] == 60
    assert 50 <= found["ttl"] <= 60
    assert found["keys"] == ["bGVhc2Vk"]
    three.ctl(follower, "lease", "revoke", lease)
    assert three.ctl(three.members[0], "get", "leased") == ""


def test_leadership_moves_on_request(three: Cluster) -> None:
    target = three.followers()[0]
    three.ctl(three.leader(), "move-leader", three.id_of(target))
    assert three.leader() is target


def test_a_stopping_leader_hands_over(three: Cluster) -> None:
    leader = three.leader()
    others = [member for member in three.running() if member is not leader]
    told = "received MsgTimeoutNow from"
    before = sum(member.log_tail(1 << 20).count(told) for member in others)
    assert leader.stop() == -signal.SIGTERM
    three.retry(others[0], "put", "after", "stop")
    after = sum(member.log_tail(1 << 20).count(told) for member in others)
    assert after == before + 1, "an election was waited for"
    leader.start()
    three.agree()


class Writer(threading.Thread):
    """Writes one key after the other until it is told to stop; remembers what was acknowledged, and the longest gap."""

    def __init__(self, made: Cluster) -> None:
        super().__init__(daemon=True)
        self.made = made
        self.acknowledged: list[str] = []
        self.gap_s = 0.0
        self.ended = threading.Event()

    def run(self) -> None:
        last = time.monotonic()
        number = 0
        while not self.ended.is_set():
            for member in self.made.running():
                try:
                    self.made.ctl(member, "--command-timeout=1s", "put", f"w{number}", str(number))
                except CommandError:
                    continue
                self.acknowledged.append(str(number))
                self.gap_s = max(self.gap_s, time.monotonic() - last)
                last = time.monotonic()
                break
            number += 1

    def finish(self) -> None:
        self.ended.set()
        self.join(30)
        assert self.acknowledged
        assert not self.is_alive()


def test_nothing_acknowledged_is_lost_when_leaders_are_killed(three: Cluster) -> None:
    writer = Writer(three)
    writer.start()
    for _ in range(2):
        leader = three.leader()
        leader.kill()
        time.sleep(3)
        leader.start()
    writer.finish()
    three.agree()
    for member in three.members:
        values = three.ctl(member, "get", "w", "--prefix", "--print-value-only", "--consistency=s").split()
        assert set(writer.acknowledged) <= set(values)
    assert writer.gap_s < 5


def test_a_frozen_leader_is_replaced_and_comes_back(three: Cluster) -> None:
    leader = three.leader()
    assert leader.process is not None
    leader.process.send_signal(signal.SIGSTOP)
    try:
        others = [member for member in three.members if member is not leader]
        three.retry(others[0], "--command-timeout=2s", "put", "frozen", "1")
    finally:
        leader.process.send_signal(signal.SIGCONT)
    three.retry(leader, "put", "thawed", "1")
    three.agree()


def test_a_minority_serves_only_serializable_reads(three: Cluster) -> None:
    survivor, *others = three.members
    three.ctl(survivor, "put", "known", "1")
    three.agree()
    for member in others:
        member.kill()
    with pytest.raises(CommandError, match=r"timed out|deadline exceeded|no leader"):
        three.ctl(survivor, "--command-timeout=3s", "put", "lost", "1")
    with pytest.raises(CommandError, match=r"timed out|deadline exceeded|no leader"):
        three.ctl(survivor, "--command-timeout=3s", "get", "known")
    assert three.ctl(survivor, "get", "known", "--consistency=s").split() == ["known", "1"]
    for member in others:
        member.start(wait=False)
    three.retry(survivor, "put", "again", "1")
    three.agree()


def test_all_members_come_back_after_all_have_died(three: Cluster) -> None:
    three.ctl(three.members[0], "put", "before", "the end")
    for member in three.members:
        member.kill()
    for member in three.members:
        member.start(wait=False)
    assert three.retry(three.members[0], "get", "before", "--print-value-only").strip() == "the end"
    until(lambda: len(three.ctl_json(three.members[0], "member", "list")["members"]) == 3)
    three.agree()
