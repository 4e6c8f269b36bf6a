"""The consistency check of a state: every inconsistency as a line of text, in bbolt's words where it has them.

Contract: reads everything, changes nothing, and never raises CorruptError: what cannot be read is a finding, and its
subtree is passed over (so its pages show up as unreachable too). The order is the order of the walk.

Found: pages out of bounds, of a wrong type or id, used twice, in use and free, neither; element tables that point
outside the page, or whose data overlaps, leaves gaps or trailing bytes; wrong element flags; keys that are empty, out
of order or outside what the branch page above promises; broken bucket headers; plain values beside the top-level
buckets. Not found, since the format has no checksums over pages: changed bytes in a value, in a key that stays in
order, sizes of a page's last entry that stay within the zeros around its end, a branch entry that points to an older
copy of the same subtree, and, in a file without a persisted freelist, a lost nested bucket.

Source: bbolt tx_check.go; the checks of element data are ours (every known writer packs it without gaps).
"""

from __future__ import annotations

from collections.abc import Iterator

from quorate.errors import CorruptError
from quorate.storage.bolt.page import (
    BUCKET,
    BUCKET_FLAG,
    BUCKET_HEADER_SIZE,
    ELEMENT_SIZE,
    HEADER,
    LEAF,
    MAX_KEY_SIZE,
    NO_FREELIST,
    PAGE_HEADER_SIZE,
    Meta,
    Pages,
    is_branch,
    read_freelist,
    table_of,
)
from quorate.storage.bolt.tree import NO_PAGE


def check_state(pages: Pages, meta: Meta, freed: bytearray | None) -> Iterator[str]:
    """Yield every inconsistency of a state. `freed` is nonzero for each free page; None: whatever is unreachable."""
    checker = _Checker(pages, meta)
    yield from checker.run(freed)


class _Visit:
    """A page still to be visited, and what the page above says about it."""

    def __init__(self, pgid: int, low: bytes, high: bytes | None, stack: tuple[int, ...], top: bool) -> None:
        self.pgid = pgid
        self.low = low  # no key is below it
        self.high = high  # all keys are below it
        self.stack = stack
        self.top = top  # a page of the root bucket


class _Checker:
    def __init__(self, pages: Pages, meta: Meta) -> None:
        self.pages = pages
        self.meta = meta
        self.reached = bytearray(meta.high_water)
        self.problems: list[str] = []
        self.todo: list[_Visit] = [_Visit(meta.root, b"", None, (), True)]

    def run(self, freed: bytearray | None) -> Iterator[str]:
        self._mark_fixed(freed)
        while self.todo:
            self._visit(self.todo.pop(), freed)
            yield from self.problems
            self.problems.clear()
        if freed is not None:
            for pgid in range(self.meta.high_water):
                if not self.reached[pgid] and not freed[pgid]:
                    yield f"page {pgid}: unreachable unfreed"

    def _mark_fixed(self, freed: bytearray | None) -> None:
        self.reached[0] = self.reached[1] = 1
        if self.meta.freelist == NO_FREELIST:
            return
        try:
            _, count = read_freelist(self.pages, self.meta.freelist)
        except CorruptError as error:
            self.problems.append(f"freelist: {error.text}")
            return
        for pgid in range(self.meta.freelist, self.meta.freelist + count):
            self.reached[pgid] = 1
            if freed is not None and freed[pgid]:
                self.problems.append(f"page {pgid}: reachable freed")

    def _visit(self, visit: _Visit, freed: bytearray | None) -> None:
        pgid = visit.pgid
        stack = (*visit.stack, pgid)
        if not 2 <= pgid < self.meta.high_water:
            self.problems.append(f"page {pgid}: out of bounds: {self.meta.high_water} (stack: {_ids(stack)})")
            return
        try:
            page = self.pages.load(pgid)
        except CorruptError as error:
            self.problems.append(f"page {pgid}: {error.text} (stack: {_ids(stack)})")
            return
        seen = self._reach(page, pgid, stack, freed)
        if seen:
            return
        keys = self._elements(page, f"page {pgid}")
        if keys is None:
            return
        self._order(keys, visit, is_branch(page))
        if is_branch(page):
            self._branch(page, keys, visit, stack)
        else:
            self._leaf(page, keys, visit, stack)

    def _reach(self, page: bytes, pgid: int, stack: tuple[int, ...], freed: bytearray | None) -> bool:
        """Note that a page and its overflow are in use; True when they were already."""
        seen = False
        overflow: int = HEADER.unpack_from(page)[3]
        for used in range(pgid, pgid + overflow + 1):
            if self.reached[used]:
                self.problems.append(f"page {used}: multiple references (stack: {_ids(stack)})")
                seen = True
            self.reached[used] = 1
            if freed is not None and freed[used]:
                self.problems.append(f"page {used}: reachable freed")
        return seen

    def _elements(self, page: bytes, name: str) -> list[bytes] | None:
        """Check the element table of a page, or of an inline one; return the keys, or None when they cannot be read."""
        _, flags, count, overflow = HEADER.unpack_from(page)
        table = table_of(count).unpack_from(page, PAGE_HEADER_SIZE)
        keys: list[bytes] = []
        extents: list[tuple[int, int]] = []
        for index in range(count):
            at = PAGE_HEADER_SIZE + ELEMENT_SIZE * index
            first, second, third, fourth = table[4 * index : 4 * index + 4]
            if flags == LEAF:
                start, key_size, value_size = at + second, third, fourth
                if first & ~BUCKET_FLAG:
                    self.problems.append(f"{name}: element {index} has unknown flags: {first:#x}")
            else:
                start, key_size, value_size = at + first, second, 0
            end = start + key_size + value_size
            if end > len(page):
                self.problems.append(f"{name}: element {index} points outside the page")
                return None
            if not 0 < key_size <= MAX_KEY_SIZE:
                self.problems.append(f"{name}: element {index} has a key of {key_size} bytes")
            keys.append(page[start : start + key_size])
            extents.append((start, end))
        self._extents(page, extents, overflow, name)
        return keys

    def _extents(self, page: bytes, extents: list[tuple[int, int]], overflow: int, name: str) -> None:
        """Check that the elements' data fills the page from the table on, in whatever order."""
        extents.sort()
        expected = PAGE_HEADER_SIZE + ELEMENT_SIZE * len(extents)
        for start, end in extents:
            if start != expected:
                what = "overlaps" if start < expected else "leaves a gap"
                self.problems.append(f"{name}: element data {what} at byte {min(start, expected)}")
                return
            expected = end
        if page.count(0, expected) != len(page) - expected:
            self.problems.append(f"{name}: bytes after the last element")
        if overflow and expected <= overflow * self.meta.page_size:
            self.problems.append(f"{name}: {overflow} overflow pages are more than its data needs")

    def _order(self, keys: list[bytes], visit: _Visit, branch: bool) -> None:
        kind = "branch" if branch else "leaf"
        before = b""
        for index, key in enumerate(keys):
            if index and key <= before:
                self.problems.append(
                    f"page {visit.pgid}: {kind} element {index}: key {key.hex()} is not above the one before it"
                )
            before = key
        if keys and keys[0] < visit.low:
            self.problems.append(
                f"page {visit.pgid}: key {keys[0].hex()} is below the key {visit.low.hex()} of the branch above"
            )
        if keys and visit.high is not None and keys[-1] >= visit.high:
            self.problems.append(
                f"page {visit.pgid}: key {keys[-1].hex()} is not below {visit.high.hex()}, next in the branch above"
            )

    def _branch(self, page: bytes, keys: list[bytes], visit: _Visit, stack: tuple[int, ...]) -> None:
        try:
            children = self.pages.children(page, visit.pgid * self.meta.page_size)
        except CorruptError as error:
            self.problems.append(f"page {visit.pgid}: {error.text} (stack: {_ids(stack)})")
            return
        for index in range(len(children) - 1, -1, -1):
            high = keys[index + 1] if index + 1 < len(keys) else visit.high
            self.todo.append(_Visit(children[index], keys[index], high, stack, visit.top))

    def _leaf(self, page: bytes, keys: list[bytes], visit: _Visit, stack: tuple[int, ...]) -> None:
        for index in range(len(keys)):
            flags, _, middle, end = self.pages.pair(page, 0, index)
            if flags & BUCKET_FLAG:
                self._bucket(page[middle:end], visit.pgid, keys[index], stack)
            elif visit.top:
                self.problems.append(f"page {visit.pgid}: {keys[index]!r} at the top level is not a bucket")

    def _bucket(self, value: bytes, pgid: int, key: bytes, stack: tuple[int, ...]) -> None:
        name = f"page {pgid}: bucket {key!r}"
        if len(value) < BUCKET_HEADER_SIZE:
            self.problems.append(f"{name}: a value of {len(value)} bytes is too short for its header")
            return
        root: int = BUCKET.unpack_from(value)[0]
        if root != NO_PAGE:
            if len(value) != BUCKET_HEADER_SIZE:
                self.problems.append(f"{name}: {len(value)} bytes are too many for its header")
            self.todo.append(_Visit(root, b"", None, stack, False))
            return
        page = value[BUCKET_HEADER_SIZE:]
        try:
            self.pages.check_inline(page, 0)
        except CorruptError as error:
            self.problems.append(f"{name}: {error.text}")
            return
        if HEADER.unpack_from(page)[0] or HEADER.unpack_from(page)[3]:
            self.problems.append(f"{name}: the inline page has an id or overflow")
        keys = self._elements(page, name)
        if keys is None:
            return
        self._order(keys, _Visit(pgid, b"", None, stack, False), False)
        for index in range(len(keys)):
            flags, _, middle, end = self.pages.pair(page, 0, index)
            if flags & BUCKET_FLAG:
                self._bucket(page[middle:end], pgid, keys[index], stack)


def _ids(stack: tuple[int, ...]) -> str:
    return "[" + " ".join(map(str, stack)) + "]"
