"""What the start says about TLS, in the words of real etcd; auto TLS; permissions of directories and keys."""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.oracle import free_port, our_command, our_path, real_binary
from tests.tls.certs import Authority
from tests.tls.world import TlsMember, client_context, https_get, served, until

pytestmark = [pytest.mark.oracle, pytest.mark.process]

CLIENTS = ["--listen-client-urls=https://CLIENT", "--advertise-client-urls=https://CLIENT"]
PEERS = [
    "--listen-peer-urls=https://PEER",
    "--initial-advertise-peer-urls=https://PEER",
    "--initial-cluster=default=https://PEER",
]
PAIR, PEER_PAIR = (
    ["--cert-file=D/s.pem", "--key-file=D/s-key.pem"],
    ["--peer-cert-file=D/s.pem", "--peer-key-file=D/s-key.pem"],
)

CASES: dict[str, list[str]] = {
    "no certificate": CLIENTS,
    "no files": [*CLIENTS, "--cert-file=/no/c", "--key-file=/no/k"],
    "no key": [*CLIENTS, "--cert-file=D/s.pem"],
    "no key file": [*CLIENTS, "--cert-file=D/s.pem", "--key-file=/no/k"],
    "encrypted key": [*CLIENTS, "--cert-file=D/enc.pem", "--key-file=D/enc-key.pem"],
    "another key": [*CLIENTS, "--cert-file=D/s.pem", "--key-file=D/o-key.pem"],
    "a key of another type": [*CLIENTS, "--cert-file=D/s.pem", "--key-file=D/rsa-key.pem"],
    "junk": [*CLIENTS, "--cert-file=D/junk", "--key-file=D/o-key.pem"],
    "junk key": [*CLIENTS, "--cert-file=D/s.pem", "--key-file=D/junk"],
    "swapped": [*CLIENTS, "--cert-file=D/s-key.pem", "--key-file=D/s.pem"],
    "certificate as key": [*CLIENTS, "--cert-file=D/s.pem", "--key-file=D/o.pem"],
    "no authority": [*CLIENTS, *PAIR, "--trusted-ca-file=/no/ca"],
    "cipher": ["--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,FOO"],
    "members without certificate": PEERS,
    "members without files": [*PEERS, "--peer-cert-file=/no/c", "--peer-key-file=/no/k"],
    "members without files, in plain text": ["--peer-cert-file=/no/c", "--peer-key-file=/no/k"],
    "members without key": [*PEERS, "--peer-cert-file=/no/c"],
    "members' key alone": [*PEERS, "--peer-key-file=/no/c"],
    "members without authority": [*PEERS, *PEER_PAIR, "--peer-trusted-ca-file=/no/ca"],
    "metrics without files": ["--listen-metrics-urls=https://METRICS", "--cert-file=/no/c", "--key-file=/no/k"],
    "no validity": ["--auto-tls", "--self-signed-cert-validity=0"],
    "no validity for members": ["--peer-auto-tls", "--self-signed-cert-validity=0"],
    "junk validity": ["--auto-tls", "--self-signed-cert-validity=-1"],
}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    authority = Authority(tmp_path_factory.mktemp("pki"))
    authority.issue("s", "etcd")
    authority.issue("o")
    authority.issue("rsa", key="rsa")
    authority.issue("enc", form="encrypted")
    (authority.folder / "junk").write_text("junk")
    return authority.folder


def run(kind: str, flags: list[str], pki: Path, folder: Path) -> tuple[int | None, list[dict[str, Any]]]:
    """Run a server until it ends or serves clients (status None); return its status and log lines."""
    folder.mkdir(mode=0o700, exist_ok=True)
    ports = {name: f"127.0.0.1:{free_port()}" for name in ("CLIENT", "PEER", "METRICS")}
    given = " ".join(flags)
    if "listen-client-urls" not in given:
        flags = ["--listen-client-urls=http://CLIENT", "--advertise-client-urls=http://CLIENT", *flags]
    if "listen-peer-urls" not in given:
        flags = [*[flag.replace("https", "http") for flag in PEERS], *flags]
    words = [f"--data-dir={folder}/data", *flags]
    for name, address in ports.items():
        words = [word.replace(name, address) for word in words]
    command = [real_binary("etcd")] if kind == "real" else our_command()
    env = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
    env["PYTHONPATH"] = our_path()
    words = [word.replace("=D/", f"={pki}/") for word in words]
    log = folder / "log"
    with open(log, "wb") as file:
        process = subprocess.Popen([*command, *words], stderr=file, stdout=subprocess.DEVNULL, env=env, cwd=folder)
    until(lambda: process.poll() is not None or "serving client traffic" in log.read_text(), 40)
    status = process.poll()
    process.kill()
    process.wait()
    text = log.read_text().replace(str(pki), "D").replace(str(folder), "T")
    for name, address in ports.items():
        text = text.replace(address, name)
    return status, [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def ending(found: tuple[int | None, list[dict[str, Any]]]) -> tuple[int | None, list[tuple[str, str]]]:
    """Return the status and what the fatal lines say."""
    status, lines = found
    return status, [(line["msg"], line.get("error", "")) for line in lines if line["level"] == "fatal"]


def test_what_cannot_be_ends_the_start_in_real_etcd_s_words(pki: Path, tmp_path: Path) -> None:
    jobs = [(kind, name) for name in CASES for kind in ("real", "ours")]
    with ThreadPoolExecutor(3) as pool:
        results = pool.map(lambda job: ending(run(job[0], CASES[job[1]], pki, tmp_path / "-".join(job))), jobs)
        found = dict(zip(jobs, results, strict=True))
    for name in CASES:
        assert found["ours", name] == found["real", name], name
        assert found["ours", name][0] != 0, name


def test_what_3_6_says_otherwise(pki: Path, tmp_path: Path) -> None:
    both = [*PEERS, *PEER_PAIR, "--peer-cert-allowed-cn=a,b", "--peer-cert-allowed-hostname=c"]
    text = 'AllowedCNs and AllowedHostnames are mutually exclusive (cns=["a" "b"], hostnames=["c"])'
    assert ending(run("ours", both, pki, tmp_path / "a")) == (1, [("discovery failed", text)])
    text = "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url"
    metrics = ["--listen-metrics-urls=https://METRICS"]
    assert ending(run("ours", metrics, pki, tmp_path / "b")) == (1, [("discovery failed", text)])
    half = [*CLIENTS, *PAIR, "--client-cert-file=D/o.pem"]
    text = "ClientKeyFile and ClientCertFile must both be present or both absent: key: , cert: D/o.pem]"
    assert ending(run("ours", half, pki, tmp_path / "c")) == (1, [("listener failed", text)])
    http2 = [*CLIENTS, *PAIR, "--cipher-suites=TLS_RSA_WITH_AES_128_CBC_SHA"]
    status, lines = ending(run("ours", http2, pki, tmp_path / "d"))
    assert status == 1
    assert lines[0][1].startswith("http2: TLSConfig.CipherSuites is missing an HTTP/2-required AES_128_GCM_SHA256")


def test_files_for_plain_urls_are_ignored_with_a_warning(pki: Path, tmp_path: Path) -> None:
    flags = [*PAIR, "--client-cert-auth", *PEER_PAIR, "--peer-client-cert-auth", "--auto-tls", "--peer-auto-tls"]

    def said(kind: str) -> list[tuple[str, str]]:
        _, lines = run(kind, flags, pki, tmp_path / kind)
        wanted = ("ignor", "starting with")
        return [
            (line["msg"], line.get("tls-info", "")) for line in lines if any(word in line["msg"] for word in wanted)
        ]

    client = [("scheme is HTTP while", "scheme is http or unix while")] * 2  # what 3.6 says
    real = said("real")
    for at, line in enumerate(real):
        if at > 4 and line[0].startswith("scheme"):
            real[at] = (line[0].replace(*client[0]), "")
    assert said("ours") == real
    assert len(real) == 8


def test_directories_and_files_have_etcd_s_permissions(pki: Path, tmp_path: Path) -> None:
    found = {}
    for kind in ("real", "ours"):
        data = tmp_path / kind / "data"
        flags = ["--auto-tls", "--peer-auto-tls", "--listen-metrics-urls=https://METRICS"]
        flags += [flag.replace("http://", "https://") for flag in (*CLIENTS, *PEERS)]
        run(kind, flags, pki, tmp_path / kind)
        modes = {}
        for path in sorted(data.rglob("*")):
            name = path.relative_to(data).as_posix()
            if not name.endswith((".tmp", ".snap")):
                modes[name] = oct(path.stat().st_mode)
        modes["."] = oct(data.stat().st_mode)
        found[kind] = modes
        assert modes["fixtures/client/key.pem"].endswith("600"), kind
    assert found["ours"] == found["real"]


def test_open_directories_are_warned_about(pki: Path, tmp_path: Path) -> None:
    said = {}
    for kind in ("real", "ours"):
        for path in ("", "data", "data/member", "data/member/snap"):
            (tmp_path / kind / path).mkdir(mode=0o755)
        status, lines = run(kind, [], pki, tmp_path / kind)
        assert status is None
        said[kind] = [line["error"] for line in lines if line["msg"] == "check file permission"]
    member = [text for text in said["ours"] if '"T/data/member"' in text]  # 3.6 alone looks at this one always
    assert len(member) == 1
    assert [text for text in said["ours"] if text not in member] == [
        text for text in said["real"] if text not in member
    ]
    assert all('"drwxr-xr-x"' in text for text in said["ours"])


def test_auto_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    certificates = {}
    for kind in ("real", "ours"):
        member = TlsMember(
            kind, authority, ["--auto-tls", "--peer-auto-tls", "--self-signed-cert-validity=2"], peers=True
        )
        anybody = client_context(None)
        try:
            for _ in range(2):
                member.start(wait=False)
                until(lambda: served(member.client_port, anybody), 30)  # noqa: B023
                assert https_get(member.client_port, "/health", anybody)[0] == 200
                member.stop()
            made = []
            for name in ("client", "peer"):
                folder = Path(member.data_dir) / "fixtures" / name
                certificate = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
                key = load_pem_private_key((folder / "key.pem").read_bytes(), None)
                assert isinstance(key, ec.EllipticCurvePrivateKey)
                assert key.curve.name == "secp521r1"
                assert b"BEGIN EC PRIVATE KEY" in (folder / "key.pem").read_bytes()
                assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 730
                sans = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
                uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
                assert list(uses) == [ExtendedKeyUsageOID.SERVER_AUTH]
                made.append((certificate.subject, certificate.issuer, list(sans), certificate.signature_algorithm_oid))
            certificates[kind] = made
            assert len(member.log_lines("automatically generate certificates")) == 2
            assert len(member.log_lines("created key file")) == 2
        finally:
            member.close()
    assert certificates["ours"] == certificates["real"]
