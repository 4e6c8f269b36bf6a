"""The same entries make the same state: on any member, and again after a restart that had seen some of them."""

from __future__ import annotations

import pytest

from quorate.errors import CorruptError
from quorate.proto.etcdserver_pb2 import Request
from quorate.proto.raft_internal_pb2 import InternalRaftRequest
from quorate.proto.rpc_pb2 import PutRequest, RangeRequest, RequestOp, TxnRequest
from quorate.raft.types import Entry
from quorate.server.entry import CLUSTER_VERSION_SET, PUT, entry_data
from quorate.storage import schema
from tests.server.test_crash import REQUESTS
from tests.server.world import SECOND, Answer, FakeLoop, Node


def entries_of_a_run() -> tuple[list[Entry], Node]:
    node = Node().start()
    for method, request in REQUESTS:
        answer = Answer()
        getattr(node.server, method)(request, request.SerializeToString(), answer)  # type: ignore[attr-defined]
        node.loop.run_until(lambda answer=answer: answer.done)
    node.loop.advance(SECOND)
    storage = node.parts.raft_storage
    return storage.entries(storage.first_index(), storage.last_index() + 1, 1 << 60), node


ENTRIES, ORIGINAL = entries_of_a_run()


def hash_of(node: Node) -> tuple[int, int, int]:
    found: list[tuple[int, int, int]] = []
    node.server.store.hash_by_rev(0, lambda *result: found.append(result))
    node.loop.run_until(lambda: bool(found))
    return found[0]


def buckets(node: Node) -> dict[bytes, list[tuple[bytes, bytes]]]:
    """Return everything that members must agree on."""
    backend = node.server.backend
    out = {name: backend.range(name, b"", b"") for name in schema.BUCKETS}
    volatile = (*schema.VOLATILE_META, schema.FINISHED_COMPACT_REV)
    out[schema.META] = [(key, data) for key, data in out[schema.META] if key not in volatile]
    return out


def test_two_members_agree() -> None:
    hashes = set()
    contents = []
    for seed in (1, 2):
        node = Node(loop=FakeLoop(seed))
        node.server._applier.apply(ENTRIES)
        node.loop.advance(2 * SECOND)
        hashes.add(hash_of(node))
        contents.append(buckets(node))
    assert hashes == {hash_of(ORIGINAL)}
    assert contents[0] == contents[1] == buckets(ORIGINAL)


@pytest.mark.parametrize("seen", [1, 4, 10, 30, len(ENTRIES)])
def test_replay_behind_the_consistent_index(seen: int) -> None:
    node = Node()
    node.server._applier.apply(ENTRIES[:seen])
    node.server.backend.commit()
    node.loop.advance(2 * SECOND)
    node.disk.sync_dir("d/member/snap")
    node.server._applier.apply(ENTRIES[seen : seen + 5])
    # The power goes before the next commit; the log is delivered from the start.
    node.disk.crash()
    again = Node(disk=node.disk)
    applier = again.server._applier
    assert applier.consistent_index == seen
    applier.apply(ENTRIES)
    again.loop.advance(2 * SECOND)
    assert hash_of(again) == hash_of(ORIGINAL)
    assert buckets(again) == buckets(ORIGINAL)
    members = again.server.cluster.member_list()
    assert [member.name for member in members] == ["m1"]


def normal(index: int, data: bytes) -> Entry:
    return Entry(0, 1, index, data)


def test_entries_of_older_members() -> None:
    node = Node()
    applier = node.server._applier
    applier.apply(ENTRIES[:1])
    path = f"/0/members/{node.server.member_id:x}/attributes"
    val = '{"name":"old","clientURLs":["http://127.0.0.1:1"]}'
    version = Request(ID=1, Method="PUT", Path="/0/version", Val="3.5.0").SerializeToString()
    applier.apply(
        [
            normal(2, Request(ID=1, Method="PUT", Path=path, Val=val).SerializeToString()),
            normal(3, version),
            normal(4, Request(ID=1, Method="SYNC", Time=5).SerializeToString()),
            normal(5, b""),
            normal(6, InternalRaftRequest(ID=9, put=PutRequest(key=b"k", value=b"v")).SerializeToString()),
        ]
    )
    member = node.server.cluster.member_list()[0]
    assert (member.name, member.client_urls) == ("old", ["http://127.0.0.1:1"])
    assert str(node.server.cluster.version) == "3.5.0"
    assert node.server.store.current_rev == 2
    assert applier.consistent_index == 6


def test_a_foreign_transaction_is_checked_like_our_own() -> None:
    # Members that skip the ranges of others' transactions must still refuse what a range refuses (etcd issue 18667).
    node = Node()
    applier = node.server._applier
    applier.apply(ENTRIES[:1])
    put = RequestOp(request_put=PutRequest(key=b"k"))
    future = RequestOp(request_range=RangeRequest(key=b"k", revision=100))
    bad = InternalRaftRequest(ID=3, txn=TxnRequest(success=[put, future]))
    applier.apply([normal(2, bad.SerializeToString())])
    assert node.server.store.current_rev == 1
    good = InternalRaftRequest(ID=4, txn=TxnRequest(success=[put, RequestOp(request_range=RangeRequest(key=b"k"))]))
    applier.apply([normal(3, good.SerializeToString())])
    assert node.server.store.current_rev == 2


def test_what_cannot_be_applied_stops_the_member() -> None:
    for data in (
        entry_data(CLUSTER_VERSION_SET, b"\x0a\x01x", b""),
        entry_data(500, b"", b""),
        b"\xff\xff",
        Request(ID=1, Method="PUT", Path="/0/members/zz/attributes", Val="{}").SerializeToString(),
        Request(ID=1, Method="PUT", Path="/0/members/1/attributes", Val="[]").SerializeToString(),
    ):
        node = Node()
        node.server._applier.apply(ENTRIES[:1])
        with pytest.raises(CorruptError):
            node.server._applier.apply([normal(2, data)])
    with pytest.raises(CorruptError, match="follows"):
        Node().server._applier.apply(ENTRIES[1:])


def test_another_members_entry_cannot_answer_for_ours() -> None:
    node = Node()
    answer = Answer()
    request = PutRequest(key=b"k", value=b"ours")
    proposals = node.server._proposals
    proposals.add(PUT, request, request.SerializeToString(), answer, 1 << 20)
    ours = proposals.queue[0]
    forged = entry_data(
        PUT, PutRequest(key=b"k", value=b"theirs").SerializeToString(), ours[-proposals._suffix_bytes :]
    )
    applier = node.server._applier
    applier.apply([ENTRIES[0], normal(2, forged)])
    applier.answer()
    assert not answer.done
    applier.apply([normal(3, ours)])
    applier.answer()
    assert answer.response is not None
