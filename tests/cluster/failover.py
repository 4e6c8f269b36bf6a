"""How long a cluster of real processes cannot write after its leader is killed, as multiples of the election timeout.

    python -m tests.cluster.failover --kind ours --members 3 --kills 20

Every round: clients put on every other member each 10 ms, the leader gets SIGKILL, and the first put that was asked for
after that and acknowledged ends the gap. The victim then starts again. What is printed depends on the machine's load;
it is for comparing kinds of members in the same minutes.
"""

from __future__ import annotations

import argparse
import random
import statistics
import threading
import time

import grpc

from quorate.proto.rpc_pb2 import PutRequest, PutResponse
from tests.cluster.harness import Cluster
from tests.oracle import Member

ELECTION_S = 1.0
EVERY_S = 0.01


class Puts(threading.Thread):
    """A client of one member: asks every 10 ms, without waiting for answers."""

    def __init__(self, member: Member) -> None:
        super().__init__(daemon=True)
        self.member = member
        self.ended = threading.Event()
        self.done: list[tuple[float, float]] = []  # (asked, acknowledged)

    def run(self) -> None:
        with grpc.insecure_channel(self.member.endpoint) as channel:
            put = channel.unary_unary("/etcdserverpb.KV/Put", PutRequest.SerializeToString, PutResponse.FromString)
            while not self.ended.wait(EVERY_S):
                asked = time.monotonic()
                future = put.future(PutRequest(key=b"k", value=b"v"), timeout=6)
                future.add_done_callback(lambda it, asked=asked: self._note(it, asked))

    def _note(self, future: grpc.Future, asked: float) -> None:
        if not future.cancelled() and future.exception() is None:
            self.done.append((asked, time.monotonic()))


def gap_s(made: Cluster, limit_s: float = 15) -> float:
    """Kill the leader; return how long it took until somebody's later put was acknowledged. It is not started again."""
    leader = made.leader()
    clients = [Puts(member) for member in made.members if member is not leader]
    for client in clients:
        client.start()
    deadline = time.monotonic() + limit_s
    while not all(client.done for client in clients):
        assert time.monotonic() < deadline, "no puts before the kill"
        time.sleep(EVERY_S)
    killed = time.monotonic()
    leader.kill()
    try:
        while True:
            found = [done for client in clients for asked, done in client.done if asked > killed]
            if found:
                return min(found) - killed
            assert time.monotonic() < killed + limit_s, f"no writes: {made.running()[0].log_tail()}"
            time.sleep(EVERY_S)
    finally:
        for client in clients:
            client.ended.set()
        for client in clients:
            client.join(10)


def gaps(kind: str, members: int, kills: int) -> list[float]:
    """Return the gaps of so many kills in one cluster, in election timeouts."""
    made = Cluster([kind] * members)
    found = []
    try:
        made.start()
        for _ in range(kills):
            found.append(gap_s(made) / ELECTION_S)
            victim = next(member for member in made.members if member.process is None)
            victim.start()
            time.sleep(random.uniform(0.0, 0.5))
    finally:
        made.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=["ours", "real"], default="ours")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--kills", type=int, default=20)
    chosen = parser.parse_args()
    found = sorted(gaps(chosen.kind, chosen.members, chosen.kills))
    print(f"{chosen.kind}, {chosen.members} members, {len(found)} kills: gaps in election timeouts")
    print(" ".join(f"{gap:.2f}" for gap in found))
    late = sum(gap > 2 for gap in found)
    print(f"median {statistics.median(found):.2f}, largest {found[-1]:.2f}, over two: {late}")


if __name__ == "__main__":
    main()
