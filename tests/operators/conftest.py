"""Sites of either kind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operators.site import Site


@pytest.fixture(scope="module", params=["ours", "real"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site for the tests of a module, with members of ours, then of the real kind."""
    found = Site(request.param, tmp_path_factory.mktemp(f"site-{request.param}"))
    yield found
    found.close()


@pytest.fixture(params=["ours", "real"])
def tool(request: pytest.FixtureRequest) -> str:
    """The commands that operators type: ours, or the real ones."""
    chosen: str = request.param
    return chosen


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory for what a test writes."""
    return tmp_path


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what shows only that the notes fit real etcd, unless QUORATE_SLOW=1."""
    if os.environ.get("QUORATE_SLOW") == "1":
        return
    both_real = [
        item
        for item in items
        if isinstance(item, pytest.Function)
        and hasattr(item, "callspec")
        and item.callspec.params.get("site") == "real"
        and item.callspec.params.get("tool") == "real"
    ]
    config.hook.pytest_deselected(items=both_real)
    items[:] = [item for item in items if item not in both_real]
