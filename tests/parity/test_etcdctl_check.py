"""`etcdctl check` passes on ours as on real etcd, and says so in the same words."""

from __future__ import annotations

import re

import pytest

from tests.oracle import running

pytestmark = [pytest.mark.oracle, pytest.mark.process, pytest.mark.slow]

CHECKS = {
    "perf": ["check", "perf"],
    "datascale": ["check", "datascale", "--auto-compact", "--auto-defrag"],
}


def verdicts(kind: str, words: list[str]) -> tuple[int, list[str]]:
    """Return the exit code and the lines behind the progress bar, without their numbers."""
    with running(kind) as member:
        done = member.etcdctl(*words, timeout=200)
        kept = member.etcdctl("get", "/etcdctl-check-", "--prefix", "--count-only", "-w", "fields").stdout
        assert '"Count" : 0' in kept
    print(f"{kind}: {done.stdout}")
    lines = re.findall("(?:PASS|FAIL|Start|Approx).*", done.stdout.replace("\r", "\n"))
    return done.returncode, [re.sub(r"\d+(\.\d+)?", "#", line) for line in lines]


@pytest.mark.parametrize("name", CHECKS)
def test_check(name: str) -> None:
    real, ours = (verdicts(kind, CHECKS[name]) for kind in ("real", "ours"))
    assert ours == real
    assert ours[0] == 0
    assert any(line.startswith("PASS") for line in ours[1])


def test_check_with_a_load_that_does_not_exist() -> None:
    outcomes = []
    for kind in ("real", "ours"):
        with running(kind) as member:
            done = member.etcdctl("check", "perf", "--load=nonsense")
            outcomes.append((done.returncode, done.stdout))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] != 0
