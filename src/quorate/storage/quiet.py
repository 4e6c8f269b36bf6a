"""A disk whose files are not synced while they need not be: for --unsafe-no-fsync, and while a copy is being made.

`QuietDisk` hands out files that pass everything on, except `sync` while `quiet` is set. What was written then becomes
durable with the first real sync, as fdatasync covers all that the file has received.
"""

from __future__ import annotations

from quorate.ports import Disk, File


class QuietFile(File):
    """A file whose `sync` can be turned off."""

    def __init__(self, file: File) -> None:
        self.path = file.path
        self.quiet: bool = True
        self._file: File = file

    def size(self) -> int:
        """Return the length."""
        return self._file.size()

    def read_at(self, length: int, offset: int) -> bytes:
        """Read."""
        return self._file.read_at(length, offset)

    def write_at(self, data: bytes, offset: int) -> None:
        """Write."""
        self._file.write_at(data, offset)

    def sync(self) -> None:
        """Sync, unless quiet."""
        if not self.quiet:
            self._file.sync()

    def allocate(self, length: int) -> None:
        """Reserve space."""
        self._file.allocate(length)

    def truncate(self, length: int) -> None:
        """Set the length."""
        self._file.truncate(length)

    def lock(self, kind: int, wait: bool) -> bool:
        """Lock."""
        return self._file.lock(kind, wait)

    def map(self) -> memoryview:
        """Map."""
        return self._file.map()

    def close(self) -> None:
        """Close."""
        self._file.close()

    def rename(self, path: str) -> None:
        """Take note that the file has another name now."""
        self.path = path
        self._file.path = path


class QuietDisk(Disk):
    """Opens quiet files; `last` is the latest one. Nothing else of a disk is needed by who gets one."""

    def __init__(self, disk: Disk) -> None:
        self.last: QuietFile | None = None
        self._disk: Disk = disk

    def open(self, path: str, create: bool = False, read_only: bool = False, mode: int = 0o600) -> File:
        """Open a file, quiet."""
        self.last = QuietFile(self._disk.open(path, create, read_only, mode))
        return self.last
