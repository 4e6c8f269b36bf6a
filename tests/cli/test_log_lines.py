"""Lines of the log beside real etcd's: requests at level debug, refused entries, outputs that cannot be."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.oracle import ROOT, Member, our_command, real_binary, running

pytestmark = [pytest.mark.process, pytest.mark.oracle]

TIMES = ("ts", "start time", "time spent", "took", "caller", "remote")


def lines_of(member: Member, message: str) -> list[dict[str, Any]]:
    """The lines with this message, without what differs from run to run; every line must be an object of JSON."""
    found = []
    for text in Path(member.log_path).read_text().splitlines():
        if member.kind == "real" and not text.startswith("{"):
            continue  # real etcd's gRPC library writes lines of its own
        line = json.loads(text)
        assert {"level", "ts", "caller", "msg"} <= set(line), text
        if line["msg"] == message:
            found.append({name: value for name, value in line.items() if name not in TIMES})
    return found


def work(member: Member) -> None:
    member.etcdctl("put", "a", "secret", "--prev-kv")
    member.etcdctl("put", "b", "x", "--lease=4d2")
    member.etcdctl("get", "a", "--prefix", "--limit=3", "--order=DESCEND", "--sort-by=KEY")
    member.etcdctl("get", "a", "--rev=100")
    member.etcdctl("txn", stdin='value("a") = "secret"\n\nput c "other secret"\nget c\n\ndel c\n\n')
    member.etcdctl("del", "a")
    member.etcdctl("lease", "grant", "60")
    member.etcdctl("compaction", "1000")


def test_requests_at_level_debug_are_said_as_real_etcd_says_them() -> None:
    said = {}
    for kind in ("real", "ours"):
        with running(kind, flags=["--log-level=debug"]) as member:
            work(member)
            said[kind] = [line for line in lines_of(member, "request stats") if "KV" in line["response type"]]
            assert "secret" not in "".join(json.dumps(line) for line in said[kind])
    for line in said["real"] + said["ours"]:
        # The response's header has ids of random length, and protobuf no zeros.
        assert isinstance(line.pop("response size"), int)
    health = [line for line in said["ours"] if line["response type"] == "/etcdserverpb.KV/Compact"]
    assert len(health) == 1
    assert said["ours"] == said["real"]


def test_a_slow_request_is_said_without_its_values() -> None:
    with running("ours", flags=["--warning-unary-request-duration=1ns"]) as member:
        work(member)
        said = lines_of(member, "request stats")
        assert {line["level"] for line in said} == {"warn"}
        assert said[0]["request content"] == 'key:"a" value_size:6 prev_kv:true '
        assert "secret" not in Path(member.log_path).read_text()


def test_a_refused_entry_is_said_as_real_etcd_says_it() -> None:
    said = {}
    for kind in ("real", "ours"):
        with running(kind) as member:
            work(member)
            said[kind] = lines_of(member, "failed to apply request")
    for line in said["real"] + said["ours"]:
        line["request"] = re.sub(r"ID:\d+", "ID:N", line["request"])
    assert said["ours"] == said["real"]
    assert len(said["ours"]) == 2


@pytest.mark.parametrize(
    "flags",
    [
        ["--log-outputs=systemd/journal,stderr"],
        ["--log-outputs=default,stderr"],
        ["--log-outputs=/none/such"],
        ["--enable-log-rotation"],
        ["--enable-log-rotation", "--log-outputs=a,b"],
        ["--enable-log-rotation", "--log-outputs=a", "--log-rotation-config-json={"],
        ["--enable-log-rotation", "--log-outputs=a", "--log-rotation-config-json=x"],
        ["--enable-log-rotation", "--log-outputs=a", '--log-rotation-config-json={"maxsize":1 "b":2}'],
    ],
    ids=["journal", "default", "missing", "no-file", "two-files", "cut-config", "no-json", "bad-json"],
)
def test_outputs_that_cannot_be(flags: list[str], tmp_path: Path) -> None:
    said = []
    for command in ([real_binary("etcd")], our_command()):
        done = subprocess.run(
            [*command, *flags], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env=_env()
        )
        assert done.returncode == 1
        lines = [json.loads(line) for line in done.stderr.splitlines()]
        said.append([line["error"] for line in lines if line["msg"] == "failed to verify flags"])
    assert said[1] == [error.removeprefix("couldn't ") for error in said[0]]  # as later versions of zap say it
    assert len(said[0]) == 1


@pytest.mark.skipif(Path("/run/systemd/journal/socket").exists(), reason="there is a journal here")
def test_a_missing_journal(tmp_path: Path) -> None:
    test_outputs_that_cannot_be(["--log-outputs=systemd/journal"], tmp_path)


def _env() -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}
    return {**env, "PYTHONPATH": str(ROOT / "src")}
