"""TLS between a socket and its link: `TlsPipe` is the protocol of the socket and the transport of the link.

It drives an `SSLObject` over memory buffers: what has come in one read is decrypted and handed on at once, and a turn's
output is encrypted and written once. asyncio's (uvloop's) own TLS carries puts and ranges as fast and shakes hands a
little slower, but it tells nobody why a handshake failed and from whom it came, takes one context for a listener's
life, knows no check between handshake and first byte, and keeps a buffer of 256 KiB for each connection. The link is
made when the handshake is over, so that strangers cost a socket and, once they have sent something, an SSL object.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from typing import Final, cast

from quorate.runtime.loop import UvLoop
from quorate.runtime.tls import words
from quorate.runtime.tls.files import TlsError

HANDSHAKE_S: Final = 10.0
RECORD_BYTES: Final = 16 << 10  # the most that one record carries
CHUNK_BYTES: Final = 64 << 10  # of input and output at a time: a memory buffer stays as large as it ever was
_HANDSHAKE_RECORD: Final = 0x16
_INTERNAL_ERROR: Final = b"\x15\x03\x01\x00\x02\x02\x50"

_SHAKING: Final = 0
_CHECKING: Final = 1
_OPEN: Final = 2
_CLOSED: Final = 3


class TlsPipe(asyncio.Transport, asyncio.Protocol):
    """One TLS connection. `make` gives the protocol on top once the connection is open."""

    def __init__(self, loop: UvLoop, make: Callable[[], asyncio.Protocol], eager: bool) -> None:
        super().__init__()
        self.tls: ssl.SSLObject | None = None
        self.common_name: str | None = None
        """Of the verified certificate of whoever is at the other end."""

        self._aio = loop.aio
        self._make = make
        self._eager = eager
        self._raw: asyncio.Transport | None = None
        self._inner: asyncio.Protocol | None = None
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._state = _SHAKING
        self._timer: asyncio.TimerHandle | None = None

    # What the two roles do their own way

    def begin(self, first: bytes) -> ssl.SSLObject:
        """Return the SSL object for the handshake that these bytes begin. Raises TlsError."""
        raise NotImplementedError

    def shaken(self) -> None:
        """The handshake is over: check who is there, then call `open` or `refuse`."""
        self.open()

    def failed(self, problem: str) -> None:
        """The connection ends before it was open."""

    # The socket's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self._raw = cast(asyncio.Transport, transport)
        plain = transport.get_extra_info("socket")
        if plain is not None and plain.family != socket.AF_UNIX:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._timer = self._aio.call_later(HANDSHAKE_S, self._late)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._state == _OPEN:
            if len(data) <= CHUNK_BYTES:
                self._in.write(data)
                self._read()
                return
            view = memoryview(data)
            for at in range(0, len(data), CHUNK_BYTES):
                self._in.write(view[at : at + CHUNK_BYTES])
                self._read()
        elif self._state == _SHAKING:
            if self.tls is None:
                if data[0] != _HANDSHAKE_RECORD:
                    self.refuse(words.NOT_TLS)
                    return
                try:
                    self.tls = self.begin(data)
                except TlsError as error:
                    self._send_raw(_INTERNAL_ERROR)
                    self.refuse(str(error))
                    return
            self._in.write(data)
            self.shake()
        elif self._state == _CHECKING:
            self._in.write(data)

    def eof_received(self) -> bool:
        """The peer has ended its sending side."""
        if self._state == _OPEN and self._inner is not None:
            return bool(self._inner.eof_received())
        if self._state in (_SHAKING, _CHECKING):
            self.refuse(words.EOF)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        if self._state in (_SHAKING, _CHECKING):
            self._end(words.EOF if exc is None else f"read: {str(exc).lower()}")
        self._raw = None
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """The socket takes no more."""
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """The socket takes more."""
        if self._inner is not None:
            self._inner.resume_writing()

    # The handshake

    @property
    def handshaking(self) -> bool:
        """Tell whether the handshake is still to be done."""
        return self._state == _SHAKING

    def shake(self) -> None:
        """Go on with the handshake."""
        assert self.tls is not None
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            return
        except (ssl.SSLError, OSError, ValueError) as error:
            self._send()
            self.refuse(words.in_go_words(error))
            return
        self._send()
        self._state = _CHECKING
        self.shaken()

    def _late(self) -> None:
        self._timer = None
        self.refuse("read: i/o timeout")

    def open(self) -> None:
        """Let the link be made, and give it what has already come."""
        raw = self._raw
        if self._state != _CHECKING or raw is None:
            return
        self._state = _OPEN
        self._disarm()
        self._inner = self._make()
        self._inner.connection_made(self)
        if self._in.pending:
            self._read()

    def refuse(self, problem: str) -> None:
        """End the connection before it is open."""
        if self._state in (_SHAKING, _CHECKING):
            self._end(problem)
            if self._raw is not None:
                self._raw.close()

    def _end(self, problem: str) -> None:
        self._state = _CLOSED
        self._disarm()
        self.failed(problem)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Records

    def _read(self) -> None:
        tls, inner, incoming = self.tls, self._inner, self._in
        assert tls is not None
        if inner is None:
            return
        try:
            while self._state == _OPEN:
                data = tls.read(RECORD_BYTES)
                if not data:
                    self._peer_closed(inner)
                    return
                inner.data_received(data)
                if not incoming.pending:
                    break
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLError, OSError):
            self.abort()
            return
        if self._out.pending:
            self._send()  # an answer to a key update

    def _peer_closed(self, inner: asyncio.Protocol) -> None:
        if not inner.eof_received():
            self.close()

    def _send(self) -> None:
        if self._out.pending:
            self._send_raw(self._out.read())

    def _send_raw(self, data: bytes) -> None:
        raw = self._raw
        if raw is not None and not raw.is_closing():
            if self._eager and raw.get_write_buffer_size() == 0:
                data = write_now(raw, data)
            if data:
                raw.write(data)

    # The link's side

    def write(self, data: bytes) -> None:  # type: ignore[override]
        """Encrypt and send."""
        tls = self.tls
        if self._state != _OPEN or tls is None:
            return
        try:
            if len(data) <= CHUNK_BYTES:
                sent = tls.write(data)
                if sent == len(data):
                    self._send_raw(self._out.read())
                    return
            view = memoryview(data)
            sent = 0 if len(data) > CHUNK_BYTES else sent
            while sent < len(data):
                sent += tls.write(view[sent : sent + CHUNK_BYTES])
                self._send_raw(self._out.read())
        except (ssl.SSLError, OSError):
            self.abort()

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return what the socket's transport knows, or "ssl_object" or "common_name"."""
        if name == "ssl_object":
            return self.tls
        if name == "common_name":
            return self.common_name
        return default if self._raw is None else self._raw.get_extra_info(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Say when the socket takes no more."""
        if self._raw is not None:
            self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Return how many encrypted bytes wait for the socket."""
        return 0 if self._raw is None else self._raw.get_write_buffer_size()

    def pause_reading(self) -> None:
        """Read no more from the socket."""
        if self._raw is not None:
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._raw is not None:
            self._raw.resume_reading()

    def is_closing(self) -> bool:
        """Tell whether the end has begun."""
        return self._raw is None or self._raw.is_closing()

    def can_write_eof(self) -> bool:
        """Tell whether our side alone can end."""
        return self._raw is not None and self._raw.can_write_eof()

    def write_eof(self) -> None:
        """Say goodbye and end our side; what still comes is dropped, an end of the peer is passed on."""
        if self._raw is not None:
            self._goodbye()
            self._raw.write_eof()

    def close(self) -> None:
        """Say goodbye, and close when all is sent."""
        if self._raw is not None:
            self._goodbye()
            self._raw.close()

    def _goodbye(self) -> None:
        if self._state == _OPEN and self.tls is not None:
            self._state = _CLOSED
            try:
                self.tls.unwrap()
            except (ssl.SSLError, OSError, ValueError):
                pass  # it wants the peer's goodbye, which we do not wait for
            self._send()

    def abort(self) -> None:
        """Close at once."""
        if self._raw is not None:
            self._raw.abort()


def write_now(transport: asyncio.Transport, data: bytes) -> bytes:
    """Write to the socket without waiting for the loop's own time to do so; return what it does not take."""
    plain = transport.get_extra_info("socket")
    if plain is None or transport.is_closing():
        return data
    try:
        return data[os.write(plain.fileno(), data) :]
    except OSError:
        return data  # it is full or broken; the transport finds out


class ClientPipe(TlsPipe):
    """A connection that we open. `opened` is set when it is open, with OSError when it never will be."""

    def __init__(
        self, loop: UvLoop, inner: asyncio.Protocol, context: ssl.SSLContext, server_name: str, eager: bool
    ) -> None:
        super().__init__(loop, lambda: inner, eager)
        self.opened: asyncio.Future[None] = loop.aio.create_future()
        self._context = context
        self._server_name = server_name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the server."""
        super().connection_made(transport)
        self.tls = self._context.wrap_bio(self._in, self._out, server_hostname=self._server_name)
        self.shake()

    def open(self) -> None:
        """Let whoever dials go on."""
        super().open()
        if not self.opened.done():
            self.opened.set_result(None)

    def failed(self, problem: str) -> None:
        """Tell whoever dials."""
        if not self.opened.done():
            self.opened.set_exception(OSError(problem))
            self.opened.exception()  # whoever dialed may have given up: nobody need look at it
