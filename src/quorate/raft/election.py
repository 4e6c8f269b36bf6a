"""How a leader is elected: asking for votes, giving them, counting them (paper 5.2, 5.4.1; thesis 3.10, 9.6)."""

from __future__ import annotations

from typing import Final

from quorate.raft.core import LEADER, Raft
from quorate.raft.logger import DEBUG, INFO
from quorate.raft.types import (
    MESSAGE_NAMES,
    MSG_PRE_VOTE,
    MSG_PRE_VOTE_RESP,
    MSG_VOTE,
    MSG_VOTE_RESP,
    NONE,
    Message,
)

PRE_ELECTION: Final = 0
ELECTION: Final = 1
TRANSFER: Final = 2

TRANSFER_CONTEXT: Final = b"CampaignTransfer"
"""Marks vote requests that the present leader itself has asked for: they count although it is alive."""


def start_election(raft: Raft, kind: int) -> None:
    """Campaign, unless this member leads already, may not lead, or does not know the configuration for sure."""
    if raft.role == LEADER:
        if raft.logger.level <= DEBUG:
            raft.logger.debug(f"{raft.id:x} ignoring MsgHup because already leader")
        return
    if not raft.promotable():
        raft.warn(f"{raft.id:x} is unpromotable and can not campaign")
        return
    log = raft.log
    if log.applied < log.committed and log.has_conf_change(log.applied + 1, log.committed + 1):
        raft.warn(
            f"{raft.id:x} cannot campaign at term {raft.term} since there are still pending configuration changes "
            "to apply"
        )
        return
    raft.info(f"{raft.id:x} is starting a new election at term {raft.term}")
    campaign(raft, kind)


def campaign(raft: Raft, kind: int) -> None:
    """Become (pre-)candidate and ask all voters for their vote; the own one comes back once it is durable."""
    if kind == PRE_ELECTION:
        raft.become_pre_candidate()
        request = MSG_PRE_VOTE
        response = MSG_PRE_VOTE_RESP
        term = raft.term + 1
    else:
        raft.become_candidate()
        request = MSG_VOTE
        response = MSG_VOTE_RESP
        term = raft.term
    context = TRANSFER_CONTEXT if kind == TRANSFER else None
    last = raft.log.last_index()
    last_term = raft.log.last_term()
    for voter in raft.tracker.config.all_voters():
        if voter == raft.id:
            raft.send(Message(response, to=voter, term=term))
            continue
        if raft.logger.level <= INFO:
            raft.logger.info(
                f"{raft.id:x} [logterm: {last_term}, index: {last}] sent {MESSAGE_NAMES[request]} request to "
                f"{voter:x} at term {raft.term}"
            )
        raft.send(Message(request, to=voter, term=term, log_term=last_term, index=last, context=context))


def in_lease(raft: Raft) -> bool:
    """Tell whether a leader was heard of so lately that nobody may be elected over it (thesis 4.2.3)."""
    return raft.config.check_quorum and raft.lead != NONE and raft.election_elapsed < raft.config.election_tick


def ignore_vote_request(raft: Raft, message: Message) -> None:
    """Say that a vote request was ignored because of the lease."""
    if raft.logger.level <= INFO:
        remaining = raft.config.election_tick - raft.election_elapsed
        raft.logger.info(
            f"{_vote_line(raft, message, 'ignored', 'from')}: lease is not expired (remaining ticks: {remaining})"
        )


def _vote_line(raft: Raft, message: Message, verb: str, preposition: str) -> str:
    log = raft.log
    return (
        f"{raft.id:x} [logterm: {log.last_term()}, index: {log.last_index()}, vote: {raft.vote:x}] {verb} "
        f"{MESSAGE_NAMES[message.type]} {preposition} {message.frm:x} [logterm: {message.log_term}, "
        f"index: {message.index}] at term {raft.term}"
    )


def answer_vote_request(raft: Raft, message: Message) -> None:
    """Vote, or refuse to, whatever the role: also as a learner, which may have become a voter without knowing it.

    A grant carries the request's term, because a pre-vote is about a term that is not ours yet; a refusal carries our
    own, to bring a candidate that is behind up to date.
    """
    is_pre_vote = message.type == MSG_PRE_VOTE
    can_vote = (
        raft.vote == message.frm
        or (raft.vote == NONE and raft.lead == NONE)
        or (is_pre_vote and message.term > raft.term)
    )
    response = MSG_PRE_VOTE_RESP if is_pre_vote else MSG_VOTE_RESP
    if can_vote and raft.log.is_up_to_date(message.index, message.log_term):
        if raft.logger.level <= INFO:
            raft.logger.info(_vote_line(raft, message, "cast", "for"))
        raft.send(Message(response, to=message.frm, term=message.term))
        if not is_pre_vote:
            raft.election_elapsed = 0
            raft.vote = message.frm
    else:
        reject_vote_request(raft, message)


def reject_vote_request(raft: Raft, message: Message) -> None:
    """Refuse a vote."""
    if raft.logger.level <= INFO:
        raft.logger.info(_vote_line(raft, message, "rejected", "from"))
    response = MSG_PRE_VOTE_RESP if message.type == MSG_PRE_VOTE else MSG_VOTE_RESP
    raft.send(Message(response, to=message.frm, term=raft.term, reject=True))


def count_vote(raft: Raft, message: Message) -> int:
    """Take a ballot and return the outcome so far."""
    tracker = raft.tracker
    tracker.record_vote(message.frm, not message.reject)
    result = tracker.vote_result(tracker.votes)
    if raft.logger.level <= INFO:
        name = MESSAGE_NAMES[message.type]
        rejection = " rejection" if message.reject else ""
        granted, rejected = tracker.count_votes()
        raft.logger.info(f"{raft.id:x} received {name}{rejection} from {message.frm:x} at term {raft.term}")
        raft.logger.info(f"{raft.id:x} has received {granted} {name} votes and {rejected} vote rejections")
    return result
