"""The form of KV requests: what etcd refuses before it looks at any key, in its order and words.

Contract: pure functions of parsed requests. `check_*` return the error or None. A transaction is walked once for all
that is asked of it, since each access to a nested message costs; the walk is O(n log n) in the number of operations,
nesting levels apart.
Source: etcd's server/etcdserver/api/v3rpc/key.go.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from quorate import errors
from quorate.errors import RpcError
from quorate.proto.rpc_pb2 import PutRequest, RangeRequest, RequestOp, TxnRequest
from quorate.server.quota import KEY_COST

_SORT_ORDERS: Final = 3
_SORT_TARGETS: Final = 5


def check_range(request: RangeRequest) -> RpcError | None:
    """Return what is wrong with the form of a range."""
    if not request.key:
        return errors.EMPTY_KEY
    if not (0 <= request.sort_order < _SORT_ORDERS and 0 <= request.sort_target < _SORT_TARGETS):
        return errors.INVALID_SORT_OPTION
    return None


def check_put(request: PutRequest) -> RpcError | None:
    """Return what is wrong with the form of a put."""
    if not request.key:
        return errors.EMPTY_KEY
    if request.ignore_value and request.value:
        return errors.VALUE_PROVIDED
    if request.ignore_lease and request.lease:
        return errors.LEASE_PROVIDED
    return None


class _Deletes:
    """The keys that some deletes touch: single ones, and disjoint, sorted, half-open intervals."""

    def __init__(self) -> None:
        self.points: set[bytes] = set()
        self.starts: list[bytes] = []
        self.ends: list[bytes] = []

    def add(self, key: bytes, end: bytes) -> None:
        """Add a delete. As in etcd, one whose end is not behind its key counts for nothing, even "\\0", from key on."""
        if not end:
            self.points.add(key)
        elif end > key:
            self._add_interval(key, end)

    def _add_interval(self, start: bytes, end: bytes) -> None:
        starts, ends = self.starts, self.ends
        low = bisect_right(ends, start)
        if low > 0 and ends[low - 1] == start:
            low -= 1
        high = bisect_right(starts, end)
        if low < high:
            start = min(start, starts[low])
            end = max(end, ends[high - 1])
        starts[low:high] = [start]
        ends[low:high] = [end]

    def absorb(self, other: _Deletes) -> None:
        """Add all of another's."""
        self.points |= other.points
        for index in range(len(other.starts)):
            self._add_interval(other.starts[index], other.ends[index])

    def touch(self, key: bytes) -> bool:
        """Tell whether one of the deletes touches the key."""
        if key in self.points:
            return True
        index = bisect_right(self.starts, key) - 1
        return index >= 0 and key < self.ends[index]


class TxnForm:
    """What an examination of a transaction found."""

    def __init__(self) -> None:
        self.error: RpcError | None = None  # the first thing wrong with its structure
        self.duplicate = False  # it puts a key twice, or puts one that it deletes; known when the structure is sound
        self.cost = 0  # what the quota is asked for; known when the structure is sound


def examine_txn(request: TxnRequest, max_ops: int) -> TxnForm:
    """Look at a whole transaction once. Nested ones may have as many operations as those above them leave.

    Only one of a nested transaction's branches runs, so the same key may be put in both. What counts against a nested
    put are the deletes of the levels above it and of the nested transactions before it, as in etcd.
    """
    form = TxnForm()
    txn = _examine(request, max_ops, form)
    form.cost = max(txn.success.cost, txn.failure.cost)
    return form


class _Branch:
    """The keys that one branch touches, nested ones included, and its cost."""

    def __init__(self) -> None:
        self.puts: set[bytes] = set()
        self.deletes = _Deletes()
        self.cost = 0


class _Txn:
    """Both branches of one transaction."""

    def __init__(self, success: _Branch, failure: _Branch) -> None:
        self.success = success
        self.failure = failure


_NOTHING: Final = _Branch()
_NO_TXN: Final = _Txn(_NOTHING, _NOTHING)


def _examine(request: TxnRequest, max_ops: int, form: TxnForm) -> _Txn:
    compares, success, failure = request.compare, request.success, request.failure
    ops = max(len(compares), len(success), len(failure))
    if ops > max_ops:
        form.error = errors.TOO_MANY_OPS
        return _NO_TXN
    for compare in compares:
        if not compare.key:
            form.error = errors.EMPTY_KEY
            return _NO_TXN
    rest = max_ops - ops
    taken = _examine_branch(success, rest, form) if success else _NOTHING
    if form.error is not None:
        return _NO_TXN
    return _Txn(taken, _examine_branch(failure, rest, form) if failure else _NOTHING)


def _examine_branch(ops: Sequence[RequestOp], max_ops: int, form: TxnForm) -> _Branch:
    branch = _Branch()
    puts: list[bytes] = []
    nested: list[_Txn] = []
    for op in ops:
        kind = op.WhichOneof("request")
        error: RpcError | None = None
        if kind == "request_put":
            put = op.request_put
            key = put.key
            error = check_put(put)
            puts.append(key)
            branch.cost += KEY_COST + len(key) + len(put.value)
        elif kind == "request_range":
            error = check_range(op.request_range)
        elif kind == "request_delete_range":
            delete = op.request_delete_range
            key = delete.key
            error = None if key else errors.EMPTY_KEY
            branch.deletes.add(key, delete.range_end)
        elif kind == "request_txn":
            txn = _examine(op.request_txn, max_ops, form)
            nested.append(txn)
            branch.cost += max(txn.success.cost, txn.failure.cost)
        else:
            error = errors.KEY_NOT_FOUND
        if error is not None:
            form.error = error
        if form.error is not None:
            return _NOTHING
    for txn in nested:
        _join(branch, txn, form)
    for key in puts:
        if key in branch.puts or branch.deletes.touch(key):
            form.duplicate = True
        branch.puts.add(key)
    return branch


def _join(branch: _Branch, txn: _Txn, form: TxnForm) -> None:
    """Add the keys of a nested transaction to the branch that it is in."""
    success, failure = txn.success, txn.failure
    for key in success.puts:
        if key in branch.puts or branch.deletes.touch(key):
            form.duplicate = True
    for key in failure.puts:
        if (key in branch.puts and key not in success.puts) or branch.deletes.touch(key):
            form.duplicate = True
    branch.puts |= success.puts
    branch.puts |= failure.puts
    branch.deletes.absorb(success.deletes)
    branch.deletes.absorb(failure.deletes)
