"""Run the real etcdctl against real etcd and against ours, and compare what an operator sees.

`Pair.run(*args)` runs one command on both and asserts equal stdout, exit code and error line. Only what must differ is
normalised: ids, terms, lease ids (replaced by their order of appearance), times, ports, folders, sizes, versions.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field

from tests.oracle import Member, real_binary

LEASE_BITS = re.compile(r"\b[0-9a-f]{12,16}\b")
DECIMAL_ID = re.compile(r"\b\d{15,20}\b")


@dataclass
class Outcome:
    """What one command printed and how it ended."""

    stdout: str
    stderr: str
    code: int


@dataclass
class Side:
    """One server and the ids seen in its output so far."""

    member: Member
    ids: dict[str, str] = field(default_factory=dict)

    def normal(self, text: str) -> str:
        """Replace what may differ between two servers with the same history."""
        text = re.sub(r"\b\d+(\.\d+)?(µs|ms|s)\b", "TIME", text)
        text = text.replace(self.member.endpoint, "ENDPOINT")
        text = re.sub(rf"\b{self.member.peer_port}\b", "PEERPORT", text)
        text = text.replace(self.member.owned, "FOLDER")
        text = re.sub(r'("raft_term"|"raftTerm"|"RaftTerm") ?: ?\d+', r"\1:TERM", text)
        text = re.sub(r'("raftIndex"|"raftAppliedIndex"|"RaftIndex"|"RaftAppliedIndex") ?: ?\d+', r"\1:INDEX", text)
        text = re.sub(r'("dbSize"|"dbSizeInUse"|"DBSize"|"DBSizeInUse") ?: ?\d+', r"\1:SIZE", text)
        text = re.sub(r"\b3\.\d+\.\d+\b", "VERSION", text)
        text = re.sub(r'"ts":"[^"]*"', '"ts":"TS"', text)
        text = re.sub(r"0xc[0-9a-f]+", "POINTER", text)
        return DECIMAL_ID.sub(self._id, LEASE_BITS.sub(self._id, text))

    def _id(self, match: re.Match[str]) -> str:
        word = match.group(0)
        # The same id is printed in hexadecimal or decimal, by the output mode.
        for known in (word, _as_decimal(word)):
            if known in self.ids:
                return self.ids[known]
        name = f"ID{len(set(self.ids.values()))}"
        self.ids[word] = self.ids[_as_decimal(word)] = name
        return name


def _as_decimal(word: str) -> str:
    """Return the decimal form of a hexadecimal id; a word of digits only is taken as decimal already when long."""
    if word.isdigit() and len(word) > 16:
        return word
    try:
        return str(int(word, 16))
    except ValueError:
        return word


class Pair:
    """Real etcd and ours with the same history."""

    def __init__(self, flags: list[str] | None = None) -> None:
        self.real = Side(Member("real", flags=flags))
        self.ours = Side(Member("ours", flags=flags))
        self.sides = (self.real, self.ours)
        self.jobs: list[Background] = []

    def start(self) -> Pair:
        """Start both servers."""
        for side in self.sides:
            side.member.start()
        return self

    def close(self) -> None:
        """Stop both servers and the commands that still run."""
        for job in self.jobs:
            job.kill()
        for side in self.sides:
            side.member.close()

    def both(self, *args: str, stdin: str | None = None, env: dict[str, str] | None = None) -> tuple[Outcome, Outcome]:
        """Run one command on both; "{lease}"-like words in braces are filled from the side's saved words."""
        outcomes = []
        for side in self.sides:
            filled = [self.fill(side, word) for word in args]
            result = side.member.etcdctl(*filled, stdin=stdin and self.fill(side, stdin), env=env)
            outcomes.append(Outcome(result.stdout, result.stderr, result.returncode))
        return outcomes[0], outcomes[1]

    def fill(self, side: Side, word: str) -> str:
        """Replace {name} by what `save` stored for this side."""
        for name, value in side.member.__dict__.get("saved", {}).items():
            word = word.replace("{" + name + "}", value)
        return word

    def save(self, name: str, pattern: str, outcomes: tuple[Outcome, Outcome]) -> None:
        """Store the first group of the pattern in each side's stdout under a name for later commands."""
        for side, outcome in zip(self.sides, outcomes, strict=True):
            match = re.search(pattern, outcome.stdout)
            assert match, (pattern, outcome)
            side.member.__dict__.setdefault("saved", {})[name] = match.group(1)

    def compare(self, outcomes: tuple[Outcome, Outcome], unordered: bool = False) -> None:
        """Assert that both outcomes look the same to an operator."""
        real, ours = (self.view(side, outcome) for side, outcome in zip(self.sides, outcomes, strict=True))
        if unordered:
            real, ours = sorted(real.stdout.splitlines()), sorted(ours.stdout.splitlines())  # type: ignore[assignment]
        assert ours == real

    def view(self, side: Side, outcome: Outcome) -> Outcome:
        """Return the normalised outcome; of stderr only the error line counts, not the client's log."""
        errors = [line for line in outcome.stderr.splitlines() if line.startswith("Error:")]
        return Outcome(side.normal(outcome.stdout), side.normal("\n".join(errors)), outcome.code)

    def run(
        self, *args: str, stdin: str | None = None, code: int | None = None, env: dict[str, str] | None = None
    ) -> tuple[Outcome, Outcome]:
        """Run one command on both and compare; `code` is what real etcd must have answered."""
        outcomes = self.both(*args, stdin=stdin, env=env)
        self.compare(outcomes)
        if code is not None:
            assert outcomes[0].code == code, outcomes[0]
        return outcomes

    def background(self, *args: str, stdin: str | None = None) -> list[Background]:
        """Start a long-running command on both; its stdin stays open behind `stdin`."""
        started = [Background(side, [self.fill(side, word) for word in args], stdin) for side in self.sides]
        self.jobs += started
        return started

    def finish(self, jobs: list[Background], lines: int, timeout: float = 15) -> tuple[Outcome, Outcome]:
        """Wait until each job has printed that many lines, interrupt it, and compare."""
        outcomes = tuple(job.finish(lines, timeout) for job in jobs)
        self.compare((outcomes[0], outcomes[1]))
        return outcomes[0], outcomes[1]


class Background:
    """A long-running etcdctl whose output is collected line by line."""

    def __init__(self, side: Side, args: list[str], stdin: str | None = None) -> None:
        env = {k: v for k, v in os.environ.items() if not k.startswith("ETCDCTL_")}
        self.process = subprocess.Popen(
            [real_binary("etcdctl"), f"--endpoints={side.member.endpoint}", *args],
            stdin=None if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
            cwd=side.member.owned,
        )
        if stdin is not None:
            assert self.process.stdin is not None
            self.process.stdin.write(stdin)
            self.process.stdin.flush()
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    def wait_lines(self, count: int, timeout: float = 15) -> None:
        """Wait until that many lines are there or the process has ended."""
        deadline = time.monotonic() + timeout
        while len(self.lines) < count and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)

    def kill(self) -> None:
        """End the process in any case."""
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def finish(self, lines: int, timeout: float) -> Outcome:
        """Wait for the lines, interrupt, and return everything."""
        self.wait_lines(lines, timeout)
        time.sleep(0.05)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
        self.reader.join(5)
        assert self.process.stderr is not None
        stderr = self.process.stderr.read()
        return Outcome("".join(self.lines), stderr, self.process.returncode)


def members_json(outcome: Outcome) -> object:
    """Return parsed JSON output."""
    return json.loads(outcome.stdout)
