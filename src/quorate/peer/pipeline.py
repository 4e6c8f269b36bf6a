"""Single messages by POST /raft: while no stream stands, and to members that are not peers yet.

At most WORKERS requests are under way at a time; QUEUE messages wait, more are dropped. A status other than 204, or no
answer, is reported as unreachable; 403 means that this member was removed, or has a new identity.
Source: etcd server/etcdserver/api/rafthttp/pipeline.go.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from quorate.peer.exchange import Dialer, Exchange, Field, WholeReply, request_head
from quorate.peer.owner import Owner
from quorate.peer.versions import Identity
from quorate.ports import Loop

WORKERS: Final = 4
QUEUE: Final = 64
LIMIT_NS: Final = 5_000_000_000


class Pipeline:
    """POSTs messages to one member."""

    def __init__(self, loop: Loop, dialer: Dialer, identity: Identity, owner: Owner) -> None:
        self._loop = loop
        self._dialer = dialer
        self._identity = identity
        self._owner = owner
        self._queue: deque[bytes] = deque()
        self._under_way: dict[Exchange, None] = {}
        self._stopped = False

    def post(self, message: bytes) -> bool:
        """Send an encoded message; False when there is no room for it."""
        if self._stopped or len(self._queue) >= QUEUE:
            return False
        self._queue.append(message)
        self._next()
        return True

    def _next(self) -> None:
        while self._queue and len(self._under_way) < WORKERS:
            body = self._queue.popleft()
            url = self._owner.url()
            headers: list[Field] = [(b"Content-Type", b"application/protobuf"), *self._identity.headers]
            head = request_head(b"POST", "/raft", url.partition("://")[2], headers, len(body))
            post = _Post(self, url, len(body))
            reply = WholeReply(1 << 16, post.ended)
            exchange = Exchange(self._loop.monotonic_ns, head, body, None, reply, LIMIT_NS)
            post.exchange = exchange
            self._under_way[exchange] = None
            self._dialer.dial(url, exchange)

    def ended(self, exchange: Exchange | None, url: str, size: int, status: int, error: str) -> None:
        """The outcome of one POST."""
        if exchange is not None:
            self._under_way.pop(exchange, None)
        if self._stopped:
            return
        if status == 204:
            self._owner.posted(url, size)
        elif status == 403:
            self._owner.removed()
        else:
            self._owner.post_failed(url, error or f"unexpected http status {status}")
        self._next()

    def stop(self) -> None:
        """Break everything off."""
        self._stopped = True
        self._queue.clear()
        for exchange in list(self._under_way):
            exchange.cancel()
        self._under_way = {}


class _Post:
    """One POST."""

    def __init__(self, pipeline: Pipeline, url: str, size: int) -> None:
        self.exchange: Exchange | None = None
        self._pipeline = pipeline
        self._url = url
        self._size = size

    def ended(self, status: int, _headers: list[Field], _body: bytes, error: str) -> None:
        """It is over."""
        self._pipeline.ended(self.exchange, self._url, self._size, status, error)
