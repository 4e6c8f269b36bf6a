"""Copying a state into a fresh file without gaps: defragmentation.

Contract: reads a pinned state only, so it may run in slices or in the worker while commits go on. The copy has the same
buckets, pairs and sequences, leaf pages filled to `fill`, no free pages and transaction ids 2 and 3 (0 and 1 are those
of a file that was never used). It is durable when `finish` returns; the caller renames it into place and opens it.
Memory is bounded by a few megabytes and one leaf page of the source, since pages are written as they fill, level by
level from below.

    copy = Compactor(read_tx, disk, path)
    while copy.step(1000): ...
    copy.finish()

Entries committed after the pinned state are not in the copy; bringing them over is the caller's part.
"""

from __future__ import annotations

from typing import Final

from quorate.ports import LOCK_FLOCK, Disk, File
from quorate.storage.bolt.edit import Editor, Node, inline_page
from quorate.storage.bolt.freelist import Freelist
from quorate.storage.bolt.page import BUCKET, BUCKET_FLAG, NO_FREELIST, Meta
from quorate.storage.bolt.tree import NO_PAGE, Scan, Tree, open_bucket
from quorate.storage.bolt.tx import ReadTx, write_images

COMPACT_FILL: Final = 0.9

_LEAF_BATCH: Final = 64 << 10  # bytes that gather before leaf pages are cut
_BRANCH_BATCH: Final = 1024  # entries that gather before branch pages are cut
_KEEP: Final = 5  # entries that a cut leaves for the next page, so that it can be cut well
_WRITE_BATCH: Final = 1 << 20  # bytes of pages that gather before they are written


class _Loader:
    """Builds one bucket from ascending entries. `levels[0]` gathers leaf entries, the others those of branch pages."""

    def __init__(self, editor: Editor, fill: float) -> None:
        self.editor = editor
        self.fill = fill
        self.levels: list[Node] = [Node(True)]
        self.gathered = 0

    def add(self, keys: list[bytes], values: list[bytes]) -> None:
        """Take the next pairs."""
        leaf = self.levels[0]
        if leaf.flags:
            leaf.flags += [0] * len(keys)
        leaf.keys += keys
        leaf.values += values
        self._gather(sum(map(len, keys)) + sum(map(len, values)))

    def add_bucket(self, name: bytes, value: bytes) -> None:
        """Take the next entry, a bucket."""
        leaf = self.levels[0]
        leaf.flags = (leaf.flags or [0] * len(leaf.keys)) + [BUCKET_FLAG]
        leaf.keys.append(name)
        leaf.values.append(value)
        self._gather(len(name) + len(value))

    def _gather(self, size: int) -> None:
        self.gathered += size
        if self.gathered > _LEAF_BATCH:
            self.gathered = 0
            self._write_full(0)

    def _write_full(self, level: int) -> None:
        """Write the full pages of a level, and of those above where they gathered enough."""
        node = self.levels[level]
        if level + 1 == len(self.levels):
            self.levels.append(Node(False))
        above = self.levels[level + 1]
        written = self.editor.cut(node, self.fill, above, _KEEP)
        del node.keys[:written], node.values[:written], node.flags[:written], node.children[:written]
        if len(above.keys) > _BRANCH_BATCH:
            self._write_full(level + 1)

    def finish(self, sequence: int) -> bytes:
        """Return the bucket's value for its parent."""
        leaf = self.levels[0]
        if len(self.levels) == 1 and not leaf.flags and not leaf.is_larger(self.editor.page_size // 4):
            return BUCKET.pack(NO_PAGE, sequence) + inline_page(leaf)
        return BUCKET.pack(self.finish_root(), sequence)

    def finish_root(self) -> int:
        """Write what is left and return the root page."""
        for level in range(len(self.levels) - 1):
            if self.levels[level].keys:
                self.editor.cut(self.levels[level], self.fill, self.levels[level + 1], 0)
        return self.editor.plant(self.levels[-1], self.fill)


class _Frame:
    """A bucket that is being copied: how far, and where to."""

    def __init__(self, name: bytes, tree: Tree, loader: _Loader) -> None:
        self.name = name
        self.tree = tree
        self.scan = Scan(tree, b"", None)
        self.loader = loader
        self.at = 0  # the next entry of the scan's leaf


class Compactor:
    """The copy under way. Errors leave a useless file behind, for the caller to remove after `abort`."""

    def __init__(self, source: ReadTx, disk: Disk, path: str, fill: float = COMPACT_FILL) -> None:
        self._fill = fill
        self._editor = Editor(source.pages, Freelist(bytearray(2)), 1, False)
        self._root = 0
        self._frames = [_Frame(b"", source.root, _Loader(self._editor, fill))]
        self._sequence = source.root.sequence
        self._file: File = disk.open(path, create=True, mode=0o600)
        self._file.lock(LOCK_FLOCK, False)
        self._file.truncate(0)

    def step(self, entries: int) -> bool:
        """Copy at least so many entries more, or all that are left; True when there are more."""
        while self._frames and entries > 0:
            frame = self._frames[-1]
            scan = frame.scan
            if frame.at == len(scan.keys):
                frame.at = 0
                if not scan.next_leaf():
                    self._leave(frame)
            elif not scan.flags:
                frame.loader.add(scan.keys, scan.values)
                frame.at = len(scan.keys)
                entries -= frame.at
            else:
                self._copy_entry(frame)
                entries -= 1
            if len(self._editor.images) * self._editor.page_size >= _WRITE_BATCH:
                self._flush()
        return bool(self._frames)

    def finish(self) -> None:
        """Make the copy durable and close it. Every step must have been taken."""
        assert not self._frames, "the copy is not complete"
        self._flush()
        self._file.sync()
        size = self._editor.page_size
        high_water = len(self._editor.freelist.state)
        meta = Meta(size, self._root, self._sequence, NO_FREELIST, high_water, 3)
        self._file.write_at(meta.page(0, 2) + meta.page(1, 3), 0)
        self._file.sync()
        self._file.close()

    def abort(self) -> None:
        """Close the unfinished file."""
        self._frames.clear()
        self._file.close()

    def _copy_entry(self, frame: _Frame) -> None:
        """Copy one entry of a leaf page that has buckets; a bucket becomes the next thing to copy."""
        scan = frame.scan
        at = frame.at
        frame.at += 1
        if scan.flags[at] & BUCKET_FLAG:
            tree = open_bucket(frame.tree.pages, scan.values[at], scan.base)
            self._frames.append(_Frame(scan.keys[at], tree, _Loader(self._editor, self._fill)))
        else:
            frame.loader.add([scan.keys[at]], [scan.values[at]])

    def _leave(self, frame: _Frame) -> None:
        self._frames.pop()
        if self._frames:
            self._frames[-1].loader.add_bucket(frame.name, frame.loader.finish(frame.tree.sequence))
        else:
            self._root = frame.loader.finish_root()

    def _flush(self) -> None:
        write_images(self._file, self._editor.images, self._editor.page_size)
        self._editor.images.clear()
        self._editor.taken.clear()
