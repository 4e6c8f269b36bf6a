"""The pages for users: their code runs, prints what they say, and is well typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from quorate.runtime.tls.info import TlsInfo
from quorate.testing import EmbeddedMember
from tests.docs.blocks import Block, blocks
from tests.oracle import ROOT

pytest_plugins = ["pytester"]

DEFAULT = "127.0.0.1:2379"
PAGES = [block for page in ("client.md", "embedding.md") for block in blocks(page)]
SCRIPTS = [block for block in PAGES if "def test_" not in block.text and "TlsOptions" not in block.text]
TESTS = [block for block in PAGES if "def test_" in block.text]
TLS = [block for block in PAGES if "TlsOptions" in block.text]


def name(block: Block) -> str:
    return f"{block.page}-{block.name}"


def execute(block: Block, endpoint: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    code = compile(block.text.replace(DEFAULT, endpoint), f"docs/{block.page}", "exec")
    exec(code, {"__name__": "page"})


def test_there_is_something_to_run() -> None:
    assert len(SCRIPTS) > 12
    assert len(TESTS) == len(TLS) == 1


@pytest.mark.parametrize("block", SCRIPTS, ids=name)
def test_scripts(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with EmbeddedMember() as etcd:
        execute(block, etcd.endpoint, tmp_path, monkeypatch)
    assert capsys.readouterr().out.splitlines() == block.prints


@pytest.mark.parametrize("block", TLS, ids=name)
def test_tls(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    for issued, file in ((ca.issue_cert("127.0.0.1"), "server"), (ca.issue_cert("me@example.org"), "client")):
        issued.private_key_pem.write_to_path(tmp_path / f"{file}-key.pem")
        issued.cert_chain_pems[0].write_to_path(tmp_path / f"{file}.pem")
    tls = TlsInfo(
        cert_file=f"{tmp_path}/server.pem",
        key_file=f"{tmp_path}/server-key.pem",
        trusted_ca_file=f"{tmp_path}/ca.pem",
        client_cert_auth=True,
    )
    with EmbeddedMember(client_tls=tls) as etcd:
        execute(block, etcd.endpoint, tmp_path, monkeypatch)
    assert capsys.readouterr().out.splitlines() == block.prints


@pytest.mark.parametrize("block", TESTS, ids=name)
def test_tests(block: Block, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(block.text)
    done = pytester.runpytest_inprocess("-p", "quorate_pytest", "-p", "no:cacheprovider")
    done.assert_outcomes(passed=block.text.count("def test_"))


def test_all_blocks_are_well_typed(tmp_path: Path) -> None:
    for number, block in enumerate(PAGES):
        (tmp_path / f"block_{number}.py").write_text(block.text)
    # As for an installed package: what is reported is the blocks' own.
    config = tmp_path / "mypy.ini"
    config.write_text("[mypy]\nstrict = True\n[mypy-quorate.*]\nignore_errors = True\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", f"--config-file={config}", f"--cache-dir={tmp_path}/cache", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={"MYPYPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
