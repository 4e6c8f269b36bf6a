"""What the process uses: memory, CPU time, file descriptors, for the process_* metrics. Linux; elsewhere less is known.

Source of the names: the Prometheus client library for Go (process_collector); numbers from /proc/self.
"""

from __future__ import annotations

import os
import resource
import sys
from typing import Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_UNLIMITED: Final = float((1 << 64) - 1)


def _limit(which: int) -> float:
    soft = resource.getrlimit(which)[0]
    return _UNLIMITED if soft in (resource.RLIM_INFINITY, -1) else float(soft)


def _boot_time() -> float:
    with open("/proc/stat", "rb") as file:
        for line in file:
            if line.startswith(b"btime "):
                return float(line.split()[1])
    return 0.0


def process_usage() -> dict[str, float]:
    """Return the value of each family by its name."""
    usage = {
        "process_max_fds": _limit(resource.RLIMIT_NOFILE),
        "process_virtual_memory_max_bytes": _limit(resource.RLIMIT_AS),
    }
    times = os.times()
    usage["process_cpu_seconds_total"] = round(times.user + times.system, 2)
    if not sys.platform.startswith("linux"):
        return usage
    with open("/proc/self/stat", "rb") as file:
        # The second field is the command in parentheses, and may hold anything.
        fields = file.read().rpartition(b")")[2].split()
    usage["process_virtual_memory_bytes"] = float(fields[20])
    usage["process_resident_memory_bytes"] = float(fields[21]) * _PAGE
    usage["process_start_time_seconds"] = _boot_time() + float(fields[19]) / _TICKS
    usage["process_open_fds"] = float(len(os.listdir("/proc/self/fd")))
    return usage
