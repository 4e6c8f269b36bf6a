"""Three servers in virtual time that talk through the peer room: its requests go to its handlers, byte for byte."""

from __future__ import annotations

import pytest

from quorate.peer.exchange import Dialer, Exchange, Field, WholeReply, request_head
from quorate.peer.handler import PeerHandler
from quorate.peer.network import Network
from quorate.peer.versions import Identity
from quorate.peer.web import PeerWeb
from quorate.ports import NullLog
from quorate.proto.lease_pb2 import LeaseInternalRequest, LeaseInternalResponse
from quorate.proto.rpc_pb2 import (
    LeaseGrantRequest,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseTimeToLiveRequest,
    PutRequest,
    RangeRequest,
    RangeResponse,
)
from quorate.raft.codec import encode_message
from quorate.raft.types import MSG_SNAP, MSG_VOTE, ConfState, Message, Snapshot
from quorate.server.bootstrap import BootstrapOptions
from quorate.server.config import ServerConfig
from quorate.server.core import Server
from quorate.wire.frames import Limits, TransportStats
from quorate.wire.http1 import Http1Connection
from quorate.wire.web import FunctionHandler
from tests.fakes.disk import SimDisk
from tests.server.test_cluster import ClusterBootstrap
from tests.server.world import MS, SECOND, Answer, FakeLoop

NAMES = ("m1", "m2", "m3")


class Cable:
    """One connection. `cut`: nothing arrives any more; `full`: the client's side takes nothing from the server."""

    def __init__(self, world: World, exchange: Exchange, server: Http1Connection, ends: set[str]) -> None:
        self.world = world
        self.exchange = exchange
        self.server = server
        self.ends = ends
        self.over = False
        exchange.wants_write = self._wanted
        server.wants_write = self._wanted
        self._wanted(exchange)

    def _wanted(self, _: object) -> None:
        self.world.loop.soon(self.pump)

    def pump(self) -> None:
        if self.over or self.ends & self.world.stuck:
            return
        to_server = self.exchange.take_output()
        if to_server:
            self.server.receive(to_server)
        to_client = self.server.take_output()
        if to_client:
            self.exchange.receive(to_client)
        if self.server.closed or self.exchange.closed or self.ends & self.world.cut:
            self.over = True
            self.exchange.lost()
            self.server.lost()


class VirtualDialer(Dialer):
    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name

    def dial(self, url: str, exchange: Exchange) -> None:
        self.world.loop.later(MS, lambda: self._dial(url, exchange))

    def _dial(self, url: str, exchange: Exchange) -> None:
        if exchange.closed:
            return
        target = url.rpartition("/")[2].partition(":")[0]
        if {self.name, target} & self.world.cut or target not in self.world.handlers:
            exchange.refused("connection refused")
            return
        clock = self.world.loop.monotonic_ns
        server = Http1Connection(self.world.handlers[target], Limits(), clock, self.name, TransportStats())
        self.world.cables.append(Cable(self.world, exchange, server, {self.name, target}))


class World:
    def __init__(self) -> None:
        self.loop = FakeLoop(3)
        self.cut: set[str] = set()
        self.stuck: set[str] = set()
        self.cables: list[Cable] = []
        self.handlers: dict[str, PeerHandler] = {}
        self.servers: dict[str, Server] = {}
        self.networks: dict[str, Network] = {}
        self.disks = {name: SimDisk(number) for number, name in enumerate(NAMES)}
        self.urls = {name: [f"http://{name}:2380"] for name in NAMES}
        for name in NAMES:
            self.boot(name)
        self.loop.later(100 * MS, self._tick)

    def _tick(self) -> None:
        self.cables = [cable for cable in self.cables if not cable.over]
        for cable in self.cables:
            cable.exchange.tick(self.loop.now_ns)
            cable.pump()
        self.loop.later(100 * MS, self._tick)

    def boot(self, name: str) -> None:
        config = ServerConfig(name=name, data_dir="d", snap_dir="d/member/snap", wal_dir="d/member/wal")
        config.client_urls = [f"http://{name}:2379"]
        config.snapshot_count = 50
        config.snapshot_catchup_entries = 5
        options = BootstrapOptions(initial_cluster=self.urls, peer_urls=self.urls[name])
        parts = ClusterBootstrap(self.loop, self.disks[name], NullLog(), config, options).run()
        identity = Identity(parts.member_id, parts.cluster.cluster_id, self.urls[name])
        network = Network(self.loop, NullLog(), VirtualDialer(self, name), identity)
        parts.transport = network
        for member_id, urls in parts.first_peers.items():
            if member_id != parts.member_id:
                network.add_peer(member_id, urls)
        server = Server(parts)
        network.start(server)
        web = PeerWeb(
            self.loop,
            identity,
            server,
            FunctionHandler(
                lambda request, reply: reply.respond(200 if b"probing" in request.target else 404, [], b"")
            ),
        )
        self.handlers[name] = PeerHandler(self.loop, self.disks[name], NullLog(), network, "d/member/snap", web)
        self.servers[name] = server
        self.networks[name] = network
        server.start()

    def leader(self) -> str:
        def leads() -> list[str]:
            return [name for name, one in self.servers.items() if name not in self.cut and one._turn.term_begun]

        self.loop.run_until(lambda: bool(leads()))
        return leads()[0]

    def put(self, name: str, key: bytes, value: bytes = b"v") -> Answer:
        answer = Answer()
        request = PutRequest(key=key, value=value)
        self.servers[name].put(request, request.SerializeToString(), answer)
        return answer

    def wait(self, *answers: Answer) -> None:
        self.loop.run_until(lambda: all(answer.done for answer in answers))
        assert all(answer.response is not None for answer in answers), [answer.error for answer in answers]

    def ask(self, name: str, method: bytes, path: str, headers: list[Field], body: bytes) -> tuple[int, bytes]:
        """Send a request to a member's peer port."""
        got: list[tuple[int, bytes]] = []
        reply = WholeReply(
            1 << 20, lambda status, _headers, answer, error: got.append((status, answer or error.encode()))
        )
        head = request_head(method, path, name, headers, len(body))
        dialer = VirtualDialer(self, "outside")
        dialer.dial(f"http://{name}:2380", Exchange(self.loop.monotonic_ns, head, body, None, reply, 10 * SECOND))
        self.loop.run_until(lambda: bool(got))
        return got[0]

    def same(self) -> bool:
        return len({(one.store.current_rev, one.applied_index) for one in self.servers.values()}) == 1


@pytest.fixture
def world() -> World:
    world = World()
    world.leader()
    world.loop.advance(6 * SECOND)
    return world


def test_members_talk_on_four_streams_a_pair(world: World) -> None:
    leader = world.leader()
    follower = next(name for name in NAMES if name != leader)
    world.wait(*[world.put(name, b"k%d" % number) for number in range(20) for name in (leader, follower)])
    world.loop.advance(SECOND)
    assert world.same()
    for network in world.networks.values():
        for peer in network.peers.values():
            assert peer.apps.attached
            assert peer.messages.attached
            assert peer.active_since_ns > 0
            assert str(peer.version) == "3.6.14"
            assert sum(peer.stats.rtt_seconds.counts) > 0
    assert len([cable for cable in world.cables if not cable.over]) == 12


def test_a_member_that_was_cut_off_comes_back_by_a_snapshot(world: World) -> None:
    leader = world.leader()
    away = next(name for name in NAMES if name != leader)
    world.cut = {away}
    for cable in world.cables:
        cable.pump()
    for number in range(200):
        world.wait(world.put(leader, b"k%d" % number))
        world.loop.advance(5 * MS)
    assert world.networks[leader].active_since_ns(world.servers[away].member_id) == 0
    world.cut = set()
    world.loop.run_until(world.same)
    sent = world.networks[leader].snapshots_sent[world.servers[away].member_id]
    assert (sent.success, sent.inflights) == (1, 0)
    received = world.networks[away].snapshots_received[world.servers[leader].member_id]
    assert (received.success, received.inflights) == (1, 0)
    assert world.servers[away].store.current_rev == world.servers[leader].store.current_rev
    names = world.disks[away].list_dir("d/member/snap")
    assert not [name for name in names if name.startswith("tmp") or name.endswith(".snap.db")]
    world.wait(world.put(away, b"after"))


def test_a_member_answers_while_it_loads_a_snapshot(world: World) -> None:
    leader = world.leader()
    away = next(name for name in NAMES if name != leader)
    behind = world.servers[away]
    behind.config.load_slice = 3
    world.wait(world.put(leader, b"k", b"old"))
    world.loop.run_until(world.same)
    old_rev = behind.store.current_rev
    world.cut = {away}
    for cable in world.cables:
        cable.pump()
    for number in range(200):
        world.wait(world.put(leader, b"k%d" % number))
        world.loop.advance(5 * MS)
    world.wait(world.put(leader, b"k", b"new"))
    world.cut = set()
    seen: list[tuple[int, bytes]] = []

    def loading() -> bool:
        received = behind._snapshots._received
        return received is not None and received._db is not None

    world.loop.run_until(loading)

    def read() -> None:
        """What others do between the slices."""
        answer = Answer()
        behind.range(RangeRequest(key=b"k", serializable=True), answer)
        assert answer.response is not None
        found = RangeResponse.FromString(answer.response)
        seen.append((found.header.revision, found.kvs[0].value))
        if loading():
            world.loop.soon(read)

    read()
    world.loop.run_until(lambda: behind._snapshots.installs == 0)
    world.loop.run_until(world.same)
    assert len(seen) > 60
    assert set(seen) == {(old_rev, b"old")}
    read()
    assert seen[-1] == (world.servers[leader].store.current_rev, b"new")


def test_a_stream_that_takes_nothing_is_given_up(world: World) -> None:
    leader = world.leader()
    stuck = next(name for name in NAMES if name != leader)
    peer = world.networks[leader].peers[world.servers[stuck].member_id]
    world.stuck = {stuck}
    world.loop.advance(peer._identity.write_timeout_ns + 3 * SECOND)
    assert not peer.messages.attached
    assert peer.active_since_ns == 0
    assert peer.stats.sent_failures > 0
    world.stuck = set()
    world.loop.run_until(lambda: peer.messages.attached and peer.apps.attached)
    world.wait(world.put(stuck, b"again"))


def test_requests_are_checked_in_etcds_order(world: World) -> None:
    other = world.networks["m2"].identity
    own = world.servers["m1"].member_id
    vote = Message(MSG_VOTE, own, other.member_id, 1)
    body = encode_message(vote)
    bare: list[Field] = [(b"X-Server-Version", b"3.5.1"), (b"X-Min-Cluster-Version", b"3.0.0")]
    assert world.ask("m1", b"GET", "/raft", other.headers, b"") == (405, b"Method Not Allowed\n")
    assert world.ask("m1", b"POST", "/raft", [], body) == (412, b"incompatible version\n")
    too_new = [(b"X-Server-Version", b"9.0.0"), (b"X-Min-Cluster-Version", b"9.0.0")]
    assert world.ask("m1", b"POST", "/raft", too_new, body) == (412, b"incompatible version\n")
    assert world.ask("m1", b"POST", "/raft", bare, body) == (412, b"cluster ID mismatch\n")
    assert world.ask("m1", b"POST", "/raft", other.headers, b"\xff") == (400, b"error unmarshalling raft message\n")
    stray = encode_message(Message(MSG_VOTE, 1234, other.member_id, 1))
    said = b'{"message":"cannot process message to mismatch member"}'
    assert world.ask("m1", b"POST", "/raft", other.headers, stray) == (403, said)
    assert world.ask("m1", b"POST", "/raft", other.headers, body) == (204, b"")
    assert world.ask("m1", b"GET", "/other", other.headers, b"")[0] == 404


def test_a_snapshot_that_makes_no_sense_leaves_nothing_behind(world: World) -> None:
    other = world.networks["m2"].identity
    own = world.servers["m1"].member_id
    snap = Message(MSG_SNAP, own, other.member_id, 9, snapshot=Snapshot(b"", 7, 1, ConfState([own])))
    encoded = encode_message(snap)
    whole = len(encoded).to_bytes(8, "big") + encoded + b"db"
    vote = encode_message(Message(MSG_VOTE, own, other.member_id, 1))
    for body in (b"", b"\xff" * 8, whole[:20], len(vote).to_bytes(8, "big") + vote):
        assert world.ask("m1", b"POST", "/raft/snapshot", other.headers, body)[0] == 400
    stray = encode_message(Message(MSG_SNAP, 1234, other.member_id, 9, snapshot=Snapshot(b"", 7, 1, ConfState([own]))))
    body = len(stray).to_bytes(8, "big") + stray + b"db"
    assert world.ask("m1", b"POST", "/raft/snapshot", other.headers, body)[0] == 403
    world.loop.advance(SECOND)
    assert world.loop.dead is None
    assert not [name for name in world.disks["m1"].list_dir("d/member/snap") if name.startswith("tmp")]


def test_leases_are_answered_by_the_leader_alone(world: World) -> None:
    leader = world.leader()
    follower = next(name for name in NAMES if name != leader)
    answer = Answer()
    grant = LeaseGrantRequest(ID=77, TTL=60)
    world.servers[follower].lease_grant(grant, grant.SerializeToString(), answer)
    world.wait(answer)
    body = LeaseKeepAliveRequest(ID=77).SerializeToString()
    status, data = world.ask(leader, b"POST", "/leases", [], body)
    assert (status, LeaseKeepAliveResponse.FromString(data).TTL) == (200, 60)
    assert world.ask(follower, b"POST", "/leases", [], body) == (400, b"not a primary lessor\n")
    missing = LeaseKeepAliveRequest(ID=78).SerializeToString()
    assert world.ask(leader, b"POST", "/leases", [], missing) == (404, b"lease not found\n")
    assert world.ask(leader, b"POST", "/leases", [], b"\xff") == (400, b"error unmarshalling request\n")
    look = LeaseInternalRequest(LeaseTimeToLiveRequest=LeaseTimeToLiveRequest(ID=77, keys=True)).SerializeToString()
    status, data = world.ask(leader, b"POST", "/leases/internal", [], look)
    found = LeaseInternalResponse.FromString(data).LeaseTimeToLiveResponse
    assert (status, found.grantedTTL, found.ID) == (200, 60, 77)
    got: list[object] = []
    world.servers[follower].lease_renew(77, lambda ttl, error: got.append((ttl, error)))
    world.loop.run_until(lambda: bool(got))
    assert got == [(60, None)]
    assert world.ask(leader, b"GET", "/downgrade/enabled", [], b"") == (200, b"false")
    assert world.ask(leader, b"GET", "/members/hashkv", [], b'{"revision":99999}')[0] == 400
    assert world.ask(leader, b"POST", "/members/promote/1", [], b"") == (404, b"membership: ID not found\n")
