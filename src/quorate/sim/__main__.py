"""The command: run seeds, say what happened, and how fast."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from quorate.sim.plan import Plan
from quorate.sim.world import World, describe

_LAST_LINES = 60
_PROGRESS_SEEDS = 50


def run_seed(seed: int, members: int, quiet: bool, totals: dict[str, int]) -> bool:
    """Run one seed, print about it, and add to the totals; False when it fails."""
    plan = Plan(seed, members)
    world = World(plan)
    if not quiet:
        print(f"seed {seed}: {plan.describe()}")
    try:
        world.run()
    except Exception as error:
        print(f"seed {seed} FAILED: {type(error).__name__}: {str(error)[:2000]}")
        print(f"  {plan.describe()}")
        print(f"  faults so far: {world.nemesis.counts}")
        for line in list(world.lines)[-_LAST_LINES:]:
            print("  " + line[:300])
        text = traceback.format_exc(limit=-8)
        print("\n".join(line[:300] for line in text.splitlines()))
        print(f"again: python -m quorate.sim --seed {seed}" + (f" --members {members}" if members != 5 else ""))
        return False
    for name, number in world.counts().items():
        totals[name] = totals.get(name, 0) + number
    if not quiet:
        print(f"seed {seed} passed: {world.summary()}, faults {world.nemesis.counts}")
    return True


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments ask for; 1 when any seed fails."""
    parser = argparse.ArgumentParser(prog="python -m quorate.sim", description="Run members in a virtual world.")
    parser.add_argument("--seed", type=int, help="run one seed and print a summary")
    parser.add_argument("--seeds", help="run seeds A..B")
    parser.add_argument("--minutes", type=float, help="run as many as fit, from --seed (default 1) on")
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--keep-going", action="store_true", help="go on after a failure")
    options = parser.parse_args(arguments)
    first, last = options.seed or 1, options.seed or 1
    if options.seeds:
        low, _, high = options.seeds.partition("..")
        first, last = int(low), int(high or low)
    if options.minutes:
        last = sys.maxsize
    began = time.monotonic()
    ran = 0
    failed: list[int] = []
    totals: dict[str, int] = {}
    for seed in range(first, last + 1):
        if options.minutes and time.monotonic() - began > options.minutes * 60:
            break
        ran += 1
        if not run_seed(seed, options.members, first != last, totals):
            failed.append(seed)
            if not options.keep_going:
                break
        if first != last and ran % _PROGRESS_SEEDS == 0:
            print(f"{ran} seeds, {ran * 60 / (time.monotonic() - began):.0f} a minute, {len(failed)} failed")
        sys.stdout.flush()
    minutes = (time.monotonic() - began) / 60
    if first != last:
        print(f"{ran} seeds in {minutes:.1f} minutes, {ran / minutes:.0f} a minute; failed: {failed or 'none'}")
        print(f"in all: {describe(totals)}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
