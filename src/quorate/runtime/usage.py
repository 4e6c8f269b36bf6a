"""What the process uses: memory, CPU time, file descriptors, garbage collection. Linux; elsewhere less is known.

The families go_* describe Go's runtime. Those that have a counterpart in CPython are given its number, so that a
dashboard of Go programs shows something true; the others are 0:

    go_goroutines                        asyncio's tasks and the threads
    go_gc_duration_seconds, last_gc_..   pauses of the cyclic collector (the last 256 for the quantiles)
    go_memstats_{,heap_}alloc_bytes      anonymous resident memory
    go_sched_gomaxprocs_threads          1: one thread at a time runs Python
    go_gc_gogc_percent, gomemlimit_bytes Go's defaults, for there is nothing to set
    go_memstats_heap_objects             blocks allocated by Python's allocator
    go_memstats_sys, heap_sys, stack_*   sizes of the data and stack segments

Source of the names: the Prometheus client library for Go; numbers from /proc/self.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import time
from collections import deque
from typing import Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_UNLIMITED: Final = float((1 << 64) - 1)
_PAUSES_KEPT: Final = 256
_NOT_IN_PYTHON: Final = (
    "alloc_bytes_total", "buck_hash_sys_bytes", "frees_total", "gc_sys_bytes", "lookups_total", "mallocs_total",
    "mcache_inuse_bytes", "mcache_sys_bytes", "mspan_inuse_bytes", "mspan_sys_bytes", "next_gc_bytes",
    "other_sys_bytes",
)  # fmt: skip


class GcPauses:
    """How long the cyclic garbage collector stopped everything. One for the process, which has one collector."""

    def __init__(self) -> None:
        self.count = 0
        self.total_s = 0.0
        self.last_time_s = 0.0
        self.recent: deque[float] = deque(maxlen=_PAUSES_KEPT)
        self._began = 0.0
        self._began_process = time.monotonic()

    def watch(self) -> None:
        """Begin to measure; harmless when that is so already."""
        if self._on_gc not in gc.callbacks:
            gc.callbacks.append(self._on_gc)

    def _on_gc(self, phase: str, _info: dict[str, int]) -> None:
        now = time.monotonic()
        if phase == "start":
            self._began = now
        elif self._began:
            self.count += 1
            self.total_s += now - self._began
            self.last_time_s = time.time()
            self.recent.append(now - self._began)

    def summary(self) -> tuple[list[tuple[float, float]], float, int]:
        """Return (quantile, seconds) pairs, the sum and the count."""
        ordered = sorted(self.recent) or [0.0]
        last = len(ordered) - 1
        return [(at, ordered[round(at * last)]) for at in (0.0, 0.25, 0.5, 0.75, 1.0)], self.total_s, self.count

    def fraction(self) -> float:
        """Return the part of the time that went into collecting."""
        return self.total_s / max(time.monotonic() - self._began_process, 1e-9)


PAUSES: Final = GcPauses()


def _limit(which: int) -> float:
    soft = resource.getrlimit(which)[0]
    return _UNLIMITED if soft in (resource.RLIM_INFINITY, -1) else float(soft)


def _boot_time() -> float:
    with open("/proc/stat", "rb") as file:
        for line in file:
            if line.startswith(b"btime "):
                return float(line.split()[1])
    return 0.0


def _status() -> dict[str, float]:
    """Return the numbers of /proc/self/status, in bytes where the kernel gives kB."""
    found: dict[str, float] = {}
    with open("/proc/self/status", "rb") as file:
        for line in file:
            name, _, value = line.decode().partition(":")
            words = value.split()
            if words and words[0].isdigit():
                found[name] = float(words[0]) * (1024 if words[-1] == "kB" else 1)
    return found


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return 0


def memory_usage() -> dict[str, float]:
    """Return what go_memstats_* report, by their names without that prefix; see above for what they mean here."""
    usage = dict.fromkeys(_NOT_IN_PYTHON, 0.0)
    status = _status() if sys.platform.startswith("linux") else {}
    in_use, data, stack = status.get("RssAnon", 0.0), status.get("VmData", 0.0), status.get("VmStk", 0.0)
    usage["alloc_bytes"] = usage["heap_alloc_bytes"] = usage["heap_inuse_bytes"] = in_use
    usage["heap_sys_bytes"] = data
    usage["heap_idle_bytes"] = usage["heap_released_bytes"] = max(data - in_use, 0.0)
    usage["heap_objects"] = float(sys.getallocatedblocks())
    usage["stack_inuse_bytes"] = usage["stack_sys_bytes"] = stack
    usage["sys_bytes"] = data + stack
    usage["last_gc_time_seconds"] = PAUSES.last_time_s
    usage["gc_cpu_fraction"] = PAUSES.fraction()
    return usage


def process_usage() -> dict[str, float]:
    """Return the value of each family by its name."""
    usage = {
        "process_max_fds": _limit(resource.RLIMIT_NOFILE),
        "process_virtual_memory_max_bytes": _limit(resource.RLIMIT_AS),
    }
    usage["os_fd_limit"] = usage["process_max_fds"]
    times = os.times()
    usage["process_cpu_seconds_total"] = round(times.user + times.system, 2)
    usage.update({f"go_memstats_{name}": value for name, value in memory_usage().items()})
    usage["go_goroutines"] = float(_tasks())
    usage["go_sched_gomaxprocs_threads"] = 1
    usage["go_gc_gogc_percent"] = 100
    usage["go_gc_gomemlimit_bytes"] = float((1 << 63) - 1)
    if not sys.platform.startswith("linux"):
        return usage
    with open("/proc/self/stat", "rb") as file:
        # The second field is the command in parentheses, and may hold anything.
        fields = file.read().rpartition(b")")[2].split()
    usage["go_threads"] = float(fields[17])
    usage["go_goroutines"] += usage["go_threads"]
    usage["process_virtual_memory_bytes"] = float(fields[20])
    usage["process_resident_memory_bytes"] = float(fields[21]) * _PAGE
    usage["process_start_time_seconds"] = _boot_time() + float(fields[19]) / _TICKS
    usage["process_open_fds"] = usage["os_fd_used"] = float(len(os.listdir("/proc/self/fd")))
    return usage


def go_memory_stats() -> dict[str, object]:
    """Return the same as /debug/vars shows it, by the names of Go's runtime.MemStats."""
    usage = memory_usage()
    stats: dict[str, object] = {
        "".join(part.capitalize() for part in name.removesuffix("_bytes").split("_")): int(value)
        for name, value in usage.items()
        if name not in ("alloc_bytes_total", "last_gc_time_seconds", "gc_cpu_fraction", "next_gc_bytes")
        and not name.endswith("_total")
        and not name.startswith(("mspan", "mcache"))
    }
    for name in ("TotalAlloc", "Lookups", "Mallocs", "Frees", "MSpanInuse", "MSpanSys", "MCacheInuse", "MCacheSys"):
        stats[name] = 0
    stats["GCSys"] = stats.pop("GcSys")
    stats["NextGC"] = 0
    stats["LastGC"] = int(PAUSES.last_time_s * 1e9)
    stats["PauseTotalNs"] = int(PAUSES.total_s * 1e9)
    stats["PauseNs"] = [int(pause * 1e9) for pause in reversed(PAUSES.recent)]
    stats["PauseEnd"] = []
    stats["NumGC"] = PAUSES.count
    stats["NumForcedGC"] = 0
    stats["GCCPUFraction"] = PAUSES.fraction()
    stats["EnableGC"] = gc.isenabled()
    stats["DebugGC"] = bool(gc.get_debug())
    stats["BySize"] = []
    return stats


def descriptor_limit() -> int:
    """Return how many files the process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
