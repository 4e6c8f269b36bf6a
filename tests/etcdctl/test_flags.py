"""Global flags that need a server of their own kind: TLS, SRV records, a server that falls silent; and --debug."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.etcdctl.twins import Job, Twins
from tests.fakes.dns_server import DnsServer
from tests.tls.certs import Authority
from tests.tls.world import TlsMember

pytestmark = [pytest.mark.oracle, pytest.mark.process]
LIMIT = "--command-timeout=600ms"


class World:
    """Servers with mutual TLS, and the files that clients may show."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        server, client = authority.issue("server"), authority.issue("client")
        stranger = Authority(folder / "other", "other").issue("stranger")
        self.files = {
            "ca": authority.cert, "cert": client.cert, "key": client.key, "other": folder / "other/other.pem",
            "badcert": stranger.cert, "badkey": stranger.key,
        }  # fmt: skip
        flags = [*server.flags(), "--client-cert-auth", f"--trusted-ca-file={authority.cert}"]
        self.twins = Twins(make=lambda kind, more: TlsMember(kind, authority, flags=[*flags, *more], client=client))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("tls"))
    try:
        made.twins.start()
        yield made
    finally:
        made.twins.close()


TLS = {
    "all three": ("--cacert=CA --cert=CERT --key=KEY", 0),
    "no client certificate": ("--cacert=CA", 1),
    "a stranger's certificate": ("--cacert=CA --cert=BADCERT --key=BADKEY", 1),
    "another authority": ("--cacert=OTHER --cert=CERT --key=KEY", 1),
    "no authority": ("--cert=CERT --key=KEY", 1),
    "no verification": ("--insecure-skip-tls-verify --cert=CERT --key=KEY", 0),
    "no verification, no certificate": ("--insecure-skip-tls-verify --insecure-transport=false", 1),
    "secure only": ("--insecure-transport=false", 1),
    "nothing": ("", 1),
    "half a pair": ("--cert=CERT", 128),
    "the other half": ("--key=KEY", 128),
    "not a pair": ("--cert=CERT --key=BADKEY", 128),
    "no such file": ("--cacert=none.pem", 128),
    "no such pair": ("--cert=none.pem --key=none.pem", 128),
}


@pytest.mark.parametrize("name", TLS)
def test_tls(world: World, name: str) -> None:
    text, code = TLS[name]
    for word, path in world.files.items():
        text = re.sub(rf"={word.upper()}\b", f"={path}", text)
    for scheme in ("", "https://"):
        words = [f"--endpoints={scheme}ENDPOINT", LIMIT if code == 1 else "--dial-timeout=5s", *text.split()]
        found = world.twins.run(*words, "put", "k", "v", endpoint=False, code=code)
        reasons = [re.findall(r'desc = \\"transport: ([^"]*)\\"', each.stderr) for each in found]
        if reasons[0] and "x509" in reasons[0][-1]:
            assert reasons[1][-1] == reasons[0][-1]
            assert reasons[2][-1] == reasons[0][-1]
    if code == 0:
        env = {}
        for word in text.split():
            flag, _, value = word[2:].partition("=")
            env["ETCDCTL_" + flag.upper().replace("-", "_")] = value or "true"
        world.twins.run("get", "k", "--endpoints=https://ENDPOINT", endpoint=False, code=0, env=env)
        world.twins.run("get", "k", "--endpoints=http://ENDPOINT", *words[1:], LIMIT, endpoint=False, code=1)


def test_an_authority_without_certificates(world: World) -> None:
    """Real etcd says what its parser missed in the first block; ours, that there is no certificate."""
    for tool in world.twins.tools:
        done = tool.run([f"--cacert={world.files['key']}", "get", "k"])
        assert (done.code, done.stderr[:7]) == (128, "Error: ")


def test_cluster_health_of_old_with_tls(world: World) -> None:
    """The operators' line: --ca-file --cert-file --key-file --endpoints https://... cluster-health."""
    files = {name: world.files[name] for name in ("ca", "cert", "key")}
    flags = [word for name, path in files.items() for word in (f"--{name}-file", str(path))]
    for tool in world.twins.tools[1:]:
        words = [*flags, "--endpoints", f"https://{tool.member.endpoint}"]
        health = tool.run([*words, "cluster-health"], env={"ETCDCTL_API": "2"}, endpoint=False)
        pattern = (
            rf"member \w+ is healthy: got healthy result from https://{tool.member.endpoint}\ncluster is healthy\n"
        )
        assert re.fullmatch(pattern, health.stdout), health
        listed = tool.run([*words, "member", "list"], env={"ETCDCTL_API": "2"}, endpoint=False)
        assert listed.stdout.endswith(f"clientURLs=https://{tool.member.endpoint} isLeader=true\n")
        wrong = [*words[:1], str(world.files["other"]), *words[2:], "cluster-health"]
        refused = tool.run(wrong, env={"ETCDCTL_API": "2"}, endpoint=False)
        assert (refused.code, refused.stdout) == (4, "cluster may be unhealthy: failed to list members\n")
        assert "error #0: x509: certificate signed by unknown authority\n" in refused.stderr


def test_discovery(twins: Twins) -> None:
    """SRV records instead of endpoints. Real etcdctl asks only the machine's resolver, so its words are compared."""
    twins.run("put", "k", "v", code=0)
    for tool in twins.tools[1:]:
        port = tool.member.client_port
        records = {
            ("_etcd-client._tcp.a.test", "SRV"): [f"0 0 {port} localhost."],
            ("_etcd-client-east._tcp.a.test", "SRV"): [f"0 0 {port} localhost."],
            ("localhost", "A"): ["127.0.0.1"],
        }
        server = DnsServer(records)
        env = {"QUORATE_NAMESERVER": server.address}
        try:
            for words in (["--discovery-srv=a.test"], ["-d", "a.test"], ["-d=a.test", "--discovery-srv-name=east"]):
                words = [word.replace("-d=", "--discovery-srv=") for word in words]
                found = tool.run(["get", "k", *words], env=env, endpoint=False)
                assert found.stdout == "k\nv\n", found
            found = tool.run(["get", "k"], env={**env, "ETCDCTL_DISCOVERY_SRV": "a.test"}, endpoint=False)
            assert found.stdout == "k\nv\n"
            plain = ["get", "k", "--discovery-srv=a.test", "--insecure-discovery=false", LIMIT]
            refused = tool.run([*plain, "--endpoints=127.0.0.1:1"], env=env, endpoint=False)
            assert refused.code == 1
            ignored = f'ignoring discovered insecure endpoint "http://localhost.:{port}"'
            assert refused.stderr.splitlines()[0] == ignored
            missing = tool.run(["get", "k", "-d", "b.test"], env=env, endpoint=False)
            assert missing.code == 1
            assert missing.stderr.startswith("Error: dns lookup errors: lookup _etcd-client-ssl._tcp.b.test on ")
            old = tool.run(
                ["--discovery-srv", "a.test", "--insecure-discovery", "member", "list"],
                env={**env, "ETCDCTL_API": "2"}, endpoint=False,
            )  # fmt: skip
            assert old.stdout.endswith("isLeader=true\n"), old
        finally:
            server.close()
    twins.run("get", "k", "--discovery-srv=nowhere.invalid", endpoint=False, code=1)


@pytest.mark.slow  # grpc-go pings no more often than every ten seconds
def test_a_silent_server_is_left(twins: Twins) -> None:
    """A watch on a server that hangs goes to the next endpoint when a ping is not answered in time."""
    other = twins.own
    tool = twins.ours
    flags = ["--keepalive-time=1s", "--keepalive-timeout=1s"]
    words = ["watch", "silent", *flags]
    endpoints = f"--endpoints={tool.member.endpoint},{other.member.endpoint}"
    job = Job(tool, [endpoints, *words], False, None, endpoint=False)
    twins.jobs.append(job)
    until = time.monotonic() + 20
    while not tool.watchers():
        assert time.monotonic() < until
        time.sleep(0.05)
    assert tool.member.process is not None
    tool.member.process.send_signal(signal.SIGSTOP)
    try:
        until = time.monotonic() + 40
        while not job.lines:
            assert time.monotonic() < until
            assert other.run(["put", "silent", "v"]).code == 0
            time.sleep(0.5)
        assert job.lines[0] == "PUT\n"
    finally:
        tool.member.process.send_signal(signal.SIGCONT)
        job.end(signal.SIGINT)


def test_debug_shows_what_flags_and_variables_came_to(twins: Twins) -> None:
    env = {"ETCDCTL_DIAL_TIMEOUT": "90s", "ETCDCTL_HEX": "true"}
    found = twins.all("get", "k", "--debug", "--user=u", "--password=p", env=env)
    shown = [
        [tool.side.normal(line) for line in each.stderr.splitlines() if line.startswith("ETCDCTL_")]
        for tool, each in zip(twins.tools, found, strict=True)
    ]
    assert len(shown[0]) > 15
    for lines in shown[1:]:
        assert [line for line in lines if not line.startswith("ETCDCTL_MAX_")] == shown[0]


def test_a_variable_beside_its_flag(twins: Twins) -> None:
    for name, flag in (("ETCDCTL_HEX", "--hex"), ("ETCDCTL_WRITE_OUT", "-w=json"), ("ETCDCTL_USER", "--user=u:p")):
        found = twins.all("get", "k", flag, env={name: ""})
        said = [json.loads(each.stderr.splitlines()[0]) for each in found]
        for line in said:
            line.pop("ts")
            line.pop("stacktrace", None)
        assert said[1:] == 2 * said[:1]
        assert [each.code for each in found] == [1, 1, 1]
