"""Keys and values of the backend, against the generated protobuf modules and etcd's texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.proto import lease_pb2, rpc_pb2
from quorate.raft.types import ConfState
from quorate.storage import schema

i64 = st.integers(-(2**63), 2**63 - 1)


def test_the_buckets_are_in_order() -> None:
    assert list(schema.BUCKETS) == sorted(schema.BUCKETS)
    assert len(schema.BUCKETS) == 10


def test_integers() -> None:
    assert schema.encode_u64(258) == bytes([0, 0, 0, 0, 0, 0, 1, 2])
    assert schema.decode_u64(schema.encode_u64(2**64 - 1)) == 2**64 - 1
    assert schema.decode_u64(None) == schema.decode_u64(b"") == 0
    with pytest.raises(ValueError, match="malformed"):
        schema.decode_u64(b"123")


def test_the_version_of_a_layout() -> None:
    assert schema.layout_version(b"3.6.0", schema.encode_u64(2)) == "3.6.0"
    assert schema.layout_version(None, schema.encode_u64(2)) == "3.5.0"
    assert schema.layout_version(None, None) == ""


def test_conf_state_is_gos_json() -> None:
    assert schema.encode_conf_state(ConfState([10945563741364682675])) == (
        b'{"voters":[10945563741364682675],"auto_leave":false}'
    )
    joint = ConfState([1], [2], [3], [4], True)
    assert schema.encode_conf_state(joint) == (
        b'{"voters":[1],"learners":[2],"voters_outgoing":[3],"learners_next":[4],"auto_leave":true}'
    )


def test_member_keys() -> None:
    assert schema.member_key(0x97E6743B0E6FFFB3) == b"97e6743b0e6fffb3"
    assert schema.member_key(0xAB) == b"ab"
    assert schema.parse_member_key(b"ab") == 0xAB


@given(i64, i64, i64)
def test_leases(lease_id: int, ttl: int, remaining: int) -> None:
    value = schema.encode_lease(lease_id, ttl, remaining)
    message = lease_pb2.Lease(ID=lease_id, TTL=ttl, RemainingTTL=remaining)
    assert value == message.SerializeToString(deterministic=True)
    assert schema.decode_lease(value) == (lease_id, ttl, remaining)
    assert schema.parse_lease_key(schema.lease_key(lease_id)) == lease_id
    assert schema.lease_key(16).hex() == "0000000000000010"
    assert schema.encode_lease(16, 60, 0).hex() == "0810103c"


@given(st.integers(0, 2**64 - 1), st.integers(0, 2))
def test_alarms(member_id: int, alarm: int) -> None:
    key = schema.encode_alarm(member_id, alarm)
    assert key == rpc_pb2.AlarmMember(memberID=member_id, alarm=alarm).SerializeToString(deterministic=True)
    assert schema.decode_alarm(key) == (member_id, alarm)
