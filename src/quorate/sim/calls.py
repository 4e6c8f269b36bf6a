"""An RPC between a client and a node, over the virtual network, down to the method in the node's router.

    client                     network                     node
    Rpc.start  ----------------- request ----------------> ServerEnd, router.methods[path]
    on_message, on_end <-------- messages, status -------- ServerEnd.send / complete / fail

Messages of one call keep their order and are not lost singly: a cut link or a dead process ends the call, as a broken
connection does, and the client hears UNAVAILABLE after a while, or its own deadline comes first. A client that reads
slowly is one whose `queued_bytes` stay high until it takes what has arrived.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from quorate.errors import DEADLINE_EXCEEDED, UNAVAILABLE, RpcError
from quorate.sim.clock import MS, Event
from quorate.wire.rpc import ServerCall

if TYPE_CHECKING:
    from quorate.sim.node import Node
    from quorate.sim.world import World

BROKEN: Final = RpcError(UNAVAILABLE, "connection lost")
REFUSED: Final = RpcError(UNAVAILABLE, "connection refused")
EXPIRED: Final = RpcError(DEADLINE_EXCEEDED, "context deadline exceeded")
_SLOW_BYTES: Final = 400 << 10  # what each message weighs for a slow client: three of them, and it has no room
_NOTICE_NS: Final = 200 * MS  # until a client notices that a connection is gone


class Rpc:
    """The client's end of a call."""

    def __init__(self, world: World, client: str, path: bytes) -> None:
        self.world = world
        self.client = client
        self.path = path
        self.node: Node | None = None
        self.done = False
        self.broken = False  # the connection is gone; the client does not know yet
        self.headers: dict[bytes, bytes] = {}
        self.slow = False
        self.error: RpcError | None = None
        self.response: bytes | None = None
        self.on_message: Callable[[bytes], None] | None = None
        self.on_end: Callable[[], None] | None = None
        self._server_end: ServerEnd | None = None
        self._deadline: Event | None = None

    def start(self, node: Node, request: bytes | None, timeout_ns: int = 0) -> None:
        """Call a node; without `request` it is a stream, whose messages come by `send`."""
        self.node = node
        if timeout_ns:
            self._deadline = self.world.clock.later(timeout_ns, self._expire)
        if not node.alive or not self.world.network.linked(self.client, node.name):
            self.world.clock.later(_NOTICE_NS // 20, lambda: self.end(REFUSED))
            return
        end = ServerEnd(self, node)
        self._server_end = end
        node.calls[end] = None
        self._send(lambda: end.open(request))

    def send(self, message: bytes) -> None:
        """Send a message of a stream."""
        end = self._server_end
        if end is not None and not self.done:
            self._send(lambda: end.receive(message))

    def _send(self, deliver: Callable[[], None]) -> None:
        end = self._server_end
        assert end is not None
        node = end.node
        clock = self.world.clock
        call = _OnNode(node, end, deliver).run
        self.world.network.send(self.client, node.name, call, clock.now_ns, lost=end.break_off)

    def ended(self, error: RpcError | None) -> None:
        """The status has come."""
        if not self.broken:
            self.end(error)

    def answered(self, response: bytes) -> None:
        """The answer and the status of a unary call have come."""
        self.arrived(response)
        self.ended(None)

    def cancel(self) -> None:
        """End the call from the client's side."""
        self.end(EXPIRED)

    def _expire(self) -> None:
        self.end(EXPIRED)

    def take(self) -> None:
        """Read what has arrived: a slow client's room is free again."""
        end = self._server_end
        if end is not None and not self.done:
            node = end.node
            node.loop.call(end.drain)

    def hurry(self) -> None:
        """Read at once from now on."""
        if self._server_end is not None:
            self._server_end.slow = False
        self.take()

    def end(self, error: RpcError | None) -> None:
        """The call is over for the client."""
        if self.done:
            return
        self.done = True
        self.error = error
        if self._deadline is not None:
            self._deadline.cancel()
        end = self._server_end
        if end is not None and not end.ended:
            node = end.node
            self.world.clock.later(MS, lambda: node.loop.call(end.reset))
        if self.on_end is not None:
            self.on_end()

    def arrived(self, message: bytes) -> None:
        """A message has come."""
        if self.done or self.broken:
            return
        if self.on_message is not None:
            self.on_message(message)
        else:
            self.response = message


class _OnNode:
    """Delivers to a node's loop, if the process that the call was opened with still lives."""

    def __init__(self, node: Node, end: ServerEnd, deliver: Callable[[], None]) -> None:
        self._node = node
        self._end = end
        self._deliver = deliver

    def run(self) -> None:
        if self._end.loop.dead:
            self._end.break_off()
        else:
            self._end.loop.call(self._deliver)


class ServerEnd(ServerCall):
    """The node's end of a call."""

    def __init__(self, rpc: Rpc, node: Node) -> None:
        self.path = rpc.path
        self.ended = False
        self.on_message = None
        self.on_half_close = None
        self.on_end = None
        self.on_drain = None
        self.rpc = rpc
        self.node = node
        self.loop = node.loop
        self.slow = rpc.slow
        self._waiting = 0
        self._opened = False
        self._early: list[bytes] = []

    def open(self, request: bytes | None) -> None:
        """The call has reached the node."""
        if self.ended:
            return
        self._opened = True
        server = self.node.server
        if server is None:
            self.break_off()
            return
        method = self.node.router.methods[self.path]
        if method.unary is not None:
            assert request is not None
            method.unary(self, request)
            return
        assert method.stream is not None
        method.stream(self)
        if request is not None:
            self.receive(request)
            if self.on_half_close is not None and not self.ended:
                self.on_half_close()
        for message in self._early:
            self.receive(message)
        self._early = []

    def receive(self, message: bytes) -> None:
        """A message has reached the node."""
        if not self._opened:
            self._early.append(message)
        elif not self.ended and not self.rpc.broken and self.on_message is not None:
            self.on_message(message)

    def reset(self) -> None:
        """The client has gone."""
        if not self.ended:
            self._over()
            if self.on_end is not None:
                self.on_end()

    def break_off(self) -> None:
        """The connection is gone; both sides notice."""
        rpc = self.rpc
        world = rpc.world
        if rpc.broken:
            return
        rpc.broken = True
        self.node.calls.pop(self, None)
        if not self.loop.dead:
            world.clock.later(0, lambda: self.loop.call(self.reset))
        world.clock.later(_NOTICE_NS, lambda: rpc.end(BROKEN))

    def drain(self) -> None:
        """The client has read what was waiting."""
        if self._waiting and not self.ended:
            self._waiting = 0
            if self.on_drain is not None:
                self.on_drain()

    def _over(self) -> None:
        self.ended = True
        self.node.calls.pop(self, None)

    # -- ServerCall

    def metadata(self, name: bytes) -> bytes | None:
        """Return a header of the request."""
        return self.rpc.headers.get(name)

    def peer(self) -> str:
        """Return the client's name as an address."""
        return f"{self.rpc.client}:1"

    def complete(self, response: bytes) -> None:
        """Answer a unary call."""
        assert self._opened
        if not self.ended:
            self._over()
            self._respond(lambda: self.rpc.answered(response))

    def fail(self, error: RpcError) -> None:
        """End the call with an error."""
        if not self.ended:
            self._over()
            self._respond(lambda: self.rpc.ended(error))

    def send(self, message: bytes) -> None:
        """Send a message of a stream."""
        if not self.ended:
            if self.slow:
                self._waiting += _SLOW_BYTES
            self._respond(lambda: self.rpc.arrived(message))

    def finish(self) -> None:
        """End a stream."""
        if not self.ended:
            self._over()
            self._respond(lambda: self.rpc.ended(None))

    def queued_bytes(self) -> int:
        """Return what a slow client has not read."""
        return self._waiting

    def _respond(self, deliver: Callable[[], None]) -> None:
        rpc = self.rpc
        when_ns = self.loop.monotonic_ns()
        rpc.world.network.send(self.node.name, rpc.client, deliver, when_ns, lost=self.break_off)
