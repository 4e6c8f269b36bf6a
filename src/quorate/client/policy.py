"""When a call may be sent again. The asyncio channel and the plain one that etcdctl uses share these rules."""

from __future__ import annotations

from quorate import errors
from quorate.errors import RpcError
from quorate.wire.frames import Limits

BACKOFF_FIRST_S = 0.025
BACKOFF_MAX_S = 1.0
KEEPALIVE_NS = 10_000_000_000
KEEPALIVE_TIMEOUT_NS = 6_000_000_000
STALE_CREDENTIALS = (
    errors.INVALID_AUTH_TOKEN.text,
    errors.AUTH_OLD_REVISION.text,
    errors.USER_EMPTY.text,  # authentication was off when we asked for a token
    "auth: invalid auth token",  # how maintenance calls say it
    "auth: revision of auth store is old",
    "auth: user name is empty",
)


def backoff_s(attempt: int) -> float:
    """Return how long to wait before attempt 1, 2, ... after the first; callers add their jitter."""
    return min(BACKOFF_MAX_S, BACKOFF_FIRST_S * (1 << min(attempt, 10)))


def may_retry(error: RpcError, unprocessed: bool, read: bool) -> bool:
    """Tell whether another connection may be given the same request."""
    return unprocessed or (read and error.code == errors.UNAVAILABLE)


def stale_credentials(error: RpcError) -> bool:
    """Tell whether the server wants a new token of whoever has a user; it has done nothing for the request."""
    return error.text in STALE_CREDENTIALS


def client_limits(keepalive_ns: int = KEEPALIVE_NS, keepalive_timeout_ns: int = KEEPALIVE_TIMEOUT_NS) -> Limits:
    """Return limits for the client's role: a server's messages may be of any length, and silence ends a connection."""
    limits = Limits(max_receive_bytes=2**31 - 1)
    limits.max_assembly_bytes = 2**31 - 1
    limits.keepalive_ns = keepalive_ns
    limits.keepalive_timeout_ns = keepalive_timeout_ns
    return limits


def prefix_end(prefix: bytes) -> bytes:
    """Return the end of the range of all keys with a prefix; b"\\0", meaning no end, when there is no greater key."""
    for at in range(len(prefix) - 1, -1, -1):
        if prefix[at] < 0xFF:
            return prefix[:at] + bytes([prefix[at] + 1])
    return b"\0"
