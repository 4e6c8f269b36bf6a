"""A database that came with a snapshot, while it lies beside ours: open for reading until it is adopted."""

from __future__ import annotations

from quorate.ports import Disk, Log
from quorate.storage.bolt.db import Db
from quorate.storage.view import ReadView


class ReceivedDb:
    """The file at `path`. It has to be closed before the backend adopts it, for its lock."""

    def __init__(self, disk: Disk, path: str, log: Log) -> None:
        self.path = path
        self._disk = disk
        self._log = log
        self._db: Db | None = None
        self._view: ReadView | None = None

    def open(self) -> object:
        """Open the file; in the storage thread. Raises CorruptError, OSError."""
        self._db = Db.open(self._disk, self.path, self._log, read_only=True)
        return None

    def view(self) -> ReadView:
        """Return a view of the file; it ends with `close`."""
        assert self._db is not None, self.path
        if self._view is None:
            self._view = ReadView(self._db.begin_read(), _nothing)
        return self._view

    def close(self) -> None:
        """Close view and file; harmless when done already."""
        if self._view is not None:
            self._view.close()
            self._view = None
        if self._db is not None:
            self._db.close()
            self._db = None


def _nothing() -> None:
    """Nobody waits."""
