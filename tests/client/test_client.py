"""The asyncio client against real etcd and ours: calls, failover, and what is repeated when connections break."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from quorate import errors
from quorate.client import Client, CompactedError, EtcdError, ops
from tests.client.proxy import Proxy
from tests.oracle import Member, free_port

pytestmark = [pytest.mark.oracle, pytest.mark.process]
Body = Callable[[Client, Proxy], Awaitable[None]]


def through_proxy(member: Member, body: Body, timeout_s: float = 5.0) -> None:
    async def run() -> None:
        proxy = await Proxy(member.client_port).start()
        try:
            async with Client(proxy.endpoint, timeout_s=timeout_s) as client:
                await client.delete("", prefix=True)
                await asyncio.wait_for(body(client, proxy), 30)
        finally:
            await proxy.close()

    asyncio.run(run())


def test_keys(member: Member) -> None:
    async def body(client: Client, _: Proxy) -> None:
        assert await client.get("k") is None
        first = await client.put("k", "v1")
        second = await client.put(b"k", b"v2", prev_kv=True)
        assert second.prev_kv.value == b"v1"
        assert second.header.revision == first.header.revision + 1
        found = await client.get("k")
        assert found is not None
        assert (found.value, found.version, found.create_revision) == (b"v2", 2, first.header.revision)
        old = await client.get("k", revision=first.header.revision)
        assert old is not None
        assert old.value == b"v1"
        for key in ("p1", "p2", "q"):
            await client.put(key, key)
        page = await client.range("p", prefix=True, limit=1, order="descend")
        assert ([kv.key for kv in page.kvs], page.count, page.more) == ([b"p2"], 2, True)
        assert (await client.range("p", from_key=True, count_only=True)).count == 3
        assert (await client.delete("p", prefix=True)).deleted == 2
        with pytest.raises(EtcdError, match="required revision is a future revision") as caught:
            await client.get("k", revision=10**9)
        assert caught.value.code == errors.OUT_OF_RANGE

    through_proxy(member, body)


def test_txn(member: Member) -> None:
    async def body(client: Client, _: Proxy) -> None:
        await client.put("k", "1")
        done = await client.txn(
            [ops.value("k", "=", "1"), ops.version("none", "=", 0)],
            [ops.put("k", "2"), ops.nested([], [ops.get("k")])],
            [ops.delete("k")],
        )
        assert done.succeeded
        assert done.responses[1].response_txn.responses[0].response_range.kvs[0].value == b"2"
        assert not (await client.txn([ops.mod_revision("k", "<", 1)], [ops.put("k", "3")])).succeeded

    through_proxy(member, body)


def test_optimistic_transactions_lose_no_increment(member: Member) -> None:
    async def body(client: Client, _: Proxy) -> None:
        async def add() -> None:
            for _ in range(5):
                async for attempt in client.transactions():
                    attempt.put("n", str(int(await attempt.get("n") or 0) + 1))

        await asyncio.gather(*[add() for _ in range(4)])
        found = await client.get("n")
        assert found is not None
        assert found.value == b"20"

    through_proxy(member, body)


def test_reads_survive_cuts_and_resets(member: Member) -> None:
    async def body(client: Client, proxy: Proxy) -> None:
        await client.put("k", "v")
        for turn in range(10):
            reads = [asyncio.create_task(client.get("k")) for _ in range(20)]
            await asyncio.sleep(0)
            proxy.cut(reset=turn % 2 == 0)
            for kv in await asyncio.gather(*reads):
                assert kv is not None
                assert kv.value == b"v"
        assert proxy.connections > 5

    through_proxy(member, body, 10)


def test_a_write_whose_answer_is_lost_is_not_repeated(member: Member) -> None:
    async def body(client: Client, proxy: Proxy) -> None:
        await client.put("k", "v")
        proxy.swallow_answers(True)
        write = asyncio.create_task(client.put("k", "w"))
        await asyncio.sleep(0.2)
        proxy.cut()
        proxy.swallow_answers(False)
        with pytest.raises(EtcdError) as caught:
            await write
        assert caught.value.maybe_applied
        found = await client.get("k")
        assert found is not None
        assert (found.value, found.version) == (b"w", 2)

    through_proxy(member, body)


def test_every_write_counts_once_under_cuts(member: Member) -> None:
    async def body(client: Client, proxy: Proxy) -> None:
        sure = unsure = 0
        for turn in range(60):
            write = asyncio.create_task(client.put("k", "v"))
            if turn % 6 == 3:
                await asyncio.sleep(0.001)
                proxy.cut(reset=turn % 12 == 3)
            try:
                await write
                sure += 1
            except EtcdError as error:
                assert error.maybe_applied  # noqa: PT017
                unsure += 1
        found = await client.get("k")
        assert found is not None
        assert sure <= found.version <= sure + unsure

    through_proxy(member, body)


def test_a_call_ends_in_time(member: Member) -> None:
    async def body(client: Client, proxy: Proxy) -> None:
        await client.get("k")
        proxy.swallow_answers(True)
        begun = asyncio.get_running_loop().time()
        with pytest.raises(EtcdError, match="context deadline exceeded") as caught:
            await client.put("k", "v", timeout_s=0.3)
        assert asyncio.get_running_loop().time() - begun < 1
        assert caught.value.maybe_applied
        proxy.swallow_answers(False)

    through_proxy(member, body)


def test_a_cancelled_call_ends(member: Member) -> None:
    async def body(client: Client, _: Proxy) -> None:
        async def read() -> None:
            while True:
                await client.get("k")

        for turn in range(100):  # whatever the call is just waiting for
            task = asyncio.create_task(read())
            await asyncio.sleep(0.0002 * (turn % 20))
            task.cancel()
            await asyncio.wait({task}, timeout=5)
            assert task.cancelled()

    through_proxy(member, body)


def test_failover_and_nobody_there(member: Member) -> None:
    async def run() -> None:
        dead = f"127.0.0.1:{free_port()}"
        async with Client([dead, member.endpoint, dead]) as client:
            await client.put("k", "v")
        async with Client(dead, timeout_s=0.5) as client:
            with pytest.raises(EtcdError, match="context deadline exceeded") as caught:
                await client.put("k", "v")
            assert not caught.value.maybe_applied

    asyncio.run(run())


def test_watch_goes_on_through_cuts(member: Member) -> None:
    async def body(client: Client, proxy: Proxy) -> None:
        seen: list[tuple[bytes, int]] = []
        async with Client(member.endpoint) as writer, client.watch("w/", prefix=True) as watcher:

            async def write() -> None:
                for number in range(300):
                    await writer.put(f"w/{number:03}", "x")
                    if number % 50 == 20:
                        proxy.cut(reset=number % 100 == 20)
                    await asyncio.sleep(0.001)

            task = asyncio.create_task(write())
            async for batch in watcher:
                seen += [(event.kv.key, event.kv.mod_revision) for event in batch.events]
                if len(seen) >= 300:
                    break
            await task
        assert [key for key, _ in seen] == [f"w/{number:03}".encode() for number in range(300)]
        revisions = [revision for _, revision in seen]
        assert revisions == sorted(set(revisions))
        assert proxy.connections > 3

    through_proxy(member, body)


def test_watch_of_a_big_transaction_comes_whole(member: Member) -> None:
    async def body(client: Client, _: Proxy) -> None:
        async with client.watch("big/", prefix=True) as watcher:
            parts = [ops.put(f"big/{number}", b"x" * 14_000) for number in range(100)]
            await client.txn([], parts)
            batch = await watcher.next(5)
            assert batch is not None
            assert len(batch.events) == 100

    through_proxy(member, body)


def test_watch_says_compacted_and_filters(member: Member) -> None:
    async def body(client: Client, _: Proxy) -> None:
        revision = 0
        for number in range(5):
            revision = (await client.put("c", str(number))).header.revision
        await client.compact(revision, physical=True)
        with pytest.raises(CompactedError) as caught:
            await client.watch("c", start_revision=revision - 3).next(5)
        assert caught.value.compact_revision == revision
        async with client.watch("c", puts=False, prev_kv=True) as watcher:
            await client.put("c", "not seen")
            await client.delete("c")
            batch = await watcher.next(5)
            assert batch is not None
            assert [event.prev_kv.value for event in batch.events] == [b"not seen"]

    through_proxy(member, body)


def test_watch_progress(member: Member) -> None:
    async def body(client: Client, _: Proxy) -> None:
        async with client.watch("quiet") as watcher:
            revision = (await client.put("elsewhere", "x")).header.revision
            batch = None
            while batch is None:
                await watcher.request_progress()
                try:
                    batch = await watcher.next(1)
                except TimeoutError:
                    continue
            assert (batch.revision, batch.events) == (revision, [])

    through_proxy(member, body)


def test_lease_stays_alive_through_cuts_and_is_revoked(member: Member) -> None:
    async def body(client: Client, proxy: Proxy) -> None:
        async with await client.lease(2) as lease:
            await client.put("mortal", "x", lease=lease.id)
            for _ in range(5):
                await asyncio.sleep(0.8)
                proxy.cut()
            assert not lease.lost
            assert await client.get("mortal") is not None
            left = await client.lease_time_to_live(lease.id, keys=True)
            assert (left.grantedTTL, list(left.keys)) == (2, [b"mortal"])
        assert await client.get("mortal") is None
        assert lease.id not in await client.leases()

    through_proxy(member, body)


def test_lease_revoked_by_others_is_lost(member: Member) -> None:
    async def body(client: Client, _: Proxy) -> None:
        lease = await client.lease(2)
        await client.lease_revoke(lease.id)
        await asyncio.wait_for(lease.wait_lost(), 5)
        await lease.revoke()

    through_proxy(member, body)


def test_locks_exclude(member: Member) -> None:
    async def body(client: Client, proxy: Proxy) -> None:
        holders = most = turns = 0

        async def work() -> None:
            nonlocal holders, most, turns
            async with client.lock("job", ttl_s=5) as lock:
                assert not lock.lost
                holders += 1
                most = max(most, holders)
                await asyncio.sleep(0.01)
                holders -= 1
                turns += 1

        tasks = [asyncio.create_task(work()) for _ in range(8)]
        await asyncio.sleep(0.03)
        proxy.cut()
        await asyncio.gather(*tasks)
        assert (most, turns) == (1, 8)
        async with client.lock("job"):
            with pytest.raises(TimeoutError):
                await client.lock("job").acquire(0.2)
        assert (await client.range("job", prefix=True, count_only=True)).count == 0

    through_proxy(member, body, 10)


def test_election_and_barrier(member: Member) -> None:
    async def body(client: Client, _: Proxy) -> None:
        first, second = client.election("e"), client.election("e")
        await first.campaign("one")
        waiting = asyncio.create_task(second.campaign("two"))
        leader = await first.leader()
        assert leader.value == b"one"
        await first.proclaim("uno")
        assert (await second.wait_leader(leader.mod_revision)).value == b"uno"
        await first.resign()
        await waiting
        assert (await first.leader()).value == b"two"
        await second.resign()
        barrier = client.barrier("b")
        assert await barrier.hold()
        assert not await barrier.hold()
        passing = asyncio.create_task(barrier.wait(5))
        await asyncio.sleep(0.05)
        assert not passing.done()
        await barrier.release()
        await passing

    through_proxy(member, body)


def test_a_snapshot_starts_over(member: Member, tmp_path: Path) -> None:
    async def body(client: Client, proxy: Proxy) -> None:
        await client.put("k", "v" * 1_000_000)
        path = tmp_path / "snap.db"
        for reset in (False, True):
            proxy.swallow_answers(True)
            saving = asyncio.create_task(client.snapshot(str(path)))
            await asyncio.sleep(0.2)
            proxy.cut(reset)
            proxy.swallow_answers(False)
            size = await saving
            data = path.read_bytes()
            assert (len(data), hashlib.sha256(data[:-32]).digest()) == (size, data[-32:])
            assert list(tmp_path.iterdir()) == [path]
        assert proxy.connections >= 3

    through_proxy(member, body, 20)


def test_maintenance(member: Member, tmp_path: Path) -> None:
    async def body(client: Client, proxy: Proxy) -> None:
        await client.put("k", "v" * 100_000)
        members = await client.members()
        status = await client.status(proxy.endpoint)
        assert status.leader == members[0].ID
        assert await client.alarms() == []
        assert (await client.hash_kv()).hash != 0
        await client.defragment()
        assert not (await client.auth_status()).enabled
        path = tmp_path / "snap.db"
        size = await client.snapshot(str(path))
        data = path.read_bytes()
        assert len(data) == size
        assert hashlib.sha256(data[:-32]).digest() == data[-32:]
        assert list(tmp_path.iterdir()) == [path]

    through_proxy(member, body)
