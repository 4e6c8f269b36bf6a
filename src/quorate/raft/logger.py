"""Where raft's log lines go. Their texts are etcd's, word for word, because people and scripts search for them.

A line is put together only when its level is wanted: callers write `if logger.level <= INFO: logger.info(f"...")`.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

DEBUG: Final = 0
INFO: Final = 1
WARN: Final = 2
ERROR: Final = 3
SILENT: Final = 4


@mypyc_attr(allow_interpreted_subclasses=True)
class Logger:
    """Drops every line; subclasses set `level` to the lowest level they want and override `write`."""

    def __init__(self, level: int = SILENT) -> None:
        self.level: int = level

    def write(self, level: int, text: str) -> None:
        """Take one line at a level."""

    def debug(self, text: str) -> None:
        """Write a line at level debug."""
        self.write(DEBUG, text)

    def info(self, text: str) -> None:
        """Write a line at level info."""
        self.write(INFO, text)

    def warn(self, text: str) -> None:
        """Write a line at level warning."""
        self.write(WARN, text)

    def error(self, text: str) -> None:
        """Write a line at level error."""
        self.write(ERROR, text)
