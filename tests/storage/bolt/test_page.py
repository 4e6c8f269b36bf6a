"""The byte formats: vectors from real files, and hand-made files that bbolt accepts."""

from __future__ import annotations

import random
import struct

import pytest

from quorate.errors import CorruptError
from quorate.ports import NullLog
from quorate.storage.bolt import Db
from quorate.storage.bolt import page as formats
from quorate.storage.bolt.page import BRANCH, FREELIST, LEAF, NO_FREELIST, Meta, Pages, parse_meta

from .memory import MemoryDisk, assert_clean, commit, new_db, open_bytes, plain_db

# The meta that transaction 1 leaves in a fresh file; it stands in the docstring of quorate.storage.bolt.page too.
EXAMPLE_META = (
    "edda0ced 02000000 00100000 00000000 0300000000000000 0000000000000000"
    "0200000000000000 0400000000000000 0100000000000000 0f4879511a354c26"
)


def test_meta_example() -> None:
    page = Meta(4096, 3, 0, 2, 4, 1).page(1, 1)
    assert page == struct.pack("<QHHI", 1, 4, 0, 0) + bytes.fromhex(EXAMPLE_META) + bytes(4096 - 80)
    if formats.__doc__ is not None:  # compiled modules have none
        assert "".join(EXAMPLE_META.split()) in "".join(formats.__doc__.split())
    meta = parse_meta(page)
    assert isinstance(meta, Meta)
    assert (meta.page_size, meta.root, meta.sequence) == (4096, 3, 0)
    assert (meta.freelist, meta.high_water, meta.txid) == (2, 4, 1)


def test_checksums_of_real_metas() -> None:
    for txid, checksum in ((0, 0x07516E114689FDEE), (1, 0x264C351A5179480F)):
        page = Meta(4096, 3, 0, 2, 4, txid).page(txid, txid)
        assert struct.unpack_from("<Q", page, 72)[0] == checksum


@pytest.mark.parametrize(
    ("offset", "value", "why"),
    [
        (16, 0xED0CDAEE, "magic"),
        (20, 1, "version 1"),
        (24, 8192, "checksum"),
        (70, 9, "checksum"),
    ],
)
def test_invalid_metas(offset: int, value: int, why: str) -> None:
    page = bytearray(Meta(4096, 3, 0, 2, 4, 1).page(1, 1))
    struct.pack_into("<I", page, offset, value)
    found = parse_meta(bytes(page))
    assert isinstance(found, str)
    assert why in found


@pytest.mark.parametrize("page_size", [512, 5000, 1 << 17])
def test_impossible_page_sizes(page_size: int) -> None:
    found = parse_meta(Meta(page_size, 3, 0, 2, 4, 1).page(1, 1))
    assert isinstance(found, str)
    assert "page size" in found


def test_a_fresh_file_is_that_of_bbolt() -> None:
    disk, db = new_db(4096)
    want = b"".join(Meta(4096, 3, 0, 2, 4, txid).page(txid, txid) for txid in (0, 1))
    want += struct.pack("<QHHI", 2, FREELIST, 0, 0) + bytes(4080)
    want += struct.pack("<QHHI", 3, LEAF, 0, 0) + bytes(4080)
    assert disk.files["db"].content() == want
    assert [kind for kind, _, _ in disk.files["db"].operations] == ["write", "sync"]
    assert_clean(db)
    assert db.size == 4 * 4096


@pytest.mark.parametrize("page_size", [4096, 1024])
def test_a_file_that_was_not_made_to_the_end_is_made_anew(page_size: int) -> None:
    disk, _ = new_db(page_size)
    whole = disk.files["db"].content()
    rng = random.Random(page_size)
    for length in [*range(0, len(whole), 512), len(whole)]:
        sectors = [whole[at : at + 512] if rng.random() < 0.7 else bytes(512) for at in range(0, length, 512)]
        for content in (whole[:length], b"".join(sectors)):
            assert plain_db(open_bytes(content)) == (0, [])


def test_the_first_commit_grows_the_file_as_bbolt_does() -> None:
    """One page is allocated beyond the four, so (5 + 1) pages and 16 MiB: what real etcd's first commit leaves."""
    disk, db = new_db(4096)
    tx = db.begin_write()
    tx.create_bucket(b"alarm")
    commit(db, tx)
    assert disk.files["db"].length == 16_801_792
    assert db.meta.freelist == NO_FREELIST


# Hand-made files: page number -> bytes after the page id.


def leaf(entries: list[tuple[int, bytes, bytes]], backwards: bool = False) -> bytes:
    """Return count and body of a leaf page; `backwards` puts the data of the last entry first."""
    order = list(range(len(entries)))
    if backwards:
        order.reverse()
    places = {}
    data = b""
    for index in order:
        _, key, value = entries[index]
        places[index] = 16 + 16 * len(entries) + len(data)
        data += key + value
    table = b"".join(
        struct.pack("<IIII", flags, places[index] - 16 - 16 * index, len(key), len(value))
        for index, (flags, key, value) in enumerate(entries)
    )
    return struct.pack("<H", len(entries)) + table + data


def branch(entries: list[tuple[bytes, int]]) -> bytes:
    table = b""
    data = b""
    for index, (key, child) in enumerate(entries):
        table += struct.pack("<IIQ", 16 * (len(entries) - index) + len(data), len(key), child)
        data += key
    return struct.pack("<H", len(entries)) + table + data


def build(pages: dict[int, tuple[int, bytes]], high_water: int, root: int = 2, freelist: int = NO_FREELIST) -> bytes:
    """Return a file of the pages, given as flags and count + body, with overflow where the body needs it."""
    content = bytearray(high_water * 1024)
    for number in (0, 1):
        meta = Meta(1024, root, 0, freelist, high_water, 5)
        content[number * 1024 : (number + 1) * 1024] = meta.page(number, 5)
    for pgid, (flags, body) in pages.items():
        overflow = (14 + len(body) + 1023) // 1024 - 1
        image = struct.pack("<QH", pgid, flags) + body[:2] + struct.pack("<I", overflow) + body[2:]
        content[pgid * 1024 : pgid * 1024 + len(image)] = image
    return bytes(content)


def root_of(name: bytes, value: bytes) -> tuple[int, bytes]:
    return LEAF, leaf([(1, name, value)])


def pointer(pgid: int) -> bytes:
    return struct.pack("<QQ", pgid, 0)


def accepted(content: bytes) -> dict[bytes, bytes]:
    """Open, check, change and check; return the pairs of bucket "key" before the change."""
    db = open_bytes(content)
    assert_clean(db)
    read = db.begin_read()
    tree = read.bucket(b"key")
    assert tree is not None
    pairs = dict(tree.range(b"", None))
    for key, value in pairs.items():
        assert tree.get(key) == value
    read.close()
    tx = db.begin_write()
    bucket = tx.create_bucket(b"key")
    bucket.put(b"\x01first", b"new")
    bucket.put(b"zz", b"new")
    for key in sorted(pairs)[::2]:
        bucket.delete(key)
    commit(db, tx)
    assert_clean(db)
    return pairs


def test_a_giant_leaf_with_overflow() -> None:
    entries = [(0, b"k%03d" % n, bytes(90)) for n in range(100)]
    body = leaf(entries)
    content = build({2: root_of(b"key", pointer(3)), 3: (LEAF, body)}, 3 + len(body) // 1024 + 1)
    assert len(accepted(content)) == 100


def test_data_in_any_order_and_an_inline_bucket_beyond_a_quarter_page() -> None:
    body = leaf([(0, b"k%d" % n, bytes(50 + n)) for n in range(9)], backwards=True)
    inline = bytes(16) + struct.pack("<QH", 0, LEAF) + body[:2] + bytes(4) + body[2:]
    assert len(inline) > 256
    assert len(accepted(build({2: root_of(b"key", inline)}, 3))) == 9


def test_a_branch_key_below_the_first_key_and_an_empty_leaf() -> None:
    content = build(
        {
            2: root_of(b"key", pointer(3)),
            3: (BRANCH, branch([(b"a", 4), (b"m", 5), (b"s", 6)])),
            4: (LEAF, leaf([(0, b"b", b"1"), (0, b"c", b"2")])),
            5: (LEAF, leaf([])),
            6: (LEAF, leaf([(0, b"t", b"3")])),
        },
        7,
    )
    assert accepted(content) == {b"b": b"1", b"c": b"2", b"t": b"3"}


def test_trailing_bytes_and_equal_txids() -> None:
    content = build({2: root_of(b"key", pointer(3)), 3: (LEAF, leaf([(0, b"k", b"v")]))}, 5) + b"trailing" * 300
    assert accepted(content) == {b"k": b"v"}


def test_unreachable_pages_are_free_without_a_freelist() -> None:
    content = build({2: root_of(b"key", pointer(4)), 4: (LEAF, leaf([(0, b"k", b"v")]))}, 9)
    db = open_bytes(content)
    assert db.freelist is not None
    assert db.freelist.free_count == 5
    assert db.size_in_use == 4 * 1024
    assert db.size == 9 * 1024


def with_freelist(ids: list[int], high_water: int, long_count: bool = False) -> bytes:
    count = 0xFFFF if long_count else len(ids)
    body = struct.pack("<H", count) + (struct.pack("<Q", len(ids)) if long_count else b"")
    body += struct.pack(f"<{len(ids)}Q", *ids)
    pages = {2: root_of(b"key", pointer(3)), 3: (LEAF, leaf([(0, b"k", b"v")])), 4: (FREELIST, body)}
    return build(pages, high_water, freelist=4)


@pytest.mark.parametrize("long_count", [False, True])
def test_a_persisted_freelist(long_count: bool) -> None:
    content = with_freelist([7, 5, 6, 8, 9], 10, long_count)
    assert_clean(open_bytes(content, read_only=True))
    db = open_bytes(content)
    assert db.freelist is not None
    assert db.freelist.free_count == 5
    assert accepted(content) == {b"k": b"v"}
    tx = db.begin_write()
    tx.create_bucket(b"key").put(b"k", b"w")
    commit(db, tx)
    assert db.meta.freelist == NO_FREELIST
    assert db.freelist.state[4] == 2, "the list's own page waits, as it belongs to the state before"
    assert_clean(db)


def test_a_long_freelist_takes_overflow_pages() -> None:
    count = 70_000
    list_pages = (16 + 8 * (count + 1) + 1023) // 1024
    first = 4 + list_pages
    content = with_freelist(list(range(first, first + count)), first + count, long_count=True)
    db = open_bytes(content, read_only=True)
    assert_clean(db)
    assert open_bytes(content).size_in_use == first * 1024


def test_a_freelist_that_lacks_a_page() -> None:
    content = with_freelist([5, 6, 8, 9], 10)
    assert list(open_bytes(content, read_only=True).check()) == ["page 7: unreachable unfreed"]
    healed = open_bytes(content)
    assert_clean(healed)
    assert healed.freelist is not None
    assert healed.freelist.free_count == 5


@pytest.mark.parametrize(
    ("ids", "why"),
    [
        ([3, 5, 6, 7, 8, 9], "names page 3, which is in use"),
        ([4, 5, 6, 7, 8, 9], "names page 4, which is in use"),
        ([5, 5, 6, 7, 8, 9], "twice"),
        ([1, 5, 6, 7, 8, 9], "out of bounds"),
        ([5, 6, 7, 8, 9, 10], "out of bounds"),
    ],
)
def test_a_bad_freelist(ids: list[int], why: str) -> None:
    content = with_freelist(ids, 10)
    with pytest.raises(CorruptError, match=why):
        open_bytes(content)
    assert list(open_bytes(content, read_only=True).check()) != []


def test_a_freelist_with_more_ids_than_room() -> None:
    content = bytearray(with_freelist([5, 6, 7, 8, 9], 10))
    struct.pack_into("<H", content, 4 * 1024 + 10, 5000)
    with pytest.raises(CorruptError, match="more ids than room"):
        open_bytes(bytes(content))
    struct.pack_into("<HIQ", content, 4 * 1024 + 10, 0xFFFF, 0, 1 << 60)
    with pytest.raises(CorruptError, match="more ids than room"):
        open_bytes(bytes(content))


BROKEN: dict[str, tuple[dict[int, tuple[int, bytes]], str]] = {
    "key order": ({3: (LEAF, leaf([(0, b"b", b""), (0, b"a", b"")]))}, "not above the one before"),
    "same key twice": ({3: (LEAF, leaf([(0, b"b", b""), (0, b"b", b"")]))}, "not above the one before"),
    "empty key": ({3: (LEAF, leaf([(0, b"", b"v")]))}, "a key of 0 bytes"),
    "unknown flag": ({3: (LEAF, leaf([(2, b"a", b"v")]))}, "unknown flags"),
    "branch order": (
        {
            3: (BRANCH, branch([(b"m", 4), (b"a", 5)])),
            4: (LEAF, leaf([(0, b"m", b"")])),
            5: (LEAF, leaf([(0, b"a", b"")])),
        },
        "branch element 1",
    ),
    "key below its branch": ({3: (BRANCH, branch([(b"m", 4)])), 4: (LEAF, leaf([(0, b"a", b"")]))}, "is below the key"),
    "key beyond its branch": (
        {
            3: (BRANCH, branch([(b"a", 4), (b"m", 5)])),
            4: (LEAF, leaf([(0, b"a", b""), (0, b"n", b"")])),
            5: (LEAF, leaf([(0, b"o", b"")])),
        },
        "is not below",
    ),
    "child used twice": (
        {3: (BRANCH, branch([(b"a", 4), (b"m", 4)])), 4: (LEAF, leaf([(0, b"a", b"")]))},
        "multiple references",
    ),
    "child out of bounds": ({3: (BRANCH, branch([(b"a", 99)]))}, "out of bounds"),
    "child is a meta page": ({3: (BRANCH, branch([(b"a", 1)]))}, "out of bounds"),
    "wrong type": ({3: (FREELIST, leaf([]))}, "neither branch nor leaf"),
    "no children": ({3: (BRANCH, branch([]))}, "no children"),
    "short bucket": ({3: (LEAF, leaf([(1, b"b", b"short")]))}, "too short for its header"),
    "bad inline": ({3: (LEAF, leaf([(1, b"b", bytes(16) + bytes(16))]))}, "not a leaf"),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_check_finds(name: str) -> None:
    pages, finding = BROKEN[name]
    content = build({2: root_of(b"key", pointer(3)), **pages}, 6)
    findings = list(open_bytes(content, read_only=True).check())
    assert any(finding in line for line in findings), findings


def test_check_finds_a_plain_value_at_the_top() -> None:
    content = build({2: (LEAF, leaf([(0, b"stray", b"v")]))}, 3)
    assert list(open_bytes(content, read_only=True).check()) == ["page 2: b'stray' at the top level is not a bucket"]


def test_check_finds_a_page_in_use_and_free() -> None:
    content = with_freelist([3, 5, 6, 7, 8, 9], 10)
    assert "page 3: reachable freed" in list(open_bytes(content, read_only=True).check())


def test_meta_out_of_bounds() -> None:
    for meta, why in (
        (Meta(1024, 9, 0, NO_FREELIST, 3, 5), "root page 9 is out of bounds"),
        (Meta(1024, 2, 0, 7, 3, 5), "freelist page 7 is out of bounds"),
        (Meta(1024, 2, 0, NO_FREELIST, 1 << 60, 5), "cut short"),
    ):
        with pytest.raises(CorruptError, match=why) as caught:
            open_bytes(meta.page(0, 5) + meta.page(1, 5) + bytes(1024))
        assert caught.value.path == "db"


def test_the_older_meta_counts_when_the_newer_is_invalid() -> None:
    disk, db = new_db()
    states = [plain_db(db)]
    for number in range(4):
        tx = db.begin_write()
        tx.create_bucket(b"a").put(b"k", b"%d" % number)
        commit(db, tx)
        states.append(plain_db(db))
        content = bytearray(disk.files["db"].content()[: db.size])
        content[(db.meta.txid % 2) * 1024 + 72] ^= 1
        older = open_bytes(bytes(content))
        assert plain_db(older) == states[-2]
        assert_clean(older)


def test_the_page_size_is_found_without_the_first_meta() -> None:
    for page_size in (1024, 4096, 65536):
        disk = MemoryDisk()
        db = Db.open(disk, "db", NullLog(), page_size=page_size)
        tx = db.begin_write()
        tx.create_bucket(b"a").put(b"k", b"v")
        commit(db, tx)
        tx = db.begin_write()
        tx.create_bucket(b"a").put(b"k", b"w")
        commit(db, tx)
        content = bytearray(disk.files["db"].content()[: db.size])
        content[16:20] = bytes(4)
        assert db.meta.txid == 3
        found = open_bytes(bytes(content))
        assert found.meta.page_size == page_size
        assert plain_db(found) == plain_db(db)


def test_pages_out_of_bounds_are_not_read() -> None:
    pages = Pages("db", memoryview(bytes(4096)), 1024, 4)
    for pgid in (0, 1, 4, 1 << 63):
        with pytest.raises(CorruptError, match="out of bounds"):
            pages.load(pgid)
