"""Answers to ranges, kept for clients that are content with what is not the newest (serializable ones).

An answer goes when the proxy passes on a change of a key in its range; changes that take other ways are not seen, which
is what a client accepts. Unlike etcd's, the cache gives nobody what another user was answered, and keeps no answer that
a change has overtaken. Source: etcd's server/proxy/grpcproxy/cache/store.go.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from quorate.proto.rpc_pb2 import RangeRequest

MAX_ENTRIES: Final = 2048

Name = tuple[bytes, bytes]
"""Who asked, and the request, encoded."""

Span = tuple[bytes, bytes]


def name_of(token: bytes, request: RangeRequest) -> Name:
    """Return what a range's answer is kept by; whether it is serializable does not matter."""
    plain = RangeRequest()
    plain.CopyFrom(request)
    plain.serializable = True
    return token, plain.SerializeToString(deterministic=True)


class Cache:
    """The answers, the least recently used ones first to go."""

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self.hits = 0
        self.misses = 0
        self.changes = 0
        """How often something was invalidated: an answer from before that is not to be added after it."""

        self.compacted_revision = -1
        self._max = max_entries
        self._answers: OrderedDict[Name, tuple[bytes, Span | None]] = OrderedDict()
        self._points: dict[bytes, set[Name]] = {}
        self._spans: dict[Span, set[Name]] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def add(self, name: Name, request: RangeRequest, answer: bytes) -> None:
        """Keep an answer."""
        if 0 < request.revision <= self.compacted_revision:
            return
        self._remove(name)
        span = None if request.revision else (request.key, request.range_end)
        self._answers[name] = (answer, span)
        if span is not None:
            if span[1]:
                self._spans.setdefault(span, set()).add(name)
            else:
                self._points.setdefault(span[0], set()).add(name)
        if len(self._answers) > self._max:
            self._remove(next(iter(self._answers)))

    def get(self, name: Name) -> bytes | None:
        """Return a kept answer."""
        found = self._answers.get(name)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._answers.move_to_end(name)
        return found[0]

    def compacted(self, request: RangeRequest) -> bool:
        """Tell whether we know that a range's revision is gone."""
        if 0 < request.revision < self.compacted_revision:
            self.hits += 1
            return True
        return False

    def compact(self, revision: int) -> None:
        """Know that older revisions are gone."""
        self.compacted_revision = max(self.compacted_revision, revision)

    def invalidate(self, key: bytes, end: bytes) -> None:
        """Drop what a change of a key, or of any key of a range, makes wrong."""
        self.changes += 1
        gone: list[Name] = []
        if not end:
            gone += self._points.get(key, ())
        else:
            for point, names in self._points.items():
                if _within(point, key, end):
                    gone += names
        for (start, stop), names in self._spans.items():
            if _within(key, start, stop) if not end else _overlap(start, stop, key, end):
                gone += names
        for name in gone:
            self._remove(name)

    def _remove(self, name: Name) -> None:
        found = self._answers.pop(name, None)
        if found is None or found[1] is None:
            return
        span = found[1]
        names = self._spans.get(span) if span[1] else self._points.get(span[0])
        if names is not None:
            names.discard(name)
            if not names:
                if span[1]:
                    del self._spans[span]
                else:
                    del self._points[span[0]]


def _within(key: bytes, start: bytes, end: bytes) -> bool:
    return start <= key and (end == b"\0" or key < end)


def _overlap(start: bytes, end: bytes, other_start: bytes, other_end: bytes) -> bool:
    return (other_end == b"\0" or start < other_end) and (end == b"\0" or other_start < end)
