"""The files in deploy/ say what they mean to say."""

from __future__ import annotations

import json
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from quorate.cli.certs import CertsError, make, parse
from quorate.cli.flags import FLAGS, NONE, OLD_NAMES, REFUSED, definitions, variable_of
from quorate.cli.goflag import FlagSet
from tests.deploy.files import DEPLOY, environment_file, pod, services, unit
from tests.oracle import ROOT


def assert_in_force(names: set[str]) -> None:
    """Every setting that a file makes is known and has its effect."""
    for name in names:
        assert FLAGS[OLD_NAMES.get(name, name)].state not in (NONE, REFUSED), name


def test_the_unit_and_its_settings() -> None:
    service = unit(DEPLOY / "systemd" / "etcd.service")["Service"]
    assert service["Type"] == "notify"
    assert service["ExecStart"].endswith("/etcd")
    assert service["EnvironmentFile"] == "-/etc/etcd/etcd.conf"
    settings = environment_file(DEPLOY / "systemd" / "etcd.conf")
    assert settings["ETCD_DATA_DIR"].startswith(service["WorkingDirectory"])
    known = {variable_of(name): name for name in (*FLAGS, *OLD_NAMES)}
    assert_in_force({known[name] for name in settings})
    commented = (DEPLOY / "systemd" / "etcd.conf").read_text().replace("#ETCD", "ETCD")
    assert {line.partition("=")[0] for line in commented.splitlines() if line.startswith("ETCD")} <= set(known)


def test_compose_and_pod_use_flags_that_are_there() -> None:
    commands = [service["command"] for service in services().values()]
    commands.append(pod()["spec"]["containers"][0]["command"])
    for command in commands:
        assert command[0] == "etcd"
        flags = FlagSet(definitions())
        flags.parse(command[1:])
        assert not flags.rest
        assert_in_force(set(flags.values))


def test_the_image_copies_what_is_there() -> None:
    lines = (DEPLOY / "container" / "Containerfile").read_text().splitlines()
    for line in lines:
        words = shlex.split(line)
        if words[:1] == ["COPY"] and not words[1].startswith("--from"):
            for source in words[1:-1]:
                assert (ROOT / source).exists(), source
    command = json.loads(lines[-1].removeprefix("CMD "))
    flags = FlagSet(definitions())
    flags.parse(command[1:])
    assert not flags.rest


@pytest.mark.parametrize("layout", ["cfssl", "kubeadm"])
@pytest.mark.parametrize("kind", ["ecdsa:256", "rsa:2048"])
def test_certificates(tmp_path: Path, layout: str, kind: str) -> None:
    words = ["--dir", str(tmp_path), "--layout", layout, "--key-type", kind, "--name", "m1", "--hosts", "m1,192.0.2.7"]
    make(parse(words))
    authority = (tmp_path / ("ca.pem" if layout == "cfssl" else "ca.crt")).read_bytes()
    make(parse([*words, "--client-cn", "root"]))
    assert (tmp_path / ("ca.pem" if layout == "cfssl" else "ca.crt")).read_bytes() == authority
    names = {"cfssl": "client", "kubeadm": "healthcheck-client"}
    suffixes = {"cfssl": (".pem", "-key.pem"), "kubeadm": (".crt", ".key")}[layout]
    expected = {name + suffix for name in ("ca", "server", "peer", names[layout]) for suffix in suffixes}
    assert {path.name for path in tmp_path.iterdir()} == expected
    ca = x509.load_pem_x509_certificate(authority)
    for name in expected:
        mode = stat.S_IMODE((tmp_path / name).stat().st_mode)
        assert mode == (0o600 if name.endswith(suffixes[1]) else 0o644), name
    for purpose in ("server", "peer", names[layout]):
        cert = x509.load_pem_x509_certificate((tmp_path / (purpose + suffixes[0])).read_bytes())
        cert.verify_directly_issued_by(ca)
        usages = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert ExtendedKeyUsageOID.CLIENT_AUTH in usages
        assert (ExtendedKeyUsageOID.SERVER_AUTH in usages) == (purpose in ("server", "peer"))
        (common_name,) = cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        assert common_name.value == ("m1" if purpose in ("server", "peer") else "root")
        if purpose in ("server", "peer"):
            san = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert san.get_values_for_type(x509.DNSName) == ["m1"]
            assert [str(found) for found in san.get_values_for_type(x509.IPAddress)] == ["192.0.2.7"]
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", f"ca{suffixes[0]}", f"server{suffixes[0]}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_half_an_authority_is_refused(tmp_path: Path) -> None:
    make(parse(["--dir", str(tmp_path)]))
    (tmp_path / "ca-key.pem").unlink()
    with pytest.raises(CertsError, match=r"ca-key\.pem is missing"):
        make(parse(["--dir", str(tmp_path)]))


@pytest.mark.parametrize("words", [["--expiry=5d"], ["--key-type=dsa:1024"], ["--hosts="]])
def test_bad_wishes_end_with_a_message(tmp_path: Path, words: list[str]) -> None:
    command = [sys.executable, "-m", "quorate.cli.certs", "--dir", str(tmp_path), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT / "src")})
    assert done.returncode == 1
    assert done.stderr.startswith("Error: --")
    assert "Traceback" not in done.stderr
