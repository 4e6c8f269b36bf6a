"""Clients that administer: defragment, hash, save snapshots, raise and disarm alarms, ask for the status."""

from __future__ import annotations

import hashlib

from quorate.proto.rpc_pb2 import (
    AlarmRequest,
    AlarmResponse,
    AlarmType,
    DefragmentRequest,
    DefragmentResponse,
    HashKVRequest,
    HashKVResponse,
    SnapshotRequest,
    SnapshotResponse,
    StatusRequest,
    StatusResponse,
)
from quorate.sim.calls import Rpc
from quorate.sim.clients import Client, Script
from quorate.sim.clock import MS, SECOND

_MAINTENANCE = "/etcdserverpb.Maintenance/"
_SNAPSHOT_NS = 10 * SECOND


def admin_script(client: Client) -> Script:
    """Do now one thing, now another."""
    rng, world = client.rng, client.world
    while world.active and world.plan.admin:
        yield int(rng.uniform(0.1, 2.0) * SECOND)
        name = rng.choice(world.plan.admin)
        if name == "defrag":
            yield client.call(_MAINTENANCE + "Defragment", "defrag", DefragmentRequest(), DefragmentResponse)
        elif name == "status":
            yield client.call(_MAINTENANCE + "Status", "status", StatusRequest(), StatusResponse)
        elif name == "hash":
            yield from hash_script(client)
        elif name == "snapshot":
            yield from _save(client)
        else:
            yield from _alarm(client)


def hash_script(client: Client) -> Script:
    """Ask members for the hash at one revision."""
    rev = max(1, client.seen_rev - client.rng.randrange(10))
    for node in list(client.world.nodes.values()):
        if client.rng.random() < 0.5 or not node.alive:
            continue
        request = HashKVRequest(revision=client.rng.choice((0, rev)))
        op = client.call(_MAINTENANCE + "HashKV", "hashkv", request, HashKVResponse, node)
        yield op
        if isinstance(op.response, HashKVResponse):
            answer = op.response
            note_hash(client, answer.hash_revision, answer.compact_revision, answer.hash, node.name)


def note_hash(client: Client, rev: int, compact_rev: int, found: int, name: str) -> None:
    """Compare a hash with that of other members."""
    hashes = client.world.history.hashes
    known = hashes.setdefault((0, rev, compact_rev), (found, name))
    if known[0] != found:
        client.world.history.problems.append(
            f"HashKV at {rev} (compacted {compact_rev}): {name} says {found}, {known[1]} said {known[0]}"
        )


def _save(client: Client) -> Script:
    """Save a snapshot of one member, whole or not at all."""
    world = client.world
    node = client.node()
    blobs: list[bytes] = []
    rpc = Rpc(world, client.name, (_MAINTENANCE + "Snapshot").encode())
    rpc.on_message = lambda raw: blobs.append(SnapshotResponse.FromString(raw).blob)
    rpc.start(node, SnapshotRequest().SerializeToString(), _SNAPSHOT_NS)
    while not rpc.done:
        yield 20 * MS
        rpc.take()
    if rpc.error is not None or not blobs:
        return
    database = b"".join(blobs[:-1])
    if hashlib.sha256(database).digest() != blobs[-1]:
        world.history.problems.append(f"snapshot of {node.name}: the checksum does not fit")
    if len(world.history.snapshots) < 3:
        world.history.snapshots.append((node.name, database))


def _alarm(client: Client) -> Script:
    member_id = client.node().member_id
    for action in (AlarmRequest.ACTIVATE, AlarmRequest.DEACTIVATE):
        request = AlarmRequest(action=action, memberID=member_id, alarm=AlarmType.NOSPACE)
        yield client.call(_MAINTENANCE + "Alarm", "alarm", request, AlarmResponse)
        yield client.rng.randrange(50, 500) * MS
