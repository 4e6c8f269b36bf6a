"""Db and transactions: limits, misuse, the order of a commit's writes, sizes, streams, copies."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.errors import CorruptError
from quorate.ports import NullLog
from quorate.runtime.disk import OsDisk
from quorate.storage.bolt import Compactor, Db, Scan
from quorate.storage.bolt.freelist import FREE, USED, WAITING, Freelist

from .memory import (
    MemoryDisk,
    assert_clean,
    commit,
    fill_revisions,
    new_db,
    open_bytes,
    plain,
    plain_db,
    revision,
    sample_db,
    value_of,
)
from .test_model import Run


def test_the_lock_is_exclusive(tmp_path: object) -> None:
    disk = OsDisk()
    path = f"{tmp_path}/db"
    db = Db.open(disk, path, NullLog())
    with pytest.raises(BlockingIOError, match="locked by another process"):
        Db.open(disk, path, NullLog(), wait=False)
    with pytest.raises(BlockingIOError):
        Db.open(disk, path, NullLog(), read_only=True, wait=False)
    db.close()
    one = Db.open(disk, path, NullLog(), read_only=True, wait=False)
    two = Db.open(disk, path, NullLog(), read_only=True, wait=False)
    with pytest.raises(BlockingIOError):
        Db.open(disk, path, NullLog(), wait=False)
    one.close()
    two.close()
    Db.open(disk, path, NullLog(), wait=False).close()


def test_on_the_real_disk_with_growth_under_a_reader(tmp_path: object) -> None:
    disk = OsDisk()
    path = f"{tmp_path}/db"
    db = Db.open(disk, path, NullLog())
    assert disk.mode(path) == 0o600
    reads = []
    for round_number in range(3):
        tx = db.begin_write()
        bucket = tx.create_bucket(b"key")
        for number in range(6):
            bucket.put(b"%d-%d" % (round_number, number), value_of(number, 1 << 20))
        commit(db, tx)
        read = db.begin_read()
        reads.append((read, plain(read.root)))
    for read, expected in reads:
        assert plain(read.root) == expected
        read.close()
    assert_clean(db)
    state = plain_db(db)
    db.close()
    db = Db.open(disk, path, NullLog(), read_only=True)
    assert plain_db(db) == state
    db.close()


def test_a_missing_file_is_not_made_when_read_only() -> None:
    with pytest.raises(FileNotFoundError):
        Db.open(MemoryDisk(), "db", NullLog(), read_only=True)


def test_read_only_takes_no_write_transaction() -> None:
    disk, db = sample_db()
    twin = open_bytes(disk.files["db"].content(), read_only=True)
    assert plain_db(twin) == plain_db(db)
    assert_clean(twin)
    with pytest.raises(AssertionError, match="reading only"):
        twin.begin_write()
    assert len(disk.files["db"].content()) == len(disk.files["db"].content())


def test_one_write_transaction_at_a_time() -> None:
    _, db = new_db()
    tx = db.begin_write()
    with pytest.raises(AssertionError, match="is open"):
        db.begin_write()
    tx.rollback()
    tx = db.begin_write()
    done = tx.prepare()
    with pytest.raises(AssertionError, match="in flight"):
        db.begin_write()
    with pytest.raises(AssertionError, match="ended"):
        tx.prepare()
    with pytest.raises(AssertionError, match="not written"):
        db.finish(done)
    done.write()
    db.finish(done)
    with pytest.raises(AssertionError, match="not the commit"):
        db.finish(done)
    db.begin_write().rollback()


def test_limits_of_keys_and_values() -> None:
    _, db = new_db()
    tx = db.begin_write()
    bucket = tx.create_bucket(b"a")
    with pytest.raises(ValueError, match="key required"):
        bucket.put(b"", b"v")
    with pytest.raises(ValueError, match="too large"):
        bucket.put(bytes(32769), b"v")
    with pytest.raises(ValueError, match="key required"):
        bucket.append([b""], [b"v"])
    with pytest.raises(ValueError, match="too large"):
        bucket.append([b"a", b"b" * 32769], [b"v", b"v"])
    with pytest.raises(ValueError, match="name required"):
        tx.create_bucket(b"")
    bucket.put(b"k" * 32768, b"v")
    bucket.put(b"big", value_of(1, 1 << 20))
    commit(db, tx)
    read = db.begin_read()
    tree = read.bucket(b"a")
    assert tree is not None
    assert tree.get(b"k" * 32768) == b"v"
    assert tree.get(b"big") == value_of(1, 1 << 20)
    assert_clean(db)


def test_buckets_and_values_do_not_replace_each_other() -> None:
    _, db = new_db()
    tx = db.begin_write()
    parent = tx.create_bucket(b"a")
    parent.put(b"plain", b"v")
    parent.create_bucket(b"child").put(b"k", b"v")
    commit(db, tx)
    state = plain_db(db)
    assert db.freelist is not None
    free = db.freelist.free_count

    def refused(change: str, key: bytes, opened: bool) -> None:
        tx = db.begin_write()
        parent = tx.create_bucket(b"a")
        fill_revisions(tx.create_bucket(b"other"), 1, 50)
        if opened:
            assert parent.bucket(key) is not None
        if change == "put":
            parent.put(key, b"v")
        else:
            parent.delete(key)
        with pytest.raises(ValueError, match="incompatible value"):
            tx.prepare()
        assert plain_db(db) == state
        assert_clean(db)
        assert db.freelist is not None
        assert (db.freelist.free_count, db.freelist.waiting_count) == (free, waiting)

    db.begin_write().rollback()
    free, waiting = db.freelist.free_count, db.freelist.waiting_count
    for change in ("put", "delete"):
        for opened in (False, True):
            refused(change, b"child", opened)
    tx = db.begin_write()
    with pytest.raises(ValueError, match="is not a bucket"):
        tx.create_bucket(b"a").create_bucket(b"plain")
    parent = tx.create_bucket(b"a")
    parent.delete(b"plain")
    parent.create_bucket(b"plain").put(b"x", b"y")
    assert parent.delete_bucket(b"child")
    parent.put(b"child", b"now a value")
    commit(db, tx)
    assert plain_db(db) == (0, [(b"a", (0, [(b"child", b"now a value"), (b"plain", (0, [(b"x", b"y")]))]))])
    assert_clean(db)


def test_deleting_a_bucket_frees_all_that_is_in_it() -> None:
    _, db = sample_db()
    assert db.freelist is not None
    tx = db.begin_write()
    for name in (b"key", b"nested", b"big", b"empty", b"meta"):
        assert tx.delete_bucket(name)
        assert not tx.delete_bucket(name)
        assert tx.bucket(name) is None
    commit(db, tx)
    assert_clean(db)
    db.begin_write().rollback()
    assert db.size_in_use == 3 * 1024
    assert plain_db(db) == (0, [])


def test_the_order_of_writes() -> None:
    """Pages ascending and joined, sync, meta alone, sync; the file longer first."""
    disk, db = new_db()
    file = disk.files["db"]
    file.operations.clear()
    tx = db.begin_write()
    fill_revisions(tx.create_bucket(b"key"), 2, 500)
    done = tx.prepare()
    assert file.operations == []
    done.write()
    kinds = [(kind, number) for kind, number, _ in file.operations]
    assert kinds == [("truncate", done.grow_to), ("write", 4 * 1024), ("sync", 0), ("write", 0), ("sync", 0)]
    assert len(file.operations[3][2]) == 1024
    db.finish(done)
    assert db.meta.txid == 2
    tx = db.begin_write()
    bucket = tx.create_bucket(b"key")
    bucket.delete(revision(5))
    bucket.delete(revision(400))
    file.operations.clear()
    done = commit(db, tx)
    offsets = [number for kind, number, _ in file.operations if kind == "write"]
    assert offsets[:-1] == sorted(offsets[:-1])
    assert offsets[-1] == 1024


def test_reading_own_writes() -> None:
    _, db = sample_db()
    tx = db.begin_write()
    key = tx.bucket(b"key")
    assert key is not None
    assert key.get(revision(151)) is not None
    key.delete(revision(151))
    fill_revisions(key, 200, 5, 10)
    assert key.get(revision(151)) is None
    assert key.get(revision(203)) == value_of(203, 10)
    assert key.get(revision(205)) is None
    key.put(revision(203), b"again")
    assert key.get(revision(203)) == b"again"
    assert key.get(revision(202)) == value_of(202, 10)
    assert tx.create_bucket(b"new").get(b"k") is None
    tx.rollback()


def test_the_stream_is_a_file_of_the_state() -> None:
    _, db = sample_db()
    read = db.begin_read()
    state = plain(read.root)
    tx = db.begin_write()
    tx.create_bucket(b"later").put(b"k", bytes(3000))
    commit(db, tx)
    for chunk_size in (1024, 1000, 1 << 20):
        content = b"".join(read.stream(chunk_size))
        assert len(content) == read.size
        twin = open_bytes(content)
        assert plain_db(twin) == state
        assert_clean(twin)
        assert twin.meta.txid == read.txid
    # Without the first meta page the second one states the same.
    twin = open_bytes(bytes(1024) + content[1024:])
    assert plain_db(twin) == state
    assert twin.meta.txid == read.txid - 1
    read.close()
    read.close()
    assert db.open_read_txs == 0


def test_a_read_transaction_pins_its_pages() -> None:
    _, db = sample_db()
    read = db.begin_read()
    state = plain(read.root)
    tree = read.bucket(b"key")
    assert tree is not None
    scan = Scan(tree, b"", None)
    assert scan.next_leaf()
    seen = list(scan.keys)
    for number in range(30):
        tx = db.begin_write()
        key = tx.bucket(b"key")
        assert key is not None
        for n in range(number * 5, number * 5 + 5):
            key.delete(revision(n))
        fill_revisions(key, 1000 + 10 * number, 10)
        commit(db, tx)
        assert scan.next_leaf()
        seen += scan.keys
    while scan.next_leaf():
        seen += scan.keys
    assert seen == [k for k, _ in tree.range(b"", None)]
    assert plain(read.root) == state
    read.close()


def copy_of(db: Db, step: int) -> Db:
    disk = MemoryDisk()
    read = db.begin_read()
    copy = Compactor(read, disk, "db")
    while copy.step(step):
        pass
    copy.finish()
    read.close()
    return Db.open(disk, "db", NullLog())


def test_a_copy_has_all_and_no_more() -> None:
    _, db = sample_db()
    for step in (1, 7, 100000):
        twin = copy_of(db, step)
        assert plain_db(twin) == plain_db(db)
        assert_clean(twin)
        assert twin.freelist is not None
        assert twin.freelist.free_count == 0
        assert twin.size < db.size
        tx = twin.begin_write()
        fill_revisions(tx.create_bucket(b"key"), 5000, 100)
        commit(twin, tx)
        assert_clean(twin)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1 << 30))
def test_copies_of_random_files(seed: int) -> None:
    run = Run(seed, 1024)
    for _ in range(6):
        run.transaction()
    twin = copy_of(run.db, 50)
    assert plain_db(twin) == run.model.plain()
    assert_clean(twin)


def test_a_copy_of_four_pages_is_no_new_file() -> None:
    _, db = new_db()
    tx = db.begin_write()
    tx.create_bucket(b"key").put(b"a", b"1" * 500)
    commit(db, tx)
    twin = copy_of(db, 50)
    assert twin.meta.high_water == 4
    assert plain_db(twin) == plain_db(db)


def test_a_copy_of_many_pages_is_full_at_every_level() -> None:
    _, db = new_db(1024)
    tx = db.begin_write()
    bucket = tx.create_bucket(b"key")
    chance = random.Random(1)
    for number in chance.sample(range(20000), 12000):
        bucket.put(b"%06d" % number, value_of(number, 60))
    commit(db, tx)
    twin = copy_of(db, 1000)
    assert plain_db(twin) == plain_db(db)
    assert_clean(twin)
    per_page = (1024 * 9 // 10 - 16) // 82
    assert twin.size < 1024 * 1.06 * (12000 / per_page)
    assert twin.size < 0.7 * db.size


def test_an_empty_copy_and_an_aborted_one() -> None:
    _, db = new_db()
    twin = copy_of(db, 10)
    assert plain_db(twin) == (0, [])
    assert_clean(twin)
    disk = MemoryDisk()
    read = db.begin_read()
    copy = Compactor(read, disk, "db")
    with pytest.raises(AssertionError, match="not complete"):
        copy.finish()
    copy.abort()
    read.close()
    with pytest.raises(CorruptError):
        Db.open(disk, "db", NullLog(), read_only=True)


class SlowFreelist:
    """The plain twin of Freelist: which pages no reader can see. Freelist may let some wait longer."""

    def __init__(self, states: bytearray) -> None:
        self.unseen = {page for page, state in enumerate(states) if state == FREE}
        self.waiting: dict[int, list[tuple[int, int]]] = {}  # by transaction: page, transaction that allocated it

    def release(self, readers: list[int]) -> None:
        for txid in list(self.waiting):
            kept = []
            for page, born in self.waiting.pop(txid):
                if any(born <= reader < txid for reader in readers):
                    kept.append((page, born))
                else:
                    self.unseen.add(page)
            if kept:
                self.waiting[txid] = kept


def lowest_run(states: bytearray, count: int) -> int:
    for page in range(len(states) - count + 1):
        if all(state == FREE for state in states[page : page + count]):
            return page
    return 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30))
def test_the_freelist_against_a_slow_twin(seed: int) -> None:
    chance = random.Random(seed)
    states = bytearray(chance.choice([FREE, USED]) for _ in range(60))
    states[0] = states[1] = USED
    fast, slow = Freelist(bytearray(states)), SlowFreelist(states)
    used: dict[int, tuple[int, int]] = {}  # first page -> count, born
    readers: list[int] = []
    for txid in range(1, 40):
        if chance.random() < 0.3:
            readers.append(txid - 1)
        if readers and chance.random() < 0.3:
            readers.pop(chance.randrange(len(readers)))
        fast.release(list(readers))
        slow.release(readers)
        waiting = {page for entry in slow.waiting.values() for page, _ in entry}
        for page, state in enumerate(fast.state):
            assert state != FREE or page in slow.unseen
            assert state != WAITING or (page in waiting or (readers and page in slow.unseen))
        assert fast.free_count == fast.state.count(FREE)
        assert fast.waiting_count == fast.state.count(WAITING)
        for _ in range(chance.randrange(4)):
            count = chance.choice([1, 1, 1, 2, 3])
            want = lowest_run(fast.state, count)
            page = fast.allocate(count)
            assert page == want
            if not page:
                page = fast.grow(count)
            if readers:
                fast.born[page] = txid
            slow.unseen -= set(range(page, page + count))
            used[page] = (count, txid)
        for page in [page for page in used if chance.random() < 0.3 and used[page][1] < txid]:
            count, born = used.pop(page)
            assert fast.free(txid, page, count)
            assert not fast.free(txid, page, count)
            slow.waiting.setdefault(txid, []).extend((page + n, born) for n in range(count))
