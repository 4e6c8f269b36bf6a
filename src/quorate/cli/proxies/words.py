"""`etcd gateway` and `etcd grpc-proxy`, each with its one command `start`, as cobra reads, explains and refuses them.

Anything but `start` behind the name gets the help, and exit status 0. Flags are pflag's: no long form with one dash, no
environment variables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from quorate.cli.etcdctl.pflag import BOOL, DURATION, LIST, STRING, Flag, FlagError, FlagSet
from quorate.runtime.duration import format_duration

_KINDS = {STRING: " string", BOOL: "", LIST: " strings"}


def run(name: str, words: Sequence[str], flags: Sequence[Flag], start: Callable[[FlagSet], int]) -> int:
    """Do what the words behind the sub-command's name ask for; return the exit status."""
    rest = list(words)
    if not rest or rest[0] != "start":
        return _group(name, rest)
    start_flags = [*flags, Flag("help", BOOL, False, "help for start", "h")]
    given = FlagSet(start_flags)
    usage = f"Usage:\n  etcd {name} start [flags]\n\nFlags:\n{flag_lines(start_flags)}\n"
    try:
        given.parse(rest[1:])
    except FlagError as error:
        sys.stderr.write(f"Error: {error}\n{usage}\n{error}\n")
        return 1
    if given.value("help"):
        about = "start the gateway" if name == "gateway" else "start the grpc proxy"
        sys.stdout.write(f"{about}\n\n{usage}")
        return 0
    return start(given)


def _group(name: str, rest: list[str]) -> int:
    flags = [Flag("help", BOOL, False, f"help for {name}", "h")]
    about = "start the gateway" if name == "gateway" else "start the grpc proxy"
    usage = (
        f"Usage:\n  etcd {name} [command]\n\nAvailable Commands:\n  start       {about}\n\n"
        f"Flags:\n{flag_lines(flags)}\n\n"
        f'Use "etcd {name} [command] --help" for more information about a command.\n'
    )
    try:
        FlagSet(flags).parse(rest)
    except FlagError as error:
        sys.stderr.write(f"Error: {error}\n{usage}\n{error}\n")
        return 1
    sys.stdout.write(f"{name} related command\n\n{usage}")
    return 0


def flag_lines(flags: Sequence[Flag]) -> str:
    """Return the flags as pflag lists them: by name, with kind, usage and default."""
    rows = []
    for flag in sorted(flags, key=lambda each: each.name):
        head = f"  -{flag.short}, --{flag.name}" if flag.short else f"      --{flag.name}"
        rows.append((head + _KINDS.get(flag.kind, f" {flag.kind}"), flag.usage + _default(flag)))
    width = max(len(head) for head, _ in rows)
    return "\n".join(f"{head:<{width}}   {usage}" for head, usage in rows)


def _default(flag: Flag) -> str:
    value = flag.default
    if not value:
        return ""
    if isinstance(value, list):
        return f" (default [{','.join(value)}])"
    if flag.kind == DURATION:
        assert isinstance(value, int)
        return f" (default {format_duration(value)})"
    return f' (default "{value}")' if flag.kind == STRING else f" (default {value})"
