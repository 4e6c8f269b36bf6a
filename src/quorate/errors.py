"""The errors that leave the server: a gRPC status code and etcd's exact text.

Clients match on the text, so each constant is an interface (etcd: api/v3rpc/rpctypes/error.go). The constants are made
once and handed about as values; nothing on the hot path raises them.
"""

from __future__ import annotations

from typing import Final

# gRPC status codes (grpc: codes/codes.go).
OK: Final = 0
CANCELED: Final = 1
UNKNOWN: Final = 2
INVALID_ARGUMENT: Final = 3
DEADLINE_EXCEEDED: Final = 4
NOT_FOUND: Final = 5
ALREADY_EXISTS: Final = 6
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
FAILED_PRECONDITION: Final = 9
ABORTED: Final = 10
OUT_OF_RANGE: Final = 11
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
DATA_LOSS: Final = 15
UNAUTHENTICATED: Final = 16

CODE_NAMES: Final = (
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
    "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented",
    "Internal", "Unavailable", "DataLoss", "Unauthenticated",
)  # fmt: skip


class RpcError(Exception):
    """A failed call: `code` is a gRPC status code, `text` the status message that the client sees."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class CorruptError(Exception):
    """The member's own disk or state cannot be trusted; the member must stop and say why.

    `path` names the file and `offset` the byte where belief ended (-1 when no single place is to blame).
    """

    def __init__(self, path: str, offset: int, text: str) -> None:
        super().__init__(f"{path}: offset {offset}: {text}" if offset >= 0 else f"{path}: {text}")
        self.path = path
        self.offset = offset
        self.text = text


def _etcd(code: int, text: str) -> RpcError:
    return RpcError(code, "etcdserver: " + text)


EMPTY_KEY: Final = _etcd(INVALID_ARGUMENT, "key is not provided")
KEY_NOT_FOUND: Final = _etcd(INVALID_ARGUMENT, "key not found")
VALUE_PROVIDED: Final = _etcd(INVALID_ARGUMENT, "value is provided")
LEASE_PROVIDED: Final = _etcd(INVALID_ARGUMENT, "lease is provided")
TOO_MANY_OPS: Final = _etcd(INVALID_ARGUMENT, "too many operations in txn request")
DUPLICATE_KEY: Final = _etcd(INVALID_ARGUMENT, "duplicate key given in txn request")
INVALID_CLIENT_API_VERSION: Final = _etcd(INVALID_ARGUMENT, "invalid client api version")
INVALID_SORT_OPTION: Final = _etcd(INVALID_ARGUMENT, "invalid sort option")
MEMBER_BAD_URLS: Final = _etcd(INVALID_ARGUMENT, "given member URLs are invalid")
REQUEST_TOO_LARGE: Final = _etcd(INVALID_ARGUMENT, "request is too large")
USER_EMPTY: Final = _etcd(INVALID_ARGUMENT, "user name is empty")
ROLE_EMPTY: Final = _etcd(INVALID_ARGUMENT, "role name is empty")
AUTH_FAILED: Final = _etcd(INVALID_ARGUMENT, "authentication failed, invalid user ID or password")
PERMISSION_NOT_GIVEN: Final = _etcd(INVALID_ARGUMENT, "permission not given")
INVALID_AUTH_MGMT: Final = _etcd(INVALID_ARGUMENT, "invalid auth management")
AUTH_OLD_REVISION: Final = _etcd(INVALID_ARGUMENT, "revision of auth store is old")
WRONG_DOWNGRADE_VERSION_FORMAT: Final = _etcd(INVALID_ARGUMENT, "wrong downgrade target version format")
INVALID_DOWNGRADE_TARGET_VERSION: Final = _etcd(INVALID_ARGUMENT, "invalid downgrade target version")

COMPACTED: Final = _etcd(OUT_OF_RANGE, "mvcc: required revision has been compacted")
FUTURE_REV: Final = _etcd(OUT_OF_RANGE, "mvcc: required revision is a future revision")
LEASE_TTL_TOO_LARGE: Final = _etcd(OUT_OF_RANGE, "too large lease TTL")

NO_SPACE: Final = _etcd(RESOURCE_EXHAUSTED, "mvcc: database space exceeded")

LEASE_NOT_FOUND: Final = _etcd(NOT_FOUND, "requested lease not found")
MEMBER_NOT_FOUND: Final = _etcd(NOT_FOUND, "member not found")

LEASE_EXIST: Final = _etcd(FAILED_PRECONDITION, "lease already exists")
MEMBER_EXIST: Final = _etcd(FAILED_PRECONDITION, "member ID already exist")
PEER_URL_EXIST: Final = _etcd(FAILED_PRECONDITION, "Peer URLs already exists")
MEMBER_NOT_LEARNER: Final = _etcd(FAILED_PRECONDITION, "can only promote a learner member")
LEARNER_NOT_READY: Final = _etcd(FAILED_PRECONDITION, "can only promote a learner member which is in sync with leader")
TOO_MANY_LEARNERS: Final = _etcd(FAILED_PRECONDITION, "too many learner members in cluster")
CLUSTER_ID_MISMATCH: Final = _etcd(FAILED_PRECONDITION, "cluster ID mismatch")
ROOT_USER_NOT_EXIST: Final = _etcd(FAILED_PRECONDITION, "root user does not exist")
ROOT_ROLE_NOT_EXIST: Final = _etcd(FAILED_PRECONDITION, "root user does not have root role")
USER_ALREADY_EXIST: Final = _etcd(FAILED_PRECONDITION, "user name already exists")
USER_NOT_FOUND: Final = _etcd(FAILED_PRECONDITION, "user name not found")
ROLE_ALREADY_EXIST: Final = _etcd(FAILED_PRECONDITION, "role name already exists")
ROLE_NOT_FOUND: Final = _etcd(FAILED_PRECONDITION, "role name not found")
ROLE_NOT_GRANTED: Final = _etcd(FAILED_PRECONDITION, "role is not granted to the user")
PERMISSION_NOT_GRANTED: Final = _etcd(FAILED_PRECONDITION, "permission is not granted to the role")
AUTH_NOT_ENABLED: Final = _etcd(FAILED_PRECONDITION, "authentication is not enabled")
NOT_LEADER: Final = _etcd(FAILED_PRECONDITION, "not leader")
NOT_CAPABLE: Final = _etcd(FAILED_PRECONDITION, "not capable")
NOT_SUPPORTED_FOR_LEARNER: Final = _etcd(FAILED_PRECONDITION, "rpc not supported for learner")
BAD_LEADER_TRANSFEREE: Final = _etcd(FAILED_PRECONDITION, "bad leader transferee")
CLUSTER_VERSION_UNAVAILABLE: Final = _etcd(FAILED_PRECONDITION, "cluster version not found during downgrade")
DOWNGRADE_IN_PROCESS: Final = _etcd(FAILED_PRECONDITION, "cluster has a downgrade job in progress")
NO_INFLIGHT_DOWNGRADE: Final = _etcd(FAILED_PRECONDITION, "no inflight downgrade job")

WATCH_CANCELED: Final = _etcd(CANCELED, "watch canceled")
PERMISSION_DENIED_ERROR: Final = _etcd(PERMISSION_DENIED, "permission denied")
INVALID_AUTH_TOKEN: Final = _etcd(UNAUTHENTICATED, "invalid auth token")

# These two reach the wire as Unknown although etcd's constants say otherwise.
MEMBER_NOT_ENOUGH_STARTED: Final = _etcd(UNKNOWN, "re-configuration failed due to not enough started members")
TOO_MANY_REQUESTS: Final = _etcd(UNKNOWN, "too many requests")

NO_LEADER: Final = _etcd(UNAVAILABLE, "no leader")
LEADER_CHANGED: Final = _etcd(UNAVAILABLE, "leader changed")
STOPPED: Final = _etcd(UNAVAILABLE, "server stopped")
TIMEOUT: Final = _etcd(UNAVAILABLE, "request timed out")
TIMEOUT_DUE_TO_LEADER_FAIL: Final = _etcd(UNAVAILABLE, "request timed out, possibly due to previous leader failure")
TIMEOUT_DUE_TO_CONNECTION_LOST: Final = _etcd(UNAVAILABLE, "request timed out, possibly due to connection lost")
TIMEOUT_WAIT_APPLIED_INDEX: Final = _etcd(UNAVAILABLE, "request timed out, waiting for the applied index took too long")
UNHEALTHY: Final = _etcd(UNAVAILABLE, "unhealthy cluster")

CORRUPT: Final = _etcd(DATA_LOSS, "corrupt cluster")

UNKNOWN_METHOD: Final = _etcd(UNKNOWN, "unknown method")
