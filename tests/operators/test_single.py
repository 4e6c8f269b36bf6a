"""Notes about the first steps: one member by two flags, several addresses, a load balancer before the members."""

from __future__ import annotations

import pytest

from tests.operators.site import Site

pytestmark = [pytest.mark.process, pytest.mark.oracle]


@pytest.fixture(scope="module")
def member(site: Site) -> Site:
    """`etcd --listen-client-urls=... --advertise-client-urls=...`; the peers' port alone is not the default one."""
    site.member(
        "single",
        [
            "--listen-client-urls=http://10.0.0.1:2379,http://10.0.0.2:2379",
            "--advertise-client-urls=http://10.0.0.1:2379,http://10.0.0.2:2379",
            "--listen-peer-urls=http://10.0.0.1:2380",
        ],
    ).start().wait_ready()
    return site


def test_every_address_serves(member: Site, tool: str) -> None:
    member.typed(tool, "etcdctl --endpoints=http://10.0.0.1:2379 put a b")
    for address in ("10.0.0.1:2379", "http://10.0.0.2:2379", "10.0.0.1:2379,10.0.0.2:2379"):
        assert member.typed(tool, f"etcdctl --endpoints={address} get a") == "a\nb\n"


def test_the_snapshot_of_a_plain_member(member: Site, tool: str) -> None:
    script = """
        set -e
        ENDPOINT=10.0.0.1:2379
        ETCDCTL_API=3 etcdctl --endpoints $ENDPOINT snapshot save snapshotdb
        ETCDCTL_API=3 etcdctl --write-out=table snapshot status snapshotdb
        ETCDCTL_API=3 etcdctl -h > help
        grep -q snapshot help
    """
    assert "| REVISION | TOTAL KEYS | TOTAL SIZE |" in member.typed(tool, script)


def test_the_version(member: Site, tool: str) -> None:
    first, second = member.typed(tool, "export ETCDCTL_API=3\netcdctl version").splitlines()[:2]
    assert first.startswith("etcdctl version: 3.")
    assert second.startswith("API version: 3.")
