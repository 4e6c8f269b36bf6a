"""Which pages a state uses: the walk that rebuilds the list of free pages when a file is opened for writing.

Contract: every branch and leaf page is visited, since its overflow and the buckets in it are known only from itself.
Headers, references and bucket headers are checked on the way (CorruptError); keys are not (see check).
"""

from __future__ import annotations

from typing import Final

from quorate.storage.bolt.freelist import FREE, USED
from quorate.storage.bolt.page import (
    BUCKET_FLAG,
    ELEMENT_SIZE,
    NO_FREELIST,
    PAGE_HEADER_SIZE,
    Meta,
    Pages,
    is_branch,
    read_freelist,
)
from quorate.storage.bolt.tree import NO_PAGE, open_bucket

_FREE_BYTE: Final = bytes([FREE])


def page_states(pages: Pages, meta: Meta) -> bytearray:
    """Return one byte a page, FREE or USED, as `Freelist` takes it. A persisted freelist's own pages are in use."""
    states = bytearray(_FREE_BYTE) * meta.high_water
    states[0] = states[1] = USED
    if meta.freelist != NO_FREELIST:
        _use(pages, states, meta.freelist, read_freelist(pages, meta.freelist)[1])
    stack = [meta.root]
    while stack:
        pgid = stack.pop()
        page = pages.load(pgid)
        overflow = page[12] | page[13] << 8 | page[14] << 16 | page[15] << 24
        _use(pages, states, pgid, overflow + 1)
        base = pgid * pages.page_size
        if is_branch(page):
            stack += pages.children(page, base)
        else:
            _add_bucket_roots(pages, page, base, stack)
    return states


def _use(pages: Pages, states: bytearray, pgid: int, count: int) -> None:
    if states.count(_FREE_BYTE, pgid, pgid + count) != count:
        raise pages.fault(pgid * pages.page_size, f"page {pgid}: multiple references")
    states[pgid : pgid + count] = bytes(count)


def _add_bucket_roots(pages: Pages, page: bytes, base: int, stack: list[int]) -> None:
    """Add the root pages of the buckets in a leaf page, also of those within inline ones."""
    count = page[10] | page[11] << 8
    flags = page[PAGE_HEADER_SIZE : PAGE_HEADER_SIZE + ELEMENT_SIZE * count : ELEMENT_SIZE]
    if flags.count(0) == count:
        return
    for index in range(count):
        if flags[index] & BUCKET_FLAG:
            _, _, middle, end = pages.pair(page, base, index)
            tree = open_bucket(pages, page[middle:end], base + middle)
            if tree.root != NO_PAGE:
                stack.append(tree.root)
            else:
                _add_bucket_roots(pages, tree.inline, tree.base, stack)
