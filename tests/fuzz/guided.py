"""One target under atheris, guided by the coverage of our modules; `__main__.py` runs this with libFuzzer's options."""

from __future__ import annotations

import sys

import atheris

from tests import fuzz

with atheris.instrument_imports(include=["quorate"]):
    TARGETS = fuzz.load()


def main() -> None:
    name = sys.argv[1]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[name].check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
