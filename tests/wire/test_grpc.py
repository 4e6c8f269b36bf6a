"""gRPC's own encodings."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate import errors
from quorate.errors import RpcError
from quorate.wire import grpc


def test_the_example_of_the_module():
    assert grpc.frame_message(bytes.fromhex("0a016b")).hex() == "00000000030a016b"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"1H", 3_600_000_000_000),
        (b"2M", 120_000_000_000),
        (b"3S", 3_000_000_000),
        (b"4m", 4_000_000),
        (b"5u", 5_000),
        (b"99999999n", 99_999_999),
        (b"0n", 0),
        (b"99999999H", 2**63 - 1),
    ],
)
def test_timeouts(value, expected):
    assert grpc.parse_timeout(value) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"S", 'transport: timeout string is too short: "S"'),
        (b"123456789S", 'transport: timeout string is too long: "123456789S"'),
        (b"1x", 'transport: timeout unit is not recognized: "1x"'),
        (b"-1S", 'strconv.ParseUint: parsing "-1": invalid syntax'),
    ],
)
def test_bad_timeouts_in_the_words_of_grpc_go(value, text):
    with pytest.raises(ValueError) as caught:
        grpc.parse_timeout(value)
    assert str(caught.value) == text


@given(st.integers(1, 2**62))
def test_a_formatted_timeout_is_no_shorter_and_little_longer(timeout_ns):
    again = grpc.parse_timeout(grpc.format_timeout(timeout_ns))
    assert timeout_ns <= again <= timeout_ns * 1.001 + 1


@given(st.text())
def test_status_texts_survive_percent_encoding(text):
    raw = text.encode("utf-8", "replace")
    encoded = grpc.encode_text(text)
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert grpc.decode_text(encoded) == raw.decode()


def test_percent_encoding_as_grpc_go_does_it():
    assert grpc.encode_text('50% "ü"\n') == b'50%25 "%C3%BC"%0A'
    assert grpc.decode_text(b"a%zz%4") == "a%zz%4"


def test_gunzip_is_bounded():
    assert grpc.gunzip(gzip.compress(b"abc"), 3) == b"abc"
    with pytest.raises(RpcError) as caught:
        grpc.gunzip(gzip.compress(b"abcd"), 3)
    assert caught.value.code == errors.RESOURCE_EXHAUSTED
    assert caught.value.text == "grpc: received message after decompression larger than max 3"
    bomb = gzip.compress(b"\0" * (64 << 20))
    with pytest.raises(RpcError):
        grpc.gunzip(bomb, 1000)


@pytest.mark.parametrize(
    "data",
    [b"", b"junk", gzip.compress(b"abc")[:-4], zlib.compress(b"abc")],
    ids=["empty", "junk", "cut short", "zlib"],
)
def test_bad_gzip(data):
    with pytest.raises(RpcError) as caught:
        grpc.gunzip(data, 100)
    assert caught.value.code == errors.INTERNAL


def test_trailer_blocks_are_kept_within_a_bound():
    for number in range(2000):
        grpc.trailers_block(RpcError(errors.UNKNOWN, f"text {number}"))
    assert len(grpc._trailers_memo) <= grpc.TRAILERS_MEMO_COUNT
