"""The multi-version store (etcd: server/storage/mvcc/kvstore.go, kvstore_txn.go).

Every transaction that changes something gets the next main revision; its changes are numbered by sub revisions from
0. A change is one record under its revision in the backend's `key` bucket, and one revision in the key index. Old
revisions stay readable until they are compacted.

Contract: all methods are called on the loop; a transaction is over before the next one begins. A transaction's writes
are in the index and the backend's open batch at once, which is what makes later reads of the same transaction see
them; `current_rev` moves when it ends. Requests are checked before (keys not empty, leases known): execution cannot
fail.

    put         index: create_revision, version -> record -> backend, cache, lease -> watchers
    range       index: keys or revisions in order -> cache, else backend -> records, never decoded

Invariants:
- The index and the `key` bucket hold the same revisions, a compaction in progress aside.
- compact_rev <= current_rev, neither ever decreases, not even through a restart: what the last transaction wrote may
  have been compacted away before a crash, so the start takes the greatest of the last record's and both compaction
  revisions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.errors import COMPACTED, FUTURE_REV, CorruptError
from quorate.measure import HASH_SECONDS, Histogram
from quorate.mvcc.compaction import Compactor
from quorate.mvcc.hash import RevisionHash, hash_pinned
from quorate.mvcc.key_index import KeyIndex
from quorate.mvcc.loading import Loading
from quorate.mvcc.needs import KEY_BUCKET, Backend, KeyLeases
from quorate.mvcc.record import encode_key_value, encode_tombstone, key_value_fields
from quorate.mvcc.revision import revision_key, tombstone_key
from quorate.mvcc.value_cache import ValueCache
from quorate.mvcc.watch import WatchHub
from quorate.mvcc.watcher import Change, WatchHistory
from quorate.ports import Log, Loop

__all__ = ["KeyLeases", "RangeResult", "Store", "StoreCounts", "StoreOptions", "WriteTxn"]

_RESTORE_CHUNK: Final = 10_000
_CACHED_PAGE_MAX: Final = 1_000
_LAST_KEY: Final = b"\x7f" + b"\xff" * 17


class StoreOptions:
    """Sizes and paces; the defaults are etcd's where etcd has the setting."""

    def __init__(
        self,
        cache_bytes: int = 32 << 20,
        compaction_batch_limit: int = 1000,
        compaction_sleep_ns: int = 10_000_000,
        hash_batch: int = 2000,
    ) -> None:
        self.cache_bytes = cache_bytes
        self.compaction_batch_limit = compaction_batch_limit
        self.compaction_sleep_ns = compaction_sleep_ns
        self.hash_batch = hash_batch


class StoreCounts:
    """What the metrics etcd_mvcc_* and etcd_debugging_mvcc_* report of the store's work since the start."""

    def __init__(self) -> None:
        self.ranges = 0
        self.puts = 0
        self.deletes = 0  # delete_range calls
        self.txns = 0  # transactions of more than one operation
        self.put_bytes = 0  # keys and values


class RangeResult:
    """The outcome of a range: records in key order, the count that ignores the limit, and the store's revision."""

    def __init__(self, kvs: list[bytes], count: int, rev: int) -> None:
        self.kvs = kvs
        self.count = count
        self.rev = rev


class Store(WatchHistory):
    """The store. `restore` must be called before anything else."""

    def __init__(
        self, backend: Backend, leases: KeyLeases, watch: WatchHub, options: StoreOptions, loop: Loop, log: Log
    ) -> None:
        super().__init__()
        self.backend = backend
        self.leases = leases
        self.watch = watch
        self.options = options
        self.counts = StoreCounts()
        self.index = KeyIndex()
        self.compactor = Compactor(options.compaction_batch_limit, options.compaction_sleep_ns, loop, log)
        self.hashes: list[RevisionHash] = self.compactor.hashes
        self.hash_rev_seconds = Histogram(HASH_SECONDS)
        self._cache = ValueCache(options.cache_bytes)
        self.loop = loop
        self._log = log
        watch.attach(self, loop)

    # Start

    def restore(self) -> None:
        """Build the index from the backend, attach keys to their leases, resume an unfinished compaction.

        Raises CorruptError when the `key` bucket holds something that is not a record.
        """
        loading = Loading(self.backend)
        loading.run(_RESTORE_CHUNK)
        self._take(loading)

    def restore_from(self, backend: Backend, loaded: Loading | None = None) -> None:
        """Continue on another backend, received as a snapshot; the lessor has been recovered from it before.

        `loaded` is what was loaded from the same database before. Watchers catch up from it. Callers that wait for a
        compaction of the old backend are called back.
        """
        if loaded is None:
            loaded = Loading(backend)
            loaded.run(_RESTORE_CHUNK)
        seen = self.current_rev
        self.compactor.abandon()
        self.backend = backend
        self._cache = ValueCache(self.options.cache_bytes)
        self.compact_rev = -1
        self._take(loaded)
        self.watch.restored(seen)

    def _take(self, loaded: Loading) -> None:
        """Go on with what was loaded from our backend."""
        finished, scheduled = loaded.finished, loaded.scheduled
        if finished >= 0:
            self.compact_rev = finished
            self._log.info(
                "mvcc/kvstore.go",
                "restored last compact revision",
                **{"meta-bucket-name-key": "finishedCompactRev", "restored-compact-revision": finished},
            )
        self.index = loaded.index
        self.current_rev = loaded.current_rev
        for key, lease in loaded.leases.items():
            if self.leases.exists(lease):
                self.leases.attach(lease, key)
            else:
                self._log.error("mvcc/kvstore.go", "failed to attach a lease", **{"lease-id": f"{lease:016x}"})
        self._log.info("mvcc/kvstore.go", "kvstore restored", **{"current-rev": self.current_rev})
        if scheduled > finished:
            self._start_compaction(scheduled, None)
            self._log.info(
                "mvcc/kvstore.go", "resume scheduled compaction", **{"scheduled-compact-revision": scheduled}
            )

    # Reading

    def range(self, key: bytes, end: bytes, rev: int, limit: int, count_only: bool) -> RangeResult:
        """Return the keys of the range at `rev` (0 or less: now), ascending, at most `limit` of them (0 or less: all).

        `end` b"" means the one key, b"\\0" all keys from `key` on. Raises COMPACTED and FUTURE_REV.
        """
        self.counts.ranges += 1
        return self._range(key, end, rev, limit, count_only, self.current_rev)

    def record_at(self, key: bytes, rev: int) -> bytes | None:
        """Return the key's record at `rev`; None when it did not exist, or when `rev` is compacted."""
        if rev < self.compact_rev:
            return None
        main, sub = self.index.at(key, rev)
        return self._record(key, main, sub) if main else None

    def revisions(self, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to `limit` (revision key, record) pairs with keys >= start, ascending."""
        return self.backend.range(KEY_BUCKET, start, _LAST_KEY, limit)

    def _range(self, key: bytes, end: bytes, rev: int, limit: int, count_only: bool, now: int) -> RangeResult:
        if rev > now:
            raise FUTURE_REV.with_traceback(None)
        if rev <= 0:
            rev = now
        if rev < self.compact_rev:
            raise COMPACTED.with_traceback(None)
        if not end:
            return self._range_one(key, rev, count_only, now)
        if end == b"\x00":
            end = b""
        elif end <= key:
            return RangeResult([], 0, now)
        index = self.index
        if rev < now:
            if count_only:
                return RangeResult([], index.count_at(key, end, rev), now)
            found = index.page_at(key, end, rev, limit)
            records = [self._record(name, main, sub) for name, main, sub in found]
            count = index.count_at(key, end, rev) if 0 < limit <= len(found) else len(found)
            return RangeResult(records, count, now)
        if count_only:
            return RangeResult([], index.live.count(key, end), now)
        keys = index.live.page(key, end, limit)
        count = index.live.count(key, end) if 0 < limit <= len(keys) else len(keys)
        return RangeResult(self._current_records(keys), count, now)

    def _range_one(self, key: bytes, rev: int, count_only: bool, now: int) -> RangeResult:
        record: bytes | None
        if rev == now:
            record = self._current(key)
        else:
            main, sub = self.index.at(key, rev)
            record = self._record(key, main, sub) if main else None
        if record is None:
            return RangeResult([], 0, now)
        return RangeResult([] if count_only else [record], 1, now)

    def _current(self, key: bytes) -> bytes | None:
        """Return the key's current record, None when it does not exist."""
        record = self._cache.get(key)
        if record is None:
            main, sub = self.index.current(key)
            if main:
                record = self._stored(main, sub)
                self._cache.put(key, record)
        return record

    def _current_records(self, keys: list[bytes]) -> list[bytes]:
        """Return the current records of keys that exist. A long list does not push others out of the cache."""
        cache = self._cache
        keep = len(keys) <= _CACHED_PAGE_MAX
        records: list[bytes] = []
        for key in keys:
            record = cache.get(key)
            if record is None:
                main, sub = self.index.current(key)
                record = self._stored(main, sub)
                if keep:
                    cache.put(key, record)
            records.append(record)
        return records

    def _record(self, key: bytes, main: int, sub: int) -> bytes:
        """Return the record of a put that the index knows."""
        if self.index.current(key) == (main, sub):
            record = self._cache.get(key)
            if record is not None:
                return record
        return self._stored(main, sub)

    def _stored(self, main: int, sub: int) -> bytes:
        record = self.backend.get(KEY_BUCKET, revision_key(main, sub))
        if record is None:
            raise CorruptError("db", -1, f"revision {main}_{sub} is in the index but not in the key bucket")
        return record

    # Writing

    def put(self, key: bytes, value: bytes, lease: int, want_prev: bool) -> bytes | None:
        """Put one key in a transaction of its own. Return the record before, when it is wanted and there was one."""
        main = self.current_rev + 1
        watched = self.watch.synced
        prev: bytes | None = None
        if want_prev:  # etcd counts a read, and two operations as a transaction
            self.counts.ranges += 1
            self.counts.txns += 1
        if want_prev or watched.wanting_prev:
            prev = self._current(key)
        record = self._put(key, value, lease, main, 0)
        self.current_rev = main
        if watched.size:
            self.watch.notify(main, [Change(key, record, main, False, prev)])
        return prev if want_prev else None

    def begin(self) -> WriteTxn:
        """Begin a transaction; call `end` before anything else is done with the store."""
        return WriteTxn(self)

    def _put(self, key: bytes, value: bytes, lease: int, main: int, sub: int) -> bytes:
        """Write a put at (main, sub) and return its record."""
        counts = self.counts
        counts.puts += 1
        counts.put_bytes += len(key) + len(value)
        create, version = self.index.put(key, main, sub)
        record = encode_key_value(key, create, main, version, value, lease)
        self.backend.append_revision(revision_key(main, sub), record)
        self._cache.put(key, record)
        if version == 1:
            if lease != 0:
                self.leases.attach(lease, key)
        else:
            before = self.leases.lease_of(key)
            if before != lease:
                if before != 0:
                    self.leases.detach(before, key)
                if lease != 0:
                    self.leases.attach(lease, key)
        return record

    def _delete(self, key: bytes, main: int, sub: int) -> bytes:
        """Write a tombstone at (main, sub) for a key that exists and return its record."""
        record = encode_tombstone(key)
        self.index.tombstone(key, main, sub)
        self.backend.append_revision(tombstone_key(main, sub), record)
        self._cache.drop(key)
        lease = self.leases.lease_of(key)
        if lease != 0:
            self.leases.detach(lease, key)
        return record

    # Maintenance

    def compact(self, rev: int, done: Callable[[], None] | None) -> None:
        """Give up the history before `rev`: at once for readers and watchers, in the background on disk.

        `done` is called when the deletion is finished and durable. Raises COMPACTED and FUTURE_REV.
        """
        if rev <= self.compact_rev:
            raise COMPACTED.with_traceback(None)
        if rev > self.current_rev:
            raise FUTURE_REV.with_traceback(None)
        self._start_compaction(rev, done)

    def hash_by_rev(self, rev: int, done: Callable[[int, int, int], None]) -> None:
        """Hash the key bucket's content up to `rev` (0: now) as HashKV does.

        `done` gets the hash, the revision that was current at the call, and the compact revision that the hash belongs
        to, maybe before this returns. A compact revision above a `rev` that is not 0 means that a snapshot has replaced
        the store meanwhile: COMPACTED is the answer. Raises COMPACTED and FUTURE_REV.
        """
        now = self.current_rev
        for known in self.hashes:
            if known.rev == rev != 0:  # a compaction at 0, which may be the first, has a hash too
                self.hash_rev_seconds.observe(0.0)
                done(known.hash, now, known.compact_rev)
                return
        if 0 < rev < self.compact_rev:
            raise COMPACTED.with_traceback(None)
        if rev > now:
            raise FUTURE_REV.with_traceback(None)
        hash_pinned(self, rev, done)

    def _start_compaction(self, rev: int, done: Callable[[], None] | None) -> None:
        before = self.compact_rev
        self.compact_rev = rev
        self.compactor.schedule(self.backend, self.index, rev, before, done)


class WriteTxn:
    """A transaction: any number of operations that take effect as one revision, seen by later ones of the same.

    `rev` is the revision at which it began; what it writes is at rev + 1.
    """

    def __init__(self, store: Store) -> None:
        self.rev = store.current_rev
        self.changed = False
        self._store = store
        self._sub = 0
        self._operations = 0
        self._changes: list[Change] = []
        self._before: dict[bytes, bytes | None] = {}  # records at `rev` of changed keys, while watchers want them

    def put(self, key: bytes, value: bytes, lease: int, want_prev: bool) -> bytes | None:
        """Put a key. Return the record before, as this transaction sees it, when it is wanted and there was one."""
        self._operations += 1
        store = self._store
        if want_prev:  # which etcd counts as a read
            store.counts.ranges += 1
            self._operations += 1
        prev = store._current(key) if want_prev else None
        watched = store.watch.synced
        if watched.wanting_prev:
            self._remember(key)
        record = store._put(key, value, lease, self.rev + 1, self._sub)
        self._sub += 1
        self.changed = True
        if watched.size:
            self._add_change(key, record, False)
        return prev

    def delete_range(self, key: bytes, end: bytes, want_prev: bool) -> tuple[int, list[bytes]]:
        """Delete a range (as in `Store.range`). Return how many keys, and their records when wanted, in key order."""
        self._operations += 1
        store = self._store
        store.counts.deletes += 1
        keys = self._existing(key, end)
        if want_prev:  # which etcd counts as a read
            store.counts.ranges += 1
            self._operations += 1
        prevs = store._current_records(keys) if want_prev else []
        watched = store.watch.synced
        for name in keys:
            if watched.wanting_prev:
                self._remember(name)
            record = store._delete(name, self.rev + 1, self._sub)
            self._sub += 1
            self.changed = True
            if watched.size:
                self._add_change(name, record, True)
        return len(keys), prevs

    def range(self, key: bytes, end: bytes, rev: int, limit: int, count_only: bool) -> RangeResult:
        """Read as `Store.range` does; without a revision it sees what the transaction has written so far."""
        self._operations += 1
        self._store.counts.ranges += 1
        return self._store._range(key, end, rev, limit, count_only, self.rev + 1 if self.changed else self.rev)

    def end(self) -> None:
        """Finish: the new revision becomes current and watchers hear of it. Nothing may follow."""
        store = self._store
        if self._operations > 1:
            store.counts.txns += 1
        if self.changed:
            store.current_rev = self.rev + 1
            if self._changes:
                store.watch.notify(self.rev + 1, self._changes)

    def _existing(self, key: bytes, end: bytes) -> list[bytes]:
        index = self._store.index
        if not end:
            return [key] if index.current(key)[0] else []
        return index.live.page(key, b"" if end == b"\x00" else end, 0)

    def _remember(self, key: bytes) -> None:
        """Note the record that a changed key had when the transaction began."""
        if key not in self._before:
            self._before[key] = self._store._current(key)

    def _add_change(self, key: bytes, record: bytes, deleted: bool) -> None:
        prev = self._before.get(key)
        if prev is not None and not deleted and key_value_fields(record)[1] == self.rev + 1:
            prev = None  # deleted and created anew in this transaction: a creation has no previous record
        self._changes.append(Change(key, record, self.rev + 1, deleted, prev))
