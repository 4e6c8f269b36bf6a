"""Every target on its seeds and kept inputs, and on some thousand mutations, the same ones every time."""

import os
import random
import time

import pytest

from tests.fuzz import CORPUS, corpus_of, load
from tests.fuzz.mutate import mutate

TARGETS = load()
MUTATIONS = int(os.environ.get("QUORATE_FUZZ_EXAMPLES", "150"))
SECONDS = 30  # how long one input may take; a hang is a finding too


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_target(name):
    target = TARGETS[name]
    corpus = corpus_of(target)
    for data in corpus:
        run(target, data)
    rng = random.Random(name)
    for _ in range(MUTATIONS):
        run(target, mutate(rng, corpus))


def run(target, data):
    began = time.monotonic()
    try:
        target.check(data)
    except Exception as error:
        raise AssertionError(f"{target.name} fails on {data[:400]!r} ({len(data)} bytes)") from error
    assert time.monotonic() - began < SECONDS, data[:400]


def test_the_kept_inputs_belong_to_targets_and_are_small():
    for folder in CORPUS.iterdir():
        assert folder.name in TARGETS
        assert sum(path.stat().st_size for path in folder.iterdir()) < 200_000
