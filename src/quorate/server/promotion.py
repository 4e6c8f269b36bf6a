"""A promotion asked of a member that does not lead: it is passed to the leader, again and again until that knows.

Only the leader can tell how far a learner has come. What it says of the learner is final; anything else (no leader, no
connection, a leader that leads no more) is tried again. The asker's token goes with it, so that the leader can check
who asks. Source: etcd's server/etcdserver/server.go (PromoteMember).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate import errors
from quorate.errors import RpcError
from quorate.ports import Loop
from quorate.server.transport import Transport
from quorate.server.turn import Turn

Then = Callable[[RpcError | None], None]

RETRY_NS: Final = 100_000_000
FINAL: Final = (errors.LEARNER_NOT_READY, errors.MEMBER_NOT_FOUND, errors.MEMBER_NOT_LEARNER)


class PassedOn:
    """One such promotion. `here` promotes on this member, should it come to lead."""

    def __init__(
        self,
        loop: Loop,
        turn: Turn,
        transport: Transport,
        limit_ns: int,
        member_id: int,
        token: bytes,
        here: Callable[[int, Then], None],
        then: Then,
    ) -> None:
        self._loop = loop
        self._turn = turn
        self._transport = transport
        self._deadline_ns = loop.monotonic_ns() + limit_ns
        self._member_id = member_id
        self._token = token
        self._here = here
        self._then = then

    def ask(self) -> None:
        """Ask whoever leads."""
        turn = self._turn
        if turn.leading:
            self._here(self._member_id, self._then)
        elif turn.leader == 0:
            self._later(errors.NO_LEADER)
        else:
            self._transport.promote_member(turn.leader, self._member_id, self._token, self._answered)

    def _answered(self, error: RpcError | None) -> None:
        if error is None or error in FINAL:
            self._then(error)
        else:
            self._later(errors.TIMEOUT)

    def _later(self, error: RpcError) -> None:
        if self._loop.monotonic_ns() + RETRY_NS > self._deadline_ns or self._turn.dead:
            self._then(error)
        else:
            self._loop.later(RETRY_NS, self.ask)
