"""Bugs that the simulator found, each in its smallest form."""

from __future__ import annotations

from quorate import errors
from quorate.errors import RpcError
from quorate.membership.member import Member
from quorate.ports import Completion, NullLog
from quorate.proto.rpc_pb2 import LeaseGrantRequest, LeaseRevokeRequest, PutRequest
from quorate.raft.types import MSG_APP, MSG_HEARTBEAT, MSG_PROP, MSG_VOTE, MSG_VOTE_RESP, ConfState, Message
from quorate.server.entry import LEASE_REVOKE
from quorate.sim.clock import MS, SECOND
from quorate.sim.node import Node, PeerNet
from quorate.sim.plan import Plan
from quorate.sim.world import World
from quorate.storage.wal_reader import valid_snapshots
from quorate.storage.wal_record import WalSnapshot
from tests.raft.group import Member as RaftMember
from tests.raft.group import storage_with


class Outcome(Completion):
    def __init__(self) -> None:
        self.error: RpcError | None = None
        self.done = False

    def complete(self, response: bytes) -> None:
        self.done = True

    def fail(self, error: RpcError) -> None:
        self.done = True
        self.error = error


def quiet(members: int) -> World:
    """Return a world in which nothing happens by itself."""
    plan = Plan(1, members)
    plan.faults = []
    plan.links.loss = plan.links.repeat = plan.links.reorder = plan.links.slow = 0.0
    plan.tick_ns, plan.election_ticks = 100 * MS, 10
    plan.stall = 0.0
    plan.sync_ns = MS // 10
    plan.segment_bytes = 16 << 10
    plan.snapshot_count = 10_000
    world = World(plan)
    world.start_members()
    world.clock.run_until(world.clock.now_ns + 5 * SECOND)
    return world


def leader_of(world: World) -> Node:
    return next(node for node in world.nodes.values() if node.server is not None and node.server.is_leader())


def test_a_candidate_asks_for_votes_only_when_its_own_is_durable() -> None:
    # It may come back without the vote and with a shorter log, ask again in the same term, and win by the first votes.
    node = RaftMember(1, storage_with([], [1, 2, 3])).node
    node.campaign()
    ready = node.ready()
    assert [message.type for message in ready.messages] == [MSG_VOTE, MSG_VOTE]
    assert ready.must_sync
    assert ready.early == 0


def test_a_leader_sends_entries_before_its_own_sync() -> None:
    member = RaftMember(1, storage_with([], [1, 2, 3]))
    member.node.campaign()
    member.work()
    member.node.step(Message(MSG_VOTE_RESP, 1, 2, member.raft.term))
    ready = member.node.ready()
    assert {message.type for message in ready.messages} == {MSG_APP}
    assert ready.must_sync
    assert ready.early == len(ready.messages)


def test_a_leader_that_was_replaced_does_not_have_its_successor_revoke_a_lease() -> None:
    # The revocation was decided, and before the next turn another leader is heard of. It must not be forwarded: the
    # holder may have renewed the lease there (etcd's issue 17425).
    world = quiet(3)
    old = leader_of(world)
    other = next(node for node in world.nodes.values() if node is not old)
    server, parts = old.server, old.parts
    assert server is not None
    assert parts is not None
    sent: list[Message] = []
    assert isinstance(parts.transport, PeerNet)
    send = parts.transport.send
    parts.transport.send = lambda messages: (sent.extend(messages), send(messages))[1]  # type: ignore[method-assign]
    outcome = Outcome()
    request = LeaseRevokeRequest(ID=7)
    server._propose_leading(LEASE_REVOKE, request, request.SerializeToString(), outcome)
    term = server.term + 1
    server.step(Message(MSG_HEARTBEAT, old.member_id, other.member_id, term))
    world.clock.run_until(world.clock.now_ns + 50 * MS)
    assert outcome.error is errors.LEADER_CHANGED
    assert not [message for message in sent if message.type == MSG_PROP]


def test_a_deposed_leader_whose_sync_takes_long_renews_no_lease() -> None:
    # Raft knows that it does not lead any more; the turn, waiting for the disk, does not. Its successor counts from its
    # own election, and would expire the lease before what the holder was told.
    world = quiet(3)
    old = leader_of(world)
    server = old.server
    assert server is not None
    server._turn._inline_ns = 0
    request = LeaseGrantRequest(ID=7, TTL=5)
    server.lease_grant(request, request.SerializeToString(), Outcome())
    world.clock.run_until(world.clock.now_ns + SECOND)
    assert server.lessor.exists(7)
    old.disk.stall, old.disk.stall_ns = 1.0, 3600 * SECOND
    put = PutRequest(key=b"k", value=b"v")
    server.put(put, put.SerializeToString(), Outcome())
    world.network.isolate(old.name, list(world.nodes))
    world.clock.run_until(world.clock.now_ns + 4 * SECOND)
    assert server.is_leader()  # as far as the turn knows
    answers: list[tuple[int, RpcError | None]] = []
    server.lease_renew(7, lambda ttl_s, error: answers.append((ttl_s, error)))
    world.clock.run_until(world.clock.now_ns + SECOND)
    assert not [ttl_s for ttl_s, error in answers if ttl_s > 0]
    looks: list[object] = []
    server.lease_time_to_live(7, lambda *found: looks.append(found))
    assert not looks


def test_a_leader_that_has_been_removed_answers_who_asks_for_a_promotion() -> None:
    # It leads on until it stops, half a second later, and is no part of its own configuration any more.
    world = quiet(3)
    leader = leader_of(world)
    server = leader.server
    assert server is not None
    world.clock.run_until(world.clock.now_ns + 6 * SECOND)  # until all count as connected
    added: list[Member | None] = []
    server.member_add(["http://n9:2380"], True, lambda member, _error: added.append(member))
    world.clock.run_until(world.clock.now_ns + SECOND)
    assert added[0] is not None
    removed: list[RpcError | None] = []
    server.member_remove(leader.member_id, removed.append)
    while not removed:
        world.clock.step()
    assert removed == [None]
    answers: list[RpcError | None] = []
    server.member_promote(added[0].id, answers.append)
    world.clock.run_until(world.clock.now_ns + SECOND)
    assert answers == [errors.LEARNER_NOT_READY]


def test_a_hash_that_waits_while_a_snapshot_replaces_the_store_is_that_of_the_new_store() -> None:
    # It took its revision from the old store and its entries from the new one: a wrong hash at a right revision, which
    # members compare to find corruption.
    world = quiet(1)
    node = leader_of(world)
    server, parts = node.server, node.parts
    assert server is not None
    assert parts is not None
    store = parts.store
    hashes: list[tuple[int, int, int]] = []
    parts.backend.hold()  # as while a database is adopted
    store.hash_by_rev(0, lambda *found: hashes.append(found))
    for number in range(3):
        request = PutRequest(key=b"k", value=b"%d" % number)
        server.put(request, request.SerializeToString(), Outcome())
    world.clock.run_until(world.clock.now_ns + SECOND)
    assert store.current_rev == 4
    store.restore_from(parts.backend)
    parts.backend.release()
    world.clock.run_until(world.clock.now_ns + SECOND)
    store.hash_by_rev(0, lambda *found: hashes.append(found))
    world.clock.run_until(world.clock.now_ns + SECOND)
    assert len(hashes) == 2
    assert hashes[0] == hashes[1]


def test_the_log_never_records_a_snapshot_behind_a_newer_one() -> None:
    # One's own was being written when the leader's came: its record stood behind entries that it does not fit.
    world = quiet(1)
    node = leader_of(world)
    server, parts = node.server, node.parts
    assert server is not None
    assert parts is not None
    index, state = server.applied_index, parts.node.status().config
    conf_state = ConfState(list(state.voters))
    term = parts.raft_storage.term(index)
    parts.raft_storage.create_snapshot(index, conf_state, b"")
    server._turn.record_snapshot(WalSnapshot(index - 1, term, conf_state))
    world.clock.run_until(world.clock.now_ns + SECOND)
    server._turn.record_snapshot(WalSnapshot(index, term, conf_state))
    world.clock.run_until(world.clock.now_ns + SECOND)
    recorded = [snapshot.index for snapshot in valid_snapshots(node.disk, "d/member/wal", NullLog())]
    assert recorded == [0, index]


def test_a_purge_under_way_at_the_stop_leaves_the_log_alone() -> None:
    # The stop gives up the locks on the log's segments, and a purge takes whatever is not locked.
    world = quiet(1)
    node = leader_of(world)
    server = node.server
    assert server is not None
    server.config.max_wals = 1
    outcomes = []
    for number in range(40):
        outcome = Outcome()
        request = PutRequest(key=b"k", value=b"%d" % number * 2000)
        server.put(request, request.SerializeToString(), outcome)
        outcomes.append(outcome)
        world.clock.run_until(world.clock.now_ns + 20 * MS)
    assert all(outcome.done for outcome in outcomes)
    before = node.disk.list_dir("d/member/wal")
    assert len(before) > 2
    stopped: list[bool] = []
    server.put(request, request.SerializeToString(), Outcome())
    world.clock.run_until(world.clock.now_ns + MS)
    node.loop.call(lambda: server.stop(lambda: stopped.append(True)))
    while node.loop.job is None:  # the last commit
        world.clock.step()
    server._snapshots.purge()
    world.clock.run_until(world.clock.now_ns + 10 * SECOND)
    assert stopped
    node.kill()
    node.start()
    world.clock.run_until(world.clock.now_ns + 5 * SECOND)
    assert node.server is not None
    assert node.server.store.current_rev == 42
