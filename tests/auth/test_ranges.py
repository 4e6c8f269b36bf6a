"""What granted ranges cover, against a model that knows the keys one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.auth.ranges import RangeSet, valid_grant

# All keys of up to two letters of a small alphabet, and what lies directly behind each of them.
LETTERS = (b"\0", b"a", b"b", b"\xff")
SHORT = [*LETTERS, *(x + y for x in LETTERS for y in LETTERS)]
KEYS = sorted({*SHORT, *(key + b"\0" for key in SHORT), *(key + b"m" for key in SHORT)})
ENDS = [b"", b"\0", *SHORT]

grants = st.lists(st.tuples(st.sampled_from([b"", *SHORT]), st.sampled_from(ENDS)), max_size=8)


def inside(key: bytes, start: bytes, end: bytes) -> bool:
    if not end:
        return key == start
    return key >= start and (end == b"\0" or key < end)


def model(granted: list[tuple[bytes, bytes]], start: bytes, end: bytes) -> bool:
    """Every key that is asked for is in some grant; to "from a key on" belongs a grant that is so too."""
    useful = [(a, b) for a, b in granted if a]
    asked = [key for key in KEYS if inside(key, start, end)] or [start]
    if not all(any(inside(key, a, b) for a, b in useful) for key in asked):
        return False
    return end != b"\0" or any(b == b"\0" for _, b in useful)


@given(grants, st.sampled_from(SHORT), st.sampled_from(ENDS))
def test_against_the_model(granted: list[tuple[bytes, bytes]], start: bytes, end: bytes) -> None:
    assert RangeSet(granted).covers(start, end) == model(granted, start, end)


@pytest.mark.parametrize(
    ("granted", "start", "end", "covered"),
    [
        ([(b"a", b"c"), (b"c", b"e")], b"a", b"e", True),
        ([(b"a", b"c"), (b"c\0", b"e")], b"a", b"e", False),
        ([(b"a", b"c"), (b"c", b""), (b"c\0", b"e")], b"a", b"e", True),
        ([(b"a", b"z")], b"a", b"\0", False),
        ([(b"a", b"\0")], b"b", b"\0", True),
        ([(b"a", b"\0")], b"b", b"c", True),
        ([(b"b", b"\0")], b"a", b"c", False),
        ([(b"k", b"")], b"k", b"", True),
        ([(b"k", b"")], b"k", b"k\0", True),
        ([(b"k", b"")], b"k", b"l", False),
        ([(b"k", b"")], b"k", b"\0", False),
        ([(b"", b"\0")], b"k", b"", False),
        ([(b"z", b"a")], b"b", b"", False),
        ([], b"k", b"", False),
    ],
)
def test_examples(granted: list[tuple[bytes, bytes]], start: bytes, end: bytes, covered: bool) -> None:
    assert RangeSet(granted).covers(start, end) is covered


def test_what_may_be_granted() -> None:
    assert all(valid_grant(*grant) for grant in [(b"a", b""), (b"a", b"b"), (b"a", b"\0"), (b"\0", b"\0")])
    assert not any(valid_grant(*grant) for grant in [(b"", b""), (b"", b"\0"), (b"", b"b"), (b"b", b"b"), (b"b", b"a")])
