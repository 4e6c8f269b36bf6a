"""One member's state, and what every role may do with it: change role, send, switch configuration.

`Raft` holds the data. What a message does in a role is in `follower`, `election` and `leader`, one function a message;
`step` finds the function in a table. Functions at module level, not methods, so that each role has its own file.

Invariants: the term never decreases; the vote changes only with the term, or from nobody to somebody; commit and match
indexes never decrease within a term; messages that promise something (votes, acknowledgements) wait in
`msgs_after_append` until everything they rest upon is durable (paper 5.1, figure 2; thesis 3.8).

Left out: quiescing, and the tracing hooks of etcd-io/raft.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.raft import confchange
from quorate.raft.log import Log, log_corrupt
from quorate.raft.logger import INFO, WARN, Logger
from quorate.raft.read_only import ReadOnly, ReadState
from quorate.raft.storage import MemoryStorage
from quorate.raft.tracker import Configuration, Progress, Tracker
from quorate.raft.types import (
    LOCAL_APPLY_THREAD,
    MSG_APP_RESP,
    MSG_PRE_VOTE,
    MSG_PRE_VOTE_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_READ_INDEX_RESP,
    MSG_VOTE,
    MSG_VOTE_RESP,
    NO_LIMIT,
    NONE,
    ConfState,
    Message,
)

FOLLOWER: Final = 0
CANDIDATE: Final = 1
LEADER: Final = 2
PRE_CANDIDATE: Final = 3
ROLE_NAMES: Final = ("StateFollower", "StateCandidate", "StateLeader", "StatePreCandidate")

READ_ONLY_SAFE: Final = 0
"""A leader confirms reads with a round of heartbeats."""
READ_ONLY_LEASE_BASED: Final = 1
"""A leader trusts its lease (the quorum check) and the clocks of all members."""


class ProposalDropped(Exception):  # noqa: N818 - etcd's word for it
    """The proposal was not taken: no leader, a transfer under way, or a limit reached. It may be proposed again."""

    def __init__(self) -> None:
        super().__init__("raft proposal dropped")


class Config:
    """The parameters of one member. Ticks are the caller's unit of time; sizes are bytes, 0 meaning "no limit"."""

    def __init__(
        self,
        id: int,
        storage: MemoryStorage,
        random: Callable[[int], int],
        election_tick: int = 10,
        heartbeat_tick: int = 1,
        applied: int = 0,
        max_size_per_msg: int = NO_LIMIT,
        max_committed_size_per_ready: int = 0,
        max_uncommitted_size: int = 0,
        max_inflight_msgs: int = 512,
        max_inflight_bytes: int = 0,
        pre_vote: bool = False,
        check_quorum: bool = False,
        read_only: int = READ_ONLY_SAFE,
        async_storage_writes: bool = False,
        disable_proposal_forwarding: bool = False,
        disable_conf_change_validation: bool = False,
        step_down_on_removal: bool = False,
        logger: Logger | None = None,
    ) -> None:
        self.id: int = id
        self.storage: MemoryStorage = storage
        self.random: Callable[[int], int] = random
        """Returns an evenly spread integer in [0, n): elections are randomized by it, and by nothing else."""
        self.election_tick: int = election_tick
        self.heartbeat_tick: int = heartbeat_tick
        self.applied: int = applied
        """The last index that the state machine has applied already; entries up to it are not handed out again."""
        self.max_size_per_msg: int = max_size_per_msg
        """The encoded size of the entries in one append; here 0 means one entry at a time."""
        self.max_committed_size_per_ready: int = max_committed_size_per_ready or max_size_per_msg or 1
        """The encoded size of the entries that are handed out and not yet applied, save that one is always let out."""
        self.max_uncommitted_size: int = max_uncommitted_size or NO_LIMIT
        """The data size of a leader's uncommitted entries beyond which proposals are dropped."""
        self.max_inflight_msgs: int = max_inflight_msgs
        self.max_inflight_bytes: int = max_inflight_bytes or NO_LIMIT
        self.pre_vote: bool = pre_vote
        self.check_quorum: bool = check_quorum
        self.read_only: int = read_only
        self.async_storage_writes: bool = async_storage_writes
        self.disable_proposal_forwarding: bool = disable_proposal_forwarding
        self.disable_conf_change_validation: bool = disable_conf_change_validation
        self.step_down_on_removal: bool = step_down_on_removal
        self.logger: Logger = Logger() if logger is None else logger

    def validate(self) -> None:
        """Raise ValueError when the parameters contradict each other."""
        if self.id == NONE:
            raise ValueError("cannot use none as id")
        if self.id >= LOCAL_APPLY_THREAD:
            raise ValueError("cannot use local target as id")
        if self.heartbeat_tick <= 0:
            raise ValueError("heartbeat tick must be greater than 0")
        if self.election_tick <= self.heartbeat_tick:
            raise ValueError("election tick must be greater than heartbeat tick")
        if self.max_inflight_msgs <= 0:
            raise ValueError("max inflight messages must be greater than 0")
        if self.max_inflight_bytes < self.max_size_per_msg:
            raise ValueError("max inflight bytes must be >= max message size")
        if self.read_only == READ_ONLY_LEASE_BASED and not self.check_quorum:
            raise ValueError("CheckQuorum must be enabled when ReadOnlyOption is ReadOnlyLeaseBased")


class Raft:
    """The state of one member. Only `step`, `node` and the role modules touch it."""

    def __init__(self, config: Config) -> None:
        config.validate()
        self.id: int = config.id
        self.config: Config = config
        self.logger: Logger = config.logger
        self.log: Log = Log(config.storage, config.max_committed_size_per_ready, config.logger)
        self.tracker: Tracker = Tracker(config.max_inflight_msgs, config.max_inflight_bytes)
        self.role: int = FOLLOWER
        self.term: int = 0
        self.vote: int = NONE
        self.lead: int = NONE
        self.is_learner: bool = False
        self.msgs: list[Message] = []
        """To other members; may leave at once."""
        self.msgs_after_append: list[Message] = []
        """To other members or to this one; may leave once all that is unstable now is durable."""
        self.read_states: list[ReadState] = []
        self.read_only: ReadOnly = ReadOnly()
        self.postponed_reads: list[Message] = []
        """Reads that came before the leader had committed an entry of its own term."""
        self.lead_transferee: int = NONE
        self.pending_conf_index: int = 0
        """No configuration change stands in the log behind this index, and only one may be unapplied at a time."""
        self.uncommitted_size: int = 0
        """An estimate of the data size of the leader's uncommitted entries; kept only when it is limited."""
        self.election_elapsed: int = 0
        self.heartbeat_elapsed: int = 0
        self.randomized_election_timeout: int = 0
        self._start()

    def _start(self) -> None:
        config = self.config
        log = self.log
        last = log.last_index()
        last_term = log.last_term()
        stored = config.storage.conf_state()
        try:
            switched, progress = confchange.restore(self.tracker, last, stored)
        except confchange.ConfChangeError as error:
            raise log_corrupt(f"unable to restore config {stored}: {error}") from error
        self.set_configuration(switched, progress)
        state = config.storage.hard_state()
        if not state.is_empty():
            if not log.committed <= state.commit <= last:
                raise log_corrupt(f"{self.id:x} state.commit {state.commit} is out of range [{log.committed}, {last}]")
            log.committed = state.commit
            self.term = state.term
            self.vote = state.vote
        if config.applied > 0:
            if not log.applied <= config.applied <= log.committed:
                raise log_corrupt(
                    f"applied({config.applied}) is out of range "
                    f"[prevApplied({log.applied}), committed({log.committed})]"
                )
            log.applied_to(config.applied, 0)
        self.become_follower(self.term, NONE)
        if self.logger.level <= INFO:
            peers = ",".join([f"{voter:x}" for voter in self.tracker.config.all_voters()])
            self.logger.info(
                f"newRaft {self.id:x} [peers: [{peers}], term: {self.term}, commit: {log.committed}, "
                f"applied: {log.applied}, lastindex: {last}, lastterm: {last_term}]"
            )

    # -- roles

    def become_follower(self, term: int, lead: int) -> None:
        """Follow `lead` (or nobody yet) in `term`."""
        self.reset(term)
        self.lead = lead
        self.role = FOLLOWER
        if self.logger.level <= INFO:
            self.logger.info(f"{self.id:x} became follower at term {self.term}")

    def become_pre_candidate(self) -> None:
        """Ask whether an election could be won, without disturbing anybody's term (thesis 9.6)."""
        assert self.role != LEADER, "invalid transition [leader -> pre-candidate]"
        self.tracker.votes = {}
        self.lead = NONE
        self.role = PRE_CANDIDATE
        if self.logger.level <= INFO:
            self.logger.info(f"{self.id:x} became pre-candidate at term {self.term}")

    def become_candidate(self) -> None:
        """Start a new term and vote for oneself."""
        assert self.role != LEADER, "invalid transition [leader -> candidate]"
        self.reset(self.term + 1)
        self.vote = self.id
        self.role = CANDIDATE
        if self.logger.level <= INFO:
            self.logger.info(f"{self.id:x} became candidate at term {self.term}")

    def reset(self, term: int) -> None:
        """Forget what belongs to the role, and, when the term is new, to the term."""
        assert term >= self.term, (term, self.term)
        if term != self.term:
            self.term = term
            self.vote = NONE
        self.lead = NONE
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        timeout = self.config.election_tick
        self.randomized_election_timeout = timeout + self.config.random(timeout)
        self.lead_transferee = NONE
        tracker = self.tracker
        tracker.votes = {}
        last = self.log.last_index()
        for member, old in tracker.progress.items():
            match = last if member == self.id else 0
            tracker.progress[member] = Progress(match, last + 1, tracker.new_inflights(), old.is_learner, False)
        self.pending_conf_index = 0
        self.uncommitted_size = 0
        self.read_only = ReadOnly()
        self.postponed_reads = []

    def promotable(self) -> bool:
        """Tell whether this member may become leader: a voter, and no snapshot on its way into the storage."""
        own = self.tracker.progress.get(self.id)
        return own is not None and not own.is_learner and self.log.snapshot is None

    # -- configuration

    def set_configuration(self, config: Configuration, progress: dict[int, Progress]) -> ConfState:
        """Count by this configuration from now on; returns its stored form."""
        self.tracker.switch(config, progress)
        if self.logger.level <= INFO:
            self.logger.info(f"{self.id:x} switched to configuration {config.describe()}")
        own = progress.get(self.id)
        self.is_learner = own is not None and own.is_learner
        return config.conf_state()

    # -- sending

    def send(self, message: Message) -> None:
        """Queue a message; sender and term are filled in.

        Votes carry the term that they are about, which the caller sets. Forwarded proposals and reads carry none: they
        are as good as if the leader's own clients had sent them.
        """
        kind = message.type
        if message.frm == NONE:
            message.frm = self.id
        if kind in (MSG_VOTE, MSG_VOTE_RESP, MSG_PRE_VOTE, MSG_PRE_VOTE_RESP):
            assert message.term != 0, f"term should be set when sending {message!r}"
        else:
            assert message.term == 0, f"term should not be set when sending {message!r}"
            if kind != MSG_PROP and kind != MSG_READ_INDEX:
                message.term = self.term
        if kind in (MSG_APP_RESP, MSG_VOTE_RESP, MSG_PRE_VOTE_RESP):
            self.msgs_after_append.append(message)
        else:
            assert message.to != self.id, f"message should not be self-addressed when sending {message!r}"
            self.msgs.append(message)

    def reply_read(self, request: Message, index: int) -> None:
        """Answer a MsgReadIndex, which is this member's own or a follower's."""
        if request.frm == NONE or request.frm == self.id:
            context = request.entries[0].data
            self.read_states.append(ReadState(index, b"" if context is None else context))
        else:
            self.send(Message(MSG_READ_INDEX_RESP, to=request.frm, index=index, entries=request.entries))

    def warn(self, text: str) -> None:
        """Write a rare line at level warning."""
        if self.logger.level <= WARN:
            self.logger.warn(text)

    def info(self, text: str) -> None:
        """Write a rare line at level info. Lines of the hot path ask for the level before they are put together."""
        if self.logger.level <= INFO:
            self.logger.info(text)
