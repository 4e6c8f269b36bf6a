"""Reads without log entries: a leader answers with its commit index once it knows that it still leads (thesis 6.4).

Requests wait in a queue and are numbered from 1 on. Every heartbeat carries the number of the newest request, as eight
little-endian bytes; a follower echoes it. When a quorum has echoed number n (the leader counts as one), all requests up
to n are confirmed: the leader was the leader after each of them had arrived. So one heartbeat round confirms any number
of reads. Members before raft 3.7 carry other contexts in their own heartbeats, but echo ours all the same.
"""

from __future__ import annotations

from quorate.raft.quorum import joint_committed
from quorate.raft.tracker import Configuration
from quorate.raft.types import Message


class ReadState:
    """A read that may be answered once the state machine has applied `index`."""

    def __init__(self, index: int, context: bytes) -> None:
        self.index: int = index
        self.context: bytes = context


class ReadRequest:
    """A MsgReadIndex that waits for its confirmation, with the commit index when it came."""

    def __init__(self, message: Message, index: int) -> None:
        self.message: Message = message
        self.index: int = index


class ReadOnly:
    """The reads that a leader has not confirmed yet."""

    def __init__(self) -> None:
        self._waiting: list[ReadRequest] = []
        self._confirmed = 0
        self._acks: dict[int, int] = {}

    def add(self, message: Message, commit: int) -> None:
        """Queue a request."""
        self._waiting.append(ReadRequest(message, commit))

    def newest(self) -> int:
        """Return the number of the newest request."""
        return self._confirmed + len(self._waiting)

    def heartbeat_context(self) -> bytes | None:
        """Return the context that confirms all waiting requests; None when there are none."""
        if not self._waiting:
            return None
        return self.newest().to_bytes(8, "little")

    def acknowledge(self, member: int, context: bytes) -> None:
        """Take an echo. A context that is not ours says nothing."""
        if len(context) == 8:
            number = int.from_bytes(context, "little")
            if self._acks.get(member, 0) < number <= self.newest():
                self._acks[member] = number

    def advance(self, config: Configuration) -> list[ReadRequest]:
        """Return the requests that a quorum has confirmed, oldest first, and forget them."""
        acks = self._acks
        number = joint_committed(
            [acks.get(voter, 0) for voter in config.voters], [acks.get(voter, 0) for voter in config.outgoing]
        )
        count = min(number, self.newest()) - self._confirmed
        if count <= 0:
            return []
        confirmed = self._waiting[:count]
        del self._waiting[:count]
        self._confirmed += count
        return confirmed
