"""The backend: batches over a file, commits, views, crashes."""

import random

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.errors import CorruptError
from quorate.ports import NullLog
from quorate.storage.backend import BATCH_INTERVAL_NS, Backend, BackendOptions
from quorate.storage.bolt.db import Db
from quorate.storage.schema import BUCKETS, CONSISTENT_INDEX, KEY, LEASE, META
from quorate.storage.view import ReadView
from tests.fakes.disk import PowerCut, SimDisk
from tests.storage.loop import FakeLoop

LOG = NullLog()


def rev(main: int, sub: int = 0) -> bytes:
    return main.to_bytes(8, "big") + b"_" + sub.to_bytes(8, "big")


def start(disk: SimDisk, loop: FakeLoop, options: BackendOptions | None = None) -> Backend:
    disk.make_dirs("d")
    backend = Backend(loop, disk, "d/db", LOG, options)
    for name in BUCKETS:
        backend.create_bucket(name)
    return backend


def committed(backend: Backend, loop: FakeLoop) -> None:
    done: list[int] = []
    backend.commit(lambda: done.append(1))
    loop.run()
    assert done


def check(disk: SimDisk, path: str = "d/db") -> None:
    db = Db.open(disk, path, LOG, read_only=True)
    assert list(db.check()) == []
    db.close()


def dump(view: ReadView) -> dict[bytes, dict[bytes, bytes]]:
    return {name: dict(view.range(name, b"", b"")) for name in view.buckets()}


def test_reads_see_the_open_batch_the_one_in_flight_and_the_file() -> None:
    disk, loop = SimDisk(), FakeLoop()
    backend = start(disk, loop)
    for main in range(2, 8):
        backend.append_revision(rev(main), b"file")
    committed(backend, loop)
    backend.delete(KEY, rev(3))
    backend.put(KEY, rev(4), b"flight")
    backend.append_revision(rev(8), b"flight")
    backend.commit()
    loop.turn()  # the batch is frozen, and not yet written
    backend.delete(KEY, rev(4))
    backend.put(KEY, rev(5), b"open")
    backend.append_revision(rev(9), b"open")
    expected = {rev(2): b"file", rev(5): b"open", rev(6): b"file", rev(7): b"file", rev(8): b"flight", rev(9): b"open"}
    for _ in range(2):
        assert dict(backend.range(KEY, b"", b"")) == expected
        assert [key for key, _ in backend.range(KEY, b"", b"")] == sorted(expected)
        assert backend.range(KEY, rev(3), rev(8), 2) == [(rev(5), b"open"), (rev(6), b"file")]
        for main in range(2, 11):
            assert backend.get(KEY, rev(main)) == expected.get(rev(main))
        loop.run()
    committed(backend, loop)
    assert dict(backend.range(KEY, b"", b"")) == expected
    assert backend.get(b"nothing", b"x") is None
    assert backend.range(b"nothing", b"", b"") == []
    backend.close()
    check(disk)


def test_a_commit_comes_after_the_interval_or_at_the_limit() -> None:
    disk, loop = SimDisk(), FakeLoop()
    backend = start(disk, loop, BackendOptions(batch_limit=50))
    committed(backend, loop)
    before = backend.commits
    loop.advance(BATCH_INTERVAL_NS * 3)
    assert backend.commits == before
    backend.append_revision(rev(2), b"x")
    loop.advance(BATCH_INTERVAL_NS - 1)
    assert backend.commits == before
    loop.advance(1)
    assert backend.commits == before + 1
    for main in range(3, 53):
        backend.append_revision(rev(main), b"x")
        assert backend.commits == before + 1, "never within a turn: the entry may be half applied"
    loop.run()
    assert backend.commits == before + 2
    loop.advance(BATCH_INTERVAL_NS * 2)
    assert backend.commits == before + 2
    assert sum(backend.commit_seconds.counts) == backend.commits


def test_commits_join_and_tell_when_durable() -> None:
    disk, loop = SimDisk(), FakeLoop()
    backend = start(disk, loop)
    committed(backend, loop)
    before = backend.commits
    told: list[str] = []
    backend.append_revision(rev(2), b"x")
    backend.commit(lambda: told.append("a"))
    backend.commit(lambda: told.append("b"))
    loop.turn()
    backend.append_revision(rev(3), b"x")
    backend.commit(lambda: told.append("c"))
    loop.turn()
    assert told == []
    loop.job()
    assert told == ["a", "b"]
    loop.run()
    assert told == ["a", "b", "c"]
    assert backend.commits == before + 2
    backend.commit(lambda: told.append("nothing to do"))
    loop.run()
    assert told[-1] == "nothing to do"
    assert backend.commits == before + 2


def test_the_consistent_index_moves_with_the_effects_of_its_entries() -> None:
    """etcd issue 13766: the hook runs when the batch is complete, in its transaction, at every kind of commit."""
    disk, loop = SimDisk(), FakeLoop()
    backend = start(disk, loop, BackendOptions(batch_limit=7))
    index = 0
    backend.before_commit = lambda: backend.put(META, CONSISTENT_INDEX, index.to_bytes(8, "big"))
    for index in range(1, 26):
        for sub in range(3):
            backend.append_revision(rev(index, sub), b"x")
        if index % 5 == 0:
            loop.step()
        if index == 20:
            loop.run()
            backend.commit_blocking()
        disk_now = SimDisk()
        disk_now.make_dirs("d")
        disk_now.write("d/db", disk.content("d/db"))
        seen = Db.open(disk_now, "d/db", LOG, read_only=True).begin_read()
        meta, keys = seen.bucket(META), seen.bucket(KEY)
        if meta is None or keys is None:
            continue
        stored = int.from_bytes(meta.get(CONSISTENT_INDEX) or b"", "big")
        assert [key for key, _ in keys.range(b"", None)] == [rev(i, s) for i in range(1, stored + 1) for s in range(3)]


def test_the_end_of_the_bucket_and_limits() -> None:
    disk, loop = SimDisk(), FakeLoop()
    backend = start(disk, loop)
    for i in range(10):
        backend.put(LEASE, bytes([i]), b"%d" % i)
    committed(backend, loop)
    for i in range(0, 10, 2):
        backend.delete(LEASE, bytes([i]))
    assert [key[0] for key, _ in backend.range(LEASE, b"", b"", 3)] == [1, 3, 5]
    assert [key[0] for key, _ in backend.range(LEASE, b"\x03", b"\x09", 0)] == [3, 5, 7]


@pytest.mark.parametrize("kind", ["write", "sync"])
def test_a_failed_commit_is_fatal_and_never_tried_again(kind: str) -> None:
    disk, loop = SimDisk(), FakeLoop()
    backend = start(disk, loop)
    committed(backend, loop)
    disk.fail(kind, path="db")
    backend.append_revision(rev(2), b"x")
    told: list[int] = []
    backend.commit(lambda: told.append(1))
    loop.run()
    assert isinstance(loop.fatal_error, OSError)
    operations = disk.operations
    backend.append_revision(rev(3), b"x")
    backend.commit()
    loop.advance(BATCH_INTERVAL_NS * 3)
    backend.commit_blocking()
    assert disk.operations == operations
    assert told == []
    backend.close()


def test_a_put_into_a_bucket_that_does_not_exist_is_fatal() -> None:
    disk, loop = SimDisk(), FakeLoop()
    backend = start(disk, loop)
    backend.put(b"nowhere", b"a", b"b")
    backend.commit()
    loop.run()
    assert "does not exist" in str(loop.fatal_error)


def test_close_drops_what_was_not_committed_and_waits_for_the_commit_in_flight() -> None:
    disk, loop = SimDisk(), FakeLoop()
    backend = start(disk, loop)
    committed(backend, loop)
    backend.append_revision(rev(2), b"in flight")
    backend.commit()
    loop.turn()
    backend.append_revision(rev(3), b"open")
    backend.close()
    backend.close()
    with pytest.raises(BlockingIOError):
        Db.open(disk, "d/db", LOG, wait=False)
    loop.run()
    backend = start(disk, loop)
    assert backend.range(KEY, b"", b"") == [(rev(2), b"in flight")]


def test_without_fsync_nothing_is_synced() -> None:
    disk, loop = SimDisk(), FakeLoop()
    backend = start(disk, loop, BackendOptions(unsafe_no_fsync=True))
    committed(backend, loop)
    assert not [path for kind, path in disk.history if kind == "sync"]


# ------------------------------------------------------------------------------------------------ views


def view_of(backend: Backend, loop: FakeLoop) -> ReadView:
    views: list[ReadView] = []
    backend.read_view(views.append)
    loop.run()
    return views[0]


def test_a_view_stays_as_it_is_and_streams_a_whole_database() -> None:
    disk, loop = SimDisk(), FakeLoop()
    backend = start(disk, loop)
    for main in range(2, 300):
        backend.append_revision(rev(main), b"v" * 100)
    view = view_of(backend, loop)
    content = dump(view)
    assert len(content[KEY]) == 298
    assert backend.open_read_txs == 2
    for main in range(300, 900):
        backend.append_revision(rev(main), b"w" * 500)
        backend.delete(KEY, rev(main - 250))
        if main % 50 == 0:
            committed(backend, loop)
    assert dump(view) == content
    chunks = list(view.chunks(32768))
    assert [len(chunk) for chunk in chunks[:-1]] == [32768] * (len(chunks) - 1)
    assert 0 < len(chunks[-1]) <= 32768
    assert len(b"".join(chunks)) == view.size
    disk.write("d/copy", b"".join(chunks))
    check(disk, "d/copy")
    copy = Backend(FakeLoop(), disk, "d/copy", LOG)
    for name in BUCKETS:
        assert dict(copy.range(name, b"", b"")) == content[name]
    view.close()
    view.close()
    assert backend.open_read_txs == 1


def test_hash_is_etcds_and_leaves_out_what_may_differ() -> None:
    disk, loop = SimDisk(), FakeLoop()
    backend = start(disk, loop)
    backend.put(META, CONSISTENT_INDEX, b"\0" * 7 + b"\x09")
    backend.put(META, b"confState", b"{}")
    for main in range(2, 2000):
        backend.append_revision(rev(main), b"%d" % main)
    backend.put(LEASE, b"l" * 8, b"lease")
    view = view_of(backend, loop)
    content = dump(view)
    expected = 0
    everything = 0
    for name in sorted(content):
        expected = google_crc32c.extend(expected, name)
        everything = google_crc32c.extend(everything, name)
        for key in sorted(content[name]):
            everything = google_crc32c.extend(everything, key + content[name][key])
            if (name, key) != (META, CONSISTENT_INDEX):
                expected = google_crc32c.extend(expected, key + content[name][key])
    hashes: list[int] = []
    backend.hash(hashes.append)
    loop.run()
    assert hashes == [expected] == [view.hash()]
    assert view.hash(skip_volatile=False) == everything
    backend.put(META, CONSISTENT_INDEX, b"\0" * 7 + b"\x0a")
    backend.hash(hashes.append)
    loop.run()
    assert hashes == [expected, expected]


def test_damage_found_while_hashing_is_fatal() -> None:
    disk, loop = SimDisk(), FakeLoop()
    backend = start(disk, loop)
    for main in range(2, 2000):
        backend.append_revision(rev(main), b"x" * 50)
    committed(backend, loop)
    size = len(disk.content("d/db"))
    # Turn the flags of all data pages into nonsense.
    for page in range(4, backend.size() // 4096):
        disk.flip("d/db", page * 4096 + 9, 5)
    assert size
    backend.hash(lambda _: None)
    loop.run()
    assert isinstance(loop.fatal_error, CorruptError)
    assert loop.fatal_error.path == "d/db"


# ------------------------------------------------------------------------------------------------ model

keys = st.integers(0, 30).map(lambda i: b"k%02d" % i)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from([LEASE, META]), keys, st.binary(max_size=600)),
        st.tuples(st.just("delete"), st.sampled_from([LEASE, META]), keys),
        st.tuples(st.just("append"), st.integers(1, 20), st.sampled_from([10, 300, 5000])),
        st.tuples(st.just("compact"), st.integers(0, 60)),
        st.tuples(st.just("range"), keys, keys | st.just(b""), st.integers(0, 5)),
        st.tuples(st.just("commit")),
        st.tuples(st.just("step"), st.integers(1, 4)),
        st.tuples(st.just("view")),
        st.tuples(st.just("defragment")),
        st.tuples(st.just("reopen")),
    ),
    max_size=40,
)


class Model:
    """A backend beside plain dicts."""

    def __init__(self) -> None:
        self.disk = SimDisk()
        self.loop = FakeLoop()
        self.backend = start(self.disk, self.loop)
        self.content: dict[bytes, dict[bytes, bytes]] = {name: {} for name in BUCKETS}
        self.main = 1
        self.views: list[tuple[ReadView, dict[bytes, dict[bytes, bytes]]]] = []

    def do(self, operation: tuple) -> None:
        getattr(self, operation[0])(*operation[1:])
        assert self.loop.fatal_error is None

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None:
        self.backend.put(bucket, key, value)
        self.content[bucket][key] = value

    def delete(self, bucket: bytes, key: bytes) -> None:
        self.backend.delete(bucket, key)
        self.content[bucket].pop(key, None)

    def append(self, count: int, size: int) -> None:
        for _ in range(count):
            self.main += 1
            self.backend.append_revision(rev(self.main), b"%d" % self.main * (size // 4))
            self.content[KEY][rev(self.main)] = b"%d" % self.main * (size // 4)

    def compact(self, percent: int) -> None:
        for key in [key for key in self.content[KEY] if key <= rev(self.main * percent // 60)]:
            self.delete(KEY, key)

    def range(self, start: bytes, end: bytes, limit: int) -> None:
        for bucket in (LEASE, META):
            rows = sorted((k, v) for k, v in self.content[bucket].items() if start <= k and (not end or k < end))
            assert self.backend.range(bucket, start, end, limit) == (rows[:limit] if limit else rows)
        for bucket in (LEASE, META):
            assert self.backend.get(bucket, start) == self.content[bucket].get(start)

    def commit(self) -> None:
        self.backend.commit()

    def step(self, count: int) -> None:
        for _ in range(count):
            self.loop.step()

    def view(self) -> None:
        expected = {name: dict(changes) for name, changes in self.content.items()}
        view = view_of(self.backend, self.loop)
        assert dump(view) == expected
        self.views.append((view, expected))

    def defragment(self) -> None:
        self.backend.defragment(self.defragmented)

    def defragmented(self, error: Exception | None) -> None:
        assert error is None

    def reopen(self) -> None:
        self.settle()
        self.backend.commit_blocking()
        for view, expected in self.views:
            assert dump(view) == expected
            view.close()
        self.views = []
        self.backend.close()
        self.loop.run()
        check(self.disk)
        assert self.disk.list_dir("d") == ["db"]
        self.backend = Backend(self.loop, self.disk, "d/db", LOG)

    def settle(self) -> None:
        self.loop.run_until(lambda: not self.backend.defragmenting)
        self.loop.run()

    def compare(self) -> None:
        for name, changes in self.content.items():
            assert self.backend.range(name, b"", b"") == sorted(changes.items())


@given(operations)
@settings(max_examples=150, deadline=None)
def test_against_dicts(run: list[tuple]) -> None:
    model = Model()
    for operation in run:
        model.do(operation)
    model.compare()
    model.reopen()
    model.compare()


# ------------------------------------------------------------------------------------------------ crashes


@pytest.mark.parametrize("seed", range(60))
def test_after_a_power_cut_the_file_is_one_of_the_committed_states(seed: int) -> None:
    """Commits, defragmentations, and the power going at any operation: the file is whole, and has what was told."""
    rng = random.Random(seed)
    disk = SimDisk(seed)
    disk.make_dirs("d")
    disk.sync_dir("")
    written: list[dict[bytes, bytes]] = [{}]
    durable = 0
    index = 0

    def acknowledge(upto: int) -> None:
        nonlocal durable
        durable = max(durable, upto)

    for _ in range(5):
        loop = FakeLoop(rng.getrandbits(30))
        try:
            backend = start(disk, loop, BackendOptions(batch_limit=20))
            state = dict(written[-1])
            committed(backend, loop)
            disk.stop_at(rng.randrange(1, 60))
            while True:
                index += 1
                for _ in range(rng.randrange(1, 5)):
                    key = b"%03d" % rng.randrange(200)
                    if rng.random() < 0.6:
                        state[key] = b"%d" % index * rng.choice((1, 300))
                        backend.put(LEASE, key, state[key])
                    else:
                        state.pop(key, None)
                        backend.delete(LEASE, key)
                backend.append_revision(rev(index), b"r" * rng.choice((10, 1000)))
                state[rev(index)] = b""
                backend.put(META, CONSISTENT_INDEX, index.to_bytes(8, "big"))
                written.append(dict(state))
                if rng.random() < 0.3:
                    backend.commit(lambda upto=index: acknowledge(upto))
                if rng.random() < 0.1:
                    backend.defragment(lambda error: None)
                for _ in range(rng.randrange(4)):
                    loop.step()
                assert loop.fatal_error is None
        except PowerCut:
            pass
        disk.crash(rng)
        check(disk)
        backend = Backend(FakeLoop(), disk, "d/db", LOG)
        found = int.from_bytes(backend.get(META, CONSISTENT_INDEX) or b"", "big")
        assert durable <= found <= index
        assert dict(backend.range(LEASE, b"", b"")) == {k: v for k, v in written[found].items() if len(k) == 3}
        assert [k for k, _ in backend.range(KEY, b"", b"")] == sorted(k for k in written[found] if len(k) == 17)
        backend.close()
        index = found
        del written[found + 1 :]
        durable = found
        for name in disk.list_dir("d"):
            if name.startswith("db.tmp"):
                disk.remove("d/" + name)
