"""The bytes of raft's types: protobuf exactly as etcd writes it (etcd-io/raft v3.6: raftpb/raft.pb.go).

    Entry      | 08 type | 10 term | 18 index | 22 len data |
    HardState  | 08 term | 10 vote | 18 commit |
    ConfState  | 08 voter ... | 10 learner ... | 18 outgoing ... | 20 next ... | 28 auto_leave |
    Snapshot   | 0a len data | 12 len metadata( 0a len ConfState | 10 index | 18 term ) |
    ConfChange | 08 id | 10 type | 18 node_id | 22 len context |
    ConfChangeV2 | 08 transition | 12 len step( 08 type | 10 node_id ) ... | 1a len context |
    Message    | 08 type | 10 to | 18 from | 20 term | 28 logTerm | 30 index | 3a len Entry ... | 40 commit
               | 4a len Snapshot | 50 reject | 58 rejectHint | 62 len context | 68 vote | 72 len Message ... |

Example, the entry of type 1, term 1, index 1 with the two data bytes 08 00: `08 01 10 01 18 01 22 02 08 00`.

The writer (gogo, proto2, fields that cannot be null) emits every scalar even when it is zero, omits byte fields only
when they are nil, and omits a message's snapshot when it is nil; writers before 3.6 sent an empty one, and protobuf-go
(3.7) omits unset scalars: the decoders take all of these. They also take fields in any order, unknown fields, packed
lists, and the last of repeated scalars. Anything malformed (bad length, wrong wire type, overlong varint) is a
ValueError, never another exception; nesting deeper than MAX_DEPTH is malformed.
"""

from __future__ import annotations

from typing import Final

from quorate.raft.types import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
)

MAX_ENTRIES: Final = 1 << 18  # of a message; those of a MsgApp have a megabyte, and none is shorter than six bytes
MAX_DEPTH: Final = 32
_MASK: Final = 0xFFFFFFFFFFFFFFFF
_SMALL: Final = [bytes([value]) for value in range(128)]


def varint(value: int) -> bytes:
    """Return the varint of an unsigned 64-bit value."""
    if value < 128:
        return _SMALL[value]
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint_size(value: int) -> int:
    """Return how many bytes the varint of a value takes."""
    size = 1
    while value > 127:
        value >>= 7
        size += 1
    return size


# ---------------------------------------------------------------------------------------------------- encoders


def encode_entry(entry: Entry) -> bytes:
    """Return an entry's bytes."""
    head = b"\x08" + varint(entry.type) + b"\x10" + varint(entry.term) + b"\x18" + varint(entry.index)
    data = entry.data
    if data is None:
        return head
    return head + b'"' + varint(len(data)) + data


def entry_size(entry: Entry) -> int:
    """Return len(encode_entry(entry)) without making the bytes."""
    size = 4 + varint_size(entry.term) + varint_size(entry.index)
    data = entry.data
    if data is not None:
        size += 1 + varint_size(len(data)) + len(data)
    return size


def encode_hard_state(state: HardState) -> bytes:
    """Return a hard state's bytes."""
    return b"\x08" + varint(state.term) + b"\x10" + varint(state.vote) + b"\x18" + varint(state.commit)


def encode_conf_state(state: ConfState) -> bytes:
    """Return a configuration's bytes; lists keep their order."""
    parts: list[bytes] = []
    for voter in state.voters:
        parts.append(b"\x08" + varint(voter))
    for learner in state.learners:
        parts.append(b"\x10" + varint(learner))
    for voter in state.voters_outgoing:
        parts.append(b"\x18" + varint(voter))
    for learner in state.learners_next:
        parts.append(b"\x20" + varint(learner))
    parts.append(b"\x28\x01" if state.auto_leave else b"\x28\x00")
    return b"".join(parts)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Return a snapshot's bytes."""
    conf_state = encode_conf_state(snapshot.conf_state)
    metadata = b"".join(
        [b"\x0a", varint(len(conf_state)), conf_state, b"\x10", varint(snapshot.index), b"\x18", varint(snapshot.term)]
    )
    tail = b"\x12" + varint(len(metadata)) + metadata
    if snapshot.data is None:
        return tail
    return b"".join([b"\x0a", varint(len(snapshot.data)), snapshot.data, tail])


def encode_message(message: Message) -> bytes:
    """Return a message's bytes."""
    parts: list[bytes] = [
        b"\x08", varint(message.type), b"\x10", varint(message.to), b"\x18", varint(message.frm),
        b"\x20", varint(message.term), b"\x28", varint(message.log_term), b"\x30", varint(message.index),
    ]  # fmt: skip
    for entry in message.entries:
        encoded = encode_entry(entry)
        parts.append(b"\x3a")
        parts.append(varint(len(encoded)))
        parts.append(encoded)
    parts.append(b"\x40")
    parts.append(varint(message.commit))
    snapshot = message.snapshot
    if snapshot is not None:
        encoded = encode_snapshot(snapshot)
        parts.append(b"\x4a" + varint(len(encoded)))
        parts.append(encoded)
    parts.append(b"\x50\x01\x58" if message.reject else b"\x50\x00\x58")
    parts.append(varint(message.reject_hint))
    context = message.context
    if context is not None:
        parts.append(b"\x62" + varint(len(context)) + context)
    parts.append(b"\x68")
    parts.append(varint(message.vote))
    for response in message.responses:
        encoded = encode_message(response)
        parts.append(b"\x72" + varint(len(encoded)) + encoded)
    return b"".join(parts)


def encode_conf_change(change: ConfChange) -> bytes:
    """Return the bytes of a single change."""
    head = b"\x08" + varint(change.id) + b"\x10" + varint(change.type) + b"\x18" + varint(change.node_id)
    if change.context is None:
        return head
    return head + b'"' + varint(len(change.context)) + change.context


def encode_conf_change_v2(change: ConfChangeV2) -> bytes:
    """Return the bytes of a general change."""
    parts: list[bytes] = [b"\x08" + varint(change.transition)]
    for single in change.changes:
        encoded = b"\x08" + varint(single.type) + b"\x10" + varint(single.node_id)
        parts.append(b"\x12" + varint(len(encoded)) + encoded)
    if change.context is not None:
        parts.append(b"\x1a" + varint(len(change.context)) + change.context)
    return b"".join(parts)


# ---------------------------------------------------------------------------------------------------- decoders


class Reader:
    """A cursor over protobuf bytes. `end` bounds the message being read; nested messages narrow it for a while."""

    def __init__(self, data: bytes) -> None:
        self.data: bytes = data
        self.pos: int = 0
        self.end: int = len(data)
        self.depth: int = 0

    def varint(self) -> int:
        """Read an unsigned 64-bit value."""
        data = self.data
        pos = self.pos
        end = self.end
        if pos < end:
            byte = data[pos]
            if byte < 128:
                self.pos = pos + 1
                return byte
        value = 0
        shift = 0
        while pos < end:
            byte = data[pos]
            pos += 1
            value |= (byte & 127) << shift
            if byte < 128:
                self.pos = pos
                return value & _MASK if shift == 63 else value
            shift += 7
            if shift > 63:
                raise ValueError("raft codec: varint is longer than 64 bits")
        raise ValueError("raft codec: unexpected end of data")

    def scalar(self, key: int) -> int:
        """Read the value of a numeric field."""
        if key & 7 != 0:
            raise ValueError(f"raft codec: wrong wire type {key & 7} for field {key >> 3}")
        return self.varint()

    def limit(self, key: int) -> int:
        """Read the length of a length-delimited field and return where it ends."""
        if key & 7 != 2:
            raise ValueError(f"raft codec: wrong wire type {key & 7} for field {key >> 3}")
        length = self.varint()
        if length > self.end - self.pos:
            raise ValueError("raft codec: length exceeds the data")
        return self.pos + length

    def bytes(self, key: int) -> bytes:
        """Read a byte field."""
        stop = self.limit(key)
        value = self.data[self.pos : stop]
        self.pos = stop
        return value

    def enter(self, key: int) -> int:
        """Step into a nested message; returns the outer end, for `leave`."""
        stop = self.limit(key)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError("raft codec: nested too deeply")
        outer = self.end
        self.end = stop
        return outer

    def leave(self, outer: int) -> None:
        """Step out of a nested message."""
        assert self.pos == self.end, (self.pos, self.end)
        self.end = outer
        self.depth -= 1

    def ids(self, key: int, into: list[int]) -> None:
        """Read one value of a repeated number, or a packed run of them."""
        if key & 7 != 2:
            into.append(self.scalar(key))
            return
        outer = self.enter(key)
        while self.pos < self.end:
            into.append(self.varint())
        self.leave(outer)

    def skip(self, key: int) -> None:
        """Pass over an unknown field."""
        kind = key & 7
        if key >> 3 == 0:
            raise ValueError("raft codec: field number 0")
        if kind == 0:
            self.varint()
        elif kind == 1 or kind == 5:
            size = 8 if kind == 1 else 4
            if size > self.end - self.pos:
                raise ValueError("raft codec: unexpected end of data")
            self.pos += size
        elif kind == 2:
            self.pos = self.limit(key)
        elif kind == 3:
            self._skip_group(key >> 3)
        else:
            raise ValueError(f"raft codec: unexpected wire type {kind}")

    def _skip_group(self, field: int) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError("raft codec: nested too deeply")
        while True:
            key = self.varint()
            if key & 7 == 4:
                if key >> 3 != field:
                    raise ValueError("raft codec: mismatched end of group")
                break
            self.skip(key)
        self.depth -= 1


def _enum(value: int) -> int:
    # An enum is an int32 on the wire; what lies outside must not pass for one of the known values.
    if value > 0x7FFFFFFF:
        raise ValueError(f"raft codec: enum value {value} out of range")
    return value


def read_entry(reader: Reader) -> Entry:
    """Read an entry up to the reader's end."""
    entry = Entry()
    while reader.pos < reader.end:
        key = reader.varint()
        field = key >> 3
        if field == 1:
            entry.type = _enum(reader.scalar(key))
        elif field == 2:
            entry.term = reader.scalar(key)
        elif field == 3:
            entry.index = reader.scalar(key)
        elif field == 4:
            entry.data = reader.bytes(key)
        else:
            reader.skip(key)
    return entry


def _read_conf_state(reader: Reader, state: ConfState) -> None:
    while reader.pos < reader.end:
        key = reader.varint()
        field = key >> 3
        if field == 1:
            reader.ids(key, state.voters)
        elif field == 2:
            reader.ids(key, state.learners)
        elif field == 3:
            reader.ids(key, state.voters_outgoing)
        elif field == 4:
            reader.ids(key, state.learners_next)
        elif field == 5:
            state.auto_leave = reader.scalar(key) != 0
        else:
            reader.skip(key)


def _read_metadata(reader: Reader, snapshot: Snapshot) -> None:
    while reader.pos < reader.end:
        key = reader.varint()
        field = key >> 3
        if field == 1:
            outer = reader.enter(key)
            _read_conf_state(reader, snapshot.conf_state)
            reader.leave(outer)
        elif field == 2:
            snapshot.index = reader.scalar(key)
        elif field == 3:
            snapshot.term = reader.scalar(key)
        else:
            reader.skip(key)


def _read_snapshot(reader: Reader, snapshot: Snapshot) -> None:
    while reader.pos < reader.end:
        key = reader.varint()
        field = key >> 3
        if field == 1:
            snapshot.data = reader.bytes(key)
        elif field == 2:
            outer = reader.enter(key)
            _read_metadata(reader, snapshot)
            reader.leave(outer)
        else:
            reader.skip(key)


def _read_message(reader: Reader) -> Message:
    message = Message()
    while reader.pos < reader.end:
        key = reader.varint()
        field = key >> 3
        if field == 7:
            outer = reader.enter(key)
            message.entries.append(read_entry(reader))
            reader.leave(outer)
            if len(message.entries) > MAX_ENTRIES:
                raise ValueError("raft codec: too many entries")
        elif field < 7:
            _read_message_head(reader, message, key)
        else:
            _read_message_tail(reader, message, key)
    return message


def _read_message_head(reader: Reader, message: Message, key: int) -> None:
    field = key >> 3
    if field == 0:
        raise ValueError("raft codec: field number 0")
    value = reader.scalar(key)
    if field == 1:
        message.type = _enum(value)
    elif field == 2:
        message.to = value
    elif field == 3:
        message.frm = value
    elif field == 4:
        message.term = value
    elif field == 5:
        message.log_term = value
    else:
        message.index = value


def _read_message_tail(reader: Reader, message: Message, key: int) -> None:
    field = key >> 3
    if field == 8:
        message.commit = reader.scalar(key)
    elif field == 9:
        outer = reader.enter(key)
        if message.snapshot is None:
            message.snapshot = Snapshot()
        _read_snapshot(reader, message.snapshot)
        reader.leave(outer)
    elif field == 10:
        message.reject = reader.scalar(key) != 0
    elif field == 11:
        message.reject_hint = reader.scalar(key)
    elif field == 12:
        message.context = reader.bytes(key)
    elif field == 13:
        message.vote = reader.scalar(key)
    elif field == 14:
        outer = reader.enter(key)
        message.responses.append(_read_message(reader))
        reader.leave(outer)
    else:
        reader.skip(key)


def decode_entry(data: bytes) -> Entry:
    """Return the entry in `data`. Raises ValueError."""
    return read_entry(Reader(data))


def decode_hard_state(data: bytes) -> HardState:
    """Return the hard state in `data`. Raises ValueError."""
    reader = Reader(data)
    state = HardState()
    while reader.pos < reader.end:
        key = reader.varint()
        field = key >> 3
        if field == 1:
            state.term = reader.scalar(key)
        elif field == 2:
            state.vote = reader.scalar(key)
        elif field == 3:
            state.commit = reader.scalar(key)
        else:
            reader.skip(key)
    return state


def decode_conf_state(data: bytes) -> ConfState:
    """Return the configuration in `data`. Raises ValueError."""
    state = ConfState()
    _read_conf_state(Reader(data), state)
    return state


def decode_snapshot(data: bytes) -> Snapshot:
    """Return the snapshot in `data`. Raises ValueError."""
    snapshot = Snapshot()
    _read_snapshot(Reader(data), snapshot)
    return snapshot


def decode_message(data: bytes) -> Message:
    """Return the message in `data`; an unknown type is left to the caller. Raises ValueError."""
    return _read_message(Reader(data))


def decode_conf_change(data: bytes) -> ConfChange:
    """Return the single change in `data`. Raises ValueError."""
    reader = Reader(data)
    change = ConfChange()
    while reader.pos < reader.end:
        key = reader.varint()
        field = key >> 3
        if field == 1:
            change.id = reader.scalar(key)
        elif field == 2:
            change.type = _enum(reader.scalar(key))
        elif field == 3:
            change.node_id = reader.scalar(key)
        elif field == 4:
            change.context = reader.bytes(key)
        else:
            reader.skip(key)
    return change


def decode_conf_change_v2(data: bytes) -> ConfChangeV2:
    """Return the general change in `data`. Raises ValueError."""
    reader = Reader(data)
    change = ConfChangeV2()
    while reader.pos < reader.end:
        key = reader.varint()
        field = key >> 3
        if field == 1:
            change.transition = _enum(reader.scalar(key))
        elif field == 2:
            outer = reader.enter(key)
            change.changes.append(_read_single(reader))
            reader.leave(outer)
        elif field == 3:
            change.context = reader.bytes(key)
        else:
            reader.skip(key)
    return change


def _read_single(reader: Reader) -> ConfChangeSingle:
    single = ConfChangeSingle()
    while reader.pos < reader.end:
        key = reader.varint()
        field = key >> 3
        if field == 1:
            single.type = _enum(reader.scalar(key))
        elif field == 2:
            single.node_id = reader.scalar(key)
        else:
            reader.skip(key)
    return single
