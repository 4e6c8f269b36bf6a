"""What each request needs, when authentication is enabled.

    Range, Compare, watch    READ on the range
    Put                      WRITE on the key, and on every key of its lease; READ on the key for prev_kv
    DeleteRange              WRITE on the range, READ on it for prev_kv
    Txn                      all of that for the compares and both branches, nested transactions included
    LeaseRevoke, keep-alive  WRITE on every key of the lease, unless the root role

A put on a lease needs the lease's other keys because whoever may put them all may also revoke it.
Contract: deterministic, since members ask when they apply an entry. The first error in etcd's order, or None.
Source: etcd's server/etcdserver/apply/apply_auth.go.
"""

from __future__ import annotations

from collections.abc import Iterable

from quorate.auth.store import AuthInfo, AuthStore
from quorate.errors import RpcError
from quorate.lease.lessor import Lease, Lessor
from quorate.proto.rpc_pb2 import DeleteRangeRequest, PutRequest, RequestOp, TxnRequest


class Permissions:
    """Asks the auth store for whole requests."""

    def __init__(self, auth: AuthStore, lessor: Lessor) -> None:
        self._auth = auth
        self._lessor = lessor

    def put_error(self, info: AuthInfo, request: PutRequest) -> RpcError | None:
        """Return why a put is not permitted."""
        key = request.key
        error = self._auth.write_error(info, key, b"")
        if error is None and request.lease != 0:
            error = self.lease_error(info, request.lease)
        if error is None and request.prev_kv:
            error = self._auth.read_error(info, key, b"")
        return error

    def delete_error(self, info: AuthInfo, request: DeleteRangeRequest) -> RpcError | None:
        """Return why a deletion is not permitted."""
        error = self._auth.write_error(info, request.key, request.range_end)
        if error is None and request.prev_kv:
            error = self._auth.read_error(info, request.key, request.range_end)
        return error

    def txn_error(self, info: AuthInfo, request: TxnRequest) -> RpcError | None:
        """Return why a transaction is not permitted."""
        for compare in request.compare:
            error = self._auth.read_error(info, compare.key, compare.range_end)
            if error is not None:
                return error
        return self._ops_error(info, request.success) or self._ops_error(info, request.failure)

    def _ops_error(self, info: AuthInfo, ops: Iterable[RequestOp]) -> RpcError | None:
        for op in ops:
            error: RpcError | None = None
            if op.HasField("request_put"):
                error = self.put_error(info, op.request_put)
            elif op.HasField("request_range"):
                error = self._auth.read_error(info, op.request_range.key, op.request_range.range_end)
            elif op.HasField("request_delete_range"):
                error = self.delete_error(info, op.request_delete_range)
            elif op.HasField("request_txn"):
                error = self.txn_error(info, op.request_txn)
            if error is not None:
                return error
        return None

    def lease_error(self, info: AuthInfo, lease_id: int) -> RpcError | None:
        """Return why a lease, if there is one, may not be attached to, kept alive or revoked."""
        lease = self._lessor.lookup(lease_id)
        if lease is None or self._auth.admin_error(info) is None:
            return None
        for key in lease.keys:  # in any order: the error is the same for each
            error = self._auth.write_error(info, key, b"")
            if error is not None:
                return error
        return None

    def lease_keys_error(self, info: AuthInfo, leases: Iterable[Lease]) -> RpcError | None:
        """Return why the keys of leases may not be seen."""
        if self._auth.admin_error(info) is None:
            return None
        for lease in leases:
            for key in lease.keys:
                error = self._auth.read_error(info, key, b"")
                if error is not None:
                    return error
        return None
