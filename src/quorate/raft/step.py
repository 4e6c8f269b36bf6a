"""The way of one message through a member: the term first, then the role's handler. And the clock's ticks.

Everything that happens to a member is a message, also its own timeouts and the reports of its storage; so one function
sees it all.
"""

from __future__ import annotations

from collections.abc import Callable

from quorate.raft import candidate, follower, leader
from quorate.raft.core import CANDIDATE, FOLLOWER, LEADER, PRE_CANDIDATE, ProposalDropped, Raft
from quorate.raft.election import (
    ELECTION,
    PRE_ELECTION,
    TRANSFER_CONTEXT,
    answer_vote_request,
    ignore_vote_request,
    in_lease,
    reject_vote_request,
    start_election,
)
from quorate.raft.log import entries_size, payload_size
from quorate.raft.logger import DEBUG, INFO
from quorate.raft.replication import broadcast_append, maybe_commit, maybe_send_append
from quorate.raft.types import (
    ENTRY_CONF_CHANGE_V2,
    MESSAGE_NAMES,
    MSG_APP,
    MSG_APP_RESP,
    MSG_BEAT,
    MSG_CHECK_QUORUM,
    MSG_HEARTBEAT,
    MSG_HUP,
    MSG_PRE_VOTE,
    MSG_PRE_VOTE_RESP,
    MSG_PROP,
    MSG_SNAP,
    MSG_STORAGE_APPEND_RESP,
    MSG_STORAGE_APPLY_RESP,
    MSG_VOTE,
    NO_LIMIT,
    NONE,
    ConfState,
    Entry,
    Message,
)

Handler = Callable[[Raft, Message], None]


def _by_role() -> list[list[Handler]]:
    tables = [follower.HANDLERS] * 4
    tables[FOLLOWER] = follower.HANDLERS
    tables[CANDIDATE] = candidate.HANDLERS
    tables[PRE_CANDIDATE] = candidate.HANDLERS
    tables[LEADER] = leader.HANDLERS
    return tables


_HANDLERS: list[list[Handler]] = _by_role()


def step(raft: Raft, message: Message) -> None:
    """Let a message act. Raises ProposalDropped for proposals that were not taken."""
    kind = message.type
    if message.term != 0:
        if message.term > raft.term:
            if not _newer_term(raft, message):
                return
        elif message.term < raft.term:
            _older_term(raft, message)
            return
    if kind == MSG_HUP:
        start_election(raft, PRE_ELECTION if raft.config.pre_vote else ELECTION)
    elif kind in (MSG_VOTE, MSG_PRE_VOTE):
        answer_vote_request(raft, message)
    elif kind == MSG_STORAGE_APPEND_RESP:
        if message.index != 0:
            raft.log.stable_to(message.index, message.log_term)
        _snapshot_stored(raft, message)
    elif kind == MSG_STORAGE_APPLY_RESP:
        entries = message.entries
        if entries:
            applied_to(raft, entries[-1].index, entries_size(entries))
            reduce_uncommitted_size(raft, entries)
    elif kind < len(MESSAGE_NAMES):
        _HANDLERS[raft.role][kind](raft, message)


def _newer_term(raft: Raft, message: Message) -> bool:
    # Returns whether the message goes on to its handler.
    kind = message.type
    if kind in (MSG_VOTE, MSG_PRE_VOTE) and message.context != TRANSFER_CONTEXT and in_lease(raft):
        ignore_vote_request(raft, message)
        return False
    if kind == MSG_PRE_VOTE or (kind == MSG_PRE_VOTE_RESP and not message.reject):
        # These are about a term that nobody has entered yet.
        return True
    if raft.logger.level <= INFO:
        raft.logger.info(
            f"{raft.id:x} [term: {raft.term}] received a {MESSAGE_NAMES[kind]} message with higher term from "
            f"{message.frm:x} [term: {message.term}]"
        )
    is_leaders = kind in (MSG_APP, MSG_HEARTBEAT, MSG_SNAP)
    raft.become_follower(message.term, message.frm if is_leaders else NONE)
    return True


def _older_term(raft: Raft, message: Message) -> None:
    kind = message.type
    config = raft.config
    if (config.check_quorum or config.pre_vote) and kind in (MSG_HEARTBEAT, MSG_APP):
        # A leader of an older term is alive, and we, having moved on, would never vote it back nor be elected while
        # the others keep to it. Our term makes it step down.
        raft.send(Message(MSG_APP_RESP, to=message.frm))
    elif kind == MSG_PRE_VOTE:
        # Before pre-votes were switched on everywhere, a candidate may be stuck behind; our term frees it.
        reject_vote_request(raft, message)
    elif kind == MSG_STORAGE_APPEND_RESP:
        # The report may be about entries that a newer leader has replaced (in pathological orders even with the same
        # index and term on disk); a report of the present term will follow. A snapshot cannot have been replaced.
        if message.index != 0:
            raft.info(
                f"{raft.id:x} [term: {raft.term}] ignored entry appends from a {MESSAGE_NAMES[kind]} message with "
                f"lower term [term: {message.term}]"
            )
        _snapshot_stored(raft, message)
    elif raft.logger.level <= INFO:
        raft.logger.info(
            f"{raft.id:x} [term: {raft.term}] ignored a {MESSAGE_NAMES[kind]} message with lower term from "
            f"{message.frm:x} [term: {message.term}]"
        )


# ---------------------------------------------------------------------------------------------------- applying


def _snapshot_stored(raft: Raft, message: Message) -> None:
    snapshot = message.snapshot
    if snapshot is not None and not snapshot.is_empty():
        raft.log.stable_snapshot_to(snapshot.index)
        applied_to(raft, snapshot.index, 0)


def applied_to(raft: Raft, index: int, size: int) -> None:
    """Take note of what is applied; a leader then leaves a joint configuration that is to be left automatically."""
    log = raft.log
    log.applied_to(max(index, log.applied), size)
    config = raft.tracker.config
    if not config.auto_leave or raft.role != LEADER or log.applied < raft.pending_conf_index:
        return
    # An entry without data is a change without steps, which leaves the joint configuration; and no size limit can
    # refuse it. While a transfer is under way it is dropped, and proposed again when something more is applied.
    change = Message(MSG_PROP, entries=[Entry(ENTRY_CONF_CHANGE_V2)])
    try:
        step(raft, change)
    except ProposalDropped as error:
        if raft.logger.level <= DEBUG:
            raft.logger.debug(
                f"not initiating automatic transition out of joint configuration {config.describe()}: {error}"
            )
    else:
        raft.info(f"initiating automatic transition out of joint configuration {config.describe()}")


def reduce_uncommitted_size(raft: Raft, entries: list[Entry]) -> None:
    """Take note that entries of the leader are applied, and so no longer uncommitted."""
    if raft.config.max_uncommitted_size < NO_LIMIT:
        # Entries that were in the log before this term were never counted: hence not below zero.
        raft.uncommitted_size = max(raft.uncommitted_size - payload_size(entries), 0)


def configuration_changed(raft: Raft, state: ConfState) -> None:
    """Do what a new configuration calls for: step down, commit what its quorum holds, greet new members."""
    if raft.role != LEADER:
        return
    if raft.is_learner or raft.id not in raft.tracker.progress:
        # A leader that was removed goes on until it is told to stop, or a quorum check fails: what it has appended
        # may still be committed by the others.
        if raft.config.step_down_on_removal:
            raft.become_follower(raft.term, NONE)
        return
    if not state.voters:
        return
    if maybe_commit(raft):
        leader.release_reads(raft)
        broadcast_append(raft)
    else:
        for member in raft.tracker.ids:
            if member != raft.id:
                maybe_send_append(raft, member, raft.tracker.progress[member], False)
    if raft.lead_transferee != NONE and not raft.tracker.config.is_voter(raft.lead_transferee):
        raft.lead_transferee = NONE


# ---------------------------------------------------------------------------------------------------- the clock


def tick(raft: Raft) -> None:
    """Let one unit of time pass."""
    raft.election_elapsed += 1
    if raft.role == LEADER:
        _tick_leader(raft)
    elif raft.election_elapsed >= raft.randomized_election_timeout and raft.promotable():
        raft.election_elapsed = 0
        step(raft, Message(MSG_HUP, frm=raft.id))


def _tick_leader(raft: Raft) -> None:
    raft.heartbeat_elapsed += 1
    if raft.election_elapsed >= raft.config.election_tick:
        raft.election_elapsed = 0
        if raft.config.check_quorum:
            step(raft, Message(MSG_CHECK_QUORUM, frm=raft.id))
        if raft.role != LEADER:
            return
        # A transfer that was not over in one election timeout has failed; proposals are taken again.
        raft.lead_transferee = NONE
    if raft.heartbeat_elapsed >= raft.config.heartbeat_tick:
        raft.heartbeat_elapsed = 0
        step(raft, Message(MSG_BEAT, frm=raft.id))
