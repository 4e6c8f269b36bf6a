"""Configuration changes against a model of plain sets, and progress and inflights against their definitions."""

from __future__ import annotations

import random
from collections import deque

import pytest

from quorate.raft import confchange
from quorate.raft.confchange import Changer, ConfChangeError
from quorate.raft.tracker import Configuration, Inflights, Progress, Tracker
from quorate.raft.types import (
    ADD_LEARNER_NODE,
    ADD_NODE,
    NO_LIMIT,
    REMOVE_NODE,
    UPDATE_NODE,
    ConfChangeSingle,
    ConfState,
)

KINDS = [ADD_NODE, ADD_LEARNER_NODE, REMOVE_NODE, UPDATE_NODE]


def random_changes(rng: random.Random) -> list[ConfChangeSingle]:
    return [ConfChangeSingle(rng.choice(KINDS), rng.randrange(7)) for _ in range(rng.randrange(1, 5))]


def model(voters: set[int], learners: set[int], changes: list[ConfChangeSingle]) -> tuple[set[int], set[int]]:
    voters, learners = set(voters), set(learners)
    for change in changes:
        member = change.node_id
        if member == 0 or change.type == UPDATE_NODE:
            continue
        voters.discard(member)
        learners.discard(member)
        if change.type == ADD_NODE:
            voters.add(member)
        elif change.type == ADD_LEARNER_NODE:
            learners.add(member)
    return voters, learners


def test_a_joint_change_ends_where_plain_sets_end() -> None:
    rng = random.Random(5)
    for _ in range(400):
        tracker = Tracker(10, 0)
        start = Changer(tracker, 10)
        start.simple([ConfChangeSingle(ADD_NODE, 1)])
        tracker.switch(start.config, start.progress)
        voters, learners = {1}, set[int]()
        for _ in range(6):
            changes = random_changes(rng)
            expected = model(voters, learners, changes)
            changer = Changer(tracker, 10)
            if not expected[0]:
                with pytest.raises(ConfChangeError, match="removed all voters"):
                    changer.enter_joint(True, changes)
                continue
            changer.enter_joint(rng.random() < 0.5, changes)
            check_joint(changer, voters, expected[0])
            tracker.switch(changer.config, changer.progress)
            check_restored(tracker)
            changer = Changer(tracker, 10)
            changer.leave_joint()
            tracker.switch(changer.config, changer.progress)
            voters, learners = expected
            assert (set(tracker.config.voters), set(tracker.config.learners)) == (voters, learners)
            assert set(tracker.ids) == voters | learners
            check_restored(tracker)


def check_joint(changer: Changer, before: set[int], after: set[int]) -> None:
    assert set(changer.config.outgoing) == before
    assert set(changer.config.voters) == after
    assert not set(changer.config.learners) & (before | after)


def check_restored(tracker: Tracker) -> None:
    # What is stored in a snapshot comes back as the same configuration, with a progress for each member.
    state = tracker.config.conf_state()
    config, progress = confchange.restore(Tracker(10, 0), 10, state)
    assert config.describe() == tracker.config.describe()
    assert {m: p.is_learner for m, p in progress.items()} == {m: p.is_learner for m, p in tracker.progress.items()}


def test_a_simple_change_is_the_joint_one_or_refused() -> None:
    rng = random.Random(6)
    for _ in range(1000):
        tracker = Tracker(10, 0)
        voters = sorted(rng.sample(range(1, 7), rng.randrange(1, 5)))
        learners = sorted(rng.sample([m for m in range(1, 7) if m not in voters], 2))
        tracker.switch(*confchange.restore(tracker, 10, ConfState(voters, learners)))
        changes = random_changes(rng)
        expected = model(set(voters), set(learners), changes)
        changer = Changer(tracker, 10)
        if not expected[0] or len(set(voters) ^ expected[0]) > 1:
            with pytest.raises(ConfChangeError):
                changer.simple(changes)
        else:
            changer.simple(changes)
            assert (set(changer.config.voters), set(changer.config.learners)) == expected
        assert tracker.config.voters == voters
        assert tracker.ids == sorted(voters + learners)


def test_a_refused_change_leaves_progress_alone() -> None:
    tracker = Tracker(10, 0)
    tracker.switch(*confchange.restore(tracker, 10, ConfState([1, 2, 3])))
    progress = tracker.progress[2]
    with pytest.raises(ConfChangeError, match="more than one voter"):
        Changer(tracker, 10).simple([ConfChangeSingle(ADD_LEARNER_NODE, 2), ConfChangeSingle(REMOVE_NODE, 3)])
    assert tracker.progress[2] is progress
    assert not progress.is_learner


def test_a_member_keeps_its_progress_when_its_role_changes() -> None:
    tracker = Tracker(10, 0)
    tracker.switch(*confchange.restore(tracker, 10, ConfState([1], [2])))
    tracker.progress[2].match, tracker.progress[2].next = 7, 8
    changer = Changer(tracker, 10)
    changer.simple([ConfChangeSingle(ADD_NODE, 2)])
    assert changer.progress[2].describe() == "StateProbe match=7 next=8"
    assert tracker.progress[2].is_learner


@pytest.mark.parametrize(
    "state",
    [
        ConfState([], [1]),
        ConfState([1], [1]),
        ConfState([0]),
        ConfState([1], [], [], [2]),
        ConfState([1, 2], [], [2], [2]),
        ConfState([1], [2], [2]),
        ConfState([1], auto_leave=True),
    ],
    ids=repr,
)
def test_impossible_configurations_are_refused(state: ConfState) -> None:
    with pytest.raises(ConfChangeError):
        confchange.restore(Tracker(10, 0), 1, state)


def test_inflights_against_a_queue() -> None:
    rng = random.Random(7)
    for _ in range(200):
        count, size = rng.randrange(1, 9), rng.choice([0, 50])
        inflights = Inflights(count, size)
        twin: deque[tuple[int, int]] = deque()
        index = 0
        for _ in range(100):
            if rng.random() < 0.5 and not inflights.full():
                index += rng.randrange(1, 4)
                inflights.add(index, 20)
                twin.append((index, 20))
            elif rng.random() < 0.05:
                inflights.reset()
                twin.clear()
            else:
                to = rng.randrange(index + 2)
                inflights.free_to(to)
                while twin and twin[0][0] <= to:
                    twin.popleft()
            assert inflights.count() == len(twin)
            full = len(twin) >= count or (size > 0 and sum(item[1] for item in twin) >= size)
            assert inflights.full() == full


def test_a_snapshot_in_progress_ends_in_probe_behind_it() -> None:
    # Checklist 32: on success the next probe is behind the snapshot, on failure behind what is known to match.
    progress = Progress(3, 4, Inflights(5, NO_LIMIT), False, True)
    progress.become_snapshot(10)
    assert progress.is_paused()
    assert progress.describe() == "StateSnapshot match=3 next=11 paused pendingSnap=10"
    progress.become_probe()
    assert progress.describe() == "StateProbe match=3 next=11"
    progress.become_snapshot(10)
    progress.pending_snapshot = 0
    progress.become_probe()
    assert progress.describe() == "StateProbe match=3 next=4"


@pytest.mark.parametrize(
    ("state", "match", "next_index", "rejected", "hint", "decreased", "after"),
    [
        ("replicate", 5, 10, 5, 5, False, 10),
        ("replicate", 5, 10, 4, 4, False, 10),
        ("replicate", 5, 10, 9, 9, True, 6),
        ("probe", 0, 10, 5, 5, False, 10),
        ("probe", 0, 10, 9, 9, True, 9),
        ("probe", 0, 10, 9, 2, True, 3),
        ("probe", 4, 10, 9, 2, True, 5),
        ("probe", 0, 2, 1, 0, True, 1),
    ],
)
def test_rejections(
    state: str, match: int, next_index: int, rejected: int, hint: int, decreased: bool, after: int
) -> None:
    progress = Progress(match, next_index, Inflights(5, NO_LIMIT), False, True)
    if state == "replicate":
        progress.become_replicate()
        progress.next = next_index
    assert progress.maybe_decrease(rejected, hint) is decreased
    assert progress.next == after


def test_a_configuration_is_logged_with_decimal_ids() -> None:
    """Everything else that raft logs has them in hexadecimal; etcd's MajorityConfig.String does not."""
    config = Configuration()
    config.voters, config.learners = [7616583982444832909, 2**64 - 1], [10]
    assert config.describe() == "voters=(7616583982444832909 18446744073709551615) learners=(10)"
