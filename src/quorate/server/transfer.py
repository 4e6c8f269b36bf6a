"""Handing leadership over: because somebody asks for it, or because the leader stops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate import errors
from quorate.errors import RpcError
from quorate.membership.cluster import Cluster
from quorate.ports import Loop
from quorate.raft.node import RawNode
from quorate.server.turn import Turn

TRANSFER_TIMEOUT: Final = RpcError(errors.UNKNOWN, "etcdserver: request timed out, leader transfer took too long")


class _Transfer:
    """Somebody waits for a transfer of leadership."""

    def __init__(self, target_id: int, deadline_ns: int, then: Callable[[RpcError | None], None]) -> None:
        self.target_id = target_id
        self.deadline_ns = deadline_ns
        self.then = then


class Transfers:
    """Transfers of leadership under way. A transfer is over when the target is seen to lead."""

    def __init__(self, loop: Loop, timeout_ns: int, cluster: Cluster, node: RawNode, turn: Turn) -> None:
        self._loop = loop
        self._timeout_ns = timeout_ns
        self._cluster = cluster
        self._node = node
        self._turn = turn
        self._waiting: list[_Transfer] = []

    def move(self, target_id: int, then: Callable[[RpcError | None], None]) -> None:
        """Hand leadership to a voter: NOT_LEADER, BAD_LEADER_TRANSFEREE, or None once it leads."""
        member = self._cluster.member(target_id)
        if not self._turn.leading:
            then(errors.NOT_LEADER)
        elif member is None or member.is_learner:
            then(errors.BAD_LEADER_TRANSFEREE)
        elif target_id == self._cluster.local_id:
            then(None)
        else:
            self._waiting.append(_Transfer(target_id, self._loop.monotonic_ns() + self._timeout_ns, then))
            self._turn.transfer_leader(target_id)

    def tick(self) -> None:
        """See which transfers are over."""
        if not self._waiting:
            return
        now_ns = self._loop.monotonic_ns()
        transfers = self._waiting
        self._waiting = []
        for transfer in transfers:
            if self._turn.leader == transfer.target_id:
                transfer.then(None)
            elif transfer.deadline_ns <= now_ns:
                transfer.then(TRANSFER_TIMEOUT)
            else:
                self._waiting.append(transfer)

    def hand_over(self) -> None:
        """Give leadership to the voter that has most of the log, before this member stops."""
        if not self.needed():
            return
        progress = self._node.status().progress
        local_id = self._cluster.local_id
        match = {m.id: progress[m.id].match for m in self._cluster.voters() if m.id != local_id and m.id in progress}
        if match:
            self._turn.transfer_leader(max(match, key=lambda member_id: match[member_id]))

    def needed(self) -> bool:
        """Tell whether we lead others."""
        return self._turn.leading and len(self._cluster.voters()) > 1
