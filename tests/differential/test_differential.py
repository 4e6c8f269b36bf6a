"""Random requests of every KV, Lease, Watch and Maintenance RPC get equal answers from real etcd and ours.

A bounded budget runs here; `make differential` runs this module with QUORATE_DIFFERENTIAL_EXAMPLES set high.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from quorate.proto import rpc_pb2 as pb
from tests.differential.runner import KV, MAINTENANCE, Runner
from tests.differential.steps import Step, steps
from tests.oracle import running

pytestmark = [pytest.mark.oracle, pytest.mark.process]

EXAMPLES = int(os.environ.get("QUORATE_DIFFERENTIAL_EXAMPLES", "25"))
LONGEST = 60 if EXAMPLES < 500 else 250


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with running("real") as real, running("ours") as ours:
        run = Runner(real, ours)
        yield run
        run.close()
        print(f"\n{run.operations} operations compared")


@given(st.lists(steps, min_size=LONGEST // 2, max_size=LONGEST))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # the servers go on from where they are, so a failing example cannot be made smaller
)
def test_equal_answers(runner: Runner, sequence: list[Step]) -> None:
    runner.reset()
    for step in sequence:
        step.run(runner)
    runner.settle()
    runner.call(KV + "Range", pb.RangeRequest(key=b"\0", range_end=b"\0"))
    runner.call(MAINTENANCE + "HashKV", pb.HashKVRequest())
