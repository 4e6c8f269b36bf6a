"""Snapshots between members, and what a member that starts for the first time hears from the others.

A snapshot takes the peer room's way: the sender's view of its database, as bytes, with the message; at the receiver a
file that is written, synced and renamed in the worker before raft hears of the message; the sender is told how it went.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quorate.membership.member import hex_id, member_json
from quorate.raft.codec import decode_message, encode_message
from quorate.raft.types import MSG_SNAP, Message, Snapshot
from quorate.server.join import Answer, Elsewhere
from quorate.storage.snapfile import snap_db_name
from quorate.storage.view import ReadView

if TYPE_CHECKING:
    from quorate.sim.node import Node
    from quorate.sim.world import World

_SNAP_DIR = "d/member/snap"


class Transfer:
    """One snapshot on its way."""

    def __init__(self, world: World, source: Node, target: Node, message: Message) -> None:
        self.world = world
        self.source = source
        self.target = target
        self.message = message
        self.sender_loop = source.loop
        self.receiver_loop = target.loop
        self.data = b""
        self.database = b""
        self.index = 0
        self.over = False

    def start(self) -> None:
        """Ask the sender's server for the view."""
        assert self.source.server is not None
        self.source.server.make_snapshot(self._made)

    def _made(self, snapshot: Snapshot, view: ReadView) -> None:
        message = self.message
        whole = Message(MSG_SNAP, message.to, message.frm, message.term, snapshot=snapshot)
        self.index = snapshot.index
        self.data = encode_message(whole)
        self.database = b"".join(view.chunks(32768))
        view.close()
        self.world.say(f"{self.source.name} sends a snapshot at {self.index} to {self.target.name}")
        self.world.clock.note(self.data)
        now_ns = self.sender_loop.monotonic_ns()
        self.world.network.send(self.source.name, self.target.name, self._arrived, now_ns, lost=self._lost)

    def _arrived(self) -> None:
        target = self.target
        if not target.alive or target.server is None:
            self._lost()
            return
        self.receiver_loop = target.loop
        target.loop.call(self._receive)

    def _receive(self) -> None:
        server = self.target.server
        if server is None or self.source.member_id in server.cluster.removed:
            self._lost()
        else:
            self.receiver_loop.work(self._write, self._written)

    def _write(self) -> object:
        """In the receiver's worker."""
        disk = self.target.disk
        path = f"{_SNAP_DIR}/tmp{self.index}"
        file = disk.open(path, create=True)
        for offset in range(0, len(self.database), 32768):
            file.write_at(self.database[offset : offset + 32768], offset)
        file.sync()
        file.close()
        final = f"{_SNAP_DIR}/{snap_db_name(self.index)}"
        if disk.exists(final):
            disk.remove(path)
        else:
            disk.rename(path, final)
        disk.sync_dir(_SNAP_DIR)
        return None

    def _written(self, _result: object, error: BaseException | None) -> None:
        if error is not None or self.target.server is None:
            self._lost()
            return
        self.target.server.step(decode_message(self.data))
        now_ns = self.receiver_loop.monotonic_ns()
        self.world.network.send(self.target.name, self.source.name, self._confirmed, now_ns, lost=self._lost)

    def _confirmed(self) -> None:
        self._report(True)

    def _lost(self) -> None:
        self._report(False)

    def _report(self, ok: bool) -> None:
        if self.over:
            return
        self.over = True

        def tell() -> None:
            server = self.source.server
            if server is not None:
                server.snapshot_released(ok)
                server.report_snapshot(self.target.member_id, ok)

        self.world.clock.later(0, lambda: self.sender_loop.call(tell))


class Others(Elsewhere):
    """The other members, as seen by one who has not started."""

    def __init__(self, world: World, node: Node) -> None:
        self._world = world
        self._node = node

    def get(self, urls: list[str], limit_ns: int) -> list[Answer | None]:
        """Answer /members of those that can be reached, and nothing else."""
        return [self._answer(url, limit_ns) for url in urls]

    def _answer(self, url: str, _limit_ns: int) -> Answer | None:
        base, _, path = url.rpartition("/")
        other = next((node for node in self._world.nodes.values() if node.url == base), None)
        if other is None or other.server is None or not self._world.network.linked(self._node.name, other.name):
            return None
        cluster = other.server.cluster
        headers = {"x-etcd-cluster-id": hex_id(cluster.cluster_id)}
        if path == "members":
            members = b",".join(member_json(member) for member in cluster.member_list())
            return Answer(200, headers, b"[" + members + b"]\n")
        if path == "version":
            return Answer(200, headers, b'{"etcdserver":"3.6.14","etcdcluster":"3.6.0","storage":"3.6.0"}')
        return None
