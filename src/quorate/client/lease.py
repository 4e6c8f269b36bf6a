"""A lease that keeps itself alive until it is revoked, closed or lost.

Renewals go out every third of the TTL on one stream, which is opened anew wherever the client is connected when it
breaks. Whether the lease still stands is judged by our clock alone: it counts as lost when the server says so (TTL 0),
or when a whole TTL has passed since the last renewal was *sent*, which is never later than the server's own judgement.
"""

from __future__ import annotations

import asyncio
from typing import Final

from quorate import errors
from quorate.client.channel import NO_FIELDS, Channel
from quorate.client.errors import EtcdError, LeaseLostError
from quorate.client.link import Link, Stream
from quorate.client.methods import LEASE_KEEP_ALIVE, LEASE_REVOKE
from quorate.client.policy import backoff_s
from quorate.errors import RpcError
from quorate.proto import rpc_pb2 as pb

_REVOKE_ATTEMPTS: Final = 5


class Lease:
    """A granted lease. As a context manager it is revoked at the end."""

    def __init__(self, channel: Channel, lease_id: int, ttl_s: int, granted_s: float) -> None:
        self._channel = channel
        self._id = lease_id
        self._ttl_s = ttl_s
        self._until_s = granted_s + ttl_s
        self._lost = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._keep())

    @property
    def id(self) -> int:
        """The id, to give to put."""
        return self._id

    @property
    def ttl_s(self) -> int:
        """The granted time to live."""
        return self._ttl_s

    @property
    def lost(self) -> bool:
        """Whether the lease has expired or was revoked."""
        return self._lost.is_set()

    async def wait_lost(self) -> None:
        """Return when the lease is lost."""
        await self._lost.wait()

    async def __aenter__(self) -> Lease:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.revoke()

    async def revoke(self) -> None:
        """Give the lease up and delete its keys. A lease that is gone already is no error.

        Unlike other writes, one that may have been applied is repeated: a second revocation finds nothing to do.
        """
        await self.close()
        if self._lost.is_set():
            return
        self._lost.set()
        for left in reversed(range(_REVOKE_ATTEMPTS)):
            try:
                await self._channel.unary(LEASE_REVOKE, pb.LeaseRevokeRequest(ID=self._id))
            except EtcdError as error:
                if error.text == LeaseLostError().text:
                    return
                if left == 0 or not error.maybe_applied:
                    raise
            else:
                return

    async def close(self) -> None:
        """Renew no more; the lease runs out by itself."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        attempt = 0
        while not self._lost.is_set():
            stream: Stream | None = None
            link: Link | None = None
            try:
                async with asyncio.timeout_at(self._until_s):
                    link, stream = await self._channel.stream(LEASE_KEEP_ALIVE, NO_FIELDS)
                while await self._renew(stream, loop):
                    attempt = 0
                    await asyncio.sleep(self._ttl_s / 3)
            except (TimeoutError, RpcError, EtcdError):
                if link is not None:
                    self._channel.leave(link)
                if loop.time() >= self._until_s or self._channel.closed:
                    self._lost.set()
                    return
                await asyncio.sleep(min(backoff_s(attempt), self._ttl_s / 10))
                attempt += 1
            finally:
                if stream is not None:
                    stream.cancel()

    async def _renew(self, stream: Stream, loop: asyncio.AbstractEventLoop) -> bool:
        """Renew once. False: the lease is lost."""
        sent_s = loop.time()
        stream.send(pb.LeaseKeepAliveRequest(ID=self._id).SerializeToString())
        # A server that is silent for a third of the TTL leaves time to ask another one.
        async with asyncio.timeout_at(min(self._until_s, sent_s + max(self._ttl_s / 3, 0.1))):
            data = await stream.next()
        if data is None:
            raise EtcdError(errors.UNAVAILABLE, "keepalive stream ended")
        answer = LEASE_KEEP_ALIVE.decode(data)
        if answer.TTL <= 0:
            self._lost.set()
            return False
        self._until_s = sent_s + answer.TTL
        return True
