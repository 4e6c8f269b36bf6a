"""What the peer port answers beside raft: leases, promotions, hashes, the downgrade job.

    POST /leases             LeaseKeepAliveRequest -> LeaseKeepAliveResponse, by the leader only
    POST /leases/internal    LeaseInternalRequest -> LeaseInternalResponse, by the leader only
    POST /members/promote/<decimal id>   -> the members as JSON
    GET  /members/hashkv     {"revision":N} in the body -> the hash of that revision as JSON
    GET  /downgrade/enabled  -> true or false
    anything else            the handler below (/members, /version, /raft/probing, 404)

Source: etcd server/lease/leasehttp/http.go, server/etcdserver/{corrupt.go,api/etcdhttp/peer.go}.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from google.protobuf.message import DecodeError

from quorate import errors
from quorate.auth.access import NEEDS_ROOT
from quorate.errors import COMPACTED, RpcError
from quorate.lease.lessor import Lease
from quorate.membership.member import go_json, member_json
from quorate.peer.versions import CLUSTER_ID, MISMATCH, Identity, value_of
from quorate.ports import Completion, Loop, Timer
from quorate.proto.lease_pb2 import LeaseInternalRequest, LeaseInternalResponse
from quorate.proto.rpc_pb2 import (
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseTimeToLiveResponse,
    ResponseHeader,
)
from quorate.server.core import Server
from quorate.wire.web import Field, HttpHandler, HttpReply, HttpRequest

APPLY_LIMIT_NS: Final = 1_000_000_000
MAX_LEASE_BYTES: Final = 64 << 10

LEASE_NOT_FOUND: Final = "lease not found"
NOT_PRIMARY: Final = "not a primary lessor"
LEASE_TIMEOUT: Final = "waiting for node to catch up its applied index has timed out"

_PROMOTE: Final = b"/members/promote/"
_TEXT: Final[list[Field]] = [
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"x-content-type-options", b"nosniff"),
]
_PROTOBUF: Final[list[Field]] = [(b"content-type", b"application/protobuf")]
_JSON: Final = (b"content-type", b"application/json")

# The texts of the membership package, which the other side sees.
_PROMOTE_TEXTS: Final = {
    errors.MEMBER_NOT_FOUND.text: (404, "membership: ID not found"),
    errors.MEMBER_NOT_LEARNER.text: (412, "membership: can only promote a learner member"),
    errors.LEARNER_NOT_READY.text: (412, errors.LEARNER_NOT_READY.text),
}


def error_reply(reply: HttpReply, status: int, text: str, more: list[Field]) -> None:
    """Answer as Go's http.Error does."""
    reply.respond(status, [*_TEXT, *more], (text + "\n").encode())


class PeerWeb(HttpHandler):
    """Answers other members' requests that are not raft's."""

    def __init__(self, loop: Loop, identity: Identity, server: Server, others: HttpHandler) -> None:
        self._loop = loop
        self._cluster: Field = (CLUSTER_ID, identity.cluster_text)
        self._identity = identity
        self._server = server
        self._others = others

    def handle(self, request: HttpRequest, reply: HttpReply) -> None:
        """Answer."""
        path = request.path()
        if path == b"/leases" or path == b"/leases/internal":
            self._lease(request, reply, path == b"/leases")
        elif path.startswith(_PROMOTE):
            self._promote(request, reply, path[len(_PROMOTE) :])
        elif path == b"/members/hashkv":
            self._hash_kv(request, reply)
        elif path == b"/downgrade/enabled":
            self._downgrade_enabled(request, reply)
        else:
            self._others.handle(request, reply)

    def _allow(self, request: HttpRequest, reply: HttpReply, method: bytes) -> bool:
        if request.method == method:
            return True
        error_reply(reply, 405, "Method Not Allowed", [(b"Allow", method)])
        return False

    # -- Leases

    def _lease(self, request: HttpRequest, reply: HttpReply, renew: bool) -> None:
        if request.method != b"POST":
            error_reply(reply, 405, "Method Not Allowed", [])
            return
        try:
            if renew:
                lease_id = LeaseKeepAliveRequest.FromString(request.body).ID
                keys = False
            else:
                asked = LeaseInternalRequest.FromString(request.body).LeaseTimeToLiveRequest
                lease_id, keys = asked.ID, asked.keys
        except DecodeError:
            error_reply(reply, 400, "error unmarshalling request", [])
            return
        if not self._server.is_leader():
            error_reply(reply, 400, NOT_PRIMARY, [])
            return
        answer = _LeaseAnswer(self._loop, reply, lease_id, keys)
        if renew:
            self._server.lease_renew(lease_id, answer.renewed)
        else:
            self._server.lease_time_to_live(lease_id, answer.found)

    # -- Members

    def _promote(self, request: HttpRequest, reply: HttpReply, text: bytes) -> None:
        if not self._allow(request, reply, b"POST"):
            return
        if not text.isdigit() or int(text) >= 1 << 64:
            error_reply(reply, 404, f"member {text.decode('latin-1')} not found in cluster", [self._cluster])
            return
        server = self._server

        def then(error: RpcError | None) -> None:
            if error is not None:
                status, shown = _PROMOTE_TEXTS.get(error.text, (500, ""))
                if status == 500:
                    reply.respond(500, [_JSON, self._cluster], b'{"message":"Internal Server Error"}')
                else:
                    error_reply(reply, status, shown, [self._cluster])
                return
            members = b"[" + b",".join(member_json(member) for member in server.cluster.member_list()) + b"]\n"
            reply.respond(200, [_JSON, self._cluster], members)

        refused = server.refusals.call(NEEDS_ROOT, _Asker(value_of(request.headers, b"authorization")))
        if refused is not None:
            then(refused)
        elif server.is_leader():
            server.member_promote(int(text), then)
        else:
            then(errors.NOT_LEADER)  # a request is passed on once, never in circles

    def _hash_kv(self, request: HttpRequest, reply: HttpReply) -> None:
        if not self._allow(request, reply, b"GET"):
            return
        cluster = value_of(request.headers, CLUSTER_ID)
        if cluster and cluster != self._identity.cluster_text:
            error_reply(reply, 412, MISMATCH, [])
            return
        try:
            fields = json.loads(request.body)
            asked = fields.get("revision", 0)
            if not isinstance(asked, int) or isinstance(asked, bool):
                raise TypeError("revision")
        except (ValueError, AttributeError, TypeError, RecursionError):
            error_reply(reply, 400, "error unmarshalling request", [])
            return

        def done(found: int, rev: int, compact_rev: int) -> None:
            if 0 < asked < compact_rev:
                error_reply(reply, 400, COMPACTED.text.replace("etcdserver: ", "", 1), [])
                return
            fields: dict[str, object] = {"header": {"revision": rev}}
            if found:
                fields["hash"] = found
            if compact_rev:
                fields["compact_revision"] = compact_rev
            fields["hash_revision"] = asked or rev
            reply.respond(200, [_JSON, self._cluster], go_json(fields).encode())

        try:
            self._server.store.hash_by_rev(asked, done)
        except RpcError as error:
            error.__traceback__ = None
            error_reply(reply, 400, error.text.replace("etcdserver: ", "", 1), [])

    def _downgrade_enabled(self, request: HttpRequest, reply: HttpReply) -> None:
        if not self._allow(request, reply, b"GET"):
            return
        cluster = self._server.cluster

        def then(error: RpcError | None) -> None:
            if error is not None:
                error_reply(reply, 500, f"failed linearized read: {error.text}", [self._cluster])
            else:
                body = b"true" if cluster.downgrade.enabled else b"false"
                reply.respond(200, [(b"content-type", b"text/plain"), self._cluster], body)

        self._server.linearizable(then)


class _Asker(Completion):
    """The user on whose behalf a member asks, by the token that came along."""

    def __init__(self, token: bytes) -> None:
        self._token = token

    def metadata(self, name: bytes) -> bytes | None:
        """Return the token, if there is one."""
        return self._token if self._token and name == b"token" else None


class _LeaseAnswer:
    """Answers one lease request, with 408 when the lessor is not ready for it in a second."""

    def __init__(self, loop: Loop, reply: HttpReply, lease_id: int, keys: bool) -> None:
        self._reply = reply
        self._lease_id = lease_id
        self._keys = keys
        self._over = False
        self._timer: Timer | None = None
        late: Callable[[], None] = self._late
        self._timer = loop.later(APPLY_LIMIT_NS, late)

    def _late(self) -> None:
        self._answer(408, LEASE_TIMEOUT, b"")

    def renewed(self, ttl_s: int, error: RpcError | None) -> None:
        """The lease was renewed: its TTL, 0 when there is none."""
        if error is not None:
            self._answer(400, NOT_PRIMARY, b"")
        elif ttl_s == 0:
            self._answer(404, LEASE_NOT_FOUND, b"")
        else:
            self._answer(200, "", LeaseKeepAliveResponse(ID=self._lease_id, TTL=ttl_s).SerializeToString())

    def found(self, lease: Lease | None, remaining_s: int, error: RpcError | None) -> None:
        """The lease was looked up."""
        if error is not None:
            self._answer(500, NOT_PRIMARY, b"")
        elif lease is None:
            self._answer(404, LEASE_NOT_FOUND, b"")
        else:
            response = LeaseTimeToLiveResponse(
                header=ResponseHeader(), ID=lease.id, TTL=remaining_s, grantedTTL=lease.ttl_s
            )
            if self._keys:
                response.keys.extend(sorted(lease.keys))
            self._answer(200, "", LeaseInternalResponse(LeaseTimeToLiveResponse=response).SerializeToString())

    def _answer(self, status: int, text: str, body: bytes) -> None:
        if self._over:
            return
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if status == 200:
            self._reply.respond(200, _PROTOBUF, body)
        else:
            error_reply(self._reply, status, text, [])
