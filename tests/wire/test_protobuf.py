"""Protobuf by hand, against the real library."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.proto import kv_pb2
from quorate.wire import protobuf
from quorate.wire.protobuf import FieldScanner


def test_the_example_of_the_module():
    data = protobuf.bytes_field(1, b"k") + protobuf.varint_field(2, 300)
    assert data.hex() == "0a016b10ac02"


def scan(data):
    scanner = FieldScanner(data)
    out = []
    while scanner.next():
        value = scanner.value if scanner.wire == protobuf.VARINT else scanner.content()
        out.append((scanner.number, scanner.wire, value, data[scanner.tag_at : scanner.end]))
    return out


INT64 = st.integers(-(2**63), 2**63 - 1)


@given(st.binary(max_size=300), INT64, INT64, INT64, st.binary(max_size=40), INT64)
def test_a_key_value_by_hand_is_what_protobuf_makes_of_it(key, create, mod, version, value, lease):
    message = kv_pb2.KeyValue(
        key=key, create_revision=create, mod_revision=mod, version=version, value=value, lease=lease
    )
    by_hand = (
        protobuf.bytes_field(1, key)
        + protobuf.varint_field(2, create)
        + protobuf.varint_field(3, mod)
        + protobuf.varint_field(4, version)
        + protobuf.bytes_field(5, value)
        + protobuf.varint_field(6, lease)
    )
    assert by_hand == message.SerializeToString()
    fields = scan(by_hand)
    assert b"".join(raw for *_, raw in fields) == by_hand
    numbers = {number: value for number, _, value, _ in fields}
    assert numbers.get(1, b"") == key
    assert protobuf.signed(numbers.get(6, 0)) == lease


@given(st.binary(max_size=60))
def test_any_bytes_scan_or_raise_value_error(data):
    try:
        fields = scan(data)
    except ValueError:
        return
    assert b"".join(raw for *_, raw in fields) == data


@given(st.binary(max_size=60))
def test_what_protobuf_accepts_we_accept(data):
    try:
        kv_pb2.KeyValue.FromString(data)
    except Exception:
        return
    if not any(byte & 7 in (3, 4) for byte in data):  # groups, which we refuse
        scan(data)


@pytest.mark.parametrize("data", ["00", "08", "0a02ff", "0affffffffffffffffffff01", "0b", "0c", "0f", "0d0000", "0900"])
def test_malformed(data):
    with pytest.raises(ValueError):
        scan(bytes.fromhex(data))


def test_an_empty_message_field_is_written():
    assert protobuf.message_field(3, b"") == b"\x1a\x00"
    assert protobuf.bytes_field(3, b"") == b""
