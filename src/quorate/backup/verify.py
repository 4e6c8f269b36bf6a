"""Everything that can be checked of a stopped member's directory, or of a snapshot file, without changing a byte.

In this order: the log (checksums, form, gaps, identity), the .snap files (checksum, content, whether the log knows
them), the database and received ones (pages, schema, records), and whether the three belong together. Each finding
says where it is and what can be done. NOTE: nothing is wrong, but worth knowing; BAD: a member would not start on it,
or would start with something lost or wrong.

What cannot be found, since the format has no checksums over pages: changed bytes in a value, in a password, in a lease
id. The hash of the history shows them beside that of another member (`etcdutl hashkv`, `etcdctl endpoint hashkv`).
"""

from __future__ import annotations

from typing import Final

from quorate.backup.contents import read_snap, read_wal
from quorate.backup.database import check_database
from quorate.backup.findings import BAD, NOTE, Report
from quorate.backup.offline import BackupError, Paths
from quorate.backup.status import DIGEST_BYTES, digest_of, has_digest
from quorate.errors import CorruptError
from quorate.membership.v2store import decode_v2store
from quorate.ports import Disk, File, NullLog
from quorate.server.bootstrap import check_commit, read_metadata
from quorate.storage.snapfile import snap_name
from quorate.storage.wal_reader import TORN, RecordReader, WalContents, list_segments
from quorate.storage.wal_record import SNAPSHOT, STATE, WalSnapshot, decode_wal_snapshot

_FROM_OTHERS: Final = (
    "remove this member from the cluster and add it again with an empty directory; "
    "without a cluster, restore a snapshot"
)
_RETAKE: Final = "take another snapshot; --skip-hash-check restores this one with whatever is wrong in it"


def verify_file(disk: Disk, path: str) -> Report:
    """Check a snapshot file. Raises OSError."""
    report = Report(disk)
    file = disk.open(path, read_only=True)
    try:
        size = file.size()
        if not has_digest(size):
            report.add(NOTE, path, -1, "no sha256 at the end", "a database copied from a directory has none")
        else:
            wanted = file.read_at(DIGEST_BYTES, size - DIGEST_BYTES)
            if digest_of(file, size - DIGEST_BYTES) != wanted:
                report.add(BAD, path, size - DIGEST_BYTES, "not what its sha256 was made of", _RETAKE)
    finally:
        file.close()
    check_database(report, path, _RETAKE)
    return report


def verify_directory(disk: Disk, paths: Paths) -> Report:
    """Check a directory. Raises BackupError when there is none, OSError."""
    if not disk.exists(paths.snap) and not disk.exists(paths.wal):
        raise BackupError(f"{paths.data_dir} is not the data directory of a member: no {paths.snap}, no {paths.wal}")
    report = Report(disk)
    known = _check_log(report, paths)
    start = _check_snaps(report, paths, known)
    contents = _check_replay(report, paths, start) if known is not None else None
    index = -1
    if disk.exists(paths.db):
        index = check_database(report, paths.db, _FROM_OTHERS)
    else:
        report.add(BAD, paths.db, -1, "there is no database", _FROM_OTHERS)
    received = _check_received(report, paths, start)
    if contents is not None and start is not None:
        _check_together(report, paths, start, contents, index, received)
    return report


def _check_log(report: Report, paths: Paths) -> set[tuple[int, int]] | None:
    """Read all records; return the snapshots that the log knows, None when it cannot be read."""
    files: list[File] = []
    known: set[tuple[int, int]] = set()
    commit = 0
    records = 0
    try:
        for name in list_segments(report.disk, paths.wal, NullLog()):
            files.append(report.disk.open(f"{paths.wal}/{name}", read_only=True))
        reader = RecordReader(files)
        snapshots: list[WalSnapshot] = []
        while (kind := reader.next()) > 0:
            records += 1
            if kind == SNAPSHOT:
                snapshots.append(decode_wal_snapshot(reader.data))
            elif kind == STATE:
                commit = _commit_of(reader.data)
        if kind == TORN:
            size = files[-1].size()
            report.add(
                NOTE, reader.path, reader.offset, f"torn end: {size - reader.offset} bytes are no whole record",
                "a crash leaves this, of what nobody was told was stored; the next start cuts it off",
            )  # fmt: skip
        known = {(each.term, each.index) for each in snapshots if each.index <= commit}
        report.fact("log", f"{len(files)} segments, {records} records, committed up to {commit}")
    except FileNotFoundError:
        report.add(BAD, paths.wal, -1, "there is no log", "without it a member would begin anew; " + _FROM_OTHERS)
        return None
    except (CorruptError, ValueError) as error:
        report.damage(error, paths.wal, _FROM_OTHERS)
        return None
    finally:
        for file in files:
            file.close()
    return known


def _commit_of(data: bytes) -> int:
    from quorate.raft.codec import decode_hard_state

    return decode_hard_state(data).commit


def _check_snaps(report: Report, paths: Paths, known: set[tuple[int, int]] | None) -> WalSnapshot | None:
    """Check the .snap files; return the one that a start would take, None when that cannot be told."""
    newest: WalSnapshot | None = None
    names = report.disk.list_dir(paths.snap) if report.disk.exists(paths.snap) else []
    count = 0
    for name in reversed(names):
        path = f"{paths.snap}/{name}"
        if name.endswith(".broken"):
            report.add(NOTE, path, -1, "put aside by an earlier start that could not read it", "it may be removed")
        elif name.startswith(("tmp", "db.tmp")):
            report.add(NOTE, path, -1, "left behind by something that was cut short", "the next start removes it")
        if not name.endswith(".snap"):
            continue
        count += 1
        try:
            snapshot = read_snap(report.disk, path)
            membership = decode_v2store(snapshot.data or b"")
            if name != snap_name(snapshot.term, snapshot.index):
                report.add(
                    BAD, path, -1, f"holds the snapshot {snapshot.term}, {snapshot.index}", "rename or remove it"
                )
                continue
        except ValueError as error:
            older = "a start takes the next older one, and needs the log from there on"
            report.add(BAD, path, -1, str(error), f"{older}; else {_FROM_OTHERS}")
            continue
        if not membership.members:
            report.add(BAD, path, -1, "names no members", _FROM_OTHERS)
        if known is not None and (snapshot.term, snapshot.index) not in known:
            report.add(NOTE, path, -1, "the log does not know it", "a crash leaves this; a start passes it over")
        elif newest is None:
            newest = WalSnapshot(snapshot.index, snapshot.term, snapshot.conf_state)
    report.fact("snapshots", f"{count} .snap files" + (f", the newest at {newest.index}" if newest else ""))
    return newest or WalSnapshot()


def _check_replay(report: Report, paths: Paths, start: WalSnapshot | None) -> WalContents | None:
    """Read the log as a start would."""
    if start is None:
        return None
    try:
        contents, _ = read_wal(report.disk, paths.wal, start, NullLog())
        member_id, cluster_id = read_metadata(contents.metadata, paths.wal)
        check_commit(contents, start.index, paths.wal)
    except CorruptError as error:
        report.damage(error, paths.wal, _FROM_OTHERS)
        return None
    last = contents.entries[-1].index if contents.entries else start.index
    report.fact("member", f"{member_id:x} of cluster {cluster_id:x}")
    report.fact("entries", f"{len(contents.entries)} behind the snapshot, the last at {last}")
    return contents


def _check_received(report: Report, paths: Paths, start: WalSnapshot | None) -> bool:
    """Check received databases that are not in place yet; tell whether the newest snapshot's is there."""
    found = False
    names = report.disk.list_dir(paths.snap) if report.disk.exists(paths.snap) else []
    for name in names:
        if not name.endswith(".snap.db"):
            continue
        path = f"{paths.snap}/{name}"
        wanted = start is not None and name == f"{start.index:016x}.snap.db"
        found = found or wanted
        report.add(NOTE, path, -1, "a database received from a leader", "a start puts it in place if it is wanted")
        advice = "remove it if the database is newer; else " + _FROM_OTHERS
        index = check_database(report, path, advice)
        if wanted and start is not None and 0 <= index < start.index:
            text = f"it has seen entries up to {index}, and belongs to the snapshot at {start.index}"
            report.add(BAD, path, -1, text, advice)
    return found


def _check_together(
    report: Report, paths: Paths, start: WalSnapshot, contents: WalContents, index: int, received: bool
) -> None:
    last = contents.entries[-1].index if contents.entries else start.index
    if index < 0:
        return
    if index < start.index and not received:
        text = f"the database has seen entries up to {index}, the snapshot stands at {start.index}: some are lost"
        report.add(BAD, paths.db, -1, text, _FROM_OTHERS)
    if index > last:
        text = f"the database has seen entries up to {index}, the log ends at {last}: acknowledged entries are lost"
        report.add(BAD, paths.wal, -1, text, _FROM_OTHERS)
