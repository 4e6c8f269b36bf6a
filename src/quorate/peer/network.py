"""All other members: the server's `Transport` over rafthttp.

    server --send--> peers --streams, POST--> other members
    other members --streams, POST--> peers, handler --step--> server

Contract: nothing here blocks, and nothing promises that a message arrives; what surely does not is reported to raft.
Of a batch of messages only the MsgAppResp that accepts most leaves, as it says all that the others say. A MsgSnap waits
for a view of the database (server.snapshots) and goes its own way.

Messages that come are checked for what raft cannot know: that the sender was not removed and that we are meant.
Source: etcd server/etcdserver/api/rafthttp/transport.go, server/etcdserver/raft.go (processMessages).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.errors import NO_LEADER, STOPPED, RpcError
from quorate.lease.lessor import Lease
from quorate.measure import Histogram
from quorate.membership.member import hex_id
from quorate.membership.version import Version
from quorate.peer.codec import EntryRun
from quorate.peer.exchange import Dialer, Exchange, Field, WholeReply, request_head
from quorate.peer.forward import Forward, HashQuestion
from quorate.peer.peer import Peer, PeerOwner, PeerStats
from quorate.peer.snapsend import REMOVED, SnapshotSend
from quorate.peer.versions import Identity
from quorate.ports import Log, Loop, Timer
from quorate.raft.types import MSG_APP_RESP, MSG_SNAP, Message, Snapshot
from quorate.server.core import Server
from quorate.server.peerhash import PeerHash
from quorate.server.transport import Transport
from quorate.storage.view import ReadView

REMOTES_MAX: Final = 32
TICK_NS: Final = 500_000_000
PROBE_NS: Final = 4_000_000_000
PROBE_LIMIT_NS: Final = 3_000_000_000
RENEW_LIMIT_NS: Final = 5_000_000_000
RENEW_RETRY_NS: Final = 50_000_000
TRANSFER_SECONDS: Final = tuple([0.1 * 2**step for step in range(10)])

_CALLER: Final = "rafthttp/transport.go"


class TransferStats:
    """Counts of snapshots to or from one member."""

    def __init__(self) -> None:
        self.success = 0
        self.failures = 0
        self.inflights = 0
        self.seconds = Histogram(TRANSFER_SECONDS)


class Network(Transport):
    """The network of one member. `start` it with the server; `peers` and the counts are read-only for others."""

    def __init__(self, loop: Loop, log: Log, dialer: Dialer, identity: Identity) -> None:
        self.identity = identity
        self.peers: dict[int, Peer] = {}
        self.stats: dict[int, PeerStats] = {}
        self.snapshots_sent: dict[int, TransferStats] = {}
        self.snapshots_received: dict[int, TransferStats] = {}
        self.server: Server | None = None
        self.on_removed: Callable[[], None] | None = None  # the others say that we are not a member any more
        self.flush_sockets: Callable[[], None] | None = None  # writes what the peer port's connections have queued
        self._loop = loop
        self._log = log
        self._dialer = dialer
        self._runs = EntryRun()
        self._sends: dict[SnapshotSend, None] = {}
        self._timer: Timer | None = None
        self._probe_ns = 0
        self._stopped = False

    # -- Life

    def start(self, server: Server) -> None:
        """Begin to talk to the members that were added, for this server."""
        self.server = server
        for peer in list(self.peers.values()):
            peer.start()
        self._timer = self._loop.later(TICK_NS, self._tick)

    def stop(self) -> None:
        """Close everything."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for send in list(self._sends):
            send.cancel()
        for peer in list(self.peers.values()):
            peer.stop()
        self.peers = {}

    def _tick(self) -> None:
        if self._stopped:
            return
        self._timer = self._loop.later(TICK_NS, self._tick)
        now_ns = self._loop.monotonic_ns()
        for peer in list(self.peers.values()):
            peer.tick(now_ns)
        if now_ns - self._probe_ns >= PROBE_NS:
            self._probe_ns = now_ns
            for peer in list(self.peers.values()):
                self._probe(peer)

    def _probe(self, peer: Peer) -> None:
        """Measure the time of a round trip; it has no effect but on the metrics."""
        if peer.remote or not peer.urls:
            return
        url = peer.url()
        head = request_head(b"GET", "/raft/probing", url.partition("://")[2], [], 0)
        reply = WholeReply(1 << 16, _Probe(peer.stats, self._loop).ended)
        self._dialer.dial(url, Exchange(self._loop.monotonic_ns, head, b"", None, reply, PROBE_LIMIT_NS))

    # -- Members

    def add_peer(self, member_id: int, urls: list[str]) -> None:
        """Begin to talk to a member."""
        known = self.peers.get(member_id)
        if self._stopped or (known is not None and not known.remote):
            return
        if known is not None:
            known.stop()
        self._add(member_id, urls, False)
        fields = {"local-member-id": hex_id(self.identity.member_id), "remote-peer-id": hex_id(member_id)}
        self._log.info(_CALLER, "added remote peer", **fields, **{"remote-peer-urls": list(urls)})

    def add_remote(self, member_id: int, urls: list[str]) -> None:
        """Be able to answer a member that we do not know yet. Anybody may claim to be one: only the last few count."""
        if not self._stopped and member_id not in self.peers and member_id != self.identity.member_id and urls:
            remotes = [known for known, peer in self.peers.items() if peer.remote]
            if len(remotes) >= REMOTES_MAX:
                self.peers.pop(remotes[0]).stop()
                self.stats.pop(remotes[0], None)
            self._add(member_id, urls, True)

    def _add(self, member_id: int, urls: list[str], remote: bool) -> None:
        stats = self.stats.setdefault(member_id, PeerStats())
        peer = Peer(
            self._loop,
            self._log,
            self._dialer,
            self.identity,
            member_id,
            urls,
            self._runs,
            stats,
            _Events(self),
            remote,
        )
        self.peers[member_id] = peer
        if self.server is not None:
            peer.start()

    def update_peer(self, member_id: int, urls: list[str]) -> None:
        """A member has other URLs."""
        peer = self.peers.get(member_id)
        if peer is not None:
            peer.update(urls)

    def remove_peer(self, member_id: int) -> None:
        """Stop talking to a member."""
        peer = self.peers.pop(member_id, None)
        if peer is not None:
            # The member should still hear that it is removed: what is queued leaves at the end of this turn.
            peer.stop()
            fields = {"local-member-id": hex_id(self.identity.member_id), "removed-remote-peer-id": hex_id(member_id)}
            self._log.info(_CALLER, "removed remote peer", **fields)

    def reset_peers(self, members: dict[int, list[str]]) -> None:
        """Talk to exactly these members: after a snapshot replaced the membership."""
        for member_id in list(self.peers):
            if member_id not in members:
                self.remove_peer(member_id)
        for member_id, urls in members.items():
            if member_id == self.identity.member_id:
                continue
            self.add_peer(member_id, urls)
            self.update_peer(member_id, urls)

    def active_since_ns(self, member_id: int) -> int:
        """Return since when we are in touch with a member, 0 when we are not."""
        peer = self.peers.get(member_id)
        return 0 if peer is None else peer.active_since_ns

    def active_peers(self) -> int:
        """Return how many members we are in touch with."""
        return sum(1 for peer in self.peers.values() if not peer.remote and peer.active_since_ns != 0)

    def server_version(self, member_id: int) -> Version | None:
        """Return a member's version, None while we are not in touch with it."""
        peer = self.peers.get(member_id)
        return None if peer is None or peer.active_since_ns == 0 else peer.version

    # -- Out

    def send(self, messages: list[Message]) -> None:
        """Send raft messages."""
        peers = self.peers
        responses = _needed_responses(messages)
        used: list[Peer] = []
        for message in messages:
            kind = message.type
            peer = peers.get(message.to)
            if peer is None:
                if kind == MSG_SNAP:
                    self._snapshot_done(message.to, False)
                continue
            if kind == MSG_APP_RESP and message not in responses:
                continue
            if kind == MSG_SNAP:
                self._send_snapshot(message)
                continue
            peer.send(message)
            if peer not in used:
                used.append(peer)
        for peer in used:
            peer.flush()

    def flush(self) -> None:
        """Put what was sent on the wire now."""
        if self.flush_sockets is not None:
            self.flush_sockets()

    def _send_snapshot(self, message: Message) -> None:
        if self.server is None:
            return
        self.snapshots_sent.setdefault(message.to, TransferStats()).inflights += 1
        self.server.make_snapshot(_Made(self, message).made)

    def snapshot_made(self, message: Message, snapshot: Snapshot, view: ReadView) -> None:
        """The view that belongs to a snapshot message is there: send both."""
        peer = self.peers.get(message.to)
        if peer is None or self._stopped:
            view.close()
            self._count_sent(message.to, False, 0.0)
            self._snapshot_done(message.to, False)
            return
        sent = Message(MSG_SNAP, message.to, message.frm, message.term, snapshot=snapshot)
        fields: dict[str, object] = {"snapshot-index": snapshot.index, "remote-peer-id": hex_id(message.to)}
        self._log.info("rafthttp/snapshot_sender.go", "sending database snapshot", **fields, bytes=view.size)
        send = SnapshotSend(self._loop, sent, view, self._snapshot_ended)
        self._sends[send] = None
        send.start(self._dialer, peer.url(), self.identity)

    def _snapshot_ended(self, send: SnapshotSend, error: str, size: int, seconds: float) -> None:
        self._sends.pop(send, None)
        if self._stopped:
            return
        self._count_sent(send.to, not error, seconds)
        fields: dict[str, object] = {"remote-peer-id": hex_id(send.to), "bytes": size, "took": f"{seconds:.6f}s"}
        if error:
            self._log.warn("rafthttp/snapshot_sender.go", "failed to send database snapshot", error=error, **fields)
            peer = self.peers.get(send.to)
            if peer is not None:
                peer.post_failed(send.url, error)
            if error == REMOVED:
                self.removed()
        else:
            self._log.info("rafthttp/snapshot_sender.go", "sent database snapshot", **fields)
            peer = self.peers.get(send.to)
            if peer is not None:
                peer.posted(send.url, size)
        self._snapshot_done(send.to, not error)

    def _count_sent(self, member_id: int, ok: bool, seconds: float) -> None:
        if self.server is not None:
            self.server.snapshot_released(ok)
        stats = self.snapshots_sent.setdefault(member_id, TransferStats())
        stats.inflights -= 1
        if ok:
            stats.success += 1
            stats.seconds.observe(seconds)
        else:
            stats.failures += 1

    def _snapshot_done(self, member_id: int, ok: bool) -> None:
        if self.server is not None:
            self.server.report_snapshot(member_id, ok)

    # -- In

    def refusal(self, message: Message) -> str:
        """Return why a message must not reach raft, "" when it may."""
        server = self.server
        if server is None:
            return "the member has not started"
        if message.frm in server.cluster.removed:
            return "cannot process message from removed member"
        if message.to != self.identity.member_id:
            return "cannot process message to mismatch member"
        return ""

    def received(self, peer_id: int, messages: list[Message]) -> None:
        """Take messages from a stream."""
        server = self.server
        if server is None:
            return
        for message in messages:
            refusal = self.refusal(message)
            if refusal:
                fields = {"remote-peer-id": hex_id(peer_id), "error": refusal}
                self._log.warn("rafthttp/peer.go", "failed to process Raft message", **fields)
            else:
                server.step(message)

    def unreachable(self, peer_id: int) -> None:
        """Tell raft, after the present call: it may be raft's own send that has failed."""
        self._loop.soon(_Unreachable(self, peer_id).tell)

    def tell_unreachable(self, peer_id: int) -> None:
        """Tell raft now."""
        if self.server is not None and not self._stopped:
            self.server.report_unreachable(peer_id)

    def removed(self) -> None:
        """We are not in the cluster any more."""
        call = self.on_removed
        self.on_removed = None
        if call is not None:
            call()

    # -- Requests to the leader

    def _forward(self) -> Forward:
        return Forward(self._loop, self._dialer)

    def _leader_url(self, leader_id: int) -> str:
        peer = self.peers.get(leader_id)
        return "" if peer is None else peer.url()

    def renew_lease(self, leader_id: int, lease_id: int, then: Callable[[int, RpcError | None], None]) -> None:
        """Ask the leader to renew a lease; whoever leads by then is asked again until it answers."""
        _Renewal(self, lease_id, then, self._loop.monotonic_ns() + RENEW_LIMIT_NS).ask(leader_id)

    def ask_renewal(self, leader_id: int, lease_id: int, then: Callable[[int, RpcError | None], None]) -> None:
        """Ask once."""
        url = self._leader_url(leader_id)
        if url:
            self._forward().renew_lease(url, lease_id, then)
        else:
            then(0, NO_LEADER)

    def renew_again(self, renewal: _Renewal) -> bool:
        """Ask again in a moment; False when it is too late for that."""
        if self._stopped or self._loop.monotonic_ns() >= renewal.deadline_ns:
            return False
        self._loop.later(RENEW_RETRY_NS, renewal.again)
        return True

    def lease_time_to_live(
        self, leader_id: int, lease_id: int, then: Callable[[Lease | None, int, RpcError | None], None]
    ) -> None:
        """Ask the leader about a lease."""
        url = self._leader_url(leader_id)
        if url:
            self._forward().lease_time_to_live(url, lease_id, then)
        else:
            then(None, 0, NO_LEADER)

    def promote_member(
        self, leader_id: int, member_id: int, token: bytes, then: Callable[[RpcError | None], None]
    ) -> None:
        """Ask the leader to promote a learner."""
        url = self._leader_url(leader_id)
        if url:
            self._forward().promote_member(url, member_id, token, then)
        else:
            then(NO_LEADER)

    # -- Requests to any member

    def hash_kv(self, member_id: int, rev: int, limit_ns: int, then: Callable[[PeerHash], None]) -> None:
        """Ask a member for its hash of a revision."""
        peer = self.peers.get(member_id)
        urls = [] if peer is None else peer.urls
        HashQuestion(self._loop, self._dialer, self.identity.cluster_text, member_id, rev, limit_ns, then).ask(urls)


def _needed_responses(messages: list[Message]) -> list[Message]:
    """Return the MsgAppResp that must be sent: to each member the one that accepts most, and the last that rejects."""
    accepts: dict[int, Message] = {}
    rejects: dict[int, Message] = {}
    for message in messages:
        if message.type != MSG_APP_RESP:
            continue
        if message.reject:
            rejects[message.to] = message
            continue
        known = accepts.get(message.to)
        if known is None or known.index <= message.index or known.term != message.term:
            accepts[message.to] = message
    return list(accepts.values()) + list(rejects.values())


class _Made:
    """A snapshot message that waits for its view."""

    def __init__(self, network: Network, message: Message) -> None:
        self._network = network
        self._message = message

    def made(self, snapshot: Snapshot, view: ReadView) -> None:
        """Go on."""
        self._network.snapshot_made(self._message, snapshot, view)


class _Events(PeerOwner):
    """Passes on what peers tell; a native class has one base only."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def received(self, peer_id: int, messages: list[Message]) -> None:
        """Take messages from a peer."""
        self._network.received(peer_id, messages)

    def unreachable(self, peer_id: int) -> None:
        """Messages to a peer were probably lost."""
        self._network.unreachable(peer_id)

    def removed(self) -> None:
        """A peer says that we are not in the cluster any more."""
        self._network.removed()


class _Renewal:
    """The renewal of a lease by the leader, whoever that is."""

    def __init__(
        self, network: Network, lease_id: int, then: Callable[[int, RpcError | None], None], deadline_ns: int
    ) -> None:
        self.deadline_ns = deadline_ns
        self._network = network
        self._lease_id = lease_id
        self._then = then

    def ask(self, leader_id: int) -> None:
        """Ask this member."""
        self._network.ask_renewal(leader_id, self._lease_id, self._ended)

    def again(self) -> None:
        """Ask whoever leads now, perhaps us."""
        server = self._network.server
        if server is None or server.stopping:
            self._then(0, STOPPED)
        elif server.is_leader():
            server.lease_renew(self._lease_id, self._then)
        else:
            self.ask(server.leader)

    def _ended(self, ttl_s: int, error: RpcError | None) -> None:
        if error is None or not self._network.renew_again(self):
            self._then(ttl_s, error)


class _Unreachable:
    """A report that waits for the end of the present call."""

    def __init__(self, network: Network, peer_id: int) -> None:
        self._network = network
        self._peer_id = peer_id

    def tell(self) -> None:
        """Report."""
        self._network.tell_unreachable(self._peer_id)


class _Probe:
    """One round trip."""

    def __init__(self, stats: PeerStats, loop: Loop) -> None:
        self._stats = stats
        self._loop = loop
        self._began_ns = loop.monotonic_ns()

    def ended(self, status: int, _headers: list[Field], _body: bytes, _error: str) -> None:
        """It is over."""
        if status == 200:
            self._stats.rtt_seconds.observe((self._loop.monotonic_ns() - self._began_ns) / 1e9)
