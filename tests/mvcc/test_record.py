from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.errors import CorruptError
from quorate.mvcc import record, revision
from quorate.proto import kv_pb2

I64 = st.integers(-(1 << 63), (1 << 63) - 1)
REV = st.one_of(st.integers(1, 300), st.integers(1, 1 << 30), st.integers(1, (1 << 63) - 1))
TEXT = st.one_of(st.binary(max_size=5), st.binary(min_size=120, max_size=140), st.just(bytes(3000)))


@settings(derandomize=True)
@given(TEXT.filter(bool), REV, REV, REV, TEXT, I64)
def test_key_value_is_what_protobuf_writes_and_reads(
    key: bytes, create: int, mod: int, version: int, value: bytes, lease: int
) -> None:
    message = kv_pb2.KeyValue(
        key=key, create_revision=create, mod_revision=mod, version=version, value=value, lease=lease
    )
    encoded = record.encode_key_value(key, create, mod, version, value, lease)
    assert encoded == message.SerializeToString(deterministic=True)
    assert record.key_value_fields(encoded) == (key, create, mod, version, value, lease)
    assert record.key_of(encoded) == key
    message.ClearField("value")
    assert record.without_value(encoded) == message.SerializeToString(deterministic=True)


@settings(derandomize=True)
@given(TEXT.filter(bool), REV, st.one_of(st.none(), TEXT))
def test_events_are_what_protobuf_writes_and_reads(key: bytes, mod: int, before: bytes | None) -> None:
    kv = kv_pb2.KeyValue(key=key, create_revision=mod, mod_revision=mod, version=1, value=b"v")
    gone = kv_pb2.KeyValue(key=key, mod_revision=mod)
    prev = None if before is None else kv_pb2.KeyValue(key=key, create_revision=1, mod_revision=1, value=before)
    prev_bytes = None if prev is None else prev.SerializeToString(deterministic=True)
    put = kv_pb2.Event(type=kv_pb2.Event.PUT, kv=kv, prev_kv=prev)
    encoded = record.encode_put_event(kv.SerializeToString(deterministic=True), prev_bytes)
    assert encoded == put.SerializeToString(deterministic=True)
    assert record.decode_event(encoded) == (False, kv.SerializeToString(deterministic=True), prev_bytes)
    delete = kv_pb2.Event(type=kv_pb2.Event.DELETE, kv=gone, prev_kv=prev)
    encoded = record.encode_delete_event(record.encode_deleted(key, mod), prev_bytes)
    assert encoded == delete.SerializeToString(deterministic=True)
    assert record.decode_event(encoded) == (True, gone.SerializeToString(deterministic=True), prev_bytes)
    assert record.encode_tombstone(key) == kv_pb2.KeyValue(key=key).SerializeToString(deterministic=True)


def test_the_examples_of_the_module() -> None:
    encoded = record.encode_key_value(b"a", 2, 2, 1, b"b", 0)
    assert encoded == bytes.fromhex("0a0161 1002 1802 2001 2a0162")
    assert record.encode_put_event(encoded, None) == bytes.fromhex("120c 0a0161100218022001 2a0162")
    assert revision.revision_key(2, 0) == bytes.fromhex("0000000000000002 5f 0000000000000000")
    assert revision.tombstone_key(3, 1) == bytes.fromhex("0000000000000003 5f 0000000000000001 74")


@settings(derandomize=True)
@given(I64)
def test_varint(value: int) -> None:
    encoded = record.varint(value)
    assert record.read_varint(b"x" + encoded + b"\x01", 1) == (value & ((1 << 64) - 1), 1 + len(encoded))


def test_fields_in_any_order_and_unknown_ones() -> None:
    data = bytes.fromhex("3005 2a0162 4201ff 2001 49 0000000000000000 4d 00000000 1802 5005 0a0161 1002")
    assert record.key_value_fields(data) == (b"a", 2, 2, 1, b"b", 5)
    assert record.key_of(data) == b"a"
    assert record.without_value(data) == data.replace(bytes.fromhex("2a0162"), b"")
    assert record.key_value_fields(b"") == (b"", 0, 0, 0, b"", 0)


@settings(derandomize=True)
@given(st.binary(max_size=40))
def test_any_bytes_are_a_record_or_a_value_error(data: bytes) -> None:
    for read in (record.key_value_fields, record.key_of, record.without_value, record.decode_event):
        try:
            read(data)
        except ValueError:
            pass


def test_a_record_cut_at_any_byte_inside_a_field_is_refused() -> None:
    encoded = record.encode_key_value(b"key", 200, 300, 400, b"value", -1)
    starts = {0, 5, 8, 11, 14, 21}
    for end in range(len(encoded)):
        if end in starts:
            record.key_value_fields(encoded[:end])
        else:
            with pytest.raises(ValueError):
                record.key_value_fields(encoded[:end])


@settings(derandomize=True)
@given(REV, REV)
def test_revision_keys(main: int, sub: int) -> None:
    for key, dead in ((revision.revision_key(main, sub), False), (revision.tombstone_key(main, sub), True)):
        revision.check_key(key)
        assert (revision.main_of(key), revision.sub_of(key), revision.is_tombstone(key)) == (main, sub, dead)


@pytest.mark.parametrize(
    "key",
    [b"", bytes(16), bytes(17), bytes(18), bytes(8) + b"_" + bytes(9), b"\x80" + bytes(7) + b"_" + bytes(8),
     bytes(8) + b"_\x80" + bytes(7), bytes(8) + b"_" + bytes(8) + b"tt"],
)  # fmt: skip
def test_what_is_no_revision_is_refused(key: bytes) -> None:
    with pytest.raises(CorruptError):
        revision.check_key(key)
