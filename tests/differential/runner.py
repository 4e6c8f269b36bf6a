"""Send each request to real etcd and to ours, and compare what comes back.

Both servers get the same requests in the same order, so their revisions and contents are the same. After a difference
nothing can be said any more: every later example reports that difference again. What may differ (`same`):

    cluster and member ids, raft terms, names and URLs       are each member's own
    hash_revision of HashKV                                  only 3.6 fills it
    Hash                                                     covers the members' own names
    which error, when two of a transaction's operations      3.5.1 checks all puts before all ranges, 3.6 in order
      cannot be executed
    a colon in the text for a malformed message on a stream  came with the gRPC library of 3.6
    a field of a wrong wire type in Range                    we take it for an unknown one, as 3.7 does
    order of keys that sort equal, and of a lease's keys     is not specified
    the batches in which a watcher gets its events           depend on timing
    answers to progress requests                             3.5.1 answers at once, 3.6 when all watchers are in step
"""

from __future__ import annotations

import hashlib
import queue
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

import grpc

from quorate.api.strict import complaint
from quorate.ports import NullLog
from quorate.proto import rpc_pb2 as pb
from quorate.runtime.disk import OsDisk
from quorate.storage.bolt.db import Db
from tests.differential.requests import State
from tests.oracle import Member

KV = "/etcdserverpb.KV/"
LEASE = "/etcdserverpb.Lease/"
MAINTENANCE = "/etcdserverpb.Maintenance/"
CLUSTER = "/etcdserverpb.Cluster/"

RESPONSES = {
    KV + "Range": pb.RangeResponse,
    KV + "Put": pb.PutResponse,
    KV + "DeleteRange": pb.DeleteRangeResponse,
    KV + "Txn": pb.TxnResponse,
    KV + "Compact": pb.CompactionResponse,
    LEASE + "LeaseGrant": pb.LeaseGrantResponse,
    LEASE + "LeaseRevoke": pb.LeaseRevokeResponse,
    LEASE + "LeaseTimeToLive": pb.LeaseTimeToLiveResponse,
    LEASE + "LeaseLeases": pb.LeaseLeasesResponse,
    MAINTENANCE + "Status": pb.StatusResponse,
    MAINTENANCE + "Hash": pb.HashResponse,
    MAINTENANCE + "HashKV": pb.HashKVResponse,
    MAINTENANCE + "Alarm": pb.AlarmResponse,
    MAINTENANCE + "Defragment": pb.DefragmentResponse,
    MAINTENANCE + "MoveLeader": pb.MoveLeaderResponse,
    MAINTENANCE + "Downgrade": pb.DowngradeResponse,
    CLUSTER + "MemberList": pb.MemberListResponse,
    CLUSTER + "MemberAdd": pb.MemberAddResponse,
    CLUSTER + "MemberRemove": pb.MemberRemoveResponse,
    CLUSTER + "MemberUpdate": pb.MemberUpdateResponse,
    CLUSTER + "MemberPromote": pb.MemberPromoteResponse,
    KV + "Nothing": pb.RangeResponse,
    "/etcdserverpb.Nothing/Range": pb.RangeResponse,
}

# Errors of a transaction's operations, found before anything is executed.
CHECK_ERRORS = {
    ("NOT_FOUND", "etcdserver: requested lease not found"),
    ("INVALID_ARGUMENT", "etcdserver: key not found"),
    ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted"),
    ("OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision"),
}

# A key that only `Runner.settle` writes and watches.
SENTINEL = b"~settled"
SENTINEL_ID = 1000

COMPARED_BUCKETS = [b"key", b"lease", b"alarm"]

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class DifferenceError(AssertionError):
    """The two servers answered differently."""


class WatchLine:
    """One watch stream, with everything that came back on it by watch id."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.outbox: queue.Queue[pb.WatchRequest | bytes | None] = queue.Queue()
        self.responses: list[pb.WatchResponse] = []
        self.end: object = None
        call = channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=_encode,
            response_deserializer=pb.WatchResponse.FromString,
        )
        self.call = call(self._requests())
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _requests(self) -> Iterator[pb.WatchRequest | bytes]:
        while (request := self.outbox.get()) is not None:
            yield request

    def _read(self) -> None:
        try:
            for response in self.call:
                self.responses.append(response)
            self.end = "OK"
        except grpc.RpcError as error:
            self.end = _status(error)

    def close(self) -> None:
        """End the stream."""
        self.outbox.put(None)
        self.call.cancel()
        self.reader.join(5)

    def ids(self) -> set[int]:
        """Return the ids of the watchers that have been created."""
        return {r.watch_id for r in list(self.responses) if r.created}

    def sentinels(self, watch_id: int) -> set[int]:
        """Return the revisions of which a watcher of the sentinel has heard."""
        return {e.kv.mod_revision for r in list(self.responses) if r.watch_id == watch_id for e in r.events}

    def summary(self) -> dict[int, list[object]]:
        """Return, by watch id, the control messages and the flattened events; how events are batched may differ."""
        found: dict[int, list[object]] = {-2: [self.end]} if self.end else {}
        for r in list(self.responses):
            if r.watch_id in (SENTINEL_ID, SENTINEL_ID + 1):
                continue
            if r.watch_id == -1 and not r.created and not r.canceled:
                continue  # 3.5.1 answers progress requests at once and unordered, 3.6 only when all are synced
            items = found.setdefault(r.watch_id, [])
            if r.created or r.canceled:
                items.append((r.created, r.canceled, r.compact_revision, r.cancel_reason))
            for event in r.events:
                if event.kv.key != SENTINEL:
                    items.append((event.type, event.kv.SerializeToString(), event.prev_kv.SerializeToString()))
        return found


class Side:
    """One server's stubs."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.channel = grpc.insecure_channel(member.endpoint, OPTIONS)
        self.calls = {
            path: self.channel.unary_unary(path, request_serializer=_encode, response_deserializer=kind.FromString)
            for path, kind in RESPONSES.items()
        }
        self.snapshot = self.channel.unary_stream(
            MAINTENANCE + "Snapshot",
            request_serializer=_encode,
            response_deserializer=pb.SnapshotResponse.FromString,
        )
        self.keepalive = self.channel.stream_stream(
            LEASE + "LeaseKeepAlive",
            request_serializer=_encode,
            response_deserializer=pb.LeaseKeepAliveResponse.FromString,
        )

    def identity(self) -> tuple[int, list[str]]:
        """Return the id and the peer URLs of the one member."""
        member = self.calls[CLUSTER + "MemberList"](pb.MemberListRequest(), timeout=15).members[0]
        return member.ID, list(member.peerURLs)

    def close(self) -> None:
        """Close the channel."""
        self.channel.close()


class Runner:
    """Both sides and what is known about them."""

    def __init__(self, real: Member, ours: Member) -> None:
        self.real = Side(real)
        self.ours = Side(ours)
        self.state = State()
        self.operations = 0
        self.watches: tuple[WatchLine, WatchLine] | None = None
        self.trace: list[tuple[str, object]] = []
        self.difference = ""
        self.corrupt = False  # nothing can be written just now
        self.watched = False  # a watcher was created in this example
        self.new_watcher = False  # since all were last seen to be in step

    def close(self) -> None:
        """Close both sides."""
        self.end_watches()
        self.real.close()
        self.ours.close()

    def call(self, path: str, request: object, to_ours: object = None) -> tuple[object, object]:
        """Make one call on both and compare; return both outcomes (a message, or a (code, text) pair).

        A request is a message or its bytes. Ours gets `to_ours`, when that is given: the same, with the ids of ours.
        """
        if path == KV + "Compact":
            self.settle()  # whether a watcher that still catches up is cancelled by it depends on timing
        self.trace.append((path, request))
        requests = (request, request if to_ours is None else to_ours)
        sides = (self.real, self.ours)
        futures = [side.calls[path].future(r, timeout=15) for side, r in zip(sides, requests, strict=True)]
        real, ours = (_outcome(future) for future in futures)
        self.operations += 1
        if isinstance(ours, pb.LeaseTimeToLiveResponse) and to_ours is not None:
            assert ours.ID == requests[1].ID
            ours.ID = request.ID
        if not same(path, request, real, ours):
            if path == MAINTENANCE + "HashKV":
                self.take_snapshot()  # says more about it
            self.differ(real, ours)
        self.learn(path, request, real)
        return real, ours

    def differ(self, real: object, ours: object) -> NoReturn:
        """Raise, with what was sent in this example."""
        steps = "\n".join(f"{path} {_short(request)}" for path, request in self.trace[-60:])
        self.difference = f"{steps}\nreal: {_short(real, 1500)}\nours: {_short(ours, 1500)}"
        raise DifferenceError(self.difference)

    def learn(self, path: str, request: object, outcome: object) -> None:
        """Follow the revisions."""
        if isinstance(outcome, tuple) or not hasattr(outcome, "header"):
            return
        before = self.state.revision
        revision = outcome.header.revision
        if path == KV + "Compact":
            self.state.compacted.add(request.revision)
        if revision > before:
            self.state.revision = revision
            if path != KV + "Put":
                self.state.deletions.add(revision)  # it may hold one

    def reset(self) -> None:
        """Start an example: one key, two leases, fresh streams; revisions in requests count from here."""
        if self.difference:
            raise DifferenceError(self.difference)
        self.end_watches()
        self.trace = []
        listed, _ = self.call(LEASE + "LeaseLeases", pb.LeaseLeasesRequest())
        for lease in listed.leases:
            self.call(LEASE + "LeaseRevoke", pb.LeaseRevokeRequest(ID=lease.ID))
        self.call(KV + "DeleteRange", pb.DeleteRangeRequest(key=b"\0", range_end=b"\0"))
        self.call(KV + "Put", pb.PutRequest(key=b"start", value=b"0"))
        for lease in (1, 2):
            self.call(LEASE + "LeaseGrant", pb.LeaseGrantRequest(TTL=100_000, ID=lease))
        self.state.base = self.state.revision
        self.watched = self.new_watcher = False
        self.watches = (WatchLine(self.real.channel), WatchLine(self.ours.channel))
        request = pb.WatchCreateRequest(key=SENTINEL, watch_id=SENTINEL_ID)
        for line in self.watches:
            line.outbox.put(pb.WatchRequest(create_request=request))
            _wait(lambda line=line: line.responses, line)

    def watch(self, request: pb.WatchRequest) -> None:
        """Send a watch request on both streams and wait for what must come before anything else may happen."""
        assert self.watches is not None
        if request.HasField("cancel_request") and request.cancel_request.watch_id in self.watches[0].ids():
            self.settle()  # how much a watcher that still catches up has seen when it is cancelled depends on timing
        self.trace.append(("Watch", request))
        before = [len(line.responses) for line in self.watches]
        for line in self.watches:
            line.outbox.put(request)
        self.operations += 1
        if request.HasField("create_request"):
            self.watched = self.new_watcher = True
            for line, count in zip(self.watches, before, strict=True):
                _wait(lambda line=line, count=count: any(r.created or r.canceled for r in line.responses[count:]), line)

    def settle(self) -> None:
        """Compare everything that the watchers of both sides have seen, when they have seen all there is so far.

        Watchers that are behind catch up together, so when one that is created now has, the others have as well. And
        what a stream is sent before a new write comes before it.
        """
        if self.watches is None or not self.watched or self.corrupt:
            return
        real, ours = self.watches
        if self.new_watcher:
            self.new_watcher = False
            self.call(KV + "Put", pb.PutRequest(key=SENTINEL))
            request = pb.WatchCreateRequest(key=SENTINEL, start_revision=self.state.revision, watch_id=SENTINEL_ID + 1)
            for line in self.watches:
                line.outbox.put(pb.WatchRequest(create_request=request))
                _wait(lambda line=line: self.state.revision in line.sentinels(SENTINEL_ID + 1), line)
                line.outbox.put(pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=SENTINEL_ID + 1)))
        self.call(KV + "Put", pb.PutRequest(key=SENTINEL))
        for line in self.watches:
            _wait(lambda line=line: self.state.revision in line.sentinels(SENTINEL_ID), line)
        if real.summary() != ours.summary():
            self.differ(*_unequal(real.summary(), ours.summary()))

    def end_watches(self) -> None:
        """Close the streams."""
        for line in self.watches or ():
            line.close()
        self.watches = None

    def grant_any(self, ttl: int) -> list[pb.LeaseGrantResponse]:
        """Let each side pick the id of a new lease."""
        request = pb.LeaseGrantRequest(TTL=ttl)
        self.trace.append((LEASE + "LeaseGrant", request))
        answers = [side.calls[LEASE + "LeaseGrant"](request, timeout=15) for side in (self.real, self.ours)]
        self.operations += 1
        if not all(a.ID > 0 and ttl == a.TTL and a.header.revision == self.state.revision for a in answers):
            self.differ(*answers)
        return answers

    def renew(self, ids: list[int], behind: bytes = b"") -> None:
        """Send keepalives on both, and maybe odd bytes, and compare the answers and how it ended."""
        requests: list[object] = [pb.LeaseKeepAliveRequest(ID=i) for i in ids]
        if behind:
            requests.append(behind)
        self.trace.append(("LeaseKeepAlive", (ids, behind)))
        answers = []
        for side in (self.real, self.ours):
            found: list[object] = []
            try:
                for r in side.keepalive(iter(requests), timeout=15):
                    found.append((r.ID, r.TTL, r.header.revision))
                found.append("OK")
            except grpc.RpcError as error:
                found.append(_status(error))
            answers.append(found)
        self.operations += len(requests)
        if answers[0] != answers[1]:
            self.differ(answers[0], answers[1])

    def take_snapshot(self) -> None:
        """Stream a snapshot from ours and from real: equal in shape, whole, and with the same content."""
        self.trace.append(("Snapshot", ""))
        contents = []
        for side in (self.real, self.ours):
            parts = list(side.snapshot(pb.SnapshotRequest(), timeout=30))
            blob = b"".join(p.blob for p in parts[:-1])
            left = len(blob)
            for part in parts[:-1]:
                left -= len(part.blob)
                assert part.remaining_bytes == left
            assert parts[-1].remaining_bytes == 0
            assert parts[-1].blob == hashlib.sha256(blob).digest()
            assert all(len(p.blob) == 32768 for p in parts[:-2])
            contents.append(_content(blob))
        self.operations += 1
        for bucket in COMPARED_BUCKETS:
            real, ours = (content[bucket] for content in contents)
            if real != ours:
                both = set(real) & set(ours)
                self.differ((bucket, sorted(set(real) - both)[:5]), (bucket, sorted(set(ours) - both)[:5]))

    def end_stream(self, path: str, garbage: bytes) -> None:
        """Send bytes that are no request on a new stream and compare how it ends."""
        self.trace.append((path, garbage))
        ends = []
        for side in (self.real, self.ours):
            call = side.channel.stream_stream(path)
            try:
                answers: object = list(call(iter([garbage]), timeout=5))
            except grpc.RpcError as error:
                answers = _status(error)
            ends.append(answers)
        self.operations += 1
        if ends[0] != ends[1]:
            self.differ(ends[0], ends[1])

    def fragments(self, values: int, prev: bool) -> None:
        """Let one watcher catch up with more than fits a message, in fragments, and compare those as they came."""
        start = self.state.revision + 1
        for number in range(values):
            self.call(KV + "Put", pb.PutRequest(key=b"big", value=b"%d" % number * 700_000))
        request = pb.WatchRequest(
            create_request=pb.WatchCreateRequest(key=b"big", start_revision=start, fragment=True, prev_kv=prev)
        )
        self.trace.append(("Watch", request))
        shapes = []
        for side in (self.real, self.ours):
            line = WatchLine(side.channel)
            line.outbox.put(request)
            _wait(lambda line=line: sum(len(r.events) for r in line.responses) >= values, line)
            shapes.append([(r.fragment, r.watch_id, r.header.revision, len(r.events)) for r in line.responses])
            line.close()
        self.operations += 1
        if shapes[0] != shapes[1]:
            self.differ(shapes[0], shapes[1])
        # Give the space back.
        self.call(KV + "DeleteRange", pb.DeleteRangeRequest(key=b"big"))
        self.call(KV + "Put", pb.PutRequest(key=b"start", value=b"1"))
        self.call(KV + "Compact", pb.CompactionRequest(revision=self.state.revision, physical=True))


def _unequal(real: dict[int, list[object]], ours: dict[int, list[object]]) -> tuple[object, object]:
    """Return, of the first watcher that differs, what each side saw from the first difference on."""
    for key in sorted(set(real) | set(ours)):
        a, b = real.get(key, []), ours.get(key, [])
        if a != b:
            same_until = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            return (key, same_until, a[same_until:]), (key, same_until, b[same_until:])
    raise AssertionError("nothing differs")


def _encode(request: object) -> bytes:
    return request if isinstance(request, bytes) else request.SerializeToString()


def _short(thing: object, size: int = 250) -> str:
    text = " ".join(str(thing).split())
    return text if len(text) <= size else text[:size] + "..."


def _content(blob: bytes) -> dict[bytes, list[tuple[bytes, bytes]]]:
    """Load a snapshot as the database it is, check it, and return its buckets."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(blob)
        file.flush()
        db = Db.open(OsDisk(), file.name, NullLog(), read_only=True)
        try:
            assert list(db.check()) == []
            view = db.begin_read()
            found = {}
            for name in COMPARED_BUCKETS:
                tree = view.bucket(name)
                found[name] = [] if tree is None else tree.range(b"", None, 0)
            view.close()
            return found
        finally:
            db.close()


def _wait(condition: object, line: WatchLine) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        if time.monotonic() > deadline:
            raise DifferenceError(f"no answer to a watch request: {line.responses}")
        time.sleep(0.001)


def _outcome(future: grpc.Future) -> object:
    try:
        return future.result()
    except grpc.RpcError as error:
        return _status(error)


def _status(error: grpc.RpcError) -> tuple[str, str]:
    # The gRPC library in 3.5.1 has no colon there, the one in 3.6 has.
    text = re.sub("(failed to unmarshal the received message):? ", r"\1: ", error.details() or "")
    return error.code().name, text


def same(path: str, request: object, real: object, ours: object) -> bool:
    """Tell whether two outcomes of one request are the same for a client."""
    if isinstance(real, tuple) or isinstance(ours, tuple):
        if path == KV + "Range" and isinstance(request, bytes) and (text := complaint(pb.RangeRequest, request)):
            return real == ("INTERNAL", "grpc: error unmarshalling request: " + text)
        if path == KV + "Txn" and {real, ours} <= CHECK_ERRORS:
            return real == ours or _count_ops(_parsed(pb.TxnRequest, request)) > 1
        return real == ours
    a, b = type(real).FromString(real.SerializeToString()), type(ours).FromString(ours.SerializeToString())
    for message in (a, b):
        _clear_identity(message)
    if path == KV + "Range":
        return _same_range(_parsed(pb.RangeRequest, request), a, b)
    if path == KV + "Txn":
        return _same_txn(_parsed(pb.TxnRequest, request), a, b)
    if path == LEASE + "LeaseTimeToLive":
        near = abs(a.TTL - b.TTL) <= 1
        a.TTL = b.TTL = 0
        a.keys.sort()
        b.keys.sort()
        return near and a == b
    if path == LEASE + "LeaseLeases":
        return sorted(x.ID for x in a.leases) == sorted(x.ID for x in b.leases)
    if path == MAINTENANCE + "HashKV":
        b.hash_revision = 0
        return a == b
    if path == MAINTENANCE + "Hash":
        return a.header == b.header  # over all buckets, which hold each member's own names
    if path == MAINTENANCE + "Status":
        return (a.header, list(a.errors), a.isLearner, bool(a.leader)) == (
            b.header,
            list(b.errors),
            b.isLearner,
            bool(b.leader),
        )
    if path.startswith(CLUSTER):
        return len(a.members) == len(b.members)
    return a == b


def _parsed(kind: type, request: object) -> object:
    return kind.FromString(request) if isinstance(request, bytes) else request


def _count_ops(txn: pb.TxnRequest) -> int:
    return sum(
        1 + (_count_ops(op.request_txn) if op.HasField("request_txn") else 0) for op in (*txn.success, *txn.failure)
    )


def _clear_identity(message: object) -> None:
    if message.HasField("header"):
        message.header.cluster_id = message.header.member_id = message.header.raft_term = 0


SORT_FIELD = {1: "version", 2: "create_revision", 3: "mod_revision", 4: "value"}


def _same_range(request: pb.RangeRequest, a: pb.RangeResponse, b: pb.RangeResponse) -> bool:
    """Compare; where keys tie in an unspecified order, compare what is specified."""
    if request.sort_target == 0:
        return a == b
    field = SORT_FIELD[request.sort_target]
    order = [[getattr(kv, field) for kv in m.kvs] for m in (a, b)]
    if request.keys_only and field == "value":
        order = [[len(m.kvs)] for m in (a, b)]
    head = (a.header, a.more, a.count) == (b.header, b.more, b.count)
    if request.limit > 0 and a.more:
        return head and order[0] == order[1]
    content = [sorted(kv.SerializeToString() for kv in m.kvs) for m in (a, b)]
    return head and order[0] == order[1] and content[0] == content[1]


def _same_txn(request: pb.TxnRequest, a: pb.TxnResponse, b: pb.TxnResponse) -> bool:
    if (a.header, a.succeeded, len(a.responses)) != (b.header, b.succeeded, len(b.responses)):
        return False
    branch = request.success if a.succeeded else request.failure
    for op, x, y in zip(branch, a.responses, b.responses, strict=True):
        kind = op.WhichOneof("request")
        if x.WhichOneof("response") != y.WhichOneof("response"):
            return False
        if kind == "request_range":
            good = _same_range(op.request_range, x.response_range, y.response_range)
        elif kind == "request_txn":
            good = _same_txn(op.request_txn, x.response_txn, y.response_txn)
        else:
            good = x == y
        if not good:
            return False
    return True
