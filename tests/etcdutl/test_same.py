"""Every command and flag that 3.5.1 has, and its failing calls: stdout, stderr and exit status are the real tool's."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.etcdutl.side import Pair, ours, real
from tests.interchange.visible import Client
from tests.oracle import Member

pytestmark = [pytest.mark.oracle, pytest.mark.process]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


FORMATS = ("simple", "fields", "json", "table", "protobuf", "bogus", "")


@pytest.mark.parametrize("form", FORMATS)
def test_status_in_every_format(pair: Pair, form: str) -> None:
    pair.snapshot()
    pair.same("snapshot", "status", "snap.db", "-w", form, code=0 if form in FORMATS[:4] else 4)
    pair.same(f"--write-out={form}", "snapshot", "status", "snap.db")


def test_status_of_other_files(pair: Pair) -> None:
    content = pair.snapshot("ours.db", "ours")
    pair.same("snapshot", "status", "ours.db", code=0)
    pair.put("copied.db", content[:-32])
    pair.same("snap", "stat", "copied.db", "-wjson", code=0)
    pair.same("snapshot", "status", "nope.db", code=1)
    pair.put("hello.db", b"hello")
    seen, wanted = pair.run("snapshot", "status", "hello.db")
    assert (wanted.errors, wanted.code) == ("Error: invalid database", 1)
    assert (seen.errors.partition(" (")[0], seen.code) == ("Error: invalid database", 1)
    for folder in pair.folders.values():
        (folder / "folder").mkdir()
    pair.same("snapshot", "status", "folder", code=1)


RESTORES = {
    "the least": [],
    "a name": ["--name=m", "--initial-cluster=m=http://localhost:2380"],
    "a token": ["--initial-cluster-token", "other"],
    "three members": [
        "--name=b",
        "--initial-cluster=a=http://localhost:1,b=http://localhost:2,c=http://localhost:3",
        "--initial-advertise-peer-urls=http://localhost:2",
    ],
    "two urls": [
        "--initial-cluster=default=http://localhost:9,default=http://localhost:8",
        "--initial-advertise-peer-urls=http://localhost:8,http://localhost:9",
    ],
    "a log elsewhere": ["--wal-dir=log"],
    "without the digest's check": ["--skip-hash-check"],
}


@pytest.mark.parametrize("flags", RESTORES.values(), ids=list(RESTORES))
def test_restore(pair: Pair, flags: list[str]) -> None:
    pair.snapshot()
    pair.same("snapshot", "restore", "snap.db", "--data-dir=d", *flags, code=0)
    seen = [sorted(str(each.relative_to(folder)) for each in folder.rglob("*")) for folder in pair.folders.values()]
    assert seen[0] == seen[1]
    for folder in pair.folders.values():
        assert ours(folder, "verify", "--data-dir=d", *[flag for flag in flags if "wal" in flag]).code == 0
    logs = [folder / ("log" if "--wal-dir=log" in flags else "d/member/wal") for folder in pair.folders.values()]
    name = f"{0:016x}-{0:016x}.wal"
    assert (logs[0] / name).read_bytes() == (logs[1] / name).read_bytes()
    hashes = [real(folder, "snapshot", "status", "d/member/snap/db") for folder in pair.folders.values()]
    assert hashes[0].stdout.split(b",")[:3] == hashes[1].stdout.split(b",")[:3]


REFUSALS = {
    "no file": (["nope.db"], 1),
    "a directory with something in it": (["snap.db", "--data-dir=full"], 1),
    "a log directory": (["snap.db", "--wal-dir=full"], 1),
    "a name that the cluster lacks": (["snap.db", "--name=xx"], 1),
    "no url": (["snap.db", "--initial-advertise-peer-urls=foo"], 1),
    "an url with a path": (["snap.db", "--initial-advertise-peer-urls=http://localhost:1/x"], 1),
    "an url without a port": (["snap.db", "--initial-advertise-peer-urls=http://localhost"], 1),
    "no cluster": (["snap.db", "--initial-cluster=foo"], 1),
    "an url twice": (["snap.db", "--initial-cluster=a=http://localhost:2380,default=http://localhost:2380"], 1),
    "no digest": (["copied.db"], 1),
    "another digest": (["flipped.db"], 1),
    "too short": (["hello.db"], 1),
    "empty": (["empty.db"], 1),
    "a folder": (["full"], 1),
    "two arguments": (["snap.db", "b"], 128),
    "no argument": ([], 128),
    "no value": (["snap.db", "--name"], 1),
    "an unknown flag": (["snap.db", "--bogus"], 1),
    "a bad boolean": (["snap.db", "--skip-hash-check=maybe"], 1),
}


@pytest.mark.parametrize(("args", "code"), REFUSALS.values(), ids=list(REFUSALS))
def test_a_refused_restore(pair: Pair, args: list[str], code: int) -> None:
    content = pair.snapshot()
    pair.put("copied.db", content[:-32])
    pair.put("flipped.db", content[:9000] + bytes([content[9000] ^ 1]) + content[9001:])
    pair.put("hello.db", b"hello")
    pair.put("empty.db", b"")
    for folder in pair.folders.values():
        (folder / "full/x").mkdir(parents=True)
    given = args if any(arg.startswith("--data-dir") for arg in args) else ["--data-dir=d", *args]
    seen, wanted = pair.run("snapshot", "restore", *given)
    assert (seen.stdout, seen.code) == (wanted.stdout, wanted.code) == (b"", code)
    if "Usage:" in wanted.errors:
        # 3.6 has more flags in its help.
        lines = wanted.errors.splitlines()
        assert [seen.errors.splitlines()[0], seen.errors.splitlines()[-1]] == [lines[0], lines[-1]]
    else:
        assert seen.errors == wanted.errors
        assert seen.log == wanted.log
    assert not (pair.folders["ours"] / "d").exists()


def test_the_words(pair: Pair) -> None:
    for args in (["foo"], ["defragg"], ["--write-out=json", "foo"]):
        pair.same(*args, code=1)
    pair.same("snapshot", "save", "x", code=128)
    pair.same("snapshot", "status", code=128)
    pair.same("snapshot", "status", "a", "b", code=128)
    pair.same("snapshot", "status", "--bogus", code=1)
    pair.same("snapshot", "status", "--help", code=0)
    pair.same("help", "snapshot", "status", code=0)
    pair.same("snapshot", "foo", code=0)
    pair.same("snapshot", code=0)
    pair.same("snapshot", "-h", code=0)
    pair.same("defrag", code=1)
    pair.same("defrag", "-h", code=0)
    pair.same("backup", code=1)
    pair.same("backup", "--data-dir=x", code=1)
    pair.same("backup", "--help", code=0)
    pair.same("backup", "--with-v3=maybe", code=1)
    pair.same("version", "--help", code=0)
    pair.same("help", "--help", code=0)
    for args in ([], ["--help"], ["-h"], ["help"], ["help", "foo"]):
        seen, wanted = pair.run(*args)
        assert (
            (seen.code, len(seen.stdout) > 0) == (wanted.code, len(wanted.stdout) > 0) == (0, args != ["help", "foo"])
        )
        lines = (seen.stdout.decode() + seen.errors).splitlines()
        added = ("  check", "  completion", "  hashkv", "  migrate", "  verify")
        assert [line for line in lines if not line.startswith(added)] == (
            wanted.stdout.decode() + wanted.errors
        ).splitlines()
    for args in (["-w"], ["--version"], ["-x"], ["--foo", "foo"]):
        seen, wanted = pair.run(*args)
        assert (seen.code, seen.errors.splitlines()[0]) == (wanted.code, wanted.errors.splitlines()[0])
    seen, wanted = pair.run("version", "-w", "bogus")
    assert (seen.stdout, wanted.stdout) == (
        b"etcdutl version: 3.6.14\nAPI version: 3.6\n",
        b"etcdutl version: 3.5.1\nAPI version: 3.5\n",
    )


def test_defrag(pair: Pair) -> None:
    pair.directory()
    pair.same("defrag", "--data-dir=data", code=0)
    pair.same("--data-dir", "data", "defrag", "more", code=0)
    states = [real(folder, "snapshot", "status", "data/member/snap/db", "-wjson") for folder in pair.folders.values()]
    facts = [json.loads(state.stdout) for state in states]
    assert {**facts[0], "totalSize": 0} == {**facts[1], "totalSize": 0}
    assert facts[0]["totalSize"] <= facts[1]["totalSize"]
    assert ours(pair.folders["real"], "verify", "--data-dir=data").code == 0
    assert ours(pair.folders["ours"], "verify", "--data-dir=data").code == 0
    # The real one crashes here; later ones say this.
    seen = ours(pair.folders["ours"], "defrag", "--data-dir=nope")
    text = "Error: Failed to defragment etcd data[nope] (stat nope/member/snap/db: no such file or directory)"
    assert (seen.errors, seen.code) == (text, 1)


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a member that has stopped, with entries behind its newest snapshot."""
    target = tmp_path_factory.mktemp("used") / "data"
    member = Member("real", str(target), flags=["--snapshot-count=25"])
    member.health_path = "/health?exclude=NOSPACE"
    try:
        member.start()
        with Client(member) as client:
            client.write_history(0)
        member.stop()
    finally:
        member.close()
    return target


BACKUPS = {
    "the least": [],
    "without v3": ["--with-v3=false"],
    "logs elsewhere": ["--wal-dir=log", "--backup-wal-dir=copied"],
}


@pytest.mark.parametrize("flags", BACKUPS.values(), ids=list(BACKUPS))
def test_backup(pair: Pair, used: Path, flags: list[str]) -> None:
    for folder in pair.folders.values():
        shutil.copytree(used, folder / "data")
        if "--wal-dir=log" in flags:
            (folder / "data/member/wal").rename(folder / "log")
    pair.same("backup", "--data-dir=data", "--backup-dir=b", *flags, code=0)
    seen = [sorted(str(each.relative_to(folder)) for each in folder.rglob("*")) for folder in pair.folders.values()]
    assert seen[0] == seen[1]
    # Ids are made of the time, of the same length.
    facts = []
    for folder in pair.folders.values():
        status = json.loads(real(folder, "snapshot", "status", "b/member/snap/db", "-wjson").stdout)
        log = next((folder / ("copied" if "--backup-wal-dir=copied" in flags else "b/member/wal")).glob("*.wal"))
        content = log.read_bytes().rstrip(b"\0")
        facts.append((status["revision"], status["totalKey"], len(content) // 8, content[:200]))
    assert facts[0] == facts[1]


def test_migrate_and_hashkv_want_their_flags(tmp_path: Path) -> None:
    """Of 3.6's commands no real binary is at hand; these are cobra's words, as for the others."""
    for args, text in (
        (["migrate"], 'required flag(s) "data-dir", "target-version" not set'),
        (["migrate", "--data-dir=x"], 'required flag(s) "target-version" not set'),
        (["hashkv"], "accepts 1 arg(s), received 0"),
        (["hashkv", "a", "b"], "accepts 1 arg(s), received 2"),
        (
            ["hashkv", "a", "--rev=x"],
            'invalid argument "x" for "--rev" flag: strconv.ParseInt: parsing "x": invalid syntax',
        ),
        (["completion"], "accepts 1 arg(s), received 0"),
        (["completion", "tcsh"], 'invalid argument "tcsh" for "etcdutl completion"'),
    ):
        done = ours(tmp_path, *args)
        assert (done.code, done.stdout) == (1, b"")
        assert done.errors.startswith(f"Error: {text}\nUsage:\n  etcdutl {args[0]}")
        assert done.errors.endswith(f"\nError: {text}")
    done = ours(tmp_path, "migrate", "--data-dir=x", "--target-version=3.6")
    assert (done.code, done.errors) == (1, "Error: stat x/member/snap/db: no such file or directory")
    done = ours(tmp_path, "hashkv", "x")
    assert (done.code, done.errors) == (1, "Error: stat x: no such file or directory")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion_names_every_command(tmp_path: Path, shell: str) -> None:
    script = ours(tmp_path, "completion", shell).stdout.decode()
    assert "etcdctl" not in script
    for word in ("snapshot", "restore", "verify", "hashkv", "migrate", "data-dir", "bump-revision", "write-out"):
        assert word in script
    if shell == "bash":
        ask = f'{script}\nCOMP_LINE="etcdutl snapshot res" COMP_POINT=20; _etcdutl; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
        assert done.stdout == "restore\n"


def test_check_v2store(tmp_path: Path, used: Path) -> None:
    """A command of 3.5 later than 3.5.1, against what a real member's v2 API has left."""
    fine = ours(tmp_path, "check", "v2store", f"--data-dir={used}")
    assert (fine.code, fine.stdout) == (0, b"No custom content found in both v2store and WAL records.\n")
    member = Member("real", flags=["--enable-v2", "--snapshot-count=10"])
    found = []
    try:
        for number in range(2):
            member.start()
            for _ in range(1 + 15 * number):
                request = urllib.request.Request(f"{member.url}/v2/keys/foo", b"value=bar", method="PUT")
                request.add_header("Content-Type", "application/x-www-form-urlencoded")
                urllib.request.urlopen(request, timeout=5).close()
            member.stop()
            found.append(ours(tmp_path, "check", "v2store", f"--data-dir={member.data_dir}"))
    finally:
        member.close()
    assert [(each.code, each.stdout) for each in found] == [(1, b""), (1, b"")]
    assert found[0].errors == "Error: detected custom v2 content in WAL records"
    assert found[1].errors in (
        "Error: detected custom content in v2store",
        "Error: detected custom v2 content in both v2store and WAL records",
    )
