"""A line that shows how far long work has come, as etcd's tools draw it (cheggaaa/pb), with a bar on a terminal.

1272 / 10000   12.72% 00m01s        then         10000 / 10000  100.00% 1s
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

PERIOD_S = 0.2


class Bar:
    """Draws at most every 200 ms. `amount` shows a number of the work's units."""

    def __init__(self, total: int, stream: TextIO | None = None, amount: Callable[[int], str] = str) -> None:
        self._total = total
        self._stream = stream or sys.stdout
        self._amount = amount
        self._begun_s = time.monotonic()
        self._next_s = 0.0
        self._done = 0
        self._width = 0

    def start(self) -> Bar:
        """Show that there is something to come."""
        self.show(0)
        return self

    def add(self, amount: int) -> None:
        """More is done."""
        self.show(self._done + amount)

    def show(self, done: int) -> None:
        """So much is done."""
        self._done = done
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + PERIOD_S
            self._draw(self._left(now_s - self._begun_s))

    def finish(self) -> None:
        """All is done."""
        from quorate.runtime.duration import format_duration

        self._done = self._total
        seconds = int(time.monotonic() - self._begun_s)
        self._draw(f" {format_duration(seconds * 10**9)}", "\n")

    def abandon(self) -> None:
        """End the line where it is."""
        self._stream.write("\n")
        self._stream.flush()

    def _left(self, passed_s: float) -> str:
        if not self._done:
            return ""
        left = int(passed_s / self._done * max(self._total - self._done, 0))
        return f" {left // 60:02}m{left % 60:02}s" if left else ""

    def _draw(self, when: str, end: str = "") -> None:
        share = self._done / self._total if self._total else 1.0
        head, tail = f" {self._amount(self._done)} / {self._amount(self._total)} ", f"{share * 100:7.2f}%{when}"
        padded = 0
        if self._stream.isatty():
            padded = self._width
            room = min(shutil.get_terminal_size().columns - len(head) - len(tail) - 4, 60)
            filled = int(room * min(share, 1.0))
            if room > 9:
                head += f"[{'=' * filled}{'>' if filled < room else ''}{' ' * (room - filled - 1)}] "
        line = head + tail
        self._stream.write("\r" + line.ljust(padded) + end)
        self._stream.flush()
        self._width = len(line) if not end else 0
