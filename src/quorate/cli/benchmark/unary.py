"""put, range, txn-put, txn-mixed and lease-keepalive: loops of single calls."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from itertools import repeat
from typing import Final

from quorate.cli.benchmark.context import (
    Context,
    RefusedError,
    ShowUsageError,
    numbered_key,
    random_bytes,
)
from quorate.cli.benchmark.load import Call, Follow, Rate, Run
from quorate.cli.benchmark.report import Report
from quorate.client import methods
from quorate.client.policy import prefix_end
from quorate.errors import RpcError
from quorate.proto import rpc_pb2 as pb
from quorate.runtime.duration import format_duration
from quorate.units import human_bytes

PAGE: Final = 10_000
KEPT: Final = 1000  # requests that are made once: making one costs as much as sending it
LEASE_TTL_S: Final = 100


async def _run(
    context: Context, calls: Iterator[Call], total: int, follow: Follow | None = None, rate: int = 0
) -> None:
    await Run(context.pool, context.clients, calls, Rate(rate), total, follow).go()


async def put(context: Context) -> None:
    """Write keys."""
    space, total = context.check_key_space(), context.number("total")
    prefix, size = context.text("prefix").encode("utf-8", "surrogateescape"), context.number("key-size")
    value = random_bytes(context.number("val-size"))
    in_turn = context.on("sequential-keys")
    report = context.report()

    made: dict[int, Call] = {}

    def calls() -> Iterator[Call]:
        path = methods.PUT.path
        for at in range(total):
            number = at % space if in_turn else int(random.random() * space)
            call = made.get(number)
            if call is None:
                request = pb.PutRequest(key=prefix + numbered_key(number, size), value=value)
                call = Call(path, request.SerializeToString(), report)
                if number < KEPT:
                    made[number] = call
            yield call

    compacting = None
    if interval := context.number("compact-interval"):
        compacting = asyncio.get_running_loop().create_task(_compact(context, interval / 1e9))
    await _run(context, calls(), total, rate=context.number("rate"))
    if compacting is not None:
        compacting.cancel()
        await asyncio.gather(compacting, return_exceptions=True)
    context.print(context.finished(report) + "\n")
    if context.on("check-hashkv"):
        await _hash_kv(context)


async def _compact(context: Context, interval_s: float) -> None:
    pool, delta = context.pool, context.number("compact-index-delta")
    while True:
        await asyncio.sleep(interval_s)
        answer = await pool.ask(pool.conn(0), methods.RANGE, pb.RangeRequest(key=b"foo"))
        revision = max(0, answer.header.revision - delta)
        try:
            await pool.ask(pool.conn(0), methods.COMPACT, pb.CompactionRequest(revision=revision))
        except RpcError as error:
            context.warn(f"compaction at {revision}: {error.text}")


async def _hash_kv(context: Context) -> None:
    pool = context.pool
    began = time.perf_counter()
    hashed = await pool.ask(pool.conn(0), methods.HASH_KV, pb.HashKVRequest())
    status = await pool.ask(pool.conn(0), methods.STATUS, pb.StatusRequest())
    took = format_duration(int((time.perf_counter() - began) * 1e9))
    context.print(
        f"HashKV Summary:\n\tHashKV: {hashed.hash}\n\tEndpoint: {pool.targets[0].name}\n"
        f"\tTime taken to get hashkv: {took}\n\tDB size: {human_bytes(status.dbSize)}\n"
    )


async def range_(context: Context) -> None:
    """Read a key, a range or a prefix."""
    args, prefix, paginate = context.args, context.on("prefix"), context.on("paginate")
    if len(args) > 2 or (not args and not prefix):
        raise ShowUsageError
    limit = context.number("limit")
    if paginate and limit > 0:
        raise RefusedError("--paginate and --limit are mutually exclusive")
    if context.on("count-only") and context.on("keys-only"):
        raise RefusedError("`--keys-only` and `--count-only` cannot be set at the same time")
    serializable = context.consistency()
    key, end = (word.encode("utf-8", "surrogateescape") for word in [*args, "", ""][:2])
    if prefix:
        end = prefix_end(key)
        key = key or b"\0"
    request = pb.RangeRequest(
        key=key,
        range_end=end,
        limit=PAGE if paginate else limit,
        serializable=serializable,
        keys_only=context.on("keys-only"),
        count_only=context.on("count-only"),
    )
    total, report = context.number("total"), context.report()
    data = request.SerializeToString()

    calls = repeat(Call(methods.RANGE.path, data, report), total)
    follow = _pages(request, report) if paginate else None
    await _run(context, calls, total, follow, context.number("rate"))
    context.print(context.finished(report))


def _pages(first: pb.RangeRequest, report: Report) -> Follow:
    request = pb.RangeRequest()
    request.CopyFrom(first)

    def follow(call: Call, answer: bytes) -> Call | None:
        found = methods.RANGE.decode(answer)
        if not found.more or not found.kvs:
            return None
        request.key = found.kvs[-1].key + b"\0"
        request.revision = call.revision or found.header.revision
        return Call(methods.RANGE.path, request.SerializeToString(), report, request.revision)

    return follow


async def txn_put(context: Context) -> None:
    """Write keys by transactions."""
    space, count = context.check_key_space(), context.number("txn-ops")
    if count > space:
        text = "expected --txn-ops no larger than --key-space-size, got "
        raise RefusedError(f"{text}txn-ops({count}) key-space-size({space})")
    size, value = context.number("key-size"), random_bytes(context.number("val-size"))
    total, report = context.number("total"), context.report()

    def calls() -> Iterator[Call]:
        for number in range(total):
            keys = [numbered_key((number * count + at) % space, size) for at in range(count)]
            puts = [pb.RequestOp(request_put=pb.PutRequest(key=key, value=value)) for key in keys]
            yield Call(methods.TXN.path, pb.TxnRequest(success=puts).SerializeToString(), report)

    await _run(context, calls(), total, rate=context.number("rate"))
    context.print(context.finished(report) + "\n")


async def txn_mixed(context: Context) -> None:
    """Read and write by transactions."""
    space = context.check_key_space()
    try:
        ratio = float(context.text("rw-ratio"))
    except ValueError:
        raise RefusedError(f'invalid argument "{context.text("rw-ratio")}" for "--rw-ratio" flag') from None
    serializable = context.consistency()
    size, value = context.number("key-size"), random_bytes(context.number("val-size"))
    end = context.text("end-key").encode("utf-8", "surrogateescape") or b"\0"
    read = pb.RangeRequest(key=b"\0", range_end=end, limit=context.number("limit"), serializable=serializable)
    read_data = pb.TxnRequest(success=[pb.RequestOp(request_range=read)]).SerializeToString()
    total = context.number("total")
    reads, writes = context.report(f"{context.name}-read"), context.report(f"{context.name}-write")
    counts = {reads: 0, writes: 0}

    def calls() -> Iterator[Call]:
        for number in range(total):
            if random.random() < ratio / (1 + ratio):
                counts[reads] += 1
                yield Call(methods.TXN.path, read_data, reads)
            else:
                counts[writes] += 1
                op = pb.RequestOp(request_put=pb.PutRequest(key=numbered_key(number % space, size), value=value))
                yield Call(methods.TXN.path, pb.TxnRequest(success=[op]).SerializeToString(), writes)

    await _run(context, calls(), total, rate=context.number("rate"))
    context.print(f"Total Read Ops: {counts[reads]}\nDetails:{context.finished(reads)}\n")
    context.print(f"Total Write Ops: {counts[writes]}\nDetails:{context.finished(writes)}\n")


async def lease_keepalive(context: Context) -> None:
    """Renew leases, one for each client, each time on a stream of its own, as KeepAliveOnce does."""
    pool, total = context.pool, context.number("total")
    requests = []
    for number in range(context.clients):
        granted = await pool.ask(pool.conn(number), methods.LEASE_GRANT, pb.LeaseGrantRequest(TTL=LEASE_TTL_S))
        requests.append(pb.LeaseKeepAliveRequest(ID=granted.ID).SerializeToString())
    report = context.report()

    def calls() -> Iterator[Call]:
        for number in range(total):
            yield Call(methods.LEASE_KEEP_ALIVE.path, requests[number % len(requests)], report)

    await _run(context, calls(), total)
    context.print(context.finished(report))
