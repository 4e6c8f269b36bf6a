"""The real etcdctl prints the same for ours as for real etcd: put, get, del, txn, watch, compaction."""

from __future__ import annotations

import itertools
import time

import pytest

from tests.parity.pair import Pair

pytestmark = [pytest.mark.oracle, pytest.mark.process]

KEYS = ("a", "a1", "a2", "b", "b/x", "c")


def fill(pair: Pair) -> None:
    """Write a history with updates, a lease and a deletion."""
    for key in KEYS:
        pair.run("put", key, f"value of {key}")
    pair.run("put", "a1", "second")
    pair.run("put", "a1", "third")
    pair.run("put", "gone", "x")
    pair.run("del", "gone")


def test_put(pair: Pair) -> None:
    pair.run("put", "foo", "bar", code=0)
    pair.run("put", "foo", "bar2", "--prev-kv", code=0)
    pair.run("put", "fresh", "v", "--prev-kv")
    pair.run("put", "foo", "--ignore-value")
    pair.run("put", "foo", "newer", "--ignore-lease")
    pair.run("put", "absent", "--ignore-value", code=1)
    pair.run("put", "absent", "v", "--ignore-lease", code=1)
    pair.run("put", "foo", "bar", "--lease=12345", code=1)
    pair.run("put", "", "empty key", code=1)
    pair.run("put", "empty value", "")
    pair.run("put", "--", "-dash", "-value")
    pair.run("put", "from stdin", stdin="the value\nwith two lines\n")
    pair.run("put", "unicode ☃", "ünïcode")
    for mode in ("json", "fields", "table"):
        pair.run("put", "foo", "again", "--prev-kv", "-w", mode)


def test_too_large(pair: Pair) -> None:
    big = "v" * 1_600_000
    pair.run("put", "big", stdin=big, code=1)
    pair.run("put", "big", stdin="v" * 2_200_000, code=1)
    pair.run("put", "nearly", stdin="v" * 1_500_000, code=0)
    pair.run("get", "nearly", "--print-value-only")
    pair.run("del", "nearly")


def test_get_flags(pair: Pair) -> None:
    fill(pair)
    for args in (
        ["a"],
        ["none"],
        ["a", "b"],
        ["a", "--prefix"],
        ["b", "--from-key"],
        ["", "--prefix"],
        ["", "--from-key"],
        ["a", "--prefix", "--limit=2"],
        ["a", "c", "--keys-only"],
        ["a", "c", "--count-only"],
        ["a", "c", "--count-only", "--limit=1"],
        ["a", "--prefix", "--print-value-only"],
        ["c", "a"],
        ["a", "a"],
        ["a", "--consistency=s"],
        ["a", "--consistency=l"],
        ["a", "--consistency=x"],
        ["a", "--rev=3"],
        ["a1", "--rev=1"],
        ["a1", "--rev=0"],
        ["a1", "--rev=-1"],
        ["gone"],
        ["a1", "--rev=999999"],
        ["a", "--prefix", "--keys-only", "--limit=1", "--order=DESCEND", "--sort-by=VALUE"],
        ["a", "--prefix", "--rev=5", "--consistency=s", "--print-value-only"],
        ["a", "--prefix", "--count-only", "--rev=4"],
    ):
        for mode in ("simple", "json", "fields"):
            pair.run("get", *args, "-w", mode)
        pair.run("get", *args, "--hex")


def test_hashkv(pair: Pair) -> None:
    fill(pair)
    for mode in ("simple", "json", "fields", "table"):
        pair.run("endpoint", "hashkv", "-w", mode, code=0)
    for rev in ("1", "3", "999999", "-1", "x"):
        pair.run("endpoint", "hashkv", f"--rev={rev}")


@pytest.mark.parametrize("order", ["ASCEND", "DESCEND", "WRONG"])
def test_get_sorting(pair: Pair, order: str) -> None:
    fill(pair)
    for target in ("KEY", "VERSION", "CREATE", "MODIFY", "VALUE", "WRONG"):
        if order != "WRONG" and target == "VERSION":
            continue  # many keys share a version and the order of ties is unspecified
        pair.run("get", "a", "c", f"--order={order}", f"--sort-by={target}")
        pair.run("get", "a", "c", f"--order={order}", f"--sort-by={target}", "--limit=2", "-w", "json")


def test_get_table_is_refused(pair: Pair) -> None:
    pair.run("get", "a", "-w", "table")
    pair.run("get", "a", "-w", "nonsense")
    pair.run("get")
    pair.run("get", "a", "b", "c")
    pair.run("get", "a", "--prefix", "--from-key")


def test_del(pair: Pair) -> None:
    fill(pair)
    pair.run("del", "a", code=0)
    pair.run("del", "a", code=0)
    pair.run("del", "a", "b", "--prev-kv")
    pair.run("del", "b", "--prefix", "--prev-kv", "-w", "json")
    pair.run("put", "z1", "1")
    pair.run("del", "z", "--from-key", "-w", "fields")
    pair.run("del", "", code=1)
    pair.run("del")


def test_txn(pair: Pair) -> None:
    fill(pair)
    for compares, success, failure in itertools.product(
        ('value("a") = "value of a"\nmod("a") > "0"\n', 'version("none") = "0"\n', 'create("a") = "1"\n', ""),
        ('put a "from txn"\nget a\n', "del b\nget b\n", ""),
        ("get a\n", "put c failed\n"),
    ):
        pair.run("txn", stdin=f"{compares}\n{success}\n{failure}\n")
        pair.run("txn", "-w", "json", stdin=f"{compares}\n{success}\n{failure}\n")
    pair.run("txn", stdin="\nput d 1\nput d 2\n\n\n", code=1)
    pair.run("txn", stdin='lease("a") = "0"\n\nget a --prefix\n\n\n')
    pair.run("txn", stdin="nonsense\n\n\n\n")
    pair.run("txn", stdin="\nput k v --lease=777\n\n\n")
    pair.run("txn", stdin="\n" + "".join(f"put k{i} v\n" for i in range(129)) + "\n\n", code=1)


def test_compaction(pair: Pair) -> None:
    fill(pair)
    outcome, _ = pair.run("get", "a", "-w", "json")
    revision = int(outcome.stdout.split('"revision":')[1].split(",")[0])
    pair.run("compaction", str(revision - 2), code=0)
    pair.run("compaction", str(revision - 2), code=1)
    pair.run("compaction", str(revision + 100), code=1)
    pair.run("compaction", str(revision - 1), "--physical", code=0)
    pair.run("compaction", "abc")
    pair.run("compaction")
    pair.run("get", "a", f"--rev={revision - 3}", code=1)
    pair.run("get", "a", f"--rev={revision - 1}", code=0)
    jobs = pair.background("watch", "a", f"--rev={revision - 3}")
    pair.finish(jobs, 99, timeout=3)


def test_watch(pair: Pair) -> None:
    outcome, _ = pair.run("put", "w/start", "0", "-w", "json")
    revision = int(outcome.stdout.split('"revision":')[1].split(",")[0])
    shapes = {
        "key": ["watch", "w/a"],
        "prefix": ["watch", "w/", "--prefix"],
        "prev": ["watch", "w/", "--prefix", "--prev-kv"],
        "range": ["watch", "w/a", "w/c"],
        "from-rev": ["watch", "w/", "--prefix", f"--rev={revision}"],
        "json": ["watch", "w/", "--prefix", "--prev-kv", "-w", "json"],
        "fields": ["watch", "w/", "--prefix", "-w", "fields"],
        "progress": ["watch", "w/", "--prefix", "--progress-notify"],
    }
    jobs = {name: pair.background(*args) for name, args in shapes.items()}
    jobs["from-rev"][0].wait_lines(3)
    jobs["from-rev"][1].wait_lines(3)
    time.sleep(1)  # the other watchers print nothing when they are set up
    for args in (
        ["put", "w/a", "1"],
        ["put", "w/b", "2"],
        ["put", "w/a", "3"],
        ["del", "w/a"],
        ["del", "w/", "--prefix"],
        ["put", "elsewhere", "x"],
    ):
        pair.run(*args)
    pair.run("txn", stdin="\nput w/t1 x\nput w/t2 y\n\n\n")
    for job in jobs.values():
        pair.finish(job, 10**6, timeout=1)


def test_watch_several_keys_on_one_stream(pair: Pair) -> None:
    lines = "watch i/a\nwatch i/b --prev-kv\nwatch i/c i/e\nwatch --prefix i/x\nwatch\nnonsense\n"
    jobs = pair.background("watch", "-i", stdin=lines)
    time.sleep(1)
    for key in ("i/a", "i/b", "i/b", "i/c", "i/d", "i/e", "i/x1", "i/a"):
        pair.run("put", key, f"value of {key}")
    for key in ("i/b", "i/x1", "i/nothing"):
        pair.run("del", key)
    pair.finish(jobs, 10**6, timeout=1.5)


def test_watch_and_exec(pair: Pair) -> None:
    jobs = pair.background("watch", "x1", "--", "echo", "seen")
    time.sleep(0.7)
    pair.run("put", "x1", "v")
    pair.finish(jobs, 4, timeout=3)
    pair.run("watch")
