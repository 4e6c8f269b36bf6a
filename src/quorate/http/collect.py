"""Where each number of /metrics comes from. Called at scrape time, on the loop; reads, and counts nothing.

A family appears only when we count what it stands for. What the process itself uses (memory, descriptors, CPU) is asked
of the runtime through `process`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from quorate.http.health import HealthStats
from quorate.http.metrics import CONTENT_TYPE, Exposition
from quorate.http.mux import Mux, Reply, Request, Response
from quorate.measure import Histogram
from quorate.membership.member import hex_id
from quorate.membership.version import SERVER_VERSION_TEXT
from quorate.server import entry as kinds
from quorate.server.core import Server
from quorate.version import VERSION
from quorate.wire.frames import TransportStats
from quorate.wire.rpc import Router

CODE_LABELS = (
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
    "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented",
    "Internal", "Unavailable", "DataLoss", "Unauthenticated",
)  # fmt: skip

ALARM_LABELS = {1: "NOSPACE", 2: "CORRUPT"}

BETA = ("TxnModeWriteWithSharedBuffer",)


PROXY_FAMILIES = (
    "etcd_grpc_proxy_cache_hits_total", "etcd_grpc_proxy_cache_keys_total", "etcd_grpc_proxy_cache_misses_total",
    "etcd_grpc_proxy_events_coalescing_total", "etcd_grpc_proxy_watchers_coalescing_total",
)  # fmt: skip

STREAM_NAMES = {b"/etcdserverpb.Watch/Watch": "watch", b"/etcdserverpb.Lease/LeaseKeepAlive": "lease-keepalive"}

Pauses = Callable[[], tuple[list[tuple[float, float]], float, int]]


class PeerSample(Protocol):
    """One value of a family of the peer room: a number, or a histogram."""

    @property
    def name(self) -> str:
        """The family."""

    @property
    def labels(self) -> list[tuple[str, str]]:
        """The labels."""

    @property
    def value(self) -> float:
        """The number."""

    @property
    def histogram(self) -> Histogram | None:
        """The histogram, instead of a number."""


class Metrics:
    """The metrics of one member."""

    def __init__(
        self,
        server: Callable[[], Server | None],
        router: Router,
        transport: Callable[[], list[TransportStats]],
        health: HealthStats,
        features: Mapping[str, bool],
        process: Callable[[], Mapping[str, float]],
        pauses: Pauses,
        python: str,
    ) -> None:
        """Take what to ask, at each scrape.

        `process` returns the values of families without labels by name; `pauses` those of the garbage collector as
        (quantile, seconds), their sum and count; `python` is the interpreter's version.
        """
        self.server = server
        self.router = router
        self.transport = transport
        self.health = health
        self.features = features
        self.process = process
        self.pauses = pauses
        self.python = python
        self.scrapes = 0
        self.peers: Callable[[], Iterable[PeerSample]] = tuple
        """What the network to other members counts."""

        self.client_requests: Callable[[], Iterable[tuple[str, bytes, int]]] = tuple
        """The calls of clients: (type, API version, count)."""

    def register(self, mux: Mux) -> None:
        """Add the path."""
        mux.add("/metrics", self.metrics)

    def metrics(self, request: Request, reply: Reply) -> None:  # noqa: ARG002
        """Answer any method with all metrics."""
        body = self.collect()
        self.scrapes += 1
        reply(Response(200, body, (("Content-Type", CONTENT_TYPE),)))

    def collect(self) -> bytes:
        """Return the text of all metrics."""
        out = Exposition()
        server = self.server()
        if server is not None:
            _server(out, server)
            _cluster(out, server)
            _mvcc(out, server)
            _disk(out, server)
        self._network(out)
        self._features_and_health(out)
        for name, value in self.process().items():
            out.add(name, value)
        quantiles, total, count = self.pauses()
        out.summary("go_gc_duration_seconds", quantiles, total, count)
        out.add("go_info", 1, (("version", f"python{self.python}"),))
        out.add("etcd_server_go_version", 1, (("server_go_version", f"python{self.python}"),))
        for name in PROXY_FAMILIES:
            out.add(name, 0)
        out.add("python_info", 1, (("implementation", "CPython"), ("version", self.python)))
        out.add("quorate_info", 1, (("version", VERSION),))
        out.add("promhttp_metric_handler_requests_in_flight", 1)
        for code, count in (("200", self.scrapes), ("500", 0), ("503", 0)):
            out.add("promhttp_metric_handler_requests_total", count, (("code", code),))
        return out.render()

    def _network(self, out: Exposition) -> None:
        stats = self.transport()
        out.add("etcd_network_client_grpc_received_bytes_total", sum(each.received_bytes for each in stats))
        out.add("etcd_network_client_grpc_sent_bytes_total", sum(each.sent_bytes for each in stats))
        for path, method in sorted(self.router.methods.items()):
            service, _, name = path.decode()[1:].partition("/")
            labels = [("grpc_method", name), ("grpc_service", service), ("grpc_type", method.kind)]
            out.add("grpc_server_started_total", method.started, labels)
            out.add("grpc_server_msg_received_total", method.received, labels)
            out.add("grpc_server_msg_sent_total", method.sent, labels)
            if method.seconds is not None:
                out.histogram("grpc_server_handling_seconds", method.seconds, labels)
            if method.broken:
                api = (("API", STREAM_NAMES.get(path, name)), ("Type", "receive"))
                out.add("etcd_network_server_stream_failures_total", method.broken, api)
            for code, label in enumerate(CODE_LABELS):
                out.add("grpc_server_handled_total", method.handled[code], [("grpc_code", label), *labels])

        for kind, version, count in self.client_requests():
            called = (("client_api_version", version.decode(errors="replace")), ("type", kind))
            out.add("etcd_server_client_requests_total", count, called)
        for sample in self.peers():
            if sample.histogram is not None:
                out.histogram(sample.name, sample.histogram, sample.labels)
            else:
                out.add(sample.name, sample.value, sample.labels)

    def _features_and_health(self, out: Exposition) -> None:
        for name, enabled in sorted(self.features.items()):
            stage = "" if name in ("AllAlpha", "AllBeta") else "BETA" if name in BETA else "ALPHA"
            if stage:
                out.add("etcd_server_feature_enabled", int(enabled), (("name", name), ("stage", stage)))
        out.add("etcd_server_health_success", self.health.success)
        out.add("etcd_server_health_failures", self.health.failures)
        for (kind, name), result in sorted(self.health.results.items()):
            out.add("etcd_server_healthcheck", result, (("name", name), ("type", kind)))
        for (kind, name, status), count in sorted(self.health.checks.items()):
            labels = (("name", name), ("status", status), ("type", kind))
            out.add("etcd_server_healthchecks_total", count, labels)


def _server(out: Exposition, server: Server) -> None:
    stats = server.stats
    out.add("etcd_server_has_leader", int(server.has_leader()))
    out.add("etcd_server_is_leader", int(server.is_leader()))
    out.add("etcd_server_is_learner", int(server.is_learner()))
    out.add("etcd_server_leader_changes_seen_total", stats.leader_changes_seen_total)
    out.add("etcd_server_proposals_committed_total", server.committed_index)
    out.add("etcd_server_proposals_applied_total", server.applied_index)
    out.add("etcd_server_proposals_pending", server.proposals_pending)
    out.add("etcd_server_proposals_failed_total", stats.proposals_failed_total)
    out.add("etcd_server_slow_apply_total", stats.slow_apply_total)
    out.add("etcd_server_slow_read_indexes_total", stats.slow_read_indexes_total)
    out.add("etcd_server_read_indexes_failed_total", stats.read_indexes_failed_total)
    out.add("etcd_server_heartbeat_send_failures_total", stats.heartbeat_send_failures_total)
    out.add("etcd_server_learner_promote_successes", stats.learner_promote_successes)
    out.add("etcd_server_snapshot_apply_in_progress_total", server.snapshots_applying)
    out.add("etcd_server_quota_backend_bytes", max(server.config.quota_bytes, 0))
    out.add("etcd_server_id", 1, (("server_id", hex_id(server.member_id)),))
    out.add("etcd_server_version", 1, (("server_version", SERVER_VERSION_TEXT),))
    out.add("etcd_debugging_server_lease_expired_total", stats.lease_expired_total)
    out.add("quorate_server_turns_total", stats.turns_total)
    out.add("quorate_server_entries_total", stats.entries_total)
    out.add("quorate_server_syncs_total", stats.syncs_inline_total, (("where", "inline"),))
    out.add("quorate_server_syncs_total", stats.syncs_worker_total, (("where", "worker"),))
    for reason, count in stats.learner_promote_failures.items():
        out.add("etcd_server_learner_promote_failures", count, (("Reason", reason),))
    for key, applied in stats.applies.items():
        kind, success = divmod(key, 2)
        v2 = kind == kinds.V2
        operation = "PUT" if v2 else kinds.NAMES.get(kind, "unknown").title().replace("_", "")
        labels = (("op", operation), ("success", "true" if success else "false"), ("version", "v2" if v2 else "v3"))
        out.histogram("etcd_server_apply_duration_seconds", applied, labels)
    for success, ranges in ((1, stats.range_seconds), (0, stats.failed_range_seconds)):
        if sum(ranges.counts):
            ranged = (("success", "true" if success else "false"),)
            out.histogram("etcd_server_range_duration_seconds", ranges, ranged)
    out.add("etcd_debugging_auth_revision", server.auth.revision)
    times = server.snapshot_times
    out.histogram("etcd_snap_fsync_duration_seconds", times.fsync_seconds)
    out.histogram("etcd_debugging_snap_save_marshalling_duration_seconds", times.marshal_seconds)
    out.histogram("etcd_debugging_snap_save_total_duration_seconds", times.total_seconds)


def _cluster(out: Exposition, server: Server) -> None:
    version = server.cluster.version
    if version is not None:
        out.add("etcd_cluster_version", 1, (("cluster_version", version.cluster()),))
    stores = (server.cluster, server.replay)
    out.add("etcd_debugging_store_reads_total", sum(one.v2_reads for one in stores), (("action", "getRecursive"),))
    for action in sorted({action for one in stores for action in one.v2_writes}):
        count = sum(one.v2_writes.get(action, 0) for one in stores)
        out.add("etcd_debugging_store_writes_total", count, (("action", action),))
    for name in ("expires_total", "watch_requests_total", "watchers"):
        out.add(f"etcd_debugging_store_{name}", 0)
    for alarm, member_id in server.alarms.list():
        labels = (("alarm_type", ALARM_LABELS.get(alarm, str(alarm))), ("server_id", hex_id(member_id)))
        out.add("etcd_debugging_server_alarms", 1, labels)


def _mvcc(out: Exposition, server: Server) -> None:
    store, counts, lessor = server.store, server.store.counts, server.lessor
    out.add("etcd_mvcc_put_total", counts.puts)
    out.add("etcd_mvcc_delete_total", counts.deletes)
    out.add("etcd_mvcc_txn_total", counts.txns)
    out.add("etcd_mvcc_range_total", counts.ranges)
    out.add("etcd_debugging_mvcc_range_total", counts.ranges)
    out.add("etcd_debugging_mvcc_total_put_size_in_bytes", counts.put_bytes)
    out.add("etcd_debugging_mvcc_current_revision", store.current_rev)
    out.add("etcd_debugging_mvcc_compact_revision", store.compact_rev)
    compactor, hub = store.compactor, server.watch_hub
    out.add("etcd_debugging_mvcc_keys_total", store.index.live.count(b"", b""))
    out.add("etcd_debugging_mvcc_db_compaction_keys_total", compactor.keys_deleted)
    out.add("etcd_debugging_mvcc_db_compaction_last", compactor.last_time_s)
    out.histogram("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", compactor.pause_ms)
    out.histogram("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", compactor.total_ms)
    pauses = compactor.index_pause_ms
    out.histogram("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", pauses)
    out.histogram("etcd_mvcc_hash_rev_duration_seconds", store.hash_rev_seconds)
    out.add("etcd_debugging_mvcc_pending_events_total", 0)  # events are never buffered: a slow watcher reads them again
    out.add("etcd_debugging_mvcc_watch_stream_total", hub.streams)
    out.add("etcd_debugging_mvcc_watcher_total", hub.watchers)
    out.add("etcd_debugging_mvcc_slow_watcher_total", hub.slow_watchers())
    out.add("etcd_debugging_mvcc_events_total", hub.events_sent)
    out.add("etcd_debugging_lease_granted_total", lessor.granted_total)
    out.add("etcd_debugging_lease_revoked_total", lessor.revoked_total)
    out.add("etcd_debugging_lease_renewed_total", lessor.renewed_total)
    out.histogram("etcd_debugging_lease_ttl_total", lessor.ttl_seconds)


def _disk(out: Exposition, server: Server) -> None:
    backend, wal = server.backend, server.wal
    out.add("etcd_mvcc_db_total_size_in_bytes", backend.size())
    out.add("etcd_mvcc_db_total_size_in_use_in_bytes", backend.size_in_use())
    out.add("etcd_mvcc_db_open_read_transactions", backend.open_read_txs)
    out.add("etcd_disk_defrag_inflight", int(backend.defragmenting))
    out.histogram("etcd_disk_backend_commit_duration_seconds", backend.commit_seconds)
    out.histogram("etcd_disk_backend_defrag_duration_seconds", backend.defrag_seconds)
    out.histogram("etcd_disk_backend_snapshot_duration_seconds", backend.snapshot_seconds)
    out.histogram("etcd_mvcc_hash_duration_seconds", backend.hash_seconds)
    out.histogram("etcd_debugging_disk_backend_commit_rebalance_duration_seconds", backend.rebalance_seconds)
    out.histogram("etcd_debugging_disk_backend_commit_spill_duration_seconds", backend.spill_seconds)
    out.histogram("etcd_debugging_disk_backend_commit_write_duration_seconds", backend.write_seconds)
    out.histogram("etcd_disk_wal_fsync_duration_seconds", wal.fsync_seconds)
    out.histogram("etcd_disk_wal_write_duration_seconds", wal.write_seconds)
    out.add("etcd_disk_wal_write_bytes_total", wal.bytes_written)
