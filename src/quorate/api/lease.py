"""etcdserverpb.Lease: grants and revocations go through the log, keep-alives are a stream, the rest are looks.

Contract of the keep-alive stream: one answer a request, in the order of the requests; an unknown or expired lease is
answered with TTL 0; any other error ends the stream. The header is taken before the renewal, so that a client never
sees a renewal at a revision at which the lease was gone already.
Source: etcd's server/etcdserver/api/v3rpc/lease.go.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from google.protobuf.message import DecodeError

from quorate import errors
from quorate.api.check import Guard, add_raw, add_stream, add_unary
from quorate.api.strict import stream_error
from quorate.auth.access import NEEDS_USER
from quorate.errors import RpcError
from quorate.lease.lessor import Lease
from quorate.proto.rpc_pb2 import (
    LeaseGrantRequest,
    LeaseKeepAliveRequest,
    LeaseLeasesRequest,
    LeaseLeasesResponse,
    LeaseRevokeRequest,
    LeaseStatus,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
)
from quorate.server.core import Server
from quorate.server.quota import LEASE_COST
from quorate.wire.protobuf import varint_field
from quorate.wire.rpc import Router, ServerCall

_WAITING_MAX: Final = 1 << 16
_SLOW_BYTES: Final = 1 << 20
_TOO_MANY_WAITING: Final = RpcError(
    errors.RESOURCE_EXHAUSTED, "etcdserver: too many lease keepalive requests while responses wait to be read"
)


class LeaseService:
    """The Lease service over a server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def register(self, router: Router, guard: Guard) -> None:
        """Add the service's methods to the router."""
        prefix = "/etcdserverpb.Lease/"
        add_raw(router, guard, prefix + "LeaseGrant", LeaseGrantRequest, self.grant)
        add_raw(router, guard, prefix + "LeaseRevoke", LeaseRevokeRequest, self.revoke)
        add_unary(router, guard, prefix + "LeaseTimeToLive", LeaseTimeToLiveRequest, self.time_to_live)
        add_unary(router, guard, prefix + "LeaseLeases", LeaseLeasesRequest, self.leases)
        add_stream(router, guard, prefix + "LeaseKeepAlive", "bidi_stream", self.keep_alive)

    def grant(self, call: ServerCall, request: LeaseGrantRequest, raw: bytes) -> None:
        """Serve LeaseGrant."""
        if not self._server.quota_check(LEASE_COST):
            call.fail(errors.NO_SPACE)
        else:
            self._server.lease_grant(request, raw, call)

    def revoke(self, call: ServerCall, request: LeaseRevokeRequest, raw: bytes) -> None:
        """Serve LeaseRevoke."""
        self._server.lease_revoke(request, raw, call)

    def time_to_live(self, call: ServerCall, request: LeaseTimeToLiveRequest) -> None:
        """Serve LeaseTimeToLive."""
        server = self._server
        error = server.refusals.call(NEEDS_USER, call)
        if error is None and request.keys:
            lease = server.lessor.lookup(request.ID)
            error = server.refusals.lease_keys(call, [] if lease is None else [lease])
        if error is not None:
            call.fail(error)
        else:
            server.lease_time_to_live(request.ID, _TimeToLive(server, call, request).answer)

    def leases(self, call: ServerCall, _: LeaseLeasesRequest) -> None:
        """Serve LeaseLeases."""
        found = self._server.leases()
        error = self._server.refusals.lease_keys(call, found)
        if error is not None:
            call.fail(error)
            return
        statuses = [LeaseStatus(ID=lease.id) for lease in found]
        header = self._server.header(self._server.store.current_rev)
        call.complete(header + LeaseLeasesResponse(leases=statuses).SerializeToString())

    def keep_alive(self, call: ServerCall) -> None:
        """Serve LeaseKeepAlive."""
        _KeepAlive(self._server, call)


class _TimeToLive:
    """A LeaseTimeToLive call under way."""

    def __init__(self, server: Server, call: ServerCall, request: LeaseTimeToLiveRequest) -> None:
        self.server = server
        self.call = call
        self.request = request
        self.auth_revision = server.auth.revision

    def answer(self, lease: Lease | None, remaining_s: int, error: RpcError | None) -> None:
        auth = self.server.auth
        if error is None and self.request.keys and auth.enabled and auth.revision != self.auth_revision:
            error = errors.AUTH_OLD_REVISION
        if error is not None:
            self.call.fail(error)
            return
        response = LeaseTimeToLiveResponse(ID=self.request.ID, TTL=-1)
        if lease is not None:
            response.TTL = remaining_s
            response.grantedTTL = lease.ttl_s
            if self.request.keys:
                response.keys.extend(sorted(lease.keys))
        header = self.server.header(self.server.store.current_rev)
        self.call.complete(header + response.SerializeToString())


class _KeepAlive:
    """A LeaseKeepAlive call. At most one renewal is under way; further requests wait for it."""

    def __init__(self, server: Server, call: ServerCall) -> None:
        self._server = server
        self._call = call
        self._waiting: deque[int] = deque()
        self._current = 0
        self._header = b""
        self._renewing = False
        self._working = False
        self._half_closed = False
        call.on_message = self._on_message
        call.on_half_close = self._on_half_close
        call.on_end = self._on_end
        call.on_drain = self._work

    def _on_message(self, raw: bytes) -> None:
        try:
            lease_id = LeaseKeepAliveRequest.FromString(raw).ID
        except DecodeError:
            self._end(stream_error(LeaseKeepAliveRequest, raw))
            return
        self._waiting.append(lease_id)
        if len(self._waiting) > _WAITING_MAX:
            self._end(_TOO_MANY_WAITING)
            return
        self._work()

    def _on_half_close(self) -> None:
        self._half_closed = True
        self._work()

    def _on_end(self) -> None:
        self._waiting.clear()

    def _end(self, error: RpcError) -> None:
        self._waiting.clear()
        self._call.fail(error)

    def _work(self) -> None:
        """Renew what waits, one by one. A renewal that is answered at once comes back here as the loop goes round."""
        if self._working:
            return
        self._working = True
        while self._waiting and not self._renewing and self._call.queued_bytes() < _SLOW_BYTES:
            self._current = self._waiting.popleft()
            self._header = self._server.header(self._server.store.current_rev)
            error = self._server.refusals.lease(self._call, self._current)
            if error is not None:
                self._end(error)
                break
            self._renewing = True
            self._server.lease_renew(self._current, self._renewed)
        self._working = False
        if self._half_closed and not self._waiting and not self._renewing and not self._call.ended:
            self._call.finish()

    def _renewed(self, ttl_s: int, error: RpcError | None) -> None:
        self._renewing = False
        if self._call.ended:
            return
        if error is not None and error is not errors.LEASE_NOT_FOUND:
            self._end(error)
            return
        ttl = 0 if error is not None else ttl_s
        self._call.send(self._header + varint_field(2, self._current) + varint_field(3, ttl))
        self._work()
