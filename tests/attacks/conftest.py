"""One server for the attacks of a module."""

import resource

import pytest

from tests.oracle import Member


@pytest.fixture(scope="session", autouse=True)
def descriptors():
    """An attacker needs many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def member():
    one = Member("ours")
    try:
        yield one.start()
    finally:
        one.close()
