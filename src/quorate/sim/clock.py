"""Virtual time: one heap of events for the whole world, and one loop for each process in it.

    World clock:  (time, number) -> call                     nothing happens between two events
    NodeLoop:     busy until ...; backlog while paused or busy; `soon` calls behind each event; one worker

A process takes time only where it waits for its disk (`spend`), and a little for each event. While it is busy or paused
its events wait, in order. Death of a process is final: its events are dropped; a restart makes a new loop.

A worker's job runs in one go, after a drawn wait, so that what the loop does meanwhile happens before it; what the disk
charges during the job delays its `done`. A crash in between runs a part of the job first (see Node.crash).
"""

from __future__ import annotations

import random
import zlib
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

from quorate.ports import Loop, Timer
from quorate.sim.disk import PowerCut

MICROSECOND: Final = 1_000
MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
EPOCH_NS: Final = 1_700_000_000 * SECOND

Job = Callable[[], object]
Done = Callable[[object, BaseException | None], None]


class Clock:
    """The time of the world, its events, and the rolling hash of all that happened."""

    def __init__(self) -> None:
        self.now_ns = 1_000 * SECOND
        self.events = 0
        self.trace = 0
        self._heap: list[tuple[int, int, Event]] = []
        self._number = 0

    def at(self, when_ns: int, call: Callable[[], None]) -> Event:
        """Call at a time, but not before now."""
        event = Event(call)
        self._number += 1
        heappush(self._heap, (max(when_ns, self.now_ns), self._number, event))
        return event

    def later(self, delay_ns: int, call: Callable[[], None]) -> Event:
        """Call after a delay."""
        return self.at(self.now_ns + delay_ns, call)

    def step(self) -> bool:
        """Go to the next event and let it happen; False when there is none."""
        while self._heap:
            when_ns, _, event = heappop(self._heap)
            call = event.call
            if call is None:
                continue
            self.now_ns = when_ns
            self.events += 1
            call()
            return True
        return False

    def run_until(self, when_ns: int) -> None:
        """Let everything happen that is due up to a time."""
        while self._heap and self._heap[0][0] <= when_ns:
            self.step()
        self.now_ns = max(self.now_ns, when_ns)

    def note(self, data: bytes) -> None:
        """Take something that happened into the hash."""
        self.trace = zlib.crc32(data, self.trace ^ (self.now_ns & 0xFFFFFFFF))


class Event(Timer):
    """A call to be made."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Prevent the call."""
        self.call = None


class NodeLoop(Loop):
    """The loop of one process, from its start to its death."""

    def __init__(self, clock: Clock, rng: random.Random, on_stop: Callable[[BaseException], None]) -> None:
        """`on_stop` gets what ended the process: a PowerCut in the midst of a disk operation, or a fatal error."""
        self.clock = clock
        self.rng = rng
        self.wall_offset_ns = 0
        self.event_ns = 20 * MICROSECOND
        self.job_wait_ns: Callable[[], int] = _no_wait
        self.dead = False
        self.paused = False
        self.after_event: Callable[[], None] | None = None
        self.job: Job | None = None  # waits for the worker's turn; None while nothing is under way
        self._on_stop = on_stop
        self._busy_until_ns = 0
        self._backlog: deque[Callable[[], None]] = deque()
        self._wake_at_ns = 0  # when the backlog is looked at next; 0: not planned
        self._soon: deque[Callable[[], None]] = deque()
        self._jobs: deque[tuple[Job, Done]] = deque()
        self._in_worker = False
        self._worker_ns = 0

    # -- the port

    def monotonic_ns(self) -> int:
        """Return the world's time, plus what this process has spent in the event under way."""
        if self._in_worker:
            return self.clock.now_ns + self._worker_ns
        return max(self.clock.now_ns, self._busy_until_ns)

    def time_ns(self) -> int:
        """Return the wall clock, which may jump."""
        return EPOCH_NS + self.monotonic_ns() + self.wall_offset_ns

    def soon(self, call: Callable[[], None]) -> None:
        """Call after the events of this turn."""
        self._soon.append(call)
        if len(self._soon) == 1:
            self._post(self.event_ns, self._run_soon)

    def later(self, delay_ns: int, call: Callable[[], None]) -> Timer:
        """Call once after the delay."""
        event = Event(call)
        self._post(delay_ns, _event_call(event))
        return event

    def work(self, job: Job, done: Done) -> None:
        """Run a job in the worker."""
        self._jobs.append((job, done))
        if len(self._jobs) == 1:
            self._begin_job()

    def random_bits(self, bits: int) -> int:
        """Return random bits of this process's stream."""
        return self.rng.getrandbits(bits)

    def fatal(self, error: BaseException) -> None:
        """End the process."""
        self.die()
        self._on_stop(error)

    # -- the world's side

    def spend(self, duration_ns: int) -> None:
        """Let the thread that is running now take time."""
        if self._in_worker:
            self._worker_ns += duration_ns
        else:
            self._busy_until_ns = self.monotonic_ns() + duration_ns

    def die(self) -> None:
        """Let nothing more happen here."""
        self.dead = True
        self._backlog.clear()
        self._soon.clear()
        self._jobs.clear()

    def pause(self) -> None:
        """Stop the process, as SIGSTOP does; its worker stops too."""
        self.paused = True

    def resume(self) -> None:
        """Let a stopped process go on with what has gathered."""
        self.paused = False
        self._plan_wake()

    def call(self, call: Callable[[], None]) -> None:
        """Deliver an event: now, or when the process is free."""
        if self.dead:
            return
        if self.paused or self._backlog or self._busy_until_ns > self.clock.now_ns:
            self._backlog.append(call)
            self._plan_wake()
            return
        self._run(call)

    def _post(self, delay_ns: int, call: Callable[[], None]) -> None:
        self.clock.at(self.monotonic_ns() + delay_ns, _Delivery(self, call).deliver)

    def _plan_wake(self) -> None:
        if self._backlog and not self.paused and self._wake_at_ns == 0:
            self._wake_at_ns = max(self.clock.now_ns, self._busy_until_ns)
            self.clock.at(self._wake_at_ns, self._wake)

    def _wake(self) -> None:
        self._wake_at_ns = 0
        while self._backlog and not self.paused and not self.dead and self._busy_until_ns <= self.clock.now_ns:
            self._run(self._backlog.popleft())
        self._plan_wake()

    def _run(self, call: Callable[[], None]) -> None:
        try:
            call()
            if self.after_event is not None and not self.dead:
                self.after_event()
        except PowerCut as cut:
            self.die()
            self._on_stop(cut)

    def _run_soon(self) -> None:
        calls = self._soon
        self._soon = deque()
        while calls and not self.dead:
            calls.popleft()()

    def _begin_job(self) -> None:
        self.job = self._jobs[0][0]
        self.clock.at(self.monotonic_ns() + self.job_wait_ns(), self._job_due)

    def _job_due(self) -> None:
        # The worker does not care whether the loop is busy.
        if self.dead:
            return
        if self.paused:
            self._backlog.append(self._run_job)
        else:
            self._run(self._run_job)

    def _run_job(self) -> None:
        job, done = self._jobs[0]
        result, error = self.run_worker(job)
        self.job = None
        call = _Delivery(self, lambda: self._job_done(done, result, error)).deliver
        self.clock.later(self._worker_ns + self.event_ns, call)

    def run_worker(self, job: Job) -> tuple[object, BaseException | None]:
        """Run a job as the worker does."""
        self._in_worker = True
        self._worker_ns = 0
        try:
            return job(), None
        except Exception as error:
            return None, error
        finally:
            self._in_worker = False

    def _job_done(self, done: Done, result: object, error: BaseException | None) -> None:
        self._jobs.popleft()
        if self._jobs:
            self._begin_job()
        done(result, error)


class _Delivery:
    """An event on its way to a loop."""

    def __init__(self, loop: NodeLoop, call: Callable[[], None]) -> None:
        self._loop = loop
        self._call = call

    def deliver(self) -> None:
        self._loop.call(self._call)


def _event_call(event: Event) -> Callable[[], None]:
    """Return what makes an event's call, unless it has been cancelled by then."""

    def run() -> None:
        if event.call is not None:
            event.call()

    return run


def _no_wait() -> int:
    return 0
