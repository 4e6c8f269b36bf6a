"""Votes and commit arithmetic against a dumb twin that tries every answer."""

from __future__ import annotations

import random

from quorate.raft import quorum
from quorate.raft.quorum import INFINITY, VOTE_LOST, VOTE_PENDING, VOTE_WON

CASES = 20_000


def dumb_majority(acked: list[int]) -> int:
    # The highest of the acknowledged indexes (or 0) that more than half of the voters have reached.
    if not acked:
        return INFINITY
    reached = [index for index in [0, *acked] if sum(other >= index for other in acked) * 2 > len(acked)]
    return max(reached)


def dumb_vote(voters: list[int], votes: dict[int, bool]) -> int:
    # Try all ways in which the missing ballots may come in.
    missing = [voter for voter in voters if voter not in votes]
    outcomes = set()
    for pattern in range(1 << len(missing)):
        late = {voter: bool(pattern >> place & 1) for place, voter in enumerate(missing)}
        granted = sum((votes | late)[voter] for voter in voters)
        outcomes.add(granted * 2 > len(voters) or not voters)
    if len(outcomes) == 2:
        return VOTE_PENDING
    return VOTE_WON if outcomes == {True} else VOTE_LOST


def dumb_joint_vote(first: list[int], second: list[int], votes: dict[int, bool]) -> int:
    results = {dumb_vote(first, votes), dumb_vote(second, votes)}
    if VOTE_LOST in results:
        return VOTE_LOST
    return VOTE_WON if results == {VOTE_WON} else VOTE_PENDING


def test_committed_index_against_the_dumb_twin() -> None:
    rng = random.Random(1)
    for _ in range(CASES):
        first = [rng.choice([0, rng.randrange(6), rng.randrange(2**63)]) for _ in range(rng.randrange(8))]
        second = [rng.randrange(10) for _ in range(rng.randrange(8))]
        assert quorum.majority_committed(first) == dumb_majority(first), first
        expected = min(dumb_majority(first), dumb_majority(second))
        assert quorum.joint_committed(first, second) == expected, (first, second)
        assert quorum.joint_committed(second, first) == expected, (first, second)


def test_vote_result_against_the_dumb_twin() -> None:
    rng = random.Random(2)
    for _ in range(CASES // 4):
        first = rng.sample(range(1, 10), rng.randrange(6))
        second = rng.sample(range(1, 10), rng.randrange(6))
        votes = {voter: rng.random() < 0.5 for voter in range(1, 10) if rng.random() < 0.6}
        assert quorum.majority_vote(first, votes) == dumb_vote(first, votes), (first, votes)
        expected = dumb_joint_vote(first, second, votes)
        assert quorum.joint_vote(first, second, votes) == expected, (first, second, votes)
        assert quorum.joint_vote(second, first, votes) == expected, (first, second, votes)


def test_any_two_quorums_of_a_joint_change_overlap() -> None:
    # Election safety rests on this: in every step of a change, whoever decides shares a member with whoever decided.
    rng = random.Random(3)
    for _ in range(500):
        old = rng.sample(range(1, 8), rng.randrange(1, 6))
        new = rng.sample(range(1, 8), rng.randrange(1, 6))
        members = sorted(set(old + new))
        for _ in range(20):
            one = {member for member in members if rng.random() < 0.5}
            votes = dict.fromkeys(one, True)
            rest = {member: True for member in members if member not in one}
            if quorum.joint_vote(new, old, votes) == VOTE_WON:
                assert quorum.majority_vote(old, rest) != VOTE_WON
                assert quorum.majority_vote(new, rest) != VOTE_WON
