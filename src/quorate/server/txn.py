"""Transactions: compares decide a branch, checks refuse it, and only then is anything executed.

Three passes, so that a transaction has all of its effects or none, and alike on every member (etcd's issues 14110,
18667 and 18799 are what happens otherwise):

1. `plan`: all compares, those of nested transactions of the taken branches included, see the state before the
   transaction. The result is a tree of taken branches.
2. `check`: the taken operations in order. A range may ask for a revision that is not there, a put may need a lease or a
   previous value. The first that cannot be done fails the whole transaction. Every member checks, also one that answers
   nobody and skips the ranges in pass 3.
3. `execute`: cannot fail.

Source: etcd server/etcdserver/txn/txn.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from quorate.errors import COMPACTED, FUTURE_REV, KEY_NOT_FOUND, LEASE_NOT_FOUND, RpcError
from quorate.lease.lessor import Lessor
from quorate.mvcc.record import key_value_fields
from quorate.mvcc.store import Store, WriteTxn
from quorate.proto.rpc_pb2 import Compare, PutRequest, RangeRequest, RequestOp, TxnRequest
from quorate.server.encode import delete_fields, message_field, put_fields, revision_header, varint
from quorate.server.ranges import Reader, run_range

_EQUAL: Final = 0
_GREATER: Final = 1
_LESS: Final = 2
_NOT_EQUAL: Final = 3

_VERSION: Final = 0
_CREATE: Final = 1
_MOD: Final = 2
_VALUE: Final = 3
_LEASE: Final = 4

# Kinds of operation; as numbers because a name costs a comparison of strings each time.
_OP_EMPTY: Final = 0
_OP_RANGE: Final = 1
_OP_PUT: Final = 2
_OP_DELETE: Final = 3
_OP_TXN: Final = 4

_ABSENT: Final = (b"", 0, 0, 0, b"", 0)


def is_read_only(request: TxnRequest) -> bool:
    """Tell whether every operation of both branches is a range, so that no log entry is needed."""
    return _only_ranges(request.success) and _only_ranges(request.failure)


def _only_ranges(ops: Iterable[RequestOp]) -> bool:
    return all(op.HasField("request_range") for op in ops)


def is_serializable(request: TxnRequest) -> bool:
    """Tell whether every operation is a serializable range; also true of a transaction without operations."""
    return _only_serializable(request.success) and _only_serializable(request.failure)


def _only_serializable(ops: Iterable[RequestOp]) -> bool:
    return all(op.HasField("request_range") and op.request_range.serializable for op in ops)


class Branch:
    """The branch that one transaction takes: its operations by kind, and the branches of its nested transactions."""

    def __init__(self, succeeded: bool) -> None:
        self.succeeded = succeeded
        self.kinds: list[int] = []
        self.ops: list[RequestOp] = []
        self.nested: list[Branch] = []


def plan(reader: Reader, request: TxnRequest) -> Branch:
    """Evaluate the compares and return the taken branches."""
    succeeded = True
    for compare in request.compare:
        if not holds(reader, compare):
            succeeded = False
            break
    branch = Branch(succeeded)
    for op in request.success if succeeded else request.failure:
        kind = _kind(op)
        branch.kinds.append(kind)
        branch.ops.append(op)
        if kind == _OP_TXN:
            branch.nested.append(plan(reader, op.request_txn))
    return branch


def _kind(op: RequestOp) -> int:
    if op.HasField("request_put"):
        return _OP_PUT
    if op.HasField("request_range"):
        return _OP_RANGE
    if op.HasField("request_delete_range"):
        return _OP_DELETE
    if op.HasField("request_txn"):
        return _OP_TXN
    return _OP_EMPTY


def holds(reader: Reader, compare: Compare) -> bool:
    """Tell whether a compare is true of every key in its range; of no key, as of a key that was never written."""
    found = reader.range(compare.key, compare.range_end, 0, 0, False)
    if not found.kvs:
        # An absent value equals nothing and differs from nothing.
        return int(compare.target) != _VALUE and _holds_of(compare, _ABSENT)
    return all(_holds_of(compare, key_value_fields(kv)) for kv in found.kvs)


def _holds_of(compare: Compare, fields: tuple[bytes, int, int, int, bytes, int]) -> bool:
    _, create, mod, version, value, lease = fields
    # A field of the union that is not set reads as zero or empty, which is etcd's rule for a foreign one.
    target = int(compare.target)
    if target == _MOD:
        order = _order(mod, compare.mod_revision)
    elif target == _CREATE:
        order = _order(create, compare.create_revision)
    elif target == _VERSION:
        order = _order(version, compare.version)
    elif target == _VALUE:
        wanted = compare.value
        order = 0 if value == wanted else 1 if value > wanted else -1
    elif target == _LEASE:
        order = _order(lease, compare.lease)
    else:
        order = 0
    result = int(compare.result)
    if result == _EQUAL:
        return order == 0
    if result == _GREATER:
        return order > 0
    if result == _LESS:
        return order < 0
    return result != _NOT_EQUAL or order != 0


def _order(left: int, right: int) -> int:
    return 0 if left == right else 1 if left > right else -1


class Check:
    """Pass 2: tells why the taken operations cannot be executed.

    Everything is asked of the state before the transaction, with one exception. A put that reuses the previous value
    fails when an operation before it deletes the key; real etcd does not see that coming and stops all its members, so
    deletions are remembered here, and puts behind them.
    """

    def __init__(self, store: Store, lessor: Lessor) -> None:
        self._store = store
        self._lessor = lessor
        self._deleted: list[tuple[bytes, bytes]] = []
        self._put: list[tuple[int, bytes]] = []  # (how many deletions came before, key)

    def error(self, branch: Branch) -> RpcError | None:
        """Return the first error in order of the operations, None when all can be executed."""
        nested = 0
        for index, kind in enumerate(branch.kinds):
            error: RpcError | None = None
            if kind == _OP_PUT:
                error = self._of_put(branch.ops[index].request_put)
            elif kind == _OP_RANGE:
                error = _check_range(self._store, branch.ops[index].request_range)
            elif kind == _OP_DELETE:
                deletion = branch.ops[index].request_delete_range
                self._deleted.append((deletion.key, deletion.range_end))
            elif kind == _OP_TXN:
                error = self.error(branch.nested[nested])
                nested += 1
            if error is not None:
                return error
        return None

    def _of_put(self, request: PutRequest) -> RpcError | None:
        if (request.ignore_value or request.ignore_lease) and not self._exists(request.key):
            return KEY_NOT_FOUND
        lease = request.lease
        if lease != 0 and not self._lessor.exists(lease):
            return LEASE_NOT_FOUND
        if self._deleted:
            self._put.append((len(self._deleted), request.key))
        return None

    def _exists(self, key: bytes) -> bool:
        if not self._store.range(key, b"", 0, 1, True).count:
            return False
        last = 0
        for place, (start, end) in enumerate(self._deleted):
            if key == start if not end else (start <= key and (end == b"\x00" or key < end)):
                last = place + 1
        return last == 0 or any(put == key and after >= last for after, put in self._put)


def _check_range(store: Store, request: RangeRequest) -> RpcError | None:
    rev = request.revision
    if rev == 0:
        return None
    if rev > store.current_rev:
        return FUTURE_REV
    if rev < store.compact_rev:
        return COMPACTED
    return None


def put_in(txn: WriteTxn, request: PutRequest) -> bytes | None:
    """Put as the request says and return the previous KeyValue if it asks for it. Raises KEY_NOT_FOUND."""
    key = request.key
    value = request.value
    lease = request.lease
    want_prev = request.prev_kv
    if request.ignore_value or request.ignore_lease:
        found = txn.range(key, b"", 0, 1, False)
        if not found.kvs:
            raise KEY_NOT_FOUND
        _, _, _, _, value_before, lease_before = key_value_fields(found.kvs[0])
        if request.ignore_value:
            value = value_before
        if request.ignore_lease:
            lease = lease_before
    return txn.put(key, value, lease, want_prev)


class Execution:
    """Pass 3 over one write transaction. `answer` is False when nobody waits: then ranges are not even read."""

    def __init__(self, txn: WriteTxn, answer: bool) -> None:
        self._txn = txn
        self._answer = answer
        self._before = txn.rev  # the revision before the transaction; its own writes are at the next one

    def run(self, branch: Branch) -> bytes:
        """Execute the branch; the TxnResponse's fields after its header."""
        parts = [b"\x10\x01"] if branch.succeeded else []
        nested = 0
        for index, kind in enumerate(branch.kinds):
            op = branch.ops[index]
            body = b""
            if kind == _OP_PUT:
                prev = put_in(self._txn, op.request_put)
                body = message_field(b"\x12", revision_header(self._before + 1) + put_fields(prev))
            elif kind == _OP_RANGE:
                if self._answer:
                    answer = run_range(self._txn, op.request_range)
                    body = message_field(b"\n", revision_header(answer.rev) + answer.fields)
            elif kind == _OP_DELETE:
                body = self._delete(op)
            elif kind == _OP_TXN:
                body = message_field(b"\x22", b"\n\x00" + self.run(branch.nested[nested]))
                nested += 1
            parts.append(b"\x1a")
            parts.append(varint(len(body)))
            parts.append(body)
        return b"".join(parts)

    def _delete(self, op: RequestOp) -> bytes:
        request = op.request_delete_range
        count, prevs = self._txn.delete_range(request.key, request.range_end, request.prev_kv)
        rev = self._before + 1 if self._txn.changed else self._before
        return message_field(b"\x1a", revision_header(rev) + delete_fields(count, prevs))


def run_read_only(reader: Reader, branch: Branch) -> bytes:
    """Answer a transaction that only reads, after `plan` and `check`; the TxnResponse's fields after its header."""
    parts = [b"\x10\x01"] if branch.succeeded else []
    for op in branch.ops:
        answer = run_range(reader, op.request_range)
        parts.append(message_field(b"\x1a", message_field(b"\n", revision_header(answer.rev) + answer.fields)))
    return b"".join(parts)
