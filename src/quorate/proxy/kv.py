"""The KV service of the proxy: namespace, cache, and, when it is wanted, reads that never go back in time.

Source: etcd's server/proxy/grpcproxy/kv.go, client/v3/ordering.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from quorate import errors
from quorate.api.strict import unary_error
from quorate.errors import RpcError
from quorate.proto.rpc_pb2 import (
    CompactionRequest,
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
from quorate.proxy.cache import Cache, name_of
from quorate.proxy.namespace import Namespace
from quorate.proxy.upstream import Upstream, fields_of, once, token_of
from quorate.wire.headers import Field
from quorate.wire.rpc import Router, ServerCall, UnaryHandler

M = TypeVar("M", bound=Message)

Work = Callable[[ServerCall, bytes], Coroutine[object, object, bytes]]

RANGE: Final = b"/etcdserverpb.KV/Range"
PUT: Final = b"/etcdserverpb.KV/Put"
DELETE: Final = b"/etcdserverpb.KV/DeleteRange"
TXN: Final = b"/etcdserverpb.KV/Txn"
COMPACT: Final = b"/etcdserverpb.KV/Compact"
NO_GREATER_REVISION: Final = RpcError(
    errors.UNKNOWN, "etcdclient: no cluster members have a revision higher than the previously received revision"
)
_ORDER_ATTEMPTS: Final = 5  # for each endpoint


def parse(message: type[M], raw: bytes) -> M:
    """Return a request. Raises RpcError in the server's words."""
    try:
        return message.FromString(raw)
    except DecodeError:
        raise unary_error(message, raw) from None


class KvProxy:
    """Ranges, puts, deletes, transactions and compactions."""

    def __init__(self, upstream: Upstream, namespace: Namespace, ordered: bool) -> None:
        self.cache = Cache()
        self._upstream = upstream
        self._namespace = namespace
        self._ordered = ordered
        self._seen_revision = 0

    def register(self, router: Router) -> None:
        """Put the methods into the router."""
        for path, work in (
            (RANGE, self._range),
            (PUT, self._put),
            (DELETE, self._delete),
            (TXN, self._txn),
            (COMPACT, self._compact),
        ):
            router.unary(path.decode(), self._served(work))

    def _served(self, work: Work) -> UnaryHandler:
        return lambda call, raw: self._upstream.answer(call, work(call, raw))

    async def _range(self, call: ServerCall, raw: bytes) -> bytes:
        request = parse(RangeRequest, raw)
        if not request.key:
            raise once(errors.EMPTY_KEY)
        name = name_of(token_of(call), request)
        if request.serializable:
            if self.cache.compacted(request):
                raise once(errors.COMPACTED)
            kept = self.cache.get(name)
            if kept is not None:
                return kept
        changes = self.cache.changes
        outer = RangeRequest()
        outer.CopyFrom(request)
        self._namespace.enter(outer)
        response = await self._ask(fields_of(call), outer)
        self._namespace.leave(response)
        encoded = response.SerializeToString()
        if self.cache.changes == changes:
            self.cache.add(name, request, encoded)
        return encoded

    async def _ask(self, fields: list[Field], request: RangeRequest) -> RangeResponse:
        """Ask, and ask other members when one answers from an older time than we have seen."""
        raw = request.SerializeToString()
        for _ in range(_ORDER_ATTEMPTS * len(self._upstream.channel.targets)):
            link = await self._upstream.link()
            response = RangeResponse.FromString(await self._upstream.unary(RANGE, fields, raw, True))
            if not self._ordered or response.header.revision >= self._seen_revision:
                self._saw(response.header.revision)
                return response
            self._upstream.channel.leave(link)
        raise once(NO_GREATER_REVISION)

    def _saw(self, revision: int) -> None:
        self._seen_revision = max(self._seen_revision, revision)

    async def catch_up(self) -> None:
        """Make one linearizable read, behind which no read may fall. Raises RpcError."""
        await self._ask([], RangeRequest(key=self._namespace.key(b"_"), keys_only=True))

    async def _put(self, call: ServerCall, raw: bytes) -> bytes:
        request = parse(PutRequest, raw)
        if not request.key:
            raise once(errors.EMPTY_KEY)
        key = request.key
        self.cache.invalidate(key, b"")
        try:
            if not self._namespace.prefix:
                return await self._upstream.unary(PUT, fields_of(call), raw, False)
            self._namespace.enter(request)
            answer = await self._upstream.unary(PUT, fields_of(call), request.SerializeToString(), False)
        finally:
            self.cache.invalidate(key, b"")
        response = PutResponse.FromString(answer)
        self._namespace.leave(response)
        return response.SerializeToString()

    async def _delete(self, call: ServerCall, raw: bytes) -> bytes:
        request = parse(DeleteRangeRequest, raw)
        if not request.key:
            raise once(errors.EMPTY_KEY)
        key, end = request.key, request.range_end
        self.cache.invalidate(key, end)
        try:
            if not self._namespace.prefix:
                return await self._upstream.unary(DELETE, fields_of(call), raw, False)
            self._namespace.enter(request)
            answer = await self._upstream.unary(DELETE, fields_of(call), request.SerializeToString(), False)
        finally:
            self.cache.invalidate(key, end)
        response = DeleteRangeResponse.FromString(answer)
        self._namespace.leave(response)
        return response.SerializeToString()

    async def _txn(self, call: ServerCall, raw: bytes) -> bytes:
        request = parse(TxnRequest, raw)
        outer = request
        if self._namespace.prefix:
            outer = TxnRequest.FromString(raw)
            self._namespace.enter_txn(outer)
            raw = outer.SerializeToString()
        read = all(op.WhichOneof("request") == "request_range" for op in (*request.success, *request.failure))
        changes = self.cache.changes
        try:
            answer = await self._upstream.unary(TXN, fields_of(call), raw, read)
        except RpcError:
            self._forget(request.success)
            self._forget(request.failure)
            raise
        response = TxnResponse.FromString(answer)
        self._saw(response.header.revision)
        self._namespace.leave_txn(response)
        # What was compared may have changed, whoever did it.
        for compare in request.compare:
            self.cache.invalidate(compare.key, compare.range_end)
        done = request.success if response.succeeded else request.failure
        if read and self.cache.changes == changes + len(request.compare):
            self._keep(token_of(call), done, response.responses)
        self._forget(done)
        return response.SerializeToString()

    def _forget(self, ops: Iterable[RequestOp]) -> None:
        for op in ops:
            kind = op.WhichOneof("request")
            if kind == "request_put":
                self.cache.invalidate(op.request_put.key, b"")
            elif kind == "request_delete_range":
                self.cache.invalidate(op.request_delete_range.key, op.request_delete_range.range_end)
            elif kind == "request_txn":
                self._forget(op.request_txn.success)
                self._forget(op.request_txn.failure)

    def _keep(self, token: bytes, ops: Iterable[RequestOp], responses: Iterable[ResponseOp]) -> None:
        for op, response in zip(ops, responses, strict=False):
            request = op.request_range
            if request.key:
                self.cache.add(name_of(token, request), request, response.response_range.SerializeToString())

    async def _compact(self, call: ServerCall, raw: bytes) -> bytes:
        request = parse(CompactionRequest, raw)
        answer = await self._upstream.unary(COMPACT, fields_of(call), raw, False)
        self.cache.compact(request.revision)
        return answer
