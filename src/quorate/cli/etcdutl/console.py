"""Log lines on stderr as zap's console encoder writes them: time, level, caller, message and fields, between tabs."""

from __future__ import annotations

import sys
import time
from json import dumps

from quorate.ports import Log


class ConsoleLog(Log):
    """Writes everything but debug lines."""

    def debug(self, caller: str, msg: str, **fields: object) -> None:
        """Drop the line."""

    def info(self, caller: str, msg: str, **fields: object) -> None:
        """Write a line."""
        self._write("info", caller, msg, fields)

    def warn(self, caller: str, msg: str, **fields: object) -> None:
        """Write a line."""
        self._write("warn", caller, msg, fields)

    def error(self, caller: str, msg: str, **fields: object) -> None:
        """Write a line."""
        self._write("error", caller, msg, fields)

    def _write(self, level: str, caller: str, msg: str, fields: dict[str, object]) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        parts = [stamp, level, caller, msg]
        if fields:
            parts.append(dumps(fields, ensure_ascii=False))
        sys.stderr.write("\t".join(parts) + "\n")
        sys.stderr.flush()
