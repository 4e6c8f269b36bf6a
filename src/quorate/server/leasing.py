"""What the leader does about leases: finding expired ones and revoking them through the log, renewing, checkpointing.

The lessor only knows leases; here is when. Leadership comes and goes: the lessor is promoted when the first entry of
our term is applied, and demoted at once when we stop leading. A revocation of an expired lease is a proposal like any
other; at most REVOKES_MAX are under way, the rest waits in `_to_revoke`, and a lease that survives is reported again by
the lessor. Before the first revocation after a stall of the process, leadership is verified by a read index: another
member may lead by now and have renewed the lease (etcd's issue 15247). The same goes for a leader that raft has deposed
while the turn waits for a slow sync: what it would renew here, its successor does not know of.

Source: etcd server/etcdserver/server.go (revokeExpiredLeases) and v3_server.go (LeaseRenew).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.errors import LEADER_CHANGED, LEASE_NOT_FOUND, NO_LEADER, TIMEOUT, RpcError
from quorate.lease.lessor import Lease, Lessor
from quorate.ports import Completion, Log, Loop
from quorate.proto.rpc_pb2 import LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest
from quorate.server.apply import Applier
from quorate.server.config import ServerConfig
from quorate.server.entry import LEASE_CHECKPOINT, LEASE_REVOKE
from quorate.server.stats import ServerStats
from quorate.server.transport import Transport
from quorate.server.turn import Turn

SCAN_NS: Final = 500_000_000
EXPIRED_PER_SCAN: Final = 500
REVOKES_MAX: Final = 16
CHECKPOINTS_PER_ENTRY: Final = 1_000
LAG_TICKS: Final = 3

_CALLER: Final = "etcdserver/server.go"

RenewThen = Callable[[int, RpcError | None], None]
Propose = Callable[[int, object, bytes, Completion], None]
Linearizable = Callable[[Callable[[RpcError | None], None]], None]


class Leasing:
    """The leader's care for leases. Public methods may be called on any member."""

    def __init__(
        self,
        loop: Loop,
        log: Log,
        config: ServerConfig,
        lessor: Lessor,
        turn: Turn,
        applier: Applier,
        transport: Transport,
        stats: ServerStats,
        propose: Propose,
        linearizable: Linearizable,
    ) -> None:
        self._loop = loop
        self._log = log
        self._config = config
        self._lessor = lessor
        self._turn = turn
        self._applier = applier
        self._transport = transport
        self._stats = stats
        self._propose = propose
        self._linearizable = linearizable
        self._to_revoke: list[int] = []  # expired, the next one to revoke last
        self._revoking = 0
        self._in_revoke = False
        self._ticks = 0
        self._scan_ticks = max(1, SCAN_NS // config.tick_ns)
        self._early: list[_Renewal] = []  # renewals that came before the lessor was promoted
        self.last_tick_ns = loop.monotonic_ns()

    # -- Leadership

    def term_begun(self) -> None:
        """We lead, and our state is complete."""
        self._lessor.promote(self._config.election_ns, self._loop.monotonic_ns())
        early = self._early
        self._early = []
        for renewal in early:
            self._renew_here(renewal)

    def leader_changed(self, leading: bool) -> None:
        """Somebody leads, perhaps we, but not yet with a complete state."""
        if leading:
            return
        self._lessor.demote()
        self._to_revoke = []
        waiting = self._applier.lease_waiters
        self._applier.lease_waiters = {}
        for thens in waiting.values():
            for then in thens:
                then(0, LEADER_CHANGED)
        early = self._early
        self._early = []
        for renewal in early:
            renewal.then(0, LEADER_CHANGED)

    def _lagging(self) -> bool:
        return self._loop.monotonic_ns() - self.last_tick_ns > LAG_TICKS * self._config.tick_ns

    # -- Expiry

    def tick(self) -> None:
        """Look for expired leases and due checkpoints every SCAN_NS; called every tick."""
        self._ticks += 1
        if self._ticks % self._scan_ticks == 0:
            self._scan()
        self.last_tick_ns = self._loop.monotonic_ns()

    def _scan(self) -> None:
        self._expire_early()
        if not self._lessor.is_primary():
            return
        if self._lagging() or not self._turn.leads_now():
            self._linearizable(self._verified)
            return
        self._scan_now()

    def _verified(self, error: RpcError | None) -> None:
        if error is None and self._lessor.is_primary() and self._turn.leads_now():
            self._scan_now()

    def _scan_now(self) -> None:
        now_ns = self._loop.monotonic_ns()
        expired = self._lessor.expired(now_ns, EXPIRED_PER_SCAN)
        if expired:
            # Those found earlier are revoked first; one that is still waiting is not queued twice.
            waiting = set(self._to_revoke)
            self._to_revoke = [lease_id for lease_id in reversed(expired) if lease_id not in waiting] + self._to_revoke
            self._revoke_more()
        if self._config.lease_checkpoint:
            due = self._lessor.due_checkpoints(now_ns, CHECKPOINTS_PER_ENTRY)
            if due:
                self._propose_checkpoints(due, _Ignored())

    def _revoke_more(self) -> None:
        # A proposal may fail at once, and then `revoked` comes back here; the loop below goes on by itself.
        if self._in_revoke:
            return
        self._in_revoke = True
        while self._to_revoke and self._revoking < REVOKES_MAX:
            request = LeaseRevokeRequest(ID=self._to_revoke.pop())
            self._revoking += 1
            self._propose(LEASE_REVOKE, request, request.SerializeToString(), _Revocation(self, request.ID))
        self._in_revoke = False

    def revoked(self, lease_id: int, error: RpcError | None) -> None:
        """The outcome of one of our revocations."""
        self._revoking -= 1
        if error is None:
            self._stats.lease_expired_total += 1
        else:
            fields = {"lease-id": f"{lease_id:016x}", "error": error.text}
            self._log.warn(_CALLER, "failed to revoke lease", **fields)
        self._revoke_more()

    def _propose_checkpoints(self, due: list[tuple[int, int]], done: Completion) -> None:
        request = LeaseCheckpointRequest(
            checkpoints=[LeaseCheckpoint(ID=lease_id, remaining_TTL=ttl_s) for lease_id, ttl_s in due]
        )
        self._propose(LEASE_CHECKPOINT, request, request.SerializeToString(), done)

    # -- Renewal

    def renew(self, lease_id: int, then: RenewThen) -> None:
        """Renew a lease here if we lead, else at the leader; `then(0, None)` when there is no such lease."""
        renewal = _Renewal(self, lease_id, then, self._loop.monotonic_ns() + self._config.request_timeout_ns)
        if not self._turn.leading:
            if self._turn.leader == 0:
                then(0, NO_LEADER)
            else:
                self._transport.renew_lease(self._turn.leader, lease_id, then)
        elif not self._lessor.is_primary():
            self._early.append(renewal)
        elif self._lagging() or not self._turn.leads_now() or self._applier.applied_index < self._turn.committed_index:
            self._linearizable(renewal.verified)
        else:
            self._renew_here(renewal)

    def renew_here(self, renewal: _Renewal) -> None:
        """Renew after leadership was verified."""
        if self._lessor.is_primary() and self._turn.leads_now():
            self._renew_here(renewal)
        else:
            renewal.then(0, LEADER_CHANGED)

    def _renew_here(self, renewal: _Renewal) -> None:
        lease = self._lessor.lookup(renewal.lease_id)
        now_ns = self._loop.monotonic_ns()
        if lease is None:
            renewal.then(0, None)
        elif lease.expiry_ns <= now_ns:
            # It is as good as revoked; whoever holds it hears so when it is.
            self._applier.lease_waiters.setdefault(renewal.lease_id, []).append(renewal.then)
        elif lease.remaining_ttl_s > 0 and self._config.lease_checkpoint:
            # All members must forget the checkpoint, or the next leader would count from it.
            self._propose_checkpoints([(renewal.lease_id, 0)], _RenewalAfterCheckpoint(self, renewal))
        else:
            renewal.then(self._lessor.renew(renewal.lease_id, now_ns), None)

    def finish_renewal(self, renewal: _Renewal) -> None:
        """Renew after the checkpoint was cleared."""
        if not self._turn.leads_now():
            renewal.then(0, LEADER_CHANGED)
            return
        try:
            ttl_s = self._lessor.renew(renewal.lease_id, self._loop.monotonic_ns())
        except RpcError as error:
            error.__traceback__ = None
            renewal.then(0, None if error is LEASE_NOT_FOUND else error)
            return
        renewal.then(ttl_s, None)

    def _expire_early(self) -> None:
        now_ns = self._loop.monotonic_ns()
        for renewal in self._early:
            if renewal.deadline_ns <= now_ns:
                renewal.then(0, TIMEOUT)
        self._early = [renewal for renewal in self._early if renewal.deadline_ns > now_ns]

    # -- Looking

    def time_to_live(self, lease_id: int, then: Callable[[Lease | None, int, RpcError | None], None]) -> None:
        """Look at a lease here if we lead, else at the leader: the lease (None: unknown) and its remaining seconds."""
        turn = self._turn
        if not turn.leading:
            if turn.leader == 0:
                then(None, 0, NO_LEADER)
            else:
                self._transport.lease_time_to_live(turn.leader, lease_id, then)
        elif (
            not self._lessor.is_primary() or not turn.leads_now() or self._applier.applied_index < turn.committed_index
        ):
            self._linearizable(_Look(self, lease_id, then).verified)
        else:
            self.look(lease_id, then)

    def look(self, lease_id: int, then: Callable[[Lease | None, int, RpcError | None], None]) -> None:
        """Answer from the lessor, which is primary unless leadership has just been lost."""
        lease = self._lessor.lookup(lease_id)
        if not self._lessor.is_primary():
            then(None, 0, LEADER_CHANGED)
        elif lease is None:
            then(None, 0, None)
        else:
            # Whole seconds, cut towards zero.
            remaining_ns = lease.remaining_ns(self._loop.monotonic_ns())
            seconds = abs(remaining_ns) // 1_000_000_000
            then(lease, seconds if remaining_ns >= 0 else -seconds, None)

    def stop(self, error: RpcError) -> None:
        """Fail whoever waits."""
        early = self._early
        self._early = []
        for renewal in early:
            renewal.then(0, error)
        waiting = self._applier.lease_waiters
        self._applier.lease_waiters = {}
        for thens in waiting.values():
            for then in thens:
                then(0, error)


class _Renewal:
    """One renewal that has to wait for something."""

    def __init__(self, leasing: Leasing, lease_id: int, then: RenewThen, deadline_ns: int) -> None:
        self.leasing = leasing
        self.lease_id = lease_id
        self.then = then
        self.deadline_ns = deadline_ns

    def verified(self, error: RpcError | None) -> None:
        """Leadership was verified, or was not."""
        if error is None:
            self.leasing.renew_here(self)
        else:
            self.then(0, error)


class _Look:
    """A look at a lease that waits for the state to be complete."""

    def __init__(
        self, leasing: Leasing, lease_id: int, then: Callable[[Lease | None, int, RpcError | None], None]
    ) -> None:
        self._leasing = leasing
        self._lease_id = lease_id
        self._then = then

    def verified(self, error: RpcError | None) -> None:
        """It is complete, or we do not lead any more."""
        if error is None:
            self._leasing.look(self._lease_id, self._then)
        else:
            self._then(None, 0, error)


class _Revocation(Completion):
    """Waits for the revocation of an expired lease."""

    def __init__(self, leasing: Leasing, lease_id: int) -> None:
        self._leasing = leasing
        self._lease_id = lease_id

    def complete(self, _response: bytes) -> None:
        """The lease is gone."""
        self._leasing.revoked(self._lease_id, None)

    def fail(self, error: RpcError) -> None:
        """It was gone before, or the log did not take the request."""
        self._leasing.revoked(self._lease_id, error)


class _RenewalAfterCheckpoint(Completion):
    """Renews once the checkpoint is cleared everywhere."""

    def __init__(self, leasing: Leasing, renewal: _Renewal) -> None:
        self._leasing = leasing
        self._renewal = renewal

    def complete(self, _response: bytes) -> None:
        """The checkpoint is cleared."""
        self._leasing.finish_renewal(self._renewal)

    def fail(self, error: RpcError) -> None:
        """The log did not take the request."""
        self._renewal.then(0, error)


class _Ignored(Completion):
    """Nobody waits."""

    def complete(self, _response: bytes) -> None:
        """Ignore the answer."""

    def fail(self, error: RpcError) -> None:
        """Ignore the error: the next round brings the same again."""
