"""Why a request was not answered in time: the leader failed, the connection to it was lost, or nobody can tell.

Source: etcd's server/etcdserver/server.go (parseProposeCtxErr) and cluster_util.go (isConnectedToQuorumSince).
"""

from __future__ import annotations

from quorate.errors import TIMEOUT, TIMEOUT_DUE_TO_CONNECTION_LOST, TIMEOUT_DUE_TO_LEADER_FAIL, RpcError
from quorate.server.transport import Transport


class Timeouts:
    """Finds the error for one member. Ticks are those of `Proposals.tick`."""

    def __init__(self, member_id: int, election_ticks: int, tick_ns: int, transport: Transport) -> None:
        self._member_id = member_id
        self._election_ticks = election_ticks
        self._tick_ns = tick_ns
        self._transport = transport

    def reason(
        self, start_tick: int, tick: int, now_ns: int, leader: int, led_since_tick: int, members: list[int]
    ) -> RpcError:
        """Return the error of a request made at `start_tick`. `leader` has led since `led_since_tick` (0: nobody).

        A request made within two election timeouts before the present leader was elected was probably lost with the
        leader before.
        """
        if led_since_tick - 2 * self._election_ticks < start_tick < led_since_tick:
            return TIMEOUT_DUE_TO_LEADER_FAIL
        start_ns = now_ns - (tick - start_tick) * self._tick_ns
        if leader == self._member_id:
            connected = sum(member == leader or self._connected(member, start_ns) for member in members)
            if connected < len(members) // 2 + 1:
                return TIMEOUT_DUE_TO_CONNECTION_LOST
        elif leader != 0 and not self._connected(leader, start_ns):
            return TIMEOUT_DUE_TO_CONNECTION_LOST
        return TIMEOUT

    def _connected(self, member_id: int, start_ns: int) -> bool:
        """Tell whether the connection to a member has stood since a time."""
        since_ns = self._transport.active_since_ns(member_id)
        return 0 < since_ns < start_ns
