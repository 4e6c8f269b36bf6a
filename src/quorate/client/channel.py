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
from quorate.client.policy import STALE_CREDENTIALS, backoff_s, may_retry, stale_credentials
from quorate.client.target import Target, TlsOptions, parse_targets, split_endpoints
from quorate.errors import RpcError
from quorate.proto import rpc_pb2 as pb
from quorate.wire.frames import Limits
from quorate.wire.headers import Field

Answer = TypeVar("Answer")

NO_FIELDS: list[Field] = []
REQUIRE_LEADER: list[Field] = [(b"hasleader", b"true")]
CLOSING = "grpc: the client connection is closing"
LOGINS_MAX = 2  # a call: against a race with a change of users, not for ever


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
        self._token: bytes | None = None  # b"": authentication is off
        self._connect_timeout_s = connect_timeout_s
        self._limits = limits
        self._at = random.randrange(len(self.targets))
        self._link: Link | None = None
        self._trouble: OSError | None = None
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

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        return self._closed

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
            async with asyncio.timeout(self._connect_timeout_s):
                return await connect(target, self._tls, self._limits)
        except TimeoutError:
            raise OSError("i/o timeout") from None

    def present(self) -> Link | None:
        """Return the connection that is in use, if it works."""
        link = self._link
        return link if link is not None and link.usable else None

    async def link(self) -> Link:
        """Return a usable connection, trying endpoint after endpoint for as long as it takes.

        Raises EtcdError when the client is closed, or when no endpoint has a certificate that we trust.
        """
        link = self._link
        if link is not None and link.usable:
            return link
        async with self._connecting:
            attempt = distrusted = 0
            while True:
                if self._closed:
                    raise EtcdError(errors.CANCELED, CLOSING)
                link = self._link
                if link is not None and link.usable:
                    return link
                if link is not None:
                    self._link = None
                    self._at = (self._at + 1) % len(self.targets)
                try:
                    link = await self._connect(self.targets[self._at])
                except OSError as error:
                    self._trouble = error
                    distrusted = distrusted + 1 if isinstance(error, ssl.SSLCertVerificationError) else 0
                    if distrusted >= len(self.targets):
                        raise EtcdError(errors.UNAVAILABLE, f"authentication handshake failed: {error}") from error
                    self._at = (self._at + 1) % len(self.targets)
                    attempt += 1
                    if attempt >= len(self.targets):
                        await _pause(attempt - len(self.targets))
                    continue
                self._trouble = None
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
        attempt = logins = 0
        sent = False
        own: Link | None = None
        try:
            while True:
                link: Link | None = None
                headers: list[Field] = []
                try:
                    try:
                        async with asyncio.timeout_at(until_s):
                            if own is not None:
                                own.close()
                            if endpoint is None:
                                link = await self.link()
                            else:
                                link = own = await self._reach(endpoint)
                            headers = await self._headers(link)
                    except TimeoutError:
                        raise deadline_error(sent and not method.read, self._trouble) from None
                    left_s = max(until_s - loop.time(), 0.001)
                    sent = True
                    return method.decode(await one_answer(link, method.path, headers, data, left_s))
                except Unprocessed as refused:
                    error, again, sent = refused.error, True, False
                except RpcError as failed:
                    error, again = failed, may_retry(failed, False, method.read)
                if self.stale(error) and logins < LOGINS_MAX:
                    logins += 1
                    self.forget_token(headers)
                elif again and endpoint is None:
                    if link is not None:
                        self.leave(link)
                    attempt += 1
                    if attempt > 1:
                        await _pause(attempt - 2)
                else:
                    raise public(error, not method.read)
                if loop.time() >= until_s:
                    raise public(error, sent and not method.read)
        finally:
            if own is not None:
                own.close()

    async def _reach(self, endpoint: str) -> Link:
        target = parse_targets([endpoint], self._tls is not None)[0]
        attempt = 0
        while True:
            try:
                return await self._connect(target)
            except OSError as error:
                self._trouble = error
                await _pause(attempt)
                attempt += 1

    async def stream(self, method: Method[Answer], fields: list[Field] = NO_FIELDS) -> tuple[Link, Stream]:
        """Open a stream on the present connection, or on a new one, for as long as it takes."""
        attempt = 0
        while True:
            link = await self.link()
            try:
                headers = await self._headers(link)
            except Unprocessed:
                self.leave(link)
                await _pause(attempt)
                attempt += 1
            else:
                return link, Stream(link, method.path, headers + fields)

    # Credentials

    def stale(self, error: RpcError) -> bool:
        """Tell whether a new login may help: the server has then done nothing for the call."""
        return bool(self._user) and stale_credentials(error)

    def refused(self, reason: str, stream: Stream | None) -> bool:
        """Tell the same of a watch that the server has canceled; whoever has no token is simply not permitted."""
        if not self._user or stream is None:
            return False
        no_token = not any(name == b"token" for name, _ in stream.headers)
        return any(text in reason for text in STALE_CREDENTIALS) or (no_token and "permission denied" in reason)

    def forget_token(self, headers: list[Field]) -> None:
        """Log in again before the next call, unless another call has done so since `headers` were made."""
        if _token_fields(self._token) == headers[: len(_token_fields(self._token))]:
            self._token = None

    async def _headers(self, link: Link) -> list[Field]:
        """Return the metadata of a call; logs in for it. Raises Unprocessed when nobody can check the password now."""
        if not self._user:
            return NO_FIELDS
        async with self._logging_in:
            if self._token is None:
                self._token = await self._log_in(link)
            return _token_fields(self._token)

    async def _log_in(self, link: Link) -> bytes:
        request = pb.AuthenticateRequest(name=self._user, password=self._password).SerializeToString()
        try:
            answer = await one_answer(link, methods.AUTHENTICATE.path, NO_FIELDS, request, self.timeout_s)
        except RpcError as error:
            if error.text == errors.AUTH_NOT_ENABLED.text:
                return b""
            if error.code in (errors.UNAVAILABLE, errors.DEADLINE_EXCEEDED):
                raise Unprocessed(error) from None
            raise public(error, False) from None
        return methods.AUTHENTICATE.decode(answer).token.encode()

    async def close(self) -> None:
        """Close the connection; open calls end with Unavailable."""
        self._closed = True
        if self._link is not None:
            self._link.close()
            self._link = None
            await asyncio.sleep(0)  # the goodbye leaves


def _token_fields(token: bytes | None) -> list[Field]:
    return [(b"token", token)] if token else []


async def _pause(attempt: int) -> None:
    await asyncio.sleep(backoff_s(attempt) * random.uniform(0.8, 1.2))
