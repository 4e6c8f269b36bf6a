"""A connection on a plain blocking socket, for programs that do one thing and end: etcdctl.

Loading asyncio costs more than a whole `etcdctl get`, so this drives the sans-IO `ClientConnection` by hand: `pump`
writes what is queued, waits for the socket, and lets the connection call back. Several calls may be open at once (a
watch and a lease's keepalive); whoever waits for one of them serves all.

Nothing is repeated here: `DirectCall.unprocessed` tells the caller whether it may.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from quorate.client.methods import Message, Method
from quorate.client.target import Target, TlsOptions
from quorate.errors import RpcError
from quorate.wire import grpc
from quorate.wire.client import ClientCall, ClientConnection
from quorate.wire.frames import Limits, TransportStats
from quorate.wire.headers import Field

if TYPE_CHECKING:
    import ssl

READ_BYTES = 256 << 10
TICK_S = 0.5
Answer = TypeVar("Answer")


class DirectCall:
    """One call: its messages as they come, then its outcome."""

    def __init__(self, conn: DirectConnection, path: bytes, headers: list[Field]) -> None:
        self.conn = conn
        self.messages: deque[bytes] = deque()
        self.ended = False
        self.error: RpcError | None = None
        self.call: ClientCall = conn.http.call(path, headers, None, self.messages.append, self._end)

    def _end(self, error: RpcError | None, _: list[Field]) -> None:
        self.ended = True
        self.error = error

    @property
    def unprocessed(self) -> bool:
        """Whether the server certainly did nothing with the call."""
        return self.call.unprocessed

    def send(self, message: Message, last: bool = False) -> None:
        """Queue a message."""
        data = message.SerializeToString()
        if last:
            self.call.send_last(data)
        else:
            self.call.send(data)

    def next(self, until_s: float | None) -> bytes | None:
        """Wait for the next message; None at the end. Raises RpcError, grpc.DEADLINE at monotonic `until_s`."""
        while not self.messages:
            if self.ended:
                if self.error is not None:
                    raise self.error
                return None
            self.conn.pump(until_s)
            if until_s is not None and time.monotonic() >= until_s and not self.messages and not self.ended:
                self.call.cancel()
                raise grpc.DEADLINE
        return self.messages.popleft()


class DirectConnection:
    """One connection to one endpoint."""

    def __init__(self, target: Target, tls: TlsOptions | None, limits: Limits, timeout_s: float) -> None:
        """Connect, and wait for the server's greeting: before it, nothing was sent that could count.

        Raises OSError (ssl.SSLError is one).
        """
        self.target = target
        self.http = ClientConnection(
            limits, time.monotonic_ns, TransportStats(), target.authority, b"https" if target.tls else b"http"
        )
        self.sock: socket.socket | ssl.SSLSocket = _open(target, tls, timeout_s)
        self._poll = select.poll()
        self._poll.register(self.sock, select.POLLIN)
        self._greeted = False
        self.http.ready = self._ready
        until_s = time.monotonic() + timeout_s
        while not self._greeted:
            self.pump(until_s)
            if self.http.closed or time.monotonic() >= until_s:
                self.sock.close()
                raise OSError("the connection ended before the server's greeting")

    def _ready(self) -> None:
        self._greeted = True

    def start(self, method: Method[Answer], headers: list[Field]) -> DirectCall:
        """Begin a call."""
        return DirectCall(self, method.path, headers)

    def pump(self, until_s: float | None, step_s: float = TICK_S) -> None:
        """Write, then wait for bytes for at most `step_s` seconds (and not beyond `until_s`) and take them."""
        self._flush()
        if self.http.closed:
            self.http.lost()
            return
        wait_s = step_s if until_s is None else max(0.0, min(step_s, until_s - time.monotonic()))
        pending = getattr(self.sock, "pending", None)
        if (pending is not None and pending()) or self._poll.poll(wait_s * 1000):
            try:
                data = self.sock.recv(READ_BYTES)
            except TimeoutError:
                return  # a TLS record that is not whole yet
            except OSError:
                data = b""
            if data:
                self.http.receive(data)
            else:
                self.http.lost()
        self.http.tick(time.monotonic_ns())
        self._flush()

    def _flush(self) -> None:
        while self.http.has_output():
            data = self.http.take_output()
            try:
                self.sock.sendall(data)
            except OSError:
                self.http.lost()
                return

    def close(self) -> None:
        """Say goodbye and close the socket."""
        self.http.close()
        self._flush()
        self.sock.close()


def _open(target: Target, tls: TlsOptions | None, timeout_s: float) -> socket.socket | ssl.SSLSocket:
    sock: socket.socket
    if target.path:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout_s)
        sock.connect(target.path)
    else:
        sock = socket.create_connection((target.host, target.port), timeout_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not target.tls:
        return sock
    options = tls if tls is not None else TlsOptions()
    return options.context().wrap_socket(sock, server_hostname=options.server_name or target.host or "localhost")
