"""One other member: its streams, its pipeline, and what we know of its health.

Which way a message takes: MsgApp on the msgapp stream, everything else on the message stream; without that stream on
the other one's terms: MsgApp on the message stream, and anything by POST. A message for which there is no room is
dropped, and raft hears that the member is unreachable.

A member is active from the first success (a stream stands, a POST was answered) to the next failure. A `remote` is a
member that we only answer: somebody new, who talks to us before its own entry has reached us. It has no streams.
Source: etcd server/etcdserver/api/rafthttp/{peer,remote,peer_status,urlpick}.go.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

from quorate.measure import Histogram
from quorate.membership.member import hex_id
from quorate.membership.version import Version
from quorate.peer.codec import EntryRun
from quorate.peer.exchange import Dialer
from quorate.peer.owner import Owner
from quorate.peer.pipeline import Pipeline
from quorate.peer.stream import KINDS, MESSAGE, MSGAPP, StreamReader, StreamWriter
from quorate.peer.versions import Identity
from quorate.ports import Log, Loop
from quorate.raft.codec import encode_message
from quorate.raft.types import MSG_APP, Message
from quorate.wire.web import HttpReply

RTT_SECONDS: Final = tuple([0.0001 * 2**step for step in range(16)])

_CALLER: Final = "rafthttp/peer.go"
_STATUS: Final = "rafthttp/peer_status.go"


class PeerStats:
    """Counts for the metrics; they outlive a peer that is removed and added again."""

    def __init__(self) -> None:
        self.sent_bytes = 0
        self.received_bytes = 0
        self.sent_failures = 0
        self.received_failures = 0
        self.disconnected = 0
        self.rtt_seconds = Histogram(RTT_SECONDS)


@mypyc_attr(allow_interpreted_subclasses=True)
class PeerOwner:
    """The network that peers belong to."""

    def received(self, peer_id: int, messages: list[Message]) -> None:
        """Take messages from a peer."""
        raise NotImplementedError

    def unreachable(self, peer_id: int) -> None:
        """Messages to a peer were probably lost."""
        raise NotImplementedError

    def removed(self) -> None:
        """A peer says that we are not in the cluster any more."""
        raise NotImplementedError


class Peer(Owner):
    """One other member."""

    def __init__(
        self,
        loop: Loop,
        log: Log,
        dialer: Dialer,
        identity: Identity,
        member_id: int,
        urls: list[str],
        runs: EntryRun,
        stats: PeerStats,
        owner: PeerOwner,
        remote: bool,
    ) -> None:
        self.id = member_id
        self.urls = list(urls)
        self.remote = remote
        self.stats = stats
        self.version: Version | None = None  # as it last said, on a stream
        self.active_since_ns = 0
        self._loop = loop
        self._log = log
        self._identity = identity
        self._owner = owner
        self._picked = 0
        self._stopped = False
        self._failure = ""  # the last one that was logged
        self._dirty = False
        self.pipeline = Pipeline(loop, dialer, identity, self)
        self.apps = StreamWriter(loop, identity, MSGAPP, self, runs)
        self.messages = StreamWriter(loop, identity, MESSAGE, self, runs)
        self._readers: list[StreamReader] = []
        if not remote:
            self._readers = [StreamReader(loop, dialer, identity, member_id, kind, self) for kind in (MSGAPP, MESSAGE)]

    def start(self) -> None:
        """Begin to dial."""
        for reader in self._readers:
            reader.start()

    def stop(self) -> None:
        """Close everything, for good."""
        self._stopped = True
        for reader in self._readers:
            reader.stop()
        self.pipeline.stop()
        self.apps.close()
        self.messages.close()
        self.active_since_ns = 0

    def update(self, urls: list[str]) -> None:
        """Take other URLs; what stands goes on."""
        self.urls = list(urls)
        self._picked = 0

    # -- Out

    def send(self, message: Message) -> None:
        """Add a message to the next `flush`, or drop it and report that."""
        if message.type == MSG_APP and self.apps.attached:
            writer = self.apps
        elif self.messages.attached:
            writer = self.messages
        else:
            if not self.pipeline.post(encode_message(message)):
                self._drop()
            return
        if writer.full():
            self._drop()
        else:
            writer.add(message)

    def flush(self) -> None:
        """Queue what was added on the streams."""
        self.stats.sent_bytes += self.apps.flush() + self.messages.flush()

    def _drop(self) -> None:
        self.stats.sent_failures += 1
        self._owner.unreachable(self.id)

    def attach(self, kind: int, reply: HttpReply) -> None:
        """The peer has opened a stream."""
        writer = self.apps if kind == MSGAPP else self.messages
        text = "established TCP streaming connection with remote peer"
        fields = {"stream-writer-type": KINDS[kind], **self._ids()}
        writer.attach(reply)
        self._log.info("rafthttp/stream.go", text, **fields)
        self._activate()

    def tick(self, now_ns: int) -> None:
        """Keep the streams alive."""
        self.apps.tick(now_ns)
        self.messages.tick(now_ns)

    # -- What streams and pipeline tell

    def url(self) -> str:
        """Return the URL to dial."""
        return self.urls[self._picked % len(self.urls)] if self.urls else ""

    def _other_url(self, url: str) -> None:
        if url == self.url():
            self._picked += 1

    def received(self, messages: list[Message], size: int) -> None:
        """Hand messages on."""
        self.stats.received_bytes += size
        self._owner.received(self.id, messages)

    def reader_up(self, kind: int, version: Version) -> None:
        """A stream from the peer stands."""
        self.version = version
        fields: dict[str, object] = {"stream-reader-type": KINDS[kind], **self._ids()}
        self._log.info("rafthttp/stream.go", "established TCP streaming connection with remote peer", **fields)
        self._activate()

    def reader_down(self, kind: int, url: str, reason: str) -> None:
        """A stream from the peer is gone or could not be had."""
        self._other_url(url)
        if self.active_since_ns:
            self.stats.received_failures += 1
            fields: dict[str, object] = {"stream-reader-type": KINDS[kind], **self._ids(), "error": reason}
            self._log.warn("rafthttp/stream.go", "lost TCP streaming connection with remote peer", **fields)
        self._deactivate(reason)

    def writer_down(self, kind: int, reason: str) -> None:
        """A stream to the peer is gone."""
        if self._stopped:
            return
        self.stats.sent_failures += 1
        fields: dict[str, object] = {"stream-writer-type": KINDS[kind], **self._ids(), "error": reason}
        self._log.warn("rafthttp/stream.go", "lost TCP streaming connection with remote peer", **fields)
        self._deactivate(reason)
        self._owner.unreachable(self.id)

    def posted(self, url: str, size: int) -> None:  # noqa: ARG002
        """A POST was answered."""
        self.stats.sent_bytes += size
        self._activate()

    def post_failed(self, url: str, reason: str) -> None:
        """A POST was not answered as it should be."""
        self._other_url(url)
        self.stats.sent_failures += 1
        self._deactivate(reason)
        self._owner.unreachable(self.id)

    def removed(self) -> None:
        """The peer says that we are not in the cluster any more."""
        self._owner.removed()

    # -- Health

    def _activate(self) -> None:
        if self.active_since_ns == 0 and not self._stopped:
            self.active_since_ns = self._loop.monotonic_ns()
            self._failure = ""
            self._log.info(_STATUS, "peer became active", **{"peer-id": hex_id(self.id)})

    def _deactivate(self, reason: str) -> None:
        if self.active_since_ns:
            self.active_since_ns = 0
            self.stats.disconnected += 1
            fields = {"peer-id": hex_id(self.id), "error": reason}
            self._log.warn(_STATUS, "peer became inactive (message send to peer failed)", **fields)
        elif self._failure != reason:
            fields = {"peer-id": hex_id(self.id), "error": reason}
            self._log.debug(_STATUS, "peer deactivated again", **fields)
        self._failure = reason

    def _ids(self) -> dict[str, object]:
        return {"local-member-id": hex_id(self._identity.member_id), "remote-peer-id": hex_id(self.id)}
