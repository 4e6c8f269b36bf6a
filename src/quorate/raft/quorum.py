"""Votes and commit arithmetic: what a majority, or two majorities at once, have decided (paper 5.3, 5.4, 6).

A joint configuration decides only what both of its halves decide. An empty half agrees to everything, so that a simple
configuration is a joint one whose outgoing half is empty.
"""

from __future__ import annotations

from typing import Final

INFINITY: Final = 0xFFFFFFFFFFFFFFFF
"""The commit index of an empty half: it holds nothing back."""

VOTE_PENDING: Final = 1
VOTE_LOST: Final = 2
VOTE_WON: Final = 3
VOTE_NAMES: Final = ("", "VotePending", "VoteLost", "VoteWon")


def majority_committed(acked: list[int]) -> int:
    """Return the highest index that more than half of the voters have acknowledged.

    `acked` holds one index per voter, 0 for a voter that has not been heard of.
    """
    count = len(acked)
    if count == 0:
        return INFINITY
    if count == 1:
        return acked[0]
    return sorted(acked)[(count - 1) // 2]


def joint_committed(incoming: list[int], outgoing: list[int]) -> int:
    """Return the highest index that both halves have committed."""
    first = majority_committed(incoming)
    if not outgoing:
        return first
    return min(first, majority_committed(outgoing))


def majority_vote(voters: list[int], votes: dict[int, bool]) -> int:
    """Return whether the voters' ballots so far win, lose or leave the vote open."""
    count = len(voters)
    if count == 0:
        return VOTE_WON
    granted = 0
    rejected = 0
    for voter in voters:
        if voter in votes:
            if votes[voter]:
                granted += 1
            else:
                rejected += 1
    needed = count // 2 + 1
    if granted >= needed:
        return VOTE_WON
    if count - rejected >= needed:
        return VOTE_PENDING
    return VOTE_LOST


def joint_vote(incoming: list[int], outgoing: list[int], votes: dict[int, bool]) -> int:
    """Return the outcome for both halves: lost when either lost, won when both won."""
    first = majority_vote(incoming, votes)
    second = majority_vote(outgoing, votes)
    if first == VOTE_LOST or second == VOTE_LOST:
        return VOTE_LOST
    if first == VOTE_WON and second == VOTE_WON:
        return VOTE_WON
    return VOTE_PENDING
