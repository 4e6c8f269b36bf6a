"""The bytes of raft's streams: "message" for all kinds of messages, "msgapp" (version 2) for MsgApp, nearly bare.

    message   | u64 length | Message |  ...
    msgapp    | 00 |                                                  link heartbeat
              | 01 | u64 n | n times ( u64 length | Entry ) | u64 commit |   MsgApp that continues the one before
              | 02 | u64 length | Message |                           any MsgApp; what follows continues it

Numbers are big-endian. On a msgapp stream both ends remember the (term, index) where the last message ended, 0/0 at the
start; form 01 may be used by a MsgApp of that log term and index whose own term is the same. Example of form 01, one
entry of term 2, index 6 with data "a", commit 5:

    01 0000000000000001 0000000000000009 08001002180622 0161 0000000000000005

The heartbeat of a message stream is a message of type MsgHeartbeat from nobody to nobody; a writer sends it so that the
reader sees that the connection lives. Decoders take input in pieces of any size, cost linear time, and raise ValueError
for anything malformed, after which the connection is to be closed. They check form, not sense: that is raft's business.
Source: etcd server/etcdserver/api/rafthttp/{message_codec,msgappv2_codec}.go.
"""

from __future__ import annotations

from typing import Final

from quorate.raft.codec import MAX_ENTRIES, decode_entry, decode_message, encode_entry, encode_message
from quorate.raft.types import MSG_APP, MSG_HEARTBEAT, Entry, Message

LINK_HEARTBEAT: Final = b"\x00"
_ENTRIES: Final = b"\x01"
_MESSAGE: Final = b"\x02"

MAX_MESSAGE_BYTES: Final = 512 << 20

# States of the msgapp decoder: what is read next.
_KIND: Final = 0
_COUNT: Final = 1
_ENTRY_LENGTH: Final = 2
_ENTRY: Final = 3
_COMMIT: Final = 4
_LENGTH: Final = 5
_BODY: Final = 6


def frame(data: bytes) -> bytes:
    """Return data behind its length."""
    return len(data).to_bytes(8, "big") + data


MESSAGE_HEARTBEAT: Final = frame(encode_message(Message(MSG_HEARTBEAT)))


def is_link_heartbeat(message: Message) -> bool:
    """Tell whether a message only says that the connection lives."""
    return message.type == MSG_HEARTBEAT and message.frm == 0 and message.to == 0


class EntryRun:
    """The encoded form of a run of entries, kept for the next follower, which is mostly sent the same run."""

    def __init__(self) -> None:
        self._first: Entry | None = None
        self._last: Entry | None = None
        self._count = 0
        self._bytes = b""

    def encode(self, entries: list[Entry]) -> bytes:
        """Return each entry behind its length, all joined."""
        count = len(entries)
        if count == 0:
            return b""
        first = entries[0]
        last = entries[count - 1]
        # A run is contiguous and entries are immutable: the same ends mean the same run.
        if first is self._first and last is self._last and count == self._count:
            return self._bytes
        parts: list[bytes] = []
        for entry in entries:
            encoded = encode_entry(entry)
            parts.append(len(encoded).to_bytes(8, "big"))
            parts.append(encoded)
        self._bytes = b"".join(parts)
        self._first = first
        self._last = last
        self._count = count
        return self._bytes


class AppEncoder:
    """The writer's side of one msgapp stream."""

    def __init__(self, runs: EntryRun) -> None:
        self._runs = runs
        self._term = 0
        self._index = 0

    def encode(self, message: Message) -> bytes:
        """Return a MsgApp's bytes."""
        entries = message.entries
        count = len(entries)
        if message.index == self._index and message.log_term == self._term and message.term == self._term:
            self._index += count
            run = self._runs.encode(entries)
            return b"".join((_ENTRIES, count.to_bytes(8, "big"), run, message.commit.to_bytes(8, "big")))
        self._term = message.term
        self._index = entries[count - 1].index if count else message.index
        return _MESSAGE + frame(encode_message(message))


class Frames:
    """Input of which whole pieces are taken; linear, however it arrives."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []  # what has arrived behind `_data`
        self._parts_bytes = 0
        self._data = b""
        self._pos = 0

    def feed(self, data: bytes) -> None:
        """Add input."""
        self._parts.append(data)
        self._parts_bytes += len(data)

    def take(self, size: int) -> bytes | None:
        """Return the next `size` bytes; None when they are not all there."""
        end = self._pos + size
        if end > len(self._data):
            if end > len(self._data) + self._parts_bytes:
                return None
            self._data = b"".join([self._data[self._pos :], *self._parts])
            self._parts = []
            self._parts_bytes = 0
            self._pos = 0
            end = size
        data = self._data[self._pos : end]
        self._pos = end
        return data


def _length(data: bytes) -> int:
    value = int.from_bytes(data, "big")
    if value > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message of {value} bytes is too long")
    return value


class MessageDecoder:
    """The reader's side of a message stream."""

    def __init__(self) -> None:
        self._frames = Frames()
        self._length = -1

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that are complete now, without link heartbeats. Raises ValueError."""
        frames = self._frames
        frames.feed(data)
        messages: list[Message] = []
        while True:
            if self._length < 0:
                head = frames.take(8)
                if head is None:
                    return messages
                self._length = _length(head)
            body = frames.take(self._length)
            if body is None:
                return messages
            self._length = -1
            message = decode_message(body)
            if not is_link_heartbeat(message):
                messages.append(message)


class AppDecoder:
    """The reader's side of a msgapp stream from `remote` to `local`."""

    def __init__(self, local: int, remote: int) -> None:
        self._local = local
        self._remote = remote
        self._frames = Frames()
        self._state = _KIND
        self._size = 1  # of the piece that is read next
        self._left = 0  # entries still to come
        self._entries: list[Entry] = []
        self._bytes = 0
        self._term = 0
        self._index = 0

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that are complete now. Raises ValueError."""
        frames = self._frames
        frames.feed(data)
        messages: list[Message] = []
        while True:
            piece = frames.take(self._size)
            if piece is None:
                return messages
            state = self._state
            if state == _KIND:
                self._begin(piece)
            elif state == _COUNT:
                self._count(piece)
            elif state == _ENTRY_LENGTH:
                self._expect(_ENTRY, _length(piece))
            elif state == _ENTRY:
                self._entry(piece)
            elif state == _COMMIT:
                messages.append(self._continued(int.from_bytes(piece, "big")))
            elif state == _LENGTH:
                self._expect(_BODY, _length(piece))
            else:
                messages.append(self._whole(piece))

    def _expect(self, state: int, size: int) -> None:
        self._state = state
        self._size = size

    def _begin(self, kind: bytes) -> None:
        if kind == _ENTRIES:
            self._expect(_COUNT, 8)
        elif kind == _MESSAGE:
            self._expect(_LENGTH, 8)
        elif kind != LINK_HEARTBEAT:
            raise ValueError(f"unexpected msgappv2 type {kind[0]}")

    def _count(self, piece: bytes) -> None:
        self._left = int.from_bytes(piece, "big")
        if self._left > MAX_ENTRIES:
            raise ValueError(f"a message of {self._left} entries is too long")
        self._entries = []
        self._bytes = 0
        self._expect(_ENTRY_LENGTH if self._left else _COMMIT, 8)

    def _entry(self, piece: bytes) -> None:
        self._entries.append(decode_entry(piece))
        self._bytes += len(piece)
        if self._bytes > MAX_MESSAGE_BYTES:
            raise ValueError("a message is too long")
        self._left -= 1
        self._expect(_ENTRY_LENGTH if self._left else _COMMIT, 8)

    def _continued(self, commit: int) -> Message:
        entries = self._entries
        self._entries = []
        message = Message(MSG_APP, self._local, self._remote, self._term, self._term, self._index, entries, commit)
        self._index += len(entries)
        self._expect(_KIND, 1)
        return message

    def _whole(self, piece: bytes) -> Message:
        message = decode_message(piece)
        self._term = message.term
        count = len(message.entries)
        self._index = message.entries[count - 1].index if count else message.index
        self._expect(_KIND, 1)
        return message
