"""Help in cobra's standard layout (spf13/cobra: UsageTemplate; spf13/pflag: FlagUsages)."""

from __future__ import annotations

from collections.abc import Sequence

from quorate.cli.etcdctl.pflag import BOOL, DURATION, INT, LIST, STRING, UINT, Flag
from quorate.cli.etcdutl.commands import Command

_NAME_WIDTH = 11
_TYPES = {STRING: " string", INT: " int", UINT: " uint", BOOL: "", DURATION: " duration", LIST: " strings"}


def flag_rows(flags: Sequence[Flag]) -> str:
    """Return the lines of flags, aligned."""
    rows = []
    for flag in sorted(flags, key=lambda each: each.name):
        lead = f"  -{flag.short}, " if flag.short else "      "
        rows.append((f"{lead}--{flag.name}{_TYPES[flag.kind]}", flag.usage + _default(flag)))
    width = max(len(first) for first, _ in rows)
    return "".join([f"{first:{width}}   {second}\n" for first, second in rows])


def _default(flag: Flag) -> str:
    if flag.default in ("", 0, False):
        return ""
    if flag.kind == LIST:
        return f" (default {flag.shown})"
    return f' (default "{flag.default}")' if flag.kind == STRING else f" (default {str(flag.default).lower()})"


def usage(path: Sequence[Command], flags: Sequence[Flag]) -> str:
    """Return the help of a command; `flags` are all that it takes, its own last."""
    command = path[-1]
    full = " ".join([each.name for each in path])
    parent = "".join([each.name + " " for each in path[:-1]])
    out = "Usage:\n"
    if command.commands:
        out += f"  {full} [command]\n\nAvailable Commands:\n"
        shown = [each for each in command.commands if not each.hidden]
        width = max([_NAME_WIDTH, *[len(each.name) for each in shown]])
        out += "".join([f"  {each.name:{width}} {each.short}\n" for each in sorted(shown, key=lambda each: each.name)])
    else:
        out += f"  {parent}{command.use}{'' if command.plain else ' [flags]'}\n"
    inherited = [flag for each in path[:-1] for flag in each.flags]
    own = [flag for flag in flags if flag not in inherited]
    out += "\nFlags:\n" + flag_rows(own)
    if inherited:
        out += "\nGlobal Flags:\n" + flag_rows(inherited)
    if command.commands:
        out += f'\nUse "{full} [command] --help" for more information about a command.\n'
    return out
