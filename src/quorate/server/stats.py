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
        self.learner_promote_failures: dict[str, int] = {}  # by the error's text
        self.applies: dict[int, Histogram] = {}
        """How long entries took to be applied, by 2 * kind of request + whether it succeeded (see `applied`)."""

        self.range_seconds = Histogram(APPLY_SECONDS)
        self.failed_range_seconds = Histogram(APPLY_SECONDS)

    def applied(self, kind: int, success: bool, took_ns: int) -> None:
        """Count one applied entry."""
        key = kind * 2 + success
        histogram = self.applies.get(key)
        if histogram is None:
            histogram = self.applies[key] = Histogram(APPLY_SECONDS)
        histogram.observe(took_ns / 1e9)
