"""What a snapshot file holds: `snapshot status` (etcd: etcdutl/snapshot/v3_snapshot.go).

The hash is a CRC-32C over, for every bucket by name, the name and then each key and value; it says whether two files
hold the same, wherever the pages lie. The file may be a snapshot, whose last 32 bytes are the sha256 of what stands
before them, or a database copied from a directory.
"""

from __future__ import annotations

import hashlib
from typing import Final

from google_crc32c import extend

from quorate.backup.offline import COPY_BYTES, BackupError, check_pages, reading
from quorate.backup.records import RecordCheck
from quorate.errors import CorruptError
from quorate.ports import Disk, File, Log
from quorate.storage.bolt.page import BUCKET_FLAG
from quorate.storage.bolt.tree import Scan
from quorate.storage.schema import KEY, META, STORAGE_VERSION

DIGEST_BYTES: Final = 32


class Status:
    """The facts. `total_key` counts the pairs of all buckets (etcd up to 3.5), `live_keys` the keys that exist now
    (from 3.6 on); `version` is the storage version, empty below 3.6."""

    def __init__(self) -> None:
        self.hash = 0
        self.revision = 0
        self.total_key = 0
        self.live_keys = 0
        self.total_size = 0
        self.version = ""


def has_digest(size: int) -> bool:
    """Tell by its size whether a file ends with a sha256: pages are multiples of 512 bytes."""
    return size % 512 == DIGEST_BYTES


def digest_of(file: File, size: int) -> bytes:
    """Return the sha256 of the first `size` bytes."""
    digest = hashlib.sha256()
    for offset in range(0, size, COPY_BYTES):
        digest.update(file.read_at(min(COPY_BYTES, size - offset), offset))
    return digest.digest()


def snapshot_status(disk: Disk, path: str, log: Log) -> Status:
    """Read a snapshot file. Raises BackupError when its pages contradict each other, CorruptError, OSError.

    A digest that does not fit, and records that contradict each other, are warnings: the file can be read.
    """
    _warn_of_digest(disk, path, log)
    status = Status()
    with reading(disk, path, log) as (db, tx):
        check_pages(db, "snapshot")
        status.total_size = tx.size
        meta = tx.bucket(META)
        stored = meta.get(STORAGE_VERSION) if meta is not None else None
        status.version = stored.decode("utf-8", "replace") if stored else ""
        check = RecordCheck.of(tx)
        for name, tree in tx.buckets():
            parts: list[bytes] = [name]
            scan = Scan(tree, b"", None)
            while scan.next_leaf():
                if any(flags & BUCKET_FLAG for flags in scan.flags):
                    raise CorruptError(path, scan.base, f"bucket {name!r} has a bucket in it")
                if name == KEY:
                    check.add(scan.keys, scan.values)
                for key, value in zip(scan.keys, scan.values, strict=True):
                    parts.append(key)
                    parts.append(value)
                status.total_key += len(scan.keys)
                status.hash = extend(status.hash, b"".join(parts))
                parts = []
            status.hash = extend(status.hash, b"".join(parts))
        check.finish()
        status.revision = check.revision
        status.live_keys = len(check.live)
        if check.malformed:
            raise BackupError(check.malformed[0])
        for problem in check.problems:
            log.warn("snapshot/v3_snapshot.go", "the records contradict each other", path=path, problem=problem)
    return status


def _warn_of_digest(disk: Disk, path: str, log: Log) -> None:
    file = disk.open(path, read_only=True)
    try:
        size = file.size()
        if has_digest(size):
            wanted = file.read_at(DIGEST_BYTES, size - DIGEST_BYTES)
            if digest_of(file, size - DIGEST_BYTES) != wanted:
                text = "the file is damaged: it is not what its sha256 was made of; take another snapshot"
                log.warn("snapshot/v3_snapshot.go", text, path=path)
    finally:
        file.close()
