"""The pages of a bbolt file: their formats, and checked access to them through the mapped file.

Contract: `Pages` shows one committed state of a file. Whatever it reads is bounds-checked before it is believed, and a
violation is a CorruptError that names the file and the byte. It keeps nothing: a page is copied out of the map when it
is asked for (a copy of 4 KiB costs less than two slices of the map), and forgotten by the caller.

Source of the format: bbolt internal/common/{page,meta,inode,bucket}.go. Everything is little-endian. The page size is
the writing machine's (4096 on amd64) and stands in the meta pages. A page that needs more room is followed by
`overflow` further pages without headers.

    page header, 16 bytes
    | u64 page id | u16 flags | u16 count | u32 overflow |
      flags: 1 branch, 2 leaf, 4 meta, 0x10 freelist; exactly one

    branch page: `count` elements, then the keys; pos is relative to the start of its element
    | u32 pos | u32 key size | u64 child page id |

    leaf page: `count` elements, then each key followed by its value; flags: 1 = the value is a bucket
    | u32 flags | u32 pos | u32 key size | u32 value size |

    bucket (the value of a flagged leaf element); root 0: an inline leaf page with id 0 follows
    | u64 root page id | u64 sequence |

    meta page (pages 0 and 1; transaction T writes page T % 2), after the page header; the checksum is FNV-1a 64 over
    the 56 bytes before it
    | u32 magic ED0CDAED | u32 version 2 | u32 page size | u32 flags 0 | u64 root | u64 sequence | u64 freelist
    | u64 high water | u64 txid | u64 checksum |
      high water: the first page id that was never used; freelist: 2^64-1 when it is not kept in the file

    freelist page: u64 ids, ascending; count 0xFFFF: the first u64 is the count and the ids follow it

Example, the meta that transaction 1 leaves in a fresh file (root page 3, freelist in page 2, high water 4):

    edda0ced 02000000 00100000 00000000 0300000000000000 0000000000000000
    0200000000000000 0400000000000000 0100000000000000 0f4879511a354c26

bbolt pages carry no checksums. A flipped bit in a key or value is not seen unless it breaks the key order; `check`
sees those in headers, element tables and page references.
"""

from __future__ import annotations

import struct
from typing import Final

from quorate.errors import CorruptError

PAGE_SIZE: Final = 4096
PAGE_HEADER_SIZE: Final = 16
ELEMENT_SIZE: Final = 16
BUCKET_HEADER_SIZE: Final = 16
META_SIZE: Final = 64

BRANCH: Final = 0x01
LEAF: Final = 0x02
META: Final = 0x04
FREELIST: Final = 0x10

BUCKET_FLAG: Final = 1
NO_FREELIST: Final = 0xFFFFFFFFFFFFFFFF
MAGIC: Final = 0xED0CDAED
VERSION: Final = 2

MAX_KEY_SIZE: Final = 32768
MAX_VALUE_SIZE: Final = (1 << 31) - 2
MAX_DEPTH: Final = 64
MIN_PAGE_SIZE: Final = 1024
MAX_PAGE_SIZE: Final = 1 << 16

HEADER: Final = struct.Struct("<QHHI")
BUCKET: Final = struct.Struct("<QQ")
_META: Final = struct.Struct("<IIIIQQQQQ")
_U64: Final = struct.Struct("<Q")

_tables: Final[dict[int, struct.Struct]] = {}


def table_of(count: int) -> struct.Struct:
    """Return the packer of an element table of `count` elements, four u32 each (a child id counts as two)."""
    table = _tables.get(count)
    if table is None:
        table = _tables[count] = struct.Struct(f"<{4 * count}I")
    return table


def fnv1a(data: bytes) -> int:
    """Return the 64-bit FNV-1a hash."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


class Meta:
    """The root of one committed state. Values, never changed after they are made."""

    def __init__(self, page_size: int, root: int, sequence: int, freelist: int, high_water: int, txid: int) -> None:
        self.page_size = page_size
        self.root = root  # page of the root bucket
        self.sequence = sequence
        self.freelist = freelist  # its page, or NO_FREELIST
        self.high_water = high_water  # pages at or above it were never used
        self.txid = txid

    def page(self, number: int, txid: int) -> bytes:
        """Return the image of meta page `number` (0 or 1) that states this root under `txid`."""
        body = _META.pack(
            MAGIC, VERSION, self.page_size, 0, self.root, self.sequence, self.freelist, self.high_water, txid
        )
        page = HEADER.pack(number, META, 0, 0) + body + _U64.pack(fnv1a(body))
        return page + bytes(self.page_size - len(page))


def parse_meta(data: bytes) -> Meta | str:
    """Return the meta in the first bytes of a meta page, or what is wrong with it."""
    if len(data) < PAGE_HEADER_SIZE + META_SIZE:
        return "the file ends inside a meta page"
    body = data[PAGE_HEADER_SIZE : PAGE_HEADER_SIZE + META_SIZE - 8]
    magic, version, page_size, _, root, sequence, freelist, high_water, txid = _META.unpack(body)
    if magic != MAGIC:
        return "not a bbolt file: bad magic"
    if version != VERSION:
        return f"bbolt format version {version} is unknown"
    if _U64.unpack_from(data, PAGE_HEADER_SIZE + META_SIZE - 8)[0] != fnv1a(body):
        return "bad checksum of the meta page"
    if not MIN_PAGE_SIZE <= page_size <= MAX_PAGE_SIZE or page_size & (page_size - 1):
        return f"page size {page_size} is not possible"
    return Meta(page_size, root, sequence, freelist, high_water, txid)


class Pages:
    """Checked access to the pages of one committed state; may be used from any thread, since the state never changes.

    Invariant: `view` covers every page below `high_water`.
    """

    def __init__(self, path: str, view: memoryview, page_size: int, high_water: int) -> None:
        self.path = path
        self.view = view
        self.page_size = page_size
        self.high_water = high_water

    def fault(self, offset: int, why: str) -> CorruptError:
        """Return the error for a violation at a byte of the file."""
        return CorruptError(self.path, offset, why)

    def load(self, pgid: int) -> bytes:
        """Return a branch or leaf page with its overflow, header and room for the element table checked."""
        size = self.page_size
        at = pgid * size
        if pgid < 2 or pgid >= self.high_water:
            raise self.fault(-1, f"page {pgid} is out of bounds: 2 to {self.high_water - 1}")
        page: bytes = self.view[at : at + size].tobytes()
        low = page[0] | page[1] << 8 | page[2] << 16 | page[3] << 24
        if low != pgid or page[4] | page[5] | page[6] | page[7]:
            raise self.fault(at, f"page {pgid} carries another id: {HEADER.unpack_from(page)[0]}")
        flags = page[8] | page[9] << 8
        if flags != LEAF and flags != BRANCH:
            raise self.fault(at + 8, f"page {pgid} is neither branch nor leaf: flags {flags:#x}")
        overflow = page[12] | page[13] << 8 | page[14] << 16 | page[15] << 24
        if overflow:
            if pgid + overflow >= self.high_water:
                raise self.fault(at + 12, f"page {pgid} overflows the file: {overflow} pages more")
            size += overflow * size
            page = self.view[at : at + size].tobytes()
        if PAGE_HEADER_SIZE + ELEMENT_SIZE * (page[10] | page[11] << 8) > size:
            raise self.fault(at + 10, f"page {pgid} has too many elements: {page[10] | page[11] << 8}")
        return page

    def check_inline(self, page: bytes, base: int) -> None:
        """Check the header of an inline page, which lies at byte `base` of the file."""
        if len(page) < PAGE_HEADER_SIZE:
            raise self.fault(base, "an inline bucket is cut short")
        _, flags, count, _ = HEADER.unpack_from(page)
        if flags != LEAF:
            raise self.fault(base + 8, f"an inline bucket is not a leaf: flags {flags:#x}")
        if PAGE_HEADER_SIZE + ELEMENT_SIZE * count > len(page):
            raise self.fault(base + 10, f"an inline bucket has too many elements: {count}")

    def leaf(self, page: bytes, base: int, keys: list[bytes], values: list[bytes]) -> bool:
        """Add all pairs of a leaf page at byte `base` to the lists; True when some value is a bucket."""
        count = page[10] | page[11] << 8
        table: tuple[int, ...] = table_of(count).unpack_from(page, PAGE_HEADER_SIZE)
        size = len(page)
        at = 0
        element = PAGE_HEADER_SIZE
        for _ in range(count):
            start = element + table[at + 1]
            middle = start + table[at + 2]
            end = middle + table[at + 3]
            if end > size:
                raise self.fault(base + element, "an element points outside its page")
            keys.append(page[start:middle])
            values.append(page[middle:end])
            at += 4
            element += ELEMENT_SIZE
        return any(table[0::4])

    def leaf_flags(self, page: bytes) -> list[int]:
        """Return the flags of all elements of a leaf page."""
        count = page[10] | page[11] << 8
        return list(table_of(count).unpack_from(page, PAGE_HEADER_SIZE)[0::4])

    def children(self, page: bytes, base: int) -> list[int]:
        """Return the child ids of a branch page, which is at byte `base`; there is at least one."""
        count = page[10] | page[11] << 8
        table: tuple[int, ...] = table_of(count).unpack_from(page, PAGE_HEADER_SIZE)
        if any(table[3::4]):
            raise self.fault(base + PAGE_HEADER_SIZE, "a child of a branch page is out of bounds")
        if count == 0:
            raise self.fault(base + 10, "a branch page has no children")
        return list(table[2::4])

    def branch_keys(self, page: bytes, base: int) -> list[bytes]:
        """Return the keys of a branch page, which is at byte `base`."""
        count = page[10] | page[11] << 8
        table: tuple[int, ...] = table_of(count).unpack_from(page, PAGE_HEADER_SIZE)
        size = len(page)
        keys: list[bytes] = []
        at = 0
        element = PAGE_HEADER_SIZE
        for _ in range(count):
            start = element + table[at]
            end = start + table[at + 1]
            if end > size:
                raise self.fault(base + element, "an element points outside its page")
            keys.append(page[start:end])
            at += 4
            element += ELEMENT_SIZE
        return keys

    def child_index(self, page: bytes, base: int, key: bytes) -> int:
        """Return which child of a branch page covers the key: the last one whose key is not above it, or the first."""
        size = len(page)
        low = 0
        high = page[10] | page[11] << 8
        while low < high:
            middle = (low + high) >> 1
            at = PAGE_HEADER_SIZE + ELEMENT_SIZE * middle
            start = at + (page[at] | page[at + 1] << 8 | page[at + 2] << 16 | page[at + 3] << 24)
            end = start + (page[at + 4] | page[at + 5] << 8 | page[at + 6] << 16 | page[at + 7] << 24)
            if end > size:
                raise self.fault(base + at, "an element points outside its page")
            if page[start:end] <= key:
                low = middle + 1
            else:
                high = middle
        return low - 1 if low else 0

    def child(self, page: bytes, base: int, index: int) -> int:
        """Return one child id of a branch page."""
        if index >= page[10] | page[11] << 8:
            raise self.fault(base + 10, "a branch page has no children")
        at = PAGE_HEADER_SIZE + ELEMENT_SIZE * index + 8
        if page[at + 4] | page[at + 5] | page[at + 6] | page[at + 7]:
            raise self.fault(base + at, "a child of a branch page is out of bounds")
        return page[at] | page[at + 1] << 8 | page[at + 2] << 16 | page[at + 3] << 24

    def leaf_index(self, page: bytes, base: int, key: bytes) -> int:
        """Return the position of the first element of a leaf page whose key is not below `key`."""
        size = len(page)
        low = 0
        high = page[10] | page[11] << 8
        while low < high:
            middle = (low + high) >> 1
            at = PAGE_HEADER_SIZE + ELEMENT_SIZE * middle + 4
            start = at - 4 + (page[at] | page[at + 1] << 8 | page[at + 2] << 16 | page[at + 3] << 24)
            end = start + (page[at + 4] | page[at + 5] << 8 | page[at + 6] << 16 | page[at + 7] << 24)
            if end > size:
                raise self.fault(base + at, "an element points outside its page")
            if page[start:end] < key:
                low = middle + 1
            else:
                high = middle
        return low

    def pair(self, page: bytes, base: int, index: int) -> tuple[int, int, int, int]:
        """Return flags, start of the key, start of the value and its end, within a leaf page."""
        at = PAGE_HEADER_SIZE + ELEMENT_SIZE * index
        start = at + (page[at + 4] | page[at + 5] << 8 | page[at + 6] << 16 | page[at + 7] << 24)
        middle = start + (page[at + 8] | page[at + 9] << 8 | page[at + 10] << 16 | page[at + 11] << 24)
        end = middle + (page[at + 12] | page[at + 13] << 8 | page[at + 14] << 16 | page[at + 15] << 24)
        if end > len(page):
            raise self.fault(base + at, "an element points outside its page")
        return page[at], start, middle, end


def is_branch(page: bytes) -> bool:
    """Tell whether a checked page is a branch (it is a leaf otherwise)."""
    return page[8] == BRANCH


def read_freelist(pages: Pages, pgid: int) -> tuple[list[int], int]:
    """Return the ids in the persisted freelist at page `pgid`, and how many pages the list itself takes."""
    size = pages.page_size
    at = pgid * size
    if pgid < 2 or pgid >= pages.high_water:
        raise pages.fault(-1, f"freelist page {pgid} is out of bounds: 2 to {pages.high_water - 1}")
    ident, flags, count, overflow = HEADER.unpack_from(pages.view, at)
    if ident != pgid or flags != FREELIST:
        raise pages.fault(at, f"page {pgid} is not the freelist: id {ident}, flags {flags:#x}")
    if pgid + overflow >= pages.high_water:
        raise pages.fault(at + 12, f"the freelist overflows the file: {overflow} pages more")
    room = size * (overflow + 1) - PAGE_HEADER_SIZE
    first = at + PAGE_HEADER_SIZE
    if count == 0xFFFF:
        count = _U64.unpack_from(pages.view, first)[0]
        first += 8
        room -= 8
    if count > room // 8:
        raise pages.fault(at + 10, f"the freelist has more ids than room: {count}")
    ids = sorted(struct.unpack_from(f"<{count}Q", pages.view, first))
    if ids and (ids[0] < 2 or ids[-1] >= pages.high_water):
        raise pages.fault(first, f"the freelist has an id out of bounds: {ids[0]} or {ids[-1]}")
    if len(set(ids)) != len(ids):
        raise pages.fault(first, "the freelist names a page twice")
    return ids, overflow + 1
