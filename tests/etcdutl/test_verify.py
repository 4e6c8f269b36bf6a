"""verify: what it says of damage, where, and its exit status."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from quorate.storage.bolt.page import PAGE_HEADER_SIZE, Meta, parse_meta
from tests.backup.history import saved
from tests.etcdutl.side import Pair, ours
from tests.interchange.visible import Client
from tests.oracle import Member

pytestmark = [pytest.mark.oracle, pytest.mark.process]
DB, FINE, BLIND, DAMAGED = "member/snap/db", 0, 1, 2


@pytest.fixture(scope="module", params=["ours", "real"])
def template(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a member that was killed, with snapshots."""
    target = tmp_path_factory.mktemp("template") / "data"
    member = Member(request.param, str(target), flags=["--snapshot-count=25"])
    member.health_path = "/health?exclude=NOSPACE"
    try:
        member.start()
        with Client(member) as client:
            client.write_history(0)
            client.write_history(1)
        member.kill()
    finally:
        member.close()
    for spare in target.glob("member/wal/*.tmp"):
        spare.unlink()
    return target


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path / "d")
    return tmp_path


def verify(folder: Path, *args: str) -> tuple[int, dict[str, Any]]:
    done = ours(folder, "verify", "-w", "json", *(args or ("--data-dir=d",)))
    assert done.errors == "", done
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["damaged"] == (done.code == DAMAGED)
    return done.code, found


def change(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def bad(found: dict[str, Any]) -> list[tuple[str, int, str]]:
    for each in found["findings"]:
        assert each["advice"], each
    return [(each["path"], each["offset"], each["text"]) for each in found["findings"] if each["level"] == "bad"]


def test_a_healthy_directory(folder: Path) -> None:
    code, found = verify(folder)
    assert (code, bad(found)) == (FINE, [])
    assert set(found["facts"]) == {"log", "snapshots", "member", "entries", "database", "history"}
    done = ours(folder, "verify", "--data-dir=d")
    assert done.code == FINE
    assert done.stdout.decode().endswith("fine: nothing is wrong\n")
    assert b"\x1b" not in done.stdout


def test_damage_in_the_log(folder: Path) -> None:
    log = next((folder / "d/member/wal").glob("*.wal"))
    change(log, 300, b"\xff")
    code, found = verify(folder)
    assert code == DAMAGED
    path, offset, text = bad(found)[0]
    assert path == f"d/member/wal/{log.name}"
    assert 200 < offset <= 300
    assert text.startswith("wal: ")
    done = ours(folder, "verify", "--data-dir=d")
    assert f"bad: {path}, offset {offset}: {text}\n  what can be done: remove this member".encode() in done.stdout
    assert done.stdout.decode().endswith(" things are wrong\n")


def test_a_torn_end_is_no_damage(folder: Path) -> None:
    log = max((folder / "d/member/wal").glob("*.wal"))
    content = log.read_bytes().rstrip(b"\0")
    log.write_bytes(content + bytes(-len(content) % 8) + (500).to_bytes(8, "little") + b"\x08\x02\x10")
    code, found = verify(folder)
    assert (code, bad(found)) == (FINE, [])
    notes = [each for each in found["findings"] if each["text"].startswith("torn end: 11 bytes")]
    assert len(notes) == 1
    assert notes[0]["offset"] == len(content) + -len(content) % 8


def test_a_log_that_lost_what_the_database_has_seen(folder: Path) -> None:
    log = max((folder / "d/member/wal").glob("*.wal"))
    content = log.read_bytes()
    log.write_bytes(content[: len(content.rstrip(b"\0")) // 2])
    code, found = verify(folder)
    assert code == DAMAGED
    assert any("snapshot not found" in text or "lost" in text for _, _, text in bad(found))


def test_damage_in_snap_files(folder: Path) -> None:
    newest = max((folder / "d/member/snap").glob("*.snap"))
    change(newest, 60, b"?")
    code, found = verify(folder)
    assert code == DAMAGED
    assert bad(found)[0] == (f"d/member/snap/{newest.name}", -1, "snap: crc mismatch")


def test_damage_in_the_database(folder: Path) -> None:
    path = folder / "d" / DB
    content = path.read_bytes()
    metas = [parse_meta(content[at : at + 80]) for at in (0, 4096)]
    root = max((each.txid, each.root) for each in metas if isinstance(each, Meta))[1]
    change(path, root * 4096, (root + 1).to_bytes(8, "little"))
    code, found = verify(folder)
    assert code == DAMAGED
    assert bad(found)[0][:2] == (f"d/{DB}", root * 4096)
    assert "carries another id" in bad(found)[0][2]
    path.write_bytes(content)
    change(path, PAGE_HEADER_SIZE + 60, b"\xff")
    change(path, 4096 + PAGE_HEADER_SIZE + 60, b"\xff")
    code, found = verify(folder)
    assert code == DAMAGED
    assert bad(found)[0][0] == f"d/{DB}"
    assert "both meta pages are invalid" in bad(found)[0][2]
    path.unlink()
    assert (f"d/{DB}", -1, "there is no database") in bad(verify(folder)[1])


def test_no_log_and_no_directory(folder: Path) -> None:
    shutil.rmtree(folder / "d/member/wal")
    assert bad(verify(folder)[1])[0] == ("d/member/wal", -1, "there is no log")
    done = ours(folder, "verify", "--data-dir=nope")
    assert done.code == BLIND
    assert "is not the data directory of a member" in done.errors
    assert ours(folder, "verify").code == 128
    assert ours(folder, "verify", "a", "--data-dir=d").code == 128
    assert ours(folder, "verify", "--data-dir=d", "-w", "table").code == 4
    assert ours(folder, "verify", "nope.db").errors == "Error: stat nope.db: no such file or directory"


def test_snapshot_files(tmp_path: Path) -> None:
    content = saved("ours")[0].read_bytes()
    pair = Pair(tmp_path)
    folder = pair.folders["ours"]
    pair.put("snap.db", content)
    assert verify(folder, "snap.db")[0] == FINE
    pair.put("copied.db", content[:-32])
    code, found = verify(folder, "copied.db")
    assert (code, [each["text"] for each in found["findings"]]) == (FINE, ["no sha256 at the end"])
    at = content.rindex(b"29 of 1")
    pair.put("value.db", content[:at] + b"?" + content[at + 1 :])
    code, found = verify(folder, "value.db")
    assert code == DAMAGED
    assert bad(found) == [("value.db", len(content) - 32, "not what its sha256 was made of")]


def test_records_that_contradict_each_other(tmp_path: Path) -> None:
    """What the pages cannot show: a changed key, version or revision in a file without a digest."""
    content = saved("ours")[0].read_bytes()[:-32]
    at = content.rindex(b"\n\x03k29\x10")  # key, then create_revision
    (tmp_path / "bad.db").write_bytes(content[: at + 4] + b"8" + content[at + 5 :])
    code, found = verify(tmp_path, "bad.db")
    assert code == DAMAGED
    assert all(offset >= 0 for _, offset, _ in bad(found))
    assert any("follows" in text for _, _, text in bad(found))
    restored = ours(tmp_path, "snapshot", "restore", "bad.db", "--data-dir=r", "--skip-hash-check")
    assert restored.code == 1
    assert restored.errors.startswith("Error: snapshot file integrity check failed. ")
    status = ours(tmp_path, "snapshot", "status", "bad.db")
    assert status.code == 0
    assert [message for _, message, _ in status.log] == ["the records contradict each other"] * len(bad(found))
