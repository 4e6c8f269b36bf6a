"""What a run took, in the words of etcd's tool (etcd: pkg/report). Times are seconds."""

from __future__ import annotations

import json
import os
import time
from array import array
from bisect import bisect_right
from collections import Counter

from quorate.runtime.duration import format_duration

PERCENTILES = (10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
BAR = "∎"
BAR_LENGTH = 40
BUCKETS = 10


def go_float(value: float, precise: bool) -> str:
    """Return a number as the report prints it: %4.4f, or Go's %g: all digits, with an exponent from a million on."""
    if not precise:
        return f"{value:4.4f}"
    for places in range(17):
        text = f"{value:.{places}e}"
        if float(text) == value:
            break
    return text if abs(value) >= 1e6 or 0 < abs(value) < 1e-4 else repr(value).removesuffix(".0")


class Report:
    """Collects the durations and errors of one kind of operation, from `start` to `finish`."""

    def __init__(self, operation: str, precise: bool = False, sample: bool = False) -> None:
        self.operation = operation
        self.latencies = array("d")
        self.errors: Counter[str] = Counter()
        self.total = 0.0
        self._precise = precise
        self._seconds: dict[int, list[float]] | None = {} if sample else None
        self.start()

    def start(self) -> None:
        """The total time begins now."""
        self._began = time.perf_counter()
        self._clock = time.time() - self._began

    def add(self, began: float, ended: float) -> None:
        """Count a success; both are of time.perf_counter."""
        self.latencies.append(ended - began)
        if self._seconds is not None:
            self._seconds.setdefault(int(began + self._clock), []).append(ended - began)

    def fail(self, text: str) -> None:
        """Count a failure."""
        self.errors[text] += 1

    def finish(self) -> None:
        """The total time ends now."""
        self.total = time.perf_counter() - self._began

    @property
    def per_second(self) -> float:
        """Return successes a second."""
        return len(self.latencies) / self.total

    def text(self) -> str:
        """Return the report. It begins with an empty line."""
        ordered = sorted(self.latencies)
        out = ""
        if ordered:
            average = sum(ordered) / len(ordered)
            deviation = (sum([(each - average) ** 2 for each in ordered]) / len(ordered)) ** 0.5
            rows = (("Total", self.total), ("Slowest", ordered[-1]), ("Fastest", ordered[0]))
            out = "\nSummary:\n"
            for name, value in (*rows, ("Average", average), ("Stddev", deviation)):
                out += f"  {name}:\t{self._secs(value)}.\n"
            out += f"  Requests/sec:\t{go_float(self.per_second, self._precise)}\n"
            out += self._histogram(ordered) + self._distribution(ordered) + self._samples()
        if self.errors:
            out += "\nError distribution:\n" + "".join(f"  [{count}]\t{text}\n" for text, count in self.errors.items())
        return out

    def _secs(self, value: float) -> str:
        return f"{go_float(value, self._precise)} secs"

    def _histogram(self, ordered: list[float]) -> str:
        step = (ordered[-1] - ordered[0]) / BUCKETS
        bounds = [ordered[0] + step * index for index in range(BUCKETS)] + [ordered[-1]]
        ends = [bisect_right(ordered, bound) for bound in bounds[:-1]] + [len(ordered)]
        counts = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        most = max(counts)
        out = "\nResponse time histogram:\n"
        for bound, count in zip(bounds, counts, strict=True):
            out += f"  {go_float(bound, self._precise)} [{count}]\t|{BAR * (count * BAR_LENGTH // most)}\n"
        return out

    def _distribution(self, ordered: list[float]) -> str:
        out = "\nLatency distribution:\n"
        for percent, value in zip(PERCENTILES, percentiles(ordered), strict=True):
            if value > 0:
                out += f"  {percent:g}% in {self._secs(value)}.\n"
        return out

    def _samples(self) -> str:
        if self._seconds is None:
            return ""
        out = "\nSample in one second (unix latency throughput):\n"
        out += "UNIX-SECOND,MIN-LATENCY-MS,AVG-LATENCY-MS,MAX-LATENCY-MS,AVG-THROUGHPUT\n"
        for second in range(min(self._seconds), max(self._seconds) + 1):
            found = self._seconds.get(second, [])
            shown = (min(found), sum(found) / len(found), max(found)) if found else (0.0, 0.0, 0.0)
            out += f"{second},{','.join(format_duration(int(each * 1e9)) for each in shown)},{len(found)}\n"
        return out + "\n"

    def write_perfdash(self) -> str:
        """Write the percentiles where perfdash looks for them ($ARTIFACTS, ./_artifacts); return the path."""
        found = dict(zip(PERCENTILES, percentiles(sorted(self.latencies)), strict=True))
        data = {f"Perc{percent:.0f}": round(found[percent] * 1000, 4) for percent in (50.0, 90.0, 99.0)}
        item = {"data": data, "labels": {"Operation": self.operation.upper()}, "unit": "ms"}
        folder = os.environ.get("ARTIFACTS") or "./_artifacts"
        os.makedirs(folder, exist_ok=True)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        path = os.path.join(folder, f"EtcdAPI_benchmark_{self.operation}_{stamp}.json")
        with open(path, "w") as file:
            file.write(json.dumps({"version": "v1", "dataItems": [item]}, indent=2))
        return path


def percentiles(ordered: list[float]) -> list[float]:
    """Return the values at PERCENTILES as etcd's report takes them; 0 where there are too few values."""
    found: list[float] = []
    count = len(ordered)
    for at, value in enumerate(ordered):
        if len(found) == len(PERCENTILES):
            break
        if at * 100.0 / count >= PERCENTILES[len(found)]:
            found.append(value)
    return found + [0.0] * (len(PERCENTILES) - len(found))
