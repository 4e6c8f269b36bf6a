"""Our etcdutl and the real one (3.5.1), each in a folder of its own with the same files, side by side."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.backup.history import UTL, saved
from tests.oracle import ROOT

OURS = [sys.executable, "-m", "quorate.cli.etcdutl.main"]


@dataclass
class Outcome:
    """What an operator sees; `log` is level, message and fields of each log line."""

    stdout: bytes
    code: int
    errors: str
    log: list[tuple[str, str, str]]


def run(command: list[str], folder: Path, *args: str) -> Outcome:
    """Run a tool in a folder."""
    done = subprocess.run(
        [*command, *args],
        capture_output=True,
        timeout=60,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    errors, log = [], []
    for line in done.stderr.decode("utf-8", "surrogateescape").splitlines():
        parts = line.split("\t")
        if re.match(r"\d{4}-\d\d-\d\dT", line) and len(parts) >= 4:
            log.append((parts[1], parts[3], _fields(parts[4] if len(parts) > 4 else "{}")))
        else:
            errors.append(line)
    return Outcome(done.stdout, done.returncode, "\n".join(errors), log)


def _fields(text: str) -> str:
    fields = json.loads(text)
    # A stack trace of 3.5.1 and what 3.6 has on top; sizes hang on how a writer fills its pages.
    for name in ("stack", "initial-memory-map-size", "added-peer-is-learner", "took"):
        fields.pop(name, None)
    return json.dumps({name: "SIZE" if "size" in name else value for name, value in fields.items()})


def ours(folder: Path, *args: str) -> Outcome:
    return run(OURS, folder, *args)


def real(folder: Path, *args: str) -> Outcome:
    return run([UTL], folder, *args)


class Pair:
    """Two folders. Files made by `snapshot` and `directory` are alike in both."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.folders = {"ours": base / "ours", "real": base / "real"}
        for folder in self.folders.values():
            folder.mkdir()

    def put(self, name: str, content: bytes) -> None:
        for folder in self.folders.values():
            (folder / name).write_bytes(content)

    def snapshot(self, name: str = "snap.db", kind: str = "real") -> bytes:
        content = saved(kind)[0].read_bytes()
        self.put(name, content)
        return content

    def directory(self, name: str = "data") -> None:
        """Restore the snapshot as a directory, by the real tool."""
        self.snapshot()
        assert real(self.folders["real"], "snapshot", "restore", "snap.db", f"--data-dir={name}").code == 0
        shutil.copytree(self.folders["real"] / name, self.folders["ours"] / name)

    def run(self, *args: str) -> tuple[Outcome, Outcome]:
        """Run both; return ours, real."""
        return ours(self.folders["ours"], *args), real(self.folders["real"], *args)

    def same(self, *args: str, code: int | None = None, log: bool = True) -> Outcome:
        """Run both and compare stdout, stderr's lines, the exit status, and the log."""
        seen, wanted = self.run(*args)
        assert (seen.stdout, seen.errors, seen.code) == (wanted.stdout, wanted.errors, wanted.code), args
        if log:
            assert seen.log == wanted.log, args
        if code is not None:
            assert wanted.code == code, args
        return seen
