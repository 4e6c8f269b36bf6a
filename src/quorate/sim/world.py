"""The run of one seed: faults, then a quorum alone, then everybody, then the checks."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Final

from quorate.membership.cluster import Cluster
from quorate.membership.member import Member
from quorate.proto.rpc_pb2 import AlarmRequest, AlarmResponse, AlarmType, PutRequest, PutResponse
from quorate.raft.types import Message
from quorate.server.bootstrap import BootstrapOptions
from quorate.server.config import ServerConfig
from quorate.sim.admin import admin_script, hash_script
from quorate.sim.check_end import check_end
from quorate.sim.check_kv import check_kv
from quorate.sim.check_lease import check_leases
from quorate.sim.check_watch import check_watches
from quorate.sim.clients import Client, Task, compact_script, kv_script, lease_script
from quorate.sim.clock import MS, SECOND, Clock
from quorate.sim.faults import Nemesis
from quorate.sim.history import History
from quorate.sim.model import Applied, Model
from quorate.sim.network import LinkFaults, Network
from quorate.sim.node import Node, SimBootstrap
from quorate.sim.observer import Observer, Violation
from quorate.sim.plan import MEMBERS, Plan
from quorate.sim.transfer import Others, Transfer
from quorate.sim.watchers import Stream, watch_script

_LINES: Final = 400
_CONVERGE_NS: Final = 60 * SECOND
_DRAIN_NS: Final = 2 * SECOND  # until what is under way has arrived
_EXPIRY_NS: Final = 30 * SECOND  # until leases that nobody renews have ended


class World:
    """All that takes part in one run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.clock = Clock()
        self.lines: deque[str] = deque(maxlen=_LINES)
        self.network = Network(self.clock, self.stream("network"))
        self.network.faults = plan.links
        self.history = History()
        self.model = Model(plan.server_config("").min_lease_ttl_s)
        self.observer = Observer(self, self.model, self.stream("observer"), plan.durable_sample)
        self.nodes: dict[str, Node] = {}
        self.member_names: dict[int, str] = {}
        self.clients: list[Client] = []
        self.streams: list[Stream] = []
        self.active = True
        self.initial: dict[str, list[str]] = {}
        self.nemesis = Nemesis(self)

    def stream(self, name: str) -> random.Random:
        """Return a source of random numbers of its own."""
        return random.Random(f"{self.plan.seed}/{name}")

    # -- What was said

    def say(self, text: str) -> None:
        """Note an event of the world."""
        self.lines.append(f"{self._time()} {text}")
        self.clock.note(text.encode())

    def log_line(self, name: str, level: str, msg: str, fields: dict[str, object]) -> None:
        """Note a line of a member's log."""
        if "ignored a Msg" not in msg:
            self.lines.append(f"{self._time()} {name} {level} {msg} {fields if fields else ''}")

    def _time(self) -> str:
        return f"{self.clock.now_ns / 1e9:12.6f}"

    def applied(self, applied: Applied) -> None:
        """An entry was applied for the first time."""
        self.clock.note(b"%d %d %d" % (applied.index, applied.term, applied.rev))

    # -- Members

    def new_node(self) -> Node:
        """Return a new member's process, not started."""
        node = Node(self, f"n{len(self.nodes) + 1}")
        node.disk.sync_ns = self.plan.sync_ns
        node.disk.stall, node.disk.stall_ns = self.plan.stall, self.plan.stall_ns
        node.disk.make_dirs("d/member/snap")
        for path in ("", "d", "d/member"):
            node.disk.sync_dir(path)
        self.nodes[node.name] = node
        return node

    def initial_cluster(self, node: Node) -> dict[str, list[str]]:
        """Return the members that a starting process is told of."""
        if not node.joining:
            return self.initial
        urls = [url for member in self.member_list() for url in member.peer_urls]
        return {other.name: [other.url] for other in self.nodes.values() if other.url in urls or other is node}

    def bootstrap(self, node: Node, config: ServerConfig, options: BootstrapOptions) -> SimBootstrap:
        """Return what starts a member."""
        bootstrap = SimBootstrap(node.loop, node.disk, node.lines, config, options, Others(self, node))
        bootstrap.segment_bytes = self.plan.segment_bytes
        return bootstrap

    def name_of(self, member_id: int) -> str:
        """Return a member's name, "" when nobody knows it."""
        return self.member_names.get(member_id, "")

    def node_of(self, member_id: int) -> Node | None:
        """Return a member's node."""
        return self.nodes.get(self.member_names.get(member_id, ""))

    def member_list(self) -> list[Member]:
        """Return the members of the cluster as the newest state has it; none while no process runs."""
        servers = [node.server for node in self.nodes.values() if node.server is not None]
        newest = max(servers, key=lambda server: server.applied_index, default=None)
        return newest.cluster.member_list() if newest is not None else []

    def members(self) -> list[Node]:
        """Return the members of the cluster that anybody can run."""
        found = [self.node_of(member.id) for member in self.member_list()] or list(self.nodes.values())
        return [node for node in found if node is not None and not node.gone]

    def send_snapshot(self, node: Node, target: Node, message: Message) -> None:
        """Send a raft snapshot: the message and the database of a pinned view."""
        Transfer(self, node, target, message).start()

    # -- The run

    def run(self) -> None:
        """Run all phases. Raises Violation, or whatever a member died of."""
        plan = self.plan
        self.say(f"seed {plan.seed}: {plan.describe()}")
        self.start_members()
        self.clock.run_until(self.clock.now_ns + 2 * SECOND)
        self._start_clients()
        Task(self, self.nemesis.script())
        Task(self, self.nemesis.watch_over())
        self.clock.run_until(self.clock.now_ns + plan.duration_ns)
        self._quorum_alone()
        self._everybody()
        self.check()

    def start_members(self) -> None:
        """Start the initial members."""
        plan = self.plan
        for _ in range(plan.members):
            node = self.new_node()
            self.initial[node.name] = [node.url]
        for member in Cluster.from_initial(next(iter(self.nodes.values())).lines, self.initial, "sim", 1).member_list():
            self.member_names[member.id] = member.name
        for node in self.nodes.values():
            node.start()

    def _start_clients(self) -> None:
        plan, rng = self.plan, self.stream("clients")
        nodes = list(self.nodes.values())

        def client(name: str) -> Client:
            pinned = rng.choice(nodes) if rng.random() < 0.6 else None
            made = Client(self, name, pinned)
            self.clients.append(made)
            return made

        for number in range(plan.kv_clients):
            Task(self, kv_script(client(f"kv{number}")))
        for number in range(plan.lease_clients):
            Task(self, lease_script(client(f"lease{number}")))
        for number in range(plan.watch_clients):
            Task(self, watch_script(client(f"watch{number}")))
        if plan.compacting:
            Task(self, compact_script(client("compactor")))
        Task(self, admin_script(client("admin")))

    # -- Liveness

    def _quorum_alone(self) -> None:
        """Heal a random quorum, make every other fault permanent, and require progress."""
        rng = self.stream("quorum")
        self.nemesis.active = False
        self.clock.run_until(self.clock.now_ns + 10 * MS)
        members = self.members()
        learners = self._learners()
        voters = [node for node in members if node.name not in learners]
        need = self._voters_in_force() // 2 + 1
        if MEMBERS in self.plan.faults:
            # A member that is being added or promoted may come to count.
            need = min((len(self.member_list()) + 1) // 2 + 1, max(need, len(voters)))
        if len(voters) < need:
            raise Violation(f"{need} voters are needed, only {len(voters)} can run")
        core = rng.sample(voters, rng.randrange(need, len(voters) + 1))
        self.say(f"quorum alone: {','.join(node.name for node in core)}")
        outside = [node.name for node in self.nodes.values() if node not in core]
        self.network.faults = LinkFaults()
        self.network.heal()
        for node in self.nodes.values():
            if node.name in outside:
                self.network.isolate(node.name, [one.name for one in core])
            elif node.gone:
                continue
            self._repair(node)
        self._require_writes(core, "a quorum alone")

    def _learners(self) -> list[str]:
        return [self.name_of(member.id) for member in self.member_list() if member.is_learner]

    def _voters_in_force(self) -> int:
        members = self.member_list()
        return sum(not member.is_learner for member in members) if members else len(self.members())

    def _repair(self, node: Node) -> None:
        node.disk.stall = 0.0
        if node.disk.erred:
            node.crash()
        node.disk.failed = False
        node.disk.no_faults()
        node.resume()
        if not node.alive:
            node.start()

    def _require_writes(self, nodes: list[Node], who: str) -> None:
        """Require that a write through each of these members succeeds, but for those removed meanwhile."""
        client = Client(self, f"probe-{who.replace(' ', '-')}", None)
        deadline_ns = self.clock.now_ns + _CONVERGE_NS
        waiting = {node.name: node for node in nodes}
        while waiting:
            if self.clock.now_ns > deadline_ns:
                raise Violation(f"{who} makes no progress: no write through {','.join(waiting)}")
            for (alarm, member_id), node in zip(self.model.alarms, waiting.values(), strict=False):
                disarm = AlarmRequest(action=AlarmRequest.DEACTIVATE, memberID=member_id, alarm=AlarmType.Name(alarm))
                client.call("/etcdserverpb.Maintenance/Alarm", "alarm", disarm, AlarmResponse, node)
            ops = []
            for node in waiting.values():
                request = PutRequest(key=b"k-probe", value=client.value())
                ops.append(client.call("/etcdserverpb.KV/Put", "put", request, PutResponse, node, 3 * SECOND))
            self.wait(3 * SECOND + 100 * MS, lambda calls=ops: all(op.done for op in calls))  # type: ignore[misc]
            for op in ops:
                if op.response is not None:
                    waiting.pop(op.node, None)
            members = [node.name for node in self.members()]
            waiting = {name: node for name, node in waiting.items() if name in members}

    def wait(self, limit_ns: int, condition: Callable[[], bool]) -> None:
        """Let time pass until a condition holds, or the limit is reached."""
        end_ns = self.clock.now_ns + limit_ns
        while self.clock.now_ns < end_ns and not condition():
            self.clock.run_until(self.clock.now_ns + 50 * MS)

    # -- The end

    def _everybody(self) -> None:
        """Heal everything, let the clients come to rest, and wait until all members are equal."""
        self.say("everybody")
        self.network.heal()
        for node in self.nodes.values():
            if not node.gone:
                self._repair(node)
        self.active = False
        members = self.members()
        self._require_writes([node for node in members if node.name not in self._learners()], "the whole cluster")
        self._settle()
        admin = Client(self, "auditor", None)
        admin.seen_rev = self.model.rev
        Task(self, hash_script(admin))
        for stream in self.streams:
            stream.rpc.hurry()
        self.clock.run_until(self.clock.now_ns + _DRAIN_NS)
        self.wait(_EXPIRY_NS, lambda: not self.model.leases)
        self._settle()

    def _settle(self) -> None:
        """Wait until all members have applied the same."""
        deadline_ns = self.clock.now_ns + _CONVERGE_NS
        while True:
            self.clock.run_until(self.clock.now_ns + 200 * MS)
            members = self.members()
            indexes = {node.server.applied_index if node.server else -1 for node in members}
            if len(indexes) == 1 and -1 not in indexes:
                return
            if self.clock.now_ns > deadline_ns:
                raise Violation(f"members do not become equal: applied {sorted(indexes)}")

    def check(self) -> None:
        """Check the whole history. Raises Violation with the first problem."""
        problems = list(self.history.problems)
        problems += check_kv(self.model, self.history)
        problems += check_watches(self.model, self.history, self.streams, [node.name for node in self.members()])
        problems += check_leases(self)
        problems += check_end(self)
        if problems:
            raise Violation("; ".join(problems[:5]) + (f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""))

    def counts(self) -> dict[str, int]:
        """Return what happened, in numbers."""
        history, observer = self.history, self.observer
        return {
            "events": self.clock.events,
            "entries": self.model.index,
            "calls": len(history.ops),
            "answers": sum(op.response is not None for op in history.ops),
            "watchers": len(history.watches),
            "watch events": sum(len(one.events) for watched in history.watches for one in watched.received),
            "renewals": len(history.renewals),
            "terms with a leader": len(observer.leaders),
            "starts": sum(node.starts for node in self.nodes.values()),
            "snapshots installed": observer.snapshots_installed,
            "quorum images": observer.durable_checks,
            "faults": sum(self.nemesis.counts.values()),
        }

    def summary(self) -> str:
        """Return what happened, in a line."""
        return f"trace {self.clock.trace:08x}, {describe(self.counts())}"


def describe(counts: dict[str, int]) -> str:
    """Return numbers with their names."""
    return ", ".join(f"{number} {name}" for name, number in counts.items())
