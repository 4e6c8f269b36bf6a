"""A short form of the crash run; `make crash` does 200 kills."""

import pytest

from tests.crash.harness import Crash

pytestmark = [pytest.mark.oracle, pytest.mark.process]


def test_nothing_acknowledged_is_lost() -> None:
    crash = Crash(kills=6, seed=20260101)
    crash.run()
    assert crash.acknowledged > 100
