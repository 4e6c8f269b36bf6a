"""The gateway: a POST to a path of `routes` becomes a call of that method, within this process.

The body is the request as JSON; behind it anything may follow, and nothing at all is an empty request. A method that
takes a stream of messages gets them from the body one after another, as they come in.
Source: grpc-gateway 1.16, runtime/mux.go, and the generated api/etcdserverpb/gw/rpc.pb.gw.go.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from html import escape
from typing import Final
from urllib.parse import quote as url_quote
from urllib.parse import unquote

from quorate import errors
from quorate.errors import RpcError
from quorate.gateway import decode
from quorate.gateway.call import GatewayCall, refuse
from quorate.gateway.gojson import JsonError, NeedMoreError, read_value
from quorate.gateway.head import metadata_of, timeout_of
from quorate.gateway.routes import ROUTES, Route
from quorate.ports import Loop
from quorate.wire import grpc
from quorate.wire.frames import TransportStats
from quorate.wire.rpc import Router
from quorate.wire.web import STATUS_TEXTS, STREAMED, Field, HttpReply, HttpRequest

PREFIX: Final = "/v3/"
BODY_FACTOR: Final = 8
"""How much longer than a gRPC message its JSON may be: base64 takes a third, and some clients indent."""

EAGER_BYTES: Final = 64 << 10
_FORM: Final = b"application/x-www-form-urlencoded"


def path_of(request: HttpRequest) -> str:
    """Return the path, unescaped, with etcd's old name of the gateway replaced."""
    path = unquote(request.path().decode("latin-1"))
    return "/v3/" + path[len("/v3beta/") :] if path.startswith("/v3beta/") else path


def clean(path: str) -> str:
    """Return the path as Go's mux wants it: without empty and dotted parts."""
    cleaned = posixpath.normpath("/" + path.lstrip("/"))
    return cleaned + "/" if path.endswith("/") and cleaned != "/" else cleaned


class Gateway:
    """Serves what `is_mine` says is below /v3/; to be asked as `wire.web` says.

    `stats` counts the bytes of messages, as a listener's does.
    """

    def __init__(
        self,
        router: Router,
        loop: Loop,
        max_message_bytes: int,
        handler_failed: Callable[[bytes, Exception], None] | None = None,
    ) -> None:
        self.stats = TransportStats()
        self._router = router
        self._loop = loop
        self._max_message_bytes = max_message_bytes
        self.body_bytes = max_message_bytes * BODY_FACTOR
        self._handler_failed = handler_failed

    def is_mine(self, request: HttpRequest) -> bool:
        """Tell whether the path, once it is cleaned, is the gateway's."""
        path = clean(path_of(request))
        return path.startswith(PREFIX) or path == "/v3"

    def body_limit(self, request: HttpRequest) -> int:
        """Return how much body to collect: some for a single message, any for a stream of them."""
        route = ROUTES.get(path_of(request))
        if route is not None and route.reads_stream and request.method == b"POST":
            return STREAMED
        return self.body_bytes

    def handle(self, request: HttpRequest, reply: HttpReply, extra: list[Field]) -> None:
        """Answer; `extra` are headers that every answer has."""
        path = path_of(request)
        cleaned = clean(path)
        if cleaned != path or path == "/v3":
            _redirect(request, reply, extra, "/v3/" if cleaned == "/v3" else cleaned)
            return
        override = request.header(b"x-http-method-override") or b""
        if override and request.method == b"POST" and request.header(b"content-type") == _FORM:
            request.method = override.upper()
            request.body = b""  # it has been read as a form
        route = ROUTES.get(path)
        if route is None:
            _text_error(reply, extra, 404)
        elif request.method != b"POST":
            _text_error(reply, extra, 405)
        else:
            self._serve(route, request, reply, extra)

    def _serve(self, route: Route, request: HttpRequest, reply: HttpReply, extra: list[Field]) -> None:
        try:
            method = self._router.methods.get(route.rpc_path)
            if method is None:
                service, _, name = route.rpc_path[1:].decode().partition("/")
                raise RpcError(errors.UNIMPLEMENTED, f"unknown method {name} for service {service}")
            timeout_ns = timeout_of(request)
            metadata = metadata_of(request)
            if timeout_ns is not None and timeout_ns < 0:
                raise grpc.DEADLINE.with_traceback(None)
            message = b"" if route.reads_stream else self._single(route, request.body)
        except RpcError as error:
            refuse(reply, extra, error)
            return
        call = GatewayCall(route, method, reply, extra, metadata, request.peer, self.stats, self._loop.monotonic_ns)
        call.handler_failed = self._handler_failed
        if timeout_ns is not None:
            call.timer = self._loop.later(timeout_ns, call.expired)
        if route.reads_stream:
            _Body(self, route, call, request)
        elif not route.writes_stream:
            call.begin(message)
        else:
            call.begin(None)
            call.take(message)
            call.half_close()

    def _single(self, route: Route, body: bytes) -> bytes:
        """Return the request of a method that takes one message. Raises RpcError."""
        try:
            return self.read_message(route, body, 0, True)[0]
        except JsonError as error:
            if str(error):
                raise RpcError(errors.INVALID_ARGUMENT, str(error)) from None
            return b""

    def read_message(self, route: Route, data: bytes, at: int, ended: bool) -> tuple[bytes, int]:
        """Return a request, encoded, and where its JSON ends. Raises what `read_value` raises, and RpcError."""
        value, at = read_value(data, at, ended)
        message = route.request()
        decode.fill(message, value)
        encoded = message.SerializeToString()
        if len(encoded) > self._max_message_bytes:
            raise grpc.too_large(len(encoded), self._max_message_bytes)
        return encoded, at


class _Body:
    """Cuts a streamed body into requests."""

    def __init__(self, gateway: Gateway, route: Route, call: GatewayCall, request: HttpRequest) -> None:
        self._gateway = gateway
        self._route = route
        self._call = call
        self._data = b""
        self._tried = 0
        self._begun = False
        self._closed = False
        request.on_body = self._more
        request.on_body_end = self._end

    def _more(self, data: bytes) -> None:
        if self._closed or self._call.ended:
            return
        self._data += data
        size = len(self._data)
        # A long message that comes in many pieces is not tried again for each of them.
        if size <= EAGER_BYTES or size >= self._tried + self._tried // 8:
            self._cut(False)

    def _end(self) -> None:
        if self._closed or self._call.ended:
            return
        self._cut(True)
        if not self._closed:
            self._close()

    def _close(self) -> None:
        self._closed = True
        self._data = b""
        self._call.half_close()

    def _cut(self, ended: bool) -> None:
        at = 0
        call = self._call
        while not self._closed and not call.ended:
            try:
                message, at = self._gateway.read_message(self._route, self._data, at, ended)
            except NeedMoreError:
                break
            except RpcError as error:
                call.fail(error)
                return
            except JsonError as error:
                self._broken(error)
                return
            if not self._begun:
                self._begun = True
                call.begin(None)
            call.take(message)
        self._data = self._data[at:]
        self._tried = len(self._data)
        if self._tried > self._gateway.body_bytes:
            call.fail(grpc.too_large(self._tried, self._gateway.body_bytes))

    def _broken(self, error: JsonError) -> None:
        """There is no further message: at the body's end, or for what stands there instead of one."""
        call = self._call
        if self._begun:
            self._close()
        elif str(error):
            call.fail(RpcError(errors.UNKNOWN, str(error)))
        else:
            call.headless = True
            self._begun = True
            call.begin(None)
            self._close()


def _text_error(reply: HttpReply, extra: list[Field], status: int) -> None:
    headers = [*extra, (b"Content-Type", b"text/plain; charset=utf-8"), (b"X-Content-Type-Options", b"nosniff")]
    reply.respond(status, headers, STATUS_TEXTS[status] + b"\n")


def _redirect(request: HttpRequest, reply: HttpReply, extra: list[Field], path: str) -> None:
    target = url_quote(path) + (f"?{request.query().decode('latin-1')}" if request.query() else "")
    headers = [*extra, (b"Location", target.encode("latin-1"))]
    body = b""
    if request.method in (b"GET", b"HEAD"):
        headers.append((b"Content-Type", b"text/html; charset=utf-8"))
        body = f'<a href="{escape(target)}">Moved Permanently</a>.\n\n'.encode()
    reply.respond(301, headers, body if request.method == b"GET" else b"")
