"""A running server under attack: its memory is watched, and a healthy client works on it all the while.

    with Watch(member, bound_mb=80):
        ...the attack...

At the end the server must live, its resident memory must not have grown by more than the bound at any moment, and the
healthy client's puts and reads must all have succeeded, several of them since the attack began.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from types import TracebackType

import grpc
import psutil

from quorate.proto.rpc_pb2 import PutRequest, PutResponse, RangeRequest, RangeResponse
from quorate.wire import frames
from quorate.wire.headers import encode_fields
from tests.oracle import Member
from tests.wire.rig import grpc_message

MB = 1 << 20
LIMIT_S = 60
ROUNDS = 5  # of the healthy client, at the least
KV = b"/etcdserverpb.KV/"

OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
]


class Watch:
    """Memory and a healthy client during the with block."""

    def __init__(self, member: Member, bound_mb: int) -> None:
        assert member.process is not None
        self.member = member
        self.bound_mb = bound_mb
        self.rounds = 0
        self.peak = 0
        self.error: BaseException | None = None
        self._process = psutil.Process(member.process.pid)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work), threading.Thread(target=self._sample)]
        self._channel = grpc.insecure_channel(member.endpoint, options=OPTIONS)

    def __enter__(self) -> Watch:
        self.round()
        self.base = self._process.memory_info().rss
        for thread in self._threads:
            thread.start()
        return self

    def round(self) -> None:
        """One put and one read of it, as a healthy client does them."""
        put = self._channel.unary_unary("/etcdserverpb.KV/Put", PutRequest.SerializeToString, PutResponse.FromString)
        get = self._channel.unary_unary(
            "/etcdserverpb.KV/Range", RangeRequest.SerializeToString, RangeResponse.FromString
        )
        value = os.urandom(8)
        put(PutRequest(key=b"healthy", value=value), timeout=LIMIT_S)
        answer = get(RangeRequest(key=b"healthy"), timeout=LIMIT_S)
        assert answer.kvs[0].value == value

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                self.round()
                self.rounds += 1
                time.sleep(0.01)
        except BaseException as error:
            self.error = error

    def _sample(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while not self._stop.is_set():
                self.peak = max(self.peak, self._process.memory_info().rss)
                time.sleep(0.01)

    def grown_mb(self) -> float:
        """How much memory has grown at the worst moment."""
        return (max(self.peak, self._process.memory_info().rss) - self.base) / MB

    def served(self, rounds: int = ROUNDS) -> None:
        """Wait until the healthy client has been served so often since now."""
        target = self.rounds + rounds
        end = time.monotonic() + LIMIT_S
        while self.rounds < target and self.error is None:
            assert time.monotonic() < end, f"the healthy client is stuck after {self.rounds} rounds"
            time.sleep(0.01)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.served()
                self.grown = self.grown_mb()
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(LIMIT_S)
            self._channel.close()
        if error is None:
            assert self.error is None, f"the healthy client failed: {self.error!r}\n{self.member.log_tail(1500)}"
            assert self.member.process is not None
            assert self.member.process.poll() is None, "the server is gone"
            assert self.grown < self.bound_mb, f"memory has grown by {self.grown:.0f} MB"


class Raw:
    """A connection that sends what it likes."""

    def __init__(self, port: int, greeting: bytes | None = None, receive_buffer: int = 0) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(LIMIT_S)
        self.socket.connect(("127.0.0.1", port))
        self.seen = b""
        self.send(frames.PREFACE + frames.settings_frame([]) if greeting is None else greeting)

    def send(self, data: bytes, within: float = LIMIT_S) -> bool:
        """Send; False when the other side has hung up, or takes no more in that time."""
        self.socket.settimeout(within)
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        finally:
            self.socket.settimeout(LIMIT_S)
        return True

    def read(self, size: int = 65536) -> bytes:
        """Read once; b"" when the other side has hung up."""
        try:
            data = self.socket.recv(size)
        except ConnectionError:
            return b""
        self.seen += data
        return data

    def read_to_end(self) -> bytes:
        """Read until the other side hangs up; all that was ever read."""
        while self.read():
            pass
        return self.seen

    def drop(self) -> None:
        """Read and forget in the background what the server sends."""
        threading.Thread(target=self._drop, daemon=True).start()

    def _drop(self) -> None:
        with contextlib.suppress(OSError):
            while self.socket.recv(1 << 20):
                pass

    def close(self) -> None:
        self.socket.close()


@contextlib.contextmanager
def raws(port: int, count: int, greeting: bytes | None = None, receive_buffer: int = 0) -> Iterator[list[Raw]]:
    """Many connections for the length of a with block."""
    opened: list[Raw] = []
    try:
        for _ in range(count):
            opened.append(Raw(port, greeting, receive_buffer))
        yield opened
    finally:
        for one in opened:
            one.close()


def rpc_fields(path: bytes, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b"content-type", b"application/grpc")]
    return [*fields, (b"te", b"trailers"), *more]


def headers(stream: int, path: bytes, *more: tuple[bytes, bytes], end: bool = False) -> bytes:
    """The HEADERS frame of a gRPC call."""
    flags = frames.FLAG_END_HEADERS | (frames.FLAG_END_STREAM if end else 0)
    return frames.frame(frames.HEADERS, flags, stream, encode_fields(rpc_fields(path, *more)))


def data(stream: int, message: bytes, end: bool = True) -> bytes:
    """DATA frames with one gRPC message."""
    body = grpc_message(message)
    pieces = [body[at : at + 16384] for at in range(0, len(body), 16384)]
    out = [frames.frame(frames.DATA, 0, stream, piece) for piece in pieces[:-1]]
    return b"".join([*out, frames.frame(frames.DATA, frames.FLAG_END_STREAM if end else 0, stream, pieces[-1])])


def call(stream: int, path: bytes, message: bytes) -> bytes:
    """A whole unary call."""
    return headers(stream, path) + data(stream, message)
