"""The same work on real etcd 3.5.1 and ours, then both scrapes side by side."""

from __future__ import annotations

import urllib.request

import pytest

from quorate.http.metrics import FAMILIES
from tests.http.scrape import Family, scrape
from tests.oracle import Member, running

pytestmark = [pytest.mark.oracle, pytest.mark.process]

# Later than 3.5.1, by etcd's sources.
NEWER = {
    "go_gc_gogc_percent", "go_gc_gomemlimit_bytes", "go_sched_gomaxprocs_threads",
    "etcd_disk_wal_write_duration_seconds", "etcd_server_feature_enabled", "etcd_server_healthcheck",
    "etcd_server_healthchecks_total", "etcd_server_range_duration_seconds",
}  # fmt: skip
OUR_OWN = ("quorate_", "python_")

# Labels whose values are the member's own.
IDENTITY = {"server_id", "server_version", "server_go_version", "version", "cluster_version"}

# Counts that say how the disk and the clock were used, not how often something was asked for.
NOT_COUNTED_ALIKE = {
    "etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
    "etcd_debugging_disk_backend_commit_spill_duration_seconds",
    "etcd_debugging_disk_backend_commit_write_duration_seconds",
    "etcd_debugging_mvcc_db_compaction_last",
    "etcd_disk_backend_commit_duration_seconds",
    "etcd_disk_wal_fsync_duration_seconds",
    "etcd_disk_wal_write_bytes_total",  # entries of 3.5 carry the v2 form of the member's attributes
    "etcd_mvcc_db_open_read_transactions",
    "etcd_mvcc_db_total_size_in_bytes",  # a new file of ours begins with fewer pages
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "etcd_network_client_grpc_sent_bytes_total",  # holds the snapshot, and so the file's size
    "os_fd_limit",
    "os_fd_used",
    "promhttp_metric_handler_requests_in_flight",
}


def work(member: Member) -> None:
    """Ask for a bit of everything. The answers are not looked at: the counts are."""

    def ctl(*args: str, stdin: str | None = None) -> None:
        member.etcdctl(*args, stdin=stdin)

    ctl("put", "a", "1")
    ctl("put", "a", "2", "--prev-kv")
    ctl("put", "b", "3")
    ctl("put", "no-lease", "x", "--lease=77")
    ctl("get", "a")
    ctl("get", "a", "--rev=1000")
    ctl("get", "", "--prefix", "--consistency=s")
    ctl("del", "b")
    ctl("put", "c", "d")
    ctl("txn", stdin="\nput x y\nput z y\n\n\n")
    ctl("lease", "grant", "100")
    ctl("lease", "revoke", "12345")
    ctl("compaction", "3")
    ctl("compaction", "3")
    ctl("alarm", "list")
    ctl("role", "add", "r")
    ctl("user", "add", "u:p")
    ctl("member", "list")
    ctl("endpoint", "status")
    ctl("endpoint", "hashkv")
    ctl("defrag")
    ctl("snapshot", "save", f"{member.owned}/s.db")


@pytest.fixture(scope="module")
def both() -> tuple[dict[str, Family], dict[str, Family]]:
    """The scrapes of real and ours after the work."""
    found = []
    for kind in ("real", "ours"):
        with running(kind, flags=["--metrics=extensive"]) as member:
            work(member)
            urllib.request.urlopen(f"{member.url}/metrics", timeout=20).read()
            found.append(scrape(member.url))
    return found[0], found[1]


def test_every_family_of_real_etcd_is_there_with_type_and_help(
    both: tuple[dict[str, Family], dict[str, Family]],
) -> None:
    real, ours = both
    assert {name: (one.kind, one.help) for name, one in real.items()} == {
        name: (one.kind, one.help) for name, one in ours.items() if name in real
    }
    more = {name for name in set(ours) - set(real) if not name.startswith(OUR_OWN)}
    assert more <= NEWER
    assert set(ours) <= set(FAMILIES)


def _shape(family: Family) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """The series of a family with their labels, in the order of the text; values of identity left out."""
    return {
        (name, tuple((key, "" if key in IDENTITY else text) for key, text in labels)) for name, labels in family.samples
    }


def test_every_series_of_real_etcd_is_there_with_labels_and_buckets(
    both: tuple[dict[str, Family], dict[str, Family]],
) -> None:
    real, ours = both
    for name, family in real.items():
        missing = _shape(family) - _shape(ours[name])
        # Up to 3.5 a member's attributes are a v2 entry; 3.6, as we, writes a v3 one.
        missing = {one for one in missing if ("op", "PUT") not in one[1]}
        assert missing == set(), name


def test_series_stand_in_the_same_order(both: tuple[dict[str, Family], dict[str, Family]]) -> None:
    real, ours = both
    assert [name for name in ours if name in real] == list(real)
    for name, family in real.items():
        if name in ("etcd_server_apply_duration_seconds", "grpc_server_handled_total") or name.startswith("grpc_"):
            order = list(family.samples)
            assert [one for one in ours[name].samples if one in family.samples] == [
                one for one in order if one in ours[name].samples
            ]


def _counts(families: dict[str, Family]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What the work determines: counters, gauges and the counts of histograms."""
    counts = {}
    for name, family in families.items():
        if name.startswith(("go_", "process_", *OUR_OWN)) or name in NOT_COUNTED_ALIKE | NEWER:
            continue
        for (series, labels), number in family.samples.items():
            if series.endswith(("_bucket", "_sum")) and family.kind == "histogram":
                continue
            if any(
                text.startswith(("v3lockpb", "v3electionpb")) or key in IDENTITY - {"version"} for key, text in labels
            ):
                continue
            counts[series, labels] = number
    return counts


def test_counts_agree_after_the_same_work(both: tuple[dict[str, Family], dict[str, Family]]) -> None:
    real, ours = (_counts(one) for one in both)
    other_form = {"PUT", "ClusterVersionSet", "ClusterMemberAttrSet"}
    different = {
        series: (number, ours.get(series))
        for series, number in real.items()
        if ours.get(series) != number and dict(series[1]).get("op") not in other_form
    }
    assert different == {}
