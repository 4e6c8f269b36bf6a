"""completion: scripts for shells, made from the table of commands."""

from __future__ import annotations

from quorate.cli.etcdctl.completion import script
from quorate.cli.etcdutl.commands import ROOT
from quorate.cli.etcdutl.context import Context


def run(context: Context) -> None:
    """Print the script for a shell."""
    context.print(script(ROOT, context.args[0]))
