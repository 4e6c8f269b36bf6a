"""Snapshot files: the envelope, which one is taken, and what is cleared away."""

import errno
import random

import google_crc32c
import pytest

from quorate.ports import NullLog
from quorate.proto import raft_pb2, snap_pb2
from quorate.raft.types import ConfState, Snapshot
from quorate.storage import snapfile
from quorate.storage.wal_record import WalSnapshot
from tests.fakes.disk import PowerCut, SimDisk

LOG = NullLog()


def snapshot(index: int, term: int = 2) -> Snapshot:
    return Snapshot(b'{"Root":%d}' % index, index, term, ConfState([1, 2], [3]))


def new() -> SimDisk:
    disk = SimDisk()
    disk.make_dirs("snap")
    disk.sync_dir("")
    return disk


def load(disk: SimDisk, *known: tuple[int, int]) -> int:
    found = snapfile.load_newest(disk, "snap", [WalSnapshot(index, term) for index, term in known], LOG)
    return 0 if found is None else found.index


def test_the_envelope() -> None:
    disk = new()
    path = snapfile.save(disk, "snap", snapshot(0x1234), LOG)
    assert path == "snap/0000000000000002-0000000000001234.snap"
    assert disk.mode(path) == 0o666
    outer = snap_pb2.snapshot.FromString(disk.content(path))
    assert outer.crc == google_crc32c.value(outer.data)
    inner = raft_pb2.Snapshot.FromString(outer.data)
    assert (inner.data, inner.metadata.index, inner.metadata.term) == (b'{"Root":4660}', 0x1234, 2)
    assert list(inner.metadata.conf_state.voters) == [1, 2]
    assert outer.data.endswith(bytes.fromhex("12 0f 0a 08 0801 0802 1003 2800 10b424 1802".replace(" ", "")))
    disk.crash(random.Random(0))
    found = snapfile.load_newest(disk, "snap", [WalSnapshot(0x1234, 2)], LOG)
    assert found is not None
    assert found.data == b'{"Root":4660}'
    assert found.conf_state.same(ConfState([1, 2], [3]))


def test_the_newest_that_the_log_knows_is_taken() -> None:
    disk = new()
    for index in (10, 20, 30):
        snapfile.save(disk, "snap", snapshot(index), LOG)
    assert load(disk, (10, 2), (20, 2), (30, 2)) == 30
    assert load(disk, (0, 0), (10, 2), (20, 2)) == 20
    assert load(disk, (10, 2), (30, 1)) == 10
    assert load(disk, (0, 0)) == 0
    assert len(disk.list_dir("snap")) == 3


@pytest.mark.parametrize("damage", ["empty", "cut", "flip", "no crc", "not protobuf", "inner"])
def test_a_damaged_file_is_put_aside(damage: str) -> None:
    disk = new()
    for index in (10, 20):
        path = snapfile.save(disk, "snap", snapshot(index), LOG)
    whole = disk.content(path)
    if damage == "flip":
        disk.flip(path, len(whole) - 3)
    else:
        inner = b"\xff" * 20
        disk.write(
            path,
            {
                "empty": b"",
                "cut": whole[:-1],
                "no crc": b"\x12\x03abc",
                "not protobuf": b"\xff" * 30,
                "inner": snap_pb2.snapshot(crc=google_crc32c.value(inner), data=inner).SerializeToString(),
            }[damage],
        )
    assert load(disk, (10, 2), (20, 2)) == 10
    names = [snapfile.snap_name(2, 10), snapfile.snap_name(2, 20) + ".broken"]
    assert disk.list_dir("snap") == names


@pytest.mark.parametrize("bit", range(8))
def test_no_flipped_bit_passes(bit: int) -> None:
    disk = new()
    path = snapfile.save(disk, "snap", snapshot(20), LOG)
    content = disk.content(path)
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << bit
        with pytest.raises(ValueError):
            snapfile.decode_snap(bytes(damaged))


def test_an_error_leaves_no_file() -> None:
    disk = new()
    disk.fail("sync", errno.EIO)
    with pytest.raises(OSError):
        snapfile.save(disk, "snap", snapshot(20), LOG)
    assert disk.list_dir("snap") == []


def test_a_crash_while_saving_leaves_the_older_one() -> None:
    for stop in range(1, 6):
        disk = new()
        snapfile.save(disk, "snap", snapshot(10), LOG)
        disk.stop_at(stop)
        try:
            snapfile.save(disk, "snap", snapshot(20), LOG)
            done = True
        except PowerCut:
            done = False
        disk.crash(random.Random(stop))
        assert load(disk, (10, 2), (20, 2)) in ({20} if done else {10, 20})


def test_what_is_left_behind_is_removed() -> None:
    disk = new()
    for name in ("db", "db.tmp.77", "db.tmp", "tmp123", "tmpx", "keep", snapfile.snap_db_name(16)):
        disk.write(f"snap/{name}", b"x")
    snapfile.clean_up(disk, "snap", LOG)
    assert disk.list_dir("snap") == ["0000000000000010.snap.db", "db", "keep"]
    disk.write("snap/x.snap.db", b"x")
    disk.write("snap/" + snapfile.snap_db_name(15), b"x")
    snapfile.release_snap_dbs(disk, "snap", 16, LOG)
    assert disk.list_dir("snap") == ["0000000000000010.snap.db", "db", "keep", "x.snap.db"]
