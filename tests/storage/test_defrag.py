"""Defragmentation: the same content in less space, while everything goes on, and whole at every crash."""

import errno
import random

import pytest

from quorate.storage import defrag
from quorate.storage.backend import Backend
from quorate.storage.schema import BUCKETS, CONSISTENT_INDEX, KEY, LEASE, META
from tests.fakes.disk import PowerCut, SimDisk
from tests.storage.loop import FakeLoop, Lines
from tests.storage.test_backend import LOG, check, committed, dump, rev, start, view_of


def fragmented(disk: SimDisk, loop: FakeLoop, count: int = 3000) -> Backend:
    """Return a backend most of whose file is free."""
    backend = start(disk, loop)
    for main in range(2, count):
        backend.append_revision(rev(main), b"v" * 200)
        backend.put(LEASE, b"%05d" % main, b"lease")
    committed(backend, loop)
    for main in range(2, count):
        if main % 10:
            backend.delete(KEY, rev(main))
            backend.delete(LEASE, b"%05d" % main)
    committed(backend, loop)
    backend.put(META, b"x", b"1")
    committed(backend, loop)
    return backend


def content(backend: Backend) -> dict[bytes, list[tuple[bytes, bytes]]]:
    return {name: backend.range(name, b"", b"") for name in BUCKETS}


def test_it_shrinks_and_keeps_everything() -> None:
    disk, loop = SimDisk(), FakeLoop()
    backend = fragmented(disk, loop)
    log = backend._log = Lines()
    before, size, in_use = content(backend), backend.size(), backend.size_in_use()
    assert in_use < size / 3
    view = view_of(backend, loop)
    seen = dump(view)
    outcome: list[Exception | None] = []
    backend.defragment(outcome.append)
    backend.defragment(outcome.append)
    assert backend.defragmenting
    loop.run_until(lambda: outcome)
    assert outcome == [None, None]
    assert not backend.defragmenting
    assert content(backend) == before
    assert backend.size() <= in_use
    assert disk.list_dir("d") == ["db"]
    assert backend.defrag_seconds.counts[0] == 1
    assert [msg for msg, _ in log.lines] == ["defragmenting", "finished defragmenting directory"]
    assert log.lines[1][1]["current-db-size-bytes-diff"] == backend.size() - size
    # The old file serves its views until they are closed.
    assert dump(view) == seen
    backend.append_revision(rev(9999), b"after")
    committed(backend, loop)
    assert dump(view) == seen
    assert backend.open_read_txs == 2
    view.close()
    assert backend.open_read_txs == 1
    backend.close()
    check(disk)
    assert Backend(loop, disk, "d/db", LOG).get(KEY, rev(9999)) == b"after"


def test_an_empty_database_can_be_defragmented() -> None:
    disk, loop = SimDisk(), FakeLoop()
    backend = start(disk, loop)
    outcome: list[Exception | None] = []
    backend.defragment(outcome.append)
    loop.run_until(lambda: outcome)
    assert outcome == [None]
    assert view_of(backend, loop).buckets() == sorted(BUCKETS)
    backend.close()
    check(disk)


@pytest.mark.parametrize("seed", range(25))
def test_writes_go_on_meanwhile(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defrag, "SHORT_PASS_PAIRS", 20)
    monkeypatch.setattr(defrag, "SLICE_PAIRS_MAX", 40)
    rng = random.Random(seed)
    disk, loop = SimDisk(), FakeLoop(seed)
    backend = fragmented(disk, loop, 800)
    model = {name: dict(rows) for name, rows in content(backend).items()}
    outcome: list[Exception | None] = []
    backend.defragment(outcome.append)
    main = 1000
    writes = 0
    for _ in range(20_000):
        if outcome:
            break
        if rng.random() < 0.3 and writes < 1500:
            writes += 1
            main += 1
            model[KEY][rev(main)] = b"%d" % main
            backend.append_revision(rev(main), b"%d" % main)
            gone = rng.choice(list(model[KEY]))
            if rng.random() < 0.3:
                del model[KEY][gone]
                backend.delete(KEY, gone)
            lease = b"%05d" % rng.randrange(800)
            model[LEASE][lease] = b"%d" % main
            backend.put(LEASE, lease, b"%d" % main)
            if rng.random() < 0.2:
                backend.create_bucket(b"new%d" % (main % 3))
                model.setdefault(b"new%d" % (main % 3), {})
        if rng.random() < 0.1:
            backend.commit()
        loop.step()
        assert loop.fatal_error is None
    assert outcome == [None]
    for name, rows in model.items():
        assert backend.range(name, b"", b"") == sorted(rows.items())
    view = view_of(backend, loop)
    assert dump(view) == model
    view.close()
    backend.close()
    check(disk)


@pytest.mark.parametrize("kind", ["open", "write", "sync", "truncate"])
def test_an_error_on_the_copy_ends_it_and_not_the_member(kind: str) -> None:
    disk, loop = SimDisk(), FakeLoop()
    backend = fragmented(disk, loop)
    before = content(backend)
    disk.fail(kind, errno.ENOSPC, path="db.tmp")
    outcome: list[Exception | None] = []
    backend.defragment(outcome.append)
    loop.run_until(lambda: outcome)
    assert isinstance(outcome[0], OSError)
    assert outcome[0].errno == errno.ENOSPC
    loop.advance(10**9)
    assert loop.fatal_error is None
    assert disk.list_dir("d") == ["db"]
    assert content(backend) == before
    assert backend.open_read_txs == 1
    outcome.clear()
    backend.append_revision(rev(9999), b"x")
    backend.defragment(outcome.append)
    loop.run_until(lambda: outcome)
    assert outcome == [None]


@pytest.mark.parametrize("kind", ["rename", "sync_dir"])
def test_a_swap_that_may_or_may_not_have_happened_is_fatal(kind: str) -> None:
    disk, loop = SimDisk(), FakeLoop()
    backend = fragmented(disk, loop)
    backend.defragment(lambda error: None)
    loop.run_until(lambda: disk.exists(backend._defrag._path))  # type: ignore[union-attr]
    disk.fail(kind)
    loop.run_until(lambda: loop.fatal_error)
    assert isinstance(loop.fatal_error, OSError)
    operations = disk.operations
    backend.append_revision(rev(9999), b"x")
    loop.advance(10**9)
    assert disk.operations == operations


@pytest.mark.parametrize("steps", range(22))
def test_closing_in_the_middle_leaves_the_old_file(steps: int) -> None:
    disk, loop = SimDisk(), FakeLoop(steps)
    backend = fragmented(disk, loop)
    before = content(backend)
    outcome: list[Exception | None] = []
    backend.defragment(outcome.append)
    for _ in range(steps):
        loop.step()
    assert not outcome
    backend.close()
    for _ in range(1000):
        loop.step()
    assert loop.fatal_error is None
    assert disk.list_dir("d") == ["db"]
    assert content(Backend(loop, disk, "d/db", LOG)) == before


@pytest.mark.parametrize("seed", range(40))
def test_a_crash_at_any_operation_leaves_a_whole_file(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """etcd issue 14685: the consistent index in the file always fits the entries in it."""
    monkeypatch.setattr(defrag, "SHORT_PASS_PAIRS", 20)
    rng = random.Random(seed)
    disk, loop = SimDisk(seed), FakeLoop(seed)
    backend = fragmented(disk, loop, 300)
    disk.sync_dir("")
    index = 0
    durable = 0
    backend.before_commit = lambda: backend.put(META, CONSISTENT_INDEX, index.to_bytes(8, "big"))

    def acknowledge(upto: int) -> None:
        nonlocal durable
        durable = max(durable, upto)

    disk.stop_at(seed * 2 + 1)
    try:
        while True:
            if not backend.defragmenting:
                backend.defragment(lambda error: None)
            if rng.random() < 0.5:
                index += 1
                backend.append_revision(rev(5000 + index), b"entry")
                backend.put(LEASE, b"%05d" % (index % 30), b"%d" % index)
                if rng.random() < 0.2:
                    backend.commit(lambda upto=index: acknowledge(upto))
            loop.step()
            assert loop.fatal_error is None
    except PowerCut:
        disk.crash(rng)
    check(disk)
    backend = Backend(FakeLoop(), disk, "d/db", LOG)
    found = int.from_bytes(backend.get(META, CONSISTENT_INDEX) or b"", "big")
    assert durable <= found <= index
    entries = [key for key, _ in backend.range(KEY, rev(5000), b"")]
    assert entries == [rev(5000 + i) for i in range(1, found + 1)]
