"""Clients of every make, certificates as cfssl, openssl and kubeadm lay them out, and our own client and etcdctl."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from quorate.client import BlockingClient, EtcdError, TlsOptions
from quorate.proto.rpc_pb2 import RangeRequest, RangeResponse
from tests.etcdctl.twins import environment
from tests.oracle import free_port, our_command, our_path, real_binary
from tests.tls.certs import Authority, Pair
from tests.tls.world import TlsMember, client_context, https_get, served, tls_member, until

pytestmark = [pytest.mark.oracle, pytest.mark.process]

OURS = [sys.executable, "-m", "quorate.cli.etcdctl.main"]


class Pki:
    """An authority, a server's pair, and clients: one to trust, one from elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder / "here")
        self.stranger = Authority(folder / "elsewhere", "elsewhere")
        self.server = self.authority.issue("server", "etcd")
        self.client = self.authority.issue("client", "someone", uses=("client",))
        self.unknown = self.stranger.issue("unknown", "someone")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def both(pki: Pki) -> Iterator[list[TlsMember]]:
    """Real etcd and ours, each wanting certificates, with metrics behind TLS too."""
    members = []
    try:
        for kind in ("real", "ours"):
            metrics = free_port()
            flags = [*pki.server.flags(), f"--trusted-ca-file={pki.authority.cert}", "--client-cert-auth"]
            flags += [f"--listen-metrics-urls=https://127.0.0.1:{metrics}", "--host-whitelist=only.example.org"]
            member = TlsMember(kind, pki.authority, [*flags, "--cors=http://a.example.org:1"], client=pki.client)
            member.metrics_port = metrics  # type: ignore[attr-defined]
            members.append(member.start(wait=False))
        for member in members:
            assert isinstance(member, TlsMember)
            member.wait_healthy()
        yield [member for member in members if isinstance(member, TlsMember)]
    finally:
        for member in members:
            member.close()


def curl(member: TlsMember, pki: Pki, *words: str, pair: Pair | None = None, port: int = 0) -> tuple[int, str]:
    """Run curl; return its exit status and output."""
    pair = pair or pki.client
    tool = shutil.which("curl")
    assert tool
    done = subprocess.run(
        [tool, "-s", "--cacert", str(pki.authority.cert), "--cert", str(pair.cert), "--key", str(pair.key)]
        + [*words, "--max-time", "10", f"https://127.0.0.1:{port or member.client_port}/health"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_curl(both: list[TlsMember], pki: Pki) -> None:
    shown = ["-o", "/dev/null", "-w", "%{http_code} %{http_version} %{ssl_verify_result}"]
    found = []
    for member in both:
        metrics = member.metrics_port  # type: ignore[attr-defined]
        found.append(
            [
                curl(member, pki, "--http1.1", *shown),
                curl(member, pki, "--http2", *shown),
                curl(member, pki, "--no-alpn", *shown),
                curl(member, pki, "--tlsv1.2", "--tls-max", "1.2", *shown),
                curl(member, pki, *shown, port=metrics),
                curl(member, pki, "-H", "Host: whatever.example.org", *shown),
                curl(member, pki, "-H", "Origin: http://a.example.org:1", "-o", "/dev/null", "-D", "-")[1].count(
                    "a.example"
                ),
                curl(member, pki, "-H", "Origin: http://b.example.org:1", "-o", "/dev/null", "-D", "-")[1].count(
                    "example"
                ),
                curl(member, pki, *shown, pair=pki.unknown)[0] != 0,
            ]
        )
    assert found[1] == found[0]
    assert found[1][:4] == [(0, "200 1.1 0"), (0, "200 2 0"), (0, "200 1.1 0"), (0, "200 2 0")]
    assert found[1][6:] == [1, 0, True]


def test_openssl(both: list[TlsMember], pki: Pki) -> None:
    tool = shutil.which("openssl")
    assert tool
    for member in both:
        done = subprocess.run(
            [tool, "s_client", "-connect", member.endpoint, "-CAfile", str(pki.authority.cert), "-quiet", "-no_ign_eof"]
            + ["-cert", str(pki.client.cert), "-key", str(pki.client.key), "-verify_return_error"],
            input="GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        # Its input ends at once; whatever has come until then is shown.
        assert "verify error" not in done.stderr
        assert done.stdout.startswith("HTTP/1.1 200 OK") or done.stdout == "", done.stdout


def test_grpcio(both: list[TlsMember], pki: Pki) -> None:
    files = [path.read_bytes() for path in (pki.authority.cert, pki.client.key, pki.client.cert)]
    for member in both:
        with grpc.secure_channel(member.endpoint, grpc.ssl_channel_credentials(*files)) as channel:
            call = channel.unary_unary(
                "/etcdserverpb.KV/Range", RangeRequest.SerializeToString, RangeResponse.FromString
            )
            assert call(RangeRequest(key=b"x"), timeout=10).header.revision >= 1
        with grpc.secure_channel(member.endpoint, grpc.ssl_channel_credentials(files[0])) as channel:
            call = channel.unary_unary(
                "/etcdserverpb.KV/Range", RangeRequest.SerializeToString, RangeResponse.FromString
            )
            with pytest.raises(grpc.RpcError) as caught:
                call(RangeRequest(key=b"x"), timeout=5)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def etcdctl_words(member: TlsMember, pki: Pki) -> list[list[str]]:
    ca, cert, key = f"--cacert={pki.authority.cert}", f"--cert={pki.client.cert}", f"--key={pki.client.key}"
    limit = "--command-timeout=500ms"
    other = f"--cacert={pki.stranger.cert}"
    return [
        [ca, cert, key, "put", "k", "v"],
        [ca, cert, key, f"--endpoints=https://{member.endpoint}", "get", "k"],
        [ca, cert, key, "endpoint", "health"],
        [ca, cert, key, limit, f"--endpoints=http://{member.endpoint}", "get", "k"],
        [ca, limit, "get", "k"],
        [limit, "get", "k"],
        [other, cert, key, limit, "get", "k"],
        ["--insecure-transport=false", "--insecure-skip-tls-verify", cert, key, "get", "k"],
        [cert, key, "--insecure-skip-tls-verify", "get", "k"],
        [ca, cert, "get", "k"],
        [ca, key, "get", "k"],
        [ca, f"--cert={pki.unknown.cert}", f"--key={pki.unknown.key}", limit, "get", "k"],
        [ca, cert, f"--key={pki.unknown.key}", limit, "get", "k"],
        ["--cacert=/no/file", cert, key, "get", "k"],
        [ca, "--cert=/no/file", "--key=/no/file", "get", "k"],
        ["--cacert=", cert, key, "get", "k"],
    ]


def run_ctl(command: list[str], member: TlsMember, words: list[str]) -> tuple[int, str, str]:
    endpoint = [] if any(word.startswith("--endpoints") for word in words) else [f"--endpoints={member.endpoint}"]
    done = subprocess.run(
        [*command, *endpoint, *words], capture_output=True, text=True, timeout=30, check=False, env=environment({})
    )
    text = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("{"))
    out = done.stdout if "health" not in words else ""
    return done.returncode, out.replace(member.endpoint, "SERVER"), text.replace(member.endpoint, "SERVER")


def test_both_etcdctl_against_both_servers(both: list[TlsMember], pki: Pki) -> None:
    real, ours = both
    jobs = []
    for of_real, of_ours in zip(etcdctl_words(real, pki), etcdctl_words(ours, pki), strict=True):
        jobs.append(([real_binary("etcdctl")], real, of_real))
        jobs.append(([real_binary("etcdctl")], ours, of_ours))
        jobs.append((OURS, ours, of_ours))
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda job: run_ctl(*job), jobs))
    for at in range(0, len(jobs), 3):
        assert answers[at + 1] == answers[at], jobs[at][2]
        assert answers[at + 2] == answers[at], jobs[at][2]


def test_our_client(both: list[TlsMember], pki: Pki) -> None:
    options = TlsOptions(str(pki.authority.cert), str(pki.client.cert), str(pki.client.key))
    for member in both:
        with BlockingClient(member.endpoint, tls=options, timeout_s=10) as client:
            client.put("client", "v")
            found = client.get("client")
            assert found is not None
            assert found.value == b"v"
        without = TlsOptions(str(pki.authority.cert))
        with BlockingClient(member.endpoint, tls=without, timeout_s=1) as nobody, pytest.raises(EtcdError):
            nobody.get("client")


def kubeadm(folder: Path) -> tuple[list[str], Pair, Authority]:
    """RSA keys, CNs of kube, names and addresses of the host, one CA for servers, members and clients."""
    authority = Authority(folder / "etcd", "etcd-ca", key="rsa")
    authority.cert.rename(authority.folder / "ca.crt")
    authority.cert = authority.folder / "ca.crt"
    hosts = ["host-1", "localhost", "127.0.0.1", "::1"]
    files = {}
    for name in ("server", "peer"):
        pair = authority.issue(name, "host-1", hosts, key="rsa")
        for path, end in ((pair.cert, "crt"), (pair.key, "key")):
            path.rename(authority.folder / f"{name}.{end}")
        files[name] = authority.folder / name
    client = authority.issue(
        "healthcheck-client", "kube-etcd-healthcheck-client", [], ("client",), "rsa", organization="system:masters"
    )
    flags = [f"--cert-file={files['server']}.crt", f"--key-file={files['server']}.key", "--client-cert-auth=true"]
    flags += [f"--peer-cert-file={files['peer']}.crt", f"--peer-key-file={files['peer']}.key"]
    flags += [f"--trusted-ca-file={authority.cert}", f"--peer-trusted-ca-file={authority.cert}"]
    return [*flags, "--peer-client-cert-auth=true", "--listen-metrics-urls=http://127.0.0.1:0"], client, authority


def cfssl(folder: Path) -> tuple[list[str], Pair, Authority]:
    """EC P-256, an intermediate that signs, the chain in one file, both usages in a peer's certificate."""
    root = Authority(folder / "root", "root CA")
    middle = Authority(folder / "cfssl", "intermediate CA", parent=root)
    server = middle.issue("server", "example.org", chain=True, uses=("server",))
    client = middle.issue("client", "client", [], ("client",), chain=True)
    flags = [*server.flags(), f"--trusted-ca-file={root.cert}", "--client-cert-auth"]
    return flags, client, root


def by_openssl(folder: Path) -> tuple[list[str], Pair, Authority]:
    """What the openssl command makes: PKCS 8 keys, text before the PEM block, no usages at all."""
    authority = Authority(folder, "openssl-ca", key="rsa")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=self", "-addext"]
        + [
            "subjectAltName=IP:127.0.0.1,DNS:localhost",
            "-keyout",
            f"{folder}/self-key.pem",
            "-out",
            f"{folder}/self.pem",
        ],
        check=True,
        capture_output=True,
    )
    text = subprocess.run(
        ["openssl", "x509", "-in", f"{folder}/self.pem", "-text"], check=True, capture_output=True
    ).stdout
    (folder / "self.pem").write_bytes(text)
    bundle = authority.cert.read_bytes()
    authority.cert.write_bytes(b"# one\n" + bundle + b"\n# two\n" + text)
    client = authority.issue("client", "client", [], (), "rsa", "pkcs8")
    flags = [f"--cert-file={folder}/self.pem", f"--key-file={folder}/self-key.pem"]
    return [*flags, f"--trusted-ca-file={authority.cert}"], client, authority


@pytest.mark.parametrize("layout", [kubeadm, cfssl, by_openssl], ids=lambda each: each.__name__)
def test_layouts(layout, tmp_path: Path) -> None:
    flags, client, authority = layout(tmp_path)
    for kind in ("real", "ours"):
        with tls_member(kind, authority, flags, client) as member:
            done = member.etcdctl("put", "a", "b")
            assert (done.returncode, done.stdout) == (0, "OK\n"), done.stderr


@pytest.mark.parametrize("key", ["ec384", "ed25519"])
def test_other_keys(key: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server", key=key)
    with tls_member("ours", authority, pair.flags()) as member:
        assert member.etcdctl("put", "a", "b").stdout == "OK\n"


def test_a_unix_socket(pki: Pki, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    member = TlsMember("ours", pki.authority, [*pki.server.flags()])
    member.flags += [f"--listen-client-urls=unixs://{path},{member.url}", f"--advertise-client-urls={member.url}"]
    try:
        member.start()
        options = TlsOptions(str(pki.authority.cert))
        with BlockingClient(f"unixs://{path}", tls=options, timeout_s=10) as client:
            client.put("a", "b")
            found = client.get("a")
            assert found is not None
            assert found.value == b"b"
    finally:
        member.close()


def test_http_on_a_port_of_its_own(pki: Pki) -> None:
    port = free_port()
    flags = [*pki.server.flags(), f"--trusted-ca-file={pki.authority.cert}"]
    crl = pki.authority.revoke([pki.authority.issue("gone").serial])
    member = TlsMember("ours", pki.authority, [*flags, f"--client-crl-file={crl}"], client=pki.client)
    member.flags.append(f"--listen-client-http-urls=https://127.0.0.1:{port}")
    gone = Pair(pki.authority.folder / "gone.pem", pki.authority.folder / "gone-key.pem", pki.client.certificate, None)
    try:
        member.start(wait=False)
        until(lambda: served(port, client_context(pki.authority, pki.client)), 30)
        assert json.loads(https_get(port, "/health", client_context(pki.authority, pki.client))[1])["health"] == "true"
        assert member.etcdctl("put", "a", "b").stdout == "OK\n"
        assert https_get(member.client_port, "/health", client_context(pki.authority, pki.client))[0] == 404
        for each in (port, member.client_port):  # revocation holds on both
            assert not served(each, client_context(pki.authority, gone))
        assert len(member.log_lines("rejected connection on client endpoint")) == 2
    finally:
        member.close()


def test_the_file_of_settings(pki: Pki, tmp_path: Path) -> None:
    port, peer = free_port(), free_port()
    settings = {
        "name": "m1",
        "data-dir": f"{tmp_path}/data",
        "listen-client-urls": f"https://127.0.0.1:{port}",
        "advertise-client-urls": f"https://127.0.0.1:{port}",
        "listen-peer-urls": f"http://127.0.0.1:{peer}",
        "initial-advertise-peer-urls": f"http://127.0.0.1:{peer}",
        "initial-cluster": f"m1=http://127.0.0.1:{peer}",
        "client-transport-security": {
            "cert-file": str(pki.server.cert),
            "key-file": str(pki.server.key),
            "client-cert-auth": True,
            "trusted-ca-file": str(pki.authority.cert),
            "allowed-cn": ["someone"],
        },
        "tls-min-version": "TLS1.3",
    }
    path = tmp_path / "etcd.yaml"
    path.write_text(json.dumps(settings))
    env = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
    env["PYTHONPATH"] = our_path()
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen([*our_command(), f"--config-file={path}"], stderr=log, env=env, cwd=tmp_path)
    try:
        until(lambda: served(port, client_context(pki.authority, pki.client)), 30)
        other = pki.authority.issue("other", "other")
        assert not served(port, client_context(pki.authority, other))
        assert https_get(port, "/version", client_context(pki.authority, pki.client))[0] == 200
    finally:
        process.kill()
        process.wait()
