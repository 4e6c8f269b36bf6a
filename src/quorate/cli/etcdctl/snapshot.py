"""snapshot save: one member's database in a file, with the digest the server sends (etcd: client/v3/snapshot)."""

from __future__ import annotations

import sys
import time

from quorate.cli.etcdctl.context import INTERRUPTED, Context, ExitError, bad_args
from quorate.cli.etcdctl.progress import Bar
from quorate.cli.etcdctl.session import CallError, public_text, zap
from quorate.client import methods
from quorate.client.errors import SnapshotError
from quorate.client.save import SnapshotFile
from quorate.errors import RpcError
from quorate.proto import rpc_pb2 as pb
from quorate.runtime.duration import format_duration
from quorate.units import human_bytes

CALLER = "snapshot/v3_snapshot.go"


def save(context: Context) -> None:
    """Save a snapshot."""
    if len(context.args) != 1:
        raise bad_args("snapshot save expects one argument <filename>")
    path = context.args[0]
    session = context.session
    endpoints = session.endpoints
    if len(endpoints) != 1:
        text = f"snapshot must be requested to one selected node, not multiple [{' '.join(endpoints)}]"
        raise ExitError(INTERRUPTED, text)
    limit_s = context.command_timeout_s if "command-timeout" in context.flags.changed else None
    begun_ns = time.monotonic_ns()
    try:
        file = SnapshotFile(path)
    except OSError as error:
        reason = f"open {path}.part: {(error.strerror or str(error)).lower()}"
        raise ExitError(INTERRUPTED, f"could not open {path}.part ({reason})") from None
    zap("info", "", f"{CALLER}:65", "created temporary db file", {"path": file.part})
    try:
        call = session.open(methods.SNAPSHOT, limit_s=limit_s)
        call.send(pb.SnapshotRequest(), last=True)
        zap("info", "client", "v3@v3.6.14/maintenance.go:237", "opened snapshot stream; downloading", {})
        zap("info", "", f"{CALLER}:73", "fetching snapshot", {"endpoint": endpoints[0]})
        version = ""
        bar: Bar | None = None
        while (data := call.next(None if limit_s is None else begun_ns / 1e9 + limit_s)) is not None:
            part = methods.SNAPSHOT.decode(data)
            version = part.version or version
            file.write(part.blob)
            if sys.stderr.isatty():
                bar = bar or Bar(file.size + part.remaining_bytes, sys.stderr, human_bytes)
                bar.show(file.size)
        if bar is not None:
            bar.finish()
        zap("info", "client", "v3@v3.6.14/maintenance.go:302", "completed snapshot read; closing", {})
        size = file.size
        file.finish()
    except (CallError, SnapshotError) as error:
        file.abandon()
        raise ExitError(INTERRUPTED, error.text) from None
    except RpcError as error:
        file.abandon()
        raise ExitError(INTERRUPTED, public_text(error)) from None
    except OSError as error:
        file.abandon()
        raise ExitError(INTERRUPTED, (error.strerror or str(error)).lower()) from None
    fields = {
        "endpoint": endpoints[0],
        "size": human_bytes(size),
        "took": format_duration(time.monotonic_ns() - begun_ns),
        "etcd-version": version,
    }
    zap("info", "", f"{CALLER}:89", "fetched snapshot", fields)
    zap("info", "", f"{CALLER}:99", "saved", {"path": path})
    context.print(f"Snapshot saved at {path}\n")
    if version:
        context.print(f"Server version {version}\n")
