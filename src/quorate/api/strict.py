"""Why etcd would refuse the bytes of a request: a decoder's complaints, in the words of etcd's generated code.

The protobuf library takes a field of a wrong wire type for an unknown one; etcd's generated code refuses the message. A
request that goes into the log must therefore be looked at by the same rules: a member of real etcd stops when it meets
an entry that it cannot decode. The services serialize what they parsed, and come here only when that differs from what
was received, or when the parser has failed; so this is off the hot path and plain.

    0a 05 61 62    field 1 announces 5 bytes, 2 follow      unexpected EOF
    08 01          field 1 (bytes) sent as a varint         proto: wrong wireType = 0 for field Key

Contract: `complaint` walks the message as etcd does and returns the text of the first complaint, None when there is
none. Left out: the UTF-8 of string fields and the numbers at the end of groups, which etcd does not check.
Source: the generated Unmarshal and skip functions in etcd's api/etcdserverpb/rpc.pb.go.
"""

from __future__ import annotations

from typing import Final, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from quorate.errors import INTERNAL, RpcError

_EOF: Final = "unexpected EOF"
_OVERFLOW: Final = "proto: integer overflow"
_NEGATIVE: Final = "proto: negative length found during unmarshaling"
_NOT_PARSED: Final = "proto: cannot parse invalid wire-format data"
"""What only our parser refuses: strings that are not UTF-8, and groups that end with another number."""

_MAX_DEPTH: Final = 100
"""As deep as the protobuf library parses."""

_BYTES_TYPES: Final = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE)


class _Complaint(Exception):  # noqa: N818 (it is no error of ours)
    """The text that ends the walk."""


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= end:
            raise _Complaint(_EOF)
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise _Complaint(_OVERFLOW)


def _length(data: bytes, at: int, end: int) -> tuple[int, int]:
    length, at = _varint(data, at, end)
    if length >= 1 << 63 or at + length >= 1 << 63:
        raise _Complaint(_NEGATIVE)
    return length, at


def _skip(data: bytes, at: int, end: int) -> int:
    """Return the offset behind an unknown field, groups included."""
    depth = 0
    while at < end:
        tag, at = _varint(data, at, end)
        wire = tag & 7
        if wire == 0:
            _, at = _varint(data, at, end)
        elif wire == 1:
            at += 8
        elif wire == 2:
            length, at = _length(data, at, end)
            at += length
        elif wire == 3:
            depth += 1
        elif wire == 4:
            if depth == 0:
                raise _Complaint("proto: unexpected end of group")
            depth -= 1
        elif wire == 5:
            at += 4
        else:
            raise _Complaint(f"proto: illegal wireType {wire}")
        if depth == 0:
            if at > end:
                raise _Complaint(_EOF)
            return at
    raise _Complaint(_EOF)


def _go_name(name: str) -> str:
    """Return the name of a field in generated Go: range_end is RangeEnd, peerURLs is PeerURLs."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _field_number(tag: int) -> int:
    """Return a tag's field number as Go does, in 32 bits with a sign."""
    number = tag >> 3 & 0xFFFF_FFFF
    return number - (1 << 32) if number >= 1 << 31 else number


def _known(field: FieldDescriptor, wire: int, data: bytes, at: int, end: int, depth: int) -> int:
    """Check one known field's value and return the offset behind it."""
    packed = field.is_repeated and field.type not in _BYTES_TYPES
    expected = 2 if field.type in _BYTES_TYPES else 0
    if wire != expected and not (packed and wire == 2):
        raise _Complaint(f"proto: wrong wireType = {wire} for field {_go_name(field.name)}")
    if wire == 0:
        return _varint(data, at, end)[1]
    length, at = _length(data, at, end)
    if at + length > end:
        raise _Complaint(_EOF)
    if field.message_type is not None:
        _message(field.message_type, data, at, at + length, depth + 1)
    elif packed:
        inner = at
        while inner < at + length:
            _, inner = _varint(data, inner, end)
    return at + length


def _message(descriptor: Descriptor, data: bytes, at: int, end: int, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise _Complaint("proto: message nested too deep")
    while at < end:
        start = at
        tag, at = _varint(data, at, end)
        number = _field_number(tag)
        wire = tag & 7
        if wire == 4:
            raise _Complaint(f"proto: {descriptor.name}: wiretype end group for non-group")
        if number <= 0:
            raise _Complaint(f"proto: {descriptor.name}: illegal tag {number} (wire type {tag})")
        field = descriptor.fields_by_number.get(number)
        if field is None:
            at = _skip(data, start, end)
        else:
            at = _known(field, wire, data, at, end, depth)


def complaint(message: type[Message], data: bytes) -> str | None:
    """Return what etcd's decoder would say about the bytes of such a message; None when it would take them."""
    try:
        _message(cast(Descriptor, message.DESCRIPTOR), data, 0, len(data), 0)
    except _Complaint as found:
        return str(found)
    return None


def unary_error(message: type[Message], data: bytes) -> RpcError:
    """Return the error for a request that the protobuf library could not parse."""
    text = complaint(message, data) or _NOT_PARSED
    return RpcError(INTERNAL, "grpc: error unmarshalling request: " + text)


def stream_error(message: type[Message], data: bytes) -> RpcError:
    """Return the error that ends a stream on which such a message came."""
    text = complaint(message, data) or _NOT_PARSED
    return RpcError(INTERNAL, "grpc: failed to unmarshal the received message: " + text)
