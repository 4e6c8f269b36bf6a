"""A few hundred of the cases that `make corruption` runs by the thousand."""

from __future__ import annotations

import pytest

from tests.corruption.cases import BAD, CLEAN, REFUSED, SHORTENED, TARGETS, UNPROTECTED, Case, run
from tests.corruption.world import base, healthy, start

CASES = 60  # a seed
KINDS = ("young", "old", "received", "real")
pytestmark = [pytest.mark.oracle, pytest.mark.process]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_damaged_starts(kind: str) -> None:
    outcome = start(base(kind))
    assert outcome.dump == healthy(kind)
    assert len(outcome.dump["live"]) > 20


@pytest.mark.parametrize("seed", range(1, 7))
def test_damage_never_yields_silent_wrong_data(seed: int) -> None:
    bad: list[str] = []
    seen: set[str] = set()

    def report(case: Case, number: int) -> None:
        seen.add(case.verdict)
        if case.verdict in BAD:
            bad.append(f"{case.verdict}: --seed {number}, {case.name}: {case.text}")

    found = run(CASES, seed * CASES, report)
    assert bad == []
    assert {name.rpartition(" ")[0] for name in found} == set(TARGETS)
    assert {REFUSED, CLEAN, SHORTENED, UNPROTECTED} >= seen >= {REFUSED, CLEAN}
