"""Measurements: plain integers that the rooms count up, and histograms; durations as Go prints them.

`http.metrics` reads them at scrape time.
"""

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
RPC_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


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


def format_duration(value: int) -> str:
    """Return nanoseconds as Go prints a time.Duration: "1h0m0s", "1.5s", "100ms", "0s"."""
    if value == 0:
        return "0s"
    sign, value = ("-", -value) if value < 0 else ("", value)
    if value < 10**9:
        for unit, scale in (("ms", 10**6), ("µs", 1000), ("ns", 1)):
            if value >= scale:
                return f"{sign}{_decimal(value, scale)}{unit}"
    seconds, nanos = divmod(value, 10**9)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    out = sign
    if hours:
        out += f"{hours}h"
    if hours or minutes:
        out += f"{minutes}m"
    return out + _decimal(seconds * 10**9 + nanos, 10**9) + "s"


def _decimal(value: int, scale: int) -> str:
    whole, fraction = divmod(value, scale)
    if not fraction:
        return str(whole)
    width = len(str(scale)) - 1
    return f"{whole}.{fraction:0{width}d}".rstrip("0")
