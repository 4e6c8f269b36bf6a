"""A site as operators' notes describe it: members started by their command lines or settings, certificates in kubeadm's
or cfssl's layout, and a shell in which the notes' commands are typed.

Addresses of the notes are replaced by loopback ones, and nothing else. `Site.shell(tool, script)` runs a script with
`etcdctl`, `etcdutl` and `etcd` in the PATH: ours, or real etcd's. Members are of either kind too.
"""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from quorate.cli.certs import make, parse
from tests.oracle import ROOT, free_port, our_command, our_path, real_binary

CTL = "quorate.cli.etcdctl.main"
UTL = "quorate.cli.etcdutl.main"
READY_S = 60


@dataclass
class Typed:
    """What a script came to."""

    code: int
    stdout: str
    stderr: str


class Running:
    """One member that was started with a command line and an environment."""

    def __init__(self, command: list[str], env: dict[str, str], folder: Path, health: str) -> None:
        self.command = command
        self.env = env
        self.folder = folder
        self.health = health
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, extra: list[str] | None = None) -> Running:
        """Start the process."""
        base = {name: value for name, value in os.environ.items() if not name.startswith(("ETCD", "NOTIFY"))}
        base["PYTHONPATH"] = our_path()
        self.folder.mkdir(exist_ok=True)
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*self.command, *(extra or [])], env=base | self.env, cwd=self.folder, stderr=log, stdout=log
            )
        return self

    def wait_ready(self) -> Running:
        """Wait until the member says that it is healthy."""
        deadline = time.monotonic() + READY_S
        while '"health":"true"' not in self.get("/health"):
            assert self.process is not None
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)
        return self

    def get(self, path: str) -> str:
        """Return what the metrics listener answers; nothing while nobody listens."""
        try:
            with urllib.request.urlopen(self.health + path, timeout=15) as answer:
                text: str = answer.read().decode()
                return text
        except urllib.error.HTTPError as error:
            return error.read().decode()
        except OSError:
            return ""

    def log(self) -> str:
        """Return the end of the log."""
        return (self.folder / "log").read_text(errors="replace")[-6000:]

    def stop(self, sig: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        process.send_signal(sig)
        try:
            return process.wait(30)
        finally:
            process.kill()
            process.wait()


class Site:
    """One site; `kind` is "real" or "ours", for its members."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        self.pki = folder / "pki"
        self.members: list[Running] = []
        self._ports: dict[str, int] = {}
        for tool in ("ours", "real"):
            self._put_tools(tool)

    def _put_tools(self, tool: str) -> None:
        place = self.folder / f"bin-{tool}"
        place.mkdir()
        for name, module in (("etcdctl", CTL), ("etcdutl", UTL)):
            command = [sys.executable, "-m", module] if tool == "ours" else [real_binary(name)]
            self._script(place / name, command)
        self._script(place / "etcd", self.etcd())

    def _script(self, path: Path, command: list[str]) -> None:
        words = " ".join(f"'{word}'" for word in command)
        path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def etcd(self) -> list[str]:
        """Return the command that starts a member of this site's kind."""
        return [real_binary("etcd")] if self.kind == "real" else our_command()

    def certificates(self, layout: str, names: str = "localhost,127.0.0.1") -> Path:
        """Make the certificates of the site."""
        make(parse(["--dir", str(self.pki), "--layout", layout, "--hosts", names]))
        return self.pki

    def here(self, text: str) -> str:
        """Replace every address with a port by one on loopback, and the directories of the notes by the site's."""

        def replace(found: re.Match[str]) -> str:
            return f"127.0.0.1:{self._ports.setdefault(found[0], free_port())}"

        text = text.replace("/etc/kubernetes/pki/etcd", str(self.pki)).replace("/etc/etcd/ssl", str(self.pki))
        return re.sub(r"\b[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+:[0-9]+", replace, text)

    def member(self, name: str, words: list[str], env: dict[str, str] | None = None) -> Running:
        """Describe a member by the words and variables of the notes, not started yet."""
        folder = self.folder / name
        command = [self.here(word).replace("/var/lib/etcd", str(folder / "data")) for word in words]
        settings = {
            key: self.here(value).replace("/var/lib/etcd", str(folder / "data")) for key, value in (env or {}).items()
        }
        health = f"http://127.0.0.1:{free_port()}"
        given = [word for word in command if word.startswith("--listen-metrics-urls=")]
        if given:
            health = given[0].partition("=")[2]
        else:
            command.append(f"--listen-metrics-urls={health}")
        found = Running([*self.etcd(), *command], settings, folder, health)
        self.members.append(found)
        return found

    def shell(self, tool: str, script: str, stdin: str = "", env: dict[str, str] | None = None) -> Typed:
        """Run a script as an operator types it."""
        base = {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}
        base["PATH"] = f"{self.folder / f'bin-{tool}'}:{base['PATH']}"
        base["PYTHONPATH"] = str(ROOT / "src")
        place = self.pki if self.pki.exists() else self.folder
        done = subprocess.run(
            ["bash", "-O", "expand_aliases", "-c", self.here(script)],
            input=stdin,
            env=base | (env or {}),
            cwd=place,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        return Typed(done.returncode, done.stdout, done.stderr)

    def typed(self, tool: str, script: str, stdin: str = "", env: dict[str, str] | None = None) -> str:
        """Run a script that must succeed and return its output."""
        done = self.shell(tool, script, stdin, env)
        assert done.code == 0, done.stderr + done.stdout
        return done.stdout

    def prompted(self, tool: str, script: str, answers: list[str]) -> Typed:
        """Run a script at a terminal and answer its questions, one after another, each when it has been asked."""
        terminal, end = pty.openpty()
        base = {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}
        base["PATH"] = f"{self.folder / f'bin-{tool}'}:{base['PATH']}"
        base["PYTHONPATH"] = str(ROOT / "src")
        process = subprocess.Popen(
            ["bash", "-c", self.here(script)],
            stdin=end,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=base,
            cwd=self.pki if self.pki.exists() else self.folder,
        )
        os.close(end)
        assert process.stdout is not None
        seen = b""
        try:
            for answer in answers:
                seen += _read_to(process.stdout.fileno(), b": ")
                os.write(terminal, answer.encode() + b"\n")
            seen += process.stdout.read()
            return Typed(process.wait(30), seen.decode(), "")
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            os.close(terminal)

    def close(self) -> None:
        """Stop everything."""
        for member in self.members:
            if member.process is not None:
                member.process.kill()
                member.process.wait()


def _read_to(descriptor: int, mark: bytes) -> bytes:
    """Read until what was read ends with the mark, or the other side is gone."""
    seen = b""
    while not seen.endswith(mark):
        ready = select.select([descriptor], [], [], READY_S)[0]
        assert ready, seen
        more = os.read(descriptor, 1000)
        if not more:
            break
        seen += more
    return seen
