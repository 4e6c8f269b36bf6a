"""What the seed decides before anything happens: sizes, settings, which faults, and how often.

Swarm testing: each kind of fault is in a run or not, by the toss of a coin, so that rare combinations come about and a
frequent fault does not hide another.
"""

from __future__ import annotations

import random
from typing import Final

from quorate.mvcc.store import StoreOptions
from quorate.server.config import ServerConfig
from quorate.sim.clock import MICROSECOND, MS, SECOND
from quorate.sim.network import LinkFaults
from quorate.storage.backend import BackendOptions

CRASH: Final = "crash"
CRASH_INSIDE: Final = "crash-inside"
KILL: Final = "kill"
PAUSE: Final = "pause"
PARTITION: Final = "partition"
ONE_WAY: Final = "one-way"
ISOLATE_LEADER: Final = "isolate-leader"
SLOW_DISK: Final = "slow-disk"
BAD_DISK: Final = "bad-disk"
CLOCK_JUMP: Final = "clock-jump"
TRANSFER: Final = "transfer"
MEMBERS: Final = "members"
CUT_CLIENT: Final = "cut-client"
POWER_ALL: Final = "power-all"

NEMESES: Final = (
    CRASH,
    CRASH_INSIDE,
    KILL,
    PAUSE,
    PARTITION,
    ONE_WAY,
    ISOLATE_LEADER,
    SLOW_DISK,
    BAD_DISK,
    CLOCK_JUMP,
    TRANSFER,
    MEMBERS,
    CUT_CLIENT,
    POWER_ALL,
)


class Plan:
    """The decisions of one seed."""

    def __init__(self, seed: int, members: int = 5, duration_ns: int = 0) -> None:
        self.seed = seed
        self.members = members
        rng = random.Random(f"{seed}/plan")
        self.duration_ns = duration_ns or rng.randrange(10, 25) * SECOND
        self.faults = [name for name in NEMESES if rng.random() < 0.4]
        self.fault_gap_ns = rng.choice((300, 800, 2_000)) * MS
        self.links = _links(rng)
        self.tick_ns, self.election_ticks = rng.choice(((100 * MS, 10), (50 * MS, 10), (30 * MS, 9)))
        self.pre_vote = rng.random() < 0.85
        self.snapshot_count = rng.choice((30, 100, 1_000, 10_000))
        self.catchup_entries = rng.choice((5, 50, 5_000))
        self.compaction_batch = rng.choice((3, 10, 100, 1_000))
        self.sync_inline_ns = rng.choice((0, MS, 10 * MS))
        self.batch_interval_ns = rng.choice((5, 100, 500)) * MS
        self.batch_limit = rng.choice((20, 10_000))
        self.segment_bytes = rng.choice((16 << 10, 64 << 10, 1 << 20))
        self.lease_checkpoint = rng.random() < 0.3
        self.purge_interval_ns = rng.choice((1, 5, 30)) * SECOND
        self.watch_progress_ns = rng.choice((100 * MS, SECOND, 60 * SECOND))
        self.cache_bytes = rng.choice((1 << 12, 32 << 20))
        self.event_ns = rng.choice((5, 20, 100)) * MICROSECOND
        self.job_ns = rng.choice((MS // 10, 2 * MS, 20 * MS))
        self.sync_ns = rng.choice((50, 500, 5_000)) * MICROSECOND
        self.stall = rng.choice((0.0, 0.0, 0.002, 0.02))
        self.stall_ns = rng.choice((100 * MS, SECOND, 4 * SECOND))
        self.kv_clients = rng.randrange(2, 6)
        self.lease_clients = rng.randrange(1, 3)
        self.watch_clients = rng.randrange(2, 5)
        self.think_ns = rng.choice((5, 20, 60)) * MS
        self.timeout_ns = rng.choice((200 * MS, 500 * MS, 3 * SECOND, 10 * SECOND))
        self.keys = rng.choice((3, 8, 20))
        self.value_bytes = rng.choice((0, 0, 300, 3_000))
        self.compacting = rng.random() < 0.7
        self.admin = [name for name in ("defrag", "hash", "snapshot", "alarm", "status") if rng.random() < 0.5]
        self.durable_sample = 0.02

    def server_config(self, name: str) -> ServerConfig:
        """Return a member's settings."""
        return ServerConfig(
            name=name,
            data_dir="d",
            snap_dir="d/member/snap",
            wal_dir="d/member/wal",
            client_urls=[f"http://{name}:2379"],
            tick_ns=self.tick_ns,
            election_ticks=self.election_ticks,
            pre_vote=self.pre_vote,
            snapshot_count=self.snapshot_count,
            snapshot_catchup_entries=self.catchup_entries,
            purge_interval_ns=self.purge_interval_ns,
            max_learners=2,
            lease_checkpoint=self.lease_checkpoint,
            lease_checkpoint_persist=self.lease_checkpoint,
            sync_inline_ns=self.sync_inline_ns,
        )

    def backend_options(self) -> BackendOptions:
        """Return how often the database commits."""
        return BackendOptions(self.batch_interval_ns, self.batch_limit)

    def store_options(self) -> StoreOptions:
        """Return how compactions go."""
        return StoreOptions(self.cache_bytes, self.compaction_batch, 2 * MS, 50)

    def describe(self) -> str:
        """Return the decisions that matter most, in a line."""
        return (
            f"{self.members} members, {self.duration_ns // SECOND} s, faults {','.join(self.faults) or 'none'}, "
            f"tick {self.tick_ns // MS} ms, snapshot {self.snapshot_count}/{self.catchup_entries}, "
            f"loss {self.links.loss}, sync {self.sync_ns // MICROSECOND} us"
        )


def _links(rng: random.Random) -> LinkFaults:
    links = LinkFaults()
    links.delay_ns = rng.choice((100 * MICROSECOND, MS, 10 * MS))
    links.jitter_ns = rng.choice((0, 1, 5)) * links.delay_ns
    links.loss = rng.choice((0.0, 0.0, 0.01, 0.1))
    links.repeat = rng.choice((0.0, 0.0, 0.02, 0.2))
    links.reorder = rng.choice((0.0, 0.0, 0.02, 0.2))
    links.slow = rng.choice((0.0, 0.0, 0.01))
    return links
