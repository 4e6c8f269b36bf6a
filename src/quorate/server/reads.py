"""Linearizable reads: they wait until this member has applied everything that was acknowledged before they came.

A sole voter that has committed in its term needs nobody's word: what it has applied is all there is. Otherwise the
reads that came during a turn share one ReadIndex; while it is under way later ones gather for the next. The answer
names an index, and the reads run when that is applied.

Source: etcd server/etcdserver/v3_server.go, linearizableReadLoop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.errors import LEADER_CHANGED, TIMEOUT, RpcError
from quorate.measure import format_duration
from quorate.ports import Completion, Log
from quorate.server.entry import RequestIds
from quorate.server.stats import ServerStats

_CALLER: Final = "etcdserver/v3_server.go"
_TIMED_OUT: Final = "timed out waiting for read index response (local node might have slow network)"
_OUT_OF_DATE: Final = (
    "ignored out-of-date read index response; local node read indexes queueing up and waiting to be in sync with leader"
)

Then = Callable[[RpcError | None], None]


class Read:
    """One waiting read: a request with its completion, or a callback."""

    def __init__(
        self, request: object, done: Completion | None, then: Then | None, tick: int, begun_ns: int = 0
    ) -> None:
        self.request = request
        self.done = done
        self.then = then
        self.tick = tick
        self.begun_ns = begun_ns

    def fail(self, error: RpcError) -> None:
        """Tell whoever waits that the read failed."""
        if self.then is not None:
            self.then(error)
        elif self.done is not None:
            self.done.fail(error)


class Reads:
    """The reads that wait, in three stages: gathered, asked (one batch), and confirmed but not yet applied."""

    def __init__(
        self, ids: RequestIds, timeout_ticks: int, retry_ticks: int, tick_ns: int, stats: ServerStats, log: Log
    ) -> None:
        self._tick_ns = tick_ns
        self._log = log
        self._newest = b""  # the context asked last
        self._ids = ids
        self._stats = stats
        self._timeout_ticks = timeout_ticks
        self._retry_ticks = retry_ticks
        self.gathered: list[Read] = []
        self._asked: list[Read] = []
        self._contexts: set[bytes] = set()
        self._asked_tick = 0
        self._had_leader = False
        self._confirmed: list[tuple[int, list[Read]]] = []  # (index, reads), ascending
        self.tick = 0

    def waiting(self) -> bool:
        """Tell whether any read waits."""
        return bool(self.gathered or self._asked or self._confirmed)

    def next_context(self, leader: int, again: bool = False) -> bytes:
        """Return the context of a ReadIndex to ask now, b"" when there is none to ask.

        `again`: ask for the batch under way once more, because the answer may have been lost or refused.
        """
        if not self._asked:
            if not self.gathered:
                return b""
            self._asked = self.gathered
            self.gathered = []
            self._contexts = set()
            self._had_leader = leader != 0
        elif not again:
            if self.tick - self._asked_tick < self._retry_ticks:
                return b""
            fields: dict[str, object] = {"sent-request-id": int.from_bytes(self._newest, "big")}
            fields["retry-timeout"] = format_duration(self._retry_ticks * self._tick_ns)
            self._log.warn(_CALLER, "waiting for ReadIndex response took too long, retrying", **fields)
        self._asked_tick = self.tick
        self._had_leader = self._had_leader or leader != 0
        context = self._ids.next_id().to_bytes(8, "big")
        self._contexts.add(context)
        self._newest = context
        return context

    def confirm(self, context: bytes, index: int) -> None:
        """Take raft's answer; one to an older batch is ignored."""
        if context in self._contexts:
            self._confirmed.append((index, self._asked))
            self._asked = []
            self._contexts = set()
        else:
            self._stats.slow_read_indexes_total += 1
            fields: dict[str, object] = {"sent-request-id": int.from_bytes(self._newest, "big")}
            fields["received-request-id"] = int.from_bytes(context, "big")
            self._log.warn(_CALLER, _OUT_OF_DATE, **fields)

    def confirm_all(self, index: int) -> None:
        """Let every read that waits run at this index: the word of a sole voter."""
        reads = self._asked + self.gathered
        self._asked = []
        self._contexts = set()
        self.gathered = []
        if reads:
            self._confirmed.append((index, reads))

    def take_ready(self, applied_index: int) -> list[Read]:
        """Return the reads that may run now."""
        ready: list[Read] = []
        while self._confirmed and self._confirmed[0][0] <= applied_index:
            ready += self._confirmed.pop(0)[1]
        return ready

    def put_back(self, reads: list[Read]) -> None:
        """Let reads that might run run next time."""
        self._confirmed.insert(0, (0, reads))

    def leader_changed(self) -> None:
        """Another leader than the one that was asked: its answer would prove nothing.

        While nobody leads the reads wait, for a leader or for the time to be up, as etcd's do.
        """
        if self._asked and self._had_leader:
            asked = self._asked
            self._asked = []
            self._contexts = set()
            self._stats.read_indexes_failed_total += 1
            self._fail(asked, LEADER_CHANGED)

    def expire(self) -> None:
        """Fail reads that have waited too long."""
        oldest_tick = self.tick - self._timeout_ticks
        expired = [read for read in self._asked if read.tick <= oldest_tick]
        expired += [read for read in self.gathered if read.tick <= oldest_tick]
        if expired:
            if self._asked:
                self._stats.slow_read_indexes_total += 1
                took = format_duration(self._timeout_ticks * self._tick_ns)
                self._log.warn(_CALLER, _TIMED_OUT, timeout=took)
            self._asked = [read for read in self._asked if read.tick > oldest_tick]
            self.gathered = [read for read in self.gathered if read.tick > oldest_tick]
            self._fail(expired, TIMEOUT)
        kept: list[tuple[int, list[Read]]] = []
        for index, reads in self._confirmed:
            expired = [read for read in reads if read.tick <= oldest_tick]
            if expired:
                reads = [read for read in reads if read.tick > oldest_tick]
                self._fail(expired, TIMEOUT)
            if reads:
                kept.append((index, reads))
        self._confirmed = kept

    def fail_all(self, error: RpcError) -> None:
        """Fail every read that waits."""
        reads = self.gathered + self._asked
        for _, confirmed in self._confirmed:
            reads += confirmed
        self.gathered = []
        self._asked = []
        self._contexts = set()
        self._confirmed = []
        self._fail(reads, error)

    def _fail(self, reads: list[Read], error: RpcError) -> None:
        for read in reads:
            read.fail(error)
