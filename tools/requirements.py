"""Print what pip must install, one requirement a line, from pyproject.toml: any of build, run, dev."""

import sys
import tomllib
from pathlib import Path

config = tomllib.loads((Path(__file__).resolve().parent.parent / "pyproject.toml").read_text())
parts = {
    "build": config["build-system"]["requires"],
    "run": config["project"]["dependencies"],
    "dev": config["dependency-groups"]["dev"],
}
for part in sys.argv[1:]:
    print("\n".join(f'"{requirement}"' for requirement in parts[part]))
