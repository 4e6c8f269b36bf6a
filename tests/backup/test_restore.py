"""Status and restore as calls, beside the real etcdutl 3.5.1."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from quorate.backup.offline import BackupError
from quorate.backup.restore import RestoreOptions, restore
from quorate.backup.status import snapshot_status
from quorate.errors import CorruptError
from quorate.ports import Log, NullLog
from quorate.runtime.disk import OsDisk
from quorate.storage.snapfile import decode_snap
from tests.backup.history import UTL, saved

pytestmark = [pytest.mark.process, pytest.mark.oracle]
DISK, QUIET = OsDisk(), NullLog()
THREE = "a=http://localhost:11,b=http://localhost:12,c=http://localhost:13,c=http://localhost:14"


class Notes(Log):
    """Keeps the messages."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def info(self, caller: str, msg: str, **fields: object) -> None:
        pass

    def warn(self, caller: str, msg: str, **fields: object) -> None:
        self.warnings.append(f"{msg}: {fields}")


def real_status(path: Path) -> dict[str, int]:
    done = subprocess.run([UTL, "snapshot", "status", str(path), "-w", "json"], check=True, capture_output=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def our_status(path: Path) -> dict[str, int]:
    notes = Notes()
    status = snapshot_status(DISK, str(path), notes)
    assert notes.warnings == []
    return {
        "hash": status.hash,
        "revision": status.revision,
        "totalKey": status.total_key,
        "totalSize": status.total_size,
    }


@pytest.mark.parametrize("kind", ["ours", "real"])
def test_status_says_what_the_real_tool_says(kind: str) -> None:
    path, view = saved(kind)
    assert our_status(path) == real_status(path)
    status = snapshot_status(DISK, str(path), QUIET)
    assert (status.revision, status.live_keys, status.version) == (view.revision, len(view.kvs), "")


@pytest.mark.parametrize("kind", ["ours", "real"])
@pytest.mark.parametrize(("name", "cluster", "urls"), [
    ("default", "default=http://localhost:2380", "http://localhost:2380"),
    ("b", THREE, "http://localhost:12"),
    ("c", THREE, "http://localhost:14,http://localhost:13"),
])  # fmt: skip
def test_a_restored_directory_is_the_one_that_the_real_tool_makes(
    tmp_path: Path, kind: str, name: str, cluster: str, urls: str
) -> None:
    path, _ = saved(kind)
    ours, real = tmp_path / "ours", tmp_path / "real"
    options = RestoreOptions(str(path), name, str(ours), "", cluster, "token", urls.split(","))
    restore(DISK, options, QUIET)
    flags = [f"--name={name}", f"--initial-cluster={cluster}", "--initial-cluster-token=token"]
    flags += [f"--initial-advertise-peer-urls={urls}", f"--data-dir={real}"]
    subprocess.run([UTL, "snapshot", "restore", str(path), *flags], check=True, capture_output=True)
    seen = {str(each.relative_to(ours)) for each in ours.rglob("*")}
    assert seen == {str(each.relative_to(real)) for each in real.rglob("*")}
    for log in (each for each in seen if each.endswith(".wal")):
        assert (ours / log).read_bytes() == (real / log).read_bytes()
    for snap in (each for each in seen if each.endswith(".snap")):
        assert stored((ours / snap).read_bytes()) == stored((real / snap).read_bytes())
    found = real_status(ours / "member/snap/db")
    wanted = real_status(real / "member/snap/db")
    assert {**found, "totalSize": 0} == {**wanted, "totalSize": 0}
    for each in ours.rglob("*"):
        assert each.stat().st_mode == (real / each.relative_to(ours)).stat().st_mode, each


def stored(content: bytes) -> tuple[str, bytes]:
    """Return the configuration and the store of a .snap file, without its counters."""
    snapshot = decode_snap(content)
    return repr((snapshot.index, snapshot.term, snapshot.conf_state)), (snapshot.data or b"").partition(b'"Stats"')[0]


def refused(path: Path, target: Path, **more: object) -> str:
    options = RestoreOptions(str(path), data_dir=str(target), **more)  # type: ignore[arg-type]
    with pytest.raises((BackupError, CorruptError)) as caught:
        restore(DISK, options, QUIET)
    assert not target.exists()
    return str(caught.value)


def test_what_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    path, _ = saved("ours")
    content = path.read_bytes()
    damaged, target = tmp_path / "damaged.db", tmp_path / "restored"
    damaged.write_bytes(content[:-32])
    assert refused(damaged, target) == "snapshot missing hash but --skip-hash-check=false"
    damaged.write_bytes(content[:5000] + b"\xff" + content[5001:])
    assert refused(damaged, target).startswith("expected sha256 [")
    damaged.write_bytes(content[: 4 * 4096])
    assert "the file is cut short" in refused(damaged, target, skip_hash_check=True)
    pages = bytearray(content[:-32])
    pages[4096 * 2 : 4096 * 3], pages[4096 * 3 : 4096 * 4] = pages[4096 * 3 : 4096 * 4], pages[4096 * 2 : 4096 * 3]
    damaged.write_bytes(pages)
    assert "carries another id" in refused(damaged, target, skip_hash_check=True)
    assert refused(path, target, bump_revision=1) == "--mark-compacted required if --revision-bump > 0"
    assert "last possible revision" in refused(path, target, bump_revision=1 << 63, mark_compacted=True)


def test_a_snapshot_that_is_not_what_was_sent_is_reported(tmp_path: Path) -> None:
    path, _ = saved("ours")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(content)
    notes = Notes()
    snapshot_status(DISK, str(damaged), notes)
    assert len(notes.warnings) == 1
    assert "the file is damaged" in notes.warnings[0]
