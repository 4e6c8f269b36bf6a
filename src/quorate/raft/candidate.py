"""What messages do to a candidate or pre-candidate."""

from __future__ import annotations

from collections.abc import Callable

from quorate.raft.core import PRE_CANDIDATE, ROLE_NAMES, ProposalDropped, Raft
from quorate.raft.election import ELECTION, campaign, count_vote
from quorate.raft.follower import handle_append, handle_heartbeat, handle_snapshot
from quorate.raft.leader import become_leader
from quorate.raft.logger import DEBUG
from quorate.raft.quorum import VOTE_LOST, VOTE_WON
from quorate.raft.replication import broadcast_append
from quorate.raft.types import (
    MESSAGE_NAMES,
    MSG_APP,
    MSG_HEARTBEAT,
    MSG_PRE_VOTE_RESP,
    MSG_PROP,
    MSG_SNAP,
    MSG_TIMEOUT_NOW,
    MSG_VOTE_RESP,
    NONE,
    Message,
)


def _propose(raft: Raft, _message: Message) -> None:
    raft.info(f"{raft.id:x} no leader at term {raft.term}; dropping proposal")
    raise ProposalDropped


def _append(raft: Raft, message: Message) -> None:
    raft.become_follower(message.term, message.frm)
    handle_append(raft, message)


def _heartbeat(raft: Raft, message: Message) -> None:
    raft.become_follower(message.term, message.frm)
    handle_heartbeat(raft, message)


def _snapshot(raft: Raft, message: Message) -> None:
    raft.become_follower(message.term, message.frm)
    handle_snapshot(raft, message)


def _vote_response(raft: Raft, message: Message) -> None:
    # A candidate may still get answers to its pre-votes: they do not count.
    wanted = MSG_PRE_VOTE_RESP if raft.role == PRE_CANDIDATE else MSG_VOTE_RESP
    if message.type != wanted:
        return
    result = count_vote(raft, message)
    if result == VOTE_WON:
        if raft.role == PRE_CANDIDATE:
            campaign(raft, ELECTION)
        else:
            become_leader(raft)
            broadcast_append(raft)
    elif result == VOTE_LOST:
        # For a pre-candidate the answer may be of the term it asked about, but its own has not changed.
        raft.become_follower(raft.term, NONE)


def _timeout_now(raft: Raft, message: Message) -> None:
    if raft.logger.level <= DEBUG:
        raft.logger.debug(
            f"{raft.id:x} [term {raft.term} state {ROLE_NAMES[raft.role]}] ignored MsgTimeoutNow from {message.frm:x}"
        )


def _ignore(raft: Raft, message: Message) -> None:
    pass


Handler = Callable[[Raft, Message], None]

HANDLERS: list[Handler] = [_ignore] * len(MESSAGE_NAMES)
"""By message type."""
HANDLERS[MSG_PROP] = _propose
HANDLERS[MSG_APP] = _append
HANDLERS[MSG_HEARTBEAT] = _heartbeat
HANDLERS[MSG_SNAP] = _snapshot
HANDLERS[MSG_VOTE_RESP] = _vote_response
HANDLERS[MSG_PRE_VOTE_RESP] = _vote_response
HANDLERS[MSG_TIMEOUT_NOW] = _timeout_now
