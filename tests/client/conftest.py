"""One member of each kind for the whole room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.oracle import Member, running


@pytest.fixture(scope="session", params=["real", "ours"])
def member(request: pytest.FixtureRequest) -> Iterator[Member]:
    with running(request.param) as member:
        yield member
