"""The asyncio client. One instance speaks to one cluster; use it from one event loop.

Answers are the protobuf messages of etcd's API. Calls raise EtcdError; a write whose outcome is unknown says so in
`maybe_applied` and is never repeated by itself, reads are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from os import PathLike, fspath

from quorate.client import methods
from quorate.client.channel import Channel
from quorate.client.lease import Lease
from quorate.client.ops import Access, Data, Order, Target, as_bytes, range_request, span
from quorate.client.policy import client_limits
from quorate.client.recipes import Barrier, Election, Lock, Transactions
from quorate.client.save import save_snapshot
from quorate.client.target import TlsOptions
from quorate.client.watch import Watcher
from quorate.proto import auth_pb2, kv_pb2
from quorate.proto import rpc_pb2 as pb

_READ = auth_pb2.Permission.READ
_KINDS = {"read": _READ, "write": auth_pb2.Permission.WRITE, "readwrite": auth_pb2.Permission.READWRITE}


class Client:
    """A client of an etcd cluster.

    `endpoints`: host:port or URLs, comma-separated or a list. `tls`: TlsOptions when the members want TLS. `user`,
    `password`: log in, and again when the token has run out. `timeout_s`: the limit of each call that names none.
    `keepalive_s`: an idle connection is tried after so long, and given up `keepalive_timeout_s` later.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str] = "127.0.0.1:2379",
        *,
        tls: TlsOptions | None = None,
        user: str = "",
        password: str = "",
        timeout_s: float = 5.0,
        connect_timeout_s: float = 2.0,
        keepalive_s: float = 10.0,
        keepalive_timeout_s: float = 6.0,
    ) -> None:
        limits = client_limits(int(keepalive_s * 1e9), int(keepalive_timeout_s * 1e9))
        self._channel = Channel(endpoints, tls, user, password, timeout_s, connect_timeout_s, limits)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._channel.close()

    # Keys

    async def get(self, key: Data, *, revision: int = 0, serializable: bool = False) -> kv_pb2.KeyValue | None:
        """Return one key with its value and revisions; None when it is not there."""
        found = await self.range(key, revision=revision, serializable=serializable)
        return found.kvs[0] if found.kvs else None

    async def range(
        self,
        key: Data,
        end: Data | None = None,
        *,
        prefix: bool = False,
        from_key: bool = False,
        limit: int = 0,
        revision: int = 0,
        order: Order = "none",
        sort_by: Target = "key",
        serializable: bool = False,
        keys_only: bool = False,
        count_only: bool = False,
        min_mod_revision: int = 0,
        max_mod_revision: int = 0,
        min_create_revision: int = 0,
        max_create_revision: int = 0,
        timeout_s: float | None = None,
    ) -> pb.RangeResponse:
        """Return a key, the keys of [key, end), those with a prefix, or all from a key on."""
        request = range_request(
            key,
            end,
            prefix=prefix,
            from_key=from_key,
            limit=limit,
            revision=revision,
            order=order,
            sort_by=sort_by,
            serializable=serializable,
            keys_only=keys_only,
            count_only=count_only,
            min_mod_revision=min_mod_revision,
            max_mod_revision=max_mod_revision,
            min_create_revision=min_create_revision,
            max_create_revision=max_create_revision,
        )
        return await self._channel.unary(methods.RANGE, request, timeout_s)

    async def put(
        self,
        key: Data,
        value: Data = b"",
        *,
        lease: int = 0,
        prev_kv: bool = False,
        ignore_value: bool = False,
        ignore_lease: bool = False,
        timeout_s: float | None = None,
    ) -> pb.PutResponse:
        """Write a key."""
        request = pb.PutRequest(
            key=as_bytes(key),
            value=as_bytes(value),
            lease=lease,
            prev_kv=prev_kv,
            ignore_value=ignore_value,
            ignore_lease=ignore_lease,
        )
        return await self._channel.unary(methods.PUT, request, timeout_s)

    async def delete(
        self,
        key: Data,
        end: Data | None = None,
        *,
        prefix: bool = False,
        from_key: bool = False,
        prev_kv: bool = False,
        timeout_s: float | None = None,
    ) -> pb.DeleteRangeResponse:
        """Delete a key, a range or a prefix."""
        start, range_end = span(key, end, prefix, from_key)
        request = pb.DeleteRangeRequest(key=start, range_end=range_end, prev_kv=prev_kv)
        return await self._channel.unary(methods.DELETE_RANGE, request, timeout_s)

    async def txn(
        self,
        compare: Sequence[pb.Compare],
        success: Sequence[pb.RequestOp],
        failure: Sequence[pb.RequestOp] = (),
        *,
        timeout_s: float | None = None,
    ) -> pb.TxnResponse:
        """Do `success` if all comparisons hold, else `failure`, in one step. The parts are made by `ops`."""
        request = pb.TxnRequest(compare=compare, success=success, failure=failure)
        only_reads = all(op.HasField("request_range") for op in [*success, *failure])
        method = methods.READ_TXN if only_reads else methods.TXN
        return await self._channel.unary(method, request, timeout_s)

    async def compact(self, revision: int, *, physical: bool = False) -> pb.CompactionResponse:
        """Forget history before the revision; `physical` waits until it is gone from the disk."""
        return await self._channel.unary(methods.COMPACT, pb.CompactionRequest(revision=revision, physical=physical))

    def watch(
        self,
        key: Data,
        end: Data | None = None,
        *,
        prefix: bool = False,
        from_key: bool = False,
        start_revision: int = 0,
        prev_kv: bool = False,
        progress_notify: bool = False,
        puts: bool = True,
        deletes: bool = True,
    ) -> Watcher:
        """Watch a key, a range or a prefix, from now on or from a revision on."""
        start, range_end = span(key, end, prefix, from_key)
        filters = [pb.WatchCreateRequest.NOPUT] * (not puts) + [pb.WatchCreateRequest.NODELETE] * (not deletes)
        request = pb.WatchCreateRequest(
            key=start,
            range_end=range_end,
            start_revision=start_revision,
            prev_kv=prev_kv,
            progress_notify=progress_notify,
            filters=filters,
        )
        return Watcher(self._channel, request)

    # Leases and recipes

    async def lease(self, ttl_s: int, *, lease_id: int = 0) -> Lease:
        """Grant a lease and keep it alive until it is revoked or closed."""
        begun_s = asyncio.get_running_loop().time()
        granted = await self.lease_grant(ttl_s, lease_id=lease_id)
        return Lease(self._channel, granted.ID, granted.TTL, begun_s)

    async def lease_grant(self, ttl_s: int, *, lease_id: int = 0) -> pb.LeaseGrantResponse:
        """Grant a lease that nobody keeps alive."""
        return await self._channel.unary(methods.LEASE_GRANT, pb.LeaseGrantRequest(TTL=ttl_s, ID=lease_id))

    async def lease_revoke(self, lease_id: int) -> pb.LeaseRevokeResponse:
        """End a lease and delete its keys."""
        return await self._channel.unary(methods.LEASE_REVOKE, pb.LeaseRevokeRequest(ID=lease_id))

    async def lease_time_to_live(self, lease_id: int, *, keys: bool = False) -> pb.LeaseTimeToLiveResponse:
        """Return what is left of a lease; TTL is -1 when it is gone."""
        request = pb.LeaseTimeToLiveRequest(ID=lease_id, keys=keys)
        return await self._channel.unary(methods.LEASE_TIME_TO_LIVE, request)

    async def leases(self) -> list[int]:
        """Return the ids of all leases."""
        answer = await self._channel.unary(methods.LEASE_LEASES, pb.LeaseLeasesRequest())
        return [each.ID for each in answer.leases]

    def lock(self, name: Data, *, ttl_s: int = 60) -> Lock:
        """Return a lock; whoever dies while holding it loses it after `ttl_s` seconds."""
        return Lock(self, name, ttl_s)

    def election(self, name: Data, *, ttl_s: int = 60) -> Election:
        """Return an election to campaign in or to look at."""
        return Election(self, name, ttl_s)

    def barrier(self, name: Data) -> Barrier:
        """Return a barrier."""
        return Barrier(self, name)

    def transactions(self, *, attempts: int = 1000) -> Transactions:
        """Return attempts at an optimistic transaction, to loop over."""
        return Transactions(self, attempts)

    # Members

    async def members(self, *, linearizable: bool = True) -> list[pb.Member]:
        """Return all members."""
        answer = await self._channel.unary(methods.MEMBER_LIST, pb.MemberListRequest(linearizable=linearizable))
        return list(answer.members)

    async def sync(self) -> None:
        """Use the client URLs of the member list as endpoints from now on."""
        urls = [url for member in await self.members() if not member.isLearner for url in member.clientURLs]
        if urls:
            self._channel.set_endpoints(urls)

    async def member_add(self, peer_urls: Sequence[str], *, learner: bool = False) -> pb.MemberAddResponse:
        """Add a member."""
        request = pb.MemberAddRequest(peerURLs=peer_urls, isLearner=learner)
        return await self._channel.unary(methods.MEMBER_ADD, request)

    async def member_remove(self, member_id: int) -> pb.MemberRemoveResponse:
        """Remove a member for good."""
        return await self._channel.unary(methods.MEMBER_REMOVE, pb.MemberRemoveRequest(ID=member_id))

    async def member_update(self, member_id: int, peer_urls: Sequence[str]) -> pb.MemberUpdateResponse:
        """Give a member other peer URLs."""
        request = pb.MemberUpdateRequest(ID=member_id, peerURLs=peer_urls)
        return await self._channel.unary(methods.MEMBER_UPDATE, request)

    async def member_promote(self, member_id: int) -> pb.MemberPromoteResponse:
        """Make a learner a voter."""
        return await self._channel.unary(methods.MEMBER_PROMOTE, pb.MemberPromoteRequest(ID=member_id))

    # Maintenance

    async def status(self, endpoint: str | None = None) -> pb.StatusResponse:
        """Return a member's state: the one behind `endpoint`, or the one we are connected to."""
        return await self._channel.unary(methods.STATUS, pb.StatusRequest(), endpoint=endpoint)

    async def alarms(self) -> list[pb.AlarmMember]:
        """Return the alarms that are raised."""
        request = pb.AlarmRequest(action=pb.AlarmRequest.GET)
        return list((await self._channel.unary(methods.ALARM_LIST, request)).alarms)

    async def alarm_disarm(self, alarm: pb.AlarmMember) -> pb.AlarmResponse:
        """Take an alarm back."""
        request = pb.AlarmRequest(action=pb.AlarmRequest.DEACTIVATE, memberID=alarm.memberID, alarm=alarm.alarm)
        return await self._channel.unary(methods.ALARM, request)

    async def defragment(self, endpoint: str | None = None, *, timeout_s: float = 60.0) -> pb.DefragmentResponse:
        """Defragment one member's database."""
        request = pb.DefragmentRequest()
        return await self._channel.unary(methods.DEFRAGMENT, request, timeout_s, endpoint)

    async def hash_kv(self, endpoint: str | None = None, *, revision: int = 0) -> pb.HashKVResponse:
        """Return the hash of a member's history up to a revision."""
        return await self._channel.unary(methods.HASH_KV, pb.HashKVRequest(revision=revision), endpoint=endpoint)

    async def move_leader(self, member_id: int, *, endpoint: str | None = None) -> pb.MoveLeaderResponse:
        """Hand leadership to a member; the leader itself must be asked."""
        return await self._channel.unary(methods.MOVE_LEADER, pb.MoveLeaderRequest(targetID=member_id), None, endpoint)

    async def snapshot(self, path: str | PathLike[str]) -> int:
        """Save a member's database to a file, whole or not at all; return its bytes. Raises SnapshotError, OSError."""
        return await save_snapshot(self._channel, fspath(path))

    # Users and roles

    async def auth_enable(self) -> pb.AuthEnableResponse:
        """Ask for credentials from now on."""
        return await self._channel.unary(methods.AUTH_ENABLE, pb.AuthEnableRequest())

    async def auth_disable(self) -> pb.AuthDisableResponse:
        """Let everybody do everything."""
        return await self._channel.unary(methods.AUTH_DISABLE, pb.AuthDisableRequest())

    async def auth_status(self) -> pb.AuthStatusResponse:
        """Tell whether authentication is on."""
        return await self._channel.unary(methods.AUTH_STATUS, pb.AuthStatusRequest())

    async def user_add(self, name: str, password: str = "", *, no_password: bool = False) -> pb.AuthUserAddResponse:
        """Add a user; without a password it can come by certificate only."""
        options = auth_pb2.UserAddOptions(no_password=no_password)
        request = pb.AuthUserAddRequest(name=name, password=password, options=options)
        return await self._channel.unary(methods.USER_ADD, request)

    async def user_get(self, name: str) -> list[str]:
        """Return a user's roles."""
        return list((await self._channel.unary(methods.USER_GET, pb.AuthUserGetRequest(name=name))).roles)

    async def users(self) -> list[str]:
        """Return all users' names."""
        return list((await self._channel.unary(methods.USER_LIST, pb.AuthUserListRequest())).users)

    async def user_delete(self, name: str) -> pb.AuthUserDeleteResponse:
        """Delete a user."""
        return await self._channel.unary(methods.USER_DELETE, pb.AuthUserDeleteRequest(name=name))

    async def user_change_password(self, name: str, password: str) -> pb.AuthUserChangePasswordResponse:
        """Give a user another password."""
        request = pb.AuthUserChangePasswordRequest(name=name, password=password)
        return await self._channel.unary(methods.USER_CHANGE_PASSWORD, request)

    async def user_grant_role(self, name: str, role: str) -> pb.AuthUserGrantRoleResponse:
        """Give a user a role."""
        request = pb.AuthUserGrantRoleRequest(user=name, role=role)
        return await self._channel.unary(methods.USER_GRANT_ROLE, request)

    async def user_revoke_role(self, name: str, role: str) -> pb.AuthUserRevokeRoleResponse:
        """Take a role from a user."""
        request = pb.AuthUserRevokeRoleRequest(name=name, role=role)
        return await self._channel.unary(methods.USER_REVOKE_ROLE, request)

    async def role_add(self, name: str) -> pb.AuthRoleAddResponse:
        """Add a role without permissions."""
        return await self._channel.unary(methods.ROLE_ADD, pb.AuthRoleAddRequest(name=name))

    async def role_get(self, name: str) -> list[auth_pb2.Permission]:
        """Return a role's permissions."""
        return list((await self._channel.unary(methods.ROLE_GET, pb.AuthRoleGetRequest(role=name))).perm)

    async def roles(self) -> list[str]:
        """Return all roles' names."""
        return list((await self._channel.unary(methods.ROLE_LIST, pb.AuthRoleListRequest())).roles)

    async def role_delete(self, name: str) -> pb.AuthRoleDeleteResponse:
        """Delete a role."""
        return await self._channel.unary(methods.ROLE_DELETE, pb.AuthRoleDeleteRequest(role=name))

    async def role_grant(
        self, name: str, kind: Access, key: Data, end: Data | None = None, *, prefix: bool = False
    ) -> pb.AuthRoleGrantPermissionResponse:
        """Let a role "read", "write" or "readwrite" a key, a range or a prefix."""
        start, range_end = span(key, end, prefix)
        permission = auth_pb2.Permission(permType=_KINDS[kind], key=start, range_end=range_end)
        request = pb.AuthRoleGrantPermissionRequest(name=name, perm=permission)
        return await self._channel.unary(methods.ROLE_GRANT_PERMISSION, request)

    async def role_revoke(
        self, name: str, key: Data, end: Data | None = None, *, prefix: bool = False
    ) -> pb.AuthRoleRevokePermissionResponse:
        """Take the permission on exactly this key or range from a role."""
        start, range_end = span(key, end, prefix)
        request = pb.AuthRoleRevokePermissionRequest(role=name, key=start, range_end=range_end)
        return await self._channel.unary(methods.ROLE_REVOKE_PERMISSION, request)
