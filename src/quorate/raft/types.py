"""What raft speaks of: entries, messages, hard state, configurations and their changes (raftpb/raft.proto).

Plain native classes, not protobuf messages: the log holds hundreds of thousands of entries, and every turn makes some.
Field names follow the .proto, with `frm` for `from`. Values are treated as immutable once they have been handed over,
so that lists of entries may share them. `bytes | None` keeps protobuf's difference between an empty field and an absent
one, because etcd's writer omits only the latter. Ids, terms and indexes are unsigned 64-bit; 0 stands for "none".
"""

from __future__ import annotations

from typing import Final

NONE: Final = 0
"""The id of nobody: no leader, no vote."""

LOCAL_APPEND_THREAD: Final = 0xFFFFFFFFFFFFFFFF
"""The address of the member's own append thread, when storage writes are asynchronous."""

LOCAL_APPLY_THREAD: Final = 0xFFFFFFFFFFFFFFFE
"""The address of the member's own apply thread, when storage writes are asynchronous."""

NO_LIMIT: Final = 1 << 60
"""A limit that is never reached; small enough to stay an unboxed integer in compiled code."""

# Entry types.
ENTRY_NORMAL: Final = 0
ENTRY_CONF_CHANGE: Final = 1
ENTRY_CONF_CHANGE_V2: Final = 2
ENTRY_NAMES: Final = ("EntryNormal", "EntryConfChange", "EntryConfChangeV2")

# Message types.
MSG_HUP: Final = 0
MSG_BEAT: Final = 1
MSG_PROP: Final = 2
MSG_APP: Final = 3
MSG_APP_RESP: Final = 4
MSG_VOTE: Final = 5
MSG_VOTE_RESP: Final = 6
MSG_SNAP: Final = 7
MSG_HEARTBEAT: Final = 8
MSG_HEARTBEAT_RESP: Final = 9
MSG_UNREACHABLE: Final = 10
MSG_SNAP_STATUS: Final = 11
MSG_CHECK_QUORUM: Final = 12
MSG_TRANSFER_LEADER: Final = 13
MSG_TIMEOUT_NOW: Final = 14
MSG_READ_INDEX: Final = 15
MSG_READ_INDEX_RESP: Final = 16
MSG_PRE_VOTE: Final = 17
MSG_PRE_VOTE_RESP: Final = 18
MSG_STORAGE_APPEND: Final = 19
MSG_STORAGE_APPEND_RESP: Final = 20
MSG_STORAGE_APPLY: Final = 21
MSG_STORAGE_APPLY_RESP: Final = 22
MSG_FORGET_LEADER: Final = 23
MESSAGE_NAMES: Final = (
    "MsgHup", "MsgBeat", "MsgProp", "MsgApp", "MsgAppResp", "MsgVote", "MsgVoteResp", "MsgSnap", "MsgHeartbeat",
    "MsgHeartbeatResp", "MsgUnreachable", "MsgSnapStatus", "MsgCheckQuorum", "MsgTransferLeader", "MsgTimeoutNow",
    "MsgReadIndex", "MsgReadIndexResp", "MsgPreVote", "MsgPreVoteResp", "MsgStorageAppend", "MsgStorageAppendResp",
    "MsgStorageApply", "MsgStorageApplyResp", "MsgForgetLeader",
)  # fmt: skip

# Kinds of change to a configuration.
ADD_NODE: Final = 0
REMOVE_NODE: Final = 1
UPDATE_NODE: Final = 2
ADD_LEARNER_NODE: Final = 3
CHANGE_NAMES: Final = ("ConfChangeAddNode", "ConfChangeRemoveNode", "ConfChangeUpdateNode", "ConfChangeAddLearnerNode")

# How a ConfChangeV2 passes through a joint configuration.
TRANSITION_AUTO: Final = 0
TRANSITION_JOINT_IMPLICIT: Final = 1
TRANSITION_JOINT_EXPLICIT: Final = 2
TRANSITION_NAMES: Final = (
    "ConfChangeTransitionAuto",
    "ConfChangeTransitionJointImplicit",
    "ConfChangeTransitionJointExplicit",
)


class Entry:
    """One entry of the log."""

    def __init__(self, type: int = 0, term: int = 0, index: int = 0, data: bytes | None = None) -> None:
        self.type: int = type
        self.term: int = term
        self.index: int = index
        self.data: bytes | None = data

    def __repr__(self) -> str:
        return f"Entry({self.type}, {self.term}, {self.index}, {self.data!r})"


class HardState:
    """What must be durable before a vote or an acknowledgement leaves: term, vote and (for convenience) commit."""

    def __init__(self, term: int = 0, vote: int = 0, commit: int = 0) -> None:
        self.term: int = term
        self.vote: int = vote
        self.commit: int = commit

    def same(self, other: HardState) -> bool:
        """Tell whether all three values agree."""
        return self.term == other.term and self.vote == other.vote and self.commit == other.commit

    def is_empty(self) -> bool:
        """Tell whether nothing was ever stored."""
        return self.term == 0 and self.vote == 0 and self.commit == 0

    def __repr__(self) -> str:
        return f"HardState(term={self.term}, vote={self.vote}, commit={self.commit})"


class ConfState:
    """A configuration as it is stored. Lists are ascending; the outgoing voters are empty unless the state is joint."""

    def __init__(
        self,
        voters: list[int] | None = None,
        learners: list[int] | None = None,
        voters_outgoing: list[int] | None = None,
        learners_next: list[int] | None = None,
        auto_leave: bool = False,
    ) -> None:
        self.voters: list[int] = [] if voters is None else voters
        self.learners: list[int] = [] if learners is None else learners
        self.voters_outgoing: list[int] = [] if voters_outgoing is None else voters_outgoing
        self.learners_next: list[int] = [] if learners_next is None else learners_next
        self.auto_leave: bool = auto_leave

    def same(self, other: ConfState) -> bool:
        """Tell whether both mean the same configuration, whatever the order of their lists."""
        return (
            sorted(self.voters) == sorted(other.voters)
            and sorted(self.learners) == sorted(other.learners)
            and sorted(self.voters_outgoing) == sorted(other.voters_outgoing)
            and sorted(self.learners_next) == sorted(other.learners_next)
            and self.auto_leave == other.auto_leave
        )

    def __repr__(self) -> str:
        return (
            f"ConfState({self.voters}, {self.learners}, {self.voters_outgoing}, {self.learners_next}, "
            f"{self.auto_leave})"
        )


class Snapshot:
    """The state machine's state at an index, with the configuration there. Empty when index is 0."""

    def __init__(
        self, data: bytes | None = None, index: int = 0, term: int = 0, conf_state: ConfState | None = None
    ) -> None:
        self.data: bytes | None = data
        self.index: int = index
        self.term: int = term
        self.conf_state: ConfState = ConfState() if conf_state is None else conf_state

    def is_empty(self) -> bool:
        """Tell whether this is the absence of a snapshot."""
        return self.index == 0

    def __repr__(self) -> str:
        return f"Snapshot({self.data!r}, {self.index}, {self.term}, {self.conf_state!r})"


class Message:
    """One message, from a peer, to a peer, or from the member to itself. The type says which fields mean something."""

    def __init__(
        self,
        type: int = 0,
        to: int = 0,
        frm: int = 0,
        term: int = 0,
        log_term: int = 0,
        index: int = 0,
        entries: list[Entry] | None = None,
        commit: int = 0,
        snapshot: Snapshot | None = None,
        reject: bool = False,
        reject_hint: int = 0,
        context: bytes | None = None,
        vote: int = 0,
        responses: list[Message] | None = None,
    ) -> None:
        self.type: int = type
        self.to: int = to
        self.frm: int = frm
        self.term: int = term
        self.log_term: int = log_term
        self.index: int = index
        self.entries: list[Entry] = [] if entries is None else entries
        self.commit: int = commit
        self.snapshot: Snapshot | None = snapshot
        self.reject: bool = reject
        self.reject_hint: int = reject_hint
        self.context: bytes | None = context
        self.vote: int = vote
        self.responses: list[Message] = [] if responses is None else responses

    def __repr__(self) -> str:
        name = MESSAGE_NAMES[self.type] if self.type < len(MESSAGE_NAMES) else str(self.type)
        return (
            f"{name}({self.frm}->{self.to} term={self.term} log={self.log_term}/{self.index} commit={self.commit} "
            f"entries={self.entries!r} snapshot={self.snapshot!r} reject={self.reject} hint={self.reject_hint} "
            f"context={self.context!r})"
        )


class ConfChange:
    """The change of one member, as etcd proposes it. `id` is the proposer's own mark."""

    def __init__(self, id: int = 0, type: int = 0, node_id: int = 0, context: bytes | None = None) -> None:
        self.id: int = id
        self.type: int = type
        self.node_id: int = node_id
        self.context: bytes | None = context

    def as_v2(self) -> ConfChangeV2:
        """Return the same change in the general form."""
        return ConfChangeV2(TRANSITION_AUTO, [ConfChangeSingle(self.type, self.node_id)], self.context)

    def __repr__(self) -> str:
        return f"ConfChange({self.id}, {self.type}, {self.node_id}, {self.context!r})"


class ConfChangeSingle:
    """One step of a ConfChangeV2."""

    def __init__(self, type: int = 0, node_id: int = 0) -> None:
        self.type: int = type
        self.node_id: int = node_id

    def __repr__(self) -> str:
        return f"ConfChangeSingle({self.type}, {self.node_id})"


class ConfChangeV2:
    """Any change of the configuration. Without steps, and with the automatic transition, it leaves a joint one."""

    def __init__(
        self,
        transition: int = TRANSITION_AUTO,
        changes: list[ConfChangeSingle] | None = None,
        context: bytes | None = None,
    ) -> None:
        self.transition: int = transition
        self.changes: list[ConfChangeSingle] = [] if changes is None else changes
        self.context: bytes | None = context

    def as_v2(self) -> ConfChangeV2:
        """Return itself."""
        return self

    def leaves_joint(self) -> bool:
        """Tell whether this asks to leave a joint configuration."""
        return self.transition == TRANSITION_AUTO and not self.changes

    def enters_joint(self) -> bool:
        """Tell whether this needs, or asks for, a joint configuration."""
        return self.transition != TRANSITION_AUTO or len(self.changes) > 1

    def auto_leave(self) -> bool:
        """Tell whether the leader leaves the joint configuration by itself."""
        return self.transition != TRANSITION_JOINT_EXPLICIT

    def __repr__(self) -> str:
        return f"ConfChangeV2({self.transition}, {self.changes!r}, {self.context!r})"
