"""A pair of servers for each test module."""

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.parity.pair")

from tests.parity.pair import Pair  # noqa: E402


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Run real etcd and ours side by side; tests of a module share them and run in order."""
    both = Pair()
    try:
        yield both.start()
    finally:
        both.close()
