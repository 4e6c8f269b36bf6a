"""No command and no flag of the real etcdctl is left out: each has a run here or a test elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.etcdctl import matrix
from tests.etcdctl.matrix import ELSEWHERE, GLOBALS, HOLES, RUNS, Run
from tests.etcdctl.twins import Twins

pytestmark = [pytest.mark.oracle, pytest.mark.process]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def filled(twins: Twins) -> Twins:
    for number in range(1, 4):
        twins.run("put", f"k/{number}", f"v{number}", code=0)
    return twins


def compare(twins: Twins, before: list[str], run: Run) -> None:
    words = [*before, *run.words.split()]
    endpoint = "--endpoints" not in run.words
    if run.only_code:
        found = twins.all(*words, stdin=run.stdin, env=dict(run.env), endpoint=endpoint)
        assert [each.code for each in found] == 3 * [found[0].code], words
    else:
        twins.run(*words, stdin=run.stdin, env=dict(run.env), endpoint=endpoint, sort=run.sort)


@pytest.mark.parametrize("command", list(RUNS))
def test_command(filled: Twins, command: str) -> None:
    for run in RUNS[command]:
        compare(filled, command.split(), run)


@pytest.mark.parametrize("flag", list(GLOBALS))
def test_global_flag(filled: Twins, flag: str) -> None:
    for run in GLOBALS[flag]:
        compare(filled, [], run)


def test_nothing_is_left_out() -> None:
    """A hole needs a reason in HOLES, and a reason needs a hole."""
    names = {"": ["", *matrix.real_flags("")]}
    for command in matrix.real_commands():
        names[command] = ["", *matrix.real_flags(command)]
    nowhere = [
        f"{command} --{flag}" if flag else command
        for command, flags in names.items()
        for flag in flags
        if (command or flag) and not matrix.proof(command, flag)
    ]
    assert nowhere == []
    assert set(RUNS) | set(ELSEWHERE) | set(HOLES) <= {
        *names, *names[""], *[f"{command} --{flag}" for command, flags in names.items() for flag in flags if command],
    }  # fmt: skip


def test_the_named_tests_exist() -> None:
    for where in {*ELSEWHERE.values()}:
        file, _, test = where.partition("::")
        assert f"\ndef {test}(" in (HERE / file).read_text(), where


def test_ours_has_every_flag_and_3_6s_more() -> None:
    """What our tool has beyond 3.5.1's is 3.6's, and is named."""
    from quorate.cli.etcdctl.commands import GLOBAL_FLAGS, ROOT, Command

    def walk(command: Command, path: str) -> dict[str, set[str]]:
        found = {} if command.commands else {path: {flag.name for flag in command.flags}}
        for each in command.commands:
            below = walk(each, f"{path} {each.name}".strip())
            inherited = set() if command is ROOT else {flag.name for flag in command.flags}
            found |= {name: flags | inherited for name, flags in below.items()}
        return found

    ours = walk(ROOT, "")
    real = {command: set(matrix.real_flags(command)) for command in matrix.real_commands()}
    assert set(ours) - set(real) == set(matrix.NEW_IN_3_6)
    assert set(real) <= set(ours)
    more = {command: ours[command] - flags for command, flags in real.items() if ours[command] != flags}
    assert all(flags <= ours[command] for command, flags in real.items())
    assert more == {
        "del": {"range"},
        "get": {"min-create-rev", "max-create-rev", "min-mod-rev", "max-mod-rev"},
        "make-mirror": {"rev", "max-txn-ops"},
        "member list": {"consistency"},
        "snapshot restore": {"bump-revision", "mark-compacted", "initial-memory-map-size"},
    }
    assert {flag.name for flag in GLOBAL_FLAGS} - set(matrix.real_flags("")) == {"max-recv-bytes", "max-request-bytes"}
