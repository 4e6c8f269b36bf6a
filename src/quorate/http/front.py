"""What answers on a client port: the JSON gateway below /v3/, the mux everywhere else, the same checks before both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.gateway.handler import Gateway
from quorate.http.mux import AccessController, WebHandler, text_error
from quorate.wire.web import DEFAULT_LIMIT, HttpHandler, HttpReply, HttpRequest

_NAMED: Final = "CommonName of client sending a request against gateway will be ignored and not used as expected"


class ClientFront(HttpHandler):
    """A client port's handler; without a gateway, /v3/ is the mux's as well."""

    def __init__(
        self, access: AccessController, gateway: Gateway | None, names_refused: Callable[[], bool] | None = None
    ) -> None:
        """`names_refused` tells whether the gateway refuses clients whose certificate has a CommonName.

        Such a name would be a user's on gRPC, and is nobody's on the gateway. Source: etcd's server/embed/serve.go.
        """
        self._names_refused = names_refused
        self._access = access
        self._gateway = gateway
        self._mux = WebHandler(access.handle)

    def body_limit(self, request: HttpRequest) -> int:
        """Return what the one who will answer wants."""
        gateway = self._gateway
        return gateway.body_limit(request) if gateway is not None and gateway.is_mine(request) else DEFAULT_LIMIT

    def handle(self, request: HttpRequest, reply: HttpReply) -> None:
        """Answer, now or later."""
        gateway = self._gateway
        if gateway is None or not gateway.is_mine(request):
            self._mux.handle(request, reply)
            return
        if request.common_name and self._names_refused is not None and self._names_refused():
            refused = text_error(400, _NAMED)
            reply.respond(refused.status, _fields(refused.headers), refused.body)
            return
        host = (request.header(b"host") or b"").decode("latin-1")
        origin = (request.header(b"origin") or b"").decode("latin-1")
        answer, headers = self._access.check(request.method.decode("latin-1"), host, origin)
        if answer is not None:
            reply.respond(answer.status, _fields(answer.headers), answer.body)
        else:
            gateway.handle(request, reply, _fields(headers))


def _fields(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
