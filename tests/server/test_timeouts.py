"""Which error a request gets that was not answered in time (etcd: parseProposeCtxErr)."""

from __future__ import annotations

import pytest

from quorate.errors import TIMEOUT, TIMEOUT_DUE_TO_CONNECTION_LOST, TIMEOUT_DUE_TO_LEADER_FAIL, RpcError
from quorate.server.timeouts import Timeouts
from quorate.server.transport import Transport

MS = 1_000_000
TICK_NS = 100 * MS
NOW_NS = 1000 * TICK_NS
OWN, OTHER, THIRD = 1, 2, 3


class Connections(Transport):
    """Connections that stand since some tick of 100 ms."""

    def __init__(self, since: dict[int, int]) -> None:
        self.since = since

    def active_since_ns(self, member_id: int) -> int:
        return self.since.get(member_id, 0) * TICK_NS


@pytest.mark.parametrize(
    ("leader", "led_since", "connected", "error"),
    [
        (OTHER, 945, {OTHER: 1}, TIMEOUT_DUE_TO_LEADER_FAIL),
        (OTHER, 951, {OTHER: 1}, TIMEOUT),  # elected before its two election timeouts began
        (OTHER, 930, {OTHER: 1}, TIMEOUT),  # had led for long
        (OTHER, 5, {OTHER: 1}, TIMEOUT),
        (OTHER, 5, {}, TIMEOUT_DUE_TO_CONNECTION_LOST),
        (OTHER, 5, {OTHER: 940}, TIMEOUT_DUE_TO_CONNECTION_LOST),  # lost, and found again
        (0, 5, {}, TIMEOUT),
        (OWN, 5, {OTHER: 1}, TIMEOUT),
        (OWN, 5, {}, TIMEOUT_DUE_TO_CONNECTION_LOST),
        (OWN, 5, {OTHER: 940, THIRD: 950}, TIMEOUT_DUE_TO_CONNECTION_LOST),
        (OWN, 945, {}, TIMEOUT_DUE_TO_LEADER_FAIL),
    ],
)
def test_reasons(leader: int, led_since: int, connected: dict[int, int], error: RpcError) -> None:
    timeouts = Timeouts(OWN, 10, TICK_NS, Connections(connected))
    assert timeouts.reason(930, 1000, NOW_NS, leader, led_since, [OWN, OTHER, THIRD]) is error
