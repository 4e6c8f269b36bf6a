"""What the runtime holds for a socket: the sans-IO side of one connection, whatever it speaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

UNUSED: Final = 0  # nothing was ever asked for
IDLE: Final = 1
BUSY: Final = 2  # something is under way


class Endpoint:
    """Bytes in by `receive`, bytes out by `take_output`, time by `tick`. Nothing blocks, and no peer can make it raise.

    When `closed` is set, the owner writes what `take_output` still gives and closes the socket.
    """

    def __init__(self) -> None:
        self.closed = False
        self.close_text = ""  # why, for logs; empty after a clean end
        self.reading_paused = False  # the endpoint wants no more bytes for now
        self.deadline_ns = (
            0  # no later than the first thing that is due by the millisecond; 0 = a tick a second will do
        )
        self.wants_write: Callable[[Endpoint], None] | None = None
        """Called once when output first appears after `take_output`, and when the endpoint has closed."""
        self.reading_changed: Callable[[Endpoint], None] | None = None
        """Called when `reading_paused` has changed."""
        self.handler_failed: Callable[[bytes, Exception], None] | None = None
        """Told when a service or handler raised: its path and the exception. The peer got an error already."""
        self._signalled = False

    def signal(self) -> None:
        """Ask to be written or closed; nothing happens when that has been asked already."""
        if not self._signalled:
            self._signalled = True
            if self.wants_write is not None:
                self.wants_write(self)

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer, in pieces of any size."""
        raise NotImplementedError

    def receive_eof(self) -> None:
        """The peer will send no more."""
        raise NotImplementedError

    def lost(self) -> None:
        """The socket is gone: everything open ends."""
        raise NotImplementedError

    def take_output(self) -> bytes:
        """Return everything queued; the caller must write it."""
        raise NotImplementedError

    def has_output(self) -> bool:
        """Tell whether `take_output` would give anything."""
        raise NotImplementedError

    def tick(self, now_ns: int) -> None:
        """Do what is due. Called every second, and every few milliseconds while `deadline_ns` is set."""
        raise NotImplementedError

    def worth(self) -> int:
        """Return what closing would cost the peer: UNUSED, IDLE or BUSY."""
        return BUSY

    def drain(self) -> None:
        """Take nothing new, finish what is open, then close."""
        raise NotImplementedError
