"""Generate the protobuf modules from our .proto files, or check that the committed ones are current.

    python tools/gen_proto.py            write src/quorate/proto/*_pb2.py and *_pb2.pyi
    python tools/gen_proto.py --check    exit 1 when a committed module differs

The generated modules register in a descriptor pool of our own (quorate.proto.pool), so that a program may import
another etcd client's generated code, which claims the same message names, beside ours.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
PROTO = SRC / "quorate" / "proto"

POOL_FROM = "_descriptor_pool.Default()"
POOL_IMPORT = "from google.protobuf import descriptor_pool as _descriptor_pool\n"
POOL_OURS = "from quorate.proto.pool import POOL as _POOL\n"


def generate(out: Path) -> dict[str, str]:
    """Return the text of each generated file by its name."""
    sources = sorted(str(p.relative_to(SRC)) for p in PROTO.glob("*.proto"))
    args = ["protoc", f"-I{SRC}", f"--python_out={out}", f"--pyi_out={out}", *sources]
    if protoc.main(args) != 0:
        raise SystemExit("protoc failed")
    result: dict[str, str] = {}
    for path in sorted((out / "quorate" / "proto").iterdir()):
        text = path.read_text()
        if path.suffix == ".py":
            if POOL_FROM not in text or POOL_IMPORT not in text:
                raise SystemExit(f"{path.name}: the generator's output has changed its shape")
            text = text.replace(POOL_IMPORT, POOL_OURS).replace(POOL_FROM, "_POOL")
        result[path.name] = text
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        files = generate(Path(tmp))
    stale = [name for name, text in files.items() if not (PROTO / name).exists() or (PROTO / name).read_text() != text]
    if options.check:
        for name in stale:
            print(f"stale: {name} (run tools/gen_proto.py)", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        (PROTO / name).write_text(files[name])
    print(f"{len(stale)} of {len(files)} files written")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
