"""Real etcd and ours, each with its gateway."""

from collections.abc import Iterator

import pytest

from tests.gateway.twins import Side
from tests.oracle import Member


@pytest.fixture(scope="module")
def twins() -> Iterator[list[Side]]:
    """Run real etcd and ours; the tests of a module share them and run in order."""
    members = [Member("real"), Member("ours")]
    try:
        for member in members:
            member.start(wait=False)
        for member in members:
            member.wait_healthy()
        yield [Side(member) for member in members]
    finally:
        for member in members:
            member.close()
