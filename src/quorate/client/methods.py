"""The RPCs as values: the path, the type of the answer, and whether repeating one can change anything.

A read may be sent again after any Unavailable. Anything else is sent again only when the transport proves that the
server did not process it, or when the server refused the credentials before doing anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from quorate.proto import rpc_pb2 as pb


class Message(Protocol):
    """What a request can do."""

    def SerializeToString(self) -> bytes:  # noqa: N802
        """Return the encoded message."""


Answer = TypeVar("Answer")


class Method(Generic[Answer]):
    """One RPC."""

    def __init__(self, path: str, decode: Callable[[bytes], Answer], read: bool = False) -> None:
        self.path = path.encode()
        self.decode = decode
        self.read = read


_KV, _LEASE, _CLUSTER, _MAINTENANCE, _AUTH = [
    f"/etcdserverpb.{name}/" for name in ("KV", "Lease", "Cluster", "Maintenance", "Auth")
]

RANGE = Method(_KV + "Range", pb.RangeResponse.FromString, read=True)
PUT = Method(_KV + "Put", pb.PutResponse.FromString)
DELETE_RANGE = Method(_KV + "DeleteRange", pb.DeleteRangeResponse.FromString)
TXN = Method(_KV + "Txn", pb.TxnResponse.FromString)
READ_TXN = Method(_KV + "Txn", pb.TxnResponse.FromString, read=True)
COMPACT = Method(_KV + "Compact", pb.CompactionResponse.FromString)

WATCH = Method("/etcdserverpb.Watch/Watch", pb.WatchResponse.FromString)

LEASE_GRANT = Method(_LEASE + "LeaseGrant", pb.LeaseGrantResponse.FromString)
LEASE_REVOKE = Method(_LEASE + "LeaseRevoke", pb.LeaseRevokeResponse.FromString)
LEASE_KEEP_ALIVE = Method(_LEASE + "LeaseKeepAlive", pb.LeaseKeepAliveResponse.FromString)
LEASE_TIME_TO_LIVE = Method(_LEASE + "LeaseTimeToLive", pb.LeaseTimeToLiveResponse.FromString, read=True)
LEASE_LEASES = Method(_LEASE + "LeaseLeases", pb.LeaseLeasesResponse.FromString, read=True)

MEMBER_ADD = Method(_CLUSTER + "MemberAdd", pb.MemberAddResponse.FromString)
MEMBER_REMOVE = Method(_CLUSTER + "MemberRemove", pb.MemberRemoveResponse.FromString)
MEMBER_UPDATE = Method(_CLUSTER + "MemberUpdate", pb.MemberUpdateResponse.FromString)
MEMBER_LIST = Method(_CLUSTER + "MemberList", pb.MemberListResponse.FromString, read=True)
MEMBER_PROMOTE = Method(_CLUSTER + "MemberPromote", pb.MemberPromoteResponse.FromString)

ALARM = Method(_MAINTENANCE + "Alarm", pb.AlarmResponse.FromString)
ALARM_LIST = Method(_MAINTENANCE + "Alarm", pb.AlarmResponse.FromString, read=True)
STATUS = Method(_MAINTENANCE + "Status", pb.StatusResponse.FromString, read=True)
DEFRAGMENT = Method(_MAINTENANCE + "Defragment", pb.DefragmentResponse.FromString)
HASH_KV = Method(_MAINTENANCE + "HashKV", pb.HashKVResponse.FromString, read=True)
SNAPSHOT = Method(_MAINTENANCE + "Snapshot", pb.SnapshotResponse.FromString, read=True)
MOVE_LEADER = Method(_MAINTENANCE + "MoveLeader", pb.MoveLeaderResponse.FromString)
DOWNGRADE = Method(_MAINTENANCE + "Downgrade", pb.DowngradeResponse.FromString)

AUTH_ENABLE = Method(_AUTH + "AuthEnable", pb.AuthEnableResponse.FromString)
AUTH_DISABLE = Method(_AUTH + "AuthDisable", pb.AuthDisableResponse.FromString)
AUTH_STATUS = Method(_AUTH + "AuthStatus", pb.AuthStatusResponse.FromString, read=True)
AUTHENTICATE = Method(_AUTH + "Authenticate", pb.AuthenticateResponse.FromString, read=True)
USER_ADD = Method(_AUTH + "UserAdd", pb.AuthUserAddResponse.FromString)
USER_GET = Method(_AUTH + "UserGet", pb.AuthUserGetResponse.FromString, read=True)
USER_LIST = Method(_AUTH + "UserList", pb.AuthUserListResponse.FromString, read=True)
USER_DELETE = Method(_AUTH + "UserDelete", pb.AuthUserDeleteResponse.FromString)
USER_CHANGE_PASSWORD = Method(_AUTH + "UserChangePassword", pb.AuthUserChangePasswordResponse.FromString)
USER_GRANT_ROLE = Method(_AUTH + "UserGrantRole", pb.AuthUserGrantRoleResponse.FromString)
USER_REVOKE_ROLE = Method(_AUTH + "UserRevokeRole", pb.AuthUserRevokeRoleResponse.FromString)
ROLE_ADD = Method(_AUTH + "RoleAdd", pb.AuthRoleAddResponse.FromString)
ROLE_GET = Method(_AUTH + "RoleGet", pb.AuthRoleGetResponse.FromString, read=True)
ROLE_LIST = Method(_AUTH + "RoleList", pb.AuthRoleListResponse.FromString, read=True)
ROLE_DELETE = Method(_AUTH + "RoleDelete", pb.AuthRoleDeleteResponse.FromString)
ROLE_GRANT_PERMISSION = Method(_AUTH + "RoleGrantPermission", pb.AuthRoleGrantPermissionResponse.FromString)
ROLE_REVOKE_PERMISSION = Method(_AUTH + "RoleRevokePermission", pb.AuthRoleRevokePermissionResponse.FromString)
