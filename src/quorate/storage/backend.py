"""The backend: what the server writes to. An open batch in memory, over a bolt file (etcd: server/storage/backend).

    put, delete, append_revision ---> open batch --freeze--> batch in flight --commit--> file
    get, range <------------------------- above --------------- above ------------------- file

A commit begins `batch_interval` after the first change, or at `batch_limit` changes, or when asked for; always at the
end of a turn, never within it, so that no entry of the log is ever committed by half. First `before_commit` adds the
consistent index, which thus moves in the same transaction as the effects of its entries. The pages are built on the
loop and written in the storage thread; until the commit is finished, reads see the frozen batch. One commit at a time:
what is asked for meanwhile joins the next.

Errors. A failed commit is fatal to the member (`loop.fatal`) and never tried again: the disk's state is unknown, the
next start finds it out. So is damage that is found in the file. After that nothing is committed any more.

What was not committed when the backend is closed is dropped; the write-ahead log brings it back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.errors import CorruptError
from quorate.measure import DEFRAG_SECONDS, DISK_SECONDS, HASH_SECONDS, SNAPSHOT_SECONDS, Histogram
from quorate.ports import Disk, File, Log, Loop, Timer
from quorate.storage.batch import Batch, merge, overlay
from quorate.storage.bolt.db import Db
from quorate.storage.bolt.tx import Commit, ReadTx, WriteTx
from quorate.storage.defrag import Defragmentation
from quorate.storage.purge import Eraser
from quorate.storage.quiet import QuietDisk
from quorate.storage.schema import KEY
from quorate.storage.view import ReadView, ViewHash

BATCH_INTERVAL_NS: Final = 100_000_000
BATCH_LIMIT: Final = 10_000
FILL_PERCENT: Final = 0.9  # of the bucket `key`, whose keys ascend

_CALLER: Final = "backend/backend.go"
_NEVER: Final = 1 << 60
_HASH_PAGES: Final = 64  # leaf pages hashed at a time


class BackendOptions:
    """How a backend behaves."""

    def __init__(
        self,
        batch_interval_ns: int = BATCH_INTERVAL_NS,
        batch_limit: int = BATCH_LIMIT,
        unsafe_no_fsync: bool = False,
    ) -> None:
        self.batch_interval_ns: int = batch_interval_ns
        self.batch_limit: int = batch_limit
        self.unsafe_no_fsync: bool = unsafe_no_fsync


class Backend:
    """An open database. Keys and values are bytes; reads see every write at once.

    For the metrics: `commit_seconds` is a whole commit, `rebalance_seconds` (changing the trees) and `spill_seconds`
    (building pages) its parts on the loop and `write_seconds` that in the storage thread; `hash_seconds`,
    `snapshot_seconds` (how long a `snapshot_view` was open), `defrag_seconds`, `defragmenting`, `commits`,
    `open_read_txs`.
    """

    def __init__(self, loop: Loop, disk: Disk, path: str, log: Log, options: BackendOptions | None = None) -> None:
        """Open the file at `path`, or make it; wait while another process has it. Raises CorruptError, OSError."""
        self.before_commit: Callable[[], None] | None = None
        self.path: str = path
        self.commits: int = 0
        self.commit_seconds: Histogram = Histogram(DISK_SECONDS)
        self.rebalance_seconds: Histogram = Histogram(DISK_SECONDS)
        self.spill_seconds: Histogram = Histogram(DISK_SECONDS)
        self.write_seconds: Histogram = Histogram(DISK_SECONDS)
        self.defrag_seconds: Histogram = Histogram(DEFRAG_SECONDS)
        self.hash_seconds: Histogram = Histogram(HASH_SECONDS)
        self.snapshot_seconds: Histogram = Histogram(SNAPSHOT_SECONDS)
        self.options: BackendOptions = BackendOptions() if options is None else options
        self._loop: Loop = loop
        self._disk: Disk = disk
        self._log: Log = log
        self._db: Db = _open_db(disk, path, log, self.options.unsafe_no_fsync)
        self._read: ReadTx = self._db.begin_read()
        self._retired: list[_Retired] = []  # still read
        self._batch: Batch = Batch()
        self._revisions: dict[bytes, bytes | None] = self._batch.revisions
        self._in_flight: Batch | None = None
        self._pending: int = 0  # changes in the open batch
        self._wake_at: int = 1  # at this many something has to be done: first the timer is set, then a commit begun
        self._timer: Timer | None = None
        self._scheduled: bool = False
        self._again: bool = False
        self._held: bool = False
        self._adopting: bool = False
        self._stopped: bool = False
        self._closing: bool = False
        self._waiters: list[Callable[[], None]] = []
        self._views: list[Callable[[ReadView], None]] = []
        self._commit: Commit | None = None
        self._commit_waiters: list[Callable[[], None]] = []
        self._commit_views: list[Callable[[ReadView], None]] = []
        self._began_ns: int = 0
        self._prepared_ns: int = 0
        self._defrag: Defragmentation | None = None

    # -- writing

    def append_revision(self, key: bytes, value: bytes) -> None:
        """Put into the bucket `key`. The hot path of a put; quick to commit when keys ascend."""
        self._revisions[key] = value
        self._pending += 1
        if self._pending >= self._wake_at:
            self._wake()

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None:
        """Set a key of a bucket that exists."""
        self._batch.changes(bucket)[key] = value
        self._changed()

    def delete(self, bucket: bytes, key: bytes) -> None:
        """Remove a key; nothing happens when it is absent."""
        self._batch.changes(bucket)[key] = None
        self._changed()

    def create_bucket(self, bucket: bytes) -> None:
        """Make a bucket, if it is absent."""
        if self._read.bucket(bucket) is None and bucket not in self._batch.created:
            self._batch.created.append(bucket)
            self._changed()

    def _changed(self) -> None:
        self._pending += 1
        if self._pending >= self._wake_at:
            self._wake()

    def _wake(self) -> None:
        if self._pending >= self.options.batch_limit:
            self._wake_at = _NEVER
            self._request()
        else:
            self._wake_at = self.options.batch_limit
            self._timer = self._loop.later(self.options.batch_interval_ns, self._request)

    # -- reading

    def get(self, bucket: bytes, key: bytes) -> bytes | None:
        """Return a value, None when there is none."""
        changes = self._batch.buckets.get(bucket)
        if changes and key in changes:
            return changes[key]
        batch = self._in_flight
        if batch is not None:
            changes = batch.buckets.get(bucket)
            if changes and key in changes:
                return changes[key]
        tree = self._read.bucket(bucket)
        return None if tree is None else tree.get(key)

    def range(self, bucket: bytes, start: bytes, end: bytes, limit: int = 0) -> list[tuple[bytes, bytes]]:
        """Return the pairs with start <= key < end (b"": no end), ascending, at most `limit` of them (0: all)."""
        batches = [self._batch] if self._in_flight is None else [self._in_flight, self._batch]
        changes = overlay(batches, bucket, start, end)
        tree = self._read.bucket(bucket)
        if not changes:
            return [] if tree is None else tree.range(start, end or None, limit)
        rows: list[tuple[bytes, bytes]] = []
        if tree is not None:
            # Every change may take away one of the pairs from the file.
            rows = tree.range(start, end or None, limit + len(changes) if limit else 0)
        merged = merge(rows, changes)
        return merged[:limit] if limit else merged

    def read_view(self, done: Callable[[ReadView], None]) -> None:
        """Commit, then call `done` with a pinned view of all that was written up to now, or a little later."""
        self._views.append(done)
        self._request()

    def snapshot_view(self, done: Callable[[ReadView], None]) -> None:
        """Give a view as `read_view` does, to send the whole database: how long it stays open is measured."""
        self.read_view(_SnapshotView(self._loop, self.snapshot_seconds, done).give)

    def hash(self, done: Callable[[int], None]) -> None:
        """Commit, then hash all buckets in slices, and call `done` (Maintenance.Hash)."""
        self.read_view(_HashRun(self._loop, self.hash_seconds, done).start)

    def size(self) -> int:
        """Return the bytes allocated in the file."""
        return self._db.size

    def size_in_use(self) -> int:
        """Return the bytes in use in the file."""
        return self._db.size_in_use

    @property
    def open_read_txs(self) -> int:
        """How many read transactions are open; one is the backend's own."""
        return self._db.open_read_txs + sum([old.db.open_read_txs for old in self._retired])

    # -- committing

    def commit(self, done: Callable[[], None] | None = None) -> None:
        """Commit at the end of this turn, or after the commit under way; `done` is called when all is durable."""
        if done is not None:
            self._waiters.append(done)
        self._request()

    def commit_blocking(self) -> None:
        """Commit and wait for the disk: for the start and stop of a member. Raises OSError.

        No commit may be in flight: there is no waiting for the storage thread on the loop.
        """
        if self._stopped:
            return
        assert self._commit is None, "a commit is in flight"
        if self.before_commit is not None:
            self.before_commit()
        commit = self._prepare()
        if commit is not None:
            self._stopped = True  # until proved otherwise
            self._commit = None
            commit.write()
            self._stopped = False
            self._finish(commit)

    def _request(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.soon(self._begin)

    def _begin(self) -> None:
        self._scheduled = False
        if self._stopped:
            return
        if self._commit is not None or self._held or self._adopting:
            self._again = True
            return
        try:
            if self.before_commit is not None:
                self.before_commit()
            commit = self._prepare()
        except (CorruptError, OSError, ValueError) as error:
            self._fail(error)
            return
        self._commit_waiters, self._waiters = self._waiters, []
        self._commit_views, self._views = self._views, []
        if commit is None:
            self._tell()
        else:
            self._loop.work(commit.write, self._written)

    def _prepare(self) -> Commit | None:
        """Freeze the batch and build its pages; None when there is nothing to commit."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake_at = 1
        if self._pending == 0:
            return None
        self._began_ns = self._loop.monotonic_ns()
        batch = self._batch
        self._in_flight = batch
        self._batch = Batch()
        self._revisions = self._batch.revisions
        self._pending = 0
        if self._defrag is not None:
            self._defrag.note(batch)
        tx = fill(self._db, batch)
        filled_ns = self._loop.monotonic_ns()
        commit = tx.prepare()
        self._commit = commit
        self._prepared_ns = self._loop.monotonic_ns()
        self.rebalance_seconds.observe((filled_ns - self._began_ns) / 1e9)
        self.spill_seconds.observe((self._prepared_ns - filled_ns) / 1e9)
        return commit

    def _written(self, _result: object, error: BaseException | None) -> None:
        commit, self._commit = self._commit, None
        assert commit is not None
        if self._closing:
            self._close_files()
        elif error is not None:
            self._fail(error)
        else:
            self._finish(commit)
            self._tell()

    def _finish(self, commit: Commit) -> None:
        self._db.finish(commit)
        self._in_flight = None
        self._renew_read()
        self.commits += 1
        now_ns = self._loop.monotonic_ns()
        self.write_seconds.observe((now_ns - self._prepared_ns) / 1e9)
        self.commit_seconds.observe((now_ns - self._began_ns) / 1e9)

    def _tell(self) -> None:
        """Call back those for whom this commit was, then begin the next one if somebody waits for it."""
        waiters, self._commit_waiters = self._commit_waiters, []
        views, self._commit_views = self._commit_views, []
        try:
            for waiter in waiters:
                waiter()
            for give in views:
                give(ReadView(self._db.begin_read(), self._reap))
        except CorruptError as error:
            self._fail(error)
            return
        if self._again and not self._held:
            self._again = False
            self._request()

    def _renew_read(self) -> None:
        self._read.close()
        self._read = self._db.begin_read()

    def _fail(self, error: BaseException) -> None:
        self._stopped = True
        self._loop.fatal(error)

    # -- defragmentation

    @property
    def defragmenting(self) -> bool:
        """Tell whether a defragmentation is under way."""
        return self._defrag is not None

    def defragment(self, done: Callable[[Exception | None], None]) -> None:
        """Rewrite the file without its free pages, in the background, and call `done`; see `defrag`.

        A call while one is under way waits for that one.
        """
        if self._defrag is None:
            self._defrag = Defragmentation(self, self._loop, self._disk, self._log)
            self._defrag.dones.append(done)
            self._defrag.start()
        else:
            self._defrag.dones.append(done)

    def hold(self) -> None:
        """Begin no commit until `replace` or `release`. For the defragmentation."""
        assert self._commit is None, "a commit is in flight"
        self._held = True

    def release(self) -> None:
        """Let commits begin again."""
        self._held = False
        if self._again:
            self._again = False
            self._request()

    def replace(self, db: Db, handle: File) -> None:
        """Go on with a file that has the same content, while commits are held.

        Views keep the old one, to which `handle` is another handle, until they are closed.
        """
        assert self._held, "commits must be held"
        assert self._commit is None, "a commit is in flight"
        self._read.close()
        self._retired.append(_Retired(self._db, handle))
        self._db = db
        self._read = db.begin_read()
        self._reap()

    def defragmented(self, seconds: float) -> None:
        """Take note that the defragmentation is over; a negative time says that it failed."""
        self._defrag = None
        if seconds >= 0:
            self.defrag_seconds.observe(seconds)

    def failed(self, error: BaseException) -> None:
        """Stop for good: the defragmentation found that the disk cannot be trusted."""
        self._fail(error)

    def _reap(self) -> None:
        kept: list[_Retired] = []
        for old in self._retired:
            if old.db.open_read_txs:
                kept.append(old)
            else:
                # The mapping first: whoever looks at it after its file was cut off would end the process.
                old.db.pages.view.release()
                old.db.close()
                Eraser(self._loop, old.handle, _nothing).start()
        self._retired = kept

    # -- a database from elsewhere

    def adopt(self, path: str, done: Callable[[], None]) -> None:
        """Go on with the database file at `path`, which takes the place of ours, and call `done`.

        What was not committed is dropped; views keep showing the old file. A defragmentation is given up. Until then
        no commit begins, and nothing may be written. Raises nothing: an error is loop.fatal.
        """
        self._adopting = True
        if self._defrag is not None:
            self._defrag.cancel()
        self._loop.work(_Adoption(self._disk, self._log, self.path, path, self.options).run, _Adopted(self, done).then)

    def adopted(self, db: Db, handle: File, done: Callable[[], None]) -> None:
        """The file is in place, and whatever was in flight before is over. For `adopt`."""
        if self._closing:
            db.close()
            handle.close()
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._defrag is not None:
            for waiter in self._defrag.dones:
                waiter(OSError("the database was replaced by a snapshot"))
            self._defrag = None
        self._batch = Batch()
        self._revisions = self._batch.revisions
        self._in_flight = None
        self._pending = 0
        self._wake_at = 1
        self._held = True
        self.replace(db, handle)
        self._held = False
        self._adopting = False
        done()
        if self._again or self._waiters or self._views:
            self._again = False
            self._request()

    # -- the end

    def close(self) -> None:
        """Close without committing. A commit in flight ends first, in the background; nobody is called back."""
        if self._closing:
            return
        self._closing = True
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._defrag is not None:
            self._defrag.cancel()
        if self._commit is None:
            self._close_files()

    def _close_files(self) -> None:
        self._read.close()
        self._db.close()
        for old in self._retired:
            old.db.close()
            old.handle.close()
        self._retired = []


class _Retired:
    """A database that a defragmentation has replaced. Its file has no name any more; `handle` is another one to it."""

    def __init__(self, db: Db, handle: File) -> None:
        self.db: Db = db
        self.handle: File = handle


class _Adoption:
    """What the storage thread does to put another database in the place of ours."""

    def __init__(self, disk: Disk, log: Log, path: str, new_path: str, options: BackendOptions) -> None:
        self.db: Db | None = None
        self.handle: File | None = None
        self._disk: Disk = disk
        self._log: Log = log
        self._path: str = path
        self._new_path: str = new_path
        self._unsafe_no_fsync: bool = options.unsafe_no_fsync

    def run(self) -> object:
        """Do it."""
        self.handle = self._disk.open(self._path)
        self._disk.rename(self._new_path, self._path)
        self._disk.sync_dir(self._path.rpartition("/")[0] or ".")
        self.db = _open_db(self._disk, self._path, self._log, self._unsafe_no_fsync)
        return self


class _Adopted:
    """Hands an adopted database to the backend."""

    def __init__(self, backend: Backend, done: Callable[[], None]) -> None:
        self._backend: Backend = backend
        self._done: Callable[[], None] = done

    def then(self, result: object, error: BaseException | None) -> None:
        """The storage thread is done."""
        if isinstance(result, _Adoption) and result.db is not None and result.handle is not None:
            self._backend.adopted(result.db, result.handle, self._done)
        elif error is not None:
            self._backend.failed(error)


def _nothing() -> None:
    """Nobody waits."""


class _SnapshotView:
    """Measures how long a view is open."""

    def __init__(self, loop: Loop, seconds: Histogram, done: Callable[[ReadView], None]) -> None:
        self._loop: Loop = loop
        self._seconds: Histogram = seconds
        self._done: Callable[[ReadView], None] = done
        self._began_ns: int = 0

    def give(self, view: ReadView) -> None:
        """Hand the view on."""
        self._began_ns = self._loop.monotonic_ns()
        view.on_close = self._closed
        self._done(view)

    def _closed(self) -> None:
        self._seconds.observe((self._loop.monotonic_ns() - self._began_ns) / 1e9)


class _HashRun:
    """A hash in slices."""

    def __init__(self, loop: Loop, seconds: Histogram, done: Callable[[int], None]) -> None:
        self._loop: Loop = loop
        self._seconds: Histogram = seconds
        self._began_ns: int = loop.monotonic_ns()
        self._done: Callable[[int], None] = done
        self._view: ReadView | None = None
        self._hash: ViewHash | None = None

    def start(self, view: ReadView) -> None:
        """Begin on a view."""
        self._view = view
        self._hash = ViewHash(view, True)
        self._run()

    def _run(self) -> None:
        view, job = self._view, self._hash
        assert view is not None
        assert job is not None
        try:
            for _ in range(_HASH_PAGES):
                if job.step():
                    view.close()
                    self._seconds.observe((self._loop.monotonic_ns() - self._began_ns) / 1e9)
                    self._done(job.value)
                    return
        except CorruptError as error:
            self._loop.fatal(error)
            return
        self._loop.soon(self._run)


def fill(db: Db, batch: Batch) -> WriteTx:
    """Put a batch into a new write transaction. Raises CorruptError, ValueError."""
    tx = db.begin_write()
    for name in batch.created:
        tx.create_bucket(name)
    for name, changes in batch.buckets.items():
        if not changes:
            continue
        bucket = tx.bucket(name)
        if bucket is None:
            raise ValueError(f"bucket {name!r} does not exist")
        if name == KEY:
            bucket.fill = FILL_PERCENT
        # Appending takes ascending keys without looking at them one by one, and others as well.
        appended: list[bytes] = []
        values: list[bytes] = []
        for key in batch.sorted_keys(name):
            value = changes[key]
            if value is None:
                bucket.delete(key)
            else:
                appended.append(key)
                values.append(value)
        bucket.append(appended, values)
    return tx


def _open_db(disk: Disk, path: str, log: Log, unsafe_no_fsync: bool) -> Db:
    existed = disk.exists(path)
    db_disk = QuietDisk(disk) if unsafe_no_fsync else disk
    try:
        db = Db.open(db_disk, path, log, wait=False)
    except BlockingIOError:
        log.info(_CALLER, "db file is flocked by another process, taking too long", path=path)
        db = Db.open(db_disk, path, log, wait=True)
    if not existed and not unsafe_no_fsync:
        # Otherwise a power cut may take the file away with all that was committed to it.
        disk.sync_dir(path.rpartition("/")[0] or ".")
    return db
