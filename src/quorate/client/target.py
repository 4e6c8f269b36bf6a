"""Where a client connects to: endpoints as operators write them, and TLS.

    host:port    http://host:port    https://host:port    unix://path    unixs://path

Schemeless endpoints and unix sockets use TLS when there is a TLS configuration; `http` never does, `https` always. As
in etcd's client, the first endpoint decides for all whether TLS is used. Source: etcd's
client/v3/internal/endpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

SCHEMES = ("http", "https", "unix", "unixs")


@dataclass(frozen=True)
class TlsOptions:
    """Files and switches of TLS; an empty name means none. Without `ca_file` the system's roots are used."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    skip_verify: bool = False
    server_name: str = ""

    def context(self) -> ssl.SSLContext:
        """Return a client's context. Raises OSError and ssl.SSLError for files that cannot be used."""
        import ssl

        context = ssl.create_default_context(cafile=self.ca_file or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # As Go judges: any certificate of the file is trusted by itself, names are in the alternative names alone.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.hostname_checks_common_name = False
        context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:AES:@SECLEVEL=1")
        if self.skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.cert_file:
            context.load_cert_chain(self.cert_file, self.key_file)
        context.set_alpn_protocols(["h2"])
        return context


@dataclass(frozen=True)
class Target:
    """One endpoint: a host and port, or the path of a unix socket."""

    name: str
    host: str
    port: int
    path: str
    tls: bool

    @property
    def authority(self) -> bytes:
        """What goes into :authority."""
        if self.path:
            return b"localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}".encode()


def split_endpoints(endpoints: str | Sequence[str]) -> list[str]:
    """Return the endpoints of a comma list or a sequence, without spaces and empty ones."""
    words = endpoints.split(",") if isinstance(endpoints, str) else endpoints
    return [word.strip() for word in words if word.strip()]


def parse_target(endpoint: str, with_tls: bool) -> Target:
    """Return where an endpoint leads. Raises ValueError with Go's text when host or port is missing."""
    scheme, mark, rest = endpoint.partition("://")
    if not mark:
        if endpoint.startswith(("unix:", "unixs:")):
            scheme, _, rest = endpoint.partition(":")
        else:
            scheme, rest = "", endpoint
    tls = scheme in ("https", "unixs") or (scheme in ("", "unix") and with_tls)
    if scheme in ("unix", "unixs"):
        return Target(endpoint, "", 0, rest, tls)
    if scheme not in ("", "http", "https"):
        raise ValueError(f"unsupported scheme of endpoint {endpoint}")
    address = rest.partition("/")[0]
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        raise ValueError(f"address {address}: missing port in address")
    if not port.isdigit() or int(port) > 65535:
        raise ValueError(f"address {address}: invalid port")
    # SRV records end their names with a dot, which neither /etc/hosts nor certificates know.
    return Target(endpoint, host.strip("[]").removesuffix("."), int(port), "", tls)


def uses_tls(first: str, configured: bool) -> bool:
    """Tell whether the cluster is spoken to by TLS: the first endpoint decides."""
    if first.startswith(("https://", "unixs:")):
        return True
    return configured and not first.startswith("http://")


def parse_targets(endpoints: Sequence[str], configured: bool) -> list[Target]:
    """Return all targets, with the first endpoint's decision about TLS applied to them."""
    tls = bool(endpoints) and uses_tls(endpoints[0], configured)
    parsed = [parse_target(each, tls) for each in endpoints]
    return [Target(each.name, each.host, each.port, each.path, tls) for each in parsed]
