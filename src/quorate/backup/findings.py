"""What a check of files has found: facts, and findings with their place and what can be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from quorate.errors import CorruptError
from quorate.ports import Disk

NOTE: Final = "note"
BAD: Final = "bad"


@dataclass
class Finding:
    """One. `offset` is a byte of the file, -1 when no single place is to blame."""

    level: str
    path: str
    offset: int
    text: str
    advice: str


class Report:
    """All of one run."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.facts: list[tuple[str, str]] = []
        self.findings: list[Finding] = []

    @property
    def damaged(self) -> bool:
        """Tell whether anything is wrong."""
        return any(finding.level == BAD for finding in self.findings)

    def fact(self, name: str, text: str) -> None:
        """Note what was seen."""
        self.facts.append((name, text))

    def add(self, level: str, path: str, offset: int, text: str, advice: str) -> None:
        """Note a finding."""
        self.findings.append(Finding(level, path, offset, text, advice))

    def damage(self, error: Exception, path: str, advice: str) -> None:
        """Note what a reader has raised."""
        if isinstance(error, CorruptError):
            self.add(BAD, error.path, error.offset, error.text, advice)
        else:
            self.add(BAD, path, -1, str(error), advice)
