"""etcdserverpb.Cluster: the list of members, and the changes to it.

Contract: URLs are checked here, before anything else; quorum rules and the configuration change are the server's.
Headers have no revision. Members are sorted by id.

Real etcd checks the URLs of MemberAdd only. It takes any text for MemberUpdate, and then every other member stops when
it applies the change and cannot make sense of the URL, again after each restart. So we refuse it, with MemberAdd's
error.
Source: etcd's server/etcdserver/api/v3rpc/member.go.
"""

from __future__ import annotations

from collections.abc import Callable

from quorate import errors
from quorate.api.check import Guard, add_unary
from quorate.auth.access import NEEDS_ROOT, NEEDS_USER, token_of
from quorate.errors import RpcError
from quorate.membership.member import Member, parse_urls
from quorate.proto.rpc_pb2 import Member as MemberMessage
from quorate.proto.rpc_pb2 import (
    MemberAddRequest,
    MemberAddResponse,
    MemberListRequest,
    MemberListResponse,
    MemberPromoteRequest,
    MemberRemoveRequest,
    MemberUpdateRequest,
)
from quorate.server.core import Server
from quorate.wire.rpc import Router, ServerCall


def _message(member: Member) -> MemberMessage:
    return MemberMessage(
        ID=member.id,
        name=member.name,
        peerURLs=member.peer_urls,
        clientURLs=member.client_urls,
        isLearner=member.is_learner,
    )


class ClusterService:
    """The Cluster service over a server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def register(self, router: Router, guard: Guard) -> None:
        """Add the service's methods to the router."""
        prefix = "/etcdserverpb.Cluster/"
        add_unary(router, guard, prefix + "MemberAdd", MemberAddRequest, self.add)
        add_unary(router, guard, prefix + "MemberRemove", MemberRemoveRequest, self.remove, need=NEEDS_ROOT)
        add_unary(router, guard, prefix + "MemberUpdate", MemberUpdateRequest, self.update, need=NEEDS_ROOT)
        add_unary(router, guard, prefix + "MemberList", MemberListRequest, self.member_list)
        add_unary(router, guard, prefix + "MemberPromote", MemberPromoteRequest, self.promote, need=NEEDS_ROOT)

    def add(self, call: ServerCall, request: MemberAddRequest) -> None:
        """Serve MemberAdd."""
        try:
            urls = parse_urls(list(request.peerURLs))
        except ValueError:
            call.fail(errors.MEMBER_BAD_URLS)
            return
        refused = self._server.refusals.call(NEEDS_ROOT, call)
        if refused is not None:
            call.fail(refused)
            return

        def then(member: Member | None, error: RpcError | None) -> None:
            if error is not None or member is None:
                call.fail(error or errors.MEMBER_NOT_FOUND)
                return
            # The new member comes as it was asked for; the list says what has become of it.
            new = MemberMessage(ID=member.id, peerURLs=urls, isLearner=request.isLearner)
            response = MemberAddResponse(member=new, members=self._members())
            call.complete(self._server.header(0) + response.SerializeToString())

        self._server.member_add(urls, request.isLearner, then)

    def remove(self, call: ServerCall, request: MemberRemoveRequest) -> None:
        """Serve MemberRemove."""
        self._server.member_remove(request.ID, self._answer(call))

    def update(self, call: ServerCall, request: MemberUpdateRequest) -> None:
        """Serve MemberUpdate."""
        urls = list(request.peerURLs)
        try:
            parse_urls(urls)
        except ValueError:
            call.fail(errors.MEMBER_BAD_URLS)
            return
        self._server.member_update(request.ID, urls, self._answer(call))

    def promote(self, call: ServerCall, request: MemberPromoteRequest) -> None:
        """Serve MemberPromote."""
        self._server.member_promote(request.ID, self._answer(call), token_of(call) or b"")

    def member_list(self, call: ServerCall, request: MemberListRequest) -> None:
        """Serve MemberList."""
        answer = self._answer(call)

        def then(error: RpcError | None) -> None:
            answer(error or self._server.refusals.call(NEEDS_USER, call))

        if request.linearizable:
            self._server.linearizable(then)
        else:
            then(None)

    def _answer(self, call: ServerCall) -> Callable[[RpcError | None], None]:
        """Return what answers a call with the members or the error: Remove, Update, List and Promote respond alike."""

        def then(error: RpcError | None) -> None:
            if error is not None:
                call.fail(error)
            else:
                response = MemberListResponse(members=self._members())
                call.complete(self._server.header(0) + response.SerializeToString())

        return then

    def _members(self) -> list[MemberMessage]:
        return [_message(member) for member in self._server.cluster.member_list()]
