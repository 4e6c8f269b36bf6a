"""One connection of the asyncio client: bytes between a socket and `ClientConnection`, on the user's loop."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from typing import Final, cast

from quorate.client.target import Target, TlsOptions
from quorate.errors import RpcError
from quorate.wire import grpc
from quorate.wire.client import ClientCall, ClientConnection
from quorate.wire.endpoint import Endpoint
from quorate.wire.frames import Limits, TransportStats
from quorate.wire.headers import Field

TICK_S: Final = 1.0
QUEUE_HIGH: Final = 64  # messages that a slow reader may leave lying before the server is held back


class Link(asyncio.Protocol):
    """A connection and its socket."""

    def __init__(self, http: ClientConnection, loop: asyncio.AbstractEventLoop) -> None:
        self.http = http
        self.greeted: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._flushing = False
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        http.wants_write = self._wants_write
        http.ready = self._ready

    @property
    def usable(self) -> bool:
        """Whether new calls may begin here."""
        return not self.http.closed and not self.http.draining

    def _ready(self) -> None:
        if not self.greeted.done():
            self.greeted.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self._transport = cast(asyncio.Transport, transport)
        plain = transport.get_extra_info("socket")
        if plain is not None and plain.family != socket.AF_UNIX:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._timer = self._loop.call_later(TICK_S, self._tick)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self.http.receive(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The socket is gone."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self.http.lost()
        if not self.greeted.done():
            self.greeted.set_exception(OSError("the connection ended before the server's greeting"))

    def pause_writing(self) -> None:
        """The socket takes no more."""
        self._paused = True

    def resume_writing(self) -> None:
        """The socket takes more."""
        self._paused = False
        self._flush()

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK_S, self._tick)
        self.http.tick(time.monotonic_ns())

    def _wants_write(self, _: Endpoint) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        transport = self._transport
        if transport is None or self._paused:
            return
        data = self.http.take_output()
        if data:
            transport.write(data)
        if self.http.closed and not self.http.has_output():
            transport.close()

    def close(self) -> None:
        """Say goodbye."""
        self.http.close()

    def abort(self) -> None:
        """Cut the connection: the server was silent for too long."""
        if self._transport is not None:
            self._transport.abort()


async def connect(target: Target, tls: TlsOptions | None, limits: Limits) -> Link:
    """Open a connection, and wait for the server's greeting: before it, nothing was sent that counts. Raises OSError.

    So a TLS server that refuses our certificate behind the handshake, or a proxy without a server, is a failed attempt
    and not a call whose outcome is unknown.
    """
    loop = asyncio.get_running_loop()
    scheme = b"https" if target.tls else b"http"
    http = ClientConnection(limits, time.monotonic_ns, TransportStats(), target.authority, scheme)
    link = Link(http, loop)
    context = None
    name = None
    if target.tls:
        options = tls if tls is not None else TlsOptions()
        context = options.context()
        name = options.server_name or target.host or "localhost"
    if target.path:
        await loop.create_unix_connection(lambda: link, target.path, ssl=context, server_hostname=name)
    else:
        await loop.create_connection(lambda: link, target.host, target.port, ssl=context, server_hostname=name)
    try:
        await link.greeted
    except BaseException:
        link.abort()
        raise
    return link


class Stream:
    """A call whose messages are awaited one by one. `next` is for one task at a time."""

    def __init__(self, link: Link, path: bytes, headers: list[Field]) -> None:
        self.ended = False
        self.error: RpcError | None = None
        self.headers = headers
        self._http = link.http
        self._messages: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._call: ClientCall = link.http.call(path, headers, None, self._message, self._end)

    @property
    def unprocessed(self) -> bool:
        """Whether the server certainly did nothing with the call."""
        return self._call.unprocessed

    def send(self, message: bytes) -> None:
        """Queue a message."""
        self._call.send(message)

    def send_last(self, message: bytes) -> None:
        """Queue a message, and send no more."""
        self._call.send_last(message)

    def half_close(self) -> None:
        """Send no more."""
        self._call.half_close()

    def cancel(self) -> None:
        """Give the call up."""
        self._call.cancel()

    async def next(self) -> bytes | None:
        """Return the next message, None at a good end. Raises RpcError at a bad one."""
        while not self._messages:
            if self.ended:
                if self.error is not None:
                    raise self.error.with_traceback(None)  # a shared one would keep every raise's frames
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        message = self._messages.popleft()
        if self._call.paused and len(self._messages) < QUEUE_HIGH // 2:
            self._call.paused = False
            self._http.grant(self._call)
        return message

    def _message(self, message: bytes) -> None:
        self._messages.append(message)
        if len(self._messages) >= QUEUE_HIGH:
            self._call.paused = True
        self._wake()

    def _end(self, error: RpcError | None, _: list[Field]) -> None:
        self.ended = True
        self.error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def one_answer(link: Link, path: bytes, headers: list[Field], request: bytes, timeout_s: float) -> bytes:
    """Make a unary call. Raises Unprocessed when it may be repeated anyhow, else RpcError."""
    stream = Stream(link, path, [*headers, (b"grpc-timeout", grpc.format_timeout(int(timeout_s * 1e9)))])
    stream.send_last(request)
    try:
        # Not wait_for: before Python 3.12 it loses a cancellation that comes together with the answer.
        async with asyncio.timeout(timeout_s):
            answer = await stream.next()
            if answer is not None:
                extra = None if stream.ended else await stream.next()
                if extra is None and stream.error is None:
                    return answer
    except TimeoutError:
        raise grpc.DEADLINE.with_traceback(None) from None
    except RpcError as error:
        if stream.unprocessed:
            raise Unprocessed(error) from None
        raise
    finally:
        stream.cancel()
    raise stream.error if stream.error is not None else grpc.TRUNCATED


class Unprocessed(Exception):  # noqa: N818
    """The server certainly did nothing: the call may be made again elsewhere."""

    def __init__(self, error: RpcError) -> None:
        super().__init__(error.text)
        self.error = error
