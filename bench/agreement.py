"""Compare `benchmark` with h2load: the same requests, connections and streams to the same member, in turn.

    python -m bench.agreement [--rounds 5] [--total 40000] [--conns 10] [--streams 20]

The figure is benchmark's calls a second as a part of h2load's (medians), for unary put and range, real etcd and ours.
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


def ours(member: Member, words: list[str], conns: int, streams: int, total: int) -> float:
    """Run `benchmark`; return calls per second."""
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
    for name, default in (("rounds", 5), ("total", 40_000), ("conns", 10), ("streams", 20)):
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
                theirs, mine = [], []
                for _ in range(options.rounds):
                    theirs.append(h2load(member, path, request, *shape))
                    mine.append(ours(member, words, *shape))
                ratio = statistics.median(mine) / statistics.median(theirs)
                print([round(x) for x in theirs], [round(x) for x in mine])
                print(f"{name} to {kind:<4}  benchmark : h2load  {ratio:.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
