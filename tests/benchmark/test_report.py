"""The report in the words and by the rules of etcd's pkg/report."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from quorate.cli.benchmark.report import BAR, PERCENTILES, Report, go_float, percentiles


def made(latencies: list[float], precise: bool = False, total: float = 2.0) -> Report:
    report = Report("put", precise)
    for each in latencies:
        report.add(0.0, each)
    report.total = total
    return report


def test_text() -> None:
    report = made([0.001] * 6 + [0.002] * 3 + [0.011])
    report.fail("etcdserver: request timed out")
    bars = [6, 3, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    bounds = [f"{0.001 + 0.001 * index:.4f}" for index in range(11)]
    histogram = "".join(f"  {bound} [{n}]\t|{BAR * (n * 40 // 6)}\n" for bound, n in zip(bounds, bars, strict=True))
    assert report.text() == (
        "\nSummary:\n  Total:\t2.0000 secs.\n  Slowest:\t0.0110 secs.\n  Fastest:\t0.0010 secs.\n"
        "  Average:\t0.0023 secs.\n  Stddev:\t0.0029 secs.\n  Requests/sec:\t5.0000\n"
        f"\nResponse time histogram:\n{histogram}"
        "\nLatency distribution:\n  10% in 0.0010 secs.\n  25% in 0.0010 secs.\n  50% in 0.0010 secs.\n"
        "  75% in 0.0020 secs.\n  90% in 0.0110 secs.\n"
        "\nError distribution:\n  [1]\tetcdserver: request timed out\n"
    )


def test_nothing_but_errors() -> None:
    report = made([])
    report.fail("a")
    report.fail("a")
    assert report.text() == "\nError distribution:\n  [2]\ta\n"
    assert made([]).text() == ""


def go_histogram(ordered: list[float]) -> list[int]:
    """The counts by the loop of pkg/report."""
    step = (ordered[-1] - ordered[0]) / 10
    buckets = [ordered[0] + step * index for index in range(10)] + [ordered[-1]]
    counts = [0] * 11
    at = bucket = 0
    while at < len(ordered):
        if ordered[at] <= buckets[bucket]:
            at += 1
            counts[bucket] += 1
        elif bucket < 10:
            bucket += 1
    return counts


def test_histogram_and_percentiles_by_the_loops_of_the_original() -> None:
    source = random.Random(7)
    for size in (1, 2, 3, 9, 10, 11, 100, 1001):
        ordered = sorted(source.expovariate(100) for _ in range(size))
        text = made(ordered).text()
        shown = [int(line.split("[")[1].split("]")[0]) for line in text.splitlines() if "\t|" in line]
        assert shown == go_histogram(ordered)
        wanted = []
        for at, value in enumerate(ordered):
            if len(wanted) < len(PERCENTILES) and at * 100.0 / size >= PERCENTILES[len(wanted)]:
                wanted.append(value)
        assert percentiles(ordered)[: len(wanted)] == wanted


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.1"), (2.0, "2"), (1e-05, "1e-05"), (1234567.5, "1.2345675e+06"), (2e6, "2e+06"), (0.0001, "0.0001")],
)
def test_precise_numbers_are_those_of_g(value: float, text: str) -> None:
    assert go_float(value, True) == text


def test_samples_fill_the_seconds_in_between() -> None:
    report = Report("put", sample=True)
    report._clock = 100.0
    for began, ended in ((0.1, 0.2), (0.5, 0.8), (2.0, 2.0015)):
        report.add(began, ended)
    report.total = 3.0
    rows = report.text().split("(unix latency throughput):\n")[1].splitlines()
    assert rows[0] == "UNIX-SECOND,MIN-LATENCY-MS,AVG-LATENCY-MS,MAX-LATENCY-MS,AVG-THROUGHPUT"
    assert rows[2] == "101,0s,0s,0s,0"
    assert [row.split(",")[0] for row in rows[1:4]] == ["100", "101", "102"]
    assert [row.split(",")[-1] for row in rows[1:4]] == ["2", "0", "1"]


def test_perfdash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTS", str(tmp_path / "a"))
    path = made([0.001] * 50 + [0.004] * 50).write_perfdash()
    found = json.loads(Path(path).read_text())
    data = {"Perc50": 4.0, "Perc90": 4.0, "Perc99": 4.0}
    assert found == {"version": "v1", "dataItems": [{"data": data, "labels": {"Operation": "PUT"}, "unit": "ms"}]}
