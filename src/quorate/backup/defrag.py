"""Defragmentation of a directory that no member uses: `defrag --data-dir`.

The copy is made beside the database, made durable and renamed over it, so a crash leaves one of the two. Source: etcd's
etcdutl/etcdutl/defrag_command.go, server/storage/backend/backend.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.backup.offline import Paths, require_file
from quorate.ports import Disk, Log
from quorate.storage.bolt.compact import Compactor
from quorate.storage.bolt.db import Db
from quorate.units import human_bytes

_CALLER: Final = "backend/backend.go"
_STEP: Final = 10_000  # entries


def defragment(disk: Disk, data_dir: str, log: Log, clock: Callable[[], int], locked: Callable[[str], None]) -> None:
    """Defragment. `clock` gives nanoseconds; `locked(path)` is called again and again while another holds the lock.

    Raises BackupError, CorruptError, OSError; the database is then as it was.
    """
    path = Paths(data_dir).db
    require_file(disk, path)
    db = _open(disk, path, log, locked)
    started = clock()
    try:
        size, in_use = db.size, db.size_in_use
        log.info(_CALLER, "defragmenting", **_sizes(path, size, in_use))
        copy = f"{path}.tmp.{started}"
        try:
            _copy(disk, db, copy)
            disk.rename(copy, path)
        except BaseException:
            if disk.exists(copy):
                disk.remove(copy)
            raise
        disk.sync_dir(path.rpartition("/")[0] or ".")
    finally:
        db.close()
    new = Db.open(disk, path, log)
    new_size, new_in_use = new.size, new.size_in_use
    new.close()
    fields = {
        "path": path,
        "current-db-size-bytes-diff": new_size - size,
        "current-db-size-bytes": new_size,
        "current-db-size": human_bytes(new_size),
        "current-db-size-in-use-bytes-diff": new_in_use - in_use,
        "current-db-size-in-use-bytes": new_in_use,
        "current-db-size-in-use": human_bytes(new_in_use),
        "took": f"{(clock() - started) / 1e9:.9f}s",
    }
    log.info(_CALLER, "finished defragmenting directory", **fields)


def _open(disk: Disk, path: str, log: Log, locked: Callable[[str], None]) -> Db:
    while True:
        try:
            return Db.open(disk, path, log, wait=False)
        except BlockingIOError:
            locked(path)


def _copy(disk: Disk, db: Db, target: str) -> None:
    tx = db.begin_read()
    compactor = Compactor(tx, disk, target)
    try:
        while compactor.step(_STEP):
            pass
        compactor.finish()
    except BaseException:
        compactor.abort()
        raise
    finally:
        tx.close()


def _sizes(path: str, size: int, in_use: int) -> dict[str, object]:
    return {
        "path": path,
        "current-db-size-bytes": size,
        "current-db-size": human_bytes(size),
        "current-db-size-in-use-bytes": in_use,
        "current-db-size-in-use": human_bytes(in_use),
    }
