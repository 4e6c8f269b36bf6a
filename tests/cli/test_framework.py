"""What etcd's own end-to-end framework needs of the binaries: how it starts them, what it reads, how it ends them.

It starts a member under a terminal with both streams joined and little in the environment, waits for a log line, and
takes every line for JSON (etcd: tests/framework/e2e, pkg/expect).
"""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oracle import ROOT, free_port

pytestmark = pytest.mark.process

READY = "ready to serve client requests"


def binaries(folder: Path) -> Path:
    """Make a --bin-dir: launchers with all that our commands need, for nothing comes in through the environment."""
    place = folder / "bin"
    place.mkdir()
    modules = {"etcd": "quorate.cli.etcd", "etcdctl": "quorate.cli.etcdctl.main", "etcdutl": "quorate.cli.etcdutl.main"}
    for name, module in modules.items():
        path = place / name
        path.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT / "src"} exec {sys.executable} -m {module} "$@"\n')
        path.chmod(0o755)
    return place


class Expected:
    """A process under a terminal, as pkg/expect runs it."""

    def __init__(self, command: list[str], folder: Path, env: dict[str, str] | None = None) -> None:
        self.terminal, end = pty.openpty()
        scrubbed = {"PATH": "/usr/bin:/bin", **(env or {})}
        self.process = subprocess.Popen(
            command, stdin=end, stdout=end, stderr=end, cwd=folder, env=scrubbed, start_new_session=True
        )
        os.close(end)
        os.set_blocking(self.terminal, False)
        self.text = ""
        self.endpoint = ""
        self.metrics = ""
        self.bin = Path(command[0]).parent

    def read(self) -> str:
        """Return everything that was printed so far."""
        while True:
            try:
                more = os.read(self.terminal, 65536)
            except OSError:  # nothing there now, or nobody at the other end
                return self.text
            if not more:
                return self.text
            self.text += more.decode()

    def expect(self, text: str, timeout_s: float = 60) -> None:
        """Wait until a line with the text was printed."""
        deadline = time.monotonic() + timeout_s
        while text not in self.read():
            assert self.process.poll() is None, self.text[-3000:]
            assert time.monotonic() < deadline, self.text[-3000:]
            time.sleep(0.02)

    def end(self, sig: signal.Signals) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(sig)
        status = self.process.wait(30)
        self.read()
        return status

    def close(self) -> None:
        """End it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.terminal)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Expected]:
    """A member as the framework starts it."""
    client, peer, metrics = free_port(), free_port(), free_port()
    found = Expected(
        [
            str(binaries(tmp_path) / "etcd"),
            "--name=test-TestX-0",
            f"--listen-client-urls=http://localhost:{client}",
            f"--advertise-client-urls=http://localhost:{client}",
            f"--listen-peer-urls=http://localhost:{peer}",
            f"--initial-advertise-peer-urls=http://localhost:{peer}",
            f"--listen-metrics-urls=http://localhost:{metrics}",
            "--initial-cluster-token=new",
            f"--data-dir={tmp_path / 'data'}",
            "--snapshot-count=10",
            f"--initial-cluster=test-TestX-0=http://localhost:{peer}",
            "--initial-cluster-state=new",
            "--experimental-initial-corrupt-check=true",
        ],
        tmp_path,
        {"ETCD_VERIFY": "all", "ETCD_UNSUPPORTED_ARCH": "arm64", "EXPECT_DEBUG": "true"},
    )
    found.endpoint = f"localhost:{client}"
    found.metrics = f"http://localhost:{metrics}"
    yield found
    found.close()


def ctl(started: Expected, *words: str) -> str:
    done = subprocess.run(
        [str(started.bin / "etcdctl"), f"--endpoints={started.endpoint}", *words],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin"},
        timeout=60,
    )
    return done.stdout


def test_a_member_is_started_read_and_ended(started: Expected) -> None:
    started.expect(READY)
    for number in range(12):
        assert ctl(started, "put", f"key{number}", "value") == "OK\n"
    started.expect("saved snapshot")
    assert '"Count" : 12' in ctl(started, "get", "key", "--prefix", "--count-only", "-w", "fields")
    ctl(started, "compaction", "5")
    started.expect("finished scheduled compaction")
    assert ctl(started, "defrag").startswith("Finished defragmenting etcd member[")
    started.process.send_signal(signal.SIGSTOP)
    started.process.send_signal(signal.SIGCONT)
    assert ctl(started, "get", "key1") == "key1\nvalue\n"
    with urllib.request.urlopen(f"{started.metrics}/health", timeout=10) as answer:
        assert answer.read() == b'{"health":"true","reason":""}'
    with urllib.request.urlopen(f"{started.metrics}/livez?verbose", timeout=10) as answer:
        assert b"[+]serializable_read ok" in answer.read()
    with urllib.request.urlopen(f"{started.metrics}/readyz?verbose", timeout=10) as answer:
        assert b"[+]data_corruption ok" in answer.read()
    with urllib.request.urlopen(f"http://{started.endpoint}/version", timeout=10) as answer:
        assert {"etcdserver", "etcdcluster"} <= set(json.load(answer))
    assert started.end(signal.SIGTERM) in (0, -signal.SIGTERM)
    for line in started.text.splitlines():
        fields = json.loads(line)
        assert list(fields)[:2] == ["level", "ts"], line
        assert {"caller", "msg"} <= set(fields), line
        assert fields["level"] in ("info", "warn"), line
        assert fields["ts"].endswith("Z"), line
        assert len(fields["ts"].partition(".")[2]) == 7, line


def test_it_is_killed_and_started_again(started: Expected, tmp_path: Path) -> None:
    started.expect(READY)
    ctl(started, "put", "kept", "value")
    command = started.process.args
    assert started.end(signal.SIGKILL) == -signal.SIGKILL
    assert isinstance(command, list)
    again = Expected(command, tmp_path)
    try:
        again.expect(READY)
        assert ctl(started, "get", "kept") == "kept\nvalue\n"
        assert again.end(signal.SIGTERM) in (0, -signal.SIGTERM)
    finally:
        again.close()


@pytest.mark.parametrize("name", ["etcd", "etcdctl", "etcdutl"])
def test_versions_without_an_environment(tmp_path: Path, name: str) -> None:
    words = ["--version"] if name == "etcd" else ["version"]
    done = subprocess.run(
        [str(binaries(tmp_path) / name), *words], capture_output=True, text=True, check=False, env={}, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    prefix = "etcd Version: 3." if name == "etcd" else f"{name} version: 3."
    assert done.stdout.startswith(prefix)
