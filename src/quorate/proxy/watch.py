"""The Watch service of the proxy: clients' streams, whose watches share those of `broadcast`.

A client that may not read a range is told so before its watch joins another's. A stream whose client reads too slowly
is ended, since the others cannot wait for it. Source: etcd's server/proxy/grpcproxy/watch.go; beyond it, a client may
choose the ids of its watches and ask for progress.
"""

from __future__ import annotations

import asyncio
from typing import Final

from quorate import errors
from quorate.errors import RpcError
from quorate.proto.rpc_pb2 import RangeRequest, ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse
from quorate.proxy.broadcast import Receiver, WatchHub
from quorate.proxy.kv import RANGE, parse
from quorate.proxy.upstream import BROKEN, fields_of
from quorate.wire import grpc
from quorate.wire.rpc import Router, ServerCall

SLOW_BYTES: Final = 32 << 20
NO_ID: Final = -1


class WatchProxy:
    """Serves streams of watches."""

    def __init__(self, hub: WatchHub) -> None:
        self._hub = hub

    def register(self, router: Router) -> None:
        """Put the method into the router."""
        router.stream("/etcdserverpb.Watch/Watch", "bidi_stream", self._watch)

    def _watch(self, call: ServerCall) -> None:
        _Stream(self._hub, call)


class _Stream:
    """One client's stream. Requests are served one after another, in their order."""

    def __init__(self, hub: WatchHub, call: ServerCall) -> None:
        self._hub = hub
        self._call = call
        self._fields = fields_of(call)
        self._receivers: dict[int, Receiver] = {}
        self._next_id = 0
        self._requests: asyncio.Queue[bytes] = asyncio.Queue()
        self._task = hub.upstream.spawn(self._run())
        call.on_message = self._requests.put_nowait
        call.on_half_close = self._half_closed
        call.on_end = self._over

    def _half_closed(self) -> None:
        """The client asks for nothing more, but listens; etcd's proxy ends the stream here, a member does not."""

    def _over(self) -> None:
        self._task.cancel()
        for receiver in self._receivers.values():
            self._hub.remove(receiver)
        self._receivers = {}

    def _fail(self, error: RpcError) -> None:
        call = self._call
        if not call.ended:
            call.fail(error)
            self._over()

    def _post(self, response: WatchResponse) -> None:
        call = self._call
        call.send(response.SerializeToString())
        if call.queued_bytes() > SLOW_BYTES:
            self._hub.upstream.log.error("grpcproxy/watcher.go", "a watch stream is ended, its client reads too slowly")
            self._fail(grpc.CANCELED)

    async def _run(self) -> None:
        try:
            while True:
                request = parse(WatchRequest, await self._requests.get())
                kind = request.WhichOneof("request_union")
                if kind == "create_request":
                    await self._create(request.create_request)
                elif kind == "cancel_request":
                    self._cancel(request.cancel_request.watch_id)
                elif kind == "progress_request":
                    await self._progress()
        except RpcError as error:
            self._fail(error)
        except Exception:
            self._fail(BROKEN)
            raise

    async def _create(self, request: WatchCreateRequest) -> None:
        key, end = request.key, request.range_end
        if request.start_revision < 0:
            self._refuse(errors.COMPACTED.text)
            return
        problem = await self._forbidden(key, end)
        if problem:
            self._refuse(problem)
            return
        if not (not end or end > key or end == b"\0"):
            self._refuse("")
            return
        watch_id = request.watch_id
        if watch_id in self._receivers and watch_id:
            self._refuse("mvcc: duplicate watch ID provided on the WatchStream")
            return
        if not watch_id:
            while self._next_id in self._receivers:
                self._next_id += 1
            watch_id = self._next_id
            self._next_id += 1
        receiver = Receiver((key, end), watch_id, request, self._fields)
        receiver.post = self._post
        self._receivers[watch_id] = receiver
        self._hub.add(receiver)

    def _refuse(self, reason: str) -> None:
        refusal = WatchResponse(header=ResponseHeader(), watch_id=NO_ID, created=True, canceled=True)
        refusal.cancel_reason = reason
        self._post(refusal)

    async def _forbidden(self, key: bytes, end: bytes) -> str:
        """Return why the client may not read a range."""
        if not key:
            key = end = b"\0"
        namespace = self._hub.namespace
        request = RangeRequest(
            key=namespace.key(key), range_end=namespace.end(end), serializable=True, count_only=True, limit=1
        )
        fields = [field for field in self._fields if field[0] != b"hasleader"]
        try:
            await self._hub.upstream.unary(RANGE, fields, request.SerializeToString(), True)
        except RpcError as error:
            return error.text
        return ""

    def _cancel(self, watch_id: int) -> None:
        receiver = self._receivers.pop(watch_id, None)
        if receiver is not None:
            self._hub.remove(receiver)
            self._post(WatchResponse(header=receiver.header, watch_id=watch_id, canceled=True))

    async def _progress(self) -> None:
        """Say up to which revision everything was sent, once every watch of the cluster behind us has told."""
        broadcasts = {each.broadcast: None for each in self._receivers.values() if each.broadcast is not None}
        if not broadcasts:
            return
        revisions = await asyncio.gather(*[each.progress() for each in broadcasts])
        if min(revisions) > 0:
            header = ResponseHeader()
            header.CopyFrom(next(iter(self._receivers.values())).header if self._receivers else ResponseHeader())
            header.revision = min(revisions)
            self._post(WatchResponse(header=header, watch_id=NO_ID))
