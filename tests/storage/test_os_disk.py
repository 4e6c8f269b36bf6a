"""The real disk behind the port, and that the simulated one does the same."""

import errno
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from quorate.ports import LOCK_FLOCK, LOCK_FLOCK_SHARED, LOCK_OFD, Disk, File
from quorate.runtime import disk as os_disk
from quorate.runtime.disk import OsDisk
from tests.fakes.disk import PowerCut, SimDisk


@pytest.fixture(params=["os", "sim"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Disk, str]:
    if request.param == "os":
        return OsDisk(), str(tmp_path)
    disk = SimDisk()
    disk.make_dirs("root")
    return disk, "root"


def test_files(place: tuple[Disk, str]) -> None:
    disk, root = place
    with pytest.raises(FileNotFoundError):
        disk.open(f"{root}/f")
    file = disk.open(f"{root}/f", create=True)
    assert disk.mode(f"{root}/f") == 0o600
    assert file.size() == 0
    assert file.read_at(10, 0) == b""
    file.write_at(b"hello", 3)
    file.sync()
    assert file.size() == 8
    assert file.read_at(100, 0) == b"\0\0\0hello"
    assert file.read_at(2, 4) == b"el"
    assert file.read_at(2, 8) == b""
    file.allocate(20)
    assert file.size() == 20
    file.allocate(5)
    assert file.size() == 20
    assert file.read_at(100, 3) == b"hello" + bytes(12)
    file.truncate(4)
    file.truncate(6)
    assert file.read_at(100, 0) == b"\0\0\0h\0\0"
    second = disk.open(f"{root}/f", read_only=True)
    assert second.read_at(4, 0) == b"\0\0\0h"
    with pytest.raises(OSError) as raised:
        second.write_at(b"x", 0)
    assert raised.value.errno == errno.EBADF
    file.close()
    file.close()
    with pytest.raises(OSError):
        file.size()


def test_names(place: tuple[Disk, str]) -> None:
    disk, root = place
    disk.make_dirs(f"{root}/a/b/c")
    disk.make_dirs(f"{root}/a/b/c")
    assert disk.mode(f"{root}/a/b") == 0o700
    file = disk.open(f"{root}/a/b/2", create=True)
    disk.open(f"{root}/a/b/1", create=True).close()
    assert disk.list_dir(f"{root}/a/b") == ["1", "2", "c"]
    assert disk.exists(f"{root}/a/b/c")
    assert not disk.exists(f"{root}/a/x/c")
    file.write_at(b"2", 0)
    disk.rename(f"{root}/a/b/2", f"{root}/a/b/1")
    disk.sync_dir(f"{root}/a/b")
    assert disk.list_dir(f"{root}/a/b") == ["1", "c"]
    assert disk.open(f"{root}/a/b/1").read_at(9, 0) == b"2"
    disk.rename(f"{root}/a", f"{root}/z")
    assert file.read_at(9, 0) == b"2"
    disk.remove(f"{root}/z/b/1")
    with pytest.raises(FileNotFoundError):
        disk.remove(f"{root}/z/b/1")
    assert file.read_at(9, 0) == b"2"
    disk.remove_tree(f"{root}/z")
    disk.remove_tree(f"{root}/z")
    assert disk.list_dir(root) == []
    with pytest.raises(FileNotFoundError):
        disk.sync_dir(f"{root}/z")
    with pytest.raises(FileNotFoundError):
        disk.list_dir(f"{root}/z")


def test_maps_follow_writes_and_survive_growth_and_close(place: tuple[Disk, str]) -> None:
    disk, root = place
    file = disk.open(f"{root}/f", create=True)
    assert file.map().tobytes() == b""
    file.write_at(b"a" * 5000, 0)
    old = file.map()
    assert old.readonly
    assert len(old) == 5000
    file.write_at(b"b" * 200_000, 4000)
    new = file.map()
    assert len(new) == 204_000
    assert old[3999:5000] == b"a" + b"b" * 1000
    file.write_at(b"c", 0)
    assert old[0] == new[0] == ord("c")
    file.close()
    assert old[1] == new[1] == ord("a")


@pytest.mark.parametrize("kind", [LOCK_FLOCK, LOCK_OFD])
def test_locks(place: tuple[Disk, str], kind: int) -> None:
    disk, root = place
    first = disk.open(f"{root}/f", create=True)
    first.write_at(b"x", 0)
    second = disk.open(f"{root}/f")
    assert first.lock(kind, wait=False)
    view = first.map()
    assert not second.lock(kind, wait=False)
    other = LOCK_OFD if kind == LOCK_FLOCK else LOCK_FLOCK
    assert second.lock(other, wait=False), "the two kinds do not meet"
    second.close()
    # A mapping keeps the file open, and must not keep the lock.
    first.close()
    third = disk.open(f"{root}/f")
    assert third.lock(kind, wait=True)
    assert view[0] == ord("x")
    third.close()


def test_shared_locks(place: tuple[Disk, str]) -> None:
    disk, root = place
    handles = [disk.open(f"{root}/f", create=True) for _ in range(3)]
    assert handles[0].lock(LOCK_FLOCK_SHARED, wait=False)
    assert handles[1].lock(LOCK_FLOCK_SHARED, wait=False)
    assert not handles[2].lock(LOCK_FLOCK, wait=False)
    handles[0].close()
    handles[1].close()
    assert handles[2].lock(LOCK_FLOCK, wait=False)


def test_locks_keep_other_processes_out(tmp_path: Path) -> None:
    file = OsDisk().open(str(tmp_path / "f"), create=True)
    assert file.lock(LOCK_OFD, wait=False)
    assert file.lock(LOCK_FLOCK, wait=False)
    script = (
        "import fcntl, struct, sys\n"
        "f = open(sys.argv[1], 'r+b')\n"
        "for take in (lambda: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB),\n"
        "             lambda: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)):\n"
        "    try:\n        take()\n    except OSError:\n        print('locked')\n"
    )
    run = subprocess.run([sys.executable, "-c", script, file.path], capture_output=True, text=True, check=True)
    assert run.stdout == "locked\nlocked\n"
    file.close()


def test_short_writes_and_reads_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_write, real_read = os.pwrite, os.pread
    monkeypatch.setattr(os_disk.os, "pwrite", lambda fd, data, at: real_write(fd, bytes(data)[:7], at))
    monkeypatch.setattr(os_disk.os, "pread", lambda fd, length, at: real_read(fd, min(length, 5), at))
    file = OsDisk().open(str(tmp_path / "f"), create=True)
    data = bytes(range(100))
    file.write_at(data, 3)
    assert file.read_at(200, 3) == data
    assert file.read_at(42, 10) == data[7:49]


def test_without_fallocate_the_file_is_extended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os_disk.os, "posix_fallocate", refuse)
    file = OsDisk().open(str(tmp_path / "f"), create=True)
    file.allocate(1000)
    assert file.size() == 1000


# ------------------------------------------------------------------------------------------------ the simulated one


def written(disk: SimDisk) -> File:
    file = disk.open("f", create=True)
    disk.sync_dir("")
    file.write_at(b"a" * 2048, 0)
    file.sync()
    return file


def test_a_power_cut_loses_sectors_at_will_but_nothing_synced() -> None:
    outcomes = set()
    for seed in range(200):
        disk = SimDisk(seed)
        file = written(disk)
        file.write_at(b"b" * 1024, 512)
        file.write_at(b"c" * 512, 1024)
        disk.crash()
        with pytest.raises(OSError):
            file.size()
        content = disk.content("f")
        assert len(content) == 2048
        assert content[:512] == b"a" * 512
        assert content[1536:] == b"a" * 512
        sectors = [content[at : at + 512] for at in (512, 1024)]
        assert all(len(set(sector)) == 1 for sector in sectors)
        outcomes.add((sectors[0][:1], sectors[1][:1]))
    assert outcomes == {(a, b) for a in (b"a", b"b") for b in (b"a", b"b", b"c")}


def test_a_power_cut_loses_names_in_order() -> None:
    outcomes = set()
    for seed in range(50):
        disk = SimDisk(seed)
        written(disk)
        disk.rename("f", "g")
        disk.open("h", create=True)
        disk.crash()
        outcomes.add(tuple(disk.list_dir("")))
    assert outcomes == {("f",), ("g",), ("g", "h")}


def test_a_failed_sync_forgets_that_the_pages_were_dirty() -> None:
    disk = SimDisk()
    file = written(disk)
    file.write_at(b"b" * 2048, 0)
    disk.fail("sync")
    with pytest.raises(OSError):
        file.sync()
    assert file.read_at(1, 0) == b"b"
    file.sync()
    disk.crash()
    assert disk.content("f") == b"a" * 2048


def test_planned_faults() -> None:
    disk = SimDisk()
    file = written(disk)
    disk.fail("write", errno.ENOSPC, after=1)
    file.write_at(b"x", 0)
    with pytest.raises(OSError) as raised:
        file.write_at(b"y", 0)
    assert raised.value.errno == errno.ENOSPC
    file.write_at(b"z", 0)
    disk.capacity = 4096
    with pytest.raises(OSError):
        file.allocate(5000)
    file.allocate(4096)
    disk.capacity = None
    file.sync()
    disk.lose_writes = 1
    file.write_at(b"L", 0)
    file.sync()
    assert file.read_at(1, 0) == b"L"
    disk.crash()
    assert disk.content("f")[:1] == b"z"
    disk.flip("f", 0, 1)
    assert disk.content("f")[:1] == bytes([ord("z") ^ 2])


def test_stopping_in_the_middle_of_an_operation() -> None:
    for seed in range(40):
        disk = SimDisk(seed)
        file = written(disk)
        disk.stop_at(2)
        file.write_at(b"b" * 2048, 0)
        with pytest.raises(PowerCut):
            file.write_at(b"c" * 2048, 0)
        disk.crash(random.Random(seed))
        assert set(disk.content("f")) <= set(b"abc")
