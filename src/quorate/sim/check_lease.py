"""Leases: they end when they are revoked, never early, and only by the leader's word.

A lease that nobody asked to revoke was revoked because it expired. Then its leader proposed that, in its own term, and
not before the TTL had passed since the grant was applied, and since each renewal that was acknowledged was asked for
(a member renews after that, so its own deadline is later). All leases end when nobody renews them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quorate.proto.rpc_pb2 import LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest
from quorate.sim.clock import SECOND
from quorate.sim.history import Renewal
from quorate.sim.model import Applied

if TYPE_CHECKING:
    from quorate.sim.world import World


def check_leases(world: World) -> list[str]:
    """Return what is wrong."""
    model, history = world.model, world.history
    revoked_by_client = {op.request.ID for op in history.ops if isinstance(op.request, LeaseRevokeRequest)}
    renewals: dict[int, list[Renewal]] = {}
    for renewal in history.renewals:
        renewals.setdefault(renewal.lease_id, []).append(renewal)
    problems = []
    granted: dict[int, tuple[int, int]] = {}
    for entry in model.entries:
        if entry.internal is None or entry.error is not None:
            continue
        request = entry.request if entry.kind else None
        if isinstance(request, LeaseGrantRequest):
            assert isinstance(entry.response, LeaseGrantResponse)
            granted[request.ID] = (entry.when_ns, entry.response.TTL)
        elif isinstance(request, LeaseRevokeRequest):
            mine = renewals.get(request.ID, [])
            if request.ID not in revoked_by_client:
                problems += _check_expiry(world, entry, request.ID, granted[request.ID], mine)
            problems += _check_after(world, entry, mine)
    if model.leases:
        problems.append(f"leases that never end: {', '.join(f'{lease_id:x}' for lease_id in model.leases)}")
    return problems


def _check_expiry(
    world: World, entry: Applied, lease_id: int, granted: tuple[int, int], renewals: list[Renewal]
) -> list[str]:
    problems = []
    proposed_ns = world.observer.appended.get((entry.index, entry.term), entry.when_ns)
    leader = world.observer.leaders.get(entry.term, "")
    proposer = entry.request_id >> 48
    if leader and world.nodes[leader].member_id & 0xFFFF != proposer:
        problems.append(f"lease {lease_id:x} was expired (entry {entry.index}) by another member than leader {leader}")
    granted_ns, ttl_s = granted
    if proposed_ns < granted_ns + ttl_s * SECOND:
        problems.append(f"lease {lease_id:x} expired {_early(granted_ns, ttl_s, proposed_ns)} s too early after grant")
    for renewal in renewals:
        due_ns = renewal.invoked_ns + renewal.ttl_s * SECOND
        # One that was answered when the lease was revoked already is not an early end: see _check_after.
        if renewal.ttl_s > 0 and renewal.invoked_ns < proposed_ns < due_ns:
            early = _early(renewal.invoked_ns, renewal.ttl_s, proposed_ns)
            problems.append(f"lease {lease_id:x} expired (entry {entry.index}) {early} s too early after a renewal")
    return problems


def _early(since_ns: int, ttl_s: int, proposed_ns: int) -> str:
    return f"{(since_ns + ttl_s * SECOND - proposed_ns) / SECOND:.3f}"


def _check_after(world: World, entry: Applied, renewals: list[Renewal]) -> list[str]:
    """Check that nobody is told that a lease lives which is known to be revoked.

    A leader that was replaced may say so until it notices, which takes two election timeouts at most.
    """
    grace_ns = 2 * world.plan.tick_ns * world.plan.election_ticks
    return [
        f"lease {renewal.lease_id:x} was renewed by {renewal.node} long after it was revoked (entry {entry.index})"
        for renewal in renewals
        if renewal.ttl_s > 0 and renewal.invoked_ns > entry.when_ns + grace_ns
    ]
