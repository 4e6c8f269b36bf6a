"""A member as a process: it starts from its disk, runs, is paused, killed or cut off from power, and starts again.

The server, raft, write-ahead log, database, MVCC, lessor and services are the real ones. What is ours here: the disk
that charges time, the transport over the virtual network, and a bootstrap whose files are small.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from quorate.api.services import Services
from quorate.errors import TIMEOUT, RpcError
from quorate.lease.lessor import Lease
from quorate.membership.version import SERVER_VERSION, Version
from quorate.ports import Log
from quorate.raft.codec import decode_message, encode_message
from quorate.raft.types import MSG_PROP, MSG_SNAP, MSG_VOTE, Message
from quorate.server.bootlog import StartError
from quorate.server.bootstrap import Bootstrap, BootstrapOptions
from quorate.server.core import Server, ServerParts
from quorate.server.transport import Transport
from quorate.sim.clock import MICROSECOND, MS, NodeLoop
from quorate.sim.disk import PowerCut, SimDisk
from quorate.sim.observer import Seen, Violation
from quorate.storage.wal import WalOptions
from quorate.wire.rpc import Router

if TYPE_CHECKING:
    from quorate.sim.calls import ServerEnd
    from quorate.sim.world import World

_ASK_TIMEOUT_NS: Final = 7_000 * MS


class ChargedDisk(SimDisk):
    """A disk that takes time, and stalls now and then."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(0)
        self.rng = rng
        self.loop: NodeLoop | None = None
        self.sync_ns = 500 * MICROSECOND
        self.stall = 0.0
        self.stall_ns = 0
        self.failed = False  # an error was planned: the process may end of it
        self.erred = False  # it has come, and may still be on its way from the worker to the loop

    def step(self, kind: str, path: str) -> float:
        """Account for an operation."""
        loop = self.loop
        if loop is not None and kind == "sync":
            cost_ns = self.sync_ns + int(self.rng.random() * self.sync_ns)
            if self.stall and self.rng.random() < self.stall:
                cost_ns += int(self.rng.random() * self.stall_ns)
            loop.spend(cost_ns)
        try:
            return super().step(kind, path)
        except OSError:
            self.erred = True
            raise


class Lines(Log):
    """The member's log goes to the world's record of the last events."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def debug(self, caller: str, msg: str, **fields: object) -> None:
        """Drop the line."""

    def info(self, caller: str, msg: str, **fields: object) -> None:  # noqa: ARG002
        """Keep the line."""
        self._node.log_line("info", msg, fields)

    def warn(self, caller: str, msg: str, **fields: object) -> None:  # noqa: ARG002
        """Keep the line."""
        self._node.log_line("warn", msg, fields)

    def error(self, caller: str, msg: str, **fields: object) -> None:  # noqa: ARG002
        """Keep the line."""
        self._node.log_line("error", msg, fields)


class SimBootstrap(Bootstrap):
    """A start in the virtual world, with small log segments."""

    segment_bytes = 64 << 10

    def _wal_options(self) -> WalOptions:
        clock: Callable[[], int] = self.loop.monotonic_ns
        return WalOptions(clock, False, self.segment_bytes)


class Node:
    """One member, over all its processes."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.number = len(world.nodes)
        self.url = f"http://{name}:2380"
        self.rng = world.stream(f"node {name}")
        self.disk = ChargedDisk(world.stream(f"disk {name}"))
        self.seen = Seen()
        self.calls: dict[ServerEnd, None] = {}
        self.member_id = 0
        self.starts = 0
        self.alive = False
        self.gone = False  # removed from the cluster, for good
        self.joining = False  # not one of the initial members
        self.booted_ns = 0
        self.loop = NodeLoop(world.clock, self.rng, self._stopped)
        self.loop.dead = True
        self.parts: ServerParts | None = None
        self.server: Server | None = None
        self.router = Router()
        self.lines = Lines(self)

    # -- Life

    def start(self) -> None:
        """Start the process. It may die at once."""
        if self.alive or self.gone:
            return
        self.starts += 1
        self.alive = True
        self.booted_ns = self.world.clock.now_ns
        plan = self.world.plan
        self.loop = NodeLoop(self.world.clock, self.rng, self._stopped)
        self.loop.event_ns = plan.event_ns
        self.loop.job_wait_ns = self._job_wait_ns
        self.loop.after_event = self._after_event
        self.disk.loop = self.loop
        self.world.say(f"{self.name} starts")
        self.loop.call(self._boot)

    def _job_wait_ns(self) -> int:
        plan = self.world.plan
        return int(self.rng.random() * plan.job_ns)

    def _boot(self) -> None:
        world = self.world
        config = world.plan.server_config(self.name)
        options = BootstrapOptions(
            initial_cluster=world.initial_cluster(self),
            initial_cluster_token="sim",
            peer_urls=[self.url],
            new_cluster=not self.joining,
            backend=world.plan.backend_options(),
            store=world.plan.store_options(),
        )
        bootstrap = world.bootstrap(self, config, options)
        self.parts = None
        self.server = None
        try:
            parts = bootstrap.run()
        except StartError as error:
            # Such as: the member that it asked has not heard of it yet. It is started again, by the faults or below.
            self.log_line("error", str(error), {})
            self.kill()
            if not self.world.nemesis.active:
                self.world.clock.later(500 * MS, self._start_again)
            return
        except OSError as error:
            if self.disk.failed:
                self.loop.fatal(error)
                return
            raise
        parts.transport = PeerNet(self, parts)
        self.member_id = parts.member_id
        self.parts = parts
        self.server = Server(parts)
        self.router = Router()
        services = Services(self.server, world.plan.watch_progress_ns)
        services.register(self.router)
        self.server.on_removed = self._removed
        world.observer.booted(self)
        parts.transport.reset_peers(
            parts.first_peers or {member.id: member.peer_urls for member in parts.cluster.member_list()}
        )
        self.server.start()

    def consistent_index(self) -> int:
        """Return the index that the database on disk had when this process began."""
        assert self.server is not None
        return self.server.consistent_index

    def _after_event(self) -> None:
        self.world.observer.look(self)

    def _removed(self) -> None:
        self.world.say(f"{self.name} is removed")
        self.gone = True
        loop = self.loop
        self.world.clock.later(500 * MS, lambda: self._leave(loop))

    def _leave(self, loop: NodeLoop) -> None:
        if self.alive and self.loop is loop:
            self.kill()

    def _start_again(self) -> None:
        if not self.alive and not self.gone:
            self.start()

    def _stopped(self, error: BaseException) -> None:
        """The process ended by itself."""
        if isinstance(error, PowerCut):
            self.world.say(f"{self.name} loses power in the midst of {error}")
            self._power_cut()
            return
        if self.disk.failed:
            # A page that could not be synced looks clean from then on, and a process that starts again would take it
            # for durable. Nobody can help that but whoever restarts the machine, so that is what happens.
            self.world.say(f"{self.name} stops: {error}")
            self._power_cut()
            return
        raise Violation(f"{self.name} stopped: {error!r}") from error

    def crash(self) -> None:
        """Cut the power: what was not synced is lost, or torn. A job of the worker may be done by half."""
        if not self.alive:
            return
        job = self.loop.job
        if job is not None and self.rng.random() < 0.7:
            self.disk.stop_at(self.disk.operations + 1 + self.rng.randrange(12))
            try:
                self.loop.run_worker(job)
            except PowerCut:
                pass
        self.world.say(f"{self.name} loses power")
        self._power_cut()

    def crash_soon(self, operations: int) -> None:
        """Cut the power in the midst of one of the next operations of the disk."""
        if self.alive:
            self.disk.stop_at(self.disk.operations + operations)

    def _power_cut(self) -> None:
        self._end()
        self.disk.crash(self.rng)
        self.disk.failed = False
        self.disk.erred = False

    def kill(self) -> None:
        """End the process alone, as SIGKILL does; the page cache stays."""
        if self.alive:
            self.world.say(f"{self.name} is killed")
            self._end()
            self.disk.kill()

    def _end(self) -> None:
        self.alive = False
        self.loop.die()
        self.server = None
        self.parts = None
        for call in list(self.calls):
            call.break_off()
        self.calls.clear()

    def pause(self) -> None:
        """Stop the process for a while."""
        if self.alive:
            self.world.say(f"{self.name} is paused")
            self.loop.pause()

    def resume(self) -> None:
        """Let it go on."""
        if self.loop.paused:
            self.world.say(f"{self.name} goes on")
            self.loop.resume()

    def log_line(self, level: str, msg: str, fields: dict[str, object]) -> None:
        """Keep a line of the member's log."""
        self.world.log_line(self.name, level, msg, fields)

    def step(self, sender_id: int, data: bytes) -> None:
        """A raft message has arrived, on the loop."""
        server = self.server
        if server is None or self.parts is None or sender_id in server.cluster.removed:
            return
        transport = self.parts.transport
        if isinstance(transport, PeerNet):
            transport.remotes[sender_id] = None
        server.step(decode_message(data))


class PeerNet(Transport):
    """A member's end of the network to its peers."""

    def __init__(self, node: Node, parts: ServerParts) -> None:
        self.node = node
        self.parts = parts
        self.world = node.world
        self.loop = node.loop
        self.peers: dict[int, list[str]] = {}
        self.remotes: dict[int, None] = {}  # not members as far as we know, but they talk to us, as a new leader may

    def send(self, messages: list[Message]) -> None:
        """Send raft messages as bytes."""
        world, node = self.world, self.node
        now_ns = self.loop.monotonic_ns()
        for message in messages:
            target = world.node_of(message.to)
            world.observer.promised(node, message)
            if target is None or not (message.to in self.peers or message.to in self.remotes):
                continue
            if message.type == MSG_SNAP:
                world.send_snapshot(node, target, message)
                continue
            if message.type == MSG_VOTE:
                node.seen.term = max(node.seen.term, message.term)
                node.seen.votes[message.term] = node.member_id
            data = encode_message(message)
            world.clock.note(data)
            if not target.alive or world.network.is_cut(node.name, target.name):
                self._unreachable(message.to)
            arrival = _Arrival(target, message.frm, data)
            world.network.send(node.name, target.name, arrival.run, now_ns, repeatable=message.type != MSG_PROP)

    def _unreachable(self, member_id: int) -> None:
        raw_node = self.parts.node
        self.loop.soon(lambda: raw_node.report_unreachable(member_id))

    def add_peer(self, member_id: int, urls: list[str]) -> None:
        """Begin to talk to a member."""
        self.peers[member_id] = urls

    def update_peer(self, member_id: int, urls: list[str]) -> None:
        """A member has other URLs."""
        self.peers[member_id] = urls

    def remove_peer(self, member_id: int) -> None:
        """Stop talking to a member."""
        self.peers.pop(member_id, None)
        self.remotes.pop(member_id, None)

    def reset_peers(self, members: dict[int, list[str]]) -> None:
        """Talk to exactly these members."""
        self.peers = {member_id: urls for member_id, urls in members.items() if member_id != self.node.member_id}

    def active_since_ns(self, member_id: int) -> int:
        """Return since when both processes live and the link between them is open."""
        target = self.world.node_of(member_id)
        if target is None or not target.alive or not self.world.network.linked(self.node.name, target.name):
            return 0
        return max(self.node.booted_ns, target.booted_ns)

    def active_peers(self) -> int:
        """Return how many others can be reached."""
        return sum(1 for member_id in self.peers if self.active_since_ns(member_id))

    def server_version(self, member_id: int) -> Version | None:
        """Return the version of a member that can be reached."""
        return SERVER_VERSION if self.active_since_ns(member_id) else None

    def renew_lease(self, leader_id: int, lease_id: int, then: Callable[[int, RpcError | None], None]) -> None:
        """Ask the leader to renew."""
        ask = _Ask(self, leader_id, lambda error: then(0, error))
        ask.start(lambda server: server.lease_renew(lease_id, lambda ttl, error: ask.answer(lambda: then(ttl, error))))

    def lease_time_to_live(
        self, leader_id: int, lease_id: int, then: Callable[[Lease | None, int, RpcError | None], None]
    ) -> None:
        """Ask the leader about a lease."""
        ask = _Ask(self, leader_id, lambda error: then(None, 0, error))

        def found(lease: Lease | None, remaining_s: int, error: RpcError | None) -> None:
            copy: Lease | None = None
            if lease is not None:
                copy = Lease(lease.id, lease.ttl_s, lease.remaining_ttl_s)
                copy.keys = set(lease.keys)
            ask.answer(lambda: then(copy, remaining_s, error))

        ask.start(lambda server: server.lease_time_to_live(lease_id, found))

    def promote_member(
        self, leader_id: int, member_id: int, _token: bytes, then: Callable[[RpcError | None], None]
    ) -> None:
        """Ask the leader to promote a learner."""
        ask = _Ask(self, leader_id, then)
        ask.start(lambda server: server.member_promote(member_id, lambda error: ask.answer(lambda: then(error))))


class _Arrival:
    """A raft message at the other end. It reaches whatever process lives there then."""

    def __init__(self, target: Node, sender_id: int, data: bytes) -> None:
        self._target = target
        self._sender_id = sender_id
        self._data = data

    def run(self) -> None:
        if self._target.alive:
            self._target.loop.call(self._step)

    def _step(self) -> None:
        self._target.step(self._sender_id, self._data)


class _Ask:
    """A question from one member to another, which is answered once, or times out."""

    def __init__(self, net: PeerNet, target_id: int, fail: Callable[[RpcError | None], None]) -> None:
        self._net = net
        self._target = net.world.node_of(target_id)
        self._fail = fail
        self._done = False
        self._timer = net.loop.later(_ASK_TIMEOUT_NS, self._expire)

    def start(self, ask: Callable[[Server], None]) -> None:
        target = self._target
        if target is None:
            return
        net = self._net

        def arrived() -> None:
            if target.alive and target.server is not None:
                ask(target.server)

        def deliver() -> None:
            if target.alive:
                target.loop.call(arrived)

        net.world.network.send(net.node.name, target.name, deliver, net.loop.monotonic_ns(), lost=_nothing)

    def answer(self, deliver: Callable[[], None]) -> None:
        net, target = self._net, self._target
        assert target is not None

        def arrived() -> None:
            if not self._done:
                self._done = True
                self._timer.cancel()
                deliver()

        call = lambda: net.loop.call(arrived)  # noqa: E731
        net.world.network.send(target.name, net.node.name, call, target.loop.monotonic_ns(), lost=_nothing)

    def _expire(self) -> None:
        if not self._done:
            self._done = True
            self._fail(TIMEOUT)


def _nothing() -> None:
    pass
