"""Messages in the compact text form of Go's protobuf library, which etcd's log lines hold.

    key:"a" range_end:"b" limit:10 sort_order:DESCEND␠
    compare:<target:VERSION key:"a" version:1 > success:<request_put:<key:"a" value_size:3 >> failure:<>

(␠ is a space.) Values of puts and of compares are never shown, only their sizes.
Source: etcd's api/etcdserverpb/raft_internal_stringer.go.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from quorate.proto.rpc_pb2 import RequestOp, TxnRequest

_ESCAPES: Final = {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x22: '\\"', 0x5C: "\\\\"}
_REDACTED: Final = frozenset(["etcdserverpb.PutRequest.value", "etcdserverpb.Compare.value"])
_SECRET: Final = frozenset(["password", "hashedPassword", "simple_token"])


def loggable(message: Message) -> str:
    """Return a request's text, without values and passwords."""
    if not isinstance(message, TxnRequest):
        return _fields(message)
    compares = " ".join([_fields(compare) for compare in message.compare])
    branches = [" ".join([_operation(one) for one in ops]) for ops in (message.success, message.failure)]
    return f"compare:<{compares}> success:<{branches[0]}> failure:<{branches[1]}>"


def _operation(op: RequestOp) -> str:
    """Return one operation of a transaction; etcd puts no space behind those that it redacts."""
    if op.HasField("request_put"):
        return f"request_put:<{_fields(op.request_put)}>"
    if op.HasField("request_txn"):
        return f"request_txn:<{loggable(op.request_txn)}>"
    return _fields(op)


def quoted(data: bytes) -> str:
    """Return bytes as a quoted text; what is not printable ASCII as octal."""
    return '"' + "".join([_escaped(byte) for byte in data]) + '"'


def _fields(message: Message) -> str:
    parts = []
    for field, value in message.ListFields():
        if field.name in _SECRET:
            continue
        if field.full_name in _REDACTED:
            parts.append(f"{field.name}_size:{len(value)} ")
            continue
        for each in value if field.is_repeated else [value]:
            parts.append(_one(field, each))
    return "".join(parts)


def _escaped(byte: int) -> str:
    return _ESCAPES.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}")


def _one(field: FieldDescriptor, value: object) -> str:
    if isinstance(value, Message):
        return f"{field.name}:<{_fields(value)}> "
    if isinstance(value, bytes):
        text = quoted(value)
    elif isinstance(value, str):
        text = quoted(value.encode())
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, int) and field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        text = str(value) if known is None else known.name
    else:
        text = str(value)
    return f"{field.name}:{text} "
