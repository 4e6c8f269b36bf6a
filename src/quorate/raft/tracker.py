"""What a leader knows of each peer, and the configuration that all members count votes by (etcd-io/raft: design.md).

A peer is in one of three states:

    probe      one append at a time, to find out where its log and ours agree
    replicate  appends are pipelined: `next` runs ahead of `match`, as far as the inflights' limits allow
    snapshot   entries that it needs are compacted away; nothing is sent until the snapshot has arrived or failed

Invariant: match < next. `match` never decreases while the leader's term lasts.
"""

from __future__ import annotations

from typing import Final

from quorate.raft.quorum import VOTE_WON, joint_committed, joint_vote
from quorate.raft.types import NO_LIMIT, ConfState

PROBE: Final = 0
REPLICATE: Final = 1
SNAPSHOT: Final = 2
PROGRESS_NAMES: Final = ("StateProbe", "StateReplicate", "StateSnapshot")


class Inflights:
    """The appends that were sent and not yet acknowledged: for each its last index and payload size, oldest first.

    Bounded in number and in bytes. The byte limit may be passed by the last append, so that a limit below one
    message's size still lets one through.
    """

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self.max_count: int = max_count
        self.max_bytes: int = NO_LIMIT if max_bytes == 0 else max_bytes
        self._indexes: list[int] = []
        self._sizes: list[int] = []
        self._start = 0
        self._bytes = 0

    def count(self) -> int:
        """Return how many appends are under way."""
        return len(self._indexes) - self._start

    def full(self) -> bool:
        """Tell whether another append has to wait."""
        return len(self._indexes) - self._start >= self.max_count or self._bytes >= self.max_bytes

    def add(self, last_index: int, size: int) -> None:
        """Remember an append that ends at `last_index`; indexes ascend. Not allowed when full."""
        assert not self.full(), "cannot add to full inflights"
        self._indexes.append(last_index)
        self._sizes.append(size)
        self._bytes += size

    def free_to(self, index: int) -> None:
        """Forget the appends that end at or below `index`."""
        start = self._start
        end = len(self._indexes)
        while start < end and self._indexes[start] <= index:
            self._bytes -= self._sizes[start]
            start += 1
        # Forgotten places are given back once they outnumber the rest, which keeps every call O(1) amortized.
        if start * 2 >= end:
            del self._indexes[:start]
            del self._sizes[:start]
            start = 0
        self._start = start

    def reset(self) -> None:
        """Forget all."""
        self._indexes = []
        self._sizes = []
        self._start = 0
        self._bytes = 0


class Progress:
    """One peer as the leader sees it; followers keep the map too, unused but for the membership."""

    def __init__(self, match: int, next: int, inflights: Inflights, is_learner: bool, recent_active: bool) -> None:
        self.match: int = match
        """The highest index known to be in the peer's log."""
        self.next: int = next
        """The index of the next entry to send."""
        self.inflights: Inflights = inflights
        self.is_learner: bool = is_learner
        self.recent_active: bool = recent_active
        """A message came from the peer since the last quorum check."""
        self.state: int = PROBE
        self.paused_flow: bool = False
        """In probe: the one append is under way. In replicate: the inflights were full after the last one."""
        self.pending_snapshot: int = 0
        """In snapshot: the index of the snapshot that was sent."""
        self.sent_commit: int = 0
        """The highest commit index in a message to the peer. It may be lost on the way; heartbeats repeat it."""

    def as_learner(self, is_learner: bool) -> Progress:
        """Return a copy that differs in its role only; the inflights are shared."""
        copy = Progress(self.match, self.next, self.inflights, is_learner, self.recent_active)
        copy.state = self.state
        copy.paused_flow = self.paused_flow
        copy.pending_snapshot = self.pending_snapshot
        copy.sent_commit = self.sent_commit
        return copy

    def _enter(self, state: int) -> None:
        self.state = state
        self.paused_flow = False
        self.pending_snapshot = 0
        self.inflights.reset()

    def become_probe(self) -> None:
        """Probe from behind what is known to match, or from behind the snapshot that was being sent."""
        next_index = self.match + 1
        if self.state == SNAPSHOT and self.pending_snapshot + 1 > next_index:
            next_index = self.pending_snapshot + 1
        self._enter(PROBE)
        self.next = next_index
        self.sent_commit = min(self.sent_commit, next_index - 1)

    def become_replicate(self) -> None:
        """Pipeline from behind what is known to match."""
        self._enter(REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        """Wait for a snapshot at `index`."""
        self._enter(SNAPSHOT)
        self.pending_snapshot = index
        self.next = index + 1
        self.sent_commit = index

    def sent_entries(self, count: int, size: int) -> None:
        """Account for an append with `count` entries of `size` payload bytes that was just sent."""
        assert self.state != SNAPSHOT, "append sent while a snapshot is pending"
        if self.state == REPLICATE:
            if count > 0:
                self.next += count
                self.inflights.add(self.next - 1, size)
            self.paused_flow = self.inflights.full()
        elif count > 0:
            self.paused_flow = True

    def can_bump_commit(self, commit: int) -> bool:
        """Tell whether an append without entries would teach the peer a higher commit index."""
        return commit > self.sent_commit and self.sent_commit < self.next - 1

    def maybe_update(self, index: int) -> bool:
        """Take an acknowledgement up to `index`; False when it says nothing new."""
        if index <= self.match:
            return False
        self.match = index
        if self.next <= index:
            self.next = index + 1
        self.paused_flow = False
        return True

    def maybe_decrease(self, rejected: int, hint: int) -> bool:
        """Take a rejection of the append behind index `rejected`; False when it is stale.

        `hint` is where the peer's log may agree with ours.
        """
        if self.state == REPLICATE:
            if rejected <= self.match:
                return False
            self.next = self.match + 1
        else:
            if self.next - 1 != rejected:
                return False
            self.next = max(min(rejected, hint + 1), self.match + 1)
            self.paused_flow = False
        self.sent_commit = min(self.sent_commit, self.next - 1)
        return True

    def is_paused(self) -> bool:
        """Tell whether no append with entries may be sent now."""
        return self.state == SNAPSHOT or self.paused_flow

    def describe(self) -> str:
        """Return etcd's text, such as "StateReplicate match=5 next=6 inactive"."""
        text = f"{PROGRESS_NAMES[self.state]} match={self.match} next={self.next}"
        if self.is_learner:
            text += " learner"
        if self.is_paused():
            text += " paused"
        if self.pending_snapshot > 0:
            text += f" pendingSnap={self.pending_snapshot}"
        if not self.recent_active:
            text += " inactive"
        if self.inflights.count() > 0:
            text += f" inflight={self.inflights.count()}"
            if self.inflights.full():
                text += "[full]"
        return text


def _describe_ids(ids: list[int]) -> str:
    return "(" + " ".join([str(member) for member in ids]) + ")"


class Configuration:
    """Who votes and who only listens. All lists ascend. `outgoing` is empty unless the configuration is joint."""

    def __init__(self) -> None:
        self.voters: list[int] = []
        self.outgoing: list[int] = []
        self.learners: list[int] = []
        self.learners_next: list[int] = []
        """Outgoing voters that become learners once the joint configuration is left."""
        self.auto_leave: bool = False
        """The leader proposes to leave the joint configuration by itself."""

    def copy(self) -> Configuration:
        """Return a copy that shares nothing."""
        other = Configuration()
        other.voters = list(self.voters)
        other.outgoing = list(self.outgoing)
        other.learners = list(self.learners)
        other.learners_next = list(self.learners_next)
        other.auto_leave = self.auto_leave
        return other

    def is_joint(self) -> bool:
        """Tell whether two majorities are needed."""
        return len(self.outgoing) > 0

    def is_singleton(self) -> bool:
        """Tell whether one voter decides alone."""
        return len(self.voters) == 1 and not self.outgoing

    def all_voters(self) -> list[int]:
        """Return the voters of both halves, ascending."""
        if not self.outgoing:
            return self.voters
        return sorted(set(self.voters) | set(self.outgoing))

    def is_voter(self, member: int) -> bool:
        """Tell whether a member votes in either half."""
        return member in self.voters or member in self.outgoing

    def conf_state(self) -> ConfState:
        """Return the form that is stored."""
        return ConfState(
            list(self.voters), list(self.learners), list(self.outgoing), list(self.learners_next), self.auto_leave
        )

    def describe(self) -> str:
        """Return etcd's text, such as "voters=(1 2)&&(1) learners=(3) autoleave"."""
        text = "voters=" + _describe_ids(self.voters)
        if self.outgoing:
            text += "&&" + _describe_ids(self.outgoing)
        if self.learners:
            text += " learners=" + _describe_ids(self.learners)
        if self.learners_next:
            text += " learners_next=" + _describe_ids(self.learners_next)
        if self.auto_leave:
            text += " autoleave"
        return text


class Tracker:
    """The configuration, each member's progress, and the ballots of the running election."""

    def __init__(self, max_inflight: int, max_inflight_bytes: int) -> None:
        self.max_inflight: int = max_inflight
        self.max_inflight_bytes: int = max_inflight_bytes
        self.config: Configuration = Configuration()
        self.progress: dict[int, Progress] = {}
        self.ids: list[int] = []
        """The members, ascending: the order in which they are written to."""
        self.votes: dict[int, bool] = {}

    def switch(self, config: Configuration, progress: dict[int, Progress]) -> None:
        """Count by another configuration from now on."""
        self.config = config
        self.progress = progress
        self.ids = sorted(progress)

    def new_inflights(self) -> Inflights:
        """Return empty inflights with the configured limits."""
        return Inflights(self.max_inflight, self.max_inflight_bytes)

    def committed(self) -> int:
        """Return the highest index that the voters' logs commit, of whatever term."""
        config = self.config
        if not config.outgoing and len(config.voters) == 1:
            return self._match(config.voters[0])
        incoming = [self._match(voter) for voter in config.voters]
        outgoing = [self._match(voter) for voter in config.outgoing]
        return joint_committed(incoming, outgoing)

    def _match(self, voter: int) -> int:
        progress = self.progress.get(voter)
        return 0 if progress is None else progress.match

    def quorum_active(self) -> bool:
        """Tell whether enough voters were heard of since the last check to decide anything."""
        active: dict[int, bool] = {}
        for member, progress in self.progress.items():
            if not progress.is_learner:
                active[member] = progress.recent_active
        return self.vote_result(active) == VOTE_WON

    def vote_result(self, votes: dict[int, bool]) -> int:
        """Return the outcome of ballots under the configuration."""
        return joint_vote(self.config.voters, self.config.outgoing, votes)

    def record_vote(self, member: int, granted: bool) -> None:
        """Take a ballot; only a member's first one counts."""
        if member not in self.votes:
            self.votes[member] = granted

    def count_votes(self) -> tuple[int, int]:
        """Return how many voters have granted and rejected."""
        granted = 0
        rejected = 0
        for member, vote in self.votes.items():
            progress = self.progress.get(member)
            if progress is None or progress.is_learner:
                continue
            if vote:
                granted += 1
            else:
                rejected += 1
        return granted, rejected
