"""Compile modules with mypyc in a copy of the package, to run the tests or a profile against compiled code.

    python tools/compile.py OUT [MODULE ...]

OUT receives a copy of src/quorate with the extension modules beside their sources; put it first on PYTHONPATH. Without
MODULE the list under [tool.quorate] in pyproject.toml is compiled.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from compiled import compiled_modules

ROOT = Path(__file__).resolve().parent.parent

SETUP = """
from setuptools import setup
from mypyc.build import mypycify
modules = mypycify({args!r}, opt_level={level!r}, debug_level="0", multi_file=True)
setup(name="compiled", packages=[], ext_modules=modules)
"""


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    out = Path(sys.argv[1]).resolve()
    modules = sys.argv[2:] or compiled_modules(ROOT)
    shutil.rmtree(out / "quorate", ignore_errors=True)
    shutil.copytree(ROOT / "src" / "quorate", out / "quorate", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    files = [name.replace(".", "/") + ".py" for name in modules]
    args = ["--follow-imports=silent", "--explicit-package-bases", *files]
    script = SETUP.format(args=args, level=os.environ.get("MYPYC_OPT", "2"))
    env = {**os.environ, "MYPYPATH": str(out)}
    build = [sys.executable, "-c", script, "-q", "build_ext", "--inplace"]
    return subprocess.run(build, cwd=out, env=env, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
