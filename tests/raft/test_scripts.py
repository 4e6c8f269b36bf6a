"""etcd-io/raft's data-driven scripts, where they are at hand (see tools/raft_scripts.py)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools import raft_scripts

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("QUORATE_RAFT_SCRIPTS") or ROOT.parent / "shared" / "raft-testdata")
SCRIPTS = raft_scripts.find_scripts(FOLDER, []) if FOLDER.is_dir() else []


@pytest.mark.skipif(not SCRIPTS, reason=f"no raft scripts in {FOLDER}; set QUORATE_RAFT_SCRIPTS to their folder")
@pytest.mark.parametrize("path", SCRIPTS, ids=[str(path.relative_to(FOLDER)) for path in SCRIPTS])
def test_script(path: Path) -> None:
    difference = raft_scripts.run_script(path)
    assert not difference, "\n" + difference


def test_a_difference_is_seen(tmp_path: Path) -> None:
    script = tmp_path / "single.txt"
    script.write_text("# a claim\nadd-nodes 1 voters=(1) index=3\n----\nok\n\nraft-log 1\n----\nnothing\n")
    difference = raft_scripts.run_script(script)
    assert "+INFO 1 became follower at term 0" in difference
    assert "+log is empty: first index=4, last index=3" in difference
    assert "-nothing" in difference


def test_the_grammar(tmp_path: Path) -> None:
    text = "# c\ncmd 1 a=(1, 2) b=x \\\n  c=y\nin\n----\nout\n\nother\n----\n----\none\n\ntwo\n----\n----\n"
    first, second = raft_scripts.parse(text)
    assert (first.command, first.words, first.data, first.expected) == ("cmd", ["1"], "in", "out")
    assert first.options == {"a": ["1", "2"], "b": ["x"], "c": ["y"]}
    assert (second.command, second.expected) == ("other", "one\n\ntwo")
