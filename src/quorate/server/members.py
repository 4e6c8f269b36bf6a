"""Changes of the cluster: members in and out, what a member says of itself, the cluster's version, downgrades.

Contract: what is asked here is checked against the present state, then proposed; whether it holds is decided when the
entry is applied (membership.cluster), because another change may come first. Only the leader decides the cluster
version; every member keeps the storage version of its own file in step with it.

Source: etcd server/etcdserver/server.go (AddMember, RemoveMember, PromoteMember, publishV3), version/monitor.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate import errors
from quorate.errors import RpcError
from quorate.membership.cluster import Cluster
from quorate.membership.member import Member, compute_member_id, hex_id, member_json, promote_json
from quorate.membership.version import (
    SERVER_VERSION,
    V3_6,
    Version,
    allowed_downgrade,
    decide_cluster_version,
    parse_downgrade_target,
    parse_version,
)
from quorate.ports import Completion, Log, Loop
from quorate.proto.membership_pb2 import (
    Attributes,
    ClusterMemberAttrSetRequest,
    ClusterVersionSetRequest,
    DowngradeInfoSetRequest,
)
from quorate.raft.node import RawNode
from quorate.raft.types import ADD_LEARNER_NODE, ADD_NODE, REMOVE_NODE, UPDATE_NODE, ConfChange
from quorate.server.apply import Applier
from quorate.server.config import ServerConfig
from quorate.server.entry import CLUSTER_MEMBER_ATTR_SET, CLUSTER_VERSION_SET, DOWNGRADE_INFO_SET, RequestIds
from quorate.server.promotion import PassedOn
from quorate.server.stats import ServerStats
from quorate.server.transport import Transport
from quorate.server.turn import Turn
from quorate.storage import schema
from quorate.storage.backend import Backend

HEALTHY_NS: Final = 5_000_000_000  # a peer counts as active when it has been connected for so long
READY_PERCENT: Final = 0.9  # of the leader's log that a learner must have
MONITOR_NS: Final = 4_000_000_000

_CALLER: Final = "etcdserver/server.go"

Propose = Callable[[int, object, bytes, Completion], None]
Then = Callable[[RpcError | None], None]


class Members:
    """The node's part in changes of the cluster."""

    def __init__(
        self,
        loop: Loop,
        log: Log,
        config: ServerConfig,
        cluster: Cluster,
        node: RawNode,
        backend: Backend,
        turn: Turn,
        applier: Applier,
        transport: Transport,
        ids: RequestIds,
        stats: ServerStats,
        propose: Propose,
    ) -> None:
        self._loop = loop
        self._log = log
        self._config = config
        self._cluster = cluster
        self._node = node
        self._backend = backend
        self._turn = turn
        self._applier = applier
        self._transport = transport
        self._ids = ids
        self._stats = stats
        self._propose = propose
        self._started: dict[int, int] = {}  # at which tick conf changes under way were proposed, by id
        self._setting_version = False
        self.published = False
        self.on_published: Callable[[], None] | None = None

    # -- Configuration changes

    def add(
        self, peer_urls: list[str], is_learner: bool, then: Callable[[Member | None, RpcError | None], None]
    ) -> None:
        """Add a member; its id comes from its URLs and the time."""
        now_s = self._loop.time_ns() // 1_000_000_000
        urls = sorted(peer_urls)
        member = Member(compute_member_id(urls, "", now_s), urls, is_learner=is_learner)
        error = self._check_add(is_learner)
        if error is not None:
            then(None, error)
            return
        kind = ADD_LEARNER_NODE if is_learner else ADD_NODE
        self._change(ConfChange(0, kind, member.id, member_json(member)), _Added(self._cluster, member, then).done)

    def _check_add(self, is_learner: bool) -> RpcError | None:
        if not self._config.strict_reconfig_check:
            return None
        cluster = self._cluster
        if not is_learner and not cluster.ready_to_add_voter():
            return errors.MEMBER_NOT_ENOUGH_STARTED
        voters = len(cluster.voters())
        if voters > 1 and self._active_voters() < (voters + 1) // 2 + 1:
            return errors.UNHEALTHY
        return None

    def _active(self, member_id: int) -> bool:
        if member_id == self._cluster.local_id:
            return True
        since_ns = self._transport.active_since_ns(member_id)
        return since_ns != 0 and self._loop.monotonic_ns() - since_ns >= HEALTHY_NS

    def _active_voters(self) -> int:
        return sum(self._active(member.id) for member in self._cluster.voters())

    def remove(self, member_id: int, then: Then) -> None:
        """Remove a member, for good: its id never returns."""
        error = self._check_remove(member_id)
        if error is not None:
            then(error)
            return
        self._change(ConfChange(0, REMOVE_NODE, member_id, None), then)

    def _check_remove(self, member_id: int) -> RpcError | None:
        cluster = self._cluster
        member = cluster.member(member_id)
        if not self._config.strict_reconfig_check or (member is not None and member.is_learner):
            return None
        if not cluster.ready_to_remove_voter(member_id):
            return errors.MEMBER_NOT_ENOUGH_STARTED
        if member_id != cluster.local_id and not self._active(member_id):
            return None
        if self._active_voters() - 1 < 1 + (len(cluster.voters()) - 1) // 2:
            return errors.UNHEALTHY
        return None

    def update(self, member_id: int, peer_urls: list[str], then: Then) -> None:
        """Give a member other peer URLs."""
        member = Member(member_id, list(peer_urls))
        self._change(ConfChange(0, UPDATE_NODE, member_id, member_json(member)), then)

    def promote(self, member_id: int, token: bytes, then: Then) -> None:
        """Make a voter of a learner that has caught up; only the leader can tell, others ask it, with the token."""
        if self._turn.leading:
            self._promote_here(member_id, then)
            return
        limit_ns = self._config.request_timeout_ns
        here: Callable[[int, Then], None] = self._promote_here
        PassedOn(self._loop, self._turn, self._transport, limit_ns, member_id, token, here, then).ask()

    def _promote_here(self, member_id: int, then: Then) -> None:
        error = self._check_promote(member_id)
        if error is not None:
            then(error)
            return
        self._change(ConfChange(0, ADD_NODE, member_id, promote_json(member_id)), _Promoted(self._stats, then).done)

    def _check_promote(self, member_id: int) -> RpcError | None:
        progress = self._node.status().progress
        if member_id not in progress:
            return errors.MEMBER_NOT_FOUND
        member = self._cluster.member(member_id)
        if member is not None and not member.is_learner:
            return errors.MEMBER_NOT_LEARNER
        own = progress.get(self._cluster.local_id)  # none when we lead and have just been removed
        if own is None or progress[member_id].match < READY_PERCENT * own.match:
            return errors.LEARNER_NOT_READY
        if self._config.strict_reconfig_check and not self._cluster.ready_to_promote():
            return errors.MEMBER_NOT_ENOUGH_STARTED
        return None

    def _change(self, change: ConfChange, then: Then) -> None:
        change.id = self._ids.next_id()
        if self._turn.leader == 0:
            then(errors.NO_LEADER)
        elif not self._turn.propose_conf_change(change):
            then(errors.TIMEOUT)
        else:
            self._applier.conf_waiters[change.id] = then
            self._started[change.id] = self._turn.ticks()

    def expire(self) -> None:
        """Give up on changes that were never applied."""
        if not self._started:
            return
        oldest = self._turn.ticks() - self._config.request_timeout_ns // self._config.tick_ns
        waiters = self._applier.conf_waiters
        for change_id, start in list(self._started.items()):
            if change_id not in waiters:
                del self._started[change_id]
            elif start <= oldest:
                del self._started[change_id]
                waiters.pop(change_id)(self._turn.late_error(start))

    # -- What we say of ourselves

    def publish(self) -> None:
        """Put our name and client URLs into the log; again and again until that is applied."""
        attributes = Attributes(name=self._config.name, client_urls=self._config.client_urls)
        request = ClusterMemberAttrSetRequest(member_ID=self._cluster.local_id, member_attributes=attributes)
        self._propose(CLUSTER_MEMBER_ATTR_SET, request, request.SerializeToString(), _Publication(self))

    def publication(self, error: RpcError | None) -> None:
        """The outcome of an attempt to publish."""
        if error is errors.STOPPED:
            return
        if error is not None:
            fields = {"local-member-id": hex_id(self._cluster.local_id), "error": error.text}
            self._log.warn(_CALLER, "failed to publish local member to cluster through raft", **fields)
            self.publish()
            return
        fields = {"local-member-id": hex_id(self._cluster.local_id), "cluster-id": hex_id(self._cluster.cluster_id)}
        self._log.info(_CALLER, "published local member to cluster through raft", **fields)
        self.published = True
        if self.on_published is not None:
            self.on_published()

    # -- Versions

    def monitor(self) -> None:
        """Keep the versions in step; called every MONITOR_NS, and when we begin to lead."""
        self._update_storage_version()
        if not self._turn.term_begun or self._setting_version:
            return
        try:
            version = decide_cluster_version(self._cluster.version, self._server_versions(), self._cluster.downgrade)
        except ValueError as error:
            self._log.error("version/monitor.go", "failed to decide the cluster version", error=str(error))
            return
        if version is not None:
            self._setting_version = True
            request = ClusterVersionSetRequest(ver=str(version))
            self._propose(CLUSTER_VERSION_SET, request, request.SerializeToString(), _VersionSet(self))

    def version_set(self) -> None:
        """The outcome of setting the cluster version is known."""
        self._setting_version = False
        self._update_storage_version()

    def _server_versions(self) -> list[Version | None]:
        local_id = self._cluster.local_id
        return [
            SERVER_VERSION if member.id == local_id else self._transport.server_version(member.id)
            for member in self._cluster.member_list()
        ]

    def _update_storage_version(self) -> None:
        """Write storageVersion into our file: from 3.6 on it is there, below it must not be."""
        version = self._cluster.version
        if version is None:
            return
        stored = self._backend.get(schema.META, schema.STORAGE_VERSION)
        if version < V3_6:
            if stored is not None:
                self._backend.delete(schema.META, schema.STORAGE_VERSION)
        elif stored != str(version).encode():
            self._backend.put(schema.META, schema.STORAGE_VERSION, str(version).encode())

    def end_downgrade(self) -> None:
        """End a downgrade that is complete; called every `downgrade_check_ns` (etcd: version/monitor.go)."""
        downgrade = self._cluster.downgrade
        if not downgrade.enabled or not self._turn.term_begun:
            return
        target = parse_version(downgrade.target_version).minor_version()
        if all(version is not None and version.minor_version() == target for version in self._server_versions()):
            self._log.info(
                "version/monitor.go", "the cluster has been downgraded", **{"cluster-version": downgrade.target_version}
            )
            self._propose_downgrade(DowngradeInfoSetRequest(enabled=False), _ignore)

    def downgrade(self, action: int, text: str, then: Then) -> None:
        """Validate (0), enable (1) or cancel (2) a downgrade; the caller has waited for a read index."""
        cluster = self._cluster
        if action == 2:
            self._propose_downgrade(DowngradeInfoSetRequest(enabled=False), then)
            return
        if action not in (0, 1):
            then(errors.UNKNOWN_METHOD)
            return
        try:
            target = parse_downgrade_target(text)
        except ValueError:
            then(errors.WRONG_DOWNGRADE_VERSION_FORMAT)
            return
        if cluster.version is None:
            then(errors.CLUSTER_VERSION_UNAVAILABLE)
        elif target != allowed_downgrade(cluster.version):
            then(errors.INVALID_DOWNGRADE_TARGET_VERSION)
        elif cluster.downgrade.enabled:
            then(errors.DOWNGRADE_IN_PROCESS)
        elif action == 0:
            then(None)
        else:
            self._propose_downgrade(DowngradeInfoSetRequest(enabled=True, ver=str(target)), then)

    def _propose_downgrade(self, request: DowngradeInfoSetRequest, then: Then) -> None:
        self._propose(DOWNGRADE_INFO_SET, request, request.SerializeToString(), _Callback(then))


def _ignore(error: RpcError | None) -> None:
    """Nobody waits; the monitor comes again."""


class _Callback(Completion):
    """Tells a callback how a request ended."""

    def __init__(self, then: Then) -> None:
        self._then = then

    def complete(self, _response: bytes) -> None:
        """It was applied."""
        self._then(None)

    def fail(self, error: RpcError) -> None:
        """It failed."""
        self._then(error)


class _Publication(Completion):
    """Waits for our attributes."""

    def __init__(self, members: Members) -> None:
        self._members = members

    def complete(self, _response: bytes) -> None:
        """They are in the cluster."""
        self._members.publication(None)

    def fail(self, error: RpcError) -> None:
        """Try again."""
        self._members.publication(error)


class _VersionSet(Completion):
    """Waits for the cluster version."""

    def __init__(self, members: Members) -> None:
        self._members = members

    def complete(self, _response: bytes) -> None:
        """It is set."""
        self._members.version_set()

    def fail(self, _error: RpcError) -> None:
        """The monitor will try again."""
        self._members.version_set()


class _Added:
    """Answers with the new member."""

    def __init__(
        self, cluster: Cluster, member: Member, then: Callable[[Member | None, RpcError | None], None]
    ) -> None:
        self._cluster = cluster
        self._member = member
        self._then = then

    def done(self, error: RpcError | None) -> None:
        """The change was applied or refused."""
        self._then(None if error is not None else self._member, error)


class _Promoted:
    """Counts promotions."""

    def __init__(self, stats: ServerStats, then: Then) -> None:
        self._stats = stats
        self._then = then

    def done(self, error: RpcError | None) -> None:
        """The change was applied or refused."""
        if error is None:
            self._stats.learner_promote_successes += 1
        else:
            failures = self._stats.learner_promote_failures
            failures[error.text] = failures.get(error.text, 0) + 1
        self._then(error)
