"""Who a certificate names, and whether that is whom it should name.

Source: Go's crypto/x509 (VerifyHostname and the texts of HostnameError), etcd's client/pkg/transport/listener_tls.go.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from quorate.runtime.duration import quote
from quorate.runtime.tls.files import TlsError

Address = IPv4Address | IPv6Address
_LABEL: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?|[A-Za-z0-9_]")


class Identity:
    """What we need of a certificate."""

    def __init__(self, common_name: str, dns_names: list[str], addresses: list[Address], serial: int) -> None:
        self.common_name = common_name
        self.dns_names = dns_names
        self.addresses = addresses
        self.serial = serial

    def is_for(self, host: str) -> bool:
        """Tell whether the certificate is valid for a name or address, by its subject alternative names alone."""
        address = parse_address(host[1:-1] if len(host) > 2 and host[0] == "[" and host[-1] == "]" else host)
        if address is not None:
            return address in self.addresses
        return any(_matches(pattern, host) for pattern in self.dns_names)

    def not_for(self, address: str) -> str:
        """Return Go's words for a certificate that is not valid for an address."""
        if not self.addresses:
            return f"x509: cannot validate certificate for {address} because it doesn't contain any IP SANs"
        return f"x509: certificate is valid for {', '.join(map(str, self.addresses))}, not {address}"

    def not_among(self, host: str, problem: str = "") -> str:
        """Return etcd's words for a peer whose address none of the names leads to."""
        names = " ".join(quote(name) for name in self.dns_names)
        return f"tls: {quote(host)} does not match any of DNSNames [{names}]" + (f" ({problem})" if problem else "")


@lru_cache(maxsize=1024)
def identify(der: bytes) -> Identity:
    """Return what a certificate says; clients come again with the same one. Raises TlsError."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        common_name = str(names[-1].value) if names else ""
        dns_names: list[str] = []
        addresses: list[Address] = []
        try:
            sans = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            pass
        else:
            dns_names = sans.get_values_for_type(x509.DNSName)
            addresses = [each for each in sans.get_values_for_type(x509.IPAddress) if isinstance(each, Address)]
        return Identity(common_name, dns_names, addresses, certificate.serial_number)
    except ValueError as error:
        raise TlsError(f"x509: malformed certificate: {error}") from None


def serial_hex(serial: int) -> str:
    """Return a serial number as etcd shows it: its bytes in hexadecimal."""
    return serial.to_bytes((serial.bit_length() + 7) // 8, "big").hex() if serial > 0 else ""


def parse_address(text: str) -> Address | None:
    """Return the IP address, IPv4 also where it is written as a mapped one; None for anything else."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def name_matches_reverse(names: Sequence[str], found: Sequence[str]) -> bool:
    """Tell whether a PTR record's name is among a certificate's names; "*.x" stands for all that ends in ".x"."""
    for each in found:
        name = each.removesuffix(".")
        if any(name == one or (one.startswith("*.") and name.endswith(one[1:])) for one in names):
            return True
    return False


def _matches(pattern: str, host: str) -> bool:
    pattern, host = pattern.lower(), host.lower()
    labels = host.removesuffix(".").split(".")
    wanted = pattern.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels) or not all(
        _LABEL.fullmatch(label) or (label == "*" and at == 0) for at, label in enumerate(wanted)
    ):
        return pattern == host and host not in ("", ".")
    return len(labels) == len(wanted) and all(
        (at == 0 and label == "*") or label == labels[at] for at, label in enumerate(wanted)
    )
