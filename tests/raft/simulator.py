"""A group of members in a hostile world made from one seed: delays, losses, duplicates, reordering, partitions, crashes
that lose what was not synced, torn writes, compactions, membership changes, leader transfers; and what must hold in it.

    python -m tests.raft.simulator FIRST COUNT [STEPS]     run many seeds; a failing one is printed and ends the run

Everything is checked as it happens (paper, figure 3, and thesis 6.4):

- election safety: at most one leader a term, at most one vote a term from each member, also across crashes
- log matching: an (index, term) stands for one entry, with one predecessor, in all logs
- leader completeness: a new leader's log holds all that was committed before
- state machine safety: all members apply the same entry at an index, in order, and the same configuration
- terms and commit indexes of a running member never go back; commits never go beyond what a quorum has synced
- a read's index is not below any commit index that was known anywhere when the read was asked for

After the chaos the world heals, and the group must elect a leader, commit something new and converge.
"""

from __future__ import annotations

import random
import sys

from quorate.raft import codec, confchange
from quorate.raft.core import LEADER, Config, ProposalDropped
from quorate.raft.node import RawNode, Ready, StepError
from quorate.raft.quorum import VOTE_WON, joint_vote
from quorate.raft.storage import MemoryStorage
from quorate.raft.types import (
    ADD_LEARNER_NODE,
    ADD_NODE,
    ENTRY_CONF_CHANGE,
    ENTRY_CONF_CHANGE_V2,
    LOCAL_APPEND_THREAD,
    LOCAL_APPLY_THREAD,
    MSG_SNAP,
    MSG_STORAGE_APPEND,
    MSG_VOTE_RESP,
    NO_LIMIT,
    REMOVE_NODE,
    ConfChange,
    ConfChangeSingle,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
)


class Disk:
    """What a member finds again after a crash: a snapshot, the entries behind it, and the last synced hard state."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.entries: list[Entry] = []
        self.state = HardState(0, 0, snapshot.index)
        self.unsynced: HardState | None = None

    def last_index(self) -> int:
        return self.snapshot.index + len(self.entries)

    def write(self, state: HardState | None, entries: list[Entry], snapshot: Snapshot | None, sync: bool) -> None:
        """Write in the order of the write-ahead log: what came before is synced with, or before, what comes after."""
        if snapshot is not None:
            self.snapshot = snapshot
            self.entries = []
        if sync and self.unsynced is not None:
            self.state = self.unsynced
            self.unsynced = None
        for entry in entries:
            place = entry.index - self.snapshot.index - 1
            if place >= 0:
                assert place <= len(self.entries), "gap in the log on disk"
                del self.entries[place:]
                self.entries.append(entry)
        if state is not None:
            if sync or snapshot is not None:
                self.state = state
            else:
                self.unsynced = state

    def lose_unsynced(self) -> None:
        self.unsynced = None

    def commit_written(self) -> int:
        return (self.unsynced or self.state).commit


class SimStorage(MemoryStorage):
    """Storage whose snapshot is the member's state machine as it is now, as etcd's merged snapshots are."""

    def __init__(self) -> None:
        super().__init__()
        self.member: Member | None = None

    def snapshot(self) -> Snapshot:
        return super().snapshot() if self.member is None else self.member.state_snapshot()


class Member:
    """One member: its disk, and, while it runs, its raft and its state machine."""

    def __init__(self, id: int, disk: Disk) -> None:
        self.id = id
        self.disk = disk
        self.running = False
        self.node: RawNode
        self.storage: SimStorage
        self.applied = 0
        self.applied_term = 0
        self.conf_state = ConfState()
        self.ready: Ready | None = None
        self.phase = 0
        self.applied_ready = False
        self.inbox: list[bytes] = []
        self.append_work: list[Message] = []
        self.apply_work: list[Message] = []
        self.seen_term = 0
        self.seen_commit = 0
        self.was_leader_of = 0

    def state_snapshot(self) -> Snapshot:
        return Snapshot(b"state", self.applied, self.applied_term, self.conf_state)


class Violation(AssertionError):  # noqa: N818 - the word of the trade
    """An invariant does not hold."""


def require(condition: bool, text: str) -> None:
    if not condition:
        raise Violation(text)


class World:
    """The group, its network and its checkers."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.rng = rng
        self.now = 0
        self.pre_vote = rng.random() < 0.6
        self.check_quorum = rng.random() < 0.6
        self.is_async = rng.random() < 0.35
        self.step_down = rng.random() < 0.5
        self.max_inflight = rng.choice([1, 2, 8, 512])
        self.max_size = rng.choice([0, 40, 200, NO_LIMIT])
        self.max_committed = rng.choice([1, 60, 0])
        self.max_uncommitted = rng.choice([0, 0, 200])
        self.loss = rng.choice([0.0, 0.02, 0.2])
        self.duplication = rng.choice([0.0, 0.05, 0.3])
        self.max_delay = rng.choice([1, 3, 10])
        self.disorder = rng.choice([0.0, 0.1, 0.7])
        self.tick_rate = rng.choice([0.1, 0.2, 0.4])
        self.fault_period = rng.choice([40, 100, 300])
        self.crashes = rng.choice([0.0, 0.003, 0.02])
        self.conf_changes = rng.choice([0.0, 0.01, 0.05])
        self.compactions = rng.choice([0.0, 0.01, 0.05])
        self.network: list[tuple[int, int, int, bytes]] = []  # due, sequence, sender (0: own storage), message
        self.sequence = 0
        self.cut: set[int] = set()  # one side of a partition
        self.mute: set[int] = set()  # nobody hears these
        voters = list(range(1, rng.choice([1, 2, 3, 3, 3, 5]) + 1))
        start = Snapshot(b"state", 1, 1, ConfState(voters))
        # History, for the checks.
        self.entries: dict[tuple[int, int], tuple[int, bytes | None, int]] = {}
        self.committed: dict[int, int] = {1: 1}  # index -> term
        self.commit_max = 1
        self.leaders: dict[int, int] = {}
        self.votes: dict[tuple[int, int], int] = {}
        self.configurations: dict[int, ConfState] = {}
        self.reads: dict[bytes, int] = {}
        self.answered_reads = 0
        self.elections = 0
        self.snapshots = 0
        self.stuck = False
        self.members: dict[int, Member] = {}
        for member in range(1, len(voters) + (3 if self.conf_changes else 0) + 1):
            disk = Disk(start if member in voters else Snapshot())
            self.members[member] = Member(member, disk)
            self.start(self.members[member])

    # -- members

    def start(self, member: Member) -> None:
        disk = member.disk
        storage = SimStorage()
        if not disk.snapshot.is_empty():
            storage.apply_snapshot(disk.snapshot)
        storage.append(disk.entries)
        state = HardState(disk.state.term, disk.state.vote, max(disk.state.commit, disk.snapshot.index))
        storage.set_hard_state(state)
        member.storage = storage
        member.applied = disk.snapshot.index
        member.applied_term = disk.snapshot.term
        member.conf_state = disk.snapshot.conf_state
        rng = self.rng
        config = Config(
            id=member.id,
            storage=storage,
            random=rng.randrange,
            election_tick=10,
            heartbeat_tick=1,
            applied=disk.snapshot.index,
            max_size_per_msg=self.max_size,
            max_committed_size_per_ready=self.max_committed,
            max_uncommitted_size=self.max_uncommitted,
            max_inflight_msgs=self.max_inflight,
            pre_vote=self.pre_vote,
            check_quorum=self.check_quorum,
            async_storage_writes=self.is_async,
            step_down_on_removal=self.step_down,
        )
        member.node = RawNode(config)
        storage.member = member
        member.ready = None
        member.inbox = []
        member.append_work = []
        member.apply_work = []
        member.running = True
        require(state.term >= member.seen_term or state.term == disk.state.term, "term lost")
        member.seen_term = state.term
        member.seen_commit = state.commit

    def crash(self, member: Member) -> None:
        member.running = False
        disk = member.disk
        ready = member.ready
        if ready is not None and member.phase == 0 and self.rng.random() < 0.5:
            self._tear(member, ready)
        elif disk.unsynced is not None and self.rng.random() < 0.5:
            disk.write(None, [], None, True)
        disk.lose_unsynced()
        member.ready = None

    def _tear(self, member: Member, ready: Ready) -> None:
        # A write was under way: some of its entries may be there, without the hard state behind them. A change of the
        # commit index is not torn off: etcd's own log would then forget a configuration that it has acted upon.
        disk = member.disk
        state = ready.hard_state
        if ready.snapshot is not None or (state is not None and state.commit != disk.commit_written()):
            return
        disk.write(None, ready.entries[: self.rng.randrange(len(ready.entries) + 1)], None, True)

    # -- network

    def send(self, sender: Member, message: Message) -> None:
        require(message.to != sender.id or self.is_async, f"message to itself: {message!r}")
        if message.type == MSG_VOTE_RESP and not message.reject:
            # A grant leaves: it must be the only one of its term, and on disk.
            key = (sender.id, message.term)
            require(self.votes.setdefault(key, message.to) == message.to, f"two votes {key}")
            require(sender.disk.state.term >= message.term, f"vote {key} left before it was synced")
        local = message.to == sender.id
        self._queue(sender, message, local)
        if not local and self.rng.random() < self.duplication:
            self._queue(sender, message, local)

    def _queue(self, sender: Member, message: Message, local: bool) -> None:
        delay = 0 if local else self.rng.randrange(self.max_delay + 1)
        self.sequence += 1
        if local:
            sender.inbox.append(codec.encode_message(message))
        else:
            self.network.append((self.now + delay, self.sequence, sender.id, codec.encode_message(message)))

    def connected(self, one: int, other: int) -> bool:
        return (one in self.cut) == (other in self.cut) and one not in self.mute

    def _take(self) -> tuple[int, int, int, bytes] | None:
        # Either some message, or the first that is due.
        network = self.network
        if not network:
            return None
        places = [self.rng.randrange(len(network))] if self.rng.random() < self.disorder else range(len(network))
        for place in places:
            if network[place][0] <= self.now:
                return network.pop(place)
        return None

    def deliver(self) -> None:
        item = self._take()
        if item is None:
            return
        message = codec.decode_message(item[3])
        sender = self.members[item[2]]
        to = self.members[message.to]
        if not to.running or not self.connected(sender.id, to.id) or self.rng.random() < self.loss:
            self._lost(sender, message)
            return
        try:
            to.node.step(message)
        except (ProposalDropped, StepError):
            pass
        if message.type == MSG_SNAP and sender.running:
            self.snapshots += 1
            sender.node.report_snapshot(to.id, True)
            self.check(sender)
        self.check(to)

    def deliver_own(self, member: Member) -> None:
        """Deliver what the member's own storage answered; these are never lost nor reordered."""
        if member.inbox:
            try:
                member.node.step(codec.decode_message(member.inbox.pop(0)))
            except StepError:
                pass
            self.check(member)

    def _lost(self, sender: Member, message: Message) -> None:
        if not sender.running:
            return
        if message.type == MSG_SNAP:
            sender.node.report_snapshot(message.to, False)
        elif self.rng.random() < 0.3:
            sender.node.report_unreachable(message.to)
        self.check(sender)

    # -- the ready loop, in phases with room for a crash between any two

    def work(self, member: Member) -> None:
        if self.is_async:
            self._work_async(member)
            return
        if member.ready is None:
            if member.node.has_ready():
                member.ready = member.node.ready()
                member.phase = 0
                member.applied_ready = False
                self._look_at(member, member.ready)
                for message in member.ready.messages[: member.ready.early]:
                    self.send(member, message)
            return
        ready = member.ready
        if not member.applied_ready and ready.snapshot is None and self.rng.random() < 0.3:
            self._apply(member, ready.committed_entries)
            member.applied_ready = True
        if member.phase == 0:
            self._store(member, ready.hard_state, ready.entries, ready.snapshot, ready.must_sync)
            member.phase = 1
        elif member.phase == 1:
            for message in ready.messages[ready.early :]:
                self.send(member, message)
            member.phase = 2
        else:
            if not member.applied_ready:
                self._apply(member, ready.committed_entries)
            member.ready = None
            member.node.advance(ready)
        self.check(member)

    def _work_async(self, member: Member) -> None:
        kind = self.rng.randrange(4)
        if kind == 3:
            self.deliver_own(member)
        elif kind == 0 and member.node.has_ready():
            ready = member.node.ready()
            self._look_at(member, ready)
            for message in ready.messages:
                if message.to == LOCAL_APPEND_THREAD or message.to == LOCAL_APPLY_THREAD:
                    append = message.type == MSG_STORAGE_APPEND
                    (member.append_work if append else member.apply_work).append(message)
                else:
                    self.send(member, message)
        elif kind == 1 and member.append_work:
            message = member.append_work.pop(0)
            state = HardState(message.term, message.vote, message.commit)
            snapshot = message.snapshot
            must_sync = bool(message.responses)
            stored = None if state.is_empty() else state
            self._store(member, stored, message.entries, snapshot, must_sync)
            for response in message.responses:
                self.send(member, response)
        elif kind == 2 and member.apply_work:
            message = member.apply_work.pop(0)
            self._apply(member, message.entries)
            for response in message.responses:
                self.send(member, response)
        self.check(member)

    def _store(
        self, member: Member, state: HardState | None, entries: list[Entry], snapshot: Snapshot | None, sync: bool
    ) -> None:
        if snapshot is not None:
            # The state machine is replaced together with the log.
            member.storage.apply_snapshot(snapshot)
            member.applied = snapshot.index
            member.applied_term = snapshot.term
            member.conf_state = snapshot.conf_state
        member.disk.write(state, entries, snapshot, sync)
        member.storage.append(entries)
        if state is not None:
            member.storage.set_hard_state(state)

    def _look_at(self, member: Member, ready: Ready) -> None:
        log = member.node.raft.log
        for entry in ready.entries:
            previous = log.term(entry.index - 1)
            known = self.entries.setdefault((entry.index, entry.term), (entry.type, entry.data, previous))
            same = known[:2] == (entry.type, entry.data) and (previous < 0 or known[2] in (previous, -1))
            require(same, f"log matching: {entry!r} behind {previous}, but {known}")
        for state in ready.read_states:
            asked = self.reads.pop(state.context, None)
            if asked is not None:
                self.answered_reads += 1
                require(state.index >= asked, f"stale read at {state.index}, {asked} was committed")

    def _apply(self, member: Member, entries: list[Entry]) -> None:
        for entry in entries:
            if entry.index <= member.applied:
                continue
            require(entry.index == member.applied + 1, f"{member.id} applies {entry.index} after {member.applied}")
            require(self.committed.get(entry.index) == entry.term, f"applied {entry!r}, not committed")
            known = self.entries.get((entry.index, entry.term))
            require(known is not None and known[:2] == (entry.type, entry.data), f"applied {entry!r}, not {known}")
            member.applied = entry.index
            member.applied_term = entry.term
            data = entry.data or b""
            if entry.type == ENTRY_CONF_CHANGE:
                member.conf_state = member.node.apply_conf_change(codec.decode_conf_change(data))
            elif entry.type == ENTRY_CONF_CHANGE_V2:
                member.conf_state = member.node.apply_conf_change(codec.decode_conf_change_v2(data))
            else:
                continue
            agreed = self.configurations.setdefault(entry.index, member.conf_state)
            require(agreed.same(member.conf_state), f"configurations differ at {entry.index}")

    # -- checks

    def check(self, member: Member) -> None:
        raft = member.node.raft
        log = raft.log
        require(raft.term >= member.seen_term, f"{member.id}: term went back")
        require(log.committed >= member.seen_commit, f"{member.id}: commit went back")
        require(log.applied <= log.applying <= log.committed <= log.last_index(), log.describe())
        member.seen_term = raft.term
        if raft.role == LEADER and member.was_leader_of != raft.term:
            member.was_leader_of = raft.term
            self.elections += 1
            require(self.leaders.setdefault(raft.term, member.id) == member.id, f"two leaders in {raft.term}")
            self._check_complete(member)
        for index in range(member.seen_commit + 1, log.committed + 1):
            term = log.term(index)
            if term < 0:
                continue
            if index not in self.committed and raft.role == LEADER:
                self._check_quorum_has(member, index, term)
            require(self.committed.setdefault(index, term) == term, f"{index} committed in two terms")
        member.seen_commit = log.committed
        self.commit_max = max(self.commit_max, log.committed)
        if raft.role == LEADER:
            for id, progress in raft.tracker.progress.items():
                require(progress.match < progress.next, f"{id}: {progress.describe()}")
                require(progress.match <= log.last_index(), f"{id}: {progress.describe()}")

    def _check_complete(self, member: Member) -> None:
        log = member.node.raft.log
        for index in range(max(log.first_index() - 1, 1), self.commit_max + 1):
            term = self.committed.get(index)
            require(term is None or log.term(index) == term, f"leader {member.id} lacks committed {index}/{term}")

    def _check_quorum_has(self, leader: Member, index: int, term: int) -> None:
        # Whoever counts towards a commit has the entry on disk.
        have: dict[int, bool] = {}
        for member in self.members.values():
            disk = member.disk
            place = index - disk.snapshot.index - 1
            if place < 0:
                have[member.id] = not disk.snapshot.is_empty()
            else:
                have[member.id] = place < len(disk.entries) and disk.entries[place].term >= term
        config = leader.node.raft.tracker.config
        require(joint_vote(config.voters, config.outgoing, have) == VOTE_WON, f"{index}/{term} committed unsynced")

    # -- clients and faults

    def step(self) -> None:
        rng = self.rng
        for member in self.members.values():
            if not member.running and rng.random() < 0.03:
                self.start(member)
                self.check(member)
        running = [member for member in self.members.values() if member.running]
        self.now += 1
        for _ in range(2 * len(self.members)):
            self.deliver()
        for member in running:
            for _ in range(rng.randrange(6 if self.is_async else 4)):
                self.work(member)
        for member in running:
            if rng.random() < self.tick_rate:
                member.node.tick()
                self.check(member)
        if not running:
            return
        member = rng.choice(running)
        self._client(member)
        if rng.random() < self.crashes:
            self.crash(member)
        if rng.random() < self.compactions:
            self.checkpoint(member)

    def _client(self, member: Member) -> None:
        rng = self.rng
        roll = rng.random()
        if roll < 0.3:
            self.propose(member)
        elif roll < 0.35:
            context = b"%d-%d" % (self.sequence, member.id)
            self.sequence += 1
            self.reads[context] = self.commit_max
            member.node.read_index(context)
        elif roll < 0.35 + self.conf_changes:
            self.change_configuration(member)
        elif roll > 0.992:
            member.node.transfer_leader(rng.choice(list(self.members)))
        elif roll > 0.989:
            member.node.campaign()
        elif roll > 0.988:
            member.node.forget_leader()
        self.check(member)

    def propose(self, member: Member) -> None:
        batch = []
        for _ in range(self.rng.choice([1, 1, 3])):
            self.sequence += 1
            batch.append(b"%d" % self.sequence)
        try:
            member.node.propose(batch)
        except ProposalDropped:
            pass

    def change_configuration(self, member: Member) -> None:
        # Only changes that the present configuration allows: an impossible one in the log is fatal by contract.
        rng = self.rng
        raft = member.node.raft
        if raft.role != LEADER:
            return
        change: ConfChange | ConfChangeV2
        if raft.tracker.config.is_joint():
            change = ConfChangeV2()
        else:
            kinds = [ADD_NODE, ADD_NODE, ADD_LEARNER_NODE, REMOVE_NODE]
            steps = [
                ConfChangeSingle(rng.choice(kinds), rng.choice(list(self.members)))
                for _ in range(rng.choice([1, 1, 2, 3]))
            ]
            change = ConfChangeV2(rng.randrange(3), steps)
            if len(steps) == 1 and rng.random() < 0.5:
                change = ConfChange(7, steps[0].type, steps[0].node_id)
            changer = confchange.Changer(raft.tracker, raft.log.last_index())
            v2 = change.as_v2()
            try:
                if v2.enters_joint():
                    changer.enter_joint(v2.auto_leave(), v2.changes)
                else:
                    changer.simple(v2.changes)
            except confchange.ConfChangeError:
                return
        try:
            member.node.propose_conf_change(change)
        except ProposalDropped:
            pass

    def checkpoint(self, member: Member) -> None:
        # A snapshot on disk, and the log in memory cut, as a server does between two Readys.
        if member.ready is not None or member.append_work or member.apply_work:
            return
        disk, storage = member.disk, member.storage
        raft = member.node.raft
        stable = min(member.applied, raft.log.applied, storage.last_index(), disk.last_index())
        if raft.log.snapshot is not None or stable != member.applied or stable <= disk.snapshot.index:
            return
        disk.write(None, [], None, True)
        entries = [entry for entry in disk.entries if entry.index > stable]
        disk.snapshot = member.state_snapshot()
        disk.entries = entries
        disk.state.commit = max(disk.state.commit, stable)
        low = storage.first_index()
        if low <= stable:
            storage.compact(self.rng.randrange(low, stable + 1))

    def fault(self) -> None:
        """Change what is broken: a random partition, one around a leader, members that are not heard, or nothing."""
        rng = self.rng
        roll = rng.random()
        self.cut = set()
        self.mute = set()
        leader = self._leader()
        if roll < 0.25:
            self.cut = {member for member in self.members if rng.random() < 0.5}
        elif roll < 0.5 and leader is not None:
            self.cut = {leader.id, *[member for member in self.members if rng.random() < 0.2]}
        elif roll < 0.7:
            self.mute = {member for member in self.members if rng.random() < 0.4}

    def chaos(self, steps: int) -> None:
        for number in range(steps):
            if number % self.fault_period == 0:
                self.fault()
            self.step()

    # -- healing

    def heal(self) -> None:
        """End all faults; within a bounded time there must be a leader, a new commit, and agreement.

        One case is excused, and counted as `stuck`: etcd's raft, and so ours, switches configurations when the change
        is known to be committed, not when it is in the log. A leader that removes itself and stops to lead (stepping
        down, or crashing) before the others know may leave them counting its vote, which it refuses to those whose
        logs lack the tail that it never replicated. Of safety nothing is excused.
        """
        self.cut = set()
        self.mute = set()
        self.loss = self.duplication = self.crashes = self.conf_changes = self.compactions = 0.0
        self.max_delay = 1
        self.disorder = 0.0
        for member in self.members.values():
            if not member.running:
                self.start(member)
                self.check(member)
        goal = 0
        for number in range(4000):
            self._quiet_step()
            leader = self._leader()
            if number < 600 or leader is None or number % 20:
                continue
            if goal == 0:
                before = leader.node.raft.log.last_index()
                self.propose(leader)
                if leader.node.raft.log.last_index() > before:
                    goal = leader.node.raft.log.last_index()
            elif self._converged(leader, goal):
                return
            elif self.commit_max < goal and number % 400 == 0:
                goal = 0
        texts = {member.node.raft.tracker.config.describe() for member in self.members.values() if member.running}
        if len(texts) == 1:
            raise Violation(f"no progress after healing: {[m.node.raft.log.describe() for m in self.members.values()]}")
        self.stuck = True

    def _quiet_step(self) -> None:
        self.now += 1
        for _ in range(len(self.network)):
            self.deliver()
        for member in self.members.values():
            if member.running:
                for _ in range(4):
                    self.work(member)
                if self.rng.random() < 0.25:
                    member.node.tick()
                    self.check(member)
        self._stop_outsiders()

    def _stop_outsiders(self) -> None:
        # A member that was removed without learning of it asks for votes for ever, unless everybody pre-votes; etcd
        # tells it so and it stops. Whoever has applied most knows who belongs to the group. But as long as one of
        # those still counts an outsider's vote, it may be needed.
        wisest = max(self.members.values(), key=lambda member: member.applied)
        needed = set(wisest.node.raft.tracker.ids)
        for id in wisest.node.raft.tracker.ids:
            needed.update(self.members[id].node.raft.tracker.ids)
        for member in self.members.values():
            if member.id in needed and not member.running:
                self.start(member)
            elif member.id not in needed and member.running:
                self.crash(member)

    def _leader(self) -> Member | None:
        leaders = [m for m in self.members.values() if m.running and m.node.raft.role == LEADER]
        return max(leaders, key=lambda member: member.node.raft.term, default=None)

    def _converged(self, leader: Member, goal: int) -> bool:
        last = leader.node.raft.log.last_index()
        if leader.applied < goal:
            return False
        for member in leader.node.raft.tracker.ids:
            if self.members[member].applied != last or not self.members[member].running:
                return False
        return True


def run(seed: int, steps: int) -> World:
    """Run one seed to its end; raises Violation."""
    world = World(seed)
    world.chaos(steps)
    world.heal()
    return world


def main(argv: list[str]) -> int:
    first, count = int(argv[0]), int(argv[1])
    steps = int(argv[2]) if len(argv) > 2 else 1500
    totals: dict[str, int] = {}
    for seed in range(first, first + count):
        try:
            world = run(seed, steps)
        except BaseException:
            print(f"seed {seed}, {steps} steps", file=sys.stderr)
            raise
        counts = {
            "elections": world.elections,
            "commits": world.commit_max,
            "reads": world.answered_reads,
            "snapshots": world.snapshots,
            "stuck": int(world.stuck),
        }
        totals = {name: totals.get(name, 0) + value for name, value in counts.items()}
    print(f"{count} seeds: " + ", ".join([f"{value} {name}" for name, value in totals.items()]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
