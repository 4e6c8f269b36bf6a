"""One member, put together from all rooms. The one place that knows them all.

    start:  bind peer, client and metrics ports -> directories, db, WAL (server.bootstrap) -> Server -> services
            -> peer and metrics ports answer -> the member publishes itself -> client ports answer -> ready
    stop:   client ports finish their calls -> the server finishes its turn, commits, closes -> other ports close

Until the member is ready its client ports accept connections and answer nothing, as etcd's do. `Member` may be
embedded: make one with a loop of its own, or let `MemberThread` run it.

Whatever says that the disk or the state cannot be trusted ends the member at once, through `MemberLoop.fatal`.
"""

from __future__ import annotations

import asyncio
import errno
import platform
import resource
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Final

from quorate.api.callstats import CallStats
from quorate.api.services import Services
from quorate.errors import CorruptError
from quorate.gateway.handler import Gateway
from quorate.http.collect import Metrics
from quorate.http.debug import DebugVars, LogLevel
from quorate.http.front import ClientFront
from quorate.http.health import Health
from quorate.http.mux import AccessController, Mux, WebHandler
from quorate.http.version import Versions
from quorate.measure import RPC_SECONDS, Histogram
from quorate.membership.member import format_initial_cluster, hex_id
from quorate.membership.version import SERVER_VERSION_TEXT
from quorate.mvcc.store import StoreOptions
from quorate.peer.handler import PeerHandler
from quorate.peer.metrics import samples
from quorate.peer.network import Network
from quorate.peer.versions import Identity
from quorate.peer.web import PeerWeb
from quorate.runtime.disk import OsDisk
from quorate.runtime.domain import members_of_domain
from quorate.runtime.duration import format_duration
from quorate.runtime.log import ZapLog, stack_of
from quorate.runtime.loop import UvLoop, exit_process
from quorate.runtime.memory import defragment_at_start, lock_memory
from quorate.runtime.peers import Others, PeerDialer
from quorate.runtime.profile import Profiles
from quorate.runtime.security import Security
from quorate.runtime.settings import MemberSettings
from quorate.runtime.sockets import ListenError, SocketListener, address_of, listen
from quorate.runtime.tls.serve import TlsGate
from quorate.runtime.tracing import Tracing, start_tracing
from quorate.runtime.urls import Url
from quorate.runtime.usage import PAUSES, descriptor_limit, go_memory_stats, process_usage
from quorate.server.bootlog import StartError
from quorate.server.bootstrap import Bootstrap, BootstrapOptions, have_wal
from quorate.server.config import SECOND
from quorate.server.core import Server
from quorate.server.parts import ServerParts
from quorate.storage.backend import BackendOptions
from quorate.version import VERSION
from quorate.wire.frames import Limits
from quorate.wire.rpc import Router
from quorate.wire.web import HttpHandler

RESERVED_DESCRIPTORS: Final = 150
REQUEST_OVERHEAD_BYTES: Final = 512 * 1024
RECOMMENDED_REQUEST_BYTES: Final = 10 << 20
STREAMS_MAX: Final = 10_000
NO_PROGRESS_NS: Final = 10 * 60 * SECOND
# etcd serves these without counting them.
OWN_UNCOUNTED: Final = (b"/v3lockpb.", b"/v3electionpb.")

_EMBED: Final = "embed/etcd.go"
_SERVE: Final = "embed/serve.go"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class MemberLoop(UvLoop):
    """The loop of a member: says in one line why it ends, and where."""

    def __init__(self, log: ZapLog, exit_hook: Callable[[int], None] = exit_process) -> None:
        super().__init__(log, exit_hook)
        self.zap = log

    def fatal(self, error: BaseException) -> None:
        """Log one fatal line, naming file and offset when the error does, and end the process."""
        log_fatal(self.zap, error)
        self.exit_hook(1)


def log_fatal(log: ZapLog, error: BaseException) -> None:
    """Write the line that says why a member stops at once."""
    if isinstance(error, CorruptError):
        fields: dict[str, object] = {"error": str(error), "path": error.path}
        if error.offset >= 0:
            fields["offset"] = error.offset
        log.fatal("etcdserver/server.go", "the data of this member cannot be trusted; the member stops", **fields)
    elif isinstance(error, OSError):
        full = error.errno in _FULL
        what = "the disk is full; the member stops" if full else "a file operation has failed; the member stops"
        fields = {"error": error.strerror or str(error)}
        if error.filename:
            fields["path"] = error.filename
        log.fatal("etcdserver/server.go", what, **fields, stacktrace=stack_of(error))
    else:
        what = f"{type(error).__name__}: {error}"
        log.fatal("etcdserver/server.go", "unexpected error; the member stops", error=what, stacktrace=stack_of(error))


class _Port:
    """A URL, the socket that listens there, and who will serve on it."""

    def __init__(self, url: Url, sock: socket.socket) -> None:
        self.url = url
        self.sock = sock
        self.listener: SocketListener | None = None


class Member:
    """One member. All methods are called on its loop, or before that runs."""

    def __init__(self, settings: MemberSettings, log: ZapLog, loop: UvLoop | None = None) -> None:
        self.settings = settings
        self.log = log
        self.loop = loop if loop is not None else MemberLoop(log)
        self.server: Server | None = None
        self.router = Router()
        self.on_ready: Callable[[], None] | None = None
        self.on_removed: Callable[[], None] | None = None
        """The cluster has removed this member: whoever runs it should stop it."""

        self.ready = False
        self.stopping = False
        self.network: Network | None = None
        self._dialer: PeerDialer | None = None
        self._disk = OsDisk()
        self._security = Security(settings, self.loop, self._disk, log)
        PAUSES.watch()
        self._peers: list[_Port] = []
        self._clients: list[_Port] = []
        self._web_clients: list[_Port] = []
        self._metrics: list[_Port] = []
        self._draining = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._gateway = Gateway(
            self.router, self.loop, settings.max_request_bytes + REQUEST_OVERHEAD_BYTES, self._gateway_failed
        )
        self.health = Health(log, lambda: self.server)
        self.versions = Versions(lambda: self.server, _now)
        self.metrics = Metrics(
            lambda: self.server,
            self.router,
            lambda: [
                self._gateway.stats,
                *[port.listener.stats for port in self._clients if port.listener is not None],
            ],
            self.health.stats,
            settings.features,
            process_usage,
            PAUSES.summary,
            platform.python_version(),
        )

        self._tracing: Tracing | None = None
        self.vars = DebugVars(lambda: self.server, sys.argv, descriptor_limit, go_memory_stats)
        self.profiles = Profiles(sys.argv, self._call_on_loop)

    @property
    def client_addresses(self) -> list[str]:
        """Where clients connect, "host:port" or a path, with the ports that were bound."""
        return [address_of(port.sock) for port in self._clients]

    # -- Start

    def start(self) -> None:
        """Bind, load or create everything on disk, and begin. `on_ready` is called when clients are served.

        Raises StartError, ListenError, CorruptError, OSError; everything opened has then been closed again.
        """
        try:
            self._start_tracing()
            self._bind()
            server = self._bootstrap()
        except BaseException:
            self._close_sockets()
            raise
        self.server = server
        server.on_removed = self._removed
        services = Services(server, self.settings.watch_progress_ns or NO_PROGRESS_NS)
        services.register(self.router)
        self.metrics.client_requests = services.requests
        self._time_calls()
        assert self.network is not None
        self.network.start(server)
        server.start()
        self._serve_peers_and_metrics()
        self._log_serving()
        self._security.log_clients()
        server.call_when_published(self._published)

    def _start_tracing(self) -> None:
        wanted = self.settings.tracing
        if wanted is not None:
            self._tracing = start_tracing(wanted)
            fields: dict[str, object] = {"address": wanted.address, "service-name": wanted.service_name}
            fields["service-instance-id"] = wanted.instance_id
            fields["sampling-rate"] = wanted.sampling_rate
            self.log.debug("embed/config_tracing.go", "distributed tracing enabled", **fields)

    def _time_calls(self) -> None:
        """Have slow calls said (all at level debug); with --metrics=extensive keep the durations by method."""
        debug = self.log.threshold == 0
        stats = CallStats(self.loop, self.log, debug)
        tracing = self._tracing
        if tracing is not None:
            tracing.then = stats
        for path, method in self.router.methods.items():
            method.observer = tracing or stats
            method.traced = tracing is not None
            method.slow_ns = 0 if debug else self.settings.warning_unary_ns
            if self.settings.extensive_metrics and method.seconds is None and not path.startswith(OWN_UNCOUNTED):
                method.seconds = Histogram(RPC_SECONDS)

    def _bind(self) -> None:
        settings = self.settings
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if soft != resource.RLIM_INFINITY and soft <= RESERVED_DESCRIPTORS:
            raise StartError(
                "file descriptor limit of etcd process is too low; please set higher "
                f"(limit {soft}, recommended {RESERVED_DESCRIPTORS})"
            )
        if settings.reuse_port or settings.reuse_address:
            fields = {"reuse-address": settings.reuse_address, "reuse-port": settings.reuse_port}
            self.log.info(_EMBED, "configuring socket options", **fields)
        urls = {"listen-peer-urls": _texts(settings.listen_peer_urls)}
        self.log.info(_EMBED, "configuring peer listeners", **urls)
        self._security.prepare_peers()
        self._peers = self._listen(settings.listen_peer_urls)
        urls = {"listen-client-urls": _texts(settings.listen_client_urls)}
        self.log.info(_EMBED, "configuring client listeners", **urls)
        self._security.prepare_clients()
        both = {url.text for url in settings.listen_client_urls} & {
            url.text for url in settings.listen_client_http_urls
        }
        if both:
            text = f"cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {min(both)}"
            raise StartError(text)
        self._clients = self._listen(settings.listen_client_urls)
        self._web_clients = self._listen(settings.listen_client_http_urls)
        self._metrics = self._listen(settings.listen_metrics_urls)

    def _listen(self, urls: list[Url]) -> list[_Port]:
        ports: list[_Port] = []
        try:
            for url in urls:
                ports.append(_Port(url, listen(url, self.settings.reuse_port)))
        except ListenError:
            for port in ports:
                port.sock.close()
            raise
        return ports

    def _close_sockets(self) -> None:
        for port in (*self._peers, *self._clients, *self._web_clients, *self._metrics):
            if port.listener is None:
                port.sock.close()

    def _bootstrap(self) -> Server:
        settings = self.settings
        config = settings.server_config()
        disk = self._disk
        initialized = have_wal(disk, config.wal_dir)
        if settings.srv_domain:
            cluster = {} if initialized else members_of_domain(settings, self.log)
            self._security.peers_of_domain(settings.srv_domain, cluster)
        else:
            cluster = {} if initialized and not settings.initial_cluster else settings.cluster_urls()
        self._log_settings(initialized, cluster)
        if settings.max_request_bytes > RECOMMENDED_REQUEST_BYTES:
            sizes: dict[str, object] = {"max-request-bytes": settings.max_request_bytes}
            sizes["recommended-request-bytes"] = RECOMMENDED_REQUEST_BYTES
            self.log.warn("etcdserver/bootstrap.go", "exceeded recommended request limit", **sizes)
        options = BootstrapOptions(
            initial_cluster=cluster,
            initial_cluster_token=settings.registry.token if settings.registry else settings.initial_cluster_token,
            registry=settings.registry,
            peer_urls=_texts(settings.advertise_peer_urls),
            new_cluster=settings.new_cluster,
            force_new_cluster=settings.force_new_cluster,
            unsafe_no_fsync=settings.unsafe_no_fsync,
            skip_v2_check=settings.skip_v2_check,
            backend=_backend_options(settings),
            store=_store_options(settings),
        )
        parts = Bootstrap(self.loop, disk, self.log, config, options, Others(self.log, self._security.dialing)).run()
        if settings.memory_mlock:
            lock_memory()
        if settings.bootstrap_defrag_megabytes:
            defragment_at_start(parts.backend, settings.bootstrap_defrag_megabytes << 20, self.log)
        self._connect_peers(parts)
        return Server(parts)

    def _connect_peers(self, parts: ServerParts) -> None:
        """Make the network to the other members; it begins to talk when the server starts."""
        identity = Identity(
            parts.member_id,
            parts.cluster.cluster_id,
            _texts(self.settings.advertise_peer_urls),
            parts.config.peer_read_timeout_ns,
            parts.config.peer_write_timeout_ns,
        )
        self._dialer = PeerDialer(self.loop, self.log, parts.config.election_ns, self._security.dialing)
        self.network = Network(self.loop, self.log, self._dialer, identity)
        self.network.on_removed = self._removed
        self.network.flush_sockets = self._flush_peers
        parts.transport = self.network
        known = {member.id: member.peer_urls for member in parts.cluster.member_list()}
        for member_id, urls in {**parts.first_peers, **known}.items():
            if member_id != parts.member_id and member_id not in parts.cluster.removed:
                self.network.add_peer(member_id, urls)

    # -- Serving

    def _serve_peers_and_metrics(self) -> None:
        handler = self._peer_handler()
        for port in self._peers:
            self._serve(port, Router(), handler, self._security.gate_for_peers(port.url))
            if port.listener is not None:
                port.listener.hub.eager = True
            self.log.info(_EMBED, "serving peer traffic", address=address_of(port.sock))
        scrapes = Mux(self.log)
        self.health.register(scrapes)
        self.metrics.register(scrapes)
        for port in self._metrics:
            self._serve(port, Router(), WebHandler(scrapes.handle), self._security.gate_for_metrics(port.url))
            self.log.info(_EMBED, "serving metrics", address=port.url.text)

    def _flush_peers(self) -> None:
        for port in self._peers:
            if port.listener is not None:
                port.listener.hub.flush()

    def _peer_handler(self) -> HttpHandler:
        assert self.network is not None
        assert self.server is not None
        mux = Mux(self.log)
        self.versions.register_peer(mux)
        web = PeerWeb(self.loop, self.network.identity, self.server, WebHandler(mux.handle))
        network = self.network
        handler = PeerHandler(self.loop, self._disk, self.log, network, self.settings.snap_dir, web)
        self.metrics.peers = lambda: samples(network, handler)
        return handler

    def _serve(self, port: _Port, router: Router, handler: HttpHandler | None, gate: TlsGate | None) -> None:
        port.listener = SocketListener(self.loop, router, handler, self._limits(), self.log)
        port.listener.max_connections = self._connection_limit(port)
        self._spawn(port.listener.serve(port.sock, gate))

    def _connection_limit(self, port: _Port) -> int:
        """Return the listener's part of the descriptors that are not reserved: a quarter is for other members."""
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if soft == resource.RLIM_INFINITY:
            return 0
        quarter = (soft - RESERVED_DESCRIPTORS) // 4
        if port in self._peers:
            return max(quarter // len(self._peers), 1)
        others = len(self._clients) + len(self._web_clients) + len(self._metrics)
        return max(3 * quarter // others, 1)

    def _limits(self) -> Limits:
        settings = self.settings
        limits = Limits(
            settings.max_request_bytes + REQUEST_OVERHEAD_BYTES, min(settings.max_concurrent_streams, STREAMS_MAX)
        )
        limits.max_body_bytes = max(limits.max_body_bytes, limits.max_receive_bytes)
        limits.min_ping_interval_ns = settings.keepalive_min_ns
        limits.keepalive_ns = settings.keepalive_interval_ns
        limits.keepalive_timeout_ns = settings.keepalive_timeout_ns
        return limits

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = self.loop.aio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._spawned)

    def _spawned(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.loop.fatal(error)

    def _published(self) -> None:
        """Serve clients: the member is part of its cluster."""
        if self.stopping or self.ready:
            return
        self.ready = True
        self.log.info(_SERVE, "ready to serve client requests")
        split = bool(self._web_clients)
        for port in self._clients:
            handler = None if split else self._client_web(port.url)
            self._serve(port, self.router, handler, self._security.gate_for_clients(port.url))
            self._log_traffic(port, "grpc" if split else "grpc+http")
        for port in self._web_clients:
            self._serve(port, Router(), self._client_web(port.url), self._security.gate_for_clients(port.url))
            self._log_traffic(port, "http")
        if self.on_ready is not None:
            self.on_ready()

    def _removed(self) -> None:
        if self.stopping:
            return
        self.log.warn("etcdserver/server.go", "the member has been permanently removed from the cluster")
        if self.on_removed is not None:
            self.on_removed()

    def _client_web(self, url: Url) -> HttpHandler:
        mux = Mux(self.log)
        self.health.register(mux)
        self.versions.register_client(mux)
        self.metrics.register(mux)
        self.vars.register(mux)
        if self.settings.enable_pprof:
            self.profiles.register(mux)
            LogLevel(self._set_log_level).register(mux)
        access = AccessController(mux, self.settings.cors, self.settings.host_whitelist, url.is_secure)
        asks_names = url.is_secure and self.settings.client_tls.client_cert_auth
        refused = self._auth_enabled if asks_names else None
        return ClientFront(access, self._gateway if self.settings.enable_grpc_gateway else None, refused)

    def _call_on_loop(self, call: Callable[[], None]) -> None:
        self.loop.aio.call_soon_threadsafe(call)

    def _set_log_level(self, level: str) -> None:
        self.log.set_level(level)
        self._time_calls()

    def _auth_enabled(self) -> bool:
        return self.server is not None and self.server.auth.enabled

    def _gateway_failed(self, path: bytes, error: Exception) -> None:
        text = path.decode("utf-8", "replace")
        self.log.error(_SERVE, "handler failed", path=text, error=repr(error))

    # -- Stop

    def stop(self, then: Callable[[], None]) -> None:
        """Finish calls, bring everything to the disk, close, and call back. Later calls are ignored."""
        if self.stopping:
            return
        self.stopping = True
        fields = self._closing_fields()
        self.log.info(_EMBED, "closing etcd server", **fields)

        def after_server() -> None:
            if self.network is not None:
                self.network.stop()
            if self._dialer is not None:
                self._dialer.close()
            for port in (*self._peers, *self._metrics):
                if port.listener is not None:
                    port.listener.close()
            self._close_sockets()
            if self._tracing is not None:
                self._tracing.close()
            self.log.info(_EMBED, "closed etcd server", **fields)
            then()

        def after_clients() -> None:
            if self.server is None:
                after_server()
            else:
                self.server.stop(after_server)

        self._drain_clients(after_clients)

    def _closing_fields(self) -> dict[str, object]:
        return {
            "name": self.settings.name,
            "data-dir": self.settings.data_dir,
            "advertise-peer-urls": _texts(self.settings.advertise_peer_urls),
            "advertise-client-urls": _texts(self.settings.advertise_client_urls),
        }

    def _drain_clients(self, then: Callable[[], None]) -> None:
        listeners = [port.listener for port in (*self._clients, *self._web_clients) if port.listener is not None]
        self._draining = len(listeners)
        if not listeners:
            then()
            return
        limit_ns = self.settings.server_config().request_timeout_ns

        def drained() -> None:
            self._draining -= 1
            if self._draining == 0:
                then()

        for listener in listeners:
            listener.drain(limit_ns, drained)

    # -- What the log says

    def _log_settings(self, initialized: bool, cluster: dict[str, list[str]]) -> None:
        settings, config = self.settings, self.settings.server_config()
        fields: dict[str, object] = {
            "etcd-version": SERVER_VERSION_TEXT,
            "quorate-version": VERSION,
            "python-version": platform.python_version(),
            "go-os": platform.system().lower(),
            "go-arch": platform.machine(),
            "member-initialized": initialized,
            "name": settings.name,
            "data-dir": settings.data_dir,
            "wal-dir": settings.wal_dir,
            "wal-dir-dedicated": settings.wal_dir,
            "member-dir": settings.member_dir,
            "force-new-cluster": settings.force_new_cluster,
            "heartbeat-interval": format_duration(config.tick_ns),
            "election-timeout": format_duration(config.election_ns),
            "initial-election-tick-advance": settings.initial_election_tick_advance,
            "snapshot-count": config.snapshot_count,
            "max-wals": settings.max_wals,
            "max-snapshots": settings.max_snapshots,
            "snapshot-catchup-entries": settings.snapshot_catchup_entries,
            "initial-advertise-peer-urls": _texts(settings.advertise_peer_urls),
            "listen-peer-urls": _texts(settings.listen_peer_urls),
            "advertise-client-urls": _texts(settings.advertise_client_urls),
            "listen-client-urls": _texts(settings.listen_client_urls),
            "listen-metrics-urls": _texts(settings.listen_metrics_urls),
            "cors": sorted(settings.cors),
            "host-whitelist": sorted(settings.host_whitelist),
            "initial-cluster": "" if initialized else format_initial_cluster(cluster),
            "initial-cluster-state": "new" if settings.new_cluster else "existing",
            "initial-cluster-token": "" if initialized else settings.initial_cluster_token,
            "quota-backend-bytes": config.quota_bytes,
            "max-request-bytes": settings.max_request_bytes,
            "max-concurrent-streams": settings.max_concurrent_streams,
            "pre-vote": settings.pre_vote,
            "feature-gates": ",".join(f"{name}={str(on).lower()}" for name, on in sorted(settings.features.items())),
            "auto-compaction-mode": settings.auto_compaction_mode,
            "auto-compaction-retention": settings.auto_compaction_retention,
            "max-learners": settings.max_learners,
        }
        self.log.info(_EMBED, "starting an etcd server", **fields)

    def _log_serving(self) -> None:
        settings, server = self.settings, self.server
        assert server is not None
        fields: dict[str, object] = {
            "local-member-id": hex_id(server.member_id),
            "initial-advertise-peer-urls": _texts(settings.advertise_peer_urls),
            "listen-peer-urls": _texts(settings.listen_peer_urls),
            "advertise-client-urls": _texts(settings.advertise_client_urls),
            "listen-client-urls": _texts(settings.listen_client_urls),
            "listen-metrics-urls": _texts(settings.listen_metrics_urls),
        }
        self.log.info(_EMBED, "now serving peer/client/metrics", **fields)

    def _log_traffic(self, port: _Port, traffic: str) -> None:
        secure = port.url.is_secure
        text = f"serving client traffic {'securely' if secure else 'insecurely; this is strongly discouraged!'}"
        self.log.info(_SERVE, text, traffic=traffic, address=address_of(port.sock))


def _texts(urls: list[Url]) -> list[str]:
    return [url.text for url in urls]


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _backend_options(settings: MemberSettings) -> BackendOptions:
    options = BackendOptions(unsafe_no_fsync=settings.unsafe_no_fsync)
    if settings.batch_interval_ns > 0:
        options.batch_interval_ns = settings.batch_interval_ns
    if settings.batch_limit > 0:
        options.batch_limit = settings.batch_limit
    return options


def _store_options(settings: MemberSettings) -> StoreOptions:
    options = StoreOptions()
    if settings.compaction_batch_limit > 0:
        options.compaction_batch_limit = settings.compaction_batch_limit
    if settings.compaction_sleep_ns > 0:
        options.compaction_sleep_ns = settings.compaction_sleep_ns
    return options


class MemberThread:
    """A member with a thread of its own, for tests and for programs that embed one."""

    def __init__(self, settings: MemberSettings, log: ZapLog) -> None:
        self.loop = MemberLoop(log, self._exit)
        self.member = Member(settings, log, self.loop)
        self.exit_code: int | None = None
        self._ready = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="member", daemon=True)
        self._error: BaseException | None = None

    def start(self, timeout_s: float = 30.0) -> MemberThread:
        """Start, and wait until clients are served. Raises what the member's start raises, or TimeoutError."""
        self.member.on_ready = self._ready.set
        self._thread.start()
        if not self._ready.wait(timeout_s):
            raise TimeoutError("the member is not ready")
        if self._error is not None:
            raise self._error
        return self

    def stop(self, timeout_s: float = 30.0) -> None:
        """Stop, and wait until everything is closed."""
        if self._thread.is_alive():
            self.loop.aio.call_soon_threadsafe(self.member.stop, self.loop.stop)
        if not self._stopped.wait(timeout_s):
            raise TimeoutError("the member does not stop")
        self._thread.join()

    def _run(self) -> None:
        try:
            self.member.start()
            self.loop.run()
        except BaseException as error:
            self._error = error
        finally:
            self.loop.close()
            self._stopped.set()
            self._ready.set()

    def _exit(self, code: int) -> None:
        # There is no process to end: leave the loop, and let the caller see why.
        self.exit_code = code
        self._error = self._error or RuntimeError("the member has stopped; see its log")
        self.loop.stop()
