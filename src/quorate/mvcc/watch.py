"""The watch hub: who hears of which change, and how those catch up who come late or read slowly.

(etcd: server/storage/mvcc/watchable_store.go, watcher.go.) Contract, for each watcher:
- events come in revision order, each once; all events of one revision come in one call of the sink;
- a synced watcher gets one call for each revision, during the transaction's end, with that revision for the header;
- one that is behind gets calls of up to 1,000 revisions, with the revision that was current at the pass;
- what happens between `watch` and the first delivery is not lost, and no sink is called from inside `watch`;
- when its next revision is compacted it gets `compacted`, once, and nothing after.

Synced watchers stand in a `WatcherGroup` and are told by `notify`. The others stand in a queue and read history from
the store in passes. A sink that is not ready makes its watcher join the queue at the revision it missed: nothing is
buffered here for anyone, however slow, so memory stays bounded. (etcd calls these victims, and keeps the batch that
it could not send. Here such a watcher reads the batch again; should a compaction overtake it meanwhile, it is told
`compacted`.)

A pass takes the watcher at the head of the queue, reads one window of history from its next revision, and serves all
waiting watchers whose next revision lies in that window, at most 512. A window is some 1,000 records or 4 MiB. Served
ones go to the end of the queue, so a watcher far behind does not hold up one that is close. The hub runs its passes
itself, on the loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from quorate.errors import CorruptError
from quorate.mvcc.record import key_value_fields
from quorate.mvcc.revision import is_tombstone, main_of, revision_key
from quorate.mvcc.watch_group import WatcherGroup
from quorate.mvcc.watcher import (
    BEHIND,
    CANCELLED,
    COMPACTED,
    FROM_KEY,
    ONE_KEY,
    SYNCED,
    Change,
    Watcher,
    WatchHistory,
    WatchSink,
)
from quorate.ports import Loop

WATCHERS_PER_PASS: Final = 512
WINDOW_RECORDS: Final = 1000
_WINDOW_BYTES: Final = 4 << 20
_STEP_RECORDS: Final = 50
_RETRY_NS: Final = 10_000_000
_RETRY_MAX_NS: Final = 80_000_000

EMPTY_RANGE: Final = "mvcc: watcher range is empty"
DUPLICATE_ID: Final = "mvcc: duplicate watch ID provided on the WatchStream"


class WatchError(Exception):
    """A watch that cannot be created; `text` is the cancel_reason."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class WatchHub:
    """All watchers of the member. `Store` attaches itself; until then nothing can be watched."""

    def __init__(self) -> None:
        self.streams = 0
        self.watchers = 0
        self.events_sent = 0
        self.synced = WatcherGroup()
        self._behind: dict[int, Watcher] = {}  # the queue, by serial
        self._serial = 0
        self._scheduled = False
        self._retry_ns = _RETRY_NS  # how long to wait for sinks that are not ready; grows while none gets ready
        self._history: WatchHistory = WatchHistory()
        self._loop: Loop = Loop()

    def attach(self, history: WatchHistory, loop: Loop) -> None:
        """Take the store to read from and the loop to run on."""
        self._history = history
        self._loop = loop

    def stream(self, sink: WatchSink) -> WatchStream:
        """Return a new stream of watchers that deliver to one sink."""
        self.streams += 1
        return WatchStream(self, sink)

    def slow_watchers(self) -> int:
        """Return how many watchers are not synced."""
        return len(self._behind)

    # What the store calls

    def notify(self, rev: int, changes: list[Change]) -> None:
        """Tell the synced watchers of a transaction, after the store has made `rev` its current revision."""
        if len(changes) == 1:
            change = changes[0]
            for watcher in self.synced.match(change.key):
                if watcher.wants(change):
                    watcher.batch.append(change.event(watcher.prev_kv))
                    self._deliver(watcher, rev)
            return
        told: dict[int, Watcher] = {}
        for change in changes:
            for watcher in self.synced.match(change.key):
                if watcher.wants(change):
                    watcher.batch.append(change.event(watcher.prev_kv))
                    told[watcher.serial] = watcher
        for watcher in told.values():
            self._deliver(watcher, rev)

    def restored(self, rev: int) -> None:
        """Let all watchers catch up from a store that was replaced; `rev` was current before, and they have seen it."""
        for watcher in self.synced.members():
            watcher.min_rev = max(watcher.min_rev, rev + 1)
            self._fall_behind(watcher)

    # Catching up

    def sync_some(self) -> bool:
        """Make one pass. Return True when another one would find something to do now."""
        waiting = self._ready_watchers()
        if not waiting:
            return False
        first = waiting[0].min_rev
        rows, after = self._read_window(first)
        current = self._history.current_rev
        chosen: list[Watcher] = []
        for watcher in waiting:
            if first <= watcher.min_rev < after:
                chosen.append(watcher)
                if len(chosen) == WATCHERS_PER_PASS:
                    break
        self._gather(chosen, rows)
        for watcher in chosen:
            if watcher.batch:
                # Watchers of one stream share its sink, and the one before may have filled it, or closed the stream.
                if watcher.state != BEHIND or not watcher.sink.ready():
                    watcher.batch = []
                    continue
                self._send(watcher, current)
            if watcher.state != BEHIND:
                continue
            watcher.min_rev = after
            del self._behind[watcher.serial]
            if after > current:
                watcher.state = SYNCED
                self.synced.add(watcher)
            else:
                self._behind[watcher.serial] = watcher
        return after <= current or len(chosen) < len(waiting)

    def _ready_watchers(self) -> list[Watcher]:
        """Return the queue's watchers that can be served; end the compacted ones, pass those that need nothing."""
        current = self._history.current_rev
        compacted = self._history.compact_rev
        ready: list[Watcher] = []
        for watcher in list(self._behind.values()):
            if watcher.state != BEHIND:
                continue
            if watcher.min_rev > current:
                del self._behind[watcher.serial]
                watcher.state = SYNCED
                self.synced.add(watcher)
            elif not watcher.sink.ready():
                continue
            elif watcher.min_rev < compacted:
                del self._behind[watcher.serial]
                watcher.state = COMPACTED
                watcher.sink.compacted(watcher.watch_id, compacted)
            else:
                ready.append(watcher)
        return ready

    def _read_window(self, first: int) -> tuple[list[tuple[bytes, bytes]], int]:
        """Return the records of whole revisions from `first` on, and the revision to go on with."""
        rows: list[tuple[bytes, bytes]] = []
        size = 0
        start = revision_key(first, 0)
        while True:
            step = self._history.revisions(start, _STEP_RECORDS)
            rows += step
            if len(step) < _STEP_RECORDS:
                return rows, self._history.current_rev + 1
            for row in step:
                size += len(row[1])
            last = main_of(rows[-1][0])
            # A revision is never split: leave out the one that may be incomplete, or read on while it is the only one.
            if (len(rows) >= WINDOW_RECORDS or size >= _WINDOW_BYTES) and main_of(rows[0][0]) != last:
                while main_of(rows[-1][0]) == last:
                    rows.pop()
                return rows, last
            start = step[-1][0] + b"\x00"

    def _gather(self, watchers: list[Watcher], rows: list[tuple[bytes, bytes]]) -> None:
        """Put the events of the rows into the batches of those watchers that want them."""
        group = WatcherGroup()
        for watcher in watchers:
            group.add(watcher)
        for revision, record in rows:
            try:
                key, create, mod, _, _, _ = key_value_fields(record)
            except ValueError as error:
                raise CorruptError("db", -1, f"revision {revision.hex()}: {error}") from error
            main = main_of(revision)
            change: Change | None = None
            for watcher in group.match(key):
                if change is None:
                    deleted = is_tombstone(revision)
                    prev: bytes | None = None
                    if group.wanting_prev and (deleted or create != mod):
                        prev = self._history.record_at(key, main - 1)
                    change = Change(key, record, main, deleted, prev)
                if watcher.wants(change):
                    watcher.batch.append(change.event(watcher.prev_kv))

    # Inside

    def _watch(self, watcher: Watcher) -> None:
        self.watchers += 1
        current = self._history.current_rev
        if watcher.start_rev == 0 or watcher.start_rev > current:
            watcher.min_rev = max(watcher.start_rev, current + 1)
            watcher.state = SYNCED
            self.synced.add(watcher)
        else:
            self._behind[watcher.serial] = watcher
            self._schedule()

    def _cancel(self, watcher: Watcher) -> None:
        self.watchers -= 1
        if watcher.state == SYNCED:
            self.synced.remove(watcher)
        elif watcher.state == BEHIND:
            del self._behind[watcher.serial]
        watcher.state = CANCELLED

    def _next_serial(self) -> int:
        self._serial += 1
        return self._serial

    def _deliver(self, watcher: Watcher, rev: int) -> None:
        """Send a synced watcher's batch, or let it fall behind."""
        if watcher.state != SYNCED:
            watcher.batch = []  # its stream was closed while another watcher was told
        elif watcher.sink.ready():
            watcher.min_rev = rev + 1
            self._send(watcher, rev)
        else:
            watcher.batch = []
            watcher.min_rev = rev
            self._fall_behind(watcher)

    def _send(self, watcher: Watcher, rev: int) -> None:
        batch = watcher.batch
        watcher.batch = []
        self.events_sent += len(batch)
        watcher.sink.events(watcher.watch_id, rev, batch)

    def _fall_behind(self, watcher: Watcher) -> None:
        self.synced.remove(watcher)
        watcher.state = BEHIND
        self._behind[watcher.serial] = watcher
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        sent = self.events_sent
        try:
            more = self.sync_some()
        except CorruptError as error:
            self._loop.fatal(error)
            return
        if more:
            self._schedule()
        elif self._behind:
            self._retry_ns = _RETRY_NS if self.events_sent > sent else min(2 * self._retry_ns, _RETRY_MAX_NS)
            self._scheduled = True
            self._loop.later(self._retry_ns, self._run)


class WatchStream:
    """The watchers of one Watch call."""

    def __init__(self, hub: WatchHub, sink: WatchSink) -> None:
        self.watchers: dict[int, Watcher] = {}  # by watch id; compacted ones stay until they are cancelled
        self._hub = hub
        self._sink = sink
        self._next_id = 0
        self._closed = False

    def watch(
        self,
        key: bytes,
        end: bytes,
        start_rev: int,
        watch_id: int,
        filters: Sequence[int],
        prev_kv: bool,
        progress_notify: bool,
        fragment: bool,
    ) -> int:
        """Start a watcher of `key`, of [key, end), or with `end` b"\\0" of all keys from `key` on; return its id.

        `start_rev` 0 means from the next revision on; it is not negative. `watch_id` 0 takes the lowest free id at or
        above a counter. Raises WatchError.
        """
        if end != ONE_KEY and end != FROM_KEY and key >= end:
            raise WatchError(EMPTY_RANGE)
        if watch_id == 0:
            while self._next_id in self.watchers:
                self._next_id += 1
            watch_id = self._next_id
            self._next_id += 1
        elif watch_id in self.watchers:
            raise WatchError(DUPLICATE_ID)
        assert not self._closed
        serial = self._hub._next_serial()
        watcher = Watcher(
            serial, self._sink, watch_id, key, end, start_rev, filters, prev_kv, progress_notify, fragment
        )
        self.watchers[watch_id] = watcher
        self._hub._watch(watcher)
        return watch_id

    def cancel(self, watch_id: int) -> bool:
        """End a watcher; False when there is none with that id."""
        watcher = self.watchers.pop(watch_id, None)
        if watcher is None:
            return False
        self._hub._cancel(watcher)
        return True

    def in_sync(self, watch_id: int) -> bool:
        """Tell whether the watcher has seen everything up to now and its start revision is reached."""
        watcher = self.watchers.get(watch_id)
        if watcher is None or watcher.state != SYNCED:
            return False
        return watcher.start_rev <= self._hub._history.current_rev

    def progress_all(self) -> bool:
        """Tell whether there are watchers and all are in sync; the caller may then announce the current revision."""
        for watch_id in self.watchers:
            if not self.in_sync(watch_id):
                return False
        return bool(self.watchers)

    def close(self) -> None:
        """End all watchers. Nothing is delivered any more."""
        if self._closed:
            return
        self._closed = True
        for watcher in self.watchers.values():
            self._hub._cancel(watcher)
        self.watchers = {}
        self._hub.streams -= 1
