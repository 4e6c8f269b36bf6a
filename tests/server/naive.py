"""A slow twin of the store and of transactions: dictionaries, protobuf messages, and etcd's rules word for word."""

from __future__ import annotations

from collections.abc import Iterator

from quorate import errors
from quorate.errors import RpcError
from quorate.proto.kv_pb2 import KeyValue
from quorate.proto.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    DeleteRangeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    ResponseOp,
    TxnRequest,
    TxnResponse,
)

State = dict[bytes, KeyValue]


def within(key: bytes, start: bytes, end: bytes) -> bool:
    if not end:
        return key == start
    return start <= key and (end == b"\0" or key < end)


class Refused(Exception):  # noqa: N818
    def __init__(self, error: RpcError) -> None:
        super().__init__(error.text)
        self.error = error


class NaiveStore:
    """All states by revision."""

    def __init__(self, leases: set[int]) -> None:
        self.rev = 1
        self.compact_rev = -1
        self.states: dict[int, State] = {1: {}}
        self.leases = leases

    @property
    def state(self) -> State:
        return self.states[self.rev]

    def range(self, request: RangeRequest, state: State, rev: int) -> RangeResponse:
        if request.revision > rev:
            raise Refused(errors.FUTURE_REV)
        if request.revision > 0:
            if request.revision < self.compact_rev:
                raise Refused(errors.COMPACTED)
            if request.revision <= self.rev:
                state = self.states[request.revision]
        kvs = [state[key] for key in sorted(state) if within(key, request.key, request.range_end)]
        response = RangeResponse(count=len(kvs))
        response.header.revision = rev
        if request.count_only:
            return response
        if request.sort_order == RangeRequest.NONE and not self._filtered(request) and request.limit > 0:
            kvs, rest = kvs[: request.limit + 1], kvs[request.limit + 1 :]
            assert rest is not None
        kvs = [kv for kv in kvs if self._passes(kv, request)]
        order = request.sort_order
        if request.sort_target != RangeRequest.KEY and order == RangeRequest.NONE:
            order = RangeRequest.ASCEND
        field = ["key", "version", "create_revision", "mod_revision", "value"][request.sort_target]
        if order != RangeRequest.NONE:
            kvs.sort(key=lambda kv: getattr(kv, field), reverse=order == RangeRequest.DESCEND)
        response.more = 0 < request.limit < len(kvs)
        if response.more:
            kvs = kvs[: request.limit]
        for kv in kvs:
            copy = response.kvs.add()
            copy.CopyFrom(kv)
            if request.keys_only:
                copy.value = b""
        return response

    @staticmethod
    def _filtered(request: RangeRequest) -> bool:
        return any(
            (
                request.min_mod_revision,
                request.max_mod_revision,
                request.min_create_revision,
                request.max_create_revision,
            )
        )

    @staticmethod
    def _passes(kv: KeyValue, request: RangeRequest) -> bool:
        return (
            (not request.max_mod_revision or kv.mod_revision <= request.max_mod_revision)
            and (not request.min_mod_revision or kv.mod_revision >= request.min_mod_revision)
            and (not request.max_create_revision or kv.create_revision <= request.max_create_revision)
            and (not request.min_create_revision or kv.create_revision >= request.min_create_revision)
        )

    def txn(self, request: TxnRequest) -> TxnResponse:
        path = list(self._path(request))
        self._check(request, iter(path), set(self.state))
        work = dict(self.state)
        run = _Run(self, work)
        response = run.run(request, iter(path))
        if run.changed:
            self.rev += 1
            self.states[self.rev] = work
        response.header.revision = self.rev
        return response

    def _path(self, request: TxnRequest) -> Iterator[bool]:
        taken = all(self._holds(compare) for compare in request.compare)
        yield taken
        for op in request.success if taken else request.failure:
            if op.HasField("request_txn"):
                yield from self._path(op.request_txn)

    def _holds(self, compare: Compare) -> bool:
        kvs = [kv for key, kv in self.state.items() if within(key, compare.key, compare.range_end)]
        if not kvs:
            return compare.target != Compare.VALUE and self._compare(compare, KeyValue())
        return all(self._compare(compare, kv) for kv in kvs)

    @staticmethod
    def _compare(compare: Compare, kv: KeyValue) -> bool:
        pairs = {
            Compare.VERSION: (kv.version, compare.version),
            Compare.CREATE: (kv.create_revision, compare.create_revision),
            Compare.MOD: (kv.mod_revision, compare.mod_revision),
            Compare.VALUE: (kv.value, compare.value),
            Compare.LEASE: (kv.lease, compare.lease),
        }
        left, right = pairs.get(compare.target, (0, 0))
        outcomes = {
            Compare.EQUAL: left == right,
            Compare.NOT_EQUAL: left != right,
            Compare.GREATER: left > right,  # type: ignore[operator]
            Compare.LESS: left < right,  # type: ignore[operator]
        }
        return outcomes.get(compare.result, True)

    def _check(self, request: TxnRequest, path: Iterator[bool], alive: set[bytes]) -> None:
        for op in request.success if next(path) else request.failure:
            if op.HasField("request_put"):
                put = op.request_put
                if (put.ignore_value or put.ignore_lease) and not (put.key in self.state and put.key in alive):
                    raise Refused(errors.KEY_NOT_FOUND)
                if put.lease and put.lease not in self.leases:
                    raise Refused(errors.LEASE_NOT_FOUND)
                alive.add(put.key)
            elif op.HasField("request_delete_range"):
                gone = op.request_delete_range
                alive -= {key for key in alive if within(key, gone.key, gone.range_end)}
            elif op.HasField("request_range"):
                rev = op.request_range.revision
                if rev > self.rev:
                    raise Refused(errors.FUTURE_REV)
                if rev != 0 and rev < self.compact_rev:
                    raise Refused(errors.COMPACTED)
            elif op.HasField("request_txn"):
                self._check(op.request_txn, path, alive)


class _Run:
    def __init__(self, store: NaiveStore, work: State) -> None:
        self.store = store
        self.work = work
        self.changed = False

    @property
    def rev(self) -> int:
        return self.store.rev + 1 if self.changed else self.store.rev

    def run(self, request: TxnRequest, path: Iterator[bool]) -> TxnResponse:
        taken = next(path)
        response = TxnResponse(succeeded=taken)
        response.header.SetInParent()
        for op in request.success if taken else request.failure:
            out: ResponseOp = response.responses.add()
            if op.HasField("request_put"):
                out.response_put.CopyFrom(self.put(op.request_put))
            elif op.HasField("request_range"):
                out.response_range.CopyFrom(self.store.range(op.request_range, self.work, self.rev))
            elif op.HasField("request_delete_range"):
                out.response_delete_range.CopyFrom(self.delete(op.request_delete_range))
            elif op.HasField("request_txn"):
                out.response_txn.CopyFrom(self.run(op.request_txn, path))
        return response

    def put(self, request: PutRequest) -> PutResponse:
        old = self.work.get(request.key)
        self.changed = True
        kv = KeyValue(key=request.key, value=request.value, lease=request.lease, mod_revision=self.rev)
        kv.create_revision = old.create_revision if old else self.rev
        kv.version = old.version + 1 if old else 1
        if request.ignore_value:
            assert old is not None
            kv.value = old.value
        if request.ignore_lease:
            assert old is not None
            kv.lease = old.lease
        self.work[request.key] = kv
        response = PutResponse()
        response.header.revision = self.rev
        if request.prev_kv and old is not None:
            response.prev_kv.CopyFrom(old)
        return response

    def delete(self, request: DeleteRangeRequest) -> DeleteRangeResponse:
        keys = [key for key in sorted(self.work) if within(key, request.key, request.range_end)]
        response = DeleteRangeResponse(deleted=len(keys))
        for key in keys:
            self.changed = True
            if request.prev_kv:
                response.prev_kvs.add().CopyFrom(self.work[key])
            del self.work[key]
        response.header.revision = self.rev
        return response
