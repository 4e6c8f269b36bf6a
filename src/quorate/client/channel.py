"""All of a client's calls: one connection at a time, moved to the next endpoint when it fails, and safe repetition.

    unary(method, request)   -> answer, or EtcdError; repeats by the rules of `policy`
    stream(method)           -> an open Stream; whoever uses it opens another one when it breaks

A connection is chosen when it is first needed and kept while it works. The endpoints are tried in turn, starting behind
the one that failed, with growing pauses once all have failed. Tokens: the first call of a client with a user logs in;
a call refused for its token logs in again, once, and is repeated, because the server has done nothing for it.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Sequence
from typing import TypeVar

from quorate import errors
from quorate.client import methods
from quorate.client.errors import EtcdError, deadline_error, public
from quorate.client.link import Link, Stream, Unprocessed, connect, one_answer
from quorate.client.methods import Message, Method
from quorate.client.policy import backoff_s, may_retry, stale_credentials
from quorate.client.target import Target, TlsOptions, parse_targets, split_endpoints
from quorate.errors import RpcError
from quorate.proto import rpc_pb2 as pb
from quorate.wire.frames import Limits
from quorate.wire.headers import Field

Answer = TypeVar("Answer")

NO_FIELDS: list[Field] = []
REQUIRE_LEADER: list[Field] = [(b"hasleader", b"true")]


class Channel:
    """The connections of one client."""

    def __init__(
        self,
        endpoints: str | Sequence[str],
        tls: TlsOptions | None,
        user: str,
        password: str,
        timeout_s: float,
        connect_timeout_s: float,
        limits: Limits,
    ) -> None:
        self.targets = parse_targets(split_endpoints(endpoints), tls is not None)
        if not self.targets:
            raise ValueError("etcdclient: no available endpoints")
        self.timeout_s = timeout_s
        self._tls = tls
        self._user = user
        self._password = password
        self._token = ""
        self._connect_timeout_s = connect_timeout_s
        self._limits = limits
        self._at = random.randrange(len(self.targets))
        self._link: Link | None = None
        self._closed = False
        self._connecting = asyncio.Lock()
        self._logging_in = asyncio.Lock()

    # Connections

    @property
    def endpoint(self) -> str:
        """The endpoint that is in use or will be tried next."""
        return self.targets[self._at].name

    def set_endpoints(self, endpoints: Sequence[str]) -> None:
        """Use these endpoints from now on; the present connection stays while it works."""
        targets = parse_targets(endpoints, self._tls is not None)
        if not targets:
            raise ValueError("etcdclient: no available endpoints")
        self.targets = targets
        self._at %= len(targets)

    def leave(self, link: Link) -> None:
        """Take another endpoint for what comes next; calls that are open on the link go on."""
        if self._link is link:
            self._link = None
            self._at = (self._at + 1) % len(self.targets)
            if not link.http.streams:
                link.close()
            else:
                link.http.draining = True  # closes itself behind its last call

    async def _connect(self, target: Target) -> Link:
        try:
            return await asyncio.wait_for(connect(target, self._tls, self._limits), self._connect_timeout_s)
        except TimeoutError:
            raise OSError("i/o timeout") from None

    async def link(self) -> Link:
        """Return a usable connection, trying endpoint after endpoint for as long as it takes."""
        link = self._link
        if link is not None and link.usable:
            return link
        async with self._connecting:
            attempt = 0
            while True:
                if self._closed:
                    raise EtcdError(errors.CANCELED, "grpc: the client connection is closing")
                link = self._link
                if link is not None and link.usable:
                    return link
                if link is not None:
                    self._link = None
                    self._at = (self._at + 1) % len(self.targets)
                try:
                    link = await self._connect(self.targets[self._at])
                except ssl.SSLCertVerificationError as error:
                    raise EtcdError(errors.UNAVAILABLE, f"authentication handshake failed: {error}") from error
                except OSError:
                    self._at = (self._at + 1) % len(self.targets)
                    attempt += 1
                    if attempt >= len(self.targets):
                        await _pause(attempt - len(self.targets))
                    continue
                self._link = link

    # Calls

    async def unary(
        self, method: Method[Answer], request: Message, timeout_s: float | None = None, endpoint: str | None = None
    ) -> Answer:
        """Make one call and return its answer; raises EtcdError. `endpoint` asks that member alone, on its own link."""
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        loop = asyncio.get_running_loop()
        until_s = loop.time() + limit_s
        data = request.SerializeToString()
        attempt = 0
        logins = 0
        sent = False
        own: Link | None = None
        try:
            while True:
                try:
                    async with asyncio.timeout_at(until_s):
                        if endpoint is None:
                            link = await self.link()
                        else:
                            own = link = await self._reach(endpoint)
                        headers = await self._headers(link)
                except TimeoutError:
                    raise deadline_error(sent and not method.read) from None
                left_s = max(until_s - loop.time(), 0.001)
                try:
                    sent = True
                    return method.decode(await one_answer(link, method.path, headers, data, left_s))
                except Unprocessed as refused:
                    error, again, sent = refused.error, True, False
                except RpcError as failed:
                    error, again = failed, may_retry(failed, False, method.read)
                if stale_credentials(error) and self._user and logins < 2:
                    logins += 1
                    self._token = ""
                elif again and endpoint is None:
                    self.leave(link)
                    attempt += 1
                    if attempt > 1:
                        await _pause(attempt - 2)
                else:
                    raise public(error, not method.read)
                if loop.time() >= until_s:
                    raise public(error, False)
        finally:
            if own is not None:
                own.close()

    async def _reach(self, endpoint: str) -> Link:
        target = parse_targets([endpoint], self._tls is not None)[0]
        attempt = 0
        while True:
            try:
                return await self._connect(target)
            except OSError:
                await _pause(attempt)
                attempt += 1

    async def stream(self, method: Method[Answer], fields: list[Field] = NO_FIELDS) -> tuple[Link, Stream]:
        """Open a stream on the present connection, or on a new one."""
        link = await self.link()
        headers = await self._headers(link)
        return link, Stream(link, method.path, headers + fields)

    # Credentials

    def forget_token(self) -> None:
        """Log in again before the next call."""
        self._token = ""

    async def _headers(self, link: Link) -> list[Field]:
        if not self._user:
            return NO_FIELDS
        async with self._logging_in:
            if not self._token:
                request = pb.AuthenticateRequest(name=self._user, password=self._password)
                path = methods.AUTHENTICATE.path
                try:
                    answer = await one_answer(link, path, NO_FIELDS, request.SerializeToString(), self.timeout_s)
                except Unprocessed:
                    return NO_FIELDS  # the link is gone; the call itself will find out
                except RpcError as error:
                    if error.text == errors.AUTH_NOT_ENABLED.text or error.code == errors.UNAVAILABLE:
                        return NO_FIELDS
                    raise public(error, False) from None
                self._token = pb.AuthenticateResponse.FromString(answer).token
        return [(b"token", self._token.encode())]

    async def close(self) -> None:
        """Close the connection; open calls end with Unavailable."""
        self._closed = True
        if self._link is not None:
            self._link.close()
            self._link = None
            await asyncio.sleep(0)  # the goodbye leaves


async def _pause(attempt: int) -> None:
    await asyncio.sleep(backoff_s(attempt) * random.uniform(0.8, 1.2))
