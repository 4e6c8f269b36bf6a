"""A three-member cluster as monitoring sees it: the dashboard and the alerts find their series, and the numbers move.

What moves how is asked of real etcd as well, so that the expectations are its own.
"""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.harness import Cluster, cluster
from tests.http.promql import missing, selectors
from tests.http.scrape import Family, scrape, value
from tests.oracle import ROOT, Member

pytestmark = [pytest.mark.process, pytest.mark.oracle]

# What the dashboard and the alerts that etcd's repository publishes (contrib/mixin of 3.6) ask for.
ERRORS = "Unknown|FailedPrecondition|ResourceExhausted|Internal|Unavailable|DataLoss|DeadlineExceeded"
MIXIN = [
    "etcd_server_has_leader",
    'grpc_server_started_total{grpc_type="unary"}',
    f'grpc_server_handled_total{{grpc_type="unary",grpc_code=~"{ERRORS}"}}',
    'grpc_server_started_total{grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"}',
    'grpc_server_handled_total{grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"}',
    'grpc_server_started_total{grpc_service="etcdserverpb.Lease",grpc_type="bidi_stream"}',
    'grpc_server_handled_total{grpc_service="etcdserverpb.Lease",grpc_type="bidi_stream"}',
    "sum by (grpc_method, grpc_code) (grpc_server_handled_total)",
    'sum by (grpc_method, le) (grpc_server_handling_seconds_bucket{grpc_method!="Defragment",grpc_type="unary"})',
    "sum by (instance, le) (etcd_disk_wal_fsync_duration_seconds_bucket)",
    "sum by (instance, le) (etcd_disk_backend_commit_duration_seconds_bucket)",
    "sum by (instance, le) (etcd_network_peer_round_trip_time_seconds_bucket)",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "etcd_server_quota_backend_bytes",
    "process_resident_memory_bytes",
    "etcd_network_client_grpc_received_bytes_total",
    "etcd_network_client_grpc_sent_bytes_total",
    "etcd_network_peer_received_bytes_total",
    "etcd_network_peer_sent_bytes_total",
    "count by (To) (etcd_network_peer_sent_failures_total)",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_proposals_failed_total",
    "etcd_server_proposals_pending",
    "etcd_server_proposals_committed_total",
    "etcd_server_proposals_applied_total",
]

# Only there once the thing has happened.
LATER = ("etcd_debugging_server_alarms", "etcd_network_peer_received_failures_total")


def dashboard() -> list[str]:
    """Every expression of our dashboard."""
    board = json.loads(Path(ROOT, "deploy/grafana/etcd.json").read_text())
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]


def alerts() -> list[str]:
    """Every expression of our alerts."""
    rules = yaml.safe_load(Path(ROOT, "deploy/prometheus/etcd-alerts.yaml").read_text())
    return [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


def merged(members: list[Member]) -> dict[str, Family]:
    """The scrapes of all members as one, as Prometheus holds them."""
    found: dict[str, Family] = {}
    for member in members:
        for name, family in scrape(member.url).items():
            found.setdefault(name, family).samples.update(family.samples)
    return found


def until(what: Callable[[], bool], text: str, timeout: float = 30) -> None:
    """Wait until it is true."""
    deadline = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < deadline, text
        time.sleep(0.1)


@pytest.fixture(scope="module")
def ours() -> Iterator[Cluster]:
    """A cluster that has done some work."""
    with cluster(["ours"] * 3, flags=["--metrics=extensive"]) as running:
        running.puts(running.leader(), [f"k{number}" for number in range(20)])
        yield running


def test_every_expression_of_dashboard_and_alerts_finds_its_series(ours: Cluster) -> None:
    scraped = merged(ours.running())
    expressions = dashboard() + alerts()
    assert len(expressions) > 40
    for expression in expressions:
        lacks = [one for one in missing(expression, scraped) if not one.startswith(LATER) and one != "alarm_type"]
        assert lacks == [], expression


def test_what_etcd_s_own_dashboard_and_alerts_ask_for_is_there(ours: Cluster) -> None:
    scraped = merged(ours.running())
    assert {expression: lacks for expression in MIXIN if (lacks := missing(expression, scraped))} == {}


def test_families_of_3_6_and_its_end_to_end_tests_are_there(ours: Cluster) -> None:
    newer = {
        "etcd_disk_wal_write_duration_seconds", "etcd_network_known_peers", "etcd_server_feature_enabled",
        "etcd_server_range_duration_seconds", "go_gc_gogc_percent", "go_gc_gomemlimit_bytes",
        "go_sched_gomaxprocs_threads",
    }  # fmt: skip
    names = ("active_peers", "peer_received_bytes_total", "peer_sent_bytes_total", "peer_round_trip_time_seconds")
    peers = {f"etcd_network_{name}" for name in names}
    assert newer | peers <= set(merged(ours.running()))


@pytest.mark.parametrize("broken", ["sum(a", "a)", "a{b}", '{b="c"}', "rate(a[5m]) ? 1", "sum by a (b)"])
def test_the_reader_of_expressions_refuses_what_is_none(broken: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        selectors(broken)


def shape_of(family: Family) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """The series of a family, with the names of their labels and the bounds of buckets."""
    return {
        (series, tuple((key, text if key == "le" else "") for key, text in labels)) for series, labels in family.samples
    }


def test_members_of_both_kinds_say_the_same_of_each_other() -> None:
    with cluster(["real", "ours", "real"], flags=["--snapshot-count=20", "--metrics=extensive"]) as mixed:
        mixed.puts(mixed.leader(), [f"k{number}" for number in range(50)])
        real, ours = (scrape(member.url) for member in mixed.running()[:2])
    names = [name for name in real if name.startswith(("etcd_network_", "etcd_snap", "etcd_debugging_snap"))]
    assert len(names) >= 10
    for name in names:
        assert (ours[name].kind, ours[name].help) == (real[name].kind, real[name].help), name
        shapes = [shape_of(one[name]) for one in (real, ours)]
        assert shapes[1] >= shapes[0], name
    peers = [{dict(labels)["Remote"] for _, labels in one["etcd_network_active_peers"].samples} for one in (real, ours)]
    assert len(peers[0] & peers[1]) == 1
    for one in (real, ours):
        assert value(one, "etcd_debugging_snap_save_total_duration_seconds_count") >= 2
        assert value(one, "etcd_snap_fsync_duration_seconds_count") >= 2


@pytest.mark.parametrize("kind", ["ours", pytest.param("real", marks=pytest.mark.slow)])
def test_numbers_move_when_a_cluster_is_hurt(kind: str) -> None:
    with cluster([kind] * 3) as hurt:
        leader = hurt.leader()
        before = {member.name: scrape(member.url) for member in hurt.running()}
        hurt.puts(leader, [f"k{number}" for number in range(25)])
        for member in hurt.running():
            old = before[member.name]
            for name in ("proposals_committed_total", "proposals_applied_total"):
                grown(member, old, f"etcd_server_{name}", 25)
            grown(member, old, "etcd_server_apply_duration_seconds_count", 25)
            grown(member, old, "etcd_disk_wal_fsync_duration_seconds_count", 1)
            grown(member, old, "etcd_disk_backend_commit_duration_seconds_count", 1)
            grown(member, old, "etcd_network_peer_received_bytes_total", 25)

        late_heartbeats(hurt, leader)
        lost_quorum(hurt)
        lost_leader(hurt)


def grown(member: Member, before: dict[str, Family], name: str, by: float, **labels: str) -> None:
    """Wait until a number has grown by that much."""

    def moved() -> bool:
        return value(scrape(member.url), name, **labels) >= value(before, name, **labels) + by

    until(moved, f"{name} of {member.kind} {member.name} has not grown by {by}")


def late_heartbeats(hurt: Cluster, leader: Member) -> None:
    """A leader that stands still for half an election timeout."""
    before = scrape(leader.url)

    def stumbled() -> bool:
        assert leader.process is not None
        leader.process.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        leader.process.send_signal(signal.SIGCONT)
        name = "etcd_server_heartbeat_send_failures_total"
        return value(scrape(leader.url), name) > value(before, name)

    until(stumbled, "no late heartbeat was counted")
    hurt.leader()


def lost_quorum(hurt: Cluster) -> None:
    """A leader whose followers stand still: what it proposes waits, and fails in the end."""
    leader = hurt.leader()
    before = scrape(leader.url)
    followers = [member for member in hurt.running() if member is not leader]
    for member in followers:
        assert member.process is not None
        member.process.send_signal(signal.SIGSTOP)
    calls = [("put", "lost", "x"), ("get", "lost")]
    callers = [threading.Thread(target=leader.etcdctl, args=(*call, "--command-timeout=12s")) for call in calls]
    for caller in callers:
        caller.start()
    try:
        until(lambda: value(scrape(leader.url), "etcd_server_proposals_pending") >= 1, "no proposal is pending")
        until(lambda: value(scrape(leader.url), "etcd_server_has_leader") == 0, "the lone leader has not stepped down")
        assert value(scrape(leader.url), "etcd_server_is_leader") == 0
        grown(leader, before, "etcd_server_proposals_failed_total", 1)
        grown(leader, before, "etcd_server_slow_read_indexes_total", 1)
    finally:
        for member in followers:
            assert member.process is not None
            member.process.send_signal(signal.SIGCONT)
        for caller in callers:
            caller.join()
    hurt.leader()
    until(lambda: value(scrape(leader.url), "etcd_server_has_leader") == 1, "no leader again")
    until(lambda: value(scrape(leader.url), "etcd_server_proposals_pending") == 0, "a proposal is pending for good")


def lost_leader(hurt: Cluster) -> None:
    """A leader that is killed."""
    leader = hurt.leader()
    name = hurt.id_of(leader)
    others = [member for member in hurt.running() if member is not leader]
    before = {member.name: scrape(member.url) for member in others}
    for member in others:
        assert value(before[member.name], "etcd_network_active_peers", Remote=name) == 1
    leader.kill()
    for member in others:
        old = before[member.name]
        grown(member, old, "etcd_server_leader_changes_seen_total", 1)
        until(lambda member=member: value(scrape(member.url), "etcd_server_has_leader") == 1, "no new leader")
        grown(member, old, "etcd_network_disconnected_peers_total", 1, Remote=name)
        grown(member, old, "etcd_network_peer_sent_failures_total", 1, To=name)
        assert value(scrape(member.url), "etcd_network_active_peers", Remote=name) == 0
    assert sum(value(scrape(member.url), "etcd_server_is_leader") for member in others) == 1


@pytest.mark.parametrize("kind", ["ours", "real"])
def test_slow_applies_are_counted_and_said(kind: str) -> None:
    with cluster([kind], flags=["--experimental-warning-apply-duration=1ns"]) as one:
        member = one.members[0]
        before = scrape(member.url)
        one.puts(member, ["a", "b"], value="secret")
        grown(member, before, "etcd_server_slow_apply_total", 2)
        line = next(
            found
            for text in Path(member.log_path).read_text().splitlines()
            if text.startswith("{") and (found := json.loads(text))["msg"] == "apply request took too long"
            if 'key:"b"' in found["request"]
        )
        assert line["level"] == "warn"
        assert set(line) == {
            "level", "ts", "caller", "msg", "took", "expected-duration", "prefix", "request", "response",
        }  # fmt: skip
        assert line["expected-duration"] == "1ns"
        assert re.fullmatch(r'header:<ID:\d+ > put:<key:"b" value_size:6 >', line["request"])
        assert line["response"].startswith("size:")
        assert "secret" not in Path(member.log_path).read_text()
