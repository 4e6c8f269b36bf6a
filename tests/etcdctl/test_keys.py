"""put, get, del, txn, compaction: ours prints what the real one prints."""

from __future__ import annotations

import pytest

from tests.etcdctl.twins import Twins

pytestmark = [pytest.mark.oracle, pytest.mark.process]
MODES = ("simple", "json", "fields", "protobuf", "table", "nonsense")


@pytest.mark.parametrize("mode", MODES)
def test_put_get_del(twins: Twins, mode: str) -> None:
    out = f"--write-out={mode}"
    raw = mode == "protobuf"  # ids cannot be told from other bytes
    for args in (
        ["put", "k", "v1"],
        ["put", "k", "v2", "--prev-kv"],
        ["put", "k<&>é", 'quote " and \\ and \n'],
        ["put", "k", "--ignore-value"],
        ["get", "k"],
        ["get", "k", "--prefix", *(["--hex"] if mode != "fields" else [])],  # fields: 3.6 prints ids in hex
        ["get", "none"],
        ["get", "k", "--keys-only"],
        ["get", "k", "--count-only"],
        ["get", "k", "--print-value-only"],
        ["del", "k", "--prev-kv", "--prefix"],
        ["del", "k"],
    ):
        if raw:
            real, *ours = twins.all(*args, out)
            assert [(each.code, bool(each.stdout)) for each in ours] == 2 * [(real.code, bool(real.stdout))]
        else:
            twins.run(*args, out)


def test_put_forms(twins: Twins) -> None:
    twins.run("put", "k", stdin="from stdin\n", code=0)
    twins.run("get", "k")
    for args in (
        ["put"],
        ["put", "k", "v", "extra"],
        ["put", "k", "--", "-v"],
        ["put", "k", "v", "--ignore-value"],
        ["put", "none", "--ignore-value"],
        ["put", "none", "v", "--ignore-lease"],
        ["put", "k", "v", "--lease=zz"],
        ["put", "k", "v", "--lease=7777"],
        ["put", "k", "v", "--lease"],
        ["put", "", "v"],
        ["put", "k"],
    ):
        twins.run(*args, stdin="")
    twins.run("put", "big", stdin="v" * 1_600_000)
    twins.run("put", "big", stdin="v" * 2_200_000)


def fill(twins: Twins) -> None:
    for number, key in enumerate(("a", "a1", "a2", "b", "b/1", "c\xff")):
        twins.run("put", key, f"value {number}")


def test_get_forms(twins: Twins) -> None:
    fill(twins)
    for args in (
        ["a", "b"],
        ["a", "c", "ignored"],
        ["a", "--prefix"],
        ["b", "--from-key"],
        ["", "--prefix"],
        ["", "--from-key"],
        [""],
        ["a", "c", "--limit=2"],
        ["a", "c", "--limit=0x2"],
        ["a", "c", "--order=DESCEND"],
        ["a", "c", "--order=ascend", "--sort-by=create"],
        ["a", "c", "--sort-by=MODIFY", "--order=descend"],
        ["a", "c", "--sort-by=VALUE"],
        ["a", "c", "--order=foo"],
        ["a", "c", "--sort-by=foo"],
        ["a", "--consistency=s"],
        ["a", "--consistency=x"],
        ["a", "--rev=3"],
        ["a", "--rev=-1"],
        ["a", "--rev=99999"],
        ["a", "--rev=x"],
        ["a", "b", "--prefix"],
        ["a", "--prefix", "--from-key"],
        ["a", "--keys-only", "--count-only"],
        [],
    ):
        for mode in ("simple", "json", "fields"):
            twins.run("get", *args, "-w", mode)


def test_3_6_revision_filters(twins: Twins) -> None:
    fill(twins)
    real, *_ = twins.run("get", "a", "-w", "fields")
    created = real.stdout.split('"CreateRevision" : ')[1].split()[0]
    found = twins.ours.run(("get", "", "--prefix", f"--max-create-rev={created}", "--keys-only"))
    assert "a" in found.stdout.split()
    assert "b/1" not in found.stdout.split()
    bad = twins.ours.run(("get", "a", "--min-mod-rev=9", "--max-mod-rev=1"))
    assert (bad.code, bad.stderr) == (4, "Error: getMinModRev(=9) > getMaxModRev(=1)\n")


def test_del_forms(twins: Twins) -> None:
    fill(twins)
    for args in (["a", "a2"], ["b", "--prefix", "--prev-kv"], [], ["a", "b", "c"], ["a", "b", "--prefix"]):
        twins.run("del", *args)
        fill(twins)
    for args in (["a", "--prefix", "--from-key"], [""], ["", "--from-key"], ["", "--prefix"]):
        twins.run("del", *args)


TXNS = (
    'value("a") = "value 0"\n\nput a "from txn"\nget a\n\nget b\n\n',
    'mod("a") > "0"\nver("none") = "0"\ncreate("a") < "99999"\n\nget a --prefix\ndel b --prev-kv\n\n\n',
    'val("a") != "value 0"\n\n\nget a -w json\n\n',
    'val("a") = "x"\n\n\nput "k e y" "v a l"\nget "k e y"\n\n',
    'm("a")  =  "1"\n\n\n\n',
    'foo("a") > "0"\n\n\n\n',
    "mod(a) > 0\n\n\n\n",
    'mod("a") > "x"\n\n\n\n',
    'mod("a")>"0"\n\n\n\n',
    'mod("a") ~ "0"\n\n\n\n',
    'lease("a") = "0"\n\n\n\n',
    "nonsense\n\n\n\n",
    "\nfoo bar\n\n\n",
    "\nput\n\n\n",
    "\nput a\n\n\n",
    "\nput a b --nope\n\n\n",
    "\nput a 1\nput a 2\n\n\n",
    "\nget a",
    'val("a\\x41\\u00e9") = "b"\n\nget a\n\n\n',
)


@pytest.mark.parametrize("text", TXNS)
def test_txn(twins: Twins, text: str) -> None:
    twins.run("put", "a", "value 0")
    twins.run("txn", stdin=text)
    twins.run("txn", "-w", "json", stdin=text)


def test_txn_forms(twins: Twins) -> None:
    text = "\nput a 1\nget a\ndel a\n\n\n"
    twins.run("txn", "-i", stdin=text)
    twins.run("txn", "-w", "fields", stdin=text)
    twins.run("txn", "-w", "table", stdin=text)
    twins.run("txn", "x")


def test_compaction(twins: Twins) -> None:
    real, *_ = twins.run("put", "k", "v", "-w", "json")
    revision = int(real.stdout.split('"revision":')[1].split(",")[0])
    twins.run("compaction", str(revision - 1), code=0)
    twins.run("compaction", str(revision - 1), code=1)
    twins.run("compaction", "99999", code=1)
    twins.run("compaction", str(revision), "--physical", "-w", "json", code=0)
    twins.run("compaction", "abc", code=1)
    twins.run("compaction", code=128)
    twins.run("get", "k", "--rev=1")
