"""The complaints about malformed requests are etcd's; the answers here were given by etcd 3.5.1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.api.strict import complaint, stream_error, unary_error
from quorate.proto import rpc_pb2 as pb

PUT = [
    (b"\xff", "unexpected EOF"),
    (b"\x0a\x05ab", "unexpected EOF"),
    (b"\x0a", "unexpected EOF"),
    (b"\x08\x01", "proto: wrong wireType = 0 for field Key"),
    (b"\x0f", "proto: wrong wireType = 7 for field Key"),
    (b"\x0e", "proto: wrong wireType = 6 for field Key"),
    (b"\x00", "proto: PutRequest: illegal tag 0 (wire type 0)"),
    (b"\x0b\x0c", "proto: wrong wireType = 3 for field Key"),
    (b"\x0c", "proto: PutRequest: wiretype end group for non-group"),
    (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "proto: negative length found during unmarshaling"),
    (b"\x0a\x01k\x18" + b"\xff" * 10 + b"\x01", "proto: integer overflow"),
    (b"\x0a\x01k\xd2\x7f\x01a", None),
    (b"\x0a\x01k\x1a\x00", "proto: wrong wireType = 2 for field Lease"),
    (b"\x0a\x01k\x7b", "unexpected EOF"),
    (b"\x0a\x01k\x79\x00", "unexpected EOF"),
    (b"\x0a\x01k\x7d\x00\x00", "unexpected EOF"),
    (b"\x0a\x01k\x80\x80\x80\x80\x10\x00", None),
    (b"\x0a\x01k\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02\x00", "proto: PutRequest: illegal tag 0 (wire type 0)"),
]


@pytest.mark.parametrize(("data", "text"), PUT)
def test_put_requests(data, text):
    assert complaint(pb.PutRequest, data) == text


@pytest.mark.parametrize(
    ("message", "data", "text"),
    [
        (pb.TxnRequest, b"\x12\x02\x12\x01", "unexpected EOF"),
        (pb.TxnRequest, b"\x12\x02\x10\x01", "proto: wrong wireType = 0 for field RequestPut"),
        (pb.TxnRequest, b"\x12\x04\x12\x02\x08\x01", "proto: wrong wireType = 0 for field Key"),
        (pb.TxnRequest, b"\x0a\x03\x82\x04\x00", None),
        (pb.MemberAddRequest, b"\x08\x01", "proto: wrong wireType = 0 for field PeerURLs"),
        (pb.WatchCreateRequest, b"\x28\x01\x28\x00", None),
        (pb.WatchCreateRequest, b"\x2a\x02\x01\x00", None),
        (pb.WatchCreateRequest, b"\x2a\x01\x80", "unexpected EOF"),
        (pb.WatchCreateRequest, b"\x2d\x01\x00\x00\x00", "proto: wrong wireType = 5 for field Filters"),
        (pb.LeaseGrantRequest, b"\x0a\x00", "proto: wrong wireType = 2 for field TTL"),
        (pb.StatusRequest, b"\x7b\x08\x01\x7c", None),
        (pb.StatusRequest, b"\x7b\x7b\x7c", "unexpected EOF"),
        (pb.StatusRequest, b"\x7b\x7f\x7c", "proto: illegal wireType 7"),
    ],
)
def test_other_requests(message, data, text):
    assert complaint(message, data) == text


def test_errors():
    error = unary_error(pb.PutRequest, b"\xff")
    assert (error.code, error.text) == (13, "grpc: error unmarshalling request: unexpected EOF")
    error = stream_error(pb.WatchRequest, b"\xff")
    assert (error.code, error.text) == (13, "grpc: failed to unmarshal the received message: unexpected EOF")
    error = unary_error(pb.DowngradeRequest, b"\x12\x02\xff\xfe")
    assert error.text.endswith("proto: cannot parse invalid wire-format data")


def test_deep_nesting_ends():
    data = b""
    for _ in range(300):
        data = _nest(data)
    assert complaint(pb.TxnRequest, data) == "proto: message nested too deep"


def _nest(data):
    inner = b"\x22" + _varint(len(data)) + data  # RequestOp.request_txn
    return b"\x12" + _varint(len(inner)) + inner  # TxnRequest.success


def _varint(value):
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


@given(st.binary(max_size=40))
def test_any_bytes_get_an_answer(data):
    assert complaint(pb.TxnRequest, data) is None or unary_error(pb.TxnRequest, data).code == 13


@given(
    st.builds(
        pb.PutRequest,
        key=st.binary(max_size=300),
        value=st.binary(max_size=300),
        lease=st.integers(-(2**63), 2**63 - 1),
        prev_kv=st.booleans(),
    )
)
def test_what_we_serialize_is_never_refused(request):
    assert complaint(pb.PutRequest, request.SerializeToString()) is None
