"""The `Loop` port on uvloop: one thread that owns all state, and one storage worker for blocking disk work.

A turn: uvloop reads every socket that has something, then one `_turn` makes all `soon` calls in order, then the calls
given to `at_turn_end` (the listeners' writes), so that whatever a turn produced leaves in one write a connection. What
is asked for during `_turn` belongs to the next one.

An exception that escapes a `soon` call, a timer or a completion is a bug in code that owns the member's state; the
member stops (`fatal`) rather than go on with half a change. Listeners guard their own calls.
"""

from __future__ import annotations

import asyncio
import os
import queue
import random
import threading
import time
from collections.abc import Callable

import uvloop

from quorate.ports import Log, Loop, NullLog, Timer

Job = tuple[Callable[[], object], Callable[[object, BaseException | None], None]]
Outcome = tuple[Callable[[object, BaseException | None], None], object, BaseException | None]


def exit_process(code: int) -> None:
    """End the process without unwinding: nothing of a member that cannot trust its state may run on."""
    os._exit(code)


class UvTimer(Timer):
    """A timer of the loop."""

    def __init__(self) -> None:
        self.handle: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        """Prevent the call."""
        if self.handle is not None:
            self.handle.cancel()
            self.handle = None


class UvLoop(Loop):
    """The loop of a real member. `aio` is the asyncio loop underneath, for the runtime's own use."""

    def __init__(self, log: Log | None = None, exit_hook: Callable[[int], None] = exit_process) -> None:
        self.aio: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self.log = log if log is not None else NullLog()
        self.exit_hook = exit_hook
        self._random = random.SystemRandom()
        self._soon: list[Callable[[], None]] = []
        self._ends: list[Callable[[], None]] = []
        self._armed = False
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._outcomes: list[Outcome] = []
        self._outcomes_lock = threading.Lock()
        self._worker: threading.Thread | None = None
        self._computations: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._computer: threading.Thread | None = None

    # Asked several times a request: the built-in itself, without a frame of Python's around it.
    monotonic_ns = staticmethod(time.monotonic_ns)

    def time_ns(self) -> int:
        """Return nanoseconds since the Unix epoch."""
        return time.time_ns()

    def random_bits(self, bits: int) -> int:
        """Return an integer from the system's random source."""
        return self._random.getrandbits(bits)

    def soon(self, call: Callable[[], None]) -> None:
        """Call in this turn's `_turn`, or in the next one's when that is under way."""
        self._soon.append(call)
        if not self._armed:
            self._arm()

    def at_turn_end(self, call: Callable[[], None]) -> None:
        """Call after the `soon` calls of the turn."""
        self._ends.append(call)
        if not self._armed:
            self._arm()

    def _arm(self) -> None:
        self._armed = True
        self.aio.call_soon(self._turn)

    def _turn(self) -> None:
        self._armed = False
        calls = self._soon
        self._soon = []
        try:
            for call in calls:
                call()
        except Exception as error:
            self.fatal(error)
        ends = self._ends
        self._ends = []
        for call in ends:
            call()

    def later(self, delay_ns: int, call: Callable[[], None]) -> Timer:
        """Call once after the delay."""
        timer = UvTimer()
        timer.handle = self.aio.call_later(delay_ns / 1e9, self._run_timer, timer, call)
        return timer

    def _run_timer(self, timer: UvTimer, call: Callable[[], None]) -> None:
        timer.handle = None
        try:
            call()
        except Exception as error:
            self.fatal(error)

    # The storage thread

    def work(self, job: Callable[[], object], done: Callable[[object, BaseException | None], None]) -> None:
        """Run a job in the storage thread; completions arrive in the order of the jobs."""
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, args=(self._jobs,), name="storage", daemon=True)
            self._worker.start()
        self._jobs.put((job, done))

    def compute(self, job: Callable[[], object], done: Callable[[object, BaseException | None], None]) -> None:
        """Run a long computation in a thread of its own, one after the other; it must release the GIL."""
        if self._computer is None:
            jobs = self._computations
            self._computer = threading.Thread(target=self._work, args=(jobs,), name="compute", daemon=True)
            self._computer.start()
        self._computations.put((job, done))

    def _work(self, jobs: queue.SimpleQueue[Job | None]) -> None:
        while True:
            item = jobs.get()
            if item is None:
                return
            job, done = item
            outcome: Outcome
            try:
                outcome = (done, job(), None)
            except BaseException as error:
                outcome = (done, None, error)
            with self._outcomes_lock:
                self._outcomes.append(outcome)
                first = len(self._outcomes) == 1
            if first:
                # One wake-up serves all outcomes that gather before the loop gets to them.
                try:
                    self.aio.call_soon_threadsafe(self._deliver)
                except RuntimeError:
                    return  # the loop has closed: nobody waits any more

    def _deliver(self) -> None:
        with self._outcomes_lock:
            outcomes = self._outcomes
            self._outcomes = []
        try:
            for done, result, error in outcomes:
                done(result, error)
        except Exception as error:
            self.fatal(error)

    # Life and death

    def fatal(self, error: BaseException) -> None:
        """Log the error and end the process."""
        self.log.error("runtime/loop.go", "the member stops at once", error=str(error) or type(error).__name__)
        self.exit_hook(1)

    def run(self, main: Callable[[], None] | None = None) -> None:
        """Run until `stop`; `main` is called first."""
        asyncio.set_event_loop(self.aio)
        if main is not None:
            self.soon(main)
        self.aio.run_forever()

    def stop(self) -> None:
        """Let `run` return."""
        self.aio.stop()

    def close(self) -> None:
        """Finish the storage thread's jobs and release the loop; not while it runs."""
        if self._worker is not None:
            self._jobs.put(None)
            self._worker.join()
            self._worker = None
        if self._computer is not None:
            self._computations.put(None)
            self._computer.join()
            self._computer = None
        left = asyncio.all_tasks(self.aio)
        for task in left:
            task.cancel()
        if left:
            self.aio.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self.aio.close()
