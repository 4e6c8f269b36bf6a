"""`quorate-certs`: a certificate authority and the certificates of a member, as etcd's notes make them with cfssl.

    quorate-certs --dir pki --name master01 --hosts 192.168.100.200,127.0.0.1,localhost

An authority that is in the directory already signs again, so that the command runs once a member, in copies of one
directory; other files are written anew. Keys have mode 0600. Layouts:

    cfssl     ca.pem ca-key.pem, server.pem server-key.pem, peer.pem peer-key.pem, client.pem client-key.pem
    kubeadm   ca.crt ca.key, server.crt server.key, peer.crt peer.key, healthcheck-client.crt healthcheck-client.key

As in cfssl's profiles of those notes, server and peer may act as either side of a connection, the client only as a
client; everything is valid for 43800 hours.
"""

from __future__ import annotations

import argparse
import datetime
import ipaddress
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_CURVES: Final[dict[str, type[ec.EllipticCurve]]] = {"256": ec.SECP256R1, "384": ec.SECP384R1, "521": ec.SECP521R1}
_SKEW: Final = datetime.timedelta(minutes=5)  # for machines whose clocks are behind, as in cfssl


@dataclass(frozen=True)
class Layout:
    """Where certificates and keys go: `{}` stands for what they are for."""

    cert: str
    key: str
    client: str
    client_organization: str


LAYOUTS: Final = {
    "cfssl": Layout("{}.pem", "{}-key.pem", "client", ""),
    "kubeadm": Layout("{}.crt", "{}.key", "healthcheck-client", "system:masters"),
}


class CertsError(Exception):
    """What was asked for cannot be done."""


@dataclass(frozen=True)
class Authority:
    """A certificate authority."""

    cert: x509.Certificate
    key: PrivateKey


def main() -> int:
    """Run the command and return its exit status."""
    try:
        make(parse(sys.argv[1:]))
    except (CertsError, OSError, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return what the words ask for."""
    parser = argparse.ArgumentParser(
        prog="quorate-certs", description="Make a certificate authority and the certificates of a member."
    )
    parser.add_argument("--dir", default=".", help="where the files are, and go (made if absent)")
    parser.add_argument("--layout", choices=sorted(LAYOUTS), default="cfssl", help="names of the files")
    parser.add_argument("--name", default="etcd", help="common name of the server's and the peer's certificate")
    parser.add_argument("--hosts", default="localhost,127.0.0.1,::1", help="names and addresses of the member")
    parser.add_argument("--client-cn", default="client", help="common name of the client's certificate")
    parser.add_argument("--ca-cn", default="etcd", help="common name of a new authority")
    parser.add_argument("--key-type", default="ecdsa:256", help="ecdsa:256, ecdsa:384, ecdsa:521, rsa:2048, rsa:4096")
    parser.add_argument("--expiry", default="43800h", help="how long certificates are valid, in hours")
    return parser.parse_args(words)


def make(wanted: argparse.Namespace) -> None:
    """Write the files; raises CertsError, OSError, ValueError."""
    layout = LAYOUTS[wanted.layout]
    hours = re.fullmatch(r"([1-9][0-9]*)h", wanted.expiry)
    if hours is None:
        raise CertsError(f"--expiry {wanted.expiry!r} is no number of hours, such as 43800h")
    valid = datetime.timedelta(hours=int(hours[1]))
    names = [name for name in wanted.hosts.split(",") if name]
    if not names:
        raise CertsError("--hosts is empty: nobody could verify the member")
    folder = Path(wanted.dir)
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    authority = _authority(folder, layout, wanted, valid)
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    for purpose, common_name, hosts, usages in (
        ("server", wanted.name, names, both),
        ("peer", wanted.name, names, both),
        (layout.client, wanted.client_cn, [], [ExtendedKeyUsageOID.CLIENT_AUTH]),
    ):
        key = new_key(wanted.key_type)
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        if purpose == layout.client and layout.client_organization:
            subject.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, layout.client_organization))
        cert = issue(authority, key, x509.Name(subject), hosts, usages, valid)
        _write(folder, layout, purpose, cert, key)


def _authority(folder: Path, layout: Layout, wanted: argparse.Namespace, valid: datetime.timedelta) -> Authority:
    cert_path, key_path = folder / layout.cert.format("ca"), folder / layout.key.format("ca")
    if cert_path.exists() != key_path.exists():
        missing = key_path if cert_path.exists() else cert_path
        raise CertsError(f"the authority in {folder} is not complete: {missing.name} is missing")
    if cert_path.exists():
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise CertsError(f"{key_path}: only RSA and elliptic curve keys can sign here")
        return Authority(x509.load_pem_x509_certificate(cert_path.read_bytes()), key)
    new = new_key(wanted.key_type)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, wanted.ca_cn)])
    builder = _builder(name, name, new, valid)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    cert = builder.sign(new, hashes.SHA256())
    _write(folder, layout, "ca", cert, new)
    return Authority(cert, new)


def new_key(kind: str) -> PrivateKey:
    """Return a new private key of a kind as in `ecdsa:256`; raises CertsError."""
    algorithm, _, size = kind.partition(":")
    if algorithm == "ecdsa" and size in _CURVES:
        return ec.generate_private_key(_CURVES[size]())
    if algorithm == "rsa" and size in ("2048", "3072", "4096"):
        return rsa.generate_private_key(public_exponent=65537, key_size=int(size))
    raise CertsError(f"--key-type {kind!r} is not known")


def issue(
    authority: Authority,
    key: PrivateKey,
    subject: x509.Name,
    hosts: Sequence[str],
    usages: Sequence[x509.ObjectIdentifier],
    valid: datetime.timedelta,
) -> x509.Certificate:
    """Return a certificate for the key, signed by the authority; `hosts` are its names and addresses."""
    builder = _builder(subject, authority.cert.subject, key, valid)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = builder.add_extension(signer, critical=False)
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(name) for name in hosts]), critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, valid: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(
        issuer, subject, key.public_key(), x509.random_serial_number(), now - _SKEW, now + valid
    )
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not signs_certificates,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(folder: Path, layout: Layout, purpose: str, cert: x509.Certificate, key: PrivateKey) -> None:
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    for name, data, mode in (
        (layout.key.format(purpose), secret, 0o600),
        (layout.cert.format(purpose), cert.public_bytes(serialization.Encoding.PEM), 0o644),
    ):
        # Renamed into place: a member that reads certificates at each handshake never finds half of one.
        path = folder / f".{name}.new"
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
        path.replace(folder / name)


if __name__ == "__main__":
    raise SystemExit(main())
