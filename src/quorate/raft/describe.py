"""Raft's types as text, in the forms that etcd prints: for log lines, for the scripts, and for people."""

from __future__ import annotations

from collections.abc import Callable

from quorate.raft import codec
from quorate.raft.types import (
    ADD_LEARNER_NODE,
    ADD_NODE,
    CHANGE_NAMES,
    ENTRY_CONF_CHANGE,
    ENTRY_CONF_CHANGE_V2,
    ENTRY_NAMES,
    LOCAL_APPEND_THREAD,
    LOCAL_APPLY_THREAD,
    MESSAGE_NAMES,
    NONE,
    REMOVE_NODE,
    TRANSITION_NAMES,
    UPDATE_NODE,
    ConfChangeSingle,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
)

DataFormat = Callable[[bytes], str]

_ESCAPES = {0x07: "\\a", 0x08: "\\b", 0x0C: "\\f", 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x0B: "\\v"}


def quote(data: bytes) -> str:
    """Return bytes as Go's %q prints them."""
    out = ['"']
    for char in data.decode("utf-8", "surrogateescape"):
        code = ord(char)
        if char in ('"', "\\"):
            out.append("\\" + char)
        elif code in _ESCAPES:
            out.append(_ESCAPES[code])
        elif 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}")
        elif char.isprintable():
            out.append(char)
        elif code < 0x80:
            out.append(f"\\x{code:02x}")
        else:
            out.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    out.append('"')
    return "".join(out)


def _name(names: tuple[str, ...], value: int) -> str:
    return names[value] if value < len(names) else str(value)


def _ids(ids: list[int]) -> str:
    return "[" + " ".join([str(member) for member in ids]) + "]"


def describe_hard_state(state: HardState) -> str:
    """Return such as "Term:1 Vote:2 Commit:3"."""
    vote = f" Vote:{state.vote}" if state.vote != 0 else ""
    return f"Term:{state.term}{vote} Commit:{state.commit}"


def describe_conf_state(state: ConfState) -> str:
    """Return such as "Voters:[1 2] VotersOutgoing:[] Learners:[] LearnersNext:[] AutoLeave:false"."""
    return (
        f"Voters:{_ids(state.voters)} VotersOutgoing:{_ids(state.voters_outgoing)} Learners:{_ids(state.learners)} "
        f"LearnersNext:{_ids(state.learners_next)} AutoLeave:{'true' if state.auto_leave else 'false'}"
    )


def describe_snapshot(snapshot: Snapshot) -> str:
    """Return such as "Index:5 Term:1 ConfState:Voters:[1] ..."."""
    return f"Index:{snapshot.index} Term:{snapshot.term} ConfState:{describe_conf_state(snapshot.conf_state)}"


def describe_changes(changes: list[ConfChangeSingle]) -> str:
    """Return such as "v1 l2 r3 u4"."""
    letters = {ADD_NODE: "v", ADD_LEARNER_NODE: "l", REMOVE_NODE: "r", UPDATE_NODE: "u"}
    return " ".join([f"{letters.get(change.type, 'unknown')}{change.node_id}" for change in changes])


def describe_conf_change(change: ConfChangeV2) -> str:
    """Return the one-line protobuf text of a change, as raft 3.7 logs it."""
    text = f"transition:{_name(TRANSITION_NAMES, change.transition)}"
    for single in change.changes:
        text += f" changes:{{type:{_name(CHANGE_NAMES, single.type)} node_id:{single.node_id}}}"
    if change.context:
        text += f" context:{quote(change.context)}"
    return text


def describe_entry(entry: Entry, data_format: DataFormat = quote) -> str:
    """Return such as "1/5 EntryNormal \\"data\\"" (term/index)."""
    data = entry.data or b""
    if entry.type == ENTRY_CONF_CHANGE:
        text = describe_changes(codec.decode_conf_change(data).as_v2().changes)
    elif entry.type == ENTRY_CONF_CHANGE_V2:
        text = describe_changes(codec.decode_conf_change_v2(data).changes)
    else:
        text = data_format(data)
    head = f"{entry.term}/{entry.index} {_name(ENTRY_NAMES, entry.type)}"
    return f"{head} {text}" if text else head


def _target(member: int) -> str:
    if member == NONE:
        return "None"
    if member == LOCAL_APPEND_THREAD:
        return "AppendThread"
    if member == LOCAL_APPLY_THREAD:
        return "ApplyThread"
    return f"{member:x}"


def describe_message(message: Message, data_format: DataFormat = quote, indent: str = "") -> str:
    """Return such as "1->2 MsgApp Term:1 Log:1/4 Commit:3 Entries:[1/5 EntryNormal \\"data\\"]"."""
    text = (
        f"{indent}{_target(message.frm)}->{_target(message.to)} {_name(MESSAGE_NAMES, message.type)} "
        f"Term:{message.term} Log:{message.log_term}/{message.index}"
    )
    if message.reject:
        text += f" Rejected (Hint: {message.reject_hint})"
    if message.commit != 0:
        text += f" Commit:{message.commit}"
    if message.vote != 0:
        text += f" Vote:{message.vote}"
    entries = message.entries
    if len(entries) == 1:
        text += f" Entries:[{describe_entry(entries[0], data_format)}]"
    elif entries:
        lines = [f"\n{indent}  {describe_entry(entry, data_format)}" for entry in entries]
        text += f" Entries:[{''.join(lines)}\n{indent}]"
    snapshot = message.snapshot
    if snapshot is not None and not snapshot.is_empty():
        text += f"\n{indent}  Snapshot: {describe_snapshot(snapshot)}"
    if message.responses:
        lines = ["\n" + describe_message(response, data_format, indent + "  ") for response in message.responses]
        text += f" Responses:[{''.join(lines)}\n{indent}]"
    return text
