"""What the node counts; `http.metrics` reads it. Names follow etcd's metrics without their prefix.

Committed, applied and pending proposals are the server's own numbers (committed_index, applied_index,
proposals_pending); the duration of syncs is counted by the WAL.
"""

from __future__ import annotations

from quorate.measure import APPLY_SECONDS, Histogram


class ServerStats:
    """Counters and gauges of one member."""

    def __init__(self) -> None:
        self.leader_changes_seen_total = 0
        self.proposals_failed_total = 0
        self.slow_apply_total = 0
        self.read_indexes_failed_total = 0
        self.slow_read_indexes_total = 0
        self.lease_expired_total = 0
        self.learner_promote_successes = 0
        self.heartbeat_send_failures_total = 0
        self.turns_total = 0
        self.entries_total = 0
        self.syncs_inline_total = 0
        self.syncs_worker_total = 0
        self.apply_duration_seconds = Histogram(APPLY_SECONDS)
        """One observation a batch of entries, not one an entry."""
