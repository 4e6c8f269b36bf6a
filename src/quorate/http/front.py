"""What answers on a client port: the JSON gateway below /v3/, the mux everywhere else, the same checks before both."""

from __future__ import annotations

from quorate.gateway.handler import Gateway
from quorate.http.mux import AccessController, WebHandler
from quorate.wire.web import DEFAULT_LIMIT, HttpHandler, HttpReply, HttpRequest


class ClientFront(HttpHandler):
    """A client port's handler; without a gateway, /v3/ is the mux's as well."""

    def __init__(self, access: AccessController, gateway: Gateway | None) -> None:
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
        host = (request.header(b"host") or b"").decode("latin-1")
        origin = (request.header(b"origin") or b"").decode("latin-1")
        answer, headers = self._access.check(request.method.decode("latin-1"), host, origin)
        if answer is not None:
            reply.respond(answer.status, _fields(answer.headers), answer.body)
        else:
            gateway.handle(request, reply, _fields(headers))


def _fields(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
