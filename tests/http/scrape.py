"""Reading /metrics: a scrape as families with their type, help text and samples."""

from __future__ import annotations

import re
import urllib.request
from dataclasses import dataclass, field

_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Labels = tuple[tuple[str, str], ...]


@dataclass
class Family:
    """One family; `samples` by the name of the series (with _bucket and so on) and its labels, in the order given."""

    kind: str
    help: str
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)


def parse(text: str) -> dict[str, Family]:
    """Return the families of a scrape by name; AssertionError for a line that is none."""
    families: dict[str, Family] = {}
    helps: dict[str, str] = {}
    family = Family("", "")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, _, helps_text = line[7:].partition(" ")
            helps[name] = helps_text
        elif line.startswith("# TYPE "):
            name, _, kind = line[7:].partition(" ")
            assert name not in families, f"{name} twice"
            family = families[name] = Family(kind, helps[name])
        else:
            found = _SAMPLE.match(line)
            assert found, line
            labels: Labels = tuple(_LABEL.findall(found[2] or ""))
            family.samples[found[1], labels] = float(found[3])
    return families


def scrape(url: str) -> dict[str, Family]:
    """Return what `url`/metrics holds."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=20) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return parse(answer.read().decode())


def value(families: dict[str, Family], name: str, **labels: str) -> float:
    """Return the sum of the samples of a counter, a gauge or a histogram's count that have these labels; 0 of none."""
    family = families.get(name.removesuffix("_count").removesuffix("_sum")) or families.get(name)
    if family is None:
        return 0
    return sum(
        number
        for (series, found), number in family.samples.items()
        if series == name and labels.items() <= dict(found).items()
    )
