"""One watch of the cluster that serves many clients' watches of the same range.

A client's watch joins one that is not ahead of it, or begins a new one; a new one that has caught up with an older one
is merged into it, as long as it has few clients. Events that a client has had already, or does not want, are left out
for it. A broken stream is opened again where it broke. Source: etcd's server/proxy/grpcproxy/watch_broadcast*.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from quorate import errors
from quorate.client.channel import REQUIRE_LEADER
from quorate.client.link import Stream
from quorate.client.policy import backoff_s
from quorate.errors import RpcError
from quorate.proto.kv_pb2 import Event
from quorate.proto.rpc_pb2 import ResponseHeader, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse
from quorate.proxy.namespace import Namespace
from quorate.proxy.upstream import Upstream
from quorate.wire.headers import Field

WATCH: Final = b"/etcdserverpb.Watch/Watch"
MERGED_MAX: Final = 5
"""A watch that serves so many clients stays by itself."""

RETRIED: Final = (
    errors.UNAVAILABLE, errors.INTERNAL, errors.UNKNOWN, errors.CANCELED, errors.RESOURCE_EXHAUSTED,
)  # fmt: skip

Span = tuple[bytes, bytes]


class Receiver:
    """A client's watch. `post` gets each response, complete but for what is the same for all clients."""

    def __init__(self, span: Span, watch_id: int, request: WatchCreateRequest, fields: list[Field]) -> None:
        self.span = span
        self.id = watch_id
        self.next_revision = request.start_revision
        self.fields = fields
        self.header = ResponseHeader()  # the last one that was sent
        self.broadcast: Broadcast | None = None
        self.post: Callable[[WatchResponse], None] = _nowhere
        self._progress = request.progress_notify
        self._prev_kv = request.prev_kv
        self._unwanted = {_EVENT_OF[each] for each in request.filters if each in _EVENT_OF}

    def send(self, response: WatchResponse) -> None:
        """Send what of a response this client is to get."""
        plain = not response.created and not response.canceled and not response.events
        if plain and not self._progress:
            return
        if self.next_revision > response.header.revision and response.events:
            return
        if self.next_revision == 0:
            self.next_revision = response.header.revision + 1
        events = [event for event in response.events if event.kv.mod_revision >= self.next_revision]
        if events:
            self.next_revision = events[-1].kv.mod_revision + 1
        events = [event for event in events if event.type not in self._unwanted]
        if response.events and not events:
            return
        mine = WatchResponse(
            header=response.header,
            watch_id=self.id,
            created=response.created,
            canceled=response.canceled,
            compact_revision=response.compact_revision,
            cancel_reason=response.cancel_reason,
            events=events,
        )
        if not self._prev_kv:
            for event in mine.events:
                event.ClearField("prev_kv")
        self.header.CopyFrom(response.header)
        self.post(mine)


def _nowhere(_: WatchResponse) -> None:
    """Nobody listens any more."""


_EVENT_OF: Final = {WatchCreateRequest.NOPUT: Event.PUT, WatchCreateRequest.NODELETE: Event.DELETE}


class Broadcast:
    """A watch of the cluster and the clients' watches that it serves."""

    def __init__(self, hub: WatchHub, receiver: Receiver) -> None:
        self.next_revision = receiver.next_revision
        self.receivers: dict[Receiver, None] = {}
        self.responses = 0
        self.over = False
        self._hub = hub
        self._span = receiver.span
        # A member that has lost its cluster ends the stream, so that it goes on with another one.
        self._fields = [*[field for field in receiver.fields if field[0] != b"hasleader"], *REQUIRE_LEADER]
        self._resume = receiver.next_revision
        self._header = ResponseHeader()
        self._stream: Stream | None = None
        self._asked: list[asyncio.Future[int]] = []
        self.add(receiver)
        self._task = hub.upstream.spawn(self._run())

    def add(self, receiver: Receiver) -> bool:
        """Serve a client's watch too, unless it would miss something."""
        if self.over or self.next_revision > receiver.next_revision:
            return False
        if self.next_revision == 0 and receiver.next_revision != 0:
            return False
        self.receivers[receiver] = None
        receiver.broadcast = self
        if self.responses:
            header = ResponseHeader()
            header.CopyFrom(self._header)
            header.revision = receiver.next_revision
            receiver.post(WatchResponse(header=header, watch_id=receiver.id, created=True))
        return True

    def remove(self, receiver: Receiver) -> None:
        """Serve a client's watch no more; without any, the cluster's is given up."""
        self.receivers.pop(receiver, None)
        if not self.receivers:
            self.stop()

    def stop(self) -> None:
        """Give the cluster's watch up."""
        self._end()
        self._task.cancel()

    def _end(self) -> None:
        self.over = True
        self._hub.forget(self, self._span)
        asked, self._asked = self._asked, []
        for future in asked:
            if not future.done():
                future.set_result(0)

    def take_over(self, other: Broadcast) -> None:
        """Serve another's clients, none of whom is behind us."""
        for receiver in other.receivers:
            self.receivers[receiver] = None
            receiver.broadcast = self
        other.receivers = {}
        other.stop()

    def progress(self) -> asyncio.Future[int]:
        """Ask how far the cluster's watch is; the revision comes once everything up to it was sent on, 0 if never."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self.over:
            future.set_result(0)
            return future
        self._asked.append(future)
        if self.responses and self._stream is not None and not self._stream.ended:
            self._ask()
        return future

    def _ask(self) -> None:
        if self._stream is not None:
            self._stream.send(WatchRequest(progress_request=WatchProgressRequest()).SerializeToString())

    async def _run(self) -> None:
        attempt = 0
        upstream = self._hub.upstream
        try:
            while not self.over:
                link = None
                try:
                    link, stream = await upstream.stream(WATCH, self._fields)
                    self._stream = stream
                    stream.send(self._request().SerializeToString())
                    while (raw := await stream.next()) is not None:
                        attempt = 0
                        self._received(WatchResponse.FromString(raw))
                        if self.over:
                            return
                except RpcError as error:
                    if error.code not in RETRIED:
                        canceled = WatchResponse(created=not self.responses, canceled=True, cancel_reason=error.text)
                        self._spread(canceled)
                        self._end()
                        return
                    if link is not None:
                        upstream.channel.leave(link)
                attempt += 1
                await asyncio.sleep(backoff_s(attempt))
        finally:
            if self._stream is not None:
                self._stream.cancel()

    def _request(self) -> WatchRequest:
        namespace = self._hub.namespace
        key, end = self._span
        create = WatchCreateRequest(
            key=namespace.key(key),
            range_end=namespace.end(end),
            start_revision=self._resume,
            prev_kv=True,
            progress_notify=True,
        )
        return WatchRequest(create_request=create)

    def _received(self, response: WatchResponse) -> None:
        revision = response.header.revision
        if response.canceled:
            self._spread(response)
            self._end()
        elif response.created:
            if self._resume == 0:
                self._resume = revision + 1
            if self.responses == 0:
                self._spread(response)
            if self._asked:
                self._ask()
        elif response.events:
            self._resume = response.events[-1].kv.mod_revision + 1
            self._hub.namespace.leave_events(response.events)
            self._spread(response)
        elif response.watch_id == -1:
            asked, self._asked = self._asked, []
            for future in asked:
                if not future.done():
                    future.set_result(revision)
        else:
            self._resume = revision + 1
            self._spread(response)

    def _spread(self, response: WatchResponse) -> None:
        # A watch from a revision on is there from the beginning, whatever the revision of its creation.
        if self.responses or self.next_revision == 0:
            self.next_revision = response.header.revision + 1
        self.responses += 1
        self._header.CopyFrom(response.header)
        receivers = list(self.receivers)
        for receiver in receivers:
            receiver.send(response)
        self._hub.coalesced_events += max(len(receivers) - 1, 0)
        if not self.over:
            self._hub.merge(self, self._span)


class WatchHub:
    """All watches of the cluster, by range."""

    def __init__(self, upstream: Upstream, namespace: Namespace) -> None:
        self.upstream = upstream
        self.namespace = namespace
        self.coalesced_events = 0
        self._broadcasts: dict[Span, list[Broadcast]] = {}

    def coalesced_watches(self) -> int:
        """Return how many watches of clients need none of their own."""
        return sum(max(len(each.receivers) - 1, 0) for group in self._broadcasts.values() for each in group)

    def watches(self) -> int:
        """Return how many watches of the cluster there are."""
        return sum(len(group) for group in self._broadcasts.values())

    def add(self, receiver: Receiver) -> None:
        """Serve a client's watch."""
        group = self._broadcasts.setdefault(receiver.span, [])
        for broadcast in group:
            if broadcast.add(receiver):
                return
        group.append(Broadcast(self, receiver))

    def remove(self, receiver: Receiver) -> None:
        """Serve a client's watch no more."""
        receiver.post = _nowhere
        if receiver.broadcast is not None:
            receiver.broadcast.remove(receiver)

    def merge(self, broadcast: Broadcast, span: Span) -> None:
        """Give a watch's clients to an older one that is not ahead of it."""
        if len(broadcast.receivers) >= MERGED_MAX:
            return
        for other in self._broadcasts.get(span, ()):
            if other is not broadcast and other.responses and broadcast.next_revision >= other.next_revision:
                other.take_over(broadcast)
                return

    def forget(self, broadcast: Broadcast, span: Span) -> None:
        """A watch of the cluster has ended."""
        group = self._broadcasts.get(span, [])
        if broadcast in group:
            group.remove(broadcast)
        if not group:
            self._broadcasts.pop(span, None)
