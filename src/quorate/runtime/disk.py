"""The real file system behind the `Disk` and `File` ports.

Contract: writes are complete or raise; `sync` is fdatasync and is never retried after an error (the kernel may have
dropped the dirty pages); `map` gives views that stay valid after growth and after `close`, because each view holds its
own mapping. Locks are of the two kinds that etcd uses, flock on the database and OFD record locks on WAL segments, so
that ours and etcd's keep each other out; a file system without OFD locks gets flock for both, as in etcd
(client/pkg/fileutil/lock_linux.go). Directories are made 0700, files with the mode the caller asks for, less the umask.

The methods block, and are called from the loop or from the storage thread; an `OsFile` has no state that calls change,
except `close`.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import shutil
import struct
import sys
from typing import Final

from quorate.ports import LOCK_FLOCK, LOCK_FLOCK_SHARED, LOCK_OFD, Disk, File

_WOULD_BLOCK: Final = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK)
_NO_FALLOCATE: Final = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)
# struct flock of 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid; length 0 is the whole file.
_FLOCK: Final = struct.Struct("hhqqi4x")
_HAS_OFD: Final = sys.platform == "linux" and struct.calcsize("P") == 8
_MAX_IO: Final = 0x7FFFF000  # what one read or write of Linux moves at most


class OsFile(File):
    """An open file descriptor. Every OSError of its methods names the file."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._locked = 0

    def size(self) -> int:
        """Return the length in bytes."""
        return os.fstat(self._fd).st_size

    def read_at(self, length: int, offset: int) -> bytes:
        """Return up to `length` bytes; fewer only at the end."""
        data = self._read(length, offset)
        if len(data) == length or not data:
            return data
        parts = [data]
        got = len(data)
        while got < length:
            data = self._read(length - got, offset + got)
            if not data:
                break
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def _read(self, length: int, offset: int) -> bytes:
        try:
            return os.pread(self._fd, min(length, _MAX_IO), offset)
        except OSError as error:
            error.filename = self.path
            raise

    def write_at(self, data: bytes, offset: int) -> None:
        """Write all of `data`."""
        try:
            done = os.pwrite(self._fd, data, offset)
            if done == len(data):
                return
            view = memoryview(data)
            while done < len(data):
                written = os.pwrite(self._fd, view[done : done + _MAX_IO], offset + done)
                if written == 0:
                    raise OSError(errno.EIO, "write made no progress", self.path)
                done += written
        except OSError as error:
            error.filename = self.path
            raise

    def sync(self) -> None:
        """Make data and length durable."""
        try:
            _data_sync(self._fd)
        except OSError as error:
            error.filename = self.path
            raise

    def allocate(self, length: int) -> None:
        """Reserve space up to `length`; where the file system cannot, only extend the file."""
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self._fd, 0, length)
            except OSError as error:
                if error.errno not in _NO_FALLOCATE:
                    error.filename = self.path
                    raise
            else:
                return
        if self.size() < length:
            self.truncate(length)

    def truncate(self, length: int) -> None:
        """Set the length."""
        try:
            os.ftruncate(self._fd, length)
        except OSError as error:
            error.filename = self.path
            raise

    def lock(self, kind: int, wait: bool) -> bool:
        """Take the lock; False when another holds it (never when `wait`)."""
        try:
            self._lock(kind, wait)
        except OSError as error:
            if error.errno in _WOULD_BLOCK:
                return False
            raise
        return True

    def _lock(self, kind: int, wait: bool) -> None:
        if kind == LOCK_OFD and _HAS_OFD:
            command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
            try:
                fcntl.fcntl(self._fd, command, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
            except OSError as error:
                if error.errno != errno.EINVAL:  # a kernel without OFD locks
                    raise
            else:
                self._locked = LOCK_OFD
                return
        flag = fcntl.LOCK_SH if kind == LOCK_FLOCK_SHARED else fcntl.LOCK_EX
        fcntl.flock(self._fd, flag if wait else flag | fcntl.LOCK_NB)
        self._locked = LOCK_FLOCK

    def map(self) -> memoryview:
        """Return a shared read-only mapping of the whole file."""
        size = self.size()
        if size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(self._fd, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ))

    def close(self) -> None:
        """Close and unlock. A second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            # Mappings keep a duplicate of the descriptor, and with it the lock, so it is given back by name.
            if self._locked == LOCK_OFD:
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0))
            elif self._locked:
                fcntl.flock(fd, fcntl.LOCK_UN)
        finally:
            os.close(fd)


class OsDisk(Disk):
    """The file system of the operating system."""

    def open(self, path: str, create: bool = False, read_only: bool = False, mode: int = 0o600) -> File:
        """Open a file for reading and writing, or only for reading."""
        flags = os.O_RDONLY if read_only else os.O_RDWR
        if create:
            flags |= os.O_CREAT
        return OsFile(path, os.open(path, flags | getattr(os, "O_CLOEXEC", 0), mode))

    def make_dirs(self, path: str, mode: int = 0o700) -> None:
        """Create the directory and its parents."""
        if os.path.isdir(path):
            return
        parent = os.path.dirname(path.rstrip("/"))
        if parent and parent != path:
            self.make_dirs(parent, mode)
        try:
            os.mkdir(path, mode)
        except FileExistsError:
            if not os.path.isdir(path):
                raise

    def list_dir(self, path: str) -> list[str]:
        """Return the sorted names."""
        return sorted(os.listdir(path))

    def exists(self, path: str) -> bool:
        """Tell whether there is a file or directory."""
        return os.path.lexists(path)

    def mode(self, path: str) -> int:
        """Return the permission bits."""
        return os.stat(path).st_mode & 0o7777

    def rename(self, old: str, new: str) -> None:
        """Replace `new` by `old`."""
        os.replace(old, new)

    def remove(self, path: str) -> None:
        """Remove a file."""
        os.unlink(path)

    def remove_tree(self, path: str) -> None:
        """Remove a directory and all in it, if it is there."""
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            return

    def sync_dir(self, path: str) -> None:
        """Make a directory's names durable."""
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            os.fsync(fd)
        except OSError as error:
            error.filename = path
            raise
        finally:
            os.close(fd)


def _data_sync(fd: int) -> None:
    # macOS has no fdatasync, and its fsync leaves the data in the drive's cache; F_FULLFSYNC does not.
    if sys.platform == "darwin":
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)
