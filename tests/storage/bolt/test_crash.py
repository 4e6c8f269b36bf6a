"""Crashes in the middle of a commit: whatever part of the unsynced writes survives, the old or the new state is there.

The unit of loss is a 512-byte sector; the meta page is also torn at every byte.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from quorate.ports import NullLog
from quorate.storage.bolt import Db, WriteTx

from .memory import (
    MemoryDisk,
    assert_clean,
    commit,
    fill_revisions,
    open_bytes,
    plain_db,
    revision,
    sample_db,
    value_of,
)

SECTOR = 512
Operation = tuple[str, int, bytes]


def append(tx: WriteTx) -> None:
    key = tx.bucket(b"key")
    assert key is not None
    fill_revisions(key, 500, 150, 120)
    tx.create_bucket(b"meta").put(b"consistent_index", b"12345678")


def scattered(tx: WriteTx) -> None:
    key = tx.bucket(b"key")
    nested = tx.bucket(b"nested")
    assert key is not None
    assert nested is not None
    for number in range(3, 170, 4):
        key.delete(revision(number))
    nested.delete_bucket(b"inner")
    nested.create_bucket(b"other").put(b"k", value_of(9, 700))
    tx.create_bucket(b"big").put(b"one", value_of(8, 3000))


def nothing(tx: WriteTx) -> None:
    """An empty transaction writes a meta page only."""


def apply(content: bytearray, operation: Operation) -> None:
    kind, number, data = operation
    if kind == "truncate":
        # Growth is zeros, which the reopened file gets by its length; see `image`.
        return
    if kind == "write":
        if len(content) < number + len(data):
            content += bytes(number + len(data) - len(content))
        content[number : number + len(data)] = data


def torn(operation: Operation, keep: Callable[[], bool]) -> list[Operation]:
    """Return the sectors of a write that reach the disk."""
    kind, number, data = operation
    if kind != "write":
        return [operation]
    return [("write", number + at, data[at : at + SECTOR]) for at in range(0, len(data), SECTOR) if keep()]


class Scene:
    """A file before a commit, the commit's operations, and both states."""

    def __init__(self, change: Callable[[WriteTx], None], grow: bool) -> None:
        disk, db = sample_db()
        if grow:
            # As if the file had ended at the high-water mark, so that the commit must make it longer.
            db = open_bytes(disk.files["db"].content()[: db.size])
        file = db._file
        self.before = bytes(db.pages.view[: db.size])
        self.length = db.file_size
        self.old = plain_db(db)
        tx = db.begin_write()
        change(tx)
        done = tx.prepare()
        file.operations.clear()  # type: ignore[attr-defined]
        done.write()
        db.finish(done)
        self.operations: list[Operation] = list(file.operations)  # type: ignore[attr-defined]
        self.new = plain_db(db)
        self.grows = done.grow_to > 0

    def image(self, operations: list[Operation]) -> tuple[bytes, int]:
        content = bytearray(self.before)
        length = self.length
        for operation in operations:
            apply(content, operation)
            length = max(length, len(content))
            if operation[0] == "truncate":
                length = operation[1]
        return bytes(content), length

    def survivors(self, cut: int, keep: Callable[[], bool]) -> list[Operation]:
        """Return what is on the disk after a crash before operation `cut`: all that was synced, some of the rest."""
        synced = max((i + 1 for i in range(cut) if self.operations[i][0] == "sync"), default=0)
        kept = list(self.operations[:synced])
        for operation in self.operations[synced:cut]:
            if operation[0] == "write" or keep():
                kept += torn(operation, keep)
        return kept


def recovered(scene: Scene, operations: list[Operation]) -> object:
    content, length = scene.image(operations)
    db = open_bytes(content, length=length)
    state = plain_db(db)
    assert_clean(db)
    # The survivor takes further commits.
    tx = db.begin_write()
    tx.create_bucket(b"after").put(b"k", bytes(2000))
    commit(db, tx)
    assert_clean(db)
    return state


@pytest.mark.parametrize("change", [append, scattered, nothing])
@pytest.mark.parametrize("grow", [False, True])
def test_a_crash_leaves_the_old_or_the_new_state(change: Callable[[WriteTx], None], grow: bool) -> None:
    scene = Scene(change, grow)
    kinds = [operation[0] for operation in scene.operations]
    assert kinds[-3:] == (["sync", "write", "sync"] if change is not nothing else ["write", "sync"])
    assert scene.grows == (grow and change is not nothing)
    chance = random.Random(5)
    meta_write = len(kinds) - 2
    for cut in range(len(kinds) + 1):
        keeps: list[Callable[[], bool]] = [lambda: True, lambda: False]
        keeps += [lambda: chance.random() < 0.5] * 4
        for keep in keeps:
            state = recovered(scene, scene.survivors(cut, keep))
            assert state in (scene.old, scene.new)
            if cut <= meta_write:
                assert state == scene.old
            if cut == len(kinds):
                assert state == scene.new


def test_a_meta_page_torn_at_any_byte() -> None:
    scene = Scene(append, False)
    kind, number, data = scene.operations[-2]
    assert kind == "write"
    seen = []
    for size in range(100):
        operations = [*scene.operations[:-2], ("write", number, data[:size])]
        state = recovered(scene, operations)
        assert state in (scene.old, scene.new)
        seen.append(state == scene.new)
    assert seen == sorted(seen)
    assert seen[0] is False
    assert seen[-1] is True


def test_a_failed_write_is_the_end_of_the_db() -> None:
    for at in range(len(Scene(append, False).operations)):
        check_failed_write(at)


def check_failed_write(at: int) -> None:
    disk, db = sample_db()
    old = plain_db(db)
    tx = db.begin_write()
    append(tx)
    done = tx.prepare()
    file = disk.files["db"]
    file.operations.clear()
    file.fail_at = at
    with pytest.raises(OSError, match="Input/output"):
        done.write()
    file.fail_at = -1
    with pytest.raises(AssertionError, match="not written"):
        db.finish(done)
    with pytest.raises(AssertionError, match="once"):
        done.write()
    with pytest.raises(AssertionError, match="in flight"):
        db.begin_write()
    assert plain_db(db) == old


def test_many_commits_with_crashes_between() -> None:
    """A long life: each commit may be cut short anywhere, and the survivor goes on."""
    chance = random.Random(11)
    disk, db = sample_db()
    for _ in range(60):
        old = plain_db(db)
        tx = db.begin_write()
        chance.choice([append, scattered_puts(chance), deletes(chance)])(tx)
        done = tx.prepare()
        file = disk.files["db"]
        before = bytes(file.buffer[: db.size])
        length = file.length
        file.operations.clear()
        done.write()
        db.finish(done)
        new = plain_db(db)
        assert_clean(db)
        scene = Scene.__new__(Scene)
        scene.before, scene.length, scene.operations = before, length, list(file.operations)
        cut = chance.randrange(len(scene.operations) + 1)
        content, length = scene.image(scene.survivors(cut, lambda: chance.random() < 0.5))
        db.close()
        disk = MemoryDisk()
        disk.put("db", content, length)
        db = open_again(disk)
        assert plain_db(db) in (old, new)
        assert_clean(db)


def open_again(disk: MemoryDisk) -> Db:
    return Db.open(disk, "db", NullLog())


def scattered_puts(chance: random.Random) -> Callable[[WriteTx], None]:
    def change(tx: WriteTx) -> None:
        bucket = tx.create_bucket(b"scattered")
        for _ in range(30):
            bucket.put(b"%05d" % chance.randrange(3000), bytes(chance.randrange(300)))

    return change


def deletes(chance: random.Random) -> Callable[[WriteTx], None]:
    def change(tx: WriteTx) -> None:
        bucket = tx.create_bucket(b"scattered")
        for number in range(3000):
            if chance.random() < 0.2:
                bucket.delete(b"%05d" % number)

    return change
