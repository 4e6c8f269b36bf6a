"""Targets of what is read from disks: the write-ahead log, the database, snapshots, stored records, settings."""

from __future__ import annotations

import contextlib
import json
import os
import random
import tempfile
from functools import lru_cache

import yaml
from google.protobuf.message import DecodeError

from quorate.cli.configfile import BadUrlError, ConfigFileError, read_config_file
from quorate.errors import CorruptError
from quorate.membership.member import Member
from quorate.membership.v2store import Membership, decode_v2store, encode_v2store
from quorate.membership.version import Version
from quorate.mvcc import record
from quorate.ports import NullLog
from quorate.proto.kv_pb2 import KeyValue
from quorate.raft.codec import encode_snapshot
from quorate.raft.types import ConfState, Entry, HardState, Snapshot
from quorate.storage import wal_record
from quorate.storage.bolt import Db, Scan, Tree
from quorate.storage.bolt.page import fnv1a
from quorate.storage.snapfile import decode_snap, encode_snap
from quorate.storage.wal import Wal, WalOptions
from quorate.storage.wal_reader import WalContents, valid_snapshots
from quorate.storage.wal_record import WalSnapshot
from quorate.wire.protobuf import FieldScanner
from tests.fakes.disk import SimDisk
from tests.fuzz.target import Cutter, piece, target
from tests.storage.bolt.memory import MemoryDisk, MemoryFile

LOG = NullLog()
START = WalSnapshot()
SEGMENT_BYTES = 4096
DIRECTORY = "d/wal"
NAME = "0000000000000000-0000000000000000.wal"


def _wal_image() -> bytes:
    disk = SimDisk()
    disk.make_dirs("d")
    disk.sync_dir("")
    wal = Wal.create(disk, DIRECTORY, b"\x08\x01\x10\x02", LOG, WalOptions(segment_bytes=SEGMENT_BYTES))
    for index in range(1, 9):
        wal.save(HardState(1, 1, index - 1), [Entry(0, 1, index, bytes([index]) * (30 * index))])
        wal.sync()
    wal.save_snapshot(WalSnapshot(4, 1, ConfState([1], [], [], [], False)))
    wal.close()
    file = disk.open(f"{DIRECTORY}/{NAME}", read_only=True)
    return file.read_at(file.size(), 0)


def _check_contents(contents: WalContents) -> None:
    indexes = [entry.index for entry in contents.entries]
    assert indexes == list(range(1, len(indexes) + 1))
    terms = [entry.term for entry in contents.entries]
    assert terms == sorted(terms)


def _open_wal(image: bytes) -> WalContents | None:
    disk = SimDisk()
    disk.make_dirs(DIRECTORY)
    file = disk.open(f"{DIRECTORY}/{NAME}", create=True)
    file.write_at(image, 0)
    file.close()
    options = WalOptions(segment_bytes=SEGMENT_BYTES)
    with contextlib.suppress(CorruptError):
        valid_snapshots(disk, DIRECTORY, LOG)
    try:
        wal, contents = Wal.open(disk, DIRECTORY, START, LOG, options)
    except CorruptError:
        return None
    # It can be written to, and what is written then is read next time.
    term = max([1, contents.hard_state.term, *[entry.term for entry in contents.entries]])
    index = len(contents.entries) + 1
    if term < 2**63:
        wal.save(None, [Entry(0, term, index, b"more")])
        wal.sync()
        wal.close()
        wal, again = Wal.open(disk, DIRECTORY, START, LOG, options)
        assert [entry.index for entry in again.entries] == list(range(1, index + 1))
        assert again.entries[-1].data == b"more"
        for old, new in zip(contents.entries, again.entries, strict=False):
            assert (old.term, old.type, old.data) == (new.term, new.type, new.data)
    wal.close()
    return contents


def _edits(cutter: Cutter, image: bytes) -> bytearray:
    """An image with the changes that an input asks for: (offset, length, bytes) until it ends."""
    out = bytearray(image)
    while cutter:
        at = cutter.number(2) % (len(out) + 1)
        size = cutter.byte() % 33
        data = cutter.take(size)
        out[at : at + len(data)] = data
    return out


@lru_cache(1)
def _base_wal() -> bytes:
    return _wal_image()


@target(lambda: [b"", b"\0\x10\4abcd", b"\x01\0\x20" + bytes(32), b"\0\0\1\xff", b"\x04\0\3\1\2\3" + b"\0\x08\1\x80"])
def wal_file(data: bytes) -> None:
    """A damaged log is refused with CorruptError, or opens with a gapless prefix of what was saved and goes on."""
    contents = _open_wal(bytes(_edits(Cutter(data), _base_wal())))
    if contents is not None:
        _check_contents(contents)
        for entry in contents.entries:
            assert entry.index > 8 or entry.data == bytes([entry.index]) * (30 * entry.index), entry.index


def _wal_records() -> list[bytes]:
    entries = [wal_record.ENTRY, b"\x08\x00\x10\x01\x18\x01\x22\x01a"]
    good = bytes([1]) + piece(b"\x08\x01\x10\x02") + bytes([5]) + piece(b"\x08\x00\x10\x00")
    good += bytes([2]) + piece(entries[1]) + bytes([3]) + piece(b"\x08\x01\x10\x01\x18\x01")  # type: ignore[arg-type]
    more = bytes([2]) + piece(b"\x08\x02\x10\x01\x18\x02\x22\x05\x0a\x03\x08\x01\x10")
    over = bytes([2]) + piece(b"\x08\x00\x10\x02\x18\x01\x22\x01b")
    joint = bytes([5]) + piece(b"\x08\x01\x10\x01\x1a\x04\x08\x01\x12\x00")
    return [good, good + more, good + over + more, good + joint + bytes([4]) + piece(b"")]


@target(_wal_records)
def wal_records(data: bytes) -> None:
    """Records of any kind and content behind right checksums: CorruptError, or entries without gaps and a log that
    goes on."""
    cutter = Cutter(data)
    framer = wal_record.Framer(0)
    framer.add_crc()
    while cutter:
        framer.add(cutter.byte() % 7, cutter.piece())
    contents = _open_wal(framer.take() + bytes(64))
    if contents is not None:
        _check_contents(contents)


# The database


PAGE = 1024


@lru_cache(1)
def _base_db() -> bytes:
    disk = MemoryDisk()
    db = Db.open(disk, "db", LOG, page_size=PAGE)
    rng = random.Random(7)
    for round_number in range(4):
        tx = db.begin_write()
        bucket = tx.create_bucket(b"key")
        for number in range(30):
            at = round_number * 30 + number
            bucket.put(at.to_bytes(8, "big") + b"_" + bytes(8), rng.randbytes(rng.choice([10, 40, 200])))
        small = tx.create_bucket(b"meta")
        small.put(b"consistent_index", round_number.to_bytes(8, "big"))
        tx.create_bucket(b"alarm")
        if round_number == 3:
            bucket.put(b"\xff" * 8, rng.randbytes(3000))
        commit = tx.prepare()
        commit.write()
        db.finish(commit)
    db.close()
    file = disk.files["db"]
    return file.buffer[: (db.meta.high_water + 1) * PAGE]


class _SmallFile(MemoryFile):
    def __init__(self, content: bytes) -> None:
        self.path = "db"
        self.buffer = bytearray(content + bytes(1 << 20))  # type: ignore[assignment]
        self.length = len(content)
        self.operations = []
        self.fail_at = -1
        self.locked = False

    def map(self) -> memoryview:
        return memoryview(self.buffer).toreadonly()[: self.length]


def _read_tree(tree: Tree, clean: bool) -> int:
    scan = Scan(tree, b"", None)
    count = 0
    last = b""
    while scan.next_leaf():
        for key in scan.keys:
            assert not clean or not count or key > last
            last = key
            count += 1
            assert count < 10_000
    for key, value in tree.range(b"", None, 20):
        assert not clean or tree.get(key) == value
    return count


@target(lambda: [b"\1", b"\0\x08\0\4abcd", b"\1\x0c\x10\x02\xff\xff", b"\2\0\x20\4\0\0\0\0", b"\1\x10\0\1\2\x14\0\1\2"])
def database_file(data: bytes) -> None:
    """A damaged database raises CorruptError on opening, checking or reading, never anything else; if its check finds
    nothing, all of it can be read, in order, and it takes a write."""
    cutter = Cutter(data)
    seal = cutter.byte() % 4
    image = _edits(cutter, _base_db())
    for number in (0, 1):
        # With the checksum made right again, what a meta page says is looked at.
        if seal & 1 << number:
            at = number * PAGE + 16
            image[at + 56 : at + 64] = fnv1a(bytes(image[at : at + 56])).to_bytes(8, "little")
    disk = MemoryDisk()
    disk.files["db"] = _SmallFile(bytes(image))
    try:
        db = Db.open(disk, "db", LOG)
    except CorruptError:
        return
    faults: list[str] = []
    for fault in db.check():
        faults.append(fault)
        assert len(faults) < 100_000
    assert db.size >= 0
    assert db.size_in_use >= 0
    try:
        tx = db.begin_read()
        for name, tree in tx.buckets():
            _read_tree(tree, not faults)
            assert tx.bucket(name) is not None
        tx.close()
    except CorruptError:
        assert faults, "a file that passed its check cannot be read"
    if faults or db.meta.high_water > 4096:
        return
    write = db.begin_write()
    write.create_bucket(b"key").put(b"new", b"value")
    commit = write.prepare()
    commit.write()
    db.finish(commit)
    assert list(db.check()) == []


# Snapshots and membership


def _snapshots() -> list[Snapshot]:
    members = {1: Member(1, ["http://a:2380"], "m1", ["http://a:2379"]), 2: Member(2, ["http://b:1"], is_learner=True)}
    membership = Membership(members, {7}, Version(3, 5))
    return [
        Snapshot(encode_v2store(membership), 5, 2, ConfState([1], [2], [], [], False)),
        Snapshot(b"{}", 1, 1, ConfState([1, 2], [], [1], [3], True)),
    ]


@target(
    lambda: (
        [encode_snap(snapshot)[:3000] for snapshot in _snapshots()] + [b"\x08\1\x12\1a", encode_snap(_snapshots()[1])]
    )
)
def snap_file(data: bytes) -> None:
    """A .snap file is refused with ValueError or read; so is its content behind a right checksum."""
    for content in (data, _sealed(data)):
        try:
            snapshot = decode_snap(content)
        except ValueError:
            continue
        assert encode_snapshot(decode_snap(encode_snap(snapshot))) == encode_snapshot(snapshot)


def _sealed(data: bytes) -> bytes:
    import google_crc32c

    crc = google_crc32c.extend(0, data)
    return b"\x08" + wal_record.varint(crc) + b"\x12" + wal_record.varint(len(data)) + data


def _v2_seeds() -> list[bytes]:
    def leaf(value: str) -> dict[str, object]:
        return {"Path": "/x", "Value": value, "Children": None}

    raft, names = leaf('{"peerURLs":["http://a:1"],"isLearner":true}'), leaf('{"name":"m","clientURLs":[]}')
    member = {"Value": "", "Children": {"raftAttributes": raft, "attributes": names}}
    zero = {
        "members": {"Children": {"1f": member}},
        "removed_members": {"Children": {"2": leaf("")}},
        "version": leaf("3.6.0"),
    }
    return [
        json.dumps({"Root": {"Children": {"0": {"Children": zero}, "1": {"Children": {}}}}}).encode(),
        b'{"Root":{"Children":{"0":{"Children":{"members":{"Children":{"x":{}}}}}}}}',
        b'{"Root":{"Children":{"2":{"Children":{"users":{"Children":{"a":{}}}}}}}}',
        b"[" * 2000,
    ]


@target(_v2_seeds)
def v2store(data: bytes) -> None:
    """The membership in a snapshot is refused with ValueError, or survives being written and read again."""
    try:
        membership = decode_v2store(data)
    except ValueError:
        return
    again = decode_v2store(encode_v2store(membership))
    assert encode_v2store(again) == encode_v2store(membership)


# Stored records


def _records() -> list[bytes]:
    full = KeyValue(key=b"k", create_revision=2, mod_revision=2**40, version=3, value=b"v" * 50, lease=77)
    event = record.encode_put_event(full.SerializeToString(), KeyValue(key=b"k", value=b"old").SerializeToString())
    return [
        full.SerializeToString(),
        KeyValue(key=b"a", value=b"").SerializeToString(),
        event,
        b"\x0a\xff\xff\xff\xff\x0f",
    ]


@target(_records)
def stored_record(data: bytes) -> None:
    """A stored KeyValue is refused with ValueError, or has the fields that the protobuf library finds, if it has each
    only once, as all that we or etcd write."""
    for read in (record.key_of, record.lease_of, record.without_value, record.decode_event):
        with contextlib.suppress(ValueError):
            read(data)
    scanner, numbers = FieldScanner(data), []
    try:
        key, create, mod, version, value, lease = record.key_value_fields(data)
        while scanner.next():
            numbers.append(scanner.number)
    except ValueError:
        return
    if len(set(numbers)) < len(numbers):
        return
    assert record.key_of(data) == key
    assert record.lease_of(data) == lease
    message = KeyValue()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return
    assert (key, value, lease) == (message.key, message.value, message.lease)
    # No revision is negative, so nothing is lost by reading them without a sign.
    unsigned = [number % 2**64 for number in (message.create_revision, message.mod_revision, message.version)]
    assert [create, mod, version] == unsigned
    bare = KeyValue.FromString(record.without_value(data))
    message.ClearField("value")
    assert (bare.key, bare.value, bare.mod_revision) == (message.key, b"", message.mod_revision)


# Settings


def _settings() -> list[bytes]:
    plain = {"name": "m1", "data-dir": "/d", "listen-client-urls": "http://127.0.0.1:1,http://127.0.0.1:2"}
    nested = {"client-transport-security": {"cert-file": "a", "client-cert-auth": True}, "log-outputs": ["stderr"]}
    numbers = {"heartbeat-interval": 100, "grpc-keepalive-min-time": 5000000000, "auto-compaction-retention": "1h"}
    return [yaml.safe_dump(each).encode() for each in (plain, nested, numbers)] + [b"a: &a [*a]\n", b"\xff\xfe", b"- 1"]


@target(_settings)
def config_file(data: bytes) -> None:
    """A configuration file gives settings, or one of the two errors that the command knows how to tell."""
    handle, path = tempfile.mkstemp()
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        with contextlib.suppress(ConfigFileError, BadUrlError):
            values, keys = read_config_file(path)
            assert isinstance(values, dict)
            assert isinstance(keys, set)
    finally:
        os.remove(path)
