"""etcd's rules in their slowest form: what the state is after each entry of the log, and what each entry's answer is.

One model for the world. It takes the committed entries in order and keeps everything: every version of every key, every
revision's events, the answers. The checkers ask it what a client should have seen. It shares no code with the rooms.

Left out: auth, nested transactions, ignore_value and ignore_lease, reads at old revisions inside transactions.
"""

from __future__ import annotations

from bisect import bisect_right

from quorate.errors import (
    COMPACTED,
    FUTURE_REV,
    LEASE_EXIST,
    LEASE_NOT_FOUND,
    NO_SPACE,
    RpcError,
)
from quorate.proto.kv_pb2 import Event, KeyValue
from quorate.proto.raft_internal_pb2 import InternalRaftRequest
from quorate.proto.rpc_pb2 import (
    AlarmRequest,
    CompactionRequest,
    CompactionResponse,
    Compare,
    DeleteRangeRequest,
    DeleteRangeResponse,
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseRevokeRequest,
    LeaseRevokeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    ResponseOp,
    TxnRequest,
    TxnResponse,
)

_NOSPACE = 1


class Refused(Exception):  # noqa: N818
    """The entry had no effect; its answer is this error."""

    def __init__(self, error: RpcError) -> None:
        super().__init__(error.text)
        self.error = error


class Applied:
    """One entry of the log and what it did."""

    def __init__(self, index: int, term: int, internal: InternalRaftRequest | None, when_ns: int) -> None:
        self.index = index
        self.term = term
        self.when_ns = when_ns  # it was first applied anywhere
        self.internal = internal
        self.kind = "" if internal is None else _kind(internal)
        self.request_id = 0 if internal is None else internal.header.ID
        self.rev = 1  # after it
        self.changed = False
        self.response: object = None
        self.error: RpcError | None = None

    @property
    def request(self) -> object:
        """The request's message."""
        return getattr(self.internal, self.kind)


class Model:
    """The state of the cluster after the entries so far, and all states before."""

    def __init__(self, min_ttl_s: int) -> None:
        self.index = 0
        self.rev = 1
        self.compact_rev = -1
        self.entries: list[Applied] = []
        self.by_rev: dict[int, Applied] = {}
        self.versions: dict[bytes, list[tuple[int, KeyValue | None]]] = {}
        self.events: dict[int, list[Event]] = {}
        self.leases: dict[int, tuple[int, dict[bytes, None]]] = {}
        self.lease_of: dict[bytes, int] = {}
        self.alarms: dict[tuple[int, int], None] = {}
        self.compactions: list[tuple[int, int]] = []  # (revision, when it was first applied)
        self.states: dict[int, tuple[int, int, int]] = {0: (1, -1, 0)}  # by index: rev, compact_rev, number of leases
        self._min_ttl_s = min_ttl_s
        self._events: list[Event] = []

    # -- Taking entries

    def apply(self, index: int, term: int, data: bytes, normal: bool, when_ns: int) -> Applied:
        """Take the next entry."""
        assert index == self.index + 1, (index, self.index)
        internal: InternalRaftRequest | None = None
        if normal and data:
            internal = InternalRaftRequest()
            internal.ParseFromString(data)
        applied = Applied(index, term, internal, when_ns)
        self.index = index
        self._events = []
        if internal is not None:
            try:
                applied.response = self._execute(applied.request, when_ns)
            except Refused as refused:
                applied.error = refused.error
        if self._events:
            self.rev += 1
            self.events[self.rev] = self._events
            self.by_rev[self.rev] = applied
            applied.changed = True
        applied.rev = self.rev
        self.entries.append(applied)
        self.states[index] = (self.rev, self.compact_rev, len(self.leases))
        return applied

    def _execute(self, request: object, when_ns: int) -> object:
        if isinstance(request, PutRequest):
            return self._put_alone(request)
        if isinstance(request, DeleteRangeRequest):
            return self._delete(request)
        if isinstance(request, TxnRequest):
            return self._txn(request)
        if isinstance(request, LeaseGrantRequest):
            return self._grant(request)
        if isinstance(request, LeaseRevokeRequest):
            return self._revoke(request)
        if isinstance(request, CompactionRequest):
            return self._compact(request, when_ns)
        if isinstance(request, AlarmRequest):
            self._alarm(request)
        return None

    def _check_space(self) -> None:
        if any(kind == _NOSPACE for kind, _ in self.alarms):
            raise Refused(NO_SPACE)

    def _put_alone(self, request: PutRequest) -> PutResponse:
        self._check_space()
        if request.lease and request.lease not in self.leases:
            raise Refused(LEASE_NOT_FOUND)
        return self._put(request)

    def _put(self, request: PutRequest) -> PutResponse:
        now = self.rev + 1
        before = self.get(request.key, now)
        response = PutResponse()
        if request.prev_kv and before is not None:
            response.prev_kv.CopyFrom(before)
        kv = KeyValue(
            key=request.key,
            value=request.value,
            mod_revision=now,
            create_revision=now if before is None else before.create_revision,
            version=1 if before is None else before.version + 1,
            lease=request.lease,
        )
        self._detach(request.key)
        if request.lease:
            self.leases[request.lease][1][request.key] = None
            self.lease_of[request.key] = request.lease
        self._set(request.key, kv)
        self._events.append(Event(type=Event.PUT, kv=kv, prev_kv=before))
        return response

    def _delete(self, request: DeleteRangeRequest) -> DeleteRangeResponse:
        now = self.rev + 1
        found = self._select(request.key, request.range_end, now)
        response = DeleteRangeResponse(deleted=len(found), prev_kvs=found if request.prev_kv else [])
        for kv in found:
            self._detach(kv.key)
            self._set(kv.key, None)
            self._events.append(Event(type=Event.DELETE, kv=KeyValue(key=kv.key, mod_revision=now), prev_kv=kv))
        return response

    def _detach(self, key: bytes) -> None:
        lease = self.lease_of.pop(key, 0)
        if lease:
            self.leases[lease][1].pop(key, None)

    def _set(self, key: bytes, kv: KeyValue | None) -> None:
        versions = self.versions.setdefault(key, [])
        if versions and versions[-1][0] == self.rev + 1:
            versions.pop()
        versions.append((self.rev + 1, kv))

    def _txn(self, request: TxnRequest) -> TxnResponse:
        if costs(request):
            self._check_space()
        succeeded = all(self._holds(compare) for compare in request.compare)
        ops = request.success if succeeded else request.failure
        for op in ops:
            if op.HasField("request_put") and op.request_put.lease and op.request_put.lease not in self.leases:
                raise Refused(LEASE_NOT_FOUND)
        response = TxnResponse(succeeded=succeeded)
        for op in ops:
            if op.HasField("request_put"):
                response.responses.append(ResponseOp(response_put=self._put(op.request_put)))
            elif op.HasField("request_delete_range"):
                response.responses.append(ResponseOp(response_delete_range=self._delete(op.request_delete_range)))
            else:
                answer = self.range(op.request_range, self.rev + 1)
                response.responses.append(ResponseOp(response_range=answer))
        return response

    def _holds(self, compare: Compare) -> bool:
        return holds(compare, self.get(compare.key, self.rev))

    def _grant(self, request: LeaseGrantRequest) -> LeaseGrantResponse:
        self._check_space()
        if request.ID in self.leases:
            raise Refused(LEASE_EXIST)
        ttl_s = max(request.TTL, self._min_ttl_s)
        self.leases[request.ID] = (ttl_s, {})
        return LeaseGrantResponse(ID=request.ID, TTL=ttl_s)

    def _revoke(self, request: LeaseRevokeRequest) -> LeaseRevokeResponse:
        if request.ID not in self.leases:
            raise Refused(LEASE_NOT_FOUND)
        for key in sorted(self.leases[request.ID][1]):
            self._delete(DeleteRangeRequest(key=key))
        del self.leases[request.ID]
        return LeaseRevokeResponse()

    def _compact(self, request: CompactionRequest, when_ns: int) -> CompactionResponse:
        if request.revision <= self.compact_rev:
            raise Refused(COMPACTED)
        if request.revision > self.rev:
            raise Refused(FUTURE_REV)
        self.compact_rev = request.revision
        self.compactions.append((request.revision, when_ns))
        return CompactionResponse()

    def _alarm(self, request: AlarmRequest) -> None:
        pair = (int(request.alarm), request.memberID)
        if request.action == AlarmRequest.ACTIVATE:
            self.alarms[pair] = None
        elif request.action == AlarmRequest.DEACTIVATE:
            self.alarms.pop(pair, None)

    # -- Asking

    def get(self, key: bytes, rev: int) -> KeyValue | None:
        """Return a key's record at a revision."""
        versions = self.versions.get(key)
        if not versions:
            return None
        place = bisect_right(versions, rev, key=lambda version: version[0])
        return versions[place - 1][1] if place else None

    def _select(self, key: bytes, end: bytes, rev: int) -> list[KeyValue]:
        found = (self.get(one, rev) for one in sorted(self.versions) if within(one, key, end))
        return [kv for kv in found if kv is not None]

    def range(self, request: RangeRequest, rev: int) -> RangeResponse:
        """Return what a range answers at a revision; limit, keys_only and count_only are known, nothing else."""
        found = self._select(request.key, request.range_end, rev)
        response = RangeResponse(count=len(found))
        if request.count_only:
            return response
        if request.limit and len(found) > request.limit:
            response.more = True
            found = found[: request.limit]
        for kv in found:
            copy = response.kvs.add()
            copy.CopyFrom(kv)
            if request.keys_only:
                copy.value = b""
        return response


def holds(compare: Compare, kv: KeyValue | None) -> bool:
    """Tell whether a compare of one key is true."""
    target = compare.target
    if target == Compare.VERSION:
        left, right = (0 if kv is None else kv.version), compare.version
    elif target == Compare.CREATE:
        left, right = (0 if kv is None else kv.create_revision), compare.create_revision
    else:
        assert target == Compare.MOD, target
        left, right = (0 if kv is None else kv.mod_revision), compare.mod_revision
    if compare.result == Compare.EQUAL:
        return left == right
    if compare.result == Compare.NOT_EQUAL:
        return left != right
    if compare.result == Compare.GREATER:
        return left > right
    return left < right


def costs(request: TxnRequest) -> bool:
    """Tell whether a transaction needs room: one of its branches puts."""
    return any(op.HasField("request_put") for branch in (request.success, request.failure) for op in branch)


def within(key: bytes, start: bytes, end: bytes) -> bool:
    """Tell whether a key lies in a range."""
    if not end:
        return key == start
    return start <= key and (end == b"\0" or key < end)


def _kind(internal: InternalRaftRequest) -> str:
    for descriptor, _ in internal.ListFields():
        if descriptor.name != "header":
            return str(descriptor.name)
    return ""
