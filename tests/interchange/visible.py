"""What a client can see of a member, and a history that leaves something of everything."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from quorate.proto import rpc_pb2 as pb
from tests.oracle import Member

NOSPACE = pb.AlarmType.NOSPACE
OPTIONS = [("grpc.max_receive_message_length", -1)]


@dataclass
class View:
    """Everything that must survive a change of hands; only terms and times are left out."""

    revision: int
    compact_revision: int
    hash: int
    kvs: list[bytes]
    at_older_revisions: list[list[bytes]]
    leases: dict[int, tuple[int, list[bytes]]]
    history: list[bytes]
    members: list[bytes]
    cluster_id: int
    alarms: list[tuple[int, int]]


class Client:
    """A gRPC client that nobody here wrote, with the calls that this room needs."""

    def __init__(self, member: Member) -> None:
        self.channel = grpc.insecure_channel(member.endpoint, OPTIONS)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def call(self, service: str, method: str, request: object, answer: type) -> object:
        """Make a unary call."""
        stub = self.channel.unary_unary(
            f"/etcdserverpb.{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,  # type: ignore[attr-defined]
        )
        return stub(request, timeout=10, wait_for_ready=True)

    def range_all(self, revision: int = 0) -> pb.RangeResponse:
        """Read every key."""
        return self.call(
            "KV", "Range", pb.RangeRequest(key=b"\0", range_end=b"\0", revision=revision), pb.RangeResponse
        )  # type: ignore[return-value]

    def put(self, key: bytes, value: bytes, lease: int = 0) -> pb.PutResponse:
        """Write one key."""
        return self.call("KV", "Put", pb.PutRequest(key=key, value=value, lease=lease), pb.PutResponse)  # type: ignore[return-value]

    def alarm(self, action: int, member_id: int = 0) -> pb.AlarmResponse:
        """Get (0), raise (1) or disarm (2) NOSPACE."""
        kind = NOSPACE if action else pb.AlarmType.NONE
        return self.call(
            "Maintenance", "Alarm", pb.AlarmRequest(action=action, memberID=member_id, alarm=kind), pb.AlarmResponse
        )  # type: ignore[arg-type,return-value]

    def watch_history(self, start: int, end: int) -> list[bytes]:
        """Return every event from one revision to another, with the previous values."""
        stream = self.channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=pb.WatchRequest.SerializeToString,
            response_deserializer=pb.WatchResponse.FromString,
        )
        create = pb.WatchCreateRequest(key=b"\0", range_end=b"\0", start_revision=start, prev_kv=True)
        call = stream(iter([pb.WatchRequest(create_request=create)]), timeout=10)
        events: list[bytes] = []
        for response in call:
            assert not response.canceled, response
            events += [event.SerializeToString() for event in response.events]
            if response.events and response.events[-1].kv.mod_revision >= end:
                break
        call.cancel()
        return events

    def leases(self) -> dict[int, tuple[int, list[bytes]]]:
        """Return the leases' granted TTLs and keys by id."""
        listed = self.call("Lease", "LeaseLeases", pb.LeaseLeasesRequest(), pb.LeaseLeasesResponse)
        found = {}
        for status in listed.leases:  # type: ignore[attr-defined]
            request = pb.LeaseTimeToLiveRequest(ID=status.ID, keys=True)
            answer = self.call("Lease", "LeaseTimeToLive", request, pb.LeaseTimeToLiveResponse)
            assert 0 < answer.TTL <= answer.grantedTTL  # type: ignore[attr-defined]
            found[status.ID] = (answer.grantedTTL, sorted(answer.keys))  # type: ignore[attr-defined]
        return found

    def hash_kv(self) -> pb.HashKVResponse:
        """Hash the whole history."""
        return self.call("Maintenance", "HashKV", pb.HashKVRequest(), pb.HashKVResponse)  # type: ignore[return-value]

    def view(self) -> View:
        """Look at everything."""
        everything = self.range_all()
        hashed = self.hash_kv()
        revision, compacted = everything.header.revision, hashed.compact_revision
        first = max(compacted, 1)
        older = range(first, revision, max(1, (revision - first) // 5))
        members = self.call("Cluster", "MemberList", pb.MemberListRequest(linearizable=True), pb.MemberListResponse)
        return View(
            revision,
            compacted,
            hashed.hash,
            [kv.SerializeToString() for kv in everything.kvs],
            [[kv.SerializeToString() for kv in self.range_all(rev).kvs] for rev in older],
            self.leases(),
            self.watch_history(first, revision),
            [member.SerializeToString() for member in members.members],  # type: ignore[attr-defined]
            everything.header.cluster_id,
            [(alarm.memberID, alarm.alarm) for alarm in self.alarm(0).alarms],
        )

    def write_history(self, number: int) -> None:
        """Write something of everything; `number` tells the rounds apart. Ends with the alarm raised."""
        member_id = self.range_all().header.member_id
        self.alarm(2, member_id)
        lease = 1000 + number
        self.call("Lease", "LeaseGrant", pb.LeaseGrantRequest(ID=lease, TTL=5000 + number), pb.LeaseGrantResponse)
        self.call("Lease", "LeaseGrant", pb.LeaseGrantRequest(ID=lease + 500, TTL=900), pb.LeaseGrantResponse)
        for part in range(30):
            self.put(b"k%02d" % part, b"%d of %d" % (part, number) * part, lease if part % 3 == 0 else 0)
        self.put(b"gone with its lease %d" % number, b"x", lease + 500)
        self.call("Lease", "LeaseRevoke", pb.LeaseRevokeRequest(ID=lease + 500), pb.LeaseRevokeResponse)
        for part in range(0, 30, 7):
            request = pb.DeleteRangeRequest(key=b"k%02d" % part, range_end=b"k%02d" % (part + 2))
            self.call("KV", "DeleteRange", request, pb.DeleteRangeResponse)
        revision = self.put(b"k00", b"back").header.revision
        compaction = pb.CompactionRequest(revision=revision - 15, physical=True)
        self.call("KV", "Compact", compaction, pb.CompactionResponse)
        for part in range(10):
            compare = pb.Compare(key=b"t%d" % part, target=pb.Compare.VERSION, result=pb.Compare.GREATER, version=1)
            change = [pb.RequestOp(request_put=pb.PutRequest(key=b"t%d" % part, value=b"%d" % number))]
            both = [*change, pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=b"k%02d" % part))]
            self.call("KV", "Txn", pb.TxnRequest(compare=[compare], success=change, failure=both), pb.TxnResponse)
        self.alarm(1, member_id)
