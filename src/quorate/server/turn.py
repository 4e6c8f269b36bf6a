"""The turn: what gathered since the last one goes through raft, to the disk, and into the state.

    proposals, reads ---> raft.propose, raft.read_index
    raft.ready() -------> leader: messages out (others may write while we do)
                          wal.save, sync
                          meanwhile: apply what was committed AND is durable here, give answers
                          the other messages out: they promise that the entries are durable
    raft.advance() -----> what this made committed is in the next Ready

The sync runs on the loop when it is short, in the storage thread otherwise. Then the turn ends and goes on when the
thread is done; whatever arrives meanwhile gathers for the next batch, so batches grow with the load by themselves.

Invariants:
- An entry is applied only when it is durable here, so the backend is never ahead of the WAL.
- At most one Ready is under way. While a sync is in the storage thread, nobody writes to the WAL.
- An answer to a write is given after the sync that made its entry durable (on a quorum, which is what commits it).
- Any error of disk or state ends the member (Loop.fatal); nothing is given an answer after that.

A snapshot from the leader replaces log and state; until that is done (`snapshots` does it) the turn is under way.
Source: etcd server/etcdserver/raft.go (raftNode.start) and etcd-io/raft's doc.go.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

from quorate.errors import LEADER_CHANGED, CorruptError, RpcError
from quorate.ports import Log, Loop
from quorate.raft.core import LEADER, ProposalDropped
from quorate.raft.node import RawNode, Ready, StepError
from quorate.raft.storage import MemoryStorage
from quorate.raft.types import ConfChange, ConfState, Entry, HardState, Message, Snapshot
from quorate.server.apply import Applier
from quorate.server.config import ServerConfig
from quorate.server.encode import Headers
from quorate.server.proposals import Proposals
from quorate.server.reads import Read, Reads
from quorate.server.stats import ServerStats
from quorate.server.timeouts import Timeouts
from quorate.server.transport import Transport
from quorate.storage.wal import Wal
from quorate.storage.wal_record import WalSnapshot

_CALLER: Final = "etcdserver/raft.go"

# The weight of one more sync in the moving average of their durations: 1/8.
_AVERAGE_SHIFT: Final = 3


@mypyc_attr(allow_interpreted_subclasses=True)
class TurnEvents:
    """What the turn tells the rest of the node."""

    def leader_changed(self, leader: int, leading: bool) -> None:
        """Another member leads, or nobody (0); `leading`: it is us."""
        raise NotImplementedError

    def term_begun(self) -> None:
        """We lead and have applied the first entry of our term: the state is complete."""
        raise NotImplementedError

    def run_reads(self, reads: list[Read]) -> None:
        """Answer reads that may run now."""
        raise NotImplementedError

    def applied(self) -> None:
        """A batch of entries was applied."""
        raise NotImplementedError

    def snapshot_recorded(self, record: WalSnapshot) -> None:
        """The WAL has the record of a snapshot."""
        raise NotImplementedError

    def install_snapshot(self, snapshot: Snapshot, state: HardState | None, entries: list[Entry]) -> None:
        """Replace everything by a snapshot, on the disk and in memory; then call Turn.snapshot_installed."""
        raise NotImplementedError


class Turn:
    """The machine around raft. Public attributes are read-only for others."""

    def __init__(
        self,
        loop: Loop,
        log: Log,
        config: ServerConfig,
        member_id: int,
        node: RawNode,
        storage: MemoryStorage,
        wal: Wal,
        transport: Transport,
        applier: Applier,
        proposals: Proposals,
        reads: Reads,
        headers: Headers,
        stats: ServerStats,
        events: TurnEvents,
    ) -> None:
        self._loop = loop
        self._log = log
        self._config = config
        self._member_id = member_id
        self._node = node
        self._storage = storage
        self._wal = wal
        self._transport = transport
        self._applier = applier
        self._proposals = proposals
        self._reads = reads
        self._headers = headers
        self._stats = stats
        self._events = events

        self._timeouts = Timeouts(member_id, config.election_ticks, config.tick_ns, transport)

        self.term = 0
        self.leader = 0
        self.leading = False
        self.led_since_tick = 0  # of Proposals.tick: when the present leader was elected
        self.committed_index = storage.snapshot().index
        self.sole_voter = False
        self.term_begun = False  # we lead and have applied an entry of our term
        self.reads_at_once = False  # we are the sole voter, lead, and have committed in our term
        self.dead = False

        self._conf_state = ConfState()
        self._ask_again = False
        self._scheduled = False
        self._running = False
        self._snapshot_record: WalSnapshot | None = None
        self._under_way: Ready | None = None  # its sync is in the storage thread
        self._late: list[Entry] = []  # committed, to be applied after the sync under way
        self._durable_index = storage.last_index()
        self._sync_ns = 0  # moving average
        self._inline_ns = config.sync_inline_ns
        self._inline_entries = config.sync_inline_entries
        self._inline_bytes = config.sync_inline_bytes

    # -- Running

    def schedule(self) -> None:
        """See that a turn runs after the events of this one."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.soon(self.run)

    def run(self) -> None:
        """Take a turn, unless a sync is under way, whose end does it."""
        self._scheduled = False
        if self._under_way is not None or self._running or self.dead:
            return
        self._running = True
        try:
            self._run()
        except Exception as error:
            self._die(error)
        self._running = False

    def _run(self) -> None:
        self._stats.turns_total += 1
        record = self._snapshot_record
        if record is not None:
            self._snapshot_record = None
            if record.index >= self._storage.snapshot().index:  # the leader's may have come meanwhile
                self._wal.save_snapshot(record)
            self._events.snapshot_recorded(record)
        self._propose()
        if self._reads.waiting():
            self._ask_reads()
        node = self._node
        while node.has_ready():
            if not self._take(node.ready()):
                break
        self._settle_reads()
        if self._proposals.queue and self.leader != 0 and self._under_way is None:
            self.schedule()

    def _die(self, error: BaseException) -> None:
        self.dead = True
        self._loop.fatal(error)

    def _propose(self) -> None:
        proposals = self._proposals
        if proposals.leading:
            self._propose_leading()
        if not proposals.queue or self.leader == 0:
            return
        try:
            self._node.propose(proposals.queue)
        except ProposalDropped:
            return  # a transfer of leadership, say; they wait in the queue for the next tick
        proposals.queue = []

    def _propose_leading(self) -> None:
        """Propose what only the leader may say. Raft may have lost the lead since, or lost it and won it again."""
        proposals = self._proposals
        if not self.leads_now():
            proposals.withdraw(LEADER_CHANGED)
            return
        try:
            self._node.propose(proposals.leading)
        except ProposalDropped:
            proposals.withdraw(LEADER_CHANGED)
            return
        proposals.leading = []

    # -- One Ready

    def _take(self, ready: Ready) -> bool:
        """Do what a Ready asks for; False when it waits for the storage thread."""
        state = ready.hard_state
        if state is not None:
            self._note_state(state.term, state.commit)
        if ready.soft_state is not None:
            self._note_leader(ready.soft_state.lead)
        for read in ready.read_states:
            self._reads.confirm(read.context, read.index)
        snapshot = ready.snapshot
        if snapshot is not None and not snapshot.is_empty():
            self._under_way = ready
            self._events.install_snapshot(snapshot, state, ready.entries)
            return False
        if ready.early:
            self._transport.send(ready.messages[: ready.early])
            if ready.must_sync:
                self._transport.flush()  # others write to their disks while we write to ours

        entries = ready.entries
        if entries:
            self._durable_index = min(self._durable_index, entries[0].index - 1)
            self._stats.entries_total += len(entries)
        if state is not None or entries:
            self._wal.save(state, entries)
        if state is not None:
            self._storage.set_hard_state(state)
        if entries:
            self._storage.append(entries)
        committed = ready.committed_entries
        if not ready.must_sync:
            self._finish(ready, committed)
            return True
        if self._short(entries):
            self._sync_here()
            self._synced(ready)
            self._finish(ready, committed)
            return True
        self._under_way = ready
        self._stats.syncs_worker_total += 1
        self._loop.work(self._sync_there, self._sync_done)
        self._late = self._apply_durable(committed)
        return False

    def _short(self, entries: list[Entry]) -> bool:
        """Tell whether the sync of these entries is done sooner than a thread could be asked to do it."""
        if self._sync_ns >= self._inline_ns or self._wal.cut_due or len(entries) > self._inline_entries:
            return False
        size = 0
        for entry in entries:
            data = entry.data
            if data is not None:
                size += len(data)
        return size <= self._inline_bytes

    def _sync_here(self) -> None:
        start_ns = self._loop.monotonic_ns()
        self._wal.sync()
        self._note_sync(self._loop.monotonic_ns() - start_ns)
        self._stats.syncs_inline_total += 1

    def _sync_there(self) -> object:
        """Sync in the storage thread; returns the duration."""
        start_ns = self._loop.monotonic_ns()
        self._wal.sync()
        return self._loop.monotonic_ns() - start_ns

    def _note_sync(self, took_ns: int) -> None:
        self._sync_ns += (took_ns - self._sync_ns) >> _AVERAGE_SHIFT

    def _sync_done(self, result: object, error: BaseException | None) -> None:
        """Go on after the storage thread."""
        ready = self._under_way
        if ready is None or self.dead:
            return
        if error is not None:
            self._die(error)
            return
        if isinstance(result, int):
            self._note_sync(result)
        self._under_way = None
        self._running = True
        try:
            self._synced(ready)
            late = self._late
            self._late = []
            self._finish(ready, late)
        except Exception as trouble:
            self._die(trouble)
        self._running = False
        self.run()

    def snapshot_installed(self) -> None:
        """Go on behind a snapshot: it is on the disk, and the state is what it says."""
        ready = self._under_way
        if ready is None or ready.snapshot is None or self.dead:
            return
        self._under_way = None
        self._running = True
        try:
            self._storage.apply_snapshot(ready.snapshot)
            if ready.hard_state is not None:
                self._storage.set_hard_state(ready.hard_state)
            self._storage.append(ready.entries)
            self._durable_index = self._storage.last_index()
            self.committed_index = max(self.committed_index, ready.snapshot.index)
            self._note_applied()
            self._transport.send(ready.messages)
            self._node.advance(ready)
            self._events.applied()
        except Exception as trouble:
            self._die(trouble)
        self._running = False
        self.run()

    def _synced(self, ready: Ready) -> None:
        entries = ready.entries
        if entries:
            self._durable_index = entries[len(entries) - 1].index

    def _finish(self, ready: Ready, committed: list[Entry]) -> None:
        """Apply what is left of a Ready that is durable, and hand it back to raft."""
        rest = self._apply_durable(committed)
        if rest:
            raise CorruptError("raft log", -1, f"entry {rest[0].index} is committed, {self._durable_index} durable")
        if len(ready.messages) > ready.early:
            self._transport.send(ready.messages[ready.early :])
        self._node.advance(ready)

    def _apply_durable(self, committed: list[Entry]) -> list[Entry]:
        """Apply the entries that are durable here and return the others."""
        if not committed:
            return committed
        last = committed[len(committed) - 1]
        rest: list[Entry] = []
        if last.index > self._durable_index:
            durable = len(committed) - (last.index - self._durable_index)
            if durable <= 0:
                return committed
            rest = committed[durable:]
            committed = committed[:durable]
        self._apply(committed)
        return rest

    def _apply(self, entries: list[Entry]) -> None:
        applier = self._applier
        applier.apply(entries)
        if self.committed_index < applier.applied_index:
            self.committed_index = applier.applied_index
        applier.answer()
        self._note_applied()
        self._events.applied()

    # -- Who leads

    def _note_state(self, term: int, commit: int) -> None:
        if term != self.term:
            self.term = term
            self._headers.set_term(term)
            self._forget_term()
        self.committed_index = max(self.committed_index, commit)

    def _note_leader(self, leader: int) -> None:
        if leader == self.leader:
            return
        self._say_leader(self.leader, leader)
        self.leader = leader
        self.leading = leader == self._member_id
        self._forget_term()
        if leader != 0:
            self.led_since_tick = self._proposals.tick
            self._stats.leader_changes_seen_total += 1
            self._ask_again = True
            self._reads.leader_changed()
        self._events.leader_changed(leader, self.leading)

    def _say_leader(self, old: int, new: int) -> None:
        # The lines of raft's own node.go, which operators look for.
        who = f"raft.node: {self._member_id:x}"
        if new == 0:
            text = f"{who} lost leader {old:x} at term {self.term}"
        elif old == 0:
            text = f"{who} elected leader {new:x} at term {self.term}"
        else:
            text = f"{who} changed leader from {old:x} to {new:x} at term {self.term}"
        self._log.info("etcdserver/zap_raft.go", text, logger="raft")

    def _forget_term(self) -> None:
        self.term_begun = False
        self.reads_at_once = False
        self._proposals.withdraw(LEADER_CHANGED)

    def _note_applied(self) -> None:
        """See what the applied entries mean for reads: the configuration, and the first entry of our term."""
        applier = self._applier
        if applier.conf_state is not self._conf_state:
            self._note_conf_state(applier.conf_state)
        if self.leading and not self.term_begun and applier.applied_term == self.term:
            self.term_begun = True
            self.reads_at_once = self.sole_voter
            self._ask_again = True
            self._events.term_begun()

    def _note_conf_state(self, state: ConfState) -> None:
        self._conf_state = state
        self.sole_voter = state.voters == [self._member_id] and not state.voters_outgoing
        self.reads_at_once = self.sole_voter and self.leading and self.term_begun

    # -- Reads

    def _ask_reads(self) -> None:
        reads = self._reads
        again = self._ask_again
        self._ask_again = False
        if self.sole_voter:
            if self.reads_at_once:
                reads.confirm_all(self.committed_index)
            return
        context = reads.next_context(self.leader, again)
        if context and self.leader != 0:
            self._node.read_index(context)

    def _settle_reads(self) -> None:
        reads = self._reads
        if not reads.waiting():
            return
        if self.reads_at_once:
            reads.confirm_all(self.committed_index)
        ready = reads.take_ready(self._applier.applied_index)
        if ready:
            self._events.run_reads(ready)

    # -- From outside

    def tick(self) -> None:
        """Let one tick of time pass."""
        proposals = self._proposals
        reads = self._reads
        proposals.tick += 1
        reads.tick += 1
        self._node.tick()
        config = self._config
        self._stats.proposals_failed_total += proposals.expire(
            max(1, config.request_timeout_ns // config.tick_ns), self.late_error
        )
        if reads.waiting():
            reads.expire()
        self.run()

    def ticks(self) -> int:
        """Return how many ticks have passed: the clock of what waits for the log."""
        return self._proposals.tick

    def late_error(self, start_tick: int) -> RpcError:
        """Return the error of a request that was made at a tick (of Proposals.tick) and takes too long."""
        members = [*self._conf_state.voters, *self._conf_state.learners]
        return self._timeouts.reason(
            start_tick, self._proposals.tick, self._loop.monotonic_ns(), self.leader, self.led_since_tick, members
        )

    def leads_now(self) -> bool:
        """Tell whether we lead and raft agrees. It may know better while a sync is under way, which can take long."""
        raft = self._node.raft
        return self.leading and raft.role == LEADER and raft.term == self.term

    def campaign(self) -> None:
        """Stand for election now."""
        self._node.campaign()
        self.run()

    def step(self, message: Message) -> None:
        """Take a peer's message. One that raft refuses is dropped: peers may send what they like."""
        try:
            self._node.step(message)
        except (StepError, ProposalDropped) as error:
            self._log.warn(_CALLER, "failed to process Raft message", error=str(error))
            return
        except CorruptError as error:
            self._die(error)
            return
        self.schedule()

    def propose_conf_change(self, change: ConfChange) -> bool:
        """Propose a change of the configuration; False when raft does not take one now."""
        try:
            self._node.propose_conf_change(change)
        except ProposalDropped:
            return False
        self.schedule()
        return True

    def report_unreachable(self, member_id: int) -> None:
        """Tell raft that messages to a member were probably lost."""
        self._node.report_unreachable(member_id)
        self.schedule()

    def report_snapshot(self, member_id: int, ok: bool) -> None:
        """Tell raft whether a snapshot reached a member."""
        self._node.report_snapshot(member_id, ok)
        self.schedule()

    def transfer_leader(self, to: int) -> None:
        """Ask raft to hand leadership over."""
        self._node.transfer_leader(to)
        self.schedule()

    def record_snapshot(self, record: WalSnapshot) -> None:
        """Write a snapshot's record to the WAL in the next turn, when nobody else writes there."""
        self._snapshot_record = record
        self.schedule()

    def close(self) -> None:
        """Take no further turn."""
        self.dead = True

    def idle(self) -> bool:
        """Tell whether no sync is under way."""
        return self._under_way is None
