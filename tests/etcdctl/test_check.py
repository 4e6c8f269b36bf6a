"""check perf and check datascale: the same words, bars and verdicts; the whole runs with `make slow` only."""

from __future__ import annotations

import re

import pytest

from tests.etcdctl.twins import Twins

pytestmark = [pytest.mark.oracle, pytest.mark.process]
STEP = re.compile(r"(?m)^ \d+ / \d+ +\d+\.\d\d%( \d\dm\d\ds| (\d+m)?\d+s)?")


@pytest.mark.parametrize("name", ["perf", "datascale"])
def test_a_prefix_with_keys(twins: Twins, name: str) -> None:
    twins.run("put", "p/1", "v", code=0)
    twins.run("check", name, "--prefix=p/", code=3)
    twins.run("check", name, "ignored", "--prefix=p/", "--load=small", code=3)
    twins.run("check", name, "--prefix=p/", "--load=xLarge", code=3)
    twins.run("check", name, "--endpoints=", "--prefix=p/", endpoint=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["perf", "datascale"])
def test_check(twins: Twins, name: str) -> None:
    shown = []
    for tool in twins.tools:  # one after the other: they measure
        done = tool.run(["check", name, "--auto-compact", "--auto-defrag", "--prefix=c/"], limit_s=300)
        assert done.code == 0, done
        # The real one may say what comes next before its bar is full, and on the bar's line.
        out = done.stdout.replace("\r", "\n")
        steps = [match[0] for match in STEP.finditer(out)]
        assert steps[0].endswith("  0.00%")
        assert tool is twins.real or "100.00%" in steps[-1]
        rest = [tool.side.normal(line) for line in STEP.sub("\n", out).splitlines() if line]
        shown.append([re.sub(r"\d+(\.\d+)?", "#", line) for line in rest])
    assert shown[1] == shown[0]
    assert shown[2] == shown[0]
    for tool in twins.tools:  # how many keys there were is a matter of speed
        assert '"Count" : 0' in tool.run(["get", "c/", "--prefix", "--count-only", "-w", "fields"]).stdout
