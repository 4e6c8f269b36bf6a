"""The seam to HTTP handlers: a request, a reply, and the handler between them, over HTTP/1.1 and HTTP/2 alike.

A handler first says how it wants the body (`body_limit`), then gets the request and a reply to fill. It answers at once
or later, with one `respond`, or with `start`, any number of `write`s, and `end`. All calls are on the loop and never
block. After the reply has ended, by either side, everything on it is a harmless no-op.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mypy_extensions import mypyc_attr

Field = tuple[bytes, bytes]

STREAMED: Final = -1
DEFAULT_LIMIT: Final = -2

STATUS_TEXTS: Final = {
    100: b"Continue",
    101: b"Switching Protocols",
    200: b"OK",
    204: b"No Content",
    301: b"Moved Permanently",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    409: b"Conflict",
    410: b"Gone",
    412: b"Precondition Failed",
    413: b"Request Entity Too Large",
    415: b"Unsupported Media Type",
    421: b"Misdirected Request",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    499: b"Client Closed Request",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}  # as Go names them


@mypyc_attr(allow_interpreted_subclasses=True)
class HttpRequest:
    """One request. `headers` have lower-case names; `target` is the path with its query, as sent."""

    def __init__(self, method: bytes, target: bytes, headers: list[Field], peer: str, version: bytes) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.peer = peer  # "host:port"
        self.version = version  # b"1.0", b"1.1" or b"2"
        self.common_name: str | None = None  # of the client's verified certificate
        self.body = b""  # whole, unless the handler asked for a streamed body
        self.on_body: Callable[[bytes], None] | None = None  # a streamed body's next bytes
        self.on_body_end: Callable[[], None] | None = None  # a streamed body is complete

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of a header by its lower-case name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def path(self) -> bytes:
        """Return the target without its query."""
        return self.target.partition(b"?")[0]

    def query(self) -> bytes:
        """Return what follows the question mark."""
        return self.target.partition(b"?")[2]

    def pause_body(self) -> None:
        """Stop the flow of a streamed body; what is under way may still come."""

    def resume_body(self) -> None:
        """Let a streamed body flow again."""


@mypyc_attr(allow_interpreted_subclasses=True)
class HttpReply:
    """The answer to one request."""

    ended: bool
    """True once the end is queued, or the client is gone."""

    on_end: Callable[[], None] | None
    """The client went away before the reply was complete."""

    on_drain: Callable[[], None] | None
    """The bytes waiting for the client fell to zero after `queued_bytes` had been above zero."""

    def respond(self, status: int, headers: list[Field], body: bytes) -> None:
        """Send a whole reply; its content-length is added."""
        raise NotImplementedError

    def start(self, status: int, headers: list[Field]) -> None:
        """Begin a streamed reply; over HTTP/1.1 it is chunked unless a content-length is given."""
        raise NotImplementedError

    def write(self, chunk: bytes) -> None:
        """Send more of a streamed reply, at the end of the turn."""
        raise NotImplementedError

    def end(self) -> None:
        """Complete a streamed reply."""
        raise NotImplementedError

    def abort(self) -> None:
        """Break a streamed reply off, so that the client sees that it is incomplete."""
        raise NotImplementedError

    def queued_bytes(self) -> int:
        """Return how many bytes of this reply wait for the client."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class HttpHandler:
    """Whoever answers the HTTP requests of a listener."""

    def body_limit(self, request: HttpRequest) -> int:  # noqa: ARG002
        """Return how many bytes of body to collect before `handle` (more is a 413), or STREAMED.

        With STREAMED, `handle` is called at once and sets on_body and on_body_end of the request. DEFAULT_LIMIT stands
        for Limits.max_body_bytes.
        """
        return DEFAULT_LIMIT

    def handle(self, request: HttpRequest, reply: HttpReply) -> None:
        """Answer, now or later."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class FunctionHandler(HttpHandler):
    """A handler made of a function, with whole bodies."""

    def __init__(self, function: Callable[[HttpRequest, HttpReply], None]) -> None:
        self.function = function

    def handle(self, request: HttpRequest, reply: HttpReply) -> None:
        """Call the function."""
        self.function(request, reply)
