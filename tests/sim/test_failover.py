"""How long a cluster of five cannot write when it loses members: at most two election timeouts, in virtual time.

Raft does not promise it: members whose timeouts end within a round trip of each other split the votes, and wait for
another timeout. That is rare, because each member's ticks begin at a random moment.
"""

from __future__ import annotations

import pytest

from quorate.errors import RpcError
from quorate.ports import Completion
from quorate.proto.rpc_pb2 import PutRequest
from quorate.sim.clock import MS, SECOND
from quorate.sim.node import Node
from quorate.sim.plan import Plan
from quorate.sim.world import World

ELECTION_NS = SECOND


class Outcome(Completion):
    """Notes when a put was acknowledged."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.done_ns = 0

    def complete(self, response: bytes) -> None:
        self.done_ns = self.world.clock.now_ns

    def fail(self, error: RpcError) -> None:
        """A client would try again."""


def quiet(seed: int) -> World:
    """Return five members with default settings that have a leader; nothing happens by itself."""
    plan = Plan(seed, 5)
    plan.faults = []
    plan.links.loss = plan.links.repeat = plan.links.reorder = plan.links.slow = 0.0
    plan.links.delay_ns, plan.links.jitter_ns = MS, 0
    plan.tick_ns, plan.election_ticks, plan.pre_vote = 100 * MS, 10, True
    plan.stall = 0.0
    plan.sync_ns = MS // 2
    plan.segment_bytes = 16 << 10
    plan.snapshot_count = 10_000
    world = World(plan)
    world.start_members()
    world.clock.run_until(world.clock.now_ns + 5 * SECOND + seed * 7 * MS)
    return world


def leader_of(world: World) -> Node:
    return next(node for node in world.nodes.values() if node.server is not None and node.server.is_leader())


def gap_ns(world: World, survivors: list[Node]) -> int:
    """Put on a survivor every 10 ms; return how long after now the first of these is acknowledged."""
    began_ns = world.clock.now_ns
    outcomes = []
    for number in range(1000):
        server = survivors[number % len(survivors)].server
        assert server is not None
        put = PutRequest(key=b"k", value=b"%d" % number)
        outcomes.append(Outcome(world))
        server.put(put, put.SerializeToString(), outcomes[-1])
        world.clock.run_until(began_ns + (number + 1) * 10 * MS)
        done = [outcome.done_ns for outcome in outcomes if outcome.done_ns]
        if done:
            return min(done) - began_ns
    raise AssertionError("no writes for 10 s")


@pytest.mark.parametrize("fault", ["kill", "pause", "cut"])
@pytest.mark.parametrize("seed", range(1, 7))
def test_writes_resume_within_two_election_timeouts(seed: int, fault: str) -> None:
    world = quiet(seed)
    leader = leader_of(world)
    follower = next(node for node in world.nodes.values() if node is not leader)
    lost = [leader, follower]
    for node in lost:
        if fault == "kill":
            node.kill()
        elif fault == "pause":
            node.pause()
        else:
            world.network.isolate(node.name, list(world.nodes))
    survivors = [node for node in world.nodes.values() if node not in lost]
    assert gap_ns(world, survivors) < 2 * ELECTION_NS


@pytest.mark.parametrize("fault", ["kill", "pause", "cut"])
def test_the_loss_of_followers_delays_nothing(fault: str) -> None:
    world = quiet(6)
    leader = leader_of(world)
    lost = [node for node in world.nodes.values() if node is not leader][:2]
    for node in lost:
        if fault == "kill":
            node.kill()
        elif fault == "pause":
            node.pause()
        else:
            world.network.isolate(node.name, list(world.nodes))
    survivors = [node for node in world.nodes.values() if node not in lost]
    assert gap_ns(world, survivors) < 20 * MS
