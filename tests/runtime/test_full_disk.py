"""A disk that is really full: the member stops with one line that names the file, and nothing acknowledged is lost.

Needs the right to mount a small tmpfs; skipped, with the reason, where that is missing.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from quorate.proto.rpc_pb2 import PutRequest, PutResponse, RangeRequest, RangeResponse
from tests.oracle import Member

pytestmark = pytest.mark.process

MEGABYTE = 1 << 20
SEGMENT = 64_000_000


class SmallDisk:
    """A mounted tmpfs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def mount(self, size: int) -> None:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", str(self.path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount command")
        if done.returncode != 0:
            pytest.skip(f"cannot mount a small disk: {done.stderr.strip()}")

    def resize(self, size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.path)], check=True)

    def fill_but(self, room: int) -> Path:
        """Leave only so much room."""
        found = os.statvfs(self.path)
        ballast = self.path / "ballast"
        with open(ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - room)
        return ballast


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    disk = SmallDisk(tmp_path / "small")
    disk.path.mkdir()
    yield disk
    subprocess.run(["umount", "-l", str(disk.path)], check=False, capture_output=True)


@pytest.fixture
def member(tmp_path: Path, small: SmallDisk) -> Iterator[Member]:
    """Closed before the disk is unmounted."""
    found = Member("ours", str(tmp_path / "data"))
    yield found
    found.close()


def value_of(number: int, size: int) -> bytes:
    return (b"%08d" % number) * (size // 8)


def write_until_it_stops(member: Member, size: int, limit: int = 400) -> int:
    """Put values of that size, one after the other; return how many were acknowledged."""
    with grpc.insecure_channel(member.endpoint) as channel:
        put = channel.unary_unary("/etcdserverpb.KV/Put", PutRequest.SerializeToString, PutResponse.FromString)
        for number in range(limit):
            try:
                put(PutRequest(key=b"k%08d" % number, value=value_of(number, size)), timeout=10)
            except grpc.RpcError:
                return number
    raise AssertionError("the disk was never full")


def check_all_there(member: Member, acknowledged: int, size: int) -> None:
    with grpc.insecure_channel(member.endpoint) as channel:
        get = channel.unary_unary("/etcdserverpb.KV/Range", RangeRequest.SerializeToString, RangeResponse.FromString)
        for number in range(acknowledged):
            found = get(RangeRequest(key=b"k%08d" % number), timeout=10).kvs
            assert [kv.value for kv in found] == [value_of(number, size)], number
        # Of what was under way when it stopped, one write may be there.
        count = get(RangeRequest(key=b"k", range_end=b"l", count_only=True), timeout=10).count
        assert acknowledged <= count <= acknowledged + 1
    assert member.etcdctl("put", "after", "x").stdout == "OK\n"


def stopped_because_of(member: Member, start: int = 0) -> str:
    """Wait for the end; return the path that the one fatal line names."""
    assert member.process is not None
    assert member.process.wait(20) == 1
    lines = Path(member.log_path).read_text()[start:].splitlines()
    fatal = [json.loads(line) for line in lines if '"fatal"' in line]
    assert len(fatal) == 1, lines[-5:]
    assert lines[-1].count('"fatal"') == 1, lines[-5:]
    assert "No space left on device" in fatal[0]["error"], fatal
    return str(fatal[0].get("path") or fatal[0]["error"])


def test_no_room_for_the_next_wal_segment(member: Member, small: SmallDisk) -> None:
    small.mount(SEGMENT + 10 * MEGABYTE)
    member.flags = [f"--wal-dir={small.path}/wal"]
    member.start()
    assert "failed to preallocate space when creating a new WAL" in member.log_tail(20_000)
    assert not list(small.path.glob("wal/*.tmp"))  # what the spare segment got was given back
    acknowledged = write_until_it_stops(member, MEGABYTE)
    assert acknowledged > 50
    assert f"{small.path}/wal/" in stopped_because_of(member)
    small.resize(4 * SEGMENT)
    member.start()
    check_all_there(member, acknowledged, MEGABYTE)


def test_no_room_for_the_database(member: Member, small: SmallDisk) -> None:
    small.mount(2 * SEGMENT + 40 * MEGABYTE)
    member.data_dir = f"{small.path}/data"
    member.start()
    ballast = small.fill_but(4 * MEGABYTE)
    acknowledged = write_until_it_stops(member, MEGABYTE // 8)
    assert acknowledged > 8
    assert stopped_because_of(member).endswith("member/snap/db")
    size = Path(member.log_path).stat().st_size
    # As long as the disk is full it does not come to life, and does not get worse.
    member.start(wait=False)
    assert stopped_because_of(member, size).startswith(str(small.path))
    ballast.unlink()
    member.start()
    check_all_there(member, acknowledged, MEGABYTE // 8)


def test_no_room_for_a_first_start(member: Member, small: SmallDisk) -> None:
    small.mount(20 * MEGABYTE)
    member.data_dir = f"{small.path}/data"
    member.start(wait=False)
    assert f"{small.path}/data/member/wal" in stopped_because_of(member)
    small.resize(4 * SEGMENT)
    member.start()
    check_all_there(member, 0, 0)
