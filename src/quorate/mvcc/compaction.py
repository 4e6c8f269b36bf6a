"""Compaction: deleting, in the background, the history that nobody may read any more.

(etcd: server/storage/mvcc/kvstore_compaction.go.) A compaction at C keeps of every key what reads at C or later need:
all revisions above C, and the latest one up to C if it is a put, or a tombstone exactly at C (so that a watch from C
misses no deletion). Compactions run one after the other. Each walks the `key` bucket up to C in slices of
`batch_limit` entries with a pause between them; a slice compacts the index entries of the keys it meets and deletes
what is not kept. Every indexed revision has its entry in the bucket, so at the end the whole index is compacted,
without one long walk over it.

What survives a crash:
    meta/scheduledCompactRev     written when a compaction is accepted
    meta/finishedCompactRev      written with the last slice
Scheduled > finished at the start means: run it again. Slices already deleted are simply not met again.

On its way a compaction computes the HashKV of C, as of the compaction before; the last ten are kept, and let members
compare themselves long after (etcd: hash.go, hashStorage). One that was interrupted has not seen everything, and its
hash is not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.errors import CorruptError
from quorate.measure import Histogram, exponential
from quorate.mvcc.hash import HASHES_KEPT, RevisionHash, RevisionHasher
from quorate.mvcc.key_index import KeyIndex
from quorate.mvcc.needs import KEY_BUCKET, META_BUCKET, Backend, Rows
from quorate.mvcc.record import key_of
from quorate.mvcc.revision import PUT_LENGTH, check_key, main_of, revision_key, sub_of
from quorate.ports import Log, Loop, Timer

_MS: Final = 1_000_000


def read_meta_revision(backend: Rows, name: bytes) -> int:
    """Return the main revision stored in the meta bucket, -1 when there is none. Raises CorruptError."""
    stored = backend.get(META_BUCKET, name)
    if stored is None:
        return -1
    if len(stored) != PUT_LENGTH:
        raise CorruptError("db", -1, f"meta key {name.decode()}: {stored!r} is not a revision")
    check_key(stored)
    return main_of(stored)


class _Job:
    def __init__(
        self,
        backend: Backend,
        index: KeyIndex,
        rev: int,
        before: int,
        complete: bool,
        done: Callable[[], None] | None,
    ) -> None:
        self.backend = backend
        self.index = index
        self.rev = rev
        self.before = before  # the compact revision until then
        self.complete = complete  # the compaction before had finished
        self.done = done
        self.next = b""
        self.end = revision_key(rev + 1, 0)
        self.hasher: RevisionHasher | None = None
        self.started_ns = 0
        self.index_ns = 0  # spent on deciding what is kept


class Compactor:
    """Runs compactions, first in, first out."""

    def __init__(self, batch_limit: int, sleep_ns: int, loop: Loop, log: Log) -> None:
        self.hashes: list[RevisionHash] = []  # of the last compactions, ascending
        self.hashing = 0  # hashes under way; compactions wait for them
        self.keys_deleted = 0
        self.last_time_s = 0  # Unix time of the last one's end
        self.pause_ms = Histogram(exponential(1, 2, 13))
        self.index_pause_ms = Histogram(exponential(0.5, 2, 14))  # of the index alone, summed over the slices
        self.total_ms = Histogram(exponential(100, 2, 14))
        self._batch_limit = batch_limit
        self._sleep_ns = sleep_ns
        self._loop = loop
        self._log = log
        self._jobs: list[_Job] = []
        self._timer: Timer | None = None
        self._armed = False  # a step is due, at once or by the timer

    def schedule(
        self, backend: Backend, index: KeyIndex, rev: int, before: int, done: Callable[[], None] | None
    ) -> None:
        """Accept a compaction at `rev`, whose predecessor was at `before`; `done` when it is finished and durable."""
        scheduled = read_meta_revision(backend, b"scheduledCompactRev")
        complete = scheduled == read_meta_revision(backend, b"finishedCompactRev")
        backend.put(META_BUCKET, b"scheduledCompactRev", revision_key(rev, 0))
        backend.commit()
        self._jobs.append(_Job(backend, index, rev, before, complete, done))
        self._arm(0)

    def busy(self) -> bool:
        """Tell whether a compaction is under way."""
        return bool(self._jobs)

    def abandon(self) -> None:
        """Forget all compactions, because their backend is replaced, and call back those who wait."""
        jobs = self._jobs
        self._jobs = []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._armed = False
        for job in jobs:
            if job.done is not None:
                self._loop.soon(job.done)

    def _arm(self, delay_ns: int) -> None:
        """See to it that a step is made, after the pause unless that is 0."""
        if self._armed:
            return
        self._armed = True
        if delay_ns:
            self._timer = self._loop.later(delay_ns, self._step)
        else:
            self._loop.soon(self._step)

    def _step(self) -> None:
        self._armed = False
        self._timer = None
        if self.hashing:
            self._arm(self._sleep_ns)
        elif self._jobs:
            try:
                self._slice()
            except CorruptError as error:
                self._loop.fatal(error)

    def _slice(self) -> None:
        """Do one slice of the first job."""
        job = self._jobs[0]
        begin_ns = self._loop.monotonic_ns()
        hasher = job.hasher
        if hasher is None:
            job.started_ns = begin_ns
            hasher = RevisionHasher(job.index, job.rev, job.before, _keeps_any(job))
            job.hasher = hasher
        rows = job.backend.range(KEY_BUCKET, job.next, job.end, self._batch_limit)
        hasher.add(rows)
        index_begin_ns = self._loop.monotonic_ns()
        self._delete_superseded(job, rows)
        job.index_ns += self._loop.monotonic_ns() - index_begin_ns
        if len(rows) == self._batch_limit:
            job.next = rows[-1][0] + b"\x00"
            self._arm(self._sleep_ns)
            # As in etcd, the last slice is no pause, and whole milliseconds are counted.
            self.pause_ms.observe((self._loop.monotonic_ns() - begin_ns) // _MS)
        else:
            self._finish(job, hasher.finish())

    def _delete_superseded(self, job: _Job, rows: list[tuple[bytes, bytes]]) -> None:
        index = job.index
        for revision, record in rows:
            try:
                key = key_of(record)
            except ValueError as error:
                raise CorruptError("db", -1, f"revision {revision.hex()}: {error}") from error
            index.compact(key, job.rev)
            if not index.keeps(key, main_of(revision), sub_of(revision), job.rev):
                job.backend.delete(KEY_BUCKET, revision)
                self.keys_deleted += 1

    def _finish(self, job: _Job, result: RevisionHash) -> None:
        job.backend.put(META_BUCKET, b"finishedCompactRev", revision_key(job.rev, 0))
        took_ns = self._loop.monotonic_ns() - job.started_ns
        self.total_ms.observe(took_ns // _MS)
        self.index_pause_ms.observe(job.index_ns // _MS)
        self.last_time_s = self._loop.time_ns() // 1_000_000_000
        self._log.info(
            "mvcc/kvstore_compaction.go",
            "finished scheduled compaction",
            **{"compact-revision": job.rev, "took": _duration(took_ns), "hash": result.hash},
        )
        if job.complete:
            self._keep_hash(result)
        else:
            self._log.info("mvcc/kvstore.go", "previous compaction was interrupted, skip storing compaction hash value")
        if job.done is not None:
            job.backend.commit(job.done)
        del self._jobs[0]
        if self._jobs:
            self._arm(0)

    def _keep_hash(self, result: RevisionHash) -> None:
        self._log.info(
            "mvcc/hash.go",
            "storing new hash",
            **{"hash": result.hash, "revision": result.rev, "compact-revision": result.compact_rev},
        )
        # In place: the store and whoever answers /members/hashkv look at this very list.
        self.hashes.append(result)
        del self.hashes[:-HASHES_KEPT]


def _duration(ns: int) -> str:
    """Return a duration as Go prints it: "1.5ms", "2.25s"."""
    if ns >= 1_000_000_000:
        return f"{ns / 1e9:.9f}".rstrip("0").rstrip(".") + "s"
    return f"{ns / 1e6:.6f}".rstrip("0").rstrip(".") + "ms"


def _keeps_any(job: _Job) -> bool:
    """Tell whether a compaction keeps any revision up to its own: a key that exists, or a tombstone exactly then."""
    if job.index.any_at(job.rev):
        return True
    return bool(job.backend.range(KEY_BUCKET, revision_key(job.rev, 0), job.end, 1))
