"""What one member is told: everything `Member` needs, checked and with its defaults. Durations are nanoseconds.

The command line fills this in from flags, environment or a file; whoever embeds a member fills it in directly:

    MemberSettings(name="a", data_dir="/tmp/a", listen_client_urls=parse_urls(["http://127.0.0.1:2379"]))
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from quorate.membership.member import parse_initial_cluster
from quorate.runtime.duration import FlagValueError, parse_duration
from quorate.runtime.tls.info import TlsInfo
from quorate.runtime.tracing import TracingSettings
from quorate.runtime.urls import Url, parse_urls
from quorate.server.bootlog import StartError
from quorate.server.config import DEFAULT_QUOTA_BYTES, MILLISECOND, SECOND, ServerConfig
from quorate.server.join import Registry

HOUR: Final = 3600 * SECOND


def _default_peer_urls() -> list[Url]:
    return parse_urls(["http://localhost:2380"])


def _default_client_urls() -> list[Url]:
    return parse_urls(["http://localhost:2379"])


@dataclass
class MemberSettings:
    """The settings of one member, by the names of etcd's flags."""

    name: str = "default"
    data_dir: str = "default.etcd"
    wal_dir: str = ""
    """Empty: member/wal inside the data directory."""

    listen_peer_urls: list[Url] = field(default_factory=_default_peer_urls)
    listen_client_urls: list[Url] = field(default_factory=_default_client_urls)
    listen_client_http_urls: list[Url] = field(default_factory=list)
    listen_metrics_urls: list[Url] = field(default_factory=list)
    advertise_peer_urls: list[Url] = field(default_factory=_default_peer_urls)
    advertise_client_urls: list[Url] = field(default_factory=_default_client_urls)

    initial_cluster: str = ""
    """Empty: this member alone, with its advertised peer URLs."""

    srv_domain: str = ""
    """The domain whose SRV records name the initial members, instead of `initial_cluster`."""

    srv_name: str = ""
    registry: Registry | None = None
    """A discovery service that knows the initial members, instead of `initial_cluster`."""

    initial_cluster_token: str = "etcd-cluster"
    new_cluster: bool = True
    force_new_cluster: bool = False
    unsafe_no_fsync: bool = False
    skip_v2_check: bool = False
    """Start although a snapshot holds data of the v2 API."""

    raft_read_timeout_ns: int = 5 * SECOND
    raft_write_timeout_ns: int = 5 * SECOND
    heartbeat_ms: int = 100
    election_ms: int = 1000
    initial_election_tick_advance: bool = True
    pre_vote: bool = True
    strict_reconfig_check: bool = True
    max_learners: int = 1
    initial_corrupt_check: bool = False
    corrupt_check_ns: int = 0
    compact_hash_check: bool = False
    compact_hash_check_ns: int = 60 * SECOND
    auth_token: str = "simple"
    auth_token_ttl_s: int = 300
    bcrypt_cost: int = 10

    snapshot_count: int = 10_000
    snapshot_catchup_entries: int = 5_000
    max_snapshots: int = 5
    max_wals: int = 5
    quota_bytes: int = 0
    """0: the default of 2 GiB; negative: none."""

    batch_interval_ns: int = 0
    batch_limit: int = 0
    compaction_batch_limit: int = 0
    compaction_sleep_ns: int = 0
    auto_compaction_mode: str = "periodic"
    auto_compaction_retention: str = "0"
    watch_progress_ns: int = 0
    warning_apply_ns: int = 100 * MILLISECOND
    warning_unary_ns: int = 300 * MILLISECOND
    extensive_metrics: bool = False
    enable_pprof: bool = False
    tracing: TracingSettings | None = None
    lease_checkpoint: bool = False
    lease_checkpoint_persist: bool = False
    downgrade_check_ns: int = 5 * SECOND
    memory_mlock: bool = False
    bootstrap_defrag_megabytes: int = 0
    """Defragment at the start when at least so much of the file is free; 0: never."""

    features: dict[str, bool] = field(default_factory=dict)
    """The feature gates, which /metrics reports."""

    max_txn_ops: int = 128
    max_request_bytes: int = 1_572_864
    max_concurrent_streams: int = (1 << 32) - 1
    keepalive_min_ns: int = 5 * SECOND
    keepalive_interval_ns: int = 2 * HOUR
    keepalive_timeout_ns: int = 20 * SECOND
    reuse_port: bool = False
    reuse_address: bool = False
    enable_grpc_gateway: bool = True
    cors: list[str] = field(default_factory=lambda: ["*"])
    host_whitelist: list[str] = field(default_factory=lambda: ["*"])

    client_tls: TlsInfo = field(default_factory=TlsInfo)
    """Of the listeners for clients and metrics."""

    peer_tls: TlsInfo = field(default_factory=TlsInfo)
    auto_tls: bool = False
    peer_auto_tls: bool = False
    self_signed_validity_years: int = 1

    @property
    def member_dir(self) -> str:
        """The directory of everything that belongs to the member."""
        return f"{self.data_dir}/member"

    @property
    def snap_dir(self) -> str:
        """The directory of the db file and the snapshots."""
        return f"{self.data_dir}/member/snap"

    @property
    def wal_path(self) -> str:
        """The directory of the WAL."""
        return self.wal_dir or f"{self.data_dir}/member/wal"

    def cluster_urls(self) -> dict[str, list[str]]:
        """Return the peer URLs of the initial members by name as far as the settings say them; raises StartError."""
        if self.registry is not None or not self.initial_cluster:
            return {self.name: [url.text for url in self.advertise_peer_urls]}
        try:
            return parse_initial_cluster(self.initial_cluster)
        except ValueError as problem:
            raise StartError(f"error setting up initial cluster: {problem}") from None

    def server_config(self) -> ServerConfig:
        """Return what the server is told; StartError when the compaction retention does not parse."""
        return ServerConfig(
            name=self.name,
            data_dir=self.data_dir,
            snap_dir=self.snap_dir,
            wal_dir=self.wal_path,
            client_urls=[url.text for url in self.advertise_client_urls],
            tick_ns=self.heartbeat_ms * MILLISECOND,
            election_ticks=self.election_ms // self.heartbeat_ms,
            initial_election_tick_advance=self.initial_election_tick_advance,
            peer_read_timeout_ns=self.raft_read_timeout_ns,
            peer_write_timeout_ns=self.raft_write_timeout_ns,
            pre_vote=self.pre_vote,
            snapshot_count=self.snapshot_count or 10_000,
            snapshot_catchup_entries=self.snapshot_catchup_entries,
            max_snapshots=self.max_snapshots,
            max_wals=self.max_wals,
            quota_bytes=self.quota_bytes or DEFAULT_QUOTA_BYTES,
            max_request_bytes=self.max_request_bytes,
            max_txn_ops=self.max_txn_ops,
            max_learners=self.max_learners,
            auth_token=self.auth_token,
            auth_token_ttl_s=self.auth_token_ttl_s,
            bcrypt_cost=self.bcrypt_cost,
            client_cert_auth=self.client_tls.client_cert_auth,
            strict_reconfig_check=self.strict_reconfig_check,
            auto_compaction_mode=self.auto_compaction_mode,
            auto_compaction_retention=self.retention(),
            initial_corrupt_check=self.initial_corrupt_check,
            corrupt_check_ns=self.corrupt_check_ns,
            compact_hash_check=self.compact_hash_check,
            compact_hash_check_ns=self.compact_hash_check_ns,
            lease_checkpoint=self.lease_checkpoint,
            lease_checkpoint_persist=self.lease_checkpoint_persist,
            warning_apply_ns=self.warning_apply_ns,
            downgrade_check_ns=self.downgrade_check_ns,
        )

    def retention(self) -> int:
        """Return how much history auto compaction keeps: nanoseconds, or revisions in mode revision; 0 is off."""
        text = self.auto_compaction_retention or "0"
        if re.fullmatch(r"\+?[0-9]+", text):
            return int(text) if self.auto_compaction_mode == "revision" else int(text) * HOUR
        try:
            return parse_duration(text)
        except FlagValueError as problem:
            raise StartError(f"error parsing CompactionRetention: {problem}") from None
