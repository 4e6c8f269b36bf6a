"""Fuzz: `python -m tests.fuzz [--minutes 10] [--engine atheris|plain] [TARGET...]`; `make fuzz MINUTES=10`.

The targets share the time. With atheris (`pip install atheris`) mutations are guided by coverage; without it they are
drawn at random from the seeds and the kept corpus. Inputs that reached something new are kept for the next run in
`.fuzz/<target>/`; those that belong into the repository are few and small, in `tests/fuzz/corpus/<target>/`. An input
that fails is written beside them as `crash-...`, and the run ends with status 1.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import random
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz import CORPUS, corpus_of, load
from tests.fuzz.mutate import MAX_BYTES, mutate
from tests.fuzz.target import Target

WORK = Path(".fuzz")


def run_plain(target: Target, seconds: float, seed: int) -> tuple[int, str]:
    """Mutate at random; returns the number of executions and the file of a failing input, "" for none."""
    rng = random.Random(seed)
    corpus = corpus_of(target)
    end = time.process_time() + seconds
    count = 0
    while time.process_time() < end:
        data = mutate(rng, corpus)
        count += 1
        try:
            target.check(data)
        except BaseException as error:
            path = WORK / target.name / f"crash-{hashlib.sha1(data).hexdigest()[:12]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            print(f"{target.name}: {error!r}", flush=True)
            return count, str(path)
    return count, ""


def run_atheris(target: Target, seconds: float, seed: int) -> tuple[int, str]:
    """Run libFuzzer in a process of its own."""
    folder = WORK / target.name
    folder.mkdir(parents=True, exist_ok=True)
    for data in corpus_of(target):
        (folder / f"seed-{hashlib.sha1(data).hexdigest()[:12]}").write_bytes(data)
    options = [f"-max_total_time={int(seconds) or 1}", f"-seed={seed}", f"-max_len={MAX_BYTES // 8}", "-timeout=20"]
    options += [f"-artifact_prefix={folder}/", "-rss_limit_mb=1500", "-print_final_stats=1", "-verbosity=0"]
    command = [sys.executable, "-m", "tests.fuzz.guided", target.name, *options, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    found = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    count = int(found[1]) if found else 0
    if done.returncode == 0:
        return count, ""
    written = re.search(r"Test unit written to (\S+)", done.stderr)
    print(done.stdout[-3000:], done.stderr[-1500:], flush=True)
    return count, written[1] if written else "no input written"


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzz")
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--engine", choices=["atheris", "plain"])
    parser.add_argument("--seed", type=int, default=int(time.time()))
    words = parser.parse_args()
    targets = load()
    chosen = words.targets or list(targets)
    engine = words.engine or ("atheris" if importlib.util.find_spec("atheris") else "plain")
    run = run_atheris if engine == "atheris" else run_plain
    failed = 0
    total = 0
    print(f"{engine}, seed {words.seed}; kept inputs in {WORK}/, committed ones in {CORPUS}")
    for name in chosen:
        count, path = run(targets[name], words.minutes * 60 / len(chosen), words.seed)
        total += count
        failed += bool(path)
        print(f"{name:20} {count:9} executions {f'FAILED: {path}' if path else ''}", flush=True)
    print(f"{'total':20} {total:9} executions, {failed} targets failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
