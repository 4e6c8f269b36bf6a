"""Targets of what other members send: raft messages, the streams, responses, snapshots; and requests on their way into
the log."""

from __future__ import annotations

import contextlib

from google.protobuf.message import DecodeError

from quorate.api import strict
from quorate.errors import CorruptError
from quorate.peer.codec import LINK_HEARTBEAT, AppDecoder, AppEncoder, EntryRun, MessageDecoder, frame
from quorate.peer.exchange import Exchange, Reply
from quorate.peer.snapreceive import SnapshotReceive
from quorate.proto import raft_pb2
from quorate.proto.rpc_pb2 import (
    DeleteRangeRequest,
    LeaseGrantRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
    WatchRequest,
)
from quorate.raft import codec
from quorate.raft.types import MSG_APP, MSG_HEARTBEAT, MSG_SNAP, ConfState, Entry, HardState, Message, Snapshot
from quorate.server import entry
from quorate.wire.web import HttpReply, HttpRequest
from tests.fakes.disk import SimDisk
from tests.fuzz.target import cut, target
from tests.storage.loop import FakeLoop

_SNAPSHOT = Snapshot(b"{}", 9, 3, ConfState([1, 2], [3], [], [], False))


def _messages() -> list[Message]:
    entries = [Entry(0, 3, 8, b"data" * 9), Entry(1, 3, 9, b"\x08\x01\x10\x00\x18\x05"), Entry(0, 3, 10)]
    append = Message(MSG_APP, 2, 1, 3, 3, 7, entries, 6)
    snap = Message(MSG_SNAP, 2, 1, 3)
    snap.snapshot = _SNAPSHOT
    beat = Message(MSG_HEARTBEAT, 2, 1, 3)
    beat.context = b"ctx"
    nested = Message(MSG_APP, 2, 1, 3)
    nested.responses.append(beat)
    return [append, snap, beat, nested]


@target(lambda: [codec.encode_message(message) for message in _messages()])
def raft_message(data: bytes) -> None:
    """A raft message is refused with ValueError, or says what the protobuf library reads, and survives encoding."""
    try:
        message = codec.decode_message(data)
    except ValueError:
        return
    encoded = codec.encode_message(message)
    assert codec.encode_message(codec.decode_message(encoded)) == encoded
    other = raft_pb2.Message()
    try:
        other.ParseFromString(data)
    except DecodeError:
        return
    assert (message.term, message.index, message.commit, message.to) == (
        other.term,
        other.index,
        other.commit,
        other.to,
    )
    assert [one.data or b"" for one in message.entries] == [one.Data for one in other.entries]
    assert (message.snapshot is not None) == other.HasField("snapshot")


_DECODERS = [
    codec.decode_entry,
    codec.decode_hard_state,
    codec.decode_conf_state,
    codec.decode_snapshot,
    codec.decode_conf_change,
    codec.decode_conf_change_v2,
]


def _raft_values() -> list[bytes]:
    values = [
        codec.encode_entry(Entry(0, 3, 8, b"data")),
        codec.encode_hard_state(HardState(3, 1, 7)),
        codec.encode_conf_state(ConfState([1, 2], [3], [1], [4], True)),
        codec.encode_snapshot(_SNAPSHOT),
        b"\x08\x01\x10\x00\x18\x05\x22\x03abc",
        b"\x08\x01\x12\x04\x08\x00\x10\x05\x12\x04\x08\x02\x10\x06",
    ]
    return [bytes([number]) + value for number, value in enumerate(values)]


@target(_raft_values)
def raft_value(data: bytes) -> None:
    """Each of raft's stored values is refused with ValueError, or survives encoding."""
    if not data:
        return
    kind = data[0] % len(_DECODERS)
    try:
        value = _DECODERS[kind](data[1:])
    except ValueError:
        return
    encoders = [codec.encode_entry, codec.encode_hard_state, codec.encode_conf_state, codec.encode_snapshot]
    encoders += [codec.encode_conf_change, codec.encode_conf_change_v2]
    encoded = encoders[kind](value)  # type: ignore[operator]
    assert encoders[kind](_DECODERS[kind](encoded)) == encoded  # type: ignore[operator]


def _app_streams() -> list[bytes]:
    encoder = AppEncoder(EntryRun())
    first = encoder.encode(_messages()[0])
    second = encoder.encode(Message(MSG_APP, 2, 1, 3, 3, 10, [Entry(0, 3, 11, b"x")], 9))
    empty = encoder.encode(Message(MSG_APP, 2, 1, 3, 3, 11, [], 11))
    return [b"\3" + first + LINK_HEARTBEAT + second + empty, b"\xff" + second + first, b"\1" + b"\1" + b"\xff" * 16]


@target(_app_streams)
def app_stream(data: bytes) -> None:
    """A msgapp stream gives the same messages however it is cut, then ValueError or nothing more."""
    step = max(1, data[0] if data else 1)
    results = []
    for pieces in (cut(data[1:], step), [data[1:]]):
        decoder = AppDecoder(1, 2)
        found: list[bytes] = []
        with contextlib.suppress(ValueError):
            for part in pieces:
                found += [codec.encode_message(message) for message in decoder.feed(part)]
        results.append(found)
    # A decoder that fails gives nothing of the input it failed in.
    assert results[0][: len(results[1])] == results[1]


@target(lambda: [b"\3" + b"".join(frame(codec.encode_message(message)) for message in _messages()), b"\1" + b"\0" * 20])
def message_stream(data: bytes) -> None:
    """A message stream gives the same messages however it is cut, then ValueError or nothing more."""
    step = max(1, data[0] if data else 1)
    results = []
    for pieces in (cut(data[1:], step), [data[1:]]):
        decoder = MessageDecoder()
        found: list[bytes] = []
        with contextlib.suppress(ValueError):
            for part in pieces:
                found += [codec.encode_message(message) for message in decoder.feed(part)]
        results.append(found)
    assert results[0][: len(results[1])] == results[1]


class _Reply(Reply):
    def __init__(self) -> None:
        self.heads: list[tuple[int, list[tuple[bytes, bytes]]]] = []
        self.body = b""
        self.ends: list[str] = []

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.heads.append((status, headers))

    def on_body(self, data: bytes) -> None:
        assert not self.ends
        self.body += data

    def on_end(self, error: str) -> None:
        self.ends.append(error)


def _responses() -> list[bytes]:
    plain = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n"
    endless = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello"
    return [b"\3" + plain, b"\1" + chunked, b"\xff" + endless, b"\5HTTP/1.1 204 No Content\r\n\r\n"]


@target(_responses)
def http1_response(data: bytes) -> None:
    """A member's response ends exactly once, and says the same however it is cut."""
    step = max(1, data[0] if data else 1)
    results = []
    for pieces in (cut(data[1:], step), [data[1:]] if data[1:] else []):
        reply = _Reply()
        exchange = Exchange(lambda: 1, b"", b"", None, reply, 10**9)
        exchange.take_output()
        for part in pieces:
            exchange.receive(part)
        exchange.receive_eof()
        exchange.lost()
        assert len(reply.ends) == 1
        assert len(reply.heads) <= 1
        results.append((reply.heads, reply.body, reply.ends))
    assert results[0][0] == results[1][0]
    # What came before an error may have been handed over in pieces.
    if not results[1][2][0]:
        assert results[0] == results[1]
    else:
        assert results[0][1].startswith(results[1][1])


class _Request(HttpRequest):
    def pause_body(self) -> None:
        pass

    def resume_body(self) -> None:
        pass


class _Answer(HttpReply):
    def __init__(self) -> None:
        self.on_end = None
        self.on_drain = None


def _snapshot_streams() -> list[bytes]:
    head = codec.encode_message(_messages()[1])
    wrong = codec.encode_message(_messages()[0])
    body = len(head).to_bytes(8, "big") + head + b"database" * 40
    return [b"\7" + body, b"\xff" + len(wrong).to_bytes(8, "big") + wrong, b"\1" + body[:20], b"\2" + b"\xff" * 8]


@target(_snapshot_streams)
def snapshot_stream(data: bytes) -> None:
    """A snapshot that comes in is answered exactly once; a whole one is on the disk, and a bad one leaves nothing."""
    step = max(1, data[0] if data else 1)
    disk, loop = SimDisk(), FakeLoop()
    disk.make_dirs("s")
    request = _Request(b"POST", b"/raft/snapshot", [], "1.2.3.4:5", b"1.1")
    answers: list[tuple[int, str]] = []
    ends: list[bool] = []
    SnapshotReceive(
        loop,
        disk,
        "s",
        "tmp1",
        request,
        _Answer(),
        lambda message: "",
        lambda message: (204, ""),
        lambda reply, status, text: answers.append((status, text)),
        lambda receive, ok: ends.append(ok),
    ).start()
    assert request.on_body is not None
    assert request.on_body_end is not None
    for part in cut(data[1:], step):
        request.on_body(part)
        loop.run()
    request.on_body_end()
    loop.run()
    assert len(answers) == len(ends) == 1
    names = disk.list_dir("s")
    if ends[0]:
        assert answers == [(204, "")]
        assert [name[16:] for name in names] == [".snap.db"]
        length = int.from_bytes(data[1:9], "big")
        file = disk.open(f"s/{names[0]}", read_only=True)
        assert file.read_at(file.size(), 0) == data[9 + length :]
    else:
        assert names == []


_REQUESTS = [
    (RangeRequest, entry.RANGE),
    (PutRequest, entry.PUT),
    (DeleteRangeRequest, entry.DELETE_RANGE),
    (TxnRequest, entry.TXN),
    (LeaseGrantRequest, entry.LEASE_GRANT),
    (WatchRequest, entry.PUT),
]


def _bodies() -> list[bytes]:
    txn = TxnRequest()
    compare = txn.compare.add()
    compare.key, compare.version, compare.target = b"k", 3, 0
    txn.success.add().request_put.CopyFrom(PutRequest(key=b"k", value=b"v", lease=5))
    txn.failure.add().request_txn.success.add().request_range.CopyFrom(RangeRequest(key=b"a", range_end=b"\0", limit=3))
    watch = WatchRequest()
    watch.create_request.key = b"k"
    watch.create_request.filters.append(1)
    deep = b""
    for _ in range(120):
        deep = b"\x12" + _length(len(deep) + 2 + len(_length(len(deep)))) + b"\x22" + _length(len(deep)) + deep
    bodies = [
        RangeRequest(key=b"a", range_end=b"b", limit=5, sort_order=1),
        PutRequest(key=b"k", value=b"v" * 40, prev_kv=True),
        DeleteRangeRequest(key=b"k", range_end=b"\0"),
        txn,
        LeaseGrantRequest(TTL=60, ID=7),
        watch,
    ]
    return [bytes([kind]) + body.SerializeToString() for kind, body in enumerate(bodies)] + [b"\3" + deep[:4000]]


def _length(value: int) -> bytes:
    return codec.varint(value)


@target(_bodies)
def request_entry(data: bytes) -> None:
    """What is wrong with a request can be told; one that our parser and etcd's rules take is read from the log as the
    same request, however it was written."""
    if not data:
        return
    message_type, kind = _REQUESTS[data[0] % len(_REQUESTS)]
    raw = data[1:]
    complaint = strict.complaint(message_type, raw)
    request = message_type()
    try:
        request.ParseFromString(raw)
    except DecodeError:
        assert strict.unary_error(message_type, raw).text
        assert strict.stream_error(message_type, raw).text
        return
    if complaint is not None or message_type is WatchRequest:
        return
    parsed = entry.parse_entry(entry.entry_data(kind, raw, entry.RequestIds(1, 10**18).next_suffix()), 1)
    assert parsed.kind == kind
    assert parsed.request == request


@target(
    lambda: (
        [entry.entry_data(kind, b"\x0a\x01k", b"\xa2\x06\x02\x08\x01") for _, kind in _REQUESTS] + [b"\x08\1\x12\3PUT"]
    )
)
def log_entry(data: bytes) -> None:
    """An entry of the log is a request that we know, or CorruptError."""
    with contextlib.suppress(CorruptError):
        parsed = entry.parse_entry(data, 5)
        assert parsed.kind >= 0 or parsed.request is not None or not data
