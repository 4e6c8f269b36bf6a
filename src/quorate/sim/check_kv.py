"""Linearizability of the key space, from revisions instead of by search.

Every change has a revision of its own, and every answer names the revision it speaks of. So the order is known: it is
the log's. What is left to check, for each operation that was answered:

- a change stands in the log at its revision, as it was asked, and had this very answer; no two claim one revision
- what changed nothing, and every read, shows the state at the revision it names
- real time: the revision is not older than that of any operation that had returned when this one was invoked (reads
  that are serializable excepted), and existed when it returned

Operations whose outcome is unknown need no search either: they are in the log or they are not. Each write may be there
once at most.
"""

from __future__ import annotations

from bisect import bisect_left

from google.protobuf.message import Message

from quorate.errors import COMPACTED, FUTURE_REV, LEASE_EXIST, LEASE_NOT_FOUND, NO_SPACE
from quorate.proto.rpc_pb2 import (
    CompactionRequest,
    DeleteRangeRequest,
    LeaseGrantRequest,
    LeaseRevokeRequest,
    PutRequest,
    RangeRequest,
    ResponseOp,
    TxnRequest,
    TxnResponse,
)
from quorate.sim.history import History, Op
from quorate.sim.model import Model, holds

_KINDS = ("put", "delete", "txn", "range")


def check_kv(model: Model, history: History) -> list[str]:
    """Return what is wrong."""
    ops = [op for op in history.ops if op.kind in _KINDS and op.done]
    problems = _check_log(model, history)
    claimed: dict[int, Op] = {}
    for op in ops:
        problem = _check_answer(model, op, claimed) if op.response is not None else _check_error(model, op)
        if problem:
            problems.append(f"{problem}: {op!r}")
    return problems + _check_order(model, ops)


def _check_log(model: Model, history: History) -> list[str]:
    """Check that no request was executed twice, and that everything in the log was asked for."""
    problems = []
    asked = {_key(op.request) for op in history.ops if op.kind in ("put", "txn", "grant")}
    seen: dict[bytes, int] = {}
    for entry in model.entries:
        if not isinstance(entry.request if entry.internal is not None and entry.kind else None, _WRITES):
            continue
        key = _key(entry.request)
        unique = isinstance(entry.request, (PutRequest, LeaseGrantRequest)) or b"." in key
        if not unique or isinstance(entry.request, (DeleteRangeRequest, CompactionRequest, LeaseRevokeRequest)):
            continue
        if key in seen:
            problems.append(f"entry {entry.index} repeats entry {seen[key]}: {entry.kind} {entry.request}")
        if key not in asked:
            problems.append(f"entry {entry.index} was never asked for: {entry.kind} {entry.request}")
        seen[key] = entry.index
    return problems


_WRITES = (PutRequest, DeleteRangeRequest, TxnRequest, CompactionRequest, LeaseGrantRequest, LeaseRevokeRequest)


def _key(request: object) -> bytes:
    assert isinstance(request, Message)
    return type(request).__name__.encode() + request.SerializeToString(deterministic=True)


def _check_answer(model: Model, op: Op, claimed: dict[int, Op]) -> str:
    rev = op.rev
    if rev > model.rev or rev < 1:
        return f"revision {rev} never was"
    entry = model.by_rev.get(rev)
    if isinstance(op.request, RangeRequest):
        return _check_range(model, op.request, op.response, rev)
    if entry is not None and _key(entry.request) == _key(op.request):
        answer = _plain(op.response)
        if answer == _plain(entry.response) and rev not in claimed:
            claimed[rev] = op
            return ""
        if rev in claimed and _changes(op):
            return f"revision {rev} was answered twice"
        if not isinstance(op.request, DeleteRangeRequest | TxnRequest):
            return f"the answer should be {_plain(entry.response)}"
    if _changes(op):
        return f"revision {rev} is not this write's"
    return _check_nothing(model, op, rev)


def _changes(op: Op) -> bool:
    """Tell whether an answer says that something was written."""
    if isinstance(op.request, PutRequest):
        return True
    if isinstance(op.request, DeleteRangeRequest):
        return bool(op.response.deleted)  # type: ignore[union-attr]
    assert isinstance(op.response, TxnResponse)
    for one in op.response.responses:
        if one.HasField("response_put"):
            return True
        if one.HasField("response_delete_range") and one.response_delete_range.deleted:
            return True
    return False


def _check_nothing(model: Model, op: Op, rev: int) -> str:
    """Check a write that changed nothing: its answer must follow from the state at its revision."""
    request = op.request
    if isinstance(request, DeleteRangeRequest):
        found = model.range(RangeRequest(key=request.key, range_end=request.range_end), rev)
        return "" if not found.count else "it should have deleted something"
    assert isinstance(request, TxnRequest)
    assert isinstance(op.response, TxnResponse)
    succeeded = all(holds(compare, model.get(compare.key, rev)) for compare in request.compare)
    if succeeded != op.response.succeeded:
        return f"the compares should be {succeeded}"
    expected = TxnResponse(succeeded=succeeded)
    for one in request.success if succeeded else request.failure:
        if one.HasField("request_range"):
            expected.responses.append(ResponseOp(response_range=model.range(one.request_range, rev)))
        else:
            expected.responses.add().response_delete_range.SetInParent()
    if _plain(op.response) != _plain(expected):
        return f"the answer should be {_plain(expected)}"
    return ""


def _check_range(model: Model, request: RangeRequest, response: Message | None, rev: int) -> str:
    at = request.revision or rev
    if at > rev:
        return f"it read at {at}, in the future of {rev}"
    expected = model.range(request, at)
    if _plain(response) != _plain(expected):
        return f"at revision {at} it should be {_plain(expected)}"
    return ""


def _check_error(model: Model, op: Op) -> str:
    """Check errors that speak about the state."""
    error = op.error
    if isinstance(op.request, RangeRequest):
        asked = op.request.revision
        compacted = [when_ns for rev, when_ns in model.compactions if rev > asked]
        if error is COMPACTED and not (compacted and min(compacted) <= op.returned_ns):
            return "nothing had been compacted"
        return ""
    if error in (LEASE_NOT_FOUND, NO_SPACE, LEASE_EXIST) and isinstance(op.request, PutRequest):
        key = _key(op.request)
        for entry in model.entries:
            if entry.internal is not None and entry.kind == "put" and _key(entry.request) == key:
                return "" if entry.error is error else f"entry {entry.index} had another outcome"
        return "" if error is NO_SPACE else "it is not in the log"
    return ""


def _check_order(model: Model, ops: list[Op]) -> list[str]:
    """Check real time: what had returned before is seen."""
    problems = []
    answered = [op for op in ops if op.response is not None]
    # The highest revision that anybody had been told, by time of return.
    returned = sorted((op.returned_ns, op.rev) for op in answered)
    times: list[int] = []
    highest: list[int] = []
    for when_ns, rev in returned:
        times.append(when_ns)
        highest.append(max(rev, highest[-1] if highest else 0))
    for op in ops:
        place = bisect_left(times, op.invoked_ns)
        floor = highest[place - 1] if place else 1
        serializable = isinstance(op.request, RangeRequest) and op.request.serializable
        if op.response is None:
            late = op.error is FUTURE_REV and isinstance(op.request, RangeRequest) and not serializable
            if late and op.request.revision <= floor:  # type: ignore[attr-defined]
                problems.append(f"revision {floor} had been told to somebody: {op!r}")
            continue
        if not serializable and op.rev < floor:
            problems.append(f"stale: revision {floor} had been told to somebody before: {op!r}")
        entry = model.by_rev.get(op.rev)
        if entry is not None and entry.when_ns > op.returned_ns:
            problems.append(f"revision {op.rev} was not there yet: {op!r}")
    return problems


def _plain(message: object) -> Message:
    """Return a response without headers."""
    assert isinstance(message, Message)
    copy = type(message)()
    copy.CopyFrom(message)
    copy.ClearField("header")
    if isinstance(copy, TxnResponse):
        for one in copy.responses:
            which = one.WhichOneof("response")
            if which is not None:
                getattr(one, which).ClearField("header")
    return copy
