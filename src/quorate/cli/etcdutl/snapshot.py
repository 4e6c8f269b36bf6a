"""snapshot status, snapshot restore, snapshot save (which `etcdctl` has), hashkv."""

from __future__ import annotations

import sys
from collections.abc import Callable

from quorate.cli.etcdctl.context import bad_args
from quorate.cli.etcdutl.context import Context
from quorate.cli.etcdutl.printer import check_format, hash_row, render, status_row


def status(context: Context) -> None:
    """Print what a snapshot file holds."""
    from quorate.backup.offline import require_file
    from quorate.backup.status import snapshot_status

    if len(context.args) != 1:
        raise bad_args("snapshot status requires exactly one argument")
    path, form = context.args[0], context.text("write-out")
    require_file(context.disk, path)
    check_format(form)
    context.print(render(status_row(snapshot_status(context.disk, path, context.log)), form))


def restore(context: Context) -> None:
    """Make a data directory of a snapshot file."""
    from quorate.backup.restore import RestoreOptions
    from quorate.backup.restore import restore as run

    if len(context.args) != 1:
        raise bad_args("snapshot restore requires exactly one argument")
    bump, mark = context.number("bump-revision"), context.on("mark-compacted")
    if bool(bump) != mark:
        raise bad_args("--mark-compacted required if --revision-bump > 0")
    options = RestoreOptions(
        path=context.args[0],
        name=context.text("name"),
        data_dir=context.text("data-dir"),
        wal_dir=context.text("wal-dir"),
        initial_cluster=context.text("initial-cluster"),
        initial_cluster_token=context.text("initial-cluster-token"),
        peer_urls=context.text("initial-advertise-peer-urls").split(","),
        skip_hash_check=context.on("skip-hash-check"),
        bump_revision=bump,
        mark_compacted=mark,
        progress=_progress() if sys.stderr.isatty() else None,
        memory_map_size=context.number("initial-memory-map-size"),
    )
    run(context.disk, options, context.log)


def _progress() -> Callable[[int, int], None]:
    from quorate.cli.etcdctl.progress import Bar
    from quorate.units import human_bytes

    bar: Bar | None = None

    def show(done: int, total: int) -> None:
        nonlocal bar
        bar = bar or Bar(total, sys.stderr, human_bytes)
        if done < total:
            bar.show(done)
        else:
            bar.finish()

    return show


def save(context: Context) -> None:
    """Say where this has gone."""
    del context
    raise bad_args("In order to download snapshot use: `etcdctl snapshot save ...`")


def hashkv(context: Context) -> None:
    """Print the hash of a file's history."""
    from quorate.backup.hashkv import hash_kv

    form = context.text("write-out")
    check_format(form)
    found = hash_kv(context.disk, context.args[0], context.number("rev"), context.log)
    context.print(render(hash_row(found), form))
