"""What the flags say about TLS on one kind of listener: `TlsInfo`, twice in a member's settings (clients and peers).

Source: etcd's client/pkg/transport/listener.go (TLSInfo); `describe` is its String method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from quorate.runtime.duration import quote
from quorate.server.bootlog import StartError


@dataclass
class TlsInfo:
    """Files and switches by the names of etcd's fields; an empty text means none."""

    cert_file: str = ""
    key_file: str = ""
    client_cert_file: str = ""
    """With `client_key_file` the pair that we show where we dial; empty: the server's pair."""

    client_key_file: str = ""
    trusted_ca_file: str = ""
    client_cert_auth: bool = False
    crl_file: str = ""
    allowed_cns: list[str] = field(default_factory=list)
    allowed_hostnames: list[str] = field(default_factory=list)
    skip_client_san_verify: bool = False
    cipher_suites: list[str] = field(default_factory=list)
    min_version: str = "TLS1.2"
    max_version: str = ""
    server_name: str = ""
    """The name that servers' certificates must hold instead of the host in their URL."""

    self_signed: bool = False
    """The certificate is our own making (auto TLS), and so are the other members': theirs are not verified."""

    @property
    def empty(self) -> bool:
        """Tell whether there is no certificate."""
        return not self.cert_file and not self.key_file

    def describe(self) -> str:
        """Return the text of etcd's log lines."""
        return (
            f"cert = {self.cert_file}, key = {self.key_file}, client-cert={self.client_cert_file}, "
            f"client-key={self.client_key_file}, trusted-ca = {self.trusted_ca_file}, "
            f"client-cert-auth = {str(self.client_cert_auth).lower()}, crl-file = {self.crl_file}"
        )

    def check(self) -> None:
        """Refuse what cannot go together. Raises StartError with etcd's texts; files are not looked at."""
        if not self.key_file or not self.cert_file:
            raise StartError(f"KeyFile and CertFile must both be present[key: {self.key_file}, cert: {self.cert_file}]")
        if bool(self.client_key_file) != bool(self.client_cert_file):
            raise StartError(
                "ClientKeyFile and ClientCertFile must both be present or both absent: "
                f"key: {self.client_key_file}, cert: {self.client_cert_file}]"
            )
        if self.allowed_cns and self.allowed_hostnames:
            raise StartError(
                "AllowedCNs and AllowedHostnames are mutually exclusive "
                f"(cns={_quoted(self.allowed_cns)}, hostnames={_quoted(self.allowed_hostnames)})"
            )


def _quoted(words: Sequence[str]) -> str:
    # As Go's %q shows a list.
    return f"[{' '.join(quote(word) for word in words)}]"
