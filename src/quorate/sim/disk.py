"""A file system in memory that forgets what was not synced, and fails where it is told to.

Every file has two images: what the page cache shows, and what the platter holds. A write goes to the cache and to the
file's list of unsynced operations; `sync` moves them to the platter. Names work the same way: creating, renaming and
removing change the directory at once, and become durable with `sync_dir`, in order.

`crash(rng)` is a power cut. Every sector of 512 bytes that was written since the last sync reaches the platter as it
was at some moment of that time, each at its own (or all at the same, or none, or all writes: the mode is drawn too); of
the changes of length, and of each directory's changes, a prefix does. What the platter holds is then what the cache
shows, all handles are dead, all locks free.

Faults are planned with `fail(kind, error, after, path)` (an OSError at the n-th operation of a kind), `stop_at(n)`
(PowerCut raised in the middle of the n-th changing operation, before or after any part of it took place),
`capacity` (ENOSPC), `flip` (bit rot) and `lose_writes` (the drive lies). A failed sync leaves the cache's view as it
is and forgets that it was dirty, as Linux does.

Left out: hard links, permissions, concurrent access. Renames of directories are supported.
"""

from __future__ import annotations

import errno
import mmap
import os
import random
from collections import deque

from quorate.ports import LOCK_FLOCK_SHARED, Disk, File

SECTOR = 512


class PowerCut(BaseException):
    """The machine stopped inside an operation. Not an Exception: nothing may handle it on the way to the test."""


class _Inode:
    """A file: cache image, platter image (sparse, by sector), and the operations between the two."""

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.size = 0
        self.images: list[mmap.mmap] = []  # the newest is last; older ones live on under views and are kept up to date
        self.capacity = 0
        self.durable: dict[int, bytes] = {}
        self.durable_size = 0
        self.unsynced: list[tuple[str, int, bytes]] = []
        self.locks: dict[int, tuple[int, OpenFile]] = {}

    def reserve(self, size: int) -> None:
        if size <= self.capacity:
            return
        capacity = max(1 << 16, 1 << (size - 1).bit_length())
        image = mmap.mmap(-1, capacity)
        if self.images:
            old = self.images[-1]
            image[: self.size] = old[: self.size]
        alive = []
        for old in self.images:
            try:
                old.close()
            except BufferError:
                alive.append(old)
        self.images = [*alive, image]
        self.capacity = capacity

    def put(self, data: bytes, offset: int) -> None:
        end = offset + len(data)
        self.reserve(end)
        for image in self.images:
            room = min(end, len(image)) - offset
            if room > 0:
                image[offset : offset + room] = data[:room]
        self.size = max(self.size, end)

    def resize(self, size: int) -> None:
        self.reserve(size)
        if size < self.size:
            for image in self.images:
                stop = min(self.size, len(image))
                if stop > size:
                    image[size:stop] = bytes(stop - size)
        self.size = size

    def read(self, length: int, offset: int) -> bytes:
        if offset >= self.size or length <= 0:
            return b""
        return self.images[-1][offset : min(offset + length, self.size)]

    def flush(self) -> None:
        """Bring every unsynced operation to the platter."""
        for operation in self.unsynced:
            self.persist(operation, None)
        self.unsynced = []

    def persist(self, operation: tuple[str, int, bytes], keep: set[int] | None) -> None:
        """Apply one operation to the platter; of a write only the sectors in `keep` (None: all)."""
        kind, offset, data = operation
        if kind == "write":
            end = offset + len(data)
            for sector in range(offset // SECTOR, (end + SECTOR - 1) // SECTOR):
                if keep is not None and sector not in keep:
                    continue
                low, high = max(offset, sector * SECTOR), min(end, (sector + 1) * SECTOR)
                old = self.durable.get(sector, bytes(SECTOR))
                start = low - sector * SECTOR
                new = old[:start] + data[low - offset : high - offset] + old[start + high - low :]
                self.durable[sector] = new
                self.durable_size = max(self.durable_size, high)
        elif kind == "resize":
            if offset < self.durable_size:
                for sector in [s for s in self.durable if (s + 1) * SECTOR > offset]:
                    left = max(0, offset - sector * SECTOR)
                    if left:
                        self.durable[sector] = self.durable[sector][:left] + bytes(SECTOR - left)
                    else:
                        del self.durable[sector]
            self.durable_size = offset
        else:
            self.durable_size = max(self.durable_size, offset)

    def power_cut(self, rng: random.Random) -> None:
        # A sector goes to the platter as it was at some moment: it has all writes up to a number, and none after it.
        # Changes of length are a file system's own, and go in order.
        count = len(self.unsynced)
        mode = rng.choice(("none", "all", "prefix", "subset", "subset"))
        common = {"none": 0, "all": count}.get(mode, rng.randrange(count + 1))
        until: dict[int, int] = {}
        for number, operation in enumerate(self.unsynced):
            kind, offset, data = operation
            if kind != "write" or mode != "subset":
                if number < common:
                    self.persist(operation, None)
                continue
            keep = set()
            for sector in range(offset // SECTOR, (offset + len(data) + SECTOR - 1) // SECTOR):
                if sector not in until:
                    until[sector] = rng.choice((0, count, rng.randrange(count + 1)))
                if number < until[sector]:
                    keep.add(sector)
            self.persist(operation, keep)
        self.unsynced = []
        self.locks = {}
        self.images = []
        self.capacity = 0
        self.size = 0
        self.reserve(self.durable_size)
        self.size = self.durable_size
        for sector, data in self.durable.items():
            self.images[-1][sector * SECTOR : (sector + 1) * SECTOR] = data


class _Dir:
    """A directory: the names as seen, the names on the platter, and the changes between the two."""

    def __init__(self) -> None:
        self.names: dict[str, _Inode | _Dir] = {}
        self.durable: dict[str, _Inode | _Dir] = {}
        self.unsynced: list[list[tuple[str, _Inode | _Dir | None]]] = []

    def change(self, *changes: tuple[str, _Inode | _Dir | None]) -> None:
        """Set (or, with None, drop) names, as one atomic step."""
        self.unsynced.append(list(changes))
        _apply(self.names, list(changes))

    def flush(self) -> None:
        for changes in self.unsynced:
            _apply(self.durable, changes)
        self.unsynced = []

    def power_cut(self, rng: random.Random) -> None:
        for changes in self.unsynced[: rng.randrange(len(self.unsynced) + 1)]:
            _apply(self.durable, changes)
        self.unsynced = []
        self.names = dict(self.durable)
        for node in self.names.values():
            node.power_cut(rng)


def _apply(names: dict[str, _Inode | _Dir], changes: list[tuple[str, _Inode | _Dir | None]]) -> None:
    for name, node in changes:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class OpenFile(File):
    """A handle. Dead after a crash of the disk."""

    def __init__(self, disk: SimDisk, path: str, inode: _Inode, read_only: bool) -> None:
        self.path = path
        self._disk = disk
        self._inode = inode
        self._read_only = read_only
        self._epoch = disk.epoch
        self._open = True

    def _check(self, write: bool = False) -> None:
        if not self._open or self._epoch != self._disk.epoch or (write and self._read_only):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), self.path)

    def size(self) -> int:
        """Return the length."""
        self._check()
        return self._inode.size

    def read_at(self, length: int, offset: int) -> bytes:
        """Read what the cache shows."""
        self._check()
        self._disk.step("read", self.path)
        return self._inode.read(length, offset)

    def write_at(self, data: bytes, offset: int) -> None:
        """Write to the cache; a part of it when the power goes."""
        self._check(write=True)
        data = bytes(data)
        part = self._disk.step("write", self.path)
        self._disk.need(max(0, offset + len(data) - self._inode.size), self.path)
        if part < 1.0:
            stop = int(offset + part * len(data)) // SECTOR * SECTOR
            data = data[: max(0, stop - offset)]
        if data:
            self._inode.put(data, offset)
            if self._disk.lose_writes == 0:
                self._inode.unsynced.append(("write", offset, data))
            else:
                self._disk.lose_writes -= 1
        self._disk.finish(part)

    def sync(self) -> None:
        """Bring the file to the platter."""
        self._check(write=True)
        try:
            part = self._disk.step("sync", self.path)
        except OSError:
            self._inode.unsynced = []  # the pages are marked clean although the platter never saw them
            raise
        if part >= 0.5:
            self._inode.flush()
        self._disk.finish(part)

    def allocate(self, length: int) -> None:
        """Grow the file with zeros."""
        self._check(write=True)
        part = self._disk.step("allocate", self.path)
        if part >= 0.5 and length > self._inode.size:
            self._disk.need(length - self._inode.size, self.path)
            self._inode.unsynced.append(("allocate", length, b""))
            self._inode.resize(length)
        self._disk.finish(part)

    def truncate(self, length: int) -> None:
        """Set the length."""
        self._check(write=True)
        part = self._disk.step("truncate", self.path)
        if part >= 0.5:
            self._disk.need(length - self._inode.size, self.path)
            self._inode.unsynced.append(("resize", length, b""))
            self._inode.resize(length)
        self._disk.finish(part)

    def lock(self, kind: int, wait: bool) -> bool:
        """Take a lock, if no living handle has one that conflicts."""
        self._check()
        shared = kind == LOCK_FLOCK_SHARED
        space = 1 if shared else kind
        for holder, (held, handle) in self._inode.locks.items():
            if holder == id(self) or not handle._open or handle._epoch != self._disk.epoch:
                continue
            if (1 if held == LOCK_FLOCK_SHARED else held) == space and not (shared and held == LOCK_FLOCK_SHARED):
                if wait:
                    raise AssertionError(f"{self.path}: would wait for a lock for ever")
                return False
        self._inode.locks[id(self)] = (kind, self)
        return True

    def map(self) -> memoryview:
        """Return a view of the cache."""
        self._check()
        if self._inode.size == 0:
            return memoryview(b"")
        self._inode.reserve(self._inode.size)
        return memoryview(self._inode.images[-1])[: self._inode.size].toreadonly()

    def close(self) -> None:
        """Close, and unlock."""
        self._open = False
        self._inode.locks.pop(id(self), None)


class SimDisk(Disk):
    """The file system. `operations` counts every changing operation since the start; reads are not counted."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.epoch = 0
        self.operations = 0
        self.capacity: int | None = None
        self.lose_writes = 0
        self.history: deque[tuple[str, str]] = deque(maxlen=1000)  # the latest changing operations, to read when lost
        self._root = _Dir()
        self._stop_at: int | None = None
        self._faults: list[list[object]] = []

    # -- faults

    def fail(self, kind: str, error: int = errno.EIO, after: int = 0, path: str = "", times: int = 1) -> None:
        """Raise OSError(error) at an operation of this kind ("read", "write", "sync", "allocate", "truncate", "open",
        "rename", "remove", "sync_dir") on a path that contains `path`, letting `after` of them pass first."""
        self._faults.append([kind, error, after, path, times])

    def stop_at(self, operation: int | None) -> None:
        """Raise PowerCut inside the changing operation with this number (1 is the next). The test then calls crash."""
        self._stop_at = None if operation is None else self.operations + operation

    def crash(self, rng: random.Random | None = None) -> None:
        """Cut the power, then bring the machine up again."""
        self.epoch += 1
        self._stop_at = None
        self._faults = []
        self._root.power_cut(rng or self.rng)

    def kill(self) -> None:
        """End the processes alone: handles are dead, locks free, and nothing is lost."""
        self.epoch += 1
        self._stop_at = None
        self._faults = []

    def no_faults(self) -> None:
        """Forget all planned faults."""
        self._stop_at = None
        self._faults = []

    def durable_copy(self, path: str) -> SimDisk:
        """Return a disk with what the platter holds of the files in a directory."""
        copy = SimDisk()
        copy.make_dirs(path)
        try:
            names = self._durable_dir(path).durable
        except OSError:
            return copy
        for name, node in names.items():
            if isinstance(node, _Inode):
                image = bytearray(node.durable_size)
                for sector, data in node.durable.items():
                    low = sector * SECTOR
                    image[low : low + SECTOR] = data[: max(0, min(SECTOR, node.durable_size - low))]
                copy.write(f"{path}/{name}", bytes(image[: node.durable_size]))
        return copy

    def _durable_dir(self, path: str) -> _Dir:
        folder = self._root
        for name in _split(path):
            node = folder.durable.get(name)
            if not isinstance(node, _Dir):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            folder = node
        return folder

    def flip(self, path: str, offset: int, bit: int = 0) -> None:
        """Turn one bit over, in the cache and on the platter."""
        inode = self._file(path)
        value = bytes([inode.read(1, offset)[0] ^ (1 << bit)])
        inode.put(value, offset)
        inode.persist(("write", offset, value), None)

    def step(self, kind: str, path: str) -> float:
        """Account for an operation; returns how much of it takes place (1.0: all)."""
        for fault in self._faults:
            if fault[0] == kind and str(fault[3]) in path:
                if fault[2] > 0:  # type: ignore[operator]
                    fault[2] -= 1  # type: ignore[operator]
                    continue
                fault[4] -= 1  # type: ignore[operator]
                if fault[4] == 0:
                    self._faults.remove(fault)
                error = fault[1]
                assert isinstance(error, int)
                raise OSError(error, os.strerror(error), path)
        if kind == "read":
            return 1.0
        self.operations += 1
        self.history.append((kind, path))
        if self._stop_at is not None and self.operations >= self._stop_at:
            return self.rng.choice((0.0, 0.25, 0.5, 0.75, 0.999))
        return 1.0

    def finish(self, part: float) -> None:
        """Raise PowerCut when the operation was cut short."""
        if part < 1.0:
            raise PowerCut(f"operation {self.operations}")

    def need(self, more: int, path: str) -> None:
        """Raise ENOSPC when the files would outgrow the capacity."""
        if self.capacity is not None and more > 0 and self.used() + more > self.capacity:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def used(self) -> int:
        """Return the sum of all file lengths."""
        return _used(self._root)

    # -- the port

    def open(self, path: str, create: bool = False, read_only: bool = False, mode: int = 0o600) -> File:
        """Open or make a file."""
        folder, name = self._folder(path)
        node = folder.names.get(name)
        if node is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            part = self.step("open", path)
            node = _Inode(mode)
            if part >= 0.5:
                folder.change((name, node))
            self.finish(part)
        if isinstance(node, _Dir):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return OpenFile(self, path, node, read_only)

    def make_dirs(self, path: str, mode: int = 0o700) -> None:  # noqa: ARG002
        """Make a directory and its parents."""
        folder = self._root
        for name in _split(path):
            node = folder.names.get(name)
            if node is None:
                part = self.step("make_dir", path)
                node = _Dir()
                if part >= 0.5:
                    folder.change((name, node))
                self.finish(part)
            if not isinstance(node, _Dir):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            folder = node

    def list_dir(self, path: str) -> list[str]:
        """Return the names."""
        return sorted(self._dir(path).names)

    def exists(self, path: str) -> bool:
        """Tell whether there is such a name."""
        try:
            folder, name = self._folder(path)
        except OSError:
            return False
        return name == "" or name in folder.names

    def mode(self, path: str) -> int:
        """Return the permission bits."""
        folder, name = self._folder(path)
        node = folder.names[name]
        return node.mode if isinstance(node, _Inode) else 0o700

    def rename(self, old: str, new: str) -> None:
        """Rename, durably after sync_dir."""
        source, old_name = self._folder(old)
        target, new_name = self._folder(new)
        node = source.names.get(old_name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), old)
        there = target.names.get(new_name)
        if isinstance(there, _Dir) and there.names:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), new)
        part = self.step("rename", new)
        if part >= 0.5:
            if source is target:
                source.change((old_name, None), (new_name, node))
            else:
                target.change((new_name, node))
                source.change((old_name, None))
        self.finish(part)

    def remove(self, path: str) -> None:
        """Remove a file."""
        folder, name = self._folder(path)
        if not isinstance(folder.names.get(name), _Inode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        part = self.step("remove", path)
        if part >= 0.5:
            folder.change((name, None))
        self.finish(part)

    def remove_tree(self, path: str) -> None:
        """Remove a directory."""
        folder, name = self._folder(path)
        if name in folder.names:
            part = self.step("remove", path)
            if part >= 0.5:
                folder.change((name, None))
            self.finish(part)

    def sync_dir(self, path: str) -> None:
        """Bring the names to the platter."""
        folder = self._dir(path)
        part = self.step("sync_dir", path)
        if part >= 0.5:
            folder.flush()
        self.finish(part)

    # -- for tests

    def content(self, path: str) -> bytes:
        """Return what the cache shows."""
        inode = self._file(path)
        return inode.read(inode.size, 0)

    def write(self, path: str, data: bytes) -> None:
        """Replace a file's content, durably, without counting it as an operation."""
        folder, name = self._folder(path)
        inode = _Inode(0o600)
        inode.put(data, 0) if data else None
        inode.persist(("write", 0, data), None)
        folder.names[name] = folder.durable[name] = inode

    def _file(self, path: str) -> _Inode:
        folder, name = self._folder(path)
        node = folder.names.get(name)
        if not isinstance(node, _Inode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return node

    def _dir(self, path: str) -> _Dir:
        folder = self._root
        for name in _split(path):
            node = folder.names.get(name)
            if not isinstance(node, _Dir):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            folder = node
        return folder

    def _folder(self, path: str) -> tuple[_Dir, str]:
        names = _split(path)
        if not names:
            return self._root, ""
        return self._dir("/".join(names[:-1])), names[-1]


def _split(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _used(folder: _Dir) -> int:
    return sum(_used(node) if isinstance(node, _Dir) else node.size for node in folder.names.values())
