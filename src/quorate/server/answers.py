"""Reads that may run now, answered from the store: ranges, and transactions that only read."""

from __future__ import annotations

from typing import Final, cast

from quorate.errors import RpcError
from quorate.ports import Completion, Loop
from quorate.proto.rpc_pb2 import RangeRequest, TxnRequest
from quorate.server.execute import Executor
from quorate.server.reads import Read
from quorate.server.refusals import Refusals
from quorate.server.slow import SlowLog
from quorate.server.stats import ServerStats

SLICE_NS: Final = 20_000_000


class Answers:
    """Answers reads; `slow_ns` is the time from a read's coming on from which it is logged as slow."""

    def __init__(
        self, loop: Loop, executor: Executor, refusals: Refusals, stats: ServerStats, slow: SlowLog, slow_ns: int
    ) -> None:
        self._loop = loop
        self._executor = executor
        self._refusals = refusals
        self._stats = stats
        self._slow = slow
        self._slow_ns = slow_ns

    def run(self, reads: list[Read]) -> int:
        """Answer reads until they have taken SLICE_NS; return how many were answered."""
        began_ns = self._loop.monotonic_ns()
        for place, read in enumerate(reads):
            if place & 7 == 7 and self._loop.monotonic_ns() - began_ns > SLICE_NS:
                return place
            then = read.then
            done = read.done
            if then is not None:
                then(None)
            elif done is not None:
                if isinstance(read.request, RangeRequest):
                    self.range(read.request, done, read.begun_ns)
                else:
                    self.txn(cast(TxnRequest, read.request), done, read.begun_ns)
        return len(reads)

    def range(self, request: RangeRequest, done: Completion, begun_ns: int) -> None:
        """Answer a range."""
        if request.range_end and done.put_off():
            return
        refused = self._refusals.read(done, request.key, request.range_end)
        if refused is not None:
            done.fail(refused)
            return
        start_ns = self._loop.monotonic_ns()
        if begun_ns == 0:  # it has not waited
            begun_ns = start_ns
        try:
            response = self._executor.range(request)
        except RpcError as error:
            error.__traceback__ = None
            self._stats.failed_range_seconds.observe((self._loop.monotonic_ns() - start_ns) / 1e9)
            done.fail(error)
            return
        end_ns = self._loop.monotonic_ns()
        self._stats.range_seconds.observe((end_ns - start_ns) / 1e9)
        if end_ns - begun_ns > self._slow_ns:
            self._slow.read(request, response, None, begun_ns, start_ns)
        done.complete(response)

    def txn(self, request: TxnRequest, done: Completion, begun_ns: int) -> None:
        """Answer a transaction that only reads."""
        if done.put_off():
            return
        refused = self._refusals.txn(done, request)
        if refused is not None:
            done.fail(refused)
            return
        start_ns = self._loop.monotonic_ns()
        if begun_ns == 0:  # it has not waited
            begun_ns = start_ns
        try:
            response = self._executor.read_only_txn(request)
        except RpcError as error:
            error.__traceback__ = None
            done.fail(error)
            return
        if self._loop.monotonic_ns() - begun_ns > self._slow_ns:
            self._slow.read(request, response, None, begun_ns, start_ns)
        done.complete(response)
