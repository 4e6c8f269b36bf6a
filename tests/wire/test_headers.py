"""HPACK: our decoder against the hpack library's, and blocks that anybody can decode."""

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.wire import headers
from quorate.wire.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, Http2Error
from quorate.wire.headers import HeaderDecoder, encode_fields, encode_integer, valid_name, valid_value

NAMES = st.sampled_from([b":path", b":method", b"grpc-timeout", b"x-a", b"te", b"user-agent", b"authorization"])
VALUES = st.one_of(st.sampled_from([b"POST", b"trailers", b"/a/b", b""]), st.binary(max_size=300))
LISTS = st.lists(st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=8), min_size=1, max_size=12)


def pairs(fields):
    return [(bytes(name), bytes(value)) for name, value in fields]


def test_the_example_of_the_module():
    decoder = HeaderDecoder(65536)
    fields = decoder.decode(bytes.fromhex("838644022f61"))
    assert fields == [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a")]
    assert decoder.generation == 1
    assert decoder.decode(b"\xbe") == [(b":path", b"/a")]
    assert decoder.generation == 1


@given(LISTS, st.booleans(), st.lists(st.integers(0, 4096), max_size=4))
@settings(max_examples=150, deadline=None)
def test_we_decode_what_hpack_encodes(blocks, huffman, sizes):
    encoder = hpack.Encoder()
    decoder = HeaderDecoder(1 << 20)
    for number, fields in enumerate(blocks):
        if number < len(sizes):
            encoder.header_table_size = sizes[number]
        tuples = [hpack.NeverIndexedHeaderTuple(n, v) if secret else (n, v) for n, v, secret in fields]
        assert decoder.decode(encoder.encode(tuples, huffman=huffman)) == [(n, v) for n, v, _ in fields]


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6))
@settings(max_examples=400, deadline=None)
def test_any_bytes_mean_the_same_to_us_and_to_hpack(blocks):
    ours = HeaderDecoder(65536)
    theirs = hpack.Decoder()
    for block in blocks:
        try:
            expected = pairs(theirs.decode(block, raw=True))
        except (hpack.HPACKError, IndexError):
            with pytest.raises(Http2Error):
                ours.decode(block)
            return
        try:
            assert ours.decode(block) == expected
        except Http2Error as error:
            # hpack takes integers of any length; we stop at four continuation bytes.
            assert error.text == "bad integer in a header block"  # noqa: PT017
            return


@given(st.lists(st.tuples(st.sampled_from([b":status", b"content-type", b"grpc-message", b"x-y"]), VALUES)))
@settings(deadline=None)
def test_hpack_decodes_what_we_encode_and_its_table_stays_empty(fields):
    decoder = hpack.Decoder(max_header_list_size=1 << 20)
    assert pairs(decoder.decode(encode_fields(fields), raw=True)) == fields
    assert len(decoder.header_table.dynamic_entries) == 0


def test_eviction_of_many_entries_keeps_the_table_straight():
    encoder = hpack.Encoder()
    decoder = HeaderDecoder(65536)
    for number in range(2000):
        fields = [(b"grpc-timeout", b"%du" % number), (b":path", b"/x"), (b"n-%d" % (number % 7), b"v")]
        assert decoder.decode(encoder.encode(fields)) == fields
    assert len(decoder._entries) - decoder._first < 128
    assert decoder._bytes <= 4096


def test_an_entry_larger_than_the_table_empties_it():
    decoder = HeaderDecoder(65536)
    decoder.decode(b"\x40\x01a\x01b")
    big = b"\x40\x01a" + encode_integer(5000, 0x7F, 0) + b"z" * 5000
    assert decoder.decode(big) == [(b"a", b"z" * 5000)]
    with pytest.raises(Http2Error):
        decoder.decode(b"\xbe")


@pytest.mark.parametrize(
    ("block", "code"),
    [
        ("80", COMPRESSION_ERROR),  # index 0
        ("be", COMPRESSION_ERROR),  # no such entry
        ("ff", COMPRESSION_ERROR),  # integer ends early
        ("ffffffffffff7f", COMPRESSION_ERROR),  # integer too long
        ("4005", COMPRESSION_ERROR),  # string ends early
        ("40", COMPRESSION_ERROR),
        ("400161", COMPRESSION_ERROR),  # no value
        ("4001618100", COMPRESSION_ERROR),  # bad Huffman padding
        ("3fe21f", COMPRESSION_ERROR),  # table of 4097 bytes
        ("8320", COMPRESSION_ERROR),  # size update after a field
    ],
)
def test_malformed_blocks(block, code):
    with pytest.raises(Http2Error) as caught:
        HeaderDecoder(65536).decode(bytes.fromhex(block))
    assert caught.value.code == code


def test_a_bomb_of_references_is_stopped_by_the_decoded_size():
    decoder = HeaderDecoder(65536)
    decoder.decode(b"\x40\x01a" + encode_integer(3000, 0x7F, 0) + b"z" * 3000)
    with pytest.raises(Http2Error) as caught:
        decoder.decode(b"\xbe" * 60000)
    assert caught.value.code == ENHANCE_YOUR_CALM


def test_names_and_values():
    assert valid_name(b"x-a_b.c")
    assert not valid_name(b"")
    assert not valid_name(b"X-A")
    assert not valid_name(b"a b")
    assert not valid_name(b"a:b")
    assert valid_value(b"")
    assert valid_value(b"a b\xff")
    assert not valid_value(b"a\rb")
    assert not valid_value(b" a")
    assert not valid_value(b"a\t")
    assert not valid_value(b"\0")


def test_what_is_decoded_for_one_connection_serves_the_next_unless_it_is_secret():
    block = hpack.Encoder().encode([(":path", "/some/path"), ("token", "a-secret-token")], huffman=True)
    for _ in range(2):
        decoder = headers.HeaderDecoder(10_000)
        assert decoder.decode(block) == [(b":path", b"/some/path"), (b"token", b"a-secret-token")]
    assert b"/some/path" in headers._shared.values()
    assert b"a-secret-token" not in headers._shared.values()
    for number in range(2 * headers.HUFFMAN_MEMO_COUNT):
        fields = [(":path", f"/p/{number}")]
        headers.HeaderDecoder(10_000).decode(hpack.Encoder().encode(fields, huffman=True))
    assert len(headers._shared) <= headers.HUFFMAN_MEMO_COUNT
