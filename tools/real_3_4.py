"""Fetch Debian's etcd 3.4 (packages etcd-server and etcd-client), for the tests that open its data directories.

    python tools/real_3_4.py FOLDER

FOLDER receives bin/etcd and bin/etcdctl; nothing is installed. Where there is no apt, or it finds no such packages,
this says so and succeeds: the tests then skip and say so, too.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    target = Path(sys.argv[1]).resolve()
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        print("etcd 3.4 comes from Debian's packages, and there is no apt here: its tests will skip")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            ["apt-get", "download", "-qq", "etcd-server", "etcd-client"],
            cwd=scratch, capture_output=True, text=True, check=False,
        )  # fmt: skip
        packages = sorted(Path(scratch).glob("*.deb"))
        if done.returncode or len(packages) != 2:
            print("apt finds no etcd 3.4: its tests will skip")
            return 0
        for package in packages:
            subprocess.run(["dpkg", "-x", str(package), f"{scratch}/all"], check=True)
        version = subprocess.run(
            [f"{scratch}/all/usr/bin/etcd", "--version"], capture_output=True, text=True, check=True
        )
        if not version.stdout.startswith("etcd Version: 3.4."):
            print("apt's etcd is not 3.4: the tests that want it will skip")
            return 0
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(f"{scratch}/all/usr/bin", target / "bin")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
