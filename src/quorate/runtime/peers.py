"""Connections to other members: the sockets under `peer`, and the questions of a member that has not started.

`PeerDialer` connects and hands each socket to its exchange; a `Hub` carries the bytes, as it does for a listener.
`Others` asks before the loop runs, so it blocks, each question in a thread of its own.
"""

from __future__ import annotations

import asyncio
import http.client
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from quorate.names import LookupFailedError, Names
from quorate.peer.exchange import Dialer, Exchange
from quorate.ports import Log
from quorate.runtime.listen import Hub, Link
from quorate.runtime.loop import UvLoop
from quorate.runtime.tls.contexts import ClientContext
from quorate.runtime.tls.files import TlsError
from quorate.runtime.tls.pipe import ClientPipe
from quorate.runtime.urls import Url, UrlError, parse_url
from quorate.server.join import Answer, Elsewhere
from quorate.server.sameurls import Resolve, ResolveError
from quorate.wire.frames import SECOND_NS, Limits

DIAL_S: Final = 1.0
MAX_ANSWER_BYTES: Final = 16 << 20
THREADS_MAX: Final = 16
RESOLVE_AGAIN_S: Final = 1.0
_NETUTIL: Final = "netutil/netutil.go"


class PeerDialer(Dialer):
    """Connects to other members."""

    def __init__(self, loop: UvLoop, log: Log, election_ns: int, tls: ClientContext | None = None) -> None:
        self._loop = loop
        self._tls = tls
        self._limit_s = DIAL_S + election_ns / SECOND_NS
        self._hub = Hub(loop, Limits(), log)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def dial(self, url: str, exchange: Exchange) -> None:
        """Connect, in the background."""
        if self._closed:
            self._loop.soon(lambda: exchange.refused("closed"))
            return
        task = self._loop.aio.create_task(self._dial(url, exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dial(self, text: str, exchange: Exchange) -> None:
        try:
            link = await asyncio.wait_for(self._connect(parse_url(text), exchange), self._limit_s)
        except TimeoutError:
            exchange.refused(f"dial {text}: i/o timeout")
        except (OSError, ValueError, TlsError) as error:
            exchange.refused(f"dial {text}: {getattr(error, 'strerror', None) or error}")
        else:
            if exchange.closed:
                link.abort()

    async def _connect(self, url: Url, exchange: Exchange) -> Link:
        aio = self._loop.aio
        link = Link(self._hub, exchange)
        host, port = (url.host, "0") if url.is_unix else url.host_port()
        pipe: ClientPipe | None = None
        if url.is_secure:
            tls = self._tls
            if tls is None:
                raise OSError(f"no TLS settings for {url.text}")
            pipe = ClientPipe(self._loop, link, tls.context(), tls.server_name(host), self._hub.eager)
        protocol = link if pipe is None else pipe
        if url.is_unix:
            await aio.create_unix_connection(lambda: protocol, url.host)
        else:
            await aio.create_connection(lambda: protocol, host, int(port))
        if pipe is not None:
            try:
                await pipe.opened
            except BaseException:
                pipe.abort()
                raise
        return link

    def close(self) -> None:
        """Cut off every connection."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        self._hub.abort_all()


class Others(Elsewhere):
    """The other members, before this one has started."""

    def __init__(self, log: Log, tls: ClientContext | None = None) -> None:
        self._log = log
        self._tls = tls

    def resolver(self, limit_ns: int) -> Resolve:
        """Return a function that asks for a host's address again and again, until the limit."""
        deadline = time.monotonic() + limit_ns / SECOND_NS
        names = Names()

        def resolve(host_port: str) -> str:
            while True:
                try:
                    address = names.tcp_address(host_port)
                except LookupFailedError as error:
                    fields: dict[str, object] = {"host": host_port, "retry-interval": "1s", "error": str(error)}
                    self._log.warn(_NETUTIL, "failed to resolve URL Host", **fields)
                    if time.monotonic() + RESOLVE_AGAIN_S > deadline:
                        raise ResolveError(str(error)) from None
                    time.sleep(RESOLVE_AGAIN_S)
                else:
                    fields = {"host": host_port, "resolved-addr": address}
                    self._log.info(_NETUTIL, "resolved URL Host", **fields)
                    return address

        return resolve

    def get(self, urls: list[str], limit_ns: int) -> list[Answer | None]:
        """GET all of these at the same time."""
        return self.ask(urls, limit_ns, {}, b"")

    def ask(self, urls: list[str], limit_ns: int, headers: dict[str, str], body: bytes) -> list[Answer | None]:
        """GET all of these at the same time, with a body."""
        if not urls:
            return []
        with ThreadPoolExecutor(min(len(urls), THREADS_MAX)) as pool:
            return list(pool.map(lambda url: self._get(url, limit_ns / SECOND_NS, headers, body), urls))

    def _get(self, text: str, limit_s: float, sent: dict[str, str], asked: bytes) -> Answer | None:
        base, _, path = text.partition("://")[2].partition("/")
        try:
            url = parse_url(f"{text.partition('://')[0]}://{base}")
            connection = self._connection(url, limit_s)
            try:
                connection.request("GET", "/" + path, asked or None, sent)
                response = connection.getresponse()
                body = response.read(MAX_ANSWER_BYTES)
                headers = {name.lower(): value for name, value in response.getheaders()}
                return Answer(response.status, headers, body)
            finally:
                connection.close()
        except (OSError, UrlError, TlsError, http.client.HTTPException):
            return None

    def _connection(self, url: Url, limit_s: float) -> http.client.HTTPConnection:
        host, port = url.host_port()
        if not url.is_secure:
            return http.client.HTTPConnection(host, int(port), timeout=limit_s)
        if self._tls is None:
            raise OSError(f"no TLS settings for {url.text}")
        name = self._tls.server_name(host)
        return _SecureConnection(host, int(port), name, timeout=limit_s, context=self._tls.context())


class _SecureConnection(http.client.HTTPSConnection):
    """A connection to a server whose certificate may have to hold another name than its host's."""

    def __init__(self, host: str, port: int, server_name: str, timeout: float, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=timeout, context=context)
        self._tls = context
        self._server_name = server_name

    def connect(self) -> None:
        """Connect, and shake hands."""
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._server_name)
