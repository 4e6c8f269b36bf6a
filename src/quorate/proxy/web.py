"""What the proxy answers over HTTP: its own health and metrics, and a member's metrics.

    /health         a linearizable read of a key; without permission is good enough
    /proxy/health   the same through the proxy itself, and a watch
    /metrics        of one of the endpoints
    /proxy/metrics  of the proxy

Source: etcd's server/proxy/grpcproxy/{health,metrics}.go.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import urllib.request
from collections.abc import Callable, Coroutine
from typing import Final

from quorate.client.aio import Client
from quorate.client.errors import EtcdError, PermissionDeniedError
from quorate.errors import CODE_NAMES
from quorate.http.metrics import CONTENT_TYPE, Exposition
from quorate.http.mux import Mux, Reply, Request, Response, not_allowed, text_error
from quorate.ports import Log
from quorate.proxy.broadcast import WatchHub
from quorate.proxy.cache import Cache
from quorate.proxy.upstream import Upstream
from quorate.runtime.usage import process_usage
from quorate.wire.rpc import Router

READ_S: Final = 1.0
WATCH_S: Final = 3.0
SCRAPE_S: Final = 10.0
_PLAIN: Final = (("Content-Type", "text/plain; charset=utf-8"),)


class ProxyWeb:
    """The handlers. `own` is a client that goes through the proxy, None when it has no advertised URL."""

    def __init__(self, upstream: Upstream, cluster: Client, own: Client | None, log: Log) -> None:
        self._upstream = upstream
        self._cluster = cluster
        self._own = own
        self._log = log

    def register(
        self, mux: Mux, metrics: Callable[[], bytes], endpoints: list[str], tls: ssl.SSLContext | None
    ) -> None:
        """Put the handlers into a mux."""
        shuffled = random.sample(endpoints, len(endpoints))
        mux.add("/health", lambda request, reply: self._health(request, reply, _read(self._cluster)))
        mux.add("/proxy/health", lambda request, reply: self._health(request, reply, _read_and_watch(self._own)))
        mux.add("/metrics", lambda _, reply: self._relay(shuffled[0], tls, reply))
        mux.add("/proxy/metrics", lambda _, reply: reply(Response(200, metrics(), (("Content-Type", CONTENT_TYPE),))))

    def _health(self, request: Request, reply: Reply, check: Coroutine[object, object, str]) -> None:
        if request.method != "GET":
            check.close()
            reply(not_allowed())
            return

        async def run() -> None:
            reason = await check
            health = json.dumps({"health": "false" if reason else "true", "reason": reason}, separators=(",", ":"))
            if reason:
                self._log.warn("etcdhttp/metrics.go", "/health error", **{"output": health, "status-code": 503})
                reply(text_error(503, health))
            else:
                reply(Response(200, health.encode(), _PLAIN))

        self._upstream.spawn(run())

    def _relay(self, endpoint: str, tls: ssl.SSLContext | None, reply: Reply) -> None:
        async def run() -> None:
            loop = asyncio.get_running_loop()
            try:
                body = await loop.run_in_executor(None, _fetch, endpoint, tls)
            except OSError:
                reply(text_error(500, "Internal server error"))
            else:
                reply(Response(200, body, (("Content-Type", "text/plain; version=0.0.4"),)))

        self._upstream.spawn(run())


def _fetch(endpoint: str, tls: ssl.SSLContext | None) -> bytes:
    url = endpoint if endpoint.startswith("http") else f"{'https' if tls is not None else 'http'}://{endpoint}"
    with urllib.request.urlopen(f"{url}/metrics", timeout=SCRAPE_S, context=tls) as answer:
        return bytes(answer.read())


async def _read(client: Client) -> str:
    """Return why a read of the cluster fails."""
    try:
        await client.range(b"a", timeout_s=READ_S)
    except PermissionDeniedError:
        return ""
    except EtcdError as error:
        return f"GET ERROR:{error.text}"
    return ""


async def _read_and_watch(client: Client | None) -> str:
    if client is None:
        return "no connection to proxy"
    reason = await _read(client)
    if reason:
        return reason
    watcher = client.watch(b"a")
    try:
        async with asyncio.timeout(WATCH_S):
            await watcher.ready()
    except (TimeoutError, EtcdError):
        return "WATCH TIMEOUT"
    finally:
        await watcher.close()
    return ""


def metrics_of(cache: Cache, hub: WatchHub, router: Router) -> bytes:
    """Return the proxy's own metrics."""
    out = Exposition()
    out.add("etcd_grpc_proxy_cache_hits_total", cache.hits)
    out.add("etcd_grpc_proxy_cache_misses_total", cache.misses)
    out.add("etcd_grpc_proxy_cache_keys_total", len(cache))
    out.add("etcd_grpc_proxy_watchers_coalescing_total", hub.coalesced_watches())
    out.add("etcd_grpc_proxy_events_coalescing_total", hub.coalesced_events)
    for path, method in sorted(router.methods.items()):
        service, _, name = path.decode()[1:].partition("/")
        labels = [("grpc_method", name), ("grpc_service", service), ("grpc_type", method.kind)]
        if method.started:
            out.add("grpc_server_started_total", method.started, labels)
            out.add("grpc_server_msg_received_total", method.received, labels)
            out.add("grpc_server_msg_sent_total", method.sent, labels)
        for code, count in enumerate(method.handled):
            if count:
                out.add("grpc_server_handled_total", count, [("grpc_code", CODE_NAMES[code]), *labels])
    for name, value in process_usage().items():
        out.add(name, value)
    return out.render()
