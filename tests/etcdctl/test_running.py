"""watch, lock, elect, keep-alive, make-mirror: the commands that run until a signal."""

from __future__ import annotations

import signal
import time

import pytest

from tests.etcdctl.twins import Job, Twins
from tests.oracle import Member

pytestmark = [pytest.mark.oracle, pytest.mark.process]


def put_until_seen(twins: Twins, jobs: list[Job], key: str, lines: int) -> None:
    """Watches print nothing when they begin: wait until the servers have them, then make both see a first event."""
    until = time.monotonic() + 15
    while not all(tool.watchers() for tool in twins.tools):
        assert time.monotonic() < until
        time.sleep(0.05)
    twins.run("put", key, "first", code=0)
    for job in jobs:
        job.wait_lines(lines)


@pytest.mark.parametrize(
    ("args", "first"),
    [
        (["w/a"], 3),
        (["w/", "--prefix", "--prev-kv"], 3),
        (["w/a", "w/c", "-w", "json"], 1),
        (["w/", "--prefix", "--prev-kv", "-w", "fields"], 8),
        (["w/", "--prefix", "--hex", "--progress-notify"], 3),
        (["w/a", "--", "sh", "-c", "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE"], 4),
    ],
)
def test_watch(twins: Twins, args: list[str], first: int) -> None:
    twins.run("del", "w/", "--prefix")
    jobs = twins.jobs_of("watch", *args)
    put_until_seen(twins, jobs, "w/a", first)
    for words in (["put", "w/b", "2"], ["put", "w/a", "3"], ["del", "w/a"], ["put", "w/a", "end"]):
        twins.run(*words)
    time.sleep(0.3)
    twins.finish(jobs)


def test_watch_endings(twins: Twins) -> None:
    revision = 0
    for number in range(4):
        real, *_ = twins.run("put", "k", str(number), "-w", "json")
        revision = int(real.stdout.split('"revision":')[1].split(",")[0])
    twins.run("compaction", str(revision), code=0)
    twins.run("watch", "k", f"--rev={revision - 2}", code=5)
    twins.run("watch", "k", f"--rev={revision - 2}", "-w", "json", code=5)
    for args in (
        [],
        ["k", "--"],
        ["k", "e", "--prefix"],
        ["--", "echo"],
    ):
        twins.run("watch", *args, code=128)
    twins.run("watch", env={"ETCDCTL_WATCH_RANGE_END": "x"}, code=128)
    twins.run("watch", "k", env={"ETCDCTL_WATCH_KEY": "k"}, code=128)
    jobs = twins.jobs_of("watch", "k", f"--rev={revision}", "--", "sh", "-c", "exit 3")
    for job in jobs:
        assert job.process.wait(10) == 1
    jobs = twins.jobs_of("watch", "--", "echo", "seen", env={"ETCDCTL_WATCH_KEY": "envkey"})
    put_until_seen(twins, jobs, "envkey", 4)
    twins.finish(jobs)


def test_interactive_watch(twins: Twins) -> None:
    jobs = twins.jobs_of("watch", "-i", stdin=True)
    for job in jobs:
        for line in ("nonsense", "", "watch", "watch i1", "watch i2 --prefix"):
            job.say(line)
    time.sleep(0.5)  # the second watch
    put_until_seen(twins, jobs, "i1", 3)
    twins.run("put", "i2x", "v")
    for job in jobs:
        job.wait_lines(6)
        job.say("progress")
        job.end_input()
        assert job.process.wait(10) == 3


def test_watch_outlives_a_server_restart(twins: Twins) -> None:
    job = Job(twins.ours, ("watch", "r", "--prefix"), False, None)
    time.sleep(0.8)
    twins.ours.run(("put", "r1", "v"))
    job.wait_lines(3)
    twins.ours.member.stop()
    twins.ours.member.start()
    twins.ours.run(("put", "r2", "v"))
    job.wait_lines(6)
    assert job.lines[3:] == ["PUT\n", "r2\n", "v\n"]
    job.end(signal.SIGINT)


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_lock(twins: Twins, sig: int) -> None:
    jobs = twins.jobs_of("lock", "l1")
    for job in jobs:
        job.wait_lines(2)
    waiting = twins.jobs_of("lock", "l1")
    time.sleep(0.7)
    assert not any(job.lines for job in waiting)
    twins.finish(jobs, sig)
    for job in waiting:
        job.wait_lines(2)
    twins.finish(waiting, sig)
    twins.run("get", "l1/", "--prefix", "--keys-only")


def test_lock_with_a_command(twins: Twins) -> None:
    twins.run("lock", "l2", "sh", "--", "-c", "echo ${ETCD_LOCK_KEY%/*}; exit 7", code=7)
    twins.run("lock", "l2", "--ttl=3", "true", code=0)
    twins.run("lock", "l2", "none-such", code=1)
    twins.run("lock", code=128)


def test_a_waiting_lock_is_given_up(twins: Twins) -> None:
    holders = twins.jobs_of("lock", "l3")
    for job in holders:
        job.wait_lines(2)
    waiting = twins.jobs_of("lock", "l3")
    time.sleep(0.8)
    twins.finish(waiting)
    twins.finish(holders)


def test_elect(twins: Twins) -> None:
    observers = twins.jobs_of("elect", "-l", "e1")
    lines = 2
    first = twins.jobs_of("elect", "e1", "one")
    for job in (*first, *observers):
        job.wait_lines(lines)
    second = twins.jobs_of("elect", "e1", "two")
    time.sleep(0.7)
    twins.finish(first)
    for job in second:
        job.wait_lines(lines)
    for job in observers:
        job.wait_lines(2 * lines)
    twins.finish(second)
    twins.finish(observers)
    for args in ([], ["e"], ["e", "p", "-l"], ["a", "b", "c"]):
        twins.run("elect", *args, code=128)


def test_keep_alive(twins: Twins) -> None:
    twins.save("lease", r"lease (\w+) granted", twins.run("lease", "grant", "2"))
    jobs = twins.jobs_of("lease", "keep-alive", "{lease}")
    for job in jobs:
        job.wait_lines(3)
    twins.run("lease", "revoke", "{lease}", code=0)
    for job in jobs:
        assert job.process.wait(10) == 0
        job.wait_lines(4)
        assert job.lines[-1].endswith("expired or revoked.\n")


def test_make_mirror(twins: Twins) -> None:
    twins.run("put", "m/1", "v1")
    for tool in twins.tools:
        job = Job(tool, ("make-mirror", "ENDPOINT", "--prefix=m/", "--dest-prefix=copy/"), False, None)
        twins.jobs.append(job)
    until = time.monotonic() + 10
    while twins.ours.run(("get", "copy/1", "--print-value-only")).stdout != "v1\n":
        assert time.monotonic() < until
    twins.run("put", "m/2", "v2")
    twins.run("del", "m/1")
    time.sleep(0.5)
    twins.run("get", "copy/", "--prefix")
    twins.run("make-mirror", code=128)


def test_make_mirror_with_a_user(twins: Twins) -> None:
    """To a destination that wants a user: in the flag, in two flags, asked for, and a wrong one."""
    twins.run("user", "add", "root:pw", code=0)
    twins.run("put", "u/1", "v1", code=0)
    destinations = [Member("real", flags=["--bcrypt-cost=4"]) for _ in twins.tools]
    try:
        for member in destinations:
            member.start(wait=False)
        for member, tool in zip(destinations, twins.tools, strict=True):
            member.wait_healthy()
            tool.saved["dest"] = member.endpoint
            for words in (["user", "add", "root:pw"], ["auth", "enable"]):
                assert tool.run([f"--endpoints={member.endpoint}", *words], endpoint=False).code == 0
        found = twins.all("make-mirror", "{dest}", "--prefix=u/", "--dest-user=root:bad", "--command-timeout=2s")
        assert len({(each.code, each.stderr.splitlines()[-1]) for each in found}) == 1, found
        for number, words in enumerate((["--dest-user=root:pw"], ["--dest-user=root", "--dest-password=pw"])):
            jobs = twins.jobs_of("make-mirror", "{dest}", "--prefix=u/", f"--dest-prefix=to{number}/", *words)
            for tool in twins.tools:
                words = [f"--endpoints={tool.saved['dest']}", "--user=root:pw", "get", f"to{number}/1", "-w", "json"]
                until = time.monotonic() + 15
                while '"count":1' not in tool.run(words, endpoint=False).stdout:
                    assert time.monotonic() < until
            for job in jobs:
                job.end(signal.SIGINT)
    finally:
        for member in destinations:
            member.close()
        twins.run("user", "delete", "root", code=0)
