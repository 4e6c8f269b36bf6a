"""The `key` bucket, checked revision by revision for what bolt's pages cannot show, since they have no checksums.

What etcd has ever written obeys these rules, so whatever breaks one is damage:

- a key is a revision of 17 bytes (18 for a tombstone), a value an encoded KeyValue; a tombstone's has nothing but a key
- `mod_revision` is the main revision of the key it is stored under; `create_revision` is not above it
- above the last compaction every main revision is there, from 2 on, and every sub revision, from 0 on
- a key's records follow each other: after a put of version n comes version n+1 with the same `create_revision`, or a
  tombstone; after a tombstone, and first of all above the last compaction, version 1 created just then
- an empty record stands only where `--bump-revision` put it, at the revision it is compacted to

Not found: changed bytes within a value or a lease id, and within a key whose only record this is.
Source: etcd's server/storage/mvcc/kvstore.go and kvstore_txn.go.
"""

from __future__ import annotations

from typing import Final

from quorate.errors import CorruptError
from quorate.mvcc.record import encode_key_value, encode_tombstone, key_value_fields
from quorate.mvcc.revision import check_key, is_tombstone, main_of, sub_of
from quorate.storage.bolt.tx import ReadTx
from quorate.storage.schema import FINISHED_COMPACT_REV, META, SCHEDULED_COMPACT_REV

PROBLEMS_MAX: Final = 20


class RecordCheck:
    """Takes all pairs of the bucket, ascending. `malformed`: what is no record at all; `problems`: contradictions."""

    def __init__(self, compacted: int) -> None:
        self.revision = 0
        self.live: set[bytes] = set()
        self.malformed: list[str] = []
        self.problems: list[str] = []
        self.leases: dict[bytes, int] = {}
        self.more = 0  # problems beyond the first ones
        self.compacted = compacted  # the highest revision that a compaction was asked for
        self._sub = 0
        self._histories: dict[bytes, tuple[int, int]] = {}  # create revision and version, zeros after a tombstone

    @staticmethod
    def of(tx: ReadTx) -> RecordCheck:
        """Return the check of a database, whose `meta` bucket tells of compactions."""
        meta = tx.bucket(META)
        compacted = 1
        for name in (SCHEDULED_COMPACT_REV, FINISHED_COMPACT_REV):
            stored = meta.get(name) if meta is not None else None
            if stored is not None and len(stored) == 17:
                compacted = max(compacted, main_of(stored))
        return RecordCheck(compacted)

    def add(self, keys: list[bytes], values: list[bytes]) -> None:
        """Take the next pairs."""
        for key, value in zip(keys, values, strict=True):
            try:
                check_key(key)
                fields = key_value_fields(value)
            except CorruptError:
                self._note(self.malformed, f"cannot parse revision key: {key!r}")
            except ValueError as error:
                self._note(self.malformed, f"revision {_shown(key)}: cannot unmarshal value: {error}")
            else:
                self._order(key)
                self._record(key, value, fields)

    def finish(self) -> None:
        """Say what only the end shows."""
        if self.more:
            self.problems.append(f"and {self.more} more")

    def _note(self, notes: list[str], text: str) -> None:
        if len(notes) < PROBLEMS_MAX:
            notes.append(text)
        else:
            self.more += 1

    def _order(self, key: bytes) -> None:
        main, sub = main_of(key), sub_of(key)
        if main > self.compacted:
            if main == self.revision:
                wanted = (main, self._sub + 1)
            else:
                wanted = (max(self.revision, self.compacted) + 1, 0)
            if (main, sub) != wanted:
                text = f"revision {_shown(key)} follows {self.revision}/{self._sub}: what is between them is lost"
                self._note(self.problems, text)
        self.revision, self._sub = main, sub

    def _record(self, key: bytes, value: bytes, fields: tuple[bytes, int, int, int, bytes, int]) -> None:
        main = main_of(key)
        name, create, mod, version, data, lease = fields
        before = self._histories.get(name)
        if not value:
            if main != self.compacted:
                self._note(self.problems, f"revision {_shown(key)}: the record is empty")
            return
        if not name:
            self._note(self.problems, f"revision {_shown(key)}: the record has no key")
            return
        if is_tombstone(key):
            if value != encode_tombstone(name):
                self._note(self.problems, f"revision {_shown(key)}: a tombstone with more than a key")
            if main > self.compacted and not (before and before[1]):
                self._note(self.problems, f"revision {_shown(key)}: deletes {name!r}, which does not exist")
            self._histories[name] = (0, 0)
            self.live.discard(name)
            self.leases.pop(name, None)
            return
        if mod != main:
            self._note(self.problems, f"revision {_shown(key)}: mod_revision is {mod}")
        elif value != encode_key_value(name, create, mod, version, data, lease):
            self._note(self.problems, f"revision {_shown(key)}: not as etcd encodes a record")
        if not self._follows(main, create, version, before):
            told = "nothing" if before is None else f"version {before[1]} created at {before[0]}"
            text = f"revision {_shown(key)}: version {version} of {name!r}, created at {create}, follows {told}"
            self._note(self.problems, text)
        self._histories[name] = (create, version)
        self.live.add(name)
        if lease:
            self.leases[name] = lease
        else:
            self.leases.pop(name, None)

    def _follows(self, main: int, create: int, version: int, before: tuple[int, int] | None) -> bool:
        if before is not None and before[1]:
            return create == before[0] and version == before[1] + 1
        if before is not None or main > self.compacted:
            return create == main and version == 1
        # What came before it may be compacted away.
        return (create == main) if version == 1 else (version > 1 and 1 < create < main)


def _shown(key: bytes) -> str:
    return f"{main_of(key)}/{sub_of(key)}"
