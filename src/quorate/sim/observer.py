"""Raft's promises, checked at each step: after every event of a process, against everything seen of all others.

- one leader a term (election safety); a new leader has every committed entry (leader completeness)
- entries with the same index and term are the same, and so is what stands before them (log matching)
- a committed entry is never another one, on any member, ever (state-machine safety); what an entry does is the same
- terms and commit indexes go forward; after a restart nothing that was promised to others is gone: the term, the vote,
  the entries that were acknowledged
- what is committed is on the platters of a quorum (sampled, because it reads the write-ahead logs back)

The first member to apply an entry feeds the model; the others are compared with it: revision, compaction, leases.
"""

from __future__ import annotations

import random
import zlib
from typing import TYPE_CHECKING, Final

from quorate.raft.types import (
    ENTRY_NORMAL,
    MSG_APP_RESP,
    MSG_VOTE_RESP,
    NO_LIMIT,
    Entry,
    Message,
)
from quorate.sim.clock import SECOND
from quorate.sim.disk import SimDisk
from quorate.sim.model import Model
from quorate.storage.wal import Wal, WalOptions
from quorate.storage.wal_reader import valid_snapshots
from quorate.storage.wal_record import WalSnapshot

if TYPE_CHECKING:
    from quorate.sim.node import Node
    from quorate.sim.world import World

_DURABLE_GAP_NS: Final = 2 * SECOND


class Violation(Exception):  # noqa: N818
    """A promise was broken."""


class Seen:
    """What is known of one member: of its disk's life (over restarts), and of its present process."""

    def __init__(self) -> None:
        # Promised to others, and therefore durable.
        self.term = 0
        self.votes: dict[int, int] = {}
        self.acked: dict[int, int] = {}  # the highest index acknowledged, by term
        self.forget()

    def forget(self) -> None:
        """Begin with a new process."""
        self.now_term = 0
        self.applied = 0
        self.commit = 0
        self.last = (0, 0)
        self.terms: dict[int, int] = {}  # of its log, by index
        self.voters: list[int] = []
        self.leading = 0  # the term in which it was last seen to lead


class Observer:
    """Sees all members."""

    def __init__(self, world: World, model: Model, rng: random.Random, sample: float) -> None:
        self.world = world
        self.model = model
        self.rng = rng
        self.sample = sample
        self.leaders: dict[int, str] = {}
        self.entries: dict[tuple[int, int], tuple[int, int]] = {}  # (index, term): (CRC of it, term of the one before)
        self.appended: dict[tuple[int, int], int] = {}  # when it was first seen in a log
        self.committed: list[tuple[int, int]] = [(0, 0)]  # by index: (term, CRC)
        self.commit = 0
        self.durable_checks = 0
        self._durable_next_ns = 0
        self.snapshots_installed = 0

    # -- A process begins

    def booted(self, node: Node) -> None:
        """Check what a member has brought back from its disk."""
        seen = node.seen
        seen.forget()
        parts = node.parts
        assert parts is not None
        storage = parts.raft_storage
        state = storage.hard_state()
        if state.term < seen.term:
            raise Violation(f"{node.name} promised term {seen.term} and came back with {state.term}")
        voted = seen.votes.get(state.term, 0)
        if voted and state.vote != voted:
            raise Violation(f"{node.name} voted {voted:x} in term {state.term} and came back with {state.vote:x}")
        acked = seen.acked.get(state.term, 0)
        if storage.last_index() < acked:
            raise Violation(
                f"{node.name} acknowledged entry {acked} in term {state.term} and came back with {storage.last_index()}"
            )
        index = node.consistent_index()
        expected = self.model.states.get(index)
        rev = parts.store.current_rev
        if expected is not None and rev != expected[0]:
            raise Violation(f"{node.name} came back at index {index} with revision {rev}, not {expected[0]}")
        seen.applied = storage.snapshot().index
        self.look(node)

    def promised(self, node: Node, message: Message) -> None:
        """A message leaves a member; some of them are promises."""
        seen = node.seen
        if message.reject:
            return
        if message.type == MSG_VOTE_RESP:
            seen.term = max(seen.term, message.term)
            seen.votes[message.term] = message.to
        elif message.type == MSG_APP_RESP:
            seen.term = max(seen.term, message.term)
            seen.acked[message.term] = max(seen.acked.get(message.term, 0), message.index)

    # -- After each event

    def look(self, node: Node) -> None:
        """Compare a member with what is known."""
        server, parts = node.server, node.parts
        if server is None or parts is None:
            return
        seen = node.seen
        if server.term < seen.now_term:
            raise Violation(f"{node.name}: term went from {seen.now_term} to {server.term}")
        seen.now_term = server.term
        if server.is_leader() and seen.leading != server.term:
            self._elected(node)
        storage = parts.raft_storage
        last = storage.last_index()
        if seen.last != (last, storage.term(last)):
            self._note_log(node)
        commit = server.committed_index
        if commit < seen.commit:
            raise Violation(f"{node.name}: commit index went from {seen.commit} to {commit}")
        seen.commit = commit
        if server.applied_index != seen.applied:
            self._note_applied(node)
        if commit > self.commit:
            self._note_commit(node, commit)
        seen.voters = list(parts.node.raft.tracker.config.voters)

    def _elected(self, node: Node) -> None:
        server, parts = node.server, node.parts
        assert server is not None
        assert parts is not None
        term = server.term
        other = self.leaders.setdefault(term, node.name)
        if other != node.name:
            raise Violation(f"term {term} has two leaders, {other} and {node.name}")
        node.seen.leading = term
        self.world.say(f"{node.name} leads in term {term}")
        if term < max(self.leaders):
            return  # it was elected late: what later leaders committed is not its business
        log = parts.node.raft.log
        index = len(self.committed) - 1
        found = log.term(index)
        if index > 0 and index > log.last_index():
            raise Violation(f"{node.name} leads in term {term} without committed entry {index}")
        if found > 0 and found != self.committed[index][0]:
            raise Violation(f"{node.name} leads in term {term} with another entry {index}")

    def _note_log(self, node: Node) -> None:
        assert node.parts is not None
        storage = node.parts.raft_storage
        seen = node.seen
        last = storage.last_index()
        first = storage.first_index()
        seen.last = (last, storage.term(last))
        low = last
        while low >= first and seen.terms.get(low, 0) != storage.term(low):
            low -= 1
        if low + 1 > last:
            return
        for entry in storage.entries(low + 1, last + 1, NO_LIMIT):
            seen.terms[entry.index] = entry.term
            self._note_entry(node, entry, storage.term(entry.index - 1))

    def _note_entry(self, node: Node, entry: Entry, before: int) -> None:
        key = (entry.index, entry.term)
        known = self.entries.get(key)
        crc = zlib.crc32(entry.data or b"", entry.type)
        if known is None:
            self.entries[key] = (crc, before)
            self.appended[key] = self.world.clock.now_ns
        elif known[0] != crc or (before > 0 and known[1] > 0 and known[1] != before):
            raise Violation(f"{node.name}: entry {entry.index} of term {entry.term} differs from another member's")

    def _note_applied(self, node: Node) -> None:
        server, parts, seen = node.server, node.parts, node.seen
        assert server is not None
        assert parts is not None
        applied = server.applied_index
        if applied < seen.applied:
            raise Violation(f"{node.name}: applied index went from {seen.applied} to {applied}")
        storage = parts.raft_storage
        low = seen.applied + 1
        if low < storage.first_index():
            low = storage.first_index()
            self.snapshots_installed += 1
        seen.applied = applied
        if low <= applied:
            for entry in storage.entries(low, applied + 1, NO_LIMIT):
                self._compare(node, entry)
        if applied != server.consistent_index:
            return  # it replays what its database has already
        self._compare_state(node, applied)

    def _compare(self, node: Node, entry: Entry) -> None:
        crc = zlib.crc32(entry.data or b"", entry.type)
        index = entry.index
        if index == len(self.committed):
            self.committed.append((entry.term, crc))
            now_ns = self.world.clock.now_ns
            applied = self.model.apply(index, entry.term, entry.data or b"", entry.type == ENTRY_NORMAL, now_ns)
            self.world.applied(applied)
        elif index > len(self.committed):
            raise Violation(f"{node.name} applied entry {index}, nobody applied {len(self.committed)}")
        elif self.committed[index] != (entry.term, crc):
            raise Violation(f"{node.name} applied another entry {index} (term {entry.term}) than others")

    def _compare_state(self, node: Node, index: int) -> None:
        assert node.parts is not None
        store = node.parts.store
        state = (store.current_rev, store.compact_rev, len(node.parts.lessor.leases()))
        expected = self.model.states[index]
        if state != expected:
            raise Violation(f"{node.name} at index {index}: revision, compaction, leases {state}, should be {expected}")

    def _note_commit(self, node: Node, commit: int) -> None:
        self.commit = commit
        if commit <= self.world.plan.members:
            return  # the first entries are committed by definition
        if self.rng.random() < self.sample and self.world.clock.now_ns >= self._durable_next_ns:
            self._durable_next_ns = self.world.clock.now_ns + _DURABLE_GAP_NS
            self._check_durable(node, commit)

    def _check_durable(self, node: Node, index: int) -> None:
        """See that a quorum has an entry on its platters."""
        assert node.parts is not None
        log = node.parts.node.raft.log
        term = log.term(index)
        # The entry may have been applied already, and be the very change of the configuration that it was not under.
        configurations = (list(node.parts.node.raft.tracker.config.voters), node.seen.voters)
        names = {name for voters in configurations for name in map(self.world.name_of, voters) if name}
        have = [name for name in sorted(names) if self._has_durable(self.world.nodes[name], index, term)]
        self.durable_checks += 1
        if not any(
            _is_quorum(voters, [self.world.nodes[name].member_id for name in have]) for voters in configurations
        ):
            raise Violation(f"{node.name} committed entry {index} (term {term}), durable on {have} only")

    def _has_durable(self, node: Node, index: int, term: int) -> bool:
        wal_dir = "d/member/wal"
        copy = node.disk.durable_copy(wal_dir)
        return durable_term(copy, wal_dir, index) in (term, -1)


def _is_quorum(voters: list[int], members: list[int]) -> bool:
    return sum(member in members for member in voters) > len(voters) // 2


def durable_term(disk: SimDisk, wal_dir: str, index: int) -> int:
    """Return the term of an entry in a write-ahead log, 0 when it is not there, -1 when a snapshot covers it."""
    from quorate.ports import NullLog

    log = NullLog()
    if not disk.list_dir(wal_dir):
        return 0
    snapshots = valid_snapshots(disk, wal_dir, log)
    start = snapshots[-1] if snapshots else WalSnapshot()
    if start.index >= index:
        return -1
    wal, contents = Wal.open(disk, wal_dir, start, log, WalOptions())
    wal.close()
    for entry in contents.entries:
        if entry.index == index:
            return entry.term
    return 0
