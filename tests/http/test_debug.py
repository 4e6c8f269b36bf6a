"""/debug/vars, /debug/pprof and /config/local/log, as etcd answers them where it can be compared."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.oracle import Member, running

pytestmark = pytest.mark.process


def get(url: str, method: str = "GET", body: bytes | None = None) -> tuple[int, str, bytes]:
    """Return status, content type and body."""
    request = urllib.request.Request(url, body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers.get("Content-Type", ""), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get("Content-Type", ""), error.read()


@pytest.fixture(scope="module")
def profiled() -> Iterator[Member]:
    with running("ours", flags=["--enable-pprof"]) as member:
        yield member


def shape(value: Any) -> Any:
    """The names and types of an object, without what identifies a member."""
    if isinstance(value, dict):
        return {name if len(name) < 14 or "." in name else "ID": shape(one) for name, one in value.items()}
    return type(value).__name__


@pytest.mark.oracle
def test_vars_have_the_form_of_real_etcd_s(profiled: Member) -> None:
    found = {}
    with running("real") as real:
        for member in (real, profiled):
            status, kind, body = get(f"{member.url}/debug/vars")
            assert (status, kind) == (200, "application/json; charset=utf-8")
            found[member.kind] = json.loads(body)
    ours = found["ours"]
    assert list(ours) == list(found["real"])
    assert shape(ours) == shape(found["real"])
    assert any(word.startswith("--data-dir=") for word in ours["cmdline"])
    raft = ours["raft.status"]
    assert raft["raftState"] == "StateLeader"
    assert raft["id"] == raft["lead"] == raft["vote"] == next(iter(raft["progress"]))
    index = raft["commit"]
    assert raft["progress"][raft["id"]] == {"match": index, "next": index + 1, "state": "StateReplicate"}


@pytest.mark.oracle
def test_without_the_setting_there_are_no_profiles() -> None:
    for kind in ("real", "ours"):
        with running(kind) as member:
            for path in ("/debug/pprof/", "/debug/pprof/goroutine", "/config/local/log"):
                assert get(f"{member.url}{path}")[0] == 404, (kind, path)


@pytest.mark.parametrize(
    ("path", "holds"),
    [
        ("", b"profile?seconds"),
        ("/", b"profile?seconds"),
        ("/cmdline", b"--data-dir="),
        ("/goroutine", b"threads: "),
        ("/goroutine?debug=2", b"thread MainThread:\n"),
        ("/threadcreate", b"MainThread "),
        ("/heap", b"allocated blocks: "),
        ("/allocs?seconds=0.2", b"allocated within 0.2 s"),
        ("/profile?seconds=0.3", b"etcd.py:main;etcd.py:run;"),
    ],
)
def test_a_profile(profiled: Member, path: str, holds: bytes) -> None:
    status, _, body = get(f"{profiled.url}/debug/pprof{path}")
    assert status == 200
    assert holds in body


@pytest.mark.parametrize("seconds", ["x", "0", "-1", "301"])
def test_a_profile_of_a_senseless_time_is_refused(profiled: Member, seconds: str) -> None:
    assert get(f"{profiled.url}/debug/pprof/profile?seconds={seconds}")[0] == 400


def test_the_log_level_can_be_changed(profiled: Member) -> None:
    url = f"{profiled.url}/config/local/log"
    assert get(url)[0] == 405
    assert get(url, "PUT", b"x")[::2] == (400, b'{"message":"Invalid json body"}')
    assert get(url, "PUT", b'{"Level":"FOO"}')[::2] == (400, b'{"message":"Invalid log level FOO"}')
    profiled.etcdctl("put", "before", "x")
    assert get(url, "PUT", b'{"Level":"DEBUG"}')[0] == 204
    profiled.etcdctl("put", "during", "x")
    assert get(url, "PUT", b'{"Level":"INFO"}')[0] == 204
    profiled.etcdctl("put", "after", "x")
    with open(profiled.log_path, encoding="utf-8") as file:
        stats = [line for line in map(json.loads, file) if line["msg"] == "request stats"]
    assert [line["request content"] for line in stats] == ['key:"during" value_size:1 ']
    assert stats[0]["level"] == "debug"
    assert stats[0]["response type"] == "/etcdserverpb.KV/Put"
