"""The database of a stopped member, checked: pages, buckets, and every kind of key and value that etcd keeps in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from google.protobuf.message import DecodeError

from quorate.backup.findings import BAD, NOTE, Report
from quorate.backup.records import RecordCheck
from quorate.errors import CorruptError
from quorate.membership.member import parse_member_json
from quorate.membership.version import parse_version
from quorate.mvcc.revision import check_key
from quorate.ports import Log
from quorate.proto.auth_pb2 import Role, User
from quorate.storage import schema
from quorate.storage.bolt.db import Db
from quorate.storage.bolt.tree import Scan, Tree
from quorate.storage.bolt.tx import ReadTx

_ALARM_TYPES: Final = (1, 2)
_PAGE_PROBLEMS_MAX: Final = 20
Rule = Callable[[bytes, bytes], None]


class _Roots(Log):
    """Notes what opening a database says of its two roots."""

    def __init__(self, report: Report, path: str) -> None:
        self._report = report
        self._path = path

    def warn(self, caller: str, msg: str, **fields: object) -> None:  # noqa: ARG002
        """Note the warning."""
        advice = "a crash while it was written leaves this, and the state before it is used; the log makes up for it"
        self._report.add(NOTE, self._path, -1, f"{msg}: page {fields.get('page')}: {fields.get('error')}", advice)


def check_database(report: Report, path: str, advice: str) -> int:
    """Check a database; return its consistent index, -1 when it cannot be read. Raises OSError."""
    try:
        db = Db.open(report.disk, path, _Roots(report, path), read_only=True, wait=False)
    except BlockingIOError:
        report.add(BAD, path, -1, "in use by a member: what is read may change meanwhile", "stop the member first")
        return -1
    except CorruptError as error:
        report.damage(error, path, advice)
        return -1
    try:
        return _check(report, db, path, advice)
    except CorruptError as error:
        report.damage(error, path, advice)
        return -1
    finally:
        db.close()


def _check(report: Report, db: Db, path: str, advice: str) -> int:
    count = 0
    for problem in db.check():
        count += 1
        if count <= _PAGE_PROBLEMS_MAX:
            number = problem.removeprefix("page ").partition(":")[0]
            offset = int(number) * db.meta.page_size if number.isdigit() else -1
            report.add(BAD, path, offset, problem, advice)
    if count:
        return -1
    tx = db.begin_read()
    report.fact("database", f"{path}: {tx.size} bytes, transaction {tx.txid}")
    for name in schema.BUCKETS:
        if name != schema.KEY:
            _check_bucket(report, tx.bucket(name), name, path, advice)
    for name, _ in tx.buckets():
        if name not in schema.BUCKETS:
            report.add(NOTE, path, -1, f"bucket {name!r} is not etcd's", "etcd does not look at it")
    _check_records(report, tx, path, advice)
    meta = tx.bucket(schema.META)
    try:
        index = schema.decode_u64(meta.get(schema.CONSISTENT_INDEX)) if meta is not None else 0
    except ValueError:
        index = -1  # reported above
    tx.close()
    return index


def _check_records(report: Report, tx: ReadTx, path: str, advice: str) -> None:
    tree = tx.bucket(schema.KEY)
    if tree is None:
        report.add(BAD, path, -1, "there is no bucket key", advice)
        return
    check = RecordCheck.of(tx)
    scan = Scan(tree, b"", None)
    found = 0
    while scan.next_leaf():
        check.add(scan.keys, scan.values)
        problems = check.malformed + check.problems
        for problem in problems[found:]:
            report.add(BAD, path, scan.base, problem, advice)
        found = len(problems)
    if check.more:
        report.add(BAD, path, -1, f"and {check.more} more of this kind", advice)
    report.fact("history", f"revision {check.revision}, {len(check.live)} keys")
    leases = tx.bucket(schema.LEASE)
    for name, lease in sorted(check.leases.items()):
        if leases is None or leases.get(schema.lease_key(lease)) is None:
            text = f"key {name!r} has the lease {lease:x}, which does not exist"
            report.add(BAD, path, -1, text, "the key will not expire; put it anew")


def _check_bucket(report: Report, tree: Tree | None, name: bytes, path: str, advice: str) -> None:
    if tree is None:
        if name in (schema.META, schema.MEMBERS):
            report.add(BAD, path, -1, f"there is no bucket {name.decode()}", advice)
        return
    rule = _RULES[name]
    scan = Scan(tree, b"", None)
    while scan.next_leaf():
        for key, value in zip(scan.keys, scan.values, strict=True):
            try:
                rule(key, value)
            except (ValueError, DecodeError, CorruptError) as error:
                text = f"bucket {name.decode()}, key {key!r}: {error}"
                report.add(BAD, path, scan.base, text, advice)


def _meta(key: bytes, value: bytes) -> None:
    if key in (schema.CONSISTENT_INDEX, schema.TERM):
        schema.decode_u64(value)
    elif key in (schema.SCHEDULED_COMPACT_REV, schema.FINISHED_COMPACT_REV):
        check_key(value)
    elif key == schema.CONF_STATE:
        json.loads(value)
    elif key == schema.STORAGE_VERSION:
        parse_version(value.decode())
    else:
        raise ValueError("unknown key")


def _cluster(key: bytes, value: bytes) -> None:
    if key == schema.CLUSTER_VERSION:
        parse_version(value.decode())
    elif key == schema.DOWNGRADE:
        json.loads(value)
    else:
        raise ValueError("unknown key")


def _member(key: bytes, value: bytes) -> None:
    member, _ = parse_member_json(value)
    if schema.member_key(member.id) != key:
        raise ValueError(f"holds member {member.id:x}")


def _removed(key: bytes, value: bytes) -> None:
    schema.parse_member_key(key)
    if value != schema.MEMBER_REMOVED:
        raise ValueError(f"holds {value!r}")


def _lease(key: bytes, value: bytes) -> None:
    lease_id, ttl_s, remaining_s = schema.decode_lease(value)
    if schema.lease_key(lease_id) != key:
        raise ValueError(f"holds lease {lease_id:x}")
    if ttl_s <= 0 or not 0 <= remaining_s <= ttl_s:
        raise ValueError(f"impossible times: TTL {ttl_s}, remaining {remaining_s}")
    if schema.encode_lease(lease_id, ttl_s, remaining_s) != value:
        raise ValueError("not as etcd encodes a lease")


def _alarm(key: bytes, value: bytes) -> None:
    member_id, alarm = schema.decode_alarm(key)
    if alarm not in _ALARM_TYPES or value or schema.encode_alarm(member_id, alarm) != key:
        raise ValueError("not an alarm")


def _auth(key: bytes, value: bytes) -> None:
    if key == b"authEnabled":
        if value not in (b"\0", b"\1"):
            raise ValueError(f"holds {value!r}")
    elif key == b"authRevision":
        schema.decode_u64(value)
    else:
        raise ValueError("unknown key")


def _user(key: bytes, value: bytes) -> None:
    if User.FromString(value).name != key:
        raise ValueError("holds another user")


def _role(key: bytes, value: bytes) -> None:
    if Role.FromString(value).name != key:
        raise ValueError("holds another role")


_RULES: Final[dict[bytes, Rule]] = {
    schema.META: _meta,
    schema.CLUSTER: _cluster,
    schema.MEMBERS: _member,
    schema.MEMBERS_REMOVED: _removed,
    schema.LEASE: _lease,
    schema.ALARM: _alarm,
    schema.AUTH: _auth,
    schema.AUTH_USERS: _user,
    schema.AUTH_ROLES: _role,
}
