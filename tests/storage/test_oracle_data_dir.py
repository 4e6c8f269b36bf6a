"""Data directories that pass between real etcd and ours."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.ports import NullLog
from quorate.proto.etcdserver_pb2 import Metadata
from quorate.proto.raft_internal_pb2 import InternalRaftRequest
from quorate.proto.rpc_pb2 import PutRequest
from quorate.raft.codec import encode_hard_state
from quorate.raft.types import Entry, HardState
from quorate.runtime.disk import OsDisk
from quorate.storage import snapfile
from quorate.storage.backend import Backend
from quorate.storage.bolt.db import Db
from quorate.storage.schema import BUCKETS, CONSISTENT_INDEX, KEY, META, TERM, decode_u64
from quorate.storage.wal import Wal, WalOptions
from quorate.storage.wal_reader import END, RecordReader, WalContents, valid_snapshots
from quorate.storage.wal_record import CRC, ENTRY, METADATA, SNAPSHOT, STATE, Framer, WalSnapshot
from tests.oracle import Member
from tests.storage.loop import FakeLoop

pytestmark = pytest.mark.oracle

LOG = NullLog()
DISK = OsDisk()
KEYS = 130


@pytest.fixture(scope="module")
def member() -> Iterator[Member]:
    """A real member that took a snapshot, wrote more, and was killed."""
    member = Member("real", flags=["--snapshot-count=60"])
    try:
        member.start()
        for i in range(KEYS):
            assert member.etcdctl("put", f"key{i:04}", f"value {i}").returncode == 0
        member.kill()
        yield member
    finally:
        member.close()


@pytest.fixture
def copy(member: Member, tmp_path: Path) -> Path:
    return Path(shutil.copytree(f"{member.data_dir}/member", tmp_path / "data" / "member"))


def serve(member: Member, data: Path) -> list[str]:
    """Start the real etcd on a data directory and return all values, in order of their keys."""
    other = Member("real", data_dir=str(data))
    other.peer_port = member.peer_port
    try:
        other.start()
        lines = other.etcdctl("get", "--prefix", "", "--print-value-only").stdout.splitlines()
        assert other.stop(signal.SIGTERM) in (0, -signal.SIGTERM)
        return lines
    finally:
        other.close()


def start_of(copy: Path) -> WalSnapshot:
    newest = snapfile.load_newest(DISK, f"{copy}/snap", valid_snapshots(DISK, f"{copy}/wal", LOG), LOG)
    assert newest is not None
    return WalSnapshot(newest.index, newest.term, newest.conf_state)


def open_wal(copy: Path, start: WalSnapshot) -> tuple[Wal, WalContents]:
    return Wal.open(DISK, f"{copy}/wal", start, LOG)


def put(index: int, term: int, key: str, value: str) -> Entry:
    request = InternalRaftRequest(put=PutRequest(key=key.encode(), value=value.encode()))
    request.header.ID = 1000 + index
    return Entry(0, term, index, request.SerializeToString())


def test_a_real_wal_is_read_and_would_be_written_alike(copy: Path) -> None:
    snapshots = valid_snapshots(DISK, f"{copy}/wal", LOG)
    assert snapshots[0].index == 0
    assert len(snapshots) >= 2
    path = next((copy / "wal").glob("*.wal"))
    reader = RecordReader([DISK.open(str(path), read_only=True)])
    framer = Framer(0)
    kinds = []
    while (kind := reader.next()) != END:
        kinds.append(kind)
        if kind == CRC:
            framer.add_crc()
        else:
            framer.add(kind, reader.data)
    assert kinds[:3] == [CRC, METADATA, SNAPSHOT]
    assert {ENTRY, STATE} <= set(kinds)
    written = framer.take()
    content = path.read_bytes()
    assert len(content) == 64_000_000
    assert content[: len(written)] == written
    wal, contents = open_wal(copy, WalSnapshot())
    assert [entry.index for entry in contents.entries] == list(range(1, len(contents.entries) + 1))
    assert Metadata.FromString(contents.metadata).NodeID == contents.hard_state.vote
    wal.close()
    assert path.read_bytes() == content
    framer = Framer(0)
    framer.add_entries(contents.entries)
    again = framer.take()
    for entry in contents.entries:
        assert (entry.data or b"") in again


def test_a_real_snapshot_and_database_are_read(copy: Path) -> None:
    start = start_of(copy)
    assert start.index > 0
    assert start.conf_state is not None
    assert len(start.conf_state.voters) == 1
    path = next((copy / "snap").glob("*.snap"))
    snapshot = snapfile.decode_snap(path.read_bytes())
    assert snapfile.encode_snap(snapshot) == path.read_bytes()
    assert path.name == snapfile.snap_name(snapshot.term, snapshot.index)
    loop = FakeLoop()
    backend = Backend(loop, DISK, f"{copy}/snap/db", LOG)
    assert decode_u64(backend.get(META, CONSISTENT_INDEX)) >= start.index
    assert backend.range(KEY, b"", b"")
    backend.close()


def test_a_defragmented_database_is_served_by_the_real_etcd(member: Member, copy: Path) -> None:
    loop = FakeLoop()
    backend = Backend(loop, DISK, f"{copy}/snap/db", LOG)
    outcome: list[Exception | None] = []
    backend.defragment(outcome.append)
    loop.run_until(lambda: outcome)
    assert outcome == [None]
    backend.close()
    assert serve(member, copy.parent) == [f"value {i}" for i in range(KEYS)]


def test_entries_that_we_append_are_served_by_the_real_etcd(member: Member, copy: Path) -> None:
    start = start_of(copy)
    wal, contents = open_wal(copy, start)
    state = contents.hard_state
    last = start.index + len(contents.entries)
    added = [put(last + i, state.term, f"ours{i:02}", f"added {i}") for i in range(1, 21)]
    wal.save(None, added)
    wal.save(HardState(state.term, state.vote, last + 20), [])
    wal.sync()
    wal.close()
    values = serve(member, copy.parent)
    assert values == [f"value {i}" for i in range(KEYS)] + [f"added {i}" for i in range(1, 21)]
    # And what it wrote behind ours, ours reads again.
    wal, contents = open_wal(copy, start)
    assert [entry.data for entry in contents.entries[last - start.index :]][:20] == [entry.data for entry in added]
    wal.close()


def test_a_directory_all_of_which_we_wrote_is_served_by_the_real_etcd(
    member: Member, copy: Path, tmp_path: Path
) -> None:
    start = start_of(copy)
    old, contents = open_wal(copy, WalSnapshot())
    old.close()
    ours = tmp_path / "ours" / "member"
    DISK.make_dirs(f"{ours}/snap")
    wal = Wal.create(DISK, f"{ours}/wal", contents.metadata, LOG, WalOptions(segment_bytes=6000))
    for entry in contents.entries:
        wal.save(HardState(max(1, entry.term), contents.hard_state.vote, max(0, entry.index - 1)), [entry])
        wal.sync()
        if entry.index == start.index:
            wal.save(HardState(entry.term, contents.hard_state.vote, start.index), [])
            wal.save_snapshot(start)
    wal.save(contents.hard_state, [])
    wal.close()
    assert len(list((ours / "wal").glob("*.wal"))) >= 2
    snapshot = snapfile.load_newest(DISK, f"{copy}/snap", [start], LOG)
    assert snapshot is not None
    snapfile.save(DISK, f"{ours}/snap", snapshot, LOG)
    theirs = Db.open(DISK, f"{copy}/snap/db", LOG).begin_read()
    backend = Backend(FakeLoop(), DISK, f"{ours}/snap/db", LOG)
    for name in BUCKETS:
        backend.create_bucket(name)
        tree = theirs.bucket(name)
        for key, value in [] if tree is None else tree.range(b"", None):
            backend.put(name, key, value)
    assert backend.get(META, TERM)
    backend.commit_blocking()
    backend.close()
    assert serve(member, ours.parent) == [f"value {i}" for i in range(KEYS)]


@pytest.mark.parametrize("back", [1, 30, 200])
def test_a_torn_tail_is_repaired_as_the_real_etcd_does(member: Member, copy: Path, back: int) -> None:
    path = next((copy / "wal").glob("*.wal"))
    wal, _ = open_wal(copy, WalSnapshot())
    end = wal._offset
    wal.close()
    with path.open("r+b") as file:
        file.truncate(end - back)
    theirs = Path(shutil.copytree(copy, copy.parent.parent / "theirs" / "member"))
    wal, contents = open_wal(copy, start_of(copy))
    wal.close()
    values = serve(member, theirs.parent)
    broken = [[(path.name, path.read_bytes()) for path in (side / "wal").glob("*.broken")] for side in (copy, theirs)]
    assert broken[0] == broken[1]
    assert broken[0] or back > 8  # a cut further back may have met the end of a record
    kept = snapfile.load_newest(DISK, f"{copy}/snap", valid_snapshots(DISK, f"{copy}/wal", LOG), LOG)
    assert kept is not None
    wal, after = open_wal(theirs, WalSnapshot(kept.index, kept.term))
    wal.close()
    assert [encode_hard_state(HardState(e.term, 0, e.index)) for e in contents.entries] == [
        encode_hard_state(HardState(e.term, 0, e.index)) for e in after.entries
    ][: len(contents.entries)]
    # Whatever was in the database already is served even when its entries were cut off.
    assert len(values) >= KEYS - 2
