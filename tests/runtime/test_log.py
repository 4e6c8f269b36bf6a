"""The lines of the log: order of keys, times, levels, outputs, rotation, uncaught errors."""

from __future__ import annotations

import gzip
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quorate.runtime.log import ZapLog, stack_of
from quorate.runtime.logout import FileOutput, JournalOutput, Output, RotatingOutput, Rotation, open_outputs
from tests.oracle import ROOT


def logged(tmp_path: Path, level: str = "info", console: bool = False) -> tuple[ZapLog, Path]:
    path = tmp_path / "log"
    return ZapLog([FileOutput(str(path))], level, console), path


def test_a_line(tmp_path: Path) -> None:
    log, path = logged(tmp_path)
    log.info("embed/etcd.go", 'a "message" é', **{"name": "m1", "urls": ["http://a"], "n": 5, "is-leader": True})
    line = path.read_text(encoding="utf-8")
    assert line.endswith(
        '"caller":"embed/etcd.go","msg":"a \\"message\\" é","name":"m1","urls":["http://a"],"n":5,"is-leader":true}\n'
    )
    assert re.match(r'\{"level":"info","ts":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d{4})",', line)


def test_the_time_is_now_in_the_local_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        for zone, suffix in (("UTC", "Z"), ("XXX-5:30", "+0530"), ("YYY+3", "-0300")):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            log, path = logged(tmp_path)
            log.info("x", "y")
            stamp = json.loads(path.read_text().splitlines()[-1])["ts"]
            assert stamp.endswith(suffix)
            read = time.strptime(stamp.removesuffix("Z") + ("+0000" if suffix == "Z" else ""), "%Y-%m-%dT%H:%M:%S.%f%z")
            assert abs(time.mktime(read) - read.tm_gmtoff + time.localtime().tm_gmtoff - time.time()) < 5
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_logger_s_name_stands_before_the_caller(tmp_path: Path) -> None:
    log, path = logged(tmp_path)
    log.info("etcdserver/zap_raft.go", "became leader", logger="raft")
    assert list(json.loads(path.read_text())) == ["level", "ts", "logger", "caller", "msg"]


@pytest.mark.parametrize(
    ("level", "seen"),
    [("debug", 4), ("info", 3), ("warn", 2), ("error", 1), ("fatal", 0)],
)
def test_levels(tmp_path: Path, level: str, seen: int) -> None:
    log, path = logged(tmp_path, level)
    log.debug("c", "m")
    log.info("c", "m")
    log.warn("c", "m")
    log.error("c", "m")
    assert len(path.read_text().splitlines()) == seen
    log.fatal("c", "m")
    assert json.loads(path.read_text().splitlines()[-1])["level"] == "fatal"


def test_underscores_stand_for_etcd_s_dashes(tmp_path: Path) -> None:
    log, path = logged(tmp_path)
    log.info("c", "m", data_dir="/x")
    assert json.loads(path.read_text())["data-dir"] == "/x"


def test_what_json_has_no_form_for_becomes_text(tmp_path: Path) -> None:
    log, path = logged(tmp_path)
    log.info("c", "m", path=tmp_path, lone="\udc80")
    assert json.loads(path.read_bytes())["path"] == str(tmp_path)


def test_repeated_lines_are_thinned_out(tmp_path: Path) -> None:
    log, path = logged(tmp_path)
    for _ in range(1000):
        log.warn("c", "again and again")
    assert 100 <= len(path.read_text().splitlines()) <= 330
    log.warn("c", "another")
    assert "another" in path.read_text().splitlines()[-1]


def test_console(tmp_path: Path) -> None:
    log, path = logged(tmp_path, console=True)
    log.info("embed/etcd.go", "a message", name="m1")
    log.info("embed/etcd.go", "no fields")
    first, second = path.read_text().splitlines()
    assert first.split("\t")[1:] == ["info", "embed/etcd.go", "a message", '{"name": "m1"}']
    assert second.split("\t")[1:] == ["info", "embed/etcd.go", "no fields"]


def test_outputs(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    assert [output.descriptor for output in open_outputs(["default"])] == [2]
    assert [output.descriptor for output in open_outputs(["stderr", "stdout", "stderr"])] == [2, 1]
    assert isinstance(open_outputs([path])[0], FileOutput)
    assert len(open_outputs([path, "/dev/null"])) == 1
    with pytest.raises(OSError, match="No such file"):
        open_outputs([str(tmp_path / "no" / "a")])


def test_rotation(tmp_path: Path) -> None:
    path = tmp_path / "etcd.log"
    rotation = Rotation(1, max_backups=2)
    rotation.max_bytes = 2000
    output = RotatingOutput(str(path), rotation)
    log = ZapLog([output])
    for number in range(120):
        log.info("c", f"line {number}", filler="x" * 100)
        if number % 10 == 0:
            time.sleep(0.002)  # names have milliseconds
    output.tidy(time.time())
    names = sorted(each.name for each in tmp_path.iterdir())
    assert len(names) == 3
    assert names[-1] == "etcd.log"
    assert all(re.fullmatch(r"etcd-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}\.log", name) for name in names[:-1])
    kept = [json.loads(line)["msg"] for name in names for line in (tmp_path / name).read_text().splitlines()]
    assert kept == [f"line {number}" for number in range(120 - len(kept), 120)]
    assert all((tmp_path / name).stat().st_size <= 2000 for name in names)


def test_rotated_files_are_compressed_and_go_by_the_age_in_their_names(tmp_path: Path) -> None:
    old, young = (tmp_path / f"etcd-{day}T10-00-00.000.log.gz" for day in ("2020-01-01", "2099-01-01"))
    other = tmp_path / "etcd-2020-01-01T10-00-00.000.txt"
    for path in (old, young, other):
        path.write_bytes(b"")
    rotation = Rotation(1, max_age=1, compress=True)
    rotation.max_bytes = 100
    output = RotatingOutput(str(tmp_path / "etcd.log"), rotation)
    output.write(b"first" * 20)
    output.write(b"second")
    output.tidy(time.time())
    assert not old.exists()
    assert young.exists()
    assert other.exists()
    fresh = [path for path in tmp_path.iterdir() if path.suffix == ".gz" and path != young]
    assert len(fresh) == 1
    assert gzip.decompress(fresh[0].read_bytes()) == b"first" * 20
    assert (tmp_path / "etcd.log").read_bytes() == b"second"


def test_the_journal_gets_lines_by_its_own_protocol(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        log = ZapLog([JournalOutput(path)])
        log.error("etcdserver/server.go", "a message")
        data = journal.recv(65536)
    log.close()
    line = data[len(b"MESSAGE\n") + 8 :].partition(b"\n")[0]
    assert json.loads(line)["msg"] == "a message"
    assert data.startswith(b"MESSAGE\n" + (len(line) + 1).to_bytes(8, "little") + line + b"\n\n")
    assert b"\nPRIORITY=3\nPACKAGE=etcdserver\nSYSLOG_IDENTIFIER=" in data
    with pytest.raises(OSError, match="No such file"):
        JournalOutput(str(tmp_path / "none"))


def test_a_reader_that_goes_away_stops_nothing() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    Output(write_end).write(b"line\n")
    os.close(write_end)


def test_uncaught_errors_are_one_line_of_json() -> None:
    code = """
import logging, threading, warnings
from quorate.runtime.log import ZapLog, install
install(ZapLog())
warnings.warn("careful")
logging.getLogger("lib").info("nothing")
try: 1 / 0
except ZeroDivisionError: logging.getLogger("lib").exception("a library %s", "says")
class Sore:
    def __del__(self): raise ValueError("in del")
Sore()
def work(): raise KeyError("in thread")
thread = threading.Thread(target=work); thread.start(); thread.join()
raise RuntimeError("two\\nlines")
"""
    env = {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in lines] == ["warn", "warn", "fatal", "fatal"]
    assert (lines[0]["msg"], lines[0]["error"]) == ("a library says", "ZeroDivisionError: division by zero")
    assert lines[3]["error"] == "RuntimeError: two\nlines"
    assert lines[3]["stacktrace"].startswith("Traceback")


def test_stack_of() -> None:
    with pytest.raises(ValueError, match="why") as caught:
        raise ValueError("why")
    assert stack_of(caught.value).endswith("ValueError: why")
