"""All gRPC services of a member, put together: the one call that fills a router."""

from __future__ import annotations

from quorate.api.auth import AuthService
from quorate.api.check import Guard
from quorate.api.cluster import ClusterService
from quorate.api.election import ElectionService
from quorate.api.health import HealthService
from quorate.api.kv import KVService
from quorate.api.lease import LeaseService
from quorate.api.lock import LockService
from quorate.api.maintenance import MaintenanceService
from quorate.api.watch import DEFAULT_PROGRESS_NS, WatchService
from quorate.server.core import Server
from quorate.wire.rpc import Router


class Services:
    """The services over one server. `guard` has the counts of calls by client version, for the metrics."""

    def __init__(self, server: Server, watch_progress_ns: int = DEFAULT_PROGRESS_NS) -> None:
        self.guard = Guard(server)
        self.kv = KVService(server)
        self.watch = WatchService(server, watch_progress_ns)
        self.lease = LeaseService(server)
        self.cluster = ClusterService(server)
        self.maintenance = MaintenanceService(server)
        self.auth = AuthService(server)
        self.lock = LockService(server, self.kv)
        self.election = ElectionService(server, self.kv)
        self.health = HealthService()

    def requests(self) -> list[tuple[str, bytes, int]]:
        """Return the calls of clients that passed the first checks: type, the client's API version, count."""
        guard = self.guard
        unary = [("unary", version, count) for version, count in guard.unary_calls.items()]
        return unary + [("stream", version, count) for version, count in guard.stream_calls.items()]

    def register(self, router: Router) -> None:
        """Add all methods to the router."""
        guard = self.guard
        self.kv.register(router, guard)
        self.watch.register(router, guard)
        self.lease.register(router, guard)
        self.cluster.register(router, guard)
        self.maintenance.register(router, guard)
        self.auth.register(router, guard)
        self.lock.register(router, guard)
        self.election.register(router, guard)
        self.health.register(router, guard)
