"""Measurements: plain integers that the rooms count up, and histograms. `http.metrics` reads them at scrape time."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final


def exponential(start: float, factor: float, count: int) -> tuple[float, ...]:
    """Return `count` bucket bounds, each `factor` times the one before (prometheus: ExponentialBuckets)."""
    bounds = []
    for _ in range(count):
        bounds.append(start)
        start *= factor
    return tuple(bounds)


# The bucket sets that etcd uses, by the letters of its metrics.
DISK_SECONDS: Final = exponential(0.001, 2, 14)
DEFRAG_SECONDS: Final = exponential(0.1, 2, 13)
SNAPSHOT_SECONDS: Final = exponential(0.01, 2, 17)
HASH_SECONDS: Final = exponential(0.01, 2, 15)
APPLY_SECONDS: Final = exponential(0.0001, 2, 20)
ROUND_TRIP_SECONDS: Final = exponential(0.0001, 2, 16)


class Histogram:
    """Counts of observations by upper bound. `counts` has one more place than `bounds`, for the rest."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value (seconds, unless the metric says otherwise)."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value
