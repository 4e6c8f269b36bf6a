"""Notes about what to watch: is a member up, has it a leader, do proposals get through, how long do disks take."""

from __future__ import annotations

import json
import re

import pytest

from tests.operators.site import Site

pytestmark = [pytest.mark.process, pytest.mark.oracle]


@pytest.fixture(scope="module")
def member(site: Site) -> Site:
    """One member with some work behind it."""
    words = ["--listen-peer-urls=http://10.0.0.9:2380", "--advertise-client-urls=http://10.0.0.9:2379"]
    site.member("watched", ["--listen-client-urls=http://10.0.0.9:2379", *words]).start().wait_ready()
    for number in range(5):
        site.typed("real", f"etcdctl --endpoints=10.0.0.9:2379 put key{number} value")
    return site


def value(member: Site, name: str) -> float:
    """Return one metric of the member."""
    found = re.search(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", member.members[0].get("/metrics"), re.MULTILINE)
    assert found, name
    return float(found[1])


def test_it_is_up(member: Site, tool: str) -> None:
    assert json.loads(member.members[0].get("/health"))["health"] == "true"
    done = member.shell(tool, "etcdctl --endpoints=10.0.0.9:2379 endpoint health")
    assert done.code == 0
    assert "is healthy: successfully committed proposal" in done.stdout + done.stderr


def test_it_has_a_leader(member: Site) -> None:
    assert value(member, "etcd_server_has_leader") == 1
    assert value(member, "etcd_server_leader_changes_seen_total") == 1


def test_proposals(member: Site) -> None:
    assert value(member, "etcd_server_proposals_committed_total") >= 5
    assert value(member, "etcd_server_proposals_applied_total") >= 5
    assert value(member, "etcd_server_proposals_pending") == 0
    assert value(member, "etcd_server_proposals_failed_total") == 0


def test_disks(member: Site) -> None:
    for name in ("etcd_disk_wal_fsync_duration_seconds", "etcd_disk_backend_commit_duration_seconds"):
        assert value(member, f"{name}_count") > 0
        assert value(member, f"{name}_sum") > 0


def test_calls_and_peers(member: Site) -> None:
    text = member.members[0].get("/metrics")
    calls = re.search(
        r'^grpc_server_started_total\{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"\} (\d+)$',
        text,
        re.MULTILINE,
    )
    assert calls
    assert int(calls[1]) >= 5
    for name in ("etcd_network_client_grpc_sent_bytes_total", "etcd_network_client_grpc_received_bytes_total"):
        assert value(member, name) > 0
