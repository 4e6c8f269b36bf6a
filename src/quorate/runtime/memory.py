"""What the settings say of a member's memory and file at its start: --memory-mlock, --bootstrap-defrag-threshold-*."""

from __future__ import annotations

import ctypes
import os
from typing import Final

from quorate.ports import Log
from quorate.server.bootlog import StartError
from quorate.storage.backend import Backend
from quorate.units import human_bytes

_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2


def lock_memory() -> None:
    """Keep all pages of this process in RAM (mlockall); StartError where the system does not allow it.

    etcd locks the pages of the database alone, which it maps; here they are a part of the process's memory.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) != 0:
        raise StartError(f"cannot lock memory (mlock): {os.strerror(ctypes.get_errno())}")


def defragment_at_start(backend: Backend, threshold: int, log: Log) -> None:
    """Begin a defragmentation when it frees at least `threshold` bytes. Source: etcdserver/bootstrap.go."""
    size, in_use = backend.size(), backend.size_in_use()
    if size - in_use >= threshold:
        backend.defragment(_ignore)
        return
    fields: dict[str, object] = {
        "current-db-size-bytes": size,
        "current-db-size": human_bytes(size),
        "current-db-size-in-use-bytes": in_use,
        "current-db-size-in-use": human_bytes(in_use),
        "bootstrap-defrag-threshold-bytes": threshold,
        "bootstrap-defrag-threshold": human_bytes(threshold),
    }
    log.info("etcdserver/bootstrap.go", "Skipping defragmentation", **fields)


def _ignore(_error: Exception | None) -> None:
    """It has logged how it ended."""
