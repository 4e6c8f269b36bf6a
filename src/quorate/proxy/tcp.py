"""The TCP proxy of `etcd gateway`: each connection goes to one of the endpoints and is carried there byte for byte.

Endpoints take turns; of SRV records, the best priority that is active is chosen from, by weight. One that cannot be
connected to is left out and tried again every `retry_s`. A client whose connection nobody takes is hung up on.
A side that ends its sending ends it on the other side too; etcd hangs up on both there.
Source: etcd's server/proxy/tcpproxy/userspace.go.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Callable, Sequence
from typing import Final, cast

from quorate.names import LookupFailedError, Names, join_host_port
from quorate.ports import Log
from quorate.runtime.duration import format_duration

_CALLER: Final = "tcpproxy/userspace.go"
_RARE: Final = 100  # one of so many connections goes to records without weight when others have one
HIGH_BYTES: Final = 256 << 10


class Remote:
    """One endpoint, with what its SRV record says of it (nothing, for one that was named)."""

    def __init__(self, host: str, port: int, priority: int = 0, weight: int = 0) -> None:
        self.host = host
        self.port = port
        self.priority = priority
        self.weight = weight
        self.active = True
        self.address = f"{host}:{port}"


def go_dial_error(address: str, error: OSError) -> str:
    """Return a failed connection's error as Go words it."""
    reason = (os.strerror(error.errno) if error.errno else str(error)).lower()
    return f"dial tcp {address}: connect: {reason}"


class _Side(asyncio.Protocol):
    """One socket of a pair: what comes in here goes out at the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_BYTES)
        plain = transport.get_extra_info("socket")
        if plain is not None:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def join(self, other: _Side) -> None:
        self.other = other
        other.other = self

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        other = self.other
        if other is None or other.transport is None:
            return False
        other.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        other = self.other
        if other is not None and other.transport is not None:
            if exc is not None:
                other.transport.abort()
            else:
                other.transport.close()

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()


class _Accepted(_Side):
    def __init__(self, proxy: TcpProxy) -> None:
        super().__init__()
        self.proxy = proxy

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        cast(asyncio.Transport, transport).pause_reading()  # until there is somewhere to write it
        self.proxy.spawn(self)


class TcpProxy:
    """Runs on the loop that is running."""

    def __init__(self, remotes: Sequence[Remote], retry_s: float, log: Log) -> None:
        self.remotes = list(remotes)
        self.retry_s = retry_s or 300.0
        self.log = log
        self._picks = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._random = random.Random()

    async def run(self, sock: socket.socket, ready: Callable[[], None]) -> None:
        """Serve on a listening socket, for ever."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Accepted(self), sock=sock)
        ready()
        self.log.info(_CALLER, "ready to proxy client requests", endpoints=[each.address for each in self.remotes])
        async with server:
            await self._monitor()

    def spawn(self, side: _Accepted) -> None:
        """Find an endpoint for a new connection."""
        task = asyncio.get_running_loop().create_task(self._connect(side))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, side: _Accepted) -> None:
        loop = asyncio.get_running_loop()
        while (remote := self.pick()) is not None:
            out = _Side()
            try:
                address = await loop.run_in_executor(None, lookup_host, remote.host)
                await loop.create_connection(lambda out=out: out, address[0], remote.port)  # type: ignore[misc]
            except OSError as error:
                remote.active = False
                fields = {"address": remote.address, "interval": self._interval()}
                self.log.warn(_CALLER, "deactivated endpoint", **fields, error=go_dial_error(remote.address, error))
                continue
            if side.transport is None:
                out.connection_lost(None)
                if out.transport is not None:
                    out.transport.close()
                return
            side.join(out)
            side.transport.resume_reading()
            return
        if side.transport is not None:
            side.transport.close()

    def pick(self) -> Remote | None:
        """Return the endpoint for the next connection, None when none is active."""
        active = [each for each in self.remotes if each.active]
        if not active:
            return None
        best = min(each.priority for each in active)
        weighted = [each for each in active if each.priority == best and each.weight > 0]
        unweighted = [each for each in active if each.priority == best and each.weight == 0]
        if weighted and not (unweighted and self._random.randrange(_RARE) == 1):
            return self._random.choices(weighted, [each.weight for each in weighted])[0]
        # By turns among all endpoints, so that those between two active ones do not change whose turn it is.
        while True:
            remote = self.remotes[self._picks % len(self.remotes)]
            self._picks += 1
            if remote in unweighted:
                return remote

    async def _monitor(self) -> None:
        while True:
            await asyncio.sleep(self.retry_s)
            for remote in [each for each in self.remotes if not each.active]:
                await self._reactivate(remote)

    async def _reactivate(self, remote: Remote) -> None:
        try:
            address = await asyncio.get_running_loop().run_in_executor(None, lookup_host, remote.host)
            _, writer = await asyncio.open_connection(address[0], remote.port)
        except OSError as error:
            text = "failed to activate endpoint (stay inactive for another interval)"
            fields = {"address": remote.address, "interval": self._interval()}
            self.log.warn(_CALLER, text, **fields, error=go_dial_error(remote.address, error))
            return
        writer.close()
        remote.active = True
        self.log.info(_CALLER, "activated", address=remote.address)

    def _interval(self) -> str:
        return format_duration(round(self.retry_s * 1e9))


def split_host_port(address: str) -> tuple[str, str]:
    """Return host and port of "host:port". Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], port
    if not colon or ":" in host:
        raise ValueError(address)
    return host, port


def lookup_host(host: str) -> list[str]:
    """Return addresses of a host. Raises OSError."""
    try:
        return [Names().address(host or "localhost")]
    except LookupFailedError as error:
        raise OSError(str(error)) from None


def listen_tcp(host: str, port: str) -> socket.socket:
    """Return a listening socket. Raises OSError with Go's words."""
    address = join_host_port(host, port)
    if port.isdigit() and int(port) > 65535:
        raise OSError(f"listen tcp: address {port}: invalid port")
    try:
        infos = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, proto, _, where = infos[0]
        sock = socket.socket(family, kind, proto)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(where)
            sock.listen(1024)
        except OSError:
            sock.close()
            raise
    except socket.gaierror:
        raise OSError(f"listen tcp: lookup {host}: no such host") from None
    except OSError as error:
        raise OSError(f"listen tcp {address}: bind: {(error.strerror or str(error)).lower()}") from None
    return sock
