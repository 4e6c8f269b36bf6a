"""Power cuts at every operation of the disk: what was acknowledged is there, and nothing is there in half.

The workload is a fixed list of requests, sent in small batches. A run without a cut notes the whole state at each
revision. With a cut at the n-th disk operation, the member that starts on what is left must show the state of some
revision at least as new as the last one acknowledged, byte for byte, with the leases that go with it.
"""

from __future__ import annotations

import random

import pytest

from quorate.ports import File
from quorate.proto.rpc_pb2 import (
    CompactionRequest,
    DeleteRangeRequest,
    LeaseGrantRequest,
    LeaseRevokeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from quorate.proto.rpc_pb2 import PutResponse as AnyResponse
from quorate.server.config import ServerConfig
from tests.fakes.disk import PowerCut, SimDisk
from tests.server.world import MS, SECOND, Answer, FakeLoop, Node, new_disk

BATCH = 3
CUTS = 12  # a part; the parts begin at different operations


def workload() -> list[tuple[str, object]]:
    rng = random.Random(1)
    requests: list[tuple[str, object]] = [("lease_grant", LeaseGrantRequest(ID=5, TTL=10_000))]
    for number in range(45):
        key = b"k%d" % rng.randrange(6)
        kind = rng.randrange(10)
        if kind < 5:
            requests.append(("put", PutRequest(key=key, value=b"%d" % number * 30, lease=rng.choice([0, 5]))))
        elif kind < 7:
            requests.append(("delete_range", DeleteRangeRequest(key=key, range_end=rng.choice([b"", b"k3"]))))
        else:
            ops = [
                RequestOp(request_put=PutRequest(key=b"t%d" % part, value=b"%d" % number, ignore_lease=False))
                for part in range(3)
            ]
            ops.append(RequestOp(request_delete_range=DeleteRangeRequest(key=key)))
            requests.append(("txn", TxnRequest(success=ops)))
        if number % 15 == 14:
            requests.append(("compact", CompactionRequest(revision=number - 8)))
        if number == 20:
            requests.append(("lease_revoke", LeaseRevokeRequest(ID=5)))
            requests.append(("lease_grant", LeaseGrantRequest(ID=5, TTL=10_000)))
    return requests


REQUESTS = workload()


def state(node: Node) -> tuple[int, bytes, list[bytes]]:
    answer = Answer()
    node.server.range(RangeRequest(key=b"\0", range_end=b"\0"), answer)
    node.loop.run_until(lambda: answer.done)
    lease = node.server.lessor.lookup(5)
    assert answer.response is not None
    body = AnyResponse.FromString(answer.response)
    # The keys, without the header, whose term may differ.
    rest = answer.response[2 + answer.response[1] :]
    return body.header.revision, rest, sorted(lease.keys) if lease else [b"-"]


class Run:
    """The workload on one member; `acked_rev` is the newest revision that a client has heard of."""

    def __init__(self, disk: SimDisk, inline: bool, requests: int = len(REQUESTS)) -> None:
        self.disk = disk
        self.inline = inline
        self.requests = REQUESTS[:requests]
        self.acked_rev = 0
        self.acked = 0
        self.states: dict[int, set[tuple[bytes, tuple[bytes, ...]]]] = {}

    def config(self) -> ServerConfig:
        return ServerConfig(snapshot_count=20, snapshot_catchup_entries=5, sync_inline_ns=10**9 if self.inline else 0)

    def go(self, note: bool) -> None:
        node = Node(disk=self.disk, config=self.config())
        node.server.start()
        node.loop.run_until(lambda: node.server.published)
        for start in range(0, len(self.requests), 1 if note else BATCH):
            answers = []
            for method, request in self.requests[start : start + (1 if note else BATCH)]:
                answer = Answer()
                raw = request.SerializeToString()  # type: ignore[attr-defined]
                getattr(node.server, method)(request, raw, answer)
                answers.append(answer)
            node.loop.run_until(lambda answers=answers: all(answer.done for answer in answers))
            for answer in answers:
                if answer.response is not None:
                    self.acked_rev = max(self.acked_rev, AnyResponse.FromString(answer.response).header.revision)
            self.acked += len(answers)
            if note:
                self.note(node)
            node.loop.advance(40 * MS)
        node.loop.advance(SECOND)

    def note(self, node: Node) -> None:
        rev, kvs, keys = state(node)
        self.states.setdefault(rev, set()).add((kvs, tuple(keys)))


@pytest.fixture(scope="module")
def reference() -> dict[int, set[tuple[bytes, tuple[bytes, ...]]]]:
    run = Run(SimDisk(), True)
    run.states[1] = {(b"", (b"-",))}
    run.go(True)
    return run.states


def operations(inline: bool) -> int:
    disk = new_disk(0)
    before = disk.operations
    Run(disk, inline).go(False)
    return disk.operations - before


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("part", range(4))
def test_power_cuts(reference: dict[int, set[tuple[bytes, tuple[bytes, ...]]]], inline: bool, part: int) -> None:
    total = operations(inline)
    assert total > 100
    for cut in range(1 + part * 7, total, total // CUTS):
        disk = new_disk(cut)
        run = Run(disk, inline)
        disk.stop_at(cut)
        with pytest.raises(PowerCut):
            run.go(False)
        disk.crash()
        check(reference, run, disk, cut)


# The first life: nothing is on the disk yet, no directory either.

FIRST_REQUESTS = 12


class FirstDisk(SimDisk):
    """A disk on which the process can also be killed: the page cache stays, handles and locks are gone."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.handles: list[File] = []

    def open(self, path: str, create: bool = False, read_only: bool = False, mode: int = 0o600) -> File:
        self.handles.append(super().open(path, create, read_only, mode))
        return self.handles[-1]

    def kill(self) -> None:
        for handle in self.handles:
            handle.close()
        self.handles = []
        self.stop_at(None)
        self.epoch += 1


def first_operations() -> int:
    disk = FirstDisk(0)
    Run(disk, True, FIRST_REQUESTS).go(False)
    return disk.operations


def test_power_cuts_in_the_first_life(reference: dict[int, set[tuple[bytes, tuple[bytes, ...]]]]) -> None:
    total = first_operations()
    assert total > 40
    for cut in range(1, total + 1):
        disk = FirstDisk(cut)
        run = Run(disk, True, FIRST_REQUESTS)
        disk.stop_at(cut)
        with pytest.raises(PowerCut):
            run.go(False)
        disk.crash()
        check(reference, run, disk, cut)


def test_a_first_start_that_was_killed_and_then_the_power(
    reference: dict[int, set[tuple[bytes, tuple[bytes, ...]]]],
) -> None:
    """The second start finds what the first has made, perhaps only in the page cache, and must not rely on it."""
    for cut in range(1, first_operations() + 1):
        disk = FirstDisk(cut)
        disk.stop_at(cut)
        with pytest.raises(PowerCut):
            Run(disk, True, FIRST_REQUESTS).go(False)
        disk.kill()
        node = Node(disk=disk, config=ServerConfig(sync_inline_ns=10**9)).start()
        node.put(b"after the kill", b"x")
        rev = node.server.store.current_rev
        disk.kill()
        disk.crash()
        again = Node(disk=disk, config=ServerConfig(sync_inline_ns=10**9)).start()
        assert again.get(b"after the kill") == b"x", f"killed at {cut}"
        assert again.server.store.current_rev == rev


def check(reference: dict[int, set[tuple[bytes, tuple[bytes, ...]]]], run: Run, disk: SimDisk, cut: int) -> None:
    node = Node(disk=disk, config=run.config(), loop=FakeLoop(cut))
    node.server.start()
    node.loop.run_until(lambda: node.server.published)
    rev, kvs, keys = state(node)
    assert rev >= run.acked_rev, f"cut at {cut}: revision {rev}, acknowledged {run.acked_rev}"
    assert (kvs, tuple(keys)) in reference[rev], f"cut at {cut}: revision {rev} shows what never was"
    # And it lives: it takes writes, stops, and starts again with them.
    node.put(b"after", b"x")
    node.stop()
    again = Node(disk=disk, config=run.config(), loop=node.loop).start()
    assert again.get(b"after") == b"x"
    assert again.server.store.current_rev == rev + 1
