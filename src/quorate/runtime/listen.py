"""Sockets: listeners that tell HTTP/2 from HTTP/1.1 by the first bytes, and a connector for the client's role.

A `Link` carries bytes between one socket and one `Endpoint` of `wire`. A `Hub` keeps the links of a listener: it writes
what they have queued at the end of each turn, one write a link, and calls `tick`.

Backpressure: while the socket takes no more, nothing is taken from the endpoint, whose own queues are bounded; when the
endpoint then has more than `output_high_bytes` waiting, the client is not read either until it reads. (Only servers do
that: two sides that both stop reading would wait for each other for ever.)

A listener takes at most `max_connections`, so that descriptors are left for files and other members. When it is full, a
connection that nothing was asked on makes room, else an idle one; when all are busy, the new one is turned away. (Real
etcd lets new clients wait then, however idle the others are.)

A link that closes first says what it still has to say, then ends its sending side and drops what comes in for a moment:
closing a socket with unread data makes the kernel reset it, and the client would lose our GOAWAY or reply.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
from collections.abc import Callable
from email.utils import formatdate
from typing import Final, cast

from quorate.ports import Log, NullLog
from quorate.runtime.loop import UvLoop
from quorate.runtime.tls.pipe import write_now
from quorate.runtime.tls.serve import TlsGate
from quorate.wire.client import ClientConnection
from quorate.wire.endpoint import BUSY, IDLE, UNUSED, Endpoint
from quorate.wire.frames import PREFACE, SECOND_NS, Limits, TransportStats
from quorate.wire.http1 import Http1Connection
from quorate.wire.rpc import Router
from quorate.wire.server import ServerConnection
from quorate.wire.web import HttpHandler, HttpReply, HttpRequest

FINE_TICK_NS: Final = 10_000_000
LINGER_NS: Final = SECOND_NS
LINGER_BYTES: Final = 16 << 20
WRITE_HIGH_BYTES: Final = 256 << 10
BACKLOG: Final = 1024
LOOKED_AT: Final = 256


class Link(asyncio.Protocol):
    """One socket and its endpoint."""

    def __init__(self, hub: Hub, endpoint: Endpoint | None) -> None:
        self.hub = hub
        self.endpoint = endpoint
        self.transport: asyncio.Transport | None = None
        self.began_ns = hub.loop.monotonic_ns()
        self.dirty = False
        self.write_paused = False
        self.read_paused = False
        self.eof = False
        self.secure = False  # the transport encrypts, and then is eager itself
        self.close_at_ns = 0  # when to stop lingering; 0 = not lingering
        self.dropped_bytes = 0  # while lingering
        if endpoint is not None:
            self.adopt(endpoint)

    def adopt(self, endpoint: Endpoint) -> None:
        """Carry bytes for this endpoint from now on."""
        self.endpoint = endpoint
        endpoint.wants_write = self._wants_write
        endpoint.reading_changed = self._reading_changed
        endpoint.handler_failed = self.hub.handler_failed
        if self.transport is not None:
            self.hub.mark(self)  # an HTTP/2 connection greets at once

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        self.secure = transport.get_extra_info("ssl_object") is not None
        plain = transport.get_extra_info("socket")
        if plain is not None and plain.family != socket.AF_UNIX:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.hub.add(self)
        if self.endpoint is not None:
            self.hub.mark(self)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        endpoint = self.endpoint
        if endpoint is None:
            return
        if self.close_at_ns:
            self.dropped_bytes += len(data)
            if self.dropped_bytes > LINGER_BYTES:
                self.abort()
            return
        try:
            endpoint.receive(data)
        except Exception as error:
            self.hub.broke(self, error)
            return
        if endpoint.deadline_ns:
            self.hub.arm(self)
        if self.write_paused:
            self._update_reading()

    def eof_received(self) -> bool:
        """The peer has ended its sending side. True keeps ours open."""
        self.eof = True
        if self.endpoint is None or self.close_at_ns:
            return False
        self.endpoint.receive_eof()
        return self.transport is not None and self.transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The socket is gone."""
        self.transport = None
        self.hub.remove(self)
        if self.endpoint is not None:
            self.endpoint.lost()

    def pause_writing(self) -> None:
        """The socket takes no more."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """The socket takes more."""
        self.write_paused = False
        self.hub.mark(self)
        self._update_reading()

    # What the endpoint and the hub call

    def _wants_write(self, _: Endpoint) -> None:
        self.hub.mark(self)

    def _reading_changed(self, _: Endpoint) -> None:
        self._update_reading()

    def _update_reading(self) -> None:
        endpoint = self.endpoint
        if endpoint is None or self.transport is None:
            return
        pause = endpoint.reading_paused
        if self.write_paused and not pause:
            pause = isinstance(endpoint, ServerConnection) and endpoint.backlog() > endpoint.limits.output_high_bytes
        if pause != self.read_paused:
            self.read_paused = pause
            if pause:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def flush(self) -> None:
        """Write what the endpoint has queued, and close behind it when it is done."""
        endpoint = self.endpoint
        transport = self.transport
        if endpoint is None or transport is None or self.write_paused or self.close_at_ns:
            return
        data = endpoint.take_output()
        if data and self.hub.eager and not self.secure and transport.get_write_buffer_size() == 0:
            data = write_now(transport, data)
        if data:
            transport.write(data)
        if endpoint.closed and not endpoint.has_output():
            self._finish(transport)

    def _finish(self, transport: asyncio.Transport) -> None:
        if self.eof or not transport.can_write_eof():
            transport.close()
            return
        self.close_at_ns = self.hub.loop.monotonic_ns() + LINGER_NS
        transport.write_eof()
        if self.read_paused:
            self.read_paused = False
            transport.resume_reading()  # to see the peer's end, and to empty what it still sends

    def tick(self, now_ns: int) -> None:
        """Do what is due."""
        endpoint = self.endpoint
        if self.close_at_ns:
            if now_ns >= self.close_at_ns:
                self.abort()
        elif endpoint is not None:
            endpoint.tick(now_ns)
            if endpoint.closed and self.write_paused:
                self.abort()  # it will never take what we have left to say
        elif now_ns - self.began_ns > self.hub.limits.handshake_ns:
            self.abort()

    def drain(self) -> None:
        """Finish what is open and close."""
        if self.endpoint is not None:
            self.endpoint.drain()
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()


class ServerLink(Link):
    """A link whose endpoint is chosen by the client's first bytes."""

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener.hub, None)
        self._listener = listener
        self._first = b""

    def data_received(self, data: bytes) -> None:
        """Bytes have come: find out what they speak, once."""
        if self.endpoint is None:
            data = self._first + data
            if PREFACE.startswith(data) and len(data) < 4:
                self._first = data  # "P" and "PR" could also begin an HTTP/1.1 method
                return
            self._first = b""
            peer = self._peer()
            if data[:4] == PREFACE[:4]:
                conn = self._listener.http2(peer)
                conn.common_name = self._common_name()
                self.adopt(conn)
            elif data[:1].isalpha():
                plain = self._listener.http1(peer)
                plain.common_name = self._common_name()
                self.adopt(plain)
            else:
                self.abort()
                return
        super().data_received(data)

    def _common_name(self) -> str | None:
        if not self.secure or self.transport is None:
            return None
        return cast("str | None", self.transport.get_extra_info("common_name"))

    def _peer(self) -> str:
        name = self.transport.get_extra_info("peername") if self.transport is not None else None
        if isinstance(name, tuple) and len(name) >= 2:
            return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
        return str(name or "")


class Hub:
    """The links of one listener or connector."""

    def __init__(self, loop: UvLoop, limits: Limits, log: Log) -> None:
        self.loop = loop
        self.limits = limits
        self.log = log
        self.stats = TransportStats()
        self.links: dict[Link, None] = {}
        self.emptied: Callable[[], None] | None = None
        self.eager = False
        """Write within `flush` as far as sockets take it. (uvloop gathers writes for the end of its round.)"""

        self._dirty: list[Link] = []
        self._armed: dict[Link, None] = {}
        self._fine: asyncio.TimerHandle | None = None
        self._coarse: asyncio.TimerHandle | None = None

    def add(self, link: Link) -> None:
        """Take care of a link."""
        self.links[link] = None
        self.stats.connections += 1
        if self._coarse is None:
            self._coarse = self.loop.aio.call_later(1.0, self._tick_all)

    def remove(self, link: Link) -> None:
        """Let a link go."""
        if link in self.links:
            del self.links[link]
            self.stats.connections -= 1
        self._armed.pop(link, None)
        if not self.links:
            if self._coarse is not None:
                self._coarse.cancel()
                self._coarse = None
            if self.emptied is not None:
                self.emptied()

    def mark(self, link: Link) -> None:
        """Flush the link at the end of the turn."""
        if not link.dirty:
            link.dirty = True
            if not self._dirty:
                self.loop.at_turn_end(self._flush)
            self._dirty.append(link)

    def flush(self) -> None:
        """Write what the links have queued, before the end of the turn."""
        if self._dirty:
            self._flush()

    def _flush(self) -> None:
        dirty = self._dirty
        self._dirty = []
        for link in dirty:
            link.dirty = False
            try:
                link.flush()
            except Exception as error:
                self.broke(link, error)

    def arm(self, link: Link) -> None:
        """Tick the link every few milliseconds while it has deadlines."""
        self._armed[link] = None
        if self._fine is None:
            self._fine = self.loop.aio.call_later(FINE_TICK_NS / SECOND_NS, self._tick_armed)

    def _tick_armed(self) -> None:
        self._fine = None
        now_ns = self.loop.monotonic_ns()
        for link in list(self._armed):
            self._tick(link, now_ns)
            if link.endpoint is None or link.endpoint.deadline_ns == 0:
                self._armed.pop(link, None)
        if self._armed:
            self._fine = self.loop.aio.call_later(FINE_TICK_NS / SECOND_NS, self._tick_armed)

    def _tick_all(self) -> None:
        self._coarse = self.loop.aio.call_later(1.0, self._tick_all)
        now_ns = self.loop.monotonic_ns()
        for link in list(self.links):
            self._tick(link, now_ns)

    def _tick(self, link: Link, now_ns: int) -> None:
        try:
            link.tick(now_ns)
        except Exception as error:
            self.broke(link, error)

    def broke(self, link: Link, error: Exception) -> None:
        """Our own code failed on a link: that connection ends, the others go on."""
        self.log.error(
            "runtime/listen.go", "connection handler failed", error=repr(error), **{"remote-addr": self._peer_of(link)}
        )
        link.abort()

    def _peer_of(self, link: Link) -> str:
        endpoint = link.endpoint
        return endpoint.peer if isinstance(endpoint, (ServerConnection, Http1Connection)) else ""

    def handler_failed(self, path: bytes, error: Exception) -> None:
        """Log what a service or handler raised."""
        text = path.decode("utf-8", "replace")
        self.log.error("runtime/listen.go", "handler failed", path=text, error=repr(error))

    def spare(self) -> Link | None:
        """Return a link that may go to make room for another: one that was never used, else an idle one.

        Looks at the oldest LOOKED_AT, and puts those that are busy behind the others for the next time.
        """
        idle: Link | None = None
        for link in list(itertools.islice(self.links, LOOKED_AT)):
            worth = link.endpoint.worth() if link.endpoint is not None else UNUSED
            if worth == UNUSED:
                return link
            if worth == IDLE and idle is None:
                idle = link
            elif worth == BUSY:
                del self.links[link]
                self.links[link] = None
        return idle

    def abort_all(self) -> None:
        """Close all links at once."""
        for link in list(self.links):
            link.abort()


class Refusal(asyncio.Protocol):
    """Takes care of a socket for which there is no room."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        cast(asyncio.Transport, transport).abort()


class NotFound(HttpHandler):
    """Answers 404 to everything, as Go's mux does."""

    def handle(self, request: HttpRequest, reply: HttpReply) -> None:  # noqa: ARG002
        """Answer."""
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]
        reply.respond(404, headers, b"404 page not found\n")


class Listener:
    """One listening socket that serves gRPC by `router` and everything else by `handler`."""

    def __init__(
        self,
        loop: UvLoop,
        router: Router,
        handler: HttpHandler | None = None,
        limits: Limits | None = None,
        log: Log | None = None,
    ) -> None:
        self.loop = loop
        self.router = router
        self.handler = handler if handler is not None else NotFound()
        self.limits = limits if limits is not None else Limits()
        self.hub = Hub(loop, self.limits, log if log is not None else NullLog())
        self.gate: TlsGate | None = None
        self.max_connections = 0  # 0 = as many as come
        self._server: asyncio.Server | None = None
        self._date = b""
        self._date_s = 0
        self._limit_timer: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """The port that was bound."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def stats(self) -> TransportStats:
        """The counts of this listener's connections."""
        return self.hub.stats

    async def start(self, host: str, port: int, gate: TlsGate | None = None) -> None:
        """Bind and accept. Raises OSError. Port 0 takes a free one."""
        self.gate = gate
        self._server = await self.loop.aio.create_server(self.protocol, host, port, backlog=BACKLOG, reuse_address=True)

    def protocol(self) -> asyncio.Protocol:
        """Return what takes care of a socket that has just come."""
        if self.max_connections and self._count() >= self.max_connections and not self._make_room():
            return Refusal()
        if self.gate is None:
            return ServerLink(self)
        return self.gate.pipe(lambda: ServerLink(self), self.hub.eager)

    def _count(self) -> int:
        return len(self.hub.links) + (len(self.gate.waiting) if self.gate is not None else 0)

    def _make_room(self) -> bool:
        """Cut off somebody who wants nothing of us; False when there is nobody."""
        spare = self.hub.spare()
        if spare is not None:
            spare.abort()
            self.hub.remove(spare)
            return True
        if self.gate is not None and self.gate.waiting:
            next(iter(self.gate.waiting)).refuse("too many connections")
            return True
        return False

    def http2(self, peer: str) -> ServerConnection:
        """Make the endpoint of an HTTP/2 client."""
        conn = ServerConnection(self.router, self.limits, self.loop.monotonic_ns, peer, self.hub.stats)
        conn.http = self.handler
        return conn

    def http1(self, peer: str) -> Http1Connection:
        """Make the endpoint of an HTTP/1.1 client."""
        conn = Http1Connection(self.handler, self.limits, self.loop.monotonic_ns, peer, self.hub.stats)
        conn.date = self._http_date
        return conn

    def _http_date(self) -> bytes:
        now_s = self.loop.time_ns() // SECOND_NS
        if now_s != self._date_s:
            self._date_s = now_s
            self._date = formatdate(now_s, usegmt=True).encode()
        return self._date

    def drain(self, limit_ns: int, done: Callable[[], None]) -> None:
        """Accept no more, finish open calls, and call `done` when all connections are gone.

        Connections that are left after the limit are cut off.
        """
        self._stop_accepting()
        self.hub.emptied = lambda: self._drained(done)
        if not self.hub.links:
            self.loop.soon(lambda: self._drained(done))
            return
        self._limit_timer = self.loop.aio.call_later(limit_ns / SECOND_NS, self.hub.abort_all)
        for link in list(self.hub.links):
            link.drain()

    def _stop_accepting(self) -> None:
        if self._server is not None:
            self._server.close()
        if self.gate is not None:
            self.gate.close()

    def _drained(self, done: Callable[[], None]) -> None:
        self.hub.emptied = None
        if self._limit_timer is not None:
            self._limit_timer.cancel()
            self._limit_timer = None
        done()

    def close(self) -> None:
        """Stop accepting and cut off all connections."""
        self._stop_accepting()
        self.hub.abort_all()


class Connector:
    """Opens connections in the client's role."""

    def __init__(self, loop: UvLoop, limits: Limits | None = None, log: Log | None = None) -> None:
        self.loop = loop
        self.limits = limits if limits is not None else client_limits()
        self.hub = Hub(loop, self.limits, log if log is not None else NullLog())

    async def connect(
        self, host: str, port: int, tls: ssl.SSLContext | None = None, server_name: str | None = None
    ) -> ClientConnection:
        """Open one connection. Raises OSError. Calls may be made at once; they leave when the server has greeted."""
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        scheme = b"https" if tls is not None else b"http"
        conn = ClientConnection(self.limits, self.loop.monotonic_ns, self.hub.stats, authority.encode(), scheme)
        link = ClientLink(self.hub, conn)
        if tls is not None:
            await self.loop.aio.create_connection(lambda: link, host, port, ssl=tls, server_hostname=server_name)
        else:
            await self.loop.aio.create_connection(lambda: link, host, port)
        return conn

    def close(self) -> None:
        """Cut off all connections."""
        self.hub.abort_all()


class ClientLink(Link):
    """The link of a connection in the client's role."""

    def __init__(self, hub: Hub, endpoint: ClientConnection) -> None:
        super().__init__(hub, endpoint)
        endpoint.deadline_set = self._deadline_set

    def _deadline_set(self) -> None:
        self.hub.arm(self)


def client_limits() -> Limits:
    """Return limits for the client's role: a server's messages may be of any length."""
    limits = Limits(max_receive_bytes=2**31 - 1)
    limits.max_assembly_bytes = 2**31 - 1
    limits.keepalive_ns = 0
    return limits
