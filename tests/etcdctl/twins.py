"""Our etcdctl and the real one (3.5.1), side by side, each with a server of its own and the same history.

The real tool has a real server; ours has a real one too, and beside it one of ours. `run(*args)` runs one command with
all three at once and asserts equal stdout, exit code and error line, ids and times aside. Where 3.6 prints otherwise
than 3.5.1, `change` brings our output to 3.5.1's form.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence

from tests.etcdctl.forking import ForkServer, Run
from tests.oracle import ROOT, Member, real_binary
from tests.parity.pair import Outcome, Side

Change = Callable[[str], str]
LIMIT_S = 40


def environment(env: dict[str, str] | None) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ETCDCTL_")}
    return {**kept, "PYTHONPATH": str(ROOT / "src"), **(env or {})}


class Tool:
    """One etcdctl and the server it talks to. `forks` starts ours; without it the tool is the real one."""

    def __init__(self, member: Member, forks: ForkServer | None = None) -> None:
        self.forks = forks
        self.member = member
        self.side = Side(member)
        self.saved: dict[str, str] = {}

    def fill(self, word: str) -> str:
        """Put in what `save` kept, and what is this tool's own."""
        word = re.sub(r"\{(\w+)\}", lambda match: self.saved.get(match[1], match[0]), word)
        return word.replace("ENDPOINT", self.member.endpoint).replace("PEERURL", self.member.peer_url)

    def words(self, args: Sequence[str], endpoint: bool = True) -> list[str]:
        first = [f"--endpoints={self.member.endpoint}"] if endpoint else []
        return [*first, *[self.fill(word) for word in args]]

    def watchers(self) -> int:
        """Return how many watchers the server has."""
        with urllib.request.urlopen(f"{self.member.url}/metrics", timeout=5) as answer:
            found = re.search(r"^etcd_debugging_mvcc_watcher_total (\d+)", answer.read().decode(), re.MULTILINE)
        assert found
        return int(found[1])

    def begin(
        self, args: Sequence[str], stdin: str | None = None, env: dict[str, str] | None = None, endpoint: bool = True
    ) -> Running:
        return Running(self, self.words(args, endpoint), stdin, {k: self.fill(v) for k, v in (env or {}).items()})

    def run(
        self,
        args: Sequence[str],
        stdin: str | None = None,
        env: dict[str, str] | None = None,
        endpoint: bool = True,
        limit_s: float = LIMIT_S,
    ) -> Outcome:
        return self.begin(args, stdin, env, endpoint).end(limit_s)


class Running:
    """A command that will end by itself."""

    def __init__(self, tool: Tool, words: list[str], stdin: str | None, env: dict[str, str]) -> None:
        self._files = [tempfile.TemporaryFile("w+", errors="surrogateescape", newline="") for _ in range(3)]  # noqa: SIM115
        given, out, err = self._files
        given.write(stdin or "")
        given.seek(0)
        self._process: Run | subprocess.Popen[str]
        if tool.forks is not None:
            self._process = tool.forks.start(words, environment(env), tool.member.owned, given, out, err)
        else:
            self._process = subprocess.Popen(
                [real_binary("etcdctl"), *words],
                stdin=given,
                stdout=out,
                stderr=err,
                env=environment(env),
                cwd=tool.member.owned,
            )

    def end(self, limit_s: float = LIMIT_S) -> Outcome:
        """Wait for it."""
        try:
            code = self._process.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        texts = []
        for file in self._files[1:]:
            file.seek(0)
            texts.append(file.read())
        for file in self._files:
            file.close()
        return Outcome(texts[0], texts[1], code)


class Twins:
    """The real tool with a real server, ours with a real server, ours with our server."""

    def __init__(self, real_flags: Sequence[str] = (), make: Callable[[str, list[str]], Member] | None = None) -> None:
        """Make all; `real_flags` are for the real servers; `make` makes a server of a kind with flags."""
        make = make or (lambda kind, flags: Member(kind, flags=flags))
        self.forks = ForkServer()
        flags = ["--bcrypt-cost=4"]
        self.real = Tool(make("real", [*flags, *real_flags]))
        self.ours = Tool(make("real", [*flags, *real_flags]), self.forks)
        self.own = Tool(make("ours", flags), self.forks)
        self.tools = (self.real, self.ours, self.own)
        self.jobs: list[Job] = []

    def start(self) -> Twins:
        for tool in self.tools:
            tool.member.start(wait=False)
        for tool in self.tools:
            tool.member.wait_healthy()
        return self

    def close(self) -> None:
        for job in self.jobs:
            job.process.kill()
            job.process.wait()
        for tool in self.tools:
            tool.member.close()
        self.forks.close()

    def all(
        self,
        *args: str,
        stdin: str | None = None,
        env: dict[str, str] | None = None,
        endpoint: bool = True,
    ) -> list[Outcome]:
        """Run with all and return what they did."""
        return [each.end() for each in [tool.begin(args, stdin, env, endpoint) for tool in self.tools]]

    def run(
        self,
        *args: str,
        stdin: str | None = None,
        env: dict[str, str] | None = None,
        code: int | None = None,
        change: Change = str,
        own: Change = str,
        endpoint: bool = True,
        sort: bool = False,
    ) -> list[Outcome]:
        """Run with all and compare.

        `change` is applied to what our tool prints, `own` to what it prints of our server; `sort` is for what stands in
        the order of random ids.
        """
        found = self.all(*args, stdin=stdin, env=env, endpoint=endpoint)
        found[2].stdout = own(found[2].stdout)
        seen = [
            view(tool, outcome, str if tool is self.real else change)
            for tool, outcome in zip(self.tools, found, strict=True)
        ]
        if "table" in args and re.search(r"ID\d", seen[0].stdout):
            for outcome in seen:  # an id may have a digit less, and its column be narrower by one
                outcome.stdout = re.sub("-+", "-", re.sub(" +", " ", outcome.stdout))
        if sort:
            for outcome in seen:
                outcome.stdout = " ".join(
                    sorted(re.sub(r"ID\d+", "ID", part) for part in re.split(r'[\n,"\[\]{} ]+', outcome.stdout))
                )
        assert seen[1] == seen[0], (args, "a real server", found[1].stderr)
        assert seen[2] == seen[0], (args, "our server", found[2].stderr)
        if code is not None:
            assert found[0].code == code, found[0]
        return found

    def save(self, name: str, pattern: str, outcomes: Sequence[Outcome]) -> None:
        """Keep a part of each output under a name, for `{name}` in later commands."""
        for tool, outcome in zip(self.tools, outcomes, strict=True):
            match = re.search(pattern, outcome.stdout)
            assert match, outcome
            tool.saved[name] = match[1]

    def jobs_of(self, *args: str, stdin: bool = False, env: dict[str, str] | None = None) -> list[Job]:
        """Start a long-running command with all."""
        started = [Job(tool, args, stdin, env) for tool in self.tools]
        self.jobs += started
        return started

    def finish(self, jobs: Sequence[Job], sig: int = signal.SIGINT) -> list[Outcome]:
        """Interrupt all and compare everything."""
        found = [job.end(sig) for job in jobs]
        seen = [view(tool, outcome, str) for tool, outcome in zip(self.tools, found, strict=True)]
        assert seen[1] == seen[0], ("a real server", found[1].stderr)
        assert seen[2] == seen[0], ("our server", found[2].stderr)
        return found


def view(tool: Tool, outcome: Outcome, change: Change) -> Outcome:
    """What an operator sees, normalised. 3.5.1 says some errors twice, 3.6 once."""
    lines = [line for line in outcome.stderr.splitlines() if not line.startswith("{") and line.strip()]
    errors = list(
        dict.fromkeys(line for line in lines if line.startswith(("Error:", "watch was", "Invalid", "Failed")))
    )
    # Help is compared by itself, for 3.6 has more of it.
    out = "help" if "USAGE:" in outcome.stdout else tool.side.normal(change(outcome.stdout))
    out = re.sub(r"\b\d+(\.\d+)? [kM]B\b", "SIZE", out)
    out = re.sub(r"true, false, (\d+), (\d+), \2, ", r"true, false, \1, INDEX, INDEX, ", out)  # endpoint status
    return Outcome(out, tool.side.normal("\n".join(errors)), outcome.code)


class Job:
    """A running command."""

    def __init__(
        self, tool: Tool, args: Sequence[str], stdin: bool, env: dict[str, str] | None, endpoint: bool = True
    ) -> None:
        words = tool.words(args, endpoint)
        read_in, self._say = os.pipe() if stdin else (os.open(os.devnull, os.O_RDONLY), -1)
        read_out, write_out = os.pipe()
        self._stdout = os.fdopen(read_out, errors="surrogateescape")
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process: Run | subprocess.Popen[bytes]
        with os.fdopen(write_out, "w") as out:
            if tool.forks is not None:
                self.process = tool.forks.start(words, environment(env), tool.member.owned, read_in, out, self._stderr)
            else:
                self.process = subprocess.Popen(
                    [real_binary("etcdctl"), *words],
                    stdin=read_in,
                    stdout=out,
                    stderr=self._stderr,
                    env=environment(env),
                    cwd=tool.member.owned,
                )
        os.close(read_in)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._stdout:
            self.lines.append(line)

    def say(self, line: str) -> None:
        """Write a line to its stdin."""
        os.write(self._say, line.encode() + b"\n")

    def end_input(self) -> None:
        """Close its stdin."""
        os.close(self._say)

    def wait_lines(self, count: int, timeout_s: float = 15) -> None:
        until = time.monotonic() + timeout_s
        while len(self.lines) < count and self.process.poll() is None:
            assert time.monotonic() < until, self.lines
            time.sleep(0.01)

    def end(self, sig: int) -> Outcome:
        if self.process.poll() is None:
            self.process.send_signal(sig)
        self.process.wait(10)
        self._reader.join(5)
        self._stderr.seek(0)
        code = self.process.returncode
        assert code is not None
        return Outcome("".join(self.lines), self._stderr.read(), code)
