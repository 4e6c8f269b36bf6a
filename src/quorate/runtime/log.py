"""The member's log, line by line as etcd's zap writes it.

    {"level":"info","ts":"2026-11-21T00:21:09.666123Z","caller":"embed/etcd.go:131","msg":"...","key":"value"}

Key order: level, ts, [logger], caller, msg, the fields as given, [stacktrace]. Every line is one JSON object (or, with
the console format, one line of tab-separated columns), so that whatever reads the log never meets anything else; what
would otherwise print a traceback (`install`) becomes a line as well. Lines go out unbuffered with one write each.

Outputs: "default" and "stderr", "stdout", or paths of files to append to; "/dev/null" drops everything. Sampling, as
etcd has it: of equal messages in one second the first 100 pass and then every 100th.

Source: etcd's client/pkg/logutil/zap.go and server/embed/config_logging.go.
Left out: the systemd journal, compression of rotated files.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from quorate.ports import Log, Moment

LEVELS: Final = {"debug": 0, "info": 1, "warn": 2, "error": 3, "dpanic": 4, "panic": 5, "fatal": 6}

_SAMPLE_FIRST: Final = 100
_SAMPLE_EVERY: Final = 100
_SAMPLE_NAMES: Final = 4096


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

    def __init__(self, max_size: int = 100, max_age: int = 0, max_backups: int = 0, local_time: bool = False) -> None:
        self.max_bytes = (max_size or 100) << 20
        self.max_age = max_age
        self.max_backups = max_backups
        self.local_time = local_time


class RotatingOutput(FileOutput):
    """A file that is renamed to `name-<time>.ext` when the next line would make it too large (as lumberjack does)."""

    def __init__(self, path: str, rotation: Rotation) -> None:
        super().__init__(path)
        self.rotation = rotation
        self.size = os.fstat(self.descriptor).st_size

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
        stamp = time.strftime("%Y-%m-%dT%H-%M-%S", parts) + f".{int(now * 1000) % 1000:03d}"
        os.rename(self.path, f"{root}-{stamp}{extension}")
        os.close(self.descriptor)
        self.descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.size = 0
        self._remove_old(root, extension, now)

    def _remove_old(self, root: str, extension: str, now: float) -> None:
        folder, start = os.path.split(root)
        old = sorted(
            name
            for name in os.listdir(folder or ".")
            if name.startswith(start + "-") and name.endswith(extension) and len(name) >= len(start) + 24
        )
        doomed = old[: -self.rotation.max_backups] if self.rotation.max_backups else []
        if self.rotation.max_age:
            for name in old:
                if os.stat(os.path.join(folder, name)).st_mtime < now - 86400 * self.rotation.max_age:
                    doomed.append(name)
        for name in set(doomed):
            os.remove(os.path.join(folder, name))


class ZapLog(Log):
    """The log as everybody gets it. May be called from any thread.

    A field's name may be given with underscores for etcd's dashes: `took="1s"`, `data_dir=...` is "data-dir".
    """

    def __init__(self, outputs: Sequence[Output] = (), level: str = "info", console: bool = False) -> None:
        self.outputs = list(outputs) or [Output(2)]
        self.threshold = LEVELS[level]
        self.console = console
        self._lock = threading.Lock()
        self._second = 0
        self._prefix = ""
        self._suffix = ""
        self._seen: dict[tuple[str, str], int] = {}

    def debug(self, caller: str, msg: str, **fields: object) -> None:
        """Write a line at level debug."""
        if self.threshold <= 0:
            self._line("debug", caller, msg, fields)

    def info(self, caller: str, msg: str, **fields: object) -> None:
        """Write a line at level info."""
        if self.threshold <= 1:
            self._line("info", caller, msg, fields)

    def warn(self, caller: str, msg: str, **fields: object) -> None:
        """Write a line at level warn."""
        if self.threshold <= 2:
            self._line("warn", caller, msg, fields)

    def error(self, caller: str, msg: str, **fields: object) -> None:
        """Write a line at level error."""
        if self.threshold <= 3:
            self._line("error", caller, msg, fields)

    def fatal(self, caller: str, msg: str, **fields: object) -> None:
        """Write a line at level fatal. The caller ends the process."""
        self._line("fatal", caller, msg, fields)

    def set_level(self, level: str) -> None:
        """Write lines of this level and above from now on."""
        self.threshold = LEVELS[level]

    def write(self, line: bytes) -> None:
        """Send a finished line to every output."""
        with self._lock:
            for output in self.outputs:
                output.write(line)

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            for output in self.outputs:
                output.close()
            self.outputs = []

    def _line(self, level: str, caller: str, msg: str, fields: dict[str, object]) -> None:
        now = time.time_ns()
        with self._lock:
            stamp = self._stamp(now)
            if level != "fatal" and not self._passes(level, msg):
                return
        if self.console:
            text = self._console(level, stamp, caller, msg, fields)
        else:
            record: dict[str, object] = {"level": level, "ts": stamp}
            if "logger" in fields:
                record["logger"] = fields.pop("logger")
            record["caller"] = caller
            record["msg"] = msg
            for name, value in fields.items():
                record[name.replace("_", "-")] = value
            text = json.dumps(record, ensure_ascii=False, separators=(",", ":"), default=self._plain)
        self.write((text + "\n").encode("utf-8", "replace"))

    def _console(self, level: str, stamp: str, caller: str, msg: str, fields: dict[str, object]) -> str:
        stack = fields.pop("stacktrace", None)
        columns = [stamp, level]
        if "logger" in fields:
            columns.append(str(fields.pop("logger")))
        columns += [caller, msg]
        if fields:
            named = {name.replace("_", "-"): value for name, value in fields.items()}
            columns.append(json.dumps(named, ensure_ascii=False, default=self._plain))
        text = "\t".join(columns)
        return f"{text}\n{stack}" if stack else text

    def _plain(self, value: object) -> str:
        """Return a field's value that JSON has no form for."""
        return _time_text(value.time_ns) if isinstance(value, Moment) else str(value)

    def _stamp(self, now: int) -> str:
        second, rest = divmod(now, 10**9)
        if second != self._second:
            parts = time.localtime(second)
            self._second = second
            self._seen.clear()
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S.", parts)
            self._suffix = _zone(parts)
        return f"{self._prefix}{rest // 1000:06d}{self._suffix}"

    def _passes(self, level: str, msg: str) -> bool:
        if len(self._seen) >= _SAMPLE_NAMES:
            self._seen.clear()
        count = self._seen.get((level, msg), 0) + 1
        self._seen[level, msg] = count
        return count <= _SAMPLE_FIRST or (count - _SAMPLE_FIRST) % _SAMPLE_EVERY == 0


def _zone(parts: time.struct_time) -> str:
    minutes = parts.tm_gmtoff // 60
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}" if minutes else "Z"


def _time_text(time_ns: int) -> str:
    second, rest = divmod(time_ns, 10**9)
    parts = time.localtime(second)
    return time.strftime("%Y-%m-%dT%H:%M:%S.", parts) + f"{rest // 1000:06d}{_zone(parts)}"


def open_outputs(names: Sequence[str], rotation: Rotation | None = None) -> list[Output]:
    """Return the outputs of --log-outputs; OSError when a file cannot be opened."""
    if "/dev/null" in names:
        return [FileOutput("/dev/null")]
    outputs: list[Output] = []
    for name in sorted({"stderr" if name == "default" else name for name in names}):
        if name == "stderr":
            outputs.append(Output(2))
        elif name == "stdout":
            outputs.append(Output(1))
        else:
            path = name.removeprefix("file://")
            outputs.append(RotatingOutput(path, rotation) if rotation else FileOutput(path))
    return outputs


def stack_of(error: BaseException) -> str:
    """Return the traceback of an error as the text of a stacktrace field."""
    return "".join(traceback.format_exception(error)).rstrip()


def install(log: ZapLog) -> None:
    """Make every uncaught exception and every Python warning one line of the log."""
    import warnings

    caller = "etcdmain/main.go"

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        stack = "".join(traceback.format_exception(kind, error, trace)).rstrip()
        log.fatal(caller, "uncaught exception", error=f"{kind.__name__}: {error}", stacktrace=stack)

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            uncaught(args.exc_type, args.exc_value, args.exc_traceback)

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        if args.exc_value is not None:
            what = f"{type(args.exc_value).__name__}: {args.exc_value}"
            fields: dict[str, object] = {"error": what, "where": repr(args.object)}
            log._line("warn", caller, "ignored exception", fields)

    def warning(message: object, category: type[Warning], *_: object, **__: object) -> None:
        if log.threshold <= LEVELS["debug"]:
            log._line("debug", caller, "warning", {"category": category.__name__, "text": str(message)})

    sys.excepthook = uncaught
    threading.excepthook = in_thread
    sys.unraisablehook = unraisable
    warnings.showwarning = warning
