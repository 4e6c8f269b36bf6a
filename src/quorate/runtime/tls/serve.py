"""The TLS of a listener: handshakes, who may come in, and what the log says of those who may not.

    handshake -> --*-allowed-cn / --*-allowed-hostname -> the certificate names the address it comes from (members and
    metrics) -> revocation list -> the link is made

Source: etcd's client/pkg/transport/listener_tls.go and server/embed/config_logging.go.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final

from quorate.ports import Log
from quorate.runtime.loop import UvLoop
from quorate.runtime.tls import words
from quorate.runtime.tls.contexts import ServerContext
from quorate.runtime.tls.files import TlsError
from quorate.runtime.tls.hello import KEPT_BYTES, asked_name
from quorate.runtime.tls.identity import Identity, identify, name_matches_reverse, serial_hex
from quorate.runtime.tls.pipe import TlsPipe

ON_CLIENTS: Final = "rejected connection on client endpoint"
ON_PEERS: Final = "rejected connection on peer endpoint"
SLICE_NS: Final = 5_000_000
_CALLER: Final = "embed/config_logging.go"
_NOT_ALLOWED: Final = "client certificate authentication failed"


class TlsGate:
    """What the connections of one listener have in common."""

    def __init__(self, loop: UvLoop, context: ServerContext, log: Log, rejected: str, check_address: bool) -> None:
        """`rejected` is the log's text for those who are turned away.

        With `check_address` a certificate with names must name the address it comes from.
        """
        self.loop = loop
        self.context = context
        self.check_address = check_address
        self.waiting: dict[ServerPipe, None] = {}
        """Connections that are not open yet."""

        self._log = log
        self._rejected = rejected
        self._shaking: deque[ServerPipe] = deque()
        self._scheduled = False
        self._tasks: set[asyncio.Task[None]] = set()

    def pipe(self, make: Callable[[], asyncio.Protocol], eager: bool) -> TlsPipe:
        """Return the protocol of a socket that has just come."""
        return ServerPipe(self, make, eager)

    def close(self) -> None:
        """Cut off who is not in yet."""
        for pipe in list(self.waiting):
            pipe.refuse("use of closed network connection")

    def shake(self, pipe: ServerPipe) -> None:
        """Let a handshake go on in its turn.

        It is the dearest thing that a stranger can ask for: when many come at once, everything else, raft's heartbeats
        included, has its turn between slices of them.
        """
        self._shaking.append(pipe)
        if not self._scheduled:
            self._scheduled = True
            self.loop.aio.call_soon(self._shake_some)

    def _shake_some(self) -> None:
        until_ns = self.loop.monotonic_ns() + SLICE_NS
        try:
            while self._shaking:
                self._shaking.popleft().go_on()
                if self.loop.monotonic_ns() >= until_ns:
                    break
        finally:
            self._scheduled = bool(self._shaking)
            if self._scheduled:
                self.loop.aio.call_soon(self._shake_some)

    def refusal(self, identity: Identity) -> str:
        """Return why the names of a certificate are not welcome, empty when they are."""
        info = self.context.info
        if info.allowed_cns and identity.common_name not in info.allowed_cns:
            return _NOT_ALLOWED
        if info.allowed_hostnames and not any(identity.is_for(host) for host in info.allowed_hostnames):
            return _NOT_ALLOWED
        return ""

    def check(self, pipe: ServerPipe, identity: Identity) -> None:
        """Open the pipe or refuse it, now or after a look-up of names."""
        problem = self.refusal(identity)
        if problem:
            pipe.refuse(problem)
            return
        if not self.check_address or not (identity.addresses or identity.dns_names):
            self._check_revoked(pipe)
            return
        host = pipe.remote_host
        if identity.addresses and identity.is_for(host):
            self._check_revoked(pipe)
        elif not identity.dns_names:
            pipe.refuse(identity.not_for(host))
        else:
            pipe.pause_reading()
            task = self.loop.aio.create_task(self._check_names(pipe, identity, host))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _check_names(self, pipe: ServerPipe, identity: Identity, host: str) -> None:
        found, problem = await leads_to(self.loop.aio, host, identity.dns_names)
        if pipe not in self.waiting:
            return
        if not found:
            pipe.refuse(identity.not_among(host, problem))
            return
        pipe.resume_reading()
        self._check_revoked(pipe)

    def _check_revoked(self, pipe: ServerPipe) -> None:
        if self.context.info.crl_file:
            try:
                revoked = self.context.revoked()
                serials = [identify(der).serial for der in pipe.chain()]
            except TlsError as error:
                pipe.refuse(str(error))
                return
            for serial in serials:
                if serial in revoked:
                    pipe.refuse(f"transport: certificate serial {serial_hex(serial)} revoked")
                    return
        pipe.open()

    def rejected(self, pipe: ServerPipe, problem: str) -> None:
        """Write the line about a connection that was turned away."""
        fields: dict[str, object] = {"remote-addr": pipe.remote, "server-name": asked_name(pipe.hello)}
        if pipe.identity is not None:
            fields["ip-addresses"] = [str(each) for each in pipe.identity.addresses]
            fields["dns-names"] = pipe.identity.dns_names
        write = self._log.debug if problem == words.EOF else self._log.warn
        write(_CALLER, self._rejected, **fields, error=problem)


class ServerPipe(TlsPipe):
    """A connection that has come."""

    def __init__(self, gate: TlsGate, make: Callable[[], asyncio.Protocol], eager: bool) -> None:
        super().__init__(gate.loop, make, eager)
        self.gate = gate
        self.identity: Identity | None = None
        self.remote = ""
        self.remote_host = ""
        self.hello = b""
        """The first bytes of the client, until the connection is open."""

        self._local = ""
        self._queued = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the client's greeting."""
        super().connection_made(transport)
        self.remote, self.remote_host = _address(transport.get_extra_info("peername"))
        self._local = _address(transport.get_extra_info("sockname"))[0]
        self.gate.waiting[self] = None

    def begin(self, first: bytes) -> ssl.SSLObject:
        """Take the certificate as it is now."""
        self.hello = first[:KEPT_BYTES]
        return self.gate.context.context().wrap_bio(self._in, self._out, server_side=True)

    def shake(self) -> None:
        """Wait for a turn, with all that has come until then."""
        if not self._queued:
            self._queued = True
            self.gate.shake(self)

    def go_on(self) -> None:
        """It is this connection's turn."""
        self._queued = False
        if self.handshaking:
            super().shake()

    def shaken(self) -> None:
        """Look at the client's certificate."""
        assert self.tls is not None
        der = self.tls.getpeercert(True)
        if der is None:
            self.open()
            return
        try:
            self.identity = identify(der)
        except TlsError as error:
            self.refuse(str(error))
            return
        self.common_name = self.identity.common_name
        self.gate.check(self, self.identity)

    def chain(self) -> list[bytes]:
        """Return the certificates that the client has sent."""
        assert self.tls is not None
        inner = getattr(self.tls, "_sslobj", None)
        sent = inner.get_unverified_chain() if inner is not None else None
        leaf = self.tls.getpeercert(True)
        return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in sent] if sent else [leaf] if leaf else []

    def open(self) -> None:
        """Let it in."""
        self.gate.waiting.pop(self, None)
        self.hello = b""
        super().open()

    def failed(self, problem: str) -> None:
        """Log why."""
        self.gate.waiting.pop(self, None)
        if problem.startswith("read: "):
            problem = f"read tcp {self._local}->{self.remote}: {problem if 'timeout' not in problem else problem[6:]}"
        self.gate.rejected(self, problem)


def _address(name: object) -> tuple[str, str]:
    if isinstance(name, tuple) and len(name) >= 2:
        host = str(name[0])
        return (f"[{host}]:{name[1]}" if ":" in host else f"{host}:{name[1]}"), host
    return str(name or "@"), str(name or "@")


async def leads_to(aio: asyncio.AbstractEventLoop, host: str, names: list[str]) -> tuple[bool, str]:
    """Tell whether an address belongs to one of these names, by its PTR records or by the names' own addresses.

    Returns the last look-up's problem too, in Go's words as far as we have them.
    """
    problem = ""
    try:
        name, aliases, _ = await aio.run_in_executor(None, socket.gethostbyaddr, host)
        if name_matches_reverse(names, [name, *aliases]):
            return True, ""
    except OSError as error:
        problem = f"lookup {host}: {error.strerror or error}"
    for name in names:
        if name.startswith("*."):
            continue
        try:
            found = await aio.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            problem = f"lookup {name}: {getattr(error, 'strerror', None) or error}"
            continue
        if any(str(each[4][0]) == host for each in found):
            return True, ""
    return False, problem
