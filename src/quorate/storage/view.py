"""A pinned view of everything that was committed at one moment, and the hash of it.

A view shows the file alone, no open batch, and stays as it is while the database goes on, through a defragmentation
too. Pages that it shows are kept from reuse, so it has to be closed, on the loop. Whoever reads much does it in slices,
so that the loop stays free: a leaf page of `scan` at a time, or a chunk of `chunks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from google_crc32c import extend

from quorate.ports import Disk
from quorate.storage.bolt.compact import Compactor
from quorate.storage.bolt.tree import Scan
from quorate.storage.bolt.tx import ReadTx
from quorate.storage.schema import META, VOLATILE_META


class ReadView:
    """A pinned view. `closed` is called once, when it is closed."""

    def __init__(self, tx: ReadTx, closed: Callable[[], None]) -> None:
        self._tx: ReadTx = tx
        self._closed: Callable[[], None] | None = closed
        self.on_close: Callable[[], None] | None = None

    @property
    def size(self) -> int:
        """The length in bytes of what `chunks` yields."""
        return self._tx.size

    def get(self, bucket: bytes, key: bytes) -> bytes | None:
        """Return a value."""
        tree = self._tx.bucket(bucket)
        return None if tree is None else tree.get(key)

    def range(self, bucket: bytes, start: bytes, end: bytes, limit: int = 0) -> list[tuple[bytes, bytes]]:
        """Return the pairs with start <= key < end (b"": no end), ascending, at most `limit` of them (0: all)."""
        tree = self._tx.bucket(bucket)
        return [] if tree is None else tree.range(start, end or None, limit)

    def buckets(self) -> list[bytes]:
        """Return the names of all buckets, ascending."""
        return [name for name, _ in self._tx.buckets()]

    def scan(self, bucket: bytes, start: bytes = b"") -> Scan | None:
        """Return a walk through the leaf pages of a bucket, from the key `start` on."""
        tree = self._tx.bucket(bucket)
        return None if tree is None else Scan(tree, start, None)

    def last_key(self, bucket: bytes) -> bytes:
        """Return the highest key of a bucket, b"" when it is empty."""
        tree = self._tx.bucket(bucket)
        last = None if tree is None else tree.last()
        return b"" if last is None else last[0]

    def chunks(self, size: int = 32768) -> Iterator[bytes]:
        """Yield the view as the bytes of a database file, in chunks of at most `size`."""
        rest = b""
        for piece in self._tx.stream(size):
            piece = rest + piece
            for start in range(0, len(piece) - size + 1, size):
                yield piece[start : start + size]
            rest = piece[len(piece) - len(piece) % size :]
        if rest:
            yield rest

    def compactor(self, disk: Disk, path: str) -> Compactor:
        """Return a dense copy of the view in the making."""
        return Compactor(self._tx, disk, path)

    def hash(self, skip_volatile: bool = True) -> int:
        """Return the hash of all buckets, at one go: for tools. See `ViewHash`."""
        job = ViewHash(self, skip_volatile)
        while not job.step():
            pass
        return job.value

    def close(self) -> None:
        """Let go of the view; harmless when done already."""
        closed, self._closed = self._closed, None
        if closed is not None:
            self._tx.close()
            closed()
            if self.on_close is not None:
                self.on_close()


class ViewHash:
    """CRC-32C over each bucket's name, keys and values, in order (etcd: server/storage/backend Hash).

    `skip_volatile` leaves out the keys of `meta` in which members with equal data differ, as Maintenance.Hash does;
    `etcdutl snapshot status` hashes everything.
    """

    def __init__(self, view: ReadView, skip_volatile: bool) -> None:
        self.value: int = 0
        self._view: ReadView = view
        self._names: list[bytes] = view.buckets()
        self._skip: bool = skip_volatile
        self._skipping: bool = False
        self._scan: Scan | None = None
        self._next: int = 0

    def step(self) -> bool:
        """Hash one leaf page more; True when `value` is final."""
        scan = self._scan
        if scan is not None and scan.next_leaf():
            parts: list[bytes] = []
            for index, key in enumerate(scan.keys):
                if not (self._skipping and key in VOLATILE_META):
                    parts.append(key)
                    parts.append(scan.values[index])
            self.value = extend(self.value, b"".join(parts))
            return False
        if self._next == len(self._names):
            return True
        name = self._names[self._next]
        self._next += 1
        self._skipping = self._skip and name == META
        self._scan = self._view.scan(name)
        self.value = extend(self.value, name)
        return False
