"""From one configuration to the next (thesis chapter 4; etcd-io/raft: confchange/).

A simple change alters at most one voter, so that any two majorities of the old and the new configuration overlap. All
other changes go through a joint configuration: enter it (old and new voters must both agree), leave it later. Each
function returns a new configuration and progress map and leaves the given ones untouched; a refused change raises
ConfChangeError. A change of member 0 does nothing.
"""

from __future__ import annotations

from quorate.raft.tracker import Configuration, Progress, Tracker
from quorate.raft.types import ADD_LEARNER_NODE, ADD_NODE, REMOVE_NODE, UPDATE_NODE, ConfChangeSingle, ConfState


class ConfChangeError(Exception):
    """The change cannot be made from the present configuration."""


class Changer:
    """One change in the making, on copies of a tracker's configuration and progress map."""

    def __init__(self, tracker: Tracker, last_index: int) -> None:
        self.tracker: Tracker = tracker
        self.last_index: int = last_index
        self.config: Configuration = tracker.config.copy()
        self.progress: dict[int, Progress] = dict(tracker.progress)

    def simple(self, changes: list[ConfChangeSingle]) -> None:
        """Change at most one voter, and any learners, at once."""
        if self.config.is_joint():
            raise ConfChangeError("can't apply simple config change in joint config")
        self._apply(changes)
        altered = set(self.config.voters) ^ set(self.tracker.config.voters)
        if len(altered) > 1:
            raise ConfChangeError("more than one voter changed without entering joint config")
        check(self.config, self.progress)

    def enter_joint(self, auto_leave: bool, changes: list[ConfChangeSingle]) -> None:
        """Keep the present voters as the outgoing half and make the changes in the incoming one."""
        config = self.config
        if config.is_joint():
            raise ConfChangeError("config is already joint")
        if not config.voters:
            raise ConfChangeError("can't make a zero-voter config joint")
        config.outgoing = list(config.voters)
        self._apply(changes)
        config.auto_leave = auto_leave
        check(config, self.progress)

    def leave_joint(self) -> None:
        """Drop the outgoing half; members of it that have no role left are forgotten."""
        config = self.config
        if not config.is_joint():
            raise ConfChangeError("can't leave a non-joint config")
        for member in config.learners_next:
            _insert(config.learners, member)
            self.progress[member] = self.progress[member].as_learner(True)
        for member in config.outgoing:
            if member not in config.voters and member not in config.learners:
                del self.progress[member]
        config.learners_next = []
        config.outgoing = []
        config.auto_leave = False
        check(config, self.progress)

    def _apply(self, changes: list[ConfChangeSingle]) -> None:
        for change in changes:
            if change.node_id == 0:
                continue
            if change.type == ADD_NODE:
                self._make_voter(change.node_id)
            elif change.type == ADD_LEARNER_NODE:
                self._make_learner(change.node_id)
            elif change.type == REMOVE_NODE:
                self._remove(change.node_id)
            elif change.type != UPDATE_NODE:
                raise ConfChangeError(f"unexpected conf type {change.type}")
        if not self.config.voters:
            raise ConfChangeError("removed all voters")

    def _make_voter(self, member: int) -> None:
        progress = self.progress.get(member)
        if progress is None:
            self._admit(member, False)
        else:
            self.progress[member] = progress.as_learner(False)
        _discard(self.config.learners, member)
        _discard(self.config.learners_next, member)
        _insert(self.config.voters, member)

    def _make_learner(self, member: int) -> None:
        progress = self.progress.get(member)
        if progress is None:
            self._admit(member, True)
            _insert(self.config.learners, member)
            return
        if progress.is_learner:
            return
        _discard(self.config.voters, member)
        # While its vote still counts in the outgoing half, a member cannot be a learner yet.
        if member in self.config.outgoing:
            _insert(self.config.learners_next, member)
        else:
            _insert(self.config.learners, member)
            self.progress[member] = progress.as_learner(True)

    def _remove(self, member: int) -> None:
        if member not in self.progress:
            return
        _discard(self.config.voters, member)
        _discard(self.config.learners, member)
        _discard(self.config.learners_next, member)
        if member not in self.config.outgoing:
            del self.progress[member]

    def _admit(self, member: int, is_learner: bool) -> None:
        # Probing starts at the end of the leader's log. A member counts as active until the first quorum check has
        # passed, or the leader would step down before it could answer.
        next_index = max(self.last_index, 1)
        self.progress[member] = Progress(0, next_index, self.tracker.new_inflights(), is_learner, True)


def restore(tracker: Tracker, last_index: int, state: ConfState) -> tuple[Configuration, dict[int, Progress]]:
    """Return the configuration that `state` describes, with fresh progress for each member."""
    config = Configuration()
    config.voters = sorted(set(state.voters))
    config.outgoing = sorted(set(state.voters_outgoing))
    config.learners = sorted(set(state.learners))
    config.learners_next = sorted(set(state.learners_next))
    config.auto_leave = state.auto_leave
    progress: dict[int, Progress] = {}
    for member in config.voters + config.outgoing + config.learners + config.learners_next:
        if member == 0:
            raise ConfChangeError("member 0 in the stored configuration")
        if member not in progress:
            inflights = tracker.new_inflights()
            progress[member] = Progress(0, max(last_index, 1), inflights, member in config.learners, True)
    if not config.voters and progress:
        raise ConfChangeError("removed all voters")
    check(config, progress)
    return config, progress


def check(config: Configuration, progress: dict[int, Progress]) -> None:
    """Raise ConfChangeError when a configuration and its progress map contradict each other."""
    for member in config.all_voters() + config.learners + config.learners_next:
        if member not in progress:
            raise ConfChangeError(f"no progress for {member}")
    for member in config.learners_next:
        if member not in config.outgoing:
            raise ConfChangeError(f"{member} is in LearnersNext, but not Voters[1]")
        if member in config.voters:
            raise ConfChangeError(f"{member} is in LearnersNext and Voters[0]")
        if progress[member].is_learner:
            raise ConfChangeError(f"{member} is in LearnersNext, but is already marked as learner")
    for member in config.learners:
        if member in config.outgoing:
            raise ConfChangeError(f"{member} is in Learners and Voters[1]")
        if member in config.voters:
            raise ConfChangeError(f"{member} is in Learners and Voters[0]")
        if not progress[member].is_learner:
            raise ConfChangeError(f"{member} is in Learners, but is not marked as learner")
    if not config.is_joint():
        if config.learners_next:
            raise ConfChangeError("cfg.LearnersNext must be nil when not joint")
        if config.auto_leave:
            raise ConfChangeError("AutoLeave must be false when not joint")


def _insert(ids: list[int], member: int) -> None:
    if member not in ids:
        ids.append(member)
        ids.sort()


def _discard(ids: list[int], member: int) -> None:
    if member in ids:
        ids.remove(member)
