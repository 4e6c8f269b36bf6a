"""Entries: the bytes that are proposed, recognized and parsed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.errors import CorruptError
from quorate.proto.etcdserver_pb2 import Request
from quorate.proto.raft_internal_pb2 import InternalRaftRequest
from quorate.proto.rpc_pb2 import PutRequest, ResponseHeader
from quorate.server import entry
from quorate.server.encode import Headers, revision_header, varint, varint_width
from quorate.server.entry import RequestIds, entry_data, parse_entry

DAY_NS = 86_400 * 1_000_000_000


def test_the_example_of_the_module() -> None:
    ids = RequestIds(0x1234, 1_000_000 - 1)
    ids._counter = 0xFF
    raw = PutRequest(key=b"k").SerializeToString()
    data = entry_data(entry.PUT, raw, ids.next_suffix())
    parsed = InternalRaftRequest.FromString(data)
    assert parsed.header.ID == 0x1234_0000_0000_0100
    assert parsed.put.key == b"k"


@given(st.integers(0, 2**64 - 1), st.integers(0, 40_000 * DAY_NS), st.integers(0, 40_000))
def test_ids_have_one_width_and_decode(member_id: int, now_ns: int, skip: int) -> None:
    ids = RequestIds(member_id, now_ns)
    ids._counter = (ids._counter + skip) & ((1 << 48) - 1)
    ids._high = ids._encode_high()
    seen = []
    for _ in range(3):
        suffix = ids.next_suffix()
        assert len(suffix) == ids.suffix_bytes
        seen.append(InternalRaftRequest.FromString(suffix).header.ID)
    assert seen[0] >> 48 == member_id & 0xFFFF
    assert (seen[1] - seen[0]) % (1 << 48) == 1
    assert ids.next_id() & 0xFFFF_FFFF_FFFF == (seen[2] + 1) & 0xFFFF_FFFF_FFFF


def test_ids_cross_the_cached_part() -> None:
    ids = RequestIds(0xABCD, 1_700_000_000 * 1_000_000_000)
    last = 0
    for number in range(40_000):
        decoded = InternalRaftRequest.FromString(ids.next_suffix()).header.ID
        assert number == 0 or decoded == last + 1
        last = decoded


@given(st.integers(-(2**63), 2**64 - 1))
def test_varint(value: int) -> None:
    header = ResponseHeader.FromString(b"\x08" + varint(value))
    assert header.cluster_id == value % 2**64
    if value >= 0:
        assert varint_width(value) == len(varint(value))


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**62), st.integers(0, 2**62))
def test_headers(cluster_id: int, member_id: int, revision: int, term: int) -> None:
    headers = Headers(cluster_id, member_id)
    headers.set_term(term)
    want = ResponseHeader(cluster_id=cluster_id, member_id=member_id, revision=revision, raft_term=term)
    for _ in range(2):
        body = want.SerializeToString()
        assert headers.header(revision) == b"\n" + varint(len(body)) + body
    body = ResponseHeader(revision=revision).SerializeToString()
    assert revision_header(revision) == b"\n" + varint(len(body)) + body


def test_v2_requests_are_told_apart() -> None:
    attributes = Request(
        ID=7587858588, Method="PUT", Path="/0/members/97e6743b0e6fffb3/attributes", Val='{"name":"m1"}', Dir=False
    )
    parsed = parse_entry(attributes.SerializeToString(), 5)
    assert parsed.kind == entry.V2
    assert parsed.request.Path == "/0/members/97e6743b0e6fffb3/attributes"  # type: ignore[attr-defined]
    # As etcd 3.5.1 wrote it: every proto2 field present.
    raw = (
        b"\x08\x9c\x97\x93\xa2\x1c\x12\x03PUT\x1a\x0a/0/version\x22\x053.5.0"
        b"\x28\x00\x32\x00\x38\x00\x48\x00\x50\x00\x58\x00\x60\x00\x68\x00\x70\x00\x78\x00\x80\x01\x00"
    )
    parsed = parse_entry(raw, 6)
    assert parsed.kind == entry.V2
    assert parsed.request.Val == "3.5.0"  # type: ignore[attr-defined]
    wrapped = InternalRaftRequest(v2=Request(ID=1, Method="PUT", Path="/0/version", Val="3.5.0"))
    assert parse_entry(wrapped.SerializeToString(), 7).kind == entry.V2


def test_what_cannot_be_parsed_is_corrupt() -> None:
    assert parse_entry(b"", 1).kind == entry.EMPTY
    with pytest.raises(CorruptError, match="entry 9"):
        parse_entry(b"\xff\xff", 9)
    with pytest.raises(CorruptError, match="unknown kind"):
        parse_entry(InternalRaftRequest(ID=1).SerializeToString(), 9)


@given(st.binary(max_size=60))
def test_any_bytes_parse_or_are_corrupt(data: bytes) -> None:
    try:
        parse_entry(data, 1)
    except CorruptError:
        pass
