"""Locks, elections, barriers and optimistic transactions, with the keys that etcd's own client library uses.

A lock's or candidate's key is `<name>/<lease in hexadecimal>`; the one created first holds. So our locks and those of
`etcdctl lock` and of Go programs exclude each other (etcd: client/v3/concurrency). Each waits for its predecessor only.
The acquiring transaction creates a key that no one else can create, so it is repeated when its outcome is unknown.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from quorate import errors
from quorate.client import ops
from quorate.client.errors import EtcdError, LeaseLostError, NoLeaderError
from quorate.client.lease import Lease
from quorate.client.ops import Data, as_bytes
from quorate.proto import rpc_pb2 as pb
from quorate.proto.kv_pb2 import Event, KeyValue

if TYPE_CHECKING:
    from quorate.client.aio import Client


class Turn:
    """A place in the queue under a name; the first place holds. Locks and elections are built on it."""

    def __init__(self, client: Client, name: Data, ttl_s: int) -> None:
        self._client = client
        self._prefix = as_bytes(name) + b"/"
        self._ttl_s = ttl_s
        self._lease: Lease | None = None
        self._key = b""
        self._revision = 0

    @property
    def key(self) -> bytes:
        """The key that stands for us; empty before we wait or hold."""
        return self._key

    @property
    def revision(self) -> int:
        """The revision that created our key: a fencing token that only grows."""
        return self._revision

    @property
    def lost(self) -> bool:
        """Whether what we hold is not ours any more, because our lease is gone."""
        return self._lease is None or self._lease.lost

    async def wait_lost(self) -> None:
        """Return when the lease that holds our place is lost."""
        if self._lease is not None:
            await self._lease.wait_lost()

    async def _join(self, value: bytes) -> None:
        self._lease = await self._client.lease(self._ttl_s)
        self._key = self._prefix + b"%x" % self._lease.id
        create = [ops.put(self._key, value, lease=self._lease.id)]
        while True:
            try:
                answer = await self._client.txn([ops.create_revision(self._key, "=", 0)], create, [ops.get(self._key)])
            except EtcdError as error:
                if error.maybe_applied and not self._lease.lost:
                    continue
                raise
            break
        self._revision = answer.header.revision
        if not answer.succeeded:  # an earlier attempt had arrived
            self._revision = answer.responses[0].response_range.kvs[0].create_revision

    async def _wait_first(self) -> None:
        assert self._lease is not None
        waiting = asyncio.ensure_future(self._predecessors_gone())
        losing = asyncio.ensure_future(self._lease.wait_lost())
        try:
            await asyncio.wait({waiting, losing}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise LeaseLostError
            await waiting
        finally:
            for task in (waiting, losing):
                task.cancel()
            await asyncio.gather(waiting, losing, return_exceptions=True)

    async def _predecessors_gone(self) -> None:
        while True:
            found = await self._client.range(
                self._prefix,
                prefix=True,
                order="descend",
                sort_by="create",
                limit=1,
                max_create_revision=self._revision - 1,
            )
            if not found.kvs:
                return
            await wait_deleted(self._client, found.kvs[0].key, found.header.revision + 1)

    async def _leave(self) -> None:
        lease, self._lease, self._key = self._lease, None, b""
        if lease is not None:
            await lease.revoke()


async def wait_deleted(client: Client, key: bytes, revision: int) -> None:
    """Return once the key is deleted at or after the revision."""
    watcher = client.watch(key, start_revision=revision)
    try:
        async for batch in watcher:
            if any(event.type == Event.DELETE for event in batch.events):
                return
    finally:
        await watcher.close()


class Lock(Turn):
    """A mutual exclusion among all clients of the cluster.

    `async with client.lock("jobs") as lock:`; look at `lost` before acting on what the lock protects, or hand
    `revision` to the protected thing as a fencing token.
    """

    async def acquire(self, timeout_s: float | None = None) -> None:
        """Wait for the lock. Raises TimeoutError and leaves the queue when it takes longer."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._join(b"")
                await self._wait_first()
        except BaseException:
            await self._leave()
            raise

    async def release(self) -> None:
        """Let the next one have it."""
        await self._leave()

    async def __aenter__(self) -> Lock:
        await self.acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.release()


class Election(Turn):
    """A choice of one leader among all candidates of a name."""

    async def campaign(self, value: Data, timeout_s: float | None = None) -> None:
        """Wait until we lead; others see `value`. Raises TimeoutError and withdraws when it takes longer."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._join(as_bytes(value))
                await self._wait_first()
        except BaseException:
            await self._leave()
            raise

    async def proclaim(self, value: Data) -> None:
        """Say something new while we lead. Raises LeaseLostError when we do not."""
        if self._lease is None or self._lease.lost:
            raise LeaseLostError
        answer = await self._client.txn(
            [ops.create_revision(self._key, "=", self._revision)],
            [ops.put(self._key, value, lease=self._lease.id)],
        )
        if not answer.succeeded:
            raise LeaseLostError

    async def resign(self) -> None:
        """Lead no more, or withdraw."""
        await self._leave()

    async def leader(self) -> KeyValue:
        """Return the leader's key and value. Raises NoLeaderError."""
        found = await self._client.range(self._prefix, prefix=True, order="ascend", sort_by="create", limit=1)
        if not found.kvs:
            raise NoLeaderError
        return found.kvs[0]

    async def wait_leader(self, after_revision: int = 0) -> KeyValue:
        """Return the leader once there is one whose key was written after the revision."""
        while True:
            found = await self._client.range(self._prefix, prefix=True, order="ascend", sort_by="create", limit=1)
            if found.kvs and found.kvs[0].mod_revision > after_revision:
                return found.kvs[0]
            watcher = self._client.watch(self._prefix, prefix=True, start_revision=found.header.revision + 1)
            try:
                await watcher.next()
            finally:
                await watcher.close()


class Barrier:
    """Something to wait behind: `hold` it, others `wait` until it is released."""

    def __init__(self, client: Client, name: Data) -> None:
        self._client = client
        self._key = as_bytes(name)

    async def hold(self, lease: int = 0) -> bool:
        """Raise the barrier; False when it was there already."""
        missing = [ops.create_revision(self._key, "=", 0)]
        answer = await self._client.txn(missing, [ops.put(self._key, b"", lease=lease)])
        return answer.succeeded

    async def release(self) -> None:
        """Let everybody pass."""
        await self._client.delete(self._key)

    async def wait(self, timeout_s: float | None = None) -> None:
        """Return when the barrier is not there. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            found = await self._client.range(self._key)
            if found.kvs:
                await wait_deleted(self._client, self._key, found.header.revision + 1)


class Transaction:
    """One attempt at an optimistic transaction: reads are remembered, writes are kept until the end."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._reads: dict[bytes, KeyValue | None] = {}
        self._writes: dict[bytes, pb.RequestOp] = {}
        self._values: dict[bytes, bytes | None] = {}
        self._revision = 0

    async def get(self, key: Data) -> bytes | None:
        """Return a key's value as of the first read of this attempt, or as written in it; None when it is not there."""
        name = as_bytes(key)
        if name in self._values:
            return self._values[name]
        if name not in self._reads:
            found = await self._client.range(name, revision=self._revision)
            self._revision = self._revision or found.header.revision
            self._reads[name] = found.kvs[0] if found.kvs else None
        known = self._reads[name]
        return None if known is None else known.value

    def put(self, key: Data, value: Data, lease: int = 0) -> None:
        """Write a key at the end."""
        self._writes[as_bytes(key)] = ops.put(key, value, lease=lease)
        self._values[as_bytes(key)] = as_bytes(value)

    def delete(self, key: Data) -> None:
        """Delete a key at the end."""
        self._writes[as_bytes(key)] = ops.delete(key)
        self._values[as_bytes(key)] = None

    async def commit(self) -> bool:
        """Do it all if nothing that was read has changed; False when something has."""
        unchanged = [
            ops.mod_revision(name, "=", 0 if known is None else known.mod_revision)
            for name, known in self._reads.items()
        ]
        return (await self._client.txn(unchanged, list(self._writes.values()))).succeeded


class Transactions:
    """Attempts at an optimistic transaction until one is committed.

        async for attempt in client.transactions():
            attempt.put("n", str(int(await attempt.get("n") or 0) + 1))

    The body runs again when another client changed what it has read. Leaving the loop early commits nothing.
    """

    def __init__(self, client: Client, attempts: int) -> None:
        self._client = client
        self._left = attempts
        self._attempt: Transaction | None = None

    def __aiter__(self) -> Transactions:
        return self

    async def __anext__(self) -> Transaction:
        if self._attempt is not None and await self._attempt.commit():
            raise StopAsyncIteration
        if self._left == 0:
            raise EtcdError(errors.ABORTED, "too many conflicts")
        self._left -= 1
        self._attempt = Transaction(self._client)
        return self._attempt
