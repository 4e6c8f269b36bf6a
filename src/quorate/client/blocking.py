"""The blocking client: the asyncio client's methods, run on a private event loop in a thread of its own.

Made by tools/gen_blocking.py from `aio`, `watch`, `lease` and `recipes`; do not edit. A client may be used from several
threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from types import TracebackType

from quorate.client import aio, lease, recipes, watch
from quorate.client.ops import Access, Data, Order, Target
from quorate.client.runner import Runner
from quorate.client.target import TlsOptions
from quorate.client.watch import WatchBatch
from quorate.proto import auth_pb2, kv_pb2
from quorate.proto import rpc_pb2 as pb
from quorate.proto.kv_pb2 import KeyValue


class BlockingWatcher:
    """An asynchronous iterator of WatchBatch. It ends when it is closed."""

    def __init__(self, runner: Runner, inner: watch.Watcher) -> None:
        self._runner = runner
        self._inner = inner

    def __iter__(self) -> BlockingWatcher:
        return self

    def __next__(self) -> WatchBatch:
        try:
            found = self._runner.run(self._inner.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None
        return found

    def __enter__(self) -> BlockingWatcher:
        self._runner.run(self._inner.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._inner.__aexit__(kind, error, trace))

    def ready(self) -> None:
        """Return once the server has the watch: what is written from now on will be seen."""
        self._runner.run(self._inner.ready())

    def next(self, timeout_s: float | None = None) -> WatchBatch | None:
        """Return the next batch, None after `close`. Raises CompactedError, EtcdError, TimeoutError."""
        return self._runner.run(self._inner.next(timeout_s))

    def request_progress(self) -> None:
        """Ask for a batch without events that says how far this watch has come. Old servers may not answer."""
        self._runner.run(self._inner.request_progress())

    def close(self) -> None:
        """End the watch."""
        self._runner.run(self._inner.close())


class BlockingLease:
    """A granted lease. As a context manager it is revoked at the end."""

    def __init__(self, runner: Runner, inner: lease.Lease) -> None:
        self._runner = runner
        self._inner = inner

    @property
    def id(self) -> int:
        """The id, to give to put."""
        return self._inner.id

    @property
    def ttl_s(self) -> int:
        """The granted time to live."""
        return self._inner.ttl_s

    @property
    def lost(self) -> bool:
        """Whether the lease has expired or was revoked."""
        return self._inner.lost

    def wait_lost(self) -> None:
        """Return when the lease is lost."""
        self._runner.run(self._inner.wait_lost())

    def __enter__(self) -> BlockingLease:
        self._runner.run(self._inner.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._inner.__aexit__(kind, error, trace))

    def revoke(self) -> None:
        """Give the lease up and delete its keys. A lease that is gone already is no error.

        Unlike other writes, one that may have been applied is repeated: a second revocation finds nothing to do."""
        self._runner.run(self._inner.revoke())

    def close(self) -> None:
        """Renew no more; the lease runs out by itself."""
        self._runner.run(self._inner.close())


class BlockingTurn:
    """A place in the queue under a name; the first place holds. Locks and elections are built on it."""

    def __init__(self, runner: Runner, inner: recipes.Turn) -> None:
        self._runner = runner
        self._inner = inner

    @property
    def key(self) -> bytes:
        """The key that stands for us; empty before we wait or hold."""
        return self._inner.key

    @property
    def revision(self) -> int:
        """The revision that created our key: a fencing token that only grows."""
        return self._inner.revision

    @property
    def lost(self) -> bool:
        """Whether what we hold is not ours any more, because our lease is gone."""
        return self._inner.lost

    def wait_lost(self) -> None:
        """Return when the lease that holds our place is lost."""
        self._runner.run(self._inner.wait_lost())


class BlockingLock(BlockingTurn):
    """A mutual exclusion among all clients of the cluster.

    `with client.lock("jobs") as lock:`; look at `lost` before acting on what the lock protects, or hand
    `revision` to the protected thing as a fencing token."""

    _inner: recipes.Lock

    def __init__(self, runner: Runner, inner: recipes.Lock) -> None:
        super().__init__(runner, inner)

    def acquire(self, timeout_s: float | None = None) -> None:
        """Wait for the lock. Raises TimeoutError and leaves the queue when it takes longer."""
        self._runner.run(self._inner.acquire(timeout_s))

    def release(self) -> None:
        """Let the next one have it."""
        self._runner.run(self._inner.release())

    def __enter__(self) -> BlockingLock:
        self._runner.run(self._inner.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._inner.__aexit__(kind, error, trace))


class BlockingElection(BlockingTurn):
    """A choice of one leader among all candidates of a name."""

    _inner: recipes.Election

    def __init__(self, runner: Runner, inner: recipes.Election) -> None:
        super().__init__(runner, inner)

    def campaign(self, value: Data, timeout_s: float | None = None) -> None:
        """Wait until we lead; others see `value`. Raises TimeoutError and withdraws when it takes longer."""
        self._runner.run(self._inner.campaign(value, timeout_s))

    def proclaim(self, value: Data) -> None:
        """Say something new while we lead. Raises LeaseLostError when we do not."""
        self._runner.run(self._inner.proclaim(value))

    def resign(self) -> None:
        """Lead no more, or withdraw."""
        self._runner.run(self._inner.resign())

    def leader(self) -> KeyValue:
        """Return the leader's key and value. Raises NoLeaderError."""
        return self._runner.run(self._inner.leader())

    def wait_leader(self, after_revision: int = 0) -> KeyValue:
        """Return the leader once there is one whose key was written after the revision."""
        return self._runner.run(self._inner.wait_leader(after_revision))


class BlockingBarrier:
    """Something to wait behind: `hold` it, others `wait` until it is released."""

    def __init__(self, runner: Runner, inner: recipes.Barrier) -> None:
        self._runner = runner
        self._inner = inner

    def hold(self, lease: int = 0) -> bool:
        """Raise the barrier; False when it was there already."""
        return self._runner.run(self._inner.hold(lease))

    def release(self) -> None:
        """Let everybody pass."""
        self._runner.run(self._inner.release())

    def wait(self, timeout_s: float | None = None) -> None:
        """Return when the barrier is not there. Raises TimeoutError."""
        self._runner.run(self._inner.wait(timeout_s))


class BlockingTransaction:
    """One attempt at an optimistic transaction: reads are remembered, writes are kept until the end."""

    def __init__(self, runner: Runner, inner: recipes.Transaction) -> None:
        self._runner = runner
        self._inner = inner

    def get(self, key: Data) -> bytes | None:
        """Return a key's value as of the first read of this attempt, or as written in it; None when it is not there."""
        return self._runner.run(self._inner.get(key))

    def put(self, key: Data, value: Data, lease: int = 0) -> None:
        """Write a key at the end."""
        self._inner.put(key, value, lease)

    def delete(self, key: Data) -> None:
        """Delete a key at the end."""
        self._inner.delete(key)

    def commit(self) -> bool:
        """Do it all if nothing that was read has changed; False when something has."""
        return self._runner.run(self._inner.commit())


class BlockingTransactions:
    """Attempts at an optimistic transaction until one is committed.

        for attempt in client.transactions():
            attempt.put("n", str(int(attempt.get("n") or 0) + 1))

    The body runs again when another client changed what it has read. Leaving the loop early commits nothing."""

    def __init__(self, runner: Runner, inner: recipes.Transactions) -> None:
        self._runner = runner
        self._inner = inner

    def __iter__(self) -> BlockingTransactions:
        return self

    def __next__(self) -> BlockingTransaction:
        try:
            found = self._runner.run(self._inner.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None
        return BlockingTransaction(self._runner, found)


class BlockingClient:
    """A client of an etcd cluster.

    `endpoints`: host:port or URLs, comma-separated or a list. `tls`: TlsOptions when the members want TLS. `user`,
    `password`: log in, and again when the token has run out. `timeout_s`: the limit of each call that names none.
    `keepalive_s`: an idle connection is tried after so long, and given up `keepalive_timeout_s` later."""

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
        self._runner = Runner()
        self._inner = aio.Client(
            endpoints,
            tls=tls,
            user=user,
            password=password,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            keepalive_s=keepalive_s,
            keepalive_timeout_s=keepalive_timeout_s,
        )

    def __enter__(self) -> BlockingClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and end the private loop."""
        self._runner.run(self._inner.close())
        self._runner.stop()

    def get(self, key: Data, *, revision: int = 0, serializable: bool = False) -> kv_pb2.KeyValue | None:
        """Return one key with its value and revisions; None when it is not there."""
        return self._runner.run(self._inner.get(key, revision=revision, serializable=serializable))

    def range(
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
        return self._runner.run(
            self._inner.range(
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
                timeout_s=timeout_s,
            )
        )

    def put(
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
        return self._runner.run(
            self._inner.put(
                key,
                value,
                lease=lease,
                prev_kv=prev_kv,
                ignore_value=ignore_value,
                ignore_lease=ignore_lease,
                timeout_s=timeout_s,
            )
        )

    def delete(
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
        return self._runner.run(
            self._inner.delete(key, end, prefix=prefix, from_key=from_key, prev_kv=prev_kv, timeout_s=timeout_s)
        )

    def txn(
        self,
        compare: Sequence[pb.Compare],
        success: Sequence[pb.RequestOp],
        failure: Sequence[pb.RequestOp] = (),
        *,
        timeout_s: float | None = None,
    ) -> pb.TxnResponse:
        """Do `success` if all comparisons hold, else `failure`, in one step. The parts are made by `ops`."""
        return self._runner.run(self._inner.txn(compare, success, failure, timeout_s=timeout_s))

    def compact(self, revision: int, *, physical: bool = False) -> pb.CompactionResponse:
        """Forget history before the revision; `physical` waits until it is gone from the disk."""
        return self._runner.run(self._inner.compact(revision, physical=physical))

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
    ) -> BlockingWatcher:
        """Watch a key, a range or a prefix, from now on or from a revision on."""
        return BlockingWatcher(
            self._runner,
            self._inner.watch(
                key,
                end,
                prefix=prefix,
                from_key=from_key,
                start_revision=start_revision,
                prev_kv=prev_kv,
                progress_notify=progress_notify,
                puts=puts,
                deletes=deletes,
            ),
        )

    def lease(self, ttl_s: int, *, lease_id: int = 0) -> BlockingLease:
        """Grant a lease and keep it alive until it is revoked or closed."""
        return BlockingLease(self._runner, self._runner.run(self._inner.lease(ttl_s, lease_id=lease_id)))

    def lease_grant(self, ttl_s: int, *, lease_id: int = 0) -> pb.LeaseGrantResponse:
        """Grant a lease that nobody keeps alive."""
        return self._runner.run(self._inner.lease_grant(ttl_s, lease_id=lease_id))

    def lease_revoke(self, lease_id: int) -> pb.LeaseRevokeResponse:
        """End a lease and delete its keys."""
        return self._runner.run(self._inner.lease_revoke(lease_id))

    def lease_time_to_live(self, lease_id: int, *, keys: bool = False) -> pb.LeaseTimeToLiveResponse:
        """Return what is left of a lease; TTL is -1 when it is gone."""
        return self._runner.run(self._inner.lease_time_to_live(lease_id, keys=keys))

    def leases(self) -> list[int]:
        """Return the ids of all leases."""
        return self._runner.run(self._inner.leases())

    def lock(self, name: Data, *, ttl_s: int = 60) -> BlockingLock:
        """Return a lock; whoever dies while holding it loses it after `ttl_s` seconds."""
        return BlockingLock(self._runner, self._inner.lock(name, ttl_s=ttl_s))

    def election(self, name: Data, *, ttl_s: int = 60) -> BlockingElection:
        """Return an election to campaign in or to look at."""
        return BlockingElection(self._runner, self._inner.election(name, ttl_s=ttl_s))

    def barrier(self, name: Data) -> BlockingBarrier:
        """Return a barrier."""
        return BlockingBarrier(self._runner, self._inner.barrier(name))

    def transactions(self, *, attempts: int = 1000) -> BlockingTransactions:
        """Return attempts at an optimistic transaction, to loop over."""
        return BlockingTransactions(self._runner, self._inner.transactions(attempts=attempts))

    def members(self, *, linearizable: bool = True) -> list[pb.Member]:
        """Return all members."""
        return self._runner.run(self._inner.members(linearizable=linearizable))

    def sync(self) -> None:
        """Use the client URLs of the member list as endpoints from now on."""
        self._runner.run(self._inner.sync())

    def member_add(self, peer_urls: Sequence[str], *, learner: bool = False) -> pb.MemberAddResponse:
        """Add a member."""
        return self._runner.run(self._inner.member_add(peer_urls, learner=learner))

    def member_remove(self, member_id: int) -> pb.MemberRemoveResponse:
        """Remove a member for good."""
        return self._runner.run(self._inner.member_remove(member_id))

    def member_update(self, member_id: int, peer_urls: Sequence[str]) -> pb.MemberUpdateResponse:
        """Give a member other peer URLs."""
        return self._runner.run(self._inner.member_update(member_id, peer_urls))

    def member_promote(self, member_id: int) -> pb.MemberPromoteResponse:
        """Make a learner a voter."""
        return self._runner.run(self._inner.member_promote(member_id))

    def status(self, endpoint: str | None = None) -> pb.StatusResponse:
        """Return a member's state: the one behind `endpoint`, or the one we are connected to."""
        return self._runner.run(self._inner.status(endpoint))

    def alarms(self) -> list[pb.AlarmMember]:
        """Return the alarms that are raised."""
        return self._runner.run(self._inner.alarms())

    def alarm_disarm(self, alarm: pb.AlarmMember) -> pb.AlarmResponse:
        """Take an alarm back."""
        return self._runner.run(self._inner.alarm_disarm(alarm))

    def defragment(self, endpoint: str | None = None, *, timeout_s: float = 60.0) -> pb.DefragmentResponse:
        """Defragment one member's database."""
        return self._runner.run(self._inner.defragment(endpoint, timeout_s=timeout_s))

    def hash_kv(self, endpoint: str | None = None, *, revision: int = 0) -> pb.HashKVResponse:
        """Return the hash of a member's history up to a revision."""
        return self._runner.run(self._inner.hash_kv(endpoint, revision=revision))

    def move_leader(self, member_id: int, *, endpoint: str | None = None) -> pb.MoveLeaderResponse:
        """Hand leadership to a member; the leader itself must be asked."""
        return self._runner.run(self._inner.move_leader(member_id, endpoint=endpoint))

    def snapshot(self, path: str | PathLike[str]) -> int:
        """Save a member's database to a file, whole or not at all; return its bytes. Raises SnapshotError, OSError."""
        return self._runner.run(self._inner.snapshot(path))

    def auth_enable(self) -> pb.AuthEnableResponse:
        """Ask for credentials from now on."""
        return self._runner.run(self._inner.auth_enable())

    def auth_disable(self) -> pb.AuthDisableResponse:
        """Let everybody do everything."""
        return self._runner.run(self._inner.auth_disable())

    def auth_status(self) -> pb.AuthStatusResponse:
        """Tell whether authentication is on."""
        return self._runner.run(self._inner.auth_status())

    def user_add(self, name: str, password: str = "", *, no_password: bool = False) -> pb.AuthUserAddResponse:
        """Add a user; without a password it can come by certificate only."""
        return self._runner.run(self._inner.user_add(name, password, no_password=no_password))

    def user_get(self, name: str) -> list[str]:
        """Return a user's roles."""
        return self._runner.run(self._inner.user_get(name))

    def users(self) -> list[str]:
        """Return all users' names."""
        return self._runner.run(self._inner.users())

    def user_delete(self, name: str) -> pb.AuthUserDeleteResponse:
        """Delete a user."""
        return self._runner.run(self._inner.user_delete(name))

    def user_change_password(self, name: str, password: str) -> pb.AuthUserChangePasswordResponse:
        """Give a user another password."""
        return self._runner.run(self._inner.user_change_password(name, password))

    def user_grant_role(self, name: str, role: str) -> pb.AuthUserGrantRoleResponse:
        """Give a user a role."""
        return self._runner.run(self._inner.user_grant_role(name, role))

    def user_revoke_role(self, name: str, role: str) -> pb.AuthUserRevokeRoleResponse:
        """Take a role from a user."""
        return self._runner.run(self._inner.user_revoke_role(name, role))

    def role_add(self, name: str) -> pb.AuthRoleAddResponse:
        """Add a role without permissions."""
        return self._runner.run(self._inner.role_add(name))

    def role_get(self, name: str) -> list[auth_pb2.Permission]:
        """Return a role's permissions."""
        return self._runner.run(self._inner.role_get(name))

    def roles(self) -> list[str]:
        """Return all roles' names."""
        return self._runner.run(self._inner.roles())

    def role_delete(self, name: str) -> pb.AuthRoleDeleteResponse:
        """Delete a role."""
        return self._runner.run(self._inner.role_delete(name))

    def role_grant(
        self, name: str, kind: Access, key: Data, end: Data | None = None, *, prefix: bool = False
    ) -> pb.AuthRoleGrantPermissionResponse:
        """Let a role "read", "write" or "readwrite" a key, a range or a prefix."""
        return self._runner.run(self._inner.role_grant(name, kind, key, end, prefix=prefix))

    def role_revoke(
        self, name: str, key: Data, end: Data | None = None, *, prefix: bool = False
    ) -> pb.AuthRoleRevokePermissionResponse:
        """Take the permission on exactly this key or range from a role."""
        return self._runner.run(self._inner.role_revoke(name, key, end, prefix=prefix))
