"""Committed entries become state: which entry does what, once, and who gets the answer.

Contract: `apply` takes entries in the order of the log, each index once a run. An entry at or below `consistent_index`
is in the backend already: of it only raft's configuration is taken over again, and membership is followed in a shadow
(`replay`), which knows which configuration changes were refused. `consistent_index` and `consistent_term` name the last
entry whose effects are complete; the backend's before_commit hook stores them in the transaction of those effects, and
because everything here runs in one go on the loop, no commit comes between an entry and its index.

Answers are given after the last entry of the batch, so that nobody is called while the state is in motion.

An error in an entry that its request explains (RpcError) goes to whoever proposed it. Anything else is fatal.
While authentication is enabled an entry is executed as the user that its header names (executor.info).

Source: etcd server/etcdserver/server.go (applyEntries) and apply/apply.go.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final, cast

from quorate.auth.store import AuthInfo, AuthStore
from quorate.errors import COMPACTED, MEMBER_NOT_FOUND, CorruptError, RpcError
from quorate.membership.cluster import Cluster
from quorate.membership.member import parse_hex_id
from quorate.membership.version import Downgrade, parse_version
from quorate.ports import Completion, Log, Loop
from quorate.proto.etcdserver_pb2 import Request
from quorate.proto.membership_pb2 import (
    ClusterMemberAttrSetRequest,
    ClusterVersionSetRequest,
    DowngradeInfoSetRequest,
)
from quorate.proto.rpc_pb2 import (
    AlarmRequest,
    CompactionRequest,
    DeleteRangeRequest,
    LeaseCheckpointRequest,
    LeaseGrantRequest,
    LeaseRevokeRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
)
from quorate.raft.codec import decode_conf_change
from quorate.raft.node import RawNode
from quorate.raft.types import ENTRY_CONF_CHANGE, ENTRY_NORMAL, REMOVE_NODE, UPDATE_NODE, ConfState, Entry
from quorate.server import entry as kinds
from quorate.server.authentries import AuthEntries
from quorate.server.execute import Executor
from quorate.server.proposals import Pending, Proposals
from quorate.server.slow import TRACE_NS, SlowLog
from quorate.server.stats import ServerStats
from quorate.server.transport import Transport
from quorate.storage import schema
from quorate.storage.backend import Backend

_CALLER: Final = "etcdserver/server.go"
_ATTRIBUTES_PREFIX: Final = "/0/members/"
_ATTRIBUTES_SUFFIX: Final = "/attributes"
_VERSION_PATH: Final = "/0/version"


class Applier:
    """Applies entries to the state of one member."""

    def __init__(
        self,
        loop: Loop,
        stats: ServerStats,
        slow: SlowLog,
        executor: Executor,
        proposals: Proposals,
        backend: Backend,
        cluster: Cluster,
        replay: Cluster,
        node: RawNode,
        transport: Transport,
        log: Log,
        auth: AuthStore,
        auth_entries: AuthEntries,
    ) -> None:
        """`replay`: a cluster that stores nothing, as the newest snapshot describes it."""
        self._loop = loop
        self._stats = stats
        self._slow = slow
        self._executor = executor
        self._proposals = proposals
        self._backend = backend
        self._cluster = cluster
        self._replay = replay
        self._node = node
        self._transport = transport
        self._log = log
        self._auth = auth
        self._auth_entries = auth_entries
        self.applied_index = 0
        self.applied_term = 0
        self.conf_state = ConfState()
        self.consistent_index = 0
        self.consistent_term = 0
        self._stored_index = 0
        self.removed = False  # this member has been removed from the cluster
        self.force_snapshot = False  # the cluster version went down: older members must be able to read us
        self.conf_waiters: dict[int, Callable[[RpcError | None], None]] = {}  # by ConfChange.id
        self.lease_waiters: dict[int, list[Callable[[int, RpcError | None], None]]] = {}  # by lease ID, until revoked
        self._dones: list[Completion] = []
        self._answers: list[object] = []  # bytes or RpcError, for each of _dones

    def start(self, applied_index: int, applied_term: int, conf_state: ConfState) -> None:
        """Begin behind a snapshot: entries come from there, effects are in the backend up to its consistent index."""
        self.applied_index = applied_index
        self.applied_term = applied_term
        self.conf_state = conf_state
        try:
            self.consistent_index = schema.decode_u64(self._backend.get(schema.META, schema.CONSISTENT_INDEX))
            self.consistent_term = schema.decode_u64(self._backend.get(schema.META, schema.TERM))
        except ValueError as error:
            raise CorruptError("db", -1, f"bucket meta: {error}") from error
        self._auth.recover()
        self._stored_index = self.consistent_index

    def before_commit(self) -> None:
        """Put the consistent index into the backend's transaction that is about to be committed."""
        if self.consistent_index == self._stored_index:
            return
        self._stored_index = self.consistent_index
        backend = self._backend
        backend.put(schema.META, schema.CONSISTENT_INDEX, schema.encode_u64(self.consistent_index))
        if self.consistent_term > 0:
            backend.put(schema.META, schema.TERM, schema.encode_u64(self.consistent_term))

    # -- The batch

    def apply(self, entries: list[Entry]) -> None:
        """Apply entries in order. Their answers wait for `answer`. CorruptError: the member must stop."""
        proposals = self._proposals
        consistent = self.consistent_index
        begin_ns = self._loop.monotonic_ns()
        for entry in entries:
            index = entry.index
            if index != self.applied_index + 1:
                raise CorruptError("raft log", -1, f"entry {index} follows applied entry {self.applied_index}")
            data = entry.data
            if entry.type != ENTRY_NORMAL:
                self._apply_conf_change(entry, index > consistent)
            elif data:
                pending = proposals.take(data)
                if pending is not None:
                    kind = pending.kind
                    if self._auth.enabled or kind >= kinds.AUTH_FIRST:
                        self._executor.info = pending.info
                    if kind == kinds.COMPACTION:
                        answer = self._compact(pending)
                    else:
                        answer = self._answer_of(kind, pending.request)
                        self._dones.append(pending.done)
                        self._answers.append(answer)
                    end_ns = self._loop.monotonic_ns()
                    self._note(kind, pending.request, data, answer, end_ns - begin_ns)
                    if pending.begun_ns and end_ns - pending.begun_ns > TRACE_NS:
                        self._slow.write(kind, pending.request, answer, pending.begun_ns, begin_ns, end_ns)
                    begin_ns = end_ns
                elif index > consistent:
                    begin_ns = self._apply_foreign(data, index, begin_ns)
                else:
                    self._replay_membership(data, index)
            self.applied_index = index
            self.applied_term = entry.term
            if index > consistent:
                self.consistent_index = index
                self.consistent_term = entry.term

    def _note(self, kind: int, request: object, data: bytes, answer: object, took_ns: int) -> None:
        """Count an applied entry; one that was slow or refused is said."""
        refused = isinstance(answer, RpcError)
        self._stats.applied(kind, not refused or answer is COMPACTED, took_ns)
        if refused or took_ns > self._slow.warning_ns:
            error = answer if isinstance(answer, RpcError) and answer is not COMPACTED else None
            self._slow.entry(kind, request, data, answer if isinstance(answer, bytes) else b"", error, took_ns)

    def _answer_of(self, kind: int, request: object) -> object:
        try:
            if kind == kinds.PUT:
                return self._executor.put(cast(PutRequest, request))
            return self._execute(kind, request, True)
        except RpcError as error:
            # These are shared constants, which would otherwise collect a traceback each time they are raised.
            error.__traceback__ = None
            return error

    def answer(self) -> None:
        """Give the answers of the entries applied since the last call."""
        if not self._dones:
            return
        dones = self._dones
        answers = self._answers
        self._dones = []
        self._answers = []
        for place, done in enumerate(dones):
            answer = answers[place]
            if isinstance(answer, bytes):
                done.complete(answer)
            elif isinstance(answer, RpcError):
                done.fail(answer)

    def _compact(self, pending: Pending) -> object:
        """Compact for our own client; a physical answer waits until the old revisions are gone from the disk."""
        request = cast(CompactionRequest, pending.request)
        if not request.physical:
            answer = self._answer_of(kinds.COMPACTION, request)
            self._dones.append(pending.done)
            self._answers.append(answer)
            return answer
        waiter = _PhysicalCompaction(self._backend, pending.done, self._executor.current_header())
        try:
            self._executor.compact(request, waiter.deleted)
        except RpcError as error:
            error.__traceback__ = None
            self._dones.append(pending.done)
            self._answers.append(error)
            return error
        return b""

    def _apply_foreign(self, data: bytes, index: int, begin_ns: int) -> int:
        """Apply an entry of another member, or of an earlier run; its request has passed every check that is ours.

        Returns when it was done.
        """
        parsed = kinds.parse_entry(data, index)
        answer: object = None
        if parsed.kind == kinds.V2:
            self._apply_v2(cast(Request, parsed.request), self._cluster, index)
        else:
            if self._auth.enabled or parsed.kind >= kinds.AUTH_FIRST:
                self._executor.info = AuthInfo(parsed.username, parsed.auth_revision)
            try:
                self._execute(parsed.kind, parsed.request, False)
            except RpcError as error:
                error.__traceback__ = None
                answer = error
        end_ns = self._loop.monotonic_ns()
        self._note(parsed.kind, parsed.request, data, answer, end_ns - begin_ns)
        return end_ns

    def _execute(self, kind: int, request: object, answer: bool) -> bytes:
        executor = self._executor
        if kind == kinds.PUT:
            return executor.put(cast(PutRequest, request))
        if kind == kinds.TXN:
            return executor.txn(cast(TxnRequest, request), answer)
        if kind == kinds.DELETE_RANGE:
            return executor.delete_range(cast(DeleteRangeRequest, request))
        if kind == kinds.LEASE_GRANT:
            return executor.lease_grant(cast(LeaseGrantRequest, request))
        if kind == kinds.LEASE_REVOKE:
            return self._revoke(cast(LeaseRevokeRequest, request))
        if kind == kinds.LEASE_CHECKPOINT:
            return executor.lease_checkpoint(cast(LeaseCheckpointRequest, request))
        if kind == kinds.COMPACTION:
            return executor.compact(cast(CompactionRequest, request), None)
        if kind == kinds.ALARM:
            return executor.alarm(cast(AlarmRequest, request))
        if kind == kinds.RANGE:
            return executor.range(cast(RangeRequest, request))
        if kinds.AUTH_FIRST <= kind <= kinds.AUTH_LAST:
            return self._auth_entries.execute(kind, request, executor.info, self.applied_index + 1, answer)
        self._execute_cluster(kind, request, self._cluster)
        return b""

    def _revoke(self, request: LeaseRevokeRequest) -> bytes:
        response = self._executor.lease_revoke(request)
        for then in self.lease_waiters.pop(request.ID, []):
            then(0, None)
        return response

    # -- Membership

    def _execute_cluster(self, kind: int, request: object, cluster: Cluster) -> None:
        if kind == kinds.CLUSTER_VERSION_SET:
            self._set_version(cast(ClusterVersionSetRequest, request).ver, cluster)
        elif kind == kinds.CLUSTER_MEMBER_ATTR_SET:
            published = cast(ClusterMemberAttrSetRequest, request)
            attributes = published.member_attributes
            cluster.update_attributes(published.member_ID, attributes.name, list(attributes.client_urls))
        elif kind == kinds.DOWNGRADE_INFO_SET:
            info = cast(DowngradeInfoSetRequest, request)
            cluster.set_downgrade(Downgrade(True, info.ver) if info.enabled else Downgrade())
        elif kind != kinds.DOWNGRADE_VERSION_TEST:
            text = f"entry after {self.applied_index} is a request of kind {kind}, which is not supported"
            raise CorruptError("raft log", -1, text)

    def _set_version(self, text: str, cluster: Cluster) -> None:
        try:
            version = parse_version(text)
        except ValueError as error:
            raise CorruptError("raft log", -1, f"entry after {self.applied_index}: cluster version: {error}") from error
        before = cluster.version
        cluster.set_version(version)
        if before is not None and version < before:
            self.force_snapshot = True

    def _replay_membership(self, data: bytes, index: int) -> None:
        """Follow what an entry that the backend has already did to the membership."""
        parsed = kinds.parse_entry(data, index)
        if parsed.kind == kinds.V2:
            self._apply_v2(cast(Request, parsed.request), self._replay, index)
        elif kinds.CLUSTER_VERSION_SET <= parsed.kind <= kinds.DOWNGRADE_INFO_SET:
            self._execute_cluster(parsed.kind, parsed.request, self._replay)

    def _apply_v2(self, request: Request, cluster: Cluster, index: int) -> None:
        """Apply a v2 request: attributes of a member, or the cluster version; other ones had no part in v3."""
        path = request.Path
        if request.Method == "PUT" and path == _VERSION_PATH:
            self._set_version(request.Val, cluster)
        elif request.Method == "PUT" and path.startswith(_ATTRIBUTES_PREFIX) and path.endswith(_ATTRIBUTES_SUFFIX):
            try:
                member_id = parse_hex_id(path[len(_ATTRIBUTES_PREFIX) : -len(_ATTRIBUTES_SUFFIX)])
                fields = json.loads(request.Val)
                cluster.update_attributes(member_id, fields.get("name") or "", fields.get("clientURLs") or [])
            except (ValueError, AttributeError) as error:
                raise CorruptError("raft log", -1, f"entry {index}: member attributes: {error}") from error
        else:
            fields = {"method": request.Method, "path": path}
            self._log.debug(_CALLER, "ignored an entry of the v2 API", **fields)

    def _apply_conf_change(self, entry: Entry, new: bool) -> None:
        if entry.type != ENTRY_CONF_CHANGE:
            raise CorruptError("raft log", -1, f"entry {entry.index}: a configuration change of an unknown form")
        try:
            change = decode_conf_change(entry.data or b"")
        except ValueError as error:
            raise CorruptError("raft log", -1, f"entry {entry.index}: configuration change: {error}") from error
        kind, node_id, context = change.type, change.node_id, change.context or b""
        cluster = self._cluster if new else self._replay
        # 0 names nobody: raft takes such a change for an empty one, and a client has asked for it.
        refused = cluster.validate(kind, node_id, context) if node_id != 0 else MEMBER_NOT_FOUND
        if refused is not None:
            change.node_id = 0
            self.conf_state = self._node.apply_conf_change(change)
        else:
            self.conf_state = self._node.apply_conf_change(change)
            cluster.apply(kind, node_id, context)
            if new:
                self._backend.put(schema.META, schema.CONF_STATE, schema.encode_conf_state(self.conf_state))
            self._tell_transport(kind, node_id)
        waiter = self.conf_waiters.pop(change.id, None)
        if waiter is not None:
            waiter(refused)

    def _tell_transport(self, kind: int, node_id: int) -> None:
        if node_id == self._cluster.local_id:
            self.removed = self.removed or kind == REMOVE_NODE
            return
        member = self._cluster.member(node_id)
        if kind == REMOVE_NODE:
            self._transport.remove_peer(node_id)
        elif member is not None and kind == UPDATE_NODE:
            self._transport.update_peer(node_id, member.peer_urls)
        elif member is not None:
            self._transport.add_peer(node_id, member.peer_urls)


class _PhysicalCompaction:
    """An answer that waits for a deletion, and then for the commit of it."""

    def __init__(self, backend: Backend, done: Completion, response: bytes) -> None:
        self._backend = backend
        self._done = done
        self._response = response

    def deleted(self) -> None:
        """The old revisions are gone."""
        self._backend.commit(self.committed)

    def committed(self) -> None:
        """They are gone from the disk as well."""
        self._done.complete(self._response)
