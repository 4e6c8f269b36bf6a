"""The build step: mypyc compiles the modules that tools/compiled.py names, as one unit.

With QUORATE_PURE=1 the package is built without them and runs interpreted. QUORATE_OPT sets the C compiler's level.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tools"))

from compiled import compiled_modules  # noqa: E402


def extensions() -> list[Extension]:
    """Return what mypyc makes of the modules."""
    if os.environ.get("QUORATE_PURE") == "1":
        return []
    from mypyc.build import mypycify

    os.environ["MYPYPATH"] = str(ROOT / "src")
    files = ["src/" + name.replace(".", "/") + ".py" for name in compiled_modules(ROOT)]
    options = ["--follow-imports=silent", "--explicit-package-bases"]
    level = os.environ.get("QUORATE_OPT", "2")
    return mypycify([*options, *files], opt_level=level, debug_level="0", multi_file=True)


class ParallelBuild(build_ext):
    """Compiles the C files of one extension on all cores; setuptools does them one after the other."""

    def build_extensions(self) -> None:
        """Compile and link."""
        one = self.compiler.compile
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:

            def compile_all(sources: list[str], **options: Any) -> list[str]:
                return [name for part in pool.map(lambda source: one([source], **options), sources) for name in part]

            self.compiler.compile = compile_all
            super().build_extensions()


setup(ext_modules=extensions(), cmdclass={"build_ext": ParallelBuild})
