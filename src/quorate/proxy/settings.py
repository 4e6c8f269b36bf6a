"""What a gRPC proxy is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from quorate.client.target import TlsOptions
from quorate.runtime.tls.info import TlsInfo

SECOND: Final = 1_000_000_000
RECEIVE_BYTES: Final = 4 << 20
"""What grpc-go takes of a client when nothing is said."""


@dataclass
class ProxySettings:
    """By the names of the flags."""

    endpoints: list[str]
    listen_addr: str = "127.0.0.1:23790"
    advertise_client_url: str = "127.0.0.1:23790"
    metrics_addr: str = ""
    namespace: bytes = b""
    resolver_prefix: str = ""
    resolver_ttl_s: int = 0
    max_send_bytes: int = 1_572_864
    max_recv_bytes: int = 2**31 - 1
    max_concurrent_streams: int = 2**32 - 1
    keepalive_min_ns: int = 5 * SECOND
    keepalive_interval_ns: int = 7200 * SECOND
    keepalive_timeout_ns: int = 20 * SECOND
    dial_keepalive_ns: int = 0
    dial_keepalive_timeout_ns: int = 20 * SECOND
    sync_interval_ns: int = 0
    ordering: bool = False
    pprof: bool = False
    cluster_tls: TlsOptions | None = None
    listen_tls: TlsInfo = field(default_factory=TlsInfo)
