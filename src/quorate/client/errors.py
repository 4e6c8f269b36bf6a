"""The client library's errors: one small tree. `code` is a gRPC status code (quorate.errors), `text` etcd's words."""

from __future__ import annotations

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
    """A watch wants revisions that the cluster has compacted: read the range anew, then watch from that revision."""

    def __init__(self, compact_revision: int) -> None:
        super().__init__(errors.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
        self.compact_revision = compact_revision


class LeaseLostError(EtcdError):
    """A lease that a lock or leadership depends on has expired or was revoked."""

    def __init__(self) -> None:
        super().__init__(errors.NOT_FOUND, "etcdserver: requested lease not found")


class NoLeaderError(EtcdError):
    """An election has no leader at the moment."""

    def __init__(self) -> None:
        super().__init__(errors.NOT_FOUND, "election: no leader")


class SnapshotError(EtcdError):
    """A snapshot did not arrive whole; no file was left."""

    def __init__(self, text: str) -> None:
        super().__init__(errors.DATA_LOSS, text)


def deadline_error(maybe_applied: bool) -> EtcdError:
    """Return the error of a call whose time is over."""
    return EtcdError(errors.DEADLINE_EXCEEDED, "context deadline exceeded", maybe_applied)


MAYBE_CODES = frozenset((errors.UNAVAILABLE, errors.CANCELED, errors.DEADLINE_EXCEEDED, errors.INTERNAL))


def public(error: RpcError, write: bool) -> EtcdError:
    """Return the public form of a transport's or server's error."""
    return EtcdError(error.code, error.text, write and error.code in MAYBE_CODES)
