"""Random transactions against a dict: contents, consistency, pinned readers, reopening."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.storage.bolt import Bucket, Db, ReadTx, WriteTx

from .memory import Model, assert_clean, commit, new_db, plain, plain_db, reopen

NAMES = [b"a", b"b", b"c"]


def random_key(chance: random.Random) -> bytes:
    kind = chance.randrange(10)
    if kind == 0:
        return bytes(chance.choices(range(256), k=chance.choice([1, 2, 200])))
    return b"k%03d" % chance.randrange(200)


def random_value(chance: random.Random) -> bytes:
    size = chance.choice([0, 1, 10, 10, 60, 60, 200, 900, 2500])
    return bytes([chance.randrange(256)]) * size


def change_bucket(chance: random.Random, bucket: Bucket, model: Model, depth: int) -> None:
    bucket.fill = chance.choice([0.5, 0.5, 0.9, 1.0, 0.1])
    for _ in range(chance.choice([1, 3, 30])):
        plain_keys = [k for k, v in model.entries.items() if isinstance(v, bytes)]
        names = [k for k, v in model.entries.items() if isinstance(v, Model)]
        action = chance.randrange(20)
        if action < 8:
            key = random_key(chance)
            if key not in names:
                value = random_value(chance)
                bucket.put(key, value)
                model.entries[key] = value
        elif action < 13 and plain_keys:
            key = chance.choice(plain_keys)
            bucket.delete(key)
            del model.entries[key]
        elif action == 13:
            key = random_key(chance)
            if key not in names:
                bucket.delete(key)
                model.entries.pop(key, None)
        elif action == 14:
            low, high = sorted([random_key(chance), random_key(chance)])
            for key in sorted(plain_keys):
                if low <= key < high:
                    bucket.delete(key)
                    del model.entries[key]
        elif action in (15, 16):
            last = max(model.entries, default=b"")[:190]
            count = chance.choice([1, 5, 60])
            keys = [last + b"~%04d" % n for n in range(count)]
            if chance.randrange(4) == 0:
                chance.shuffle(keys)
            keys = [key for key in keys if key not in names]
            values = [random_value(chance)[:300] for _ in keys]
            bucket.append(keys, values)
            model.entries.update(zip(keys, values, strict=True))
        elif action == 17 and depth < 2:
            change_children(chance, bucket, model, depth + 1)
        elif action == 18:
            model.sequence = chance.randrange(100)
            bucket.sequence = model.sequence
        else:
            key = random_key(chance)
            found = model.entries.get(key)
            assert bucket.get(key) == (found if isinstance(found, bytes) else None)


def change_children(chance: random.Random, parent: Bucket | WriteTx, model: Model, depth: int) -> None:
    name = chance.choice(NAMES)
    found = model.entries.get(name)
    if isinstance(found, bytes):
        return
    if found is not None and chance.randrange(4) == 0:
        assert parent.delete_bucket(name)
        del model.entries[name]
        if chance.randrange(2):
            return
        found = None
    if found is None:
        assert parent.bucket(name) is None
        found = model.entries[name] = Model()
        child = parent.create_bucket(name)
    else:
        opened = parent.bucket(name)
        assert opened is not None
        child = opened
    change_bucket(chance, child, found, depth)


class Run:
    def __init__(self, seed: int, page_size: int) -> None:
        self.chance = random.Random(seed)
        self.disk, self.db = new_db(page_size)
        self.model = Model()
        self.readers: list[tuple[ReadTx, object]] = []

    def transaction(self) -> None:
        chance = self.chance
        tx = self.db.begin_write()
        if chance.randrange(10) == 0:
            change_children(chance, tx, self.model.copy(), 0)
            tx.rollback()
            return
        before = plain_db(self.db)
        for _ in range(chance.randrange(4)):
            change_children(chance, tx, self.model, 0)
        done = tx.prepare()
        assert plain_db(self.db) == before, "reads before finish see the old state"
        if chance.randrange(3) == 0:
            self.readers.append((self.db.begin_read(), before))
        done.write()
        self.db.finish(done)

    def verify(self) -> None:
        chance = self.chance
        assert plain_db(self.db) == self.model.plain()
        assert_clean(self.db)
        for read, expected in self.readers:
            assert plain(read.root) == expected
        if self.readers and chance.randrange(3) == 0:
            self.readers.pop(chance.randrange(len(self.readers)))[0].close()
        if not self.readers and chance.randrange(3) == 0:
            self.reopen()
        elif chance.randrange(2):
            read = self.db.begin_read()
            self.readers.append((read, plain(read.root)))

    def reopen(self) -> None:
        free = None if self.db.freelist is None else self.db.freelist.free_count + self.db.freelist.waiting_count
        self.db = reopen(self.disk, self.db)
        assert self.db.freelist is not None
        assert self.db.freelist.free_count == free
        assert plain_db(self.db) == self.model.plain()
        assert_clean(self.db)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), st.sampled_from([1024, 1024, 4096]), st.integers(1, 12))
def test_random_transactions(seed: int, page_size: int, count: int) -> None:
    run = Run(seed, page_size)
    for _ in range(count):
        run.transaction()
        run.verify()
    for read, _ in run.readers:
        read.close()
    assert run.db.open_read_txs == 0
    run.reopen()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1 << 30))
def test_ranges_against_a_sorted_list(seed: int) -> None:
    chance = random.Random(seed)
    _, db = new_db()
    tx = db.begin_write()
    bucket = tx.create_bucket(b"a")
    model: dict[bytes, bytes] = {}
    for _ in range(400):
        key = random_key(chance)
        model[key] = random_value(chance)[:100]
        bucket.put(key, model[key])
    bucket.create_bucket(b"k100x")
    commit(db, tx)
    read = db.begin_read()
    tree = read.bucket(b"a")
    assert tree is not None
    for _ in range(60):
        start, end = random_key(chance), chance.choice([random_key(chance), None])
        limit = chance.choice([0, 1, 5])
        want = [(k, v) for k, v in sorted(model.items()) if k >= start and (end is None or k < end)]
        assert tree.range(start, end, limit) == (want[:limit] if limit else want)
        assert tree.get(start) == model.get(start)
    assert tree.last() == max(model.items())
    assert tree.get(b"k100x") is None


def space_use(keep_reader: bool) -> int:
    """Rewrite the same few keys often; return the high-water mark that it takes."""
    _, db = new_db()
    for number in range(4):
        tx = db.begin_write()
        tx.create_bucket(b"a").put(b"k%d" % number, b"first")
        commit(db, tx)
    read: ReadTx | None = db.begin_read() if keep_reader else None
    expected = plain_db(db)
    for number in range(300):
        tx = db.begin_write()
        bucket = tx.create_bucket(b"a")
        for key in range(30):
            bucket.put(b"k%03d" % key, b"%d" % number * 20)
        commit(db, tx)
    if read is not None:
        assert plain(read.root) == expected
        read.close()
    assert_clean(db)
    return db.meta.high_water


def test_space_is_used_again() -> None:
    assert space_use(keep_reader=False) < 30


def test_space_is_used_again_under_a_long_reader() -> None:
    assert space_use(keep_reader=True) < 40


def shape(db: Db, name: bytes) -> tuple[int, int]:
    """Return depth of the leftmost path and number of leaf pages of a bucket."""
    read = db.begin_read()
    tree = read.bucket(name)
    assert tree is not None
    leaves = 0
    depth = 0
    stack = [(tree.root, 1)]
    while stack:
        pgid, level = stack.pop()
        depth = max(depth, level)
        page = read.pages.load(pgid)
        if page[8] == 1:
            stack += [(child, level + 1) for child in read.pages.children(page, 0)]
        else:
            leaves += 1
    read.close()
    return depth, leaves


def test_appends_fill_pages_and_deletes_merge_them() -> None:
    _, db = new_db(4096)
    number = 0
    for count in [1, 3, 10, 100, 1000, 886]:
        tx = db.begin_write()
        bucket = tx.create_bucket(b"key")
        bucket.fill = 0.9
        keys = [b"%017d" % n for n in range(number, number + count)]
        bucket.append(keys, [bytes(300)] * count)
        number += count
        commit(db, tx)
        assert_clean(db)
    # 333 bytes an entry, 0.9 of 4096: 11 a page.
    depth, leaves = shape(db, b"key")
    assert (depth, leaves) == (3, -(-2000 // 11))
    tx = db.begin_write()
    bucket2 = tx.bucket(b"key")
    assert bucket2 is not None
    for n in range(2000):
        if n % 20:
            bucket2.delete(b"%017d" % n)
    commit(db, tx)
    assert_clean(db)
    depth, leaves = shape(db, b"key")
    assert depth == 2
    assert 10 <= leaves <= 40
    tx = db.begin_write()
    bucket3 = tx.bucket(b"key")
    assert bucket3 is not None
    for n in range(2000):
        bucket3.delete(b"%017d" % n)
    commit(db, tx)
    assert_clean(db)
    assert plain_db(db) == (0, [(b"key", (0, []))])
