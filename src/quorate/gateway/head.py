"""What a gateway's request says besides its body: metadata and timeout, by grpc-gateway's rules.

`Authorization` passes as it is, the headers that IANA calls permanent with the prefix `grpcgateway-`, and
`Grpc-Metadata-X` as `x`. Source: grpc-gateway 1.16, runtime/{context,mux}.go.
"""

from __future__ import annotations

from typing import Final

from quorate.errors import INVALID_ARGUMENT, RpcError
from quorate.gateway import base64
from quorate.wire.web import HttpRequest

_PREFIX: Final = b"grpc-metadata-"
_PERMANENT: Final = frozenset(
    (
        b"accept", b"accept-charset", b"accept-language", b"accept-ranges", b"authorization", b"cache-control",
        b"content-type", b"cookie", b"date", b"expect", b"from", b"host", b"if-match", b"if-modified-since",
        b"if-none-match", b"if-schedule-tag-match", b"if-unmodified-since", b"max-forwards", b"origin", b"pragma",
        b"referer", b"user-agent", b"via", b"warning",
    )
)  # fmt: skip
_UNITS: Final = {"H": 3600 * 10**9, "M": 60 * 10**9, "S": 10**9, "m": 10**6, "u": 10**3, "n": 1}


def metadata_of(request: HttpRequest) -> dict[bytes, bytes]:
    """Return the call's metadata. Raises RpcError for a binary header that is none."""
    found: dict[bytes, bytes] = {}
    for name, value in request.headers:
        if name == b"authorization":
            found.setdefault(name, value)
        if name in _PERMANENT:
            key = b"grpcgateway-" + name
        elif name.startswith(_PREFIX):
            key = name[len(_PREFIX) :]
        else:
            continue
        if name.endswith(b"-bin"):
            value = _binary(name, value)
        found.setdefault(key, value)
    return found


def _binary(name: bytes, value: bytes) -> bytes:
    try:
        return base64.decode(value.decode("latin-1"))
    except ValueError as error:
        shown = "-".join(part.capitalize() for part in name.decode("latin-1").split("-"))
        raise RpcError(INVALID_ARGUMENT, f"invalid binary header {shown}: {error}") from None


def timeout_of(request: HttpRequest) -> int | None:
    """Return the time that the call may take, in nanoseconds, None when it has all the time. Raises RpcError."""
    given = (request.header(b"grpc-timeout") or b"").decode("latin-1")
    if not given:
        return None
    unit = _UNITS.get(given[-1])
    count = given[:-1]
    digits = count[1:] if count[:1] in ("-", "+") else count
    if unit is None or not (digits.isascii() and digits.isdigit()) or abs(int(count)) >= 2**63:
        raise RpcError(INVALID_ARGUMENT, f"invalid grpc-timeout: {given}")
    return int(count) * unit or None
