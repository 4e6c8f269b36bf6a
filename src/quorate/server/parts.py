"""The parts of a member, as they are given to the server."""

from __future__ import annotations

from dataclasses import dataclass, field

from quorate.lease.lessor import Lessor
from quorate.membership.cluster import Cluster
from quorate.mvcc.store import Store
from quorate.mvcc.watch import WatchHub
from quorate.ports import Disk, Log, Loop
from quorate.raft.node import RawNode
from quorate.raft.storage import MemoryStorage
from quorate.server.alarm import Alarms
from quorate.server.config import ServerConfig
from quorate.server.transport import Transport
from quorate.storage.backend import Backend
from quorate.storage.wal import Wal


@dataclass
class ServerParts:
    """What a member is put together from (by server.bootstrap, or by a test).

    `backend` is open and its buckets exist; `lessor.recover()`, `store.restore()` and `alarms.recover()` have been
    called (in this order). `cluster` is loaded from the backend and attached to it; `replay` is another one that stores
    nothing and says what the newest snapshot says (Cluster.from_membership; empty without a snapshot). `raft_storage`
    holds the snapshot, hard state and entries of the WAL, and `node` was made over it with `applied` = the snapshot's
    index, so that it delivers every later entry again. The server takes over:
    backend.before_commit is its own from now on.
    """

    loop: Loop
    disk: Disk
    log: Log
    config: ServerConfig
    member_id: int
    cluster: Cluster
    replay: Cluster
    node: RawNode
    raft_storage: MemoryStorage
    wal: Wal
    backend: Backend
    lessor: Lessor
    watch_hub: WatchHub
    store: Store
    alarms: Alarms
    transport: Transport  # NullTransport for a single member
    first_peers: dict[int, list[str]] = field(default_factory=dict)
    """Peer URLs by id, this member's among them, which a first start knows before the log tells."""
