"""Whether all members hold the same history: the leader's checks, and the CORRUPT alarm for whoever differs.

Two checks, each at its own interval and only while we lead:
- periodic: our hash of now, the others' hashes of the same revision, then our hash once more after a linearizable read.
  The first that cannot be (a changed hash of ours, a revision or compact revision ahead of the leader's, another hash
  at the same compact revision) gets the alarm; later ones of the same pass are only logged.
- compact hash: every compaction leaves a hash on each member. The newest one that all members have is compared; a
  minority that differs gets the alarm, and without a majority member 0 does, which means the whole cluster.

The alarm goes through raft; from then on every member refuses writes. Nothing here blocks, and a pass that is under way
puts off the next. A member that gives no answer is passed over. What a member checks before it starts: `bootcheck`.
Source: etcd server/etcdserver/corrupt.go and server.go (monitorKVHash, monitorCompactHash).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.errors import RpcError
from quorate.membership.cluster import Cluster
from quorate.membership.member import hex_id
from quorate.mvcc.hash import RevisionHash
from quorate.mvcc.store import Store
from quorate.ports import Completion, Log, Loop
from quorate.proto.rpc_pb2 import AlarmRequest, AlarmType
from quorate.server.config import SECOND, ServerConfig
from quorate.server.entry import ALARM
from quorate.server.peerhash import PeerHash
from quorate.server.transport import Transport

GatheredThen = Callable[[list[PeerHash]], None]
ErrorThen = Callable[[RpcError | None], None]

_CALLER: Final = "etcdserver/corrupt.go"
_SERVER: Final = "etcdserver/server.go"


class Corruption:
    """The checks of one server. `tick` is called every tick."""

    def __init__(
        self,
        loop: Loop,
        log: Log,
        config: ServerConfig,
        cluster: Cluster,
        store: Store,
        transport: Transport,
        linearizable: Callable[[ErrorThen], None],
        propose: Callable[[int, object, bytes, Completion], None],
    ) -> None:
        self.log = log
        self.store = store
        self.member_id = cluster.local_id
        self.linearizable = linearizable
        self.checked_rev = 0
        """The newest compaction whose hash all members have been seen to share."""

        self._loop = loop
        self._config = config
        self._cluster = cluster
        self._transport = transport
        self._propose = propose
        self._periodic_ns = 0  # when the next pass is due; 0: never
        self._compact_ns = 0
        self._periodic_busy = False
        self._compact_busy = False
        self._stopped = False

    # -- Life

    def start(self) -> None:
        """Begin to count."""
        config = self._config
        now_ns = self._loop.monotonic_ns()
        if config.corrupt_check_ns > 0:
            self._periodic_ns = now_ns + config.corrupt_check_ns
            fields = {"local-member-id": hex_id(self.member_id), "interval": _seconds(config.corrupt_check_ns)}
            self.log.info(_SERVER, "enabled corruption checking", **fields)
        if config.compact_hash_check:
            self._compact_ns = now_ns + config.compact_hash_check_ns

    def stop(self) -> None:
        """Begin nothing more, and drop what is under way."""
        self._stopped = True
        if self._periodic_ns:
            self.log.info(_SERVER, "server has stopped; stopping kv hash's monitor")
        if self._compact_ns:
            self.log.info(_SERVER, "server has stopped; stopping compact hash's monitor")

    def tick(self, leading: bool) -> None:
        """Check if it is time and we lead."""
        now_ns = self._loop.monotonic_ns()
        if self._stopped:
            return
        if self._periodic_ns and now_ns >= self._periodic_ns:
            self._periodic_ns = now_ns + self._config.corrupt_check_ns
            if leading and not self._periodic_busy:
                self._periodic_busy = True
                _Periodic(self).start()
        if self._compact_ns and now_ns >= self._compact_ns and not self._compact_busy:
            self._compact_ns = now_ns + self._config.compact_hash_check_ns
            if leading:
                self._compact_busy = True
                self._check_compactions()

    def periodic_over(self) -> None:
        """The periodic pass has ended."""
        self._periodic_busy = False

    def compact_over(self) -> None:
        """The pass over the hashes of compactions has ended; the interval counts from here."""
        self._compact_busy = False
        self._compact_ns = self._loop.monotonic_ns() + self._config.compact_hash_check_ns

    def _check_compactions(self) -> None:
        fields = {"local-member-id": hex_id(self.member_id), "timeout": _seconds(self._config.request_timeout_ns)}
        self.log.info(_CALLER, "starting compact hash check", **fields)
        hashes = [known for known in self.store.hashes if known.rev > self.checked_rev]
        hashes.sort(key=_rev_of, reverse=True)
        _Compactions(self, hashes).next()

    # -- What the checks need

    def gather(self, rev: int, then: GatheredThen) -> None:
        """Ask all other members for their hash of a revision; call back with their answers, unless we have stopped."""
        others = [member.id for member in self._cluster.member_list() if member.id != self.member_id]
        _Gathering(self, rev, then).ask(self._transport, others, self._config.request_timeout_ns)

    def stopped(self) -> bool:
        """Tell whether the server stops."""
        return self._stopped

    def alarm(self, member_id: int) -> None:
        """Raise the CORRUPT alarm for a member, 0 for the whole cluster."""
        request = AlarmRequest(action=AlarmRequest.ACTIVATE, memberID=member_id, alarm=AlarmType.CORRUPT)
        self._propose(ALARM, request, request.SerializeToString(), _Raised(self.log, member_id))


def _seconds(duration_ns: int) -> str:
    return f"{duration_ns / SECOND:g}s"


def _rev_of(known: RevisionHash) -> int:
    return known.rev


class _Raised(Completion):
    """Waits for an alarm; when it could not be raised, the next pass tries again."""

    def __init__(self, log: Log, member_id: int) -> None:
        self._log = log
        self._member_id = member_id

    def complete(self, _response: bytes) -> None:
        """It is raised."""

    def fail(self, error: RpcError) -> None:
        """Say that it is not."""
        fields = {"member-id": hex_id(self._member_id), "error": error.text}
        self._log.warn(_CALLER, "failed to raise the CORRUPT alarm", **fields)


class _Gathering:
    """One question to all other members."""

    def __init__(self, owner: Corruption, rev: int, then: GatheredThen) -> None:
        self._owner = owner
        self._rev = rev
        self._then = then
        self._waiting = 0
        self._answers: list[PeerHash] = []

    def ask(self, transport: Transport, others: list[int], limit_ns: int) -> None:
        """Ask them all at once."""
        self._waiting = len(others)
        if not others:
            self._then([])
        for member_id in others:
            transport.hash_kv(member_id, self._rev, limit_ns, self._answered)

    def _answered(self, answer: PeerHash) -> None:
        owner = self._owner
        if owner.stopped():
            return
        self._answers.append(answer)
        if answer.error:
            fields: dict[str, object] = {
                "local-member-id": hex_id(owner.member_id),
                "requested-revision": self._rev,
                "remote-peer-id": hex_id(answer.member_id),
                "error": answer.error,
            }
            owner.log.warn(_CALLER, "failed hash kv request", **fields)
        self._waiting -= 1
        if self._waiting == 0:
            self._answers.sort(key=_id_of)
            self._then(self._answers)


def _id_of(answer: PeerHash) -> int:
    return answer.member_id


class _Periodic:
    """One periodic pass."""

    def __init__(self, owner: Corruption) -> None:
        self._owner = owner
        self._hash = 0
        self._rev = 0
        self._compact_rev = 0
        self._answers: list[PeerHash] = []
        self._alarmed = False

    def start(self) -> None:
        """Hash our own history of now."""
        self._owner.store.hash_by_rev(0, self._hashed)

    def _hashed(self, found: int, rev: int, compact_rev: int) -> None:
        self._hash, self._rev, self._compact_rev = found, rev, compact_rev
        if not self._owner.stopped():
            self._owner.gather(rev, self._gathered)

    def _gathered(self, answers: list[PeerHash]) -> None:
        self._answers = answers
        self._owner.linearizable(self._read)

    def _read(self, error: RpcError | None) -> None:
        owner = self._owner
        if owner.stopped():
            return
        if error is not None:
            owner.log.warn(_SERVER, "failed to check hash KV", error=error.text)
            owner.periodic_over()
        else:
            owner.store.hash_by_rev(0, self._compare)

    def _compare(self, found: int, rev: int, compact_rev: int) -> None:
        owner = self._owner
        if owner.stopped():
            return
        if found != self._hash and rev == self._rev and compact_rev == self._compact_rev:
            fields: dict[str, object] = {
                "revision-1": self._rev,
                "compact-revision-1": self._compact_rev,
                "hash-1": self._hash,
                "revision-2": rev,
                "compact-revision-2": compact_rev,
                "hash-2": found,
            }
            owner.log.warn(_CALLER, "found hash mismatch", **fields)
            self._mismatch(owner.member_id)
        checked = 0
        for answer in self._answers:
            if not answer.error:
                checked += 1
                self._compare_peer(answer, rev, compact_rev)
        owner.log.info(_CALLER, "finished peer corruption check", **{"number-of-peers-checked": checked})
        owner.periodic_over()

    def _compare_peer(self, answer: PeerHash, rev: int, compact_rev: int) -> None:
        """Check an answer against our present revision and compact revision, and our hash of the first time."""
        log = self._owner.log
        peer: dict[str, object] = {"follower-peer-id": hex_id(answer.member_id)}
        if answer.rev > rev:
            fields = {"leader-revision": rev, "follower-revision": answer.rev, **peer}
            log.warn(_CALLER, "revision from follower must be less than or equal to leader's", **fields)
            self._mismatch(answer.member_id)
        revs: dict[str, object] = {"leader-compact-revision": compact_rev, **peer}
        revs["follower-compact-revision"] = answer.compact_rev
        if answer.compact_rev > compact_rev:
            log.warn(_CALLER, "compact revision from follower must be less than or equal to leader's", **revs)
            self._mismatch(answer.member_id)
        if answer.compact_rev == self._compact_rev and answer.hash != self._hash:
            hashes = {"leader-hash": self._hash, "follower-hash": answer.hash}
            log.warn(_CALLER, "same compact revision then hashes must match", **revs, **hashes)
            self._mismatch(answer.member_id)

    def _mismatch(self, member_id: int) -> None:
        if not self._alarmed:
            self._alarmed = True
            self._owner.alarm(member_id)


class _Compactions:
    """One pass over the hashes of compactions, the newest first."""

    def __init__(self, owner: Corruption, hashes: list[RevisionHash]) -> None:
        self._owner = owner
        self._hashes = hashes
        self._number = 0  # how many have been compared

    def next(self) -> None:
        """Ask about the next one."""
        if self._number == len(self._hashes):
            self._finish()
        else:
            self._owner.gather(self._hashes[self._number].rev, self._gathered)

    def _finish(self) -> None:
        fields = {"number-of-hashes-checked": self._number}
        self._owner.log.info(_CALLER, "finished compaction hash check", **fields)
        self._owner.compact_over()

    def _gathered(self, answers: list[PeerHash]) -> None:
        own = self._hashes[self._number]
        self._number += 1
        if answers and self._compare(own, answers):
            self._finish()
        else:
            self.next()

    def _compare(self, own: RevisionHash, answers: list[PeerHash]) -> bool:
        """Compare; False when a member had nothing to compare with, so that an older hash should be tried."""
        leader_id = self._owner.member_id
        groups: dict[int, list[int]] = {own.hash: [leader_id]}
        checked = 0
        for answer in answers:
            if answer.error or answer.compact_rev != own.compact_rev:
                self._skip(own, answer, len(answers))
                continue
            checked += 1
            groups.setdefault(answer.hash, []).append(answer.member_id)
        if len(groups) == 1:
            return self._consistent(own, checked, len(answers))
        self._differ(own, groups, (len(answers) + 1) // 2 + 1)
        return True

    def _skip(self, own: RevisionHash, answer: PeerHash, peers: int) -> None:
        reason = "no response"
        if not answer.error:
            reason = (
                f"the peer's CompactRevision {answer.compact_rev} doesn't match leader's CompactRevision "
                f"{own.compact_rev}"
            )
        fields: dict[str, object] = {
            "number-of-peers": peers,
            "leader-id": hex_id(self._owner.member_id),
            "peer-id": hex_id(answer.member_id),
            "reason": reason,
        }
        self._owner.log.warn(_CALLER, "Skipped peer's hash", **fields)

    def _consistent(self, own: RevisionHash, checked: int, peers: int) -> bool:
        fields: dict[str, object] = {"number-of-peers-checked": checked}
        revs: dict[str, object] = {"revision": own.rev, "compactRevision": own.compact_rev}
        log = self._owner.log
        if checked == peers:
            log.info(_CALLER, "successfully checked hash on whole cluster", **fields, **revs)
            self._owner.checked_rev = max(self._owner.checked_rev, own.rev)
            return True
        fields["number-of-peers"] = peers
        text = "skipped revision in compaction hash check; was not able to check all peers"
        log.warn(_CALLER, text, **fields, **revs)
        return False

    def _differ(self, own: RevisionHash, groups: dict[int, list[int]], quorum: int) -> None:
        """Raise the alarm for those outside the majority, or for the cluster when there is none."""
        owner = self._owner
        leader: dict[str, object] = {
            "leader-id": hex_id(owner.member_id),
            "leader-revision": own.rev,
            "leader-compact-revision": own.compact_rev,
            "leader-hash": own.hash,
        }
        majority = [found for found, ids in groups.items() if len(ids) >= quorum]
        if majority:
            del groups[majority[0]]
        else:
            text = (
                "Detected compaction hash mismatch but cannot identify the corrupted members, so intentionally set "
                "the memberID as 0"
            )
            owner.log.error(_CALLER, text, **leader)
            owner.alarm(0)
        for found, ids in groups.items():
            if majority:
                for member_id in ids:
                    owner.alarm(member_id)
            fields: dict[str, object] = {"peer-hash": found, "peer-ids": ",".join(hex_id(one) for one in ids)}
            fields["quorum-exist"] = bool(majority)
            owner.log.error(_CALLER, "Detected compaction hash mismatch", **leader, **fields)
