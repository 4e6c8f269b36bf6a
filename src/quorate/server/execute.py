"""What one request of the log does to the state, and the response's bytes.

Contract: deterministic. An error that depends on the replicated state is raised as an RpcError, alike on every member,
and nothing has been changed then; whatever else is raised means that the member can no longer be trusted. The order of
checks is etcd's (server/etcdserver/apply): CORRUPT alarm, NOSPACE alarm, permissions, then what the state says.
`info` is whose request it is; whoever calls sets it while authentication is enabled.

The quota is looked at before the write and reported after it: a write that is in the log is executed in any case.
"""

from __future__ import annotations

from collections.abc import Callable

from quorate.auth.store import NOBODY, AuthStore
from quorate.errors import CORRUPT, LEASE_NOT_FOUND, NO_SPACE, RpcError
from quorate.lease.lessor import Lessor
from quorate.mvcc.store import Store
from quorate.ports import Loop
from quorate.proto.rpc_pb2 import (
    AlarmRequest,
    CompactionRequest,
    DeleteRangeRequest,
    LeaseCheckpointRequest,
    LeaseGrantRequest,
    LeaseRevokeRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
)
from quorate.server.alarm import NONE, Alarms
from quorate.server.encode import Headers, delete_fields, int_field, message_field, put_fields
from quorate.server.permissions import Permissions
from quorate.server.quota import LEASE_COST, Quota, cost_of_put, cost_of_txn
from quorate.server.ranges import run_range
from quorate.server.txn import Check, Execution, plan, put_in, run_read_only
from quorate.storage.schema import encode_alarm


class Executor:
    """The state of the member, as entries change it."""

    def __init__(
        self,
        loop: Loop,
        store: Store,
        lessor: Lessor,
        alarms: Alarms,
        quota: Quota,
        headers: Headers,
        auth: AuthStore,
        permissions: Permissions,
    ) -> None:
        self._loop = loop
        self._store = store
        self._lessor = lessor
        self._alarms = alarms
        self._quota = quota
        self._headers = headers
        self._auth = auth
        self._permissions = permissions
        self.info = NOBODY
        self.full = False  # an entry found no room: the NOSPACE alarm is to be raised

    def put(self, request: PutRequest) -> bytes:
        """Execute a put. Raises CORRUPT, NO_SPACE, what auth says, LEASE_NOT_FOUND, KEY_NOT_FOUND."""
        alarms = self._alarms
        if alarms.corrupt:
            raise CORRUPT
        if alarms.no_space:
            raise NO_SPACE
        if self._auth.enabled:
            _refuse(self._permissions.put_error(self.info, request))
        lease = request.lease
        if lease != 0 and not self._lessor.exists(lease):
            raise LEASE_NOT_FOUND
        room = self._quota.available(cost_of_put(request))
        store = self._store
        if request.ignore_value or request.ignore_lease:
            txn = store.begin()
            try:
                prev = put_in(txn, request)
            finally:
                txn.end()
        else:
            prev = store.put(request.key, request.value, lease, request.prev_kv)
        if not room:
            self.full = True
            raise NO_SPACE
        header = self._headers.header(store.current_rev)
        return header if prev is None else header + put_fields(prev)

    def delete_range(self, request: DeleteRangeRequest) -> bytes:
        """Execute a deletion. Raises CORRUPT and what auth says."""
        if self._alarms.corrupt:
            raise CORRUPT
        if self._auth.enabled:
            _refuse(self._permissions.delete_error(self.info, request))
        txn = self._store.begin()
        count, prevs = txn.delete_range(request.key, request.range_end, request.prev_kv)
        txn.end()
        return self._headers.header(self._store.current_rev) + delete_fields(count, prevs)

    def range(self, request: RangeRequest) -> bytes:
        """Read a range. Raises COMPACTED or FUTURE_REV."""
        answer = run_range(self._store, request)
        return self._headers.header(answer.rev) + answer.fields

    def txn(self, request: TxnRequest, answer: bool) -> bytes:
        """Execute a transaction. Raises CORRUPT, NO_SPACE, COMPACTED, FUTURE_REV, KEY_NOT_FOUND, LEASE_NOT_FOUND."""
        alarms = self._alarms
        if alarms.corrupt:
            raise CORRUPT
        cost = cost_of_txn(request)
        if alarms.no_space and cost > 0:
            raise NO_SPACE
        if self._auth.enabled:
            _refuse(self._permissions.txn_error(self.info, request))
        room = self._quota.available(cost)
        store = self._store
        branch = plan(store, request)
        error = Check(store, self._lessor).error(branch)
        if error is not None:
            raise error
        txn = store.begin()
        fields = Execution(txn, answer).run(branch)
        txn.end()
        if not room:
            self.full = True
            raise NO_SPACE
        return self._headers.header(store.current_rev) + fields

    def read_only_txn(self, request: TxnRequest) -> bytes:
        """Answer a transaction that only reads. Raises COMPACTED or FUTURE_REV."""
        branch = plan(self._store, request)
        error = Check(self._store, self._lessor).error(branch)
        if error is not None:
            raise error
        return self._headers.header(self._store.current_rev) + run_read_only(self._store, branch)

    def current_header(self) -> bytes:
        """Return a response's header at the current revision."""
        return self._headers.header(self._store.current_rev)

    def compact(self, request: CompactionRequest, deleted: Callable[[], None] | None) -> bytes:
        """Compact; `deleted` is called when the old revisions are gone. Raises CORRUPT, COMPACTED, FUTURE_REV."""
        if self._alarms.corrupt:
            raise CORRUPT
        self._store.compact(request.revision, deleted)
        self._store.counts.ranges += 1  # etcd reads a key for the revision of its answer
        return self._headers.header(self._store.current_rev)

    def lease_grant(self, request: LeaseGrantRequest) -> bytes:
        """Grant a lease. Raises CORRUPT, NO_SPACE, LEASE_TTL_TOO_LARGE, LEASE_EXIST."""
        if self._alarms.corrupt:
            raise CORRUPT
        if self._alarms.no_space:
            raise NO_SPACE
        room = self._quota.available(LEASE_COST)
        lease = self._lessor.grant(request.ID, request.TTL, self._loop.monotonic_ns())
        if not room:
            self.full = True
            raise NO_SPACE
        header = self._headers.header(self._store.current_rev)
        return header + int_field(b"\x10", lease.id) + int_field(b"\x18", lease.ttl_s)

    def lease_revoke(self, request: LeaseRevokeRequest) -> bytes:
        """Revoke a lease and delete its keys in one revision. Raises CORRUPT, LEASE_NOT_FOUND."""
        if self._alarms.corrupt:
            raise CORRUPT
        if self._auth.enabled:
            _refuse(self._permissions.lease_error(self.info, request.ID))
        keys = self._lessor.revoke(request.ID)
        if keys:
            txn = self._store.begin()
            for key in keys:
                txn.delete_range(key, b"", False)
            txn.end()
        return self._headers.header(self._store.current_rev)

    def lease_checkpoint(self, request: LeaseCheckpointRequest) -> bytes:
        """Note what is left of leases."""
        now_ns = self._loop.monotonic_ns()
        for checkpoint in request.checkpoints:
            self._lessor.checkpoint(checkpoint.ID, checkpoint.remaining_TTL, now_ns)
        return self._headers.header(self._store.current_rev)

    def alarm(self, request: AlarmRequest) -> bytes:
        """List (0), raise (1) or disarm (2) alarms; anything else changes nothing and lists nothing."""
        action = int(request.action)
        alarm = int(request.alarm)
        found: list[tuple[int, int]] = []
        if action == 0:
            found = self._alarms.list(alarm)
        elif action == 1 and alarm in (1, 2):
            self._alarms.activate(alarm, request.memberID)
            found = [(alarm, request.memberID)]
        elif action == 2 and alarm != NONE and self._alarms.deactivate(alarm, request.memberID):
            found = [(alarm, request.memberID)]
        parts = [self._headers.header(self._store.current_rev)]
        parts += [message_field(b"\x12", encode_alarm(member_id, kind)) for kind, member_id in found]
        return b"".join(parts)


def _refuse(error: RpcError | None) -> None:
    if error is not None:
        raise error
