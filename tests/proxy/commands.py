"""Runs `etcd gateway` and `etcd grpc-proxy` of either kind."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.oracle import free_port, our_command, our_path, real_binary


def command_of(kind: str) -> list[str]:
    """Return the words that start a server of this kind."""
    return [real_binary("etcd")] if kind == "real" else our_command()


def environment(**more: str) -> dict[str, str]:
    """Return an environment without settings of etcd's."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ETCD", "QUORATE_NAMESERVER"))}
    env["PYTHONPATH"] = our_path()
    return {**env, **more}


def once(kind: str, *words: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return subprocess.run(
        [*command_of(kind), *words], capture_output=True, text=True, timeout=timeout, check=False, env=environment()
    )


def etcdctl(endpoint: str, *words: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    """Run the real etcdctl against an endpoint."""
    command = [real_binary("etcdctl"), f"--endpoints={endpoint}", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=environment())


class Proxy:
    """A running proxy, of the kind and with the sub-command that the words say."""

    def __init__(self, kind: str, *words: str, port: int = 0, **env: str) -> None:
        self.kind = kind
        self.port = port or free_port()
        self.folder = tempfile.mkdtemp(prefix="quorate-proxy-")
        self.log_path = f"{self.folder}/log"
        words = (words[0], "start", f"--listen-addr=127.0.0.1:{self.port}", *words[1:])
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*command_of(kind), *words], stdout=log, stderr=log, env=environment(**env), cwd=self.folder
            )

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def log(self) -> str:
        return Path(self.log_path).read_text(errors="replace")

    def wait_listening(self, timeout: float = 30) -> Proxy:
        deadline = time.monotonic() + timeout
        while True:
            assert self.process.poll() is None, self.log()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def wait_log(self, text: str, timeout: float = 30) -> None:
        deadline = time.monotonic() + timeout
        while text not in self.log():
            assert time.monotonic() < deadline, f"no {text!r} in {self.log()}"
            time.sleep(0.02)

    def __enter__(self) -> Proxy:
        return self.wait_listening()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
