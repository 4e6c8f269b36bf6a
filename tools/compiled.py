"""Which modules mypyc compiles: the list under [tool.quorate] in pyproject.toml, its patterns expanded."""

from __future__ import annotations

import fnmatch
import tomllib
from pathlib import Path


def compiled_modules(root: Path) -> list[str]:
    """Return the dotted names, sorted. Package modules (__init__) hold no code and stay as they are."""
    config = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["quorate"]
    source = root / "src"
    names = [
        ".".join(path.relative_to(source).with_suffix("").parts)
        for path in sorted(source.glob("quorate/**/*.py"))
        if path.name != "__init__.py"
    ]
    return [
        name
        for name in names
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in config["compiled"])
        and not any(fnmatch.fnmatchcase(name, pattern) for pattern in config["interpreted"])
    ]
