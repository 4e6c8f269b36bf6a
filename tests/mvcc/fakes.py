"""A backend in memory, a loop under the test's control, leases in two dictionaries, a sink that writes down."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable

from quorate.mvcc.record import decode_event, key_value_fields
from quorate.mvcc.store import KeyLeases, Store, StoreOptions
from quorate.mvcc.watch import WatchHub
from quorate.mvcc.watcher import WatchSink
from quorate.ports import Loop, NullLog, Timer

Rows = list[tuple[bytes, bytes]]


class Buckets:
    """Ordered buckets, as the file and the open batch together show them."""

    def __init__(self) -> None:
        self.values: dict[bytes, dict[bytes, bytes]] = {}
        self.order: dict[bytes, list[bytes]] = {}

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None:
        values = self.values.setdefault(bucket, {})
        if key not in values:
            insort(self.order.setdefault(bucket, []), key)
        values[key] = value

    def delete(self, bucket: bytes, key: bytes) -> None:
        if self.values.setdefault(bucket, {}).pop(key, None) is not None:
            order = self.order[bucket]
            del order[bisect_left(order, key)]

    def get(self, bucket: bytes, key: bytes) -> bytes | None:
        return self.values.get(bucket, {}).get(key)

    def range(self, bucket: bytes, start: bytes, end: bytes, limit: int = 0) -> Rows:
        order = self.order.get(bucket, [])
        low = bisect_left(order, start)
        high = bisect_left(order, end)
        if limit:
            high = min(high, low + limit)
        values = self.values.get(bucket, {})
        return [(key, values[key]) for key in order[low:high]]

    def copy(self) -> Buckets:
        other = Buckets()
        other.values = {bucket: dict(values) for bucket, values in self.values.items()}
        other.order = {bucket: list(order) for bucket, order in self.order.items()}
        return other

    def close(self) -> None:
        pass


class FakeBackend(Buckets):
    """The backend: what was committed, and the calls that wait for the loop."""

    def __init__(self, loop: FakeLoop, content: Buckets | None = None) -> None:
        super().__init__()
        if content is not None:
            self.values, self.order = content.values, content.order
        self.loop = loop
        self.committed: Buckets = self.copy()

    def append_revision(self, key: bytes, value: bytes) -> None:
        order = self.order.setdefault(b"key", [])
        assert not order or key > order[-1], "revisions must ascend"
        order.append(key)
        self.values.setdefault(b"key", {})[key] = value

    def commit(self, done: Callable[[], None] | None = None) -> None:
        self.committed = self.copy()
        if done is not None:
            self.loop.soon(done)

    def read_view(self, done: Callable[[Buckets], None]) -> None:
        def pin() -> None:
            self.committed = self.copy()
            done(self.committed.copy())

        self.loop.soon(pin)


class FakeTimer(Timer):
    def __init__(self, at_ns: int, call: Callable[[], None]) -> None:
        self.at_ns = at_ns
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class FakeLoop(Loop):
    """Calls happen when the test says `turn` or `run`; the clock moves to the next timer."""

    def __init__(self) -> None:
        self.now_ns = 1_000
        self.calls: list[Callable[[], None]] = []
        self.timers: list[FakeTimer] = []

    def monotonic_ns(self) -> int:
        return self.now_ns

    def time_ns(self) -> int:
        return self.now_ns

    def soon(self, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def later(self, delay_ns: int, call: Callable[[], None]) -> Timer:
        timer = FakeTimer(self.now_ns + delay_ns, call)
        self.timers.append(timer)
        return timer

    def fatal(self, error: BaseException) -> None:
        raise error

    def turn(self) -> bool:
        """Make the calls that are due, or else those of the next timer. False when there is nothing to do."""
        calls, self.calls = self.calls, []
        if not calls:
            self.timers = [timer for timer in self.timers if timer.call is not None]
            if not self.timers:
                return False
            timer = min(self.timers, key=lambda t: t.at_ns)
            self.timers.remove(timer)
            self.now_ns = max(self.now_ns, timer.at_ns)
            if timer.call is not None:
                calls = [timer.call]
        for call in calls:
            call()
        return True

    def run(self, turns: int = 10_000) -> None:
        for _ in range(turns):
            if not self.turn():
                return
        raise AssertionError("the loop does not come to rest")


class FakeLeases(KeyLeases):
    def __init__(self) -> None:
        self.by_key: dict[bytes, int] = {}
        self.known: set[int] = set(range(1, 100))

    def lease_of(self, key: bytes) -> int:
        return self.by_key.get(key, 0)

    def attach(self, lease: int, key: bytes) -> None:
        assert lease in self.known
        assert key not in self.by_key
        self.by_key[key] = lease

    def detach(self, lease: int, key: bytes) -> None:
        assert self.by_key.pop(key) == lease

    def exists(self, lease: int) -> bool:
        return lease in self.known


class Member:
    """A store with its surroundings, which can be restarted."""

    def __init__(self, options: StoreOptions | None = None, content: Buckets | None = None) -> None:
        self.options = options or StoreOptions()
        self.loop = FakeLoop()
        self.backend = FakeBackend(self.loop, content)
        self.leases = FakeLeases()
        self.hub = WatchHub()
        self.store = Store(self.backend, self.leases, self.hub, self.options, self.loop, NullLog())
        self.store.restore()

    def restart(self) -> Member:
        """Return the member after a crash that lost nothing of the open batch."""
        return Member(self.options, self.backend.copy())


class Sink(WatchSink):
    """Writes down what it is given. `room` is how many calls it takes before it is not ready; -1 for any number."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, list[bytes]]] = []
        self.ended: list[tuple[int, int]] = []
        self.room = -1

    def ready(self) -> bool:
        return self.room != 0

    def events(self, watch_id: int, rev: int, events: list[bytes]) -> None:
        assert self.room != 0
        assert events
        self.room -= self.room > 0
        self.calls.append((watch_id, rev, events))

    def compacted(self, watch_id: int, compact_rev: int) -> None:
        assert self.room != 0
        self.ended.append((watch_id, compact_rev))

    def seen(self, watch_id: int) -> list[Seen]:
        return [see(event) for call in self.calls if call[0] == watch_id for event in call[2]]


Fields = tuple[bytes, int, int, int, bytes, int]
Seen = tuple[str, Fields, Fields | None]


def see(event: bytes) -> Seen:
    """Return an event as ("put" or "delete", its KeyValue's fields, the previous KeyValue's fields)."""
    deleted, record, prev = decode_event(event)
    fields = key_value_fields(record)
    return "delete" if deleted else "put", fields, None if prev is None else key_value_fields(prev)
