"""The tour in the README: each command prints what the page shows."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quorate.testing import EmbeddedMember
from tests.oracle import ROOT

INDENT = "    "


def tour() -> list[tuple[str, str]]:
    """Return the tour's commands and what they print."""
    text = (ROOT / "README.md").read_text().split("## A quick tour")[1].split("\n## ")[0]
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith(f"{INDENT}$ "):
            found.append((line.removeprefix(f"{INDENT}$ "), ""))
        elif found and (line.startswith(INDENT) or not line):
            found[-1] = (found[-1][0], found[-1][1] + line.removeprefix(INDENT) + "\n")
    return [(command, output.rstrip("\n") + "\n" if output.strip() else "") for command, output in found]


def test_python(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "README.md").read_text().split("## From Python\n")[1].split("\n## ")[0]
    code = "\n".join(line.removeprefix(INDENT) for line in text.splitlines() if line.startswith(INDENT))
    with EmbeddedMember() as etcd:
        exec(compile(code.replace("127.0.0.1:2379", etcd.endpoint), "README.md", "exec"), {})
    assert capsys.readouterr().out == "b'hello'\n"


@pytest.mark.process
def test_tour(tmp_path: Path) -> None:
    commands = tour()
    assert len(commands) > 5
    for name in ("etcdctl", "etcdutl", "benchmark"):
        tool = tmp_path / "bin" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f'#!/bin/sh\nexec {sys.executable} -m quorate.cli.{name}.main "$@"\n')
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    with EmbeddedMember() as etcd:
        env = {key: value for key, value in os.environ.items() if not key.startswith("ETCDCTL_")}
        env |= {
            "PATH": f"{tmp_path}/bin:{env['PATH']}",
            "PYTHONPATH": f"{ROOT}/src",
            "ETCDCTL_ENDPOINTS": etcd.endpoint,
        }
        for command, output in commands:
            words = command.replace("127.0.0.1:2379", etcd.endpoint)
            if words.endswith(" &"):
                assert printed_by_watch(words.removesuffix(" &"), output, env, tmp_path) == output, command
                continue
            done = subprocess.run(
                ["bash", "-c", words], capture_output=True, text=True, check=False, env=env, cwd=tmp_path, timeout=60
            )
            assert done.returncode == 0, (command, done.stderr)
            if output:
                assert done.stdout.rstrip("\n") + "\n" == output, command
            else:
                assert done.stdout, command
    assert (tmp_path / "backup.db").exists()


def printed_by_watch(words: str, wanted: str, env: dict[str, str], folder: Path) -> str:
    """Run something that does not end by itself until it has printed as much as is wanted."""
    with (folder / "printed").open("w") as file:
        process = subprocess.Popen(["bash", "-c", f"exec {words}"], stdout=file, env=env, cwd=folder)
    try:
        until = time.monotonic() + 20
        while len((folder / "printed").read_text()) < len(wanted) and time.monotonic() < until:
            time.sleep(0.05)
    finally:
        process.terminate()
        process.wait(10)
    return (folder / "printed").read_text()
