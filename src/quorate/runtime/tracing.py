"""OpenTelemetry: a span for every RPC, a child of the client's if the call carries a `traceparent`.

    --enable-distributed-tracing --distributed-tracing-address=collector:4317
    --distributed-tracing-sampling-rate=1000      of a million calls that bring no decision of their own, 1000

Needs the packages opentelemetry-sdk and opentelemetry-exporter-otlp-proto-grpc (`pip install quorate[tracing]`). Spans
leave in batches, by threads of the SDK's. Source: etcd's server/embed/config_tracing.go; otelgrpc for the attributes.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from quorate.server.bootlog import StartError
from quorate.wire.rpc import CallObserver, Method, ServerCall

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

MILLION: Final = 1_000_000
FLUSH_S: Final = 2.0

_MISSING: Final = (
    "distributed tracing needs the packages opentelemetry-sdk and opentelemetry-exporter-otlp-proto-grpc: "
    "pip install quorate[tracing]"
)
_CARRIED: Final = ("traceparent", "tracestate", "baggage")

# The codes for which a server's span is an error, by OpenTelemetry's conventions for gRPC.
_ERRORS: Final = frozenset([2, 4, 12, 13, 14, 15])


class TracingSettings:
    """Where spans go, and how many."""

    def __init__(self, address: str, service_name: str, instance_id: str, sampling_rate: int) -> None:
        self.address = address
        self.service_name = service_name
        self.instance_id = instance_id
        self.sampling_rate = sampling_rate


class Tracing(CallObserver):
    """Makes the spans. What is slow goes on to another observer."""

    def __init__(self, tracer: Tracer, provider: Any, propagator: Any) -> None:
        self._tracer = tracer
        self._provider = provider
        self._propagator = propagator
        self._spans: dict[ServerCall, Span] = {}
        self.then: CallObserver | None = None

    def began(self, call: ServerCall, method: Method) -> None:
        """Begin a span."""
        from opentelemetry.trace import SpanKind

        carrier = {}
        for name in _CARRIED:
            value = call.metadata(name.encode())
            if value is not None:
                carrier[name] = value.decode("latin-1")
        service, _, name = method.path.decode()[1:].partition("/")
        host, _, port = call.peer().rpartition(":")
        attributes: dict[str, str | int] = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
        attributes["net.peer.ip"] = host
        if port.isdigit():
            attributes["net.peer.port"] = int(port)
        context = self._propagator.extract(carrier)
        span = self._tracer.start_span(f"{service}/{name}", context, SpanKind.SERVER, attributes)
        if span.is_recording():
            self._spans[call] = span

    def ended(self, call: ServerCall, method: Method, code: int, took_ns: int) -> None:  # noqa: ARG002
        """End it."""
        from opentelemetry.trace import Status, StatusCode

        span = self._spans.pop(call, None)
        if span is not None:
            span.set_attribute("rpc.grpc.status_code", code)
            if code in _ERRORS:
                span.set_status(Status(StatusCode.ERROR))
            span.end()

    def slow(
        self, call: ServerCall, method: Method, request: bytes, response: bytes | None, code: int, took_ns: int
    ) -> None:
        """Hand it on."""
        if self.then is not None:
            self.then.slow(call, method, request, response, code, took_ns)

    def close(self) -> None:
        """Send what is left, for at most two seconds."""
        sender = threading.Thread(target=self._provider.shutdown, name="tracing", daemon=True)
        sender.start()
        sender.join(FLUSH_S)


def start_tracing(settings: TracingSettings) -> Tracing:
    """Return the observer that makes spans; StartError when the packages are not there."""
    try:
        from opentelemetry.baggage.propagation import W3CBaggagePropagator
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.propagators.composite import CompositePropagator
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:
        raise StartError(_MISSING) from None
    named = {"service.name": settings.service_name}
    if settings.instance_id:
        named["service.instance.id"] = settings.instance_id
    rate = settings.sampling_rate / MILLION
    sampler = ParentBased(TraceIdRatioBased(rate) if rate > 0 else ALWAYS_OFF)
    provider = TracerProvider(sampler=sampler, resource=Resource(named), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(settings.address, insecure=True)))
    propagator = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    return Tracing(provider.get_tracer("quorate"), provider, propagator)
