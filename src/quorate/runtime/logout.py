"""Where log lines go: descriptors, files, files that are put aside when they are large, the systemd journal.

Outputs: "default" and "stderr", "stdout", paths of files to append to, "systemd/journal" (alone); "/dev/null" drops
everything. Files are rotated as lumberjack does it, with names that sort by time: etcd-2026-11-21T00-21-09.666.log,
and .gz behind that when they are compressed.

Source: etcd's server/embed/config_logging.go, client/pkg/logutil/zap_journal.go; natefinch/lumberjack.
"""

from __future__ import annotations

import calendar
import gzip
import json
import os
import re
import shutil
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import Final

JOURNAL: Final = "systemd/journal"
JOURNAL_SOCKET: Final = "/run/systemd/journal/socket"

_PRIORITIES: Final = {"debug": 7, "info": 6, "warn": 4, "error": 3, "dpanic": 2, "panic": 2, "fatal": 2}
_STAMP: Final = "%Y-%m-%dT%H-%M-%S"
_DAY_S: Final = 86400


class Output:
    """Where lines go: a file descriptor that is not ours to close."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def write(self, line: bytes) -> None:
        """Write all of the line. A reader that has gone away must not stop the member: errors are dropped."""
        try:
            while line:
                line = line[os.write(self.descriptor, line) :]
        except OSError:
            return

    def close(self) -> None:
        """Release what the output holds."""


class FileOutput(Output):
    """Appends to a file of our own."""

    def __init__(self, path: str) -> None:
        super().__init__(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644))
        self.path = path

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


class Rotation:
    """When a log file is put aside: sizes in MB, ages in days; 0 means no limit."""

    def __init__(
        self,
        max_size: int = 100,
        max_age: int = 0,
        max_backups: int = 0,
        local_time: bool = False,
        compress: bool = False,
    ) -> None:
        self.max_bytes = (max_size or 100) << 20
        self.max_age = max_age
        self.max_backups = max_backups
        self.local_time = local_time
        self.compress = compress


class RotatingOutput(FileOutput):
    """A file that is renamed to `name-<time>.ext` when the next line would make it too large.

    Compressing and removing older ones is done by a thread of its own, so that whoever logs does not wait for it.
    """

    def __init__(self, path: str, rotation: Rotation) -> None:
        super().__init__(path)
        self.rotation = rotation
        self.size = os.fstat(self.descriptor).st_size
        self._tidying = threading.Lock()

    def write(self, line: bytes) -> None:
        """Write the line, in a fresh file when it does not fit the present one."""
        if self.size and self.size + len(line) > self.rotation.max_bytes:
            try:
                self._rotate()
            except OSError:
                self.size = 0  # tried again after as many bytes; the lines go on into the present file
        self.size += len(line)
        super().write(line)

    def _rotate(self) -> None:
        root, extension = os.path.splitext(self.path)
        now = time.time()
        parts = time.localtime(now) if self.rotation.local_time else time.gmtime(now)
        stamp = time.strftime(_STAMP, parts) + f".{int(now * 1000) % 1000:03d}"
        os.rename(self.path, f"{root}-{stamp}{extension}")
        os.close(self.descriptor)
        self.descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.size = 0
        threading.Thread(target=self.tidy, args=(now,), name="log", daemon=True).start()

    def tidy(self, now: float) -> None:
        """Remove the files that are too many or too old, and compress the others."""
        with self._tidying:
            try:
                self._tidy(now)
            except OSError:
                return  # the next rotation tries again

    def _tidy(self, now: float) -> None:
        rotation = self.rotation
        folder = os.path.dirname(self.path) or "."
        kept = []
        for number, (name, written) in enumerate(reversed(self.backups())):
            too_many = rotation.max_backups > 0 and number >= rotation.max_backups
            too_old = rotation.max_age > 0 and written < now - _DAY_S * rotation.max_age
            if too_many or too_old:
                os.remove(os.path.join(folder, name))
            else:
                kept.append(os.path.join(folder, name))
        for path in kept if rotation.compress else []:
            if not path.endswith(".gz"):
                _compress(path)

    def backups(self) -> list[tuple[str, float]]:
        """Return the files put aside, oldest first, with the time in their names."""
        root, extension = os.path.splitext(os.path.basename(self.path))
        pattern = re.compile(
            re.escape(root) + r"-(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d)(\.\d{3})" + re.escape(extension) + r"(?:\.gz)?\Z"
        )
        found = []
        for name in sorted(os.listdir(os.path.dirname(self.path) or ".")):
            match = pattern.match(name)
            if match is not None:
                parts = time.strptime(match[1], _STAMP)
                seconds = time.mktime(parts) if self.rotation.local_time else calendar.timegm(parts)
                found.append((name, seconds + float(match[2])))
        return found


def _compress(path: str) -> None:
    with open(path, "rb") as source, gzip.open(f"{path}.gz.part", "wb") as target:
        shutil.copyfileobj(source, target)
    shutil.copymode(path, f"{path}.gz.part")
    os.replace(f"{path}.gz.part", f"{path}.gz")
    os.remove(path)


class JournalOutput(Output):
    """The systemd journal, by its native protocol; a line that it does not take goes to stderr."""

    def __init__(self, path: str = JOURNAL_SOCKET) -> None:
        """Connect; OSError when there is no journal."""
        super().__init__(2)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise

    def write(self, line: bytes) -> None:
        """Send one line with its level as priority, the caller's package and our name."""
        try:
            record = json.loads(line)
            level, caller = record.get("level", ""), str(record.get("caller", ""))
        except ValueError:
            level, caller = "", ""
        fields = {
            "MESSAGE": line,
            "PRIORITY": str(_PRIORITIES.get(level, 6)).encode(),
            "PACKAGE": os.path.dirname(caller).encode() or b".",
            "SYSLOG_IDENTIFIER": os.path.basename(sys.argv[0]).encode(),
        }
        data = b"".join([_journal_field(name, value) for name, value in fields.items()])
        try:
            self._socket.send(data)
        except OSError:
            super().write(line)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _journal_field(name: str, value: bytes) -> bytes:
    """Return a field; a value of several lines has its length in front instead of an equals sign."""
    if b"\n" in value:
        return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
    return name.encode() + b"=" + value + b"\n"


def open_outputs(names: Sequence[str], rotation: Rotation | None = None) -> list[Output]:
    """Return the outputs of --log-outputs; OSError when a file cannot be opened, or the journal is not there."""
    if "/dev/null" in names:
        return [FileOutput("/dev/null")]
    outputs: list[Output] = []
    for name in sorted({"stderr" if name == "default" else name for name in names}):
        if name == "stderr":
            outputs.append(Output(2))
        elif name == "stdout":
            outputs.append(Output(1))
        elif name == JOURNAL:
            outputs.append(JournalOutput())
        else:
            path = name.removeprefix("file://")
            outputs.append(RotatingOutput(path, rotation) if rotation else FileOutput(path))
    return outputs
