"""Calls to the cluster behind the gRPC proxy, as raw messages, over one connection that moves when it fails.

Of a client's metadata, what says who asks and what it needs is passed on. A call that no endpoint can take within
`CONNECT_S` fails with Unavailable; reads, and what was certainly not processed, are tried again elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Final

from quorate import errors
from quorate.client.channel import Channel
from quorate.client.errors import EtcdError
from quorate.client.link import Link, Stream, Unprocessed
from quorate.client.policy import backoff_s, may_retry
from quorate.errors import RpcError
from quorate.ports import Log
from quorate.wire import grpc
from quorate.wire.client import ClientCall
from quorate.wire.headers import Field
from quorate.wire.rpc import ServerCall

CONNECT_S: Final = 5.0
ENDPOINT_S: Final = 1.5
"""How long one endpoint may take to answer a connection, so that there is time for others."""

ATTEMPTS: Final = 10
PASSED_ON: Final = (b"token", b"authorization", b"hasleader", b"client-api-version")
BROKEN: Final = RpcError(errors.INTERNAL, "internal error")
UNREACHABLE: Final = RpcError(errors.UNAVAILABLE, "proxy: none of the endpoints can be reached")


def once(error: RpcError) -> RpcError:
    """Return an error to raise; one that is raised again and again would keep the frames of every time."""
    return error.with_traceback(None)


def fields_of(call: ServerCall) -> list[Field]:
    """Return the metadata of a call that the cluster gets too."""
    found = [(name, call.metadata(name)) for name in PASSED_ON]
    return [(name, value) for name, value in found if value is not None]


def token_of(call: ServerCall) -> bytes:
    """Return who asks."""
    return call.metadata(b"token") or call.metadata(b"authorization") or b""


class Upstream:
    """The cluster. All methods are for the loop that runs."""

    def __init__(self, channel: Channel, max_send_bytes: int, log: Log) -> None:
        self.channel = channel
        self.log = log
        self._max_send_bytes = max_send_bytes
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run a task; one that fails says so in the log."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.log.error("grpcproxy/proxy.go", "a task of the proxy has failed", error=repr(error))

    def answer(self, call: ServerCall, work: Coroutine[object, object, bytes]) -> None:
        """Complete a unary call with what comes of the work, which is given up with the call."""

        async def run() -> None:
            try:
                call.complete(await work)
            except RpcError as error:
                call.fail(error)
            except Exception:
                call.fail(BROKEN)
                raise

        task = self.spawn(run())
        call.on_end = lambda: _cancel(task)

    async def link(self) -> Link:
        """Return a connection. Raises RpcError when there is none in time."""
        present = self.channel.present()
        if present is not None:
            return present
        try:
            async with asyncio.timeout(CONNECT_S):
                return await self.channel.link()
        except TimeoutError:
            raise once(UNREACHABLE) from None
        except EtcdError as error:
            raise RpcError(error.code, error.text) from None

    async def unary(self, path: bytes, fields: list[Field], request: bytes, read: bool) -> bytes:
        """Make a call and return its answer. Raises RpcError."""
        size = len(request)
        if 0 < self._max_send_bytes < size:
            text = f"trying to send message larger than max ({size} vs. {self._max_send_bytes})"
            raise RpcError(errors.RESOURCE_EXHAUSTED, text)
        attempt = 0
        while True:
            link = await self.link()
            try:
                return await _Answer(link, path, fields, request).wait()
            except Unprocessed as refused:
                error, again = refused.error, True
            except RpcError as failed:
                error, again = failed, may_retry(failed, False, read)
            attempt += 1
            if not again or attempt >= ATTEMPTS:
                raise once(error)
            self.channel.leave(link)
            if attempt > 1:
                await asyncio.sleep(backoff_s(attempt - 2))

    async def stream(self, path: bytes, fields: list[Field]) -> tuple[Link, Stream]:
        """Open a stream, and tell on which connection. Raises RpcError."""
        link = await self.link()
        return link, Stream(link, path, fields)


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


class _Answer:
    """One unary call to the cluster, which lasts as long as somebody waits for it."""

    def __init__(self, link: Link, path: bytes, fields: list[Field], request: bytes) -> None:
        self._message: bytes | None = None
        self._future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._call: ClientCall | None = None
        call = link.http.call(path, fields, None, self._received, self._ended)
        if not call.ended:
            self._call = call
            call.send(request)
            call.half_close()

    async def wait(self) -> bytes:
        """Return the answer. Raises Unprocessed when the call may be repeated anyhow, else RpcError."""
        try:
            return await self._future
        except RpcError as error:
            if self._call is None or self._call.unprocessed:
                raise Unprocessed(error) from None
            raise
        except asyncio.CancelledError:
            if self._call is not None:
                self._call.cancel()
            raise

    def _received(self, message: bytes) -> None:
        self._message = message

    def _ended(self, error: RpcError | None, _: list[Field]) -> None:
        if self._future.done():
            return
        if error is None and self._message is not None:
            self._future.set_result(self._message)
        else:
            self._future.set_exception(once(error if error is not None else grpc.TRUNCATED))


class Forwarder:
    """Passes calls on as they are."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def unary(self, path: bytes, read: bool) -> Callable[[ServerCall, bytes], None]:
        """Return a unary method's handler."""
        upstream = self._upstream

        def handle(call: ServerCall, raw: bytes) -> None:
            upstream.answer(call, upstream.unary(path, fields_of(call), raw, read))

        return handle

    def stream(self, path: bytes) -> Callable[[ServerCall], None]:
        """Return a handler of a method that answers one request with a stream of messages."""
        upstream = self._upstream

        def handle(call: ServerCall) -> None:
            requests: asyncio.Queue[bytes | None] = asyncio.Queue()
            call.on_message = requests.put_nowait
            call.on_half_close = lambda: requests.put_nowait(None)
            task = upstream.spawn(_carry(upstream, path, call, requests))
            call.on_end = lambda: _cancel(task)

        return handle


async def _carry(upstream: Upstream, path: bytes, call: ServerCall, requests: asyncio.Queue[bytes | None]) -> None:
    room = asyncio.Event()
    call.on_drain = room.set
    try:
        request = await requests.get()
        if request is None:
            raise once(grpc.NO_MESSAGE)
        _, stream = await upstream.stream(path, fields_of(call))
        try:
            stream.send(request)
            stream.half_close()
            while (message := await stream.next()) is not None:
                call.send(message)
                while call.queued_bytes() > 1 << 20:
                    room.clear()
                    await room.wait()
        finally:
            stream.cancel()
        call.finish()
    except RpcError as error:
        call.fail(error)
    except Exception:
        call.fail(BROKEN)
        raise
