"""What operators do to clusters, with the real etcdctl: scale, replace a failed member, learners, a lost quorum."""

from __future__ import annotations

import os
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
