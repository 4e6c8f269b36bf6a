"""From what a database holds to the key index, in steps: at a start one after the other, from a snapshot between turns.

    key bucket, ascending -> index.load -> which lease each key has          some revisions a step
    the keys of the index -> sorted runs -> two sets, of live and dead keys  some keys a step; runs are merged pairwise

Above the last compaction (1: none) no revision may be missing, and each must follow what its key was before: bolt's
pages have no checksums, and this is what shows that some of them are lost, old or changed.
"""

from __future__ import annotations

from typing import Final

from quorate.errors import CorruptError
from quorate.mvcc.compaction import read_meta_revision
from quorate.mvcc.key_index import KeyIndex
from quorate.mvcc.needs import KEY_BUCKET, Rows
from quorate.mvcc.record import key_value_fields
from quorate.mvcc.revision import check_key, is_tombstone, main_of, revision_key, sub_of

_LAST_KEY: Final = b"\x7f" + b"\xff" * 17
_RUN: Final = 1 << 16


class Loading:
    """An index in the making. The results are there once `step` has returned False."""

    def __init__(self, source: Rows) -> None:
        self.finished = read_meta_revision(source, b"finishedCompactRev")
        self.scheduled = read_meta_revision(source, b"scheduledCompactRev")
        self.index = KeyIndex()
        self.leases: dict[bytes, int] = {}
        self.current_rev = 1
        self._source = source
        self._compacted = max(self.finished, self.scheduled, 1)
        self._main = 0
        self._sub = 0
        self._start: bytes = revision_key(1, 0)
        self._read = False
        self._names: list[bytes] = []
        self._sorted = 0  # of the names
        self._live = _Runs()
        self._dead = _Runs()

    def step(self, limit: int) -> bool:
        """Go on by at most `limit` revisions, or a part of the sorting; return False when all is done.

        Raises CorruptError when the bucket holds something that is not a record, or not the next one.
        """
        if not self._read:
            rows = self._source.range(KEY_BUCKET, self._start, _LAST_KEY, limit)
            self._add(rows)
            if len(rows) == limit:
                self._start = rows[-1][0] + b"\x00"
                return True
            self._read = True
            self.current_rev = max(self._main, self.finished, self.scheduled, 1)
            self._names = list(self.index.entries)
            return True
        if self._sorted < len(self._names):
            live, dead = self.index.part(self._names[self._sorted : self._sorted + _RUN])
            self._sorted += _RUN
            self._live.add(live)
            self._dead.add(dead)
            return True
        if self._live.merge() or self._dead.merge():
            return True
        self._names = []
        self.index.finish_sorted(self._live.result(), self._dead.result(), self.current_rev)
        return False

    def run(self, limit: int) -> None:
        """Make all steps at once."""
        while self.step(limit):
            pass

    def _add(self, rows: list[tuple[bytes, bytes]]) -> None:
        index, leases, compacted = self.index, self.leases, self._compacted
        main, sub = self._main, self._sub
        for revision, record in rows:
            check_key(revision)
            before, main, sub_before, sub = main, main_of(revision), sub, sub_of(revision)
            dead = is_tombstone(revision)
            try:
                key, create, mod, version, _, lease = key_value_fields(record)
            except ValueError as error:
                raise CorruptError("db", -1, f"revision {revision.hex()}: {error}") from error
            follows = index.load(key, main, sub, dead, create, version)
            if main > compacted:
                if main == before:
                    whole = sub == sub_before + 1
                else:
                    whole = sub == 0 and main == (before if before > compacted else compacted) + 1
                if not whole:
                    text = f"it follows {before}/{sub_before}: what is between them is lost"
                    raise CorruptError("db", -1, f"revision {main}/{sub}: {text}")
                if not follows or mod != (0 if dead else main):
                    text = f"its record, version {version} of {create}, is not what follows for its key"
                    raise CorruptError("db", -1, f"revision {main}/{sub}: {text}")
            elif mod != main and not dead and record:
                raise CorruptError("db", -1, f"revision {main}/{sub}: its record is of revision {mod}")
            if lease != 0:
                leases[key] = lease
            elif leases:
                leases.pop(key, None)
        self._main, self._sub = main, sub


class _Runs:
    """Sorted lists that become one, a merge of two at a time."""

    def __init__(self) -> None:
        self._runs: list[list[bytes]] = []

    def add(self, keys: list[bytes]) -> None:
        """Add keys, in any order."""
        if keys:
            keys.sort()
            self._runs.append(keys)

    def merge(self) -> bool:
        """Merge the two shortest runs; False when there are no two."""
        runs = self._runs
        if len(runs) < 2:
            return False
        runs.sort(key=len, reverse=True)
        merged = runs.pop()
        merged += runs.pop()
        merged.sort()  # which sees that it is two sorted runs
        runs.append(merged)
        return True

    def result(self) -> list[bytes]:
        """Return all keys, sorted."""
        return self._runs[0] if self._runs else []
