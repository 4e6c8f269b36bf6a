"""Clusters whose members speak mutual TLS, real etcd and ours mixed; and what members do with strangers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.tls.certs import Authority, Pair
from tests.tls.test_gate import ADDRESSES
from tests.tls.world import TlsMember, client_context, served, tls_cluster, until

pytestmark = [pytest.mark.oracle, pytest.mark.process]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Pair:
    return authority.issue("server", "etcd")


@pytest.fixture(scope="module")
def client(authority: Authority) -> Pair:
    return authority.issue("client", "client", uses=("client",))


@pytest.mark.parametrize("kinds", [["real", "ours", "ours"], ["ours", "real", "real"]], ids="-".join)
def test_a_mixed_cluster(kinds: list[str], authority: Authority, server: Pair, client: Pair) -> None:
    with tls_cluster(kinds, authority, server, client, ["--snapshot-count=50"]) as cluster:
        cluster.leader()
        for number, member in enumerate(cluster.members):
            cluster.retry(member, "put", f"k{number}", member.name)
        for member in cluster.members:
            assert cluster.ctl(member, "get", "k", "--prefix", "--print-value-only").split() == ["m1", "m2", "m3"]
        leader = cluster.leader()
        for target in cluster.members:  # everybody leads once
            if target is not leader:
                cluster.retry(cluster.leader(), "move-leader", cluster.id_of(target))
                until(lambda: cluster.leader() is target)  # noqa: B023
                cluster.retry(target, "put", "leader", target.name)
        # A member that has been away gets a snapshot over TLS.
        away = cluster.followers()[0]
        away.stop()
        cluster.leader()
        cluster.puts(cluster.running()[0], [f"away{number}" for number in range(70)])
        away.start()
        joined = cluster.join("ours" if kinds[0] == "real" else "real")
        assert isinstance(joined, TlsMember)
        cluster.agree()
        for member in cluster.members:
            assert isinstance(member, TlsMember)
            assert not served(member.peer_port, client_context(authority)), "without a certificate"
            assert served(member.peer_port, client_context(authority, server))


def test_members_that_trust_each_other_s_names_only(authority: Authority, client: Pair) -> None:
    members = authority.issue("members", "member")
    flags = ["--peer-cert-allowed-cn=nobody,member"]
    with tls_cluster(["ours", "real"], authority, members, client, []) as cluster:
        ours = cluster.members[0]
        cluster.retry(ours, "put", "a", "b")
        ours.stop()
        ours.flags = [*ours.flags, *flags]
        ours.start()
        cluster.retry(ours, "put", "a", "c")
        assert isinstance(ours, TlsMember)
        assert not served(ours.peer_port, client_context(authority, client))
        (line,) = until(lambda: ours.log_lines("rejected connection on peer endpoint")[-1:])
        assert line["error"] == "client certificate authentication failed"


def test_a_pair_of_its_own_for_where_we_dial(authority: Authority, client: Pair) -> None:
    # A certificate for servers alone is no good where clients' are asked for.
    serving, dialing = authority.issue("serving", uses=("server",)), authority.issue("dialing", uses=("client",))
    own = [f"--peer-client-cert-file={dialing.cert}", f"--peer-client-key-file={dialing.key}"]
    with tls_cluster(["ours", "ours"], authority, serving, client, own) as cluster:
        cluster.leader()
        for member in cluster.members:
            cluster.retry(member, "put", member.name, "x")
        cluster.agree()


def test_auto_tls_among_members(authority: Authority) -> None:
    first, second = (
        TlsMember(kind, authority, ["--peer-auto-tls"], f"m{at}", peers=True)
        for at, kind in enumerate(("real", "ours"))
    )
    both = [first, second]
    server = authority.issue("auto")
    try:
        for member in both:
            member.initial_cluster = f"m0={first.peer_url},m1={second.peer_url}"
            member.flags += server.flags()
            member.start(wait=False)
        for member in both:
            member.wait_healthy()
            assert member.etcdctl("put", member.name, "x").returncode == 0
    finally:
        for member in both:
            member.close()


def test_a_member_that_is_not_who_its_url_says_is_not_trusted(authority: Authority, client: Pair) -> None:
    """A certificate for another host: no link comes up, and the log says why."""
    good, elsewhere = authority.issue("good"), authority.issue("elsewhere", hosts=["10.9.9.9"])
    with_tls = [
        f"--peer-trusted-ca-file={authority.cert}",
        *good.flags(),
        "--heartbeat-interval=20",
        "--election-timeout=100",
    ]
    one = TlsMember("ours", authority, [*with_tls, *good.flags("peer-")], "m0", peers=True)
    two = TlsMember("ours", authority, [*with_tls, *elsewhere.flags("peer-")], "m1", peers=True)
    both = [one, two]
    try:
        for member in both:
            member.initial_cluster = f"m0={one.peer_url},m1={two.peer_url}"
            member.start(wait=False)
        for member, problem in (
            (one, "x509: certificate is valid for 10.9.9.9, not 127.0.0.1"),
            (two, "remote error: tls: bad certificate"),
        ):
            until(says(member, problem), 30)
    finally:
        for member in both:
            member.close()


def says(member: TlsMember, problem: str) -> Callable[[], bool]:
    """Return what tells whether a member has turned somebody away for this."""
    return lambda: problem in [line["error"] for line in member.log_lines("rejected connection on peer endpoint")]


def test_members_addresses_as_real_etcd_checks_them(authority: Authority, server: Pair) -> None:
    flags = [*server.flags("peer-"), f"--peer-trusted-ca-file={authority.cert}", *server.flags()]
    said: dict[str, list[str]] = {}
    members = [TlsMember(kind, authority, flags, peers=True) for kind in ("real", "ours")]
    contexts = [
        client_context(authority, authority.issue(f"at{number}", hosts=hosts))
        for number, (hosts, _) in enumerate(ADDRESSES)
    ]
    try:
        for member in members:
            member.start()
            answers = [served(member.peer_port, context) for context in contexts]
            assert answers == [problem == "" for _, problem in ADDRESSES]
            lines = until(lambda: found if len(found := member.log_lines("rejected")) == answers.count(False) else [])  # noqa: B023
            # What a name server says is left out: it is not the same twice.
            said[member.kind] = [(line["error"] + " (").partition(" (")[0] for line in lines]
            said[member.kind] += [str((line["ip-addresses"], line["dns-names"])) for line in lines]
    finally:
        for member in members:
            member.close()
    assert said["ours"] == said["real"]
