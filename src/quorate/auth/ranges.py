r"""What a set of granted key ranges covers, when it is seen as one.

Grants and questions have etcd's form: (key, b"") is one key, (key, b"\0") everything from the key on, (key, end) the
half-open range. Two grants that touch cover what lies across them: [a, c) and [c, e) cover [a, e).

    grants        (b"a", b"c") (b"c", b"e") (b"x", b"")
    covers        b"b" yes   b"a".."e" yes   b"d".."f" no   b"x" yes   b"x" from on: no

Contract: immutable after construction; `covers` is O(log n). A question whose end is not behind its key asks for
nothing; it is answered as for its key, so that nobody learns or changes anything by it. A grant of that kind, which
etcd before 3.5.8 let pass, and one of an empty key cover nothing.
Source: etcd's server/auth/range_perm_cache.go and pkg/adt/interval_tree.go.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

FROM_KEY: Final = b"\0"
_NO_END: Final = b""


class RangeSet:
    """The union of some ranges, as sorted intervals that do not touch."""

    def __init__(self, grants: Iterable[tuple[bytes, bytes]]) -> None:
        self._starts: list[bytes] = []
        self._ends: list[bytes] = []
        for start, end in sorted(grants):
            if end == FROM_KEY:
                end = _NO_END
            elif not end:
                end = start + b"\0"
            elif end <= start:
                continue
            if start:
                self._add(start, end)

    def _add(self, start: bytes, end: bytes) -> None:
        """Add the next interval in order of the starts; an empty end is behind every key."""
        ends = self._ends
        if not ends or (ends[-1] != _NO_END and ends[-1] < start):
            self._starts.append(start)
            ends.append(end)
        elif ends[-1] != _NO_END and (end == _NO_END or end > ends[-1]):
            ends[-1] = end

    def covers(self, key: bytes, end: bytes) -> bool:
        """Tell whether every key of the range is granted."""
        place = bisect_right(self._starts, key) - 1
        if place < 0:
            return False
        limit = self._ends[place]
        if limit == _NO_END:
            return True
        if end == FROM_KEY:
            return False
        return key < limit and end <= limit


def valid_grant(key: bytes, end: bytes) -> bool:
    """Tell whether a range may be granted: one key, a range that is not empty, or all from a key on."""
    return bool(key) and (not end or end > key or end == FROM_KEY)
