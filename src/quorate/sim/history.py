"""What the clients saw: operations with their times and outcomes, and what each watcher was sent."""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import Message

from quorate.errors import RpcError
from quorate.proto.kv_pb2 import Event
from quorate.proto.rpc_pb2 import WatchCreateRequest


class Op:
    """One call. Without response and error its outcome is unknown; most errors leave it unknown too."""

    def __init__(self, client: str, node: str, kind: str, request: Message, invoked_ns: int) -> None:
        self.client = client
        self.node = node
        self.kind = kind
        self.request = request
        self.invoked_ns = invoked_ns
        self.returned_ns = 0  # 0: still under way
        self.response: Message | None = None
        self.error: RpcError | None = None
        self.then: Callable[[], None] | None = None
        self.noted: Callable[[], None] | None = None

    @property
    def done(self) -> bool:
        """Whether the call is over."""
        return self.returned_ns != 0

    @property
    def rev(self) -> int:
        """The header's revision."""
        assert self.response is not None
        return int(self.response.header.revision)  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        outcome = "pending" if not self.done else str(self.error or _short(self.response))
        times = f"{self.invoked_ns / 1e9:.6f}..{self.returned_ns / 1e9:.6f}"
        return f"{times} {self.client}@{self.node} {self.kind} {_short(self.request)} -> {outcome}"


def _short(message: Message | None) -> str:
    text = " ".join(str(message).split())
    return text if len(text) < 300 else text[:300] + "..."


class Received:
    """One response of a watcher: events, or (without any) an announcement."""

    def __init__(self, rev: int, events: list[Event], when_ns: int) -> None:
        self.rev = rev
        self.events = events
        self.when_ns = when_ns


class Watched:
    """One watcher, from its creation to the end of its stream."""

    def __init__(self, client: str, node: str, request: WatchCreateRequest) -> None:
        self.client = client
        self.node = node
        self.request = request
        self.created_rev = 0  # of the header of `created`; 0 until it came
        self.start_rev = request.start_revision  # the first revision it should hear of; 0 until it is known
        self.received: list[Received] = []
        self.compacted = 0  # the compaction that ended it
        self.compacted_ns = 0
        self.alive = True

    def next_rev(self) -> int:
        """Return where a successor has to begin."""
        for received in reversed(self.received):
            return max(received.rev if not received.events else received.events[-1].kv.mod_revision, 0) + 1
        return self.start_rev

    def __repr__(self) -> str:
        return f"watch of {self.client}@{self.node} {_short(self.request)}"


class Renewal:
    """One keep-alive."""

    def __init__(self, lease_id: int, node: str, invoked_ns: int) -> None:
        self.lease_id = lease_id
        self.node = node
        self.invoked_ns = invoked_ns
        self.returned_ns = 0
        self.ttl_s = -1  # -1: unknown


class History:
    """Everything that clients did and saw."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.watches: list[Watched] = []
        self.renewals: list[Renewal] = []
        self.snapshots: list[tuple[str, bytes]] = []  # (member, database), saved by clients
        self.hashes: dict[tuple[int, int, int], tuple[int, str]] = {}  # by asked, rev, compact_rev: hash, first member
        self.problems: list[str] = []  # what was wrong at first sight
