"""etcdserverpb.Maintenance: alarms, status, checksums, defragmentation, backup, leadership, downgrade.

Contract: alarms go through the log and concern all members; everything else concerns the member that is asked. Unknown
alarm actions and types are refused here: a member of real etcd would stop at such an entry of the log.
Source: etcd's server/etcdserver/api/v3rpc/maintenance.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate import errors
from quorate.api.check import LEARNER_ALWAYS, Guard, ServerStream, add_raw, add_stream, add_unary
from quorate.api.snapshot import SnapshotCall
from quorate.auth.access import NEEDS_ROOT, NEEDS_USER
from quorate.errors import RpcError
from quorate.membership.version import parse_downgrade_target
from quorate.proto.rpc_pb2 import (
    AlarmRequest,
    DefragmentRequest,
    DowngradeInfo,
    DowngradeRequest,
    DowngradeResponse,
    HashKVRequest,
    HashKVResponse,
    HashRequest,
    HashResponse,
    MoveLeaderRequest,
    SnapshotRequest,
    StatusRequest,
    StatusResponse,
)
from quorate.server.config import DEFAULT_QUOTA_BYTES
from quorate.server.core import Server
from quorate.storage.schema import META, STORAGE_VERSION, TERM, layout_version
from quorate.wire.rpc import Router, ServerCall

_CALLER: Final = "v3rpc/maintenance.go"
_ALARM_NAMES: Final = ("NONE", "NOSPACE", "CORRUPT")
_ALARM_ACTIONS: Final = 3
_BAD_ALARM: Final = RpcError(errors.INVALID_ARGUMENT, "etcdserver: invalid alarm request")
_VALIDATE: Final = 0
_CANCEL: Final = 2


class MaintenanceService:
    """The Maintenance service over a server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def register(self, router: Router, guard: Guard) -> None:
        """Add the service's methods to the router."""
        prefix = "/etcdserverpb.Maintenance/"
        add_raw(router, guard, prefix + "Alarm", AlarmRequest, self.alarm)
        add_unary(router, guard, prefix + "Status", StatusRequest, self.status, LEARNER_ALWAYS, NEEDS_USER)
        add_unary(router, guard, prefix + "Defragment", DefragmentRequest, self.defragment, need=NEEDS_ROOT)
        add_unary(router, guard, prefix + "Hash", HashRequest, self.hash, need=NEEDS_ROOT)
        add_unary(router, guard, prefix + "HashKV", HashKVRequest, self.hash_kv, need=NEEDS_ROOT)
        add_unary(router, guard, prefix + "MoveLeader", MoveLeaderRequest, self.move_leader, need=NEEDS_ROOT)
        add_unary(router, guard, prefix + "Downgrade", DowngradeRequest, self.downgrade, need=NEEDS_ROOT)
        add_stream(router, guard, prefix + "Snapshot", "server_stream", self.snapshot, LEARNER_ALWAYS, NEEDS_ROOT)

    def alarm(self, call: ServerCall, request: AlarmRequest, raw: bytes) -> None:
        """Serve Alarm."""
        error = self._server.refusals.call(NEEDS_USER if request.action == AlarmRequest.GET else NEEDS_ROOT, call)
        if error is not None:
            call.fail(error)
        elif not (0 <= request.action < _ALARM_ACTIONS and 0 <= request.alarm < len(_ALARM_NAMES)):
            call.fail(_BAD_ALARM)
        else:
            self._server.alarm(request, raw, call)

    def status(self, call: ServerCall, _: StatusRequest) -> None:
        """Serve Status."""
        server = self._server
        problems: list[str] = []
        if not server.has_leader():
            problems.append("etcdserver: no leader")
        for alarm, member_id in server.alarms.list():
            problems.append(_alarm_text(member_id, alarm))
        downgrade, backend = server.cluster.downgrade, server.backend
        response = StatusResponse(
            version=server.config.version,
            dbSize=backend.size(),
            leader=server.leader,
            raftIndex=server.raft_index,
            raftTerm=server.term,
            raftAppliedIndex=server.applied_index,
            errors=problems,
            dbSizeInUse=backend.size_in_use(),
            isLearner=server.is_learner(),
            storageVersion=layout_version(backend.get(META, STORAGE_VERSION), backend.get(META, TERM)),
            dbSizeQuota=server.config.quota_bytes or DEFAULT_QUOTA_BYTES,
            downgradeInfo=DowngradeInfo(enabled=downgrade.enabled, targetVersion=downgrade.target_version),
        )
        call.complete(self._header() + response.SerializeToString())

    def defragment(self, call: ServerCall, _: DefragmentRequest) -> None:
        """Serve Defragment."""
        log = self._server.log
        log.info(_CALLER, "starting defragment")

        def done(error: Exception | None) -> None:
            if error is not None:
                log.warn(_CALLER, "failed to defragment", error=str(error))
                call.fail(error if isinstance(error, RpcError) else RpcError(errors.UNKNOWN, str(error)))
            else:
                log.info(_CALLER, "finished defragment")
                call.complete(b"")

        self._server.backend.defragment(done)

    def hash(self, call: ServerCall, _: HashRequest) -> None:
        """Serve Hash."""
        rev = self._server.store.current_rev

        def done(found: int) -> None:
            call.complete(self._server.header(rev) + HashResponse(hash=found).SerializeToString())

        self._server.backend.hash(done)

    def hash_kv(self, call: ServerCall, request: HashKVRequest) -> None:
        """Serve HashKV."""
        asked = request.revision

        def done(found: int, rev: int, compact_rev: int) -> None:
            if 0 < asked < compact_rev:
                call.fail(errors.COMPACTED)
                return
            response = HashKVResponse(hash=found, compact_revision=compact_rev, hash_revision=asked or rev)
            call.complete(self._server.header(rev) + response.SerializeToString())

        try:
            self._server.store.hash_by_rev(asked, done)
        except RpcError as error:
            call.fail(error)

    def move_leader(self, call: ServerCall, request: MoveLeaderRequest) -> None:
        """Serve MoveLeader."""
        if not self._server.is_leader():
            call.fail(errors.NOT_LEADER)
        else:
            self._server.move_leader(request.targetID, _answer(call, b""))

    def downgrade(self, call: ServerCall, request: DowngradeRequest) -> None:
        """Serve Downgrade."""
        if not _VALIDATE <= request.action <= _CANCEL:
            call.fail(errors.UNKNOWN_METHOD)
            return
        target = ""
        if request.action != _CANCEL:
            try:
                target = str(parse_downgrade_target(request.version))
            except ValueError:
                call.fail(errors.WRONG_DOWNGRADE_VERSION_FORMAT)
                return

        def then(error: RpcError | None) -> None:
            if error is not None:
                call.fail(error)
                return
            version = self._server.cluster.version
            text = "" if version is None else version.cluster()
            call.complete(self._header() + DowngradeResponse(version=text).SerializeToString())

        self._server.downgrade(request.action, target, then)

    def snapshot(self, call: ServerCall) -> None:
        """Serve Snapshot."""
        ServerStream(call, SnapshotRequest, self._start_snapshot)

    def _start_snapshot(self, call: ServerCall, _: SnapshotRequest) -> None:
        # What the file says of itself, which below 3.6 is nothing.
        stored = self._server.backend.get(META, STORAGE_VERSION) or b""
        SnapshotCall(self._server, call, stored.decode("utf-8", "replace"))

    def _header(self) -> bytes:
        return self._server.header(self._server.store.current_rev)


def _answer(call: ServerCall, response: bytes) -> Callable[[RpcError | None], None]:
    def then(error: RpcError | None) -> None:
        if error is not None:
            call.fail(error)
        else:
            call.complete(response)

    return then


def _alarm_text(member_id: int, alarm: int) -> str:
    """Return an alarm as gogo's text form has it, trailing space and all."""
    parts = []
    if member_id:
        parts.append(f"memberID:{member_id} ")
    if alarm:
        name = _ALARM_NAMES[alarm] if alarm < len(_ALARM_NAMES) else str(alarm)
        parts.append(f"alarm:{name} ")
    return "".join(parts)
