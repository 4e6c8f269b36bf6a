"""The form of KV requests: etcd's refusals in etcd's order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate import errors
from quorate.api.forms import check_put, check_range, examine_txn
from quorate.proto import rpc_pb2 as pb
from quorate.server.quota import cost_of_txn


def put(key=b"k", **fields):
    return pb.RequestOp(request_put=pb.PutRequest(key=key, **fields))


def delete(key=b"k", end=b""):
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key, range_end=end))


def get(key=b"k", **fields):
    return pb.RequestOp(request_range=pb.RangeRequest(key=key, **fields))


def txn(success=(), failure=()):
    return pb.RequestOp(request_txn=pb.TxnRequest(success=success, failure=failure))


def check_txn(request, max_ops):
    return examine_txn(request, max_ops).error


def overlaps(ops):
    """Both branches are looked at alike."""
    first = examine_txn(pb.TxnRequest(success=ops), 128).duplicate
    assert first == examine_txn(pb.TxnRequest(failure=ops), 128).duplicate
    return first


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (pb.RangeRequest(key=b"k"), None),
        (pb.RangeRequest(sort_order=9), errors.EMPTY_KEY),
        (pb.RangeRequest(key=b"k", sort_order=3), errors.INVALID_SORT_OPTION),
        (pb.RangeRequest(key=b"k", sort_order=-1), errors.INVALID_SORT_OPTION),
        (pb.RangeRequest(key=b"k", sort_target=5), errors.INVALID_SORT_OPTION),
        (pb.RangeRequest(key=b"k", sort_order=2, sort_target=4), None),
    ],
)
def test_range(request_, error):
    assert check_range(request_) is error


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (pb.PutRequest(key=b"k"), None),
        (pb.PutRequest(value=b"v", ignore_value=True), errors.EMPTY_KEY),
        (pb.PutRequest(key=b"k", value=b"v", ignore_value=True, lease=1, ignore_lease=True), errors.VALUE_PROVIDED),
        (pb.PutRequest(key=b"k", lease=1, ignore_lease=True), errors.LEASE_PROVIDED),
        (pb.PutRequest(key=b"k", ignore_lease=True, ignore_value=True), None),
    ],
)
def test_put(request_, error):
    assert check_put(request_) is error


def test_txn_looks_depth_first_and_in_order():
    bad_compare = pb.Compare()
    assert check_txn(pb.TxnRequest(compare=[bad_compare], success=[get(sort_order=7)]), 128) is errors.EMPTY_KEY
    request = pb.TxnRequest(success=[txn([get(sort_order=7)])], failure=[put(b"")])
    assert check_txn(request, 128) is errors.INVALID_SORT_OPTION
    assert check_txn(pb.TxnRequest(success=[put()], failure=[pb.RequestOp()]), 128) is errors.KEY_NOT_FOUND
    assert check_txn(pb.TxnRequest(success=[delete(b"")]), 128) is errors.EMPTY_KEY
    assert check_txn(pb.TxnRequest(), 128) is None


def test_nested_txns_share_the_limit():
    def nested(inner):
        return pb.TxnRequest(success=[get()] * 99 + [txn([get()] * inner)])

    assert check_txn(nested(28), 128) is None
    assert check_txn(nested(29), 128) is errors.TOO_MANY_OPS
    assert check_txn(pb.TxnRequest(failure=[get()] * 129), 128) is errors.TOO_MANY_OPS
    assert check_txn(pb.TxnRequest(compare=[pb.Compare(key=b"k")] * 129), 128) is errors.TOO_MANY_OPS


K, Z = b"k", b"\0"

# Each was answered by etcd 3.5.1.
OVERLAPS = {
    "same put twice": ([put(), put()], True),
    "put and delete": ([put(), delete()], True),
    "put inside a deleted range": ([put(), delete(b"a", b"l")], True),
    "put at the end of a deleted range": ([put(), delete(b"a", b"k")], False),
    "put behind a deleted key": ([put(b"k\0"), delete()], False),
    "delete from the key on": ([put(), delete(K, Z)], False),
    "delete from a lower key on": ([put(), delete(b"a", Z)], False),
    "several deletes without an end": ([put(), delete(b"a", Z), delete(K, Z), delete(b"z", Z)], False),
    "an inverted range": ([put(), delete(K, b"a")], False),
    "an empty range": ([put(), delete(K, K)], False),
    "deletes may overlap": ([delete(), delete(b"a", b"z")], False),
    "ranges do not count": ([put(), get()], False),
    "both branches of a nested txn": ([txn([put()], [put()])], False),
    "two nested txns": ([txn([put()]), txn([put()])], True),
    "success, then failure of another": ([txn([put()]), txn([], [put()])], True),
    "then-put with else-delete": ([txn([put()], [delete()])], False),
    "nested delete, then nested put": ([txn([delete()]), txn([put()])], True),
    "nested put, then nested delete": ([txn([put()]), txn([delete()])], False),
    "delete above a nested put": ([delete(), txn([put()])], True),
    "put above a nested delete": ([put(), txn([delete()])], True),
    "put above a nested put": ([put(), txn([put()])], True),
}


@pytest.mark.parametrize("name", OVERLAPS)
def test_overlaps(name):
    ops, expected = OVERLAPS[name]
    assert overlaps(ops) is expected


KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])
RANGES = st.lists(st.tuples(KEYS, st.one_of(st.just(b""), KEYS)), max_size=6)


@given(RANGES, KEYS)
def test_deletes_are_looked_up_like_one_by_one(ranges, key):
    naive = any(key == start if not end else start <= key < end for start, end in ranges)
    assert overlaps([put(key), *(delete(start, end) for start, end in ranges)]) is naive
    nested = [txn([delete(start, end)]) for start, end in ranges]
    assert overlaps([*nested, put(key)]) is naive


OPS = st.recursive(
    st.one_of(
        st.builds(put, KEYS, value=st.binary(max_size=3)),
        st.builds(delete, KEYS, st.one_of(st.just(b""), KEYS)),
        st.builds(get, KEYS),
    ),
    lambda ops: st.builds(txn, st.lists(ops, max_size=3), st.lists(ops, max_size=3)),
    max_leaves=8,
)


@given(st.lists(OPS, max_size=4), st.lists(OPS, max_size=4))
def test_the_cost_is_what_the_server_counts(success, failure):
    request = pb.TxnRequest(success=success, failure=failure)
    form = examine_txn(request, 128)
    assert form.error is None
    assert form.cost == cost_of_txn(request)
