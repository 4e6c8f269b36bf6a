"""Who may do what, asked for a call; everybody everything while authentication is disabled.

Entries of the log are checked again when they are applied, by `execute`; here are the checks that need no entry.
"""

from __future__ import annotations

from quorate import errors
from quorate.auth.access import Access
from quorate.auth.store import NOBODY, AuthInfo, AuthStore
from quorate.errors import RpcError
from quorate.lease.lessor import Lease
from quorate.ports import Completion
from quorate.proto.rpc_pb2 import TxnRequest
from quorate.server.permissions import Permissions


class Refusals:
    """Every method returns why the call must not be served, or None."""

    def __init__(self, auth: AuthStore, access: Access, permissions: Permissions) -> None:
        self._auth = auth
        self._access = access
        self._permissions = permissions

    def call(self, need: int, call: Completion) -> RpcError | None:
        """Ask for a call that needs a user or the root role (auth.access.NEEDS_...)."""
        return self._access.refusal(need, call) if self._auth.enabled else None

    def read(self, call: Completion, key: bytes, end: bytes) -> RpcError | None:
        """Ask for the reading of a range."""
        if not self._auth.enabled:
            return None
        who = self._access.who(call)
        if isinstance(who, RpcError):
            return who
        return self._auth.read_error(who, key, end) or self._stale(who)

    def txn(self, call: Completion, request: TxnRequest) -> RpcError | None:
        """Ask for a transaction that is answered without the log."""
        if not self._auth.enabled:
            return None
        who = self._access.who(call)
        if isinstance(who, RpcError):
            return who
        return self._permissions.txn_error(who, request) or self._stale(who)

    def _stale(self, info: AuthInfo) -> RpcError | None:
        """Return what real etcd says after a read for which the revision was not the present one."""
        return errors.AUTH_OLD_REVISION if info.revision not in (0, self._auth.revision) else None

    def lease(self, call: Completion, lease_id: int) -> RpcError | None:
        """Ask for keeping a lease alive."""
        if not self._auth.enabled:
            return None
        who = self._access.who(call)
        if isinstance(who, RpcError):
            return who
        return errors.USER_EMPTY if who is NOBODY else self._permissions.lease_error(who, lease_id)

    def lease_keys(self, call: Completion, leases: list[Lease]) -> RpcError | None:
        """Ask for seeing the keys of leases."""
        if not self._auth.enabled:
            return None
        who = self._access.who(call)
        if isinstance(who, RpcError):
            return who
        return errors.USER_EMPTY if who is NOBODY else self._permissions.lease_keys_error(who, leases)
