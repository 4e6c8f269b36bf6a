"""Whole histories, a few of them; `make sim` runs many. And that a seed is a history."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quorate.sim.__main__ import main
from quorate.sim.clock import SECOND
from quorate.sim.plan import NEMESES, Plan
from quorate.sim.world import World

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("seed", [1, 2, 3, 5, 6])
def test_a_history_of_five_members_with_faults_is_clean(seed: int) -> None:
    world = World(Plan(seed))
    world.run()
    assert world.model.index > 50
    assert world.observer.leaders


@pytest.mark.parametrize("fault", NEMESES)
def test_each_kind_of_fault_alone(fault: str) -> None:
    plan = Plan(1, 3, 4 * SECOND)
    plan.faults = [fault]
    world = World(plan)
    world.run()
    assert world.nemesis.counts[fault] > 0


def test_a_seed_is_the_same_history_whatever_the_hash_seed() -> None:
    # Order that comes from sets or from the hash of strings would show.
    code = (
        "from quorate.sim.plan import Plan; from quorate.sim.world import World;"
        "plan = Plan(7, 3, 4_000_000_000); world = World(plan); world.run(); print(world.summary())"
    )
    summaries = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        run = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
        )
        summaries.append(run.stdout)
    assert summaries[0] == summaries[1]
    assert "trace" in summaries[0]


def test_the_command_prints_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "3", "--members", "3"]) == 0
    printed = capsys.readouterr().out
    assert "seed 3 passed: trace " in printed
    assert "seed 3: 3 members" in printed
