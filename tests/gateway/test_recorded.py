"""A recorded set of requests, every method of the gateway, good and bad, answered alike by real etcd and ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from quorate.gateway.routes import PATHS
from tests.gateway.recorded import GROUPS, Body
from tests.gateway.twins import Side

pytestmark = [pytest.mark.oracle, pytest.mark.process]


def given(side: Side, what: Any) -> Any:
    """Return a body or headers, made of what the server has told us where it depends on that."""
    return what(side.memory) if isinstance(what, Callable) else what


def send(side: Side, path: str, body: Body, options: dict[str, Any]) -> tuple[int, dict[str, str], str]:
    sent = given(side, body)
    sent = sent.encode() if isinstance(sent, str) else sent
    headers = given(side, options.get("headers", {}))
    try:
        answer = side.ask(options.get("method", "POST"), path, sent, headers)
    except OSError as error:
        raise AssertionError(
            f"{side.member.kind}: {path} {str(body)[:100]}: {error!r}\n{side.member.log_tail()}"
        ) from error
    if "keep" in options:
        side.keep(options["keep"], answer)
    return side.seen(answer)


@pytest.mark.parametrize("group", GROUPS)
def test_answers_are_the_same(twins: list[Side], group: str) -> None:
    real, ours = twins
    different = []
    for name, path, body, options in GROUPS[group]:
        expected, answer = send(real, path, body, options), send(ours, path, body, options)
        if "later" in options:
            assert options["ours"] in answer[2], name
            assert answer != expected, name
        elif answer != expected:
            different.append(f"{name}: {str(given(real, body))[:100]}\n  real {expected}\n  ours {answer}"[:2000])
    assert not different, "\n".join(different)


def test_every_method_is_asked() -> None:
    asked = {path for group in GROUPS.values() for _, path, _, _ in group}
    known = {path for paths in PATHS.values() for path in paths}
    assert known - asked == {"/v3/maintenance/hashkv", "/v3/maintenance/snapshot"}, "those two have tests of their own"
