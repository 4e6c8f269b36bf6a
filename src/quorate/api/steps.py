"""Procedures of several requests, which the Lock and Election services run on behalf of a client.

A procedure is a generator that yields what it waits for, a `Step`, and goes on when that has come about:

    lease = Grant(server, 60)
    yield lease                     # raises RpcError here if the lease cannot be granted
    put = Txn(kv, request)
    yield put
    if put.response.succeeded: ...

A `Task` runs it on the loop and answers the call when it fails. When the client goes away, the procedure gets
`Abandoned` raised at its present step: at once if it waits for a key to change, else when the request under way has
been answered, so that it knows what to clean up. It may yield further steps to do so.

Contract: errors reach the client with code Unknown and their text, as from the etcd client that real etcd runs here;
cancellation and deadline keep their codes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Final

from quorate import errors
from quorate.api.kv import KVService
from quorate.errors import RpcError
from quorate.mvcc.watcher import FILTER_NO_PUT, WatchSink
from quorate.ports import Completion
from quorate.proto.kv_pb2 import Event
from quorate.proto.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    DeleteRangeResponse,
    LeaseGrantRequest,
    LeaseGrantResponse,
    PutRequest,
    RangeRequest,
    RangeResponse,
    RequestOp,
    ResponseHeader,
    TxnRequest,
    TxnResponse,
)
from quorate.server.core import Server
from quorate.server.quota import LEASE_COST
from quorate.wire.rpc import ServerCall

SESSION_TTL_S: Final = 60
_EVENTS_MAX: Final = 128
_SLOW_BYTES: Final = 1 << 20


class Abandoned(Exception):  # noqa: N818 (no error: the client has gone)
    """The client has gone; clean up."""


class Step:
    """Something that a procedure waits for."""

    def start(self, task: Task) -> None:
        """Begin; `task.resume` is to be called once, now or later."""
        raise NotImplementedError

    def stop(self) -> bool:
        """Give up, so that the task need not be resumed; False when that is impossible."""
        return False


Procedure = Generator[Step, None, None]


class Task:
    """A procedure that runs for a call."""

    def __init__(self, call: ServerCall, procedure: Procedure) -> None:
        self._call = call
        self._procedure = procedure
        self._waiting: Step | None = None
        self._running = False
        self._resumed = False
        self._error: Exception | None = None
        self._abandoned = False
        call.on_end = self._abandon
        self._run()

    @property
    def call(self) -> ServerCall:
        """The call, in whose name requests are made."""
        return self._call

    def resume(self, error: RpcError | None = None) -> None:
        """Go on with the procedure; with an error, raise it there."""
        self._waiting = None
        self._resumed = True
        self._error = error
        if self._abandoned:
            self._abandoned = False
            self._error = Abandoned()
        if not self._running:
            self._run()

    def _abandon(self) -> None:
        self._abandoned = True
        if self._waiting is not None and self._waiting.stop():
            self.resume()

    def _run(self) -> None:
        self._running = True
        try:
            self._go()
        except StopIteration:
            pass
        except Abandoned:
            pass
        except RpcError as error:
            self._call.fail(as_client_error(error))
        self._running = False

    def _go(self) -> None:
        while True:
            self._resumed = False
            error = self._error
            self._error = None
            step = next(self._procedure) if error is None else self._procedure.throw(error)
            self._waiting = step
            step.start(self)
            if not self._resumed:
                return


def as_client_error(error: RpcError) -> RpcError:
    """Return the error as the client of a Lock or Election call sees it."""
    if error.code in (errors.CANCELED, errors.DEADLINE_EXCEEDED, errors.UNKNOWN):
        return error
    return RpcError(errors.UNKNOWN, error.text)


class Requested(Completion):
    """The answer to a request of a step."""

    def __init__(self, take: Callable[[bytes], None], task: Task) -> None:
        self._take = take
        self._task = task

    def complete(self, response: bytes) -> None:
        """Take the response and go on."""
        self._take(response)
        self._task.resume()

    def fail(self, error: RpcError) -> None:
        """Go on with the error."""
        self._task.resume(error)

    def metadata(self, name: bytes) -> bytes | None:
        """Return what came with the call."""
        return self._task.call.metadata(name)

    def common_name(self) -> str | None:
        """Return whom the call's certificate names."""
        return self._task.call.common_name()


class Grant(Step):
    """Grants a lease."""

    def __init__(self, server: Server, ttl_s: int) -> None:
        self._server = server
        self._request = LeaseGrantRequest(TTL=ttl_s)
        self.lease_id = 0

    def start(self, task: Task) -> None:
        """Ask for the lease."""
        if not self._server.quota_check(LEASE_COST):
            task.resume(errors.NO_SPACE)
        else:
            raw = self._request.SerializeToString()
            self._server.lease_grant(self._request, raw, Requested(self._take, task))

    def _take(self, response: bytes) -> None:
        self.lease_id = LeaseGrantResponse.FromString(response).ID


class Txn(Step):
    """Runs a transaction."""

    def __init__(self, kv: KVService, request: TxnRequest) -> None:
        self._kv = kv
        self._request = request
        self.response = TxnResponse()
        self.done = False

    def start(self, task: Task) -> None:
        """Run it."""
        self._kv.start_txn(self._request, self._request.SerializeToString(), Requested(self._take, task))

    def _take(self, response: bytes) -> None:
        self.response = TxnResponse.FromString(response)
        self.done = True


class Range(Step):
    """Reads, linearizably."""

    def __init__(self, server: Server, request: RangeRequest) -> None:
        self._server = server
        self._request = request
        self.response = RangeResponse()

    def start(self, task: Task) -> None:
        """Read."""
        self._server.range(self._request, Requested(self._take, task))

    def _take(self, response: bytes) -> None:
        self.response = RangeResponse.FromString(response)


class Delete(Step):
    """Deletes one key, not an empty one."""

    def __init__(self, server: Server, key: bytes) -> None:
        self._server = server
        self._request = DeleteRangeRequest(key=key)
        self.header = ResponseHeader()

    def start(self, task: Task) -> None:
        """Delete."""
        raw = self._request.SerializeToString()
        self._server.delete_range(self._request, raw, Requested(self._take, task))

    def _take(self, response: bytes) -> None:
        self.header = DeleteRangeResponse.FromString(response).header


class _EventSink(WatchSink):
    """Where a `NextEvent` gets its events. The hub must not be called back, so the task goes on in another turn."""

    def __init__(self, owner: NextEvent) -> None:
        self._owner = owner

    def ready(self) -> bool:
        """Tell whether the procedure keeps up."""
        return self._owner.has_room()

    def events(self, watch_id: int, rev: int, events: list[bytes]) -> None:  # noqa: ARG002
        """Take events."""
        self._owner.add(rev, events)

    def compacted(self, watch_id: int, compact_rev: int) -> None:  # noqa: ARG002
        """Take the end of the watch."""
        self._owner.end(errors.COMPACTED)


class NextEvent(Step):
    """Watches a key, or a range; each time it is yielded, the procedure goes on with the next event.

    `event` and `rev` are the event and its response's revision. `close` must be called in the end.
    """

    def __init__(
        self, server: Server, call: ServerCall, key: bytes, end: bytes, start_rev: int, filters: Sequence[int]
    ) -> None:
        self.event = Event()
        self.rev = 0
        self._loop = server.loop
        self._call = call
        self._queue: deque[tuple[int, bytes]] = deque()
        self._error: RpcError | None = server.refusals.read(call, key, end)
        self._task: Task | None = None
        self._stream = server.watch_hub.stream(_EventSink(self))
        if self._error is None:
            self._stream.watch(key, end, start_rev, 0, filters, False, False, False)

    def start(self, task: Task) -> None:
        """Wait for the next event."""
        if self._queue or self._error is not None:
            self._next(task)
        else:
            self._task = task

    def stop(self) -> bool:
        """Give up waiting."""
        self._task = None
        return True

    def close(self) -> None:
        """End the watch."""
        self._task = None
        self._stream.close()

    def has_room(self) -> bool:
        """Tell whether the procedure, and the client behind it, keep up."""
        return len(self._queue) < _EVENTS_MAX and self._call.queued_bytes() < _SLOW_BYTES

    def add(self, rev: int, events: list[bytes]) -> None:
        """Take events from the hub."""
        for event in events:
            self._queue.append((rev, event))
        self._loop.soon(self._wake)

    def end(self, error: RpcError) -> None:
        """Take the end of the watch from the hub."""
        self._error = error
        self._loop.soon(self._wake)

    def _wake(self) -> None:
        task = self._task
        if task is not None and (self._queue or self._error is not None):
            self._task = None
            self._next(task)

    def _next(self, task: Task) -> None:
        if not self._queue:
            task.resume(self._error)
            return
        self.rev, event = self._queue.popleft()
        self.event = Event.FromString(event)
        task.resume()


def prefix_end(prefix: bytes) -> bytes:
    """Return the end of the range of all keys with this prefix, b"\\0" (no end) when there is none."""
    rest = prefix.rstrip(b"\xff")
    return rest[:-1] + bytes([rest[-1] + 1]) if rest else b"\0"


def created_at(key: bytes, rev: int) -> Compare:
    """Return the comparison of a key's create revision with `rev` (0: the key does not exist)."""
    return Compare(
        result=Compare.CompareResult.EQUAL, target=Compare.CompareTarget.CREATE, key=key, create_revision=rev
    )


def put_op(key: bytes, value: bytes, lease: int) -> RequestOp:
    """Return a put as an operation of a transaction."""
    return RequestOp(request_put=PutRequest(key=key, value=value, lease=lease))


def get_op(key: bytes) -> RequestOp:
    """Return the read of one key as an operation of a transaction."""
    return RequestOp(request_range=RangeRequest(key=key))


def first_created(prefix: bytes) -> RangeRequest:
    """Return the request for the key under a prefix that was created first: the owner, or the leader."""
    return RangeRequest(
        key=prefix,
        range_end=prefix_end(prefix),
        sort_target=RangeRequest.SortTarget.CREATE,
        sort_order=RangeRequest.SortOrder.ASCEND,
        limit=1,
    )


def wait_deletes(server: Server, call: ServerCall, prefix: bytes, max_create_rev: int) -> Procedure:
    """Wait until no key under the prefix is left that was created at or before a revision, one after the other.

    It watches the youngest of them only, so that not all who wait wake up at each deletion.
    """
    request = RangeRequest(
        key=prefix,
        range_end=prefix_end(prefix),
        sort_target=RangeRequest.SortTarget.CREATE,
        sort_order=RangeRequest.SortOrder.DESCEND,
        limit=1,
        max_create_revision=max_create_rev,
    )
    while True:
        found = Range(server, request)
        yield found
        if not found.response.kvs:
            return
        key = found.response.kvs[0].key
        deleted = NextEvent(server, call, key, b"", found.response.header.revision + 1, (FILTER_NO_PUT,))
        try:
            yield deleted
        except RpcError as error:
            if error is not errors.COMPACTED:
                raise
        finally:
            deleted.close()
