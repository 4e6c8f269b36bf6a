"""Transactions and ranges against the naive twin, and the rules that only a special request shows."""

from __future__ import annotations

import random

import pytest

from quorate import errors
from quorate.errors import RpcError
from quorate.proto.rpc_pb2 import Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse
from quorate.server.ranges import run_range
from quorate.server.txn import is_read_only, is_serializable
from tests.server.naive import NaiveStore, Refused
from tests.server.world import Node

KEYS = [b"a", b"b", b"bb", b"c", b"d"]
ENDS = [b"", b"", b"\0", b"bb", b"c", b"zz"]


def random_put(rng: random.Random) -> PutRequest:
    request = PutRequest(key=rng.choice(KEYS), prev_kv=rng.random() < 0.3, lease=rng.choice([0, 0, 7, 7, 8, 9]))
    mode = rng.randrange(8)
    if mode == 0:
        request.ignore_value = True
    else:
        request.value = rng.choice([b"", b"x", b"yy", b"zzz"])
    if mode == 1:
        request.ignore_lease = True
        request.lease = 0
    if request.lease == 9 and rng.random() < 0.8:
        request.lease = 0
    return request


def random_range(rng: random.Random, rev: int) -> RangeRequest:
    request = RangeRequest(key=rng.choice(KEYS), range_end=rng.choice(ENDS), limit=rng.choice([0, 0, 1, 2, -1]))
    if rng.random() < 0.3:
        request.revision = rng.choice([rev, rev - 1, rev - 2, 1, -1, rev + 1])
    if rng.random() < 0.3:
        # Only orders without ties: etcd's sort is not stable.
        request.sort_target = rng.choice([RangeRequest.KEY, RangeRequest.KEY, RangeRequest.MOD])
        request.sort_order = rng.choice([RangeRequest.NONE, RangeRequest.ASCEND, RangeRequest.DESCEND])
    if rng.random() < 0.2:
        field = rng.choice(["min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"])
        setattr(request, field, rng.randrange(1, rev + 2))
    request.keys_only = rng.random() < 0.2
    request.count_only = rng.random() < 0.1
    return request


def random_compare(rng: random.Random, rev: int) -> Compare:
    compare = Compare(key=rng.choice(KEYS), range_end=rng.choice([b"", b"", b"", b"\0", b"c"]))
    compare.target = rng.randrange(5)
    compare.result = rng.randrange(4)
    union = rng.randrange(7)
    number = rng.choice([0, 0, 1, 2, rev, rev - 1])
    if union < 5:
        field = ["version", "create_revision", "mod_revision", "value", "lease"][union]
        setattr(compare, field, rng.choice([b"", b"x", b"yy"]) if field == "value" else number)
    return compare


def random_txn(rng: random.Random, rev: int, depth: int = 0) -> TxnRequest:
    request = TxnRequest()
    for _ in range(rng.choice([0, 1, 1, 2])):
        request.compare.append(random_compare(rng, rev))
    for branch in (request.success, request.failure):
        for _ in range(rng.randrange(4)):
            op = RequestOp()
            kind = rng.randrange(10)
            if kind < 4:
                op.request_put.CopyFrom(random_put(rng))
            elif kind < 7:
                op.request_range.CopyFrom(random_range(rng, rev))
            elif kind < 9:
                op.request_delete_range.key = rng.choice(KEYS)
                op.request_delete_range.range_end = rng.choice([b"", b"", b"c"])
                op.request_delete_range.prev_kv = rng.random() < 0.3
            elif depth < 2:
                op.request_txn.CopyFrom(random_txn(rng, rev, depth + 1))
            else:
                op.request_put.key = b"deep"
            branch.append(op)
    return request


@pytest.fixture(scope="module")
def node() -> Node:
    node = Node().start()
    node.grant(7, 1000)
    node.grant(8, 1000)
    return node


@pytest.mark.parametrize("seed", range(12))
def test_against_the_naive_twin(seed: int) -> None:
    rng = random.Random(seed)
    node = Node().start()
    node.grant(7, 100_000)
    node.grant(8, 100_000)
    executor = node.server._executor
    twin = NaiveStore({7, 8})
    for number in range(150):
        request = random_txn(rng, twin.rev)
        want: TxnResponse | RpcError
        try:
            want = twin.txn(request)
        except Refused as refused:
            want = refused.error
        got: TxnResponse | RpcError
        try:
            if is_read_only(request):
                got = TxnResponse.FromString(executor.read_only_txn(request))
            else:
                got = TxnResponse.FromString(executor.txn(request, True))
            got.header.ClearField("cluster_id")
            got.header.ClearField("member_id")
            got.header.ClearField("raft_term")
        except RpcError as error:
            got = error
        assert got == want, f"seed {seed}, step {number}: {request}"
        plain = random_range(rng, twin.rev)
        check_range(node, twin, plain)
        if number % 40 == 39:
            rev = rng.randrange(max(2, twin.compact_rev + 1), twin.rev + 1)
            node.server.store.compact(rev, None)
            twin.compact_rev = rev
    for key, kv in twin.state.items():
        assert node.server.lessor.lease_of(key) == kv.lease
        assert not kv.lease or key in node.server.lessor.lookup(kv.lease).keys  # type: ignore[union-attr]


def check_range(node: Node, twin: NaiveStore, request: RangeRequest) -> None:
    try:
        want = twin.range(request, twin.state, twin.rev)
    except Refused as refused:
        with pytest.raises(RpcError, match=refused.error.text):
            run_range(node.server.store, request)
        return
    answer = run_range(node.server.store, request)
    want.ClearField("header")
    assert answer.rev == twin.rev
    assert type(want).FromString(answer.fields) == want, request


def txn(*success: RequestOp, failure: tuple[RequestOp, ...] = (), compare: tuple[Compare, ...] = ()) -> TxnRequest:
    return TxnRequest(compare=compare, success=success, failure=failure)


def put_op(key: bytes, value: bytes = b"", **fields: object) -> RequestOp:
    return RequestOp(request_put=PutRequest(key=key, value=value, **fields))  # type: ignore[arg-type]


def range_op(key: bytes, **fields: object) -> RequestOp:
    return RequestOp(request_range=RangeRequest(key=key, **fields))  # type: ignore[arg-type]


def error_of(node: Node, request: TxnRequest) -> RpcError:
    with pytest.raises(RpcError) as caught:
        node.txn(request)
    return caught.value


def test_what_fails_changes_nothing(node: Node) -> None:
    node.put(b"k", b"before")
    rev = node.server.store.current_rev
    assert error_of(node, txn(put_op(b"k", b"after"), put_op(b"other", lease=99))) is errors.LEASE_NOT_FOUND
    assert error_of(node, txn(put_op(b"k", b"x"), put_op(b"absent", ignore_value=True))) is errors.KEY_NOT_FOUND
    assert error_of(node, txn(put_op(b"k", b"x"), range_op(b"k", revision=10**6))) is errors.FUTURE_REV
    # In a transaction the previous value is looked for before the lease, in a plain put after it.
    both = put_op(b"absent", ignore_value=True, lease=99)
    assert error_of(node, txn(both)) is errors.KEY_NOT_FOUND
    with pytest.raises(RpcError) as caught:
        node.put(b"absent", b"", ignore_value=True, lease=99)
    assert caught.value is errors.LEASE_NOT_FOUND
    assert node.server.store.current_rev == rev
    assert node.get(b"k") == b"before"


def test_unknown_enums_and_absent_values(node: Node) -> None:
    def succeeded(compare: Compare) -> bool:
        return TxnResponse.FromString(node.txn(txn(put_op(b"enum"), compare=(compare,)))).succeeded

    node.put(b"present", b"v")
    assert succeeded(Compare(key=b"present", target=9, result=Compare.EQUAL))
    assert not succeeded(Compare(key=b"present", target=9, result=Compare.NOT_EQUAL))
    assert succeeded(Compare(key=b"present", target=Compare.VERSION, result=9, version=77))
    assert not succeeded(Compare(key=b"nope", target=Compare.VALUE, result=Compare.NOT_EQUAL, value=b"x"))
    assert succeeded(Compare(key=b"nope", target=Compare.LEASE, result=Compare.EQUAL, lease=0))
    # A union of another type counts as zero.
    assert succeeded(Compare(key=b"present", target=Compare.MOD, result=Compare.GREATER, value=b"zzz"))


def test_nested_headers(node: Node) -> None:
    inner = txn(put_op(b"n1"))
    response = TxnResponse.FromString(node.txn(txn(RequestOp(request_txn=inner), range_op(b"n1"))))
    rev = response.header.revision
    assert response.responses[0].response_txn.HasField("header")
    assert response.responses[0].response_txn.header.revision == 0
    assert response.responses[0].response_txn.responses[0].response_put.header.revision == rev
    assert response.responses[1].response_range.header.revision == rev
    assert response.responses[1].response_range.header.member_id == 0
    assert response.header.member_id == node.server.member_id


def test_which_transactions_only_read() -> None:
    assert is_read_only(TxnRequest())
    assert is_serializable(TxnRequest())
    assert is_read_only(txn(range_op(b"a")))
    assert not is_serializable(txn(range_op(b"a", serializable=True), failure=(range_op(b"b"),)))
    assert is_serializable(txn(range_op(b"a", serializable=True), failure=(range_op(b"b", serializable=True),)))
    assert not is_read_only(txn(range_op(b"a"), failure=(put_op(b"b"),)))
    assert not is_read_only(txn(RequestOp(request_txn=txn(range_op(b"a")))))
    assert not is_read_only(txn(RequestOp()))
