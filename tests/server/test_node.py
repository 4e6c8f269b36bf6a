"""One member in a virtual world: requests, reads, leases, alarms, snapshots, life and death."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from quorate import errors
from quorate.errors import RpcError
from quorate.lease.lessor import Lease
from quorate.membership.version import V3_5, V3_6
from quorate.ports import NullLog
from quorate.proto.membership_pb2 import ClusterVersionSetRequest
from quorate.proto.rpc_pb2 import (
    AlarmRequest,
    AlarmResponse,
    CompactionRequest,
    CompactionResponse,
    DeleteRangeResponse,
    LeaseGrantResponse,
    LeaseRevokeRequest,
    LeaseRevokeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RequestOp,
    TxnRequest,
    TxnResponse,
)
from quorate.server.config import ServerConfig
from quorate.server.entry import CLUSTER_VERSION_SET
from quorate.server.proposals import NEVER_PROPOSED
from quorate.server.reads import Read
from quorate.storage import schema
from tests.server.world import MS, SECOND, Answer, Node


def revoke(node: Node, lease_id: int) -> LeaseRevokeResponse:
    return LeaseRevokeResponse.FromString(node.call(node.server.lease_revoke, LeaseRevokeRequest(ID=lease_id)))  # type: ignore[arg-type]


def alarm(node: Node, action: int, kind: int, member_id: int = 0) -> list[tuple[int, int]]:
    request = AlarmRequest(action=action, memberID=member_id, alarm=kind)  # type: ignore[arg-type]
    response = AlarmResponse.FromString(node.call(node.server.alarm, request))  # type: ignore[arg-type]
    return [(member.memberID, member.alarm) for member in response.alarms]


def fails(error: RpcError, call: object, *args: object, **fields: object) -> None:
    with pytest.raises(RpcError) as caught:
        call(*args, **fields)  # type: ignore[operator]
    assert caught.value is error


def test_put_range_delete() -> None:
    node = Node().start()
    server = node.server
    response = PutResponse.FromString(node.put(b"k", b"v"))
    assert response.header.cluster_id == server.cluster_id
    assert response.header.member_id == server.member_id
    assert response.header.revision == 2
    assert response.header.raft_term == server.term == 2
    assert PutResponse.FromString(node.put(b"k", b"w", prev_kv=True)).prev_kv.value == b"v"
    found = node.range(b"k")
    assert (found.kvs[0].value, found.kvs[0].version, found.header.revision) == (b"w", 2, 3)
    assert node.range(b"k", revision=2).kvs[0].value == b"v"
    fails(errors.FUTURE_REV, node.range, b"k", revision=9)
    assert DeleteRangeResponse.FromString(node.delete(b"none")).header.revision == 3
    assert DeleteRangeResponse.FromString(node.delete(b"k")).deleted == 1
    assert node.get(b"k") is None


def test_a_batch_is_one_entry_write_and_answers_in_order() -> None:
    node = Node().start()
    answers = [Answer() for _ in range(200)]
    turns = node.server.stats.turns_total
    for number, answer in enumerate(answers):
        request = PutRequest(key=b"k%d" % number, value=b"v")
        node.server.put(request, request.SerializeToString(), answer)
    assert not any(answer.done for answer in answers)
    node.loop.run_until(lambda: all(answer.done for answer in answers))
    revisions = [PutResponse.FromString(answer.response or b"").header.revision for answer in answers]
    assert revisions == list(range(2, 202))
    assert node.server.stats.turns_total - turns <= 3


def test_nothing_is_answered_before_the_sync() -> None:
    config = ServerConfig(sync_inline_ns=0)  # every sync goes to the storage thread
    node = Node(config=config).start()
    answer = Answer()
    request = PutRequest(key=b"k", value=b"v")
    node.server.put(request, request.SerializeToString(), answer)
    node.loop.settle()
    assert not answer.done
    assert node.loop.jobs
    # A read sees what was acknowledged, and does not wait for the disk.
    read = Answer()
    node.server.range(RangeRequest(key=b"k"), read)
    assert read.done
    node.loop.run_until(lambda: answer.done)
    assert node.server.stats.syncs_inline_total == 0
    assert node.get(b"k") == b"v"


def test_reads_before_the_first_entry_of_the_term_wait() -> None:
    node = Node()
    early = Answer()
    node.server.range(RangeRequest(key=b"k"), early)
    local = Answer()
    node.server.range(RangeRequest(key=b"k", serializable=True), local)
    assert local.done
    assert not early.done
    node.start()
    assert early.response is not None


def test_a_transaction_that_only_reads_needs_no_entry() -> None:
    node = Node().start()
    node.put(b"a", b"1")
    index = node.server.applied_index
    request = TxnRequest(success=[RequestOp(request_range=RangeRequest(key=b"a"))])
    response = TxnResponse.FromString(node.txn(request))
    assert response.responses[0].response_range.kvs[0].value == b"1"
    assert response.header.revision == 2
    assert node.server.applied_index == index


def test_limits() -> None:
    node = Node(config=ServerConfig(max_request_bytes=1000)).start()
    node.put(b"k", b"x" * 900)
    fails(errors.REQUEST_TOO_LARGE, node.put, b"k", b"x" * 1000)
    node.server._turn.committed_index += 6000
    fails(errors.TOO_MANY_REQUESTS, node.put, b"k", b"x")


def test_publication_and_versions() -> None:
    node = Node().start()
    member = node.server.cluster.member_list()[0]
    assert (member.name, member.client_urls) == ("m1", ["http://127.0.0.1:2379"])
    node.loop.advance(5 * SECOND)
    assert node.server.cluster.version == V3_5
    backend = node.server.backend
    assert backend.get(schema.META, schema.STORAGE_VERSION) is None
    assert backend.get(schema.META, schema.CONF_STATE) == b'{"voters":[%d],"auto_leave":false}' % node.server.member_id
    assert schema.decode_u64(backend.get(schema.META, schema.CONSISTENT_INDEX)) == node.server.applied_index


def test_compaction() -> None:
    node = Node().start()
    for number in range(10):
        node.put(b"k", b"%d" % number)
    compact = node.server.compact
    response = CompactionResponse.FromString(node.call(compact, CompactionRequest(revision=5)))  # type: ignore[arg-type]
    assert response.header.revision == 11
    fails(errors.COMPACTED, node.range, b"k", revision=4)
    fails(errors.COMPACTED, node.call, compact, CompactionRequest(revision=5))
    fails(errors.COMPACTED, node.call, compact, CompactionRequest(revision=5, physical=True))
    fails(errors.FUTURE_REV, node.call, compact, CompactionRequest(revision=50))
    before = node.loop.now_ns
    node.call(compact, CompactionRequest(revision=8, physical=True))  # type: ignore[arg-type]
    assert node.loop.now_ns > before
    rows = node.server.backend.range(schema.META, b"", b"")
    assert dict(rows)[schema.FINISHED_COMPACT_REV][:8] == (8).to_bytes(8, "big")


@pytest.mark.parametrize("mode", ["periodic", "revision"])
def test_auto_compaction(mode: str) -> None:
    retention = 10 * SECOND if mode == "periodic" else 5
    node = Node(config=ServerConfig(auto_compaction_mode=mode, auto_compaction_retention=retention)).start()
    for number in range(20):
        node.put(b"k", b"%d" % number)
    rev = node.server.store.current_rev
    node.loop.advance(9 * SECOND)
    assert node.server.store.compact_rev == -1
    node.loop.advance(3 * SECOND if mode == "periodic" else 300 * SECOND)
    if mode == "periodic":
        assert 1 <= node.server.store.compact_rev <= rev
        node.loop.advance(20 * SECOND)
        assert node.server.store.compact_rev == rev
    else:
        assert node.server.store.compact_rev == rev - 5


def test_no_space_and_disarm() -> None:
    node = Node(config=ServerConfig(quota_bytes=1)).start()
    server = node.server
    node.loop.advance(SECOND)
    assert server.quota_check(0)
    assert not server.quota_check(100)
    node.loop.settle()
    node.loop.advance(SECOND)
    assert server.alarms.list() == [(1, server.member_id)]
    fails(errors.NO_SPACE, node.put, b"k", b"v")
    fails(errors.NO_SPACE, node.grant, 1, 10)
    node.delete(b"k")
    put = TxnRequest(success=[RequestOp(request_put=PutRequest(key=b"a"))])
    nested = TxnRequest(success=[RequestOp(request_txn=put)])
    fails(errors.NO_SPACE, node.txn, put)
    fails(errors.NO_SPACE, node.txn, nested)
    assert alarm(node, 0, 0) == [(server.member_id, 1)]
    assert alarm(node, 2, 1, 0) == []
    assert alarm(node, 2, 1, server.member_id) == [(server.member_id, 1)]
    # Without the alarm a write is executed, and then reported as one too many.
    rev = server.store.current_rev
    fails(errors.NO_SPACE, node.put, b"k", b"v")
    assert server.store.current_rev == rev + 1
    node.loop.advance(SECOND)
    assert alarm(node, 0, 1) == [(server.member_id, 1)]


def test_corrupt_alarm_stops_writes() -> None:
    node = Node().start()
    node.grant(1, 100)
    assert alarm(node, 1, 2, 77) == [(77, 2)]
    fails(errors.CORRUPT, node.put, b"k", b"v")
    fails(errors.CORRUPT, node.delete, b"k")
    fails(errors.CORRUPT, node.grant, 5, 10)
    fails(errors.CORRUPT, revoke, node, 1)
    fails(errors.CORRUPT, node.call, node.server.compact, CompactionRequest(revision=1))
    assert node.get(b"k") is None
    assert alarm(node, 1, 0) == []
    assert alarm(node, 2, 2, 77) == [(77, 2)]
    node.put(b"k", b"v")


def test_lease_life() -> None:
    node = Node().start()
    server = node.server
    granted = LeaseGrantResponse.FromString(node.grant(0, 10))
    assert granted.ID > 0
    assert granted.TTL == 10
    assert LeaseGrantResponse.FromString(node.grant(5, 1)).TTL == 2
    fails(errors.LEASE_EXIST, node.grant, 5, 10)
    fails(errors.LEASE_TTL_TOO_LARGE, node.grant, 6, 9_000_000_001)
    node.put(b"b", b"1", lease=5)
    node.put(b"a", b"1", lease=5)
    rev = server.store.current_rev
    renewed: list[tuple[int, RpcError | None]] = []
    for _ in range(5):
        node.loop.advance(SECOND)
        server.lease_renew(5, lambda ttl, error: renewed.append((ttl, error)))
    assert renewed == [(2, None)] * 5
    assert node.get(b"a") == b"1"
    node.loop.advance(3 * SECOND)
    assert node.get(b"a") is None
    assert not server.lessor.exists(5)
    assert server.store.current_rev == rev + 1
    assert server.stats.lease_expired_total == 1
    looks: list[tuple[Lease | None, int, RpcError | None]] = []
    server.lease_time_to_live(granted.ID, lambda *look: looks.append(look))
    server.lease_time_to_live(5, lambda *look: looks.append(look))
    assert looks[0][0] is not None
    assert looks[0][1] == 2
    assert looks[1] == (None, 0, None)
    server.lease_renew(5, lambda ttl, error: renewed.append((ttl, error)))
    assert renewed[-1] == (0, None)


def test_revoking_deletes_in_one_revision() -> None:
    node = Node().start()
    node.grant(5, 100)
    rev = node.server.store.current_rev
    assert revoke(node, 5).header.revision == rev
    fails(errors.LEASE_NOT_FOUND, revoke, node, 5)
    node.grant(5, 100)
    for number in range(5):
        node.put(b"k%d" % number, b"", lease=5)
    rev = node.server.store.current_rev
    assert revoke(node, 5).header.revision == rev + 1
    assert node.range(b"k0", b"k9").count == 0


def test_renewing_an_expired_lease_waits_for_its_end() -> None:
    node = Node().start()
    server = node.server
    node.grant(5, 2)
    lease = server.lessor.lookup(5)
    assert lease is not None
    lease.expiry_ns = node.loop.now_ns - 1
    renewed: list[tuple[int, RpcError | None]] = []
    server.lease_renew(5, lambda ttl, error: renewed.append((ttl, error)))
    assert renewed == []
    node.loop.advance(3 * SECOND)
    assert renewed == [(0, None)]
    assert not server.lessor.exists(5)


def test_many_leases_end_together() -> None:
    node = Node().start()
    for lease_id in range(1, 101):
        node.grant(lease_id, 5)
        node.put(b"k%d" % lease_id, b"", lease=lease_id)
    most = 0

    def watch() -> bool:
        nonlocal most
        most = max(most, node.server._leasing._revoking)
        return not node.server.leases()

    node.loop.run_until(watch)
    assert most == 16
    assert node.range(b"k", b"l").count == 0
    assert node.server.stats.lease_expired_total == 100


def test_leases_outlive_a_restart() -> None:
    node = Node().start()
    node.grant(5, 10)
    node.put(b"k", b"v", lease=5)
    node.loop.advance(5 * SECOND)
    node.stop()
    again = Node(disk=node.disk, loop=node.loop).start()
    assert again.server.lessor.lookup(5).keys == {b"k"}  # type: ignore[union-attr]
    # The new leader extends it: its whole TTL and an election timeout.
    again.loop.advance(10 * SECOND)
    assert again.get(b"k") == b"v"
    again.loop.advance(3 * SECOND)
    assert again.get(b"k") is None


def test_snapshots_cut_the_log_and_a_restart_begins_there() -> None:
    config = ServerConfig(snapshot_count=100, snapshot_catchup_entries=20)
    node = Node(config=config).start()
    for number in range(350):
        node.put(b"k%d" % (number % 50), b"%d" % number)
        node.loop.advance(MS)
    node.loop.advance(SECOND)
    storage = node.parts.raft_storage
    index = storage.snapshot().index
    assert index >= 300
    assert storage.first_index() == index - 20 + 1
    names = [name for name in node.disk.list_dir("d/member/snap") if name.endswith(".snap")]
    assert len(names) == 3
    node.loop.advance(40 * SECOND)
    revision = node.server.store.current_rev
    node.stop()
    again = Node(disk=node.disk, loop=node.loop, config=config)
    assert again.parts.raft_storage.snapshot().index == index
    again.start()
    assert again.server.store.current_rev == revision
    assert again.get(b"k7") == b"307"
    assert again.server.cluster.member_list()[0].name == "m1"


def test_old_files_are_purged() -> None:
    config = ServerConfig(snapshot_count=10, max_snapshots=2)
    node = Node(config=config).start()
    for number in range(100):
        node.put(b"k", b"%d" % number)
        node.loop.advance(MS)
    node.loop.advance(31 * SECOND)
    names = [name for name in node.disk.list_dir("d/member/snap") if name.endswith(".snap")]
    assert len(names) == 2


def test_stop_finishes_what_is_under_way() -> None:
    node = Node(config=ServerConfig(sync_inline_ns=0)).start()
    answer = Answer()
    request = PutRequest(key=b"k", value=b"v")
    node.server.put(request, request.SerializeToString(), answer)
    node.stop()
    assert answer.response is not None
    late = Answer()
    node.server.put(request, b"", late)
    assert late.error is errors.STOPPED
    read = Answer()
    node.server.linearizable(lambda error: None)
    node.server.range(RangeRequest(key=b"k", serializable=True), read)
    again = Node(disk=node.disk).start()
    assert again.get(b"k") == b"v"


def test_a_failed_sync_is_fatal() -> None:
    for inline in (0, 10**12):
        node = Node(config=ServerConfig(sync_inline_ns=inline)).start()
        node.disk.fail("sync", errno.EIO, 0, "member/wal")
        answer = Answer()
        request = PutRequest(key=b"k", value=b"v")
        node.server.put(request, request.SerializeToString(), answer)
        node.loop.advance(SECOND)
        assert isinstance(node.loop.dead, OSError)
        assert not answer.done
        assert node.server._turn.dead


def test_without_a_leader_requests_time_out() -> None:
    node = Node().start()
    node.server._turn.leader = 0
    node.server._turn.reads_at_once = False
    node.server._turn.sole_voter = False
    answer, read = Answer(), Answer()
    request = PutRequest(key=b"k", value=b"v")
    node.server.put(request, request.SerializeToString(), answer)
    errors_seen: list[RpcError | None] = []
    node.server.linearizable(errors_seen.append)
    called: list[int] = []
    node.server.no_leader_calls.append(lambda: called.append(1))
    assert read.done is False
    node.loop.advance(6900 * MS)
    assert not answer.done
    assert called
    node.loop.advance(300 * MS)
    assert answer.error is NEVER_PROPOSED
    assert node.server._proposals.queue == []


def to_version_3_6(node: Node) -> None:
    """What a leader of etcd's own 3.6 does."""
    request = ClusterVersionSetRequest(ver="3.6.0")
    node.server._members._propose(CLUSTER_VERSION_SET, request, request.SerializeToString(), Answer())
    node.loop.advance(10 * SECOND)
    assert node.server.cluster.version == V3_6
    assert node.server.backend.get(schema.META, schema.STORAGE_VERSION) == b"3.6.0"


def test_reserved_requests_of_services() -> None:
    node = Node().start()
    outcomes: list[object] = []
    node.server.downgrade(0, "3.4", outcomes.append)
    node.server.downgrade(0, "3.5", outcomes.append)
    assert outcomes == [None, errors.INVALID_DOWNGRADE_TARGET_VERSION]
    outcomes.clear()
    to_version_3_6(node)
    node.server.move_leader(node.server.member_id, outcomes.append)
    node.server.move_leader(77, outcomes.append)
    node.server.downgrade(0, "3.5", outcomes.append)
    node.server.downgrade(0, "3.4", outcomes.append)
    node.server.downgrade(0, "x", outcomes.append)
    assert outcomes == [
        None,
        errors.BAD_LEADER_TRANSFEREE,
        None,
        errors.INVALID_DOWNGRADE_TARGET_VERSION,
        errors.WRONG_DOWNGRADE_VERSION_FORMAT,
    ]
    node.server.member_remove(node.server.member_id, outcomes.append)
    assert outcomes[-1] is errors.MEMBER_NOT_ENOUGH_STARTED
    node.server.member_update(node.server.member_id, ["http://127.0.0.1:9999"], outcomes.append)
    node.loop.run_until(lambda: len(outcomes) == 7)
    assert outcomes[-1] is None
    assert node.server.cluster.member_list()[0].peer_urls == ["http://127.0.0.1:9999"]
    node.server.member_promote(77, outcomes.append)
    assert outcomes[-1] is errors.MEMBER_NOT_FOUND
    nobody: list[object] = []
    node.server.member_remove(0, nobody.append)
    node.loop.run_until(lambda: len(nobody) == 1)
    node.server.member_update(0, ["http://127.0.0.1:9998"], nobody.append)
    node.loop.run_until(lambda: len(nobody) == 2)
    assert nobody == [errors.MEMBER_NOT_FOUND] * 2
    assert node.server.cluster.downgrade.enabled is False
    node.server.downgrade(1, "3.5", outcomes.append)
    node.loop.run_until(lambda: len(outcomes) == 9)
    node.server.downgrade(1, "3.5", outcomes.append)
    assert outcomes[-1] is errors.DOWNGRADE_IN_PROCESS
    node.loop.advance(10 * SECOND)
    assert str(node.server.cluster.version) == "3.5.0"
    assert node.server.backend.get(schema.META, schema.STORAGE_VERSION) is None
    node.server.downgrade(2, "", outcomes.append)
    node.loop.advance(10 * SECOND)
    assert outcomes[-1] is None
    assert node.server.cluster.downgrade.enabled is False
    assert str(node.server.cluster.version) == "3.5.0"


class Lines(NullLog):
    def __init__(self) -> None:
        self.raft: list[str] = []

    def info(self, caller: str, msg: str, **fields: object) -> None:
        if fields.get("logger") == "raft":
            self.raft.append(msg)


def test_a_change_of_leader_is_said_as_etcd_says_it() -> None:
    log = Lines()
    node = Node(log=log).start()
    mine = f"{node.server.member_id:x}"
    assert f"raft.node: {mine} elected leader {mine} at term 2" in log.raft
    node.server._turn._note_leader(0)
    node.server._turn._note_leader(7)
    node.server._turn._note_leader(10)
    assert log.raft[-3:] == [
        f"raft.node: {mine} lost leader {mine} at term 2",
        f"raft.node: {mine} elected leader 7 at term 2",
        f"raft.node: {mine} changed leader from 7 to a at term 2",
    ]


def test_reads_that_take_long_leave_the_rest_for_the_next_turn() -> None:
    node = Node().start()
    node.put(b"k", b"v")
    ran: list[tuple[int, int]] = []
    turns = 0

    def slow(number: int) -> Callable[[RpcError | None], None]:
        def then(error: RpcError | None) -> None:
            assert error is None
            node.loop.now_ns += 10_000_000
            ran.append((turns, number))

        return then

    node.server.run_reads([Read(None, None, slow(number), 0) for number in range(30)])
    assert len(ran) == 7
    while len(ran) < 30:
        turns += 1
        assert turns < 50
        node.loop.step()
    assert [number for _, number in ran] == list(range(30))
    assert max(sum(1 for turn, _ in ran if turn == one) for one in range(turns + 1)) <= 8
    node.stop()
