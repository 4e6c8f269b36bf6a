"""What messages do to a follower. A candidate that finds a leader of its term becomes one, and goes on here."""

from __future__ import annotations

from collections.abc import Callable

from quorate.raft import confchange
from quorate.raft.core import FOLLOWER, READ_ONLY_LEASE_BASED, ProposalDropped, Raft
from quorate.raft.describe import describe_conf_state
from quorate.raft.election import TRANSFER, start_election
from quorate.raft.logger import DEBUG, ERROR
from quorate.raft.read_only import ReadState
from quorate.raft.types import (
    MESSAGE_NAMES,
    MSG_APP,
    MSG_APP_RESP,
    MSG_FORGET_LEADER,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_READ_INDEX_RESP,
    MSG_SNAP,
    MSG_TIMEOUT_NOW,
    MSG_TRANSFER_LEADER,
    NONE,
    Message,
    Snapshot,
)

# ---------------------------------------------------------------------------------------------------- the leader's word


def handle_append(raft: Raft, message: Message) -> None:
    """Take the leader's entries, or say where the logs may agree (paper 5.3)."""
    log = raft.log
    if message.index < log.committed:
        raft.send(Message(MSG_APP_RESP, to=message.frm, index=log.committed))
        return
    last_new = log.maybe_append(message.index, message.log_term, message.entries, message.commit)
    if last_new >= 0:
        raft.send(Message(MSG_APP_RESP, to=message.frm, index=last_new))
        return
    if raft.logger.level <= DEBUG:
        raft.logger.debug(
            f"{raft.id:x} [logterm: {max(log.term(message.index), 0)}, index: {message.index}] rejected MsgApp "
            f"[logterm: {message.log_term}, index: {message.index}] from {message.frm:x}"
        )
    # No entry of ours with a later term than the leader's at that place can be in the leader's log there; the hint is
    # the last one that can. It saves the leader a probe for each entry of a diverging tail.
    hint = min(message.index, log.last_index())
    hint, hint_term = log.find_conflict_by_term(hint, message.log_term)
    raft.send(
        Message(MSG_APP_RESP, to=message.frm, index=message.index, reject=True, reject_hint=hint, log_term=hint_term)
    )


def handle_heartbeat(raft: Raft, message: Message) -> None:
    """Take the leader's commit index, and echo its context."""
    raft.log.commit_to(message.commit)
    raft.send(Message(MSG_HEARTBEAT_RESP, to=message.frm, context=message.context))


def handle_snapshot(raft: Raft, message: Message) -> None:
    """Take a snapshot in place of the log, unless the log reaches as far (paper 7)."""
    snapshot = Snapshot() if message.snapshot is None else message.snapshot
    log = raft.log
    if restore(raft, snapshot):
        raft.info(
            f"{raft.id:x} [commit: {log.committed}] restored snapshot [index: {snapshot.index}, term: {snapshot.term}]"
        )
        raft.send(Message(MSG_APP_RESP, to=message.frm, index=log.last_index()))
    else:
        raft.info(
            f"{raft.id:x} [commit: {log.committed}] ignored snapshot [index: {snapshot.index}, term: {snapshot.term}]"
        )
        raft.send(Message(MSG_APP_RESP, to=message.frm, index=log.committed))


def restore(raft: Raft, snapshot: Snapshot) -> bool:
    """Replace log and configuration by a snapshot; False when it is old, not for this member, or known already."""
    log = raft.log
    if snapshot.index <= log.committed:
        return False
    assert raft.role == FOLLOWER, "only a follower restores a snapshot"
    state = snapshot.conf_state
    if raft.id not in state.voters and raft.id not in state.learners and raft.id not in state.voters_outgoing:
        raft.warn(
            f"{raft.id:x} attempted to restore snapshot but it is not in the ConfState "
            f"{describe_conf_state(state)}; should never happen"
        )
        return False
    if log.match(snapshot.index, snapshot.term):
        raft.info(
            f"{raft.id:x} [commit: {log.committed}, lastindex: {log.last_index()}, lastterm: {log.last_term()}] "
            f"fast-forwarded commit to snapshot [index: {snapshot.index}, term: {snapshot.term}]"
        )
        log.commit_to(snapshot.index)
        return False
    try:
        config, progress = confchange.restore(raft.tracker, snapshot.index, state)
    except confchange.ConfChangeError as error:
        raft.warn(f"{raft.id:x} ignored snapshot with an impossible ConfState {describe_conf_state(state)}: {error}")
        return False
    log.restore(snapshot)
    raft.set_configuration(config, progress)
    raft.info(
        f"{raft.id:x} [commit: {log.committed}, lastindex: {log.last_index()}, lastterm: {log.last_term()}] "
        f"restored snapshot [index: {snapshot.index}, term: {snapshot.term}]"
    )
    return True


def _append(raft: Raft, message: Message) -> None:
    raft.election_elapsed = 0
    raft.lead = message.frm
    handle_append(raft, message)


def _heartbeat(raft: Raft, message: Message) -> None:
    raft.election_elapsed = 0
    raft.lead = message.frm
    handle_heartbeat(raft, message)


def _snapshot(raft: Raft, message: Message) -> None:
    raft.election_elapsed = 0
    raft.lead = message.frm
    handle_snapshot(raft, message)


# ---------------------------------------------------------------------------------------------------- forwarding


def _forward(raft: Raft, message: Message) -> None:
    raft.send(Message(message.type, to=raft.lead, frm=message.frm, entries=message.entries, context=message.context))


def _propose(raft: Raft, message: Message) -> None:
    if raft.lead == NONE:
        raft.info(f"{raft.id:x} no leader at term {raft.term}; dropping proposal")
        raise ProposalDropped
    if raft.config.disable_proposal_forwarding:
        raft.info(f"{raft.id:x} not forwarding to leader {raft.lead:x} at term {raft.term}; dropping proposal")
        raise ProposalDropped
    _forward(raft, message)


def _read_index(raft: Raft, message: Message) -> None:
    if raft.lead == NONE:
        raft.info(f"{raft.id:x} no leader at term {raft.term}; dropping index reading msg")
    else:
        _forward(raft, message)


def _transfer_leader(raft: Raft, message: Message) -> None:
    if raft.lead == NONE:
        raft.info(f"{raft.id:x} no leader at term {raft.term}; dropping leader transfer msg")
    else:
        _forward(raft, message)


def _read_index_response(raft: Raft, message: Message) -> None:
    if len(message.entries) != 1:
        if raft.logger.level <= ERROR:
            raft.logger.error(
                f"{raft.id:x} invalid format of MsgReadIndexResp from {message.frm:x}, "
                f"entries count: {len(message.entries)}"
            )
        return
    raft.read_states.append(ReadState(message.index, message.entries[0].data or b""))


# ---------------------------------------------------------------------------------------------------- elections


def _timeout_now(raft: Raft, message: Message) -> None:
    raft.info(
        f"{raft.id:x} [term {raft.term}] received MsgTimeoutNow from {message.frm:x} "
        "and starts an election to get leadership."
    )
    # No pre-vote: nobody needs to be asked whether the leader is gone when it says so itself.
    start_election(raft, TRANSFER)


def _forget_leader(raft: Raft, _message: Message) -> None:
    if raft.config.read_only == READ_ONLY_LEASE_BASED:
        # The leader's lease rests on its followers refusing to vote while they know it.
        if raft.logger.level <= ERROR:
            raft.logger.error("ignoring MsgForgetLeader due to ReadOnlyLeaseBased")
        return
    if raft.lead != NONE:
        raft.info(f"{raft.id:x} forgetting leader {raft.lead:x} at term {raft.term}")
        raft.lead = NONE


def _ignore(raft: Raft, message: Message) -> None:
    pass


Handler = Callable[[Raft, Message], None]

HANDLERS: list[Handler] = [_ignore] * len(MESSAGE_NAMES)
"""By message type."""
HANDLERS[MSG_PROP] = _propose
HANDLERS[MSG_APP] = _append
HANDLERS[MSG_HEARTBEAT] = _heartbeat
HANDLERS[MSG_SNAP] = _snapshot
HANDLERS[MSG_TRANSFER_LEADER] = _transfer_leader
HANDLERS[MSG_FORGET_LEADER] = _forget_leader
HANDLERS[MSG_TIMEOUT_NOW] = _timeout_now
HANDLERS[MSG_READ_INDEX] = _read_index
HANDLERS[MSG_READ_INDEX_RESP] = _read_index_response
