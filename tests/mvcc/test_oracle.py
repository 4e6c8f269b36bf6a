"""The same history on real etcd (3.5.1) and in our store: ranges, prev_kvs, events and hashes must be the same.

What 3.5.1 does otherwise than 3.6 is left out: it deletes the tombstone at the compact revision, and refuses HashKV
at it.
"""

from __future__ import annotations

import queue
import random
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from quorate.mvcc.record import decode_event
from quorate.mvcc.select import Selection
from quorate.proto import kv_pb2, rpc_pb2
from tests.mvcc.fakes import Member, Sink
from tests.oracle import running

pytestmark = pytest.mark.oracle

KEYS = [b"a", b"aa", b"ab", b"b", b"b\xff", b"c", b"cc"]


class Etcd:
    """A client of the real server, by method name."""

    def __init__(self, endpoint: str) -> None:
        self.channel = grpc.insecure_channel(endpoint)

    def call(self, method: str, request: Any, response: Any) -> Any:
        stub = self.channel.unary_unary(
            f"/etcdserverpb.{method}", request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )  # fmt: skip
        return stub(request, timeout=10)

    def hash_kv(self, rev: int) -> int:
        response = self.call("Maintenance/HashKV", rpc_pb2.HashKVRequest(revision=rev), rpc_pb2.HashKVResponse)
        return int(response.hash)


@pytest.fixture(scope="module")
def etcd() -> Iterator[Etcd]:
    with running("real") as member:
        client = Etcd(member.endpoint)
        yield client
        client.channel.close()


def encoded(messages: Any) -> list[bytes]:
    return [message.SerializeToString(deterministic=True) for message in messages]


def apply_txn(etcd: Etcd, member: Member, rng: random.Random) -> None:
    """Do one random transaction on both and compare what comes back."""
    ops: list[Any] = []
    txn = member.store.begin()
    wants: list[list[bytes]] = []
    put: set[bytes] = set()
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        key = rng.choice(KEYS)
        if rng.random() < 0.7:
            if key in put:
                continue
            put.add(key)
            value = b"v" * rng.randrange(3)
            ops.append(rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=value, prev_kv=True)))
            prev = txn.put(key, value, 0, True)
            wants.append([] if prev is None else [prev])
        else:
            end = rng.choice((b"", b"", b"\x00"))
            if end or key in put:
                if put:
                    continue
                put.update(KEYS)
            put.add(key)
            ops.append(
                rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=key, range_end=end, prev_kv=True))
            )
            wants.append(txn.delete_range(key, end, True)[1])
    txn.end()
    response = etcd.call("KV/Txn", rpc_pb2.TxnRequest(success=ops), rpc_pb2.TxnResponse)
    assert response.header.revision == member.store.current_rev
    for op, want in zip(response.responses, wants, strict=True):
        if op.HasField("response_put"):
            got = [op.response_put.prev_kv] if op.response_put.HasField("prev_kv") else []
        else:
            got = list(op.response_delete_range.prev_kvs)
        assert encoded(got) == want


def compare_ranges(etcd: Etcd, member: Member, rng: random.Random, first_rev: int) -> None:
    """Compare random ranges. Where etcd leaves the order of equal elements open, compare by what decides it."""
    for _ in range(150):
        key = rng.choice(KEYS)
        end = rng.choice((b"", b"\x00", b"b", b"cc", b"d"))
        rev = rng.choice((0, rng.randrange(first_rev, member.store.current_rev + 1)))
        limit = rng.choice((0, 0, 1, 2, 5))
        order, target = rng.choice(((0, 0), (0, 0), (1, 0), (2, 0), (2, 3), (0, 2)))
        bounds = [rng.choice((0, 0, 0, first_rev + 9)) for _ in range(4)]
        keys_only, count_only = rng.random() < 0.3, rng.random() < 0.2
        request = rpc_pb2.RangeRequest(
            key=key, range_end=end, revision=rev, limit=limit, sort_order=order, sort_target=target,
            keys_only=keys_only, count_only=count_only, min_mod_revision=bounds[0], max_mod_revision=bounds[1],
            min_create_revision=bounds[2], max_create_revision=bounds[3],
        )  # fmt: skip
        response = etcd.call("KV/Range", request, rpc_pb2.RangeResponse)
        selection = Selection(limit, order, target, keys_only, *bounds)
        result = member.store.range(key, end, rev, selection.fetch_limit(), count_only)
        kvs, more = selection.select(result.kvs)
        assert (response.count, response.more, response.header.revision) == (result.count, more, result.rev)
        if target == 0:
            assert encoded(response.kvs) == kvs
        else:
            field = "mod_revision" if target == 3 else "create_revision"
            ours = [getattr(kv_pb2.KeyValue.FromString(record), field) for record in kvs]
            assert [getattr(kv, field) for kv in response.kvs] == ours


def test_history_ranges_events_and_hashes_are_those_of_real_etcd(etcd: Etcd) -> None:
    rng = random.Random(20)
    member = Member()
    for _ in range(300):
        apply_txn(etcd, member, rng)
    compare_ranges(etcd, member, rng, 2)
    compare_watch(etcd, member)
    for rev in (2, 50, 171, member.store.current_rev):
        assert etcd.hash_kv(rev) == hash_of(member, rev)
    compact_rev = next(rev for rev in range(200, 300) if not tombstone_at(member, rev))
    etcd.call("KV/Compact", rpc_pb2.CompactionRequest(revision=compact_rev, physical=True), rpc_pb2.CompactionResponse)
    member.store.compact(compact_rev, None)
    member.loop.run()
    for rev in range(compact_rev + 1, member.store.current_rev + 1, 7):
        assert etcd.hash_kv(rev) == hash_of(member, rev)
    compare_ranges(etcd, member, rng, compact_rev)
    for _ in range(50):
        apply_txn(etcd, member, rng)
    assert etcd.hash_kv(0) == hash_of(member, 0)
    reopened = member.restart()
    assert etcd.hash_kv(0) == hash_of(reopened, 0)
    compare_ranges(etcd, reopened, rng, compact_rev)


def tombstone_at(member: Member, rev: int) -> bool:
    return any(
        dead for key in member.store.index.entries for m, _, dead in member.store.index.revisions(key) if m == rev
    )


def hash_of(member: Member, rev: int) -> int:
    results: list[int] = []
    member.store.hash_by_rev(rev, lambda value, *_: results.append(value))
    member.loop.run()
    return results[0]


def compare_watch(etcd: Etcd, member: Member) -> None:
    """Replay the whole history through a watch with previous values on both sides."""
    sink = Sink()
    member.hub.stream(sink).watch(b"a", b"c", 1, 0, [], True, False, False)
    member.loop.run()
    ours = [event for call in sink.calls for event in call[2]]
    requests: queue.Queue[Any] = queue.Queue()
    create = rpc_pb2.WatchCreateRequest(key=b"a", range_end=b"c", start_revision=1, prev_kv=True)
    requests.put(rpc_pb2.WatchRequest(create_request=create))
    stub = etcd.channel.stream_stream(
        "/etcdserverpb.Watch/Watch", request_serializer=rpc_pb2.WatchRequest.SerializeToString,
        response_deserializer=rpc_pb2.WatchResponse.FromString,
    )  # fmt: skip
    call = stub(iter(requests.get, None), timeout=10)
    theirs: list[bytes] = []
    for response in call:
        theirs += encoded(response.events)
        if len(theirs) >= len(ours):
            break
    requests.put(None)
    call.cancel()
    assert theirs == ours
    assert any(decode_event(event)[2] is not None for event in ours)
