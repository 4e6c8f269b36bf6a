"""Which watchers want a key: the matching structure of the watch hub.

Four places, by the shape of the watched range; looking up a key costs:
    one key              a dictionary                                       O(1)
    a prefix [p, p + 1)  a dictionary for each length of p in use           O(lengths in use)
    from a key on        a sorted list: all watchers up to the key match    O(log n + matches)
    any other range      a sorted list read as an interval tree             O(log n + matches), see `_Ranges`
Watchers of the same range share one place. Lists of matches are in a fixed order: places as above, and within a place
the order in which the watchers came.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

from quorate.mvcc.watcher import FROM_KEY, ONE_KEY, Watcher


def prefix_end(prefix: bytes) -> bytes:
    """Return the end of the range of all keys with that prefix; b"\\0" when there is no key above them."""
    stem = prefix.rstrip(b"\xff")
    if not stem:
        return FROM_KEY
    return stem[:-1] + bytes((stem[-1] + 1,))


_Place = dict[int, Watcher]


def _serial(watcher: Watcher) -> int:
    return watcher.serial


class _Ranges:
    """Watchers of arbitrary ranges, a place for each distinct (start, end).

    `_order` is sorted by start. Read as a balanced tree whose root is the middle of each span, with the greatest end of
    the span beside the root, it is an interval tree without nodes. The ends are computed at the first search after a
    change, which costs O(distinct ranges); such ranges are rare, prefixes and single keys are not kept here.
    """

    def __init__(self) -> None:
        self.places: dict[tuple[bytes, bytes], _Place] = {}
        self._order: list[tuple[bytes, bytes]] = []
        self._greatest: list[bytes] = []

    def add(self, watcher: Watcher) -> None:
        bounds = (watcher.key, watcher.end)
        place = self.places.get(bounds)
        if place is None:
            place = {}
            self.places[bounds] = place
            insort(self._order, bounds)
            self._greatest = []
        place[watcher.serial] = watcher

    def remove(self, watcher: Watcher) -> None:
        bounds = (watcher.key, watcher.end)
        place = self.places[bounds]
        del place[watcher.serial]
        if not place:
            del self.places[bounds]
            del self._order[bisect_left(self._order, bounds)]
            self._greatest = []

    def match(self, key: bytes, found: list[Watcher]) -> None:
        if not self._greatest:
            self._greatest = [b""] * len(self._order)
            self._compute(0, len(self._order))
        self._search(0, len(self._order), key, found)

    def _compute(self, low: int, high: int) -> bytes:
        if low == high:
            return b""
        middle = (low + high) // 2
        greatest = max(self._order[middle][1], self._compute(low, middle), self._compute(middle + 1, high))
        self._greatest[middle] = greatest
        return greatest

    def _search(self, low: int, high: int, key: bytes, found: list[Watcher]) -> None:
        while low < high:
            middle = (low + high) // 2
            if self._greatest[middle] <= key:
                return
            self._search(low, middle, key, found)
            start, end = self._order[middle]
            if start > key:
                return
            if key < end:
                found.extend(self.places[(start, end)].values())
            low = middle + 1


class WatcherGroup:
    """A set of watchers, asked by key."""

    def __init__(self) -> None:
        self.size = 0
        self.wanting_prev = 0  # how many of them want the previous KeyValue
        self._keys: dict[bytes, _Place] = {}
        self._prefixes: dict[int, dict[bytes, _Place]] = {}
        self._lengths: list[int] = []  # of _prefixes, ascending
        self._from: dict[bytes, _Place] = {}
        self._starts: list[bytes] = []  # of _from, ascending
        self._ranges = _Ranges()

    def add(self, watcher: Watcher) -> None:
        """Add a watcher that is not in the group."""
        self.size += 1
        self.wanting_prev += watcher.prev_kv
        key = watcher.key
        if watcher.end == ONE_KEY:
            self._join(self._keys, key, watcher)
        elif watcher.end == FROM_KEY:
            if self._join(self._from, key, watcher):
                insort(self._starts, key)
        elif watcher.end == prefix_end(key):
            places = self._prefixes.get(len(key))
            if places is None:
                places = {}
                self._prefixes[len(key)] = places
                insort(self._lengths, len(key))
            self._join(places, key, watcher)
        else:
            self._ranges.add(watcher)

    def remove(self, watcher: Watcher) -> None:
        """Remove a watcher that is in the group."""
        self.size -= 1
        self.wanting_prev -= watcher.prev_kv
        key = watcher.key
        if watcher.end == ONE_KEY:
            self._leave(self._keys, key, watcher)
        elif watcher.end == FROM_KEY:
            if self._leave(self._from, key, watcher):
                del self._starts[bisect_left(self._starts, key)]
        elif watcher.end == prefix_end(key):
            places = self._prefixes[len(key)]
            self._leave(places, key, watcher)
            if not places:
                del self._prefixes[len(key)]
                self._lengths.remove(len(key))
        else:
            self._ranges.remove(watcher)

    def match(self, key: bytes) -> list[Watcher]:
        """Return the watchers whose range holds the key."""
        found: list[Watcher] = []
        place = self._keys.get(key)
        if place is not None:
            found.extend(place.values())
        for length in self._lengths:
            if length > len(key):
                break
            place = self._prefixes[length].get(key[:length])
            if place is not None:
                found.extend(place.values())
        if self._starts:
            for start in self._starts[: bisect_right(self._starts, key)]:
                found.extend(self._from[start].values())
        if self._ranges.places:
            self._ranges.match(key, found)
        return found

    def members(self) -> list[Watcher]:
        """Return all watchers, in the order in which they were created."""
        found: list[Watcher] = []
        for place in self._keys.values():
            found.extend(place.values())
        for places in self._prefixes.values():
            for place in places.values():
                found.extend(place.values())
        for place in self._from.values():
            found.extend(place.values())
        for place in self._ranges.places.values():
            found.extend(place.values())
        found.sort(key=_serial)
        return found

    def _join(self, places: dict[bytes, _Place], key: bytes, watcher: Watcher) -> bool:
        """Add to a place and tell whether it is new."""
        place = places.get(key)
        if place is None:
            places[key] = {watcher.serial: watcher}
            return True
        place[watcher.serial] = watcher
        return False

    def _leave(self, places: dict[bytes, _Place], key: bytes, watcher: Watcher) -> bool:
        """Remove from a place and tell whether it is gone."""
        place = places[key]
        del place[watcher.serial]
        if place:
            return False
        del places[key]
        return True
