"""RangeRequest to the fields of a RangeResponse: read, choose, encode.

The store returns encoded KeyValue bytes in key order. A plain request splices them as they are; for one that filters,
sorts or wants keys only, `mvcc/select` knows the rules. Source: etcd server/etcdserver/txn/txn.go, executeRange.
"""

from __future__ import annotations

from quorate.mvcc.select import Selection
from quorate.mvcc.store import Store, WriteTxn
from quorate.proto.rpc_pb2 import RangeRequest
from quorate.server.encode import range_fields

Reader = Store | WriteTxn


class RangeAnswer:
    """The fields of a RangeResponse after its header, and the revision for the header."""

    def __init__(self, fields: bytes, rev: int) -> None:
        self.fields = fields
        self.rev = rev


def run_range(reader: Reader, request: RangeRequest) -> RangeAnswer:
    """Read as the request says. Raises COMPACTED or FUTURE_REV."""
    if request.sort_order != 0 or request.sort_target != 0 or request.keys_only or _filters(request):
        return _run_selected(reader, request)
    limit = request.limit
    count_only = request.count_only
    found = reader.range(request.key, request.range_end, request.revision, limit + 1 if limit > 0 else 0, count_only)
    kvs = found.kvs
    more = False
    if 0 < limit < len(kvs):
        more = True
        kvs = kvs[:limit]
    return RangeAnswer(range_fields(kvs, more, found.count), found.rev)


def _filters(request: RangeRequest) -> bool:
    return (
        request.min_mod_revision != 0
        or request.max_mod_revision != 0
        or request.min_create_revision != 0
        or request.max_create_revision != 0
    )


def _run_selected(reader: Reader, request: RangeRequest) -> RangeAnswer:
    selection = Selection(
        request.limit,
        int(request.sort_order),
        int(request.sort_target),
        request.keys_only,
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    )
    fetch = selection.fetch_limit()
    found = reader.range(request.key, request.range_end, request.revision, fetch, request.count_only)
    kvs, more = selection.select(found.kvs)
    return RangeAnswer(range_fields(kvs, more, found.count), found.rev)
