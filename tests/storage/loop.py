"""A loop with a clock of its own: nothing happens until the test lets it."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable

from quorate.ports import Log, Loop, Timer
from tests.fakes.disk import PowerCut


class FakeTimer(Timer):
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop(Loop):
    """`step` does one thing; `run` all that can be done without waiting; `advance` lets time pass."""

    def __init__(self, seed: int = 0) -> None:
        self.now_ns = 1_000_000_000
        self.fatal_error: BaseException | None = None
        self.rng = random.Random(seed)
        self._soon: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[int, int, FakeTimer, Callable[[], None]]] = []
        self._jobs: deque[tuple[Callable[[], object], Callable[[object, BaseException | None], None]]] = deque()
        self._count = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def time_ns(self) -> int:
        return self.now_ns

    def soon(self, call: Callable[[], None]) -> None:
        self._soon.append(call)

    def later(self, delay_ns: int, call: Callable[[], None]) -> Timer:
        timer = FakeTimer()
        self._count += 1
        heapq.heappush(self._timers, (self.now_ns + delay_ns, self._count, timer, call))
        return timer

    def work(self, job: Callable[[], object], done: Callable[[object, BaseException | None], None]) -> None:
        self._jobs.append((job, done))

    def random_bits(self, bits: int) -> int:
        return self.rng.getrandbits(bits)

    def fatal(self, error: BaseException) -> None:
        assert self.fatal_error is None
        self.fatal_error = error

    def turn(self) -> bool:
        """Make the calls that are due now, without any job. False when there was none."""
        calls, self._soon = self._soon, deque()
        for call in calls:
            call()
        return bool(calls)

    def job(self) -> bool:
        """Do the next job of the storage thread and tell its outcome. False when there is none."""
        if not self._jobs:
            return False
        job, done = self._jobs.popleft()
        try:
            result, error = job(), None
        except PowerCut:
            raise
        except BaseException as raised:
            result, error = None, raised
        done(result, error)
        return True

    def step(self) -> bool:
        """Do one thing, drawn: a turn, a job, or waiting for the next timer. False when there is nothing to do."""
        choices = [self.turn] * bool(self._soon) + [self.job] * bool(self._jobs) + [self.wait] * bool(self._timers)
        return bool(choices) and bool(self.rng.choice(choices)())

    def wait(self) -> bool:
        """Go to the next timer and call it."""
        when, _, timer, call = heapq.heappop(self._timers)
        self.now_ns = max(self.now_ns, when)
        if not timer.cancelled:
            call()
        return True

    def run(self) -> None:
        """Do all that needs no waiting."""
        while self.turn() or self.job():
            pass

    def advance(self, delay_ns: int) -> None:
        """Let time pass, doing what falls due."""
        until = self.now_ns + delay_ns
        self.run()
        while self._timers and self._timers[0][0] <= until:
            self.wait()
            self.run()
        self.now_ns = until

    def run_until(self, ready: Callable[[], object]) -> None:
        """Let time pass until something is so."""
        for _ in range(100_000):
            if ready():
                return
            if not self.turn() and not self.job():
                self.wait()
        raise AssertionError("it never happened")


class Lines(Log):
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def debug(self, caller: str, msg: str, **fields: object) -> None:
        self.lines.append((msg, fields))

    info = warn = error = debug
