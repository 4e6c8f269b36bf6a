"""Which pages are in use, free, or waiting until no reader sees them any more.

Contract: `free` belongs to write transaction T and takes effect for allocation only after `release` found no open read
transaction older than T. `release` runs when a write transaction begins, when no commit is in flight.

One byte a page: 0 in use, 1 free, 2 waiting. So a search for a run of free pages is a search for a byte string, at the
speed of memchr, the lowest place first (which keeps the file short and neighbouring writes together), and two million
pages (8 GiB) cost 2 MB. bbolt's `array` and `hashmap` freelists differ from this in memory only.

A reader that stays open for minutes (a snapshot) must not make the file grow: a page that was both allocated and freed
after the youngest reader that could see it is free at once (bbolt: internal/freelist/shared.go, releaseRange). `born`
remembers for that the transaction that allocated a page, while readers are open.
"""

from __future__ import annotations

from typing import Final

USED: Final = 0
FREE: Final = 1
WAITING: Final = 2

_USED_BYTE: Final = b"\x00"
_FREE_BYTE: Final = b"\x01"
_WAITING_BYTE: Final = b"\x02"


class Freelist:
    """The state of every page below the high-water mark."""

    def __init__(self, state: bytearray) -> None:
        self.state = state
        self.free_count = state.count(_FREE_BYTE)
        self.waiting_count = 0
        # By transaction: page, count, transaction that allocated it (0: long ago), page, count, ...
        self.waiting: dict[int, list[int]] = {}
        self.born: dict[int, int] = {}
        self.lowest = 0  # no page below it is free
        self.no_run = 0  # no run of this many free pages exists; 0: not known

    def allocate(self, count: int) -> int:
        """Take a run of free pages and return its first, or 0 when there is none."""
        if self.free_count < count or (self.no_run and count >= self.no_run):
            return 0
        if count == 1:
            page = self.state.find(_FREE_BYTE, self.lowest)
            self.lowest = page + 1
            self.state[page] = USED
        else:
            page = self.state.find(_FREE_BYTE * count, self.lowest)
            if page < 0:
                self.no_run = count
                return 0
            self.state[page : page + count] = _USED_BYTE * count
        self.free_count -= count
        return page

    def grow(self, count: int) -> int:
        """Move the high-water mark up by `count` pages in use, and return the first of them."""
        page = len(self.state)
        self.state += bytes(count)
        return page

    def free(self, txid: int, page: int, count: int) -> bool:
        """Let a run of pages wait for the readers older than `txid`; False when they were not all in use."""
        if self.state.count(_USED_BYTE, page, page + count) != count:
            return False
        self.state[page : page + count] = _WAITING_BYTE * count
        self.waiting_count += count
        entry = self.waiting.get(txid)
        if entry is None:
            entry = self.waiting[txid] = []
        entry.append(page)
        entry.append(count)
        entry.append(self.born.pop(page, 0))
        return True

    def release(self, readers: list[int]) -> None:
        """Make free what no reader sees; `readers` are the transactions that open read transactions show."""
        if not readers:
            self.born.clear()
        oldest = min(readers) if readers else -1
        for txid in list(self.waiting):
            if not readers or txid <= oldest:
                self._release_all(self.waiting.pop(txid))
            else:
                youngest = max([reader for reader in readers if reader < txid])
                self._release_born_after(txid, youngest)

    def _release_all(self, entry: list[int]) -> None:
        for at in range(0, len(entry), 3):
            self._make_free(entry[at], entry[at + 1])

    def _release_born_after(self, txid: int, youngest: int) -> None:
        """Free what was allocated after the youngest reader older than `txid`; what is left waits for the readers."""
        entry = self.waiting[txid]
        if not any(entry[2::3]):
            return
        rest: list[int] = []
        for at in range(0, len(entry), 3):
            if entry[at + 2] > youngest:
                self._make_free(entry[at], entry[at + 1])
            else:
                rest += [entry[at], entry[at + 1], 0]
        if rest:
            self.waiting[txid] = rest
        else:
            del self.waiting[txid]

    def _make_free(self, page: int, count: int) -> None:
        self.state[page : page + count] = _FREE_BYTE * count
        self.waiting_count -= count
        self.free_count += count
        self.lowest = min(self.lowest, page)
        self.no_run = 0

    def undo(self, txid: int, taken: list[int], high_water: int) -> None:
        """Take back all that a failed transaction did: what it freed, and the runs in `taken` (page, count, ...)."""
        entry = self.waiting.pop(txid, [])
        for at in range(0, len(entry), 3):
            page, count = entry[at], entry[at + 1]
            self.state[page : page + count] = _USED_BYTE * count
            self.waiting_count -= count
            if entry[at + 2]:
                self.born[page] = entry[at + 2]
        for at in range(0, len(taken), 2):
            page, count = taken[at], taken[at + 1]
            self.born.pop(page, None)
            if page < high_water:
                self.waiting_count += count
                self._make_free(page, count)
        del self.state[high_water:]
