"""Directories to damage, what a member shows when it starts on one, and which bytes the format leaves unprotected."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass, field
from pathlib import Path

from quorate.backup.offline import BackupError
from quorate.backup.records import RecordCheck
from quorate.errors import CorruptError
from quorate.mvcc.revision import is_tombstone, main_of
from quorate.ports import Log, NullLog
from quorate.proto.rpc_pb2 import (
    AlarmRequest,
    AuthRoleAddRequest,
    AuthUserAddRequest,
    CompactionRequest,
    DeleteRangeRequest,
    PutRequest,
    RequestOp,
    TxnRequest,
)
from quorate.server.bootlog import StartError
from quorate.server.config import ServerConfig
from quorate.server.entry import AUTH_ROLE_ADD, AUTH_USER_ADD
from quorate.storage import schema
from quorate.storage.bolt.db import Db
from quorate.storage.bolt.freelist import FREE
from quorate.storage.bolt.page import LEAF, MAGIC, Pages
from quorate.storage.bolt.reach import page_states
from tests.corruption.disk import MemoryDisk
from tests.interchange.visible import Client
from tests.oracle import Member
from tests.server.world import MS, SECOND, Answer, Node

Files = dict[str, bytes]
Dump = dict[str, list[tuple[bytes, bytes]]]
DB, SNAP, WAL = "d/member/snap/db", "d/member/snap/", "d/member/wal/"
COMPACTED = 60  # by our members
VOLATILE = (schema.CONSISTENT_INDEX, schema.TERM, schema.FINISHED_COMPACT_REV, schema.SCHEDULED_COMPACT_REV)
REFUSALS = (CorruptError, StartError, BackupError, OSError)


class Notes(Log):
    """Keeps what is not ordinary."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, caller: str, msg: str, **fields: object) -> None:
        if msg in ("repairing", "repaired"):
            self.lines.append(msg)

    def warn(self, caller: str, msg: str, **fields: object) -> None:
        self.lines.append(msg)

    def error(self, caller: str, msg: str, **fields: object) -> None:
        self.lines.append(msg)


@dataclass
class Outcome:
    """What came of a start: refused, or the state it shows; `broken` is an exception that nobody should see."""

    refused: str = ""
    broken: str = ""
    dump: Dump = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def start(files: Files) -> Outcome:
    """Start a member on files and look at everything in it."""
    notes = Notes()
    disk = MemoryDisk(files)
    try:
        node = Node(disk=disk, config=ServerConfig(snapshot_count=60, snapshot_catchup_entries=10), log=notes)
        node.server.start()
        node.loop.run_until(lambda: node.server.published or node.loop.dead is not None)
        node.loop.advance(SECOND)
        if node.loop.dead is not None:
            raise node.loop.dead
        return Outcome(dump=dump_of(node), notes=notes.lines)
    except REFUSALS as error:
        return Outcome(refused=f"{type(error).__name__}: {error}", notes=notes.lines)
    except Exception as error:
        if isinstance(error.__context__, REFUSALS):
            return Outcome(refused=str(error.__context__))
        return Outcome(broken=f"{type(error).__name__}: {error}")


def dump_of(node: Node) -> Dump:
    backend = node.server.backend
    found = {name.decode(): backend.range(name, b"", b"") for name in schema.BUCKETS}
    found["meta"] = [(key, value) for key, value in found["meta"] if key not in VOLATILE]
    lessor = node.server.lessor
    found["leases"] = [(b"%x" % each.id, b" ".join(sorted(each.keys))) for each in lessor.leases()]
    found["cluster members"] = [(b"%x" % each.id, repr(each).encode()) for each in node.server.cluster.member_list()]
    revision = node.server.store.current_rev
    found["live"] = [(b"", each) for each in node.server.store.range(b"\0", b"\0", 0, 0, False).kvs]
    found["revisions"] = [(b"%d" % revision, b"%d" % node.server.store.compact_rev)]
    return found


def key_rows(dump: Dump) -> list[tuple[bytes, bytes]]:
    return dump.get("key", [])


def _work(node: Node, rng: random.Random, count: int, answers: list[Answer]) -> None:
    for number in range(count):
        key = b"key%03d" % rng.randrange(120)
        kind = rng.randrange(12)
        request: object
        if kind < 8:
            value = rng.randbytes(rng.choice([3, 40, 300, 900]))
            method, request = "put", PutRequest(key=key, value=value, lease=rng.choice([0, 0, 5, 6]))
        elif kind < 10:
            method, request = "delete_range", DeleteRangeRequest(key=key)
        else:
            ops = [RequestOp(request_put=PutRequest(key=b"txn%d" % part, value=b"%d" % number)) for part in range(3)]
            ops.append(RequestOp(request_delete_range=DeleteRangeRequest(key=key)))
            method, request = "txn", TxnRequest(success=ops)
        answer = Answer()
        getattr(node.server, method)(request, request.SerializeToString(), answer)  # type: ignore[attr-defined]
        answers.append(answer)
        if number % 5 == 4:
            node.loop.advance(3 * MS)


@functools.cache
def base(kind: str) -> Files:
    """Return the files of a member that was killed: "young" without snapshots, "old" with them, "received" between
    a leader's snapshot and the start that puts its database in place; "real" is real etcd's, with snapshots."""
    if kind == "real":
        return _real()
    rng = random.Random(kind)
    count = 1_000_000 if kind == "young" else 60
    disk = MemoryDisk({})
    node = Node(disk=disk, config=ServerConfig(snapshot_count=count, snapshot_catchup_entries=10)).start()
    server = node.server
    for lease in (5, 6, 7):
        node.grant(lease, 1_000_000)
    for name in (b"alice", b"bob"):
        user = AuthUserAddRequest(name=name.decode())
        user.options.no_password = True
        role = AuthRoleAddRequest(name=name.decode())
        for auth_kind, request in ((AUTH_USER_ADD, user), (AUTH_ROLE_ADD, role)):
            answer = Answer()
            server.change_auth(auth_kind, request, request.SerializeToString(), answer)
            node.loop.run_until(lambda answer=answer: answer.done)  # type: ignore[misc]
    answers: list[Answer] = []
    _work(node, rng, 150, answers)
    node.call(server.compact, CompactionRequest(revision=COMPACTED))
    node.loop.advance(SECOND)
    early = disk.contents()
    _work(node, rng, 150, answers)
    node.loop.advance(SECOND)  # commits; what follows is in the log alone
    _work(node, rng, 30, answers)
    node.loop.run_until(lambda: all(answer.done for answer in answers))
    node.call(server.alarm, AlarmRequest(action=1, memberID=99, alarm=1))
    files = disk.contents()
    if kind == "received":
        newest = max(name for name in files if name.endswith(".snap"))
        index = int(newest[-21:-5], 16)
        files[f"{SNAP}{index:016x}.snap.db"] = files[DB]
        files[DB] = early[DB]
    return {name: _trimmed(content) for name, content in files.items() if not name.endswith(".tmp")}


def _real() -> Files:
    member = Member("real", flags=["--snapshot-count=60"])
    member.health_path = "/health?exclude=NOSPACE"
    try:
        member.start()
        with Client(member) as client:
            client.write_history(0)  # with a compaction; its last one is at the end of the third
            client.write_history(1)
            client.write_history(2)
        member.kill()
        root = Path(member.data_dir)
        found = {f"d/{path.relative_to(root)}": path.read_bytes() for path in root.rglob("*") if path.is_file()}
    finally:
        member.close()
    return {name: _trimmed(_cut(name, content)) for name, content in found.items() if not name.endswith(".tmp")}


def _cut(name: str, content: bytes) -> bytes:
    """Drop most of a log's preallocated room."""
    return content.rstrip(b"\0") + bytes(3 * 512) if name.endswith(".wal") else content


def _trimmed(content: bytes) -> bytes:
    """Drop the room into which a database has not grown yet, so that damage hits what is there."""
    if content[16:20] != MAGIC.to_bytes(4, "little"):
        return content
    db = Db.open(MemoryDisk({"db": content}), "db", NullLog(), read_only=True)
    return content[: db.size]


@functools.cache
def healthy(kind: str) -> Dump:
    outcome = start(base(kind))
    assert outcome.dump, outcome
    return outcome.dump


@functools.cache
def snapshot_file() -> bytes:
    """Return a snapshot as `snapshot save` leaves it."""
    import hashlib

    db = Db.open(MemoryDisk({"db": base("old")[DB]}), "db", NullLog(), read_only=True)
    content = b"".join(db.begin_read().stream())
    return content + hashlib.sha256(content).digest()


def unprotected(content: bytes) -> set[int]:
    """Return the bytes of a database that no rule of the format covers: of every leaf page the values, and the keys
    unless they are revisions; of those up to the compaction, the sub revisions, and all of a tombstone."""
    db = Db.open(MemoryDisk({"db": content}), "db", NullLog(), read_only=True)
    pages = db.pages
    compacted = RecordCheck.of(db.begin_read()).compacted
    found: set[int] = set()
    leaves = _leaves(db)
    revisions = {pgid for pgid in leaves if _holds_revisions(db, pgid)}
    for pgid in leaves:
        page = pages.load(pgid)
        base_at = pgid * pages.page_size
        for index in range(page[10] | page[11] << 8):
            flags, start_at, middle, end = pages.pair(page, base_at, index)
            if flags & 1 and end - middle > 16:
                found |= _inline(pages, page[middle + 16 : end], base_at + middle + 16)
            elif not flags & 1:
                first = start_at
                if pgid in revisions:
                    key = page[start_at:middle]
                    old = main_of(key) <= compacted
                    first = middle if not old else start_at if is_tombstone(key) else start_at + 9
                found.update(range(base_at + first, base_at + end))
    return found


def _inline(pages: Pages, page: bytes, at: int) -> set[int]:
    found: set[int] = set()
    for index in range(page[10] | page[11] << 8):
        _, start_at, _, end = pages.pair(page, at, index)
        found.update(range(at + start_at, at + end))
    return found


def _leaves(db: Db) -> list[int]:
    """Return the leaf pages in use."""
    states = page_states(db.pages, db.meta)
    found, after = [], 0
    for pgid in range(2, db.meta.high_water):
        if states[pgid] != FREE and pgid >= after:
            page = db.pages.load(pgid)
            after = pgid + 1 + (page[12] | page[13] << 8)
            if page[8] == LEAF:
                found.append(pgid)
    return found


def _holds_revisions(db: Db, pgid: int) -> bool:
    page = db.pages.load(pgid)
    if not page[10] | page[11] << 8:
        return False
    _, start_at, middle, _ = db.pages.pair(page, 0, 0)
    return middle - start_at in (17, 18) and main_of(page[start_at:middle]) < 1 << 32
