"""Certificates for tests: an authority, and what it issues, written to files in the forms that operators have."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOSTS = ["localhost", "127.0.0.1"]
USES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


def new_key(kind: str = "ec"):
    """Return a private key: ec, ec384, rsa or ed25519."""
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP384R1() if kind == "ec384" else ec.SECP256R1())


def name_of(common_name: str, organization: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else parts)


@dataclass
class Pair:
    """A certificate and its key, as files."""

    cert: Path
    key: Path
    certificate: x509.Certificate
    private: object

    @property
    def serial(self) -> int:
        return self.certificate.serial_number

    def flags(self, prefix: str = "") -> list[str]:
        return [f"--{prefix}cert-file={self.cert}", f"--{prefix}key-file={self.key}"]


class Authority:
    """A certificate authority with a folder of its own."""

    def __init__(self, folder: Path, common_name: str = "ca", key: str = "ec", parent: Authority | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.private = new_key(key)
        self.parent = parent
        issuer, signer = (parent.name, parent.private) if parent else (name_of(common_name), self.private)
        self.name = name_of(common_name)
        builder = self._builder(self.name, issuer, self.private.public_key(), timedelta(days=365))
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        self.certificate = builder.sign(signer, hashes.SHA256())
        self.cert = folder / f"{common_name}.pem"
        self.cert.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def _builder(self, subject, issuer, public, valid: timedelta, serial: int = 0) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(serial or secrets.randbits(120) | 1)
            .not_valid_before(now - timedelta(days=1 if valid > timedelta(0) else 10))
            .not_valid_after(now + valid)
        )

    def issue(
        self,
        file_name: str,
        common_name: str = "",
        hosts: list[str] | None = None,
        uses: tuple[str, ...] = ("server", "client"),
        key: str = "ec",
        form: str = "",
        valid: timedelta = timedelta(days=30),
        serial: int = 0,
        chain: bool = False,
        organization: str = "",
    ) -> Pair:
        """Issue a certificate and write it and its key (form: "", pkcs8, encrypted)."""
        private = new_key(key)
        builder = self._builder(
            name_of(common_name, organization), self.name, private.public_key(), valid, serial
        ).add_extension(x509.BasicConstraints(False, None), critical=True)
        hosts = HOSTS if hosts is None else hosts
        if hosts:
            names = [general_name(host) for host in hosts]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if uses:
            builder = builder.add_extension(x509.ExtendedKeyUsage([USES[use] for use in uses]), critical=False)
        certificate = builder.sign(self.private, hashes.SHA256())
        cert, key_file = self.folder / f"{file_name}.pem", self.folder / f"{file_name}-key.pem"
        text = certificate.public_bytes(Encoding.PEM)
        cert.write_bytes(text + self.certificate.public_bytes(Encoding.PEM) if chain else text)
        layout = PrivateFormat.PKCS8 if form or key == "ed25519" else PrivateFormat.TraditionalOpenSSL
        secret = BestAvailableEncryption(b"secret") if form == "encrypted" else NoEncryption()
        key_file.write_bytes(private.private_bytes(Encoding.PEM, layout, secret))
        key_file.chmod(0o600)
        return Pair(cert, key_file, certificate, private)

    def revoke(self, serials: list[int], form: Encoding = Encoding.DER, file_name: str = "crl") -> Path:
        """Write a revocation list."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name).last_update(now)
        builder = builder.next_update(now + timedelta(days=1))
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(revoked)
        path = self.folder / file_name
        path.write_bytes(builder.sign(self.private, hashes.SHA256()).public_bytes(form))
        return path


def general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
