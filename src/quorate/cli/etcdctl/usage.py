"""Help in etcd's layout, aligned by tabs as Go's text/tabwriter does it (etcd: pkg/cobrautl/help.go)."""

from __future__ import annotations

from collections.abc import Sequence

from quorate.cli.etcdctl.commands import API_VERSION, VERSION, Command
from quorate.cli.etcdctl.pflag import BOOL, Flag

TAB = 8


def aligned(rows: Sequence[tuple[str, str]], lead: str = "") -> str:
    """Return two columns: the first padded with tabs to a common width."""
    width = max([len(first) for first, _ in rows], default=0) + 1
    width = -(-width // TAB) * TAB
    return "".join([f"{lead}{first}{chr(9) * -(-(width - len(first)) // TAB)}{second}\n" for first, second in rows])


def _leaves(command: Command, path: str) -> list[tuple[str, str]]:
    rows = []
    for each in sorted(command.commands, key=lambda each: each.name):
        if each.hidden:
            continue
        rows += _leaves(each, f"{path}{each.name} ") if each.commands else [(path + each.name, each.short)]
    return rows


def _flag_rows(flags: Sequence[Flag]) -> list[tuple[str, str]]:
    rows = []
    for flag in sorted(flags, key=lambda flag: flag.name):
        lead = f"  -{flag.short}, " if flag.short else "      "
        value = f"[={flag.shown}]" if flag.kind == BOOL else f"={flag.shown}"
        rows.append((f"{lead}--{flag.name}{value}", flag.usage))
    return rows


def usage(path: Sequence[Command], flags: Sequence[Flag]) -> str:
    """Return the help of a command."""
    command = path[-1]
    names = " ".join([each.name for each in path[:-1]] + [command.use])
    out = [f"NAME:\n\t{' '.join([each.name for each in path[1:]]) or command.name} - {command.short}\n\n"]
    out.append(f"USAGE:\n\t{names}{'' if command.name == 'help' else ' [flags]'}\n\n")
    if len(path) == 1:
        out.append(f"VERSION:\n\t{VERSION}\n\n")
    if command.commands:
        out.append(f"API VERSION:\n\t{API_VERSION}\n\n\n")
        out.append("COMMANDS:\n" + aligned(_leaves(command, ""), "\t") + "\n")
    if command.long:
        text = command.long.strip("\n").replace("\n", "\n\t")
        out.append(f"DESCRIPTION:\n\t{text}\n\n")
    inherited = {flag.name for each in path[:-1] for flag in each.flags}
    out.append("OPTIONS:\n" + aligned(_flag_rows([flag for flag in flags if flag.name not in inherited])) + "\n")
    if inherited:
        rows = _flag_rows([flag for flag in flags if flag.name in inherited])
        out.append("GLOBAL OPTIONS:\n" + aligned(rows) + "\n")
    return "".join(out)


def alike(word: str, name: str) -> bool:
    """Tell whether a wrong word may have meant a command: two edits away, or its beginning."""
    if name.startswith(word.lower()):
        return True
    row = list(range(len(name) + 1))
    for i, first in enumerate(word.lower(), 1):
        previous, row[0] = row[0], i
        for j, second in enumerate(name, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (first != second))
    return row[-1] <= 2
