"""From the words of a command line to a command: cobra's rules for finding it, help, and the exit status.

Exit status: 0; 1 for server errors and unknown words; 2 no client; 3 bad input on stdin; 4 unsupported output or value;
5 interrupted or cancelled; 128 bad arguments; a locked command's own. Source: etcd's pkg/cobrautl/error.go.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final, NoReturn

from quorate.cli.etcdctl.commands import API_VERSION, ROOT, VERSION, Command, switch
from quorate.cli.etcdctl.context import Context, ExitError
from quorate.cli.etcdctl.pflag import BOOL, Flag, FlagError, FlagSet

V2_FLAGS: Final = ("ca-file", "cert-file", "key-file")


def main() -> NoReturn:
    """Run the command and leave the process with its status."""
    # As in etcd's own, an interrupt simply ends the command; those that must clean up say so.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        status = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        status = 1
    os._exit(status)


def run(words: Sequence[str]) -> int:
    """Do what the words ask for; return the exit status."""
    version = os.environ.get("ETCDCTL_API", "")
    if version == "2" or (not version and has_v2_flags(words)):
        return run_v2(words)
    if version not in ("", "3"):
        sys.stderr.write(f"unsupported API version: {version}\n")
        return 1
    path, rest = find(list(words))
    command = path[-1]
    if len(path) == 1 and (bad := first_word(rest, path)) is not None:
        if bad == "cluster-health" and not version:
            return run_v2(words)
        unknown_command(bad)
        return 1
    if command.name == "help":
        target, _ = find([word for word in rest if word[:1] != "-"])
        return show_usage(target)
    flags = FlagSet(flags_of(path))
    try:
        flags.parse(rest)
    except FlagError as error:
        print_error(str(error))
        show_usage(path)
        sys.stderr.write("\n")
        return 1
    if flags.value("help") or not command.run:
        return show_usage(path)
    context = Context(path, flags, list(words))
    try:
        handler(command)(context)
    except ExitError as stop:
        sys.stdout.flush()
        if stop.text:
            print_error(stop.text)
        return stop.status
    finally:
        sys.stdout.flush()
        context.close()
    return 0


def has_v2_flags(words: Sequence[str]) -> bool:
    """Tell whether there is a flag that only v2's commands have: etcdctl up to 3.3 spoke v2 when it was not told."""
    own = words[: words.index("--")] if "--" in words else words
    return any(word.partition("=")[0].lstrip("-") in V2_FLAGS for word in own if word.startswith("-"))


def run_v2(words: Sequence[str]) -> int:
    """Do what the words ask for in v2's forms; return the exit status."""
    from quorate.cli.etcdctl.v2.app import run

    return run(words)


def print_error(text: str) -> None:
    """Print an error on stderr; on a terminal also what to try."""
    if sys.stderr.isatty():
        from quorate.cli.etcdctl.people import show_error

        show_error(text, sys.stderr)
    else:
        sys.stderr.buffer.write(b"Error: " + text.encode("utf-8", "surrogateescape") + b"\n")
        sys.stderr.flush()


def handler(command: Command) -> Callable[[Context], None]:
    """Import and return what runs a command."""
    module, _, function = command.run.partition(":")
    found: Callable[[Context], None] = getattr(import_module(f"quorate.cli.etcdctl.{module}"), function)
    return found


def flags_of(path: Sequence[Command]) -> list[Flag]:
    """Return the flags that a command takes: its own and those of all above it."""
    return [flag for command in path for flag in command.flags] + [
        switch("help", f"help for {path[-1].name}", short="h")
    ]


def find(words: list[str]) -> tuple[list[Command], list[str]]:
    """Return the path to the command that the words name, and the other words in their order.

    A word that follows an unknown long flag without "=" is taken for its value, so that a subcommand's flag may stand
    before the subcommand.
    """
    path = [ROOT]
    rest = list(words)
    while path[-1].commands:
        at = word_index(rest, path)
        match = None if at is None else choose(path[-1], rest[at])
        if at is None or match is None:
            break
        path.append(match)
        del rest[at]
    return path, rest


def word_index(words: Sequence[str], path: Sequence[Command]) -> int | None:
    """Return where the first word stands that is no flag and no flag's value."""
    flags = flags_of(path)
    longs = {flag.name: flag.kind == BOOL for flag in flags}
    shorts = {flag.short: flag.kind == BOOL for flag in flags if flag.short}
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            return None
        long_value = word[:2] == "--" and "=" not in word and not longs.get(word[2:], False)
        short_value = len(word) == 2 and word[0] == "-" and word[1] != "-" and not shorts.get(word[1], False)
        if long_value or short_value:
            at += 2
        elif word and word[0] != "-":
            return at
        else:
            at += 1
    return None


def first_word(words: Sequence[str], path: Sequence[Command]) -> str | None:
    """Return the first word that is no flag."""
    at = word_index(words, path)
    return None if at is None else words[at]


def choose(command: Command, word: str) -> Command | None:
    """Return the subcommand with this name, or the only one whose name begins with it."""
    starts = []
    for each in command.commands:
        if each.name == word:
            return each
        if each.name.startswith(word) and not each.hidden:
            starts.append(each)
    return starts[0] if len(starts) == 1 else None


def show_usage(path: Sequence[Command]) -> int:
    """Print help."""
    from quorate.cli.etcdctl.usage import usage

    sys.stdout.write(usage(path, flags_of(path)))
    sys.stdout.flush()
    return 0


def unknown_command(word: str) -> None:
    """Say so, with what may have been meant."""
    from quorate.cli.etcdctl.gotext import quote
    from quorate.cli.etcdctl.usage import alike

    text = f"Error: unknown command {quote(word)} for {quote('etcdctl')}\n"
    similar = [each.name for each in ROOT.commands if alike(word, each.name)]
    if similar:
        text += "\nDid you mean this?\n" + "".join([f"\t{name}\n" for name in similar]) + "\n"
    text += "Run 'etcdctl --help' for usage.\n"
    if sys.stderr.isatty():
        from quorate.cli.etcdctl.people import hint

        advice = hint(text)
        text += f"  Try: {advice}\n" if advice else ""
    sys.stderr.write(text)


def version(context: Context) -> None:
    """Print the versions."""
    context.print(f"etcdctl version: {VERSION}\nAPI version: {API_VERSION}\n")


if __name__ == "__main__":
    main()
