"""Sending a snapshot: POST /raft/snapshot with the message and, behind it, the database as of the message's index.

    | u64 length | Message of type MsgSnap | bytes of a db file up to the end of the body (chunked) |

The database comes from a pinned view, piece by piece as the socket takes it, so that writes go on and memory stays
small. 204 says that the other member has the file and has stepped the message.
Source: etcd server/etcdserver/api/rafthttp/snapshot_sender.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from quorate.peer.codec import frame
from quorate.peer.exchange import Dialer, Exchange, Field, Source, WholeReply, request_head
from quorate.peer.versions import Identity
from quorate.ports import Loop
from quorate.raft.codec import encode_message
from quorate.raft.types import Message
from quorate.storage.view import ReadView

PIECE_BYTES: Final = 256 << 10
SILENCE_NS: Final = 30_000_000_000
"""How long nothing may move: the receiver answers only after its fsync, which may take long for a large file."""

REMOVED: Final = "the member has been permanently removed from the cluster"


class _Body(Source):
    """The message, then the view's bytes."""

    def __init__(self, message: bytes, view: ReadView) -> None:
        self.sent_bytes = 0
        self._head = frame(message)
        self._view = view
        self._chunks: Iterator[bytes] = view.chunks(PIECE_BYTES)

    def next_piece(self) -> bytes:
        """Return more."""
        if self._head:
            piece = self._head
            self._head = b""
        else:
            piece = next(self._chunks, b"")
        self.sent_bytes += len(piece)
        return piece

    def close(self) -> None:
        """Let go of the view."""
        self._view.close()


class SnapshotSend:
    """One snapshot on its way. `then(error, bytes, seconds)` is called once."""

    def __init__(
        self, loop: Loop, message: Message, view: ReadView, then: Callable[[SnapshotSend, str, int, float], None]
    ) -> None:
        self.to = message.to
        self.url = ""
        self._loop = loop
        self._then = then
        self._body = _Body(encode_message(message), view)
        self._began_ns = loop.monotonic_ns()
        self._exchange: Exchange | None = None

    def start(self, dialer: Dialer, url: str, identity: Identity) -> None:
        """Dial and send."""
        self.url = url
        headers: list[Field] = [(b"Content-Type", b"application/octet-stream"), *identity.headers]
        head = request_head(b"POST", "/raft/snapshot", url.partition("://")[2], headers, -1)
        reply = WholeReply(1 << 16, self._ended)
        self._exchange = Exchange(self._loop.monotonic_ns, head, b"", self._body, reply, SILENCE_NS)
        dialer.dial(url, self._exchange)

    def cancel(self) -> None:
        """Break off; `then` is not called."""
        if self._exchange is not None:
            self._exchange.cancel()

    def _ended(self, status: int, _headers: list[Field], body: bytes, error: str) -> None:
        if not error and status == 403:
            error = REMOVED
        elif not error and status != 204:
            error = f"unexpected http status {status}: {body.decode('utf-8', 'replace').strip()[:200]}"
        seconds = (self._loop.monotonic_ns() - self._began_ns) / 1e9
        self._then(self, error, self._body.sent_bytes, seconds)
