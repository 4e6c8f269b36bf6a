"""Responses as bytes: the header, and splicing. Nothing here builds a protobuf object.

A response is `header ++ fields`, where the header is field 1 and what the store gives (encoded KeyValue) is spliced in:

    0a LEN | 08 cluster_id 10 member_id 18 revision 20 raft_term | 12 LEN KeyValue 12 LEN KeyValue ...

Example: cluster 1, member 2, revision 3, term 4 is `0a 08 08 01 10 02 18 03 20 04`. As in every proto3 writer, fields
that are zero are left out. Source: etcd's api/etcdserverpb/rpc.proto.
"""

from __future__ import annotations

from typing import Final

_SMALL: Final = 1 << 14


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_VARINTS: Final = [_varint(value) for value in range(_SMALL)]


def varint(value: int) -> bytes:
    """Return the base-128 encoding of a number; a negative one is taken as 64-bit two's complement."""
    if 0 <= value < _SMALL:
        return _VARINTS[value]
    if value < 0:
        value &= 0xFFFF_FFFF_FFFF_FFFF
        return _varint(value)
    if value < _SMALL << 14:
        # The lower 14 bits take two bytes, both with the continuation bit.
        return _CONTINUED[value & (_SMALL - 1)] + _VARINTS[value >> 14]
    return _CONTINUED[value & (_SMALL - 1)] + varint(value >> 14)


_CONTINUED: Final = [bytes((value & 0x7F | 0x80, value >> 7 | 0x80)) for value in range(_SMALL)]


def varint_width(value: int) -> int:
    """Return how many bytes the encoding of a number below 2**64 takes."""
    return max(1, (value.bit_length() + 6) // 7)


def continued(value: int) -> bytes:
    """Return the first two bytes of the encoding of a number of more than 14 bits, of which these are the lowest."""
    return _CONTINUED[value]


def message_field(tag: bytes, body: bytes) -> bytes:
    """Return a length-delimited field."""
    return tag + varint(len(body)) + body


def int_field(tag: bytes, value: int) -> bytes:
    """Return a varint field, nothing when the value is zero."""
    return tag + varint(value) if value != 0 else b""


class Headers:
    """The response headers of one member, with all that seldom changes encoded beforehand."""

    def __init__(self, cluster_id: int, member_id: int) -> None:
        self._start = int_field(b"\x08", cluster_id) + int_field(b"\x10", member_id) + b"\x18"
        self._end = b""
        self._fixed = 0
        self._revision = -1
        self._cached = b""
        self.set_term(0)

    def set_term(self, term: int) -> None:
        """Take the raft term that headers show from now on."""
        self._end = int_field(b"\x20", term)
        self._fixed = len(self._start) + len(self._end)
        self._revision = -1

    def header(self, revision: int) -> bytes:
        """Return the header as field 1 of a response: tag, length, content."""
        if revision == self._revision:
            return self._cached
        number = varint(revision)
        out = b"".join((b"\n", _VARINTS[self._fixed + len(number)], self._start, number, self._end))
        if revision == 0:
            body = self._start[:-1] + self._end
            out = b"\n" + varint(len(body)) + body
        self._revision = revision
        self._cached = out
        return out


def revision_header(revision: int) -> bytes:
    """Return a header that has only a revision, as the responses inside a transaction have."""
    if revision == 0:
        return b"\n\x00"
    number = varint(revision)
    return b"\n" + varint(1 + len(number)) + b"\x18" + number


def put_fields(prev: bytes | None) -> bytes:
    """Return the fields of a PutResponse after its header."""
    return b"" if prev is None else message_field(b"\x12", prev)


def delete_fields(deleted: int, prevs: list[bytes]) -> bytes:
    """Return the fields of a DeleteRangeResponse after its header."""
    if not prevs:
        return int_field(b"\x10", deleted)
    parts = [int_field(b"\x10", deleted)]
    for prev in prevs:
        parts.append(b"\x1a")
        parts.append(varint(len(prev)))
        parts.append(prev)
    return b"".join(parts)


def range_fields(kvs: list[bytes], more: bool, count: int) -> bytes:
    """Return the fields of a RangeResponse after its header."""
    if len(kvs) == 1 and not more:
        kv = kvs[0]
        return b"".join((b"\x12", varint(len(kv)), kv, b"\x20", varint(count)))
    parts: list[bytes] = []
    for kv in kvs:
        parts.append(b"\x12")
        parts.append(varint(len(kv)))
        parts.append(kv)
    if more:
        parts.append(b"\x18\x01")
    if count != 0:
        parts.append(b"\x20")
        parts.append(varint(count))
    return b"".join(parts)
