"""Disks in memory for the tests of this folder, and helpers that compare a whole file with a model."""

from __future__ import annotations

import mmap
import random
import struct

from quorate.ports import Disk, File, NullLog
from quorate.storage.bolt import Bucket, Commit, Db, Scan, Tree, WriteTx

CAPACITY = 256 << 20  # of a file; the machine's memory is used only where something was written


class MemoryFile(File):
    """A file in memory that notes what is done to it."""

    def __init__(self, path: str, content: bytes = b"", length: int | None = None) -> None:
        self.path = path
        self.buffer = mmap.mmap(-1, CAPACITY)
        self.buffer[: len(content)] = content
        self.length = len(content) if length is None else length
        self.operations: list[tuple[str, int, bytes]] = []
        self.fail_at = -1  # the operation that raises
        self.locked = False

    def _note(self, kind: str, number: int, data: bytes = b"") -> None:
        if len(self.operations) == self.fail_at:
            raise OSError(5, "Input/output error", self.path)
        self.operations.append((kind, number, data))

    def size(self) -> int:
        return self.length

    def read_at(self, length: int, offset: int) -> bytes:
        return self.buffer[offset : max(offset, min(offset + length, self.length))]

    def write_at(self, data: bytes, offset: int) -> None:
        self._note("write", offset, data)
        self.buffer[offset : offset + len(data)] = data
        self.length = max(self.length, offset + len(data))

    def sync(self) -> None:
        self._note("sync", 0)

    def truncate(self, length: int) -> None:
        self._note("truncate", length)
        if length < self.length:
            self.buffer[length : self.length] = bytes(self.length - length)
        self.length = length

    def lock(self, kind: int, wait: bool) -> bool:
        if self.locked:
            return False
        self.locked = True
        return True

    def map(self) -> memoryview:
        return memoryview(self.buffer).toreadonly()[: self.length]

    def close(self) -> None:
        self.locked = False

    def content(self) -> bytes:
        return self.buffer[: self.length]


class MemoryDisk(Disk):
    def __init__(self) -> None:
        self.files: dict[str, MemoryFile] = {}

    def open(self, path: str, create: bool = False, read_only: bool = False, mode: int = 0o600) -> File:
        if path not in self.files:
            if not create:
                raise FileNotFoundError(2, "No such file or directory", path)
            self.files[path] = MemoryFile(path)
        return self.files[path]

    def put(self, path: str, content: bytes, length: int | None = None) -> MemoryFile:
        self.files[path] = MemoryFile(path, content, length)
        return self.files[path]

    def exists(self, path: str) -> bool:
        return path in self.files


PATH = "db"


def new_db(page_size: int = 1024) -> tuple[MemoryDisk, Db]:
    disk = MemoryDisk()
    return disk, Db.open(disk, PATH, NullLog(), page_size=page_size)


def reopen(disk: MemoryDisk, db: Db, read_only: bool = False) -> Db:
    db.close()
    return Db.open(disk, PATH, NullLog(), read_only=read_only)


def open_bytes(content: bytes, read_only: bool = False, length: int | None = None) -> Db:
    disk = MemoryDisk()
    disk.put(PATH, content, length)
    return Db.open(disk, PATH, NullLog(), read_only=read_only)


def commit(db: Db, tx: WriteTx) -> Commit:
    done = tx.prepare()
    done.write()
    db.finish(done)
    return done


def assert_clean(db: Db) -> None:
    assert list(db.check()) == []


# A model of a bucket: its entries by key, bytes or Model.
class Model:
    def __init__(self) -> None:
        self.sequence = 0
        self.entries: dict[bytes, bytes | Model] = {}

    def copy(self) -> Model:
        twin = Model()
        twin.sequence = self.sequence
        twin.entries = {k: v.copy() if isinstance(v, Model) else v for k, v in self.entries.items()}
        return twin

    def plain(self) -> object:
        return self.sequence, [(k, v.plain() if isinstance(v, Model) else v) for k, v in sorted(self.entries.items())]


def plain(tree: Tree) -> object:
    """Return a bucket of a file in the form of Model.plain."""
    found: list[tuple[bytes, object]] = []
    children = list(tree.buckets())
    scan = Scan(tree, b"", None)
    while scan.next_leaf():
        for index, key in enumerate(scan.keys):
            if scan.flags and scan.flags[index] & 1:
                name, child = children.pop(0)
                assert name == key
                found.append((key, plain(child)))
            else:
                found.append((key, scan.values[index]))
    return tree.sequence, found


def plain_db(db: Db) -> object:
    read = db.begin_read()
    try:
        return plain(read.root)
    finally:
        read.close()


def revision(number: int) -> bytes:
    return struct.pack(">Q", number) + b"_" + bytes(8)


def fill_revisions(bucket: Bucket, first: int, count: int, size: int = 300) -> None:
    bucket.fill = 0.9
    keys = [revision(number) for number in range(first, first + count)]
    bucket.append(keys, [value_of(number, size) for number in range(first, first + count)])


def value_of(number: int, size: int) -> bytes:
    return (b"%d," % number * (size // 2 + 1))[:size]


def sample_db(page_size: int = 1024, seed: int = 1) -> tuple[MemoryDisk, Db]:
    """Return a file with every kind of page: branches, overflow, nested and inline buckets, free pages."""
    disk, db = new_db(page_size)
    chance = random.Random(seed)
    tx = db.begin_write()
    fill_revisions(tx.create_bucket(b"key"), 2, 150, 120)
    tx.create_bucket(b"empty")
    meta = tx.create_bucket(b"meta")
    meta.put(b"consistent_index", bytes(8))
    nested = tx.create_bucket(b"nested")
    nested.put(b"plain", b"value")
    inner = nested.create_bucket(b"inner")
    inner.sequence = 7
    for number in range(60):
        inner.put(b"k%03d" % number, value_of(number, chance.randrange(60)))
    nested.create_bucket(b"inline").put(b"a", b"b")
    big = tx.create_bucket(b"big")
    big.put(b"one", value_of(1, 5000))
    big.put(b"two", value_of(2, 100))
    commit(db, tx)
    tx = db.begin_write()
    key = tx.bucket(b"key")
    assert key is not None
    for number in range(2, 120, 3):
        key.delete(revision(number))
    fill_revisions(key, 152, 20, 120)
    commit(db, tx)
    return disk, db
