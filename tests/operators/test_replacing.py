"""Replacing a failed member, step by step as the guides have it; members and commands of either kind."""

from __future__ import annotations

import re
import signal
import time

import pytest

from tests.operators.site import Running, Site

pytestmark = [pytest.mark.process, pytest.mark.oracle]

CLUSTER = "member1=http://10.0.0.1:2380,member2=http://10.0.0.2:2380,member3=http://10.0.0.3:2380"


def member(site: Site, number: int, cluster: str) -> Running:
    own = f"http://10.0.0.{number}"
    return site.member(
        f"member{number}",
        [
            f"--name=member{number}",
            "--data-dir=/var/lib/etcd",
            f"--listen-peer-urls={own}:2380",
            f"--initial-advertise-peer-urls={own}:2380",
            f"--listen-client-urls={own}:2379",
            f"--advertise-client-urls={own}:2379",
        ],
        {"ETCD_INITIAL_CLUSTER": cluster},
    )


def retried(site: Site, tool: str, script: str) -> str:
    """Type a command again while the others have not yet noticed that a member is gone."""
    for _ in range(60):
        done = site.shell(tool, script)
        if done.code == 0:
            return done.stdout
        time.sleep(0.5)
    raise AssertionError(done.stderr)


def test_a_failed_member_is_replaced(site: Site, tool: str) -> None:
    members = [member(site, number, CLUSTER) for number in (1, 2, 3)]
    for each in members:
        each.start()
    for each in members:
        each.wait_ready()
    site.typed(tool, "etcdctl --endpoints=http://10.0.0.2:2379 put kept value")
    members[0].stop(signal.SIGKILL)
    rest = "--endpoints=http://10.0.0.2:2379,http://10.0.0.3:2379"
    listed = retried(site, tool, f"etcdctl {rest} member list")
    form = r"([0-9a-f]+), started, (member[123]), http://127.0.0.1:\d+, http://127.0.0.1:\d+, false"
    found = {name: member_id for member_id, name in re.findall(form, listed)}
    assert sorted(found) == ["member1", "member2", "member3"]

    failed = found["member1"]
    removed = retried(site, tool, f"etcdctl {rest} member remove {failed}")
    assert re.fullmatch(rf"Member +{failed} removed from cluster +[0-9a-f]+\n", removed), removed
    added = retried(site, tool, f"etcdctl {rest} member add member4 --peer-urls=http://10.0.0.4:2380")
    assert re.match(r"Member +[0-9a-f]+ added to cluster +[0-9a-f]+\n", added), added
    assert 'ETCD_NAME="member4"\n' in added
    assert 'ETCD_INITIAL_CLUSTER_STATE="existing"\n' in added

    cluster = "member2=http://10.0.0.2:2380,member3=http://10.0.0.3:2380,member4=http://10.0.0.4:2380"
    new = member(site, 4, cluster)
    new.env["ETCD_INITIAL_CLUSTER_STATE"] = "existing"
    new.start().wait_ready()
    assert site.typed(tool, "etcdctl --endpoints=http://10.0.0.4:2379 get kept") == "kept\nvalue\n"
    everyone = "--endpoints=http://10.0.0.2:2379,http://10.0.0.3:2379,http://10.0.0.4:2379"
    table = site.typed(tool, f"export ETCDCTL_API=3\netcdctl {everyone} endpoint status --write-out=table")
    assert table.count("127.0.0.1") == 3
    for name, each in (("member2", members[1]), ("member3", members[2]), ("member4", new)):
        assert each.stop() in (0, -signal.SIGTERM), name
    site.members.clear()
    site.folder.joinpath("done").touch()
    for number in (1, 2, 3, 4):
        site.typed("real", f"rm -rf {site.folder}/member{number}")
