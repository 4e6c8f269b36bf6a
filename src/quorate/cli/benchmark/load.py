"""Closed loops: each client has one call under way and begins the next when its answer has come.

The calls go straight to the sans-IO connections, without a task or future each; what is sent while one piece of the
socket's input is worked on leaves in one write.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Final

from quorate.cli.benchmark.pool import Conn, Pool, text_of
from quorate.cli.benchmark.report import Report
from quorate.errors import RpcError
from quorate.wire.headers import Field

BAR_S: Final = 0.2
BAR_WIDTH: Final = 40


class Rate:
    """At most so many a second, with no burst but `burst`; 0 means no limit."""

    def __init__(self, per_second: float, burst: int = 1) -> None:
        self._interval = 1.0 / per_second if per_second > 0 else 0.0
        self._slack = self._interval * (burst - 1)
        self._next = 0.0
        self.limited = per_second > 0

    def wait_s(self) -> float:
        """Take a place; return how long to wait for it."""
        if not self.limited:
            return 0.0
        now = perf_counter()
        self._next = max(self._next, now - self._slack)
        wait = self._next - now
        self._next += self._interval
        return max(wait, 0.0)

    async def wait(self) -> None:
        """Take a place, and wait for it."""
        if (wait := self.wait_s()) > 0:
            await asyncio.sleep(wait)


class Progress:
    """A bar on stderr, when that is a terminal."""

    def __init__(self, total: int) -> None:
        self.done = 0
        self._total = total
        self.shown = sys.stderr.isatty()
        self._began = perf_counter()
        self._next = 0.0

    def add(self, count: int = 1) -> None:
        """So many more are done."""
        self.done += count
        if self.shown and (now := perf_counter()) >= self._next:
            self._next = now + BAR_S
            self._show(now)

    def _show(self, now: float) -> None:
        part = min(self.done / self._total, 1.0) if self._total else 1.0
        bar = "-" * int(part * BAR_WIDTH)
        speed = self.done / max(now - self._began, 0.001)
        sys.stderr.write(f"\r {self.done} / {self._total} [{bar:{BAR_WIDTH}}] {part:.2%} {speed:.0f} p/s ")
        sys.stderr.flush()

    def finish(self) -> None:
        """Show the end of it."""
        if self.shown:
            self._show(perf_counter())
            sys.stderr.write("\n")


class Call:
    """A request to make, and the report that counts it; `revision` is that of a list's first page."""

    __slots__ = ("data", "path", "report", "revision")

    def __init__(self, path: bytes, data: bytes, report: Report, revision: int = 0) -> None:
        self.path = path
        self.data = data
        self.report = report
        self.revision = revision


Follow = Callable[[Call, bytes], Call | None]
"""Looks at a call's answer; returns the call that goes on with the same operation, None when it is done."""


class Client:
    """One client: takes calls from the common source until there are none."""

    def __init__(self, run: Run, conn: Conn) -> None:
        self._run = run
        self._conn = conn
        self._only = conn.slots[0] if len(conn.slots) == 1 else None
        self._call: Call | None = None
        self._began = 0.0
        self._answer = b""
        self._on_message = self._message
        self._on_end = self._end

    def next(self) -> None:
        """Begin the next call, when its time has come."""
        run = self._run
        self._call = next(run.calls, None)
        if self._call is None:
            run.client_done()
        elif run.limited and (wait := run.rate.wait_s()) > 0:
            run.loop.call_later(wait, self._begin)
        else:
            self._began = perf_counter()
            self._send()

    def _begin(self) -> None:
        self._began = perf_counter()
        self._send()

    def _send(self) -> None:
        slot = self._only or self._conn.slot()
        http = slot.link.http
        if http.closed or http.draining:
            slot.wait(self._send)
            return
        call = self._call
        assert call is not None
        http.call(call.path, self._run.headers, None, self._on_message, self._on_end).send_last(call.data)

    def _message(self, message: bytes) -> None:
        self._answer = message

    def _end(self, error: RpcError | None, _: list[Field]) -> None:
        call = self._call
        assert call is not None
        run = self._run
        if error is not None:
            call.report.fail(text_of(error))
        else:
            if run.follow is not None:
                again = run.follow(call, self._answer)
                if again is not None:
                    self._call = again
                    self._send()
                    return
            call.report.add(self._began, perf_counter())
        if run.progress.shown:
            run.progress.add()
        self.next()


class Run:
    """One run of closed loops over a pool."""

    def __init__(
        self, pool: Pool, clients: int, calls: Iterator[Call], rate: Rate, total: int, follow: Follow | None = None
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.calls = calls
        self.rate = rate
        self.limited = rate.limited
        self.follow = follow
        self.headers = pool.headers
        self.progress = Progress(total)
        self._pool = pool
        self._left = clients
        self._over: asyncio.Future[None] = self.loop.create_future()

    async def go(self) -> None:
        """Do all calls."""
        for number in range(self._left):
            Client(self, self._pool.conn(number)).next()
        await self._over
        self.progress.finish()

    def client_done(self) -> None:
        """A client has found no more calls."""
        self._left -= 1
        if self._left == 0 and not self._over.done():
            self._over.set_result(None)
