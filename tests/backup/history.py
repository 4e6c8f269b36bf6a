"""Snapshot files with something of everything in them, made once a process by a real server and by ours."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from tests.interchange.visible import Client, View
from tests.oracle import Member, real_binary

UTL = real_binary("etcdutl")
_kept: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def saved(kind: str) -> tuple[Path, View]:
    """Return a snapshot that a member of the kind has sent, and what its clients saw then."""
    folder = tempfile.TemporaryDirectory(prefix="quorate-snapshot-")
    _kept.append(folder)
    path = Path(folder.name, "saved.db")
    member = Member(kind, flags=["--snapshot-count=25"])
    member.health_path = "/health?exclude=NOSPACE"
    try:
        member.start()
        with Client(member) as client:
            for number in range(2):
                client.write_history(number)
            client.alarm(2, client.range_all().header.member_id)
            view = client.view()
        assert member.etcdctl("snapshot", "save", str(path)).returncode == 0
        member.stop()
    finally:
        member.close()
    return path, view
