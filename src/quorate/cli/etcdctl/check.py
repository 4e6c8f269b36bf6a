"""check perf and check datascale: a fixed load for a minute, or a fixed amount of keys, and whether they went well."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import urllib.request
from urllib.error import URLError

from quorate.cli.etcdctl.context import BAD_CONNECTION, BAD_FEATURE, ERROR, INVALID_INPUT, Context, ExitError
from quorate.cli.etcdctl.gotext import encode, quote
from quorate.cli.etcdctl.progress import Bar
from quorate.cli.etcdctl.settings import credentials, tls_options
from quorate.client.aio import Client
from quorate.client.errors import EtcdError
from quorate.client.target import TlsOptions, uses_tls

ALIASES = {"small": "s", "medium": "m", "large": "l", "xLarge": "xl"}
PERF = {"s": (150, 50), "m": (1000, 200), "l": (8000, 500), "xl": (15000, 1000)}
SCALE = {"s": (10_000, 50), "m": (100_000, 200), "l": (1_000_000, 500), "xl": (3_000_000, 1000)}
DURATION_S = 60
KEY_BYTES, VALUE_BYTES = 256, 1024
CLEANUP_S = 30.0


class Load:
    """Puts by many clients at once, and how long each took."""

    def __init__(self, clients: list[Client], prefix: bytes) -> None:
        self.clients = clients
        self.prefix = prefix
        self.took_s: list[float] = []
        self.errors: dict[str, int] = {}

    async def put(self, number: int) -> None:
        """Write one random key."""
        key = self.prefix + os.urandom(10) + bytes(KEY_BYTES - 10)
        begun_s = time.perf_counter()
        try:
            await self.clients[number % len(self.clients)].put(key, bytes(VALUE_BYTES), timeout_s=60.0)
        except EtcdError as error:
            self.errors[error.text] = self.errors.get(error.text, 0) + 1
        else:
            self.took_s.append(time.perf_counter() - begun_s)


def _load(context: Context, table: dict[str, tuple[int, int]]) -> tuple[int, int]:
    name = context.text("load")
    found = table.get(ALIASES.get(name, name))
    if found is None:
        raise ExitError(BAD_FEATURE, f"unknown load option {name}")
    return found


def _clients(context: Context, count: int) -> list[Client]:
    context.prepare()
    tls: TlsOptions | None
    tls, configured = tls_options(context)
    user, password = credentials(context.text("user"), context.text("password"), "Password: ")
    given = tls if configured else None
    if not any(context.endpoints()):
        raise ExitError(BAD_CONNECTION, "etcdclient: no available endpoints")
    return [Client(context.endpoints(), tls=given, user=user, password=password) for _ in range(count)]


async def _finish(context: Context, client: Client, prefix: bytes) -> None:
    try:
        deleted = await client.delete(prefix, prefix=True, timeout_s=CLEANUP_S)
        if context.on("auto-compact"):
            revision = deleted.header.revision
            context.print(f"Compacting with revision {revision}\n")
            await client.compact(revision, physical=True)
            context.print(f"Compacted with revision {revision}\n")
    except EtcdError as error:
        context.print(f"FAIL: Cleanup failed during key deletion: ERROR({error.text})\n")
    if context.on("auto-defrag"):
        for endpoint in context.endpoints():
            context.print(f"Defragmenting {quote(endpoint)}\n")
            await client.defragment(endpoint, timeout_s=CLEANUP_S)
            context.print(f"Defragmented {quote(endpoint)}\n")


async def _empty(client: Client, prefix: bytes, hint: str) -> None:
    if (await client.range(prefix, prefix=True, limit=1)).kvs:
        raise ExitError(INVALID_INPUT, f"prefix {quote(prefix)} has keys. Delete with {hint} first")


async def _perf(context: Context, rate: int, clients: list[Client]) -> Load:
    prefix = encode(context.text("prefix"))
    await _empty(clients[0], prefix, f"'etcdctl del --prefix {prefix.decode()}'")
    load = Load(clients, prefix)
    tasks: set[asyncio.Task[None]] = set()
    begun_s = time.perf_counter()
    sent = 0
    bar = Bar(DURATION_S).start()
    while (passed_s := time.perf_counter() - begun_s) < DURATION_S:
        while sent < passed_s * rate and len(tasks) < len(clients):
            task = asyncio.create_task(load.put(sent))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            sent += 1
        bar.show(int(passed_s))
        await asyncio.sleep(0.002)
    bar.finish()
    await asyncio.gather(*tasks)
    await _finish(context, clients[0], prefix)
    return load


async def _close(clients: list[Client]) -> None:
    await asyncio.gather(*[client.close() for client in clients])


def perf(context: Context) -> None:
    """Write at a fixed rate for a minute and judge throughput, the slowest request and the deviation."""
    rate, count = _load(context, PERF)

    async def run() -> Load:
        clients = _clients(context, count)
        try:
            return await _perf(context, rate, clients)
        finally:
            await _close(clients)

    try:
        load = asyncio.run(run())
    except EtcdError as error:
        raise ExitError(ERROR, error.text) from None
    good = True
    if load.errors:
        good = False
        context.print("FAIL: too many errors\n")
        for text, number in load.errors.items():
            context.print(f"FAIL: ERROR({text}) -> {number}\n")
    took_s = load.took_s or [0.0]
    per_second = len(load.took_s) / DURATION_S
    mean = sum(took_s) / len(took_s)
    deviation = (sum([(each - mean) ** 2 for each in took_s]) / len(took_s)) ** 0.5
    for bad, failed, passed in (
        (per_second / rate <= 0.9, "FAIL: Throughput too low: {} writes/s", "PASS: Throughput is {} writes/s"),
        (max(took_s) > 0.5, "Slowest request took too long: {}s", "PASS: Slowest request took {}s"),
        (deviation > 0.1, "Stddev too high: {}s", "PASS: Stddev is {}s"),
    ):
        value = (
            str(int(per_second) + 1) if "writes" in failed else f"{max(took_s) if 'lowest' in failed else deviation:f}"
        )
        context.print((failed if bad else passed).format(value) + "\n")
        good = good and not bad
    context.print("PASS\n" if good else "FAIL\n")
    if not good:
        raise ExitError(ERROR)


def _memory(endpoint: str, tls: TlsOptions | None, configured: bool) -> float:
    """Return how much memory a server takes; 0 when it does not say, and why on stdout."""
    secure = uses_tls(endpoint, configured)
    url = f"{'https' if secure else 'http'}://{endpoint.rpartition('://')[2]}"
    ssl_context = None
    try:
        if secure and tls is not None:
            ssl_context = tls.context()
            ssl_context.set_alpn_protocols(["http/1.1"])
        with urllib.request.urlopen(url + "/metrics", timeout=10, context=ssl_context) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("process_resident_memory_bytes"):
                    return float(line.split()[1])
    except (URLError, OSError, ValueError) as error:
        sys.stdout.write(f"fetch error: {error}\n")
    return 0.0


def datascale(context: Context) -> None:
    """Write many keys and say how much memory the server took for them."""
    limit, count = _load(context, SCALE)
    prefix = encode(context.text("prefix"))

    async def run() -> tuple[Load, float, float]:
        clients = _clients(context, count)
        endpoint, tls = context.endpoints()[0], tls_options(context)
        try:
            await _empty(clients[0], prefix, f"etcdctl del --prefix {prefix.decode()}")
            before = await asyncio.to_thread(_memory, endpoint, *tls)
            if before == 0:
                context.print("FAIL: Could not read process_resident_memory_bytes before the put operations.\n")
                raise ExitError(ERROR)
            context.print(
                f"Start data scale check for work load [{limit} key-value pairs, {VALUE_BYTES} bytes per key-value, "
                f"{count} concurrent clients].\n"
            )
            load = Load(clients, prefix)

            bar = Bar(limit).start()

            async def work(number: int) -> None:
                for _ in range(number, limit, count):
                    await load.put(number)
                    bar.add(1)

            await asyncio.gather(*[work(number) for number in range(count)])
            bar.finish()
            after = await asyncio.to_thread(_memory, endpoint, *tls)
            await _finish(context, clients[0], prefix)
            return load, before, after
        finally:
            await _close(clients)

    try:
        load, before, after = asyncio.run(run())
    except EtcdError as error:
        raise ExitError(ERROR, error.text) from None
    if after == 0:
        context.print("FAIL: Could not read process_resident_memory_bytes after the put operations.\n")
        raise ExitError(ERROR)
    used = (after - before) / (1024 * 1024)
    if load.errors:
        context.print(f"FAIL: too many errors\nFAIL: Approximate system memory used : {used:.2f} MB.\n")
        for text, number in load.errors.items():
            context.print(f"FAIL: ERROR({text}) -> {number}\n")
        raise ExitError(ERROR)
    context.print(f"PASS: Approximate system memory used : {used:.2f} MB.\n")
