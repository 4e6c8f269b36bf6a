"""Signs of life on a stream, by the timeouts that a member is told."""

from __future__ import annotations

from quorate.peer.codec import MESSAGE_HEARTBEAT, EntryRun
from quorate.peer.owner import Owner
from quorate.peer.stream import MESSAGE, StreamWriter
from quorate.peer.versions import Identity
from quorate.wire.web import Field, HttpReply
from tests.server.world import MS, SECOND, FakeLoop


class Socket(HttpReply):
    """A response whose socket takes nothing while it is stuck."""

    def __init__(self) -> None:
        super().__init__()
        self.stuck = False
        self.written = b""
        self.aborted = False

    def start(self, status: int, headers: list[Field]) -> None:
        """The writer's owner has done it."""

    def write(self, data: bytes) -> None:
        self.written += data

    def queued_bytes(self) -> int:
        return 1 if self.stuck else 0

    def abort(self) -> None:
        self.aborted = True


class Down(Owner):
    """Notes why streams end."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def writer_down(self, kind: int, reason: str) -> None:
        self.reasons.append(reason)


def test_timeouts_longer_than_usual() -> None:
    loop, owner, reply = FakeLoop(1), Down(), Socket()
    identity = Identity(1, 2, [], 12 * SECOND, 9 * SECOND)
    writer = StreamWriter(loop, identity, MESSAGE, owner, EntryRun())
    writer.attach(reply)
    beats = []
    for _ in range(100):
        loop.advance(100 * MS)
        writer.tick(loop.now_ns)
        beats.append(reply.written.count(MESSAGE_HEARTBEAT))
    # One at once, then three in a reader's timeout.
    assert (beats[0], beats[38], beats[40], beats[80]) == (1, 1, 2, 3)
    reply.stuck = True
    writer.tick(loop.now_ns)
    loop.advance(9 * SECOND)
    writer.tick(loop.now_ns)
    assert writer.attached
    loop.advance(100 * MS)
    writer.tick(loop.now_ns)
    assert not writer.attached
    assert reply.aborted
    assert owner.reasons == ["i/o timeout"]
