"""The key index: which revisions each key has, in memory (etcd: server/storage/mvcc/key_index.go, index.go).

Every record of the `key` bucket has its revision here, and nothing else is here. A key's revisions fall into
generations: a tombstone ends one, the next put begins another. etcd keeps them as nested lists; all that reads need
from them is one rule, so we keep a flat history and the rule:

    a key exists at R  iff  its latest revision with main <= R is a put,  and that revision is the one to read

    put 2, put 4, delete 6, put 8          at 1: -    2,3: 2    4,5: 4    6,7: -    8..: 8

The current generation's create_revision and version stand beside the latest revision, for the next put.

Two forms of a key's entry, because most keys are written once or seldom and there may be millions:
    int       the key has one revision: a put at (main, 0) that created it. Nothing but its main revision is kept.
    History   anything else. Earlier revisions are packed, 16 bytes each.
Neither is an object that Python's cyclic collector tracks (History when compiled), nor is the dictionary that holds
them, so a collection does not walk the key space; only the sorted lists' pointers remain (see sorted_keys).

Live keys and deleted ones that still have history stand in two ordered sets. At the current revision a count is a
difference of ranks and a page is a slice. At an older revision R a page walks both sets from its start and stops when
it is full. The count there is today's count, put right by the keys that were born or died in the range since R:
`_flips` logs the latest 65,536 or more of those, and it is what keeps the later pages of a list as cheap as the
first. Where the log does not reach back far enough the range is walked.
"""

from __future__ import annotations

from bisect import bisect_left
from struct import Struct
from typing import Final

from mypy_extensions import mypyc_attr

from quorate.mvcc.sorted_keys import SortedKeys

FLIP_LOG_MIN: Final = 65536
_WALK_STEP_MAX: Final = 1024

# An earlier revision: main, and sub * 2 + 1 for a tombstone or sub * 2 for a put.
_REVISION: Final = Struct("<QQ")
_MAIN: Final = Struct("<Q")
_SIZE: Final = 16


@mypyc_attr(acyclic=True)
class History:
    """The revisions of one key; `main`, `sub` and `dead` describe the latest."""

    def __init__(self, create: int, version: int, main: int, sub: int, dead: bool) -> None:
        self.main = main
        self.sub = sub
        self.dead = dead
        self.create = create  # of the current generation; meaningless when dead
        self.version = version
        self.older: bytearray | None = None  # packed, ascending

    def push(self, main: int, sub: int, dead: bool) -> None:
        """Make (main, sub) the latest revision."""
        packed = _REVISION.pack(self.main, self.sub * 2 + 1 if self.dead else self.sub * 2)
        if self.older is None:
            self.older = bytearray(packed)
        else:
            self.older += packed
        self.main = main
        self.sub = sub
        self.dead = dead

    def latest(self, rev: int) -> tuple[int, int]:
        """Return main and sub * 2 (+ 1 for a tombstone) of the latest revision with main <= rev, or (0, 0)."""
        if self.main <= rev:
            return self.main, self.sub * 2 + 1 if self.dead else self.sub * 2
        older = self.older
        if older is None:
            return 0, 0
        place = self._count_up_to(older, rev)
        if place == 0:
            return 0, 0
        main, packed_sub = _REVISION.unpack_from(older, (place - 1) * _SIZE)
        return main, packed_sub

    def forget(self, rev: int) -> int:
        """Compact at `rev` and return how many revisions remain: see KeyIndex.compact."""
        older = self.older
        if older is None:
            return 0 if self.dead and self.main < rev else 1
        if self.main <= rev:
            self.older = None
            return 0 if self.dead and self.main < rev else 1
        place = self._count_up_to(older, rev)
        if place > 0:
            main, packed_sub = _REVISION.unpack_from(older, (place - 1) * _SIZE)
            if packed_sub & 1 == 0 or main == rev:
                place -= 1
            if place * _SIZE == len(older):
                self.older = None
                return 1
            self.older = older[place * _SIZE :]
            return 1 + len(self.older) // _SIZE
        return 1 + len(older) // _SIZE

    def _count_up_to(self, older: bytearray, rev: int) -> int:
        """Return how many of the earlier revisions have main <= rev."""
        low = 0
        high = len(older) // _SIZE
        while low < high:
            middle = (low + high) // 2
            main: int = _MAIN.unpack_from(older, middle * _SIZE)[0]
            if main <= rev:
                low = middle + 1
            else:
                high = middle
        return low


class KeyIndex:
    """All keys and their revisions. An `end` of b"" means: no upper bound. Revisions only ever grow."""

    def __init__(self) -> None:
        self.entries: dict[bytes, int | History] = {}
        self.live = SortedKeys()
        self.dead = SortedKeys()
        self._flips: list[int] = []  # main * 2 + 1 where a key was born, main * 2 where one died; mains ascend
        self._flip_keys: list[bytes] = []
        self._flips_since = 0  # the log is complete for what happened after this main revision

    # Writing

    def put(self, key: bytes, main: int, sub: int) -> tuple[int, int]:
        """Add a put. Return the record's create_revision and version."""
        entry = self.entries.get(key)
        if entry is None:
            self.entries[key] = main if sub == 0 else History(main, 1, main, sub, False)
            self._born(key, main)
            return main, 1
        if isinstance(entry, int):
            history = History(entry, 2, entry, 0, False)
            self.entries[key] = history
        else:
            history = entry
            if history.dead:
                history.create = main
                history.version = 1
                self.dead.remove(key)
                self._born(key, main)
            else:
                history.version += 1
        history.push(main, sub, False)
        return history.create, history.version

    def tombstone(self, key: bytes, main: int, sub: int) -> None:
        """Add a deletion of a key that exists."""
        entry = self.entries[key]
        if isinstance(entry, int):
            history = History(entry, 1, entry, 0, False)
            self.entries[key] = history
        else:
            history = entry
            assert not history.dead, key
        history.push(main, sub, True)
        self.live.remove(key)
        self.dead.add(key)
        self._log_flip(key, main * 2)

    def compact(self, key: bytes, rev: int) -> None:
        """Forget the key's revisions that no read at `rev` or later needs.

        Of those with main <= rev the latest stays if it is a put, or a tombstone exactly at rev. Harmless when it has
        been done, or for a key that is not there.
        """
        entry = self.entries.get(key)
        if entry is None or isinstance(entry, int):
            return
        remaining = entry.forget(rev)
        if remaining == 0:
            del self.entries[key]
            self.dead.remove(key)
        elif remaining == 1 and not entry.dead and entry.version == 1 and entry.sub == 0 and entry.create == entry.main:
            self.entries[key] = entry.main

    # Reading

    def current(self, key: bytes) -> tuple[int, int]:
        """Return the (main, sub) to read the key at now, (0, 0) when it does not exist."""
        entry = self.entries.get(key)
        if entry is None:
            return 0, 0
        if isinstance(entry, int):
            return entry, 0
        if entry.dead:
            return 0, 0
        return entry.main, entry.sub

    def at(self, key: bytes, rev: int) -> tuple[int, int]:
        """Return the (main, sub) to read the key at `rev`, (0, 0) when it does not exist then."""
        entry = self.entries.get(key)
        if entry is None:
            return 0, 0
        if isinstance(entry, int):
            return (entry, 0) if entry <= rev else (0, 0)
        main, packed_sub = entry.latest(rev)
        if packed_sub & 1:
            return 0, 0
        return main, packed_sub >> 1

    def keeps(self, key: bytes, main: int, sub: int, rev: int) -> bool:
        """Tell whether a compaction at `rev` keeps the key's revision (main, sub), which is not above `rev`."""
        entry = self.entries.get(key)
        if entry is None:
            return False
        if isinstance(entry, int):
            return entry == main and sub == 0
        latest, packed_sub = entry.latest(rev)
        return latest == main and packed_sub >> 1 == sub and (packed_sub & 1 == 0 or main == rev)

    def revisions(self, key: bytes) -> list[tuple[int, int, bool]]:
        """Return all of the key's revisions as (main, sub, is tombstone), ascending. For tests and inspection."""
        entry = self.entries.get(key)
        if entry is None:
            return []
        if isinstance(entry, int):
            return [(entry, 0, False)]
        packed = list(_REVISION.iter_unpack(entry.older)) if entry.older is not None else []
        result = [(main, packed_sub >> 1, packed_sub & 1 == 1) for main, packed_sub in packed]
        result.append((entry.main, entry.sub, entry.dead))
        return result

    def page_at(self, start: bytes, end: bytes, rev: int, limit: int) -> list[tuple[bytes, int, int]]:
        """Return (key, main, sub) of the first `limit` keys of [start, end) that exist at `rev`; 0 means all."""
        result: list[tuple[bytes, int, int]] = []
        step = min(limit, _WALK_STEP_MAX) if limit > 0 else _WALK_STEP_MAX
        cursor = start
        while True:
            keys = self._walk(cursor, end, step)
            for key in keys:
                main, sub = self.at(key, rev)
                if main:
                    result.append((key, main, sub))
                    if len(result) == limit:
                        return result
            if not keys:
                return result
            cursor = keys[-1] + b"\x00"
            step = min(step * 2, _WALK_STEP_MAX)

    def count_at(self, start: bytes, end: bytes, rev: int) -> int:
        """Return how many keys of [start, end) exist at `rev`."""
        now = self.live.count(start, end)
        first = bisect_left(self._flips, (rev + 1) * 2)
        if rev >= self._flips_since and len(self._flips) - first <= now + self.dead.count(start, end):
            return now - self._net_births(start, end, first)
        return len(self.page_at(start, end, rev, 0))

    def any_at(self, rev: int) -> bool:
        """Tell whether any key exists at `rev`."""
        return len(self.page_at(b"", b"", rev, 1)) > 0

    # Loading

    def load(self, key: bytes, main: int, sub: int, dead: bool, create: int, version: int) -> bool:
        """Add a revision found on disk, in ascending order; `finish_loading` makes the index usable.

        Return False when it does not follow what came before it. A key's first revision may be any, if there was a
        compaction; else it is version 1, created just then.
        """
        entry = self.entries.get(key)
        first = not dead and create == main and version == 1
        if entry is None:
            if first and sub == 0:
                self.entries[key] = main
            else:
                self.entries[key] = History(create, version, main, sub, dead)
            return first
        if isinstance(entry, int):
            history = History(entry, 1, entry, 0, False)
            self.entries[key] = history
        else:
            history = entry
        if history.dead:
            follows = first
        else:
            follows = dead or (create == history.create and version == history.version + 1)
        history.push(main, sub, dead)
        history.create = create
        history.version = version
        return follows

    def finish_loading(self, rev: int) -> None:
        """Build the ordered sets; `rev` is the store's current revision."""
        live, dead = self.part(list(self.entries))
        live.sort()
        dead.sort()
        self.finish_sorted(live, dead, rev)

    def part(self, keys: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Return which of these keys live and which are dead."""
        live: list[bytes] = []
        dead: list[bytes] = []
        entries = self.entries
        for key in keys:
            entry = entries[key]
            if isinstance(entry, History) and entry.dead:
                dead.append(key)
            else:
                live.append(key)
        return live, dead

    def finish_sorted(self, live: list[bytes], dead: list[bytes], rev: int) -> None:
        """Take the ordered sets, of all keys; `rev` is the store's current revision."""
        self.live.load(live)
        self.dead.load(dead)
        self._flips_since = rev

    # Inside

    def _born(self, key: bytes, main: int) -> None:
        self.live.add(key)
        self._log_flip(key, main * 2 + 1)

    def _log_flip(self, key: bytes, flip: int) -> None:
        self._flips.append(flip)
        self._flip_keys.append(key)
        if len(self._flips) >= 2 * FLIP_LOG_MIN:
            self._flips_since = self._flips[FLIP_LOG_MIN - 1] >> 1
            del self._flips[:FLIP_LOG_MIN]
            del self._flip_keys[:FLIP_LOG_MIN]

    def _net_births(self, start: bytes, end: bytes, first: int) -> int:
        """Return births less deaths in the range among the logged flips from place `first` on."""
        net = 0
        for place in range(first, len(self._flips)):
            key = self._flip_keys[place]
            if key >= start and (not end or key < end):
                net += 1 if self._flips[place] & 1 else -1
        return net

    def _walk(self, start: bytes, end: bytes, step: int) -> list[bytes]:
        """Return a run of at least `step` live and dead keys from `start` on, ascending; fewer at the range's end."""
        keys = self.live.page(start, end, step)
        dead = self.dead.page(start, end, step)
        if not dead:
            return keys
        bound = b""
        if len(keys) == step:
            bound = keys[-1]
        if len(dead) == step and (not bound or dead[-1] < bound):
            bound = dead[-1]
        keys += dead
        keys.sort()
        if bound:
            del keys[bisect_left(keys, bound) + 1 :]
        return keys
