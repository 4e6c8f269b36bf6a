"""JSON to messages, by the rules of golang/protobuf's jsonpb, which etcd 3.5's gateway reads requests with.

Fields are looked up by their proto and by their JSON name, in the order of the .proto file; unknown ones are passed
over, and null is as good as absent. Integers may stand in quotes, enums go by name or number, bytes are base64 (or a
list of numbers, as encoding/json has it). Errors have Go's texts. Source: golang/protobuf 1.5.2, jsonpb/decode.go.
"""

from __future__ import annotations

from typing import Any, Final, cast

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from quorate.gateway import base64
from quorate.gateway.gojson import BOOL, NULL, NUMBER, STRING, JsonError, Leaf, Value, kind_of, read_all, unquote
from quorate.wire.grpc import quote

MAX_DEPTH: Final = 100
"""How deep messages may nest; what parses them further in goes no deeper."""

_RANGES: Final = {
    FieldDescriptor.TYPE_INT32: ("int32", -(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: ("int64", -(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: ("uint32", 0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: ("uint64", 0, 2**64 - 1),
}
_ENUM_RANGE: Final = ("protoreflect.EnumNumber", -(2**31), 2**31 - 1)
_BYTE_RANGE: Final = ("uint8", 0, 255)


def fill(message: Message, value: Value, depth: int = 0) -> None:
    """Set the fields of an empty message. Raises JsonError."""
    if isinstance(value, Leaf) and value.kind == NULL:
        return
    if not isinstance(value, dict):
        raise _cannot(kind_of(value), "map[string]json.RawMessage")
    if depth > MAX_DEPTH:
        raise JsonError("exceeded max depth")
    for field in message.DESCRIPTOR.fields:
        given = value.get(field.json_name)
        if given is None:
            given = value.get(field.name)
        if given is None or (isinstance(given, Leaf) and given.kind == NULL):
            continue
        _set_field(message, cast(FieldDescriptor, field), given, depth)


def _set_field(message: Message, field: FieldDescriptor, given: Value, depth: int) -> None:
    nested = field.message_type is not None
    if field.is_repeated:
        if not isinstance(given, list):
            raise _cannot(kind_of(given), "[]json.RawMessage")
        target = getattr(message, field.name)
        for element in given:
            if nested:
                fill(target.add(), element, depth + 1)
            else:
                target.append(_scalar(field, element))
    elif nested:
        target = getattr(message, field.name)
        target.SetInParent()
        fill(target, given, depth + 1)
    else:
        setattr(message, field.name, _scalar(field, given))


def _scalar(field: FieldDescriptor, value: Value) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _bytes(value)
    if field.type == FieldDescriptor.TYPE_STRING:
        return _string(value)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _bool(value)
    if field.enum_type is not None:
        return _enum(field.enum_type, value)
    return _integer(value, *_RANGES[field.type])


def _bool(value: Value) -> bool:
    if not isinstance(value, Leaf) or value.kind not in (BOOL, NULL):
        raise _cannot(kind_of(value), "bool")
    return value.raw == b"true"


def _string(value: Value) -> str:
    if not isinstance(value, Leaf) or value.kind not in (STRING, NULL):
        raise _cannot(kind_of(value), "string")
    return unquote(value.raw) if value.kind == STRING else ""


def _bytes(value: Value) -> bytes:
    if isinstance(value, list):
        return bytes([_integer(element, *_BYTE_RANGE, quoted=False) for element in value])
    if not isinstance(value, Leaf) or value.kind not in (STRING, NULL):
        raise _cannot(kind_of(value), "[]uint8")
    if value.kind == NULL:
        return b""
    try:
        return base64.decode(unquote(value.raw))
    except ValueError as error:
        raise JsonError(str(error)) from None


def _enum(kind: EnumDescriptor, value: Value) -> int:
    if isinstance(value, Leaf) and value.kind == STRING:
        named = kind.values_by_name.get(value.raw[1:-1].decode("utf-8", "replace"))
        if named is None:
            raise JsonError(f"unknown value {quote(value.raw)} for enum {kind.full_name}")
        return int(named.number)
    return _integer(value, *_ENUM_RANGE, quoted=False)


def _integer(value: Value, name: str, low: int, high: int, quoted: bool = True) -> int:
    if quoted and isinstance(value, Leaf) and value.kind == STRING:
        value = read_all(value.raw[1:-1])  # the quotes are dropped, and what is in them is read as JSON
    if not isinstance(value, Leaf) or value.kind not in (NUMBER, NULL):
        raise _cannot(kind_of(value), name)
    if value.kind == NULL:
        return 0
    digits = value.raw[1:] if value.raw[:1] == b"-" and low < 0 else value.raw
    if not digits.isdigit() or len(digits) > 20 or not low <= int(value.raw) <= high:
        raise _cannot("number " + value.raw.decode(), name)
    return int(value.raw)


def _cannot(what: str, into: str) -> JsonError:
    return JsonError(f"json: cannot unmarshal {what} into Go value of type {into}")
