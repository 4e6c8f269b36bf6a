"""Requests to handlers by path, with the checks that etcd makes first: CORS, the Host header, OPTIONS.

A handler is `handle(request, reply)`; it calls `reply` exactly once, at once or in a later turn, on the loop. Paths
match exactly. Whatever is not there is 404 with the text of Go's net/http.
Source: etcd's server/embed/serve.go (accessController) and client/pkg/cors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl, unquote

from quorate.ports import Log
from quorate.wire.web import HttpHandler, HttpReply, HttpRequest

TEXT: Final = "text/plain; charset=utf-8"

_REBINDING: Final = """
etcd received your request, but the Host header was unrecognized.

To fix this, choose one of the following options:
- Enable TLS, then any HTTPS request will be allowed.
- Add the hostname you want to use to the whitelist in settings.
  - e.g. etcd --host-whitelist "{host}"

This requirement has been added to help prevent "DNS Rebinding" attacks (CVE-2018-5702).

"""


class Request:
    """A request with its whole body. `headers` has lower-case names; a repeated one keeps its first value."""

    def __init__(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"", peer: str = "") -> None:
        path, _, query = target.partition("?")
        self.method = method
        self.path = unquote(path)
        self.query = parse_qsl(query, keep_blank_values=True)
        self.headers = headers
        self.body = body
        self.peer = peer

    def values(self, name: str) -> list[str]:
        """Return all values of a query parameter."""
        return [value for key, value in self.query if key == name]


class Response:
    """A status, headers and a whole body."""

    def __init__(
        self, status: int, body: bytes, headers: Sequence[tuple[str, str]] = (("Content-Type", TEXT),)
    ) -> None:
        self.status = status
        self.body = body
        self.headers = list(headers)


Reply = Callable[[Response], None]
Handler = Callable[[Request, Reply], None]


def text_error(status: int, text: str) -> Response:
    """Return an error as Go's http.Error writes it."""
    return Response(status, (text + "\n").encode(), (("Content-Type", TEXT), ("X-Content-Type-Options", "nosniff")))


def not_allowed(allowed: str = "GET") -> Response:
    """Return 405 with the method that would do."""
    response = text_error(405, "Method Not Allowed")
    response.headers.insert(0, ("Allow", allowed))
    return response


def not_found() -> Response:
    """Return what Go's mux answers for an unknown path."""
    return text_error(404, "404 page not found")


class Mux:
    """Handlers by exact path."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.handlers: dict[str, Handler] = {}

    def add(self, path: str, handler: Handler) -> None:
        """Serve a path."""
        self.handlers[path] = handler

    def handle(self, request: Request, reply: Reply) -> None:
        """Answer a request. An error of a handler is a 500 and a line in the log, never more."""
        handler = self.handlers.get(request.path)
        if handler is None:
            reply(not_found())
            return
        try:
            handler(request, reply)
        except Exception as error:  # the member never dies of a request
            what = f"{type(error).__name__}: {error}"
            self.log.warn("etcdhttp/base.go", "failed to serve request", path=request.path, error=what)
            reply(text_error(500, "Internal Server Error"))


class AccessController:
    """The client port's checks in front of a mux."""

    def __init__(self, mux: Mux, origins: Sequence[str], hosts: Sequence[str], secure: bool = False) -> None:
        """Behind TLS (`secure`) every host is welcome."""
        self.mux = mux
        self.origins = frozenset(origins)
        self.any_origin = not origins or "*" in origins
        self.hosts = frozenset(hosts)
        self.any_host = secure or not hosts or "*" in hosts or list(hosts) == [""]

    def handle(self, request: Request, reply: Reply) -> None:
        """Answer a request."""
        answer, headers = self.check(request.method, request.headers.get("host", ""), request.headers.get("origin", ""))
        if answer is not None:
            reply(answer)
            return
        if not headers:
            self.mux.handle(request, reply)
            return

        def reply_with_cors(response: Response) -> None:
            response.headers[:0] = headers
            reply(response)

        self.mux.handle(request, reply_with_cors)

    def check(self, method: str, host: str, origin: str) -> tuple[Response | None, list[tuple[str, str]]]:
        """Return the answer that a request gets here already, if any, and the headers that any other answer needs."""
        host = _host_name(host)
        if not self.any_host and host not in self.hosts:
            text = "rejecting HTTP request to prevent DNS rebinding attacks"
            self.mux.log.warn("embed/serve.go", text, host=host)
            return text_error(421, _REBINDING.format(host=host)[:-1]), []
        headers = self._cors(origin)
        return (Response(200, b"", headers) if method == "OPTIONS" else None), headers

    def _cors(self, origin: str) -> list[tuple[str, str]]:
        if self.any_origin:
            origin = "*"
        elif origin not in self.origins:
            return []
        return [
            ("Access-Control-Allow-Headers", "accept, content-type, authorization"),
            ("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE"),
            ("Access-Control-Allow-Origin", origin),
        ]


def _host_name(host: str) -> str:
    # Without the port, and without the brackets of an IPv6 address.
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, _ = host.rpartition(":")
    return name if colon and ":" not in name else host


class WebHandler(HttpHandler):
    """A listener's handler: turns what the transport hands over into our requests, and our responses into replies."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle

    def handle(self, request: HttpRequest, reply: HttpReply) -> None:
        """Answer, now or later."""
        headers: dict[str, str] = {}
        for name, value in request.headers:
            headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))

        def respond(response: Response) -> None:
            fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
            reply.respond(response.status, fields, response.body)

        target = request.target.decode("latin-1")
        self._handle(Request(request.method.decode("latin-1"), target, headers, request.body, request.peer), respond)
