"""stm: optimistic transactions at four levels of isolation, with or without a lock around them.

The levels are those of etcd's client/v3/concurrency/stm.go: `c` checks nothing, `r` checks that what was read is
unchanged, `s` also reads everything at the revision of the first read, `ss` also checks that what is written was not
changed since then. A refused commit brings the values for the next attempt with it (`s`, `ss`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator

from quorate.cli.benchmark.context import Context, RefusedError, ShowUsageError, numbered_key, random_bytes
from quorate.cli.benchmark.load import Progress, Rate
from quorate.cli.benchmark.pool import Conn, Pool, text_of
from quorate.client import methods, ops
from quorate.client.methods import Method
from quorate.errors import RpcError
from quorate.proto import rpc_pb2 as pb
from quorate.proto import v3lock_pb2
from quorate.proto.kv_pb2 import Event, KeyValue

KEY_BYTES = 16
LOCK_NAME = b"stmlock"
SESSION_TTL_S = 60
_LOCK = Method("/v3lockpb.Lock/Lock", v3lock_pb2.LockResponse.FromString)
_UNLOCK = Method("/v3lockpb.Lock/Unlock", v3lock_pb2.UnlockResponse.FromString)


class Attempts:
    """One optimistic transaction, from its first attempt to its commit."""

    def __init__(self, pool: Pool, conn: Conn, isolation: str) -> None:
        self._pool = pool
        self._conn = conn
        self._isolation = isolation
        self._ahead: dict[bytes, KeyValue | None] = {}
        self._ahead_revision = 0
        self._restart()

    def _restart(self) -> None:
        self._reads: dict[bytes, KeyValue | None] = {}
        self._writes: dict[bytes, bytes] = {}
        self._revision = 0

    async def get(self, key: bytes) -> None:
        """Read a key. Raises RpcError."""
        if key in self._writes or key in self._reads:
            return
        serial = self._isolation in ("s", "ss")
        if serial and key in self._ahead:
            self._reads[key] = self._ahead[key]
            self._revision = self._revision or self._ahead_revision
            return
        request = pb.RangeRequest(key=key, revision=self._revision if serial else 0)
        found = await self._pool.ask(self._conn, methods.RANGE, request)
        self._revision = self._revision or found.header.revision
        self._reads[key] = found.kvs[0] if found.kvs else None

    def put(self, key: bytes, value: bytes) -> None:
        """Write a key at the commit."""
        self._writes[key] = value

    async def commit(self) -> bool:
        """Do it; False: another attempt is needed, and has begun. Raises RpcError."""
        compare = []
        if self._isolation != "c":
            compare = [ops.mod_revision(key, "=", kv.mod_revision if kv else 0) for key, kv in self._reads.items()]
        if self._isolation == "ss" and self._revision:
            compare += [ops.mod_revision(key, "<", self._revision + 1) for key in self._writes]
        puts = [ops.put(key, value) for key, value in self._writes.items()]
        gets = [ops.get(key) for key in self._reads] if self._isolation in ("s", "ss") else []
        request = pb.TxnRequest(compare=compare, success=puts, failure=gets)
        answer = await self._pool.ask(self._conn, methods.TXN, request)
        if answer.succeeded:
            return True
        found = zip(self._reads, answer.responses, strict=False)
        self._ahead = {key: next(iter(each.response_range.kvs), None) for key, each in found}
        self._ahead_revision = answer.header.revision
        self._restart()
        return False


class Locker:
    """No lock."""

    def __init__(self, pool: Pool, conn: Conn) -> None:
        self.pool = pool
        self.conn = conn
        self.lease = 0
        self._keeping: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin a session. Raises RpcError."""

    async def lock(self) -> None:
        """Take the lock. Raises RpcError."""

    async def unlock(self) -> None:
        """Give it back. Raises RpcError."""

    async def close(self) -> None:
        """End the session. Raises RpcError."""
        if self._keeping is not None:
            self._keeping.cancel()
        if self.lease:
            await self.pool.ask(self.conn, methods.LEASE_REVOKE, pb.LeaseRevokeRequest(ID=self.lease))

    async def begin_session(self) -> None:
        """Grant a lease and keep it alive. Raises RpcError."""
        granted = await self.pool.ask(self.conn, methods.LEASE_GRANT, pb.LeaseGrantRequest(TTL=SESSION_TTL_S))
        self.lease = granted.ID
        self._keeping = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(SESSION_TTL_S / 3)
            await self.pool.ask(self.conn, methods.LEASE_KEEP_ALIVE, pb.LeaseKeepAliveRequest(ID=self.lease))


class RpcLocker(Locker):
    """The lock service of the server."""

    key = b""

    async def open(self) -> None:
        """Begin a session."""
        await self.begin_session()

    async def lock(self) -> None:
        """Take the lock."""
        request = v3lock_pb2.LockRequest(name=LOCK_NAME, lease=self.lease)
        self.key = (await self.pool.ask(self.conn, _LOCK, request)).key

    async def unlock(self) -> None:
        """Give it back."""
        await self.pool.ask(self.conn, _UNLOCK, v3lock_pb2.UnlockRequest(key=self.key))


class ClientLocker(Locker):
    """The client library's recipe: a key in a queue, and a watch of the one before."""

    key = b""

    async def open(self) -> None:
        """Begin a session."""
        await self.begin_session()
        self.key = LOCK_NAME + b"/%x" % self.lease

    async def lock(self) -> None:
        """Take the lock."""
        create = pb.TxnRequest(
            compare=[ops.create_revision(self.key, "=", 0)],
            success=[ops.put(self.key, b"", lease=self.lease)],
            failure=[ops.get(self.key)],
        )
        answer = await self.pool.ask(self.conn, methods.TXN, create)
        mine = answer.header.revision
        if not answer.succeeded:
            mine = answer.responses[0].response_range.kvs[0].create_revision
        before = ops.range_request(
            LOCK_NAME + b"/", prefix=True, order="descend", sort_by="create", limit=1, max_create_revision=mine - 1
        )
        while (found := await self.pool.ask(self.conn, methods.RANGE, before)).kvs:
            await self._gone(found.kvs[0].key, found.header.revision + 1)

    async def _gone(self, key: bytes, revision: int) -> None:
        stream = await self.pool.stream(self.conn, methods.WATCH.path)
        try:
            request = pb.WatchCreateRequest(key=key, start_revision=revision)
            stream.send(pb.WatchRequest(create_request=request).SerializeToString())
            while (data := await stream.next()) is not None:
                if any(event.type == Event.DELETE for event in methods.WATCH.decode(data).events):
                    return
        finally:
            stream.cancel()

    async def unlock(self) -> None:
        """Give it back."""
        await self.pool.ask(self.conn, methods.DELETE_RANGE, pb.DeleteRangeRequest(key=self.key))


LOCKERS = {"stm": Locker, "lock-client": ClientLocker, "lock-rpc": RpcLocker}


async def stm(context: Context) -> None:
    """Run optimistic transactions."""
    keys, percent, each = (context.number(name) for name in ("keys", "txn-wr-percent", "keys-per-txn"))
    if keys <= 0:
        raise RefusedError(f"expected positive --keys, got ({keys})")
    if not 0 <= percent <= 100:
        raise RefusedError(f"expected [0, 100] --txn-wr-percent, got ({percent})")
    if not 0 <= each <= keys:
        raise RefusedError(f"expected --keys-per-txn between 0 and {keys}, got ({each})")
    isolation = context.text("isolation")
    if isolation not in ("c", "r", "s", "ss"):
        raise ShowUsageError
    kind = LOCKERS.get(context.text("stm-locker"))
    if kind is None:
        raise RefusedError(f'unexpected stm locker "{context.text("stm-locker")}"')
    total, size = context.number("total"), context.number("val-size")
    rate, report, progress = Rate(context.number("rate")), context.report(), Progress(total)

    def chosen() -> Iterator[list[bytes]]:
        for _ in range(total):
            yield [numbered_key(number, KEY_BYTES) for number in random.sample(range(keys), each)]

    requests = chosen()

    async def client(number: int) -> None:
        pool, conn = context.pool, context.pool.conn(number)
        locker = kind(pool, conn)
        await locker.open()
        for names in requests:
            began = time.perf_counter()
            await locker.lock()
            try:
                attempts = Attempts(pool, conn, isolation)
                committed = False
                while not committed:
                    await rate.wait()
                    for at, name in enumerate(names):
                        await attempts.get(name)
                        if at < len(names) * percent // 100:
                            attempts.put(name, random_bytes(size))
                    committed = await attempts.commit()
            except RpcError as error:
                report.fail(text_of(error))
            else:
                report.add(began, time.perf_counter())
            await locker.unlock()
            progress.add()
        await locker.close()

    await asyncio.gather(*[client(number) for number in range(context.clients)])
    progress.finish()
    context.print(context.finished(report))
