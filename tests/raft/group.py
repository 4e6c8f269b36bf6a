"""A few members on a perfect network, for tests that say exactly what happens."""

from __future__ import annotations

from quorate.raft import codec
from quorate.raft.core import Config, ProposalDropped
from quorate.raft.node import RawNode, Ready, StepError
from quorate.raft.read_only import ReadState
from quorate.raft.storage import MemoryStorage
from quorate.raft.types import ConfState, Entry, HardState, Message, Snapshot


def storage_with(
    entries: list[Entry], voters: list[int], state: HardState | None = None, learners: list[int] | None = None
) -> MemoryStorage:
    """Return storage with a snapshot at 1/1 and the entries behind it."""
    storage = MemoryStorage()
    storage.apply_snapshot(Snapshot(None, 1, 1, ConfState(voters, learners or [])))
    storage.append(entries)
    storage.set_hard_state(state or HardState(0, 0, 1))
    return storage


class Member:
    """A member that writes at once and applies whatever is committed."""

    def __init__(self, id: int, storage: MemoryStorage, **options: object) -> None:
        self.id = id
        self.storage = storage
        self.config = Config(id, storage, lambda _bound: 0, applied=1, **options)  # type: ignore[arg-type]
        self.node = RawNode(self.config)
        self.raft = self.node.raft
        self.applied: list[Entry] = []
        self.reads: list[ReadState] = []

    def store(self, ready: Ready) -> None:
        if ready.snapshot is not None:
            self.storage.apply_snapshot(ready.snapshot)
        if ready.hard_state is not None:
            self.storage.set_hard_state(ready.hard_state)
        self.storage.append(ready.entries)

    def work(self) -> list[Message]:
        """Handle Readys until there are none; returns the messages."""
        messages: list[Message] = []
        while self.node.has_ready():
            ready = self.node.ready()
            self.store(ready)
            messages += ready.messages
            self.reads += ready.read_states
            for entry in ready.committed_entries:
                self.applied.append(entry)
                if entry.type == 1:
                    self.node.apply_conf_change(codec.decode_conf_change(entry.data or b""))
                elif entry.type == 2:
                    self.node.apply_conf_change(codec.decode_conf_change_v2(entry.data or b""))
            self.node.advance(ready)
        return messages

    def step(self, message: Message) -> list[Message]:
        self.node.step(message)
        return self.work()


class Group:
    """Members that hear each other at once, as far as they are not isolated."""

    def __init__(self, count: int, learners: list[int] | None = None, **options: object) -> None:
        voters = [id for id in range(1, count + 1) if id not in (learners or [])]
        self.members = {
            id: Member(id, storage_with([], voters, learners=learners), **options) for id in range(1, count + 1)
        }
        self.isolated: set[int] = set()
        self.dropped: list[Message] = []
        self.delivered: list[Message] = []

    def __getitem__(self, id: int) -> Member:
        return self.members[id]

    def settle(self) -> None:
        """Deliver until nobody has anything to say."""
        queue: list[Message] = []
        while True:
            for member in self.members.values():
                queue += member.work()
            if not queue:
                return
            message = queue.pop(0)
            if message.frm in self.isolated or message.to in self.isolated or message.to not in self.members:
                self.dropped.append(message)
                continue
            self.delivered.append(message)
            try:
                self.members[message.to].node.step(message)
            except (ProposalDropped, StepError):
                pass

    def elect(self, id: int) -> None:
        self.members[id].node.campaign()
        self.settle()

    def tick(self, id: int, count: int) -> None:
        for _ in range(count):
            self.members[id].node.tick()
            self.settle()
