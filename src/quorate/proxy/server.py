"""A gRPC proxy, put together: the services, the listeners, and the clients that it needs itself.

Source: etcd's server/etcdmain/grpc_proxy.go.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from quorate.client.aio import Client
from quorate.client.channel import Channel
from quorate.client.errors import EtcdError
from quorate.client.policy import client_limits
from quorate.client.target import TlsOptions
from quorate.errors import RpcError
from quorate.http.mux import Mux, WebHandler
from quorate.proto import rpc_pb2, v3election_pb2, v3lock_pb2
from quorate.proxy.broadcast import WatchHub
from quorate.proxy.cluster import ClusterProxy
from quorate.proxy.kv import KvProxy
from quorate.proxy.lease import LeaseProxy
from quorate.proxy.namespace import Namespace
from quorate.proxy.settings import RECEIVE_BYTES, ProxySettings
from quorate.proxy.tcp import listen_tcp, split_host_port
from quorate.proxy.upstream import CONNECT_S, ENDPOINT_S, Forwarder, Upstream
from quorate.proxy.watch import WatchProxy
from quorate.proxy.web import ProxyWeb, metrics_of
from quorate.runtime.log import ZapLog
from quorate.runtime.loop import UvLoop
from quorate.runtime.profile import Profiles
from quorate.runtime.sockets import SocketListener
from quorate.runtime.tls.contexts import ServerContext
from quorate.runtime.tls.serve import TlsGate
from quorate.wire.frames import Limits
from quorate.wire.rpc import Router

_CALLER: Final = "etcdmain/grpc_proxy.go"
STREAMS_MAX: Final = 10_000
NEVER_NS: Final = 10**18
READS: Final = frozenset(
    (
        "LeaseLeases", "Status", "Hash", "HashKV", "AuthStatus", "UserGet", "UserList", "RoleGet", "RoleList", "Leader",
    )
)  # fmt: skip


class GrpcProxy:
    """One proxy. `start` is called on the loop."""

    def __init__(self, settings: ProxySettings, log: ZapLog, loop: UvLoop) -> None:
        self.settings = settings
        self.log = log
        self.loop = loop
        self.router = Router()
        self._gate: ServerContext | None = None

    def bind(self) -> list[socket.socket]:
        """Return the listening sockets, the one for metrics last. Raises OSError, StartError, TlsError."""
        settings = self.settings
        sockets = [self._listen(settings.listen_addr)]
        if not settings.listen_tls.empty:
            self.log.info(_CALLER, "gRPC proxy server TLS", **{"tls-info": settings.listen_tls.describe()})
            self._gate = ServerContext(settings.listen_tls, self.log)
        self.log.info(_CALLER, "listening for gRPC proxy client requests", address=settings.listen_addr)
        if settings.metrics_addr:
            sockets.append(self._listen(urlsplit(settings.metrics_addr).netloc))
            self.log.info(_CALLER, "gRPC proxy listening for metrics", address=settings.metrics_addr)
        return sockets

    def _listen(self, address: str) -> socket.socket:
        try:
            host, port = split_host_port(address)
        except ValueError:
            raise OSError(f"listen tcp: address {address}: missing port in address") from None
        return listen_tcp(host, port)

    async def start(self, sockets: list[socket.socket]) -> None:
        """Begin to serve. Returns when clients are served."""
        settings = self.settings
        limits = client_limits(settings.dial_keepalive_ns or NEVER_NS, settings.dial_keepalive_timeout_ns)
        limits.max_receive_bytes = settings.max_recv_bytes
        cluster = Client(settings.endpoints, tls=settings.cluster_tls)
        channel = Channel(settings.endpoints, settings.cluster_tls, "", "", CONNECT_S, ENDPOINT_S, limits)
        upstream = Upstream(channel, settings.max_send_bytes, self.log)
        namespace = Namespace(settings.namespace)
        kv = KvProxy(upstream, namespace, settings.ordering)
        if settings.ordering:
            await self._catch_up(kv)
        hub = WatchHub(upstream, namespace)
        self._register(upstream, namespace, kv, hub, cluster)
        own = None
        if settings.advertise_client_url:
            own = Client([settings.advertise_client_url], tls=self._own_tls())
            fields = {"grpcProxyAdvertiseClientURL": settings.advertise_client_url}
            self.log.info(_CALLER, "create proxy client", **fields)
        mux = Mux(self.log)
        context = settings.cluster_tls.context() if settings.cluster_tls is not None else None
        web = ProxyWeb(upstream, cluster, own, self.log)
        web.register(mux, lambda: metrics_of(kv.cache, hub, self.router), settings.endpoints, context)
        if settings.pprof:
            Profiles(sys.argv, lambda call: _call(self.loop, call)).register(mux)
            self.log.info(_CALLER, "gRPC proxy enabled pprof", path="/debug/pprof")
        await self._serve(sockets[0], self.router, mux, self._gate is not None)
        for sock in sockets[1:]:
            await self._serve(sock, Router(), mux, settings.metrics_addr.startswith("https"))
            self.log.info(_CALLER, "gRPC proxy server metrics URL serving")
        if settings.sync_interval_ns:
            upstream.spawn(_sync(cluster, channel, settings.sync_interval_ns / 1e9))
        self.log.info(_CALLER, "started gRPC proxy", address=settings.listen_addr)

    async def _catch_up(self, kv: KvProxy) -> None:
        self.log.info(_CALLER, "waiting for linearized read from cluster to recover ordering")
        while True:
            try:
                await kv.catch_up()
            except RpcError as error:
                self.log.warn(_CALLER, "ordering recovery failed, retrying in 1s", error=error.text)
                await asyncio.sleep(1.0)
            else:
                return

    def _register(self, upstream: Upstream, namespace: Namespace, kv: KvProxy, hub: WatchHub, cluster: Client) -> None:
        settings, router = self.settings, self.router
        forwarder = Forwarder(upstream)
        kv.register(router)
        WatchProxy(hub).register(router)
        LeaseProxy(upstream, namespace, forwarder).register(router)
        prefix = namespace.key(settings.resolver_prefix.encode()) if settings.resolver_prefix else b""
        members = ClusterProxy(forwarder, settings.advertise_client_url, prefix, settings.resolver_ttl_s, self.log)
        members.register(router)
        if settings.resolver_prefix:
            upstream.spawn(members.stay_registered(cluster))
            upstream.spawn(members.follow(cluster))
        for file in (rpc_pb2, v3lock_pb2, v3election_pb2):
            for service in file.DESCRIPTOR.services_by_name.values():
                for method in service.methods:
                    path = f"/{service.full_name}/{method.name}"
                    if path.encode() in router.methods:
                        continue
                    if method.server_streaming:
                        router.stream(path, "server_stream", forwarder.stream(path.encode()))
                    else:
                        router.unary(path, forwarder.unary(path.encode(), method.name in READS))

    def _own_tls(self) -> TlsOptions | None:
        info = self.settings.listen_tls
        if info.empty:
            return None
        return TlsOptions(info.trusted_ca_file, info.cert_file, info.key_file, skip_verify=info.self_signed)

    async def _serve(self, sock: socket.socket, router: Router, mux: Mux, secure: bool) -> None:
        settings = self.settings
        limits = Limits(RECEIVE_BYTES, min(settings.max_concurrent_streams, STREAMS_MAX))
        limits.min_ping_interval_ns = settings.keepalive_min_ns
        limits.keepalive_ns = settings.keepalive_interval_ns
        limits.keepalive_timeout_ns = settings.keepalive_timeout_ns
        gate = None
        if secure and self._gate is not None:
            gate = TlsGate(self.loop, self._gate, self.log, "rejected connection", True)
        listener = SocketListener(self.loop, router, WebHandler(mux.handle), limits, self.log)
        await listener.serve(sock, gate)


def _call(loop: UvLoop, call: Callable[[], None]) -> None:
    loop.aio.call_soon_threadsafe(call)


async def _sync(cluster: Client, channel: Channel, interval_s: float) -> None:
    """Follow the members' URLs, for ever."""
    while True:
        await asyncio.sleep(interval_s)
        try:
            urls = [url for member in await cluster.members() for url in member.clientURLs]
            if urls:
                channel.set_endpoints(urls)
        except (EtcdError, ValueError):
            continue
