"""Fuzzing of everything that parses what others wrote. `target.py` says what a target is, `__main__.py` how to run."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fuzz.target import Target

CORPUS = Path(__file__).parent / "corpus"
MODULES = ("wire_targets", "peer_targets", "disk_targets")


def load() -> dict[str, Target]:
    """Return all targets by name."""
    for name in MODULES:
        importlib.import_module(f"tests.fuzz.{name}")
    return dict(importlib.import_module("tests.fuzz.target").REGISTRY)


def corpus_of(target: Target) -> list[bytes]:
    """Return a target's seeds and the inputs that are kept in the repository, always in the same order."""
    kept = [path.read_bytes() for path in sorted((CORPUS / target.name).glob("*"))]
    return target.seeds() + kept
