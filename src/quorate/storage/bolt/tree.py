"""Reading one bucket: a B+tree of pages, or the single leaf page that lies inline in the parent's value.

Contract: a `Tree` shows one committed state and never changes; it may be read from any thread while the state is
pinned by a read transaction. Keys are compared as bytes. Nothing is cached.

`get` bisects in each page without decoding it. `Scan` is the way to read much: it decodes a leaf page at a time into
two lists. Both look only at the pages that they need, so a fault elsewhere in the file stays unseen until `check`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from quorate.storage.bolt.page import (
    BUCKET,
    BUCKET_FLAG,
    BUCKET_HEADER_SIZE,
    LEAF,
    MAX_DEPTH,
    Pages,
)

NO_PAGE: Final = 0


class Tree:
    """One bucket: `root` is its root page, or NO_PAGE with the `inline` page, which lies at byte `base` of the file."""

    def __init__(self, pages: Pages, root: int, sequence: int, inline: bytes, base: int) -> None:
        self.pages = pages
        self.root = root
        self.sequence = sequence
        self.inline = inline
        self.base = base

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key; None when there is none, or when it names a bucket."""
        page, base = self._leaf_of(key)
        pages = self.pages
        index = pages.leaf_index(page, base, key)
        if index == page[10] | page[11] << 8:
            return None
        flags, start, middle, end = pages.pair(page, base, index)
        if flags & BUCKET_FLAG or page[start:middle] != key:
            return None
        return page[middle:end]

    def bucket(self, name: bytes) -> Tree | None:
        """Return the bucket of that name within this one."""
        page, base = self._leaf_of(name)
        pages = self.pages
        index = pages.leaf_index(page, base, name)
        if index == page[10] | page[11] << 8:
            return None
        flags, start, middle, end = pages.pair(page, base, index)
        if not flags & BUCKET_FLAG or page[start:middle] != name:
            return None
        return open_bucket(pages, page[middle:end], base + middle)

    def buckets(self) -> Iterator[tuple[bytes, Tree]]:
        """Yield the buckets in this one, by name."""
        scan = Scan(self, b"", None)
        while scan.next_leaf():
            for index, flags in enumerate(scan.flags):
                if flags & BUCKET_FLAG:
                    yield scan.keys[index], open_bucket(self.pages, scan.values[index], scan.base)

    def range(self, start: bytes, end: bytes | None, limit: int = 0) -> list[tuple[bytes, bytes]]:
        """Return the pairs with start <= key < end in order, at most `limit` (0: all); buckets are left out."""
        found: list[tuple[bytes, bytes]] = []
        scan = Scan(self, start, end)
        while scan.next_leaf():
            if scan.flags:
                for index, flags in enumerate(scan.flags):
                    if not flags & BUCKET_FLAG:
                        found.append((scan.keys[index], scan.values[index]))
            else:
                found.extend(zip(scan.keys, scan.values, strict=True))
            if limit and len(found) >= limit:
                return found[:limit]
        return found

    def last(self) -> tuple[bytes, bytes] | None:
        """Return the entry with the highest key, bucket or not."""
        page, base = self._last_leaf()
        count = page[10] | page[11] << 8
        if count == 0:
            return None
        _, start, middle, end = self.pages.pair(page, base, count - 1)
        return page[start:middle], page[middle:end]

    def _last_leaf(self) -> tuple[bytes, int]:
        pgid = self.root
        if pgid == NO_PAGE:
            return self.inline, self.base
        pages = self.pages
        base = 0
        for _ in range(MAX_DEPTH):
            page = pages.load(pgid)
            base = pgid * pages.page_size
            if page[8] == LEAF:
                return page, base
            pgid = pages.child(page, base, max((page[10] | page[11] << 8) - 1, 0))
        raise pages.fault(base, f"the tree is deeper than {MAX_DEPTH} pages")

    def _leaf_of(self, key: bytes) -> tuple[bytes, int]:
        """Return the leaf page that covers the key, and its place in the file."""
        pgid = self.root
        if pgid == NO_PAGE:
            return self.inline, self.base
        pages = self.pages
        base = 0
        for _ in range(MAX_DEPTH):
            page = pages.load(pgid)
            base = pgid * pages.page_size
            if page[8] == LEAF:
                return page, base
            pgid = pages.child(page, base, pages.child_index(page, base, key))
        raise pages.fault(base, f"the tree is deeper than {MAX_DEPTH} pages")


def open_bucket(pages: Pages, value: bytes, base: int) -> Tree:
    """Return the bucket whose header (and inline page) is `value`, read at byte `base` of the file."""
    if len(value) < BUCKET_HEADER_SIZE:
        raise pages.fault(base, "a bucket's value is shorter than its header")
    root, sequence = BUCKET.unpack_from(value)
    inline = b""
    if root == NO_PAGE:
        inline = value[BUCKET_HEADER_SIZE:]
        pages.check_inline(inline, base + BUCKET_HEADER_SIZE)
    return Tree(pages, root, sequence, inline, base + BUCKET_HEADER_SIZE)


class Scan:
    """Walks the leaf pages of a bucket in key order, from `start` up to but without `end` (None: to the last).

        scan = Scan(tree, b"", None)
        while scan.next_leaf():
            for key, value in zip(scan.keys, scan.values): ...

    After `next_leaf` returned True, `keys` and `values` are fresh lists with at least one pair. `flags` is empty when
    all are plain pairs, otherwise it has one place a pair. `base` is the page's place in the file.
    """

    def __init__(self, tree: Tree, start: bytes, end: bytes | None) -> None:
        self.keys: list[bytes] = []
        self.values: list[bytes] = []
        self.flags: list[int] = []
        self.base = tree.base
        self._tree = tree
        self._pages = tree.pages
        self._start = start
        self._end = end
        self._last = b""  # the highest key so far
        self._started = False
        # The way down: the branch pages, their places in the file, and which child comes next.
        self._branches: list[bytes] = []
        self._bases: list[int] = []
        self._next: list[int] = []

    def next_leaf(self) -> bool:
        """Step to the next leaf page that has pairs of the range; False at the end."""
        while True:
            if not self._started:
                self._started = True
                page = self._tree.inline if not self._tree.root else self._descend(self._tree.root)
            else:
                pgid = self._next_child()
                if pgid < 0:
                    return False
                page = self._descend(pgid)
            if self._decode(page):
                return True

    def _next_child(self) -> int:
        """Return the page to the right of the subtree that was walked last, or -1 at the end."""
        while self._branches:
            page = self._branches[-1]
            index = self._next[-1]
            if index < page[10] | page[11] << 8:
                self._next[-1] = index + 1
                return self._pages.child(page, self._bases[-1], index)
            self._pop()
        return -1

    def _pop(self) -> None:
        self._branches.pop()
        self._bases.pop()
        self._next.pop()

    def _descend(self, pgid: int) -> bytes:
        """Return the leaf under `pgid` where the range begins, noting the way; later leaves are found from the way."""
        pages = self._pages
        for _ in range(MAX_DEPTH - len(self._next)):
            page = pages.load(pgid)
            base = self.base = pgid * pages.page_size
            if page[8] == LEAF:
                return page
            index = pages.child_index(page, base, self._start) if self._start else 0
            self._branches.append(page)
            self._bases.append(base)
            self._next.append(index + 1)
            pgid = pages.child(page, base, index)
        raise pages.fault(self.base, f"the tree is deeper than {MAX_DEPTH} pages")

    def _decode(self, page: bytes) -> bool:
        keys: list[bytes] = []
        values: list[bytes] = []
        flags: list[int] = []
        if self._pages.leaf(page, self.base, keys, values):
            flags = self._pages.leaf_flags(page)
        if keys:
            if keys[0] <= self._last:
                raise self._pages.fault(self.base, f"key {keys[0].hex()} follows {self._last.hex()}")
            self._last = keys[-1]
        if self._start and keys:
            # Only the first leaf with pairs can hold keys below the start.
            first = bisect_left(keys, self._start)
            keys, values, flags = keys[first:], values[first:], flags[first:]
            if keys:
                self._start = b""
        if self._end is not None and keys and keys[-1] >= self._end:
            last = bisect_left(keys, self._end)
            keys, values, flags = keys[:last], values[:last], flags[:last]
            while self._branches:
                self._pop()
        self.keys = keys
        self.values = values
        self.flags = flags
        return bool(keys)
