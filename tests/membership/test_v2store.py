"""The JSON in .snap files reads as etcd's and is written as etcd 3.6 writes it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.membership.member import Member
from quorate.membership.v2store import Membership, decode_v2store, encode_v2store
from quorate.membership.version import Version

# A snapshot of a single member, written by etcd 3.5.1 (the nulls at the end of Events left out).
REAL = r"""
{"Root":{"Path":"/","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{
 "0":{"Path":"/0","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{
  "members":{"Path":"/0/members","CreatedIndex":1,"ModifiedIndex":1,"ExpireTime":"0001-01-01T00:00:00Z","Value":"",
   "Children":{"97e6743b0e6fffb3":{"Path":"/0/members/97e6743b0e6fffb3","CreatedIndex":1,"ModifiedIndex":1,
    "ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{
    "attributes":{"Path":"/0/members/97e6743b0e6fffb3/attributes","CreatedIndex":2,"ModifiedIndex":2,
     "ExpireTime":"0001-01-01T00:00:00Z",
     "Value":"{\"name\":\"m1\",\"clientURLs\":[\"http://127.0.0.1:24702\"]}","Children":null},
    "raftAttributes":{"Path":"/0/members/97e6743b0e6fffb3/raftAttributes","CreatedIndex":1,"ModifiedIndex":1,
     "ExpireTime":"0001-01-01T00:00:00Z","Value":"{\"peerURLs\":[\"http://127.0.0.1:24701\"]}","Children":null}}}}},
  "version":{"Path":"/0/version","CreatedIndex":3,"ModifiedIndex":3,"ExpireTime":"0001-01-01T00:00:00Z",
   "Value":"3.5.0","Children":null}}},
 "1":{"Path":"/1","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{}}}},
"WatcherHub":{"EventHistory":{"Queue":{"Events":[
 {"action":"create","node":{"key":"/0/members/97e6743b0e6fffb3/raftAttributes",
  "value":"{\"peerURLs\":[\"http://127.0.0.1:24701\"]}","modifiedIndex":1,"createdIndex":1}},
 {"action":"set","node":{"key":"/0/members/97e6743b0e6fffb3/attributes",
  "value":"{\"name\":\"m1\",\"clientURLs\":[\"http://127.0.0.1:24702\"]}","modifiedIndex":2,"createdIndex":2}},
 {"action":"set","node":{"key":"/0/version","value":"3.5.0","modifiedIndex":3,"createdIndex":3}}],
 "Size":3,"Front":0,"Back":3,"Capacity":1000},"StartIndex":1,"LastIndex":3}},
"CurrentIndex":3,
"Stats":{"getsSuccess":0,"getsFail":1,"setsSuccess":2,"setsFail":0,"deleteSuccess":0,"deleteFail":0,"updateSuccess":0,
 "updateFail":0,"createSuccess":1,"createFail":0,"compareAndSwapSuccess":0,"compareAndSwapFail":0,
 "compareAndDeleteSuccess":0,"compareAndDeleteFail":0,"expireCount":0,"watchers":0},
"CurrentVersion":2}
"""
MEMBER = Member(0x97E6743B0E6FFFB3, ["http://127.0.0.1:24701"], "m1", ["http://127.0.0.1:24702"])

MINIMAL = (
    '{"Root":{"Path":"/","Children":{"0":{"Path":"/0","Children":{"members":{"Path":"/0/members","Children":{"ab":{'
    '"Path":"/0/members/ab","Children":{"raftAttributes":{"Path":"x","Value":"{\\"peerURLs\\":[\\"http://a:1\\"]}"'
    "}}}}}}}}}}"
)


def test_writes_what_etcd_writes():
    expected = json.loads(REAL)
    events = expected["WatcherHub"]["EventHistory"]["Queue"]["Events"]
    events += [None] * (1000 - len(events))
    text = json.dumps(expected, separators=(",", ":")).encode()
    assert encode_v2store(Membership({MEMBER.id: MEMBER}, set(), Version(3, 5))) == text


def test_reads_what_etcd_wrote():
    found = decode_v2store(REAL.encode())
    assert found.members == {MEMBER.id: MEMBER}
    assert (found.removed, found.version, found.has_user_data) == (set(), Version(3, 5), False)


def test_reads_the_least_there_can_be():
    found = decode_v2store(MINIMAL.encode())
    assert found.members == {0xAB: Member(0xAB, ["http://a:1"])}
    assert (found.removed, found.version) == (set(), None)
    assert decode_v2store(b"{}").members == {}


MEMBERS = st.builds(
    Member,
    st.integers(1, 2**64 - 1),
    st.lists(st.sampled_from(["http://a:1", "http://b:1", "unix://x&y"]), min_size=1, max_size=2),
    st.sampled_from(["", "m1", "<ü>"]),
    st.lists(st.sampled_from(["http://a:2", "http://b:2"]), max_size=2),
    st.booleans(),
)


@given(
    st.lists(MEMBERS, max_size=5),
    st.sets(st.integers(1, 2**64 - 1), max_size=5),
    st.sampled_from([None, Version(3, 6)]),
)
def test_round_trip(members, removed, version):
    by_id = {member.id: member for member in members}
    data = encode_v2store(Membership(by_id, removed, version))
    found = decode_v2store(data)
    assert (found.members, found.removed, found.version) == (by_id, removed, version)
    queue = json.loads(data)["WatcherHub"]["EventHistory"]["Queue"]
    assert len(queue["Events"]) == queue["Capacity"] == 1000
    assert queue["Size"] == sum(event is not None for event in queue["Events"]) == queue["Back"]


def test_a_history_longer_than_the_queue():
    data = json.loads(encode_v2store(Membership({}, set(range(1, 1102)), None)))
    history = data["WatcherHub"]["EventHistory"]
    assert (history["StartIndex"], history["LastIndex"], history["Queue"]["Back"]) == (102, 1101, 0)
    assert len(history["Queue"]["Events"]) == 1000


def test_children_are_in_go_order():
    def check(node):
        children = node["Children"]
        if children:
            assert list(children) == sorted(children)
            for child in children.values():
                check(child)

    members = {one: Member(one, ["http://a:1"], "m", ["http://b:1"]) for one in (0x9, 0x10, 0xF)}
    check(json.loads(encode_v2store(Membership(members, {0x9A, 0x9}, Version(3, 6))))["Root"])


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"\xff", b'{"Root":7}', b'{"Root":{"Children":[]}}', b"[" * 100000,
        MINIMAL.replace("raftAttributes", "attributes").encode(),
        MINIMAL.replace("raftAttributes", "other").encode(),
        MINIMAL.replace('"ab"', '"xyz"').encode(),
        MINIMAL.replace("http://a:1", "http://a:1,").replace('[\\"', '[7,\\"').encode(),
        MINIMAL.replace("{\\", "[\\").encode(),
        b'{"Root":{"Children":{"0":{"Children":{"version":{"Value":"3.x"}}}}}}',
        b'{"Root":{"Children":{"0":{"Children":{"version":{"Value":3}}}}}}',
    ],
)  # fmt: skip
def test_malformed_snapshots_are_refused(data):
    with pytest.raises(ValueError):
        decode_v2store(data)


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ('"1":{"Children":{}}', False),
        ('"1":{"Children":{"foo":{"Value":"bar"}}}', True),
        ('"2":{"Children":{"enabled":{"Value":"false"},"users":{"Children":{}}}}', False),
        ('"2":{"Children":{"users":{"Children":{"root":{"Value":"x"}}}}}', True),
    ],
)
def test_keys_of_the_version_2_api_are_reported(tree, expected):
    assert decode_v2store(f'{{"Root":{{"Children":{{{tree}}}}}}}'.encode()).has_user_data is expected
