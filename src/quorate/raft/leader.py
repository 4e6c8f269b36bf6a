"""What messages do to a leader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.raft.codec import decode_conf_change, decode_conf_change_v2
from quorate.raft.core import CANDIDATE, LEADER, READ_ONLY_LEASE_BASED, ProposalDropped, Raft
from quorate.raft.describe import describe_conf_change
from quorate.raft.logger import DEBUG
from quorate.raft.replication import (
    append_entries,
    broadcast_append,
    broadcast_heartbeat,
    committed_in_term,
    maybe_commit,
    maybe_send_append,
    send_append,
    send_timeout_now,
)
from quorate.raft.tracker import PROBE, REPLICATE, SNAPSHOT, Progress
from quorate.raft.types import (
    ENTRY_CONF_CHANGE,
    ENTRY_NORMAL,
    MESSAGE_NAMES,
    MSG_APP_RESP,
    MSG_BEAT,
    MSG_CHECK_QUORUM,
    MSG_FORGET_LEADER,
    MSG_HEARTBEAT_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_SNAP_STATUS,
    MSG_TRANSFER_LEADER,
    MSG_UNREACHABLE,
    NONE,
    ConfChangeV2,
    Entry,
    Message,
)

MAX_POSTPONED_READS: Final = 65_536
"""Reads that wait for the first commit of a term, beyond which more are dropped; whoever asked asks again."""


def become_leader(raft: Raft) -> None:
    """Take the lead of the term that was won, and append its first entry (paper 5.4.2, 8)."""
    assert raft.role == CANDIDATE, f"invalid transition [{raft.role} -> leader]"
    raft.reset(raft.term)
    raft.lead = raft.id
    raft.role = LEADER
    own = raft.tracker.progress[raft.id]
    own.become_replicate()
    own.recent_active = True
    # There may be a change in the uncommitted tail. Until that is applied, no other may be proposed; asking the log
    # whether there really is one would not be worth it.
    last = raft.log.last_index()
    raft.pending_conf_index = last
    accepted = append_entries(raft, [Entry(ENTRY_NORMAL, raft.term, last + 1)])
    assert accepted, "empty entry was dropped"
    raft.info(f"{raft.id:x} became leader at term {raft.term}")


# ---------------------------------------------------------------------------------------------------- proposals


def check_proposable(raft: Raft) -> None:
    """Raise ProposalDropped when the leader must not append: it was removed, or hands over."""
    if raft.id not in raft.tracker.progress:
        raise ProposalDropped
    if raft.lead_transferee != NONE:
        if raft.logger.level <= DEBUG:
            raft.logger.debug(
                f"{raft.id:x} [term {raft.term}] transfer leadership to {raft.lead_transferee:x} is in progress; "
                "dropping proposal"
            )
        raise ProposalDropped


def propose_data(raft: Raft, data: list[bytes]) -> None:
    """Append a batch of normal entries and replicate it. Raises ProposalDropped."""
    check_proposable(raft)
    term = raft.term
    index = raft.log.last_index()
    entries: list[Entry] = []
    for item in data:
        index += 1
        entries.append(Entry(ENTRY_NORMAL, term, index, item))
    if not append_entries(raft, entries):
        raise ProposalDropped
    broadcast_append(raft)


def _propose(raft: Raft, message: Message) -> None:
    check_proposable(raft)
    # The message's entries may be shared with others (it may have been forwarded, or duplicated on the way): ours are
    # new ones.
    index = raft.log.last_index()
    pending = raft.pending_conf_index
    entries: list[Entry] = []
    for proposed in message.entries:
        index += 1
        entry = Entry(proposed.type, raft.term, index, proposed.data)
        if proposed.type != ENTRY_NORMAL:
            if _refuse_conf_change(raft, proposed):
                entry = Entry(ENTRY_NORMAL, raft.term, index)
            else:
                raft.pending_conf_index = index
        entries.append(entry)
    if not append_entries(raft, entries):
        raft.pending_conf_index = pending
        raise ProposalDropped
    broadcast_append(raft)


def decode_change(entry: Entry) -> ConfChangeV2:
    """Return the configuration change in an entry. Raises ValueError."""
    data = entry.data or b""
    if entry.type == ENTRY_CONF_CHANGE:
        return decode_conf_change(data).as_v2()
    return decode_conf_change_v2(data)


def _refuse_conf_change(raft: Raft, entry: Entry) -> bool:
    # What the checks see is the applied configuration, not the last one in the log; with at most one change unapplied
    # they are the same.
    change = decode_change(entry)
    config = raft.tracker.config
    leaves = not change.changes
    if raft.pending_conf_index > raft.log.applied:
        reason = f"possible unapplied conf change at index {raft.pending_conf_index} (applied to {raft.log.applied})"
    elif config.is_joint() and not leaves:
        reason = "must transition out of joint config first"
    elif not config.is_joint() and leaves:
        reason = "not in joint state; refusing empty conf change"
    else:
        return False
    if raft.config.disable_conf_change_validation:
        return False
    raft.info(
        f"{raft.id:x} ignoring conf change {describe_conf_change(change)} at config {config.describe()}: {reason}"
    )
    return True


# ---------------------------------------------------------------------------------------------------- the clock


def _beat(raft: Raft, _message: Message) -> None:
    broadcast_heartbeat(raft)


def _check_quorum(raft: Raft, _message: Message) -> None:
    if not raft.tracker.quorum_active():
        raft.warn(f"{raft.id:x} stepped down to follower since quorum is not active")
        raft.become_follower(raft.term, NONE)
    for member, progress in raft.tracker.progress.items():
        if member != raft.id:
            progress.recent_active = False


# ---------------------------------------------------------------------------------------------------- reads


def _read_index(raft: Raft, message: Message) -> None:
    if committed_in_term(raft):
        _answer_reads(raft, [message])
    elif len(raft.postponed_reads) < MAX_POSTPONED_READS:
        # The commit index may be behind what was committed in an earlier term (paper 8, thesis 6.4). That holds for a
        # sole voter too, which etcd's raft overlooks: after a restart its stored commit index may be an old one.
        raft.postponed_reads.append(message)


def _answer_reads(raft: Raft, messages: list[Message]) -> None:
    # A leader that was removed from the group may lead on for a while, but it cannot decide alone.
    config = raft.tracker.config
    alone = config.is_singleton() and config.voters[0] == raft.id
    if alone or raft.config.read_only == READ_ONLY_LEASE_BASED:
        for message in messages:
            raft.reply_read(message, raft.log.committed)
        return
    reads = raft.read_only
    for message in messages:
        reads.add(message, raft.log.committed)
    context = reads.heartbeat_context()
    if context is not None:
        reads.acknowledge(raft.id, context)
    broadcast_heartbeat(raft)


def release_reads(raft: Raft) -> None:
    """Go on with the reads that waited for the first commit of the term."""
    if raft.postponed_reads and committed_in_term(raft):
        messages = raft.postponed_reads
        raft.postponed_reads = []
        _answer_reads(raft, messages)


# ---------------------------------------------------------------------------------------------------- peers


def _progress_of(raft: Raft, message: Message) -> Progress | None:
    progress = raft.tracker.progress.get(message.frm)
    if progress is None and raft.logger.level <= DEBUG:
        raft.logger.debug(f"{raft.id:x} no progress available for {message.frm:x}")
    return progress


def _append_response(raft: Raft, message: Message) -> None:
    progress = _progress_of(raft, message)
    if progress is None:
        return
    progress.recent_active = True
    if message.reject:
        _rejected(raft, message, progress)
    elif message.index <= raft.log.last_index():
        _accepted(raft, message, progress)


def _rejected(raft: Raft, message: Message, progress: Progress) -> None:
    logger = raft.logger
    if logger.level <= DEBUG:
        logger.debug(
            f"{raft.id:x} received MsgAppResp(rejected, hint: (index {message.reject_hint}, "
            f"term {message.log_term})) from {message.frm:x} for index {message.index}"
        )
    # The follower named the last entry of its log that may match; its term lets us skip all of ours that cannot.
    hint = message.reject_hint
    if message.log_term > 0:
        hint, _ = raft.log.find_conflict_by_term(hint, message.log_term)
    if progress.maybe_decrease(message.index, hint):
        if logger.level <= DEBUG:
            logger.debug(f"{raft.id:x} decreased progress of {message.frm:x} to [{progress.describe()}]")
        if progress.state == REPLICATE:
            progress.become_probe()
        send_append(raft, message.frm)


def _accepted(raft: Raft, message: Message, progress: Progress) -> None:
    index = message.index
    # In probe, an acknowledgement of what was known already is news too: the logs agree at `next`.
    if not progress.maybe_update(index) and not (progress.match == index and progress.state == PROBE):
        return
    log = raft.log
    if progress.state == PROBE:
        progress.become_replicate()
    elif progress.state == SNAPSHOT:
        # Not only the snapshot that was sent will do: the peer may have got another one, or the entries.
        if progress.match + 1 >= log.first_index():
            if raft.logger.level <= DEBUG:
                raft.logger.debug(
                    f"{raft.id:x} recovered from needing snapshot, resumed sending replication messages to "
                    f"{message.frm:x} [{progress.describe()}]"
                )
            progress.become_probe()
            progress.become_replicate()
    else:
        progress.inflights.free_to(index)
    if maybe_commit(raft):
        release_reads(raft)
        broadcast_append(raft)
    elif message.frm != raft.id and progress.can_bump_commit(log.committed):
        send_append(raft, message.frm)
    if message.frm == raft.id:
        return
    # Room was made in the inflights, or probing ended: send all that fits.
    while maybe_send_append(raft, message.frm, progress, False):
        pass
    if message.frm == raft.lead_transferee and progress.match == log.last_index():
        raft.info(f"{raft.id:x} sent MsgTimeoutNow to {message.frm:x} after received MsgAppResp")
        send_timeout_now(raft, message.frm)


def _heartbeat_response(raft: Raft, message: Message) -> None:
    progress = _progress_of(raft, message)
    if progress is None:
        return
    progress.recent_active = True
    progress.paused_flow = False
    if progress.match < raft.log.last_index() or progress.state == PROBE:
        maybe_send_append(raft, message.frm, progress, True)
    context = message.context
    if not context or raft.config.read_only == READ_ONLY_LEASE_BASED:
        return
    raft.read_only.acknowledge(message.frm, context)
    for request in raft.read_only.advance(raft.tracker.config):
        raft.reply_read(request.message, request.index)


def _snapshot_status(raft: Raft, message: Message) -> None:
    progress = _progress_of(raft, message)
    if progress is None or progress.state != SNAPSHOT:
        return
    if message.reject:
        progress.pending_snapshot = 0
    progress.become_probe()
    if raft.logger.level <= DEBUG:
        outcome = "failed" if message.reject else "succeeded"
        raft.logger.debug(
            f"{raft.id:x} snapshot {outcome}, resumed sending replication messages to {message.frm:x} "
            f"[{progress.describe()}]"
        )
    # Sent is not applied: the next append waits for the peer's answer to the snapshot, or to a heartbeat.
    progress.paused_flow = True


def _unreachable(raft: Raft, message: Message) -> None:
    progress = _progress_of(raft, message)
    if progress is None:
        return
    # What is in flight is probably lost.
    if progress.state == REPLICATE:
        progress.become_probe()
    if raft.logger.level <= DEBUG:
        raft.logger.debug(
            f"{raft.id:x} failed to send message to {message.frm:x} because it is unreachable [{progress.describe()}]"
        )


def _transfer_leader(raft: Raft, message: Message) -> None:
    progress = _progress_of(raft, message)
    if progress is None:
        return
    logger = raft.logger
    to = message.frm
    if progress.is_learner:
        if logger.level <= DEBUG:
            logger.debug(f"{raft.id:x} is learner. Ignored transferring leadership")
        return
    previous = raft.lead_transferee
    if previous != NONE:
        if previous == to:
            raft.info(
                f"{raft.id:x} [term {raft.term}] transfer leadership to {to:x} is in progress, "
                f"ignores request to same node {to:x}"
            )
            return
        raft.lead_transferee = NONE
        raft.info(f"{raft.id:x} [term {raft.term}] abort previous transferring leadership to {previous:x}")
    if to == raft.id:
        if logger.level <= DEBUG:
            logger.debug(f"{raft.id:x} is already leader. Ignored transferring leadership to self")
        return
    raft.info(f"{raft.id:x} [term {raft.term}] starts to transfer leadership to {to:x}")
    # The transfer has one election timeout; then the leader takes proposals again.
    raft.election_elapsed = 0
    raft.lead_transferee = to
    if progress.match == raft.log.last_index():
        send_timeout_now(raft, to)
        raft.info(f"{raft.id:x} sends MsgTimeoutNow to {to:x} immediately as {to:x} already has up-to-date log")
    else:
        maybe_send_append(raft, to, progress, True)


def _forget_leader(raft: Raft, message: Message) -> None:
    pass  # A leader does not forget itself.


def _other(raft: Raft, message: Message) -> None:
    _progress_of(raft, message)


Handler = Callable[[Raft, Message], None]

HANDLERS: list[Handler] = [_other] * len(MESSAGE_NAMES)
"""By message type."""
HANDLERS[MSG_BEAT] = _beat
HANDLERS[MSG_CHECK_QUORUM] = _check_quorum
HANDLERS[MSG_PROP] = _propose
HANDLERS[MSG_READ_INDEX] = _read_index
HANDLERS[MSG_FORGET_LEADER] = _forget_leader
HANDLERS[MSG_APP_RESP] = _append_response
HANDLERS[MSG_HEARTBEAT_RESP] = _heartbeat_response
HANDLERS[MSG_SNAP_STATUS] = _snapshot_status
HANDLERS[MSG_UNREACHABLE] = _unreachable
HANDLERS[MSG_TRANSFER_LEADER] = _transfer_leader
