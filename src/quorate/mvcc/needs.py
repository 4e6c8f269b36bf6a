"""What mvcc needs from the rooms beside it: who keeps leases, and where revisions are stored.

`lease.lessor` implements `KeyLeases`; `storage.backend` has the shape of `Backend` and `ReadView` (structural types, so
that tests can put something small in their place).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from mypy_extensions import mypyc_attr

KEY_BUCKET: Final = b"key"
META_BUCKET: Final = b"meta"


@mypyc_attr(allow_interpreted_subclasses=True)
class KeyLeases:
    """Which lease each key is attached to."""

    def lease_of(self, key: bytes) -> int:
        """Return the lease that the key is attached to, 0 for none."""
        raise NotImplementedError

    def attach(self, lease: int, key: bytes) -> None:
        """Attach a key to a lease that exists; whoever applies the request has checked that."""
        raise NotImplementedError

    def detach(self, lease: int, key: bytes) -> None:
        """Detach a key from the lease it is attached to."""
        raise NotImplementedError

    def exists(self, lease: int) -> bool:
        """Tell whether there is such a lease."""
        raise NotImplementedError


class Rows(Protocol):
    """Stored pairs: a backend, or a view."""

    def get(self, bucket: bytes, key: bytes) -> bytes | None:
        """Return a value."""
        ...

    def range(self, bucket: bytes, start: bytes, end: bytes, limit: int = 0) -> list[tuple[bytes, bytes]]:
        """Return the pairs of [start, end), ascending, at most `limit` of them unless that is 0."""
        ...


class ReadView(Protocol):
    """A pinned, consistent view of what was committed."""

    def range(self, bucket: bytes, start: bytes, end: bytes, limit: int = 0) -> list[tuple[bytes, bytes]]:
        """Return the pairs of [start, end), ascending, at most `limit` of them unless that is 0."""
        ...

    def close(self) -> None:
        """Let go of the view."""
        ...


class Backend(Protocol):
    """Batched transactions over the file: see storage.backend."""

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None:
        """Set a value in the open batch."""
        ...

    def delete(self, bucket: bytes, key: bytes) -> None:
        """Delete a key in the open batch."""
        ...

    def append_revision(self, key: bytes, value: bytes) -> None:
        """Set a value in the key bucket under a key above all others."""
        ...

    def get(self, bucket: bytes, key: bytes) -> bytes | None:
        """Return a value, seen through the open batch."""
        ...

    def range(self, bucket: bytes, start: bytes, end: bytes, limit: int = 0) -> list[tuple[bytes, bytes]]:
        """Return the pairs of [start, end), ascending, at most `limit` of them unless that is 0."""
        ...

    def commit(self, done: Callable[[], None] | None = None) -> None:
        """Commit what is pending; `done` is called when it is durable."""
        ...

    def read_view(self, done: Callable[[ReadView], None]) -> None:
        """Commit, then hand over a pinned view of what was committed."""
        ...
