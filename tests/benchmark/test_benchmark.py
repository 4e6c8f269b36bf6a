"""Every sub-command against real etcd and ours: the calls arrive, as many as were asked for, and are reported."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from quorate.cli.benchmark.main import run
from quorate.client import BlockingClient
from tests.oracle import ROOT, Member, free_port, running

pytestmark = [pytest.mark.oracle, pytest.mark.process]


@pytest.fixture(scope="module", params=["real", "ours"])
def member(request: pytest.FixtureRequest) -> Iterator[Member]:
    with running(request.param) as member:
        yield member


@pytest.fixture
def client(member: Member) -> Iterator[BlockingClient]:
    with BlockingClient(member.endpoint) as client:
        client.delete("", prefix=True)
        yield client


class Bench:
    def __init__(self, member: Member, capsys: pytest.CaptureFixture[str]) -> None:
        self.member = member
        self.capsys = capsys

    def __call__(self, *words: str, status: int = 0) -> str:
        assert run([f"--endpoints={self.member.endpoint}", *words]) == status
        out, self.err = self.capsys.readouterr()
        return out


@pytest.fixture
def bench(member: Member, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(member, capsys)


def counts(out: str) -> list[int]:
    """How many successes each report in the output has: the sum of its histogram."""
    assert "Error distribution" not in out
    found = []
    for part in out.split("Response time histogram:\n")[1:]:
        histogram = part.split("\n\n")[0]
        found.append(sum(int(count) for count in re.findall(r" \[(\d+)\]\t\|", histogram)))
    return found


def revision(client: BlockingClient) -> int:
    return client.range("none").header.revision


def test_put(bench: Bench, client: BlockingClient) -> None:
    before = revision(client)
    flags = ["--sequential-keys", "--key-space-size=300", "--val-size=50", "--key-size=12", "--prefix=p/"]
    out = bench("put", "--total=700", "--clients=20", "--conns=3", *flags)
    assert counts(out) == [700]
    assert out.startswith("\nSummary:\n  Total:\t")
    assert out.endswith("secs.\n\n")
    assert revision(client) == before + 700
    found = client.range("p/", prefix=True)
    assert found.count == 300
    assert {(len(kv.key), len(kv.value)) for kv in found.kvs} == {(14, 50)}


def test_put_at_a_rate_with_compaction_and_hash(bench: Bench, client: BlockingClient) -> None:
    flags = ["--compact-interval=100ms", "--compact-index-delta=5", "--check-hashkv", "--precise", "--sample"]
    begun = time.monotonic()
    out = bench("put", "--total=40", "--rate=80", "--clients=4", *flags)
    assert time.monotonic() - begun >= 39 / 80
    assert counts(out) == [40]
    assert re.search(r"HashKV Summary:\n\tHashKV: \d+\n\tEndpoint: 127.0.0.1:\d+\n\tTime taken to get hashkv: ", out)
    assert "UNIX-SECOND,MIN-LATENCY-MS" in out
    assert client.hash_kv().compact_revision > 1


def test_range(bench: Bench, client: BlockingClient) -> None:
    for number in range(20):
        client.put(f"k{number:02}", "x")
    for flags in (["k01"], ["k01", "k05", "--consistency=s", "--limit=2"], ["k", "--prefix", "--count-only"]):
        assert counts(bench("range", *flags, "--total=50", "--clients=7")) == [50]
    assert bench("range", "k", "--consistency=s", "--total=1").startswith("bench with serializable range\n")


def test_range_in_pages(bench: Bench, client: BlockingClient) -> None:
    from quorate.client import ops

    for number in range(0, 10_100, 100):
        client.txn([], [ops.put(f"k{each:05}", "") for each in range(number, number + 100)])
    assert counts(bench("range", "k", "--prefix", "--paginate", "--keys-only", "--total=3", "--clients=2")) == [3]


def test_transactions(bench: Bench, client: BlockingClient) -> None:
    before = revision(client)
    flags = ["--txn-ops=3", "--key-space-size=10"]
    assert counts(bench("txn-put", "--total=60", "--clients=5", *flags)) == [60]
    assert revision(client) == before + 60
    assert client.range("", prefix=True).count == 10
    out = bench("txn-mixed", "k", "--total=200", "--clients=5", "--key-space-size=10", "--rw-ratio=3")
    reads, writes = (int(each) for each in re.findall(r"^Total (?:Read|Write) Ops: (\d+)$", out, re.MULTILINE))
    assert counts(out) == [reads, writes]
    assert reads + writes == 200
    assert reads > writes
    assert revision(client) == before + 60 + writes


@pytest.mark.parametrize("isolation", ["c", "r", "s", "ss"])
def test_stm(bench: Bench, client: BlockingClient, isolation: str) -> None:
    flags = ["--keys=5", "--keys-per-txn=3", f"--isolation={isolation}"]
    before = revision(client)
    assert counts(bench("stm", "--total=40", "--clients=4", *flags)) == [40]
    assert revision(client) == before + 40


@pytest.mark.parametrize("locker", ["lock-client", "lock-rpc"])
def test_stm_under_a_lock(bench: Bench, client: BlockingClient, locker: str) -> None:
    assert counts(bench("stm", "--total=20", "--clients=3", "--txn-wr-percent=100", f"--stm-locker={locker}")) == [20]
    assert client.range("stmlock", prefix=True).count == 0
    assert client.leases() == []


def test_watches(bench: Bench, client: BlockingClient) -> None:
    flags = ["--streams=4", "--watch-per-stream=5", "--watched-key-total=10", "--key-space-size=10"]
    out = bench("watch", *flags, "--sequential-keys", "--put-total=50", "--clients=3", "--conns=2")
    assert counts(out) == [20, 100]
    assert out.startswith("Watch creation summary:\n\nSummary:\n")
    out = bench("watch-latency", "--streams=2", "--watchers-per-stream=3", "--put-total=25", "--put-rate=500")
    assert counts(out) == [25, 150]
    out = bench("watch-get", "--watchers=3000", "--streams=2", "--events=4")
    assert "Get during watch summary:\n" in out
    assert counts(out)[0] > 0


def test_lease_keepalive(bench: Bench, client: BlockingClient) -> None:
    assert counts(bench("lease-keepalive", "--total=60", "--clients=3")) == [60]
    assert [client.lease_time_to_live(lease).grantedTTL for lease in client.leases()] == [100] * 3
    for lease in client.leases():
        client.lease_revoke(lease)


def test_errors_are_counted(bench: Bench, client: BlockingClient) -> None:
    out = bench("put", "--total=5", "--val-size=2000000")
    assert "Error distribution:\n  [5]\tetcdserver: request is too large\n" in out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["put", "--key-space-size=0"], "expected positive --key-space-size, got (0)\n"),
        (["put", "--key-size=1", "--key-space-size=1000"], "keys of --key-size=1 cannot number 1000 keys\n"),
        (["range", "k", "--paginate", "--limit=3"], "--paginate and --limit are mutually exclusive\n"),
        (["txn-put", "--txn-ops=2"], "expected --txn-ops no larger than --key-space-size, got "),
        (["stm", "--stm-locker=x"], 'unexpected stm locker "x"\n'),
        (["put", "--cert=x"], "bad tls config: KeyFile and CertFile must both be present[key: , cert: x]\n"),
        (["range"], "Usage:\n  benchmark range key [end-range] [flags]\n"),
        (["range", "k", "--consistency=x"], "Usage:\n"),
        (["put", "--nope"], "Error: unknown flag: --nope\n"),
        (["nonsense"], 'Error: unknown command "nonsense" for "benchmark"\n'),
        (["put", f"--endpoints=127.0.0.1:{free_port()}"], "dial error: "),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_is_refused(bench: Bench, words: list[str], text: str) -> None:
    if any(word.startswith("--endpoints") for word in words):
        bench.member = Member("real")  # not started: nobody listens
    bench(*words, status=1)
    assert bench.err.startswith(text)


def test_users(bench: Bench, client: BlockingClient) -> None:
    client.user_add("root", "toor")
    client.user_grant_role("root", "root")
    client.auth_enable()
    try:
        assert counts(bench("put", "--total=10", "--user=root:toor")) == [10]
        assert "[10]\tetcdserver: user name is empty\n" in bench("put", "--total=10")
        bench("put", "--total=10", "--user=root:wrong", status=1)
        assert "authentication failed" in bench.err
    finally:
        with BlockingClient(bench.member.endpoint, user="root", password="toor") as root:
            root.auth_disable()
            root.user_delete("root")


def test_a_restart_in_the_middle() -> None:
    with running("real") as member, BlockingClient(member.endpoint, timeout_s=30) as client:
        client.put("k", "v")
        words = [f"--endpoints={member.endpoint}", "range", "k", "--rate=400", "--total=1200", "--clients=8"]
        command = [sys.executable, "-m", "quorate.cli.benchmark.main", *words]
        done: list[subprocess.CompletedProcess[str]] = []

        def work() -> None:
            found = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=60, env={"PYTHONPATH": f"{ROOT}/src"}
            )
            done.append(found)

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(1)
        member.kill()
        member.start()
        thread.join(60)
        assert (done[0].returncode, done[0].stderr) == (0, "")
        ok = counts(done[0].stdout.split("\nError distribution")[0])[0]
        lost = sum(int(each) for each in re.findall(r"^  \[(\d+)\]\t[^|]*$", done[0].stdout, re.MULTILINE))
        assert ok + lost == 1200
        assert lost <= 8
