"""Keys within a namespace: a prefix that goes in front of every key on the way in, and away on the way out.

Source: etcd's client/v3/namespace.
"""

from __future__ import annotations

from collections.abc import Iterable

from quorate.client.policy import prefix_end
from quorate.proto.kv_pb2 import Event, KeyValue
from quorate.proto.rpc_pb2 import (
    DeleteRangeRequest,
    DeleteRangeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    RequestOp,
    ResponseOp,
    TxnRequest,
    TxnResponse,
)


class Namespace:
    """One prefix; an empty one changes nothing. Messages are changed in place."""

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix

    def key(self, key: bytes) -> bytes:
        """Return a key as the cluster knows it."""
        return self.prefix + key

    def end(self, end: bytes) -> bytes:
        """Return the end of a range as the cluster knows it."""
        if not self.prefix or not end:
            return end
        return prefix_end(self.prefix) if end == b"\0" else self.prefix + end

    def enter(self, request: RangeRequest | PutRequest | DeleteRangeRequest) -> None:
        """Put a request into the namespace."""
        if self.prefix:
            request.key = self.key(request.key)
            if not isinstance(request, PutRequest):
                request.range_end = self.end(request.range_end)

    def enter_txn(self, request: TxnRequest) -> None:
        """Put a transaction into the namespace."""
        if not self.prefix:
            return
        for compare in request.compare:
            compare.key = self.key(compare.key)
            compare.range_end = self.end(compare.range_end)
        self._enter_ops(request.success)
        self._enter_ops(request.failure)

    def _enter_ops(self, ops: Iterable[RequestOp]) -> None:
        for op in ops:
            kind = op.WhichOneof("request")
            if kind == "request_txn":
                self.enter_txn(op.request_txn)
            elif kind is not None:
                self.enter(getattr(op, kind))

    def leave(self, response: RangeResponse | PutResponse | DeleteRangeResponse) -> None:
        """Take a response out of the namespace."""
        if not self.prefix:
            return
        if isinstance(response, RangeResponse):
            self._strip(response.kvs)
        elif isinstance(response, DeleteRangeResponse):
            self._strip(response.prev_kvs)
        elif response.HasField("prev_kv"):
            self._strip([response.prev_kv])

    def leave_txn(self, response: TxnResponse) -> None:
        """Take a transaction's response out of the namespace."""
        if self.prefix:
            self._leave_ops(response.responses)

    def _leave_ops(self, ops: Iterable[ResponseOp]) -> None:
        for op in ops:
            kind = op.WhichOneof("response")
            if kind == "response_txn":
                self.leave_txn(op.response_txn)
            elif kind is not None:
                self.leave(getattr(op, kind))

    def leave_events(self, events: Iterable[Event]) -> None:
        """Take events out of the namespace."""
        if self.prefix:
            for event in events:
                self._strip([event.kv])
                if event.HasField("prev_kv"):
                    self._strip([event.prev_kv])

    def keys(self, keys: Iterable[bytes]) -> list[bytes]:
        """Return those of a list of keys that are in the namespace, without its prefix."""
        size = len(self.prefix)
        return [key[size:] for key in keys if key.startswith(self.prefix)]

    def _strip(self, kvs: Iterable[KeyValue]) -> None:
        size = len(self.prefix)
        for kv in kvs:
            kv.key = kv.key[size:]
