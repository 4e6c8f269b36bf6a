"""defrag, migrate, backup, check v2store: work on a member's directory."""

from __future__ import annotations

import sys
import time

from quorate.backup.offline import BackupError, Paths, explain
from quorate.cli.etcdctl.context import BAD_ARGS, ERROR, ExitError
from quorate.cli.etcdutl.context import Context
from quorate.errors import CorruptError

_LOCK_POLL_S = 0.05
_PATIENCE_POLLS = 20  # a second, before it says that it waits


def defrag(context: Context) -> None:
    """Defragment."""
    from quorate.backup.defrag import defragment

    data_dir = context.text("data-dir")
    polls = 0

    def locked(path: str) -> None:
        nonlocal polls
        polls += 1
        if polls == _PATIENCE_POLLS:
            sys.stderr.write(
                f'waiting for etcd to close and release its lock on "{path}". '
                "To defrag a running etcd instance, use `etcdctl defrag` instead.\n"
            )
            sys.stderr.flush()
        time.sleep(_LOCK_POLL_S)

    try:
        defragment(context.disk, data_dir, context.log, time.monotonic_ns, locked)
    except (BackupError, CorruptError, OSError) as error:
        raise ExitError(ERROR, f"Failed to defragment etcd data[{data_dir}] ({explain(error)})") from None


def migrate(context: Context) -> None:
    """Change the storage version."""
    from quorate.backup.migrate import migrate as run
    from quorate.backup.migrate import parse_target

    try:
        target = parse_target(context.text("target-version"))
    except BackupError as error:
        raise ExitError(BAD_ARGS, str(error)) from None
    run(context.disk, context.text("data-dir"), target, context.on("force"), context.log)


def backup(context: Context) -> None:
    """Copy a directory as a cluster of its own."""
    from quorate.backup.legacy import backup as run

    source = Paths(context.text("data-dir"), context.text("wal-dir"))
    target = Paths(context.text("backup-dir"), context.text("backup-wal-dir"))
    member_id = (time.time_ns() // 1_000_000 & (1 << 40) - 1) << 8 | 1
    run(context.disk, source, target, context.on("with-v3"), member_id, context.log)


def check_v2store(context: Context) -> None:
    """Say whether clients have left keys of version 2."""
    from quorate.backup.v2content import check_v2_content

    check_v2_content(context.disk, Paths(context.text("data-dir"), context.text("wal-dir")), context.log)
    context.print("No custom content found in both v2store and WAL records.\n")
