"""Starts our etcdctl as a process without paying for Python's start: a server that has everything loaded, and forks.

`python -m tests.etcdctl.forking SOCKET` listens. Each connection is one run: it brings stdin, stdout and stderr as
descriptors and a JSON line {words, env, cwd}; it gets back the pid, and when the run has ended its status, a line each.
The run is a process of its own in every respect that a test can see: arguments, environment, signals, exit.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import IO, NoReturn

from tests.oracle import ROOT

LOADED = (
    "auth", "endpoint", "fields", "gojson", "kv", "lease", "lock", "maintenance", "member", "output", "session",
    "settings", "simple", "snapshot", "table", "txn", "usage", "watch", "offline", "v2.members",
)  # fmt: skip


class Run:
    """One run, with what tests use of subprocess.Popen."""

    def __init__(self, connection: socket.socket) -> None:
        self._answers = connection.makefile("r")
        self._connection = connection
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self._connection.settimeout(0)
            try:
                waiting = self._connection.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return None
            finally:
                self._connection.settimeout(None)
            assert waiting, "the fork server has died"
            self.wait()
        return self.returncode

    def wait(self, timeout: float = 60) -> int:
        if self.returncode is None:
            until = time.monotonic() + timeout
            self._connection.settimeout(timeout)
            try:
                self.returncode = int(self._answers.readline())
            except TimeoutError:
                raise subprocess.TimeoutExpired("etcdctl", timeout) from None
            assert time.monotonic() < until + 1
            self._answers.close()
            self._connection.close()
        return self.returncode

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The server and the way to it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="quorate-fork-")
        self._path = f"{self._folder.name}/s"
        env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
        command = [sys.executable, "-m", "tests.etcdctl.forking", self._path]
        self._process = subprocess.Popen(command, env=env, cwd=ROOT, stdin=subprocess.DEVNULL)
        until = time.monotonic() + 30
        while not Path(self._path).exists():
            assert self._process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)

    def start(
        self, words: list[str], env: dict[str, str], cwd: str, stdin: IO[str] | int, stdout: IO[str], stderr: IO[str]
    ) -> Run:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._path)
        request = json.dumps({"words": words, "env": env, "cwd": cwd}).encode() + b"\n"
        handles = [each if isinstance(each, int) else each.fileno() for each in (stdin, stdout, stderr)]
        socket.send_fds(connection, [b"x"], handles)
        connection.sendall(request)
        return Run(connection)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()


def serve(path: str) -> NoReturn:
    """Serve until killed."""
    from quorate.cli.etcdctl import main as etcdctl

    for name in LOADED:
        import_module(f"quorate.cli.etcdctl.{name}")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path + ".new")
    listener.listen(64)
    os.rename(path + ".new", path)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os._exit(one(connection, etcdctl.main))
        connection.close()


def one(connection: socket.socket, main: object) -> int:
    """Do one run; return 0."""
    _, handles, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as lines:
        request = json.loads(lines.readline())
    pid = os.fork()
    if pid == 0:
        connection.close()
        for target, handle in enumerate(handles):
            os.dup2(handle, target)
        os.closerange(3, 256)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        sys.argv = ["etcdctl", *request["words"]]
        assert callable(main)
        try:
            main()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(70)
    for handle in handles:
        os.close(handle)
    connection.sendall(b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
