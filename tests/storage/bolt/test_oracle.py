"""Interchange with real bbolt: files of a real etcd read by ours, files of ours judged by the real etcdutl and etcd."""

from __future__ import annotations

import base64
import json
import random
import shutil
import subprocess
import urllib.request
from pathlib import Path

import google_crc32c
import pytest

from quorate.ports import NullLog
from quorate.proto import kv_pb2
from quorate.runtime.disk import OsDisk
from quorate.storage.bolt import Compactor, Db, Scan
from tests.oracle import Member, real_binary, running

from .memory import assert_clean, commit, plain_db, revision

pytestmark = pytest.mark.oracle

BUCKETS = [
    b"alarm", b"auth", b"authRoles", b"authUsers", b"cluster",
    b"key", b"lease", b"members", b"members_removed", b"meta",
]  # fmt: skip


def call(member: Member, path: str, **fields: object) -> dict[str, object]:
    body = {k: base64.b64encode(v).decode() if isinstance(v, bytes) else v for k, v in fields.items()}
    request = urllib.request.Request(f"{member.url}/v3/{path}", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        found = json.load(answer)
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def real_data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[bytes, bytes]]:
    """The data directory of a real member that lived a little and was stopped, and the keys in it."""
    data = tmp_path_factory.mktemp("real") / "data"
    keys: dict[bytes, bytes] = {}
    chance = random.Random(1)
    with running("real", str(data)) as member:
        for number in range(250):
            key = b"/k/%03d" % chance.randrange(100)
            if number % 6 == 5:
                call(member, "kv/deleterange", key=key)
                keys.pop(key, None)
            else:
                keys[key] = b"%d " % number * chance.choice([1, 30, 100, 2000])
                call(member, "kv/put", key=key, value=keys[key])
            if number == 150:
                call(member, "kv/compaction", revision=100, physical=True)
        call(member, "lease/grant", ID=77, TTL=3600)
        call(member, "auth/role/add", name="reader")
        member.stop()
    return data, keys


def db_path(data: Path) -> str:
    return str(data / "member" / "snap" / "db")


def judge(db: Db) -> tuple[int, int, int, int]:
    """Return what `etcdutl snapshot status` of 3.5 computes: hash, revision, total keys, total size."""
    crc = total = last = 0
    read = db.begin_read()
    for name, tree in read.buckets():
        crc = google_crc32c.extend(crc, name)
        scan = Scan(tree, b"", None)
        while scan.next_leaf():
            for key, value in zip(scan.keys, scan.values, strict=True):
                crc = google_crc32c.extend(google_crc32c.extend(crc, key), value)
            total += len(scan.keys)
            if name == b"key":
                last = int.from_bytes(scan.keys[-1][:8], "big")
    size = read.size
    read.close()
    return crc, last, total, size


def real_status(path: str) -> tuple[int, int, int, int]:
    command = [real_binary("etcdutl"), "snapshot", "status", path, "-w", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    return status["hash"], status["revision"], status["totalKey"], status["totalSize"]


def real_defrag(data: Path) -> None:
    command = [real_binary("etcdutl"), "defrag", "--data-dir", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def live_keys(db: Db) -> dict[bytes, bytes]:
    """Return what a reader of the newest revision sees."""
    read = db.begin_read()
    tree = read.bucket(b"key")
    assert tree is not None
    found: dict[bytes, bytes] = {}
    for key, value in tree.range(b"", None):
        pair = kv_pb2.KeyValue.FromString(value)
        if len(key) == 18:
            found.pop(pair.key, None)
        else:
            found[pair.key] = pair.value
    read.close()
    return found


def test_a_real_file_is_read_whole(real_data: tuple[Path, dict[bytes, bytes]]) -> None:
    data, keys = real_data
    for read_only in (True, False):
        db = Db.open(OsDisk(), db_path(data), NullLog(), read_only=read_only)
        assert_clean(db)
        read = db.begin_read()
        assert [name for name, _ in read.buckets()] == BUCKETS
        read.close()
        assert live_keys(db) == keys
        want = judge(db)
        db.close()
        assert real_status(db_path(data)) == want


def test_the_lock_keeps_a_real_process_out(real_data: tuple[Path, dict[bytes, bytes]], tmp_path: Path) -> None:
    data, _ = real_data
    path = str(tmp_path / "db")
    shutil.copy(db_path(data), path)
    db = Db.open(OsDisk(), path, NullLog())
    command = [real_binary("etcdutl"), "snapshot", "status", path]
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(command, capture_output=True, timeout=1, check=False)
    db.close()
    real_status(path)


def test_real_status_and_defrag_after_our_commits(real_data: tuple[Path, dict[bytes, bytes]], tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(real_data[0], data)
    chance = random.Random(2)
    disk = OsDisk()
    number = 1000
    db = Db.open(disk, db_path(data), NullLog())
    for round_number in range(12):
        tx = db.begin_write()
        key = tx.bucket(b"key")
        meta = tx.bucket(b"meta")
        assert key is not None
        assert meta is not None
        key.fill = 0.9
        if round_number % 3 == 2:
            for old in range(2, number):
                if chance.random() < 0.3:
                    key.delete(revision(old))
        count = chance.choice([1, 50, 700])
        values = [b"v" * chance.choice([0, 20, 300, 9000]) for _ in range(count)]
        key.append([revision(number + n) for n in range(count)], values)
        number += count
        meta.put(b"consistent_index", number.to_bytes(8, "big"))
        commit(db, tx)
        assert_clean(db)
        if round_number % 4 == 3:
            want = judge(db)
            db.close()
            assert real_status(db_path(data)) == want
            db = Db.open(disk, db_path(data), NullLog())
    state = plain_db(db)
    want = judge(db)
    db.close()
    real_defrag(data)
    db = Db.open(disk, db_path(data), NullLog())
    assert plain_db(db) == state
    assert_clean(db)
    assert judge(db)[:3] == want[:3]
    real_size = db.size
    read = db.begin_read()
    copy = Compactor(read, disk, str(tmp_path / "copy"))
    while copy.step(100):
        pass
    copy.finish()
    read.close()
    db.close()
    status = real_status(str(tmp_path / "copy"))
    assert status[:3] == want[:3]
    assert status[3] <= real_size * 1.02


def test_a_file_made_by_ours_from_nothing(tmp_path: Path) -> None:
    disk = OsDisk()
    path = str(tmp_path / "db")
    db = Db.open(disk, path, NullLog())
    tx = db.begin_write()
    for name in BUCKETS:
        tx.create_bucket(name)
    commit(db, tx)
    empty = plain_db(db)
    for first in (2, 2000, 4000):
        tx = db.begin_write()
        bucket = tx.create_bucket(b"key")
        bucket.fill = 0.9
        bucket.append([revision(first + n) for n in range(1500)], [bytes(n % 500) for n in range(1500)])
        commit(db, tx)
    assert plain_db(db) != empty
    want = judge(db)
    assert want[1:3] == (5499, 4500)
    db.close()
    assert real_status(path) == want


def test_our_stream_is_accepted(real_data: tuple[Path, dict[bytes, bytes]], tmp_path: Path) -> None:
    db = Db.open(OsDisk(), db_path(real_data[0]), NullLog(), read_only=True)
    read = db.begin_read()
    path = tmp_path / "snapshot"
    path.write_bytes(b"".join(read.stream()))
    read.close()
    want = judge(db)
    db.close()
    assert real_status(str(path)) == want


def test_a_real_member_goes_on_with_our_file(real_data: tuple[Path, dict[bytes, bytes]], tmp_path: Path) -> None:
    """The file is copied by our Compactor, changed by our commits, and then served and changed by a real etcd."""
    data = tmp_path / "data"
    shutil.copytree(real_data[0], data)
    disk = OsDisk()
    db = Db.open(disk, db_path(data), NullLog())
    read = db.begin_read()
    copy = Compactor(read, disk, db_path(data) + ".tmp")
    while copy.step(1000):
        pass
    copy.finish()
    read.close()
    db.close()
    disk.rename(db_path(data) + ".tmp", db_path(data))
    db = Db.open(disk, db_path(data), NullLog())
    for _ in range(3):
        tx = db.begin_write()
        tx.create_bucket(b"lease").delete(b"absent")
        alarm = tx.create_bucket(b"test")
        alarm.put(b"k", bytes(5000))
        commit(db, tx)
    db.close()
    with running("real", str(data)) as member:
        found = call(member, "kv/range", key=b"/k/", range_end=b"/k0")
        pairs = found["kvs"]
        assert isinstance(pairs, list)
        got = {base64.b64decode(p["key"]): base64.b64decode(p["value"]) for p in pairs}
        assert got == real_data[1]
        for number in range(50):
            call(member, "kv/put", key=b"/more/%d" % number, value=bytes(1000))
        call(member, "maintenance/defragment")
        member.stop()
    db = Db.open(disk, db_path(data), NullLog())
    assert_clean(db)
    assert set(live_keys(db)) == set(real_data[1]) | {b"/more/%d" % n for n in range(50)}
    db.close()
