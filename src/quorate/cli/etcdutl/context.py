"""What a command gets: its flags, arguments, the disk and the log."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from quorate.cli.etcdctl.pflag import FlagReader, FlagSet
from quorate.cli.etcdutl.commands import Command
from quorate.cli.etcdutl.console import ConsoleLog
from quorate.ports import Log
from quorate.runtime.disk import OsDisk


class Context(FlagReader):
    """One run of one command."""

    def __init__(self, path: Sequence[Command], flags: FlagSet) -> None:
        self.path = path
        super().__init__(flags)
        self.args = flags.args
        self.disk = OsDisk()
        self.log: Log = ConsoleLog()

    def print(self, text: str) -> None:
        """Print to stdout."""
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.flush()
