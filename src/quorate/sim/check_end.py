"""The end of a run: all members hold the same, which is what the log says, and their directories open again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quorate.mvcc.watcher import FROM_KEY
from quorate.ports import NullLog
from quorate.proto.kv_pb2 import KeyValue
from quorate.proto.rpc_pb2 import RangeRequest
from quorate.sim.clock import SECOND
from quorate.sim.disk import SimDisk
from quorate.storage.bolt.db import Db

if TYPE_CHECKING:
    from quorate.sim.node import Node
    from quorate.sim.world import World


def check_end(world: World) -> list[str]:
    """Return what is wrong. Stops all members."""
    problems = []
    members = [node for node in world.members() if node.server is not None]
    for node in members:
        problems += _check_state(world, node)
    problems += _check_hashes(world, members)
    indexes = _stop(world, members)
    for node in members:
        if node.name in indexes:
            problems += _check_disk(world, node, indexes[node.name])
        else:
            problems.append(f"{node.name} does not stop")
    for name, database in world.history.snapshots:
        disk = SimDisk()
        disk.write("db", database)
        problems += [f"snapshot of {name}: {fault}" for fault in _faults(disk, "db")]
    return problems


def _check_state(world: World, node: Node) -> list[str]:
    parts, model = node.parts, world.model
    assert parts is not None
    problems = []
    found = [KeyValue.FromString(kv) for kv in parts.store.range(b"\0", FROM_KEY, 0, 0, False).kvs]
    expected = list(model.range(RangeRequest(key=b"\0", range_end=b"\0"), model.rev).kvs)
    if found != expected:
        problems.append(f"{node.name} holds {len(found)} keys that are not the log's {len(expected)}")
    leases = {lease.id: (lease.ttl_s, sorted(lease.keys)) for lease in parts.lessor.leases()}
    wanted = {lease_id: (ttl_s, sorted(keys)) for lease_id, (ttl_s, keys) in model.leases.items()}
    if leases != wanted:
        problems.append(f"{node.name} has other leases than the log: {leases} {wanted}")
    state = parts.node.status().config
    members = sorted(member.id for member in parts.cluster.member_list())
    if sorted([*state.voters, *state.learners]) != members:
        problems.append(f"{node.name}: raft's members {state.voters} {state.learners} are not the cluster's {members}")
    return problems


def _check_hashes(world: World, members: list[Node]) -> list[str]:
    hashes: dict[str, tuple[int, int, int]] = {}
    for node in members:
        assert node.parts is not None
        node.parts.store.hash_by_rev(0, _Hash(node.name, hashes).done)
    world.wait(2 * SECOND, lambda: len(hashes) == len(members))
    if len(hashes) < len(members):
        return [f"only {len(hashes)} of {len(members)} members tell their hash"]
    # Members that compacted the same and are at the same revision have the same hash.
    return [] if len(set(hashes.values())) <= 1 else [f"hashes differ: {hashes}"]


class _Hash:
    """Takes a hash."""

    def __init__(self, name: str, hashes: dict[str, tuple[int, int, int]]) -> None:
        self._name = name
        self._hashes = hashes

    def done(self, found: int, rev: int, compact_rev: int) -> None:
        self._hashes[self._name] = (found, rev, compact_rev)


def _stop(world: World, members: list[Node]) -> dict[str, int]:
    """Stop all members; return the applied index of each that did."""
    indexes: dict[str, int] = {}
    for node in members:
        server = node.server
        assert server is not None

        def stopped(name: str = node.name) -> None:
            other = world.nodes[name].server
            assert other is not None
            indexes[name] = other.applied_index

        server.stop(stopped)
    world.wait(30 * SECOND, lambda: len(indexes) == len(members))
    return indexes


def _check_disk(world: World, node: Node, index: int) -> list[str]:
    """Open a stopped member's directory again: the database is sound, and the log leads to the same state."""
    node.kill()
    problems = [f"{node.name}: {fault}" for fault in _faults(node.disk, "d/member/snap/db")]
    node.start()
    world.clock.run_until(world.clock.now_ns + SECOND // 100)
    if node.parts is None:
        return [*problems, f"{node.name} does not start again"]
    if node.parts.raft_storage.last_index() < index:
        problems.append(f"{node.name} stopped at index {index} and came back with a log up to less")
    node.kill()
    return problems


def _faults(disk: SimDisk, path: str) -> list[str]:
    database = Db.open(disk, path, NullLog())
    try:
        return list(database.check())
    finally:
        database.close()
