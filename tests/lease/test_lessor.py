"""The lessor on virtual time, with a dictionary for a backend."""

from __future__ import annotations

import random

import pytest

from quorate.errors import LEASE_EXIST, LEASE_NOT_FOUND, LEASE_TTL_TOO_LARGE, CorruptError, RpcError
from quorate.lease.lessor import CHECKPOINT_INTERVAL_NS, FOREVER, SECOND, Lessor
from quorate.storage import schema


class DictBackend:
    def __init__(self) -> None:
        self.data: dict[tuple[bytes, bytes], bytes] = {}

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None:
        self.data[bucket, key] = value

    def delete(self, bucket: bytes, key: bytes) -> None:
        self.data.pop((bucket, key), None)

    def get(self, bucket: bytes, key: bytes) -> bytes | None:
        return self.data.get((bucket, key))

    def range(self, bucket: bytes, start: bytes, end: bytes, limit: int = 0) -> list[tuple[bytes, bytes]]:
        rows = sorted((k, v) for (b, k), v in self.data.items() if b == bucket and start <= k and (not end or k < end))
        return rows[:limit] if limit else rows


def make(checkpoints: bool = False, persist: bool = False) -> tuple[Lessor, DictBackend]:
    backend = DictBackend()
    return Lessor(backend, 2, 7 * SECOND, checkpoints, persist), backend  # type: ignore[arg-type]


def raises(error: RpcError, call: object, *args: object) -> None:
    with pytest.raises(RpcError) as caught:
        call(*args)  # type: ignore[operator]
    assert caught.value is error


def test_grant_rules() -> None:
    lessor, backend = make()
    assert lessor.grant(1, 60, 0).ttl_s == 60
    assert lessor.grant(2, 0, 0).ttl_s == 2
    assert lessor.grant(-5, -1, 0).ttl_s == 2
    assert lessor.grant(3, 9_000_000_000, 0).ttl_s == 9_000_000_000
    raises(LEASE_TTL_TOO_LARGE, lessor.grant, 4, 9_000_000_001, 0)
    raises(LEASE_EXIST, lessor.grant, 1, 60, 0)
    raises(LEASE_NOT_FOUND, lessor.grant, 0, 60, 0)
    assert backend.data[b"lease", bytes.fromhex("0000000000000001")] == bytes.fromhex("0801103c")
    assert backend.data[b"lease", bytes.fromhex("fffffffffffffffb")] == bytes.fromhex("08fbffffffffffffffff011002")
    assert lessor.granted_total == 4


def test_recover_finds_what_was_stored() -> None:
    lessor, backend = make()
    lessor.grant(7, 30, 0)
    lessor.grant(-7, 31, 0)
    again = Lessor(backend, 2, 7 * SECOND)  # type: ignore[arg-type]
    again.recover()
    assert [(lease.id, lease.ttl_s) for lease in again.leases()] == [(-7, 31), (7, 30)]
    assert all(lease.expiry_ns == FOREVER for lease in again.leases())
    backend.data[b"lease", schema.lease_key(9)] = schema.encode_lease(8, 1, 0)
    with pytest.raises(CorruptError, match="holds lease 8"):
        again.recover()
    backend.data[b"lease", schema.lease_key(9)] = b"\xff"
    with pytest.raises(CorruptError, match="bucket lease"):
        again.recover()


def test_keys_move_between_leases_and_go_with_them() -> None:
    lessor, backend = make()
    lessor.grant(1, 60, 0)
    lessor.grant(2, 60, 0)
    for key in (b"b", b"a", b"c"):
        lessor.attach(1, key)
    lessor.attach(2, b"b")
    lessor.attach(99, b"z")
    assert (lessor.lease_of(b"a"), lessor.lease_of(b"b"), lessor.lease_of(b"z")) == (1, 2, 0)
    lessor.detach(1, b"b")
    assert lessor.lease_of(b"b") == 2
    assert lessor.revoke(1) == [b"a", b"c"]
    assert lessor.lease_of(b"a") == 0
    assert not lessor.exists(1)
    raises(LEASE_NOT_FOUND, lessor.revoke, 1)
    assert set(backend.data) == {(b"lease", schema.lease_key(2))}


def test_only_the_primary_expires() -> None:
    lessor, _ = make()
    lessor.grant(1, 5, 0)
    assert lessor.expired(10**18, 500) == []
    lessor.promote(1 * SECOND, 100 * SECOND)
    assert lessor.expired(106 * SECOND - 1, 500) == []
    assert lessor.expired(106 * SECOND, 500) == [1]
    # Reported again when it was not revoked within the retry time.
    assert lessor.expired(107 * SECOND, 500) == []
    assert lessor.expired(113 * SECOND, 500) == [1]
    lessor.demote()
    assert lessor.expired(10**18, 500) == []
    assert lessor.lookup(1).expiry_ns == FOREVER  # type: ignore[union-attr]


def test_renewal_moves_the_expiry_without_heap_work() -> None:
    lessor, _ = make()
    lessor.promote(0, 0)
    lessor.grant(1, 5, 0)
    for second in range(1, 20):
        assert lessor.renew(1, second * SECOND) == 5
        assert lessor.expired(second * SECOND, 500) == []
    assert len(lessor._expiries) == 1
    assert lessor.expired(24 * SECOND - 1, 500) == []
    assert lessor.expired(24 * SECOND, 500) == [1]
    raises(LEASE_NOT_FOUND, lessor.renew, 2, 0)


def test_expired_is_limited_and_ordered() -> None:
    lessor, _ = make()
    lessor.promote(0, 0)
    for lease_id in range(1, 11):
        lessor.grant(lease_id, 20 - lease_id, 0)
    assert lessor.expired(100 * SECOND, 4) == [10, 9, 8, 7]
    assert lessor.expired(100 * SECOND, 4) == [6, 5, 4, 3]
    assert lessor.expired(100 * SECOND, 4) == [2, 1]


def test_a_pile_up_is_spread_at_promotion() -> None:
    lessor, _ = make()
    for lease_id in range(1, 5_001):
        lessor.grant(lease_id, 10, 0)
    lessor.promote(SECOND, 0)
    seconds: dict[int, int] = {}
    for lease in lessor.leases():
        assert lease.expiry_ns >= 11 * SECOND
        second = lease.expiry_ns // SECOND
        seconds[second] = seconds.get(second, 0) + 1
    assert max(seconds.values()) <= 760
    few, _ = make()
    for lease_id in range(1, 900):
        few.grant(lease_id, 10, 0)
    few.promote(SECOND, 0)
    assert {lease.expiry_ns for lease in few.leases()} == {11 * SECOND}


def test_checkpoints() -> None:
    lessor, backend = make(checkpoints=True, persist=True)
    lessor.promote(0, 0)
    lessor.grant(1, 1000, 0)
    lessor.grant(2, 200, 0)
    assert lessor.due_checkpoints(CHECKPOINT_INTERVAL_NS - 1, 1000) == []
    assert lessor.due_checkpoints(CHECKPOINT_INTERVAL_NS, 1000) == [(1, 700)]
    lessor.checkpoint(1, 700, CHECKPOINT_INTERVAL_NS)
    lessor.checkpoint(3, 5, 0)
    assert backend.data[b"lease", schema.lease_key(1)] == schema.encode_lease(1, 1000, 700)
    assert lessor.due_checkpoints(2 * CHECKPOINT_INTERVAL_NS, 1000) == [(1, 400)]
    # Another leader starts from the checkpoint.
    lessor.demote()
    lessor.promote(10 * SECOND, 0)
    assert lessor.lookup(1).expiry_ns == 710 * SECOND  # type: ignore[union-attr]
    again = Lessor(backend, 2, 7 * SECOND)  # type: ignore[arg-type]
    again.recover()
    assert again.lookup(1).remaining_ttl_s == 700  # type: ignore[union-attr]
    assert lessor.renew(1, 0) == 1000
    assert lessor.lookup(1).expiry_ns == 1000 * SECOND  # type: ignore[union-attr]


@pytest.mark.parametrize("seed", range(20))
def test_against_a_table_of_expiries(seed: int) -> None:
    """Random grants, renewals, revocations and scans; the twin is a plain table."""
    rng = random.Random(seed)
    lessor, _ = make()
    lessor.promote(0, 0)
    now = 0
    expiry: dict[int, int] = {}
    for _ in range(400):
        now += rng.randrange(2 * SECOND)
        choice = rng.randrange(4)
        lease_id = rng.randrange(1, 30)
        if choice == 0 and lease_id not in expiry:
            ttl = rng.randrange(1, 20)
            lessor.grant(lease_id, ttl, now)
            expiry[lease_id] = now + max(ttl, 2) * SECOND
        elif choice == 1 and expiry.get(lease_id, 0) > now:
            expiry[lease_id] = now + lessor.renew(lease_id, now) * SECOND
        elif choice == 2 and lease_id in expiry:
            lessor.revoke(lease_id)
            del expiry[lease_id]
        else:
            found = lessor.expired(now, 500)
            assert sorted(found) == sorted(key for key, at in expiry.items() if at <= now)
            for key in found:
                lessor.revoke(key)
                del expiry[key]
