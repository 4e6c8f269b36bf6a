"""watch, watch-get and watch-latency: many watchers on few streams.

A watcher's events are counted as they are decoded. It is created when the server says so, as in etcd's client.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Iterator

from quorate.cli.benchmark.context import Context, RefusedError, numbered_key, random_bytes
from quorate.cli.benchmark.load import Call, Progress, Rate, Run
from quorate.cli.benchmark.pool import Conn, Pool, text_of
from quorate.cli.benchmark.report import Report
from quorate.client import methods
from quorate.client.link import Stream
from quorate.errors import RpcError
from quorate.proto import rpc_pb2 as pb

STREAMS_A_CONNECTION = 100


class WatchStream:
    """One stream of watchers. `on_events(watcher, count)` is called for what comes."""

    def __init__(self, stream: Stream, on_events: Callable[[int, int], None]) -> None:
        self._stream = stream
        self._on_events = on_events
        self._created: asyncio.Queue[None] = asyncio.Queue()
        self.task = asyncio.get_running_loop().create_task(self._read())

    def create(self, key: bytes, start_revision: int = 0, prev_kv: bool = False) -> None:
        """Ask for a watcher."""
        request = pb.WatchCreateRequest(key=key, start_revision=start_revision, prev_kv=prev_kv)
        self._stream.send(pb.WatchRequest(create_request=request).SerializeToString())

    async def created(self) -> None:
        """Wait until one more watcher is there."""
        await self._created.get()

    async def _read(self) -> None:
        while (data := await self._stream.next()) is not None:
            response = methods.WATCH.decode(data)
            if response.canceled:
                raise RefusedError(f"watch canceled: {response.cancel_reason}")
            if response.created:
                self._created.put_nowait(None)
            elif response.events:
                self._on_events(response.watch_id, len(response.events))
        raise RefusedError("a watch stream has ended")

    def close(self) -> None:
        """Give it up."""
        self.task.cancel()
        self._stream.cancel()


async def _until(done: asyncio.Future[None], streams: list[WatchStream], others: list[asyncio.Task[None]]) -> None:
    """Wait for the end, or for the first thing that goes wrong; close the streams. Raises what it was."""
    tasks = [stream.task for stream in streams] + others
    try:
        pending: set[asyncio.Future[None]] = {done, *tasks}
        while not done.done():
            finished, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for each in finished:
                each.result()
    finally:
        for stream in streams:
            stream.close()
        for task in others:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _open(context: Context, count: int, on_events: Callable[[int, int], None]) -> list[WatchStream]:
    pool = context.pool
    # Client i has connection i; streams are dealt to the clients.
    conns = [pool.conn(number % context.clients) for number in range(count)]
    return [WatchStream(await pool.stream(conn, methods.WATCH.path), on_events) for conn in conns]


async def watch(context: Context) -> None:
    """Create watchers, then put what they watch and count the events."""
    space = context.check_key_space()
    total_streams, each = context.number("streams"), context.number("watch-per-stream")
    conns = min(context.clients, len(context.pool.conns))
    wanted = 1 + total_streams // STREAMS_A_CONNECTION
    if conns < wanted:
        context.warn(f"warning: grpc limits 100 streams per client connection, have {conns} but need {wanted}")
    size, in_turn = context.number("key-size"), context.on("sequential-keys")
    numbers = range(context.number("watched-key-total"))
    keys = [numbered_key(number % space if in_turn else random.randrange(space), size) for number in numbers]
    if not keys:
        raise RefusedError("expected positive --watched-key-total, got (0)")

    received = _Received(context)
    streams = await _open(context, total_streams, received.events)
    made = context.report("watch-make")
    progress = Progress(total_streams * each)
    watchers = dict.fromkeys(keys, 0)
    dealt = itertools.cycle(keys)

    async def create(stream: WatchStream) -> None:
        for _ in range(each):
            key = next(dealt)
            began = time.perf_counter()
            stream.create(key)
            await stream.created()
            made.add(began, time.perf_counter())
            watchers[key] += 1
            progress.add()

    creating = [asyncio.create_task(create(stream)) for stream in streams]
    done = asyncio.ensure_future(_gathered(creating))
    await asyncio.wait({done, *[stream.task for stream in streams]}, return_when=asyncio.FIRST_COMPLETED)
    for stream in streams:
        if stream.task.done():
            stream.task.result()
    await done
    progress.finish()
    context.print(f"Watch creation summary:\n{context.finished(made)}")

    total = context.number("put-total")
    received.begin(sum(watchers[keys[number % len(keys)]] for number in range(total)))
    putting = asyncio.create_task(_put(context, keys, total))
    await _until(received.over, streams, [putting])
    received.progress.finish()
    context.print(f"Watch events received summary:\n{context.finished(received.report)}")


async def _gathered(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks)


class _Received:
    """The events of `watch`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._left = 0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.begin(-1)

    def begin(self, expected: int) -> None:
        """Count from here on to `expected`."""
        self.report = self._context.report("watch-put")
        self.progress = Progress(max(expected, 0))
        self._left = expected
        if expected == 0:
            self.over.set_result(None)

    def events(self, _: int, count: int) -> None:
        """So many have come at once."""
        began = time.perf_counter()
        for _each in range(count):
            self.report.add(began, time.perf_counter())
        self.progress.add(count)
        self._left -= count
        if self._left <= 0 and not self.over.done():
            self.over.set_result(None)


async def _put(context: Context, keys: list[bytes], total: int) -> None:
    report = context.report("put")

    def calls() -> Iterator[Call]:
        for number in range(total):
            request = pb.PutRequest(key=keys[number % len(keys)], value=b"data")
            yield Call(methods.PUT.path, request.SerializeToString(), report)

    run = Run(context.pool, context.clients, calls(), Rate(context.number("put-rate")), 0)
    await run.go()
    for text in report.errors:
        raise RefusedError(f"put failed: {text}")


async def watch_get(context: Context) -> None:
    """Read while many watchers catch up with history."""
    pool, count, events = context.pool, context.number("watchers"), context.number("events")
    revision = 0
    for number in range(events):
        answer = await pool.ask(pool.conn(0), methods.PUT, pb.PutRequest(key=b"watchkey", value=b"%d" % number))
        revision = revision or answer.header.revision
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    progress = Progress(count * events)

    def on_events(_: int, number: int) -> None:
        progress.add(number)
        if progress.done >= count * events and not over.done():
            over.set_result(None)

    # The reader has a connection of its own.
    await pool.open(1)
    reader = pool.conns.pop()
    streams = await _open(context, context.number("streams"), on_events)
    report = context.report()
    for number in range(count):
        streams[number % len(streams)].create(b"watchkey", revision)
    reading = asyncio.create_task(_read_on(pool, reader, report))
    try:
        await _until(over, streams, [reading])
    finally:
        pool.conns.append(reader)
    progress.finish()
    context.print(f"Get during watch summary:\n{context.finished(report)}")


async def _read_on(pool: Pool, conn: Conn, report: Report) -> None:
    request = pb.RangeRequest(key=b"abc", serializable=True)
    while True:
        began = time.perf_counter()
        try:
            await pool.ask(conn, methods.RANGE, request)
        except RpcError as error:
            report.fail(text_of(error))
        else:
            report.add(began, time.perf_counter())


async def watch_latency(context: Context) -> None:
    """Measure from the end of a put to its event at every watcher."""
    total, prev_kv = context.number("put-total"), context.on("prevkv")
    key, value = random_bytes(context.number("key-size")), random_bytes(context.number("val-size"))
    each, count = context.number("watchers-per-stream"), context.number("streams")
    times: dict[tuple[int, int], list[float]] = {}
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    progress = Progress(total * each * count)

    def taker(number: int) -> Callable[[int, int], None]:
        def on_events(watcher: int, events: int) -> None:
            now = time.perf_counter()
            times.setdefault((number, watcher), []).extend([now] * events)
            progress.add(events)
            if progress.done >= total * each * count and not over.done():
                over.set_result(None)

        return on_events

    pool = context.pool
    streams = []
    for number in range(count):
        stream = await pool.stream(pool.conn(number % context.clients), methods.WATCH.path)
        streams.append(WatchStream(stream, taker(number)))
        for _ in range(each):
            streams[-1].create(key, prev_kv=prev_kv)
            await streams[-1].created()
    await pool.open(1)
    writer = pool.conns.pop()
    puts = context.report(f"{context.name}-put")
    ends: list[float] = []

    async def write() -> None:
        rate = Rate(context.number("put-rate"), context.number("put-rate"))
        for _ in range(total):
            await rate.wait()
            began = time.perf_counter()
            try:
                await pool.ask(writer, methods.PUT, pb.PutRequest(key=key, value=value))
            except RpcError as error:
                raise RefusedError(f"Failed to Put for watch latency benchmark: {error.text}") from None
            ends.append(time.perf_counter())
            puts.add(began, ends[-1])

    watches = context.report(f"{context.name}-watch")
    writing = asyncio.create_task(write())
    if progress.done >= total * each * count and not over.done():
        over.set_result(None)  # nothing to wait for
    try:
        await _until(over, streams, [])
        await writing
    finally:
        pool.conns.append(writer)
        writing.cancel()
    progress.finish()
    context.print(f"\nPut summary:\n{context.finished(puts)}")
    for seen in times.values():
        for end, event in zip(ends, seen, strict=True):
            watches.add(min(end, event), event)
    context.print(f"\nWatch events summary:\n{context.finished(watches)}")
