"""The check that a member makes before it starts: do the others have the same history up to its own revision?

The member hashes what its db holds, replays nothing yet, and asks each other member for its hash of that revision. Only
another hash at the same compact revision counts; a member that does not answer, or cannot tell, is passed over. The
questions block, as nothing is served yet. Only for a member that has been started before.
Source: etcd server/etcdserver/corrupt.go (InitialCheck) and server/embed/etcd.go.
"""

from __future__ import annotations

from typing import Final

from quorate.membership.cluster import Cluster
from quorate.membership.member import Member, hex_id
from quorate.mvcc.hash import RevisionHash, hash_stored
from quorate.mvcc.store import Store
from quorate.ports import Log
from quorate.server.bootlog import StartError
from quorate.server.config import SECOND
from quorate.server.join import Elsewhere
from quorate.server.peerhash import (
    COMPACTED,
    FUTURE_REV,
    HASH_KV_PATH,
    OTHER_CLUSTER,
    PeerHash,
    hash_question,
    read_hash,
)

_CALLER: Final = "etcdserver/corrupt.go"
_WARNINGS: Final = {
    FUTURE_REV: "cannot fetch hash from slow remote peer",
    COMPACTED: "cannot fetch hash from remote peer; local member is behind",
    OTHER_CLUSTER: "cluster ID mismatch",
}


def check_history(store: Store, cluster: Cluster, elsewhere: Elsewhere, limit_ns: int, log: Log) -> None:
    """Raise StartError when another member has another history; `limit_ns` is how long one may take to answer."""
    local = hex_id(cluster.local_id)
    fields: dict[str, object] = {"local-member-id": local}
    log.info(_CALLER, "starting initial corruption check", **fields, timeout=f"{limit_ns / SECOND:g}s")
    own = hash_stored(store)
    others = [member for member in cluster.member_list() if member.id != cluster.local_id and member.peer_urls]
    mismatches = 0
    for member in others:
        answer = _ask(member, own.rev, cluster, elsewhere, limit_ns, log)
        mismatches += _differs(own, member, answer, local, log)
    if mismatches:
        error = f"{local} found data inconsistency with peers"
        log.error("embed/etcd.go", "checkInitialHashKV failed", error=error)
        raise StartError(error)
    log.info(_CALLER, "initial corruption checking passed; no corruption", **fields)


def _ask(member: Member, rev: int, cluster: Cluster, elsewhere: Elsewhere, limit_ns: int, log: Log) -> PeerHash:
    """Return the answer from the first of a member's URLs that gives a hash, else the last error."""
    headers = {"Content-Type": "application/json", "X-Etcd-Cluster-ID": hex_id(cluster.cluster_id)}
    result = PeerHash(member.id, "no peer URL")
    for url in member.peer_urls:
        answer = elsewhere.ask([url + HASH_KV_PATH], limit_ns, headers, hash_question(rev))[0]
        result = PeerHash(member.id, "no response")
        if answer is not None:
            result = read_hash(member.id, answer.status, answer.body)
        if not result.error:
            break
        fields: dict[str, object] = {
            "local-member-id": hex_id(cluster.local_id),
            "requested-revision": rev,
            "remote-peer-endpoint": url,
            "error": result.error,
        }
        log.warn(_CALLER, "failed hash kv request", **fields)
    return result


def _differs(own: RevisionHash, member: Member, answer: PeerHash, local: str, log: Log) -> bool:
    """Tell whether an answer proves another history, and log what it means."""
    fields: dict[str, object] = {
        "local-member-id": local,
        "local-member-revision": own.rev,
        "local-member-compact-revision": own.compact_rev,
        "local-member-hash": own.hash,
        "remote-peer-id": hex_id(member.id),
        "remote-peer-endpoints": list(member.peer_urls),
    }
    if answer.error:
        if answer.error in _WARNINGS:
            log.warn(_CALLER, _WARNINGS[answer.error], **fields, error=answer.error)
        return False
    if answer.hash == own.hash:
        return False
    fields["remote-peer-revision"] = answer.rev
    fields["remote-peer-compact-revision"] = answer.compact_rev
    fields["remote-peer-hash"] = answer.hash
    same = answer.compact_rev == own.compact_rev
    what = "hash" if same else "compact revision"
    log.warn(_CALLER, f"found different {what} values from remote peer", **fields)
    return same
