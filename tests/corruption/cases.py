"""Damage at random places, a start on it, and the verdict. `python -m tests.corruption.cases --cases 5000 --seed 1`.

A case takes a directory (or a snapshot file), damages one file of it, and lets a member start on it (or restores it and
lets a member start on that). The verdicts:

    refused       an error names the file, and no member runs
    clean         the member shows exactly what the undamaged one shows: the bytes did not matter, or the state before
                  and the log brought everything back
    shortened     the log's end is gone, as a crash before the sync leaves it; what is there is a true beginning.
                  `said`: the member's log tells of it; else the end lies between two records, and nothing shows it
    unprotected   what is shown differs, and only by bytes that no rule of etcd's format covers: the inside of a value,
                  of a name, of a lease. `hashed`: HashKV differs from that of the undamaged one (and so from that of
                  the other members); the rest shows in the HASH of `snapshot status`

Anything else is a failure: SILENT (another state, without one of these excuses), BROKEN (an exception that is no
refusal) or MISSED (refused, and `etcdutl verify` finds nothing).
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable

from google_crc32c import value as crc32c

from quorate.backup.offline import Paths
from quorate.backup.restore import RestoreOptions, restore
from quorate.backup.verify import verify_directory
from quorate.ports import NullLog
from tests.corruption.disk import MemoryDisk
from tests.corruption.world import (
    DB,
    REFUSALS,
    WAL,
    Dump,
    Files,
    Outcome,
    base,
    healthy,
    key_rows,
    snapshot_file,
    start,
    unprotected,
)

PAGE = 4096
SECTOR = 512
REFUSED, CLEAN, SHORTENED, UNPROTECTED = "refused", "clean", "shortened", "unprotected"
SAID = {"repairing", "filled the log up to the database with empty entries"}
SILENT, BROKEN, MISSED = "SILENT", "BROKEN", "MISSED"
BAD = (SILENT, BROKEN, MISSED)
Damage = Callable[[random.Random, bytes, int], bytes]


def flip(rng: random.Random, content: bytes, unit: int) -> bytes:
    """One to eight bits."""
    out = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def truncate(rng: random.Random, content: bytes, unit: int) -> bytes:
    """Cut anywhere, or at the end of a unit."""
    length = rng.randrange(len(content))
    return content[: length // unit * unit if rng.randrange(2) else length]


def swap(rng: random.Random, content: bytes, unit: int) -> bytes:
    """Two pages, or sectors, change places."""
    count = len(content) // unit
    if count < 2:
        return flip(rng, content, unit)
    first, second = sorted(rng.sample(range(count), 2))
    a, b = first * unit, second * unit
    return b"".join(
        [content[:a], content[b : b + unit], content[a + unit : b], content[a : a + unit], content[b + unit :]]
    )


def blank(rng: random.Random, content: bytes, unit: int) -> bytes:
    """A page, or sector, becomes zeros."""
    at = rng.randrange(max(len(content) // unit, 1)) * unit
    return content[:at] + bytes(min(unit, len(content) - at)) + content[at + unit :]


DAMAGES: list[Damage] = [flip, flip, truncate, swap, blank]
# Which directories have which file; "real" is real etcd's.
KINDS = {
    "db": ["young", "old", "real"],
    "wal": ["young", "old", "real"],
    "snap": ["old", "real"],
    "snap.db": ["received"],
}
TARGETS = ("db", "wal", "snap", "snap.db", "snapshot", "unsigned snapshot")


class Case:
    """One case, all of it from the seed."""

    def __init__(self, seed: int, target: str) -> None:
        self.rng = random.Random(f"{seed} {target}")
        self.target = target
        self.damage = self.rng.choice(DAMAGES)
        self.verdict = ""
        self.hashed = False
        self.said = False
        self.text = ""

    @property
    def name(self) -> str:
        return f"{self.target} {self.damage.__name__}"

    def run(self) -> Case:
        if self.target.endswith("snapshot"):
            self._snapshot()
        else:
            self._directory()
        return self

    def _directory(self) -> None:
        kind = self.rng.choice(KINDS[self.target])
        files = dict(base(kind))
        ends = {"db": DB, "wal": ".wal", "snap": ".snap", "snap.db": ".snap.db"}
        path = self.rng.choice(sorted(name for name in files if name.endswith(ends[self.target])))
        unit = PAGE if self.target in ("db", "snap.db") else SECTOR
        whole = files[path]
        files[path] = self.damage(self.rng, whole, unit)
        self._judge(start(files), healthy(kind), files, path, whole)

    def _judge(self, outcome: Outcome, wanted: Dump, files: Files, path: str, whole: bytes) -> None:
        self.text = outcome.refused or outcome.broken or "; ".join(outcome.notes)
        self.said = bool(SAID & set(outcome.notes))
        if outcome.broken:
            self.verdict = BROKEN
        elif outcome.refused:
            self.verdict = REFUSED
            if not verify_directory(MemoryDisk(files), Paths("d")).damaged:
                self.verdict = MISSED
        elif outcome.dump == wanted:
            self.verdict = CLEAN
        elif path.startswith(WAL):
            self.verdict = self._of_log(outcome, wanted)
        elif self._excused(wanted, files, path, whole):
            self.verdict = UNPROTECTED
            self.hashed = key_rows(outcome.dump) != key_rows(wanted)
            if self.hashed:
                assert _hash_of(outcome.dump) != _hash_of(wanted)
        else:
            self.verdict = SILENT

    def _of_log(self, outcome: Outcome, wanted: Dump) -> str:
        """A shorter log must show an earlier state, and only what a crash can leave may be taken for an end."""
        rows, all_rows = key_rows(outcome.dump), key_rows(wanted)
        lost = self.damage is truncate or bool(SAID & set(outcome.notes))
        return SHORTENED if lost and rows == all_rows[: len(rows)] else SILENT

    def _excused(self, wanted: Dump, files: Files, path: str, whole: bytes) -> bool:
        """Tell whether the damage to unprotected bytes alone accounts for what is different."""
        if self.damage is not flip:
            return False
        free = unprotected(whole)
        rest = bytearray(files[path])
        touched = False
        for at, (new, old) in enumerate(zip(files[path], whole, strict=True)):
            if new != old and at in free:
                rest[at] = old
                touched = True
        if not touched:
            return False
        if bytes(rest) == whole:
            return True
        without = start({**files, path: bytes(rest)})
        return bool(without.refused) or without.dump == wanted

    def _snapshot(self) -> None:
        whole = snapshot_file()
        signed = self.target == "snapshot"
        if not signed:
            whole = whole[:-32]
        damaged = self.damage(self.rng, whole, PAGE)
        wanted = _restored(whole, signed)
        outcome = _restored(damaged, signed)
        self.text = outcome.refused or outcome.broken
        if outcome.broken:
            self.verdict = BROKEN
        elif outcome.refused:
            self.verdict = REFUSED
        elif outcome.dump == wanted.dump:
            self.verdict = CLEAN
        elif signed or self.damage is not flip or not _only_unprotected(damaged, whole):
            self.verdict = SILENT
        else:
            self.verdict = UNPROTECTED
            self.hashed = key_rows(outcome.dump) != key_rows(wanted.dump)


def _only_unprotected(damaged: bytes, whole: bytes) -> bool:
    free = unprotected(whole)
    return any(at in free for at, (new, old) in enumerate(zip(damaged, whole, strict=True)) if new != old)


_kept: dict[bool, Outcome] = {}


def _restored(content: bytes, signed: bool) -> Outcome:
    """Restore a snapshot file and start on what comes of it."""
    original = snapshot_file()
    undamaged = content == (original if signed else original[:-32])
    if undamaged and signed in _kept:
        return _kept[signed]
    disk = MemoryDisk({"snap.db": content})
    url = "http://127.0.0.1:2380"
    options = RestoreOptions("snap.db", "m1", "d", "", f"m1={url}", peer_urls=[url], skip_hash_check=not signed)
    try:
        restore(disk, options, NullLog())
    except REFUSALS as error:
        return Outcome(refused=f"{type(error).__name__}: {error}")
    except Exception as error:
        return Outcome(broken=f"{type(error).__name__}: {error}")
    outcome = start({name: data for name, data in disk.contents().items() if name.startswith("d/")})
    if undamaged:
        _kept[signed] = outcome
    return outcome


def _hash_of(dump: Dump) -> int:
    found: int = crc32c(b"".join([part for row in key_rows(dump) for part in row]))
    return found


def run(cases: int, seed: int, report: Callable[[Case, int], None]) -> dict[str, Counter[str]]:
    """Run so many cases, spread over all targets; return verdicts by target and damage."""
    found: dict[str, Counter[str]] = {}
    for number in range(cases):
        case = Case(seed + number, TARGETS[number % len(TARGETS)]).run()
        counts = found.setdefault(case.name, Counter())
        counts[case.verdict] += 1
        if case.hashed:
            counts["hashed"] += 1
        if case.verdict == SHORTENED and case.said:
            counts["said"] += 1
        report(case, seed + number)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    bad = 0
    begun = time.monotonic()

    def report(case: Case, seed: int) -> None:
        nonlocal bad
        if case.verdict in BAD:
            bad += 1
            print(f"{case.verdict}: seed {seed}, {case.name}: {case.text}", flush=True)

    found = run(given.cases, given.seed, report)
    columns = (REFUSED, CLEAN, SHORTENED, "said", UNPROTECTED, "hashed", *BAD)
    print(f"{'':26}" + "".join([f"{column:>12}" for column in columns]))
    total: Counter[str] = Counter()
    for name in sorted(found):
        total += found[name]
        print(f"{name:26}" + "".join([f"{found[name][column]:12}" for column in columns]))
    print(f"{'all':26}" + "".join([f"{total[column]:12}" for column in columns]))
    print(f"{given.cases} cases in {time.monotonic() - begun:.0f} s, {bad} bad")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
