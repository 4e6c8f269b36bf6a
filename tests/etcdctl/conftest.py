"""A pair of tools and servers for each test module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.etcdctl.twins")

from tests.etcdctl.twins import Twins  # noqa: E402


@pytest.fixture(scope="module")
def twins() -> Iterator[Twins]:
    both = Twins()
    try:
        yield both.start()
    finally:
        both.close()
