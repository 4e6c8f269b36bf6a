"""Run the test suite the way `make test` does: everything from the source tree, interpreted, except that tests which
start our server as a process start the compiled one; then the rooms' own tests once more against the compiled modules.

    python tools/test.py [PYTEST ARGUMENT ...]
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
CORES = ["wire", "raft", "storage", "mvcc", "lease", "auth", "server"]


def main() -> int:
    env = {**os.environ, "QUORATE_ETCD": str(BIN / "etcd"), "PYTHONHASHSEED": "random"}
    pytest = [str(BIN / "python"), "-m", "pytest", "-n", "auto", "--dist", "loadfile"]
    failed = subprocess.run([*pytest, *sys.argv[1:]], cwd=ROOT, env=env, check=False).returncode
    if os.environ.get("QUORATE_PURE") != "1" and not sys.argv[1:]:
        print("The cores once more, compiled:", flush=True)
        paths = [f"tests/{room}" for room in CORES]
        again = [*pytest, "-m", "not process and not oracle", "-o", "pythonpath=.", *paths]
        failed |= subprocess.run(again, cwd=ROOT, env=env, check=False).returncode
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
