"""Requests on their way through the log: those that wait for the next turn, and those that raft has taken.

A proposal is found again by the last bytes of its entry (server.entry), so an entry that was proposed here is never
parsed. `data` is compared as well: another member, or a client that knows our IDs, cannot make us answer for it.

Invariant: a proposal is in `_pending` from `add` until it is applied, timed out or failed; `queue` holds the data of
those that raft has not taken yet, oldest first; `leading` the data of those that only the leader of the present term
may propose. Python's dicts keep insertion order, so the oldest is at the front.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.auth.store import NOBODY, AuthInfo
from quorate.errors import DEADLINE_EXCEEDED, RpcError
from quorate.ports import Completion
from quorate.server.entry import RequestIds, entry_data

# A proposal that no leader ever took ends as if the client's own deadline had come (etcd: parseProposeCtxErr).
NEVER_PROPOSED: Final = RpcError(DEADLINE_EXCEEDED, "context deadline exceeded")

MAX_PENDING: Final = 1 << 16


class Pending:
    """One proposal: its parsed request, who waits for it, and whose it is."""

    def __init__(
        self,
        kind: int,
        request: object,
        done: Completion,
        data: bytes,
        tick: int,
        info: AuthInfo = NOBODY,
        begun_ns: int = 0,
    ) -> None:
        self.kind = kind
        self.request = request
        self.done = done
        self.data = data
        self.tick = tick
        self.info = info
        self.begun_ns = begun_ns  # 0: nobody asks how long it took


class Proposals:
    """All proposals of this member."""

    def __init__(self, ids: RequestIds) -> None:
        self._ids = ids
        self._suffix_bytes = ids.suffix_bytes
        self._pending: dict[bytes, Pending] = {}
        self.queue: list[bytes] = []
        self.leading: list[bytes] = []
        self.tick = 0  # counts the node's ticks: the clock of timeouts

    def __len__(self) -> int:
        return len(self._pending)

    def add(
        self,
        kind: int,
        request: object,
        raw: bytes,
        done: Completion,
        max_bytes: int,
        info: AuthInfo = NOBODY,
        begun_ns: int = 0,
    ) -> bool:
        """Queue a proposal. False, and nothing is queued, when the entry would be longer than `max_bytes`."""
        suffix = self._ids.next_suffix()
        data = entry_data(kind, raw, suffix if info is NOBODY else info.header + suffix)
        if len(data) > max_bytes:
            return False
        self._pending[suffix] = Pending(kind, request, done, data, self.tick, info, begun_ns)
        self.queue.append(data)
        return True

    def add_leading(self, kind: int, request: object, raw: bytes, done: Completion, info: AuthInfo = NOBODY) -> None:
        """Queue a proposal that is right only while this member leads: it is never forwarded to another leader."""
        suffix = self._ids.next_suffix()
        data = entry_data(kind, raw, info.header + suffix)
        self._pending[suffix] = Pending(kind, request, done, data, self.tick, info)
        self.leading.append(data)

    def withdraw(self, error: RpcError) -> None:
        """Fail the leader's own proposals that raft has not taken."""
        withdrawn = self.leading
        self.leading = []
        for data in withdrawn:
            pending = self._pending.pop(data[-self._suffix_bytes :], None)
            if pending is not None:
                pending.done.fail(error)

    def take(self, data: bytes) -> Pending | None:
        """Return and forget the proposal that made this entry, None when it is not ours."""
        suffix = data[-self._suffix_bytes :]
        pending = self._pending.pop(suffix, None)
        if pending is None or pending.data is data or pending.data == data:
            return pending
        self._pending[suffix] = pending
        return None

    def expire(self, max_ticks: int, reason: Callable[[int], RpcError]) -> int:
        """Fail proposals older than `max_ticks` and return how many; `reason` gives the error by a proposal's tick."""
        old: list[bytes] = []
        for suffix, pending in self._pending.items():
            if self.tick - pending.tick < max_ticks:
                break
            old.append(suffix)
        if not old:
            return 0
        queued = {*self.queue, *self.leading}
        failed: list[tuple[Pending, RpcError]] = []
        for suffix in old:
            pending = self._pending.pop(suffix)
            if pending.data in queued:
                queued.discard(pending.data)
                failed.append((pending, NEVER_PROPOSED))
            else:
                failed.append((pending, reason(pending.tick)))
        self.queue = [data for data in self.queue if data in queued]
        self.leading = [data for data in self.leading if data in queued]
        # Last of all: whoever fails may propose anew at once.
        for pending, error in failed:
            pending.done.fail(error)
        return len(old)

    def fail_all(self, error: RpcError) -> None:
        """Fail every proposal."""
        pendings = list(self._pending.values())
        self._pending = {}
        self.queue = []
        self.leading = []
        for pending in pendings:
            pending.done.fail(error)
