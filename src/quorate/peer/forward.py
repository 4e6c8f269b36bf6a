"""Requests to another member's peer port: what only the leader can answer (leases, promotion), and a member's hash.

Source: etcd server/lease/leasehttp/http.go, server/etcdserver/cluster_util.go (promoteMemberHTTP) and corrupt.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from google.protobuf.message import DecodeError

from quorate import errors
from quorate.errors import RpcError
from quorate.lease.lessor import Lease
from quorate.peer.exchange import Dialer, Exchange, Field, WholeReply, request_head
from quorate.peer.versions import CLUSTER_ID
from quorate.ports import Loop
from quorate.proto.lease_pb2 import LeaseInternalRequest, LeaseInternalResponse
from quorate.proto.rpc_pb2 import LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest
from quorate.server.peerhash import HASH_KV_PATH, PeerHash, hash_question, read_hash

LIMIT_NS: Final = 5_000_000_000
MAX_REPLY_BYTES: Final = 64 << 20
MAX_HASH_REPLY_BYTES: Final = 64 << 10

NOT_IN_TOUCH: Final = RpcError(errors.UNAVAILABLE, "etcdserver: request timed out, possibly due to connection lost")

RenewThen = Callable[[int, RpcError | None], None]
LookThen = Callable[[Lease | None, int, RpcError | None], None]
PromoteThen = Callable[[RpcError | None], None]
HashThen = Callable[[PeerHash], None]

_PROTOBUF: Final[list[Field]] = [(b"Content-Type", b"application/protobuf")]


class Forward:
    """Asks one member."""

    def __init__(self, loop: Loop, dialer: Dialer) -> None:
        self._loop = loop
        self._dialer = dialer

    def _post(self, url: str, path: str, headers: list[Field], body: bytes, reply: WholeReply) -> None:
        head = request_head(b"POST", path, url.partition("://")[2], headers, len(body))
        self._dialer.dial(url, Exchange(self._loop.monotonic_ns, head, body, None, reply, LIMIT_NS))

    def renew_lease(self, url: str, lease_id: int, then: RenewThen) -> None:
        """Renew a lease: its TTL, 0 when there is none, or the error."""
        body = LeaseKeepAliveRequest(ID=lease_id).SerializeToString()
        self._post(url, "/leases", _PROTOBUF, body, WholeReply(MAX_REPLY_BYTES, _Renewed(then).ended))

    def lease_time_to_live(self, url: str, lease_id: int, then: LookThen) -> None:
        """Look at a lease, with its keys."""
        inner = LeaseTimeToLiveRequest(ID=lease_id, keys=True)
        body = LeaseInternalRequest(LeaseTimeToLiveRequest=inner).SerializeToString()
        self._post(url, "/leases/internal", _PROTOBUF, body, WholeReply(MAX_REPLY_BYTES, _Looked(then).ended))

    def promote_member(self, url: str, member_id: int, token: bytes, then: PromoteThen) -> None:
        """Promote a learner. The token says who asks."""
        headers: list[Field] = [(b"Authorization", token)] if token else []
        reply = WholeReply(MAX_REPLY_BYTES, _Promoted(then).ended)
        self._post(url, f"/members/promote/{member_id}", headers, b"", reply)


class HashQuestion:
    """Asks one member for its hash of a revision, at one URL after the other until one gives it."""

    def __init__(
        self, loop: Loop, dialer: Dialer, cluster_text: bytes, member_id: int, rev: int, limit_ns: int, then: HashThen
    ) -> None:
        self._loop = loop
        self._dialer = dialer
        self._headers: list[Field] = [(b"Content-Type", b"application/json"), (CLUSTER_ID, cluster_text)]
        self._member_id = member_id
        self._body = hash_question(rev)
        self._limit_ns = limit_ns
        self._then = then
        self._urls: list[str] = []

    def ask(self, urls: list[str]) -> None:
        """Ask at these URLs."""
        self._urls = list(urls)
        self._next(PeerHash(self._member_id, "no peer URL"))

    def _next(self, failed: PeerHash) -> None:
        if not self._urls:
            self._then(failed)
            return
        url = self._urls.pop(0)
        head = request_head(b"GET", HASH_KV_PATH, url.partition("://")[2], self._headers, len(self._body))
        reply = WholeReply(MAX_HASH_REPLY_BYTES, self._ended)
        self._dialer.dial(url, Exchange(self._loop.monotonic_ns, head, self._body, None, reply, self._limit_ns))

    def _ended(self, status: int, _headers: list[Field], body: bytes, error: str) -> None:
        answer = PeerHash(self._member_id, error) if error else read_hash(self._member_id, status, body)
        if answer.error:
            self._next(answer)
        else:
            self._then(answer)


class _Renewed:
    def __init__(self, then: RenewThen) -> None:
        self._then = then

    def ended(self, status: int, _headers: list[Field], body: bytes, error: str) -> None:
        """Give the answer."""
        if status == 404:
            self._then(0, None)
            return
        if not error and status == 200:
            try:
                self._then(LeaseKeepAliveResponse.FromString(body).TTL, None)
            except DecodeError:
                self._then(0, NOT_IN_TOUCH)
            return
        self._then(0, errors.TIMEOUT if status == 408 else NOT_IN_TOUCH)


class _Looked:
    def __init__(self, then: LookThen) -> None:
        self._then = then

    def ended(self, status: int, _headers: list[Field], body: bytes, error: str) -> None:
        """Give the answer."""
        if status == 404:
            self._then(None, 0, None)
            return
        if not error and status == 200:
            try:
                found = LeaseInternalResponse.FromString(body).LeaseTimeToLiveResponse
            except DecodeError:
                self._then(None, 0, NOT_IN_TOUCH)
                return
            lease = Lease(found.ID, found.grantedTTL, 0)
            lease.keys = set(found.keys)
            self._then(lease, found.TTL, None)
            return
        self._then(None, 0, errors.TIMEOUT if status == 408 else NOT_IN_TOUCH)


class _Promoted:
    def __init__(self, then: PromoteThen) -> None:
        self._then = then

    def ended(self, status: int, _headers: list[Field], body: bytes, error: str) -> None:
        """Give the answer."""
        if error:
            self._then(NOT_IN_TOUCH)
        elif status == 200:
            self._then(None)
        elif status == 404:
            self._then(errors.MEMBER_NOT_FOUND)
        elif status == 412 and b"in sync with leader" in body:
            self._then(errors.LEARNER_NOT_READY)
        elif status == 412:
            self._then(errors.MEMBER_NOT_LEARNER)
        else:
            self._then(RpcError(errors.UNKNOWN, f"member promote: unknown error({body.decode('utf-8', 'replace')})"))
