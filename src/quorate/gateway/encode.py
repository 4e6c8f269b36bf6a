"""Messages to JSON, as golang/protobuf's jsonpb writes them with OrigName, which is what etcd 3.5's gateway answers.

Fields by their proto names, in the order of the .proto file, without those that are not set; 64-bit integers in quotes,
enums by name, bytes as base64; of text, what HTML treats as special is escaped. Source: golang/protobuf 1.5.2,
jsonpb/encode.go.
"""

from __future__ import annotations

import binascii
import re
from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

_QUOTED: Final = frozenset((FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64))
_SPECIAL: Final = re.compile('["\\\\\x00-\x1f<>&\u2028\u2029]')
_SHORT: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_LAYOUTS: dict[str, list[list[FieldDescriptor]]] = {}


def text(value: str) -> str:
    """Return a JSON string as Go writes it."""
    return '"' + _SPECIAL.sub(_escape, value) + '"'


def _escape(match: re.Match[str]) -> str:
    return _SHORT.get(match[0]) or f"\\u{ord(match[0]):04x}"


def to_json(message: Message) -> str:
    """Return a message as JSON."""
    parts: list[str] = []
    for group in _layout(cast(Descriptor, message.DESCRIPTOR)):
        for field in group:
            member = _member(message, field)
            if member is not None:
                parts.append(f'"{field.name}":{member}')
                break
    return "{" + ",".join(parts) + "}"


def _layout(kind: Descriptor) -> list[list[FieldDescriptor]]:
    """Return the fields in order; those of a oneof together, in the place of its first."""
    layout = _LAYOUTS.get(kind.full_name)
    if layout is None:
        layout = []
        for field in kind.fields:
            union = field.containing_oneof
            if union is None:
                layout.append([field])
            elif union.fields[0].name == field.name:
                layout.append(list(union.fields))
        _LAYOUTS[kind.full_name] = layout
    return layout


def _member(message: Message, field: FieldDescriptor) -> str | None:
    """Return a field's value as JSON, None when it is not set."""
    value = getattr(message, field.name)
    if field.is_repeated:
        return "[" + ",".join([_one(field, element) for element in value]) + "]" if value else None
    if field.message_type is not None or field.containing_oneof is not None:
        return _one(field, value) if message.HasField(field.name) else None
    return _one(field, value) if value else None


def _one(field: FieldDescriptor, value: Any) -> str:
    if field.message_type is not None:
        return to_json(value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return '"' + binascii.b2a_base64(value, newline=False).decode() + '"'
    if field.type in _QUOTED:
        return f'"{value}"'
    if field.type == FieldDescriptor.TYPE_STRING:
        return text(value)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return "true" if value else "false"
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return f'"{named.name}"' if named is not None else str(value)
    return str(value)
