"""The node as the services see it.

Contract: every method is called on the loop and returns at once. The outcome comes later (or before the call returns)
through a `Completion` or a `then` callback, exactly once, as the encoded public response or as an RpcError value; a
response to a write is given only after its entry is durable on a quorum and applied here.

What happens in between is in `turn`; this module admits requests, answers reads, and holds the node's parts together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate import errors
from quorate.auth.access import NEEDS_USER, Access
from quorate.auth.options import TokenOptionError, make_tokens
from quorate.auth.password import Passwords
from quorate.auth.store import NOBODY, AuthInfo, AuthStore
from quorate.errors import RpcError
from quorate.lease.lessor import Lease
from quorate.measure import format_duration
from quorate.membership.member import Member, hex_id
from quorate.ports import Completion
from quorate.proto.rpc_pb2 import (
    AlarmRequest,
    AlarmType,
    CompactionRequest,
    DeleteRangeRequest,
    LeaseGrantRequest,
    LeaseRevokeRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
)
from quorate.raft.types import Entry, HardState, Message, Snapshot
from quorate.server import entry as kinds
from quorate.server.alarm import NOSPACE
from quorate.server.answers import Answers
from quorate.server.apply import Applier
from quorate.server.authentries import AuthEntries
from quorate.server.bootlog import StartError
from quorate.server.compactor import AutoCompaction
from quorate.server.corruption import Corruption
from quorate.server.encode import Headers
from quorate.server.entry import RequestIds
from quorate.server.execute import Executor
from quorate.server.leasing import Leasing
from quorate.server.members import MONITOR_NS, Members
from quorate.server.parts import ServerParts
from quorate.server.permissions import Permissions
from quorate.server.proposals import MAX_PENDING, Proposals
from quorate.server.quota import Quota
from quorate.server.reads import Read, Reads
from quorate.server.refusals import Refusals
from quorate.server.slow import TRACE_NS, SlowLog
from quorate.server.snapshots import MadeThen, Snapshots
from quorate.server.stats import ServerStats
from quorate.server.transfer import Transfers
from quorate.server.turn import Turn, TurnEvents
from quorate.server.txn import is_read_only, is_serializable
from quorate.storage.snapfile import SaveTimes
from quorate.storage.wal_record import WalSnapshot

__all__ = ["Server", "ServerParts"]

# Entries that may wait to be applied before new requests are refused (etcd: maxGapBetweenApplyAndCommitIndex).
MAX_BACKLOG: Final = 5_000
READ_RETRY_NS: Final = 500_000_000
NO_LEADER_ELECTIONS: Final = 3
ADVANCE_POLL_NS: Final = 50_000_000
DRAIN_NS: Final = 5_000_000_000

_MAX_INT64: Final = (1 << 63) - 1
_CALLER: Final = "etcdserver/server.go"


class Server(TurnEvents):
    """One member. Public attributes are read-only for others."""

    def __init__(self, parts: ServerParts) -> None:
        config = parts.config
        self.loop = parts.loop
        self.log = parts.log
        self._transport = parts.transport
        self.config = config
        self.cluster = parts.cluster
        self.replay = parts.replay
        self.store = parts.store
        self.lessor = parts.lessor
        self.backend = parts.backend
        self.alarms = parts.alarms
        self.watch_hub = parts.watch_hub
        self.wal = parts.wal
        self.node = parts.node
        self.stats = ServerStats()
        self.member_id = parts.member_id
        self.cluster_id = parts.cluster.cluster_id
        self.no_leader_calls: list[Callable[[], None]] = []  # after three elections without a leader, and each more
        self.on_removed: Callable[[], None] | None = None  # the cluster has removed this member: it should stop
        self.stopping = False

        self._ids = RequestIds(parts.member_id, parts.loop.time_ns())
        self._headers = Headers(self.cluster_id, parts.member_id)
        self.quota = Quota(parts.backend, config.quota_bytes)
        try:
            self.tokens = make_tokens(config.auth_token, config.auth_token_ttl_s, parts.loop, parts.disk, parts.log)
        except TokenOptionError as problem:
            raise StartError(str(problem)) from None
        self.passwords = Passwords(parts.loop, config.bcrypt_cost)
        self.auth = AuthStore(parts.loop, parts.log, parts.backend, self.tokens, self.passwords.cost)
        self.access = Access(self.auth, self.tokens, config.client_cert_auth)
        permissions = Permissions(self.auth, parts.lessor)
        self.refusals = Refusals(self.auth, self.access, permissions)
        self._executor = Executor(
            self.loop,
            self.store,
            self.lessor,
            self.alarms,
            self.quota,
            self._headers,
            self.auth,
            permissions,
        )
        self._proposals = Proposals(self._ids)
        self._slow = SlowLog(parts.loop, parts.log, config.warning_apply_ns, self.stats)
        slow_ns = min(config.warning_apply_ns, TRACE_NS)
        self._answers = Answers(parts.loop, self._executor, self.refusals, self.stats, self._slow, slow_ns)
        self._applier = Applier(
            parts.loop,
            self.stats,
            self._slow,
            self._executor,
            self._proposals,
            parts.backend,
            parts.cluster,
            parts.replay,
            parts.node,
            parts.transport,
            parts.log,
            self.auth,
            AuthEntries(self.auth, self.tokens, self._executor.current_header),
        )
        ticks = max(1, config.request_timeout_ns // config.tick_ns)
        retry_ticks = max(1, READ_RETRY_NS // config.tick_ns)
        self._reads = Reads(self._ids, ticks, retry_ticks, config.tick_ns, self.stats, parts.log)
        self._turn = Turn(
            parts.loop,
            parts.log,
            config,
            parts.member_id,
            parts.node,
            parts.raft_storage,
            parts.wal,
            parts.transport,
            self._applier,
            self._proposals,
            self._reads,
            self._headers,
            self.stats,
            self,
        )
        self._leasing = Leasing(
            parts.loop,
            parts.log,
            config,
            parts.lessor,
            self._turn,
            self._applier,
            parts.transport,
            self.stats,
            self._propose_leading,
            self.linearizable,
        )
        self._members = Members(
            parts.loop,
            parts.log,
            config,
            parts.cluster,
            parts.node,
            parts.backend,
            self._turn,
            self._applier,
            parts.transport,
            self._ids,
            self.stats,
            self._propose,
        )
        self._snapshots = Snapshots(
            parts.loop,
            parts.disk,
            parts.log,
            config,
            parts.raft_storage,
            parts.wal,
            parts.backend,
            parts.cluster,
            self._applier,
            self._turn,
            parts.lessor,
            parts.store,
            parts.alarms,
            parts.transport,
        )
        snapshot = parts.raft_storage.snapshot()
        self._applier.start(snapshot.index, snapshot.term, snapshot.conf_state)
        parts.backend.before_commit = self._before_commit
        self._auto_compaction = AutoCompaction(parts.loop, parts.log, config, self._propose)
        self._corruption = Corruption(
            parts.loop,
            parts.log,
            config,
            parts.cluster,
            parts.store,
            parts.transport,
            self.linearizable,
            self._propose,
        )
        self._transfers = Transfers(parts.loop, config.request_timeout_ns, parts.cluster, parts.node, self._turn)
        self._ticks = 0
        self._tick_due_ns = 0
        self._advance_until_ns = 0
        self._leaderless_ticks = 0
        self._raising_alarm = False
        self._drain_until_ns = 0
        self._then_stopped: Callable[[], None] | None = None
        self._closing = False

    def _before_commit(self) -> None:
        self._applier.before_commit()
        self._snapshots.before_commit()

    # -- Life

    def start(self) -> None:
        """Begin to tick, replay what the log holds beyond the state, and publish our attributes."""
        turn = self._turn
        turn.run()
        if turn.dead:
            return
        self._auto_compaction.start(self.store.current_rev)
        self._corruption.start()
        if turn.sole_voter:
            # Nobody else can lead: there is no election timeout to wait for.
            turn.campaign()
        elif self.config.initial_election_tick_advance:
            self._advance_until_ns = self.loop.monotonic_ns() + self.config.peer_read_timeout_ns
            self.loop.later(ADVANCE_POLL_NS, self._advance)
        else:
            fields: dict[str, object] = {"election-ticks": self.config.election_ticks}
            self.log.info(_CALLER, "skip initial election tick advance", **fields)
        self._members.publish()
        now_ns = self.loop.monotonic_ns()
        self._leasing.last_tick_ns = now_ns
        # The members' ticks must not fall together, or their elections would tie.
        self._tick_due_ns = now_ns + self.loop.random_bits(32) % self.config.tick_ns
        self.loop.later(self._tick_due_ns - now_ns, self._tick)

    def _advance(self) -> None:
        """Bring the first election forward, once two others are in touch and nobody leads (etcd: adjustTicks)."""
        if self.stopping or self._turn.dead or self._turn.leader != 0:
            return
        if self._transport.active_peers() > 1:
            ticks = self.config.election_ticks - 2
            fields: dict[str, object] = {"local-member-id": hex_id(self.member_id), "forward-ticks": ticks}
            self.log.info(_CALLER, "initialized peer connections; fast-forwarding election ticks", **fields)
            for _ in range(ticks):
                self.node.tick()
            self._turn.run()
        elif self.loop.monotonic_ns() < self._advance_until_ns:
            self.loop.later(ADVANCE_POLL_NS, self._advance)

    def _tick(self) -> None:
        if self._closing or self._turn.dead:
            return
        # On time even when this one is late; whole ticks that were missed are lost.
        now_ns = self.loop.monotonic_ns()
        self._tick_due_ns = max(self._tick_due_ns, now_ns - self.config.tick_ns) + self.config.tick_ns
        self.loop.later(max(0, self._tick_due_ns - now_ns), self._tick)
        self._ticks += 1
        late_ns = self.loop.monotonic_ns() - self._leasing.last_tick_ns
        if late_ns > 2 * self.config.tick_ns and self._turn.leading and len(self.cluster.members) > 1:
            self._heartbeats_late(late_ns)
        self._turn.tick()
        self._leasing.tick()
        self._members.expire()
        config = self.config
        if self._ticks % max(1, MONITOR_NS // config.tick_ns) == 0:
            self._members.monitor()
        if config.downgrade_check_ns > 0 and self._ticks % max(1, config.downgrade_check_ns // config.tick_ns) == 0:
            self._members.end_downgrade()
        if self._ticks % max(1, config.purge_interval_ns // config.tick_ns) == 0:
            self._snapshots.purge()
        self._count_leaderless()
        self._transfers.tick()
        self.access.tick(max(1, config.request_timeout_ns // config.tick_ns))
        self._auto_compaction.tick(self.store.current_rev, not self._turn.leading)
        self._corruption.tick(self._turn.leading)
        if self.stopping:
            self._maybe_stop()

    def _heartbeats_late(self, late_ns: int) -> None:
        """A leader's loop came late: count it for each member that waits for the heartbeat."""
        tick_ns = self.config.tick_ns
        text = "leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk"
        for member_id in self.cluster.members:
            if member_id != self.member_id:
                self.stats.heartbeat_send_failures_total += 1
                fields: dict[str, object] = {"to": f"{member_id:x}", "heartbeat-interval": format_duration(tick_ns)}
                fields["expected-duration"] = format_duration(2 * tick_ns)
                fields["exceeded-duration"] = format_duration(late_ns - 2 * tick_ns)
                self.log.warn("etcdserver/raft.go", text, **fields)

    def _count_leaderless(self) -> None:
        if self._turn.leader != 0:
            self._leaderless_ticks = 0
            return
        self._leaderless_ticks += 1
        elections, ticks = divmod(self._leaderless_ticks, self.config.election_ticks)
        if ticks == 0 and elections >= NO_LEADER_ELECTIONS:
            for call in list(self.no_leader_calls):
                call()

    def stop(self, then: Callable[[], None] | None = None) -> None:
        """Refuse new requests (STOPPED), finish what is under way, commit and close the backend and the WAL; then call.

        A leader of several voters hands over first.
        """
        if self.stopping:
            return
        self.stopping = True
        self._then_stopped = then
        self._drain_until_ns = self.loop.monotonic_ns() + DRAIN_NS
        self._corruption.stop()
        self._transfers.hand_over()
        self._maybe_stop()

    def _maybe_stop(self) -> None:
        """Stop when nothing is under way, or when that has taken too long."""
        turn = self._turn
        if self._closing:
            return
        if turn.dead:
            self._closing = True
            self._finish_stop()
            return
        busy = len(self._proposals) > 0 or self._reads.waiting() or self._transfers.needed()
        if busy and self.loop.monotonic_ns() < self._drain_until_ns:
            return
        if turn.idle() and self._snapshots.idle():
            self._closing = True
            self._snapshots.close()
            turn.close()
            self._fail_all(errors.STOPPED)
            self.backend.commit(self._close)

    def _close(self) -> None:
        """The last commit is done."""
        self.wal.close()
        self.backend.close()
        self._finish_stop()

    def _fail_all(self, error: RpcError) -> None:
        self._proposals.fail_all(error)
        self._reads.fail_all(error)
        self._leasing.stop(error)

    def _finish_stop(self) -> None:
        if self._then_stopped is not None:
            self._then_stopped()

    # -- Requests that go through the log. `raw` is the message's bytes as received; they become part of the entry.

    def put(self, request: PutRequest, raw: bytes, done: Completion) -> None:
        """Put a key. The caller has checked the request's form and `quota_check(cost_of_put(...))`."""
        self._submit(kinds.PUT, request, raw, done)

    def delete_range(self, request: DeleteRangeRequest, raw: bytes, done: Completion) -> None:
        """Delete a range of keys."""
        self._submit(kinds.DELETE_RANGE, request, raw, done)

    def txn(self, request: TxnRequest, raw: bytes, done: Completion) -> None:
        """Run a transaction; one that only reads is answered without the log (etcd: isTxnReadonly)."""
        if is_read_only(request):
            self.read_only_txn(request, is_serializable(request), done)
        else:
            self._submit(kinds.TXN, request, raw, done)

    def compact(self, request: CompactionRequest, raw: bytes, done: Completion) -> None:
        """Compact the history; with `physical`, answer when the old revisions are gone from the disk."""
        self._submit(kinds.COMPACTION, request, raw, done)

    def lease_grant(self, request: LeaseGrantRequest, raw: bytes, done: Completion) -> None:
        """Grant a lease; an ID of 0 is replaced by a random one."""
        if request.ID == 0:
            lease_id = 0
            while lease_id == 0 or self.lessor.exists(lease_id):
                lease_id = self._ids.next_id() & _MAX_INT64
            request.ID = lease_id
            raw = request.SerializeToString()
        error = self.refusals.call(NEEDS_USER, done)
        if error is not None:
            done.fail(error)
        else:
            self._submit(kinds.LEASE_GRANT, request, raw, done)

    def lease_revoke(self, request: LeaseRevokeRequest, raw: bytes, done: Completion) -> None:
        """Revoke a lease and delete its keys."""
        error = self.refusals.call(NEEDS_USER, done)
        if error is not None:
            done.fail(error)
        else:
            self._submit(kinds.LEASE_REVOKE, request, raw, done)

    def alarm(self, request: AlarmRequest, raw: bytes, done: Completion) -> None:
        """List, raise or disarm alarms. The caller has refused unknown actions and types."""
        self._submit(kinds.ALARM, request, raw, done)

    def change_auth(self, kind: int, request: object, raw: bytes, done: Completion) -> None:
        """Change users, roles or whether they count (the kinds AUTH_... of server.entry), or make a token.

        The caller has hashed the password, and checked it.
        """
        self._submit(kind, request, raw, done)

    def _submit(self, kind: int, request: object, raw: bytes, done: Completion) -> None:
        """Take a client's request for the next turn, or refuse it."""
        turn = self._turn
        info = NOBODY
        if self.stopping:
            done.fail(errors.STOPPED)
        elif turn.committed_index > self._applier.applied_index + MAX_BACKLOG or len(self._proposals) >= MAX_PENDING:
            done.fail(errors.TOO_MANY_REQUESTS)
        else:
            if self.auth.enabled and kind != kinds.AUTHENTICATE:
                who = self.access.who(done)
                if isinstance(who, RpcError):
                    done.fail(who)
                    return
                info = who
            now_ns = self.loop.monotonic_ns()
            if self._proposals.add(kind, request, raw, done, self.config.max_request_bytes, info, now_ns):
                turn.schedule()
            else:
                done.fail(errors.REQUEST_TOO_LARGE)

    def _propose(self, kind: int, request: object, raw: bytes, done: Completion) -> None:
        """Take a request of the node's own."""
        if self.stopping:
            done.fail(errors.STOPPED)
            return
        self._proposals.add(kind, request, raw, done, _MAX_INT64, self._own_info())
        self._turn.schedule()

    def _propose_leading(self, kind: int, request: object, raw: bytes, done: Completion) -> None:
        """Take a request of the leader's own, which must not reach the log through another leader."""
        turn = self._turn
        if self.stopping:
            done.fail(errors.STOPPED)
        elif not turn.leading:
            done.fail(errors.LEADER_CHANGED)
        else:
            self._proposals.add_leading(kind, request, raw, done, self._own_info())
            turn.schedule()

    def _own_info(self) -> AuthInfo:
        """Return as whom the node itself asks."""
        return self.auth.root() if self.auth.enabled else NOBODY

    # -- Reads

    def range(self, request: RangeRequest, done: Completion) -> None:
        """Read a range. The caller has checked the key and the sort options."""
        if request.serializable or self._reads_at_once():
            self._answers.range(request, done, 0)
        else:
            self._gather(request, done, None)

    def read_only_txn(self, request: TxnRequest, serializable: bool, done: Completion) -> None:
        """Answer a transaction that only reads."""
        if serializable or self._reads_at_once():
            self._answers.txn(request, done, 0)
        else:
            self._gather(request, done, None)

    def linearizable(self, then: Callable[[RpcError | None], None]) -> None:
        """Call back once a local read sees everything that was acknowledged before now, or with the error."""
        if self._reads_at_once():
            then(None)
        else:
            self._gather(None, None, then)

    def _reads_at_once(self) -> bool:
        turn = self._turn
        return turn.reads_at_once and self._applier.applied_index == turn.committed_index

    def _gather(self, request: object, done: Completion | None, then: Callable[[RpcError | None], None] | None) -> None:
        read = Read(request, done, then, self._reads.tick, self.loop.monotonic_ns())
        if self.stopping:
            read.fail(errors.STOPPED)
            return
        self._reads.gathered.append(read)
        self._turn.schedule()

    def run_reads(self, reads: list[Read]) -> None:
        """Answer reads that may run now; when they take long, the rest of them in the next turn."""
        answered = self._answers.run(reads)
        if answered < len(reads):
            self._reads.put_back(reads[answered:])
            self._turn.schedule()

    # -- Leases

    def lease_renew(self, lease_id: int, then: Callable[[int, RpcError | None], None]) -> None:
        """Renew as the leader; `then(ttl, None)`, with ttl 0 for an unknown lease. Forwards when we do not lead."""
        if self.stopping:
            then(0, errors.STOPPED)
        else:
            self._leasing.renew(lease_id, then)

    def lease_time_to_live(self, lease_id: int, then: Callable[[Lease | None, int, RpcError | None], None]) -> None:
        """Look at a lease: `then(lease, remaining whole seconds, None)`, lease None when unknown.

        The lease's keys are `lease.keys` (a set); the granted TTL is `lease.ttl_s`.
        """
        self._leasing.time_to_live(lease_id, then)

    def leases(self) -> list[Lease]:
        """Return all leases, those that expire first first."""
        return self.lessor.leases()

    # -- Cluster

    def member_add(
        self, peer_urls: list[str], is_learner: bool, then: Callable[[Member | None, RpcError | None], None]
    ) -> None:
        """Add a member: strict reconfiguration checks, then a conf change. `then` gets the new member."""
        self._members.add(peer_urls, is_learner, then)

    def member_remove(self, member_id: int, then: Callable[[RpcError | None], None]) -> None:
        """Remove a member."""
        self._members.remove(member_id, then)

    def member_update(self, member_id: int, peer_urls: list[str], then: Callable[[RpcError | None], None]) -> None:
        """Change a member's peer URLs."""
        self._members.update(member_id, peer_urls, then)

    def member_promote(self, member_id: int, then: Callable[[RpcError | None], None], token: bytes = b"") -> None:
        """Make a learner a voter. `token` is the asker's, for the leader to check when that is another member."""
        self._members.promote(member_id, token, then)

    # -- Maintenance

    def move_leader(self, target_id: int, then: Callable[[RpcError | None], None]) -> None:
        """Hand leadership to a voter; calls back once it leads."""
        self._transfers.move(target_id, then)

    def downgrade(self, action: int, version: str, then: Callable[[RpcError | None], None]) -> None:
        """Validate (0), enable (1) or cancel (2) a downgrade."""
        self.linearizable(_Downgrade(self._members, action, version, then).verified)

    # -- What services ask

    @property
    def term(self) -> int:
        """The raft term."""
        return self._turn.term

    @property
    def leader(self) -> int:
        """The leader's member id, 0 while none is known."""
        return self._turn.leader

    @property
    def applied_index(self) -> int:
        """The last entry that was applied."""
        return self._applier.applied_index

    @property
    def committed_index(self) -> int:
        """The last entry that is known to be committed."""
        return self._turn.committed_index

    @property
    def raft_index(self) -> int:
        """The raft index as Status reports it."""
        return self._turn.committed_index

    @property
    def consistent_index(self) -> int:
        """The last entry whose effects are complete in the backend's open transaction."""
        return self._applier.consistent_index

    @property
    def snapshot_times(self) -> SaveTimes:
        """How long saving .snap files took."""
        return self._snapshots.times

    @property
    def proposals_pending(self) -> int:
        """How many proposals wait for their outcome."""
        return len(self._proposals)

    @property
    def snapshots_applying(self) -> int:
        """How many snapshots from the leader are being installed."""
        return self._snapshots.installs

    @property
    def published(self) -> bool:
        """Whether our attributes are in the cluster: the member is ready for clients."""
        return self._members.published

    def call_when_published(self, call: Callable[[], None]) -> None:
        """Call once the member is ready for clients; at once if it is."""
        if self._members.published:
            call()
        else:
            self._members.on_published = call

    def header(self, revision: int) -> bytes:
        """Return the encoded ResponseHeader as field 1 of a response (tag and length included), ready to splice."""
        return self._headers.header(revision)

    def quota_check(self, cost: int) -> bool:
        """Tell whether the backend has room; False: answer NO_SPACE (the alarm is raised through the log by us)."""
        if self.quota.available(cost):
            return True
        self._raise_no_space()
        return False

    def _raise_no_space(self) -> None:
        if self._raising_alarm or self.alarms.has(NOSPACE, self.member_id):
            return
        self._raising_alarm = True
        request = AlarmRequest(action=AlarmRequest.ACTIVATE, memberID=self.member_id, alarm=AlarmType.NOSPACE)
        self._propose(kinds.ALARM, request, request.SerializeToString(), _AlarmRaised(self))

    def alarm_raised(self) -> None:
        """Our NOSPACE alarm is raised, or could not be."""
        self._raising_alarm = False

    def is_leader(self) -> bool:
        """Tell whether we lead."""
        return self._turn.leading

    def is_learner(self) -> bool:
        """Tell whether we are a learner."""
        return self.cluster.is_local_learner()

    def has_leader(self) -> bool:
        """Tell whether a leader is known."""
        return self._turn.leader != 0

    # -- Peers

    def step(self, message: Message) -> None:
        """Take a raft message from a peer."""
        if not self._closing:
            self._turn.step(message)

    def report_unreachable(self, member_id: int) -> None:
        """Messages to a peer were probably lost."""
        if not self._closing:
            self._turn.report_unreachable(member_id)

    def make_snapshot(self, then: MadeThen) -> None:
        """Give a snapshot of the state and the view of the backend that shows it; `snapshot_released` must follow."""
        self._snapshots.make(then)

    def snapshot_released(self, sent: bool) -> None:
        """A snapshot that `make_snapshot` gave has reached its member, or will not."""
        self._snapshots.released(sent)

    def report_snapshot(self, member_id: int, ok: bool) -> None:
        """The snapshot that raft sent to a peer has arrived, or has not."""
        if not self._closing:
            self._turn.report_snapshot(member_id, ok)

    # -- What the turn tells

    def leader_changed(self, leader: int, leading: bool) -> None:
        """Another member leads, or nobody (0); `leading`: it is us."""
        if leader == 0:
            self.log.info(_CALLER, "lost the leader", **{"local-member-id": hex_id(self.member_id)})
        self._leasing.leader_changed(leading)

    def term_begun(self) -> None:
        """We lead and our state is complete."""
        self._leasing.term_begun()
        self._members.monitor()

    def applied(self) -> None:
        """A batch of entries was applied."""
        if self.access.waiting:
            self.access.applied(self._applier.applied_index)
        self._snapshots.applied()
        if self._executor.full:
            self._executor.full = False
            self._raise_no_space()
        if self._applier.removed and self.on_removed is not None:
            call = self.on_removed
            self.on_removed = None
            call()
        if self.stopping:
            self.loop.soon(self._maybe_stop)

    def snapshot_recorded(self, record: WalSnapshot) -> None:
        """The WAL has the record of a snapshot."""
        self._snapshots.recorded(record)

    def install_snapshot(self, snapshot: Snapshot, state: HardState | None, entries: list[Entry]) -> None:
        """The leader has sent a snapshot."""
        self._snapshots.install(snapshot, state, entries)


class _Downgrade:
    """A downgrade request that waits for its read index."""

    def __init__(self, members: Members, action: int, version: str, then: Callable[[RpcError | None], None]) -> None:
        self._members = members
        self._action = action
        self._version = version
        self._then = then

    def verified(self, error: RpcError | None) -> None:
        """The read index came, or failed."""
        if error is not None:
            self._then(error)
        else:
            self._members.downgrade(self._action, self._version, self._then)


class _AlarmRaised(Completion):
    """Waits for our own NOSPACE alarm."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def complete(self, _response: bytes) -> None:
        """It is raised."""
        self._server.alarm_raised()

    def fail(self, _error: RpcError) -> None:
        """The next write that finds no room raises it again."""
        self._server.alarm_raised()
