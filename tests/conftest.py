"""What all tests share: those marked `slow` run when they are asked for.

With QUORATE_REPEATABLE=1, as in CI, hypothesis tries the same examples each time, so that a change is judged by what it
changed.
"""

import os

import pytest
from hypothesis import settings

pytest_plugins = ["quorate_pytest"]

settings.register_profile("repeatable", derandomize=True)
if os.environ.get("QUORATE_REPEATABLE") == "1":
    settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what takes minutes, unless QUORATE_SLOW=1."""
    if os.environ.get("QUORATE_SLOW") == "1":
        return
    skip = pytest.mark.skip(reason="takes minutes; QUORATE_SLOW=1 (make slow) runs it")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)
