"""What operators do to clusters, with the real etcdctl: scale, replace a failed member, learners, a lost quorum."""

from __future__ import annotations

import os
import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.cluster.harness import Cluster, CommandError, cluster, until

pytestmark = [pytest.mark.process, pytest.mark.oracle]


def test_a_cluster_grows_from_one_to_three_to_five_and_shrinks_to_three_and_to_one() -> None:
    with cluster(["ours"], ["--strict-reconfig-check=false"]) as made:
        made.ctl(made.members[0], "put", "a", "1")
        made.join("ours")
        made.join("ours")
        made.agree()
        made.retry(made.members[2], "put", "b", "2")
        made.join("ours")
        made.join("ours")
        made.agree()
        assert len(made.ctl_json(made.members[4], "member", "list")["members"]) == 5
        for left in (4, 3, 2, 1):
            member = made.members[0]
            made.leave(member)
            until(lambda member=member: member.process is not None and member.process.poll() is not None)
            assert member.stop() == 0
            member.close()
            made.retry(made.members[-1], "put", "left", str(left))
            made.agree()
        last = made.members[0]
        assert made.retry(last, "get", "a", "--print-value-only").strip() == "1"
        made.retry(last, "put", "c", "3")
        last.stop()
        last.start()
        assert made.ctl(last, "get", "", "--prefix", "--keys-only").split() == ["a", "b", "c", "left"]


def test_a_failed_member_is_replaced_as_the_guide_says() -> None:
    with cluster(["ours", "ours", "ours"]) as made:
        made.ctl(made.members[0], "put", "a", "1")
        failed = made.members[1]
        failed.kill()
        made.leave(failed)
        new = made._make("ours")
        said = made.retry(made.members[0], "member", "add", new.name, f"--peer-urls={new.peer_url}")
        settings = dict(line.split("=", 1) for line in said.splitlines() if line.startswith("ETCD_"))
        settings = {name: value.strip('"') for name, value in settings.items()}
        assert settings["ETCD_INITIAL_CLUSTER_STATE"] == "existing"
        new.initial_cluster = settings["ETCD_INITIAL_CLUSTER"]
        new.initial_cluster_state = settings["ETCD_INITIAL_CLUSTER_STATE"]
        made.members.append(new)
        new.start()
        made.agree()
        failed.start(wait=False)
        assert failed.process is not None
        assert failed.process.wait(20) == 0
        assert "the member has been permanently removed from the cluster" in failed.log_tail(1 << 20)
        failed.close()
        assert os.listdir(new.data_dir) == ["member"]


def test_a_member_that_lost_its_data_is_not_let_in_as_new() -> None:
    with cluster(["ours", "ours", "ours"]) as made:
        lost = made.members[2]
        lost.kill()
        shutil.rmtree(lost.data_dir)
        lost.start(wait=False)
        assert lost.process is not None
        assert lost.process.wait(20) == 1
        assert "has already been bootstrapped" in lost.log_tail()


def test_a_learner_is_promoted_through_a_follower() -> None:
    with cluster(["ours", "ours"]) as made:
        member = made._make("ours")
        made.retry(made.members[0], "member", "add", member.name, f"--peer-urls={member.peer_url}", "--learner")
        made.members.append(member)
        member.initial_cluster = made.initial_cluster()
        member.initial_cluster_state = "existing"
        member.start()
        learner_id = made.id_of(member)
        with pytest.raises(CommandError, match="rpc not supported for learner"):
            made.ctl(member, "put", "a", "1")
        follower = next(one for one in made.members[:2] if one is not made.leader())
        made.retry(follower, "member", "promote", learner_id)
        made.retry(member, "put", "a", "1")
        made.agree()
        with pytest.raises(CommandError, match="can only promote a learner"):
            made.ctl(follower, "member", "promote", learner_id)


def test_a_promotion_through_a_follower_carries_its_user() -> None:
    with cluster(["ours", "ours"]) as made:
        member = made._make("ours")
        made.retry(made.members[0], "member", "add", member.name, f"--peer-urls={member.peer_url}", "--learner")
        made.members.append(member)
        member.initial_cluster = made.initial_cluster()
        member.initial_cluster_state = "existing"
        member.start()
        learner_id, leader = made.id_of(member), made.leader()
        follower = next(one for one in made.members[:2] if one is not leader)
        made.ctl(leader, "user", "add", "root:secret")
        made.ctl(leader, "user", "add", "plain:secret")
        made.ctl(leader, "user", "grant-role", "root", "root")
        made.ctl(leader, "auth", "enable")
        with pytest.raises(CommandError, match="permission denied"):
            made.ctl(follower, "--user=plain:secret", "member", "promote", learner_id)
        asked = f"{leader.peer_url}/members/promote/{int(learner_id, 16)}"
        for token in ("", "nonsense.1"):
            headers = {"Authorization": token} if token else {}
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(urllib.request.Request(asked, b"", headers), timeout=5)
            assert refused.value.code == 500
            assert refused.value.read() == b'{"message":"Internal Server Error"}'
        made.retry(follower, "--user=root:secret", "member", "promote", learner_id)
        listed = made.ctl_json(follower, "--user=root:secret", "member", "list")["members"]
        assert not any(entry.get("isLearner") for entry in listed)


def test_one_member_of_a_lost_cluster_goes_on_alone() -> None:
    with cluster(["ours", "ours", "ours"]) as made:
        made.ctl(made.members[0], "put", "a", "1")
        made.agree()
        for member in made.members:
            member.kill()
        last = made.members[0]
        last.flags = ["--force-new-cluster"]
        last.start()
        assert len(made.ctl_json(last, "member", "list")["members"]) == 1
        assert made.ctl(last, "get", "a", "--print-value-only").strip() == "1"
        made.ctl(last, "put", "b", "2")


def test_snapshots_reach_a_member_that_was_away_while_writes_go_on() -> None:
    with cluster(["ours", "ours", "ours"], ["--snapshot-count=30", "--snapshot-catchup-entries=5"]) as made:
        away = made.followers()[0]
        away.kill()
        here = made.running()
        made.puts(here[0], [f"k{number}" for number in range(120)], "x" * 1000)
        away.start(wait=False)
        for number in range(600):
            made.puts(here[number % 2], [f"l{number}"])
            if "applied snapshot" in away.log_tail(1 << 20):
                break
        until(lambda: "applied snapshot" in away.log_tail(1 << 20))
        made.agree()
        names = [path.name for path in Path(away.data_dir, "member/snap").iterdir()]
        assert not [name for name in names if name.startswith("tmp")]
        away.kill()
        away.start()
        made.agree()
        with pytest.raises(CommandError):
            made.ctl(away, "get", "k1", "--rev=999999")


def refusals(kind: str) -> dict[str, str]:
    """What a cluster of three says to changes that would cost it its quorum, or make no sense."""
    said: dict[str, str] = {}

    def ask(made: Cluster, what: str, *args: str) -> None:
        done = made.members[0].etcdctl("--command-timeout=20s", "member", *args)
        said[what] = done.stderr.strip().splitlines()[-1] if done.returncode else "done"

    with cluster([kind] * 3) as made:
        first, second, third = made.members
        if made.leader() is not first:
            made.ctl(made.leader(), "move-leader", made.id_of(first))
        ids = {member.name: made.id_of(member) for member in made.members}
        until(lambda: "already exists" in first.etcdctl("member", "add", "x", f"--peer-urls={second.peer_url}").stderr)
        ask(made, "a URL in use", "add", "x", f"--peer-urls={second.peer_url}")
        ask(made, "a fourth", "add", "m4", "--peer-urls=http://127.0.0.1:1")
        ask(made, "a fifth, the fourth not started", "add", "m5", "--peer-urls=http://127.0.0.1:2")
        ask(made, "a sixth", "add", "m6", "--peer-urls=http://127.0.0.1:3")
        listed = made.ctl_json(first, "member", "list")["members"]
        for entry in listed:
            if not entry.get("name"):
                ask(made, f"away with {entry['peerURLs'][0]}", "remove", f"{entry['ID']:x}")
        made.ctl(first, "member", "add", "l1", "--learner", "--peer-urls=http://127.0.0.1:4")
        ask(made, "a second learner", "add", "l2", "--learner", "--peer-urls=http://127.0.0.1:5")
        learner = next(e for e in made.ctl_json(first, "member", "list")["members"] if e.get("isLearner"))
        ask(made, "an early promotion", "promote", f"{learner['ID']:x}")
        ask(made, "a promotion of a voter", "promote", ids["m2"])
        ask(made, "a promotion of nobody", "promote", "1234")
        ask(made, "an update of nobody", "update", "1234", "--peer-urls=http://127.0.0.1:6")
        ask(made, "an update to a URL in use", "update", f"{learner['ID']:x}", f"--peer-urls={second.peer_url}")
        ask(made, "away with the learner", "remove", f"{learner['ID']:x}")
        ask(made, "away with it again", "remove", f"{learner['ID']:x}")
        third.kill()
        until(lambda: "unhealthy cluster" in made.members[0].etcdctl("member", "remove", ids["m2"]).stderr)
        ask(made, "away with one of two", "remove", ids["m2"])
        ask(made, "a fourth while one is down", "add", "m7", "--peer-urls=http://127.0.0.1:7")
        ask(made, "away with the dead", "remove", ids["m3"])
    return {what: re.sub(r"[0-9a-f]{12,16}", "ID", text) for what, text in said.items()}


def test_changes_that_would_cost_the_quorum_are_refused_as_by_etcd() -> None:
    ours, real = refusals("ours"), refusals("real")
    # Late 3.6 wants a quorum to be connected, earlier ones, 3.5.1 too, every voter.
    assert ours.pop("a fifth, the fourth not started") == ours.pop("away with http://127.0.0.1:2") == "done"
    assert "not enough started members" in ours.pop("a sixth")
    for what in ("a fifth, the fourth not started", "a sixth"):
        assert "unhealthy cluster" in real.pop(what)
    assert ours == real
    assert "unhealthy cluster" in ours["a fourth while one is down"]
    assert ours["away with the dead"] == "done"


def test_peer_urls_can_be_changed() -> None:
    with cluster(["ours", "ours", "ours"]) as made:
        moved = made.followers()[0]
        member_id = made.id_of(moved)
        moved.stop()
        old_port, moved.peer_port = moved.peer_port, Cluster(["ours"]).members[0].peer_port
        assert old_port != moved.peer_port
        made.retry(made.running()[0], "member", "update", member_id, f"--peer-urls={moved.peer_url}")
        moved.start()
        made.retry(moved, "put", "a", "1")
        made.agree()
