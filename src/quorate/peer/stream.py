"""The two endless streams between a pair of members, in both directions.

Whoever wants to receive dials: its `StreamReader` sends GET /raft/stream/<kind>/<own id>, and the other member's
`StreamWriter` puts messages into the body of the response, which never ends. So a pair of members has four connections.
A reader that loses its stream dials again, at most every 100 ms, another of the peer's URLs each time. A writer has a
stream or has none; a new one replaces the old.

Signs of life: a writer sends a link heartbeat three times in a reader's timeout, a reader gives up after a read timeout
(5 s unless `Identity` says otherwise) of silence, a writer after a write timeout
in which its socket has taken nothing. What the socket does not take is queued up to MAX_QUEUED_BYTES; beyond that
messages are dropped, and raft hears of it.
Source: etcd server/etcdserver/api/rafthttp/stream.go.
"""

from __future__ import annotations

from typing import Final

from quorate.membership.version import Version
from quorate.peer.codec import (
    LINK_HEARTBEAT,
    MESSAGE_HEARTBEAT,
    AppDecoder,
    AppEncoder,
    EntryRun,
    MessageDecoder,
    frame,
)
from quorate.peer.exchange import Dialer, Exchange, Field, Reply, request_head
from quorate.peer.owner import Owner
from quorate.peer.versions import RAFT_TO, VERSION, Identity, compatible, version_of
from quorate.ports import Loop, Timer
from quorate.raft.codec import encode_message
from quorate.raft.types import Message
from quorate.wire.web import HttpReply

MSGAPP: Final = 0
MESSAGE: Final = 1
PATHS: Final = ("/raft/stream/msgapp", "/raft/stream/message")
KINDS: Final = ("stream MsgApp v2", "stream Message")

REDIAL_NS: Final = 100_000_000
MAX_QUEUED_BYTES: Final = 64 << 20

_UNSAID: Final = Version(2, 0)


class StreamReader:
    """Keeps one stream from a peer open."""

    def __init__(self, loop: Loop, dialer: Dialer, identity: Identity, remote_id: int, kind: int, owner: Owner) -> None:
        self._loop = loop
        self._dialer = dialer
        self._identity = identity
        self._remote_id = remote_id
        self._kind = kind
        self._owner = owner
        self._stream: _Incoming | None = None
        self._timer: Timer | None = None
        self._stopped = False

    def start(self) -> None:
        """Dial."""
        self._timer = None
        if self._stopped:
            return
        url = self._owner.url()
        own = f"{self._identity.member_id:x}"
        headers = [*self._identity.headers, (RAFT_TO, f"{self._remote_id:x}".encode())]
        head = request_head(b"GET", f"{PATHS[self._kind]}/{own}", url.partition("://")[2], headers, 0)
        stream = _Incoming(self, url)
        stream.exchange = Exchange(self._loop.monotonic_ns, head, b"", None, stream, self._identity.read_timeout_ns)
        self._stream = stream
        self._dialer.dial(url, stream.exchange)

    def stop(self) -> None:
        """Close, for good."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        stream = self._stream
        self._stream = None
        if stream is not None:
            stream.cancel()

    def answered(self, status: int, headers: list[Field]) -> str:
        """See what the peer says to our request; "" when the stream stands, else why not."""
        if status == 410:
            self._owner.removed()
            return "removed member"
        if status == 412:
            return "incompatible version or cluster ID mismatch"
        if status == 404:
            return "peer does not know this member yet"
        if status != 200:
            return f"unhandled http status {status}"
        version = version_of(headers, VERSION)
        if version is None or version == _UNSAID or not compatible(version, _UNSAID):
            return "unsupported stream type"
        self._owner.reader_up(self._kind, version)
        return ""

    def decoder(self) -> AppDecoder | None:
        """Return a new decoder for a msgapp stream, None when this is the other kind."""
        return AppDecoder(self._identity.member_id, self._remote_id) if self._kind == MSGAPP else None

    def take(self, messages: list[Message], size: int) -> None:
        """Hand messages over."""
        self._owner.received(messages, size)

    def lost(self, url: str, reason: str) -> None:
        """Dial again in a moment."""
        self._stream = None
        if self._stopped:
            return
        self._owner.reader_down(self._kind, url, reason)
        if not self._stopped and self._timer is None:
            self._timer = self._loop.later(REDIAL_NS, self.start)


class _Incoming(Reply):
    """One stream of a reader."""

    def __init__(self, reader: StreamReader, url: str) -> None:
        self.exchange: Exchange | None = None
        self._reader = reader
        self._url = url
        self._apps: AppDecoder | None = None
        self._messages: MessageDecoder | None = None

    def on_head(self, status: int, headers: list[Field]) -> None:
        """See whether the stream stands."""
        refusal = self._reader.answered(status, headers)
        if refusal:
            self._break(refusal)
            return
        self._apps = self._reader.decoder()
        if self._apps is None:
            self._messages = MessageDecoder()

    def on_body(self, data: bytes) -> None:
        """Take messages."""
        try:
            if self._apps is not None:
                messages = self._apps.feed(data)
            elif self._messages is not None:
                messages = self._messages.feed(data)
            else:
                return
        except ValueError as error:
            self._break(str(error))
            return
        if messages:
            self._reader.take(messages, len(data))

    def on_end(self, error: str) -> None:
        """The stream is gone."""
        self._reader.lost(self._url, error or "EOF")

    def cancel(self) -> None:
        """Close."""
        if self.exchange is not None:
            self.exchange.cancel()

    def _break(self, reason: str) -> None:
        self.cancel()
        self._reader.lost(self._url, reason)


class StreamWriter:
    """Writes to whatever stream the peer has opened last."""

    def __init__(self, loop: Loop, identity: Identity, kind: int, owner: Owner, runs: EntryRun) -> None:
        self._loop = loop
        self._limit_ns = identity.write_timeout_ns
        self._heartbeat_ns = identity.read_timeout_ns // 3
        self._kind = kind
        self._owner = owner
        self._runs = runs
        self._encoder = AppEncoder(runs)
        self._reply: HttpReply | None = None
        self._parts: list[bytes] = []
        self._stuck_ns = 0  # since when the socket has taken nothing
        self._beat_ns = 0  # when the last link heartbeat was sent

    @property
    def attached(self) -> bool:
        """Tell whether there is a stream."""
        return self._reply is not None

    def attach(self, reply: HttpReply) -> None:
        """Write here from now on; `reply` has been started."""
        self.close()
        self._reply = reply
        self._encoder = AppEncoder(self._runs)
        self._stuck_ns = 0
        reply.on_end = _Detach(self, reply).ended
        self.beat()

    def full(self) -> bool:
        """Tell whether so much is queued that a message must be dropped."""
        reply = self._reply
        return reply is not None and reply.queued_bytes() > MAX_QUEUED_BYTES

    def add(self, message: Message) -> None:
        """Add a message to the next `flush`."""
        if self._kind == MSGAPP:
            self._parts.append(self._encoder.encode(message))
        else:
            self._parts.append(frame(encode_message(message)))

    def flush(self) -> int:
        """Queue what was added on the stream, and return how many bytes that is."""
        if not self._parts:
            return 0
        data = b"".join(self._parts)
        self._parts = []
        if self._reply is not None:
            self._reply.write(data)
        return len(data)

    def beat(self) -> None:
        """Send a link heartbeat."""
        if self._reply is not None:
            self._beat_ns = self._loop.monotonic_ns()
            self._reply.write(LINK_HEARTBEAT if self._kind == MSGAPP else MESSAGE_HEARTBEAT)

    def tick(self, now_ns: int) -> None:
        """Send a link heartbeat when it is due; give up a stream that takes nothing. Called often."""
        reply = self._reply
        if reply is None:
            return
        if reply.queued_bytes() == 0:
            self._stuck_ns = 0
        elif self._stuck_ns == 0:
            self._stuck_ns = now_ns
        elif now_ns - self._stuck_ns > self._limit_ns:
            self._reply = None
            reply.abort()
            self._owner.writer_down(self._kind, "i/o timeout")
            return
        if now_ns - self._beat_ns >= self._heartbeat_ns:
            self.beat()

    def ended(self, reply: HttpReply) -> None:
        """The peer has closed a stream."""
        if self._reply is reply:
            self._reply = None
            self._parts = []
            self._owner.writer_down(self._kind, "EOF")

    def close(self) -> None:
        """Close the stream if there is one."""
        reply = self._reply
        self._reply = None
        self._parts = []
        if reply is not None:
            reply.end()


class _Detach:
    """Tells a writer which of its streams has ended."""

    def __init__(self, writer: StreamWriter, reply: HttpReply) -> None:
        self._writer = writer
        self._reply = reply

    def ended(self) -> None:
        """The stream has ended."""
        self._writer.ended(self._reply)
