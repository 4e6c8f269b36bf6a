"""What a command gets: its flags, arguments, the disk and the log."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from quorate.cli.etcdctl.pflag import FlagSet
from quorate.cli.etcdutl.commands import Command
from quorate.cli.etcdutl.console import ConsoleLog
from quorate.ports import Log
from quorate.runtime.disk import OsDisk


class Context:
    """One run of one command."""

    def __init__(self, path: Sequence[Command], flags: FlagSet) -> None:
        self.path = path
        self.flags = flags
        self.args = flags.args
        self.disk = OsDisk()
        self.log: Log = ConsoleLog()

    def text(self, name: str) -> str:
        """Return a string flag."""
        value = self.flags.value(name)
        assert isinstance(value, str), name
        return value

    def on(self, name: str) -> bool:
        """Return a boolean flag."""
        return self.flags.value(name) is True

    def number(self, name: str) -> int:
        """Return an integer flag."""
        value = self.flags.value(name)
        assert isinstance(value, int), name
        return value

    def print(self, text: str) -> None:
        """Print to stdout."""
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.flush()
