"""A client of etcd clusters, ours or real ones: `Client` for asyncio, `BlockingClient` for everything else.

Reading order: `aio` (what can be done), `channel` (connections, failover, repetition), `link` and `direct` (sockets),
`watch`, `lease`, `recipes`, `ops` (transactions), `methods` and `policy` (what both kinds share), `target`,
`errors`, `save`. `blocking` is made from `aio` and its companions by tools/gen_blocking.py.

Names are loaded when they are first used, for etcdctl starts from here and needs neither asyncio nor the recipes.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quorate.client.aio import Client
    from quorate.client.blocking import (
        BlockingBarrier,
        BlockingClient,
        BlockingElection,
        BlockingLease,
        BlockingLock,
        BlockingTransaction,
        BlockingTransactions,
        BlockingWatcher,
    )
    from quorate.client.errors import (
        CompactedError,
        DeadlineError,
        EtcdError,
        LeaseLostError,
        NoLeaderError,
        PermissionDeniedError,
        SnapshotError,
    )
    from quorate.client.lease import Lease
    from quorate.client.recipes import (
        Barrier,
        Election,
        Lock,
        Transaction,
        Transactions,
    )
    from quorate.client.target import TlsOptions
    from quorate.client.watch import WatchBatch, Watcher
    from quorate.proto.kv_pb2 import Event, KeyValue

_HOMES = {
    "Client": "quorate.client.aio",
    "BlockingBarrier": "quorate.client.blocking",
    "BlockingClient": "quorate.client.blocking",
    "BlockingElection": "quorate.client.blocking",
    "BlockingLease": "quorate.client.blocking",
    "BlockingLock": "quorate.client.blocking",
    "BlockingTransaction": "quorate.client.blocking",
    "BlockingTransactions": "quorate.client.blocking",
    "BlockingWatcher": "quorate.client.blocking",
    "CompactedError": "quorate.client.errors",
    "DeadlineError": "quorate.client.errors",
    "EtcdError": "quorate.client.errors",
    "LeaseLostError": "quorate.client.errors",
    "NoLeaderError": "quorate.client.errors",
    "PermissionDeniedError": "quorate.client.errors",
    "SnapshotError": "quorate.client.errors",
    "Lease": "quorate.client.lease",
    "Barrier": "quorate.client.recipes",
    "Election": "quorate.client.recipes",
    "Lock": "quorate.client.recipes",
    "Transaction": "quorate.client.recipes",
    "Transactions": "quorate.client.recipes",
    "TlsOptions": "quorate.client.target",
    "WatchBatch": "quorate.client.watch",
    "Watcher": "quorate.client.watch",
    "Event": "quorate.proto.kv_pb2",
    "KeyValue": "quorate.proto.kv_pb2",
}

__all__ = [
    "Barrier",
    "BlockingBarrier",
    "BlockingClient",
    "BlockingElection",
    "BlockingLease",
    "BlockingLock",
    "BlockingTransaction",
    "BlockingTransactions",
    "BlockingWatcher",
    "Client",
    "CompactedError",
    "DeadlineError",
    "Election",
    "EtcdError",
    "Event",
    "KeyValue",
    "Lease",
    "LeaseLostError",
    "Lock",
    "NoLeaderError",
    "PermissionDeniedError",
    "SnapshotError",
    "TlsOptions",
    "Transaction",
    "Transactions",
    "WatchBatch",
    "Watcher",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
