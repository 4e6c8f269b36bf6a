"""Names of cipher suites: those of `--cipher-suites` (Go's crypto/tls) to OpenSSL's.

Go's list for TLS 1.2 and below; the suites of TLS 1.3 may be named, and naming them changes nothing for TLS 1.3, whose
suites are fixed. Source: etcd's client/pkg/tlsutil/cipher_suites.go, Go's crypto/tls.CipherSuites.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from functools import cache
from typing import Final

from quorate.runtime.duration import quote
from quorate.server.bootlog import StartError

TLS13: Final = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")

NAMES: Final = {
    "TLS_RSA_WITH_RC4_128_SHA": "RC4-SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA": "DES-CBC3-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA": "ECDHE-ECDSA-RC4-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA": "ECDHE-RSA-RC4-SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA": "ECDHE-RSA-DES-CBC3-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
}

GO_DEFAULT: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-SHA:"
    "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES256-SHA:ECDHE-ECDSA-AES256-SHA"
)
"""What Go takes when nothing is asked for, AES with 128 bits first."""

_LEVEL: Final = ":@SECLEVEL=1"  # RSA keys of 1,024 bits are good enough for Go

NEEDED_FOR_HTTP2: Final = ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")


def check_names(suites: Sequence[str]) -> None:
    """Refuse a name that Go does not know. Raises StartError with etcd's text."""
    for suite in suites:
        if suite not in NAMES and suite not in TLS13:
            raise StartError(f"unexpected TLS cipher suite {quote(suite)}")


def check_http2(suites: Sequence[str], min_version: str) -> None:
    """Refuse a choice with which no client could speak HTTP/2, as Go's server does. Raises StartError."""
    if suites and min_version != "TLS1.3" and not any(suite in NEEDED_FOR_HTTP2 for suite in suites):
        raise StartError(
            "http2: TLSConfig.CipherSuites is missing an HTTP/2-required AES_128_GCM_SHA256 cipher "
            f"(need at least one of {' or '.join(NEEDED_FOR_HTTP2)})"
        )


@cache
def _known() -> frozenset[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    return frozenset(str(each["name"]) for each in context.get_ciphers())


def restrict(context: ssl.SSLContext, suites: Sequence[str]) -> None:
    """Let a context speak TLS 1.2 with these suites only; those that this OpenSSL lacks are left out.

    With none left TLS 1.2 is off. An empty list means Go's default.
    """
    if not suites:
        context.set_ciphers(GO_DEFAULT + _LEVEL)
        return
    wanted = [NAMES[suite] for suite in suites if suite in NAMES and NAMES[suite] in _known()]
    if wanted:
        context.set_ciphers(":".join(wanted) + _LEVEL)
    else:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
