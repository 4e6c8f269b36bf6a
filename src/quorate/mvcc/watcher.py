"""The parts of a watch: the watcher, the sink it delivers to, what it hears of, the history it catches up from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mypy_extensions import mypyc_attr

from quorate.mvcc.record import encode_delete_event, encode_deleted, encode_put_event

ONE_KEY: Final = b""
FROM_KEY: Final = b"\x00"

FILTER_NO_PUT: Final = 0
FILTER_NO_DELETE: Final = 1

# Where a watcher stands.
SYNCED: Final = 0  # has seen everything up to the current revision; hears of changes as they happen
BEHIND: Final = 1  # reads history; a slow sink makes it wait here, as etcd's victims do
COMPACTED: Final = 2  # over, because its next revision is compacted; keeps its id until the client cancels
CANCELLED: Final = 3


@mypyc_attr(allow_interpreted_subclasses=True)
class WatchSink:
    """Where a stream's watchers deliver. `api.watch` implements it.

    The only call into the hub that a method may make is to close its own stream.
    """

    def ready(self) -> bool:
        """Tell whether there is room. While not, nothing is delivered; the watcher reads what it missed later."""
        raise NotImplementedError

    def events(self, watch_id: int, rev: int, events: list[bytes]) -> None:
        """Take encoded Events in order, never empty, and the revision for the header. The list must not be changed."""
        raise NotImplementedError

    def compacted(self, watch_id: int, compact_rev: int) -> None:
        """The watcher is over: its next revision is compacted. The id stays taken until it is cancelled."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class WatchHistory:
    """What the hub asks of the store."""

    def __init__(self) -> None:
        self.current_rev = 1
        """The main revision of the last transaction that changed something; 1 in an empty store."""
        self.compact_rev = -1
        """The revision of the last compaction; -1 when there was none."""

    def revisions(self, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to `limit` (revision key, record) pairs with keys >= start, ascending."""
        raise NotImplementedError

    def record_at(self, key: bytes, rev: int) -> bytes | None:
        """Return the key's record at `rev`; None when it did not exist, or when `rev` is compacted."""
        raise NotImplementedError


class Watcher:
    """One watch of a stream. `progress_notify` and `fragment` are only kept here, for the sink's owner to read."""

    def __init__(
        self,
        serial: int,
        sink: WatchSink,
        watch_id: int,
        key: bytes,
        end: bytes,
        start_rev: int,
        filters: Sequence[int],
        prev_kv: bool,
        progress_notify: bool,
        fragment: bool,
    ) -> None:
        self.serial = serial  # distinct over all streams
        self.sink = sink
        self.watch_id = watch_id
        self.key = key
        self.end = end  # ONE_KEY, FROM_KEY, or the exclusive upper bound
        self.start_rev = start_rev
        self.min_rev = start_rev  # the first revision that it has not been asked about yet
        self.no_put = FILTER_NO_PUT in filters
        self.no_delete = FILTER_NO_DELETE in filters
        self.prev_kv = prev_kv
        self.progress_notify = progress_notify
        self.fragment = fragment
        self.state = BEHIND
        self.batch: list[bytes] = []  # events gathered in the pass under way

    def wants(self, change: Change) -> bool:
        """Tell whether a change of one of its keys is new to it and passes its filters."""
        if change.main < self.min_rev:
            return False
        return not (self.no_delete if change.deleted else self.no_put)


class Change:
    """One put or deletion, and its Event in the two shapes that watchers want, each encoded once, when first asked for.

    `prev` is the key's record at the revision before, where somebody wants it, there was one, and the change did not
    create the key.
    """

    def __init__(self, key: bytes, record: bytes, main: int, deleted: bool, prev: bytes | None) -> None:
        self.key = key
        self.record = record
        self.main = main
        self.deleted = deleted
        self.prev = prev
        self._plain: bytes | None = None
        self._with_prev: bytes | None = None

    def event(self, with_prev: bool) -> bytes:
        """Return the encoded Event."""
        if with_prev and self.prev is not None:
            if self._with_prev is None:
                self._with_prev = self._encode(self.prev)
            return self._with_prev
        if self._plain is None:
            self._plain = self._encode(None)
        return self._plain

    def _encode(self, prev: bytes | None) -> bytes:
        if self.deleted:
            return encode_delete_event(encode_deleted(self.key, self.main), prev)
        return encode_put_event(self.record, prev)
