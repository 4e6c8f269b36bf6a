"""The text format, and the names that we claim against those of real etcd."""

from __future__ import annotations

import re
import urllib.request

import pytest

from quorate.http.metrics import FAMILIES, Exposition, format_number
from quorate.measure import Histogram
from tests.oracle import running

# What 3.5.1 does not have: families of 3.6, and our own.
NEWER = {
    "etcd_server_feature_enabled", "etcd_server_healthcheck", "etcd_server_healthchecks_total",
    "etcd_debugging_server_alarms",
}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (1, "1"), (-1, "-1"), (20480, "20480"), (999999, "999999"), (1000000, "1e+06"),
        (2147483648, "2.147483648e+09"), (8192000, "8.192e+06"), (0.001, "0.001"), (0.0001, "0.0001"),
        (0.00001, "1e-05"), (4.4420000000000005e-05, "4.4420000000000005e-05"), (1.5, "1.5"),
        (1.8446744073709552e19, "1.8446744073709552e+19"), (1.79522595331e9, "1.79522595331e+09"),
        (float("inf"), "+Inf"), (123456.75, "123456.75"), (0.1024, "0.1024"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_go_writes_them(value: float, text: str) -> None:
    assert format_number(value) == text
    assert float(text.replace("Inf", "inf")) == value


def test_exposition() -> None:
    out = Exposition()
    out.add("etcd_server_version", 1, [("server_version", 'a"b\\c\nd')])
    histogram = Histogram((0.1, 0.2))
    for value in (0.05, 0.15, 0.15, 5):
        histogram.observe(value)
    out.histogram("etcd_disk_wal_fsync_duration_seconds", histogram)
    assert out.render().decode() == (
        "# HELP etcd_disk_wal_fsync_duration_seconds The latency distributions of fsync called by WAL.\n"
        "# TYPE etcd_disk_wal_fsync_duration_seconds histogram\n"
        'etcd_disk_wal_fsync_duration_seconds_bucket{le="0.1"} 1\n'
        'etcd_disk_wal_fsync_duration_seconds_bucket{le="0.2"} 3\n'
        'etcd_disk_wal_fsync_duration_seconds_bucket{le="+Inf"} 4\n'
        "etcd_disk_wal_fsync_duration_seconds_sum 5.35\n"
        "etcd_disk_wal_fsync_duration_seconds_count 4\n"
        "# HELP etcd_server_version Which version is running. 1 for 'server_version' label with current version.\n"
        "# TYPE etcd_server_version gauge\n"
        'etcd_server_version{server_version="a\\"b\\\\c\\nd"} 1\n'
    )


def scrape(url: str) -> tuple[dict[str, str], dict[str, str], set[str]]:
    """Return types and help by family, and every series without its value."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = answer.read().decode()
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.M))
    return types, helps, {line.rpartition(" ")[0] for line in text.splitlines() if line and line[0] != "#"}


@pytest.mark.oracle
@pytest.mark.process
def test_what_we_report_is_real_etcd_s() -> None:
    with running("real") as real, running("ours") as ours:
        for member in (real, ours):
            assert member.etcdctl("put", "a", "b").returncode == 0
            assert member.etcdctl("get", "a").returncode == 0
        theirs, ours_found = scrape(real.url), scrape(ours.url)
    assert set(ours_found[0]) <= set(FAMILIES)
    for name, kind in ours_found[0].items():
        if name in NEWER or name.startswith(("quorate_", "python_")):
            continue
        assert theirs[0][name] == kind, name
        assert theirs[1][name] == ours_found[1][name], name
    identity = re.compile(r'(server_id|server_version|cluster_version)="[^"]*"')
    claimed = {identity.sub(r"\1", series) for series in ours_found[2]}
    known = {identity.sub(r"\1", series) for series in theirs[2]}
    new = {series for series in claimed - known if not series.startswith(("quorate_", "python_", *NEWER))}
    # The lock and election services answer gRPC here as they do there, where they are not counted.
    assert {series for series in new if "v3lockpb" not in series and "v3electionpb" not in series} == set()


@pytest.mark.oracle
@pytest.mark.process
def test_the_same_work_counts_alike() -> None:
    names = (
        "etcd_mvcc_put_total", "etcd_mvcc_delete_total", "etcd_mvcc_txn_total", "etcd_debugging_mvcc_keys_total",
        "etcd_debugging_mvcc_current_revision", "etcd_debugging_lease_granted_total", "etcd_server_has_leader",
        "etcd_debugging_mvcc_total_put_size_in_bytes", "etcd_network_client_grpc_received_bytes_total",
        'grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}',
        'grpc_server_handled_total{grpc_code="OutOfRange",grpc_method="Range",grpc_service="etcdserverpb.KV",'
        'grpc_type="unary"}',
        'grpc_server_started_total{grpc_method="Txn",grpc_service="etcdserverpb.KV",grpc_type="unary"}',
    )  # fmt: skip
    counts = []
    for kind in ("real", "ours"):
        with running(kind) as member:
            member.etcdctl("put", "a", "b")
            member.etcdctl("put", "c", "d")
            member.etcdctl("del", "c")
            member.etcdctl("get", "a", "--rev=1000")
            member.etcdctl("txn", stdin="\nput x y\nput z y\n\n\n")
            member.etcdctl("lease", "grant", "100")
            with urllib.request.urlopen(f"{member.url}/metrics", timeout=10) as answer:
                lines = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[0] != "#")
            counts.append({name: lines.get(name, "0") for name in names})
    assert counts[0] == counts[1]
