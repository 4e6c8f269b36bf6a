"""/metrics in the Prometheus text format, and the families that we report, with etcd's names, types and help.

    # HELP etcd_server_has_leader Whether or not a leader exists. 1 is existence, 0 is not.
    # TYPE etcd_server_has_leader gauge
    etcd_server_has_leader 1

Numbers are plain integers and `measure.Histogram`s of the rooms; they are read here at scrape time and nowhere else
touched, so that counting costs the hot path nothing. The format is simple enough to write out; the client library would
add 40 ms to every start.
Source: https://prometheus.io/docs/instrumenting/exposition_formats (version 0.0.4); names from etcd's metrics.go files.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from quorate.http.gofamilies import GO_FAMILIES
from quorate.measure import Histogram

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

# ruff: noqa: E501  (the help texts are etcd's)
FAMILIES: Final[dict[str, tuple[str, str]]] = {
    "etcd_cluster_version": ("gauge", "Which version is running. 1 for 'cluster_version' label with current cluster version"),
    "etcd_debugging_auth_revision": ("gauge", "The current revision of auth store."),
    "etcd_debugging_disk_backend_commit_rebalance_duration_seconds": ("histogram", "The latency distributions of commit.rebalance called by bboltdb backend."),
    "etcd_debugging_disk_backend_commit_spill_duration_seconds": ("histogram", "The latency distributions of commit.spill called by bboltdb backend."),
    "etcd_debugging_disk_backend_commit_write_duration_seconds": ("histogram", "The latency distributions of commit.write called by bboltdb backend."),
    "etcd_debugging_lease_granted_total": ("counter", "The total number of granted leases."),
    "etcd_debugging_lease_renewed_total": ("counter", "The number of renewed leases seen by the leader."),
    "etcd_debugging_lease_revoked_total": ("counter", "The total number of revoked leases."),
    "etcd_debugging_lease_ttl_total": ("histogram", "Bucketed histogram of lease TTLs."),
    "etcd_debugging_mvcc_compact_revision": ("gauge", "The revision of the last compaction in store."),
    "etcd_debugging_mvcc_current_revision": ("gauge", "The current revision of store."),
    "etcd_debugging_mvcc_db_compaction_keys_total": ("counter", "Total number of db keys compacted."),
    "etcd_debugging_mvcc_db_compaction_last": ("gauge", "The unix time of the last db compaction. Resets to 0 on start."),
    "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds": ("histogram", "Bucketed histogram of db compaction pause duration."),
    "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds": ("histogram", "Bucketed histogram of db compaction total duration."),
    "etcd_debugging_mvcc_events_total": ("counter", "Total number of events sent by this member."),
    "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds": ("histogram", "Bucketed histogram of index compaction pause duration."),
    "etcd_debugging_mvcc_keys_total": ("gauge", "Total number of keys."),
    "etcd_debugging_mvcc_pending_events_total": ("gauge", "Total number of pending events to be sent."),
    "etcd_debugging_mvcc_range_total": ("counter", "Total number of ranges seen by this member."),
    "etcd_debugging_mvcc_slow_watcher_total": ("gauge", "Total number of unsynced slow watchers."),
    "etcd_debugging_mvcc_total_put_size_in_bytes": ("gauge", "The total size of put kv pairs seen by this member."),
    "etcd_debugging_mvcc_watch_stream_total": ("gauge", "Total number of watch streams."),
    "etcd_debugging_mvcc_watcher_total": ("gauge", "Total number of watchers."),
    "etcd_debugging_server_alarms": ("gauge", "Alarms for every member in cluster. 1 for 'server_id' label with current ID. 2 for 'alarm_type' label with type of this alarm"),
    "etcd_debugging_server_lease_expired_total": ("counter", "The total number of expired leases."),
    "etcd_debugging_snap_save_marshalling_duration_seconds": ("histogram", "The marshalling cost distributions of save called by snapshot."),
    "etcd_debugging_snap_save_total_duration_seconds": ("histogram", "The total latency distributions of save called by snapshot."),
    "etcd_debugging_store_expires_total": ("counter", "Total number of expired keys."),
    "etcd_debugging_store_reads_total": ("counter", "Total number of reads action by (get/getRecursive), local to this member."),
    "etcd_debugging_store_watch_requests_total": ("counter", "Total number of incoming watch requests (new or reestablished)."),
    "etcd_debugging_store_watchers": ("gauge", "Count of currently active watchers."),
    "etcd_debugging_store_writes_total": ("counter", "Total number of writes (e.g. set/compareAndDelete) seen by this member."),
    "etcd_disk_backend_commit_duration_seconds": ("histogram", "The latency distributions of commit called by backend."),
    "etcd_disk_backend_defrag_duration_seconds": ("histogram", "The latency distribution of backend defragmentation."),
    "etcd_disk_backend_snapshot_duration_seconds": ("histogram", "The latency distribution of backend snapshots."),
    "etcd_disk_defrag_inflight": ("gauge", "Whether or not defrag is active on the member. 1 means active, 0 means not."),
    "etcd_disk_wal_fsync_duration_seconds": ("histogram", "The latency distributions of fsync called by WAL."),
    "etcd_disk_wal_write_bytes_total": ("gauge", "Total number of bytes written in WAL."),
    "etcd_disk_wal_write_duration_seconds": ("histogram", "The latency distributions of write called by WAL."),
    "etcd_grpc_proxy_cache_hits_total": ("gauge", "Total number of cache hits"),
    "etcd_grpc_proxy_cache_keys_total": ("gauge", "Total number of keys/ranges cached"),
    "etcd_grpc_proxy_cache_misses_total": ("gauge", "Total number of cache misses"),
    "etcd_grpc_proxy_events_coalescing_total": ("counter", "Total number of events coalescing"),
    "etcd_grpc_proxy_watchers_coalescing_total": ("gauge", "Total number of current watchers coalescing"),
    "etcd_mvcc_db_open_read_transactions": ("gauge", "The number of currently open read transactions"),
    "etcd_mvcc_db_total_size_in_bytes": ("gauge", "Total size of the underlying database physically allocated in bytes."),
    "etcd_mvcc_db_total_size_in_use_in_bytes": ("gauge", "Total size of the underlying database logically in use in bytes."),
    "etcd_mvcc_delete_total": ("counter", "Total number of deletes seen by this member."),
    "etcd_mvcc_hash_duration_seconds": ("histogram", "The latency distribution of storage hash operation."),
    "etcd_mvcc_hash_rev_duration_seconds": ("histogram", "The latency distribution of storage hash by revision operation."),
    "etcd_mvcc_put_total": ("counter", "Total number of puts seen by this member."),
    "etcd_mvcc_range_total": ("counter", "Total number of ranges seen by this member."),
    "etcd_mvcc_txn_total": ("counter", "Total number of txns seen by this member."),
    "etcd_network_active_peers": ("gauge", "The current number of active peer connections."),
    "etcd_network_client_grpc_received_bytes_total": ("counter", "The total number of bytes received from grpc clients."),
    "etcd_network_client_grpc_sent_bytes_total": ("counter", "The total number of bytes sent to grpc clients."),
    "etcd_network_disconnected_peers_total": ("counter", "The total number of disconnected peers."),
    "etcd_network_known_peers": ("gauge", "The current number of known peers."),
    "etcd_network_peer_received_bytes_total": ("counter", "The total number of bytes received from peers."),
    "etcd_network_peer_received_failures_total": ("counter", "The total number of receive failures from peers."),
    "etcd_network_peer_round_trip_time_seconds": ("histogram", "Round-Trip-Time histogram between peers"),
    "etcd_network_peer_sent_bytes_total": ("counter", "The total number of bytes sent to peers."),
    "etcd_network_peer_sent_failures_total": ("counter", "The total number of send failures from peers."),
    "etcd_network_server_stream_failures_total": ("counter", "The total number of stream failures from the local server."),
    "etcd_network_snapshot_receive_failures": ("counter", "Total number of snapshot receive failures"),
    "etcd_network_snapshot_receive_inflights_total": ("gauge", "Total number of inflight snapshot receives"),
    "etcd_network_snapshot_receive_success": ("counter", "Total number of successful snapshot receives"),
    "etcd_network_snapshot_receive_total_duration_seconds": ("histogram", "Total latency distributions of v3 snapshot receives"),
    "etcd_network_snapshot_send_failures": ("counter", "Total number of snapshot send failures"),
    "etcd_network_snapshot_send_inflights_total": ("gauge", "Total number of inflight snapshot sends"),
    "etcd_network_snapshot_send_success": ("counter", "Total number of successful snapshot sends"),
    "etcd_network_snapshot_send_total_duration_seconds": ("histogram", "Total latency distributions of v3 snapshot sends"),
    "etcd_server_apply_duration_seconds": ("histogram", "The latency distributions of v2 apply called by backend."),
    "etcd_server_client_requests_total": ("counter", "The total number of client requests per client version."),
    "etcd_server_feature_enabled": ("gauge", "Whether or not a feature is enabled. 1 is enabled, 0 is not."),
    "etcd_server_go_version": ("gauge", "Which Go version server is running with. 1 for 'server_go_version' label with current version."),
    "etcd_server_has_leader": ("gauge", "Whether or not a leader exists. 1 is existence, 0 is not."),
    "etcd_server_health_failures": ("counter", "The total number of failed health checks"),
    "etcd_server_health_success": ("counter", "The total number of successful health checks"),
    "etcd_server_healthcheck": ("gauge", "The result of each kind of healthcheck."),
    "etcd_server_healthchecks_total": ("counter", "The total number of each kind of healthcheck."),
    "etcd_server_heartbeat_send_failures_total": ("counter", "The total number of leader heartbeat send failures (likely overloaded from slow disk)."),
    "etcd_server_id": ("gauge", "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID."),
    "etcd_server_is_leader": ("gauge", "Whether or not this member is a leader. 1 if is, 0 otherwise."),
    "etcd_server_is_learner": ("gauge", "Whether or not this member is a learner. 1 if is, 0 otherwise."),
    "etcd_server_leader_changes_seen_total": ("counter", "The number of leader changes seen."),
    "etcd_server_learner_promote_failures": ("counter", "The total number of failed learner promotions (likely learner not ready) while this member is leader."),
    "etcd_server_learner_promote_successes": ("counter", "The total number of successful learner promotions while this member is leader."),
    "etcd_server_proposals_applied_total": ("gauge", "The total number of consensus proposals applied."),
    "etcd_server_proposals_committed_total": ("gauge", "The total number of consensus proposals committed."),
    "etcd_server_proposals_failed_total": ("counter", "The total number of failed proposals seen."),
    "etcd_server_proposals_pending": ("gauge", "The current number of pending proposals to commit."),
    "etcd_server_quota_backend_bytes": ("gauge", "Current backend storage quota size in bytes."),
    "etcd_server_range_duration_seconds": ("histogram", "The latency distributions of txn.Range"),
    "etcd_server_read_indexes_failed_total": ("counter", "The total number of failed read indexes seen."),
    "etcd_server_slow_apply_total": ("counter", "The total number of slow apply requests (likely overloaded from slow disk)."),
    "etcd_server_slow_read_indexes_total": ("counter", "The total number of pending read indexes not in sync with leader's or timed out read index requests."),
    "etcd_server_snapshot_apply_in_progress_total": ("gauge", "1 if the server is applying the incoming snapshot. 0 if none."),
    "etcd_server_version": ("gauge", "Which version is running. 1 for 'server_version' label with current version."),
    "etcd_snap_db_fsync_duration_seconds": ("histogram", "The latency distributions of fsyncing .snap.db file"),
    "etcd_snap_db_save_total_duration_seconds": ("histogram", "The total latency distributions of v3 snapshot save"),
    "etcd_snap_fsync_duration_seconds": ("histogram", "The latency distributions of fsync called by snap."),
    "grpc_server_handled_total": ("counter", "Total number of RPCs completed on the server, regardless of success or failure."),
    "grpc_server_handling_seconds": ("histogram", "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server."),
    "grpc_server_msg_received_total": ("counter", "Total number of RPC stream messages received on the server."),
    "grpc_server_msg_sent_total": ("counter", "Total number of gRPC stream messages sent by the server."),
    "grpc_server_started_total": ("counter", "Total number of RPCs started on the server."),
    "os_fd_limit": ("gauge", "The file descriptor limit."),
    "os_fd_used": ("gauge", "The number of used file descriptors."),
    "process_cpu_seconds_total": ("counter", "Total user and system CPU time spent in seconds."),
    "process_max_fds": ("gauge", "Maximum number of open file descriptors."),
    "process_open_fds": ("gauge", "Number of open file descriptors."),
    "process_resident_memory_bytes": ("gauge", "Resident memory size in bytes."),
    "process_start_time_seconds": ("gauge", "Start time of the process since unix epoch in seconds."),
    "process_virtual_memory_bytes": ("gauge", "Virtual memory size in bytes."),
    "process_virtual_memory_max_bytes": ("gauge", "Maximum amount of virtual memory available in bytes."),
    "promhttp_metric_handler_requests_in_flight": ("gauge", "Current number of scrapes being served."),
    "promhttp_metric_handler_requests_total": ("counter", "Total number of scrapes by HTTP status code."),
    "python_info": ("gauge", "Python platform information."),
    "quorate_info": ("gauge", "Our own version. 1 for the 'version' label."),
    "quorate_server_entries_total": ("counter", "The total number of log entries that were saved."),
    "quorate_server_syncs_total": ("counter", "The total number of WAL syncs by where they ran: inline or worker."),
    "quorate_server_turns_total": ("counter", "The total number of turns of the event loop that had raft work."),
    **GO_FAMILIES,
}  # fmt: skip

Labels = Iterable[tuple[str, str]]


def format_number(value: float) -> str:
    """Return a number as Go's shortest 'g' format writes it: "20480", "2.147483648e+09", "4.442e-05"."""
    if isinstance(value, int) and 0 <= value < 1_000_000:
        return str(value)
    if value == float("inf"):
        return "+Inf"
    if value == 0:
        return "0"
    # repr gives the shortest digits that read back as the same number; only their arrangement differs.
    mantissa, _, exponent = f"{float(value)!r}".partition("e")
    sign, mantissa = ("-", mantissa[1:]) if mantissa[0] == "-" else ("", mantissa)
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    power = int(exponent or "0") + (
        len(whole) - 1 if whole != "0" else -1 - (len(fraction) - len(fraction.lstrip("0")))
    )
    digits = digits.rstrip("0") or "0"
    if power < -4 or power >= 6:
        rest = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{rest}e{'-' if power < 0 else '+'}{abs(power):02d}"
    if power < 0:
        return f"{sign}0.{'0' * (-power - 1)}{digits}"
    digits = digits.ljust(power + 1, "0")
    rest = f".{digits[power + 1 :]}" if len(digits) > power + 1 else ""
    return f"{sign}{digits[: power + 1]}{rest}"


class Exposition:
    """Collects samples by family and renders them, families sorted by name, series by the values of their labels.

    Labels are given in the order of their names.
    """

    def __init__(self) -> None:
        self._samples: dict[str, list[tuple[tuple[str, ...], str]]] = {}

    def add(self, name: str, value: float, labels: Labels = ()) -> None:
        """Add one sample of a counter or gauge."""
        assert name in FAMILIES, name
        labels = tuple(labels)
        self._add(name, labels, f"{name}{_braced(labels)} {format_number(value)}\n")

    def _add(self, name: str, labels: Labels, text: str) -> None:
        self._samples.setdefault(name, []).append((tuple([value for _, value in labels]), text))

    def histogram(self, name: str, histogram: Histogram, labels: Labels = ()) -> None:
        """Add one histogram: cumulative buckets, sum and count."""
        assert FAMILIES[name][0] == "histogram", name
        labels = tuple(labels)
        lines = []
        total = 0
        for head, count in zip(_bucket_heads(name, labels, histogram.bounds), histogram.counts, strict=True):
            total += count
            lines.append(f"{head}{total}\n")
        lines.append(f"{name}_sum{_braces(labels)} {format_number(histogram.sum)}\n")
        lines.append(f"{name}_count{_braces(labels)} {total}\n")
        self._add(name, labels, "".join(lines))

    def summary(self, name: str, quantiles: Iterable[tuple[float, float]], total: float, count: int) -> None:
        """Add a summary: (quantile, value) pairs, the sum and the count of all observations."""
        assert FAMILIES[name][0] == "summary", name
        lines = [f'{name}{{quantile="{format_number(at)}"}} {format_number(value)}\n' for at, value in quantiles]
        lines += [f"{name}_sum {format_number(total)}\n", f"{name}_count {count}\n"]
        self._add(name, (), "".join(lines))

    def render(self) -> bytes:
        """Return the whole text."""
        parts = []
        for name in sorted(self._samples):
            kind, text = FAMILIES[name]
            parts.append(f"# HELP {name} {text}\n# TYPE {name} {kind}\n")
            parts.extend([text for _, text in sorted(self._samples[name])])
        return "".join(parts).encode()


@lru_cache(4096)
def _bucket_heads(name: str, labels: tuple[tuple[str, str], ...], bounds: tuple[float, ...]) -> list[str]:
    """Return what stands before the counts of a histogram's buckets."""
    whole = (*bounds, float("inf"))
    return [f"{name}_bucket{_braces([*labels, ('le', format_number(bound))])} " for bound in whole]


@lru_cache(8192)
def _braced(labels: tuple[tuple[str, str], ...]) -> str:
    return _braces(labels)


def _braces(labels: Labels) -> str:
    pairs = ",".join(f'{name}="{_escape(value)}"' for name, value in labels)
    return f"{{{pairs}}}" if pairs else ""


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
