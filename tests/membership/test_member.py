"""Ids, URLs and JSON of members are etcd's, to the byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.membership.member import (
    Member,
    attributes_json,
    compute_cluster_id,
    compute_member_id,
    format_initial_cluster,
    hex_id,
    member_json,
    parse_hex_id,
    parse_initial_cluster,
    parse_member_json,
    parse_urls,
    promote_json,
    raft_attributes_json,
)

# Seen in data directories that real etcd wrote.
ONE = "http://127.0.0.1:24701"
THREE = [("http://127.0.0.1:24721", "be70458209cb78ed"), ("http://127.0.0.1:24722", "c983158db3523388")]
THREE.append(("http://127.0.0.1:24723", "ab17e40639356bac"))


def test_ids_of_one_member():
    assert hex_id(compute_member_id([ONE], "tok1")) == "97e6743b0e6fffb3"
    assert hex_id(compute_cluster_id([0x97E6743B0E6FFFB3])) == "858f3e332583e1fd"


def test_ids_of_three_members():
    ids = [compute_member_id([url], "t3") for url, _ in THREE]
    assert [hex_id(one) for one in ids] == [expected for _, expected in THREE]
    assert hex_id(compute_cluster_id(ids)) == "23be64a615dcdc1a"


def test_the_time_makes_a_new_id():
    assert compute_member_id([ONE], "", 1700000000) != compute_member_id([ONE], "", 1700000001)


def test_url_order_does_not_matter_for_the_id():
    assert compute_member_id(["http://b:1", "http://a:1"], "t") == compute_member_id(["http://a:1", "http://b:1"], "t")


@pytest.mark.parametrize("text", ["", "g", "0x1", "1" * 17, "-1", " 1"])
def test_bad_hex_ids(text):
    with pytest.raises(ValueError):
        parse_hex_id(text)


def test_json_as_it_stands_in_the_log():
    member = Member(10945563741364682675, [ONE], "m1")
    assert member_json(member) == b'{"id":10945563741364682675,"peerURLs":["http://127.0.0.1:24701"],"name":"m1"}'
    learner = Member(7, [ONE], is_learner=True)
    assert member_json(learner) == b'{"id":7,"peerURLs":["http://127.0.0.1:24701"],"isLearner":true}'
    assert promote_json(7) == b'{"id":7,"peerURLs":null,"isPromote":true}'


def test_json_of_attributes():
    member = Member(7, [ONE], "m1", ["http://127.0.0.1:24702"])
    assert raft_attributes_json(member) == '{"peerURLs":["http://127.0.0.1:24701"]}'
    assert attributes_json(member) == '{"name":"m1","clientURLs":["http://127.0.0.1:24702"]}'
    assert attributes_json(Member(7, [ONE])) == "{}"


def test_json_escapes_as_go_does():
    assert attributes_json(Member(1, [], "<é&\u2028>\n")) == '{"name":"\\u003cé\\u0026\\u2028\\u003e\\n"}'


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)


@given(st.integers(0, 2**64 - 1), st.lists(TEXT, max_size=3), TEXT, st.lists(TEXT, max_size=3), st.booleans())
def test_json_round_trip(member_id, peer_urls, name, client_urls, learner):
    member = Member(member_id, peer_urls, name, client_urls, learner)
    assert parse_member_json(member_json(member)) == (member, False)


def test_promotion_context():
    member, promote = parse_member_json(promote_json(9))
    assert (member.id, promote) == (9, True)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "7", '{"id":-1}', '{"id":18446744073709551616}', '{"id":true}', '{"id":"7"}', '{"peerURLs":"x"}',
     '{"peerURLs":[1]}', '{"name":7}'],
)  # fmt: skip
def test_malformed_members_are_refused(text):
    with pytest.raises(ValueError):
        parse_member_json(text)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["http://b:2", "http://a:1"], ["http://a:1", "http://b:2"]),
        ([" https://10.0.0.1:2380 "], ["https://10.0.0.1:2380"]),
        (["http://[::1]:2380"], ["http://[::1]:2380"]),
        (["HTTP://a:1"], ["http://a:1"]),
        (["unix://localhost:123", "unixs:///tmp/x"], ["unix://localhost:123", "unixs:///tmp/x"]),
    ],
)
def test_good_urls(texts, expected):
    assert parse_urls(texts) == expected


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ([], "no valid URLs given"),
        (["http://a"], 'URL address does not have the form "host:port": http://a'),
        (["http://::1:2380"], "host:port"),
        (["http://[::1]"], "host:port"),
        (["http://a:b"], "invalid port"),
        (["http://a:1/"], "URL must not contain a path: http://a:1/"),
        (["http://a:1/x"], "URL must not contain a path"),
        (["ftp://a:1"], "URL scheme must be http, https, unix, or unixs: ftp://a:1"),
        (["127.0.0.1:2380"], "URL scheme"),
        (["localhost:1"], "URL scheme"),
        (["http://a:1", ""], "URL scheme"),
        (["http://a b:1"], "invalid character"),
        (["http://a%zz:1"], "invalid character or escape"),
    ],
)
def test_bad_urls(texts, reason):
    with pytest.raises(ValueError, match=reason.replace("(", "\\(")):
        parse_urls(texts)


def test_initial_cluster():
    urls = parse_initial_cluster("m1=http://a:1,m2=http://b:1,m1=http://a:2,")
    assert urls == {"m1": ["http://a:1", "http://a:2"], "m2": ["http://b:1"]}
    assert format_initial_cluster(urls) == "m1=http://a:1,m1=http://a:2,m2=http://b:1"
    assert parse_initial_cluster("") == {}
    with pytest.raises(ValueError):
        parse_initial_cluster("m1")


def test_clone_shares_nothing():
    member = Member(1, [ONE], "m", ["http://c:1"], True)
    copy = member.clone()
    copy.peer_urls.append("x")
    copy.client_urls.append("x")
    assert member == Member(1, [ONE], "m", ["http://c:1"], True)
    assert copy != member
