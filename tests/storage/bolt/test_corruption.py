"""Flipped bits and other damage: CorruptError or a finding of `check`, never another exception.

bbolt pages carry no checksums. Undetectable, and so allowed below to change what is read: bytes of values, and of keys
that stay in order; the sizes of a page's last entry, which may grow into the zeros after it; and the current meta page,
which then gives way to the state before.
"""

from __future__ import annotations

import contextlib
import random
import struct

import pytest

from quorate.errors import CorruptError
from quorate.ports import NullLog
from quorate.storage.bolt import Compactor, Db, Scan, Tree

from .memory import MemoryDisk, assert_clean, open_bytes, plain, plain_db, sample_db

PAGE = 1024


def sample() -> bytes:
    _, db = sample_db(PAGE)
    return bytes(db.pages.view[: db.size])


def lookups(tree: Tree, found: list[object]) -> None:
    """Look up every key of the tree, which a scan found."""
    scan = Scan(tree, b"", None)
    while scan.next_leaf():
        for index, key in enumerate(scan.keys):
            if scan.flags and scan.flags[index] & 1:
                child = tree.bucket(key)
                found.append(key if child is not None else None)
                if child is not None:
                    lookups(child, found)
            else:
                found.append(tree.get(key))


def everything(db: Db) -> object:
    read = db.begin_read()
    found: list[object] = []
    lookups(read.root, found)
    state = plain(read.root)
    read.close()
    return state, found


def read_all(content: bytes, read_only: bool) -> tuple[object, list[str]]:
    db = open_bytes(content, read_only)
    problems = list(db.check())
    return everything(db), problems


def rewrite(content: bytes) -> None:
    """Change every entry of every bucket, one transaction a bucket, and copy the file."""
    db = open_bytes(content)
    read = db.begin_read()
    try:
        buckets = list(read.buckets())
    finally:
        read.close()
    for name, tree in buckets:
        tx = db.begin_write()
        bucket = tx.bucket(name)
        if bucket is None:
            tx.rollback()
            continue
        for key, value in tree.range(b"", None):
            if len(value) % 2 or not key:
                bucket.delete(key)
            else:
                bucket.put(key, value)
        done = tx.prepare()
        done.write()
        db.finish(done)
    read = db.begin_read()
    copy = Compactor(read, MemoryDisk(), "copy")
    while copy.step(100):
        pass
    copy.finish()


def kinds(content: bytes) -> dict[str, list[int]]:
    """Return the pages by kind: the branch and leaf pages that are in use."""
    db = open_bytes(content)
    found: dict[str, list[int]] = {"branch": [], "leaf": []}
    assert db.freelist is not None
    pgid = 2
    while pgid < db.meta.high_water:
        header = struct.unpack_from("<QHHI", content, pgid * PAGE)
        if db.freelist.state[pgid] == 0:
            found["branch" if header[1] == 1 else "leaf"].append(pgid)
            pgid += header[3]
        pgid += 1
    return found


def structure_size(content: bytes, pgid: int) -> int:
    """Return how many bytes at the start of a page are header and element table."""
    return 16 + 16 * int(struct.unpack_from("<H", content, pgid * PAGE + 10)[0])


def flip(content: bytes, byte: int, bit: int) -> bytes:
    damaged = bytearray(content)
    damaged[byte] ^= 1 << bit
    return bytes(damaged)


@pytest.mark.parametrize("kind", ["branch", "leaf"])
def test_flipped_bits_in_headers_and_element_tables_are_found(kind: str) -> None:
    content = sample()
    want = everything(open_bytes(content))
    chance = random.Random(3)
    # Every page with buckets or overflow, and some of the plain ones.
    pages = kinds(content)[kind]
    special = [p for p in pages if content[p * PAGE + 16] == 1 or content[p * PAGE + 12]]
    pages = special + chance.sample(pages, min(8, len(pages)))
    assert len(special) >= (3 if kind == "leaf" else 0)
    found = 0
    for pgid in pages:
        # The header whole; of the table a sample.
        end = structure_size(content, pgid)
        table = range(16, end)
        places = [*range(16), *sorted(chance.sample(table, min(12, len(table))))]
        for place in places:
            for bit in range(8) if place < 16 else [chance.randrange(8)]:
                damaged = flip(content, pgid * PAGE + place, bit)
                for read_only in (False, True):
                    try:
                        got, problems = read_all(damaged, read_only)
                    except CorruptError:
                        continue
                    is_last_size = kind == "leaf" and place >= max(end - 8, 16)
                    assert problems or got == want or is_last_size, f"page {pgid} byte {place} bit {bit}"
                    found += bool(problems)
    assert found > 20


def test_flipped_bits_in_data_never_raise_anything_else() -> None:
    content = sample()
    chance = random.Random(4)
    for pages in kinds(content).values():
        for pgid in pages:
            for _ in range(6):
                place = pgid * PAGE + chance.randrange(structure_size(content, pgid), PAGE)
                damaged = flip(content, place, chance.randrange(8))
                with contextlib.suppress(CorruptError):
                    read_all(damaged, False)
                    rewrite(damaged)


def test_flipped_bits_in_the_meta_pages_give_the_state_before_or_an_error() -> None:
    content = sample()
    db = open_bytes(content)
    current = plain_db(db)
    current_page = db.meta.txid % 2
    for number in (0, 1):
        states = []
        for place in range(80):
            for bit in range(8):
                db = open_bytes(flip(content, number * PAGE + place, bit), read_only=True)
                states.append(plain_db(db))
                assert_clean(db)
        # The page's unused header is not believed; a flip in the current meta itself shows the state before.
        older = [state for state in states if state != current]
        assert len(older) == (64 * 8 if number == current_page else 0)
        assert all(state == older[0] for state in older)
    both = flip(flip(content, 40, 1), PAGE + 40, 1)
    with pytest.raises(CorruptError, match="both meta pages are invalid"):
        open_bytes(both)


def test_random_damage_raises_nothing_else() -> None:
    content = sample()
    chance = random.Random(9)
    outcomes = {"error": 0, "found": 0, "silent": 0}
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(chance.choice([1, 2, 10])):
            at = chance.randrange(2 * PAGE, len(damaged))
            size = chance.choice([1, 2, 4, 8, 100])
            damaged[at : at + size] = bytes(chance.choices(range(256), k=size))[: len(damaged) - at]
        try:
            _, problems = read_all(bytes(damaged), chance.random() < 0.5)
            outcomes["found" if problems else "silent"] += 1
        except CorruptError:
            outcomes["error"] += 1
        # ValueError: a plain entry that damage flagged as a bucket.
        with contextlib.suppress(CorruptError, ValueError):
            rewrite(bytes(damaged))
    assert outcomes["error"] > 50


@pytest.mark.parametrize("length", [0, 1, 79, 80, 1023, 1024, 1103, 1104, 2048, 2049, 5000])
def test_a_file_cut_short(length: int) -> None:
    content = sample()[:length]
    if length < 80:
        # Without a meta page it is like a file that was not made to the end.
        with pytest.raises(CorruptError):
            open_bytes(content, read_only=True)
        assert plain_db(open_bytes(content)) == (0, [])
        return
    for read_only in (False, True):
        with pytest.raises(CorruptError):
            open_bytes(content, read_only)


def test_pages_swapped() -> None:
    """Misdirected writes: page ids tell."""
    content = bytearray(sample())
    leaves = kinds(bytes(content))["leaf"]
    one, two = leaves[0] * PAGE, leaves[-1] * PAGE
    content[one : one + PAGE], content[two : two + PAGE] = content[two : two + PAGE], content[one : one + PAGE]
    with pytest.raises(CorruptError, match="carries another id"):
        open_bytes(bytes(content))
    assert any("carries another id" in line for line in open_bytes(bytes(content), read_only=True).check())


def test_a_loop_in_the_tree_ends() -> None:
    """A branch page that is its own child."""
    content = bytearray(sample())
    pgid = kinds(bytes(content))["branch"][0]
    struct.pack_into("<Q", content, pgid * PAGE + 16 + 8, pgid)
    with pytest.raises(CorruptError, match="multiple references"):
        open_bytes(bytes(content))
    disk = MemoryDisk()
    disk.put("db", bytes(content))
    db = Db.open(disk, "db", NullLog(), read_only=True)
    with pytest.raises(CorruptError):
        everything(db)
    assert any("multiple references" in line for line in db.check())
