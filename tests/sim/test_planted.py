"""The checkers see: bugs are planted in the real rooms, and each must be found within a few short histories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from quorate.api import watch as api_watch
from quorate.lease.lessor import Lessor
from quorate.mvcc.store import Store
from quorate.mvcc.watch import WatchHub, WatchStream
from quorate.raft.node import RawNode
from quorate.server import core, leasing, txn
from quorate.server.apply import Applier
from quorate.server.core import Server
from quorate.server.execute import Executor
from quorate.sim import plan as kinds
from quorate.sim.clock import MS, SECOND
from quorate.sim.plan import Plan
from quorate.sim.world import World
from quorate.storage.wal import Wal

pytestmark = pytest.mark.skipif(not core.__file__.endswith(".py"), reason="compiled code cannot be patched")

Patch = Callable[[pytest.MonkeyPatch], None]


def short_plan(seed: int, faults: list[str]) -> Plan:
    plan = Plan(seed, 3, 6 * SECOND)
    plan.faults = faults
    plan.fault_gap_ns = 400 * MS
    plan.links.loss = plan.links.repeat = plan.links.reorder = 0.0
    plan.links.delay_ns = MS
    plan.think_ns = 10 * MS
    plan.timeout_ns = 3 * SECOND
    plan.kv_clients, plan.watch_clients, plan.lease_clients = 3, 2, 2
    plan.durable_sample = 1.0
    plan.admin = []
    return plan


def found(faults: list[str], seeds: int) -> str:
    """Return what the first failing history says."""
    for seed in range(1, seeds + 1):
        try:
            World(short_plan(seed, faults)).run()
        except Exception as error:
            return str(error)
    return ""


def test_nothing_is_found_where_nothing_is_planted() -> None:
    assert found([kinds.CRASH, kinds.ISOLATE_LEADER], 3) == ""


def no_sync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Wal, "sync", lambda self: None)


def stale_reads(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Server, "_reads_at_once", lambda self: True)


def lost_events(patch: pytest.MonkeyPatch) -> None:
    notify = WatchHub.notify

    def sometimes(self: WatchHub, rev: int, changes: Any) -> None:
        if rev % 20:
            notify(self, rev, changes)

    patch.setattr(WatchHub, "notify", sometimes)


def early_progress(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(WatchStream, "progress_all", lambda self: True)
    patch.setattr(api_watch._WatchCall, "ready", lambda self: self._server.loop.random_bits(1) == 1)


def followers_expire_leases(patch: pytest.MonkeyPatch) -> None:
    applied = Executor.lease_grant

    def grant(self: Executor, request: Any) -> bytes:
        self._lessor.promote(0, self._loop.monotonic_ns())
        return applied(self, request)

    patch.setattr(Executor, "lease_grant", grant)
    patch.setattr(leasing.Leasing, "_scan", lambda self: self._scan_now())
    patch.setattr(Server, "_propose_leading", Server._propose)


def renewals_forgotten(patch: pytest.MonkeyPatch) -> None:
    def renew(self: Lessor, lease_id: int, now_ns: int) -> int:
        lease = self.lookup(lease_id)
        return lease.ttl_s if lease is not None else 0

    patch.setattr(Lessor, "renew", renew)


def index_too_high(patch: pytest.MonkeyPatch) -> None:
    before_commit = Applier.before_commit

    def ahead(self: Applier) -> None:
        self.consistent_index += 1
        try:
            before_commit(self)
        finally:
            self.consistent_index -= 1

    patch.setattr(Applier, "before_commit", ahead)


def one_member_differs(patch: pytest.MonkeyPatch) -> None:
    delete_range = Executor.delete_range

    def skipping(self: Executor, request: Any) -> bytes:
        if self._loop.random_bits(3) == 0:
            request = type(request)(key=b"nothing")
        return delete_range(self, request)

    patch.setattr(Executor, "delete_range", skipping)


def compares_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(txn, "holds", lambda reader, compare: True)


def old_reads_at_the_wrong_revision(patch: pytest.MonkeyPatch) -> None:
    read = Store._range

    def off(self: Store, key: bytes, end: bytes, rev: int, limit: int, count_only: bool, now: int) -> Any:
        return read(self, key, end, rev if rev == 0 or rev == now else rev + 1, limit, count_only, now)

    patch.setattr(Store, "_range", off)


def votes_asked_too_early(patch: pytest.MonkeyPatch) -> None:
    ready = RawNode.ready

    def early(self: RawNode) -> Any:
        found = ready(self)
        found.early = len(found.messages)
        return found

    patch.setattr(RawNode, "ready", early)


@pytest.mark.parametrize(
    ("plant", "faults", "says"),
    [
        (no_sync, [kinds.CRASH], ("durable", "promised", "acknowledged", "came back")),
        (stale_reads, [kinds.ISOLATE_LEADER], ("stale",)),
        (lost_events, [], ("instead of", "never heard", "announced before")),
        (early_progress, [], ("announced before",)),
        (followers_expire_leases, [], ("by another member", "too early")),
        (renewals_forgotten, [], ("too early after a renewal",)),
        (index_too_high, [kinds.KILL], ("came back at index", "revision")),
        (one_member_differs, [], ("should be",)),
        (compares_ignored, [], ("should be", "holds", "compares")),
        (old_reads_at_the_wrong_revision, [], ("at revision",)),
        (votes_asked_too_early, [kinds.CRASH_INSIDE, kinds.CRASH], ("promised", "voted", "acknowledged", "durable")),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_planted_bug_is_found(
    plant: Patch, faults: list[str], says: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    text = found(faults, 6)
    assert any(phrase in text for phrase in says), text or "nothing was found"
