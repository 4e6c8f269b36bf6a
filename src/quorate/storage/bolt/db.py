"""A bbolt file as a database: opening, the current state, and the order of commits.

Contract: one thread (the loop) owns a `Db`; only `Commit.write`, and reading a pinned state, may happen elsewhere. One
write transaction at a time, and only when no commit is in flight:

    tx = db.begin_write()
    ...                          changes, in memory
    commit = tx.prepare()        on the loop: page images
    commit.write()               in the worker: disk
    db.finish(commit)            on the loop: the new state becomes the current one

A commit whose write failed can never be finished, so the Db takes no further write transaction: what the disk holds is
unknown (an fsync error is not to be retried), and the member must stop.

Safety: commit T writes only pages that neither state T-1 nor any open reader shows, then, after a sync, the meta page
that T-2 occupied. Whatever subset of unsynced writes a crash leaves, one meta page names a whole state: T-1 or T.

As etcd does, the list of free pages is not kept in the file (bbolt: NoFreelistSync); opening for writing rebuilds it by
visiting every page. A list that an older writer left is compared with what is reachable and dropped with the next
commit. A file is not repaired here: if it cannot be trusted, CorruptError.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from quorate.errors import CorruptError
from quorate.ports import LOCK_FLOCK, LOCK_FLOCK_SHARED, Disk, File, Log
from quorate.storage.bolt.check import check_state
from quorate.storage.bolt.freelist import USED, Freelist
from quorate.storage.bolt.page import (
    FREELIST,
    HEADER,
    LEAF,
    MAX_PAGE_SIZE,
    META_SIZE,
    MIN_PAGE_SIZE,
    NO_FREELIST,
    PAGE_HEADER_SIZE,
    PAGE_SIZE,
    Meta,
    Pages,
    parse_meta,
    read_freelist,
)
from quorate.storage.bolt.reach import page_states
from quorate.storage.bolt.tx import Commit, Readers, ReadTx, WriteTx

INITIAL_PAGES = 4
_SOURCE = "storage/bolt"  # where log lines say they come from


class Db:
    """An open bbolt file. Made by `Db.open`."""

    def __init__(self, path: str, file: File, meta: Meta, freelist: Freelist | None) -> None:
        self.path = path
        self.meta = meta  # the current state
        self.pages = Pages(path, file.map(), meta.page_size, meta.high_water)
        self.freelist = freelist  # None: open for reading only
        self.file_size = file.size()
        self._file = file
        self._readers = Readers()
        self._writer: WriteTx | None = None

    @staticmethod
    def open(
        disk: Disk, path: str, log: Log, read_only: bool = False, wait: bool = True, page_size: int = PAGE_SIZE
    ) -> Db:
        """Open a file, or make it (with `page_size`) when it is absent or not made to the end; lock it as bbolt does.

        Opening for reading shares the lock with other readers, makes nothing and does not look for free pages. Raises
        BlockingIOError when the lock is taken and `wait` is False, OSError, and CorruptError.
        """
        file = disk.open(path, create=not read_only, read_only=read_only, mode=0o600)
        opened = False
        try:
            if not file.lock(LOCK_FLOCK_SHARED if read_only else LOCK_FLOCK, wait):
                raise BlockingIOError(errno.EWOULDBLOCK, "the file is locked by another process", path)
            if not read_only and _never_used(file, page_size):
                _initialize(file, page_size)
            meta = _choose_meta(file, path, log)
            _check_bounds(file, path, meta)
            db = Db(path, file, meta, None)
            if not read_only:
                db.freelist = _rebuild_freelist(db.pages, meta, log)
            opened = True
            return db
        finally:
            if not opened:
                file.close()

    @property
    def size(self) -> int:
        """Bytes allocated up to the high-water mark (what etcd reports as the database size)."""
        return self.meta.high_water * self.meta.page_size

    @property
    def size_in_use(self) -> int:
        """Bytes allocated less free pages; pages that wait for readers count as used, as in etcd."""
        free = self.freelist.free_count if self.freelist is not None else 0
        return self.size - free * self.meta.page_size

    @property
    def open_read_txs(self) -> int:
        """How many read transactions are open."""
        return self._readers.total

    def begin_read(self) -> ReadTx:
        """Return a view of the current state, pinned until it is closed."""
        return ReadTx(self.pages, self.meta, self._readers)

    def begin_write(self) -> WriteTx:
        """Return the write transaction. None other may be open, and no commit in flight."""
        assert self.freelist is not None, f"{self.path} is open for reading only"
        assert self._in_flight() is None, "a commit is in flight"
        assert self._writer is None or self._writer.ended, "a write transaction is open"
        self.freelist.release(list(self._readers.counts))
        self._writer = WriteTx(self.pages, self.meta, self.freelist, self._readers, self._file, self.file_size)
        return self._writer

    def finish(self, commit: Commit) -> None:
        """Make a written commit the current state."""
        assert commit is self._in_flight(), "not the commit in flight"
        assert commit.written, "the commit was not written"
        self._writer = None
        self.meta = commit.meta
        view = self.pages.view
        if commit.grow_to:
            self.file_size = commit.grow_to
            view = self._file.map()
        self.pages = Pages(self.path, view, self.meta.page_size, self.meta.high_water)

    def check(self) -> Iterator[str]:
        """Yield every inconsistency of the current state; none may be written meanwhile."""
        assert self._in_flight() is None, "a commit is in flight"
        freed: bytearray | None = None
        if self.freelist is not None:
            freed = self.freelist.state
        elif self.meta.freelist != NO_FREELIST:
            freed = bytearray(self.meta.high_water)
            try:
                for pgid in read_freelist(self.pages, self.meta.freelist)[0]:
                    freed[pgid] = 1
            except CorruptError:
                freed = None  # the check itself says so
        yield from check_state(self.pages, self.meta, freed)

    def _in_flight(self) -> Commit | None:
        return self._writer.commit if self._writer is not None else None

    def close(self) -> None:
        """Close the file and give up the lock. Views of it must not be used any more."""
        self._file.close()


def _never_used(file: File, page_size: int) -> bool:
    """Tell whether a file is empty, or still being made when its maker died: no commit can be in so few pages."""
    size = file.size()
    if not 0 < size <= INITIAL_PAGES * page_size:
        return size == 0
    offset = 0
    while offset <= MAX_PAGE_SIZE:
        # Wherever the second meta page may be: the maker may have used pages of another size.
        meta = parse_meta(file.read_at(PAGE_HEADER_SIZE + META_SIZE, offset))
        if isinstance(meta, Meta) and (meta.txid > 1 or meta.high_water != INITIAL_PAGES):
            return False
        offset = max(MIN_PAGE_SIZE, 2 * offset)
    return True


def _initialize(file: File, page_size: int) -> None:
    """Write the four pages of a new file as bbolt does."""
    pages = [Meta(page_size, 3, 0, 2, INITIAL_PAGES, txid).page(txid, txid) for txid in (0, 1)]
    for pgid, flags in ((2, FREELIST), (3, LEAF)):
        pages.append(HEADER.pack(pgid, flags, 0, 0) + bytes(page_size - PAGE_HEADER_SIZE))
    file.write_at(b"".join(pages), 0)
    file.sync()


def _choose_meta(file: File, path: str, log: Log) -> Meta:
    """Return the valid meta with the higher transaction; raise CorruptError when both are invalid."""
    length = PAGE_HEADER_SIZE + META_SIZE
    first = parse_meta(file.read_at(length, 0))
    second: Meta | str = "no meta page found at any page size"
    if isinstance(first, Meta):
        second = parse_meta(file.read_at(length, first.page_size))
        if isinstance(second, Meta) and second.page_size != first.page_size:
            second = f"page size {second.page_size} differs from that of the first meta page"
    else:
        # Without the first one the page size is unknown, so the second one is looked for at each.
        page_size = MIN_PAGE_SIZE
        while page_size <= MAX_PAGE_SIZE:
            found = parse_meta(file.read_at(length, page_size))
            if isinstance(found, Meta) and found.page_size == page_size:
                second = found
                break
            page_size *= 2
    if isinstance(first, Meta) and isinstance(second, Meta):
        return first if first.txid >= second.txid else second
    if isinstance(first, str) and isinstance(second, str):
        raise CorruptError(path, 0, f"both meta pages are invalid: {first}; {second}")
    if isinstance(first, Meta):
        log.warn(_SOURCE, "ignored an invalid meta page", path=path, page=1, error=str(second))
        return first
    assert isinstance(second, Meta)
    log.warn(_SOURCE, "ignored an invalid meta page", path=path, page=0, error=str(first))
    return second


def _check_bounds(file: File, path: str, meta: Meta) -> None:
    at = (meta.txid % 2) * meta.page_size + PAGE_HEADER_SIZE
    size = file.size()
    if meta.high_water * meta.page_size > size:
        raise CorruptError(path, size, f"the file is cut short: {meta.high_water} pages are in use")
    if not 2 <= meta.root < meta.high_water:
        raise CorruptError(path, at, f"the root page {meta.root} is out of bounds: {meta.high_water} pages")
    if meta.freelist != NO_FREELIST and not 2 <= meta.freelist < meta.high_water:
        raise CorruptError(path, at, f"the freelist page {meta.freelist} is out of bounds: {meta.high_water} pages")


def _rebuild_freelist(pages: Pages, meta: Meta, log: Log) -> Freelist:
    """Find the free pages of a state. Those that a persisted list lacks are free all the same, and logged."""
    states = page_states(pages, meta)
    freelist = Freelist(states)
    if meta.freelist != NO_FREELIST:
        ids, _ = read_freelist(pages, meta.freelist)
        for pgid in ids:
            if states[pgid] == USED:
                at = meta.freelist * meta.page_size
                raise pages.fault(at, f"the freelist names page {pgid}, which is in use")
        if len(ids) != freelist.free_count:
            leaked = freelist.free_count - len(ids)
            log.warn(_SOURCE, "found free pages that the freelist lacks", path=pages.path, pages=leaked)
    return freelist
