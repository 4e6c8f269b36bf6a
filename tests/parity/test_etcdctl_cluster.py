"""The real etcdctl prints the same for ours as for real etcd: leases, locks, members, maintenance, mirror."""

from __future__ import annotations

import json
import re
import subprocess
import time

import pytest

from tests.oracle import real_binary, running
from tests.parity.pair import Pair

pytestmark = [pytest.mark.oracle, pytest.mark.process]


def test_lease(pair: Pair) -> None:
    outcomes = pair.run("lease", "grant", "600", code=0)
    pair.save("lease", r"lease (\w+) granted", outcomes)
    pair.run("put", "leased", "v", "--lease={lease}")
    pair.run("put", "leased2", "v", "--lease={lease}")
    pair.run("get", "leased", "-w", "fields")
    time.sleep(1)
    for mode in ("simple", "json"):
        outcomes = pair.both("lease", "timetolive", "{lease}", "-w", mode)
        for outcome in outcomes:
            assert "59" in outcome.stdout, outcome
        outcomes = pair.both("lease", "timetolive", "{lease}", "--keys", "-w", mode)
        for outcome in outcomes:
            assert "leased2" in outcome.stdout or "bGVhc2VkMg==" in outcome.stdout
    pair.run("lease", "list", code=0)
    pair.run("lease", "list", "-w", "json")
    pair.run("lease", "keep-alive", "{lease}", "--once", code=0)
    pair.run("lease", "keep-alive", "1234", "--once")
    pair.run("lease", "revoke", "{lease}", code=0)
    pair.run("lease", "revoke", "{lease}", code=1)
    pair.run("get", "leased")
    pair.run("lease", "timetolive", "{lease}")
    pair.run("lease", "timetolive", "{lease}", "-w", "json")
    pair.run("lease", "keep-alive", "{lease}")
    pair.run("lease", "grant", "9000000001", code=1)
    pair.run("lease", "grant", "0")
    pair.run("lease", "grant", "abc")
    pair.run("lease", "revoke", "zzz")
    pair.run("lease", "list")


def test_lease_keep_alive_prints(pair: Pair) -> None:
    outcomes = pair.run("lease", "grant", "3")
    pair.save("short", r"lease (\w+) granted", outcomes)
    jobs = pair.background("lease", "keep-alive", "{short}")
    pair.finish(jobs, 2)


def test_lease_expires(pair: Pair) -> None:
    outcomes = pair.run("lease", "grant", "2")
    pair.save("dying", r"lease (\w+) granted", outcomes)
    pair.run("put", "short lived", "v", "--lease={dying}")
    time.sleep(4.5)
    pair.run("get", "short lived")
    pair.run("lease", "timetolive", "{dying}")


def test_lock(pair: Pair) -> None:
    pair.run("lock", "mutex", "echo", "inside", code=0)
    jobs = pair.background("lock", "mutex")
    for job in jobs:
        job.wait_lines(1)
    waiting = pair.background("lock", "mutex", "--ttl=10")
    time.sleep(0.5)
    pair.finish(jobs, 1)
    pair.finish(waiting, 1)
    pair.run("get", "mutex", "--prefix", "--count-only", "-w", "fields")
    pair.run("lock")


def test_elect(pair: Pair) -> None:
    jobs = pair.background("elect", "office", "first")
    for job in jobs:
        job.wait_lines(2)
    seen = pair.background("elect", "office", "--listen")
    for job in seen:
        job.wait_lines(2)
    rivals = pair.background("elect", "office", "second")
    time.sleep(0.5)
    pair.finish(jobs, 2)
    pair.finish(rivals, 2)
    pair.finish(seen, 4)
    pair.run("elect")


def test_members_and_endpoints(pair: Pair) -> None:
    for mode in ("simple", "table", "json", "fields"):
        pair.run("member", "list", "-w", mode, code=0)
    pair.run("member", "list", "--hex", "-w", "json")
    pair.run("endpoint", "health", code=0)
    pair.run("endpoint", "health", "--cluster")
    pair.run("endpoint", "health", "-w", "json")
    for mode in ("simple", "table"):
        real, ours = pair.both("endpoint", "status", "-w", mode)
        for side, outcome in zip(pair.sides, (real, ours), strict=True):
            outcome.stdout = re.sub(r"[\d.]+ [kM]?B|\b\d+\b|[-+ ]", "#", side.normal(outcome.stdout))
            outcome.stdout = re.sub("#+", "#", outcome.stdout)
        assert ours == real
    pair.run("endpoint", "status", "-w", "json")
    pair.run("endpoint", "status", "-w", "fields")
    pair.run("member", "remove", "1234", code=1)
    pair.run("member", "remove", "xyz")
    pair.run("member", "promote", "1234", code=1)
    pair.run("member", "update", "1234", "--peer-urls=http://127.0.0.1:1", code=1)
    pair.run("member", "add", "m2", "--peer-urls=http://127.0.0.1:1/path")
    pair.run("member", "add", "m2", "--peer-urls=notaurl")
    pair.run("move-leader", "1234")


def test_maintenance(pair: Pair) -> None:
    pair.run("put", "some", "thing")
    pair.run("defrag", code=0)
    pair.run("get", "some")
    pair.run("alarm", "list", code=0)
    pair.run("alarm", "disarm", code=0)
    pair.run("auth", "status")
    pair.run("snapshot", "save", "backup.db", code=0)
    for side in pair.sides:
        run = subprocess.run(
            [real_binary("etcdutl"), "snapshot", "status", f"{side.member.owned}/backup.db", "-w", "json"],
            capture_output=True,
            text=True,
            check=True,
        )
        status = json.loads(run.stdout)
        outcome = side.member.etcdctl("get", "some", "-w", "json")
        assert status["revision"] == json.loads(outcome.stdout)["header"]["revision"]
    real, ours = pair.both("snapshot", "status", "backup.db", "-w", "json")
    assert json.loads(real.stdout).keys() == json.loads(ours.stdout).keys()
    pair.run("snapshot", "save", "/nonexistent/dir/backup.db")


def test_no_space_alarm() -> None:
    both = Pair(flags=["--quota-backend-bytes=1000000"])
    try:
        both.start()
        for side in both.sides:
            # How many fit depends on how the batch commits fall, in either server.
            for number in range(10):
                if side.member.etcdctl("put", f"big{number}", stdin="x" * 300_000).returncode != 0:
                    break
                time.sleep(0.3)
        both.run("put", "one more", stdin="x" * 300_000, code=1)
        both.run("put", "small", "x", code=1)
        both.run("alarm", "list", code=0)
        both.run("get", "big0", "--keys-only")
        both.run("lease", "grant", "60", code=1)
        for side in both.sides:
            assert side.member.etcdctl("del", "big", "--prefix").returncode == 0
        both.run("endpoint", "health")
        both.run("get", "big", "--prefix")
        for side in both.sides:
            revision = json.loads(side.member.etcdctl("get", "x", "-w", "json").stdout)["header"]["revision"]
            assert side.member.etcdctl("compaction", str(revision), "--physical").returncode == 0
        both.run("defrag", code=0)
        both.run("alarm", "disarm", code=0)
        both.run("alarm", "list", code=0)
        both.run("put", "small", "x", code=0)
    finally:
        both.close()


def test_make_mirror(pair: Pair) -> None:
    for key in ("m/1", "m/2", "other"):
        pair.run("put", key, "before")
    for side in pair.sides:
        kind = side.member.kind
        with running(kind) as target:
            mirror = subprocess.Popen(
                [real_binary("etcdctl"), f"--endpoints={side.member.endpoint}", "make-mirror", "--prefix=m/"]
                + ["--dest-prefix=copy/", target.endpoint],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            try:
                _wait_for(target, "copy/2", "before")
                side.member.etcdctl("put", "m/3", "after")
                _wait_for(target, "copy/3", "after")
                side.member.etcdctl("del", "m/1")
                _wait_for(target, "copy/1", None)
            finally:
                mirror.kill()
                mirror.wait()


def test_make_mirror_to_the_same_names_and_in_vain(pair: Pair) -> None:
    pair.run("put", "mm/1", "before")
    for side in pair.sides:
        with running(side.member.kind) as target:
            words = [real_binary("etcdctl"), f"--endpoints={side.member.endpoint}", "make-mirror", "--prefix=mm/"]
            mirror = subprocess.Popen([*words, "--no-dest-prefix", target.endpoint], stdout=subprocess.DEVNULL)
            try:
                _wait_for(target, "1", "before")
                side.member.etcdctl("txn", stdin="\nput mm/2 both\nput mm/3 too\n\n\n")
                _wait_for(target, "2", "both")
                _wait_for(target, "3", "too")
            finally:
                mirror.kill()
                mirror.wait()
    pair.run("make-mirror")
    pair.run("make-mirror", "--no-dest-prefix", "--dest-prefix=x", "127.0.0.1:1")


def test_endpoints_that_are_not_there(pair: Pair) -> None:
    for words in (["endpoint", "health"], ["member", "list"], ["get", "a"], ["lease", "grant", "5"]):
        pair.run("--endpoints=127.0.0.1:1", "--command-timeout=1s", "--dial-timeout=1s", *words)
    pair.run("endpoint", "status", "--cluster", "-w", "json")
    pair.run("defrag", "--cluster")


def test_lock_and_its_command_s_end(pair: Pair) -> None:
    pair.run("lock", "ending", "false")
    pair.run("lock", "ending", "sh", "-c", "exit 7")
    pair.run("lock", "ending", "no such command")
    pair.run("lock", "ending", "sh", "-c", "echo $ETCD_LOCK_KEY | cut -c1-7; echo $ETCD_LOCK_REV | grep -c .")
    pair.run("get", "ending", "--prefix")


def _wait_for(member: object, key: str, value: str | None) -> None:
    for _ in range(100):
        found = member.etcdctl("get", key, "--print-value-only").stdout.strip()  # type: ignore[attr-defined]
        if found == (value or ""):
            return
        time.sleep(0.05)
    raise AssertionError(f"{key} is {found!r}, not {value!r}")
