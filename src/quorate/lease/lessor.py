"""The lessor: which leases exist, which keys hang on them, and, on the leader, when they end.

Contract: sans-IO. Grant, revoke, checkpoint, attach and detach are effects of log entries and happen alike on every
member; what is stored of a lease (bucket `lease`: 8 bytes big-endian ID -> leasepb.Lease) goes to the backend in the
transaction of the entry. Expiry is the leader's business alone: only the primary lessor has a clock, which comes in as
`now_ns`, and it revokes nothing by itself: `expired` tells the server what to propose.

Invariants:
- `_lease_by_key[key] == id` if and only if `key in _leases[id].keys`.
- Not primary: every lease's `expiry_ns` is FOREVER.
- Primary: every lease has exactly one valid place in the expiry heap, at `scan_ns`, never later than its expiry. Others
  with its id are stale (of a revoked lease). A renewal moves only the lease's expiry; the heap notices when the old
  time comes. So renewing costs no heap work.

Source: etcd server/lease/lessor.go.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final

from mypy_extensions import mypyc_attr

from quorate.errors import LEASE_EXIST, LEASE_NOT_FOUND, LEASE_TTL_TOO_LARGE, CorruptError
from quorate.measure import Histogram, exponential
from quorate.mvcc.needs import Backend, KeyLeases
from quorate.storage import schema

SECOND: Final = 1_000_000_000
FOREVER: Final = 1 << 62
MAX_TTL_S: Final = 9_000_000_000

# Expiries that a leader schedules into one second when many leases fall together (etcd: 3/4 of leaseRevokeRate).
EXPIRIES_PER_SECOND: Final = 750
SPREAD_FROM_LEASES: Final = 1_000

CHECKPOINT_INTERVAL_NS: Final = 300 * SECOND


class Lease:
    """One lease. `remaining_ttl_s` is the last checkpoint, 0 when there is none since the last renewal."""

    def __init__(self, lease_id: int, ttl_s: int, remaining_ttl_s: int) -> None:
        self.id = lease_id
        self.ttl_s = ttl_s
        self.remaining_ttl_s = remaining_ttl_s
        self.expiry_ns = FOREVER
        self.scan_ns = FOREVER  # of its place in the heap of expiries
        self.checkpoint_ns = FOREVER  # of its place in the heap of checkpoints
        self.keys: set[bytes] = set()

    def remaining_ns(self, now_ns: int) -> int:
        """Return how long the lease has to live; below zero when it should be revoked already."""
        return self.expiry_ns - now_ns

    def refresh(self, now_ns: int, extend_ns: int) -> None:
        """Let the lease live its TTL (or what the checkpoint left of it) and `extend_ns` from now on."""
        self.expiry_ns = now_ns + extend_ns + (self.remaining_ttl_s or self.ttl_s) * SECOND


@mypyc_attr(allow_interpreted_subclasses=True)
class Lessor(KeyLeases):
    """All leases of a member."""

    def __init__(
        self, backend: Backend, min_ttl_s: int, retry_ns: int, checkpoints: bool = False, persist: bool = False
    ) -> None:
        """Make an empty lessor.

        `retry_ns`: an expired lease that was not revoked is reported again after this. `checkpoints`: schedule them;
        `persist`: store the remaining TTL that a checkpoint brings.
        """
        self._backend = backend
        self._min_ttl_s = min_ttl_s
        self._retry_ns = retry_ns
        self._checkpoints = checkpoints
        self.persist_checkpoints = persist
        self._leases: dict[int, Lease] = {}
        self._lease_by_key: dict[bytes, int] = {}
        self._primary = False
        self._expiries: list[tuple[int, int]] = []  # heap of (time, lease id)
        self._checkpoint_times: list[tuple[int, int]] = []
        self.granted_total = 0
        self.revoked_total = 0
        self.renewed_total = 0
        self.ttl_seconds = Histogram(exponential(1, 2, 24))

    # -- Effects of log entries

    def grant(self, lease_id: int, ttl_s: int, now_ns: int) -> Lease:
        """Create and store a lease; a TTL below the minimum is raised to it.

        Raises LEASE_TTL_TOO_LARGE, LEASE_EXIST, and LEASE_NOT_FOUND for ID 0, which means "no lease".
        """
        if lease_id == 0:
            raise LEASE_NOT_FOUND
        if ttl_s > MAX_TTL_S:
            raise LEASE_TTL_TOO_LARGE
        if lease_id in self._leases:
            raise LEASE_EXIST
        lease = Lease(lease_id, max(ttl_s, self._min_ttl_s), 0)
        self._leases[lease_id] = lease
        self._persist(lease)
        if self._primary:
            lease.refresh(now_ns, 0)
            self._place(lease, lease.expiry_ns)
            self._schedule_checkpoint(lease, now_ns)
        self.granted_total += 1
        self.ttl_seconds.observe(lease.ttl_s)
        return lease

    def revoke(self, lease_id: int) -> list[bytes]:
        """Remove a lease and return its keys, ascending; the caller deletes them in the same transaction.

        Raises LEASE_NOT_FOUND.
        """
        lease = self._leases.pop(lease_id, None)
        if lease is None:
            raise LEASE_NOT_FOUND
        keys = sorted(lease.keys)
        for key in keys:
            del self._lease_by_key[key]
        self._backend.delete(schema.LEASE, schema.lease_key(lease_id))
        self.revoked_total += 1
        return keys

    def checkpoint(self, lease_id: int, remaining_ttl_s: int, now_ns: int) -> None:
        """Note what the leader says is left of a lease; unknown leases are ignored."""
        lease = self._leases.get(lease_id)
        if lease is None:
            return
        lease.remaining_ttl_s = remaining_ttl_s
        if self.persist_checkpoints:
            self._persist(lease)
        if self._primary:
            self._schedule_checkpoint(lease, now_ns)

    def _persist(self, lease: Lease) -> None:
        record = schema.encode_lease(lease.id, lease.ttl_s, lease.remaining_ttl_s)
        self._backend.put(schema.LEASE, schema.lease_key(lease.id), record)

    # -- Keys (asked by mvcc)

    def exists(self, lease_id: int) -> bool:
        """Tell whether the lease is there (expired ones are, until they are revoked)."""
        return lease_id in self._leases

    def lease_of(self, key: bytes) -> int:
        """Return the lease a key hangs on, 0 for none."""
        return self._lease_by_key.get(key, 0)

    def attach(self, lease_id: int, key: bytes) -> None:
        """Hang a key on a lease, taking it from another one. An unknown lease is ignored (only old data has such)."""
        lease = self._leases.get(lease_id)
        if lease is None:
            return
        before = self._lease_by_key.get(key, 0)
        if before == lease_id:
            return
        if before != 0:
            self._leases[before].keys.discard(key)
        lease.keys.add(key)
        self._lease_by_key[key] = lease_id

    def detach(self, lease_id: int, key: bytes) -> None:
        """Take a key from the lease; harmless when it does not hang there."""
        if self._lease_by_key.get(key, 0) != lease_id:
            return
        del self._lease_by_key[key]
        self._leases[lease_id].keys.discard(key)

    # -- The leader's side

    def promote(self, extend_ns: int, now_ns: int) -> None:
        """Become primary: every lease lives on for its remaining TTL and `extend_ns`, pile-ups spread out."""
        self._primary = True
        for lease in self._leases.values():
            lease.refresh(now_ns, extend_ns)
        if len(self._leases) >= SPREAD_FROM_LEASES:
            self._spread(extend_ns, now_ns)
        self._expiries = []
        for lease in self._leases.values():
            lease.scan_ns = lease.expiry_ns
            self._expiries.append((lease.scan_ns, lease.id))
        heapify(self._expiries)
        self._checkpoint_times = []
        for lease in self._leases.values():
            self._schedule_checkpoint(lease, now_ns)

    def _spread(self, extend_ns: int, now_ns: int) -> None:
        """Push expiries apart so that no second has more than EXPIRIES_PER_SECOND (etcd: lessor.Promote)."""
        leases = self.leases()
        base = leases[0].remaining_ns(now_ns)
        window_end = base + SECOND
        expiries = 0
        for lease in leases:
            remaining = lease.remaining_ns(now_ns)
            if remaining > window_end:
                base = remaining
                window_end = base + SECOND
                expiries = 1
                continue
            expiries += 1
            if expiries <= EXPIRIES_PER_SECOND:
                continue
            # A lease that ends n seconds after the base needs n seconds less of delay.
            delay = SECOND * expiries // EXPIRIES_PER_SECOND - (remaining - base)
            window_end = base + delay
            lease.refresh(now_ns, delay + extend_ns)

    def demote(self) -> None:
        """Stop being primary: no lease ends here any more."""
        self._primary = False
        for lease in self._leases.values():
            lease.expiry_ns = FOREVER
        self._expiries = []
        self._checkpoint_times = []

    def is_primary(self) -> bool:
        """Tell whether expiry runs here."""
        return self._primary

    def renew(self, lease_id: int, now_ns: int) -> int:
        """Give a lease its full TTL again and return it. Raises LEASE_NOT_FOUND.

        The caller has made sure that this lessor is primary and that the lease has not expired.
        """
        lease = self._leases.get(lease_id)
        if lease is None:
            raise LEASE_NOT_FOUND
        lease.remaining_ttl_s = 0
        lease.refresh(now_ns, 0)
        self.renewed_total += 1
        return lease.ttl_s

    def expired(self, now_ns: int, limit: int) -> list[int]:
        """Return up to `limit` leases to revoke. Each is reported again after the retry time if it is still there."""
        found: list[int] = []
        heap = self._expiries
        while heap and heap[0][0] <= now_ns and len(found) < limit:
            at_ns, lease_id = heappop(heap)
            lease = self._leases.get(lease_id)
            if lease is None or lease.scan_ns != at_ns:
                continue
            if lease.expiry_ns > now_ns:
                self._place(lease, lease.expiry_ns)
                continue
            found.append(lease_id)
            self._place(lease, now_ns + self._retry_ns)
        return found

    def _place(self, lease: Lease, at_ns: int) -> None:
        lease.scan_ns = at_ns
        heappush(self._expiries, (at_ns, lease.id))

    def _schedule_checkpoint(self, lease: Lease, now_ns: int) -> None:
        if self._checkpoints and lease.remaining_ns(now_ns) > CHECKPOINT_INTERVAL_NS:
            lease.checkpoint_ns = now_ns + CHECKPOINT_INTERVAL_NS
            heappush(self._checkpoint_times, (lease.checkpoint_ns, lease.id))

    def due_checkpoints(self, now_ns: int, limit: int) -> list[tuple[int, int]]:
        """Return up to `limit` pairs (lease, remaining TTL in seconds, rounded up) to be told to all members."""
        due: list[tuple[int, int]] = []
        heap = self._checkpoint_times
        while heap and heap[0][0] <= now_ns and len(due) < limit:
            at_ns, lease_id = heappop(heap)
            lease = self._leases.get(lease_id)
            if lease is None or lease.checkpoint_ns != at_ns or lease.expiry_ns <= now_ns:
                continue
            remaining_s = -(-lease.remaining_ns(now_ns) // SECOND)
            if remaining_s < lease.ttl_s:
                due.append((lease_id, remaining_s))
        return due

    # -- Looking

    def lookup(self, lease_id: int) -> Lease | None:
        """Return a lease, or None."""
        return self._leases.get(lease_id)

    def leases(self) -> list[Lease]:
        """Return all leases, those that end first first (by ID where no expiry runs)."""
        return sorted(self._leases.values(), key=_by_expiry)

    def recover(self) -> None:
        """Load all leases from the backend, without keys: the store attaches those when it restores."""
        self._leases = {}
        self._lease_by_key = {}
        self._primary = False
        self._expiries = []
        self._checkpoint_times = []
        for key, value in self._backend.range(schema.LEASE, b"", b"\xff" * 9):
            try:
                lease_id, ttl_s, remaining_ttl_s = schema.decode_lease(value)
            except ValueError as error:
                raise CorruptError("db", -1, f"bucket lease, key {key.hex()}: {error}") from error
            if schema.lease_key(lease_id) != key:
                raise CorruptError("db", -1, f"bucket lease, key {key.hex()}: holds lease {lease_id:x}")
            self._leases[lease_id] = Lease(lease_id, max(ttl_s, self._min_ttl_s), remaining_ttl_s)


def _by_expiry(lease: Lease) -> tuple[int, int]:
    return lease.expiry_ns, lease.id
