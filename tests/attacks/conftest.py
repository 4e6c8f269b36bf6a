"""One server for the attacks of a module."""

import pytest

from tests.oracle import Member


@pytest.fixture(scope="module")
def member():
    one = Member("ours")
    try:
        yield one.start()
    finally:
        one.close()
