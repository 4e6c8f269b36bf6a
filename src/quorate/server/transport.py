"""What the node needs of the network to its peers. `peer` implements it; a single member has the null one."""

from __future__ import annotations

from collections.abc import Callable

from mypy_extensions import mypyc_attr

from quorate.errors import NO_LEADER, RpcError
from quorate.lease.lessor import Lease
from quorate.membership.version import Version
from quorate.raft.types import Message
from quorate.server.peerhash import PeerHash


@mypyc_attr(allow_interpreted_subclasses=True)
class Transport:
    """Messages to other members. Nothing here blocks; nothing is promised to arrive."""

    def send(self, messages: list[Message]) -> None:
        """Send raft messages. Snapshots may take their time; report their fate with RawNode's report methods."""
        raise NotImplementedError

    def flush(self) -> None:
        """Put what was sent on the wire now, and not at the end of the turn. To do nothing is right, only slower."""

    def add_peer(self, member_id: int, urls: list[str]) -> None:
        """Begin to talk to a member."""
        raise NotImplementedError

    def update_peer(self, member_id: int, urls: list[str]) -> None:
        """A member has other URLs."""
        raise NotImplementedError

    def remove_peer(self, member_id: int) -> None:
        """Stop talking to a member."""
        raise NotImplementedError

    def reset_peers(self, members: dict[int, list[str]]) -> None:
        """Talk to exactly these members, by id, at these URLs; this member itself may be among them."""
        raise NotImplementedError

    def active_since_ns(self, member_id: int) -> int:
        """Return since when the connection to a member stands (monotonic), 0 when it does not."""
        raise NotImplementedError

    def active_peers(self) -> int:
        """Return how many other members we are in touch with."""
        raise NotImplementedError

    def server_version(self, member_id: int) -> Version | None:
        """Return the server version that a member last told, None when it does not answer."""
        raise NotImplementedError

    def renew_lease(self, leader_id: int, lease_id: int, then: Callable[[int, RpcError | None], None]) -> None:
        """Ask the leader to renew a lease: its TTL, 0 when there is no such lease, or the error."""
        raise NotImplementedError

    def lease_time_to_live(
        self, leader_id: int, lease_id: int, then: Callable[[Lease | None, int, RpcError | None], None]
    ) -> None:
        """Ask the leader about a lease: the lease (None when unknown) and its remaining seconds, or the error."""
        raise NotImplementedError

    def promote_member(
        self, leader_id: int, member_id: int, token: bytes, then: Callable[[RpcError | None], None]
    ) -> None:
        """Ask the leader to promote a learner, for whom this token (b"": none) stands."""
        raise NotImplementedError

    def hash_kv(self, member_id: int, rev: int, limit_ns: int, then: Callable[[PeerHash], None]) -> None:  # noqa: ARG002
        """Ask a member for its hash of a revision. To have no answer is right: a check passes that member over."""
        then(PeerHash(member_id, "no response"))


class NullTransport(Transport):
    """The network of a single member: there is nobody."""

    def send(self, messages: list[Message]) -> None:
        """Drop the messages."""

    def add_peer(self, member_id: int, urls: list[str]) -> None:
        """Do nothing."""

    def update_peer(self, member_id: int, urls: list[str]) -> None:
        """Do nothing."""

    def remove_peer(self, member_id: int) -> None:
        """Do nothing."""

    def reset_peers(self, members: dict[int, list[str]]) -> None:
        """Do nothing."""

    def active_since_ns(self, _member_id: int) -> int:
        """Nobody is connected."""
        return 0

    def active_peers(self) -> int:
        """Nobody is connected."""
        return 0

    def server_version(self, _member_id: int) -> Version | None:
        """Nobody answers."""
        return None

    def renew_lease(self, _leader_id: int, _lease_id: int, then: Callable[[int, RpcError | None], None]) -> None:
        """There is no other leader."""
        then(0, NO_LEADER)

    def lease_time_to_live(
        self, _leader_id: int, _lease_id: int, then: Callable[[Lease | None, int, RpcError | None], None]
    ) -> None:
        """There is no other leader."""
        then(None, 0, NO_LEADER)

    def promote_member(
        self, _leader_id: int, _member_id: int, _token: bytes, then: Callable[[RpcError | None], None]
    ) -> None:
        """There is no other leader."""
        then(NO_LEADER)
