"""Removing old files in steps."""

import random

from quorate.ports import LOCK_OFD, NullLog
from quorate.storage.purge import STEP_BYTES, Purge
from tests.fakes.disk import SimDisk
from tests.storage.loop import FakeLoop

LOG = NullLog()


def run(disk: SimDisk, keep: int, suffix: str = "wal") -> list[str]:
    loop, done = FakeLoop(), []
    job = Purge(loop, disk, "d", suffix, keep, LOG)
    job.start(lambda: done.append(1))
    loop.run_until(lambda: done)
    return job.removed


def make(disk: SimDisk, *names: str, size: int = 10) -> None:
    disk.make_dirs("d")
    for name in names:
        disk.open(f"d/{name}", create=True).allocate(size)


def test_it_keeps_the_newest_and_other_kinds() -> None:
    disk = SimDisk()
    make(disk, "1.snap", "2.snap", "3.snap", "1.snap.db", "db")
    assert run(disk, 2, "snap") == ["d/1.snap"]
    assert run(disk, 0, "snap") == []
    assert disk.list_dir("d") == ["1.snap.db", "2.snap", "3.snap", "db"]


def test_a_locked_file_and_all_after_it_stay() -> None:
    disk = SimDisk()
    make(disk, "1.wal", "2.wal", "3.wal", "4.wal", "0.tmp")
    held = disk.open("d/2.wal")
    assert held.lock(LOCK_OFD, wait=False)
    assert run(disk, 1) == ["d/1.wal"]
    held.close()
    assert run(disk, 1) == ["d/2.wal", "d/3.wal"]
    assert disk.list_dir("d") == ["0.tmp", "4.wal"]


def test_a_large_file_goes_in_steps_and_a_crash_is_made_good() -> None:
    disk, loop = SimDisk(), FakeLoop()
    make(disk, "1.wal", "2.wal", size=3 * STEP_BYTES + 5)
    disk.sync_dir("d")
    disk.sync_dir("")
    Purge(loop, disk, "d", "wal", 1, LOG).start()
    loop.job()
    handle = disk.open("d/1.wal.tmp")
    sizes = [handle.size()]
    for _ in range(2):
        loop.job()
        sizes.append(handle.size())
        loop.wait()
    assert sizes == [3 * STEP_BYTES + 5, 2 * STEP_BYTES + 5, STEP_BYTES + 5]
    disk.sync_dir("d")
    disk.crash(random.Random(1))
    assert disk.list_dir("d") == ["1.wal.tmp", "2.wal"]
    assert run(disk, 1) == []
    assert disk.list_dir("d") == ["2.wal"]
