"""ETCDCTL_API=2: the real tool with a real server that serves v2; ours by v3's calls, with that one and with ours."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from quorate.cli.etcdctl.main import has_v2_flags
from tests.etcdctl.twins import Tool, Twins
from tests.oracle import Member, free_port
from tests.parity.pair import Outcome

pytestmark = [pytest.mark.oracle, pytest.mark.process]
V2 = {"ETCDCTL_API": "2"}


@pytest.fixture(scope="module")
def both() -> Iterator[Twins]:
    made = Twins(["--enable-v2"])
    try:
        yield made.start()
    finally:
        made.close()


def seen(tool: Tool, outcome: Outcome) -> Outcome:
    """Everything but ids, versions and the endpoint; what stands in the order of ids is sorted."""
    out = tool.side.normal(outcome.stdout).replace("VERSION", "3.5.1").replace("3.6.14", "3.5.1")
    out = re.sub(r'"(m2=[^,"]*),(m1=[^,"]*)"', r'"\2,\1"', out)
    return Outcome(out, tool.side.normal(outcome.stderr), outcome.code)


def same(both: Twins, *args: str, code: int | None = None, env: dict[str, str] | None = None) -> list[Outcome]:
    """Run with all and compare everything."""
    given = [] if env else ["--endpoints=http://ENDPOINT"]
    found = both.all(*given, *args, env={**V2, **(env or {})}, endpoint=False)
    views = [seen(tool, outcome) for tool, outcome in zip(both.tools, found, strict=True)]
    assert views[1] == views[0], (args, "a real server")
    assert views[2] == views[0], (args, "our server")
    if code is not None:
        assert found[0].code == code, found[0]
    return found


def test_health_and_list(both: Twins) -> None:
    same(both, "cluster-health", code=0)
    same(both, "cluster-health", "ignored", code=0)
    same(both, "member", "list", code=0)
    same(both, "--no-sync", "-o", "json", "--timeout=1s", "--total-timeout", "3s", "member", "list", code=0)
    same(both, "cluster-health", env={"ETCDCTL_ENDPOINTS": "http://ENDPOINT"}, code=0)
    same(both, "cluster-health", env={"ETCDCTL_ENDPOINT": "http://ENDPOINT"}, code=0)
    same(both, "member", "list", env={"ETCDCTL_PEERS": "http://ENDPOINT"}, code=0)
    for form in (["-endpoints=http://ENDPOINT"], ["--peers", "http://ENDPOINT"], ["-C", "http://ENDPOINT"]):
        same(both, *form, "member", "list", env={"ETCDCTL_FORM": "1"}, code=0)
    same(both, "--endpoint=http://ENDPOINT", "member", "list", env={"ETCDCTL_FORM": "1"}, code=0)


def test_members_come_and_go(both: Twins) -> None:
    """The order matters: a second member that never starts takes the quorum, so what is refused comes first."""
    (first,) = {len(re.findall(r"^(\w+): name=m1", each.stdout)) for each in same(both, "member", "list")}
    assert first == 1
    both.save("m1", r"^(\w+): name=m1", same(both, "member", "list"))
    for args in (
        ["add"],
        ["add", "m2"],
        ["add", "m2", "127.0.0.1:1"],
        ["add", "m2", "http://127.0.0.1"],
        ["add", "m2", ""],
        ["add", "m2", "ftp://a:1"],
        ["add", "m2", "http://127.0.0.1:1/path"],
        ["add", "m2", "PEERURL"],
        ["list", "x"],
        ["update"],
        ["update", "zz", "http://127.0.0.1:1"],
        ["update", "1234", "http://127.0.0.1:1"],
        ["update", "{m1}", "x"],
        ["remove"],
        ["remove", "zz"],
        ["remove", "1234"],
        ["remove", "m1"],
    ):
        same(both, "member", *args, code=1)
    same(both, "member", "update", "{m1}", "PEERURL", code=0)
    peer = f"http://127.0.0.1:{free_port()}"
    both.save("m2", r"with ID (\w+) to", same(both, "member", "add", "m2", peer, code=0))


def test_v2_members_are_v3_members(both: Twins) -> None:
    """Two members of ours: the second is added, started and removed again by the old words."""
    second = Member("ours", name="m3")
    plain = Member("ours", name="m1")
    plain.start()
    tool = Tool(plain, both.forks)
    try:
        added = tool.run(
            ["--endpoints=http://ENDPOINT", "member", "add", "m3", second.peer_url], env=V2, endpoint=False
        )
        assert added.code == 0, added
        found = dict(re.findall(r'^ETCD_(\w+)="(.*)"$', added.stdout, re.MULTILINE))
        assert found["NAME"] == "m3"
        number = re.findall(r"with ID (\w+)", added.stdout)[0]
        listed = tool.run(["--endpoints=http://ENDPOINT", "member", "list"], env=V2, endpoint=False)
        assert f"{number}[unstarted]: peerURLs={second.peer_url}\n" in listed.stdout
        second.initial_cluster = found["INITIAL_CLUSTER"]
        second.initial_cluster_state = found["INITIAL_CLUSTER_STATE"]
        second.start()
        health = tool.run(["--endpoints=http://ENDPOINT", "cluster-health"], env=V2, endpoint=False)
        assert (health.code, health.stdout.count("is healthy: got healthy result from http://")) == (0, 2)
        assert health.stdout.endswith("\ncluster is healthy\n")
        second.stop()
        health = tool.run(["--endpoints=http://ENDPOINT", "cluster-health"], env=V2, endpoint=False)
        gone = f'failed to check the health of member {number} on {second.url}: Get "{second.url}/health": '
        assert f"{gone}dial tcp {second.endpoint}: connect: connection refused\n" in health.stdout
        assert f"member {number} is unreachable: [{second.url}] are all unreachable\n" in health.stdout
        assert health.code == 5
        second.start()
        removed = tool.run(["--endpoints=http://ENDPOINT", "member", "remove", number], env=V2, endpoint=False)
        assert (removed.stdout, removed.code) == (f"Removed member {number} from cluster\n", 0), removed
    finally:
        second.close()
        plain.close()


def test_nobody_there(both: Twins) -> None:
    dead = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    for args, code in (
        ("cluster-health", 4),
        ("member list", 2),
        ("member add a http://a:1", 2),
        ("member remove 1", 2),
    ):
        found = same(both, f"--endpoints={dead[0]}", *args.split(), env={"ETCDCTL_FORM": "1"}, code=code)
        assert "connection refused" in found[1].stderr
    # The real one shuffles its endpoints.
    real, *ours = both.all(f"--endpoints={','.join(dead)}", "cluster-health", env=V2, endpoint=False)
    wanted = re.sub(r":\d+: connect", ":PORT: connect", real.stderr)
    assert [re.sub(r":\d+: connect", ":PORT: connect", each.stderr) for each in ours] == [wanted, wanted]
    found = both.all(f"--endpoints={dead[0]},http://ENDPOINT", "cluster-health", env=V2, endpoint=False)
    assert len({each.code for each in found[:2]}) == 1


def test_words_and_help(both: Twins) -> None:
    for words in (
        "--version", "-v", "", "-h", "help", "help cluster-health", "member", "member -h", "member list -h",
        "member add --help", "cluster-health -h", "foo", "member foo", "--nope member list", "member list --nope",
        "cluster-health --ca-file x", "-u", "member --nope list", "--timeout=x member list",
        "--ca-file x cluster-health", "--ca-file x member list", "--cert-file x cluster-health",
    ):  # fmt: skip
        found = both.all(*words.split(), env=V2, endpoint=False)
        views = [seen(tool, outcome) for tool, outcome in zip(both.tools, found, strict=True)]
        assert views[1] == views[0], words
        assert views[2] == views[0], words


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        ("get /a", "ETCDCTL_API=3 etcdctl get --print-value-only /a"),
        ("set /a b", "ETCDCTL_API=3 etcdctl put /a b"),
        ("ls /", "ETCDCTL_API=3 etcdctl get --prefix --keys-only /"),
        ("rm /a", "ETCDCTL_API=3 etcdctl del /a"),
        ("watch /a", "ETCDCTL_API=3 etcdctl watch /a"),
        ("mkdir /d", "v3 has no directories, a key may hold slashes"),
        ("backup --data-dir d --backup-dir b", "etcdutl backup --data-dir d --backup-dir b"),
        ("user list", "ETCDCTL_API=3 etcdctl user list"),
    ],
)
def test_the_v2_store_is_refused_with_what_to_do(both: Twins, words: str, instead: str) -> None:
    found = both.own.run(["--endpoints=http://ENDPOINT", *words.split()], env=V2, endpoint=False)
    assert (found.stdout, found.stderr) == ("", f"Error:  the v2 store is not served; use instead: {instead}\n")
    assert found.code == 4


def test_other_versions(both: Twins) -> None:
    for version, code in (("4", 1), ("x", 1), ("", 0), ("3", 0)):
        found = both.all("version", env={"ETCDCTL_API": version}, endpoint=False)
        assert [(each.code, each.stderr) for each in found[1:]] == 2 * [(found[0].code, found[0].stderr)]
        assert found[0].code == code


@pytest.mark.parametrize(
    ("line", "v2"),
    [
        ("--ca-file a member list", True),
        ("member list -cert-file=a", True),
        ("--key-file a cluster-health", True),
        ("get --prefix a", False),
        ("lock a -- run --ca-file b", False),
        ("put a --cert=b", False),
    ],
)
def test_flags_of_v2_alone_choose_v2_when_nobody_said(line: str, v2: bool) -> None:
    assert has_v2_flags(line.split()) is v2
