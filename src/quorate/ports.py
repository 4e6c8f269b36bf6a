"""What the rooms need from the outside world: a clock, a loop, a disk, randomness, and somebody to answer to.

Plain base classes. `runtime` implements them on the real machine, `sim` in a virtual one; nothing below `runtime` reads
a clock, starts a thread, opens a file or draws a random number in any other way. Times are integer nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable

from mypy_extensions import mypyc_attr

from quorate.errors import RpcError


@mypyc_attr(allow_interpreted_subclasses=True)
class Completion:
    """Whoever waits for the outcome of one request. Exactly one of the two methods is called, once, on the loop."""

    def complete(self, response: bytes) -> None:
        """Take the encoded response message."""
        raise NotImplementedError

    def fail(self, error: RpcError) -> None:
        """Take the error that ends the request."""
        raise NotImplementedError

    def crowded(self) -> bool:
        """Tell whether so much waits to be read by this client that it should be sent nothing more now."""
        return False

    def put_off(self) -> bool:
        """When it is crowded, let the request come anew later, as if it had not been made; True when that was done."""
        return False

    # Who asks. A completion that says nothing of it is nobody's.

    def metadata(self, name: bytes) -> bytes | None:  # noqa: ARG002
        """Return the first value of a header of the client's call, by its lower-case name; None without one."""
        return None

    def common_name(self) -> str | None:
        """Return the CommonName of the client's verified certificate; None without one."""
        return None

    def as_root(self) -> bool:
        """Tell whether the member itself asks, which no permission is needed for."""
        return False


@mypyc_attr(allow_interpreted_subclasses=True)
class Timer:
    """A scheduled call."""

    def cancel(self) -> None:
        """Prevent the call; harmless when it has been made or cancelled already."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Loop:
    """The owner of all state: one thread that calls one function at a time, plus one worker for blocking disk work."""

    def monotonic_ns(self) -> int:
        """Return a clock that never goes back (origin unspecified)."""
        raise NotImplementedError

    def time_ns(self) -> int:
        """Return nanoseconds since the Unix epoch."""
        raise NotImplementedError

    def soon(self, call: Callable[[], None]) -> None:
        """Call after the events of this turn have been delivered."""
        raise NotImplementedError

    def later(self, delay_ns: int, call: Callable[[], None]) -> Timer:
        """Call once after the delay."""
        raise NotImplementedError

    def work(self, job: Callable[[], object], done: Callable[[object, BaseException | None], None]) -> None:
        """Run a blocking job in the storage thread, jobs strictly in order, and call `done(result, error)` on the loop.

        The job gets immutable data only; it must not touch state that the loop owns.
        """
        raise NotImplementedError

    def compute(self, job: Callable[[], object], done: Callable[[object, BaseException | None], None]) -> None:
        """Run a long computation as `work` does, but where it does not hold up the disk, if there is such a place."""
        self.work(job, done)

    def random_bits(self, bits: int) -> int:
        """Return an integer of that many random bits."""
        raise NotImplementedError

    def fatal(self, error: BaseException) -> None:
        """Stop the member at once: its disk or state cannot be trusted. Says why. Returns only in tests."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class File:
    """An open file. Every failure is an OSError. Writes are complete or raise."""

    path: str

    def size(self) -> int:
        """Return the file's length in bytes."""
        raise NotImplementedError

    def read_at(self, length: int, offset: int) -> bytes:
        """Return up to `length` bytes from `offset`; fewer only at the end of the file."""
        raise NotImplementedError

    def write_at(self, data: bytes, offset: int) -> None:
        """Write all of `data` at `offset`."""
        raise NotImplementedError

    def sync(self) -> None:
        """Make the file's data and length durable (fdatasync). An error means that unsynced data may be gone."""
        raise NotImplementedError

    def allocate(self, length: int) -> None:
        """Reserve space so that the file is at least `length` bytes long; new bytes read as zero."""
        raise NotImplementedError

    def truncate(self, length: int) -> None:
        """Set the file's length."""
        raise NotImplementedError

    def lock(self, kind: int, wait: bool) -> bool:
        """Take an exclusive lock, LOCK_FLOCK as bbolt or LOCK_OFD as etcd's WAL; False when another holds it."""
        raise NotImplementedError

    def map(self) -> memoryview:
        """Return a read-only view of the whole file that shows later writes within its length. Old views stay valid."""
        raise NotImplementedError

    def close(self) -> None:
        """Close and unlock."""
        raise NotImplementedError


LOCK_FLOCK = 1
LOCK_OFD = 2
LOCK_FLOCK_SHARED = 3


@mypyc_attr(allow_interpreted_subclasses=True)
class Disk:
    """A file system. Paths are '/'-joined strings. Every failure is an OSError."""

    def open(self, path: str, create: bool = False, read_only: bool = False, mode: int = 0o600) -> File:
        """Open a file for reading and writing; with `create`, make it if it is absent."""
        raise NotImplementedError

    def make_dirs(self, path: str, mode: int = 0o700) -> None:
        """Create the directory and its parents where they are absent."""
        raise NotImplementedError

    def list_dir(self, path: str) -> list[str]:
        """Return the sorted names in a directory."""
        raise NotImplementedError

    def exists(self, path: str) -> bool:
        """Tell whether a file or directory is there."""
        raise NotImplementedError

    def mode(self, path: str) -> int:
        """Return the permission bits."""
        raise NotImplementedError

    def rename(self, old: str, new: str) -> None:
        """Replace `new` by `old` atomically. Durable only after `sync_dir` of the parent."""
        raise NotImplementedError

    def remove(self, path: str) -> None:
        """Remove a file."""
        raise NotImplementedError

    def remove_tree(self, path: str) -> None:
        """Remove a directory and all in it; nothing happens when it is absent."""
        raise NotImplementedError

    def sync_dir(self, path: str) -> None:
        """Make the names in a directory durable."""
        raise NotImplementedError


class Moment:
    """A time of day as a field of a log line, which is written as the line's own time is."""

    def __init__(self, time_ns: int) -> None:
        self.time_ns = time_ns


@mypyc_attr(allow_interpreted_subclasses=True)
class Log:
    """The member's log. `fields` keep their order; durations are given as etcd prints them ("1.5s").

    A field may be any object with a `__str__`, which is asked for only if the line is written.
    """

    def debug(self, caller: str, msg: str, **fields: object) -> None:
        """Write a line at level debug; `caller` is etcd's file:line form, such as "etcdserver/server.go"."""
        raise NotImplementedError

    def info(self, caller: str, msg: str, **fields: object) -> None:
        """Write a line at level info."""
        raise NotImplementedError

    def warn(self, caller: str, msg: str, **fields: object) -> None:
        """Write a line at level warn."""
        raise NotImplementedError

    def error(self, caller: str, msg: str, **fields: object) -> None:
        """Write a line at level error."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class NullLog(Log):
    """A log that drops everything."""

    def debug(self, caller: str, msg: str, **fields: object) -> None:
        """Drop the line."""

    def info(self, caller: str, msg: str, **fields: object) -> None:
        """Drop the line."""

    def warn(self, caller: str, msg: str, **fields: object) -> None:
        """Drop the line."""

    def error(self, caller: str, msg: str, **fields: object) -> None:
        """Drop the line."""
