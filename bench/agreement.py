"""Compare `benchmark` with h2load: the same requests, connections and streams to the same member, in turn.

    python -m bench.agreement [--rounds 12] [--total 40000] [--conns 10] [--streams 20]

The figure is the median of benchmark's calls a second as a part of h2load's just before or after, for unary put and
range, real etcd and ours. Without a core for each of the two the dearer tool, which is ours, falls behind.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys

from bench.__main__ import PUT, RANGE, h2load, unary
from quorate.proto import rpc_pb2 as pb
from tests.oracle import Member, running

KEY = b"\0" * 8


Shape = tuple[int, int, int]


def theirs(member: Member, path: str, request: bytes, _: list[str], shape: Shape) -> float:
    """Run h2load; return calls per second."""
    return h2load(member, path, request, *shape)


def mine(member: Member, _: str, __: bytes, words: list[str], shape: Shape) -> float:
    """Run `benchmark`; return calls per second."""
    conns, streams, total = shape
    command = [sys.executable, "-m", "quorate.cli.benchmark.main", f"--endpoints={member.endpoint}", f"--conns={conns}"]
    command += [f"--clients={conns * streams}", f"--total={total}", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    assert "Error distribution" not in done.stdout
    found = re.search(r"Requests/sec:\t([\d.]+)", done.stdout)
    assert found is not None, done.stdout
    return float(found[1])


def main() -> int:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rounds", 12), ("total", 40_000), ("conns", 10), ("streams", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    shape = (options.conns, options.streams, options.total)
    put = pb.PutRequest(key=KEY, value=b"v" * 8).SerializeToString()
    get = pb.RangeRequest(key=b"k").SerializeToString()
    rows = {"put": (PUT, put, ["put"]), "range": (RANGE, get, ["range", "k"])}
    for kind in ("real", "ours"):
        with running(kind) as member:
            unary(member, PUT, pb.PutRequest(key=b"k", value=b"v" * 8), pb.PutResponse)
            for name, (path, request, words) in rows.items():
                ratios = []
                for turn in range(options.rounds):
                    # In turn, and each time the other one first: what else the machine does drifts.
                    first, second = (theirs, mine) if turn % 2 else (mine, theirs)
                    found = {each: each(member, path, request, words, shape) for each in (first, second)}
                    ratios.append(found[mine] / found[theirs])
                low, _, high = statistics.quantiles(ratios, n=4)
                middle = statistics.median(ratios)
                print(
                    f"{name} to {kind:<4}  benchmark : h2load  {middle:.2f}  (half of {options.rounds} rounds "
                    f"between {low:.2f} and {high:.2f})",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
