"""Measure the transport alone: a unary echo over the listener, loaded by h2load.

    python tools/bench_echo.py [CONNECTIONS STREAMS REQUESTS BODY_BYTES]

Prints h2load's summary line. Run it with PYTHONPATH at a tree made by tools/compile.py to measure compiled code.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from quorate.runtime.listen import Listener
from quorate.runtime.loop import UvLoop
from quorate.wire import http2
from quorate.wire.rpc import Router, ServerCall


def echo(call: ServerCall, message: bytes) -> None:
    call.complete(message)


def load(port: int, connections: int, streams: int, requests: int, body: bytes) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "body"
        path.write_bytes(b"\0" + len(body).to_bytes(4, "big") + body)
        command = ["h2load", "-n", str(requests), "-c", str(connections), "-m", str(streams), "-d", str(path)]
        command += [
            "-H",
            "content-type: application/grpc",
            "-H",
            "te: trailers",
            f"http://127.0.0.1:{port}/echo.Echo/Echo",
        ]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> None:
    numbers = [int(word) for word in sys.argv[1:]] + [10, 20, 500_000, 64][len(sys.argv) - 1 :]
    loop = UvLoop()
    router = Router()
    router.unary("/echo.Echo/Echo", echo)
    listener = Listener(loop, router)
    loop.aio.run_until_complete(listener.start("127.0.0.1", 0))
    print("compiled:", not (http2.__file__ or "").endswith(".py"), "pid", os.getpid())

    def client() -> None:
        output = load(listener.port, numbers[0], numbers[1], numbers[2], b"x" * numbers[3])
        print("\n".join(line for line in output.splitlines() if line.startswith(("finished", "requests", "time for"))))
        loop.aio.call_soon_threadsafe(loop.stop)

    threading.Thread(target=client).start()
    loop.run()
    listener.close()
    loop.close()


if __name__ == "__main__":
    main()
