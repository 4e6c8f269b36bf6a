"""Raft snapshots: when the log is cut, and in which order that reaches the disk.

    state at index i  ->  backend commit (consistent index >= i)  ->  .snap file, synced  ->  record in the WAL, synced
                      ->  WAL segments before i released, raft's log compacted (but for entries that followers may need)

A snapshot from the leader goes the same way, after the peer room has put its database beside ours:

    .snap file, synced  ->  its record, hard state and entries in the WAL, synced
                        ->  the new keys loaded from <index>.snap.db, in slices, while the old state answers reads
                        ->  <index>.snap.db renamed to db
                        ->  new leases, keys, alarms, members in force, watchers left to catch up  ->  the turn goes on

One that is sent to a follower consists of the membership and a view of the database, both as of the last applied entry.

A crash between any two steps leaves an older snapshot in force and the log that goes with it. The .snap file holds no
keys, only the membership; the keys are in the backend. Old files are purged every `purge_interval_ns`.

Source: etcd server/etcdserver/server.go (snapshotIfNeededAndCompactRaftLog), server/storage/storage.go (SaveSnap).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.errors import CorruptError
from quorate.lease.lessor import Lessor
from quorate.membership.cluster import Cluster
from quorate.membership.v2store import decode_v2store
from quorate.mvcc.loading import Loading
from quorate.mvcc.store import Store
from quorate.ports import Disk, Log, Loop
from quorate.raft.storage import MemoryStorage
from quorate.raft.types import Entry, HardState, Snapshot
from quorate.server.alarm import Alarms
from quorate.server.apply import Applier
from quorate.server.config import ServerConfig
from quorate.server.transport import Transport
from quorate.server.turn import Turn
from quorate.storage import schema, snapfile
from quorate.storage.backend import Backend
from quorate.storage.purge import Purge
from quorate.storage.received import ReceivedDb
from quorate.storage.view import ReadView
from quorate.storage.wal import Wal
from quorate.storage.wal_record import WalSnapshot

_CALLER: Final = "etcdserver/server.go"


HOLD_NS: Final = 30_000_000_000

MadeThen = Callable[[Snapshot, ReadView], None]


class _Record:
    """What the storage thread does with a received snapshot: the .snap file and the WAL."""

    def __init__(
        self,
        disk: Disk,
        directory: str,
        wal: Wal,
        log: Log,
        snapshot: Snapshot,
        state: HardState | None,
        entries: list[Entry],
        times: snapfile.SaveTimes,
    ) -> None:
        self._times = times
        self._disk = disk
        self._directory = directory
        self._wal = wal
        self._log = log
        self._snapshot = snapshot
        self._state = state
        self._entries = entries

    def run(self) -> object:
        """Do it."""
        snapshot = self._snapshot
        snapfile.save(self._disk, self._directory, snapshot, self._log, self._times)
        self._wal.save_snapshot(WalSnapshot(snapshot.index, snapshot.term, snapshot.conf_state))
        self._wal.save(self._state, self._entries)
        self._wal.sync()
        return None


class Snapshots:
    """Takes snapshots and purges old files."""

    def __init__(
        self,
        loop: Loop,
        disk: Disk,
        log: Log,
        config: ServerConfig,
        storage: MemoryStorage,
        wal: Wal,
        backend: Backend,
        cluster: Cluster,
        applier: Applier,
        turn: Turn,
        lessor: Lessor,
        store: Store,
        alarms: Alarms,
        transport: Transport,
    ) -> None:
        self._loop = loop
        self._disk = disk
        self._log = log
        self._config = config
        self._storage = storage
        self._wal = wal
        self._backend = backend
        self._cluster = cluster
        self._applier = applier
        self._turn = turn
        self.index = storage.snapshot().index  # of the newest snapshot, done or under way
        self.busy = False
        self._purging = 0  # purges under way
        self._closed = False
        self._snapshot = storage.snapshot()
        self._lessor = lessor
        self._store = store
        self._alarms = alarms
        self._transport = transport
        self._wanted: list[MadeThen] = []  # who waits for a view
        self._serving: list[MadeThen] = []  # those whose view the commit under way gives, and what goes with it
        self._made = Snapshot()
        self._sending = 0  # to followers; the log is not compacted under them
        self._incoming = Snapshot()  # from the leader, while it is installed
        self._received: ReceivedDb | None = None  # its database, and what was loaded from it
        self._loading: Loading | None = None
        self.installs = 0  # under way
        self.times = snapfile.SaveTimes(loop.monotonic_ns)

    def applied(self) -> None:
        """Take a snapshot when enough entries have been applied since the last one."""
        applier = self._applier
        if applier.applied_index - self.index > self._config.snapshot_count or applier.force_snapshot:
            self._begin()

    def _begin(self) -> None:
        applier = self._applier
        if self.busy or applier.applied_index <= self.index:
            return
        applier.force_snapshot = False
        self.busy = True
        self.index = applier.applied_index
        data = self._cluster.snapshot_data()
        self._snapshot = self._storage.create_snapshot(self.index, applier.conf_state, data)
        fields = {"local-member-id": f"{self._cluster.local_id:x}", "local-member-applied-index": self.index}
        self._log.info(_CALLER, "triggering snapshot", **fields)
        self._backend.commit(self._committed)

    def _committed(self) -> None:
        self._loop.work(self._write, self._written)

    def _write(self) -> object:
        """In the storage thread: the file, and away with databases that an older snapshot came with."""
        snapshot: Snapshot = self._snapshot
        directory = self._config.snap_dir
        snapfile.save(self._disk, directory, snapshot, self._log, self.times)
        snapfile.release_snap_dbs(self._disk, directory, snapshot.index, self._log)
        return None

    def _written(self, _result: object, error: BaseException | None) -> None:
        if error is not None:
            self._loop.fatal(error)
            return
        snapshot = self._snapshot
        self._turn.record_snapshot(WalSnapshot(snapshot.index, snapshot.term, snapshot.conf_state))

    def recorded(self, record: WalSnapshot) -> None:
        """Drop what the snapshot makes superfluous."""
        self._wal.release_to(record.index)
        self._log.info(_CALLER, "saved snapshot", **{"snapshot-index": record.index})
        compact_index = record.index - self._config.snapshot_catchup_entries
        if compact_index >= self._storage.first_index() and self._sending == 0:
            self._storage.compact(compact_index)
            self._log.info(_CALLER, "compacted Raft logs", **{"compact-index": compact_index})
        self.busy = False

    # -- To a follower

    def make(self, then: MadeThen) -> None:
        """Give a snapshot of the state as applied, and the view that belongs to it; `released` must follow."""
        self._sending += 1
        self._wanted.append(then)
        self._backend.snapshot_view(self._viewed)

    def before_commit(self) -> None:
        """A commit begins: views that were asked for before will show exactly the present state."""
        if self._wanted:
            applier = self._applier
            data = self._cluster.snapshot_data()
            self._made = Snapshot(data, applier.applied_index, applier.applied_term, applier.conf_state)
            self._serving = self._wanted
            self._wanted = []

    def _viewed(self, view: ReadView) -> None:
        self._serving.pop(0)(self._made, view)

    def released(self, sent: bool) -> None:
        """A snapshot has been sent, or given up. One that arrived still needs the log behind it for a while."""
        if sent:
            self._loop.later(HOLD_NS, self._release)
        else:
            self._release()

    def _release(self) -> None:
        self._sending -= 1

    # -- From the leader

    def install(self, snapshot: Snapshot, state: HardState | None, entries: list[Entry]) -> None:
        """Replace everything by a snapshot whose database has been received."""
        self.installs += 1
        fields = {"current-snapshot-index": self.index, "current-applied-index": self._applier.applied_index}
        fields["incoming-leader-snapshot-index"] = snapshot.index
        fields["incoming-leader-snapshot-term"] = snapshot.term
        self._log.info(_CALLER, "applying snapshot", **fields)
        self._incoming = snapshot
        directory = self._config.snap_dir
        record = _Record(self._disk, directory, self._wal, self._log, snapshot, state, entries, self.times)
        self._loop.work(record.run, self._recorded_received)

    def _recorded_received(self, _result: object, error: BaseException | None) -> None:
        if error is not None:
            self._loop.fatal(error)
            return
        path = f"{self._config.snap_dir}/{snapfile.snap_db_name(self._incoming.index)}"
        received = ReceivedDb(self._disk, path, self._log)
        self._received = received
        self._loop.work(received.open, self._opened)

    def _opened(self, _result: object, error: BaseException | None) -> None:
        received = self._received
        if error is not None:
            self._loop.fatal(error)
        elif received is not None:
            try:
                self._loading = Loading(received.view())
            except (CorruptError, ValueError) as trouble:
                self._loop.fatal(trouble)
                return
            self._load_some()

    def _load_some(self) -> None:
        """Load a slice of the received keys; when all are there, put the database in the place of ours."""
        received, loading = self._received, self._loading
        if received is None or loading is None:
            return
        if self._turn.dead:
            received.close()
            return
        try:
            more = loading.step(self._config.load_slice)
        except (CorruptError, ValueError) as error:
            self._loop.fatal(error)
            return
        if more:
            self._loop.soon(self._load_some)
            return
        received.close()
        self._backend.adopt(received.path, self._adopted)

    def _adopted(self) -> None:
        """The backend is the received one: load everything from it."""
        self._log.info(_CALLER, "applySnapshot: opened snapshot backend")
        try:
            self._load(self._incoming)
        except Exception as error:
            self._loop.fatal(error)
            return
        self._received = None
        self._loading = None
        self.installs -= 1
        self._turn.snapshot_installed()

    def _load(self, snapshot: Snapshot) -> None:
        backend = self._backend
        for bucket in schema.BUCKETS:
            backend.create_bucket(bucket)
        self._applier.start(snapshot.index, snapshot.term, snapshot.conf_state)
        if 0 < self._applier.consistent_index < snapshot.index:
            text = f"index {self._applier.consistent_index} does not match with snapshot (index {snapshot.index})"
            raise CorruptError(backend.path, -1, text)
        self._lessor.recover()
        self._store.restore_from(backend, self._loading)
        self._alarms.recover()
        self._cluster.load(backend)
        if snapshot.data:
            try:
                self._cluster.adopt(decode_v2store(snapshot.data))
            except ValueError as error:
                raise CorruptError("raft snapshot", snapshot.index, str(error)) from error
        self._applier.removed = self._applier.removed or self._cluster.local_id in self._cluster.removed
        self.index = max(self.index, snapshot.index)
        self._wal.release_to(snapshot.index)
        self._transport.reset_peers({member.id: member.peer_urls for member in self._cluster.member_list()})
        self._log.info(_CALLER, "applied snapshot", **{"snapshot-index": snapshot.index})

    # -- Old files

    def idle(self) -> bool:
        """Tell whether nothing is under way, neither a snapshot nor a purge."""
        return not self.busy and self._purging == 0

    def close(self) -> None:
        """Begin no purge any more: it takes whatever is not locked, and the WAL is about to give up its locks."""
        self._closed = True

    def purge(self) -> None:
        """Remove the oldest .snap and .wal files, unless the last purge is still at it."""
        if self._purging > 0 or self._closed:
            return
        config = self._config
        self._purging = 2
        Purge(self._loop, self._disk, config.snap_dir, ".snap", config.max_snapshots, self._log).start(self._purged)
        Purge(self._loop, self._disk, config.wal_dir, ".wal", config.max_wals, self._log).start(self._purged)

    def _purged(self) -> None:
        self._purging -= 1
