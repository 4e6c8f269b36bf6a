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
    from quorate.client.blocking import BlockingClient
    from quorate.client.errors import CompactedError, EtcdError, LeaseLostError, NoLeaderError, SnapshotError
    from quorate.client.target import TlsOptions
    from quorate.client.watch import WatchBatch

_HOMES = {
    "Client": "aio",
    "BlockingClient": "blocking",
    "CompactedError": "errors",
    "EtcdError": "errors",
    "LeaseLostError": "errors",
    "NoLeaderError": "errors",
    "SnapshotError": "errors",
    "TlsOptions": "target",
    "WatchBatch": "watch",
}

__all__ = [
    "BlockingClient",
    "Client",
    "CompactedError",
    "EtcdError",
    "LeaseLostError",
    "NoLeaderError",
    "SnapshotError",
    "TlsOptions",
    "WatchBatch",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
