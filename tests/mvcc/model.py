"""The slow twin: a store that keeps the list of all changes and looks everything up by walking it."""

from __future__ import annotations

from typing import NamedTuple

from tests.mvcc.fakes import Fields


class Event(NamedTuple):
    main: int
    sub: int
    key: bytes
    fields: Fields | None  # None: deleted


class RefusedError(Exception):
    """What etcd answers with an error, as one word."""


def in_range(key: bytes, start: bytes, end: bytes) -> bool:
    if end == b"":
        return key == start
    if end == b"\x00":
        return key >= start
    return start <= key < end


class Model:
    def __init__(self) -> None:
        self.log: list[Event] = []
        self.rev = 1
        self.compact_rev = -1
        self.sub = 0  # in the transaction under way
        self.leases: dict[bytes, int] = {}

    def state(self, rev: int) -> dict[bytes, Fields]:
        state: dict[bytes, Fields] = {}
        for event in self.log:
            if event.main <= rev:
                if event.fields is None:
                    state.pop(event.key)
                else:
                    state[event.key] = event.fields
        return dict(sorted(state.items()))

    def now(self) -> int:
        return self.rev + (self.sub > 0)

    def range(self, key: bytes, end: bytes, rev: int, limit: int) -> tuple[list[Fields], int, int]:
        if rev > self.now():
            raise RefusedError("future")
        if rev <= 0:
            rev = self.now()
        if rev < self.compact_rev:
            raise RefusedError("compacted")
        found = [fields for name, fields in self.state(rev).items() if in_range(name, key, end)]
        return (found[:limit] if limit > 0 else found), len(found), self.now()

    def put(self, key: bytes, value: bytes, lease: int) -> Fields | None:
        before = self.state(self.now()).get(key)
        main = self.rev + 1
        create, version = (before[1], before[3] + 1) if before else (main, 1)
        self.log.append(Event(main, self.sub, key, (key, create, main, version, value, lease)))
        self.sub += 1
        self.leases.pop(key, None)
        if lease:
            self.leases[key] = lease
        return before

    def delete_range(self, key: bytes, end: bytes) -> list[Fields]:
        found = self.range(key, end, 0, 0)[0]
        for fields in found:
            self.log.append(Event(self.rev + 1, self.sub, fields[0], None))
            self.sub += 1
            self.leases.pop(fields[0], None)
        return found

    def end(self) -> None:
        self.rev += self.sub > 0
        self.sub = 0

    def compact(self, rev: int) -> None:
        if rev <= self.compact_rev:
            raise RefusedError("compacted")
        if rev > self.rev:
            raise RefusedError("future")
        self.compact_rev = rev

    def kept(self) -> list[Event]:
        """Return what a finished compaction leaves."""
        latest: dict[bytes, Event] = {}
        for event in self.log:
            if event.main <= self.compact_rev:
                latest[event.key] = event
        kept = {
            (event.main, event.sub)
            for event in latest.values()
            if event.fields is not None or event.main == self.compact_rev
        }
        return [event for event in self.log if event.main > self.compact_rev or (event.main, event.sub) in kept]

    def events(self, key: bytes, end: bytes, start: int) -> list[tuple[str, Fields, Fields | None]]:
        """Return what a watcher from `start` sees, with the previous KeyValues (compaction aside)."""
        seen: list[tuple[str, Fields, Fields | None]] = []
        for event in self.log:
            if event.main < start or not in_range(event.key, key, end):
                continue
            prev = self.state(event.main - 1).get(event.key)
            if event.fields is None:
                seen.append(("delete", (event.key, 0, event.main, 0, b"", 0), prev))
            else:
                created = event.fields[1] == event.main
                seen.append(("put", event.fields, None if created else prev))
        return seen
