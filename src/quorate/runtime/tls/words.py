"""OpenSSL's errors in the words of Go's crypto/tls, which operators know from etcd's log."""

from __future__ import annotations

import re
import ssl
from typing import Final

EOF: Final = "EOF"
NOT_TLS: Final = "tls: first record does not look like a TLS handshake"
NO_CERTIFICATE: Final = "tls: client didn't provide a certificate"

_ALERT: Final = re.compile(r"(?:SSLV3|TLSV1|TLSV13)_ALERT_(.*)")
_ALERTS: Final = {
    "BAD_RECORD_MAC": "bad record MAC",
    "CERTIFICATE_EXPIRED": "expired certificate",
    "CERTIFICATE_REQUIRED": "certificate required",
    "CERTIFICATE_REVOKED": "revoked certificate",
    "CERTIFICATE_UNKNOWN": "unknown certificate",
    "DECODE_ERROR": "error decoding message",
    "DECRYPT_ERROR": "error decrypting message",
    "INSUFFICIENT_SECURITY": "insufficient security level",
    "PROTOCOL_VERSION": "protocol version not supported",
    "UNKNOWN_CA": "unknown certificate authority",
    "USER_CANCELLED": "user canceled",
}
_REASONS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": NO_CERTIFICATE,
    "NO_SHARED_CIPHER": "tls: no cipher suite supported by both client and server",
    "UNSUPPORTED_PROTOCOL": "tls: client offered only unsupported versions",
    "UNEXPECTED_EOF_WHILE_READING": EOF,
    "WRONG_VERSION_NUMBER": NOT_TLS,
    "HTTP_REQUEST": NOT_TLS,
}
_EXPIRED: Final = (9, 10)
_UNKNOWN: Final = (2, 18, 19, 20, 21)
_PURPOSE: Final = (26,)


def in_go_words(error: Exception) -> str:
    """Return what Go would say."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: x509: {_verification(error)}"
    if isinstance(error, ssl.SSLEOFError):
        return EOF
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        alert = _ALERT.fullmatch(reason)
        if alert is not None:
            return f"remote error: tls: {_ALERTS.get(alert[1], alert[1].lower().replace('_', ' '))}"
        return _REASONS.get(reason) or f"tls: {reason.lower().replace('_', ' ')}"
    return str(error)


def _verification(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _EXPIRED:
        return "certificate has expired or is not yet valid"
    if error.verify_code in _UNKNOWN:
        return "certificate signed by unknown authority"
    if error.verify_code in _PURPOSE:
        return "certificate specifies an incompatible key usage"
    return error.verify_message
