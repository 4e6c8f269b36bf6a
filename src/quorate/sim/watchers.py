"""Clients that watch: from the past, the head and the future, some slowly, and again elsewhere when it breaks off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quorate.proto.rpc_pb2 import (
    WatchCancelRequest,
    WatchCreateRequest,
    WatchProgressRequest,
    WatchRequest,
    WatchResponse,
)
from quorate.sim.calls import Rpc
from quorate.sim.clients import LEASED, PREFIX, PREFIX_END, Client, Script
from quorate.sim.clock import MS, SECOND
from quorate.sim.history import Received, Watched

if TYPE_CHECKING:
    from quorate.sim.node import Node


class Stream:
    """One watch stream with its watchers."""

    def __init__(self, client: Client, node: Node) -> None:
        self.client = client
        self.world = client.world
        self.node = node
        self.watched: dict[int, Watched] = {}
        self._creating: list[Watched] = []  # in the order of their requests
        self.rpc = Rpc(client.world, client.name, b"/etcdserverpb.Watch/Watch")
        self.rpc.on_message = self._message
        self.rpc.on_end = self._ended
        if client.rng.random() < 0.3:
            self.rpc.headers[b"hasleader"] = b"true"
        self.slow = client.rng.random() < 0.3
        self.rpc.slow = self.slow
        self.rpc.start(node, None)

    @property
    def over(self) -> bool:
        """Whether the stream has ended."""
        return self.rpc.done

    def waiting(self) -> bool:
        """Tell whether a watcher was asked for that is not there yet."""
        return bool(self._creating)

    def create(self, request: WatchCreateRequest) -> None:
        """Ask for a watcher."""
        watched = Watched(self.client.name, self.node.name, request)
        self.world.history.watches.append(watched)
        self._creating.append(watched)
        self.rpc.send(WatchRequest(create_request=request).SerializeToString())

    def cancel(self, watch_id: int) -> None:
        """End a watcher."""
        self.rpc.send(WatchRequest(cancel_request=WatchCancelRequest(watch_id=watch_id)).SerializeToString())

    def ask_progress(self) -> None:
        """Ask how far all watchers are."""
        self.rpc.send(WatchRequest(progress_request=WatchProgressRequest()).SerializeToString())

    def _message(self, raw: bytes) -> None:
        response = WatchResponse.FromString(raw)
        rev = response.header.revision
        now_ns = self.world.clock.now_ns
        self.client.seen_rev = max(self.client.seen_rev, rev)
        if response.created:
            self._created(response)
            return
        if response.watch_id == -1:
            for watched in self.watched.values():
                if not watched.compacted:
                    watched.received.append(Received(rev, [], now_ns))
            return
        known = self.watched.get(response.watch_id)
        if known is None:
            self.world.history.problems.append(f"response for an unknown watch {response.watch_id}")
            return
        if response.compact_revision:
            known.compacted = response.compact_revision
            known.compacted_ns = now_ns
            known.alive = False
        elif response.canceled:
            known.alive = False
            del self.watched[response.watch_id]
        else:
            known.received.append(Received(rev, list(response.events), now_ns))

    def _created(self, response: WatchResponse) -> None:
        watched = self._creating.pop(0)
        if response.canceled:
            self.world.history.problems.append(f"{watched!r} refused: {response.cancel_reason}")
            watched.alive = False
            return
        watched.created_rev = response.header.revision
        if watched.start_rev == 0:
            watched.start_rev = response.header.revision + 1
        self.watched[response.watch_id] = watched

    def _ended(self) -> None:
        for watched in [*self.watched.values(), *self._creating]:
            watched.alive = False


def watch_script(client: Client) -> Script:
    """Watch, ask for progress, stall, and begin again where it broke off."""
    rng, world = client.rng, client.world
    resume: list[WatchCreateRequest] = []
    while world.active:
        stream = Stream(client, client.node())
        world.streams.append(stream)
        for request in resume or [_request(client) for _ in range(rng.randrange(1, 4))]:
            stream.create(request)
        patience_ns = int(rng.expovariate(1 / (4 * SECOND)))
        while world.active and not stream.over and patience_ns > 0:
            pause_ns = rng.randrange(20, 400) * MS
            patience_ns -= pause_ns
            yield pause_ns
            stream.rpc.take()
            if rng.random() < 0.4:
                stream.ask_progress()
            if stream.watched and rng.random() < 0.05:
                stream.cancel(rng.choice(list(stream.watched)))
        if not world.active:
            return
        resume = []
        for watched in [one for one in stream.watched.values() if not one.compacted and one.start_rev]:
            again = WatchCreateRequest()
            again.CopyFrom(watched.request)
            again.start_revision = watched.next_rev()
            resume.append(again)
        if rng.random() < 0.5:
            resume = []
        stream.rpc.cancel()
        yield 1 + rng.randrange(200) * MS


def _request(client: Client) -> WatchCreateRequest:
    rng = client.rng
    request = WatchCreateRequest(prev_kv=rng.random() < 0.4, progress_notify=rng.random() < 0.5)
    form = rng.randrange(4)
    if form == 0:
        request.key = client.key()
    elif form == 1:
        request.key, request.range_end = LEASED, b"\0"
    else:
        request.key, request.range_end = PREFIX, PREFIX_END
    start = rng.randrange(4)
    if start == 1:
        request.start_revision = max(1, client.seen_rev + rng.randrange(-100, 100))
    elif start == 2:
        request.start_revision = max(1, client.seen_rev - rng.randrange(20))
    filters = rng.randrange(8)
    if filters < 2:
        request.filters.append(WatchCreateRequest.NOPUT if filters else WatchCreateRequest.NODELETE)
    return request
