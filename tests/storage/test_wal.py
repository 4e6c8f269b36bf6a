"""The write-ahead log: etcd's bytes, and what is left of it after crashes, cuts and flipped bits."""

import random

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.errors import CorruptError
from quorate.ports import LOCK_OFD, NullLog
from quorate.proto import raft_pb2, wal_pb2
from quorate.raft.codec import encode_entry
from quorate.raft.types import ConfState, Entry, HardState
from quorate.storage import wal_record
from quorate.storage.purge import Purge
from quorate.storage.wal import Wal, WalOptions
from quorate.storage.wal_reader import WalContents, valid_snapshots
from quorate.storage.wal_record import Framer, WalSnapshot, decode_wal_snapshot, encode_wal_snapshot
from tests.corruption.disk import MemoryDisk
from tests.fakes.disk import PowerCut, SimDisk
from tests.storage.loop import FakeLoop, Lines

LOG = NullLog()
META = bytes.fromhex("08b3ffbff3b0879df3970110fdc38facb2c6cfc78501")
START = WalSnapshot()
SMALL = 4096


def options(segment_bytes: int = SMALL) -> WalOptions:
    return WalOptions(segment_bytes=segment_bytes)


def entry(index: int, term: int = 1, size: int = 20) -> Entry:
    return Entry(0, term, index, bytes([1 + index % 255]) * size)


def key(e: Entry) -> tuple[int, int, int, bytes | None]:
    return (e.type, e.term, e.index, e.data)


def keys(entries: list[Entry]) -> list[tuple[int, int, int, bytes | None]]:
    return [key(e) for e in entries]


def new(disk: SimDisk, segment_bytes: int = SMALL) -> Wal:
    disk.make_dirs("d")
    disk.sync_dir("")
    return Wal.create(disk, "d/wal", META, LOG, options(segment_bytes))


def reopen(disk: SimDisk, start: WalSnapshot = START, segment_bytes: int = SMALL):
    return Wal.open(disk, "d/wal", start, LOG, options(segment_bytes))


def save_and_sync(wal: Wal, *entries: Entry) -> None:
    wal.save(None, list(entries))
    wal.sync()


def open_or_error(disk: SimDisk, segment_bytes: int) -> WalContents | CorruptError:
    try:
        wal, contents = reopen(disk, segment_bytes=segment_bytes)
    except CorruptError as error:
        return error
    wal.close()
    return contents


def purge(disk: SimDisk, keep: int) -> list[str]:
    loop, done = FakeLoop(), []
    job = Purge(loop, disk, "d/wal", "wal", keep, LOG)
    job.start(lambda: done.append(1))
    loop.run_until(lambda: done)
    return job.removed


def segments(disk: SimDisk) -> list[str]:
    return [name for name in disk.list_dir("d/wal") if name.endswith(".wal")]


def tail_path(disk: SimDisk) -> str:
    return "d/wal/" + segments(disk)[-1]


# ------------------------------------------------------------------------------------------------ bytes


def test_the_head_of_a_log_has_etcds_bytes() -> None:
    disk = SimDisk()
    wal = new(disk, wal_record.SEGMENT_BYTES)
    first = Entry(1, 1, 1, bytes.fromhex("0800100018b3ffbff3b0879df39701224d") + (
        b'{"id":10945563741364682675,"peerURLs":["http://127.0.0.1:24701"],"name":"m1"}'
    ))  # fmt: skip
    wal.save(None, [first])
    wal.sync()
    handle = disk.open("d/wal/0000000000000000-0000000000000000.wal", read_only=True)
    assert handle.size() == 64_000_000
    data = handle.read_at(256, 0)
    assert data.startswith(
        bytes.fromhex("0400000000000084 08041000 00000000 2000000000000000 0801109fabd48206 1a16") + META
    )
    assert data[16 + 40 :].startswith(
        bytes.fromhex("0e00000000000082") + b"\x08\x05\x10" + wal_record.varint(0x62676C2C) + b"\x1a\x04\x08\0\x10\0"
    )
    assert b"\x08\x02\x10" + wal_record.varint(0xA65D7ADE) + b"\x1a" in data
    assert disk.mode("d/wal/0000000000000000-0000000000000000.wal") == 0o600
    assert disk.list_dir("d/wal") == ["0.tmp", "0000000000000000-0000000000000000.wal"]
    wal.close()
    assert disk.list_dir("d/wal") == ["0000000000000000-0000000000000000.wal"]


entries_strategy = st.lists(
    st.builds(
        Entry,
        st.integers(0, 2),
        st.sampled_from([1, 127, 128, 2**63, 2**64 - 1]),
        st.integers(1, 2**64 - 1) | st.integers(1, 70000),
        st.none() | st.binary(max_size=40) | st.sampled_from([b"x" * n for n in (100, 127, 128, 16370, 16384, 70000)]),
    ),
    max_size=12,
)


@given(st.integers(0, 2**32 - 1), entries_strategy)
def test_framing_equals_the_slow_way(crc: int, entries: list[Entry]) -> None:
    framer = Framer(crc)
    framer.add_entries(entries)
    size = framer.size
    expected = b""
    for e in entries:
        data = raft_pb2.Entry(Type=e.type, Term=e.term, Index=e.index)
        if e.data is not None:
            data.Data = e.data
        body = encode_entry(e)
        assert raft_pb2.Entry.FromString(body) == data
        crc = google_crc32c.extend(crc, body)
        record = wal_pb2.Record(type=2, crc=crc, data=body).SerializeToString()
        pad = -len(record) % 8
        word = len(record) | ((0x80 | pad) << 56 if pad else 0)
        expected += word.to_bytes(8, "little") + record + bytes(pad)
    assert framer.take() == expected
    assert size == len(expected)
    assert framer.crc == crc


def test_snapshot_record_round_trip() -> None:
    snapshot = WalSnapshot(7, 3, ConfState([1, 2], [3]))
    message = wal_pb2.Snapshot.FromString(encode_wal_snapshot(snapshot))
    assert (message.index, message.term, list(message.conf_state.voters)) == (7, 3, [1, 2])
    back = decode_wal_snapshot(encode_wal_snapshot(snapshot))
    assert (back.index, back.term) == (7, 3)
    assert back.conf_state is not None
    assert back.conf_state.same(ConfState([1, 2], [3]))
    assert decode_wal_snapshot(bytes.fromhex("08001000")).conf_state is None
    with pytest.raises(ValueError, match="missing ConfState"):
        encode_wal_snapshot(WalSnapshot(7, 3))


# ------------------------------------------------------------------------------------------------ life


def test_save_close_open_continue() -> None:
    disk = SimDisk()
    wal = new(disk)
    wal.save(HardState(1, 5, 0), [entry(1), entry(2)])
    wal.sync()
    wal.save(HardState(1, 5, 2), [])
    wal.close()
    wal, contents = reopen(disk)
    assert contents.metadata == META
    assert contents.hard_state.same(HardState(1, 5, 2))
    assert keys(contents.entries) == keys([entry(1), entry(2)])
    wal.save(HardState(2, 0, 2), [entry(2, 2), entry(3, 2)])
    wal.sync()
    wal.close()
    wal, contents = reopen(disk)
    assert keys(contents.entries) == keys([entry(1), entry(2, 2), entry(3, 2)])
    wal.close()


def test_a_state_that_only_moves_the_commit_index_waits() -> None:
    disk = SimDisk()
    wal = new(disk)
    wal.save(HardState(1, 5, 0), [entry(1)])
    wal.sync()
    before = disk.operations
    wal.save(HardState(1, 5, 1), [])
    wal.save(None, [])
    assert disk.operations == before
    wal.save(HardState(2, 5, 1), [])
    assert disk.operations == before + 1
    wal.sync()
    wal.close()
    assert reopen(disk)[1].hard_state.same(HardState(2, 5, 1))


def test_cutting_release_and_purge() -> None:
    disk = SimDisk()
    wal = new(disk)
    wal.save(HardState(1, 1, 0), [])
    for index in range(1, 200):
        wal.save(None, [entry(index, size=100)])
        if wal.cut_due:
            before = len(segments(disk))
            wal.sync()
            assert len(segments(disk)) == before + 1
        else:
            wal.sync()
    names = segments(disk)
    assert len(names) >= 6
    for number, name in enumerate(names):
        assert int(name[:16], 16) == number
    assert disk.open("d/wal/" + names[1]).size() < SMALL + 200
    wal.save_snapshot(WalSnapshot(150, 1, ConfState([1])))
    wal.save(HardState(1, 1, 160), [])
    assert purge(disk, 2) == []
    wal.release_to(150)
    removed = purge(disk, 3)
    assert removed == ["d/wal/" + name for name in names[: len(removed)]]
    assert removed
    left = segments(disk)
    assert int(left[0][17:33], 16) <= 150 or len(left) == 3
    wal.close()
    assert [s.index for s in valid_snapshots(disk, "d/wal", LOG)] == [150]
    wal, contents = reopen(disk, WalSnapshot(150, 1))
    assert [e.index for e in contents.entries] == list(range(151, 200))
    assert contents.metadata == META
    wal.close()
    with pytest.raises(CorruptError, match="file not found which matches the snapshot index '0'"):
        reopen(disk)


def test_release_keeps_the_last_segment_before_the_index() -> None:
    disk = SimDisk()
    wal = new(disk)
    index = 0
    while len(segments(disk)) < 5:
        index += 1
        wal.save(None, [entry(index, size=1000)])
        wal.sync()
    firsts = [int(name[17:33], 16) for name in segments(disk)]
    wal.release_to(firsts[2])
    held = []
    for name in segments(disk):
        handle = disk.open("d/wal/" + name)
        held.append(not handle.lock(LOCK_OFD, wait=False))
        handle.close()
    assert held == [False, True, True, True, True]
    wal.close()


def test_a_second_opener_is_kept_out() -> None:
    disk = SimDisk()
    wal = new(disk)
    with pytest.raises(BlockingIOError, match="already locked"):
        reopen(disk)
    with pytest.raises(FileExistsError):
        Wal.create(disk, "d/wal", META, LOG)
    wal.close()
    reopen(disk)[0].close()


def test_snapshots_past_the_commit_index_do_not_count() -> None:
    disk = SimDisk()
    wal = new(disk)
    wal.save(HardState(1, 1, 3), [entry(i) for i in range(1, 6)])
    wal.save_snapshot(WalSnapshot(3, 1, ConfState([1])))
    wal.save_snapshot(WalSnapshot(5, 1, ConfState([1])))
    wal.close()
    assert [s.index for s in valid_snapshots(disk, "d/wal", LOG)] == [0, 3]
    with pytest.raises(CorruptError, match="snapshot mismatch"):
        reopen(disk, WalSnapshot(3, 2))
    with pytest.raises(CorruptError, match="snapshot not found"):
        reopen(disk, WalSnapshot(4, 1))


def test_a_gap_in_the_entries_is_refused() -> None:
    disk = SimDisk()
    wal = new(disk)
    wal.save(HardState(1, 1, 0), [entry(1), entry(3)])
    wal.close()
    with pytest.raises(CorruptError, match="slice bounds out of range"):
        reopen(disk)


def test_unsafe_no_fsync_never_syncs() -> None:
    disk = SimDisk()
    disk.make_dirs("d")
    wal = Wal.create(disk, "d/wal", META, LOG, WalOptions(unsafe_no_fsync=True, segment_bytes=SMALL))
    for index in range(1, 100):
        wal.save(None, [entry(index, size=100)])
        wal.sync()
    wal.close()
    assert not [kind for kind, _ in disk.history if kind == "sync"]
    assert len(reopen(disk)[1].entries) == 99


def test_fsync_metric_and_slow_warning() -> None:
    log = Lines()
    times = iter([0, 1, 1, 1, 2, 2, 0, 1_500_000_000])
    disk = SimDisk()
    disk.make_dirs("d")
    wal = Wal.create(disk, "d/wal", META, log, WalOptions(clock=lambda: next(times), segment_bytes=SMALL))
    wal.save(None, [entry(1)])
    wal.sync()
    assert sum(wal.fsync_seconds.counts) == 2
    assert log.lines == [("slow fdatasync", {"took": "1.500000s", "expected-duration": "1s"})]
    assert wal.bytes_written > 100


@pytest.mark.parametrize("kind", ["sync", "write"])
def test_nothing_goes_on_after_a_failed_write_or_sync(kind: str) -> None:
    disk = SimDisk()
    wal = new(disk)
    wal.save(None, [entry(1)])
    wal.sync()
    disk.fail(kind)
    with pytest.raises(OSError):
        save_and_sync(wal, entry(2))
    for call in (lambda: wal.save(None, [entry(3)]), wal.sync, lambda: wal.save_snapshot(START)):
        with pytest.raises(OSError, match="has failed"):
            call()
    wal.close()
    disk.crash(random.Random(1))
    assert keys(reopen(disk)[1].entries)[:1] == keys([entry(1)])


def test_no_room_for_the_next_segment_is_fatal_only_when_it_is_needed() -> None:
    disk = SimDisk()
    wal = new(disk)
    disk.fail("allocate", error=28)
    index = 0
    while len(segments(disk)) < 2:
        index += 1
        wal.save(None, [entry(index, size=500)])
        wal.sync()
    disk.fail("allocate", error=28, times=1)
    with pytest.raises(OSError):
        save_and_sync(wal, *(entry(index + i, size=500) for i in range(1, 20)))
    assert len(segments(disk)) == 2


# ------------------------------------------------------------------------------------------------ damage


def build(disk: SimDisk, count: int = 6, size: int = 60) -> tuple[bytes, list[Entry]]:
    """Return the bytes of a closed log's only segment, up to its end, and its entries."""
    wal = new(disk, 1 << 16)
    entries = [entry(i, size=size + 7 * i) for i in range(1, count + 1)]
    for e in entries:
        wal.save(HardState(1, 9, e.index - 1), [e])
        wal.sync()
    end = wal._offset
    wal.close()
    return disk.content(tail_path(disk))[:end], entries


def test_a_log_cut_at_any_byte_is_repaired_to_a_prefix() -> None:
    disk = SimDisk()
    content, entries = build(disk)
    path = tail_path(disk)
    ends = ends_of_records(content)
    for cut in range(ends[3], len(content)):
        disk.write(path, content[:cut])
        wal, contents = reopen(disk, segment_bytes=1 << 16)
        got = keys(contents.entries)
        assert got == keys(entries)[: len(got)]
        if cut in ends:
            assert not disk.exists(path + ".broken")
        else:
            assert disk.content(path + ".broken") == content[:cut]
            disk.remove(path + ".broken")
        wal.save(None, [entry(len(got) + 1)])
        wal.sync()
        wal.close()
        assert len(reopen_and_close(disk)) == len(got) + 1
    assert len(got) == len(entries)


def reopen_and_close(disk: SimDisk) -> list[Entry]:
    wal, contents = reopen(disk, segment_bytes=1 << 16)
    wal.close()
    return contents.entries


def ends_of_records(content: bytes) -> list[int]:
    ends = [0]
    while ends[-1] < len(content):
        word = content[ends[-1] : ends[-1] + 8]
        length = int.from_bytes(word[:7], "little")
        ends.append(ends[-1] + 8 + length + (word[7] & 7))
    return ends


def test_zeros_from_any_byte_on_are_an_end_or_an_error_never_other_entries() -> None:
    disk = SimDisk()
    content, entries = build(disk, count=12, size=120)
    path = tail_path(disk)
    errors = 0
    for cut in range(150, len(content)):
        disk.write(path, content[:cut] + bytes(1 << 16))
        outcome = open_or_error(disk, 1 << 16)
        if isinstance(outcome, CorruptError):
            assert outcome.path == path
            assert outcome.offset >= 0
            assert cut % 512, "a crash cuts between sectors, and that must be repaired"
            errors += 1
        else:
            got = keys(outcome.entries)
            assert got == keys(entries)[: len(got)]
    assert errors < len(content)


def test_sector_torn_in_the_middle_of_a_record_is_cut_off() -> None:
    disk = SimDisk()
    wal = new(disk, 1 << 16)
    wal.save(HardState(1, 9, 0), [entry(1)])
    wal.sync()
    end = wal._offset
    wal.save(None, [entry(2, size=3000)])
    wal.close()
    path = tail_path(disk)
    whole = disk.content(path)
    for sector in range((end // 512 + 1) * 512, end + 3000, 512):
        disk.write(path, whole[:sector] + bytes(512) + whole[sector + 512 :])
        assert keys(reopen_and_close(disk)) == keys([entry(1)])
        disk.remove(path + ".broken")
    # The same within one sector is no torn write.
    disk.write(path, whole[: end + 20] + bytes(300) + whole[end + 320 :])
    with pytest.raises(CorruptError, match="crc mismatch"):
        reopen(disk)


def test_garbage_behind_the_end_is_wiped() -> None:
    disk = SimDisk()
    content, entries = build(disk)
    path = tail_path(disk)
    garbage = content + bytes(8) + b"\xff" * 1000
    disk.write(path, garbage)
    wal, contents = reopen(disk, segment_bytes=1 << 16)
    assert keys(contents.entries) == keys(entries)
    after = disk.content(path)
    assert after[: len(content)] == content
    assert not after[len(content) :].strip(b"\0")
    assert len(after) == 1 << 16
    wal.close()


def test_damage_in_an_earlier_segment_is_never_repaired() -> None:
    disk = SimDisk()
    wal = new(disk)
    index = 0
    while len(segments(disk)) < 3:
        index += 1
        wal.save(HardState(1, 1, index), [entry(index, size=700)])
        wal.sync()
    wal.close()
    path = "d/wal/" + segments(disk)[1]
    whole = disk.content(path)
    for cut in (len(whole) - 1, len(whole) - 500, 512, 100, 8, 3):
        disk.write(path, whole[:cut])
        with pytest.raises(CorruptError):
            reopen(disk)
    for start in (512, 1024):
        disk.write(path, whole[:start] + bytes(512) + whole[start + 512 :])
        with pytest.raises(CorruptError):
            reopen(disk)
    disk.write(path, whole)
    disk.remove("d/wal/" + segments(disk)[1])
    with pytest.raises(CorruptError, match="do not increase continuously"):
        reopen(disk)


@pytest.mark.parametrize("part", range(4))
def test_no_flipped_bit_gives_other_entries_or_loses_them(part: int) -> None:
    """One bit of rot anywhere in a log: it is harmless (padding), or the log is refused; nothing is lost or changed."""
    disk = SimDisk()
    wal = new(disk, 1 << 14)
    entries = [entry(1), Entry(1, 1, 2, b"conf"), Entry(0, 1, 3, None), entry(4, 2, 700), entry(5, 2), entry(6, 2)]
    for e in entries:
        wal.save(HardState(e.term, 9, e.index - 1), [e])
        wal.sync()
    wal.save(HardState(2, 9, 6), [])
    wal.save(HardState(3, 9, 6), [])
    end = wal._offset
    wal.close()
    path = tail_path(disk)
    harmless = 0
    for bit in range(part, end * 8, 4):
        disk.flip(path, bit // 8, bit % 8)
        outcome = open_or_error(disk, 1 << 14)
        if isinstance(outcome, CorruptError):
            assert outcome.path in (path, "d/wal")
        else:
            harmless += 1
            assert outcome.metadata == META
            assert keys(outcome.entries) == keys(entries), (bit // 8, bit % 8)
            assert outcome.hard_state.same(HardState(3, 9, 6))
        disk.flip(path, bit // 8, bit % 8)
    assert harmless < end
    assert keys(reopen(disk)[1].entries) == keys(entries)


# ------------------------------------------------------------------------------------------------ crashes


def run_until_power_cut(disk: SimDisk, rng: random.Random, model: list[Entry]) -> list[Entry]:
    """Write at random until the power goes. Returns the entries that were acknowledged; `model` gets what was saved."""
    acknowledged: list[Entry] = list(model)
    try:
        disk.make_dirs("d")
        if not disk.exists("d/wal"):
            wal = Wal.create(disk, "d/wal", META, LOG, options())
        else:
            wal, contents = reopen(disk)
            assert keys(contents.entries)[: len(model)] == keys(model)
            model[:] = contents.entries
            acknowledged = list(model)
        term = model[-1].term if model else 1
        synced = True
        while True:
            if not synced:
                wal.sync()  # as a member does before it saves entries again
            batch = []
            if model and rng.random() < 0.1:
                # A new leader overwrites entries that were never acknowledged.
                term += 1
                keep = rng.randrange(len(acknowledged), len(model) + 1)
                del model[keep:]
            for _ in range(rng.randrange(1, 4)):
                batch.append(entry(len(model) + 1, term, rng.choice((0, 10, 600, 1500))))
                model.append(batch[-1])
            wal.save(HardState(term, 1, len(acknowledged)), batch)
            synced = rng.random() < 0.8
            if synced:
                wal.sync()
                acknowledged = list(model)
    except PowerCut:
        return acknowledged


@pytest.mark.parametrize("seed", range(150))
def test_acknowledged_entries_survive_power_cuts(seed: int) -> None:
    rng = random.Random(seed)
    disk = SimDisk(seed)
    disk.make_dirs("d")
    disk.sync_dir("")
    model: list[Entry] = []
    for _ in range(6):
        disk.stop_at(rng.randrange(1, 60))
        acknowledged = run_until_power_cut(disk, rng, model)
        disk.crash(rng)
        if not disk.exists("d/wal"):
            assert not acknowledged
            model = []
            continue
        wal, contents = reopen(disk)
        assert keys(contents.entries)[: len(acknowledged)] == keys(acknowledged)
        assert contents.hard_state.commit <= len(contents.entries)
        wal.close()
        model = contents.entries


def test_a_lost_directory_entry_never_loses_a_segment() -> None:
    """The name of a new segment is durable before anything in it is acknowledged (etcd issue 6368)."""
    for stop in range(1, 12):
        disk = SimDisk(stop)
        wal = new(disk)
        index = 0
        while not wal.cut_due:
            index += 1
            wal.save(None, [entry(index, size=900)])
            if not wal.cut_due:
                wal.sync()
        disk.stop_at(stop)
        synced = index - 1
        try:
            wal.sync()
            synced = index
            wal.save(None, [entry(index + 1)])
            wal.sync()
            synced = index + 1
        except PowerCut:
            pass
        disk.crash(random.Random(stop))
        assert len(reopen(disk)[1].entries) >= synced


@pytest.mark.parametrize("batches", [1, 2, 5])
def test_a_lost_sector_before_later_batches_is_damage(batches: int) -> None:
    """With one batch behind it, it may be what a crash has left of that batch."""
    disk = MemoryDisk({})
    wal = Wal.create(disk, "d/wal", META, LOG)
    for index in range(1, 11):
        wal.save(HardState(1, 1, index - 1), [entry(index, size=700)])
        wal.sync()
    ends = []
    for index in range(11, 11 + batches):
        ends.append(wal._offset)
        wal.save(HardState(1, 1, index - 1), [entry(index, size=700)])
        wal.sync()
    wal.close()
    name = disk.list_dir("d/wal")[0]
    lost = (ends[0] // 512 + 1) * 512  # a sector within the first of them
    disk.files[f"d/wal/{name}"].write_at(bytes(512), lost)
    if batches <= 2:
        # Of the first nothing but its end and its state are left, and one batch more says nothing of when.
        assert len(Wal.open(disk, "d/wal", WalSnapshot(), LOG)[1].entries) == 10
        return
    with pytest.raises(CorruptError, match="whole records of later batches follow") as caught:
        Wal.open(disk, "d/wal", WalSnapshot(), LOG)
    assert caught.value.offset == ends[0]
