"""Connections for load: as many as `--conns` says, each to every endpoint, used in turn, as etcd's Go client does it.

A connection that breaks fails its calls, once, and is made anew; whoever wants it meanwhile waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from quorate import errors
from quorate.cli.etcdctl.session import public_text
from quorate.client import methods
from quorate.client.link import Link, Stream, connect, one_answer
from quorate.client.methods import Message, Method
from quorate.client.policy import client_limits
from quorate.client.target import Target, TlsOptions, parse_targets
from quorate.errors import RpcError
from quorate.proto import rpc_pb2 as pb
from quorate.wire import grpc
from quorate.wire.headers import Field

CALL_TIMEOUT_S = 60.0
RECONNECT_S = 0.1
Answer = TypeVar("Answer")


class DialError(Exception):
    """No connection could be made at the start."""


class Slot:
    """One connection to one endpoint, and who waits for it while it is being made anew."""

    def __init__(self, pool: Pool, target: Target, link: Link) -> None:
        self.link = link
        self._pool = pool
        self._target = target
        self._waiting: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None

    def wait(self, then: Callable[[], None]) -> None:
        """Call back when the connection can be used again."""
        self._waiting.append(then)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        while not self.link.usable:
            try:
                self.link = await self._pool.dial(self._target)
            except OSError:
                await asyncio.sleep(RECONNECT_S)
        self._task = None
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then()

    def close(self) -> None:
        """Say goodbye."""
        if self._task is not None:
            self._task.cancel()
        self.link.close()


class Conn:
    """What one etcd client would be: a connection to every endpoint, taken in turn."""

    def __init__(self, slots: list[Slot]) -> None:
        self.slots = slots
        self._at = 0

    def slot(self) -> Slot:
        """Return the next connection."""
        self._at = (self._at + 1) % len(self.slots)
        return self.slots[self._at]


class Pool:
    """All connections of a run. `headers` go with every call: the token of a user."""

    def __init__(self, endpoints: list[str], tls: TlsOptions | None, dial_timeout_s: float) -> None:
        """Raises ValueError for endpoints that are none."""
        self.targets = parse_targets([each.strip() for each in endpoints], tls is not None)
        self.headers: list[Field] = []
        self.conns: list[Conn] = []
        self._tls = tls
        self._dial_timeout_s = dial_timeout_s
        self._limits = client_limits()
        # A thousand watchers answer at once; the windows of a server's client would hold them back.
        self._limits.stream_window = self._limits.connection_window = 16 << 20

    async def dial(self, target: Target) -> Link:
        """Make a connection. Raises OSError."""
        try:
            async with asyncio.timeout(self._dial_timeout_s):
                return await connect(target, self._tls, self._limits)
        except TimeoutError:
            raise OSError(f"context deadline exceeded: {target.name}") from None

    async def open(self, count: int) -> None:
        """Open `count` connections to each endpoint. Raises DialError."""
        try:
            for _ in range(count):
                self.conns.append(Conn([Slot(self, target, await self.dial(target)) for target in self.targets]))
        except OSError as error:
            raise DialError(str(error)) from error

    async def log_in(self, user: str, password: str) -> None:
        """Fetch a token. Raises DialError with the server's words."""
        request = pb.AuthenticateRequest(name=user, password=password)
        try:
            answer = await self.ask(self.conns[0], methods.AUTHENTICATE, request)
        except RpcError as error:
            if error.text != errors.AUTH_NOT_ENABLED.text:
                raise DialError(public_text(error)) from None
        else:
            self.headers = [(b"token", answer.token.encode())]

    async def find_leader(self) -> None:
        """Keep the endpoint of the leader only. Raises DialError."""
        for target in self.targets:
            try:
                link = await self.dial(target)
                answer = await one_answer(link, methods.STATUS.path, [], b"", CALL_TIMEOUT_S)
            except (OSError, RpcError) as error:
                raise DialError(str(error)) from error
            link.close()
            status = methods.STATUS.decode(answer)
            if status.leader == status.header.member_id:
                self.targets = [target]
                return
        raise DialError("no endpoint is the leader's")

    async def follow_members(self, interval_s: float) -> None:
        """Take the client URLs of the member list for endpoints, again and again."""
        while True:
            await asyncio.sleep(interval_s)
            found = await self.ask(self.conns[0], methods.MEMBER_LIST, pb.MemberListRequest())
            urls = [url for member in found.members if not member.isLearner for url in member.clientURLs]
            targets = parse_targets(urls, self._tls is not None)
            if targets and {target.authority for target in targets} != {target.authority for target in self.targets}:
                self.targets = targets
                old, self.conns[:] = list(self.conns), []
                await self.open(len(old))

    def conn(self, number: int) -> Conn:
        """Return the connection of a client or stream."""
        return self.conns[number % len(self.conns)]

    async def ask(self, conn: Conn, method: Method[Answer], request: Message) -> Answer:
        """Make one call. Raises RpcError."""
        link = await self.link(conn)
        data = request.SerializeToString()
        return method.decode(await one_answer(link, method.path, self.headers, data, CALL_TIMEOUT_S))

    async def link(self, conn: Conn) -> Link:
        """Return a connection that can be used."""
        slot = conn.slot()
        if not slot.link.usable:
            ready = asyncio.get_running_loop().create_future()
            slot.wait(lambda: ready.set_result(None))
            await ready
        return slot.link

    async def stream(self, conn: Conn, path: bytes) -> Stream:
        """Open a stream."""
        return Stream(await self.link(conn), path, self.headers)

    async def close(self) -> None:
        """Close everything."""
        for conn in self.conns:
            for slot in conn.slots:
                slot.close()
        await asyncio.sleep(0)  # the goodbyes leave


def text_of(error: RpcError) -> str:
    """Return how etcd's client words an error."""
    return "context canceled" if error is grpc.CANCELED else public_text(error)
