"""What a command gets: its flags and arguments, the cluster, and the ways to print and to stop.

The session (and with it the environment, the TLS files and the output format) is looked at when a command first asks
for the cluster, which is after it has checked its arguments: so the errors come in etcd's order.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from quorate.cli.etcdctl.pflag import FlagReader, FlagSet

if TYPE_CHECKING:
    from quorate.cli.etcdctl.commands import Command
    from quorate.cli.etcdctl.output import Printer
    from quorate.cli.etcdctl.session import Session

ERROR, BAD_CONNECTION, INVALID_INPUT, BAD_FEATURE, INTERRUPTED, BAD_ARGS = 1, 2, 3, 4, 5, 128


class ExitError(Exception):
    """Leave with a status; the text, if any, goes to stderr behind "Error: "."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def bad_args(text: str) -> ExitError:
    """Return the error of wrong arguments."""
    return ExitError(BAD_ARGS, text)


class Context(FlagReader):
    """One run of one command."""

    def __init__(self, path: Sequence[Command], flags: FlagSet, words: list[str]) -> None:
        self.path = path
        super().__init__(flags)
        self.words = words
        self.args = flags.args
        self._session: Session | None = None
        self._printer: Printer | None = None
        self._opened: list[Session] = []
        self._endpoints: list[str] | None = None

    def seconds(self, name: str) -> float:
        """Return a duration flag."""
        return self.number(name) / 1e9

    def endpoints(self) -> list[str]:
        """Return the endpoints that the SRV records of --discovery-srv name, else those given. Raises ExitError."""
        if self._endpoints is None:
            domain = self.text("discovery-srv")
            if domain:
                from quorate.cli.etcdctl.settings import discovered, secure

                found = discovered(domain, self.text("discovery-srv-name"))
                self._endpoints = secure(found, self.on("insecure-discovery"))
            if not self._endpoints:
                value = self.flags.value("endpoints")
                assert isinstance(value, list), value
                self._endpoints = [each.strip() for each in value]
        return self._endpoints

    @property
    def command_timeout_s(self) -> float:
        """The limit of calls that have one."""
        return self.seconds("command-timeout")

    @property
    def session(self) -> Session:
        """The cluster."""
        if self._session is None:
            from quorate.cli.etcdctl.settings import open_session

            self.prepare()
            self._session = open_session(self, self.endpoints())
            self._opened.append(self._session)
        return self._session

    def session_with(self, endpoint: str, log_name: str = "etcd-client") -> Session:
        """Return a session of its own with one endpoint."""
        from quorate.cli.etcdctl.settings import open_session

        self.prepare()
        session = open_session(self, [endpoint], log_name)
        self._opened.append(session)
        return session

    def prepare(self) -> None:
        """Take the environment and the output format, once."""
        if self._printer is None:
            from quorate.cli.etcdctl.output import make_printer
            from quorate.cli.etcdctl.settings import apply_environment

            apply_environment(self)
            if sys.stdout.isatty() and "write-out" not in self.flags.given:
                from quorate.cli.etcdctl.people import PeoplePrinter

                self._printer = PeoplePrinter(self.on("hex"), sys.stdout)
                return
            self._printer = make_printer(self.text("write-out"), self.on("hex"))
            if self._printer is None:
                raise ExitError(BAD_FEATURE, "unsupported output format")

    @property
    def printer(self) -> Printer:
        """Prints answers in the chosen format."""
        self.prepare()
        assert self._printer is not None
        return self._printer

    def print(self, text: str) -> None:
        """Print text that is the same in every format."""
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.flush()

    def close(self) -> None:
        """Close what was opened."""
        for session in self._opened:
            session.close()
