"""cluster-health; member list, add, remove, update. Each returns the exit status."""

from __future__ import annotations

import http.client
import json
import signal
import sys
import time
from typing import NoReturn

from quorate.cli.etcdctl.gotext import quote
from quorate.cli.etcdctl.v2.app import SERVER_ERROR, Values, failed
from quorate.cli.etcdctl.v2.cluster import Cluster, ClusterError, RefusedError, dial_text, host_port
from quorate.client import methods
from quorate.proto import rpc_pb2 as pb

NOT_HEALTHY, BAD_CONNECTION, ERROR = 5, 2, 1
PERIOD_S = 10.0
DOCUMENTATION = (
    "For more details, read the documentation at https://github.com/etcd-io/etcd/blob/main/Documentation/"
    "runtime-configuration.md#remove-a-member\n"
)
# What v2 calls some of v3's errors.
V2_TEXTS = {"etcdserver: Peer URLs already exists": "membership: peerURL exists"}


def cluster_health(values: Values, args: list[str]) -> int:  # noqa: ARG001
    """Ask every member for its health; with --forever again every ten seconds."""
    try:
        cluster = Cluster(values)
    except OSError as error:
        return failed(f"Error:  {error}", SERVER_ERROR)
    forever = "forever" in values
    if forever:
        signal.signal(signal.SIGINT, _leave)
    try:
        members = list(cluster.members().members)
    except (ClusterError, RefusedError) as error:
        _say("cluster may be unhealthy: failed to list members")
        return _failed_hard(error, SERVER_ERROR)
    while True:
        healthy = sum([_healthy(cluster, member) for member in members])
        state = "healthy" if healthy == len(members) else "degraded" if healthy else "unavailable"
        _say(f"cluster is {state}")
        if not forever:
            return 0 if state == "healthy" else NOT_HEALTHY
        _say("\nnext check after 10 second...\n")
        time.sleep(PERIOD_S)


def _leave(_: int, __: object) -> NoReturn:
    sys.stdout.flush()
    raise SystemExit(0)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _healthy(cluster: Cluster, member: pb.Member) -> bool:
    name = f"{member.ID:x}"
    if not member.clientURLs:
        _say(f"member {name} is unreachable: no available published client urls")
        return False
    for url in member.clientURLs:
        try:
            good = _get_health(cluster, url)
        except OSError as error:
            problem = dial_text(url, error)
            _say(f'failed to check the health of member {name} on {url}: Get "{url}/health": {problem}')
            continue
        except (ValueError, http.client.HTTPException) as error:
            _say(f"failed to check the health of member {name} on {url}: {error}")
            continue
        state = "healthy" if good else "unhealthy"
        _say(f"member {name} is {state}: got {state} result from {url}")
        return good
    _say(f"member {name} is unreachable: [{' '.join(member.clientURLs)}] are all unreachable")
    return False


def _get_health(cluster: Cluster, url: str) -> bool:
    host, port = host_port(url)
    connection: http.client.HTTPConnection
    if url.startswith("https://"):
        context = cluster.tls.context()
        context.set_alpn_protocols(["http/1.1"])
        connection = http.client.HTTPSConnection(host, port, timeout=cluster.total_s, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=cluster.total_s)
    try:
        connection.request("GET", "/health")
        found = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return isinstance(found, dict) and found.get("health") in ("true", True)


def _failed_hard(error: ClusterError | RefusedError, status: int) -> int:
    detail = f"\n{error.detail}" if isinstance(error, ClusterError) else ""
    return failed(f"Error:  {error}{detail}", status)


def _open(values: Values) -> tuple[Cluster | None, int]:
    """Return the cluster, and its members when they can be had; or None and the exit status."""
    try:
        cluster = Cluster(values)
    except OSError as error:
        return None, failed(str(error), ERROR)
    if "no-sync" not in values:
        try:
            cluster.members()
        except ClusterError as error:
            if error.dial:
                return None, _failed_hard(error, BAD_CONNECTION)
        except RefusedError:
            pass
    return cluster, 0


def member_list(values: Values, args: list[str]) -> int:
    """List the members."""
    if args:
        return failed("No arguments accepted")
    cluster, status = _open(values)
    if cluster is None:
        return status
    try:
        members = cluster.members().members
    except (ClusterError, RefusedError) as error:
        return failed(str(error))
    try:
        leader = cluster.leader()
    except (ClusterError, RefusedError) as error:
        return failed(f"Failed to get leader:  {error}")
    for member in members:
        peers, clients = ",".join(member.peerURLs), ",".join(member.clientURLs)
        if not member.name:
            _say(f"{member.ID:x}[unstarted]: peerURLs={peers}")
        else:
            state = str(leader == member.ID).lower()
            _say(f"{member.ID:x}: name={member.name} peerURLs={peers} clientURLs={clients} isLeader={state}")
    return 0


def _checked(urls: list[str]) -> str:
    from quorate.runtime.urls import UrlError, parse_urls

    try:
        parse_urls(urls)
    except UrlError as error:
        return str(error)
    return ""


def member_add(values: Values, args: list[str]) -> int:
    """Add a member and print what its configuration needs."""
    if len(args) != 2:
        return failed("Provide a name and a single member peerURL")
    cluster, status = _open(values)
    if cluster is None:
        return status
    name, url = args
    if problem := _checked([url]):
        return failed(problem)
    try:
        answer = cluster.call(methods.MEMBER_ADD, pb.MemberAddRequest(peerURLs=[url]))
    except (ClusterError, RefusedError) as error:
        return failed(V2_TEXTS.get(str(error), str(error)))
    _say(f"Added member named {name} with ID {answer.member.ID:x} to cluster\n")
    members = [
        f"{name if member.ID == answer.member.ID else member.name}={peer}"
        for member in sorted(answer.members, key=lambda each: each.ID)
        for peer in member.peerURLs
    ]
    _say(f"ETCD_NAME={quote(name)}\nETCD_INITIAL_CLUSTER={quote(','.join(members))}")
    _say('ETCD_INITIAL_CLUSTER_STATE="existing"')
    return 0


def member_remove(values: Values, args: list[str]) -> int:
    """Remove a member."""
    if len(args) != 1:
        return failed("Provide a single member ID")
    wanted = args[0]
    cluster, status = _open(values)
    if cluster is None:
        return status
    try:
        members = cluster.members().members
    except (ClusterError, RefusedError) as error:
        return failed(f"Error while verifying ID against known members: {error}")
    for member in members:
        if member.name == wanted:
            failed(
                f"Found a member named {member.name}; if this is correct, please use its ID, eg:\n"
                f"\tetcdctl member remove {member.ID:x}\n{DOCUMENTATION}"
            )
    if not any(f"{member.ID:x}" == wanted for member in members):
        return failed(f"Couldn't find a member in the cluster with an ID of {wanted}.")
    try:
        cluster.call(methods.MEMBER_REMOVE, pb.MemberRemoveRequest(ID=int(wanted, 16)))
    except (ClusterError, RefusedError) as error:
        sys.stderr.write(f"Received an error trying to remove member {wanted}: {error}")
        return ERROR
    _say(f"Removed member {wanted} from cluster")
    return 0


def member_update(values: Values, args: list[str]) -> int:
    """Give a member other peer URLs."""
    if len(args) != 2:
        return failed(
            "Provide an ID and a list of comma separated peerURL (0xabcd http://example.com,http://example1.com)"
        )
    cluster, status = _open(values)
    if cluster is None:
        return status
    wanted, urls = args[0], args[1].split(",")
    missing = f"No such member: {wanted}"
    try:
        number = int(wanted, 16)
    except ValueError:
        return failed(missing)
    if problem := _checked(urls):
        return failed(problem)
    try:
        cluster.call(methods.MEMBER_UPDATE, pb.MemberUpdateRequest(ID=number, peerURLs=urls))
    except (ClusterError, RefusedError) as error:
        known = {"etcdserver: member not found": missing, **V2_TEXTS}
        return failed(known.get(str(error), str(error)))
    _say(f"Updated member with ID {wanted} in cluster")
    return 0
