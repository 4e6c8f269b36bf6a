"""From the words of a command line to a command, as cobra does it, and the exit status.

Exit status: 0; 1 for failures and unknown words; 4 an output format that a command does not have; 128 bad arguments;
`verify` has its own. Errors stand on stderr twice where cobra and etcdutl's main both print them.
Source: spf13/cobra command.go; etcd's etcdutl/ctl.go, main.go, pkg/cobrautl/error.go.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NoReturn

from quorate.cli.etcdctl.context import ERROR, ExitError
from quorate.cli.etcdctl.main import choose, flags_of, word_index
from quorate.cli.etcdctl.pflag import FlagError, FlagSet
from quorate.cli.etcdutl.commands import API_VERSION, ROOT, VERSION, Command
from quorate.cli.etcdutl.context import Context
from quorate.errors import CorruptError


def main() -> NoReturn:
    """Run the command and leave the process with its status."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        status = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        status = 1
    os._exit(status)


def run(words: Sequence[str]) -> int:
    """Do what the words ask for; return the exit status."""
    path, rest = find(list(words))
    command = path[-1]
    if len(path) == 1 and (at := word_index(rest, path)) is not None:
        return unknown_command(rest[at])
    if command.name == "help":
        return help_command(path, rest)
    flags = FlagSet(flags_of(path))
    if command.deprecated:
        sys.stderr.write(f'Command "{command.name}" is deprecated, {command.deprecated}\n')
    try:
        flags.parse(rest)
    except FlagError as error:
        return usage_error(path, str(error))
    if flags.value("help") or not command.run:
        sys.stdout.write(usage_of(path))
        return 0
    if command.exact not in (-1, len(flags.args)):
        return usage_error(path, f"accepts {command.exact} arg(s), received {len(flags.args)}")
    if bad := [word for word in flags.args if command.choices and word not in command.choices]:
        return usage_error(path, f'invalid argument "{bad[0]}" for "etcdutl {command.name}"')
    if missing := [f'"{name}"' for name in command.required if name not in flags.changed]:
        return usage_error(path, f"required flag(s) {', '.join(missing)} not set")
    try:
        handler(command)(Context(path, flags))
    except ExitError as stop:
        return failed(stop.status, stop.text)
    except (CorruptError, OSError) as error:
        from quorate.backup.offline import explain

        return failed(ERROR, explain(error))
    except Exception as error:
        from quorate.backup.offline import BackupError

        if not isinstance(error, BackupError):
            raise
        return failed(ERROR, str(error))
    return 0


def failed(status: int, text: str) -> int:
    """Say why, if there is something to say, and return the status."""
    sys.stdout.flush()
    if text:
        sys.stderr.buffer.write(b"Error: " + text.encode("utf-8", "surrogateescape") + b"\n")
        sys.stderr.flush()
    return status


def handler(command: Command) -> Callable[[Context], None]:
    """Import and return what runs a command."""
    module, _, function = command.run.partition(":")
    found: Callable[[Context], None] = getattr(import_module(f"quorate.cli.etcdutl.{module}"), function)
    return found


def find(words: list[str]) -> tuple[list[Command], list[str]]:
    """Return the path to the command that the words name, and the other words in their order."""
    path = [ROOT]
    rest = list(words)
    while path[-1].commands:
        at = word_index(rest, path)
        match = None if at is None else choose(path[-1], rest[at])
        if at is None or not isinstance(match, Command):
            break
        path.append(match)
        del rest[at]
    return path, rest


def usage_of(path: Sequence[Command]) -> str:
    """Return a command's help."""
    from quorate.cli.etcdutl.usage import usage

    return usage(path, flags_of(path))


def usage_error(path: Sequence[Command], text: str) -> int:
    """Print the error, help, and the error again, as the real one does."""
    sys.stderr.write(f"Error: {text}\n{usage_of(path)}\nError: {text}\n")
    return 1


def help_command(here: Sequence[Command], words: Sequence[str]) -> int:
    """Print help for the command that the words name, or for `help` itself."""
    if "-h" in words or "--help" in words:
        sys.stdout.write(usage_of(here))
        return 0
    names = [word for word in words if word[:1] != "-"]
    path, rest = find(list(names))
    if len(path) == 1 and rest:
        from quorate.cli.etcdutl.usage import usage

        topics = " ".join([f"`{name}`" for name in names])
        sys.stderr.write(f"Unknown help topic [{topics}]\n{usage([ROOT], ROOT.flags)}")
        return 0
    sys.stdout.write(usage_of(path))
    return 0


def unknown_command(word: str) -> int:
    """Say so, with what may have been meant."""
    from quorate.cli.etcdctl.gotext import quote
    from quorate.cli.etcdctl.usage import alike

    text = f"Error: unknown command {quote(word)} for {quote('etcdutl')}\n"
    similar = [each.name for each in ROOT.commands if alike(word, each.name)]
    if similar:
        text += "\nDid you mean this?\n" + "".join([f"\t{name}\n" for name in similar]) + "\n"
    sys.stderr.write(f"{text}Run 'etcdutl --help' for usage.\n{text}")
    return 1


def version(context: Context) -> None:
    """Print the versions."""
    context.print(f"etcdutl version: {VERSION}\nAPI version: {API_VERSION}\n")


if __name__ == "__main__":
    main()
