"""The text format of /metrics."""

from __future__ import annotations

import pytest

from quorate.http.metrics import Exposition, format_number
from quorate.measure import Histogram


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
