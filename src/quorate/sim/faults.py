"""What goes wrong: one script that draws a fault after the other, each with its end.

Faults stay survivable. Crashes may hit any number of members at once, since what was synced comes back; a member whose
disk reports an error stops, and starts again from what it has.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from quorate.proto.rpc_pb2 import (
    MemberAddRequest,
    MemberAddResponse,
    MemberPromoteRequest,
    MemberPromoteResponse,
    MemberRemoveRequest,
    MemberRemoveResponse,
    MoveLeaderRequest,
    MoveLeaderResponse,
)
from quorate.sim import plan as kinds
from quorate.sim.clients import Client, Script, Task
from quorate.sim.clock import MS, SECOND

if TYPE_CHECKING:
    from quorate.sim.node import Node
    from quorate.sim.world import World

_MAX_MEMBERS = 7
_DOWN_NS = 2 * SECOND


class Nemesis:
    """Draws faults until it is stopped."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.stream("nemesis")
        self.client = Client(world, "operator", None)
        self.active = True
        self.counts: dict[str, int] = {}

    def script(self) -> Script:
        """Let things go wrong."""
        plan = self.world.plan
        while self.active and plan.faults:
            yield 1 + int(self.rng.expovariate(1 / plan.fault_gap_ns))
            if not self.active:
                return
            kind = self.rng.choice(plan.faults)
            self.counts[kind] = self.counts.get(kind, 0) + 1
            self._strike(kind)

    def _living(self) -> list[Node]:
        return [node for node in self.world.nodes.values() if node.alive and not node.gone]

    def _later(self, low_ns: int, high_ns: int, call: object) -> None:
        assert callable(call)
        self.world.clock.later(self.rng.randrange(low_ns, high_ns), call)

    def _strike(self, kind: str) -> None:
        living = self._living()
        if not living:
            return
        node = self.rng.choice(living)
        if kind == kinds.CRASH:
            node.crash()
            self._restart(node)
        elif kind == kinds.CRASH_INSIDE:
            node.crash_soon(1 + self.rng.randrange(30))
        elif kind == kinds.KILL:
            node.kill()
            self._restart(node)
        elif kind == kinds.POWER_ALL:
            if self.rng.random() < 0.3:
                for one in living:
                    one.crash()
                    self._restart(one)
        elif kind == kinds.PAUSE:
            node.pause()
            self._later(50 * MS, 6 * SECOND, node.resume)
        elif kind in (kinds.PARTITION, kinds.ONE_WAY, kinds.ISOLATE_LEADER):
            self._partition(kind, node)
        elif kind == kinds.CUT_CLIENT:
            self._cut_client(node)
        elif kind in (kinds.SLOW_DISK, kinds.BAD_DISK, kinds.CLOCK_JUMP):
            self._machine(kind, node)
        elif kind == kinds.TRANSFER:
            self._transfer()
        elif kind == kinds.MEMBERS:
            Task(self.world, self._change_members())

    def _restart(self, node: Node) -> None:
        self._later(10 * MS, _DOWN_NS, node.start)

    def watch_over(self) -> Script:
        """Start again whoever has stopped by itself."""
        while self.active:
            yield 500 * MS
            for node in self.world.nodes.values():
                if not node.alive and not node.gone and node.starts and self.rng.random() < 0.3:
                    node.start()

    # -- The network

    def _partition(self, kind: str, node: Node) -> None:
        world, rng = self.world, self.rng
        names = [one.name for one in world.nodes.values()]
        before = dict(world.network.cut)
        if kind == kinds.ISOLATE_LEADER:
            leaders = [one for one in self._living() if one.server is not None and one.server.is_leader()]
            side = [rng.choice(leaders).name] if leaders else [node.name]
        elif rng.random() < 0.4:
            side = [node.name]
        else:
            side = rng.sample(names, rng.randrange(1, len(names)))
        inward = kind != kinds.ONE_WAY or rng.random() < 0.5
        outward = kind != kinds.ONE_WAY or not inward
        others = [name for name in names if name not in side]
        for name in side:
            world.network.isolate(name, others, inward, outward)
        world.say(f"cut {','.join(side)} {'in' if inward else ''}{'out' if outward else ''}")
        mine = [link for link in world.network.cut if link not in before]
        self._later(300 * MS, 6 * SECOND, lambda: self._mend(mine))

    def _mend(self, links: list[tuple[str, str]]) -> None:
        if self.active:  # what is cut later is cut for good
            for link in links:
                self.world.network.cut.pop(link, None)

    def _cut_client(self, node: Node) -> None:
        world = self.world
        clients = [client.name for client in world.clients]
        if clients:
            name = self.rng.choice(clients)
            links = [(name, node.name), (node.name, name)]
            links = self.rng.choice((links, links[:1], links[1:]))
            for link in links:
                world.network.cut[link] = None
            self._later(100 * MS, 3 * SECOND, lambda: self._mend(links))

    # -- The machine

    def _machine(self, kind: str, node: Node) -> None:
        rng, disk = self.rng, node.disk
        if kind == kinds.SLOW_DISK:
            self.world.say(f"{node.name}'s disk is slow")
            disk.stall, disk.stall_ns = 0.5, rng.choice((50, 500, 3_000)) * MS

            def quick() -> None:
                disk.stall = self.world.plan.stall if self.active else 0.0

            self._later(500 * MS, 5 * SECOND, quick)
        elif kind == kinds.BAD_DISK:
            self.world.say(f"{node.name}'s disk is about to fail")
            disk.failed = True
            what = rng.choice(("sync", "write", "sync", "open", "rename", "allocate"))
            disk.fail(what, rng.choice((errno.EIO, errno.ENOSPC)), after=rng.randrange(20))
        else:
            node.loop.wall_offset_ns += rng.choice((-3600, -5, 5, 3600)) * SECOND

    # -- The cluster

    def _transfer(self) -> None:
        leaders = [one for one in self._living() if one.server is not None and one.server.is_leader()]
        others = [one for one in self._living() if one.member_id]
        if leaders:
            request = MoveLeaderRequest(targetID=self.rng.choice(others).member_id)
            path = "/etcdserverpb.Maintenance/MoveLeader"
            self.client.call(path, "move-leader", request, MoveLeaderResponse, self.rng.choice(leaders))

    def _change_members(self) -> Script:
        members = [node for node in self.world.nodes.values() if not node.gone]
        if len(members) >= _MAX_MEMBERS or (len(members) > 3 and self.rng.random() < 0.4):
            yield from self._remove(self.rng.choice(members))
        else:
            yield from self._add(self.rng.random() < 0.7)

    def _remove(self, node: Node) -> Script:
        if not node.member_id:
            return
        self.world.say(f"remove {node.name}")
        path = "/etcdserverpb.Cluster/MemberRemove"
        request = MemberRemoveRequest(ID=node.member_id)
        yield self.client.call(path, "member-remove", request, MemberRemoveResponse, timeout_ns=8 * SECOND)

    def _add(self, learner: bool) -> Script:
        node = self.world.new_node()
        self.world.say(f"add {node.name}{' as a learner' if learner else ''}")
        path = "/etcdserverpb.Cluster/MemberAdd"
        request = MemberAddRequest(peerURLs=[node.url], isLearner=learner)
        op = self.client.call(path, "member-add", request, MemberAddResponse, timeout_ns=8 * SECOND)
        yield op
        if not isinstance(op.response, MemberAddResponse):
            node.gone = True  # it may be a member by now; nobody will ever run it
            return
        node.member_id = op.response.member.ID
        node.joining = True
        self.world.member_names[node.member_id] = node.name
        node.start()
        for _ in range(20):
            yield 700 * MS
            if not learner or not self.active or node.gone:
                return
            path = "/etcdserverpb.Cluster/MemberPromote"
            ask = MemberPromoteRequest(ID=node.member_id)
            promoted = self.client.call(path, "member-promote", ask, MemberPromoteResponse)
            yield promoted
            if promoted.response is not None:
                return
