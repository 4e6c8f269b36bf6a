"""Sizes as etcd prints them."""

import pytest

from quorate.units import human_bytes


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (9, "9 B"),
        (999, "999 B"),
        (1536, "1.5 kB"),
        (20480, "20 kB"),
        (1_500_000, "1.5 MB"),
        (82854982, "83 MB"),
        (3 * 10**12, "3.0 TB"),
    ],
)
def test_sizes_as_etcd_prints_them(count: int, text: str) -> None:
    assert human_bytes(count) == text
