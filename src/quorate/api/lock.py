"""v3lockpb.Lock: a mutex whose waiters are keys `<name>/<lease in hex>`, ordered by their create revision.

    | waiter's key | create revision |
    | jobs/694d77aa9e38260f | 17 |   the owner
    | jobs/694d77aa9e382611 | 21 |   waits for the deletion of the one before

A caller without a lease gets one of 60 s, which nobody keeps alive. A caller that goes away, or fails, while it waits
has its key deleted; one that takes the same lock again with the same lease has it already.
Source: etcd's server/etcdserver/api/v3lock/lock.go and client/v3/concurrency/mutex.go.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from quorate import errors
from quorate.api.check import Guard, add_unary
from quorate.api.kv import KVService
from quorate.api.steps import (
    SESSION_TTL_S,
    Abandoned,
    Delete,
    Grant,
    Procedure,
    Range,
    Step,
    Task,
    Txn,
    created_at,
    first_created,
    get_op,
    put_op,
    wait_deletes,
)
from quorate.errors import UNKNOWN, RpcError
from quorate.proto.rpc_pb2 import RangeRequest, RequestOp, ResponseHeader, TxnRequest
from quorate.proto.v3lock_pb2 import LockRequest, LockResponse, UnlockRequest, UnlockResponse
from quorate.server.core import Server
from quorate.wire.rpc import Router, ServerCall

_EXPIRED: Final = RpcError(UNKNOWN, "mutex: session is expired")


class LockService:
    """The Lock service over a server."""

    def __init__(self, server: Server, kv: KVService) -> None:
        self._server = server
        self._kv = kv

    def register(self, router: Router, guard: Guard) -> None:
        """Add the service's methods to the router."""
        add_unary(router, guard, "/v3lockpb.Lock/Lock", LockRequest, self.lock)
        add_unary(router, guard, "/v3lockpb.Lock/Unlock", UnlockRequest, self.unlock)

    def lock(self, call: ServerCall, request: LockRequest) -> None:
        """Serve Lock."""
        Task(call, self._lock(call, request))

    def unlock(self, call: ServerCall, request: UnlockRequest) -> None:
        """Serve Unlock."""
        Task(call, self._unlock(call, request.key))

    def _unlock(self, call: ServerCall, key: bytes) -> Procedure:
        if not key:
            raise RpcError(UNKNOWN, errors.EMPTY_KEY.text)
        delete = Delete(self._server, key)
        yield delete
        call.complete(UnlockResponse(header=delete.header).SerializeToString())

    def _lock(self, call: ServerCall, request: LockRequest) -> Procedure:
        lease = request.lease
        if lease == 0:
            grant = Grant(self._server, SESSION_TTL_S)
            yield grant
            lease = grant.lease_id
        prefix = request.name + b"/"
        key = prefix + b"%x" % lease
        header = yield from self._acquire(call, prefix, key, lease)
        call.complete(LockResponse(header=header, key=key).SerializeToString())

    def _acquire(
        self, call: ServerCall, prefix: bytes, key: bytes, lease: int
    ) -> Generator[Step, None, ResponseHeader]:
        owner = RequestOp(request_range=first_created(prefix))
        txn = Txn(
            self._kv,
            TxnRequest(
                compare=[created_at(key, 0)], success=[put_op(key, b"", lease), owner], failure=[get_op(key), owner]
            ),
        )
        try:
            yield txn
        except Abandoned:
            if txn.response.succeeded:
                yield from self._release(key)
            raise
        response = txn.response
        own_rev = response.header.revision
        if not response.succeeded:
            own_rev = response.responses[0].response_range.kvs[0].create_revision
        owners = response.responses[1].response_range.kvs
        if not owners or owners[0].create_revision == own_rev:
            return response.header
        check = Range(self._server, RangeRequest(key=key))
        try:
            yield from wait_deletes(self._server, call, prefix, own_rev - 1)
            yield check
        except (RpcError, Abandoned):
            yield from self._release(key)
            raise
        if not check.response.kvs:
            raise _EXPIRED
        return check.response.header

    def _release(self, key: bytes) -> Procedure:
        try:
            yield Delete(self._server, key)
        except (RpcError, Abandoned):
            return  # the lease ends the key's life
