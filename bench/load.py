"""A load generator for unary gRPC calls over plaintext HTTP/2, cheap enough not to be what is measured.

It is not a client: it sends request frames that were made beforehand and counts the responses by their END_STREAM
headers. Requests index their headers in HPACK's dynamic table as Go's and nghttp2's clients do. Whether the calls did
what they should is for the caller to check afterwards (by revision or count); a reset stream or GOAWAY raises.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from typing import cast

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
MAX_WINDOW = 2**31 - 1


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return one HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """Return a header field that the peer adds to its dynamic table."""
    return b"\x40" + bytes((len(name),)) + name + bytes((len(value),)) + value


def grpc_message(payload: bytes) -> bytes:
    """Return the message with its gRPC prefix."""
    return b"\0" + struct.pack(">I", len(payload)) + payload


class LoadConnection(asyncio.Protocol):
    """One connection that keeps `streams` calls in flight until `total` are done."""

    def __init__(self, path: str, streams: int, total: int, payload: Callable[[int], bytes]) -> None:
        self.streams = streams
        self.total = total
        self.payload = payload
        self.sent = 0
        self.done = 0
        self.received = 0
        self.latencies: list[float] | None = [] if streams == 1 else None
        self.started = 0.0
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.buffer = b""
        fields = (
            (b":authority", b"127.0.0.1"),
            (b":path", path.encode()),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            (b"user-agent", b"quorate-bench"),
        )
        self.first_block = b"\x83\x86" + b"".join(literal(*field) for field in fields)
        self.block = b"\x83\x86" + bytes(0x80 | (62 + i) for i in reversed(range(len(fields))))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the preface and open the windows."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        settings = struct.pack(">HI", 4, MAX_WINDOW)
        self.transport.write(
            PREFACE
            + frame(SETTINGS, 0, 0, settings)
            + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", MAX_WINDOW - 65535))
        )

    def begin(self) -> None:
        """Send the first calls."""
        self.started = time.perf_counter()
        self.transport.write(b"".join(self._request() for _ in range(min(self.streams, self.total))))

    def _request(self) -> bytes:
        stream = 2 * self.sent + 1
        block = self.block if self.sent else self.first_block
        body = grpc_message(self.payload(self.sent))
        self.sent += 1
        return frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, END_STREAM, stream, body)

    def data_received(self, data: bytes) -> None:
        """Count finished calls and send as many new ones."""
        if self.buffer:
            data = self.buffer + data
        at, end, done = 0, len(data), 0
        out: list[bytes] = []
        while end - at >= 9:
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if end - at < 9 + length:
                break
            kind, flags = data[at + 3], data[at + 4]
            if kind == HEADERS:
                done += flags & END_STREAM
            elif kind == DATA:
                self.received += length
            elif kind == PING and not flags & ACK:
                out.append(frame(PING, ACK, 0, data[at + 9 : at + 17]))
            elif kind == SETTINGS and not flags & ACK:
                out.append(frame(SETTINGS, ACK, 0, b""))
            elif kind in (RST_STREAM, GOAWAY):
                self.fail(RuntimeError(f"the server sent frame type {kind}: {data[at : at + 9 + length]!r}"))
                return
            at += 9 + length
        self.buffer = data[at:]
        if self.received > 2**29:
            out.append(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self.received)))
            self.received = 0
        self.done += done
        if done and self.latencies is not None:
            now = time.perf_counter()
            self.latencies.append(now - self.started)
            self.started = now
        for _ in range(min(done, self.total - self.sent)):
            out.append(self._request())
        if out:
            self.transport.write(b"".join(out))
        if self.done >= self.total and not self.finished.done():
            self.finished.set_result(None)

    def fail(self, error: Exception) -> None:
        """End the run with an error."""
        if not self.finished.done():
            self.finished.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the run with an error unless it was over."""
        self.fail(exc or ConnectionError("the server closed the connection"))


class LoadResult:
    """What a run took: calls per second, and for one stream on one connection the median latency in seconds."""

    def __init__(self, calls: int, seconds: float, latencies: list[float]) -> None:
        self.calls = calls
        self.seconds = seconds
        self.per_second = calls / seconds
        self.median = sorted(latencies)[len(latencies) // 2] if latencies else 0.0


async def run(
    ports: list[int], path: str, connections: int, streams: int, total: int, payload: Callable[[int, int], bytes]
) -> LoadResult:
    """Make `total` calls, the connections spread over the ports; `payload(connection, number)` gives each request."""
    loop = asyncio.get_running_loop()
    share = total // connections
    links: list[LoadConnection] = []
    for index in range(connections):

        def made(number: int, index: int = index) -> bytes:
            return payload(index, number)

        def factory(made: Callable[[int], bytes] = made) -> LoadConnection:
            return LoadConnection(path, streams, share, made)

        _, link = await loop.create_connection(factory, "127.0.0.1", ports[index % len(ports)])
        links.append(link)
    await asyncio.sleep(0.1)
    began = time.perf_counter()
    for link in links:
        link.begin()
    await asyncio.gather(*(link.finished for link in links))
    seconds = time.perf_counter() - began
    for link in links:
        link.transport.abort()
    latencies = [value for link in links for value in link.latencies or []]
    return LoadResult(share * connections, seconds, latencies)
