"""Our HTTP/2 against nghttp2's: `nghttp` as a client of our server, `nghttpd` as a server of our client."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import time

import pytest

from quorate.runtime.listen import Connector
from quorate.runtime.loop import UvLoop
from tests.oracle import free_port
from tests.runtime.test_listen import Result, World
from tests.wire.rig import grpc_message

GRPC = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
needs_client = pytest.mark.skipif(shutil.which("nghttp") is None, reason="nghttp is not installed (nghttp2-client)")
needs_server = pytest.mark.skipif(shutil.which("nghttpd") is None, reason="nghttpd is not installed (nghttp2-server)")


@pytest.fixture(scope="module")
def world():
    made = World()
    yield made
    made.close()


def nghttp(*words: str) -> str:
    """The frames that nghttp saw and sent, as it tells them."""
    done = subprocess.run(
        ["nghttp", "-nv", "--timeout=20", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)


@needs_client
@pytest.mark.parametrize(
    "manner",
    [
        [],
        ["--padding=200"],
        ["--continuation"],
        ["--header-table-size=0"],
        ["--header-table-size=65536", "--header-table-size=100"],
        ["--window-bits=1", "--connection-window-bits=5"],
        ["--no-dep"],
        ["--trailer=x-late: y"],
        ["--multiply=100", "--max-concurrent-streams=7"],
    ],
    ids=lambda manner: " ".join(manner) or "plain",
)
def test_calls_of_nghttp(world, tmp_path, manner):
    body = tmp_path / "body"
    body.write_bytes(grpc_message(b"hello" * 5000))
    before = world.router.methods[b"/test.Echo/Unary"].handled[0]
    # The header field with which nghttp fills a CONTINUATION frame is as large as a frame.
    log = nghttp("-d", str(body), *GRPC, *manner, f"http://{world.target}/test.Echo/Unary")
    count = 100 if "--multiply=100" in manner else 1
    assert log.count(":status: 200") == count
    assert log.count("grpc-status: 0") == count
    assert world.router.methods[b"/test.Echo/Unary"].handled[0] - before == count
    received = sum(map(int, re.findall(r"recv DATA frame <length=(\d+)", log)))
    assert received == count * (5 * 5000 + 5)
    assert "RST_STREAM" not in log
    assert not re.search(r"recv GOAWAY frame(?s:.*?)error_code=(?!NO_ERROR)", log)


@needs_client
def test_a_large_reply_through_a_small_window(world):
    log = nghttp("--window-bits=14", "--connection-window-bits=15", f"http://{world.target}/flood")
    lengths = [int(found) for found in re.findall(r"recv DATA frame <length=(\d+)", log)]
    assert sum(lengths) == 20_000_000
    assert max(lengths) <= 16384


@needs_client
def test_uploads_of_nghttp(world, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(b"x" * 1_000_000)
    log = nghttp("-d", str(body), "--expect-continue", f"http://{world.target}/upload")
    assert ":status: 200" in log
    assert "RST_STREAM" not in log


@pytest.fixture
def nghttpd(tmp_path):
    """Starts nghttpd as an echo of what it is sent, with grpc-status 0 in trailers."""
    processes = []

    def start(*words: str) -> int:
        port = free_port()
        command = ["nghttpd", "--no-tls", "-a", "127.0.0.1", "-d", str(tmp_path), "--echo-upload", *words]
        processes.append(subprocess.Popen([*command, "--trailer=grpc-status: 0", str(port)], stdout=subprocess.DEVNULL))
        return port

    yield start
    for process in processes:
        process.kill()
        process.wait()


async def connect(connector: Connector, port: int):
    end = time.monotonic() + 20
    while True:
        try:
            return await connector.connect("127.0.0.1", port)
        except OSError:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)


@needs_server
@pytest.mark.parametrize(
    "manner",
    [
        [],
        ["--padding=100"],
        ["--window-bits=1", "--connection-window-bits=2"],
        ["--max-concurrent-streams=3"],
        ["--header-table-size=0", "--encoder-header-table-size=0"],
        ["--encoder-header-table-size=65536"],
    ],
    ids=lambda manner: " ".join(manner) or "plain",
)
def test_our_client_against_nghttpd(nghttpd, manner):
    port = nghttpd(*manner)
    size = 20 if any("window" in word for word in manner) else 200_000
    loop = UvLoop()

    async def talk():
        connector = Connector(loop)
        conn = await connect(connector, port)
        results = [Result(conn, "Unary", [bytes([65 + number]) * size]) for number in range(20)]
        empty = Result(conn, "Unary", [b""])
        outcomes = await asyncio.wait_for(asyncio.gather(*[one.done for one in [*results, empty]]), 30)
        connector.close()
        return results, empty, outcomes

    try:
        results, empty, outcomes = loop.aio.run_until_complete(talk())
    finally:
        loop.close()
    assert outcomes == [(0, "")] * 21
    assert [one.messages for one in results] == [[bytes([65 + number]) * size] for number in range(20)]
    assert empty.messages == [b""]
