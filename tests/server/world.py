"""A member in a virtual world: a loop with virtual time, the simulated disk, and the real rooms put together."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush

from quorate.errors import RpcError
from quorate.ports import Completion, Disk, Log, Loop, NullLog, Timer
from quorate.proto.rpc_pb2 import (
    DeleteRangeRequest,
    LeaseGrantRequest,
    PutRequest,
    RangeRequest,
    RangeResponse,
    TxnRequest,
)
from quorate.server.bootstrap import Bootstrap, BootstrapOptions
from quorate.server.config import ServerConfig
from quorate.server.core import Server
from tests.fakes.disk import SimDisk

MS = 1_000_000
SECOND = 1_000_000_000


class FakeTimer(Timer):
    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class FakeLoop(Loop):
    """Virtual time. A job of the storage thread takes `work_ns`; `fatal` ends the world."""

    def __init__(self, seed: int = 0, work_ns: int = MS) -> None:
        self.now_ns = 1_000 * SECOND
        self.work_ns = work_ns
        self.rng = random.Random(seed)
        self.ready: deque[Callable[[], None]] = deque()
        self.timers: list[tuple[int, int, FakeTimer]] = []
        self.jobs: deque[tuple[Callable[[], object], Callable[[object, BaseException | None], None]]] = deque()
        self.number = 0
        self.dead: BaseException | None = None

    def monotonic_ns(self) -> int:
        return self.now_ns

    def time_ns(self) -> int:
        return 1_700_000_000 * SECOND + self.now_ns

    def soon(self, call: Callable[[], None]) -> None:
        self.ready.append(call)

    def later(self, delay_ns: int, call: Callable[[], None]) -> Timer:
        timer = FakeTimer(call)
        self.number += 1
        heappush(self.timers, (self.now_ns + delay_ns, self.number, timer))
        return timer

    def work(self, job: Callable[[], object], done: Callable[[object, BaseException | None], None]) -> None:
        self.jobs.append((job, done))
        if len(self.jobs) == 1:
            self.later(self.work_ns, self._finish_job)

    def _finish_job(self) -> None:
        job, done = self.jobs[0]
        result: object = None
        error: BaseException | None = None
        try:
            result = job()
        except Exception as trouble:
            error = trouble
        self.jobs.popleft()
        if self.jobs:
            self.later(self.work_ns, self._finish_job)
        done(result, error)

    def random_bits(self, bits: int) -> int:
        return self.rng.getrandbits(bits)

    def fatal(self, error: BaseException) -> None:
        self.dead = error

    # -- driving

    def settle(self) -> None:
        """Run what is ready now, and nothing that needs time."""
        for _ in range(100_000):
            if not self.ready or self.dead is not None:
                return
            self.ready.popleft()()
        raise AssertionError("the loop never comes to rest")

    def step(self) -> bool:
        """Run what is ready, else go to the next timer."""
        if self.dead is not None:
            return False
        if self.ready:
            self.ready.popleft()()
            return True
        if not self.timers:
            return False
        at, _, timer = heappop(self.timers)
        self.now_ns = max(self.now_ns, at)
        if timer.call is not None:
            timer.call()
        return True

    def advance(self, duration_ns: int) -> None:
        """Let time pass."""
        end = self.now_ns + duration_ns
        while self.dead is None and (self.ready or (self.timers and self.timers[0][0] <= end)):
            self.step()
        self.now_ns = max(self.now_ns, end)

    def run_until(self, condition: Callable[[], bool], limit_ns: int = 60 * SECOND) -> None:
        end = self.now_ns + limit_ns
        while not condition():
            assert self.dead is None, self.dead
            assert self.now_ns < end, "nothing happened"
            assert self.step(), "nothing is left to happen"


class Answer(Completion):
    """Keeps the outcome."""

    def __init__(self) -> None:
        self.response: bytes | None = None
        self.error: RpcError | None = None

    def complete(self, response: bytes) -> None:
        assert not self.done, "answered twice"
        self.response = response

    def fail(self, error: RpcError) -> None:
        assert not self.done, "answered twice"
        self.error = error

    @property
    def done(self) -> bool:
        return self.response is not None or self.error is not None


def new_disk(seed: int = 0) -> SimDisk:
    """Return a disk on which the directories are there, and durable: making them is not this test's business."""
    disk = SimDisk(seed)
    disk.make_dirs("d/member/snap")
    for path in ("", "d", "d/member"):
        disk.sync_dir(path)
    return disk


class Node:
    """A single member on a disk; `restart` makes another one of the same data."""

    def __init__(
        self,
        disk: Disk | None = None,
        config: ServerConfig | None = None,
        loop: FakeLoop | None = None,
        log: Log | None = None,
    ) -> None:
        self.disk = new_disk() if disk is None else disk
        self.config = ServerConfig() if config is None else config
        self.config.name = "m1"
        self.config.client_urls = ["http://127.0.0.1:2379"]
        self.config.data_dir = "d"
        self.config.snap_dir = "d/member/snap"
        self.config.wal_dir = "d/member/wal"
        self.loop = FakeLoop() if loop is None else loop
        self.log = NullLog() if log is None else log
        options = BootstrapOptions(
            initial_cluster={"m1": ["http://127.0.0.1:2380"]}, peer_urls=["http://127.0.0.1:2380"]
        )
        self.parts = Bootstrap(self.loop, self.disk, self.log, self.config, options).run()
        self.server = Server(self.parts)

    def start(self) -> Node:
        self.server.start()
        self.loop.run_until(lambda: self.server.published)
        return self

    def stop(self) -> None:
        stopped: list[bool] = []
        self.server.stop(lambda: stopped.append(True))
        self.loop.run_until(lambda: bool(stopped))

    # -- requests that wait

    def call(self, method: Callable[[object, bytes, Completion], None], request: object) -> bytes:
        answer = Answer()
        method(request, request.SerializeToString(), answer)  # type: ignore[attr-defined]
        self.loop.run_until(lambda: answer.done)
        if answer.error is not None:
            raise answer.error.with_traceback(None)
        assert answer.response is not None
        return answer.response

    def put(self, key: bytes, value: bytes, **fields: object) -> bytes:
        return self.call(self.server.put, PutRequest(key=key, value=value, **fields))  # type: ignore[arg-type]

    def delete(self, key: bytes, end: bytes = b"") -> bytes:
        return self.call(self.server.delete_range, DeleteRangeRequest(key=key, range_end=end))  # type: ignore[arg-type]

    def txn(self, request: TxnRequest) -> bytes:
        return self.call(self.server.txn, request)  # type: ignore[arg-type]

    def grant(self, lease_id: int, ttl_s: int) -> bytes:
        return self.call(self.server.lease_grant, LeaseGrantRequest(ID=lease_id, TTL=ttl_s))  # type: ignore[arg-type]

    def range(self, key: bytes, end: bytes = b"", **fields: object) -> RangeResponse:
        answer = Answer()
        self.server.range(RangeRequest(key=key, range_end=end, **fields), answer)  # type: ignore[arg-type]
        self.loop.run_until(lambda: answer.done)
        if answer.error is not None:
            raise answer.error.with_traceback(None)
        assert answer.response is not None
        return RangeResponse.FromString(answer.response)

    def get(self, key: bytes) -> bytes | None:
        kvs = self.range(key).kvs
        return kvs[0].value if kvs else None
