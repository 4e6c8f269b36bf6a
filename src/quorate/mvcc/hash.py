"""HashKV: a checksum of the `key` bucket up to a revision that is equal on all members, compacted or not.

(etcd: server/storage/mvcc/hash.go.) CRC-32C over the bytes "key", then key and value of each entry in order, without
- entries with main > R;
- entries with main <= the compact revision that a compaction at R would not keep, deletion being in the background,
  unless such a compaction keeps nothing at all;
- tombstones exactly at the compact revision, which members before 3.5.16 have deleted.

etcd first collects the set of kept revisions from all keys. We ask the index for each of the few entries concerned,
while reading in slices on a pinned view, so neither memory nor a turn's length grows with the store. That is right as
long as the index still knows about R: revisions above R do not change the answer, and compactions wait (`hashing`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from google_crc32c import extend, value

from quorate.errors import CorruptError
from quorate.mvcc.key_index import KeyIndex
from quorate.mvcc.needs import KEY_BUCKET, ReadView
from quorate.mvcc.record import key_of
from quorate.mvcc.revision import is_tombstone, main_of, revision_key, sub_of

if TYPE_CHECKING:
    from quorate.mvcc.store import Store

HASHES_KEPT: Final = 10


class RevisionHash:
    """A finished hash: its value, the revision it goes up to, and the compact revision at that time."""

    def __init__(self, hash_value: int, rev: int, compact_rev: int) -> None:
        self.hash = hash_value
        self.rev = rev
        self.compact_rev = compact_rev


class RevisionHasher:
    """Hashes entries, fed in ascending order, up to `rev` as of `compact_rev`."""

    def __init__(self, index: KeyIndex, rev: int, compact_rev: int, keeps_any: bool) -> None:
        self._index = index
        self._rev = rev
        self._compact_rev = compact_rev
        self._keeps_any = keeps_any
        self._crc: int = value(KEY_BUCKET)

    def add(self, rows: list[tuple[bytes, bytes]]) -> None:
        """Take the next entries."""
        parts: list[bytes] = []
        for revision, record in rows:
            main = main_of(revision)
            if main > self._rev:
                break
            if main <= self._compact_rev:
                if self._keeps_any and not self._kept(revision, record, main):
                    continue
                if main == self._compact_rev and is_tombstone(revision):
                    continue
            parts.append(revision)
            parts.append(record)
        self._crc = extend(self._crc, b"".join(parts))

    def finish(self) -> RevisionHash:
        """Return the result."""
        return RevisionHash(self._crc, self._rev, self._compact_rev)

    def _kept(self, revision: bytes, record: bytes, main: int) -> bool:
        return self._index.at(key_of(record), self._rev) == (main, sub_of(revision))


class HashJob:
    """One HashKV under way, up to the revision `asked` (0: the present one)."""

    def __init__(self, store: Store, asked: int, done: Callable[[int, int, int], None]) -> None:
        self._store = store
        self._index = store.index
        self._asked = asked
        rev = asked if asked != 0 else store.current_rev
        self._rev = rev
        self._done = done
        self._now = store.current_rev
        self._began_ns = store.loop.monotonic_ns()
        keeps_any = store.compact_rev >= 0 and store.index.any_at(rev)
        self._hasher = RevisionHasher(store.index, rev, store.compact_rev, keeps_any)
        self._view: ReadView | None = None
        self._next = b""

    def start(self, view: ReadView) -> None:
        """Begin with the view, which shows everything up to the revision."""
        if self._store.index is not self._index:
            view.close()
            self._begin_again()
            return
        self._view = view
        self._run()

    def _begin_again(self) -> None:
        """A snapshot has replaced the store while the view was waited for: hash what is there now."""
        store = self._store
        store.compactor.hashing -= 1
        if 0 < self._asked < store.compact_rev:
            self._done(0, store.current_rev, store.compact_rev)
        else:
            hash_pinned(store, self._asked, self._done)

    def _run(self) -> None:
        try:
            self._slice()
        except (CorruptError, ValueError) as error:
            self._store.loop.fatal(error)

    def _slice(self) -> None:
        view = self._view
        assert view is not None
        limit = self._store.options.hash_batch
        end = revision_key(self._rev + 1, 0) if self._rev >= 0 else b""
        rows = view.range(KEY_BUCKET, self._next, end, limit) if end else []
        self._hasher.add(rows)
        if len(rows) == limit:
            self._next = rows[-1][0] + b"\x00"
            self._store.loop.soon(self._run)
            return
        view.close()
        self._store.compactor.hashing -= 1
        result = self._hasher.finish()
        self._store.hash_rev_seconds.observe((self._store.loop.monotonic_ns() - self._began_ns) / 1e9)
        self._done(result.hash, self._now, result.compact_rev)


def hash_stored(store: Store) -> RevisionHash:
    """Hash everything that the backend holds, at once: for a member that has restored its store and serves nobody."""
    rev, limit = store.current_rev, store.options.hash_batch
    keeps_any = store.compact_rev >= 0 and store.index.any_at(rev)
    hasher = RevisionHasher(store.index, rev, store.compact_rev, keeps_any)
    start, end = b"", revision_key(rev + 1, 0)
    while True:
        rows = store.backend.range(KEY_BUCKET, start, end, limit)
        hasher.add(rows)
        if len(rows) < limit:
            return hasher.finish()
        start = rows[-1][0] + b"\x00"


def hash_pinned(store: Store, asked: int, done: Callable[[int, int, int], None]) -> None:
    """Hash up to `asked` (0: now) on a view of the present, and hold compactions off until it is done."""
    job = HashJob(store, asked, done)
    store.compactor.hashing += 1
    store.backend.read_view(job.start)
