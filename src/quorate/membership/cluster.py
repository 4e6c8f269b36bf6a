"""The cluster as this member knows it: members, removed ids, identity, versions, and how the log changes them.

Membership lives in the backend's buckets and is changed only by entries of the log, alike on every member:

    bucket            key              value
    members           <hex id>         {"id":...,"peerURLs":[...],"isLearner":true,"name":...,"clientURLs":[...]}
    members_removed   <hex id>         removed
    cluster           clusterVersion   3.6.0
    cluster           downgrade        {"target-version":"3.5.0","enabled":true}

Contract: a proposed configuration change is checked by `validate` when it is applied, not when it is proposed (another
one may come between); an invalid one is refused alike everywhere and its error given to whoever proposed it. `apply`
trusts that `validate` has said yes. Everything here is called inside the apply of an entry, so that the change and the
consistent index get into the same transaction; without a backend nothing is stored, which serves a restart that
replays changes older than its db file (`Cluster.from_membership`).

Invariants: an id is never both member and removed; a removed id never returns; peer URLs are unique.
Left out: who may ask, health of peers, raft's own configuration, requests to other members: `server` has those.
Source: etcd's server/etcdserver/api/membership/cluster.go and server/storage/schema/membership.go.
"""

from __future__ import annotations

import json
from typing import Final, Protocol

from quorate import errors
from quorate.errors import CorruptError, RpcError
from quorate.membership.member import (
    MalformedError,
    Member,
    compute_cluster_id,
    compute_member_id,
    go_json,
    hex_id,
    member_json,
    parse_hex_id,
    parse_member_json,
)
from quorate.membership.v2store import Membership, encode_v2store
from quorate.membership.version import Downgrade, Version, check_not_downgraded, parse_version
from quorate.ports import Log
from quorate.storage.schema import (
    CLUSTER,
    CLUSTER_VERSION,
    DOWNGRADE,
    MEMBER_REMOVED,
    MEMBERS,
    MEMBERS_REMOVED,
    member_key,
)

# raftpb.ConfChangeType
ADD_NODE: Final = 0
REMOVE_NODE: Final = 1
UPDATE_NODE: Final = 2
ADD_LEARNER_NODE: Final = 3

MEMBERS_BUCKET: Final = MEMBERS
_CALLER: Final = "membership/cluster.go"


class Buckets(Protocol):
    """What the cluster needs of the backend."""

    def get(self, bucket: bytes, key: bytes) -> bytes | None:
        """Return a value, None when the key is absent."""

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None:
        """Set a value."""

    def delete(self, bucket: bytes, key: bytes) -> None:
        """Remove a key."""

    def range(self, bucket: bytes, start: bytes, end: bytes, limit: int = 0) -> list[tuple[bytes, bytes]]:
        """Return the pairs from `start` up to, without, `end`."""


class Cluster:
    """The members of one cluster. `cluster_id` and `local_id` are fixed by `set_id` once they are known."""

    def __init__(self, log: Log, max_learners: int = 1) -> None:
        self.cluster_id = 0
        self.local_id = 0
        self.members: dict[int, Member] = {}
        self.removed: set[int] = set()
        self.version: Version | None = None
        self.downgrade = Downgrade()
        self.max_learners = max_learners
        self.v2_reads = 0
        self.v2_writes: dict[str, int] = {}
        """What etcd's store of the v2 API, which holds the same, would have counted: writes by action."""

        self._log = log
        self._backend: Buckets | None = None

    @staticmethod
    def from_initial(log: Log, urls: dict[str, list[str]], token: str, max_learners: int = 1) -> Cluster:
        """Return a new cluster of these members, peer URLs by name; ValueError when two have the same id."""
        cluster = Cluster(log, max_learners)
        for name in sorted(urls):
            member = Member(compute_member_id(urls[name], token), urls[name], name)
            if member.id in cluster.members:
                raise ValueError(f"member exists with identical ID {member}")
            if member.id == 0:
                raise ValueError("cannot use 0 as member id")
            cluster.members[member.id] = member
        cluster.cluster_id = compute_cluster_id(list(cluster.members))
        return cluster

    @staticmethod
    def from_membership(log: Log, membership: Membership, max_learners: int = 1) -> Cluster:
        """Return a cluster that stores nothing and begins with what a snapshot says."""
        cluster = Cluster(log, max_learners)
        cluster.members = {member_id: member.clone() for member_id, member in membership.members.items()}
        cluster.removed = set(membership.removed)
        cluster.version = membership.version
        return cluster

    def set_id(self, local_id: int, cluster_id: int) -> None:
        """Fix this member's and the cluster's identity."""
        self.local_id = local_id
        self.cluster_id = cluster_id

    def membership(self) -> Membership:
        """Return members, removed ids and version as a snapshot stores them."""
        return Membership(self.members, self.removed, self.version)

    def snapshot_data(self) -> bytes:
        """Return the data of a raft snapshot of the present state."""
        return encode_v2store(self.membership())

    # Questions

    def member(self, member_id: int) -> Member | None:
        """Return a member by id."""
        return self.members.get(member_id)

    def member_list(self) -> list[Member]:
        """Return all members by ascending id."""
        return [self.members[member_id] for member_id in sorted(self.members)]

    def voters(self) -> list[Member]:
        """Return the voting members by ascending id."""
        return [member for member in self.member_list() if not member.is_learner]

    def member_by_name(self, name: str) -> Member | None:
        """Return the member of this name; ValueError when two have it."""
        found = [member for member in self.member_list() if member.name == name]
        if len(found) > 1:
            raise ValueError("two member with same name found")
        return found[0] if found else None

    def is_local_learner(self) -> bool:
        """Tell whether this member is a learner."""
        local = self.members.get(self.local_id)
        return local is not None and local.is_learner

    def peer_urls(self) -> list[str]:
        """Return all members' peer URLs, sorted."""
        return sorted(url for member in self.members.values() for url in member.peer_urls)

    def client_urls(self) -> list[str]:
        """Return all members' client URLs, sorted."""
        return sorted(url for member in self.members.values() for url in member.client_urls)

    def ready_to_add_voter(self) -> bool:
        """Tell whether enough voters have started for the quorum of a cluster with one more that has not."""
        started = sum(member.started() for member in self.voters())
        size = len(self.voters()) + 1
        if started == 1 and size == 2:
            return True
        return self._enough_started("add", started, size)

    def ready_to_remove_voter(self, member_id: int) -> bool:
        """Tell whether enough voters have started for the quorum that remains without this one."""
        rest = [member for member in self.voters() if member.id != member_id]
        return self._enough_started("remove", sum(member.started() for member in rest), len(rest))

    def ready_to_promote(self) -> bool:
        """Tell whether enough voters have started for the quorum with one more that has."""
        voters = self.voters()
        return self._enough_started("promote", sum(member.started() for member in voters) + 1, len(voters) + 1)

    def _enough_started(self, what: str, started: int, size: int) -> bool:
        quorum = size // 2 + 1
        if started >= quorum:
            return True
        fields: dict[str, object] = {"number-of-started-member": started, "quorum": quorum}
        fields.update(self._ids())
        self._log.warn(_CALLER, f"rejecting member {what}; started member will be less than quorum", **fields)
        return False

    # Changes, in the order of the log

    def validate(self, change_type: int, node_id: int, context: bytes) -> RpcError | None:
        """Return why a configuration change must be refused, None when it is fine. CorruptError: it makes no sense."""
        self.v2_reads += 1
        if node_id in self.removed:
            return errors.MEMBER_NOT_FOUND
        known = self.members.get(node_id)
        if change_type == REMOVE_NODE:
            return errors.MEMBER_NOT_FOUND if known is None else None
        member, promote = self._context(change_type, node_id, context)
        if change_type == UPDATE_NODE:
            if known is None:
                return errors.MEMBER_NOT_FOUND
            return errors.PEER_URL_EXIST if self._urls_taken(member.peer_urls, node_id) else None
        if promote:
            if known is None:
                return errors.MEMBER_NOT_FOUND
            return None if known.is_learner else errors.MEMBER_NOT_LEARNER
        if known is not None:
            return errors.MEMBER_EXIST
        if self._urls_taken(member.peer_urls, 0):
            return errors.PEER_URL_EXIST
        if change_type == ADD_LEARNER_NODE and member.is_learner:
            learners = sum(one.is_learner for one in self.members.values()) + 1
            return errors.TOO_MANY_LEARNERS if learners > self.max_learners else None
        return None

    def apply(self, change_type: int, node_id: int, context: bytes) -> None:
        """Make a configuration change that `validate` found fine."""
        if change_type == REMOVE_NODE:
            self._remove(node_id)
            return
        member, promote = self._context(change_type, node_id, context)
        if change_type == UPDATE_NODE:
            self._update_peer_urls(node_id, member.peer_urls)
        elif promote:
            self._promote(node_id)
        else:
            self._add(member)

    def _context(self, change_type: int, node_id: int, context: bytes) -> tuple[Member, bool]:
        if change_type not in (ADD_NODE, UPDATE_NODE, ADD_LEARNER_NODE):
            raise CorruptError("raft log", -1, f"unknown ConfChange type {change_type}")
        try:
            member, promote = parse_member_json(context)
        except ValueError as error:
            raise CorruptError("raft log", -1, f"failed to unmarshal member: {error}") from error
        if member.id != node_id:
            raise CorruptError(
                "raft log", -1, f"got different member ID: entry {hex_id(node_id)}, context {hex_id(member.id)}"
            )
        return member, promote

    def _urls_taken(self, urls: list[str], but: int) -> bool:
        taken = {url for member in self.members.values() if member.id != but for url in member.peer_urls}
        return not taken.isdisjoint(urls)

    def _add(self, member: Member) -> None:
        self.members[member.id] = member
        self._wrote("create")
        self._save(member)
        self._say("added member", "added-peer-id", member, "added-peer-peer-urls", "added-peer-is-learner")

    def _remove(self, member_id: int) -> None:
        member = self.members.pop(member_id)
        self.removed.add(member_id)
        self._wrote("delete")
        self._wrote("create")
        if self._backend is not None:
            key = member_key(member_id)
            self._backend.delete(MEMBERS, key)
            self._backend.put(MEMBERS_REMOVED, key, MEMBER_REMOVED)
        names = ("removed-remote-peer-id", "removed-remote-peer-urls", "removed-remote-peer-is-learner")
        self._say("removed member", names[0], member, names[1], names[2])

    def _update_peer_urls(self, member_id: int, urls: list[str]) -> None:
        member = self.members[member_id]
        member.peer_urls = list(urls)
        self._wrote("update")
        self._save(member)
        names = ("updated-remote-peer-id", "updated-remote-peer-urls", "updated-remote-peer-is-learner")
        self._say("updated member", names[0], member, names[1], names[2])

    def _promote(self, member_id: int) -> None:
        member = self.members[member_id]
        member.is_learner = False
        self._wrote("update")
        self._save(member)
        self._log.info(_CALLER, "promote member", **self._ids(), **{"promoted-member-id": hex_id(member_id)})

    def update_attributes(self, member_id: int, name: str, client_urls: list[str]) -> None:
        """Take what a member publishes about itself. CorruptError when it has never been a member."""
        member = self.members.get(member_id)
        if member is None:
            if member_id not in self.removed:
                raise CorruptError("raft log", -1, f"failed to update; member unknown: {hex_id(member_id)}")
            fields = {**self._ids(), "updated-peer-id": hex_id(member_id)}
            self._log.warn(_CALLER, "skipped attributes update of removed member", **fields)
            return
        self._wrote("set")
        member.name = name
        member.client_urls = list(client_urls)
        self._save(member)

    def set_version(self, version: Version) -> None:
        """Set the cluster version that the leader has decided. CorruptError when this server is too old for it."""
        fields = self._ids()
        if self.version is None:
            fields["cluster-version"] = version.cluster()
            self._log.info(_CALLER, "set initial cluster version", **fields)
        else:
            fields.update({"from": self.version.cluster(), "to": version.cluster()})
            self._log.info(_CALLER, "updated cluster version", **fields)
        self.version = version
        self._wrote("set")
        if self._backend is not None:
            self._backend.put(CLUSTER, CLUSTER_VERSION, str(version).encode())
        try:
            check_not_downgraded(version)
        except ValueError as error:
            raise CorruptError("raft log", -1, str(error)) from error

    def set_downgrade(self, downgrade: Downgrade) -> None:
        """Begin or end the cluster's downgrade job."""
        self.downgrade = downgrade
        if self._backend is not None:
            value = go_json({"target-version": downgrade.target_version, "enabled": downgrade.enabled})
            self._backend.put(CLUSTER, DOWNGRADE, value.encode())

    def _wrote(self, action: str) -> None:
        self.v2_writes[action] = self.v2_writes.get(action, 0) + 1

    # The backend

    def attach(self, backend: Buckets) -> None:
        """Store every change in this backend from now on; reads nothing."""
        self._backend = backend

    def load(self, backend: Buckets) -> None:
        """Attach and take members, removed ids, version and downgrade job from the buckets; CorruptError if bad."""
        self._backend = backend
        bucket = MEMBERS
        try:
            self.members = {}
            for key, value in backend.range(bucket, b"", b"\xff"):
                member = parse_member_json(value, parse_hex_id(key.decode()))[0]
                self.members[member.id] = member
            bucket = MEMBERS_REMOVED
            self.removed = {parse_hex_id(key.decode()) for key, _ in backend.range(bucket, b"", b"\xff")}
            bucket = CLUSTER
            version = backend.get(bucket, CLUSTER_VERSION)
            self.version = None if version is None else parse_version(version.decode())
            self.downgrade = _parse_downgrade(backend.get(bucket, DOWNGRADE))
            check_not_downgraded(self.version)
        except ValueError as error:
            raise CorruptError("db", -1, f"bucket {bucket.decode()}: {error}") from error

    def adopt(self, older: Membership) -> None:
        """Complete what was loaded with what an older version kept only in its snapshot.

        etcd up to 3.5 does not write a member's attributes (3.5.1), a promotion (3.5, its issue 19557) or the cluster
        version (3.4) to the backend. A name once set and a promotion once made are never taken back, so a snapshot that
        is older than the backend cannot be wrong about them.
        """
        for member_id, known in older.members.items():
            member = self.members.get(member_id)
            if member is None:
                continue
            if (member.started() or not known.started()) and (known.is_learner or not member.is_learner):
                continue
            if not member.started():
                member.name = known.name
                member.client_urls = list(known.client_urls)
            member.is_learner = member.is_learner and known.is_learner
            self._save(member)
        if self.version is None and older.version is not None:
            self.set_version(older.version)

    def save_all(self, backend: Buckets) -> None:
        """Attach and make the buckets hold exactly what is known here: for a db file that had no membership yet."""
        self._backend = backend
        for bucket in (MEMBERS, MEMBERS_REMOVED):
            for key, _ in backend.range(bucket, b"", b"\xff"):
                backend.delete(bucket, key)
        for member in self.member_list():
            self._save(member)
        for member_id in sorted(self.removed):
            backend.put(MEMBERS_REMOVED, member_key(member_id), MEMBER_REMOVED)
        if self.version is not None:
            backend.put(CLUSTER, CLUSTER_VERSION, str(self.version).encode())

    def _save(self, member: Member) -> None:
        if self._backend is not None:
            self._backend.put(MEMBERS, member_key(member.id), member_json(member))

    # The log of events

    def _ids(self) -> dict[str, object]:
        return {"cluster-id": hex_id(self.cluster_id), "local-member-id": hex_id(self.local_id)}

    def _say(self, text: str, id_name: str, member: Member, urls_name: str, learner_name: str) -> None:
        fields = self._ids()
        fields[id_name] = hex_id(member.id)
        fields[urls_name] = member.peer_urls
        fields[learner_name] = member.is_learner
        self._log.info(_CALLER, text, **fields)


def _parse_downgrade(value: bytes | None) -> Downgrade:
    if value is None:
        return Downgrade()
    fields = json.loads(value)
    if not isinstance(fields, dict):
        raise MalformedError("downgrade is not an object")
    target, enabled = fields.get("target-version", ""), fields.get("enabled") is True
    if not isinstance(target, str):
        raise MalformedError("downgrade has no target version")
    if enabled:
        parse_version(target)
    return Downgrade(enabled, target)
