"""The store on the real backend and a disk that loses power: each start finds the history, revision for revision."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from quorate.mvcc.record import key_value_fields
from quorate.mvcc.store import Store, StoreOptions
from quorate.mvcc.watch import WatchHub
from quorate.ports import NullLog
from quorate.storage.backend import Backend, BackendOptions
from quorate.storage.schema import BUCKETS, CONSISTENT_INDEX, META
from tests.fakes.disk import PowerCut, SimDisk
from tests.mvcc.fakes import FakeLeases
from tests.mvcc.model import Model
from tests.storage.loop import FakeLoop

KEYS = [b"a", b"b", b"c", b"d", b"e"]

# One entry of the log: what it does to the store, and to the model.
Entry = tuple[Callable[[Store], None], Callable[[Model], None]]


class Machine:
    """A member on a disk, which remembers its log apart from it, as the write-ahead log does."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.disk = SimDisk(seed)
        self.disk.make_dirs("d")
        self.disk.sync_dir("")
        self.log: list[Entry] = []
        self.rev = 1

    def start(self) -> None:
        """Open what is on the disk and apply the entries that it lacks."""
        self.loop = FakeLoop(self.rng.getrandbits(30))
        self.backend = Backend(self.loop, self.disk, "d/db", NullLog(), BackendOptions(batch_limit=30))
        for name in BUCKETS:
            self.backend.create_bucket(name)
        options = StoreOptions(cache_bytes=2000, compaction_batch_limit=7, hash_batch=5)
        self.store = Store(self.backend, FakeLeases(), WatchHub(), options, self.loop, NullLog())
        self.store.restore()
        applied = int.from_bytes(self.backend.get(META, CONSISTENT_INDEX) or b"", "big")
        model = self.model(applied)
        assert (self.store.current_rev, self.store.compact_rev) == (model.rev, model.compact_rev)
        for index in range(applied, len(self.log)):
            self.apply(index)

    def apply(self, index: int) -> None:
        self.log[index][0](self.store)
        self.backend.put(META, CONSISTENT_INDEX, (index + 1).to_bytes(8, "big"))

    def append(self) -> None:
        """Make up an entry and apply it."""
        key, value = self.rng.choice(KEYS), b"%d" % len(self.log) * self.rng.choice((1, 200))
        kind = self.rng.random()
        if kind < 0.7:
            self.log.append((lambda store: _put(store, key, value), lambda model: _model_put(model, key, value)))
        elif kind < 0.9:
            self.log.append((lambda store: _delete(store, key), lambda model: _model_delete(model, key)))
        else:
            rev = self.store.current_rev - self.rng.randrange(4)
            if rev <= self.store.compact_rev:
                return
            self.log.append((lambda store: store.compact(rev, None), lambda model: model.compact(rev)))
        self.apply(len(self.log) - 1)

    def model(self, applied: int) -> Model:
        model = Model()
        for _, change in self.log[:applied]:
            change(model)
        return model

    def compare(self) -> None:
        model = self.model(len(self.log))
        assert (self.store.current_rev, self.store.compact_rev) == (model.rev, model.compact_rev)
        for rev in range(max(model.compact_rev, 1), model.rev + 1):
            result = self.store.range(b"a", b"\x00", rev, 0, False)
            assert [key_value_fields(record) for record in result.kvs] == list(model.state(rev).values())


def _put(store: Store, key: bytes, value: bytes) -> None:
    store.put(key, value, 0, False)


def _model_put(model: Model, key: bytes, value: bytes) -> None:
    model.put(key, value, 0)
    model.end()


def _delete(store: Store, key: bytes) -> None:
    txn = store.begin()
    txn.delete_range(key, b"", False)
    txn.end()


def _model_delete(model: Model, key: bytes) -> None:
    model.delete_range(key, b"")
    model.end()


def hash_now(machine: Machine) -> int:
    results: list[int] = []
    machine.store.hash_by_rev(0, lambda value, *_: results.append(value))
    machine.loop.run()
    assert machine.loop.fatal_error is None
    return results[0]


@pytest.mark.parametrize("seed", range(25))
def test_power_cuts_while_writing_and_compacting(seed: int) -> None:
    machine = Machine(seed)
    for _ in range(4):
        machine.start()
        machine.compare()
        machine.disk.sync_dir("d")
        machine.disk.stop_at(machine.rng.randrange(5, 80))
        try:
            for _ in range(150):
                machine.append()
                for _ in range(machine.rng.randrange(3)):
                    machine.loop.step()
        except PowerCut:
            pass
        machine.disk.stop_at(None)
        machine.disk.crash(machine.rng)
    machine.start()
    machine.compare()
    machine.loop.run()
    machine.loop.advance(10_000_000_000)
    machine.compare()
    before = hash_now(machine)
    machine.backend.commit()
    machine.loop.run()
    machine.backend.close()
    machine.start()
    assert hash_now(machine) == before
