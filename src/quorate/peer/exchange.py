"""One HTTP/1.1 request in the client's role, on a connection of its own: sans-IO.

    exchange = Exchange(clock, b"GET", "/members", headers, body, reply, limit)
    dialer.dial(url, exchange)          # the runtime connects and carries bytes; or calls `refused`

A `Reply` hears of the response: `on_head` once, `on_body` for bytes as they come, and `on_end` exactly once, with ""
when the response is complete and with the reason otherwise. The body of the request is given whole, or pulled from a
`Source` piece by piece as the socket takes it (chunked).

`silence_ns` is how long nothing may arrive while a response is due: the time limit of a request, and the sign of life
that an endless response must give. It begins to count when the connection stands; how long connecting may take is the
dialer's business. While a source is being sent, progress in either direction counts.

Left out: connections that are kept for the next request, trailers, redirects, upgrades, HTTP/2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mypy_extensions import mypyc_attr

from quorate.wire.endpoint import Endpoint

Field = tuple[bytes, bytes]

MAX_HEAD_BYTES: Final = 64 << 10
MAX_CHUNK_LINE: Final = 1024

# How the response's body is framed, and where in it we are.
_HEAD: Final = 0
_LENGTH: Final = 1
_TO_END: Final = 2
_CHUNK_SIZE: Final = 3
_CHUNK_DATA: Final = 4
_CHUNK_END: Final = 5
_TRAILER: Final = 6
_DONE: Final = 7


@mypyc_attr(allow_interpreted_subclasses=True)
class Reply:
    """Whoever waits for the response."""

    def on_head(self, status: int, headers: list[Field]) -> None:
        """The status and the headers, with lower-case names."""

    def on_body(self, data: bytes) -> None:
        """More of the body."""

    def on_end(self, error: str) -> None:
        """It is over: "" when the response is complete."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Source:
    """The body of a request, piece by piece."""

    def next_piece(self) -> bytes:
        """Return more of it; b"" at the end."""
        raise NotImplementedError

    def close(self) -> None:
        """The body is sent, or not wanted any more. Called once."""
        raise NotImplementedError


def header_of(headers: list[Field], name: bytes) -> bytes | None:
    """Return the first value of a header by its lower-case name."""
    for key, value in headers:
        if key == name:
            return value
    return None


class Exchange(Endpoint):
    """A request and its response."""

    def __init__(
        self,
        clock: Callable[[], int],
        head: bytes,
        body: bytes,
        source: Source | None,
        reply: Reply,
        silence_ns: int,
    ) -> None:
        """`head`: request line and headers as `request_head` makes them, with the body's length."""
        super().__init__()
        self._clock = clock
        self._out: list[bytes] = [head, body]
        self._source = source
        self._reply: Reply | None = reply
        self._silence_ns = silence_ns
        self._since_ns = 0  # when something last arrived or left; 0 before the connection stands
        self._state = _HEAD
        self._left = 0
        self._buffer = b""

    def take_output(self) -> bytes:
        """Return what is to be sent now; the rest of a source follows when the socket takes more."""
        if self._since_ns == 0:
            self._since_ns = self._clock()
        self._signalled = False
        source = self._source
        if source is not None and not self._out:
            piece = source.next_piece()
            self._since_ns = self._clock()
            if piece:
                self._out = [b"%x\r\n" % len(piece), piece, b"\r\n"]
            else:
                self._out = [b"0\r\n\r\n"]
                self._source = None
                source.close()
        data = b"".join(self._out)
        self._out = []
        if self._source is not None:
            self.signal()
        return data

    def has_output(self) -> bool:
        """Tell whether there is something to send."""
        return not self.closed and (bool(self._out) or self._source is not None)

    def receive(self, data: bytes) -> None:
        """Take bytes of the response."""
        if self.closed:
            return
        self._since_ns = self._clock()
        try:
            self._parse(data)
        except ValueError as error:
            self._end(str(error) or "malformed response")

    def receive_eof(self) -> None:
        """The other side sends no more."""
        if self._state == _TO_END:
            self._end("")
        else:
            self._end("EOF" if self._state == _HEAD else "unexpected EOF")

    def lost(self) -> None:
        """The socket is gone."""
        self.receive_eof()

    def refused(self, reason: str) -> None:
        """There was no connection."""
        self._end(reason)

    def tick(self, now_ns: int) -> None:
        """Give up on silence."""
        if not self.closed and self._since_ns and now_ns - self._since_ns > self._silence_ns:
            self._end("i/o timeout")

    def drain(self) -> None:
        """Break off."""
        self.cancel()

    def cancel(self) -> None:
        """Break off; the reply hears nothing more."""
        self._reply = None
        self._end("")

    def _end(self, error: str) -> None:
        if self.closed:
            return
        self.closed = True
        self.close_text = error
        self._state = _DONE
        self._out = []
        self._buffer = b""
        source = self._source
        self._source = None
        if source is not None:
            source.close()
        reply = self._reply
        self._reply = None
        self.signal()
        if reply is not None:
            reply.on_end(error)

    # The response

    def _parse(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        pos = 0
        end = len(data)
        body: list[bytes] = []
        while pos < end:
            state = self._state
            if state in (_CHUNK_DATA, _LENGTH):
                piece = data[pos : pos + self._left]
                pos += len(piece)
                self._left -= len(piece)
                body.append(piece)
                if self._left == 0:
                    self._state = _CHUNK_END if state == _CHUNK_DATA else _DONE
            elif state == _CHUNK_END:
                if end - pos < 2:
                    break
                if data[pos : pos + 2] != b"\r\n":
                    raise ValueError("malformed chunked encoding")
                pos += 2
                self._state = _CHUNK_SIZE
            elif state == _TO_END:
                body.append(data[pos:])
                pos = end
            elif state == _DONE:
                pos = end  # nothing was asked for that this could answer
            else:
                after = self._line(data, pos)
                if after < 0:
                    break
                pos = after
            if self.closed:
                return
        self._buffer = data[pos:]
        if body and self._reply is not None:
            self._reply.on_body(b"".join(body))
        if self._state == _DONE:
            self._end("")

    def _line(self, data: bytes, pos: int) -> int:
        """Parse the head, a chunk's size, or a trailer; return where it ended, -1 when it is not all there."""
        if self._state == _HEAD:
            found = data.find(b"\r\n\r\n", pos)
            if found < 0:
                if len(data) - pos > MAX_HEAD_BYTES:
                    raise ValueError("header is too long")
                return -1
            self._head(data[pos:found])
            return found + 4
        found = data.find(b"\r\n", pos)
        if found < 0:
            if len(data) - pos > MAX_CHUNK_LINE:
                raise ValueError("malformed chunked encoding")
            return -1
        line = data[pos:found]
        if self._state == _TRAILER:
            if not line:
                self._state = _DONE
            return found + 2
        digits = line.partition(b";")[0].strip()
        if not digits or len(digits) > 15 or digits.strip(b"0123456789abcdefABCDEF"):
            raise ValueError("malformed chunked encoding")
        self._left = int(digits, 16)
        self._state = _CHUNK_DATA if self._left else _TRAILER
        return found + 2

    def _head(self, head: bytes) -> None:
        lines = head.split(b"\r\n")
        parts = lines[0].split(b" ", 2)
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or len(parts[1]) != 3 or not parts[1].isdigit():
            raise ValueError("malformed HTTP response")
        headers: list[Field] = []
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            if not colon:
                raise ValueError("malformed HTTP response")
            headers.append((name.lower(), value.strip()))
        status = int(parts[1])
        if status < 200:
            return  # the final one follows
        self._frame_body(status, headers)
        if self._reply is not None:
            self._reply.on_head(status, headers)

    def _frame_body(self, status: int, headers: list[Field]) -> None:
        length = header_of(headers, b"content-length")
        if status in (204, 304):
            self._state = _DONE
        elif (header_of(headers, b"transfer-encoding") or b"").lower() == b"chunked":
            self._state = _CHUNK_SIZE
        elif length is not None:
            if not length.isdigit():
                raise ValueError("malformed content-length")
            self._left = int(length)
            self._state = _LENGTH if self._left else _DONE
        else:
            self._state = _TO_END


def request_head(method: bytes, path: str, host: str, headers: list[Field], length: int) -> bytes:
    """Return the request line and headers; a negative length says that the body comes in chunks."""
    lines = [method + b" " + path.encode() + b" HTTP/1.1", b"Host: " + host.encode()]
    lines += [name + b": " + value for name, value in headers]
    if length < 0:
        lines.append(b"Transfer-Encoding: chunked")
    elif length or method == b"POST":
        lines.append(b"Content-Length: %d" % length)
    return b"\r\n".join(lines) + b"\r\n\r\n"


class WholeReply(Reply):
    """Gathers a response and hands it over at once: `then(status, headers, body, error)`, status 0 with an error."""

    def __init__(self, limit: int, then: Callable[[int, list[Field], bytes, str], None]) -> None:
        self._limit = limit
        self._then = then
        self._status = 0
        self._headers: list[Field] = []
        self._body: list[bytes] = []
        self._size = 0

    def on_head(self, status: int, headers: list[Field]) -> None:
        """Keep them."""
        self._status = status
        self._headers = headers

    def on_body(self, data: bytes) -> None:
        """Keep it, up to the limit."""
        self._size += len(data)
        if self._size <= self._limit:
            self._body.append(data)

    def on_end(self, error: str) -> None:
        """Hand everything over."""
        if not error and self._size > self._limit:
            error = "response is too long"
        if error:
            self._then(0, [], b"", error)
        else:
            self._then(self._status, self._headers, b"".join(self._body), "")


@mypyc_attr(allow_interpreted_subclasses=True)
class Dialer:
    """What connects to other members. The runtime implements it on sockets, the simulation in its network."""

    def dial(self, url: str, exchange: Exchange) -> None:
        """Connect to "scheme://host:port" and carry the exchange's bytes, or call its `refused` later. Never raises."""
        raise NotImplementedError
