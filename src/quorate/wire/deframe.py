"""A stream that carries gRPC messages: DATA in, whole messages out. Both roles build on it."""

from __future__ import annotations

from quorate.errors import RpcError
from quorate.wire import grpc
from quorate.wire.flow import Stream
from quorate.wire.grpc import PREFIX_BYTES
from quorate.wire.http2 import Connection


class GrpcStream(Stream):
    """Cuts the DATA of a stream into messages.

    A message that arrives as one frame is cut out of the received bytes in place. Otherwise the pieces gather in a
    buffer until the prefix, and then the whole message, is there: linear in time and memory however the bytes come.
    """

    def __init__(self, conn: Connection, stream_id: int, max_message_bytes: int) -> None:
        super().__init__(stream_id, conn.limits.stream_window, conn.peer_window)
        self.conn = conn
        self.gzip = False  # messages with the compressed flag are gzip; else they are an error
        self._max_message_bytes = max_message_bytes
        self._buffer: bytearray | None = None
        self._need = PREFIX_BYTES

    def message(self, message: bytes) -> None:
        """Take one whole message."""
        raise NotImplementedError

    def half_closed(self) -> None:
        """The peer has sent its last message."""
        raise NotImplementedError

    def broken(self, error: RpcError) -> None:
        """The messages of the peer cannot be read; `error` says why."""
        raise NotImplementedError

    def received(self, data: bytes, start: int, end: int, ended: bool) -> None:
        """Take DATA."""
        if self._buffer is None and end - start >= PREFIX_BYTES and data[start] == 0:
            size = data[start + 1] << 24 | data[start + 2] << 16 | data[start + 3] << 8 | data[start + 4]
            body = start + PREFIX_BYTES
            if body + size == end and size <= self._max_message_bytes:
                self.message(data[body:end])
                if ended and not self.done:
                    self.half_closed()
                return
        if start < end:
            self._assemble(data[start:end])
        if ended and not self.done:
            if self._buffer is not None:
                self.broken(grpc.TRUNCATED)
            else:
                self.half_closed()

    def _assemble(self, chunk: bytes) -> None:
        buffer = self._buffer
        if buffer is None:
            buffer = bytearray()
            self._buffer = buffer
        buffer += chunk
        if not self.conn.hold(self, len(chunk)):
            self._buffer = None
            self.broken(grpc.OUT_OF_BUDGET)
            return
        if len(buffer) < self._need:
            return
        data = bytes(buffer)
        self._buffer = None
        self.conn.release(self)
        at = self._cut(data)
        if 0 <= at < len(data) and not self.done:
            self._buffer = bytearray(data[at:])
            self.conn.hold(self, len(data) - at)

    def _cut(self, data: bytes) -> int:
        """Deliver the whole messages in the data and return the offset of the rest, or -1 after an error."""
        at = 0
        size = len(data)
        while size - at >= PREFIX_BYTES:
            flag = data[at]
            length = int.from_bytes(data[at + 1 : at + PREFIX_BYTES], "big")
            error = self._refusal(flag, length)
            if error is not None:
                self.broken(error)
                return -1
            start = at + PREFIX_BYTES
            at = start + length
            if at > size:
                self._need = PREFIX_BYTES + length
                return start - PREFIX_BYTES
            message = data[start:at]
            if flag:
                try:
                    message = grpc.gunzip(message, self._max_message_bytes)
                except RpcError as bad:
                    self.broken(bad)
                    return -1
            self.message(message)
            if self.done:
                return -1
        self._need = PREFIX_BYTES
        return at

    def _refusal(self, flag: int, length: int) -> RpcError | None:
        if length > self._max_message_bytes:
            return grpc.too_large(length, self._max_message_bytes)
        if flag > 1:
            return grpc.bad_flag(flag)
        if flag == 1 and not self.gzip:
            return grpc.IDENTITY_COMPRESSED
        return None

    def send_message(self, message: bytes) -> None:
        """Send one message as windows permit."""
        size = len(message)
        prefix = size.to_bytes(PREFIX_BYTES, "big")
        if size < 65536:
            self.conn.send_data(self, prefix + message)
        else:
            self.conn.send_data(self, prefix)
            self.conn.send_data(self, message)
