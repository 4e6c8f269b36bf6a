"""The settings that the server needs. The command line fills them in; nothing here is read from a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000_000_000

DEFAULT_QUOTA_BYTES: Final = 2 << 30
COMPACTOR_PERIODIC: Final = "periodic"
COMPACTOR_REVISION: Final = "revision"


@dataclass
class ServerConfig:
    """What a member is told about itself. Durations are nanoseconds, sizes bytes, unless a name says otherwise."""

    name: str = "default"
    data_dir: str = "default.etcd"
    snap_dir: str = "default.etcd/member/snap"
    wal_dir: str = "default.etcd/member/wal"
    client_urls: list[str] = field(default_factory=list)
    """The advertised client URLs, which the member publishes through the log at start."""

    version: str = "3.6.14"
    """The etcd version that we report to clients and peers."""

    tick_ns: int = 100 * MILLISECOND
    election_ticks: int = 10
    initial_election_tick_advance: bool = True
    peer_read_timeout_ns: int = 5 * SECOND
    """How long a connection to another member may be silent, and how long the first election waits for two of these."""

    peer_write_timeout_ns: int = 5 * SECOND
    pre_vote: bool = True

    snapshot_count: int = 10_000
    snapshot_catchup_entries: int = 5_000
    max_snapshots: int = 5
    max_wals: int = 5
    purge_interval_ns: int = 30 * SECOND

    quota_bytes: int = DEFAULT_QUOTA_BYTES
    """Negative: no quota. The command line replaces 0 by the default."""

    max_request_bytes: int = 1_572_864
    max_txn_ops: int = 128
    max_learners: int = 1
    strict_reconfig_check: bool = True

    auto_compaction_mode: str = COMPACTOR_PERIODIC
    auto_compaction_retention: int = 0
    """Nanoseconds in mode periodic, revisions in mode revision; 0: off."""

    lease_checkpoint: bool = False
    lease_checkpoint_persist: bool = False

    initial_corrupt_check: bool = False
    """Compare the history with the other members' before a start that is not the first."""

    corrupt_check_ns: int = 0
    """How often the leader compares all members' histories; 0: never."""

    compact_hash_check: bool = False
    """The leader compares the hashes that compactions leave on all members, every `compact_hash_check_ns`."""

    compact_hash_check_ns: int = 60 * SECOND

    downgrade_check_ns: int = 5 * SECOND
    """How often the leader looks whether a downgrade is complete; 0: never."""

    auth_token: str = "simple"
    """As the flag has it: "simple", or "jwt,sign-method=...,pub-key=...,priv-key=...,ttl=..."."""

    auth_token_ttl_s: int = 300
    bcrypt_cost: int = 10
    client_cert_auth: bool = False
    """A client without a token is the user that its verified certificate names."""

    load_slice: int = 5_000
    """How many revisions of a received snapshot are loaded before other things get their turn."""

    warning_apply_ns: int = 100 * MILLISECOND
    sync_inline_ns: int = 1 * MILLISECOND
    """An fsync runs on the loop while the average of the recent ones is below this; 0: always in the worker."""

    sync_inline_entries: int = 512
    sync_inline_bytes: int = 1 << 20
    """The largest batch whose fsync runs on the loop. The storage thread may be busy with a commit of the backend, so
    it pays to ask it only when the loop has plenty to do meanwhile."""

    @property
    def election_ns(self) -> int:
        """The election timeout."""
        return self.tick_ns * self.election_ticks

    @property
    def request_timeout_ns(self) -> int:
        """How long a request may wait for the cluster (etcd: ReqTimeout): 5 s and two elections."""
        return 5 * SECOND + 2 * self.election_ns

    @property
    def min_lease_ttl_s(self) -> int:
        """The shortest lease: one and a half elections, rounded up to whole seconds."""
        return -(-(3 * self.election_ticks // 2) * self.tick_ns // SECOND)
