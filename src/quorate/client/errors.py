"""The client library's errors: one small tree. `code` is a gRPC status code (quorate.errors), `text` etcd's words.

EtcdError
    CompactedError          a revision that was asked for is gone
    DeadlineError           the time was over; a TimeoutError, too
    LeaseLostError          a lease has expired or was revoked
    NoLeaderError           an election has no leader at the moment
    PermissionDeniedError   the user may not do this, or nobody logged in
    SnapshotError           a snapshot did not arrive whole
"""

from __future__ import annotations

from typing import Final

from quorate import errors
from quorate.errors import RpcError


class EtcdError(Exception):
    """A failed call.

    `maybe_applied` tells whether a write may nevertheless have been executed: the connection was lost, or the time ran
    out, after the request had left. Such a call is never repeated by the library; read before you repeat it.
    """

    def __init__(self, code: int, text: str, maybe_applied: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.maybe_applied = maybe_applied


class CompactedError(EtcdError):
    """A get or watch wants revisions that the cluster has compacted.

    `compact_revision` is the first revision that is left, 0 where the server does not say it (for a get). After it in
    a watch: read the range anew, then watch from behind that revision.
    """

    def __init__(self, compact_revision: int) -> None:
        super().__init__(errors.OUT_OF_RANGE, errors.COMPACTED.text)
        self.compact_revision = compact_revision


class DeadlineError(EtcdError, TimeoutError):
    """The time for a call was over before its answer came."""

    def __init__(self, text: str, maybe_applied: bool) -> None:
        super().__init__(errors.DEADLINE_EXCEEDED, text, maybe_applied)


class LeaseLostError(EtcdError):
    """A lease that is to hold a key, a lock or a leadership has expired or was revoked."""

    def __init__(self) -> None:
        super().__init__(errors.NOT_FOUND, errors.LEASE_NOT_FOUND.text)


class NoLeaderError(EtcdError):
    """An election has no leader at the moment."""

    def __init__(self) -> None:
        super().__init__(errors.NOT_FOUND, "election: no leader")


class PermissionDeniedError(EtcdError):
    """The user may not do this, the password is wrong, or nobody logged in where one must."""


class SnapshotError(EtcdError):
    """A snapshot did not arrive whole; no file was left."""

    def __init__(self, text: str) -> None:
        super().__init__(errors.DATA_LOSS, text)


def deadline_error(maybe_applied: bool, trouble: OSError | None = None) -> EtcdError:
    """Return the error of a call whose time is over; `trouble` is why the last attempt to connect failed."""
    text = "context deadline exceeded"
    return DeadlineError(text if trouble is None else f"{text}: last connection error: {trouble}", maybe_applied)


MAYBE_CODES: Final = (
    errors.UNAVAILABLE,
    errors.CANCELED,
    errors.DEADLINE_EXCEEDED,
    errors.INTERNAL,
)
"""What a server or the transport answers although the write may have been or may still be done."""

_SERVER_WORDS: Final = ("etcdserver:", "auth:")
_LOGIN_TEXTS: Final = (errors.AUTH_FAILED.text, errors.USER_EMPTY.text, "auth: user name is empty")


def _maybe(error: RpcError) -> bool:
    # Unknown is what a proxy in between, or an unforeseen end, looks like; etcd's own refusals can carry it, too.
    return error.code in MAYBE_CODES or (error.code == errors.UNKNOWN and not error.text.startswith(_SERVER_WORDS))


def public(error: RpcError, write: bool) -> EtcdError:
    """Return the public form of a transport's or server's error."""
    maybe = write and _maybe(error)
    if error.text == errors.COMPACTED.text:
        return CompactedError(0)
    if error.text == errors.LEASE_NOT_FOUND.text:
        return LeaseLostError()
    if error.code == errors.DEADLINE_EXCEEDED:
        return DeadlineError(error.text, maybe)
    if error.code in (errors.PERMISSION_DENIED, errors.UNAUTHENTICATED) or error.text in _LOGIN_TEXTS:
        return PermissionDeniedError(error.code, error.text, maybe)
    return EtcdError(error.code, error.text, maybe)
