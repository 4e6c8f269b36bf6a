"""What --help prints: the short usage on stderr, and on stdout the list of flags, made from the table."""

from __future__ import annotations

import textwrap

from quorate.cli.flags import GATES, NONE, REFUSED, SECTIONS, Flag

USAGE = """Usage:

  etcd [flags]
    Start an etcd server.

  etcd --version
    Show the version of etcd.

  etcd -h | --help
    Show the help information about etcd.

  etcd --config-file
    Path to the server configuration file. Note that if a configuration file is provided, other command line flags and environment variables will be ignored.
"""  # noqa: E501  (the line is etcd's)


def flag_list() -> str:
    """Return the flags by section, each with its default and a word on what it does not do here."""
    parts = []
    for section, flags in SECTIONS:
        parts.append(f"\n{section}:\n" + "".join(_entry(flag) for flag in flags))
    parts.append("\nCAUTIOUS with unsafe flag! It may break the guarantees given by the consensus protocol!\n")
    return "".join(parts)


def _entry(flag: Flag) -> str:
    default = "${name}.etcd" if flag.name == "data-dir" else flag.default
    text = f"  --{flag.name} '{default}'\n"
    lines = textwrap.wrap(flag.help, 110)
    if flag.name == "feature-gates":
        lines += [f"{name}=true|false (default={str(value).lower()})" for name, value in GATES.items()]
    if flag.gate:
        lines.append(f"Use '--feature-gates={flag.gate}=true' instead.")
    if flag.old:
        lines.append(f"The older spelling is --{flag.old}.")
    if flag.state == REFUSED:
        lines.append(f"Not supported yet: {flag.note}.")
    elif flag.state == NONE:
        lines.append(f"No effect: {flag.note}.")
    elif flag.note:
        lines.append(f"For now: {flag.note}.")
    return text + "".join(f"    {line}\n" for line in lines)
