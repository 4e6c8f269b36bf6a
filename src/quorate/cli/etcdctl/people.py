"""What only a terminal gets: colours, aligned tables, warnings in a line, and what to try after an error.

Nothing here touches what a pipe or a file gets, which is etcd's byte for byte. $NO_COLOR takes the colours away, and
`-w simple` the tables.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TextIO

from quorate.cli.etcdctl.output import Health, write
from quorate.cli.etcdctl.simple import SimplePrinter
from quorate.cli.etcdctl.table import TABLES

BOLD, DIM, RED, GREEN, YELLOW = "1", "2", "31", "32", "33"
GOOD, BAD, MIDDLING = ("true", "started"), ("NOSPACE", "CORRUPT"), ("unstarted",)

OLD_FLAGS = "v3 calls them --cacert, --cert and --key; for the old forms set ETCDCTL_API=2"
USER = "give --user NAME, and --password or wait to be asked; $ETCDCTL_USER does the same"
HINTS = (
    ("unknown flag: --ca-file", OLD_FLAGS),
    ("unknown flag: --cert-file", OLD_FLAGS),
    ("unknown flag: --key-file", OLD_FLAGS),
    ('unknown command "cluster-health"', "`etcdctl endpoint health --cluster`; the old form needs ETCDCTL_API=2"),
    ("unknown flag", "`etcdctl COMMAND --help` lists the flags"),
    (
        "context deadline exceeded",
        "is the server running, and does --endpoints (or $ETCDCTL_ENDPOINTS) name it? With TLS: https://, --cacert, "
        "--cert and --key. A longer --command-timeout helps a slow one",
    ),
    ("no available endpoints", "name one with --endpoints"),
    ("database space exceeded", "`etcdctl compaction REVISION`, `etcdctl defrag --cluster`, `etcdctl alarm disarm`"),
    ("required revision has been compacted", "leave --rev out, or take one that `etcdctl get -w json` shows"),
    ("required revision is a future revision", "leave --rev out, or take one that `etcdctl get -w json` shows"),
    ("user name is empty", USER),
    ("authentication failed", "check the name and the password; " + USER),
    ("invalid auth token", USER),
    ("permission denied", "another --user, or `etcdctl role grant-permission` by one who may"),
    ("root user does not exist", "`etcdctl user add root` first"),
    ("requested lease not found", "`etcdctl lease list` shows those that live"),
    ("member not found", "`etcdctl member list` shows the ids"),
    ("unhealthy cluster", "`etcdctl endpoint status --cluster` shows who answers and who leads"),
    ("no leader", "`etcdctl endpoint health --cluster`; a leader needs more than half of the members"),
    ("can only promote a learner member which is in sync", "wait until it has caught up, and try again"),
    ("did you mean --peer-urls", "v3's form is `etcdctl member add NAME --peer-urls=URL`"),
    ("is not empty or could not be read", "name a new folder with --data-dir"),
    ("not empty or could not be read", "name a new folder with --data-dir"),
    ("missing hash but --skip-hash-check=false", "for a copied database file give --skip-hash-check"),
    ("KeyFile and CertFile must both be present", "give --cert and --key together"),
    ("no such host", "check the name, or give an address"),
)


def lively(stream: TextIO) -> bool:
    """Tell whether somebody looks on who can see more than lines."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str, stream: TextIO) -> str:
    """Colour a text, if the stream shows colours."""
    if text and lively(stream) and not os.environ.get("NO_COLOR"):
        return f"\x1b[{colour}m{text}\x1b[0m"
    return text


def hint(text: str) -> str:
    """Return what to try after an error; "" when nobody knows."""
    return next((advice for part, advice in HINTS if part in text), "")


def show_error(text: str, stream: TextIO) -> None:
    """Print an error, and what to try."""
    advice = hint(text)
    stream.write(f"{paint('Error:', RED, stream)} {text}\n" + (f"  Try: {advice}\n" if advice else ""))
    stream.flush()


def show_log(level: str, message: str, fields: Mapping[str, str | int], stream: TextIO) -> None:
    """Print a warning in a line; what only tells of progress is left to progress bars."""
    if level == "info":
        return
    told = [str(fields[name]) for name in ("environment-variable", "error") if name in fields]
    stream.write(paint(f"{level}: {': '.join([message, *told])}", YELLOW, stream) + "\n")
    stream.flush()


class PeoplePrinter(SimplePrinter):
    """The simple format for eyes: tables where there are columns."""

    def __init__(self, hexadecimal: bool, stream: TextIO) -> None:
        super().__init__(hexadecimal)
        self._stream = stream

    def show(self, kind: str, answer: Any, *extra: Any) -> None:
        """Print an answer."""
        if kind == "endpoint-health":
            write(self._health(answer).encode())
        elif kind == "watch":
            for event in answer.events:
                word, colour = ("DELETE", RED) if event.type else ("PUT", GREEN)
                before = self.pair(event.prev_kv) if event.HasField("prev_kv") else b""
                write(paint(word, colour, self._stream).encode() + b"\n" + before + self.pair(event.kv))
        elif kind in TABLES:
            write(self.columns(*TABLES[kind](answer)).encode("utf-8", "surrogateescape"))
        else:
            super().show(kind, answer, *extra)

    def columns(self, header: list[str], rows: list[list[str]]) -> str:
        """Return rows below a header, each column as wide as it needs."""
        titles = [name.replace("_", " ").upper() for name in header]
        widths = [max(len(row[number]) for row in [titles, *rows]) for number in range(len(titles))]
        lines = [paint(self._line(titles, widths, False), BOLD, self._stream)]
        lines += [self._line(row, widths, True) for row in rows]
        return "".join([line + "\n" for line in lines])

    def _line(self, cells: list[str], widths: list[int], coloured: bool) -> str:
        shown = [
            (self._cell(cell) if coloured else cell) + " " * (width - len(cell))
            for cell, width in zip(cells, widths, strict=True)
        ]
        return "  ".join(shown).rstrip()

    def _cell(self, cell: str) -> str:
        for words, colour in ((GOOD, GREEN), (BAD, RED), (MIDDLING, YELLOW)):
            if cell in words or (words is BAD and any(word in cell for word in words)):
                return paint(cell, colour, self._stream)
        return cell

    def _health(self, found: list[Health]) -> str:
        width = max([len(each.endpoint) for each in found], default=0)
        lines = []
        for each in found:
            state = paint("healthy  ", GREEN, self._stream) if each.health else paint("unhealthy", RED, self._stream)
            lines.append(f"{each.endpoint:<{width}}  {state}  {each.took}{f'  {each.error}' if each.error else ''}\n")
        return "".join(lines)
