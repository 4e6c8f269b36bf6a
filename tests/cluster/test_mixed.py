"""Our members and real etcd 3.5.1 in one cluster: either kind joins the other, leads, and sends snapshots."""

from __future__ import annotations

import json

import pytest

from tests.cluster.harness import Cluster, cluster, peer_get, until
from tests.oracle import Member

pytestmark = [pytest.mark.process, pytest.mark.oracle]

SMALL_LOGS = ["--snapshot-count=40"]
RELAXED = "--strict-reconfig-check=false"  # else a new member has to wait until the others have been in touch for 5 s


def fill(made: Cluster, member: Member, count: int, prefix: str) -> None:
    """Write `count` keys in a few requests."""
    for first in range(0, count, 50):
        puts = "".join(f"put {prefix}{number} {'v' * 50}{number}\n" for number in range(first, min(first + 50, count)))
        done = member.etcdctl("txn", stdin=f"\n{puts}\n\n")
        assert done.returncode == 0, done.stderr


def single_puts(made: Cluster, member: Member, count: int, prefix: str) -> None:
    """Write keys one entry each, so that the log grows."""
    made.puts(member, [f"{prefix}{number}" for number in range(count)])


def lead(made: Cluster, member: Member) -> None:
    """Make this member the leader."""
    if made.leader() is not member:
        made.ctl(made.leader(), "move-leader", made.id_of(member))
        assert made.leader() is member


@pytest.mark.parametrize("kinds", [["real", "real", "ours"], ["ours", "ours", "real"]])
def test_a_mixed_cluster_with_either_kind_leading(kinds: list[str]) -> None:
    with cluster(kinds) as made:
        for kind in ("ours", "real"):
            lead(made, next(member for member in made.members if member.kind == kind))
            for member in made.members:
                made.ctl(member, "put", f"{kind}/{member.name}", "x")
                assert made.ctl(member, "get", f"{kind}/{member.name}", "--print-value-only").strip() == "x"
                lease = made.ctl(member, "lease", "grant", "100").split()[1]
                made.ctl(member, "lease", "keep-alive", "--once", lease)
                assert "remaining" in made.ctl(member, "lease", "timetolive", lease)
                made.ctl(member, "put", f"leased/{kind}/{member.name}", "1", f"--lease={lease}")
                made.ctl(member, "lease", "revoke", lease)
        assert made.ctl(made.members[0], "get", "leased", "--prefix") == ""
        revision = made.agree()
        made.ctl(made.members[0], "compact", str(revision - 3), "--physical")
        made.agree()
        for member in made.members:
            assert json.loads(peer_get(member, "/version")[2])["etcdcluster"] == "3.5.0"


def test_ours_joins_two_real_ones_and_gets_a_snapshot() -> None:
    with cluster(["real", "real"], SMALL_LOGS) as made:
        fill(made, made.members[0], 200, "a")
        single_puts(made, made.members[0], 100, "b")
        ours = made.join("ours")
        made.agree()
        made.retry(ours, "put", "c", "1")
        ours.kill()
        single_puts(made, made.members[0], 20, "d")
        ours.start()
        made.agree()
        assert len(made.ctl_json(ours, "member", "list")["members"]) == 3


def test_a_real_one_joins_ours_and_gets_a_snapshot() -> None:
    with cluster(["ours", "ours"], [*SMALL_LOGS, RELAXED, "--experimental-snapshot-catchup-entries=10"]) as made:
        made.flags = [*SMALL_LOGS, RELAXED]  # 3.5.1 does not know the last one
        fill(made, made.members[0], 200, "a")
        single_puts(made, made.members[0], 100, "b")
        real = made.join("real")
        made.agree()
        assert "applied snapshot" in real.log_tail(1 << 20)
        made.retry(real, "put", "c", "1")
        lead(made, real)
        made.ctl(made.members[0], "put", "d", "1")
        made.agree()


def test_a_lagging_member_of_either_kind_gets_a_snapshot_of_the_other() -> None:
    ours_flags = [*SMALL_LOGS, "--snapshot-catchup-entries=10"]
    made = Cluster(["ours", "ours", "real"], SMALL_LOGS)
    for member in made.members[:2]:
        member.flags = ours_flags
    try:
        made.start()
        single_puts(made, made.members[0], 20, "a")
        lead(made, made.members[0])
        real = made.members[2]
        real.kill()
        single_puts(made, made.members[0], 120, "b")
        real.start()
        until(lambda: "applied snapshot" in real.log_tail(1 << 20))
        made.agree()
        lead(made, made.members[1])
        lagging = made.members[0]
        lagging.kill()
        single_puts(made, made.members[1], 120, "c")
        lagging.start()
        until(lambda: "applied snapshot" in lagging.log_tail(1 << 20))
        made.agree()
        lagging.kill()
        lagging.start()
        made.agree()
    finally:
        made.close()


def test_members_are_replaced_one_by_one_and_back() -> None:
    with cluster(["real", "real", "real"], [RELAXED]) as made:
        for kind in ("ours", "real"):
            for old in [member for member in made.members if member.kind != kind]:
                fill(made, made.running()[0], 20, f"{kind}/{old.name}/")
                made.join(kind)
                made.leave(old)
                until(lambda old=old: old.process is None or old.process.poll() is not None, 20)
                assert old.stop() == 0, old.log_tail()
                old.close()
                made.agree()
        assert {member.kind for member in made.members} == {"real"}
        assert len(made.ctl(made.members[0], "get", "", "--prefix", "--keys-only").split()) == 120
