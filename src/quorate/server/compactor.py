"""Automatic compaction: which revision to compact to, and when. Sans-IO: times come in, revisions go out.

Contract: every `interval_ns` `AutoCompaction` asks `due`, proposes a compaction to the answer if it is not zero, and
tells success with `compacted`. Only the leader compacts (`paused`); every member goes on noting revisions.
Source: etcd server/etcdserver/api/v3compactor/{periodic,revision}.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mypy_extensions import mypyc_attr

from quorate.errors import COMPACTED, RpcError
from quorate.ports import Completion, Log, Loop
from quorate.proto.rpc_pb2 import CompactionRequest
from quorate.server.config import COMPACTOR_REVISION, ServerConfig
from quorate.server.entry import COMPACTION

SECOND: Final = 1_000_000_000
HOUR: Final = 3600 * SECOND
REVISION_INTERVAL_NS: Final = 300 * SECOND
SAMPLES_PER_INTERVAL: Final = 10


@mypyc_attr(allow_interpreted_subclasses=True)
class Compactor:
    """The rule by which history is dropped."""

    mode: str
    interval_ns: int
    """How often `due` is to be called."""

    def due(self, now_ns: int, rev: int, paused: bool) -> int:
        """Return the revision to compact to now, 0 for none; `rev` is the store's current revision."""
        raise NotImplementedError

    def compacted(self, now_ns: int, rev: int) -> None:
        """Note that the compaction to `rev` was done, now or before; a failed one is asked for again."""
        raise NotImplementedError


class PeriodicCompactor(Compactor):
    """Keeps the history of the last `period_ns`, compacting each period, but at least once an hour.

    Revisions are noted ten times an interval, so that the oldest one noted is always a whole period old.
    """

    def __init__(self, period_ns: int, now_ns: int, rev: int) -> None:
        self.mode = "periodic"
        self.period_ns = period_ns
        self._compact_interval_ns = min(period_ns, HOUR)
        self.interval_ns = max(1, self._compact_interval_ns // SAMPLES_PER_INTERVAL)
        self._keep = period_ns // self.interval_ns + 1
        self._revs = [rev]
        self._wait_ns = period_ns
        self._last_ns = now_ns
        self._last_rev = 0

    def due(self, now_ns: int, rev: int, paused: bool) -> int:
        """Return the oldest revision noted once the interval is over."""
        oldest = self._revs[0]
        self._revs.append(rev)
        if len(self._revs) > self._keep:
            del self._revs[0]
        if paused or now_ns - self._last_ns < self._wait_ns or oldest == self._last_rev:
            return 0
        # Only the first compaction waits for a whole period.
        self._wait_ns = self._compact_interval_ns
        return oldest

    def compacted(self, now_ns: int, rev: int) -> None:
        """Start the next interval."""
        self._last_ns = now_ns
        self._last_rev = rev


class RevisionCompactor(Compactor):
    """Keeps the last `retention` revisions, compacting every five minutes."""

    def __init__(self, retention: int) -> None:
        self.mode = "revision"
        self.retention = retention
        self.interval_ns = REVISION_INTERVAL_NS
        self._last_rev = 0

    def due(self, _now_ns: int, rev: int, paused: bool) -> int:
        """Return the revision that lies `retention` back, unless it was compacted already."""
        target = rev - self.retention
        if paused or target <= 0 or target == self._last_rev:
            return 0
        return target

    def compacted(self, _now_ns: int, rev: int) -> None:
        """Remember the revision."""
        self._last_rev = rev


class AutoCompaction:
    """The node's side: asks the rule in time and proposes what it says."""

    def __init__(
        self, loop: Loop, log: Log, config: ServerConfig, propose: Callable[[int, object, bytes, Completion], None]
    ) -> None:
        self._loop = loop
        self._log = log
        self._config = config
        self._propose = propose
        self._compactor: Compactor | None = None
        self._at_ns = 0

    def start(self, rev: int) -> None:
        """Begin, if it is wanted, at the store's current revision."""
        retention = self._config.auto_compaction_retention
        if retention <= 0:
            return
        now_ns = self._loop.monotonic_ns()
        if self._config.auto_compaction_mode == COMPACTOR_REVISION:
            self._compactor = RevisionCompactor(retention)
        else:
            self._compactor = PeriodicCompactor(retention, now_ns, rev)
        self._at_ns = now_ns + self._compactor.interval_ns

    def tick(self, rev: int, paused: bool) -> None:
        """Compact if it is time; called every tick."""
        compactor = self._compactor
        now_ns = self._loop.monotonic_ns()
        if compactor is None or now_ns < self._at_ns:
            return
        self._at_ns = now_ns + compactor.interval_ns
        target = compactor.due(now_ns, rev, paused)
        if target > 0:
            text = f"starting auto {compactor.mode} compaction"
            self._log.info(f"v3compactor/{compactor.mode}.go", text, revision=target)
            request = CompactionRequest(revision=target)
            done = _Compacted(self._loop, self._log, compactor, target)
            self._propose(COMPACTION, request, request.SerializeToString(), done)


class _Compacted(Completion):
    """Tells the compactor how its compaction ended."""

    def __init__(self, loop: Loop, log: Log, compactor: Compactor, rev: int) -> None:
        self._loop = loop
        self._log = log
        self._compactor = compactor
        self._rev = rev

    def complete(self, _response: bytes) -> None:
        """It is done."""
        mode = self._compactor.mode
        self._compactor.compacted(self._loop.monotonic_ns(), self._rev)
        self._log.info(f"v3compactor/{mode}.go", f"completed auto {mode} compaction", revision=self._rev)

    def fail(self, error: RpcError) -> None:
        """Somebody else has compacted as far; or it is asked for again."""
        if error is COMPACTED:
            self.complete(b"")
            return
        mode = self._compactor.mode
        text = f"failed auto {mode} compaction"
        self._log.warn(f"v3compactor/{mode}.go", text, revision=self._rev, error=error.text)
