"""What a watcher must be sent: exactly the events of its range, each revision whole, in order, once.

For each watcher the log says what it should have heard from its first revision on. What it was sent must be a beginning
of that (ordered, unique, atomic, reliable, filtered); an announced revision must have everything up to it before it
(bookmarkable); a watcher whose stream lives at the end has heard everything; successors begin where predecessors ended
(resumable), as watchers of their own. The previous value may be missing only where it had been compacted.
"""

from __future__ import annotations

from quorate.proto.kv_pb2 import Event, KeyValue
from quorate.proto.rpc_pb2 import WatchCreateRequest
from quorate.sim.history import History, Received, Watched
from quorate.sim.model import Model, within
from quorate.sim.watchers import Stream


def check_watches(model: Model, history: History, streams: list[Stream], members: list[str]) -> list[str]:
    """Return what is wrong. Only members of the cluster can tell everything; a removed one may not even know."""
    problems = []
    for watched in history.watches:
        replay = _Replay(model, watched)
        problem = replay.run() or (replay.rest() if watched.node in members else "")
        if problem:
            problems.append(f"{problem}: {watched!r}")
    for stream in streams:
        if stream.node.name in members and not stream.over and not stream.rpc.broken and stream.waiting():
            problems.append(f"a watch of {stream.client.name}@{stream.node.name} was never created")
    return problems


class _Replay:
    """One watcher against the log."""

    def __init__(self, model: Model, watched: Watched) -> None:
        self.model = model
        self.watched = watched
        self.next = 0  # place in `expected`
        self.expected = self._expected() if watched.start_rev else []

    def _expected(self) -> list[tuple[int, list[Event]]]:
        request = self.watched.request
        found = []
        for rev in range(max(2, self.watched.start_rev), self.model.rev + 1):
            events = [event for event in self.model.events[rev] if wanted(request, event)]
            if events:
                found.append((rev, events))
        return found

    def run(self) -> str:
        for received in self.watched.received:
            problem = self._events(received) if received.events else self._announced(received)
            if problem:
                return problem
        return self._ending()

    def _events(self, received: Received) -> str:
        groups: list[tuple[int, list[Event]]] = []
        for event in received.events:
            rev = event.kv.mod_revision
            if not groups or groups[-1][0] != rev:
                groups.append((rev, []))
            groups[-1][1].append(event)
        for rev, events in groups:
            if self.next >= len(self.expected):
                return f"events at {rev} after the last one"
            due, wanted_events = self.expected[self.next]
            if rev != due:
                return f"events at {rev} instead of {due}"
            self.next += 1
            problem = self._compare(rev, events, wanted_events, received.when_ns)
            if problem:
                return problem
        last = groups[-1][0]
        return "" if received.rev >= last else f"a header of {received.rev} over events at {last}"

    def _compare(self, rev: int, events: list[Event], expected: list[Event], when_ns: int) -> str:
        if len(events) != len(expected):
            return f"{len(events)} events at {rev}, should be {len(expected)}"
        if self.model.by_rev[rev].when_ns > when_ns:
            return f"events at {rev} before they happened"
        for event, other in zip(events, expected, strict=True):
            if event.type != other.type or event.kv != other.kv:
                return f"event {_line(event)}, should be {_line(other)}"
            problem = self._compare_previous(event, other, rev, when_ns)
            if problem:
                return problem
        return ""

    def _compare_previous(self, event: Event, other: Event, rev: int, when_ns: int) -> str:
        if not event.HasField("prev_kv"):
            if not self.watched.request.prev_kv or not other.HasField("prev_kv"):
                return ""
            gone = any(compacted >= rev - 1 and at_ns <= when_ns for compacted, at_ns in self.model.compactions)
            return "" if gone else f"no previous value at {rev}"
        if not self.watched.request.prev_kv:
            return f"a previous value at {rev} that nobody asked for"
        expected = other.prev_kv if other.HasField("prev_kv") else KeyValue()
        return "" if event.prev_kv == expected else f"the previous value at {rev} should be {expected}"

    def _announced(self, received: Received) -> str:
        if self.next < len(self.expected) and self.expected[self.next][0] <= received.rev:
            return f"{received.rev} was announced before the events at {self.expected[self.next][0]}"
        if self.next and received.rev < self.expected[self.next - 1][0]:
            return f"{received.rev} was announced after the events at {self.expected[self.next - 1][0]}"
        if received.rev < self.watched.request.start_revision:
            return f"{received.rev} was announced before its first revision"
        return ""

    def _ending(self) -> str:
        watched = self.watched
        if watched.compacted:
            times = [at_ns for rev, at_ns in self.model.compactions if rev == watched.compacted]
            if not times or times[0] > watched.compacted_ns:
                return f"ended by a compaction at {watched.compacted} that never was"
            if watched.compacted <= watched.start_rev:
                return f"ended by a compaction at {watched.compacted}"
        return ""

    def rest(self) -> str:
        """Return what it should have heard of at the end, "" when it has, or is over."""
        if self.watched.alive and self.next < len(self.expected):
            return f"never heard of {self.expected[self.next][0]} and later"
        return ""


def wanted(request: WatchCreateRequest, event: Event) -> bool:
    """Tell whether an event is in a watcher's range and passes its filters."""
    if not within(event.kv.key, request.key, request.range_end):
        return False
    dropped = WatchCreateRequest.NOPUT if event.type == Event.PUT else WatchCreateRequest.NODELETE
    return dropped not in request.filters


def _line(event: Event) -> str:
    return " ".join(str(event).split())
