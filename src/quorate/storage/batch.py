"""The open batch: what was written since the last commit began, and how a read sees it above the file.

A batch maps each bucket to its changes: a key to its new value, or to None where the key was deleted. `overlay` and
`merge` put changes over pairs that come from the file.
"""

from __future__ import annotations

from bisect import bisect_left

from quorate.storage.schema import KEY

Changes = dict[bytes, bytes | None]


class Batch:
    """Changes by bucket. `revisions` are those of the bucket `key`; they mostly come in ascending order."""

    def __init__(self) -> None:
        self.revisions: Changes = {}
        self.buckets: dict[bytes, Changes] = {KEY: self.revisions}
        self.created: list[bytes] = []
        # The sorted keys of a bucket, as long as it has that many: a key once changed stays in the batch.
        self._sorted: dict[bytes, list[bytes]] = {}

    def changes(self, bucket: bytes) -> Changes:
        """Return the changes of a bucket, to be added to."""
        found = self.buckets.get(bucket)
        if found is None:
            found = self.buckets[bucket] = {}
        return found

    def sorted_keys(self, bucket: bytes) -> list[bytes]:
        """Return the changed keys of a bucket in order. Not to be changed."""
        changes = self.buckets.get(bucket)
        if not changes:
            return []
        keys = self._sorted.get(bucket)
        if keys is None or len(keys) != len(changes):
            keys = self._sorted[bucket] = sorted(changes)
        return keys


def overlay(batches: list[Batch], bucket: bytes, start: bytes, end: bytes) -> Changes:
    """Return the changes of all batches, the later ones above the earlier, with start <= key < end (b"": no end)."""
    found: Changes = {}
    for batch in batches:
        keys = batch.sorted_keys(bucket)
        if not keys:
            continue
        low = bisect_left(keys, start) if start else 0
        high = bisect_left(keys, end) if end else len(keys)
        changes = batch.buckets[bucket]
        for key in keys[low:high]:
            found[key] = changes[key]
    return found


def merge(rows: list[tuple[bytes, bytes]], changes: Changes) -> list[tuple[bytes, bytes]]:
    """Return ascending pairs with the changes made to them."""
    merged = [row for row in rows if row[0] not in changes]
    for key, value in changes.items():
        if value is not None:
            merged.append((key, value))
    merged.sort()
    return merged
