"""The bytes of raft's types against protobuf, and against what real etcd wrote."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.proto import raft_pb2 as pb
from quorate.raft import codec
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

U64 = st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1))
DATA = st.one_of(st.none(), st.binary(max_size=300))
IDS = st.lists(U64, max_size=4)
ENTRIES = st.builds(Entry, st.integers(0, 2), U64, U64, DATA)
CONF_STATES = st.builds(ConfState, IDS, IDS, IDS, IDS, st.booleans())
SNAPSHOTS = st.builds(Snapshot, DATA, U64, U64, CONF_STATES)


def messages(responses: st.SearchStrategy[list[Message]]) -> st.SearchStrategy[Message]:
    return st.builds(
        Message, st.integers(0, 23), U64, U64, U64, U64, U64, st.lists(ENTRIES, max_size=3), U64,
        st.one_of(st.none(), SNAPSHOTS), st.booleans(), U64, DATA, U64, responses,
    )  # fmt: skip


MESSAGES = messages(st.lists(messages(st.just([])), max_size=2))
CHANGES = st.builds(ConfChange, U64, st.integers(0, 3), U64, DATA)
SINGLES = st.builds(ConfChangeSingle, st.integers(0, 3), U64)
CHANGES_V2 = st.builds(ConfChangeV2, st.integers(0, 2), st.lists(SINGLES, max_size=3), DATA)


def entry_pb(entry: Entry) -> pb.Entry:
    return pb.Entry(Type=entry.type, Term=entry.term, Index=entry.index, Data=entry.data)


def conf_state_pb(state: ConfState) -> pb.ConfState:
    return pb.ConfState(
        voters=state.voters,
        learners=state.learners,
        voters_outgoing=state.voters_outgoing,
        learners_next=state.learners_next,
        auto_leave=state.auto_leave,
    )


def snapshot_pb(snapshot: Snapshot) -> pb.Snapshot:
    metadata = pb.SnapshotMetadata(
        conf_state=conf_state_pb(snapshot.conf_state), index=snapshot.index, term=snapshot.term
    )
    return pb.Snapshot(data=snapshot.data, metadata=metadata)


def message_pb(message: Message) -> pb.Message:
    fields = {
        "type": message.type, "to": message.to, "from": message.frm, "term": message.term,
        "logTerm": message.log_term, "index": message.index, "entries": [entry_pb(e) for e in message.entries],
        "commit": message.commit, "reject": message.reject, "rejectHint": message.reject_hint,
        "context": message.context, "vote": message.vote, "responses": [message_pb(m) for m in message.responses],
    }  # fmt: skip
    if message.snapshot is not None:
        fields["snapshot"] = snapshot_pb(message.snapshot)
    return pb.Message(**fields)


@given(ENTRIES)
def test_entry_is_what_protobuf_writes(entry: Entry) -> None:
    data = codec.encode_entry(entry)
    assert data == entry_pb(entry).SerializeToString()
    assert len(data) == codec.entry_size(entry)
    assert repr(codec.decode_entry(data)) == repr(entry)


@given(U64, U64, U64)
def test_hard_state_is_what_protobuf_writes(term: int, vote: int, commit: int) -> None:
    data = codec.encode_hard_state(HardState(term, vote, commit))
    assert data == pb.HardState(term=term, vote=vote, commit=commit).SerializeToString()
    assert codec.decode_hard_state(data).same(HardState(term, vote, commit))


@given(SNAPSHOTS)
def test_snapshot_is_what_protobuf_writes(snapshot: Snapshot) -> None:
    data = codec.encode_snapshot(snapshot)
    assert data == snapshot_pb(snapshot).SerializeToString()
    assert repr(codec.decode_snapshot(data)) == repr(snapshot)
    conf_state = codec.encode_conf_state(snapshot.conf_state)
    assert conf_state == conf_state_pb(snapshot.conf_state).SerializeToString()
    assert repr(codec.decode_conf_state(conf_state)) == repr(snapshot.conf_state)


@settings(max_examples=200)
@given(MESSAGES)
def test_message_is_what_protobuf_writes(message: Message) -> None:
    data = codec.encode_message(message)
    assert data == message_pb(message).SerializeToString()
    assert codec.encode_message(codec.decode_message(data)) == data


@given(CHANGES)
def test_conf_change_is_what_protobuf_writes(change: ConfChange) -> None:
    data = codec.encode_conf_change(change)
    expected = pb.ConfChange(id=change.id, type=change.type, node_id=change.node_id, context=change.context)
    assert data == expected.SerializeToString()
    assert repr(codec.decode_conf_change(data)) == repr(change)


@given(CHANGES_V2)
def test_conf_change_v2_is_what_protobuf_writes(change: ConfChangeV2) -> None:
    data = codec.encode_conf_change_v2(change)
    steps = [pb.ConfChangeSingle(type=single.type, node_id=single.node_id) for single in change.changes]
    expected = pb.ConfChangeV2(transition=change.transition, changes=steps, context=change.context)
    assert data == expected.SerializeToString()
    assert repr(codec.decode_conf_change_v2(data)) == repr(change)


def test_the_example_of_the_docstring() -> None:
    assert codec.encode_entry(Entry(1, 1, 1, b"\x08\x00")).hex(" ") == "08 01 10 01 18 01 22 02 08 00"


def test_an_entry_that_real_etcd_wrote() -> None:
    # The first entry of a new member's log, from a dissected WAL of 3.5.1: the ConfChange that adds the member itself.
    context = b'{"id":10945563741364682675,"peerURLs":["http://127.0.0.1:24701"],"name":"m1"}'
    member = 0x97E6743B0E6FFFB3
    change = ConfChange(0, 0, member, context)
    data = codec.encode_entry(Entry(1, 1, 1, codec.encode_conf_change(change)))
    assert data == bytes.fromhex("080110011801225e0800100018b3ffbff3b0879df39701224d") + context
    assert repr(codec.decode_conf_change(codec.decode_entry(data).data or b"")) == repr(change)


def test_an_absent_byte_field_differs_from_an_empty_one() -> None:
    assert codec.encode_entry(Entry(0, 1, 2, None)) == bytes.fromhex("080010011802")
    assert codec.encode_entry(Entry(0, 1, 2, b"")) == bytes.fromhex("0800100118022200")
    assert codec.decode_entry(bytes.fromhex("080010011802")).data is None
    assert codec.decode_entry(bytes.fromhex("0800100118022200")).data == b""


def test_a_message_of_an_older_writer_carries_an_empty_snapshot() -> None:
    # Before 3.6 the snapshot could not be nil: 12 06 are the metadata, 0a 02 28 00 an empty ConfState.
    old = bytes.fromhex("08081001180220032800300040004a0a1208" + "0a022800" + "10001800" + "50005800")
    message = codec.decode_message(old)
    assert message.snapshot is not None
    assert message.snapshot.is_empty()
    assert (message.type, message.to, message.frm, message.term) == (8, 1, 2, 3)


def test_what_a_newer_writer_leaves_out_is_zero() -> None:
    message = codec.decode_message(pb.Message(type=3, entries=[pb.Entry(Index=7)]).SerializeToString())
    assert (message.type, message.term, message.entries[0].index, message.entries[0].term) == (3, 0, 7, 0)
    assert codec.decode_message(b"").type == 0


def test_unknown_fields_and_packed_lists_are_taken() -> None:
    unknown = bytes.fromhex("a006 01a106 0102030405060708a206 03616263a506 01020304a306 0801 a406")
    state = codec.decode_conf_state(unknown + bytes.fromhex("0a03010203") + unknown + b"\x08\x04")
    assert state.voters == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "data",
    [
        "08",  # no value
        "0880",  # unfinished varint
        "08" + "ff" * 10 + "01",  # eleven bytes
        "22ff01",  # length past the end
        "22ffffffffffffffffff01",  # length 2**64-1
        "2000",  # data as a number
        "0a00",  # type as bytes
        "0000",  # field number 0
        "a706",  # wire type 7
        "a406",  # end of a group that never began
        "a306",  # a group that never ends
        "a306ac06",  # ends as another field
        "a106010203",  # short fixed64
        "088080808008",  # an enum beyond int32
    ],
)
def test_malformed_bytes_are_a_value_error(data: str) -> None:
    with pytest.raises(ValueError, match="raft codec"):
        codec.decode_entry(bytes.fromhex(data))


def test_deep_nesting_is_a_value_error() -> None:
    message = b""
    for _ in range(100):
        message = b"\x72" + codec.varint(len(message)) + message
    with pytest.raises(ValueError, match="deep"):
        codec.decode_message(message)


@settings(max_examples=300)
@given(MESSAGES, st.integers(0, 200), st.binary(min_size=1, max_size=3))
def test_damaged_messages_decode_or_raise_value_error(message: Message, place: int, noise: bytes) -> None:
    data = bytearray(codec.encode_message(message))
    place %= len(data)
    data[place : place + len(noise)] = noise
    for damaged in (bytes(data), bytes(data[:place])):
        try:
            codec.decode_message(damaged)
        except ValueError:
            continue
