"""What the transport tests share: a clock, a small service of every kind of method, and raw frames."""

from __future__ import annotations

from quorate.errors import NOT_FOUND, RpcError
from quorate.wire import frames
from quorate.wire.frames import Limits, TransportStats
from quorate.wire.rpc import Router, ServerCall
from quorate.wire.server import ServerConnection

SECOND = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1000 * SECOND

    def __call__(self) -> int:
        return self.now_ns


class EchoService:
    """One method of each kind under /test.Echo/, and the calls that it has seen."""

    def __init__(self, router: Router) -> None:
        self.calls: list[ServerCall] = []
        self.ended: list[ServerCall] = []
        self.hanging: list[tuple[ServerCall, bytes]] = []
        router.unary("/test.Echo/Unary", self.unary)
        router.unary("/test.Echo/Fail", self.fail)
        router.unary("/test.Echo/Hang", self.hang)
        router.unary("/test.Echo/Meta", self.meta)
        router.unary("/test.Echo/Big", self.big)
        router.unary("/test.Echo/Crash", self.crash)
        router.stream("/test.Echo/ServerStream", "server_stream", self.server_stream)
        router.stream("/test.Echo/ClientStream", "client_stream", self.client_stream)
        router.stream("/test.Echo/Bidi", "bidi_stream", self.bidi)

    def unary(self, call: ServerCall, message: bytes) -> None:
        self.calls.append(call)
        call.complete(message)

    def fail(self, call: ServerCall, message: bytes) -> None:
        call.fail(RpcError(NOT_FOUND, message.decode()))

    def hang(self, call: ServerCall, message: bytes) -> None:
        self.calls.append(call)
        self.hanging.append((call, message))
        call.on_end = lambda: self.ended.append(call)

    def meta(self, call: ServerCall, message: bytes) -> None:
        call.complete(call.metadata(message) or b"(none)")

    def big(self, call: ServerCall, message: bytes) -> None:
        call.complete(b"x" * int(message))

    def crash(self, call: ServerCall, message: bytes) -> None:
        raise ZeroDivisionError("the service's own bug")

    def server_stream(self, call: ServerCall) -> None:
        """Answer the message b"COUNT SIZE" with so many messages of that size."""

        def on_message(message: bytes) -> None:
            count, size = message.split()
            for _ in range(int(count)):
                call.send(b"m" * int(size))

        call.on_message = on_message
        call.on_half_close = call.finish

    def client_stream(self, call: ServerCall) -> None:
        """Answer with the number of messages and their total length."""
        seen: list[int] = []
        call.on_message = lambda message: seen.append(len(message))
        call.on_half_close = lambda: call.complete(b"%d %d" % (len(seen), sum(seen)))

    def bidi(self, call: ServerCall) -> None:
        self.calls.append(call)
        call.on_message = call.send
        call.on_half_close = call.finish
        call.on_end = lambda: self.ended.append(call)


class Server:
    """A server connection with the service behind it."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.clock = Clock()
        self.router = Router()
        self.service = EchoService(self.router)
        self.stats = TransportStats()
        self.limits = limits if limits is not None else Limits()
        self.conn = ServerConnection(self.router, self.limits, self.clock, "10.0.0.1:5", self.stats)

    def method(self, name: str):
        return self.router.methods[f"/test.Echo/{name}".encode()]


def grpc_message(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def request_fields(path: str = "/test.Echo/Unary", **more: str) -> list[tuple[str, str]]:
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
    fields += [("content-type", "application/grpc"), ("te", "trailers")]
    return fields + [(name.replace("_", "-"), value) for name, value in more.items()]


def split_frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """Return (type, flags, stream id, payload) of each frame."""
    out = []
    while data:
        length = int.from_bytes(data[:3], "big")
        out.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + length]))
        assert len(data) >= 9 + length
        data = data[9 + length :]
    return out


def goaway_of(data: bytes) -> tuple[int, bytes] | None:
    """Return the code and debug data of the last GOAWAY in some output."""
    found = [payload for kind, _, _, payload in split_frames(data) if kind == frames.GOAWAY]
    return (int.from_bytes(found[-1][4:8], "big"), found[-1][8:]) if found else None


def resets_of(data: bytes) -> dict[int, int]:
    """Return the code by stream of each RST_STREAM in some output."""
    return {
        sid: int.from_bytes(payload, "big") for kind, _, sid, payload in split_frames(data) if kind == frames.RST_STREAM
    }
