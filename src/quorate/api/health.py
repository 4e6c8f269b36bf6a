"""grpc.health.v1.Health: the service "" is SERVING as long as the member takes calls; no other name is known.

Watch answers with the present state and stays open; for an unknown name that state is SERVICE_UNKNOWN.
Source: google.golang.org/grpc/health and etcd's server/etcdserver/api/v3rpc/health.go.
"""

from __future__ import annotations

from typing import Final

from quorate.api.check import Guard, ServerStream, add_stream, add_unary
from quorate.errors import NOT_FOUND, RpcError
from quorate.proto.health_pb2 import HealthCheckRequest
from quorate.wire.protobuf import varint_field
from quorate.wire.rpc import Router, ServerCall

_SERVING: Final = varint_field(1, 1)
_SERVICE_UNKNOWN: Final = varint_field(1, 3)
_UNKNOWN_SERVICE: Final = RpcError(NOT_FOUND, "unknown service")


class HealthService:
    """The Health service."""

    def register(self, router: Router, guard: Guard) -> None:
        """Add the service's methods to the router."""
        prefix = "/grpc.health.v1.Health/"
        add_unary(router, guard, prefix + "Check", HealthCheckRequest, self.check)
        add_stream(router, guard, prefix + "Watch", "server_stream", self.watch)

    def check(self, call: ServerCall, request: HealthCheckRequest) -> None:
        """Serve Check."""
        if request.service:
            call.fail(_UNKNOWN_SERVICE)
        else:
            call.complete(_SERVING)

    def watch(self, call: ServerCall) -> None:
        """Serve Watch."""
        ServerStream(call, HealthCheckRequest, _watch)


def _watch(call: ServerCall, request: HealthCheckRequest) -> None:
    call.send(_SERVICE_UNKNOWN if request.service else _SERVING)
