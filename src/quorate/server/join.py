"""What a member that has no data asks of the others before it starts: whether it was there before, and who they are.

A new cluster: no other member may know this one as started, or it has lost its data and would vote twice. A running one
(`--initial-cluster-state existing`): the first member that answers says the cluster's id and its members; each of them
must have, by its peer URLs or the addresses behind them, one entry in our initial cluster, which gets its id. Then the
versions must fit.

With a discovery service (`Registry`) a new cluster's members find each other there: each registers itself and waits
until the service knows all of them.

The requests themselves are the runtime's (`Elsewhere`); they may block, as nothing is served yet.
Source: etcd server/etcdserver/{bootstrap,cluster_util}.go and api/membership/cluster.go (ValidateClusterAndAssignIDs).
"""

from __future__ import annotations

import json
from typing import Final

from quorate.membership.cluster import Cluster
from quorate.membership.member import Member, hex_id, member_from_fields, parse_hex_id
from quorate.membership.version import MIN_CLUSTER_VERSION, SERVER_VERSION, Version, parse_version
from quorate.ports import Log
from quorate.server.bootlog import StartError
from quorate.server.sameurls import Resolve, difference, no_address

NEW_LIMIT_NS: Final = 1_000_000_000
EXISTING_LIMIT_NS: Final = 10_000_000_000
RESOLVE_LIMIT_NS: Final = 30_000_000_000
DOWNGRADE_LIMIT_NS: Final = 500_000_000
"""For a question that needs a quorum, which a cluster of one that has just added us does not have until we start."""


_CALLER: Final = "etcdserver/cluster_util.go"
_CLUSTER_ID: Final = "x-etcd-cluster-id"


class Answer:
    """The response to a GET. `headers` have lower-case names."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Elsewhere:
    """The other members, as seen by one who has not started."""

    def get(self, urls: list[str], limit_ns: int) -> list[Answer | None]:
        """GET all of these at the same time; None for those that do not answer within the limit."""
        raise NotImplementedError

    def ask(
        self,
        urls: list[str],
        limit_ns: int,  # noqa: ARG002
        headers: dict[str, str],  # noqa: ARG002
        body: bytes,  # noqa: ARG002
    ) -> list[Answer | None]:
        """GET as `get` does, with a body that says what is wanted. Without an answer a check passes a member over."""
        return [None] * len(urls)

    def resolver(self, limit_ns: int) -> Resolve:  # noqa: ARG002
        """Return what gives hosts' addresses; all its answers together take no longer than the limit."""
        return no_address


class DiscoveryError(Exception):
    """A discovery service does not let this member join. `duplicate` is "id" or "name" when one is there already."""

    def __init__(self, text: str, duplicate: str = "") -> None:
        super().__init__(text)
        self.duplicate = duplicate


class DiscoveryFailedError(StartError):
    """The start failed because a discovery service did not let this member join."""

    def __init__(self, cause: DiscoveryError) -> None:
        super().__init__(f"failed to join discovery cluster ({cause})")
        self.cause = cause


class Registry:
    """A discovery service, outside of the new cluster. `token` names the cluster there, and goes into its ids."""

    token = ""

    def join(self, member_id: int, own: str, log: Log) -> str:
        """Register a member ("name=url,..."), wait for the others, and return all of them in that form.

        It blocks for as long as others are missing. Raises DiscoveryError.
        """
        raise NotImplementedError


class Nobody(Elsewhere):
    """No other member answers."""

    def get(self, urls: list[str], limit_ns: int) -> list[Answer | None]:  # noqa: ARG002
        """Give no answer."""
        return [None] * len(urls)


class RunningCluster:
    """A cluster as one of its members describes it."""

    def __init__(self, cluster_id: int, members: list[Member]) -> None:
        self.cluster_id = cluster_id
        self.members = members


def _other_urls(initial: Cluster, local_id: int) -> list[str]:
    return sorted(url for member in initial.member_list() if member.id != local_id for url in member.peer_urls)


def _ask(elsewhere: Elsewhere, urls: list[str], limit_ns: int, log: Log | None) -> RunningCluster | None:
    """Return what the first of the URLs that answers says."""
    addresses = [url + "/members" for url in urls]
    for address, answer in zip(addresses, elsewhere.get(addresses, limit_ns), strict=True):
        if answer is None:
            if log is not None:
                log.warn(_CALLER, "failed to get cluster response", address=address)
            continue
        try:
            listed = json.loads(answer.body)
            cluster_id = parse_hex_id(answer.headers.get(_CLUSTER_ID, ""))
            members = [member_from_fields(fields)[0] for fields in listed]
        except (ValueError, TypeError) as error:
            if log is not None:
                log.warn(_CALLER, "failed to unmarshal cluster response", address=address, error=str(error))
            continue
        if members:
            return RunningCluster(cluster_id, members)
        return None
    return None


def check_not_bootstrapped(initial: Cluster, local_id: int, elsewhere: Elsewhere) -> None:
    """Raise StartError when the others know this member of a new cluster as one that has started."""
    running = _ask(elsewhere, _other_urls(initial, local_id), NEW_LIMIT_NS, None)
    if running is None:
        return
    for member in running.members:
        if member.id == local_id and member.client_urls:
            raise StartError(f"member {hex_id(local_id)} has already been bootstrapped")


def join(initial: Cluster, local_id: int, elsewhere: Elsewhere, log: Log) -> Cluster:
    """Return the initial cluster with the running one's ids. Raises StartError."""
    running = _ask(elsewhere, _other_urls(initial, local_id), EXISTING_LIMIT_NS, log)
    if running is None:
        reason = "could not retrieve cluster information from the given URLs"
        raise StartError(f"cannot fetch cluster info from peer urls: {reason}")
    joined = Cluster(log, initial.max_learners)
    joined.cluster_id = running.cluster_id
    locals_left = initial.member_list()
    if len(running.members) != len(locals_left):
        raise StartError(f"error validating peerURLs {_describe(running)}: member count is unequal")
    resolve = elsewhere.resolver(RESOLVE_LIMIT_NS)
    for member in running.members:
        match = [local for local in locals_left if sorted(local.peer_urls) == sorted(member.peer_urls)]
        reason = ""
        for local in [] if match else locals_left:
            reason = difference(member.peer_urls, local.peer_urls, resolve)
            if not reason:
                match = [local]
                break
        if not match:
            which = f"({hex_id(member.id)}, [{' '.join(member.peer_urls)}])"
            text = f"PeerURLs: no match found for existing member {which}, last resolver error ({reason})"
            raise StartError(f"error validating peerURLs {_describe(running)}: {text}")
        named = match[0].clone()
        named.id = member.id
        named.is_learner = member.is_learner
        joined.members[member.id] = named
    _check_versions(joined, elsewhere, log, initial.members[local_id].name)
    return joined


def _describe(running: RunningCluster) -> str:
    members = " ".join(f"{hex_id(member.id)}={','.join(member.peer_urls)}" for member in running.members)
    return f"{{ClusterID:{hex_id(running.cluster_id)} Members:[{members}]}}"


def _check_versions(joined: Cluster, elsewhere: Elsewhere, log: Log, local_name: str) -> None:
    """Raise StartError unless every cluster version that the others tell, at least one, is one that we can be in."""
    others = [member for member in joined.member_list() if member.name != local_name]
    urls = [url for member in others for url in member.peer_urls]
    versions = elsewhere.get([url + "/version" for url in urls], EXISTING_LIMIT_NS)
    lowest, highest = MIN_CLUSTER_VERSION, SERVER_VERSION.minor_version()
    if _downgrading(urls, elsewhere):
        lowest = highest = Version(highest.major, highest.minor + 1)
    fits = False
    for url, answer in zip(urls, versions, strict=True):
        version = _cluster_version(answer)
        if version is None:
            log.warn(_CALLER, "failed to get version of remote peer", **{"remote-peer-url": url})
            continue
        if version < lowest or highest < version:
            fields = {"remote-peer-url": url, "remote-cluster-version": str(version)}
            log.warn(_CALLER, "cluster version of remote peer is not compatible", **fields)
            fits = False
            break
        fits = True
    if not fits:
        raise StartError("incompatible with current running cluster")


def _cluster_version(answer: Answer | None) -> Version | None:
    if answer is None or answer.status != 200:
        return None
    try:
        return parse_version(str(json.loads(answer.body)["etcdcluster"]))
    except (ValueError, KeyError, TypeError):
        return None


def _downgrading(urls: list[str], elsewhere: Elsewhere) -> bool:
    for answer in elsewhere.get([url + "/downgrade/enabled" for url in urls], DOWNGRADE_LIMIT_NS):
        if answer is not None and answer.status == 200:
            return answer.body == b"true"
    return False
