"""Certificates, keys and revocation lists in files: what Go's crypto/tls accepts, in its words.

A file is read again when it has changed, which costs a stat each time. A change within the clock's grain of an earlier
one cannot be seen by a stat, so a file that is younger than `SETTLED_NS` is read each time as well.
The library for certificates is loaded with the first of them: members without TLS keep its memory.
Source: Go's crypto/tls (X509KeyPair), etcd's client/pkg/tlsutil and client/pkg/transport/listener_tls.go (checkCRL).
"""

from __future__ import annotations

import os
import re
import time
from base64 import b64decode
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

SETTLED_NS: Final = 2 * 10**9
_PEM: Final = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]+)-----[ \t]*\r?\n((?:[A-Za-z-]+:[^\n]*\n)*)(.*?)-----END \1-----", re.DOTALL
)


class TlsError(Exception):
    """TLS cannot be; the text is Go's or etcd's."""


class WatchedFile:
    """A file's content, read again when the file has changed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.content = b""
        self.version = 0
        """Grows with each change of the content."""

        self._stamp: tuple[int, int, int, int] | None = None

    def refresh(self) -> int:
        """Look at the file; return `version`. Raises TlsError when it cannot be read."""
        try:
            stat = os.stat(self.path)
            stamp = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            if stamp == self._stamp:
                return self.version
            with open(self.path, "rb") as file:
                content = file.read()
        except OSError as error:
            self._stamp = None
            raise TlsError(f"open {self.path}: {(error.strerror or str(error)).lower()}") from None
        age_ns = time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns)
        self._stamp = stamp if age_ns > SETTLED_NS and len(content) == stat.st_size else None
        if content != self.content or not self.version:
            self.content = content
            self.version += 1
        return self.version


def pem_blocks(data: bytes) -> list[tuple[str, bytes, bytes]]:
    """Return the blocks of a PEM text: type, the header lines of encrypted ones, and the content."""
    blocks = []
    for match in _PEM.finditer(data):
        try:
            blocks.append((match[1].decode(), match[2], b64decode(match[3])))
        except ValueError:
            continue
    return blocks


def check_pair(cert_pem: bytes, key_pem: bytes) -> None:
    """Refuse what is not a certificate with its key. Raises TlsError."""
    blocks = pem_blocks(cert_pem)
    certificates = [data for kind, _, data in blocks if kind == "CERTIFICATE"]
    if not certificates:
        if not blocks:
            raise TlsError("tls: failed to find any PEM data in certificate input")
        if len(blocks) == 1 and blocks[0][0].endswith("PRIVATE KEY"):
            raise TlsError(
                "tls: failed to find certificate PEM data in certificate input, but did find a private key; "
                "PEM inputs may have been switched"
            )
        raise TlsError(
            'tls: failed to find "CERTIFICATE" PEM block in certificate input after skipping PEM blocks of the '
            f"following types: [{' '.join(kind for kind, _, _ in blocks)}]"
        )
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = _key_of(key_pem)
    public = _parse(certificates[0]).public_key()
    if type(public) is not type(key.public_key()):
        raise TlsError("tls: private key type does not match public key type")
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*form) != key.public_key().public_bytes(*form):
        raise TlsError("tls: private key does not match public key")


def _parse(der: bytes) -> x509.Certificate:
    from cryptography import x509

    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        raise TlsError("x509: malformed certificate") from None


def _key_of(pem: bytes) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    blocks = pem_blocks(pem)
    found = [block for block in blocks if block[0] == "PRIVATE KEY" or block[0].endswith(" PRIVATE KEY")]
    if not found:
        if not blocks:
            raise TlsError("tls: failed to find any PEM data in key input")
        if len(blocks) == 1 and blocks[0][0] == "CERTIFICATE":
            raise TlsError("tls: found a certificate rather than a key in the PEM for the private key")
        raise TlsError(
            'tls: failed to find PEM block with type ending in "PRIVATE KEY" in key input after skipping PEM blocks '
            f"of the following types: [{' '.join(kind for kind, _, _ in blocks)}]"
        )
    # PKCS 1, PKCS 8 and SEC 1 are told apart by their content; there is nowhere to give a password.
    try:
        key = load_der_private_key(found[0][2], None)
    except (ValueError, TypeError):
        raise TlsError("tls: failed to parse private key") from None
    if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
        raise TlsError("tls: found unknown private key type in PKCS#8 wrapping")
    return key


def load_authorities(path: str) -> bytes:
    """Return the certificates of a CA file, one DER behind the other. Raises TlsError."""
    file = WatchedFile(path)
    file.refresh()
    found = dict.fromkeys(data for _, _, data in pem_blocks(file.content))
    for der in found:
        _parse(der)
    return b"".join(found)


def revoked_serials(content: bytes) -> frozenset[int]:
    """Return the serial numbers of a revocation list, DER (3.6) or PEM (3.5 too). Raises TlsError."""
    from cryptography import x509

    for kind, _, data in pem_blocks(content):
        if kind == "X509 CRL":
            content = data
            break
    try:
        return frozenset(each.serial_number for each in x509.load_der_x509_crl(content))
    except ValueError:
        raise TlsError("x509: malformed crl") from None
