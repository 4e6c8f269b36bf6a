"""New clusters whose members find each other: by SRV records, by a running cluster, by a v2 service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trustme

from tests.cluster.harness import Cluster
from tests.fakes.dns_server import Records, dns_server
from tests.oracle import ROOT, Member, running

pytestmark = [pytest.mark.process, pytest.mark.oracle]


class Found(Cluster):
    """A cluster whose members are told how to find each other instead of who they are."""

    def __init__(self, kinds: list[str], discovery: list[str], env: dict[str, str] | None = None) -> None:
        super().__init__(kinds)
        for member in self.members:
            member.discovery = discovery
            member.env = env or {}


@contextmanager
def found(kinds: list[str], discovery: list[str], env: dict[str, str] | None = None) -> Iterator[Found]:
    made = Found(kinds, discovery, env)
    try:
        made.start()
        yield made
    finally:
        made.close()


def check(cluster: Cluster, size: int) -> None:
    """The members are one cluster, and have each other's names and URLs."""
    listed = cluster.ctl_json(cluster.members[0], "member", "list")["members"]
    assert len(listed) == size
    assert {(member["name"], *member["peerURLs"]) for member in listed} == {
        (member.name, member.peer_url) for member in cluster.members
    }
    cluster.puts(cluster.members[0], ["a"])
    cluster.agree()


def refused(member: Member) -> list[dict[str, str]]:
    """Start a member that must not start; return its log from the first warning about that on."""
    member.start(wait=False)
    assert member.process is not None
    assert member.process.wait(20) == 1
    lines = [json.loads(line) for line in Path(member.log_path).read_text().splitlines() if line.startswith("{")]
    last = next((at for at, line in enumerate(lines) if line["msg"].startswith(("failed to b", "member "))), -1)
    return lines[last:]


def lone(kind: str, discovery: list[str], stack: ExitStack, env: dict[str, str] | None = None) -> Member:
    member = Member(kind, name="late")
    stack.callback(member.close)
    member.discovery = discovery
    member.env = env or {}
    return member


# SRV records


def srv_records(cluster: Cluster, name: str = "") -> Records:
    values = [f"0 0 {member.peer_port} localhost." for member in cluster.members]
    return {(f"_etcd-server{name}._tcp.quorate.test", "SRV"): values}


@pytest.mark.parametrize("suffix", ["", "blue"])
def test_members_of_a_domain(suffix: str) -> None:
    flags = ["--discovery-srv=quorate.test", *([f"--discovery-srv-name={suffix}"] if suffix else [])]
    made = Found(["ours"] * 3, flags)
    with dns_server(srv_records(made, f"-{suffix}" if suffix else "")) as server:
        for member in made.members:
            member.env = {"QUORATE_NAMESERVER": server.address}
            member.flags = [f"--initial-advertise-peer-urls=http://localhost:{member.peer_port}"]
        try:
            made.start()
            listed = made.ctl_json(made.members[0], "member", "list")["members"]
            # The others' names are known once they have told them; the URLs are those of the records.
            assert {tuple(member["peerURLs"]) for member in listed} == {
                (f"http://localhost:{member.peer_port}",) for member in made.members
            }
            made.puts(made.members[0], ["a"])
            made.agree()
        finally:
            made.close()


def lone_error(kind: str, flags: list[str]) -> str:
    """Return why a member does not start."""
    with ExitStack() as stack:
        return refused(lone(kind, flags, stack))[-1]["error"]


def can_unshare() -> bool:
    return subprocess.run(["unshare", "-rmn", "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="needs a network namespace, for real etcd asks the system's name server")
def test_ours_and_real_etcd_find_each_other_in_the_same_records() -> None:
    command = ["unshare", "-rmn", sys.executable, "-m", "tests.cluster.srv_apart"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}
    done = subprocess.run(command, cwd=ROOT, env=env, check=False, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr[-4000:]


def test_a_domain_that_does_not_know_us() -> None:
    flags = ["--discovery-srv=quorate.test"]
    records = {("_etcd-server._tcp.quorate.test", "SRV"): ["0 0 1 localhost."]}
    with ExitStack() as stack:
        server = stack.enter_context(dns_server(records))
        env = {"QUORATE_NAMESERVER": server.address}
        last = refused(lone("ours", flags, stack, env))[-1]
        start = "error setting up initial cluster: "
        assert (last["level"], last["msg"]) == ("fatal", "discovery failed")
        assert last["error"] == f'{start}cannot find local etcd member "late" in SRV records'
        server.records = {}
        last = refused(lone("ours", flags, stack, env))[-1]
        assert last["error"] == start + "\n".join(
            f"error querying DNS SRV records for _{name} lookup _{name}._tcp.quorate.test on {server.address}: "
            "no such host"
            for name in ("etcd-server-ssl", "etcd-server")
        )


def test_a_name_in_the_initial_cluster_that_means_the_advertised_address() -> None:
    with dns_server({("m1.quorate.test", "A"): ["127.0.0.1"]}) as server, ExitStack() as stack:
        env = {"QUORATE_NAMESERVER": server.address}
        member = lone("ours", [], stack, env)
        named = f"http://m1.quorate.test:{member.peer_port}"
        member.initial_cluster = f"late={named}"
        member.start()
        listed = json.loads(member.etcdctl("-w", "json", "member", "list").stdout)["members"]
        assert listed[0]["peerURLs"] == [named]
        other = lone("ours", [], stack, env)
        named = f"http://m1.quorate.test:{member.peer_port}"
        other.initial_cluster = f"late={named}"
        assert refused(other)[-1]["error"] == (
            f"--initial-cluster has late={named} but missing from --initial-advertise-peer-urls={other.peer_url} "
            f'(resolved urls: "{other.peer_url}" != "{member.peer_url}")'
        )


# A running cluster


def v3_flags(service: Member, token: str, scheme: str = "http") -> list[str]:
    return [f"--discovery-token={token}", f"--discovery-endpoints={scheme}://{service.endpoint}"]


def set_size(service: Member, token: str, size: str, *flags: str) -> None:
    assert service.etcdctl(*flags, "put", f"/_etcd/registry/{token}/_config/size", size).returncode == 0


@pytest.mark.parametrize("kind", ["real", "ours"])
def test_three_members_by_a_running_cluster(kind: str) -> None:
    with running(kind) as service, ExitStack() as stack:
        set_size(service, "tok", "3")
        made = stack.enter_context(found(["ours"] * 3, v3_flags(service, "tok")))
        check(made, 3)
        kept = service.etcdctl("get", "--prefix", "/_etcd/registry/tok/members/").stdout.split()
        assert dict(zip(kept[::2], kept[1::2], strict=True)) == {
            f"/_etcd/registry/tok/members/{made.id_of(member)}": f"{member.name}={member.peer_url}"
            for member in made.members
        }
        # A member that has started does not ask again.
        member = made.members[0]
        member.kill()
        member.discovery = v3_flags(service, "gone")
        member.start()
        last = refused(lone("ours", v3_flags(service, "tok"), stack))
        assert last[0]["msg"] == "failed to bootstrap; discovery token was already used"
        assert last[0]["error"] == "failed to join discovery cluster (discovery: cluster is full)"


def test_what_a_running_cluster_does_not_know() -> None:
    with running("ours") as service, ExitStack() as stack:
        flags = v3_flags(service, "tok")
        lines = refused(lone("ours", flags, stack))
        assert lines[0]["error"] == "failed to join discovery cluster (discovery: size key not found)"
        assert lines[1]["msg"] == "do not reuse discovery token; generate a new one to bootstrap a cluster"
        set_size(service, "tok", "some")
        lines = refused(lone("ours", flags, stack))
        assert lines[0]["error"] == "failed to join discovery cluster (discovery: size key is bad)"


def test_a_running_cluster_that_wants_tls_and_a_user(tmp_path: Path) -> None:
    authority = trustme.CA()
    served = authority.issue_cert("127.0.0.1")
    ca, cert, key = (str(tmp_path / name) for name in ("ca", "cert", "key"))
    authority.cert_pem.write_to_path(ca)
    served.private_key_pem.write_to_path(key)
    served.cert_chain_pems[0].write_to_path(cert)
    service = Member("real", flags=[f"--cert-file={cert}", f"--key-file={key}"])
    url = f"https://{service.endpoint}"
    service.flags += [f"--listen-client-urls={url}", f"--advertise-client-urls={url}"]
    with ExitStack() as stack:
        stack.callback(service.close)
        service.start(wait=False)
        tls = [f"--endpoints={url}", f"--cacert={ca}", "--command-timeout=20s"]
        set_size(service, "tok", "1", *tls)
        for words in (["user", "add", "root:secret"], ["user", "grant-role", "root", "root"], ["auth", "enable"]):
            done = service.etcdctl(*tls, *words)
            assert done.returncode == 0, done.stderr
        flags = [*v3_flags(service, "tok", "https"), f"--discovery-cacert={ca}"]
        made = stack.enter_context(found(["ours"], [*flags, "--discovery-user=root", "--discovery-password=secret"]))
        check(made, 1)


# A v2 service


@pytest.fixture(scope="module")
def v2_service() -> Iterator[Member]:
    with running("real", flags=["--enable-v2"]) as service:
        yield service


def v2_url(service: Member, token: str, size: str) -> str:
    url = f"{service.url}/v2/keys/registry/{token}"
    if size:
        body = urllib.parse.urlencode({"value": size}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{url}/_config/size", body, method="PUT"), timeout=5).close()
    return url


def test_a_mixed_cluster_by_a_v2_service(v2_service: Member) -> None:
    flags = [f"--discovery={v2_url(v2_service, 'mixed', '3')}"]
    with found(["ours", "real", "ours"], flags) as made:
        check(made, 3)


def test_a_v2_service_refuses_ours_as_it_does_real_etcd(v2_service: Member) -> None:
    def told(kind: str, flags: list[str], stack: ExitStack) -> list[tuple[str, str, str]]:
        lines = refused(lone(kind, flags, stack))
        return [(line["level"], line["msg"], line.get("error", "")) for line in lines if line["level"] != "info"]

    with ExitStack() as stack:
        flags = [f"--discovery={v2_url(v2_service, 'full', '1')}"]
        check(stack.enter_context(found(["ours"], flags)), 1)
        for token, size in (("full", ""), ("none", ""), ("bad", "some")):
            # The index of the service is in one of the texts, so nothing may be written between the two starts.
            flags = [f"--discovery={v2_url(v2_service, token, size)}", "--discovery-fallback=exit"]
            assert told("ours", flags, stack) == told("real", flags, stack)
