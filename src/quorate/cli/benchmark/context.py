"""What a sub-command is given: its flags, the connections, and reports in the form that the flags ask for."""

from __future__ import annotations

import random
import sys

from quorate.cli.benchmark.pool import Pool
from quorate.cli.benchmark.report import Report
from quorate.cli.etcdctl.pflag import FlagSet

DIAL_TIMEOUT_S = 5.0


class RefusedError(Exception):
    """The flags make no sense, or the run cannot go on; the text goes to stderr, the exit status is 1."""


class ShowUsageError(Exception):
    """The arguments do not fit: the usage goes to stderr, the exit status is 1."""


class Context:
    """One run of a sub-command."""

    def __init__(self, name: str, flags: FlagSet, pool: Pool) -> None:
        self.name = name
        self.args = flags.args
        self.pool = pool
        self.clients = self._count("clients", flags)
        self.precise = bool(flags.value("precise"))
        self._flags = flags

    @staticmethod
    def _count(name: str, flags: FlagSet) -> int:
        found = flags.value(name)
        assert isinstance(found, int)
        return found

    def number(self, name: str) -> int:
        """Return a number, or a duration in nanoseconds."""
        return self._count(name, self._flags)

    def text(self, name: str) -> str:
        """Return a text."""
        found = self._flags.value(name)
        assert isinstance(found, str)
        return found

    def on(self, name: str) -> bool:
        """Return a switch."""
        return self._flags.value(name) is True

    def report(self, operation: str = "") -> Report:
        """Begin a report."""
        return Report(operation or self.name, self.precise, self.on("sample"))

    def finished(self, report: Report) -> str:
        """End a report and return it."""
        report.finish()
        if self.on("report-perfdash"):
            self.print(f"Successfully created a JSON perf report at {report.write_perfdash()}\n")
        return report.text()

    def print(self, text: str) -> None:
        """Write to stdout."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def warn(self, text: str) -> None:
        """Write a line to stderr."""
        sys.stderr.write(f"{text}\n")

    def check_key_space(self) -> int:
        """Return --key-space-size. Raises RefusedError."""
        size = self.number("key-space-size")
        if size <= 0:
            raise RefusedError(f"expected positive --key-space-size, got ({size})")
        if len(varint(size - 1)) > self.number("key-size"):
            raise RefusedError(f"keys of --key-size={self.number('key-size')} cannot number {size} keys")
        return size

    def consistency(self) -> bool:
        """Say how ranges are read; return whether they are serializable. Raises ShowUsageError."""
        word = self.text("consistency")
        if word not in ("l", "s"):
            raise ShowUsageError
        self.print(f"bench with {'serializable' if word == 's' else 'linearizable'} range\n")
        return word == "s"


def varint(number: int) -> bytes:
    """Return a number as Go's binary.PutVarint writes it."""
    left = number << 1
    out = bytearray()
    while left >= 0x80:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


def numbered_key(number: int, size: int) -> bytes:
    """Return the key of a number: its varint, filled up with zero bytes."""
    return varint(number).ljust(size, b"\0")


def random_bytes(size: int) -> bytes:
    """Return a value that does not compress."""
    return random.randbytes(size)
