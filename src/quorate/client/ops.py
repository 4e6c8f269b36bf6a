"""The parts of a transaction.

    client.txn([value("k", "=", "old")], [put("k", "new")], [get("k")])

Keys and values are bytes or text (encoded as UTF-8).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from quorate.client.policy import prefix_end
from quorate.proto import rpc_pb2 as pb

Data = bytes | str
Operator = Literal["=", "!=", ">", "<"]
Order = Literal["none", "ascend", "descend"]
Access = Literal["read", "write", "readwrite"]
Target = Literal["key", "version", "create", "mod", "value"]

_RESULTS = {"=": pb.Compare.EQUAL, "!=": pb.Compare.NOT_EQUAL, ">": pb.Compare.GREATER, "<": pb.Compare.LESS}
_ORDERS = {"none": pb.RangeRequest.NONE, "ascend": pb.RangeRequest.ASCEND, "descend": pb.RangeRequest.DESCEND}
_TARGETS = {
    "key": pb.RangeRequest.KEY,
    "version": pb.RangeRequest.VERSION,
    "create": pb.RangeRequest.CREATE,
    "mod": pb.RangeRequest.MOD,
    "value": pb.RangeRequest.VALUE,
}


def as_bytes(data: Data) -> bytes:
    """Return text as UTF-8, bytes as they are."""
    return data.encode() if isinstance(data, str) else data


def span(key: Data, end: Data | None, prefix: bool, from_key: bool = False) -> tuple[bytes, bytes]:
    """Return the key and range_end of a request; the empty prefix means all keys."""
    start = as_bytes(key)
    if prefix:
        return (start, prefix_end(start)) if start else (b"\0", b"\0")
    if from_key:
        return start or b"\0", b"\0"
    return start, b"" if end is None else as_bytes(end)


def range_request(
    key: Data,
    end: Data | None = None,
    *,
    prefix: bool = False,
    from_key: bool = False,
    limit: int = 0,
    revision: int = 0,
    order: Order = "none",
    sort_by: Target = "key",
    serializable: bool = False,
    keys_only: bool = False,
    count_only: bool = False,
    min_mod_revision: int = 0,
    max_mod_revision: int = 0,
    min_create_revision: int = 0,
    max_create_revision: int = 0,
) -> pb.RangeRequest:
    """Return a range request."""
    start, range_end = span(key, end, prefix, from_key)
    return pb.RangeRequest(
        key=start,
        range_end=range_end,
        limit=limit,
        revision=revision,
        sort_order=_ORDERS[order],
        sort_target=_TARGETS[sort_by],
        serializable=serializable,
        keys_only=keys_only,
        count_only=count_only,
        min_mod_revision=min_mod_revision,
        max_mod_revision=max_mod_revision,
        min_create_revision=min_create_revision,
        max_create_revision=max_create_revision,
    )


def get(key: Data, end: Data | None = None, *, prefix: bool = False, limit: int = 0) -> pb.RequestOp:
    """Read a key, a range or a prefix."""
    return pb.RequestOp(request_range=range_request(key, end, prefix=prefix, limit=limit))


def put(key: Data, value: Data, *, lease: int = 0, prev_kv: bool = False) -> pb.RequestOp:
    """Write a key."""
    request = pb.PutRequest(key=as_bytes(key), value=as_bytes(value), lease=lease, prev_kv=prev_kv)
    return pb.RequestOp(request_put=request)


def delete(key: Data, end: Data | None = None, *, prefix: bool = False, prev_kv: bool = False) -> pb.RequestOp:
    """Delete a key, a range or a prefix."""
    start, range_end = span(key, end, prefix)
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=start, range_end=range_end, prev_kv=prev_kv))


def nested(
    compare: Sequence[pb.Compare], success: Sequence[pb.RequestOp], failure: Sequence[pb.RequestOp] = ()
) -> pb.RequestOp:
    """Run a transaction within the transaction."""
    return pb.RequestOp(request_txn=pb.TxnRequest(compare=compare, success=success, failure=failure))


def value(key: Data, operator: Operator, wanted: Data) -> pb.Compare:
    """Compare a key's value."""
    result = _RESULTS[operator]
    return pb.Compare(result=result, target=pb.Compare.VALUE, key=as_bytes(key), value=as_bytes(wanted))


def version(key: Data, operator: Operator, wanted: int) -> pb.Compare:
    """Compare how often a key was written since its creation; 0: it does not exist."""
    return pb.Compare(result=_RESULTS[operator], target=pb.Compare.VERSION, key=as_bytes(key), version=wanted)


def create_revision(key: Data, operator: Operator, wanted: int) -> pb.Compare:
    """Compare the revision at which a key was created; 0: it does not exist."""
    return pb.Compare(result=_RESULTS[operator], target=pb.Compare.CREATE, key=as_bytes(key), create_revision=wanted)


def mod_revision(key: Data, operator: Operator, wanted: int) -> pb.Compare:
    """Compare the revision of a key's last write."""
    return pb.Compare(result=_RESULTS[operator], target=pb.Compare.MOD, key=as_bytes(key), mod_revision=wanted)


def lease(key: Data, operator: Operator, wanted: int) -> pb.Compare:
    """Compare the lease a key is attached to."""
    return pb.Compare(result=_RESULTS[operator], target=pb.Compare.LEASE, key=as_bytes(key), lease=wanted)
