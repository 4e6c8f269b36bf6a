"""Removing old files, as etcd does every 30 seconds (etcd: client/pkg/fileutil/purge.go), without making anybody wait.

Names of one kind sort by age. A file that somebody has locked is in use, and so are all that are younger.

Freeing the space of a large file can take a file system a millisecond a megabyte (ext4 with discard), and the storage
thread has syncs to do. So a large file loses its name first, for one that ends with `.tmp` and that neither etcd nor we
look at; then it is truncated in steps, with pauses; then it is removed. The next purge goes on with what a crash left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.ports import LOCK_OFD, Disk, File, Log, Loop

STEP_BYTES: Final = 4 << 20
PAUSE_NS: Final = 10_000_000

_CALLER: Final = "fileutil/purge.go"


class Eraser:
    """Frees the space of a file that nobody reads, step by step, closes it, and calls `then`."""

    def __init__(self, loop: Loop, file: File, then: Callable[[], None]) -> None:
        self._loop: Loop = loop
        self._file: File = file
        self._then: Callable[[], None] = then

    def start(self) -> None:
        """Begin, or take the next step."""
        self._loop.work(self._step, self._stepped)

    def _step(self) -> bool:
        size = self._file.size()
        if size > STEP_BYTES:
            self._file.truncate(size - STEP_BYTES)
            return True
        self._file.close()
        return False

    def _stepped(self, more: object, error: BaseException | None) -> None:
        if error is None and more:
            self._loop.later(PAUSE_NS, self.start)
        else:
            self._then()


def victims(disk: Disk, directory: str, suffix: str, keep: int) -> list[File]:
    """Return all but the `keep` newest files whose names end with `suffix`, locked, up to the first that is in use."""
    names = [name for name in disk.list_dir(directory) if name.endswith(suffix)]
    found: list[File] = []
    for name in names[: max(0, len(names) - keep)] if keep > 0 else []:
        file = disk.open(f"{directory}/{name}")
        if not file.lock(LOCK_OFD, wait=False):
            file.close()
            break
        found.append(file)
    return found


class Purge:
    """One purge of a kind of files, in steps: all but the `keep` newest whose names end with `suffix`; 0 keeps all."""

    def __init__(self, loop: Loop, disk: Disk, directory: str, suffix: str, keep: int, log: Log) -> None:
        self.removed: list[str] = []
        self._loop: Loop = loop
        self._disk: Disk = disk
        self._directory: str = directory
        self._suffix: str = suffix
        self._keep: int = keep
        self._log: Log = log
        self._done: Callable[[], None] | None = None
        self._large: list[File] = []

    def start(self, done: Callable[[], None] | None = None) -> None:
        """Begin; `done` is called when all is removed. An error is logged, and ends the purge."""
        self._done = done
        self._loop.work(self._select, self._selected)

    def _select(self) -> None:
        # In the storage thread; nobody else touches this object meanwhile.
        disk = self._disk
        for name in disk.list_dir(self._directory):
            if name.endswith(f"{self._suffix}.tmp"):
                self._large.append(disk.open(f"{self._directory}/{name}"))
        for file in victims(disk, self._directory, self._suffix, self._keep):
            self.removed.append(file.path)
            if file.size() > STEP_BYTES:
                disk.rename(file.path, file.path + ".tmp")
                file.path += ".tmp"
                self._large.append(file)
            else:
                disk.remove(file.path)
                file.close()

    def _selected(self, _result: object, error: BaseException | None) -> None:
        if error is not None:
            self._log.error(_CALLER, "failed to remove file", path=self._directory, error=str(error))
        for path in self.removed:
            self._log.info(_CALLER, "purged", path=path)
        self._erase()

    def _erase(self) -> None:
        if self._large:
            Eraser(self._loop, self._large[0], self._erased).start()
        elif self._done is not None:
            self._done()

    def _erased(self) -> None:
        file = self._large.pop(0)
        self._loop.work(_Removal(self._disk, file.path).run, self._removed)

    def _removed(self, _result: object, error: BaseException | None) -> None:
        if error is not None:
            self._log.error(_CALLER, "failed to remove file", path=self._directory, error=str(error))
        self._erase()


class _Removal:
    """The removal of a name."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk: Disk = disk
        self._path: str = path

    def run(self) -> None:
        """Remove it."""
        self._disk.remove(self._path)
