from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.mvcc.record import encode_key_value, key_value_fields
from quorate.mvcc.select import Selection

Row = tuple[bytes, int, int, int, bytes, int]
SMALL = st.integers(1, 4)
ROWS = st.dictionaries(
    st.binary(min_size=1, max_size=2), st.tuples(SMALL, SMALL, SMALL, st.binary(max_size=1), st.integers(0, 1))
)


def naive(rows: list[Row], limit: int, order: int, target: int, filters: list[int]) -> tuple[list[Row], bool]:
    """executeRange of etcd, word for word, over what the store returns for its limit."""
    min_mod, max_mod, min_create, max_create = filters
    if order != 0 or any(filters):
        fetched = rows
    else:
        fetched = rows[: limit + 1] if limit > 0 else rows
    if max_mod:
        fetched = [row for row in fetched if not row[2] > max_mod]
    if min_mod:
        fetched = [row for row in fetched if not row[2] < min_mod]
    if max_create:
        fetched = [row for row in fetched if not row[1] > max_create]
    if min_create:
        fetched = [row for row in fetched if not row[1] < min_create]
    if target != 0 and order == 0:
        order = 1
    if order != 0:
        field = (0, 3, 1, 2, 4)[target]
        fetched = sorted(fetched, key=lambda row: row[field], reverse=order == 2)  # type: ignore[arg-type,return-value]
    more = 0 < limit < len(fetched)
    return (fetched[:limit] if limit > 0 else fetched), more


@settings(derandomize=True)
@given(
    ROWS,
    st.integers(-1, 5),
    st.integers(0, 2),
    st.integers(0, 4),
    st.booleans(),
    st.lists(st.sampled_from([0, 0, 0, 2, 3]), min_size=4, max_size=4),
)
def test_selection_is_what_etcd_does(
    data: dict[bytes, tuple[int, int, int, bytes, int]],
    limit: int,
    order: int,
    target: int,
    keys_only: bool,
    filters: list[int],
) -> None:
    rows: list[Row] = [(key, *data[key]) for key in sorted(data)]
    selection = Selection(limit, order, target, keys_only, *filters)
    fetch = selection.fetch_limit()
    kvs = [encode_key_value(*row) for row in rows]
    got, more = selection.select(kvs[:fetch] if fetch else kvs)
    want, want_more = naive(rows, limit, order, target, filters)
    if keys_only:
        want = [(*row[:4], b"", row[5]) for row in want]
    assert ([key_value_fields(record) for record in got], more) == (want, want_more)


def test_a_page_in_key_order_asks_the_store_for_one_more() -> None:
    assert Selection(500, 0, 0, False, 0, 0, 0, 0).fetch_limit() == 501
    assert Selection(500, 1, 0, False, 0, 0, 0, 0).fetch_limit() == 501
    assert Selection(500, 0, 2, False, 0, 0, 0, 0).fetch_limit() == 501
    assert Selection(500, 2, 0, False, 0, 0, 0, 0).fetch_limit() == 0
    assert Selection(500, 0, 0, False, 1, 0, 0, 0).fetch_limit() == 0
    assert Selection(0, 0, 0, False, 0, 0, 0, 0).fetch_limit() == 0


def test_keys_only_keeps_the_lease() -> None:
    """etcd issue 22209: an index-only path loses it."""
    record = encode_key_value(b"a", 2, 3, 4, b"value", 5)
    assert Selection(0, 0, 4, True, 0, 0, 0, 0).select([record]) == ([encode_key_value(b"a", 2, 3, 4, b"", 5)], False)
