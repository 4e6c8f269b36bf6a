"""Authentication in clusters: tokens are good everywhere at once, either kind enforces alike, snapshots carry users."""

from __future__ import annotations

import time

import pytest

from quorate.proto import rpc_pb2 as pb
from tests.auth.test_directories import AUTH, DENIED, KV, Client, set_up, view, work
from tests.cluster.harness import Cluster, cluster, until
from tests.cluster.test_mixed import lead

pytestmark = [pytest.mark.oracle, pytest.mark.process]

FLAGS = ["--bcrypt-cost=4"]


@pytest.mark.parametrize("kinds", [["ours"] * 3, ["ours", "real", "ours"], ["real", "ours", "real"]], ids="+".join)
def test_every_member_enforces(kinds: list[str]) -> None:
    with cluster(kinds, FLAGS) as made:
        clients = [Client(member) for member in made.running()]
        set_up(clients[0])
        for number in range(6):
            issuer, *others = clients[number % 3 :] + clients[: number % 3]
            issuer.log_in("alice", "alice")
            for other in others:
                # The entry that made the token may not have been applied there yet; a real member does not wait for it.
                other.token = issuer.token
                answer = other.put(b"a%d" % number)
                for _ in range(100 if "real" in kinds else 0):
                    if answer != "etcdserver: invalid auth token":
                        break
                    time.sleep(0.1)
                    answer = other.put(b"a%d" % number)
                assert isinstance(answer, pb.PutResponse), answer
                assert other.put(b"b") == DENIED
            issuer.token = others[0].token = ""
            assert others[0].put(b"a") == "etcdserver: user name is empty"
        for client in clients:
            work(client, clients.index(client))
        views = [view(client) for client in clients]
        assert views[0] == views[1] == views[2]
        clients[0].log_in("root", "root")
        clients[1].log_in("alice", "alice")
        change = pb.AuthUserChangePasswordRequest(name="alice", password="new")
        clients[0].call(AUTH + "UserChangePassword", change, pb.AuthUserChangePasswordResponse)
        read = pb.RangeRequest(key=b"a")
        assert clients[1].call(KV + "Range", read, pb.RangeResponse) == "etcdserver: invalid auth token"
        clients[2].log_in("root", "root")
        clients[2].call(AUTH + "AuthDisable", pb.AuthDisableRequest(), pb.AuthDisableResponse)
        for client in clients:
            client.channel.close()
        made.agree()


@pytest.mark.parametrize("kinds", [["ours", "ours", "real"], ["ours", "real", "ours"]], ids="+".join)
def test_a_snapshot_carries_users_to_a_member_that_was_away(kinds: list[str]) -> None:
    made = Cluster(kinds, [*FLAGS, "--snapshot-count=30"])
    for member in made.members:
        if member.kind == "ours":
            member.flags = [*member.flags, "--snapshot-catchup-entries=5"]
    try:
        made.start()
        lead(made, made.members[0])
        away = made.members[2]
        away.stop()
        with Client(made.members[0]) as client:
            set_up(client)
            for number in range(4):
                work(client, number)
            expected = view(client)
        away.start()
        until(lambda: "applied snapshot" in away.log_tail(1 << 20))
        if away.kind == "real":
            # 3.5.1 enforces what a snapshot says and then forgets every token that it makes, until it is started anew.
            away.stop()
            away.start()
        with Client(away) as client:
            assert view(client) == expected
            client.log_in("alice", "alice")
            assert client.put(b"b") == DENIED
    finally:
        made.close()
