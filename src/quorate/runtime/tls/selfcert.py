"""Certificates of our own making, for auto TLS. Source: SelfCert in etcd's client/pkg/transport/listener.go."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from quorate.ports import Disk, Log
from quorate.runtime.tls.identity import parse_address
from quorate.runtime.tls.info import TlsInfo
from quorate.runtime.urls import Url, UrlError, split_host_port
from quorate.server.bootlog import StartError
from quorate.server.bootstrap import touch_directory

_CALLER: Final = "transport/listener.go"
NO_VALIDITY: Final = "selfSignedCertValidity is invalid,it should be greater than 0"


def self_signed(disk: Disk, log: Log, directory: str, urls: Sequence[Url], years: int) -> TlsInfo:
    """Return the pair in a directory, made now unless it is there. Raises StartError."""
    if years == 0:
        log.warn(_CALLER, "cannot generate cert", error=NO_VALIDITY)
        raise StartError(NO_VALIDITY)
    touch_directory(disk, directory, log, "cannot create cert directory")
    cert, key = (os.path.abspath(os.path.join(directory, name)) for name in ("cert.pem", "key.pem"))
    if not (os.path.exists(cert) and os.path.exists(key)):
        try:
            _make(log, cert, key, urls, years)
        except (OSError, ValueError, OverflowError) as error:
            log.warn(_CALLER, "cannot generate x509 certificate", error=str(error))
            raise StartError(str(error)) from None
    return TlsInfo(cert, key, cert, key, self_signed=True)


def _make(log: Log, cert: str, key: str, urls: Sequence[Url], years: int) -> None:
    now = datetime.now(UTC)
    until = now + timedelta(days=365 * years)
    fields = {"certificate-validity-bound-not-after": until.isoformat(timespec="milliseconds").replace("+00:00", "Z")}
    log.warn(_CALLER, "automatically generate certificates", **fields)
    private = ec.generate_private_key(ec.SECP521R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "etcd")])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(secrets.randbits(128) or 1)
        .not_valid_before(now)
        .not_valid_after(until)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
    )
    names = list(dict.fromkeys(_san(url) for url in urls))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    made = builder.sign(private, hashes.SHA512())
    with open(cert, "wb") as file:
        file.write(made.public_bytes(Encoding.PEM))
    log.info(_CALLER, "created cert file", path=cert)
    with open(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    log.info(_CALLER, "created key file", path=key)


def _san(url: Url) -> x509.GeneralName:
    try:
        host, _ = split_host_port(url.host)
    except UrlError:
        host = ""
    address = parse_address(host)
    return x509.DNSName(host) if address is None else x509.IPAddress(address)
