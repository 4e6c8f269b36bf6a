"""The backend's quota: what a write costs, and whether there is room.

Contract: asked twice a write, by the services before it is proposed and by `apply` when it is executed. The second
answer only decides what the client hears, never whether the entry is applied, so members may differ in it.
Source: etcd server/storage/quota.go.
"""

from __future__ import annotations

from typing import Final

from quorate.proto.rpc_pb2 import PutRequest, RequestOp, TxnRequest
from quorate.storage.backend import Backend

LEASE_COST: Final = 64
KEY_COST: Final = 256


def cost_of_put(request: PutRequest) -> int:
    """Return the estimated bytes that a put adds."""
    return KEY_COST + len(request.key) + len(request.value)


def cost_of_txn(request: TxnRequest) -> int:
    """Return the estimated bytes that a transaction adds: those of its dearer branch, nested ones included."""
    success = 0
    for op in request.success:
        success += _cost_of_op(op)
    failure = 0
    for op in request.failure:
        failure += _cost_of_op(op)
    return max(success, failure)


def _cost_of_op(op: RequestOp) -> int:
    if op.HasField("request_put"):
        return cost_of_put(op.request_put)
    if op.HasField("request_txn"):
        return cost_of_txn(op.request_txn)
    return 0


class Quota:
    """The room that is left below the limit; a negative limit means no limit."""

    def __init__(self, backend: Backend, limit_bytes: int) -> None:
        self._backend = backend
        self.limit_bytes = limit_bytes

    def available(self, cost: int) -> bool:
        """Tell whether a write of this cost fits. One that costs nothing always does."""
        return cost == 0 or self.limit_bytes < 0 or self._backend.size() + cost < self.limit_bytes
