"""Kill a member at random instants under concurrent writers and check that nothing acknowledged is lost.

    python -m tests.crash.harness [--kills 200] [--seed N]

Each life of the member: start it, check every acknowledgement of the life before, let the writers work, SIGKILL it at
a random instant (in some lives already while it starts). The writers put, delete, run transactions and grant leases;
each remembers only what was acknowledged, with its revision. Checked after each restart: the last acknowledged value
of every key (or a later, unacknowledged one that was under way), the revision, every acknowledged lease, and that a
watch from the life's first revision replays every acknowledged change in order. At the end all lives are checked again,
and the stopped data directory is read by real etcd.
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc

from quorate.proto import kv_pb2
from quorate.proto import rpc_pb2 as pb
from tests.oracle import Member

WRITERS = 8
KEYS_PER_WRITER = 40


@dataclass
class Change:
    """One acknowledged change of a key; `value` is None for a deletion."""

    key: bytes
    value: bytes | None
    revision: int


@dataclass
class Record:
    """What the writers know."""

    changes: list[Change] = field(default_factory=list)
    doubtful: dict[bytes, set[bytes | None]] = field(default_factory=dict)
    leases: set[int] = field(default_factory=set)
    revision: int = 1


class Stubs:
    """grpcio stubs on one channel."""

    def __init__(self, endpoint: str) -> None:
        self.channel = grpc.insecure_channel(endpoint, options=[("grpc.enable_retries", 0)])
        self.put = self._unary("/etcdserverpb.KV/Put", pb.PutResponse)
        self.delete = self._unary("/etcdserverpb.KV/DeleteRange", pb.DeleteRangeResponse)
        self.txn = self._unary("/etcdserverpb.KV/Txn", pb.TxnResponse)
        self.range = self._unary("/etcdserverpb.KV/Range", pb.RangeResponse)
        self.grant = self._unary("/etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantResponse)
        self.leases = self._unary("/etcdserverpb.Lease/LeaseLeases", pb.LeaseLeasesResponse)
        self.watch = self.channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=pb.WatchRequest.SerializeToString,
            response_deserializer=pb.WatchResponse.FromString,
        )

    def _unary(self, path: str, response: type) -> grpc.UnaryUnaryMultiCallable:
        return self.channel.unary_unary(
            path, request_serializer=lambda m: m.SerializeToString(), response_deserializer=response.FromString
        )


class Writer(threading.Thread):
    """Writes to keys of its own until the member dies."""

    def __init__(self, number: int, endpoint: str, life: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.endpoint = endpoint
        self.life = life
        self.rng = random.Random(seed)
        self.record = Record()
        self.failed: Exception | None = None

    def run(self) -> None:
        """Write until a call fails; a refused call is a bug, a broken connection is the kill."""
        stubs = Stubs(self.endpoint)
        count = 0
        try:
            while True:
                count += 1
                self._step(stubs, count)
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                self.failed = error
        except Exception as error:
            self.failed = error
        finally:
            stubs.channel.close()

    def _step(self, stubs: Stubs, count: int) -> None:
        key = b"w%d/%d" % (self.number, self.rng.randrange(KEYS_PER_WRITER))
        value = b"life %d write %d " % (self.life, count) + b"x" * self.rng.choice((0, 10, 300, 5000))
        kind = self.rng.random()
        doubt = self.record.doubtful.setdefault(key, set())
        if kind < 0.7:
            doubt.add(value)
            answer = stubs.put(pb.PutRequest(key=key, value=value), timeout=20)
            self._know(key, value, answer.header.revision)
        elif kind < 0.8:
            doubt.add(None)
            answer = stubs.delete(pb.DeleteRangeRequest(key=key), timeout=20)
            if answer.deleted:
                self._know(key, None, answer.header.revision)
        elif kind < 0.95:
            other = key + b"/second"
            self.record.doubtful.setdefault(other, set()).add(value)
            doubt.add(value)
            ops = [pb.RequestOp(request_put=pb.PutRequest(key=k, value=value)) for k in (key, other)]
            answer = stubs.txn(pb.TxnRequest(success=ops), timeout=20)
            self._know(key, value, answer.header.revision)
            self._know(other, value, answer.header.revision)
        else:
            lease = self.rng.randrange(1, 2**62)
            stubs.grant(pb.LeaseGrantRequest(ID=lease, TTL=100_000), timeout=20)
            self.record.leases.add(lease)

    def _know(self, key: bytes, value: bytes | None, revision: int) -> None:
        self.record.changes.append(Change(key, value, revision))
        self.record.doubtful[key] = set()
        self.record.revision = max(self.record.revision, revision)


class Crash:
    """The whole run."""

    def __init__(self, kills: int, seed: int) -> None:
        self.kills = kills
        self.seed = seed
        self.rng = random.Random(seed)
        self.member = Member("ours", flags=["--snapshot-count=2000"])
        self.leases: set[int] = set()
        self.latest: dict[bytes, Change] = {}
        self.doubtful: dict[bytes, set[bytes | None]] = {}
        self.acknowledged = 0
        self.first_revision = 1
        self.pending: list[Change] = []
        self.revision = 1

    def run(self) -> None:
        """Kill, restart and check."""
        try:
            for life in range(self.kills):
                self._live(life)
            self.member.start()
            self._check()
            assert self.member.stop() in (-15, 143)
            self._check_with_real()
        finally:
            self.member.close()

    def _live(self, life: int) -> None:
        if self.rng.random() < 0.1:
            self.member.start(wait=False)
            time.sleep(self.rng.random() * 0.6)
            self.member.kill()
            return
        self.member.start()
        self._check()
        writers = [Writer(n, self.member.endpoint, life, self.rng.randrange(2**32)) for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        time.sleep(self.rng.choice((0.02, 0.1, 0.3, 0.6)) * (0.2 + self.rng.random()))
        self.member.kill()
        for writer in writers:
            writer.join(30)
            assert not writer.is_alive()
            if writer.failed is not None:
                raise writer.failed
        self._collect([writer.record for writer in writers])

    def _collect(self, records: list[Record]) -> None:
        self.pending = []
        for record in records:
            self.acknowledged += len(record.changes) + len(record.leases)
            self.leases |= record.leases
            self.pending += record.changes
            self.revision = max(self.revision, record.revision)
            for change in record.changes:
                self.latest[change.key] = change
            for key, values in record.doubtful.items():
                self.doubtful[key] = self.doubtful.get(key, set()) | values
                if any(change.key == key for change in record.changes):
                    self.doubtful[key] = set(values)

    def _check(self) -> None:
        stubs = Stubs(self.member.endpoint)
        try:
            answer = stubs.range(pb.RangeRequest(key=b"\0", range_end=b"\0"), timeout=60)
            assert answer.header.revision >= self.revision, "the revision went backwards"
            self._check_values({kv.key: kv for kv in answer.kvs})
            listed = {lease.ID for lease in stubs.leases(pb.LeaseLeasesRequest(), timeout=60).leases}
            assert self.leases <= listed, f"lost leases {self.leases - listed}"
            if self.pending:
                self._check_history(stubs, answer.header.revision)
            self.revision = answer.header.revision
            self.first_revision = answer.header.revision + 1
        finally:
            stubs.channel.close()

    def _check_values(self, found: dict[bytes, kv_pb2.KeyValue]) -> None:
        for key, change in self.latest.items():
            kv = found.get(key)
            value = kv.value if kv else None
            allowed = {change.value} | self.doubtful.get(key, set())
            assert value in allowed, f"{key!r}: found {value!r}, acknowledged {change}, under way {allowed}"
            if value == change.value and kv and not self.doubtful.get(key):
                assert kv.mod_revision == change.revision, f"{key!r}: {kv.mod_revision} is not {change.revision}"
        known = self.latest.keys() | self.doubtful.keys()
        assert found.keys() <= known, f"keys from nowhere: {found.keys() - known}"

    def _check_history(self, stubs: Stubs, last: int) -> None:
        """Replay the life's changes with a watch: every acknowledged one is there, in order, once."""
        first = self.first_revision
        create = pb.WatchCreateRequest(key=b"\0", range_end=b"\0", start_revision=first)
        seen: dict[tuple[bytes, int], bytes | None] = {}
        at = 0
        over = threading.Event()
        call = stubs.watch(iter_open(pb.WatchRequest(create_request=create), over), timeout=60)
        if last >= first:
            for response in call:
                assert not response.canceled, response
                for event in response.events:
                    assert event.kv.mod_revision >= at, "events out of order"
                    at = event.kv.mod_revision
                    key = (event.kv.key, at)
                    assert key not in seen, "an event twice"
                    seen[key] = event.kv.value if event.type == kv_pb2.Event.PUT else None
                if at >= last:
                    break
        over.set()
        call.cancel()
        for change in self.pending:
            assert seen.get((change.key, change.revision), b"absent") == change.value, f"not in history: {change}"
        self.pending = []

    def _check_with_real(self) -> None:
        real = Member("real", data_dir=self.member.data_dir)
        real.peer_port = self.member.peer_port
        try:
            real.start()
            stubs = Stubs(real.endpoint)
            answer = stubs.range(pb.RangeRequest(key=b"\0", range_end=b"\0"), timeout=60)
            self._check_values({kv.key: kv for kv in answer.kvs})
            stubs.channel.close()
        finally:
            real.close()


def iter_open(request: pb.WatchRequest, over: threading.Event) -> Iterator[pb.WatchRequest]:
    """Yield one request and keep the stream open until it is over."""
    yield request
    over.wait()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    crash = Crash(options.kills, options.seed)
    crash.run()
    print(f"{options.kills} kills, {crash.acknowledged} acknowledged changes and leases, none lost")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
