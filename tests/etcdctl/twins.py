"""Our etcdctl and the real one (3.5.1), each with a real server of its own and the same history, side by side.

`run(*args)` runs one command with both and asserts equal stdout, exit code and error line, ids and times aside.
`same(*args)` runs both against one server, for commands that change nothing. What 3.6 prints otherwise than 3.5.1 is
brought to 3.5.1's form by `as_3_5`, and only there.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable

from tests.oracle import ROOT, Member, real_binary
from tests.parity.pair import Outcome, Side

OURS = [sys.executable, "-m", "quorate.cli.etcdctl.main"]
Change = Callable[[str], str]


def environment(env: dict[str, str] | None) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ETCDCTL_")}
    return {**kept, "PYTHONPATH": str(ROOT / "src"), **(env or {})}


class Tool:
    """One etcdctl and the server it talks to."""

    def __init__(self, command: list[str], member: Member) -> None:
        self.command = command
        self.member = member
        self.side = Side(member)
        self.saved: dict[str, str] = {}

    def words(self, args: tuple[str, ...], endpoint: bool = True) -> list[str]:
        filled = [re.sub(r"\{(\w+)\}", lambda match: self.saved.get(match[1], match[0]), word) for word in args]
        first = [f"--endpoints={self.member.endpoint}"] if endpoint else []
        return [*self.command, *first, *[word.replace("ENDPOINT", self.member.endpoint) for word in filled]]

    def watchers(self) -> int:
        """Return how many watchers the server has."""
        with urllib.request.urlopen(f"{self.member.url}/metrics", timeout=5) as answer:
            found = re.search(r"^etcd_debugging_mvcc_watcher_total (\d+)", answer.read().decode(), re.MULTILINE)
        assert found
        return int(found[1])

    def run(
        self, args: tuple[str, ...], stdin: str | None, env: dict[str, str] | None, endpoint: bool = True
    ) -> Outcome:
        done = subprocess.run(
            self.words(args, endpoint),
            input=stdin,
            capture_output=True,
            timeout=40,
            check=False,
            env=environment(env),
            cwd=self.member.owned,
            text=True,
            errors="surrogateescape",
        )
        return Outcome(done.stdout, done.stderr, done.returncode)


class Twins:
    """The two."""

    def __init__(self) -> None:
        self.real = Tool([real_binary("etcdctl")], Member("real"))
        self.ours = Tool(OURS, Member("real"))
        self.jobs: list[Job] = []

    def start(self) -> Twins:
        for tool in (self.real, self.ours):
            tool.member.start()
        return self

    def close(self) -> None:
        for job in self.jobs:
            job.process.kill()
            job.process.wait()
        for tool in (self.real, self.ours):
            tool.member.close()

    def run(
        self,
        *args: str,
        stdin: str | None = None,
        env: dict[str, str] | None = None,
        code: int | None = None,
        change: Change = str,
        endpoint: bool = True,
        sort: bool = False,
    ) -> tuple[Outcome, Outcome]:
        """Run with both and compare; `sort` for what stands in the order of random ids."""
        real = self.real.run(args, stdin, env, endpoint)
        ours = self.ours.run(args, stdin, env, endpoint)
        seen, wanted = view(self.ours, ours, change), view(self.real, real, str)
        if sort:
            for outcome in (seen, wanted):
                outcome.stdout = " ".join(
                    sorted(re.sub(r"ID\d+", "ID", part) for part in re.split(r'[\n,"\[\]{} ]+', outcome.stdout))
                )
        if "table" in args and re.search(r"ID\d", wanted.stdout):
            for outcome in (seen, wanted):  # an id may have a digit less, and its column be narrower by one
                outcome.stdout = re.sub("-+", "-", re.sub(" +", " ", outcome.stdout))
        assert seen == wanted, (args, ours.stderr)
        if code is not None:
            assert real.code == code
        return real, ours

    def save(self, name: str, pattern: str, outcomes: tuple[Outcome, Outcome]) -> None:
        """Keep a part of each output under a name, for `{name}` in later commands."""
        for tool, outcome in zip((self.real, self.ours), outcomes, strict=True):
            match = re.search(pattern, outcome.stdout)
            assert match, outcome
            tool.saved[name] = match[1]

    def jobs_of(self, *args: str, stdin: bool = False, env: dict[str, str] | None = None) -> tuple[Job, Job]:
        """Start a long-running command with both."""
        real, ours = Job(self.real, args, stdin, env), Job(self.ours, args, stdin, env)
        self.jobs += [real, ours]
        return real, ours

    def finish(self, jobs: tuple[Job, Job], sig: int = signal.SIGINT) -> tuple[Outcome, Outcome]:
        """Interrupt both and compare everything."""
        real, ours = jobs[0].end(sig), jobs[1].end(sig)
        assert view(self.ours, ours, str) == view(self.real, real, str), ours.stderr
        return real, ours


def view(tool: Tool, outcome: Outcome, change: Change) -> Outcome:
    """What an operator sees, normalised. 3.5.1 says some errors twice, 3.6 once."""
    lines = [line for line in outcome.stderr.splitlines() if not line.startswith("{") and line.strip()]
    errors = list(
        dict.fromkeys(line for line in lines if line.startswith(("Error:", "watch was", "Invalid", "Failed")))
    )
    # Help is compared by itself, for 3.6 has more of it.
    out = "help" if "USAGE:" in outcome.stdout else tool.side.normal(change(outcome.stdout))
    out = re.sub(r"\b\d+(\.\d+)? [kM]B\b", "SIZE", out)
    return Outcome(out, tool.side.normal("\n".join(errors)), outcome.code)


class Job:
    """A running command."""

    def __init__(self, tool: Tool, args: tuple[str, ...], stdin: bool, env: dict[str, str] | None) -> None:
        self.process = subprocess.Popen(
            tool.words(args),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(env),
            cwd=tool.member.owned,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

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
        assert self.process.stderr is not None
        return Outcome("".join(self.lines), self.process.stderr.read(), self.process.returncode)
