"""Transactions: many that read, one at a time that writes.

Contract: a `ReadTx` pins one committed state. Its pages are not used again until it is closed, which must happen on the
loop; reading it may happen in any thread. A `WriteTx` gathers changes in memory and reads through to the state it
began from; `prepare` turns them into a `Commit`, which the worker writes. Values are taken over by reference, so the
caller must not pass a buffer that changes later (bytes cannot).

A write transaction ends with `prepare` or `rollback`. After `prepare` the next one can begin only when the Db has
finished the commit; until then all reads see the old state.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from quorate.ports import File
from quorate.storage.bolt.edit import DEFAULT_FILL, Editor, Node, inline_page
from quorate.storage.bolt.freelist import Freelist
from quorate.storage.bolt.page import (
    BUCKET,
    BUCKET_FLAG,
    HEADER,
    LEAF,
    MAX_KEY_SIZE,
    MAX_VALUE_SIZE,
    NO_FREELIST,
    Meta,
    Pages,
    read_freelist,
)
from quorate.storage.bolt.tree import NO_PAGE, Tree

EMPTY_LEAF: Final = HEADER.pack(0, LEAF, 0, 0)
GROWTH_STEP: Final = 16 << 20  # bytes that the file grows beyond what is needed (bbolt >= 1.3.7: AllocSize)
_WRITE_LIMIT: Final = 4 << 20  # bytes of adjacent pages that are joined into one write


class Readers:
    """The states that open read transactions show: how many by transaction id."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.total = 0

    def enter(self, txid: int) -> None:
        """Pin a state."""
        self.counts[txid] = self.counts.get(txid, 0) + 1
        self.total += 1

    def leave(self, txid: int) -> None:
        """Take back one pin."""
        self.total -= 1
        left = self.counts[txid] - 1
        if left:
            self.counts[txid] = left
        else:
            del self.counts[txid]


class ReadTx:
    """A pinned view of one committed state."""

    def __init__(self, pages: Pages, meta: Meta, readers: Readers) -> None:
        self.pages = pages
        self.meta = meta
        self.txid = meta.txid
        self.root = Tree(pages, meta.root, meta.sequence, b"", 0)
        self._buckets: dict[bytes, Tree] = {}
        self._readers = readers
        self._open = True
        readers.enter(meta.txid)

    @property
    def size(self) -> int:
        """The length in bytes of this state, which is also the length of `stream`."""
        return self.meta.high_water * self.meta.page_size

    def bucket(self, name: bytes) -> Tree | None:
        """Return a top-level bucket."""
        found = self._buckets.get(name)
        if found is None:
            found = self.root.bucket(name)
            if found is not None:
                self._buckets[name] = found
        return found

    def buckets(self) -> Iterator[tuple[bytes, Tree]]:
        """Yield the top-level buckets by name."""
        return self.root.buckets()

    def stream(self, chunk_size: int = 1 << 20) -> Iterator[bytes]:
        """Yield the state as the bytes of a file (bbolt: Tx.WriteTo): both metas, then all pages, in chunks.

        Both meta pages state this root, the second one under the transaction before, so the first one counts.
        """
        size = self.meta.page_size
        yield self.meta.page(0, self.txid) + self.meta.page(1, self.txid - 1)
        view = self.pages.view
        for at in range(2 * size, self.size, chunk_size):
            yield view[at : min(at + chunk_size, self.size)].tobytes()

    def close(self) -> None:
        """Give the pages free; harmless when done already. The views that came from here must not be used again."""
        if self._open:
            self._open = False
            self._readers.leave(self.txid)


class Commit:
    """The outcome of a write transaction: what is to be written, immutable, and how.

    `write` runs in the worker. When it raises, nobody knows what is on the disk: it must never be tried again.
    """

    def __init__(self, file: File, meta: Meta, images: list[tuple[int, bytes]], grow_to: int) -> None:
        self.file = file
        self.meta = meta
        self.images = images  # by page id
        self.grow_to = grow_to  # length in bytes; 0: the file is long enough
        self.started = False
        self.written = False

    def write(self) -> None:
        """Make the pages durable, then the meta page that names them. Raises OSError."""
        assert not self.started, "a commit is written once"
        self.started = True
        if self.grow_to:
            # The sync below makes the length durable too, before any meta needs it.
            self.file.truncate(self.grow_to)
        write_images(self.file, self.images, self.meta.page_size)
        if self.images or self.grow_to:
            self.file.sync()
        number = self.meta.txid % 2
        self.file.write_at(self.meta.page(number, self.meta.txid), number * self.meta.page_size)
        self.file.sync()
        self.written = True


def write_images(file: File, images: list[tuple[int, bytes]], page_size: int) -> None:
    """Write page images, which ascend by page id; adjacent ones in one write."""
    run: list[bytes] = []
    length = 0
    begin = 0
    for pgid, image in images:
        at = pgid * page_size
        if length and (at != begin + length or length >= _WRITE_LIMIT):
            file.write_at(b"".join(run), begin)
            length = 0
            run = []
        if not length:
            begin = at
        run.append(image)
        length += len(image)
    if length:
        file.write_at(b"".join(run), begin)


class Bucket:
    """A bucket that is being written: what is in the file, and the changes over it."""

    def __init__(self, pages: Pages, tree: Tree | None) -> None:
        self.fill = DEFAULT_FILL  # how full a page is made when it is cut; 0.9 suits ascending keys
        self._pages = pages
        self._tree = tree  # None: a new bucket
        self._sequence = tree.sequence if tree is not None else 0
        self._resequenced = False
        # The changes: None deletes. Ascending appends stay apart, above all other changes.
        self._changes: dict[bytes, bytes | None] = {}
        self._highest = b""  # no change is above it
        self._tail_keys: list[bytes] = []
        self._tail_values: list[bytes | None] = []
        # The buckets in this one that were opened, created or deleted (None).
        self._children: dict[bytes, Bucket | None] = {}
        self._deleted: list[Tree] = []

    @property
    def sequence(self) -> int:
        """The bucket's counter (etcd leaves it 0)."""
        return self._sequence

    @sequence.setter
    def sequence(self, value: int) -> None:
        self._sequence = value
        self._resequenced = True

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key of 1 to 32768 bytes. A key that names a bucket makes `prepare` raise ValueError."""
        if not key or len(key) > MAX_KEY_SIZE or len(value) > MAX_VALUE_SIZE:
            raise ValueError("key required" if not key else "key or value too large")
        self._change(key, value)

    def delete(self, key: bytes) -> None:
        """Remove a key; no change when it is absent. A key that names a bucket makes `prepare` raise ValueError."""
        self._change(key, None)

    def append(self, keys: list[bytes], values: list[bytes]) -> None:
        """Put many keys: the same as `put` for each, but quick when they ascend and lie above all changes so far."""
        assert len(keys) == len(values), f"{len(keys)} keys with {len(values)} values"
        above = self._tail_keys[-1] if self._tail_keys else self._highest
        for key in keys:
            if key <= above or len(key) > MAX_KEY_SIZE:
                for index in range(len(keys)):
                    self.put(keys[index], values[index])
                return
            above = key
        self._tail_keys += keys
        self._tail_values += values

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key with the changes so far; None when there is none or it names a bucket."""
        if key in self._changes:
            return self._changes[key]
        if self._tail_keys and key >= self._tail_keys[0]:
            place = bisect_left(self._tail_keys, key)
            if place < len(self._tail_keys) and self._tail_keys[place] == key:
                return self._tail_values[place]
        if key in self._children or self._tree is None:
            return None
        return self._tree.get(key)

    def bucket(self, name: bytes) -> Bucket | None:
        """Return the bucket of that name in this one."""
        if name in self._children:
            return self._children[name]
        tree = self._tree.bucket(name) if self._tree is not None else None
        if tree is None:
            return None
        child = self._children[name] = Bucket(self._pages, tree)
        return child

    def create_bucket(self, name: bytes) -> Bucket:
        """Return the bucket of that name, made if it is absent. Raises ValueError when the key has a plain value."""
        found = self.bucket(name)
        if found is not None:
            return found
        if not name or len(name) > MAX_KEY_SIZE:
            raise ValueError("bucket name required" if not name else "key too large")
        if self.get(name) is not None:
            raise ValueError(f"incompatible value: {name!r} is not a bucket")
        self._changes.pop(name, None)  # the bucket takes the place of a deleted value
        child = self._children[name] = Bucket(self._pages, None)
        return child

    def delete_bucket(self, name: bytes) -> bool:
        """Remove a bucket with all in it; False when there is none."""
        child = self.bucket(name)
        if child is None:
            return False
        self._children[name] = None
        if child._tree is not None:
            # What was deleted from the child before is found through its tree in the file too.
            self._deleted.append(child._tree)
        return True

    def spill(self, editor: Editor) -> bytes | None:
        """Write the changes as pages; return the bucket's value for its parent, None when nothing changed."""
        tree = self._tree or Tree(self._pages, NO_PAGE, 0, EMPTY_LEAF, 0)
        node = self._apply(editor, tree)
        if node is None:
            if self._tree is not None and not self._resequenced:
                return None
            return BUCKET.pack(tree.root, self._sequence) + tree.inline
        if node.leaf and not node.flags and not node.is_larger(editor.page_size // 4):
            return BUCKET.pack(NO_PAGE, self._sequence) + inline_page(node)
        return BUCKET.pack(editor.plant(node, self.fill), self._sequence)

    def spill_root(self, editor: Editor) -> int:
        """Write the changes of the root bucket, which is never inline; return its root page."""
        assert self._tree is not None
        node = self._apply(editor, self._tree)
        return self._tree.root if node is None else editor.plant(node, self.fill)

    def _apply(self, editor: Editor, tree: Tree) -> Node | None:
        headers = self._spill_children(editor) if self._children else {}
        for deleted in self._deleted:
            editor.release_tree(deleted)
        keys = sorted(self._changes)
        values = [self._changes[key] for key in keys]
        keys += self._tail_keys
        values += self._tail_values
        return editor.apply(tree, keys, values, headers, self.fill) if keys else None

    def _spill_children(self, editor: Editor) -> dict[bytes, int]:
        """Make the changes of the buckets in this one changes of their headers; return the flags of those."""
        self._fold()
        headers: dict[bytes, int] = {}
        for name in sorted(self._children):
            child = self._children[name]
            if child is None:
                headers[name] = 0
                self._changes.setdefault(name, None)
                continue
            if name in self._changes:
                raise ValueError(f"incompatible value: {name!r} is a bucket")
            value = child.spill(editor)
            if value is not None:
                headers[name] = BUCKET_FLAG
                self._changes[name] = value
        return headers

    def _change(self, key: bytes, value: bytes | None) -> None:
        if self._tail_keys and key >= self._tail_keys[0]:
            self._fold()
        self._changes[key] = value
        if key > self._highest:
            self._highest = key

    def _fold(self) -> None:
        """Make the ascending appends ordinary changes."""
        if self._tail_keys:
            self._changes.update(zip(self._tail_keys, self._tail_values, strict=True))
            self._highest = self._tail_keys[-1]
            self._tail_keys = []
            self._tail_values = []


class WriteTx:
    """The one write transaction. Ends with `prepare` or `rollback`."""

    def __init__(self, pages: Pages, meta: Meta, freelist: Freelist, readers: Readers, file: File, size: int) -> None:
        self.txid = meta.txid + 1
        self.ended = False
        self.commit: Commit | None = None  # what `prepare` made
        self._pages = pages
        self._meta = meta
        self._freelist = freelist
        self._readers = readers
        self._file = file
        self._file_size = size
        self._root = Bucket(pages, Tree(pages, meta.root, meta.sequence, b"", 0))

    def bucket(self, name: bytes) -> Bucket | None:
        """Return a top-level bucket."""
        return self._root.bucket(name)

    def create_bucket(self, name: bytes) -> Bucket:
        """Return a top-level bucket, made if it is absent."""
        return self._root.create_bucket(name)

    def delete_bucket(self, name: bytes) -> bool:
        """Remove a top-level bucket with all in it; False when there is none."""
        return self._root.delete_bucket(name)

    def prepare(self) -> Commit:
        """Build all new pages and end the transaction. Raises ValueError for a put to, or a delete of, a bucket's key.

        After an error the Db is as if the transaction had been rolled back.
        """
        assert not self.ended, "the write transaction has ended"
        self.ended = True
        old = self._meta
        freelist = self._freelist
        editor = Editor(self._pages, freelist, self.txid, self._readers.total > 0)
        done = False
        try:
            root = self._root.spill_root(editor)
            if old.freelist != NO_FREELIST:
                # What is free is not kept in the file any more; the old list is in use until this commit is done.
                editor.release_run(old.freelist, read_freelist(self._pages, old.freelist)[1])
            done = True
        finally:
            if not done:
                freelist.undo(self.txid, editor.taken, old.high_water)
        editor.images.sort()
        high_water = len(freelist.state)
        meta = Meta(old.page_size, root, self._root.sequence, NO_FREELIST, high_water, self.txid)
        needed = (high_water + 1) * old.page_size
        grows = high_water > old.high_water and needed > self._file_size
        self.commit = Commit(self._file, meta, editor.images, needed + GROWTH_STEP if grows else 0)
        return self.commit

    def rollback(self) -> None:
        """Drop all changes; harmless after the end."""
        self.ended = True
