"""HashKV of a file: the hash that a member gives of its history, without the member (etcd 3.6: etcdutl hashkv).

Two files, or a file and a running member, have the same history up to a revision if this is equal for both with the
same compact revision. Nothing is written: a compaction that was asked for and not finished counts as finished, as it
does in a member that starts on the file.
"""

from __future__ import annotations

from quorate.backup.offline import BackupError, reading, require_file
from quorate.errors import CorruptError
from quorate.mvcc.hash import RevisionHash, RevisionHasher
from quorate.mvcc.key_index import KeyIndex
from quorate.mvcc.record import key_value_fields
from quorate.mvcc.revision import check_key, is_tombstone, main_of, sub_of
from quorate.ports import Disk, Log
from quorate.storage.bolt.tree import Scan, Tree
from quorate.storage.bolt.tx import ReadTx
from quorate.storage.schema import FINISHED_COMPACT_REV, KEY, META, SCHEDULED_COMPACT_REV


def hash_kv(disk: Disk, path: str, revision: int, log: Log) -> RevisionHash:
    """Return the hash up to a revision, 0 for the last one. Raises BackupError, CorruptError, OSError."""
    require_file(disk, path)
    with reading(disk, path, log) as (_, tx):
        tree = tx.bucket(KEY)
        compacted = max(_meta_revision(tx, SCHEDULED_COMPACT_REV), _meta_revision(tx, FINISHED_COMPACT_REV))
        index = KeyIndex()
        current = max(_load(tree, index, path) if tree is not None else 0, compacted, 1)
        index.finish_loading(current)
        if 0 < revision < compacted:
            raise BackupError("mvcc: required revision has been compacted")
        if revision > current:
            raise BackupError("mvcc: required revision is a future revision")
        wanted = revision if revision > 0 else current
        keeps_any = compacted >= 0 and index.any_at(wanted)
        hasher = RevisionHasher(index, wanted, compacted, keeps_any)
        if tree is not None:
            scan = Scan(tree, b"", None)
            while scan.next_leaf():
                hasher.add(list(zip(scan.keys, scan.values, strict=True)))
        return hasher.finish()


def _load(tree: Tree, index: KeyIndex, path: str) -> int:
    main = 0
    scan = Scan(tree, b"", None)
    while scan.next_leaf():
        for revision, record in zip(scan.keys, scan.values, strict=True):
            check_key(revision)
            main = main_of(revision)
            try:
                key, create, _, version, _, _ = key_value_fields(record)
            except ValueError as error:
                raise CorruptError(path, scan.base, f"revision {revision.hex()}: {error}") from error
            index.load(key, main, sub_of(revision), is_tombstone(revision), create, version)
    return main


def _meta_revision(tx: ReadTx, name: bytes) -> int:
    meta = tx.bucket(META)
    stored = meta.get(name) if meta is not None else None
    if stored is None:
        return -1
    check_key(stored)
    return main_of(stored)
