"""The member's log, line by line as etcd's zap writes it.

    {"level":"info","ts":"2026-11-21T00:21:09.666123Z","caller":"embed/etcd.go:131","msg":"...","key":"value"}

Key order: level, ts, [logger], caller, msg, the fields as given, [stacktrace]. Every line is one JSON object (or, with
the console format, one line of tab-separated columns), so that whatever reads the log never meets anything else; what
would otherwise print a traceback (`install`) becomes a line as well. Lines go out unbuffered with one write each.

Where they go is in `logout`. Sampling, as etcd has it: of equal messages in one second the first 100 pass and then
every 100th.

Source: etcd's client/pkg/logutil/zap.go and server/embed/config_logging.go.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from quorate.ports import Log, Moment
from quorate.runtime.logout import Output

LEVELS: Final = {"debug": 0, "info": 1, "warn": 2, "error": 3, "dpanic": 4, "panic": 5, "fatal": 6}

_SAMPLE_FIRST: Final = 100
_SAMPLE_EVERY: Final = 100
_SAMPLE_NAMES: Final = 4096


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


def stack_of(error: BaseException) -> str:
    """Return the traceback of an error as the text of a stacktrace field."""
    return "".join(traceback.format_exception(error)).rstrip()


class _Python(logging.Handler):
    """Takes what libraries say by Python's own logging, such as asyncio of an exception that nobody fetched."""

    def __init__(self, log: ZapLog) -> None:
        super().__init__(logging.WARNING)
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write it at level warn."""
        fields: dict[str, object] = {}
        if record.exc_info is not None and record.exc_info[1] is not None:
            fields["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
            fields["stacktrace"] = stack_of(record.exc_info[1])
        self.log.warn(f"{record.name}/{record.filename}:{record.lineno}", record.getMessage(), **fields)


def install(log: ZapLog) -> None:
    """Make every uncaught exception, every Python warning and what libraries log one line of the log."""
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

    logging.root.handlers[:] = [_Python(log)]
    sys.excepthook = uncaught
    threading.excepthook = in_thread
    sys.unraisablehook = unraisable
    warnings.showwarning = warning
