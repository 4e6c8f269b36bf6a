"""What a RangeRequest asks beyond the store: revision filters, sort order, the limit after both, keys_only.

(etcd: server/etcdserver/txn/txn.go, executeRange.) Works on encoded KeyValues. server/ranges uses it, in two steps:
`fetch_limit` says how many to fetch from the store, `select` makes the answer from them.

Rules, quirks included:
- Only without a sort order and without filters does the store get a limit, one more than asked for, to know `more`.
- Order NONE with another target than KEY sorts ascending, but only what that limit let through.
- KEY ascending is how the store answers; it is never sorted. (So it gets the limit too; etcd fetches all, to the same
  end.)
- `more` says that the limit cut something off after the filters. The count is the store's and knows no filter.
- Equal elements keep the key order, ascending and descending; etcd leaves that open.
"""

from __future__ import annotations

from typing import Final

from quorate.mvcc.record import key_value_fields, without_value

NONE: Final = 0
ASCEND: Final = 1
DESCEND: Final = 2

KEY: Final = 0
VERSION: Final = 1
CREATE: Final = 2
MOD: Final = 3
VALUE: Final = 4

_FIELD_OF: Final = {KEY: 0, CREATE: 1, MOD: 2, VERSION: 3, VALUE: 4}


class Selection:
    """The request's fields that bear on the choice; `sort_order` and `sort_target` are valid enum numbers."""

    def __init__(
        self,
        limit: int,
        sort_order: int,
        sort_target: int,
        keys_only: bool,
        min_mod: int,
        max_mod: int,
        min_create: int,
        max_create: int,
    ) -> None:
        self.limit = limit
        self.keys_only = keys_only
        self.min_mod = min_mod
        self.max_mod = max_mod
        self.min_create = min_create
        self.max_create = max_create
        self.filters = min_mod != 0 or max_mod != 0 or min_create != 0 or max_create != 0
        self.target = sort_target
        if sort_target != KEY and sort_order == NONE:
            self.order = ASCEND
            self.fetches_all = self.filters
        elif sort_target == KEY and sort_order == ASCEND:
            self.order = NONE
            self.fetches_all = self.filters
        else:
            self.order = sort_order
            self.fetches_all = self.filters or sort_order != NONE

    def fetch_limit(self) -> int:
        """Return the limit for `Store.range`, 0 for all."""
        return 0 if self.fetches_all or self.limit <= 0 else self.limit + 1

    def select(self, kvs: list[bytes]) -> tuple[list[bytes], bool]:
        """Return the records of the answer and whether there are more. Raises ValueError for what is no record."""
        if self.target == KEY and self.order == DESCEND and not self.filters:
            kvs = kvs[::-1]
        elif self.filters or self.order != NONE:
            kvs = self._filter_and_sort(kvs)
        more = 0 < self.limit < len(kvs)
        if more:
            kvs = kvs[: self.limit]
        if self.keys_only:
            kvs = [without_value(record) for record in kvs]
        return kvs, more

    def _filter_and_sort(self, kvs: list[bytes]) -> list[bytes]:
        rows: list[tuple[bytes | int, bytes]] = []
        field = _FIELD_OF[self.target]
        for record in kvs:
            fields = key_value_fields(record)
            if self.filters and not self._passes(fields[1], fields[2]):
                continue
            rows.append((fields[field], record))
        if self.order != NONE:
            # Python's sort keeps the order of equal elements, with `reverse` too.
            rows.sort(key=_sort_key, reverse=self.order == DESCEND)
        return [row[1] for row in rows]

    def _passes(self, create: int, mod: int) -> bool:
        if self.max_mod != 0 and mod > self.max_mod:
            return False
        if self.min_mod != 0 and mod < self.min_mod:
            return False
        if self.max_create != 0 and create > self.max_create:
            return False
        return self.min_create == 0 or create >= self.min_create


def _sort_key(row: tuple[bytes | int, bytes]) -> bytes | int:
    return row[0]
