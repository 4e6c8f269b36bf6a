"""Rows of the kinds that have columns, and the table format (tablewriter: centred headers, cells to the right)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quorate.cli.etcdctl.output import Printer, write
from quorate.units import human_bytes

CELL_WIDTH = 30
Rows = tuple[list[str], list[list[str]]]


def member_rows(answer: Any) -> Rows:
    """Return the member list's columns."""
    rows = [
        [
            f"{member.ID:x}",
            "started" if member.name else "unstarted",
            member.name,
            ",".join(member.peerURLs),
            ",".join(member.clientURLs),
            str(member.isLearner).lower(),
        ]
        for member in answer.members
    ]
    return ["ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"], rows


def status_rows(found: list[tuple[str, Any]]) -> Rows:
    """Return the columns of `endpoint status`, which are 3.6's."""
    rows = []
    for endpoint, status in found:
        unused = 100 - status.dbSizeInUse * 100 // status.dbSize if status.dbSize else 0
        rows.append(
            [
                endpoint,
                f"{status.header.member_id:x}",
                status.version,
                status.storageVersion,
                human_bytes(status.dbSize),
                human_bytes(status.dbSizeInUse),
                f"{unused}%",
                human_bytes(status.dbSizeQuota),
                str(status.leader == status.header.member_id).lower(),
                str(status.isLearner).lower(),
                str(status.raftTerm),
                str(status.raftIndex),
                str(status.raftAppliedIndex),
                ", ".join(status.errors),
                status.downgradeInfo.targetVersion,
                str(status.downgradeInfo.enabled).lower(),
            ]
        )
    names = (
        "endpoint,ID,version,storage version,db size,in use,percentage not in use,quota,is leader,is learner,"
        "raft term,raft index,raft applied index,errors,downgrade target version,downgrade enabled"
    )
    return names.split(","), rows


def hash_rows(found: list[tuple[str, Any]]) -> Rows:
    """Return the columns of `endpoint hashkv`."""
    rows = [[endpoint, str(answer.hash), str(answer.hash_revision)] for endpoint, answer in found]
    return ["endpoint", "hash", "hash_revision"], rows


def health_rows(found: Any) -> Rows:
    """Return the columns of `endpoint health`."""
    rows = [[each.endpoint, str(each.health).lower(), each.took, each.error] for each in found]
    return ["endpoint", "health", "took", "error"], rows


def _wrap(cell: str) -> list[str]:
    words = cell.split(" ")
    limit = max([CELL_WIDTH, *[len(word) for word in words]])
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) <= limit:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return [line.strip() for line in lines]


def render(header: list[str], rows: list[list[str]]) -> str:
    """Return a table."""
    titles = [name.replace("_", " ").upper() for name in header]
    wrapped = [[_wrap(cell) if len(cell) > CELL_WIDTH else [cell] for cell in row] for row in rows]
    widths = [
        max([len(title), *[len(line) for row in wrapped for line in row[column]]])
        for column, title in enumerate(titles)
    ]
    rule = "+" + "+".join(["-" * (width + 2) for width in widths]) + "+\n"
    centred = [" " * ((width - len(title)) // 2) + title for title, width in zip(titles, widths, strict=True)]
    out = (
        rule
        + "|"
        + "|".join([f" {title:{width}} " for title, width in zip(centred, widths, strict=True)])
        + "|\n"
        + rule
    )
    for row in wrapped:
        for number in range(max([len(lines) for lines in row])):
            cells = [lines[number] if number < len(lines) else "" for lines in row]
            out += "|" + "|".join([f" {cell:>{width}} " for cell, width in zip(cells, widths, strict=True)]) + "|\n"
    return out + rule


TABLES: dict[str, Callable[[Any], Rows]] = {
    "member-list": member_rows,
    "endpoint-status": status_rows,
    "endpoint-hashkv": hash_rows,
    "endpoint-health": health_rows,
}


class TablePrinter(Printer):
    """ASCII tables for what has columns."""

    name = "table"

    def show(self, kind: str, answer: Any, *extra: Any) -> None:  # noqa: ARG002
        """Print a table."""
        if kind not in TABLES:
            raise self.unsupported()
        write(render(*TABLES[kind](answer)).encode())
