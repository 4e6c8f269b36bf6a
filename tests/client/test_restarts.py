"""Watches, leases and calls through a rolling restart: every member of three in turn, politely and then by SIGKILL.

The truth is what a fresh watch of the whole history says afterwards: what each watcher saw must be exactly that.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator

import pytest

from quorate.client import BlockingClient, BlockingWatcher, Client, EtcdError, WatchBatch, Watcher
from tests.cluster.harness import Cluster, cluster

pytestmark = [pytest.mark.oracle, pytest.mark.process]
Seen = list[tuple[bytes, int, bytes]]
LAST = "roll/last"
TTL_S = 7


@pytest.fixture(scope="module", params=["real", "ours"])
def three(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with cluster([request.param] * 3) as three:
        three.leader()
        yield three


def endpoints(three: Cluster) -> list[str]:
    return [member.endpoint for member in three.members]


def note(seen: Seen, batch: WatchBatch) -> bool:
    """Write down a batch's events; True when the last one has come."""
    seen += [(event.kv.key, event.kv.mod_revision, event.kv.value) for event in batch.events]
    return bool(seen) and seen[-1][0] == LAST.encode()


async def follow(watcher: Watcher, seen: Seen) -> None:
    async for batch in watcher:
        if note(seen, batch):
            return


def follow_blocking(watcher: BlockingWatcher, seen: Seen) -> None:
    for batch in watcher:
        if note(seen, batch):
            return


async def write(client: Client, stop: asyncio.Event) -> tuple[int, int]:
    """Write numbered keys until the restarts are over; return how many surely and how many perhaps are there."""
    sure = perhaps = 0
    while not stop.is_set():
        with contextlib.suppress(EtcdError):
            perhaps += 1
            await client.put(f"roll/{perhaps:06}", "x")
            sure += 1
        await asyncio.sleep(0.01)
    return sure, perhaps


async def insist(client: Client, key: str) -> None:
    """Put a key until it is surely there."""
    while True:
        try:
            await client.put(key, "x")
        except EtcdError:
            await asyncio.sleep(0.1)
        else:
            return


async def roll(three: Cluster, how: signal.Signals, client: Client) -> None:
    for member in three.members:
        await asyncio.to_thread(member.stop, how)
        await insist(client, "elsewhere")
        await asyncio.to_thread(member.start)
        await asyncio.to_thread(three.leader)


def check_exact(seen: Seen, truth: Seen) -> None:
    """Nothing lost, nothing doubled, in order; said briefly, for the lists are long."""
    lost = [event for event in truth if event not in set(seen)]
    assert lost == []
    assert len(seen) == len(truth)
    assert all(mine == true for mine, true in zip(seen, truth, strict=True))


def test_rolling_restarts(three: Cluster) -> None:
    async def run(slow: BlockingClient) -> None:
        async with Client(endpoints(three)) as client, Client(endpoints(three)) as writer:
            await writer.delete("", prefix=True)
            lease = await client.lease(TTL_S)
            begun_s = asyncio.get_running_loop().time()
            await client.put("mortal", "x", lease=lease.id)
            slow_lease = await asyncio.to_thread(slow.lease, TTL_S)
            await asyncio.to_thread(slow.put, "mortal too", "x", lease=slow_lease.id)
            seen: Seen = []
            slow_seen: Seen = []
            watcher = client.watch("roll/", prefix=True)
            await watcher.ready()
            slow_watcher = slow.watch("roll/", prefix=True)
            await asyncio.to_thread(slow_watcher.ready)
            thread = threading.Thread(target=follow_blocking, args=(slow_watcher, slow_seen), daemon=True)
            thread.start()
            following = asyncio.create_task(follow(watcher, seen))
            stop = asyncio.Event()
            writing = asyncio.create_task(write(writer, stop))

            for how in (signal.SIGTERM, signal.SIGKILL):
                await roll(three, how, writer)
            left_s = TTL_S * 1.5 - (asyncio.get_running_loop().time() - begun_s)
            await asyncio.sleep(max(left_s, 0))  # long enough for a lease that nobody renewed to run out

            stop.set()
            sure, perhaps = await writing
            await insist(writer, LAST)
            await asyncio.wait_for(following, 20)
            await asyncio.to_thread(thread.join, 20)
            assert not thread.is_alive()
            truth: Seen = []
            first = (await writer.range("roll/", prefix=True, order="ascend", sort_by="mod", limit=1)).kvs[0]
            again = writer.watch("roll/", prefix=True, start_revision=first.mod_revision)
            await asyncio.wait_for(follow(again, truth), 20)
            check_exact(seen, truth)
            check_exact(slow_seen, truth)
            assert sure < len(truth)
            assert len({key for key, _, _ in truth} - {LAST.encode()}) <= perhaps
            assert not lease.lost
            assert not slow_lease.lost
            for key in ("mortal", "mortal too"):
                assert await writer.get(key) is not None
            await lease.revoke()
            await asyncio.to_thread(slow_lease.revoke)
            assert await writer.get("mortal") is None
            await watcher.close()
            await asyncio.to_thread(slow_watcher.close)

    with BlockingClient(endpoints(three)) as slow:
        asyncio.run(run(slow))
