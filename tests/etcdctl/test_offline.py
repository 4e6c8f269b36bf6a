"""snapshot status, snapshot restore, defrag --data-dir: 3.5's forms beside the real tool's; no server is asked."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.etcdctl.twins import Twins
from tests.oracle import Member, real_binary

pytestmark = [pytest.mark.oracle, pytest.mark.process]


@pytest.fixture(scope="module")
def offline() -> Iterator[Twins]:
    """Tools whose folders hold a snapshot and the directory of a stopped member; no server runs any more."""
    made = Twins()
    try:
        member = made.real.member.start()
        words = [real_binary("etcdctl"), f"--endpoints={member.endpoint}"]
        for number in range(5):
            subprocess.run([*words, "put", f"k{number}", "v" * 1000], check=True, capture_output=True)
        subprocess.run([*words, "snapshot", "save", f"{member.owned}/snap.db"], check=True, capture_output=True)
        member.stop()
        for tool in made.tools[1:]:
            shutil.copytree(member.data_dir, tool.member.data_dir)
            shutil.copy(f"{member.owned}/snap.db", f"{tool.member.owned}/snap.db")
        yield made
    finally:
        made.close()


def notices(twins: Twins, *args: str) -> None:
    """Run, and compare what stands on stderr before the first log line too."""
    found = twins.run(*args, endpoint=False)
    first = [outcome.stderr.partition("\n\n")[0] for outcome in found]
    assert first[1:] == 2 * first[:1]


@pytest.mark.parametrize("mode", ["simple", "json", "fields", "table", "protobuf", "nonsense"])
def test_status(offline: Twins, mode: str) -> None:
    notices(offline, "snapshot", "status", "snap.db", "-w", mode)
    notices(offline, f"--write-out={mode}", "--endpoints=unused:1", "snap", "stat", "snap.db")


def test_status_in_vain(offline: Twins) -> None:
    for args in (["nope.db"], [], ["a", "b"], ["snap.db", "--nope"]):
        notices(offline, "snapshot", "status", *args)


def restored(twins: Twins, folder: str, *args: str, code: int = 0) -> None:
    """Restore with all; what stands on stdout, in errors and in the new directory is the same."""
    twins.run(*args, endpoint=False, code=code)
    trees = []
    for tool in twins.tools:
        root = Path(tool.member.owned) / folder
        trees.append(sorted(str(path.relative_to(root)) for path in root.rglob("*")))
    assert trees[1:] == 2 * trees[:1]
    assert bool(trees[0]) == (code == 0)


def test_restore(offline: Twins) -> None:
    restored(offline, "default.etcd", "--endpoints", "10.2.0.9:2379", "snapshot", "restore", "snap.db")
    restored(offline, "before", "--data-dir", "before", "snapshot", "restore", "snap.db")
    urls = "--initial-cluster=m=http://127.0.0.1:7380,n=http://127.0.0.1:7381"
    restored(
        offline, "all", "snapshot", "restore", "snap.db", "--data-dir=all", "--wal-dir=all-wal", "--name=m", urls,
        "--initial-cluster-token=t", "--initial-advertise-peer-urls=http://127.0.0.1:7380", "--skip-hash-check",
    )  # fmt: skip
    for args in (
        ["snap.db", "--data-dir=all"],
        ["nope.db", "--data-dir=none"],
        [],
        ["snap.db", "--data-dir=none", "--name=x"],
    ):
        notices(offline, "snapshot", "restore", *args)


def test_a_restored_directory_starts(offline: Twins) -> None:
    """Ours, with 3.6's flags, and the restored member counts on from the raised revision."""
    tool = offline.own
    member = Member("ours", data_dir=f"{tool.member.owned}/raised", name="r")
    done = tool.run(
        ["snapshot", "restore", "snap.db", "--data-dir=raised", "--name=r", f"--initial-cluster=r={member.peer_url}",
         f"--initial-advertise-peer-urls={member.peer_url}", "--bump-revision=1000", "--mark-compacted"],
        endpoint=False,
    )  # fmt: skip
    assert done.code == 0, done
    member.start()
    try:
        put = tool.run([f"--endpoints={member.endpoint}", "put", "k", "v", "-w", "json"], endpoint=False)
        assert int(put.stdout.split('"revision":')[1].split(",")[0]) > 1000
    finally:
        member.close()


def test_defrag_of_a_directory(offline: Twins) -> None:
    # 3.5.1 then goes on to the endpoints, which nobody wants of it.
    real, *ours = offline.all("defrag", "--data-dir", "data", "--command-timeout=100ms", endpoint=False)
    assert [each.stderr.partition("\n\n")[0] for each in ours] == 2 * [real.stderr.partition("\n\n")[0]]
    assert [(each.stdout, each.code) for each in ours] == 2 * [(real.stdout, 0)]
    for tool in offline.tools:
        again = tool.run(["snapshot", "status", "data/member/snap/db"], endpoint=False)
        assert again.code == 0
    # Of a folder that is none the real one dies with a Go trace.
    found = offline.own.run(["defrag", "--data-dir=none"], endpoint=False)
    assert found.code == 1
    assert found.stderr.endswith(
        "Error: Failed to defragment etcd data[none] (stat none/member/snap/db: no such file or directory)\n"
    )
