"""Defragmentation without stopping the world (etcd's issue 9222).

etcd locks everything while it copies the database. Here the copy is made from pinned views, in slices, while the member
goes on, in passes:

    pass 1     copies a view of everything into `db.tmp.<number>`, densely (bolt.compact), in the storage thread
    pass n     brings over from a new view what was committed since the view before: in the bucket `key` all above the
               highest key that the view before had, as revisions are appended; elsewhere, and below it, the keys that
               commits have touched, which `note` collects
    last pass  the same with commits held back, as soon as a pass was short; writes go on, in the batch

Then the copy is synced, renamed to `db`, the directory synced, and the backend goes on with it and lets commits begin
again. No call waits for the disk; slices of pass 1 are sized to take about SLICE_NS, and there are pauses between them.

Crashes. Up to the rename nothing refers to the copy; it is removed at the next start. Whichever of the two files a
crash during the rename leaves under the name `db` has everything that was ever committed, because nothing is committed
between the last pass and the sync of the directory. Views of the old file stay readable until they are closed.

The consistent index is copied like every other key, from the same view as the effects of its entries; so a crash cannot
make entries be applied twice (etcd's issue 14685). An I/O error on the copy ends the defragmentation, not the member;
one after the rename ends the member, and so does damage found in the database.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from quorate.errors import CorruptError
from quorate.ports import LOCK_FLOCK, Disk, File, Log, Loop
from quorate.storage.batch import Batch
from quorate.storage.bolt.compact import Compactor
from quorate.storage.bolt.db import Db
from quorate.storage.bolt.freelist import Freelist
from quorate.storage.bolt.page import META_SIZE, PAGE_HEADER_SIZE, Meta, parse_meta
from quorate.storage.bolt.tree import Scan
from quorate.storage.bolt.tx import Commit
from quorate.storage.quiet import QuietDisk
from quorate.storage.schema import KEY
from quorate.storage.view import ReadView
from quorate.units import human_bytes

if TYPE_CHECKING:
    from quorate.storage.backend import Backend

SLICE_NS: Final = 1_000_000
SLICE_PAIRS_MIN: Final = 16
SLICE_PAIRS_MAX: Final = 2048
SLICE_BYTES: Final = 512 * 1024
PAUSE_NS: Final = 500_000  # between slices, so that they take a part of the time only
SHORT_PASS_PAIRS: Final = 5000
PASSES_MAX: Final = 10

_FILL_PERCENT: Final = 0.9
_CALLER: Final = "backend/backend.go"
_CLOSED: Final = OSError("the backend was closed")


class Defragmentation:
    """One run. The backend calls `note` at every commit, and `cancel` when it is closed."""

    def __init__(self, backend: Backend, loop: Loop, disk: Disk, log: Log) -> None:
        self.dones: list[Callable[[Exception | None], None]] = []
        self._backend: Backend = backend
        self._loop: Loop = loop
        self._disk: Disk = disk
        self._quiet: QuietDisk = QuietDisk(disk)
        self._log: Log = log
        self._path: str = f"{backend.path}.tmp.{loop.random_bits(32)}"
        self._started_ns: int = loop.monotonic_ns()
        self._size: int = 0
        self._size_in_use: int = 0
        self._compactor: Compactor | None = None
        self._slice_pairs: int = SLICE_PAIRS_MIN
        self._slice_ns: int = 0  # when the slice under way began
        self._copy: Db | None = None
        self._busy: bool = False  # the storage thread has a job for us
        self._commit: Commit | None = None
        self._cancelled: bool = False
        self._done: Callable[[object], None] = self._opened
        # The pass under way.
        self._pass: int = 0
        self._last: bool = False
        self._view: ReadView | None = None
        self._names: list[bytes] = []
        self._scan: Scan | None = None  # of what was appended to `key`
        self._changed: list[tuple[bytes, bytes]] = []  # bucket and key, still to be copied
        self._pairs: int = 0  # copied in this pass
        # For the next pass.
        self._noting: bool = False
        self._top: bytes = b""  # the highest key of `key` in the latest view
        self._below: bytes = b""  # and in the one before
        self._touched: dict[bytes, set[bytes]] = {}

    def start(self) -> None:
        """Begin."""
        self._size = self._backend.size()
        self._size_in_use = self._backend.size_in_use()
        self._log.info(
            _CALLER,
            "defragmenting",
            **{
                "path": self._backend.path,
                "current-db-size-bytes": self._size,
                "current-db-size": human_bytes(self._size),
                "current-db-size-in-use-bytes": self._size_in_use,
                "current-db-size-in-use": human_bytes(self._size_in_use),
            },
        )
        self._backend.read_view(self._begin_first)

    def note(self, batch: Batch) -> None:
        """Take note of what a commit changes."""
        if not self._noting:
            return
        for name, changes in batch.buckets.items():
            if changes:
                touched = self._touched.setdefault(name, set())
                if name == KEY:
                    touched.update([key for key in changes if key <= self._top])
                else:
                    touched.update(changes)

    def cancel(self) -> None:
        """Give up, because the backend is closed. What the storage thread is doing for us ends first."""
        self._cancelled = True
        if not self._busy:
            self._drop(_CLOSED)

    def _work(self, job: Callable[[], object], done: Callable[[object], None]) -> None:
        """Run a job in the storage thread, then `done` unless it failed or there is no need for it any more."""
        self._busy = True
        self._done = done
        self._loop.work(job, self._worked)

    def _worked(self, result: object, error: BaseException | None) -> None:
        self._busy = False
        if self._cancelled:
            self._drop(_CLOSED)
        elif isinstance(error, CorruptError):
            self._backend.failed(error)
        elif error is not None:
            self._drop(error)
        else:
            self._done(result)

    # -- the first pass

    def _begin_first(self, view: ReadView) -> None:
        # No commit is in flight here, and none begins in this turn: what `note` is told of from now on comes on top.
        if self._cancelled:
            view.close()
            return
        self._begin_view(view)
        self._work(self._make_compactor, self._compactor_made)

    def _begin_view(self, view: ReadView) -> None:
        self._view = view
        self._pass += 1
        self._pairs = 0
        self._noting = True
        self._top, self._below = view.last_key(KEY), self._top

    def _make_compactor(self) -> None:
        view = self._view
        assert view is not None
        self._compactor = view.compactor(self._quiet, self._path)

    def _compactor_made(self, _result: object) -> None:
        self._slice_ns = self._loop.monotonic_ns()
        self._work(self._compact, self._compacted)

    def _compact(self) -> bool:
        compactor = self._compactor
        assert compactor is not None
        if compactor.step(self._slice_pairs):
            return True
        compactor.finish()
        return False

    def _compacted(self, more: object) -> None:
        if not more:
            self._compactor = None
            self._work(self._open_copy, self._opened)
            return
        if self._loop.monotonic_ns() - self._slice_ns > SLICE_NS:
            self._slice_pairs = max(SLICE_PAIRS_MIN, self._slice_pairs // 2)
        else:
            self._slice_pairs = min(SLICE_PAIRS_MAX, self._slice_pairs * 2)
        self._loop.later(PAUSE_NS, self._next_compaction)

    def _next_compaction(self) -> None:
        if not self._cancelled:
            self._compactor_made(None)

    def _open_copy(self) -> Db:
        # Not Db.open, which would look at every page to find the free ones: there are none.
        file = self._quiet.open(self._path)
        if not file.lock(LOCK_FLOCK, wait=False):
            raise BlockingIOError(11, "the file is locked by another process", self._path)
        first = parse_meta(file.read_at(PAGE_HEADER_SIZE + META_SIZE, 0))
        assert isinstance(first, Meta), first
        meta = parse_meta(file.read_at(PAGE_HEADER_SIZE + META_SIZE, first.page_size))
        assert isinstance(meta, Meta), meta
        return Db(self._path, file, meta, Freelist(bytearray(meta.high_water)))

    def _opened(self, result: object) -> None:
        assert isinstance(result, Db)
        self._copy = result
        self._end_pass()

    # -- the passes after it

    def _begin_pass(self, view: ReadView) -> None:
        if self._cancelled:
            view.close()
            return
        if self._last:
            self._backend.hold()
        self._begin_view(view)
        self._names = view.buckets()
        self._changed = [(name, key) for name in sorted(self._touched) for key in sorted(self._touched[name])]
        self._touched = {}
        self._scan = view.scan(KEY, self._below + b"\0" if self._below else b"")
        self._slice()

    def _slice(self) -> None:
        if self._cancelled:
            return
        try:
            self._commit = self._copy_some()
        except CorruptError as error:
            self._backend.failed(error)
            return
        self._work(self._commit.write, self._written)

    def _copy_some(self) -> Commit:
        copy, view = self._copy, self._view
        assert copy is not None
        assert view is not None
        tx = copy.begin_write()
        for name in self._names:
            tx.create_bucket(name)
        self._names = []
        pairs = 0
        size = 0
        while self._scan is not None and pairs < SLICE_PAIRS_MAX and size < SLICE_BYTES:
            if not self._scan.next_leaf():
                self._scan = None
                break
            bucket = tx.create_bucket(KEY)
            bucket.fill = _FILL_PERCENT
            bucket.append(self._scan.keys, self._scan.values)
            pairs += len(self._scan.keys)
            size += sum(map(len, self._scan.values))
        while self._changed and self._scan is None and pairs < SLICE_PAIRS_MAX and size < SLICE_BYTES:
            name, key = self._changed.pop()
            value = view.get(name, key)
            if value is None:
                tx.create_bucket(name).delete(key)
            else:
                tx.create_bucket(name).put(key, value)
                size += len(value)
            pairs += 1
        self._pairs += pairs
        return tx.prepare()

    def _written(self, _result: object) -> None:
        copy, commit = self._copy, self._commit
        assert copy is not None
        assert commit is not None
        self._commit = None
        copy.finish(commit)
        if self._scan is None and not self._changed:
            self._end_pass()
        elif self._last:
            self._loop.soon(self._slice)
        else:
            self._loop.later(PAUSE_NS, self._slice)

    def _end_pass(self) -> None:
        self._close_view()
        if self._last:
            self._work(self._sync_copy, self._synced)
            return
        self._last = (self._pass > 1 and self._pairs <= SHORT_PASS_PAIRS) or self._pass == PASSES_MAX
        self._backend.read_view(self._begin_pass)

    # -- the swap

    def _sync_copy(self) -> None:
        file = self._quiet.last
        assert file is not None
        file.quiet = False
        file.sync()
        file.quiet = self._backend.options.unsafe_no_fsync

    def _synced(self, _result: object) -> None:
        self._busy = True
        self._loop.work(self._rename, self._renamed)

    def _rename(self) -> File:
        path = self._backend.path
        old = self._disk.open(path)
        self._disk.rename(self._path, path)
        self._disk.sync_dir(path.rpartition("/")[0] or ".")
        return old

    def _renamed(self, result: object, error: BaseException | None) -> None:
        self._busy = False
        backend, copy, file = self._backend, self._copy, self._quiet.last
        assert copy is not None
        assert file is not None
        if self._cancelled:
            copy.close()
            return
        if error is not None:
            # Which file bears the name after a crash is unknown, so nothing may be committed to either.
            backend.failed(error)
            return
        assert isinstance(result, File)
        copy.path = backend.path
        file.rename(backend.path)
        backend.replace(copy, result)
        took_ns = self._loop.monotonic_ns() - self._started_ns
        backend.defragmented(took_ns / 1e9)
        self._report(took_ns)
        backend.release()
        for done in self.dones:
            done(None)

    def _report(self, took_ns: int) -> None:
        size, in_use = self._backend.size(), self._backend.size_in_use()
        self._log.info(
            _CALLER,
            "finished defragmenting directory",
            **{
                "path": self._backend.path,
                "current-db-size-bytes-diff": size - self._size,
                "current-db-size-bytes": size,
                "current-db-size": human_bytes(size),
                "current-db-size-in-use-bytes-diff": in_use - self._size_in_use,
                "current-db-size-in-use-bytes": in_use,
                "current-db-size-in-use": human_bytes(in_use),
                "took": f"{took_ns / 1e9:.6f}s",
            },
        )

    # -- giving up

    def _drop(self, error: BaseException) -> None:
        """Remove the copy and go on as before."""
        self._close_view()
        if self._compactor is not None:
            self._compactor.abort()
        if self._copy is not None:
            self._copy.close()
        self._loop.work(self._remove_copy, self._removed)
        self._backend.defragmented(-1)
        self._backend.release()
        failure = error if isinstance(error, Exception) else OSError(str(error))
        for done in self.dones:
            done(failure)

    def _remove_copy(self) -> None:
        if self._disk.exists(self._path):
            self._disk.remove(self._path)

    def _removed(self, _result: object, error: BaseException | None) -> None:
        if error is not None:
            self._log.error(_CALLER, "failed to remove temporary file", path=self._path, error=str(error))

    def _close_view(self) -> None:
        view, self._view = self._view, None
        if view is not None:
            view.close()
