"""What a leader sends to bring its followers' logs up to its own, and how it learns what is committed (paper 5.3)."""

from __future__ import annotations

from quorate.raft.core import Raft
from quorate.raft.log import payload_size
from quorate.raft.logger import DEBUG
from quorate.raft.storage import CompactedError
from quorate.raft.tracker import REPLICATE, Progress
from quorate.raft.types import (
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_SNAP,
    MSG_TIMEOUT_NOW,
    NO_LIMIT,
    Entry,
    Message,
)


def append_entries(raft: Raft, entries: list[Entry]) -> bool:
    """Append a leader's own entries, which carry its term and the next indexes; False when a limit forbids it."""
    config = raft.config
    if config.max_uncommitted_size < NO_LIMIT:
        size = payload_size(entries)
        # Entries without data always pass: a new leader's first entry, and leaving a joint configuration.
        if raft.uncommitted_size > 0 and size > 0 and raft.uncommitted_size + size > config.max_uncommitted_size:
            raft.warn(
                f"{raft.id:x} appending new entries to log would exceed uncommitted entry size limit; dropping proposal"
            )
            return False
        raft.uncommitted_size += size
    raft.log.append(entries)
    # The leader acknowledges to itself, as everybody else does: once the entries are durable.
    raft.send(Message(MSG_APP_RESP, to=raft.id, index=raft.log.last_index()))
    return True


def send_append(raft: Raft, to: int) -> None:
    """Send an append, with entries as far as the peer is ready for them."""
    maybe_send_append(raft, to, raft.tracker.progress[to], True)


def maybe_send_append(raft: Raft, to: int, progress: Progress, if_empty: bool) -> bool:
    """Send an append, or the snapshot that has to come first; False when there is nothing to do.

    `if_empty` sends an append without entries too: it carries the commit index, and probes.
    """
    if progress.is_paused():
        return False
    log = raft.log
    previous = progress.next - 1
    previous_term = log.term(previous)
    if previous_term < 0:
        return _maybe_send_snapshot(raft, to, progress)
    entries: list[Entry] = []
    # A throttled pipeline still gets empty appends, after heartbeats: if all that was in flight is lost, the answer to
    # one of them gets the pipeline going again.
    if progress.state != REPLICATE or not progress.inflights.full():
        last = log.last_index()
        if progress.next <= last:
            try:
                entries = log.slice(progress.next, last + 1, raft.config.max_size_per_msg)
            except CompactedError:
                return _maybe_send_snapshot(raft, to, progress)
    if not entries and not if_empty:
        return False
    raft.send(Message(MSG_APP, to=to, index=previous, log_term=previous_term, entries=entries, commit=log.committed))
    progress.sent_entries(len(entries), payload_size(entries))
    progress.sent_commit = log.committed
    return True


def _maybe_send_snapshot(raft: Raft, to: int, progress: Progress) -> bool:
    logger = raft.logger
    if not progress.recent_active:
        if logger.level <= DEBUG:
            logger.debug(f"ignore sending snapshot to {to:x} since it is not recently active")
        return False
    pending = raft.log.snapshot
    snapshot = raft.log.storage.snapshot() if pending is None else pending
    if snapshot.is_empty():
        if logger.level <= DEBUG:
            logger.debug(f"{raft.id:x} failed to send snapshot to {to:x} because snapshot is temporarily unavailable")
        return False
    if logger.level <= DEBUG:
        logger.debug(
            f"{raft.id:x} [firstindex: {raft.log.first_index()}, commit: {raft.log.committed}] sent snapshot"
            f"[index: {snapshot.index}, term: {snapshot.term}] to {to:x} [{progress.describe()}]"
        )
    progress.become_snapshot(snapshot.index)
    if logger.level <= DEBUG:
        logger.debug(f"{raft.id:x} paused sending replication messages to {to:x} [{progress.describe()}]")
    raft.send(Message(MSG_SNAP, to=to, snapshot=snapshot))
    return True


def broadcast_append(raft: Raft) -> None:
    """Send an append to every peer that can take one."""
    tracker = raft.tracker
    for member in tracker.ids:
        if member != raft.id:
            maybe_send_append(raft, member, tracker.progress[member], True)


def broadcast_heartbeat(raft: Raft) -> None:
    """Send a heartbeat to every peer, with the context that confirms waiting reads.

    It must not commit what the peer may not have: its commit index is bounded by what is known to match.
    """
    context = raft.read_only.heartbeat_context()
    tracker = raft.tracker
    for member in tracker.ids:
        if member != raft.id:
            progress = tracker.progress[member]
            commit = min(progress.match, raft.log.committed)
            raft.send(Message(MSG_HEARTBEAT, to=member, commit=commit, context=context))
            progress.sent_commit = commit


def maybe_commit(raft: Raft) -> bool:
    """Commit what a quorum holds; True when the commit index moved.

    Only an entry of the leader's own term commits by counting, and all before it with it (paper 5.4.2).
    """
    return raft.log.maybe_commit(raft.tracker.committed(), raft.term)


def send_timeout_now(raft: Raft, to: int) -> None:
    """Tell a peer to start an election at once (thesis 3.10)."""
    raft.send(Message(MSG_TIMEOUT_NOW, to=to))


def committed_in_term(raft: Raft) -> bool:
    """Tell whether the leader has committed an entry of its own term, and so knows what is committed."""
    return raft.log.term(raft.log.committed) == raft.term
