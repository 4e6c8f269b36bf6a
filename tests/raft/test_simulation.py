"""A bounded number of simulated worlds; `python -m tests.raft.simulator` runs any number."""

from __future__ import annotations

import pytest

from tests.raft import simulator

STEPS = 1200


@pytest.mark.parametrize("seed", range(50))
def test_a_world(seed: int) -> None:
    simulator.run(seed, STEPS)


def test_a_seed_is_a_world() -> None:
    one, other = simulator.run(7, 400), simulator.run(7, 400)
    assert [m.node.raft.log.describe() for m in one.members.values()] == [
        m.node.raft.log.describe() for m in other.members.values()
    ]
    assert one.sequence == other.sequence
