"""Protobuf by hand, for splicing: varints, tags, length-delimited fields, and a scanner of top-level fields.

    | tag varint: field number << 3 | wire type | varint (0) / 8 bytes (1) / length varint, bytes (2) / 4 bytes (5) |

Field 1 = b"k" and field 2 = 300 are 0a 01 6b 10 ac 02. Groups (wire types 3 and 4) are malformed here: etcd has none.
Negative int64 values are written as their 64-bit two's complement, ten bytes long, as protobuf does.
"""

from __future__ import annotations

from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5

_SMALL: Final = [bytes([value]) for value in range(128)]
_MASK64: Final = (1 << 64) - 1
_SIGN64: Final = 1 << 63


def encode_varint(value: int) -> bytes:
    """Return an unsigned integer below 2**64, or a negative int64."""
    if 0 <= value < 128:
        return _SMALL[value]
    if value < 0:
        value &= _MASK64
    out = bytearray()
    while value >= 128:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint_field(number: int, value: int) -> bytes:
    """Return a varint field, empty when the value is 0 (proto3)."""
    if value == 0:
        return b""
    return encode_varint(number << 3) + encode_varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    """Return a length-delimited field, empty when the value is empty (proto3)."""
    if not value:
        return b""
    return message_field(number, value)


def message_field(number: int, value: bytes) -> bytes:
    """Return a length-delimited field even when it is empty, as a present message is."""
    return encode_varint(number << 3 | BYTES) + encode_varint(len(value)) + value


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the unsigned varint at an offset and the offset behind it. Raises ValueError."""
    size = len(data)
    if at < size:
        byte = data[at]
        if byte < 0x80:
            return byte, at + 1
    value = 0
    shift = 0
    while at < size:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > _MASK64:
                raise ValueError("varint overflows 64 bits")
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("varint longer than ten bytes")
    raise ValueError("message ends inside a varint")


def signed(value: int) -> int:
    """Return a decoded varint as int64."""
    return value - (1 << 64) if value & _SIGN64 else value


class FieldScanner:
    """Walks over the fields of one message without copying more than is asked for.

        scanner = FieldScanner(data)
        while scanner.next():
            if scanner.number == 1 and scanner.wire == BYTES:
                key = scanner.content()

    `start` and `end` bound the field's value in `data`, `tag_at` is where its tag begins: data[tag_at:end] is the whole
    field, ready to splice. `value` is set for varints. Malformed input raises ValueError.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.number = 0
        self.wire = 0
        self.value = 0
        self.tag_at = 0
        self.start = 0
        self.end = 0

    def next(self) -> bool:
        """Go to the next field; False at the end of the message."""
        at = self.end
        data = self.data
        size = len(data)
        if at == size:
            return False
        self.tag_at = at
        tag, at = read_varint(data, at)
        self.number = tag >> 3
        wire = tag & 7
        self.wire = wire
        if self.number == 0 or tag > 0xFFFFFFFF:
            raise ValueError("bad field number")
        if wire == BYTES:
            length, at = read_varint(data, at)
            if length > size - at:
                raise ValueError("field longer than its message")
            self.start = at
            self.end = at + length
        elif wire == VARINT:
            self.start = at
            self.value, self.end = read_varint(data, at)
        elif wire in (FIXED64, FIXED32):
            self.start = at
            self.end = at + (8 if wire == FIXED64 else 4)
            if self.end > size:
                raise ValueError("field longer than its message")
        else:
            raise ValueError("bad wire type")
        return True

    def content(self) -> bytes:
        """Return the value's bytes."""
        return self.data[self.start : self.end]
