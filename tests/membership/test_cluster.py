"""Members come, change and go with the log, with etcd's refusals, and survive in the backend's buckets."""

import pytest

from quorate import errors
from quorate.errors import CorruptError
from quorate.membership.cluster import ADD_LEARNER_NODE, ADD_NODE, REMOVE_NODE, UPDATE_NODE, Cluster
from quorate.membership.member import Member, member_json, promote_json
from quorate.membership.v2store import decode_v2store
from quorate.membership.version import V3_5, V3_6, Downgrade, Version
from quorate.ports import NullLog

URLS = {"m1": ["http://127.0.0.1:24721"], "m2": ["http://127.0.0.1:24722"], "m3": ["http://127.0.0.1:24723"]}


class Buckets:
    """The backend's buckets in a dictionary."""

    def __init__(self):
        self.data = {b"members": {}, b"members_removed": {}, b"cluster": {}}

    def get(self, bucket, key):
        return self.data[bucket].get(key)

    def put(self, bucket, key, value):
        self.data[bucket][key] = value

    def delete(self, bucket, key):
        self.data[bucket].pop(key, None)

    def range(self, bucket, start, end, limit=0):
        return [(key, value) for key, value in sorted(self.data[bucket].items()) if start <= key < end]


def initial(urls=URLS):
    cluster = Cluster.from_initial(NullLog(), urls, "t3")
    cluster.set_id(min(cluster.members), cluster.cluster_id)
    return cluster


def started(count):
    cluster = initial(dict(list(URLS.items())[:count]))
    for member in cluster.member_list():
        cluster.update_attributes(member.id, member.name, ["http://c:1"])
    return cluster


def change(cluster, change_type, member_id, context=b""):
    """Validate and, when that is fine, apply, as the apply of an entry does."""
    error = cluster.validate(change_type, member_id, context)
    if error is None:
        cluster.apply(change_type, member_id, context)
    return error


def add(cluster, member_id, url, learner=False):
    context = member_json(Member(member_id, [url], is_learner=learner))
    return change(cluster, ADD_LEARNER_NODE if learner else ADD_NODE, member_id, context)


def test_a_new_cluster_has_etcds_ids():
    cluster = initial()
    assert [f"{one.id:x}" for one in cluster.member_list()] == [
        "ab17e40639356bac", "be70458209cb78ed", "c983158db3523388",
    ]  # fmt: skip
    assert f"{cluster.cluster_id:x}" == "23be64a615dcdc1a"
    assert cluster.peer_urls() == [urls[0] for urls in URLS.values()]
    assert cluster.member_by_name("m2").peer_urls == URLS["m2"]


def test_two_members_with_the_same_urls_are_refused():
    with pytest.raises(ValueError, match="identical ID"):
        Cluster.from_initial(NullLog(), {"a": ["http://x:1"], "b": ["http://x:1"]}, "t")


def test_two_members_with_the_same_name():
    cluster = initial()
    for member in cluster.member_list():
        member.name = "same"
    with pytest.raises(ValueError, match="same name"):
        cluster.member_by_name("same")


def test_add_and_its_refusals():
    cluster = initial()
    assert add(cluster, 7, "http://new:1") is None
    assert cluster.member(7) == Member(7, ["http://new:1"])
    assert add(cluster, 7, "http://other:1") is errors.MEMBER_EXIST
    assert add(cluster, 8, "http://new:1") is errors.PEER_URL_EXIST
    assert change(cluster, REMOVE_NODE, 7) is None
    assert cluster.member(7) is None
    assert add(cluster, 7, "http://new:1") is errors.MEMBER_NOT_FOUND
    assert add(cluster, 8, "http://new:1") is None


def test_learners_are_limited():
    cluster = initial()
    assert add(cluster, 7, "http://l1:1", learner=True) is None
    assert add(cluster, 8, "http://l2:1", learner=True) is errors.TOO_MANY_LEARNERS
    assert len(cluster.voters()) == 3
    cluster.max_learners = 2
    assert add(cluster, 8, "http://l2:1", learner=True) is None


def test_promote_and_its_refusals():
    cluster = initial()
    voter = cluster.member_list()[0].id
    assert change(cluster, ADD_NODE, 7, promote_json(7)) is errors.MEMBER_NOT_FOUND
    assert change(cluster, ADD_NODE, voter, promote_json(voter)) is errors.MEMBER_NOT_LEARNER
    add(cluster, 7, "http://l1:1", learner=True)
    cluster.local_id = 7
    assert cluster.is_local_learner()
    assert change(cluster, ADD_NODE, 7, promote_json(7)) is None
    assert not cluster.is_local_learner()


def test_update_and_its_refusals():
    cluster = initial()
    first, second = cluster.member_list()[:2]
    taken = member_json(Member(first.id, second.peer_urls))
    own = member_json(Member(first.id, [*first.peer_urls, "http://new:1"]))
    assert change(cluster, UPDATE_NODE, 7, member_json(Member(7, ["http://new:1"]))) is errors.MEMBER_NOT_FOUND
    assert change(cluster, UPDATE_NODE, first.id, taken) is errors.PEER_URL_EXIST
    assert change(cluster, UPDATE_NODE, first.id, own) is None
    assert cluster.member(first.id).peer_urls[-1] == "http://new:1"
    assert cluster.member(first.id).name == first.name


def test_remove_unknown():
    cluster = initial()
    assert change(cluster, REMOVE_NODE, 7) is errors.MEMBER_NOT_FOUND


@pytest.mark.parametrize(
    ("change_type", "context"),
    [(ADD_NODE, b"{"), (UPDATE_NODE, b"7"), (9, b'{"id":7}'), (ADD_NODE, b'{"id":8,"peerURLs":["http://x:1"]}')],
)
def test_changes_that_make_no_sense_stop_the_member(change_type, context):
    with pytest.raises(CorruptError):
        initial().validate(change_type, 7, context)


def test_attributes_of_strangers_and_of_the_removed():
    cluster = initial()
    add(cluster, 7, "http://new:1")
    cluster.apply(REMOVE_NODE, 7, b"")
    cluster.update_attributes(7, "gone", [])
    assert cluster.member(7) is None
    with pytest.raises(CorruptError, match="member unknown: 8"):
        cluster.update_attributes(8, "who", [])


def test_quorum_rules_before_members_have_started():
    one = started(1)
    assert one.ready_to_add_voter()
    assert not one.ready_to_remove_voter(one.member_list()[0].id)
    add(one, 7, "http://new:1")
    assert not one.ready_to_add_voter()
    assert one.ready_to_remove_voter(7)
    assert not one.ready_to_remove_voter(one.member_list()[-1].id)
    assert one.ready_to_promote()
    fresh = Cluster(NullLog())
    assert not fresh.ready_to_add_voter()


def test_quorum_rules_of_three():
    three = started(3)
    ids = [member.id for member in three.member_list()]
    assert three.ready_to_add_voter()
    assert all(three.ready_to_remove_voter(one) for one in ids)
    three.update_attributes(ids[0], "", [])
    assert not three.ready_to_add_voter()
    assert three.ready_to_remove_voter(ids[0])
    assert three.ready_to_remove_voter(ids[1]) is False


def test_everything_survives_in_the_backend():
    backend = Buckets()
    cluster = initial()
    cluster.save_all(backend)
    add(cluster, 7, "http://new:1")
    add(cluster, 8, "http://l:1", learner=True)
    cluster.update_attributes(8, "l", ["http://c:1"])
    cluster.apply(ADD_NODE, 8, promote_json(8))
    cluster.apply(REMOVE_NODE, 7, b"")
    cluster.set_version(V3_6)
    cluster.set_downgrade(Downgrade(True, "3.5.0"))
    assert backend.data[b"members"][b"8"] == (
        b'{"id":8,"peerURLs":["http://l:1"],"name":"l","clientURLs":["http://c:1"]}'
    )
    assert backend.data[b"members_removed"] == {b"7": b"removed"}
    assert backend.data[b"cluster"] == {
        b"clusterVersion": b"3.6.0",
        b"downgrade": b'{"target-version":"3.5.0","enabled":true}',
    }
    again = Cluster(NullLog())
    again.load(backend)
    assert (again.members, again.removed, again.version) == (cluster.members, {7}, V3_6)
    assert (again.downgrade.enabled, again.downgrade.target_version) == (True, "3.5.0")


def test_save_all_replaces_what_was_there():
    backend = Buckets()
    backend.put(b"members", b"99", b"{}")
    backend.put(b"members_removed", b"98", b"removed")
    cluster = initial()
    cluster.save_all(backend)
    assert set(backend.data[b"members"]) == {f"{one:x}".encode() for one in cluster.members}
    assert backend.data[b"members_removed"] == {}


@pytest.mark.parametrize(
    ("bucket", "key", "value"),
    [
        (b"members", b"zz", b"{}"),
        (b"members", b"7", b"{"),
        (b"members", b"7", b'{"id":"x"}'),
        (b"members_removed", b"", b"removed"),
        (b"cluster", b"clusterVersion", b"three"),
        (b"cluster", b"clusterVersion", b"3.7.0"),
        (b"cluster", b"downgrade", b"[]"),
        (b"cluster", b"downgrade", b'{"enabled":true}'),
        (b"cluster", b"downgrade", b'{"target-version":7}'),
    ],
)
def test_bad_buckets_stop_the_member(bucket, key, value):
    backend = Buckets()
    backend.put(bucket, key, value)
    with pytest.raises(CorruptError, match=bucket.decode()):
        Cluster(NullLog()).load(backend)


def test_a_newer_cluster_version_stops_the_member():
    with pytest.raises(CorruptError, match="invalid downgrade"):
        initial().set_version(Version(3, 7))


def test_snapshot_data_and_a_cluster_that_stores_nothing():
    cluster = initial()
    add(cluster, 7, "http://l:1", learner=True)
    cluster.apply(REMOVE_NODE, cluster.member_list()[1].id, b"")
    cluster.set_version(V3_6)
    shadow = Cluster.from_membership(NullLog(), decode_v2store(cluster.snapshot_data()))
    assert (shadow.members, shadow.removed, shadow.version) == (cluster.members, cluster.removed, V3_6)
    assert add(shadow, 9, "http://x:1", learner=True) is errors.TOO_MANY_LEARNERS
    shadow.apply(REMOVE_NODE, 7, b"")
    assert cluster.member(7) is not None


def test_an_older_snapshot_completes_the_backend():
    """etcd 3.5.1 leaves names out of the backend, 3.4 the version, 3.5 a promotion."""
    backend = Buckets()
    cluster = initial()
    cluster.save_all(backend)
    add(cluster, 7, "http://l:1", learner=True)
    snapshot = Cluster.from_membership(NullLog(), cluster.membership())
    for member in snapshot.member_list():
        snapshot.update_attributes(member.id, f"n{member.id}", ["http://c:1"])
    snapshot.apply(ADD_NODE, 7, promote_json(7))
    snapshot.version = V3_5
    add(snapshot, 9, "http://only-in-snapshot:1")
    first, second, third = (member.id for member in cluster.member_list()[1:])
    for member_id, name in ((first, ""), (second, "newer"), (third, "")):
        cluster.update_attributes(member_id, name, [])

    cluster.adopt(snapshot.membership())

    again = Cluster(NullLog())
    again.load(backend)
    assert again.members == cluster.members
    assert again.version == V3_5
    names = {member.id: member.name for member in again.member_list()}
    assert names == {7: "n7", first: f"n{first}", second: "newer", third: f"n{third}"}
    assert not again.member(7).is_learner
