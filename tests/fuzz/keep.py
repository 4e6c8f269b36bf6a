"""Choose what to keep of a run: `python -m tests.fuzz.keep [TARGET...]`.

From the inputs in `.fuzz/<target>/` it takes, the smallest first, those that make our modules go from one line to
another as no seed and no kept input does, and copies them to `tests/fuzz/corpus/<target>/`.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from tests.fuzz import CORPUS, corpus_of, load

WORK = Path(".fuzz")
MOST = 25
MAX_BYTES = 2000

Arc = tuple[str, int, int]


class Arcs:
    """Records every step from line to line in our modules."""

    def __init__(self) -> None:
        self.seen: set[Arc] = set()

    def __enter__(self) -> Arcs:
        self._last: dict[FrameType, int] = {}
        sys.settrace(self._call)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._line if "/quorate/" in frame.f_code.co_filename else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        line = frame.f_lineno
        self.seen.add((frame.f_code.co_filename, self._last.get(frame, 0), line))
        self._last[frame] = line
        return self._line


def main() -> None:
    targets = load()
    for name in sys.argv[1:] or sorted(targets):
        target = targets[name]
        known = Arcs()
        with known:
            for data in corpus_of(target):
                with contextlib.suppress(Exception):
                    target.check(data)
        inputs = [path.read_bytes() for path in (WORK / name).glob("*") if path.stat().st_size <= MAX_BYTES]
        kept = 0
        for data in sorted(inputs, key=lambda data: (len(data), data)):
            arcs = Arcs()
            with arcs, contextlib.suppress(Exception):
                target.check(data)
            if arcs.seen - known.seen and kept < MOST:
                known.seen |= arcs.seen
                kept += 1
                folder = CORPUS / name
                folder.mkdir(exist_ok=True)
                (folder / hashlib.sha1(data).hexdigest()[:12]).write_bytes(data)
        print(f"{name:20} kept {kept} of {len(inputs)}", flush=True)


if __name__ == "__main__":
    main()
