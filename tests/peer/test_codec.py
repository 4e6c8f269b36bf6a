"""The bytes of the streams: etcd's vectors, any message both ways, pieces of any size, and nonsense."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.peer.codec import (
    LINK_HEARTBEAT,
    MESSAGE_HEARTBEAT,
    AppDecoder,
    AppEncoder,
    EntryRun,
    MessageDecoder,
    frame,
    is_link_heartbeat,
)
from quorate.raft.codec import decode_message, encode_message
from quorate.raft.types import MSG_APP, MSG_HEARTBEAT, MSG_VOTE, Entry, Message

# As a real 3.5.1 writes it between two members.
REAL_HEARTBEAT = bytes.fromhex("000000000000001e08081000180020002800300040004a0a12080a0228001000180050005800")


def same(one: Message, other: Message) -> bool:
    return encode_message(one) == encode_message(other)


def test_the_example_of_the_module_docstring() -> None:
    encoder = AppEncoder(EntryRun())
    encoder.encode(Message(MSG_APP, 1, 2, 2, 2, 5, [], 4))
    data = encoder.encode(Message(MSG_APP, 1, 2, 2, 2, 5, [Entry(0, 2, 6, b"a")], 5))
    assert data.hex() == "01" + "0000000000000001" + "0000000000000009" + "080010021806220161" + "0000000000000005"


def test_link_heartbeats() -> None:
    decoder = MessageDecoder()
    assert decoder.feed(REAL_HEARTBEAT + MESSAGE_HEARTBEAT) == []
    assert is_link_heartbeat(decode_message(REAL_HEARTBEAT[8:]))
    assert AppDecoder(1, 2).feed(LINK_HEARTBEAT * 3) == []
    real = Message(MSG_HEARTBEAT, 1, 2, 3)
    assert same(decoder.feed(frame(encode_message(real)))[0], real)


def test_appends_that_continue_each_other_are_short() -> None:
    encoder = AppEncoder(EntryRun())
    first = encoder.encode(Message(MSG_APP, 1, 2, 3, 3, 10, [Entry(0, 3, 11, b"x")], 10))
    second = encoder.encode(Message(MSG_APP, 1, 2, 3, 3, 11, [Entry(0, 3, 12, b"y")], 11))
    commit = encoder.encode(Message(MSG_APP, 1, 2, 3, 3, 12, [], 12))
    assert (first[0], second[0], commit[0]) == (2, 1, 1)
    assert len(commit) == 17
    later_term = encoder.encode(Message(MSG_APP, 1, 2, 4, 3, 12, [Entry(0, 4, 13, b"z")], 12))
    assert later_term[0] == 2
    assert encoder.encode(Message(MSG_APP, 1, 2, 4, 4, 13, [], 13))[0] == 1
    assert encoder.encode(Message(MSG_APP, 1, 2, 4, 3, 12, [], 13))[0] == 2, "a probe further back"


def test_a_run_of_entries_is_encoded_once_for_all_followers() -> None:
    runs = EntryRun()
    entries = [Entry(0, 1, index, b"v" * 10) for index in range(1, 6)]
    encoded = runs.encode(entries)
    assert runs.encode(entries[:]) is encoded
    assert runs.encode(entries[1:]) != encoded
    assert runs.encode(entries[:4]) + runs.encode(entries[4:]) == encoded


ids = st.integers(1, 2**64 - 1)
small = st.integers(0, 2**40)


@st.composite
def appends(draw: st.DrawFn) -> list[Message]:
    """A leader's appends to one follower: mostly one continues the other."""
    found = []
    term, index = draw(st.integers(1, 5)), draw(small)
    log_term = term
    for _ in range(draw(st.integers(1, 12))):
        count = draw(st.integers(0, 4))
        entries = [
            Entry(draw(st.integers(0, 2)), term, index + place + 1, draw(st.none() | st.binary(max_size=40)))
            for place in range(count)
        ]
        found.append(Message(MSG_APP, 7, 9, term, log_term, index, entries, draw(small)))
        index += count
        log_term = term if count else log_term
        if draw(st.integers(0, 5)) == 0:
            term += 1
        if draw(st.integers(0, 5)) == 0:
            index = max(0, index - 3)
    return found


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    found = []
    for size in sizes:
        found.append(data[:size])
        data = data[size:]
    return [*found, data]


@settings(max_examples=200, deadline=None)
@given(appends(), st.lists(st.integers(1, 30), max_size=60))
def test_appends_arrive_as_they_were_sent(messages: list[Message], sizes: list[int]) -> None:
    encoder, decoder = AppEncoder(EntryRun()), AppDecoder(7, 9)
    data = LINK_HEARTBEAT.join(encoder.encode(message) for message in messages)
    arrived = [message for piece in pieces(data, sizes) for message in decoder.feed(piece)]
    assert [encode_message(message) for message in arrived] == [encode_message(message) for message in messages]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.builds(Message, st.just(MSG_VOTE), ids, ids, small, small, small, commit=small), max_size=6),
    st.lists(st.integers(1, 30), max_size=30),
)
def test_messages_arrive_as_they_were_sent(messages: list[Message], sizes: list[int]) -> None:
    decoder = MessageDecoder()
    data = MESSAGE_HEARTBEAT.join(frame(encode_message(message)) for message in messages)
    arrived = [message for piece in pieces(data, sizes) for message in decoder.feed(piece)]
    assert [encode_message(message) for message in arrived] == [encode_message(message) for message in messages]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(1, 20), max_size=10))
def test_nonsense_is_a_value_error_or_waits_for_more(data: bytes, sizes: list[int]) -> None:
    for decoder in (AppDecoder(1, 2), MessageDecoder()):
        try:
            for piece in pieces(data, sizes):
                decoder.feed(piece)
        except ValueError:
            pass


@pytest.mark.parametrize(
    ("decoder", "data"),
    [
        (MessageDecoder(), b"\xff" * 8),
        (AppDecoder(1, 2), b"\x03"),
        (AppDecoder(1, 2), b"\x02" + b"\xff" * 8),
        (AppDecoder(1, 2), b"\x01" + b"\xff" * 8),
        (AppDecoder(1, 2), b"\x01" + (1).to_bytes(8, "big") + b"\x7f" + b"\xff" * 7),
    ],
)
def test_absurd_lengths_are_refused_at_once(decoder: MessageDecoder | AppDecoder, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"too long|unexpected"):
        decoder.feed(data)


def test_input_byte_by_byte_costs_linear_time() -> None:
    encoder, decoder = AppEncoder(EntryRun()), AppDecoder(1, 2)
    data = encoder.encode(Message(MSG_APP, 1, 2, 3, 3, 0, [Entry(0, 3, 1, b"v" * 200_000)], 0))
    arrived = []
    for place in range(len(data)):
        arrived += decoder.feed(data[place : place + 1])
    assert len(arrived) == 1
