"""The files of a stopped member: where they are, and its database opened for reading or for one change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from quorate.errors import CorruptError
from quorate.ports import Disk, Log
from quorate.storage.bolt.db import Db
from quorate.storage.bolt.tx import ReadTx, WriteTx

COPY_BYTES: Final = 4 << 20


class BackupError(Exception):
    """What was asked for cannot be done; the text is etcd's where it has one."""


class Paths:
    """The places of a data directory (etcd: server/storage/datadir)."""

    def __init__(self, data_dir: str, wal_dir: str = "") -> None:
        self.data_dir = data_dir
        self.member = join(data_dir, "member")
        self.snap = join(data_dir, "member/snap")
        self.db = join(data_dir, "member/snap/db")
        self.wal = wal_dir or join(data_dir, "member/wal")


def join(directory: str, name: str) -> str:
    """Return a path as Go's filepath.Join cleans it."""
    import posixpath

    return posixpath.normpath(f"{directory}/{name}") if directory else name


def require_file(disk: Disk, path: str) -> None:
    """Raise BackupError, as os.Stat says it, when there is no such file."""
    if not disk.exists(path):
        raise BackupError(f"stat {path}: no such file or directory")


@contextmanager
def reading(disk: Disk, path: str, log: Log, wait: bool = True) -> Iterator[tuple[Db, ReadTx]]:
    """Open a database for reading, with a lock that other readers share. Raises CorruptError, OSError."""
    db = Db.open(disk, path, log, read_only=True, wait=wait)
    try:
        tx = db.begin_read()
        yield db, tx
        tx.close()
    finally:
        db.close()


def change(disk: Disk, path: str, log: Log, edit: Callable[[WriteTx], None]) -> None:
    """Open a database, make one change, durably, and close it. Raises CorruptError, OSError, what `edit` raises."""
    db = Db.open(disk, path, log)
    try:
        tx = db.begin_write()
        edit(tx)
        commit = tx.prepare()
        commit.write()
        db.finish(commit)
    finally:
        db.close()


def check_pages(db: Db, what: str) -> None:
    """Raise BackupError with every inconsistency of a database's pages, in the words of `snapshot status`."""
    found = list(db.check())
    if found:
        raise BackupError(f"{what} file integrity check failed. {len(found)} errors found.\n" + "\n".join(found))


def explain(error: Exception) -> str:
    """Return an error as a command prints it: etcd's words first, then where and what."""
    if isinstance(error, CorruptError):
        if "both meta pages are invalid" in error.text:
            return f"invalid database ({error})"
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror.lower()
        return f"open {error.filename}: {reason}" if error.filename else reason
    return str(error)
