"""KV: the services' checks, in order, and requests that come through."""

import pytest

from quorate import errors
from quorate.proto import rpc_pb2 as pb
from tests.api.fakes import Bench, text_of

RANGE, PUT, DELETE = "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put", "/etcdserverpb.KV/DeleteRange"
TXN, COMPACT = "/etcdserverpb.KV/Txn", "/etcdserverpb.KV/Compact"


def put_op(key=b"k", **fields):
    return pb.RequestOp(request_put=pb.PutRequest(key=key, **fields))


@pytest.mark.parametrize(
    ("path", "request_", "error"),
    [
        (RANGE, pb.RangeRequest(), errors.EMPTY_KEY),
        (RANGE, pb.RangeRequest(key=b"k", sort_order=3), errors.INVALID_SORT_OPTION),
        (RANGE, pb.RangeRequest(key=b"k", revision=9), errors.FUTURE_REV),
        (PUT, pb.PutRequest(), errors.EMPTY_KEY),
        (
            PUT,
            pb.PutRequest(key=b"k", value=b"v", ignore_value=True, lease=1, ignore_lease=True),
            errors.VALUE_PROVIDED,
        ),
        (PUT, pb.PutRequest(key=b"k", lease=1, ignore_lease=True), errors.LEASE_PROVIDED),
        (PUT, pb.PutRequest(key=b"k", lease=12345), errors.LEASE_NOT_FOUND),
        (PUT, pb.PutRequest(key=b"k", ignore_value=True), errors.KEY_NOT_FOUND),
        (DELETE, pb.DeleteRangeRequest(), errors.EMPTY_KEY),
        (TXN, pb.TxnRequest(success=[pb.RequestOp()]), errors.KEY_NOT_FOUND),
        (TXN, pb.TxnRequest(success=[put_op()] * 129), errors.TOO_MANY_OPS),
        (TXN, pb.TxnRequest(failure=[put_op(), put_op()]), errors.DUPLICATE_KEY),
        (COMPACT, pb.CompactionRequest(revision=9), errors.FUTURE_REV),
    ],
)
def test_errors(path, request_, error):
    bench = Bench()
    assert bench.error(path, request_) == text_of(error)


def test_no_room_comes_first():
    bench = Bench()
    bench.server.room = False
    full = text_of(errors.NO_SPACE)
    assert bench.error(PUT, pb.PutRequest()) == full
    assert bench.error(TXN, pb.TxnRequest(success=[put_op(b"")])) == full
    assert bench.call(TXN, pb.TxnRequest()).error is None
    assert bench.call(DELETE, pb.DeleteRangeRequest(key=b"k")).error is None
    assert bench.call(RANGE, pb.RangeRequest(key=b"k")).error is None


def test_a_put_is_answered_by_the_call_itself():
    bench = Bench()
    bench.server.hold = True
    call = bench.call(PUT, pb.PutRequest(key=b"k", value=b"v", prev_kv=True))
    assert not call.ended
    bench.server.release()
    response = call.take(pb.PutResponse)[0]
    assert (response.header.revision, response.header.raft_term, response.HasField("prev_kv")) == (2, 2, False)


def test_requests_come_through():
    bench = Bench()
    assert [bench.put(b"a"), bench.put(b"b"), bench.put(b"c")] == [2, 3, 4]
    assert bench.delete(b"b") == 5
    found = bench.answer(RANGE, pb.RangeRequest(key=b"a", range_end=b"z"), pb.RangeResponse)
    assert [kv.key for kv in found.kvs] == [b"a", b"c"]
    assert bench.answer(COMPACT, pb.CompactionRequest(revision=4), pb.CompactionResponse).header.revision == 5
    response = bench.answer(TXN, pb.TxnRequest(success=[put_op(b"d")]), pb.TxnResponse)
    assert response.succeeded
    assert response.responses[0].response_put.header.revision == 6


def test_an_empty_range_end_reads_from_the_key_on():
    """What etcd 3.5.1 answers to these bytes, which no client library sends."""
    bench = Bench()
    for key in (b"a", b"b", b"c"):
        bench.put(key)
    assert pb.RangeResponse.FromString(bench.call(RANGE, b"\x0a\x01b\x12\x00").messages[0]).count == 2
    assert pb.RangeResponse.FromString(bench.call(RANGE, b"\x0a\x01b\x12\x01c\x12\x00").messages[0]).count == 2
    assert pb.RangeResponse.FromString(bench.call(RANGE, b"\x0a\x02\x12\x00").messages[0]).count == 0
    assert pb.DeleteRangeResponse.FromString(bench.call(DELETE, b"\x0a\x01b\x12\x00").messages[0]).deleted == 1
