"""What a terminal gets and a pipe does not: colours, tables, bars, what to try; and completion by a real shell."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.etcdctl.twins import Twins, environment
from tests.oracle import Member, free_port, real_binary

pytestmark = [pytest.mark.oracle, pytest.mark.process]
V3 = {"ETCDCTL_API": "3"}
OURS = [sys.executable, "-m", "quorate.cli.etcdctl.main"]


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, words: Sequence[str], cwd: str, env: dict[str, str] | None = None) -> None:
        self._master, slave = pty.openpty()
        full = {**environment(None), "TERM": "xterm", "COLUMNS": "100", **(env or {})}
        full = {name: value for name, value in full.items() if name != "NO_COLOR" or (env or {}).get("NO_COLOR")}
        self.process = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, env=full, cwd=cwd)
        os.close(slave)
        self.text = ""

    def read(self, until: str = "", timeout_s: float = 30) -> str:
        """Read until a text comes, or the command ends."""
        end = time.monotonic() + timeout_s
        while not until or until not in self.text:
            assert time.monotonic() < end, self.text
            if not select.select([self._master], [], [], 0.2)[0]:
                continue
            try:
                data = os.read(self._master, 65536)
            except OSError:  # nobody holds the other side
                break
            if not data:
                break
            self.text += data.decode(errors="replace").replace("\r\n", "\n")
        return self.text

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def close(self) -> int:
        self.process.kill()
        code = self.process.wait()
        os.close(self._master)
        return code


def shown(twins: Twins, *words: str, env: dict[str, str] | None = None) -> tuple[str, int]:
    member = twins.ours.member
    terminal = Terminal([*OURS, f"--endpoints={member.endpoint}", *words], member.owned, env)
    text = terminal.read()
    code = terminal.process.wait(10)
    terminal.close()
    return text, code


def plain(text: str) -> str:
    return re.sub(r"\x1b\[\d+m", "", text)


def test_tables_and_colours(twins: Twins) -> None:
    text, code = shown(twins, "member", "list")
    title, row = text.splitlines()
    assert code == 0
    assert (title[:4], title[-4:]) == ("\x1b[1m", "\x1b[0m")
    assert "\x1b[32mstarted\x1b[0m" in row
    assert plain(title).index("PEER ADDRS") == plain(row).index("http://")
    bare, _ = shown(twins, "member", "list", env={"NO_COLOR": "1"})
    assert bare == plain(text)
    simple, _ = shown(twins, "member", "list", "-w", "simple")
    piped = twins.ours.run(["member", "list"])
    assert simple == piped.stdout == twins.ours.run(["member", "list"], env={"NO_COLOR": ""}).stdout
    assert shown(twins, "member", "list", env={"ETCDCTL_WRITE_OUT": "simple"})[0] == piped.stdout
    health, _ = shown(twins, "endpoint", "health")
    assert re.fullmatch(r"127.0.0.1:\d+  healthy    [\d.]+m?s\n", plain(health)), health


def test_errors_say_what_to_try(twins: Twins) -> None:
    text, code = shown(twins, "lease", "revoke", "1234", env={"NO_COLOR": "1"})
    assert code == 1
    warning, error, advice = text.splitlines()
    assert warning.startswith("warn: retrying of unary invoker failed: rpc error: code = NotFound")
    assert error == "Error: failed to revoke lease (etcdserver: requested lease not found)"
    assert advice == "  Try: `etcdctl lease list` shows those that live"
    red, _ = shown(twins, "lease", "revoke", "1234")
    assert "\x1b[31mError:\x1b[0m failed" in red
    assert "  Try: `etcdctl endpoint health --cluster`; the old form" in shown(twins, "cluster-health", env=V3)[0]
    assert "for the old forms set ETCDCTL_API=2" in shown(twins, "--ca-file=x", "member", "list", env=V3)[0]
    dead = [*OURS, f"--endpoints=127.0.0.1:{free_port()}", "--command-timeout=200ms", "get", "k"]
    terminal = Terminal(dead, twins.ours.member.owned)
    assert "  Try: is the server running" in terminal.read()
    terminal.close()
    piped = twins.ours.run(["lease", "revoke", "1234"])
    assert "Try" not in piped.stderr


def test_bars_of_snapshots(twins: Twins) -> None:
    twins.ours.run(["put", "big", "v" * 100_000])
    text, code = shown(twins, "snapshot", "save", "seen.db", env={"NO_COLOR": "1"})
    assert code == 0
    assert re.search(r"\d+ kB / \d+ kB \[=+\] +100\.00% 0s\n", text), text
    assert text.endswith("Snapshot saved at seen.db\n")
    assert "{" not in text
    text, code = shown(twins, "snapshot", "restore", "seen.db", "--data-dir=seen")
    assert code == 0, text
    assert re.search(r"\d+ kB / \d+ kB \[=+\] +100\.00% 0s\n", text), text
    piped = twins.ours.run(["snapshot", "save", "piped.db"])
    assert "100.00%" not in piped.stdout + piped.stderr


def test_a_watch_says_that_it_waits_for_the_server() -> None:
    member = Member("ours").start()
    terminal = Terminal([*OURS, f"--endpoints={member.endpoint}", "watch", "k", "--rev=1"], member.owned)
    try:
        put = [real_binary("etcdctl"), f"--endpoints={member.endpoint}", "put", "k"]
        subprocess.run([*put, "first"], check=True, capture_output=True)
        terminal.read("first\n")
        member.stop()
        terminal.read("connection lost; watching on from revision 3 when it is back")
        member.start()
        subprocess.run([*put, "second"], check=True, capture_output=True)
        text = terminal.read("second\n")
        assert text.count("connection lost") == 1
        assert text.count("\x1b[32mPUT\x1b[0m\nk\n") == 2
        subprocess.run([*put[:2], "del", "k"], check=True, capture_output=True)
        terminal.read("\x1b[31mDELETE\x1b[0m\nk\n\n")
    finally:
        terminal.close()
        member.close()


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("etcdctl lease gr", "etcdctl lease grant "),
        ("etcdctl make", "etcdctl make-mirror "),
        ("etcdctl get --pri", "etcdctl get --print-value-only "),
        ("etcdctl --endpoints=a:1 snapshot res", "etcdctl --endpoints=a:1 snapshot restore "),
        ("etcdctl --write-out pro", "etcdctl --write-out protobuf "),
        ("etcdctl -w json endpoint heal", "etcdctl -w json endpoint health "),
        ("etcdutl snap", "etcdutl snapshot "),
    ],
)
def test_bash_completes(twins: Twins, tmp_path: Path, typed: str, completed: str) -> None:
    for name in ("etcdctl", "etcdutl"):
        words = [sys.executable, "-m", f"quorate.cli.{name}.main", "completion", "bash"]
        done = subprocess.run(words, env=environment(None), check=True, capture_output=True, text=True)
        (tmp_path / name).write_text(done.stdout)
    assert twins.ours.run(["completion", "bash"], endpoint=False).stdout == (tmp_path / "etcdctl").read_text()
    shell = Terminal(["bash", "--norc", "--noprofile", "-i"], str(tmp_path), {"PS1": "ready> ", "HOME": str(tmp_path)})
    try:
        shell.read("ready> ")
        shell.type("bind 'set enable-bracketed-paste off'; . ./etcdctl; . ./etcdutl; echo sourced-$?\n")
        shell.read("sourced-0\nready> ")
        shell.type(f"{typed}\t")
        shell.read(completed)
    finally:
        shell.close()


@pytest.mark.parametrize("name", ["zsh", "fish"])
def test_other_shells_take_the_script(twins: Twins, tmp_path: Path, name: str) -> None:
    """Where the shell is installed; the words are in the script in any case."""
    script = twins.ours.run(["completion", name], endpoint=False).stdout
    assert {"keep-alive", "print-value-only", "grant"} <= set(re.findall(r"[\w-]+[\w]", script.replace("--", " ")))
    found = shutil.which(name)
    if found is not None:
        (tmp_path / "script").write_text(script)
        subprocess.run([found, "-n", str(tmp_path / "script")], check=True, capture_output=True)
