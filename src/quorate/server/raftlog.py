"""Raft's log lines in the member's log, under the name "raft" as etcd has them."""

from __future__ import annotations

from typing import Final

from quorate.ports import Log
from quorate.raft.logger import ERROR, INFO, WARN, Logger

_CALLER: Final = "etcdserver/zap_raft.go"


class RaftLog(Logger):
    """Passes raft's lines on."""

    def __init__(self, log: Log) -> None:
        super().__init__(INFO)
        self._log = log

    def write(self, level: int, text: str) -> None:
        """Take one line."""
        if level >= ERROR:
            self._log.error(_CALLER, text, logger="raft")
        elif level >= WARN:
            self._log.warn(_CALLER, text, logger="raft")
        else:
            self._log.info(_CALLER, text, logger="raft")
