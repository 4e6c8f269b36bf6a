"""The JSON format: Go's encoding/json of the generated structs, on one line.

Names are the protobuf field names, zero values are left out, bytes are base64, enums and 64-bit integers are numbers.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable
from json import dumps
from typing import Any

from quorate.cli.etcdctl.output import Printer, write

_BYTES, _MESSAGE, _STRING, _BOOL = 12, 11, 9, 8  # google.protobuf.FieldDescriptor.TYPE_*


def string(text: str) -> str:
    """Return a string as encoding/json writes it."""
    out = dumps(text, ensure_ascii=False)
    out = out.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    out = out.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").replace("\x7f", "\x7f")
    return out.replace("\\b", "\\u0008").replace("\\f", "\\u000c")


def _scalar(kind: int, value: Any) -> str:
    if kind == _MESSAGE:
        return message(value)
    if kind == _BYTES:
        return '"' + b2a_base64(value, newline=False).decode() + '"'
    if kind == _STRING:
        return string(value)
    if kind == _BOOL:
        return "true" if value else "false"
    return str(int(value))


def members(value: Any) -> list[str]:
    """Return a message's fields as JSON members."""
    out = []
    for field in value.DESCRIPTOR.fields:
        if field.containing_oneof is not None:
            continue
        content = getattr(value, field.name)
        if field.is_repeated:
            if content:
                out.append(f'"{field.name}":[' + ",".join([_scalar(field.type, each) for each in content]) + "]")
        elif field.type == _MESSAGE:
            if value.HasField(field.name):
                out.append(f'"{field.name}":{message(content)}')
        elif content:
            out.append(f'"{field.name}":{_scalar(field.type, content)}')
    for group in value.DESCRIPTOR.oneofs:
        chosen = value.WhichOneof(group.name)
        inner = f'{{"{chosen}":{message(getattr(value, chosen))}}}' if chosen else "null"
        out.append(f'"{group.name.capitalize()}":{inner}')
    return out


def message(value: Any) -> str:
    """Return a message as a JSON object."""
    return "{" + ",".join(members(value)) + "}"


def _watch(answer: Any) -> str:
    return (
        f'{{"Header":{message(answer.header)},"Events":[{",".join([message(event) for event in answer.events])}],'
        f'"CompactRevision":{answer.compact_revision},"Canceled":{_scalar(_BOOL, answer.canceled)},'
        f'"Created":{_scalar(_BOOL, answer.created)}}}'
    )


def _flat(answer: Any, *more: str) -> str:
    return "{" + ",".join([*members(answer.header), *more]) + "}"


def _keys(answer: Any) -> str:
    return "[" + ",".join([_scalar(_BYTES, key) for key in answer.keys]) + "]" if answer.keys else "null"


def _health(found: Any) -> str:
    items = [
        f'{{"endpoint":{string(each.endpoint)},"health":{_scalar(_BOOL, each.health)},"took":{string(each.took)}'
        + (f',"error":{string(each.error)}}}' if each.error else "}")
        for each in found
    ]
    return "[" + ",".join(items) + "]"


def _endpoints(name: str) -> Callable[[Any], str]:
    def show(found: Any) -> str:
        items = [f'{{"Endpoint":{string(endpoint)},"{name}":{message(answer)}}}' for endpoint, answer in found]
        return "[" + ",".join(items) + "]" if items else "null"

    return show


KINDS: dict[str, Callable[[Any], str]] = {
    "watch": _watch,
    "grant": lambda a: _flat(a, f'"ID":{a.ID}', f'"TTL":{a.TTL}', f'"Error":{string(a.error)}'),
    "keep-alive": lambda a: _flat(a, f'"ID":{a.ID}', f'"TTL":{a.TTL}'),
    "time-to-live": lambda a: _flat(
        a, f'"id":{a.ID}', f'"ttl":{a.TTL}', f'"granted-ttl":{a.grantedTTL}', f'"keys":{_keys(a)}'
    ),
    "leases": lambda a: _flat(a, '"leases":[' + ",".join([f'{{"id":{each.ID}}}' for each in a.leases]) + "]"),
    "endpoint-health": _health,
    "endpoint-status": _endpoints("Status"),
    "endpoint-hashkv": _endpoints("HashKV"),
}


def _hex_members(answer: Any) -> str:
    header = answer.header
    out = f'{{"header":{{"cluster_id":"{header.cluster_id:x}","member_id":"{header.member_id:x}",'
    out += f'"raft_term":{header.raft_term}}}'
    items = [
        f'{{"ID":"{each.ID:x}","name":"{each.name}","peerURLs":{_strings(each.peerURLs)},'
        f'"clientURLs":{_strings(each.clientURLs)}}}'
        for each in answer.members
    ]
    return out + (',"members":[' + ",".join(items) + "]" if items else "") + "}"


def _strings(values: Any) -> str:
    return "[" + ",".join([string(each) for each in values]) + "]" if values else "null"


class JsonPrinter(Printer):
    """One object a line."""

    name = "json"

    def __init__(self, hexadecimal: bool) -> None:
        self.hexadecimal = hexadecimal

    def show(self, kind: str, answer: Any, *extra: Any) -> None:  # noqa: ARG002
        """Print an answer."""
        if kind == "member-list" and self.hexadecimal:
            text = _hex_members(answer)
        else:
            text = KINDS[kind](answer) if kind in KINDS else message(answer)
        write(text.encode() + b"\n")
