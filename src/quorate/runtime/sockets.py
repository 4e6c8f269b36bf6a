"""Listening sockets made before anybody serves on them.

A member binds its ports first of all, so that a port in use is found before anything is written, and so that clients
who come early wait in the kernel's queue instead of being turned away. `SocketListener` accepts later, when there is an
answer.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Final

from quorate.errors import STOPPED
from quorate.runtime.listen import BACKLOG, Listener
from quorate.runtime.tls.serve import TlsGate
from quorate.runtime.urls import Url
from quorate.wire.server import ServerConnection, ServerStream

_NUMERIC: Final = socket.AI_NUMERICSERV


class ListenError(Exception):
    """A port cannot be had; the text is that of Go's net package."""


def listen(url: Url, reuse_port: bool = False) -> socket.socket:
    """Return a socket that listens at a URL. Raises ListenError."""
    if url.is_unix:
        return _listen_unix(url.host)
    host, port = url.host_port()
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", port or "0", 0, socket.SOCK_STREAM, 0, _NUMERIC)
    except OSError as error:
        raise ListenError(f"listen tcp: lookup {host}: {error.strerror or error}") from None
    # As Go: of a name's addresses one, preferably of IPv4.
    family, kind, proto, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    shown = join_host_port(str(address[0]), int(address[1]))
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(f"listen tcp {shown}: bind: {(error.strerror or str(error)).lower()}") from None
    sock.setblocking(False)
    return sock


def _listen_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.exists(path):
            os.remove(path)  # left behind by an earlier run; etcd does the same
        sock.bind(path)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(f"listen unix {path}: bind: {(error.strerror or str(error)).lower()}") from None
    sock.setblocking(False)
    return sock


def address_of(sock: socket.socket) -> str:
    """Return where a socket listens: "host:port", or the path."""
    name = sock.getsockname()
    if isinstance(name, str):
        return name
    return join_host_port(str(name[0]), int(name[1]))


def join_host_port(host: str, port: int) -> str:
    """Return "host:port", with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class SocketListener(Listener):
    """A listener on a socket that listens already."""

    async def serve(self, sock: socket.socket, gate: TlsGate | None = None) -> None:
        """Accept from now on, behind TLS with a gate."""
        aio = self.loop.aio
        self.gate = gate
        if sock.family == socket.AF_UNIX:
            self._server = await aio.create_unix_server(self.protocol, sock=sock, backlog=BACKLOG)
        else:
            self._server = await aio.create_server(self.protocol, sock=sock, backlog=BACKLOG)

    def drain(self, limit_ns: int, done: Callable[[], None]) -> None:
        """Accept no more, end the streams that would never end, finish the other calls, then call `done`."""
        super().drain(limit_ns, done)
        for link in list(self.hub.links):
            if isinstance(link.endpoint, ServerConnection):
                end_streams(link.endpoint)


def end_streams(conn: ServerConnection) -> None:
    """End watches, keepalives and the like with "server stopped", on which clients turn to another member."""
    for stream in list(conn.streams.values()):
        if not isinstance(stream, ServerStream) or stream.call is None or stream.method.kind != "bidi_stream":
            continue
        call = stream.call
        on_end = call.on_end
        call.fail(STOPPED)
        if on_end is not None:
            on_end()
