"""The clients: each a generator that does one thing after the other, and yields what it waits for.

    yield 5 * MS        sleep
    yield op            wait for the call's end

Values are unique, so that a write is known by its value. A call that times out leaves its outcome open; nothing is ever
tried again, for that would be another write.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from google.protobuf.message import Message

from quorate.errors import RpcError
from quorate.proto.rpc_pb2 import (
    CompactionRequest,
    CompactionResponse,
    Compare,
    DeleteRangeRequest,
    DeleteRangeResponse,
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseRevokeRequest,
    LeaseRevokeResponse,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    RequestOp,
    TxnRequest,
    TxnResponse,
)
from quorate.sim.calls import Rpc
from quorate.sim.clock import MS, SECOND
from quorate.sim.history import Op, Renewal

if TYPE_CHECKING:
    from quorate.sim.node import Node
    from quorate.sim.world import World

Script = Generator["int | Op", None, None]

PREFIX = b"k"
PREFIX_END = b"l"
LEASED = b"z"


class Task:
    """Runs a script."""

    def __init__(self, world: World, script: Script) -> None:
        self._world = world
        self._script = script
        self.advance()

    def advance(self) -> None:
        """Go on to the next thing to wait for."""
        try:
            wait = next(self._script)
        except StopIteration:
            return
        if isinstance(wait, int):
            self._world.clock.later(wait, self.advance)
        elif wait.done:
            self._world.clock.later(0, self.advance)
        else:
            wait.then = self.advance


class Client:
    """Somebody with a connection to one member, or to any."""

    def __init__(self, world: World, name: str, pinned: Node | None) -> None:
        self.world = world
        self.name = name
        self.rng: random.Random = world.stream(f"client {name}")
        self.pinned = pinned
        self.serial = 0
        self.seen_rev = 1

    def node(self) -> Node:
        """Choose the member to call."""
        pinned = self.pinned
        if pinned is not None and not pinned.gone and (pinned.alive or self.rng.random() < 0.5):
            return pinned
        nodes = [node for node in self.world.nodes.values() if not node.gone]
        living = [node for node in nodes if node.alive and node.server is not None]
        return self.rng.choice(living or nodes)

    def value(self) -> bytes:
        """Return a value that nobody has written before."""
        self.serial += 1
        filler = b"x" * self.rng.randrange(self.world.plan.value_bytes + 1)
        return f"{self.name}.{self.serial}.".encode() + filler

    def key(self) -> bytes:
        """Return one of the common keys."""
        return b"%s%02d" % (PREFIX, self.rng.randrange(self.world.plan.keys))

    def call(
        self,
        path: str,
        kind: str,
        request: Message,
        answer: type[Message],
        node: Node | None = None,
        timeout_ns: int = 0,
    ) -> Op:
        """Begin a call that the history knows."""
        node = node or self.node()
        world = self.world
        op = Op(self.name, node.name, kind, request, world.clock.now_ns)
        world.history.ops.append(op)
        rpc = Rpc(world, self.name, path.encode())

        def end() -> None:
            op.returned_ns = world.clock.now_ns
            op.error = rpc.error
            if rpc.error is None and rpc.response is not None:
                op.response = answer.FromString(rpc.response)
                self.seen_rev = max(self.seen_rev, op.rev)
            if op.noted is not None:
                op.noted()
            if op.then is not None:
                op.then()

        rpc.on_end = end
        rpc.start(node, request.SerializeToString(deterministic=True), timeout_ns or world.plan.timeout_ns)
        return op

    # -- The calls

    def put(self, key: bytes, lease: int = 0) -> Op:
        """Put a new value."""
        request = PutRequest(key=key, value=self.value(), lease=lease, prev_kv=self.rng.random() < 0.3)
        return self.call("/etcdserverpb.KV/Put", "put", request, PutResponse)

    def get(self, request: RangeRequest) -> Op:
        """Read."""
        return self.call("/etcdserverpb.KV/Range", "range", request, RangeResponse)

    def delete(self, key: bytes, end: bytes = b"") -> Op:
        """Delete."""
        request = DeleteRangeRequest(key=key, range_end=end, prev_kv=self.rng.random() < 0.3)
        return self.call("/etcdserverpb.KV/DeleteRange", "delete", request, DeleteRangeResponse)

    def txn(self, request: TxnRequest) -> Op:
        """Run a transaction."""
        return self.call("/etcdserverpb.KV/Txn", "txn", request, TxnResponse)

    def compact(self, rev: int, physical: bool) -> Op:
        """Compact."""
        request = CompactionRequest(revision=rev, physical=physical)
        return self.call("/etcdserverpb.KV/Compact", "compact", request, CompactionResponse)


def put_op(key: bytes, value: bytes, lease: int = 0) -> RequestOp:
    """Return a put within a transaction."""
    return RequestOp(request_put=PutRequest(key=key, value=value, lease=lease))


def get_op(key: bytes, end: bytes = b"") -> RequestOp:
    """Return a read within a transaction."""
    return RequestOp(request_range=RangeRequest(key=key, range_end=end))


def kv_script(client: Client) -> Script:
    """Put, read, list, delete, compare and swap, for ever."""
    rng, world = client.rng, client.world
    mods: dict[bytes, int] = {}
    actions: list[tuple[int, Callable[[], Op]]] = [
        (rng.randrange(1, 40), lambda: client.put(client.key())),
        (rng.randrange(0, 12), lambda: client.delete(client.key())),
        (rng.randrange(0, 3), lambda: client.delete(PREFIX, PREFIX_END)),
        (rng.randrange(1, 20), lambda: client.get(_one(client))),
        (rng.randrange(0, 10), lambda: client.get(_list(client))),
        (rng.randrange(0, 4), lambda: client.get(_old(client))),
        (rng.randrange(0, 15), lambda: client.txn(_swap(client, mods))),
        (rng.randrange(0, 8), lambda: client.txn(_several(client))),
        (rng.randrange(0, 4), lambda: client.txn(_look(client))),
    ]
    weights = [weight for weight, _ in actions]
    while world.active:
        op = rng.choices(actions, weights)[0][1]()
        yield op
        if isinstance(op.response, RangeResponse):
            mods.update((kv.key, kv.mod_revision) for kv in op.response.kvs)
        yield 1 + int(rng.expovariate(1 / world.plan.think_ns))


def _one(client: Client) -> RangeRequest:
    return RangeRequest(key=client.key(), serializable=client.rng.random() < 0.3)


def _list(client: Client) -> RangeRequest:
    rng = client.rng
    form = rng.randrange(4)
    return RangeRequest(
        key=PREFIX,
        range_end=PREFIX_END,
        serializable=rng.random() < 0.3,
        limit=rng.randrange(1, 5) if form == 1 else 0,
        keys_only=form == 2,
        count_only=form == 3,
    )


def _old(client: Client) -> RangeRequest:
    rev = max(1, client.seen_rev - client.rng.randrange(-2, 60))
    return RangeRequest(key=PREFIX, range_end=PREFIX_END, revision=rev, limit=5, serializable=client.rng.random() < 0.5)


def _swap(client: Client, mods: dict[bytes, int]) -> TxnRequest:
    key = client.key()
    compare = Compare(key=key, target=Compare.MOD, result=Compare.EQUAL, mod_revision=mods.get(key, 0))
    return TxnRequest(compare=[compare], success=[put_op(key, client.value())], failure=[get_op(key)])


def _several(client: Client) -> TxnRequest:
    rng = client.rng
    keys = sorted({client.key() for _ in range(4)})
    ops = [put_op(key, client.value()) for key in keys]
    extra = RequestOp(request_delete_range=DeleteRangeRequest(key=PREFIX + b"~", range_end=PREFIX_END))
    compare = Compare(key=client.key(), target=Compare.VERSION, result=Compare.GREATER, version=rng.randrange(3))
    other = RequestOp(request_delete_range=DeleteRangeRequest(key=client.key(), prev_kv=True))
    return TxnRequest(
        compare=[compare],
        success=[*ops, get_op(PREFIX, PREFIX_END), extra],
        failure=[get_op(client.key()), other, put_op(PREFIX + b"~", client.value())],
    )


def _look(client: Client) -> TxnRequest:
    compare = Compare(key=client.key(), target=Compare.CREATE, result=Compare.LESS, create_revision=client.seen_rev)
    return TxnRequest(compare=[compare], success=[get_op(client.key())], failure=[get_op(PREFIX, PREFIX_END)])


def compact_script(client: Client) -> Script:
    """Compact now and then, at times a revision that is gone or not yet there."""
    rng, world = client.rng, client.world
    last = 1
    while world.active:
        yield int(rng.uniform(0.2, 2.0) * SECOND)
        yield client.get(RangeRequest(key=PREFIX, count_only=True))
        rev = rng.randrange(last, max(last + 1, client.seen_rev + 3))
        op = client.compact(rev, rng.random() < 0.3)
        yield op
        if op.response is not None:
            last = rev


def lease_script(client: Client) -> Script:
    """Grant, attach, keep alive, and then revoke or abandon."""
    rng, world = client.rng, client.world
    while world.active:
        lease_id = rng.getrandbits(62) + 1
        request = LeaseGrantRequest(ID=lease_id, TTL=rng.randrange(1, 5))
        grant = client.call("/etcdserverpb.Lease/LeaseGrant", "grant", request, LeaseGrantResponse)
        yield grant
        if grant.response is None:
            yield 100 * MS
            continue
        ttl_s = int(grant.response.TTL)  # type: ignore[attr-defined]
        for number in range(rng.randrange(3)):
            yield client.put(b"%s%x.%d" % (LEASED, lease_id, number), lease_id)
        if rng.random() < 0.4:
            yield client.put(client.key(), lease_id)
        for _ in range(rng.randrange(6)):
            yield int(ttl_s * rng.uniform(0.2, 0.9) * SECOND)
            yield keep_alive(client, lease_id)
            if rng.random() < 0.2:
                yield _time_to_live(client, lease_id)
        if rng.random() < 0.4:
            revoke = LeaseRevokeRequest(ID=lease_id)
            yield client.call("/etcdserverpb.Lease/LeaseRevoke", "revoke", revoke, LeaseRevokeResponse)
            if rng.random() < 0.5:
                yield keep_alive(client, lease_id)
        yield int(rng.uniform(0.05, 1.0) * SECOND)


def _time_to_live(client: Client, lease_id: int) -> Op:
    request = LeaseTimeToLiveRequest(ID=lease_id, keys=True)
    return client.call("/etcdserverpb.Lease/LeaseTimeToLive", "ttl", request, LeaseTimeToLiveResponse)


def keep_alive(client: Client, lease_id: int) -> Op:
    """Renew a lease; the history gets it as a Renewal."""
    request = LeaseKeepAliveRequest(ID=lease_id)
    node = client.node()
    renewal = Renewal(lease_id, node.name, client.world.clock.now_ns)
    client.world.history.renewals.append(renewal)
    op = client.call("/etcdserverpb.Lease/LeaseKeepAlive", "keepalive", request, LeaseKeepAliveResponse, node)
    world = client.world

    def note() -> None:
        renewal.returned_ns = world.clock.now_ns
        if op.response is not None:
            renewal.ttl_s = int(op.response.TTL)  # type: ignore[attr-defined]

    op.noted = note
    return op


def unknown(error: RpcError | None) -> bool:
    """Tell whether an operation with this error may have been done, or may still be."""
    return error is None or error.code in (1, 2, 4, 8, 14)
