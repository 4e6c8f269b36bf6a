"""A watch that goes on through reconnects: every event once, in order, or a CompactedError.

    async for batch in client.watch("config/", prefix=True): for event in batch.events: ...

`_next_revision` is where the server would have to start again to lose and repeat nothing: behind the last event handed
out, behind the revision at creation, and behind a periodic progress notification. Fragments of one response are put
together before anything is handed out, so that a break between two fragments repeats neither. The answer to a
manual progress request does not move it: servers before 3.5.8 answer those ahead of events.

A stream asks for a leader (`hasleader`): a member that lost its cluster ends it, and the watch moves to another member.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from quorate import errors
from quorate.client.channel import LOGINS_MAX, REQUIRE_LEADER, Channel
from quorate.client.errors import CompactedError, EtcdError, PermissionDeniedError, public
from quorate.client.link import Stream
from quorate.client.methods import WATCH
from quorate.client.policy import backoff_s
from quorate.errors import RpcError
from quorate.proto import rpc_pb2 as pb
from quorate.proto.kv_pb2 import Event


@dataclass(frozen=True)
class WatchBatch:
    """What came together: events of one revision or more, in order; none means progress up to `revision`."""

    revision: int
    events: list[Event]


RETRIABLE = (errors.UNAVAILABLE, errors.INTERNAL, errors.UNKNOWN, errors.CANCELED, errors.RESOURCE_EXHAUSTED)


class Watcher:
    """An asynchronous iterator of WatchBatch. It ends when it is closed."""

    def __init__(self, channel: Channel, request: pb.WatchCreateRequest) -> None:
        self._channel = channel
        self._request = request
        self._request.fragment = True
        self._next_revision = request.start_revision
        self._stream: Stream | None = None
        self._created = False
        self._closed = False
        self._parts: list[Event] = []
        self._logins = 0

    def __aiter__(self) -> Watcher:
        return self

    async def __anext__(self) -> WatchBatch:
        batch = await self.next()
        if batch is None:
            raise StopAsyncIteration
        return batch

    async def __aenter__(self) -> Watcher:
        await self.ready()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def ready(self) -> None:
        """Return once the server has the watch: what is written from now on will be seen."""
        while not self._created and not self._closed:
            await self._receive()

    async def next(self, timeout_s: float | None = None) -> WatchBatch | None:
        """Return the next batch, None after `close`. Raises CompactedError, EtcdError, TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while not self._closed:
                batch = await self._receive()
                if batch is not None:
                    return batch
        return None

    async def request_progress(self) -> None:
        """Ask for a batch without events that says how far this watch has come. Old servers may not answer."""
        if self._stream is not None and not self._stream.ended:
            self._stream.send(pb.WatchRequest(progress_request=pb.WatchProgressRequest()).SerializeToString())

    async def close(self) -> None:
        """End the watch."""
        self._closed = True
        if self._stream is not None:
            self._stream.cancel()

    async def _receive(self) -> WatchBatch | None:
        """Take one response; None when it brought nothing for the caller."""
        stream = self._stream if self._stream is not None else await self._open()
        try:
            data = await stream.next()
        except RpcError as error:
            await self._broken(error)
            return None
        if data is None:
            await self._broken(None)
            return None
        return self._take(WATCH.decode(data))

    async def _open(self) -> Stream:
        self._link, self._stream = await self._channel.stream(WATCH, REQUIRE_LEADER)
        self._parts = []
        self._request.start_revision = self._next_revision
        self._stream.send(pb.WatchRequest(create_request=self._request).SerializeToString())
        return self._stream

    async def _broken(self, error: RpcError | None) -> None:
        stream, self._stream = self._stream, None
        if self._closed:
            return
        if error is not None:
            if error.code not in RETRIABLE and not self._channel.stale(error):
                raise public(error, False)
            if self._channel.stale(error) and stream is not None:
                self._channel.forget_token(stream.headers)
        if stream is not None:
            self._channel.leave(self._link)
        await asyncio.sleep(backoff_s(0))

    def _take(self, response: pb.WatchResponse) -> WatchBatch | None:
        if response.created and not response.canceled:
            self._created = True
            self._logins = 0
            if self._next_revision == 0:
                self._next_revision = response.header.revision + 1
            return None
        if response.compact_revision:
            self._stop()
            raise CompactedError(response.compact_revision)
        if response.canceled:
            self._canceled(response.cancel_reason)
            return None
        self._parts.extend(response.events)
        if response.fragment:
            return None
        events, self._parts = self._parts, []
        if events:
            # What a restarted stream may repeat of a revision that was handed out already is left out.
            events = [event for event in events if event.kv.mod_revision >= self._next_revision]
            if not events:
                return None
            self._next_revision = events[-1].kv.mod_revision + 1
        elif response.watch_id >= 0:
            self._next_revision = max(self._next_revision, response.header.revision + 1)
        return WatchBatch(response.header.revision, events)

    def _canceled(self, reason: str) -> None:
        self._stop()
        if self._logins < LOGINS_MAX and self._channel.refused(reason, self._stream):
            self._logins += 1
            if self._stream is not None:
                self._channel.forget_token(self._stream.headers)
            self._stream = None
            self._closed = False
            return
        if "required revision has been compacted" in reason:
            raise CompactedError(0)
        if "permission denied" in reason:
            raise PermissionDeniedError(errors.PERMISSION_DENIED, reason)
        raise EtcdError(errors.UNKNOWN, reason or "watch is canceled by the server")

    def _stop(self) -> None:
        self._closed = True
        if self._stream is not None:
            self._stream.cancel()
