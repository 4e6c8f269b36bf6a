"""Fixtures for pytest: an etcd member that is there when a test asks for it, and empty.

    def test_something(etcd_client):            # a quorate.client.BlockingClient
        etcd_client.put("k", "v")

    def test_my_program(etcd):                  # a quorate.testing.EmbeddedMember
        run_it("--etcd", etcd.endpoint)

`etcd` and `etcd_client` share one member a session, cleared before each test; `etcd_cluster` is three members. Nothing
is imported or started before a test asks. pytest finds this module by its entry point; `-p no:quorate_pytest` leaves it
out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from quorate.client import BlockingClient
    from quorate.testing import EmbeddedCluster, EmbeddedMember


@pytest.fixture(scope="session")
def etcd_session() -> Iterator[EmbeddedMember]:
    """The member of the session, with whatever earlier tests left in it."""
    from quorate.testing import EmbeddedMember

    with EmbeddedMember() as member:
        yield member


@pytest.fixture
def etcd(etcd_session: EmbeddedMember) -> EmbeddedMember:
    """A running member without keys, leases, users and alarms."""
    etcd_session.clear()
    return etcd_session


@pytest.fixture
def etcd_client(etcd: EmbeddedMember) -> Iterator[BlockingClient]:
    """A blocking client of an empty member."""
    with etcd.client() as client:
        yield client


@pytest.fixture(scope="session")
def etcd_cluster_session() -> Iterator[EmbeddedCluster]:
    """The three members of the session, with whatever earlier tests left in them."""
    from quorate.testing import EmbeddedCluster

    with EmbeddedCluster() as cluster:
        yield cluster


@pytest.fixture
def etcd_cluster(etcd_cluster_session: EmbeddedCluster) -> EmbeddedCluster:
    """Three running members of one empty cluster."""
    etcd_cluster_session.clear()
    return etcd_cluster_session
