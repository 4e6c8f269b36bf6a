"""v3electionpb.Election: candidates are keys `<name>/<lease in hex>`; the one created first leads, its value is what it
proclaims.

Campaign returns when all candidates before the caller are gone; a caller that goes away meanwhile resigns. Proclaim and
Resign change the caller's own key, guarded by the create revision that Campaign returned. Observe sends the leader,
each value it proclaims, and the leaders after it.
Source: etcd's server/etcdserver/api/v3election/election.go and client/v3/concurrency/election.go.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from quorate.api.check import Guard, ServerStream, add_stream, add_unary
from quorate.api.kv import KVService
from quorate.api.steps import (
    SESSION_TTL_S,
    Abandoned,
    Grant,
    NextEvent,
    Procedure,
    Range,
    Step,
    Task,
    Txn,
    created_at,
    first_created,
    get_op,
    prefix_end,
    put_op,
    wait_deletes,
)
from quorate.errors import UNKNOWN, RpcError
from quorate.mvcc.watcher import FILTER_NO_DELETE
from quorate.proto.kv_pb2 import Event, KeyValue
from quorate.proto.rpc_pb2 import DeleteRangeRequest, RequestOp, ResponseHeader, TxnRequest
from quorate.proto.v3election_pb2 import (
    CampaignRequest,
    CampaignResponse,
    LeaderKey,
    LeaderRequest,
    LeaderResponse,
    ProclaimRequest,
    ProclaimResponse,
    ResignRequest,
    ResignResponse,
)
from quorate.server.core import Server
from quorate.wire.rpc import Router, ServerCall

_NO_LEADER: Final = RpcError(UNKNOWN, "election: no leader")
_NOT_LEADER: Final = RpcError(UNKNOWN, "election: not leader")
_MISSING_LEADER: Final = RpcError(UNKNOWN, '"leader" field must be provided')


class ElectionService:
    """The Election service over a server."""

    def __init__(self, server: Server, kv: KVService) -> None:
        self._server = server
        self._kv = kv

    def register(self, router: Router, guard: Guard) -> None:
        """Add the service's methods to the router."""
        prefix = "/v3electionpb.Election/"
        add_unary(router, guard, prefix + "Campaign", CampaignRequest, self.campaign)
        add_unary(router, guard, prefix + "Proclaim", ProclaimRequest, self.proclaim)
        add_unary(router, guard, prefix + "Leader", LeaderRequest, self.leader)
        add_unary(router, guard, prefix + "Resign", ResignRequest, self.resign)
        add_stream(router, guard, prefix + "Observe", "server_stream", self.observe)

    def campaign(self, call: ServerCall, request: CampaignRequest) -> None:
        """Serve Campaign."""
        Task(call, self._campaign(call, request))

    def proclaim(self, call: ServerCall, request: ProclaimRequest) -> None:
        """Serve Proclaim."""
        Task(call, self._proclaim(call, request))

    def leader(self, call: ServerCall, request: LeaderRequest) -> None:
        """Serve Leader."""
        Task(call, self._leader(call, request.name + b"/"))

    def resign(self, call: ServerCall, request: ResignRequest) -> None:
        """Serve Resign."""
        Task(call, self._resign(call, request))

    def observe(self, call: ServerCall) -> None:
        """Serve Observe."""
        ServerStream(call, LeaderRequest, self._start_observe)

    def _start_observe(self, call: ServerCall, request: LeaderRequest) -> None:
        Task(call, self._observe(call, request.name + b"/"))

    def _session(self, lease: int) -> Generator[Step, None, int]:
        """Return the lease, a new one instead of 0."""
        if lease != 0:
            return lease
        grant = Grant(self._server, SESSION_TTL_S)
        yield grant
        return grant.lease_id

    def _campaign(self, call: ServerCall, request: CampaignRequest) -> Procedure:
        lease = yield from self._session(request.lease)
        prefix = request.name + b"/"
        key = prefix + b"%x" % lease
        txn = Txn(
            self._kv,
            TxnRequest(
                compare=[created_at(key, 0)], success=[put_op(key, request.value, lease)], failure=[get_op(key)]
            ),
        )
        rev = 0
        try:
            yield txn
            rev = txn.response.header.revision
            if not txn.response.succeeded:
                candidate = txn.response.responses[0].response_range.kvs[0]
                rev = candidate.create_revision
                if candidate.value != request.value:
                    yield from self._reclaim(key, rev, put_op(key, request.value, lease))
            yield from wait_deletes(self._server, call, prefix, rev - 1)
        except Abandoned:
            if txn.done:
                yield from self._give_up(key, rev or txn.response.header.revision)
            raise
        leader = LeaderKey(name=request.name, key=key, rev=rev, lease=lease)
        call.complete(CampaignResponse(header=txn.response.header, leader=leader).SerializeToString())

    def _reclaim(self, key: bytes, rev: int, op: RequestOp) -> Procedure:
        """Put a new value on a candidate's own key, which is there already; resign when that fails."""
        try:
            yield from self._change(key, rev, op)
        except RpcError:
            yield from self._give_up(key, rev)
            raise

    def _proclaim(self, call: ServerCall, request: ProclaimRequest) -> Procedure:
        if not request.HasField("leader"):
            raise _MISSING_LEADER
        leader = request.leader
        lease = yield from self._session(leader.lease)
        header = yield from self._change(leader.key, leader.rev, put_op(leader.key, request.value, lease))
        call.complete(ProclaimResponse(header=header).SerializeToString())

    def _resign(self, call: ServerCall, request: ResignRequest) -> Procedure:
        if not request.HasField("leader"):
            raise _MISSING_LEADER
        leader = request.leader
        yield from self._session(leader.lease)
        txn = self._deletion(leader.key, leader.rev)
        yield txn
        call.complete(ResignResponse(header=txn.response.header).SerializeToString())

    def _change(self, key: bytes, rev: int, op: RequestOp) -> Generator[Step, None, ResponseHeader]:
        """Do something with the key if it is still the one created at `rev`."""
        txn = Txn(self._kv, TxnRequest(compare=[created_at(key, rev)], success=[op]))
        yield txn
        if not txn.response.succeeded:
            raise _NOT_LEADER
        return txn.response.header

    def _deletion(self, key: bytes, rev: int) -> Txn:
        delete = RequestOp(request_delete_range=DeleteRangeRequest(key=key))
        return Txn(self._kv, TxnRequest(compare=[created_at(key, rev)], success=[delete]))

    def _give_up(self, key: bytes, rev: int) -> Procedure:
        try:
            yield self._deletion(key, rev)
        except (RpcError, Abandoned):
            return  # the lease ends the key's life

    def _leader(self, call: ServerCall, prefix: bytes) -> Procedure:
        found = Range(self._server, first_created(prefix))
        yield found
        if not found.response.kvs:
            raise _NO_LEADER
        call.complete(LeaderResponse(header=found.response.header, kv=found.response.kvs[0]).SerializeToString())

    def _observe(self, call: ServerCall, prefix: bytes) -> Procedure:
        # As in etcd, what goes wrong here ends the stream without an error.
        try:
            while True:
                found = Range(self._server, first_created(prefix))
                yield found
                if found.response.kvs:
                    leader, rev = found.response.kvs[0], found.response.header.revision
                else:
                    after = found.response.header.revision + 1
                    leader, rev = yield from self._first_candidate(call, prefix, after)
                self._send(call, rev, leader)
                yield from self._follow(call, leader.key, rev + 1)
        except RpcError:
            call.finish()

    def _first_candidate(
        self, call: ServerCall, prefix: bytes, rev: int
    ) -> Generator[Step, None, tuple[KeyValue, int]]:
        """Wait for the next candidate; return it and its revision."""
        put = NextEvent(self._server, call, prefix, prefix_end(prefix), rev, (FILTER_NO_DELETE,))
        try:
            yield put
        finally:
            put.close()
        return put.event.kv, put.event.kv.mod_revision

    def _follow(self, call: ServerCall, key: bytes, rev: int) -> Procedure:
        """Send what a leader proclaims, until its key is deleted."""
        change = NextEvent(self._server, call, key, b"", rev, ())
        try:
            yield change
            while change.event.type != Event.EventType.DELETE:
                self._send(call, change.rev, change.event.kv)
                yield change
        finally:
            change.close()

    def _send(self, call: ServerCall, rev: int, leader: KeyValue) -> None:
        call.send(self._server.header(rev) + LeaderResponse(kv=leader).SerializeToString())
