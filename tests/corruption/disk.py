"""A disk in memory, quick to fill and to copy: what a case damages and a member then starts on."""

from __future__ import annotations

import mmap

from quorate.ports import Disk, File

CAPACITY = 80 << 20  # of a file; memory is used only where something was written


class MemoryFile(File):
    def __init__(self, path: str, content: bytes = b"") -> None:
        self.path = path
        self.buffer = mmap.mmap(-1, CAPACITY)
        self.buffer[: len(content)] = content
        self.length = len(content)

    def size(self) -> int:
        return self.length

    def read_at(self, length: int, offset: int) -> bytes:
        return self.buffer[offset : max(offset, min(offset + length, self.length))]

    def write_at(self, data: bytes, offset: int) -> None:
        self.buffer[offset : offset + len(data)] = data
        self.length = max(self.length, offset + len(data))

    def sync(self) -> None:
        pass

    def allocate(self, length: int) -> None:
        pass  # as on a file system that cannot: the file just grows

    def truncate(self, length: int) -> None:
        if length < self.length:
            self.buffer[length : self.length] = bytes(self.length - length)
        self.length = length

    def lock(self, kind: int, wait: bool) -> bool:
        return True

    def map(self) -> memoryview:
        return memoryview(self.buffer).toreadonly()[: self.length]

    def close(self) -> None:
        pass


class MemoryDisk(Disk):
    """Files by path. Directories are there when something is in them, or was made."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = {path: MemoryFile(path, content) for path, content in files.items()}
        self.made: set[str] = set()

    def contents(self) -> dict[str, bytes]:
        return {path: file.buffer[: file.length] for path, file in self.files.items()}

    def open(self, path: str, create: bool = False, read_only: bool = False, mode: int = 0o600) -> File:
        if path not in self.files:
            if not create:
                raise FileNotFoundError(2, "No such file or directory", path)
            self.files[path] = MemoryFile(path)
        return self.files[path]

    def make_dirs(self, path: str, mode: int = 0o700) -> None:
        self.made.add(path)

    def list_dir(self, path: str) -> list[str]:
        return sorted({name[len(path) + 1 :].partition("/")[0] for name in self.files if name.startswith(path + "/")})

    def exists(self, path: str) -> bool:
        return path in self.files or path in self.made or bool(self.list_dir(path))

    def mode(self, path: str) -> int:
        return 0o700

    def rename(self, old: str, new: str) -> None:
        moved = {name: file for name, file in self.files.items() if name == old or name.startswith(old + "/")}
        for name, file in moved.items():
            del self.files[name]
            self.files[new + name[len(old) :]] = file
        if old in self.made:
            self.made.discard(old)
            self.made.add(new)

    def remove(self, path: str) -> None:
        if self.files.pop(path, None) is None:
            raise FileNotFoundError(2, "No such file or directory", path)

    def remove_tree(self, path: str) -> None:
        self.made.discard(path)
        for name in [name for name in self.files if name.startswith(path + "/")]:
            del self.files[name]

    def sync_dir(self, path: str) -> None:
        pass
