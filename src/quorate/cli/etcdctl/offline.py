"""3.5's forms of what `etcdutl` does: snapshot status and restore, defrag --data-dir. They ask no server.

3.6 has them in `etcdutl` only; here they stay, with 3.5's notice on stderr, and take 3.6's flags too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from quorate.backup.offline import BackupError, explain
from quorate.cli.etcdctl.context import ERROR, Context, ExitError
from quorate.cli.etcdutl import directory, snapshot
from quorate.cli.etcdutl.commands import Command
from quorate.cli.etcdutl.context import Context as Offline
from quorate.errors import CorruptError


def status(context: Context) -> None:
    """Print what a snapshot file holds."""
    _run(snapshot.status, context, "Deprecated: Use `etcdutl snapshot status` instead.")


def restore(context: Context) -> None:
    """Make a data directory of a snapshot file."""
    _run(snapshot.restore, context, "Deprecated: Use `etcdutl snapshot restore` instead.")


def defrag(context: Context) -> None:
    """Defragment the database of a member that does not run."""
    notice = "Use `etcdutl defrag` instead. The --data-dir is going to be decomissioned in v3.6."
    _run(directory.defrag, context, notice)


def _run(function: Callable[[Offline], None], context: Context, notice: str) -> None:
    sys.stderr.write(notice + "\n\n")
    sys.stderr.flush()
    last = context.path[-1]
    try:
        function(Offline([Command(last.use, last.short)], context.flags))
    except (CorruptError, OSError) as error:
        raise ExitError(ERROR, explain(error)) from None
    except BackupError as error:
        raise ExitError(ERROR, str(error)) from None
