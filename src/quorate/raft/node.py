"""RawNode: raft as its owner uses it. Messages, ticks, proposals go in; `Ready` says what to do; `advance` says done.

    node.step(message) / node.tick() / node.propose([...])
    while node.has_ready():
        ready = node.ready()
        send(ready.messages[:ready.early])       # may leave before anything is written
        write(ready.snapshot, ready.hard_state, ready.entries), and sync if ready.must_sync
        storage.append(ready.entries)
        send(ready.messages[ready.early:])       # promises: only now
        apply(ready.committed_entries), calling apply_conf_change for configuration changes
        node.advance(ready)

Between `ready` and `advance` the owner may step, tick and propose, but not ask for another `ready`. Applying may run
beside writing: what is committed is either durable here already, or durable on a quorum.

With asynchronous storage writes there is no `advance`. Instead `messages` hold MsgStorageAppend and MsgStorageApply for
the member's own storage; each carries the responses to deliver (to this member or to others) when its work is done.
"""

from __future__ import annotations

from quorate.raft import codec, confchange, leader
from quorate.raft.core import LEADER, Config, Raft
from quorate.raft.log import entries_size, log_corrupt
from quorate.raft.read_only import ReadState
from quorate.raft.step import applied_to, configuration_changed, reduce_uncommitted_size, step, tick
from quorate.raft.tracker import Configuration, Progress
from quorate.raft.types import (
    ENTRY_CONF_CHANGE,
    ENTRY_CONF_CHANGE_V2,
    ENTRY_NORMAL,
    LOCAL_APPEND_THREAD,
    LOCAL_APPLY_THREAD,
    MESSAGE_NAMES,
    MSG_APP,
    MSG_APP_RESP,
    MSG_BEAT,
    MSG_CHECK_QUORUM,
    MSG_FORGET_LEADER,
    MSG_HEARTBEAT_RESP,
    MSG_HUP,
    MSG_PRE_VOTE_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_READ_INDEX_RESP,
    MSG_SNAP,
    MSG_SNAP_STATUS,
    MSG_STORAGE_APPEND,
    MSG_STORAGE_APPEND_RESP,
    MSG_STORAGE_APPLY,
    MSG_STORAGE_APPLY_RESP,
    MSG_TRANSFER_LEADER,
    MSG_UNREACHABLE,
    MSG_VOTE_RESP,
    NONE,
    ConfChange,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
)

_LOCAL = frozenset([
    MSG_HUP, MSG_BEAT, MSG_UNREACHABLE, MSG_SNAP_STATUS, MSG_CHECK_QUORUM, MSG_STORAGE_APPEND,
    MSG_STORAGE_APPEND_RESP, MSG_STORAGE_APPLY, MSG_STORAGE_APPLY_RESP, MSG_FORGET_LEADER,
])  # fmt: skip
_RESPONSES = frozenset([MSG_APP_RESP, MSG_VOTE_RESP, MSG_HEARTBEAT_RESP, MSG_READ_INDEX_RESP, MSG_PRE_VOTE_RESP])
_TERMLESS = frozenset([MSG_PROP, MSG_READ_INDEX])
# What may come back to its own sender: forwarded by one who thought that another leads, or a transfer to the sender.
_OF_SELF = frozenset([MSG_PROP, MSG_READ_INDEX, MSG_TRANSFER_LEADER])
# What this member's own storage answers, when it is asynchronous.
_PROMISES = frozenset([MSG_APP_RESP, MSG_VOTE_RESP, MSG_PRE_VOTE_RESP])


class StepError(Exception):
    """A message that must not be stepped: it is not for others to send, from a stranger, or makes no sense."""


class SoftState:
    """What need not be stored: who leads, and this member's role."""

    def __init__(self, lead: int, role: int) -> None:
        self.lead: int = lead
        self.role: int = role


class Ready:
    """What there is to do. Lists and their entries are shared with raft: read them, do not change them."""

    def __init__(self) -> None:
        self.soft_state: SoftState | None = None
        """Set when leader or role have changed."""
        self.hard_state: HardState | None = None
        """Set when it has changed: write it with the entries."""
        self.read_states: list[ReadState] = []
        self.entries: list[Entry] = []
        """To be made durable before the later messages leave. They replace what stands at their indexes."""
        self.snapshot: Snapshot | None = None
        """To be made durable, and the state machine replaced by it, before anything else."""
        self.committed_entries: list[Entry] = []
        """To be applied, in order."""
        self.messages: list[Message] = []
        self.early: int = 0
        """So many of the messages may leave before the entries and the hard state are durable."""
        self.must_sync: bool = False
        """Entries, term or vote have to be synced. A new commit index alone need not be."""


class Status:
    """A copy of a member's state at one moment. `progress` is empty unless it leads."""

    def __init__(self, raft: Raft) -> None:
        self.id: int = raft.id
        self.term: int = raft.term
        self.vote: int = raft.vote
        self.commit: int = raft.log.committed
        self.applied: int = raft.log.applied
        self.lead: int = raft.lead
        self.state: int = raft.role
        self.lead_transferee: int = raft.lead_transferee
        self.config: Configuration = raft.tracker.config
        self.progress: dict[int, Progress] = {}
        if raft.role == LEADER:
            for member in raft.tracker.ids:
                progress = raft.tracker.progress[member]
                self.progress[member] = progress.as_learner(progress.is_learner)


class RawNode:
    """One member of a raft group."""

    def __init__(self, config: Config) -> None:
        self.raft: Raft = Raft(config)
        self._async = config.async_storage_writes
        raft = self.raft
        self._lead = raft.lead
        self._role = raft.role
        self._term = raft.term
        self._vote = raft.vote
        self._commit = raft.log.committed
        # What `advance` reports back: messages to this member itself, the last unstable entry, the snapshot, and the
        # entries that were applied.
        self._open = False
        self._own_messages: list[Message] = []
        self._stored: Message | None = None
        self._applied: list[Entry] = []
        self._applied_size = 0

    # -- input

    def tick(self) -> None:
        """Let one tick pass."""
        tick(self.raft)

    def campaign(self) -> None:
        """Start an election now."""
        step(self.raft, Message(MSG_HUP))

    def propose(self, data: list[bytes]) -> None:
        """Propose a batch of entries, in this order, all or none. Raises ProposalDropped."""
        if not data:
            return
        raft = self.raft
        if raft.role == LEADER:
            leader.propose_data(raft, data)
            return
        entries = [Entry(ENTRY_NORMAL, 0, 0, item) for item in data]
        step(raft, Message(MSG_PROP, frm=raft.id, entries=entries))

    def propose_conf_change(self, change: ConfChange | ConfChangeV2) -> None:
        """Propose a change of the configuration. Raises ProposalDropped.

        A change that the present configuration does not allow is replaced by an empty entry in the log.
        """
        if isinstance(change, ConfChange):
            entry = Entry(ENTRY_CONF_CHANGE, 0, 0, codec.encode_conf_change(change))
        else:
            entry = Entry(ENTRY_CONF_CHANGE_V2, 0, 0, codec.encode_conf_change_v2(change))
        step(self.raft, Message(MSG_PROP, frm=self.raft.id, entries=[entry]))

    def apply_conf_change(self, change: ConfChange | ConfChangeV2) -> ConfState:
        """Switch to the configuration that a committed change leads to, and return it.

        To be called for every committed change, in order, when it is applied. A change that the owner refuses is still
        to be applied as one of member 0. Raises CorruptError when the change is impossible: the log is not to be
        trusted, as the members would come to different configurations.
        """
        v2 = change.as_v2()
        changer = confchange.Changer(self.raft.tracker, self.raft.log.last_index())
        try:
            if v2.leaves_joint():
                changer.leave_joint()
            elif v2.enters_joint():
                changer.enter_joint(v2.auto_leave(), v2.changes)
            else:
                changer.simple(v2.changes)
        except confchange.ConfChangeError as error:
            raise log_corrupt(f"conf change {v2!r}: {error}") from error
        state = self.raft.set_configuration(changer.config, changer.progress)
        configuration_changed(self.raft, state)
        return state

    def step(self, message: Message) -> None:
        """Take a message from a peer, or a response of the own storage.

        Raises StepError, without any effect, when the message must not come from there or makes no sense, and
        ProposalDropped when it is a forwarded proposal that cannot be taken. Neither is a reason to stop. Raises
        CorruptError when the message shows that this member's log cannot be trusted: it was lost or altered.
        """
        if self._async and (message.frm == LOCAL_APPEND_THREAD or message.frm == LOCAL_APPLY_THREAD):
            step(self.raft, message)
            return
        kind = message.type
        if kind >= len(MESSAGE_NAMES):
            raise StepError(f"raft: unknown message type {kind}")
        if kind in _LOCAL:
            raise StepError("raft: cannot step raft local message")
        if kind in _RESPONSES and message.frm not in self.raft.tracker.progress:
            raise StepError("raft: cannot step as peer not found")
        if message.frm == self.raft.id and kind not in _OF_SELF and not (self._async and kind in _PROMISES):
            raise StepError(f"raft: {MESSAGE_NAMES[kind]} from this member itself")
        _check(message, self.raft.term)
        step(self.raft, message)

    def read_index(self, context: bytes) -> None:
        """Ask for a commit index that is safe to read at; it comes as a ReadState with the same context, or never."""
        step(self.raft, Message(MSG_READ_INDEX, entries=[Entry(ENTRY_NORMAL, 0, 0, context)]))

    def transfer_leader(self, to: int) -> None:
        """Ask the leader to hand over to `to`."""
        step(self.raft, Message(MSG_TRANSFER_LEADER, frm=to))

    def forget_leader(self) -> None:
        """Forget the leader (of this term), so that this member may vote for another at once."""
        step(self.raft, Message(MSG_FORGET_LEADER))

    def report_unreachable(self, member: int) -> None:
        """Say that the last messages to a member were probably lost."""
        step(self.raft, Message(MSG_UNREACHABLE, frm=member))

    def report_snapshot(self, member: int, ok: bool) -> None:
        """Say whether a snapshot reached a member. To be called for each MsgSnap, or replication stays paused."""
        step(self.raft, Message(MSG_SNAP_STATUS, frm=member, reject=not ok))

    # -- output

    def has_ready(self) -> bool:
        """Tell whether `ready` would say anything."""
        raft = self.raft
        log = raft.log
        return (
            bool(raft.msgs)
            or bool(raft.msgs_after_append)
            or log.has_next_unstable()
            or log.has_next_committed(not self._async)
            or log.committed != self._commit
            or raft.term != self._term
            or raft.vote != self._vote
            or raft.lead != self._lead
            or raft.role != self._role
            or bool(raft.read_states)
            or log.next_snapshot() is not None
        )

    def ready(self) -> Ready:
        """Return what there is to do, and take it as being done; without asynchronous writes `advance` must follow."""
        assert not self._open, "two accepted Ready structs without call to Advance"
        raft = self.raft
        log = raft.log
        ready = Ready()
        self._take_states(ready)
        ready.entries = log.next_unstable()
        if ready.entries:
            ready.must_sync = True
        ready.snapshot = log.next_snapshot()
        ready.committed_entries = log.next_committed(not self._async)
        ready.messages = raft.msgs
        # Of a leader only: a candidate that asks for votes before its own is durable may come back with a shorter log,
        # ask again in the same term, and be elected by those first votes.
        ready.early = len(ready.messages) if raft.role == LEADER else 0
        if self._async:
            self._add_storage_messages(ready)
        else:
            self._keep_for_advance(ready)
        raft.msgs = []
        raft.msgs_after_append = []
        log.accept_unstable()
        committed = ready.committed_entries
        if committed:
            self._applied_size = entries_size(committed)
            log.accept_applying(committed[-1].index, self._applied_size, not self._async)
        return ready

    def _take_states(self, ready: Ready) -> None:
        raft = self.raft
        if raft.lead != self._lead or raft.role != self._role:
            ready.soft_state = SoftState(raft.lead, raft.role)
            self._lead = raft.lead
            self._role = raft.role
        commit = raft.log.committed
        if raft.term != self._term or raft.vote != self._vote:
            ready.must_sync = True
        if ready.must_sync or commit != self._commit:
            ready.hard_state = HardState(raft.term, raft.vote, commit)
            self._term = raft.term
            self._vote = raft.vote
            self._commit = commit
        if raft.read_states:
            ready.read_states = raft.read_states
            raft.read_states = []

    def _keep_for_advance(self, ready: Ready) -> None:
        raft = self.raft
        self._open = True
        for message in raft.msgs_after_append:
            if message.to == raft.id:
                self._own_messages.append(message)
            else:
                ready.messages.append(message)
        self._stored = self._storage_response(ready)
        self._applied = ready.committed_entries

    def advance(self, ready: Ready) -> None:
        """Report that all of `ready`, the one handed out last, is durable, applied and sent."""
        assert self._open, "advance without ready"
        assert not self._async, "Advance must not be called when using AsyncStorageWrites"
        assert ready.committed_entries is self._applied, "advance with another ready"
        self._open = False
        raft = self.raft
        messages = self._own_messages
        if messages:
            self._own_messages = []
            for message in messages:
                step(raft, message)
        stored = self._stored
        if stored is not None:
            self._stored = None
            step(raft, stored)
        applied = self._applied
        if applied:
            self._applied = []
            applied_to(raft, applied[-1].index, self._applied_size)
            reduce_uncommitted_size(raft, applied)

    def _storage_response(self, ready: Ready) -> Message | None:
        # The response names the last entry of the log even when this Ready has no entries: all that was handed out
        # before is durable by then too.
        raft = self.raft
        has_entries = len(raft.log.unstable) > 0
        if not has_entries and ready.snapshot is None:
            return None
        response = Message(MSG_STORAGE_APPEND_RESP, to=raft.id, frm=LOCAL_APPEND_THREAD, term=raft.term)
        if has_entries:
            response.index = raft.log.last_index()
            response.log_term = raft.log.last_term()
        response.snapshot = ready.snapshot
        return response

    def _add_storage_messages(self, ready: Ready) -> None:
        raft = self.raft
        state = ready.hard_state
        if ready.entries or state is not None or ready.snapshot is not None or raft.msgs_after_append:
            message = Message(MSG_STORAGE_APPEND, to=LOCAL_APPEND_THREAD, frm=raft.id, entries=ready.entries)
            if state is not None:
                message.term = state.term
                message.vote = state.vote
                message.commit = state.commit
            message.snapshot = ready.snapshot
            message.responses = raft.msgs_after_append
            stored = self._storage_response(ready)
            if stored is not None:
                message.responses.append(stored)
            ready.messages.append(message)
        committed = ready.committed_entries
        if committed:
            done = Message(MSG_STORAGE_APPLY_RESP, to=raft.id, frm=LOCAL_APPLY_THREAD, entries=committed)
            ready.messages.append(
                Message(MSG_STORAGE_APPLY, to=LOCAL_APPLY_THREAD, frm=raft.id, entries=committed, responses=[done])
            )
        ready.early = len(ready.messages)

    def status(self) -> Status:
        """Return a copy of the member's state."""
        return Status(self.raft)


def bootstrap_entries(peers: list[tuple[int, bytes | None]]) -> list[Entry]:
    """Return the first entries of a new group's log: one committed ConfChange for each (id, context), at term 1.

    The owner stores them with a hard state of term 1 and commit len(peers) before it makes the RawNode.
    """
    entries: list[Entry] = []
    for place, (member, context) in enumerate(peers):
        data = codec.encode_conf_change(ConfChange(0, 0, member, context))
        entries.append(Entry(ENTRY_CONF_CHANGE, 1, place + 1, data))
    return entries


def _check(message: Message, own_term: int) -> None:
    kind = message.type
    if message.frm == NONE and kind not in _TERMLESS:
        raise StepError(f"raft: {MESSAGE_NAMES[kind]} from nobody")
    if message.term == 0:
        if kind not in _TERMLESS and kind != MSG_TRANSFER_LEADER:
            raise StepError(f"raft: {MESSAGE_NAMES[kind]} without a term")
    elif kind in _TERMLESS:
        raise StepError(f"raft: {MESSAGE_NAMES[kind]} with a term")
    if kind == MSG_APP:
        if message.term >= own_term:
            _check_append(message)
    elif kind == MSG_PROP:
        _check_proposal(message)
    elif kind == MSG_READ_INDEX:
        if len(message.entries) != 1:
            raise StepError("raft: MsgReadIndex without its context")
    elif kind == MSG_SNAP and (message.snapshot is None or message.snapshot.term > message.term):
        raise StepError("raft: MsgSnap without a possible snapshot")


def _check_append(message: Message) -> None:
    # The log must stay contiguous and its terms ascend, whatever a peer sends.
    index = message.index
    term = message.log_term
    for entry in message.entries:
        index += 1
        if entry.index != index or entry.term < term:
            raise StepError(f"raft: MsgApp with {entry.term}/{entry.index} behind {term}/{index - 1}")
        if entry.type != ENTRY_NORMAL:
            _check_change(entry)
        term = entry.term
    if term > message.term:
        raise StepError(f"raft: MsgApp of term {message.term} with an entry of term {term}")


def _check_change(entry: Entry) -> None:
    if entry.type > ENTRY_CONF_CHANGE_V2:
        raise StepError(f"raft: entry of unknown type {entry.type}")
    try:
        leader.decode_change(entry)
    except ValueError as error:
        raise StepError(f"raft: malformed conf change: {error}") from error


def _check_proposal(message: Message) -> None:
    if not message.entries:
        raise StepError("raft: MsgProp without entries")
    for entry in message.entries:
        if entry.type != ENTRY_NORMAL:
            _check_change(entry)
