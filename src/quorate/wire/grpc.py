"""gRPC over HTTP/2: message prefix, status and trailers, timeouts, percent-encoded texts, gzip.

    | compressed u8 (0 or 1) | length u32 BE | message |

The message 0a 01 6b leaves as 00 00 00 00 03 0a 01 6b. Format: grpc doc/PROTOCOL-HTTP2.md; texts: grpc-go 1.82, which
etcd 3.6.14 uses.
"""

from __future__ import annotations

import zlib
from typing import Final

from quorate import errors
from quorate.errors import RpcError
from quorate.wire import frames
from quorate.wire.headers import Field, encode_fields

PREFIX_BYTES: Final = 5

CANCELED: Final = RpcError(errors.CANCELED, "context canceled")
DEADLINE: Final = RpcError(errors.DEADLINE_EXCEEDED, "context deadline exceeded")
CONNECTION_LOST: Final = RpcError(errors.UNAVAILABLE, "connection error: the connection was lost")
NO_MESSAGE: Final = RpcError(
    errors.INTERNAL, "cardinality violation: received no request message from non-client-streaming RPC"
)
IDENTITY_COMPRESSED: Final = RpcError(errors.INTERNAL, "grpc: compressed flag set with identity or empty encoding")
OUT_OF_BUDGET: Final = RpcError(errors.RESOURCE_EXHAUSTED, "grpc: too many unfinished messages on the connection")
TRUNCATED: Final = RpcError(errors.UNKNOWN, "unexpected EOF")

MAX_TIMEOUT_NS: Final = 2**63 - 1
_UNITS: Final = {
    ord("H"): 3_600_000_000_000,
    ord("M"): 60_000_000_000,
    ord("S"): 1_000_000_000,
    ord("m"): 1_000_000,
    ord("u"): 1_000,
    ord("n"): 1,
}


def frame_message(message: bytes) -> bytes:
    """Return an uncompressed message with its prefix."""
    return len(message).to_bytes(PREFIX_BYTES, "big") + message


def quote(text: str | bytes) -> str:
    """Return a text as Go's %q prints it, for ASCII."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    out = []
    for char in text:
        if char in '"\\':
            out.append("\\" + char)
        elif " " <= char <= "~" or (char.isprintable() and char > "~"):
            out.append(char)
        else:
            out.append({"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char, f"\\x{ord(char):02x}"))
    return '"' + "".join(out) + '"'


def parse_timeout(value: bytes) -> int:
    """Return a grpc-timeout in nanoseconds. Raises ValueError with grpc-go's text."""
    if len(value) < 2:
        raise ValueError(f"transport: timeout string is too short: {quote(value)}")
    if len(value) > 9:
        raise ValueError(f"transport: timeout string is too long: {quote(value)}")
    unit = _UNITS.get(value[-1], 0)
    if unit == 0:
        raise ValueError(f"transport: timeout unit is not recognized: {quote(value)}")
    digits = value[:-1]
    if not digits.isdigit():
        raise ValueError(f"strconv.ParseUint: parsing {quote(digits)}: invalid syntax")
    return min(int(digits) * unit, MAX_TIMEOUT_NS)


def format_timeout(timeout_ns: int) -> bytes:
    """Return a grpc-timeout of at most eight digits, rounded up to the first unit that holds it."""
    timeout_ns = max(timeout_ns, 0)
    for unit, letter in ((1, b"n"), (1_000, b"u"), (1_000_000, b"m"), (1_000_000_000, b"S"), (60_000_000_000, b"M")):
        count = -(-timeout_ns // unit)
        if count <= 99_999_999:
            return b"%d" % count + letter
    return b"%dH" % min(-(-timeout_ns // 3_600_000_000_000), 99_999_999)


def encode_text(text: str) -> bytes:
    """Return a status text percent-encoded for the grpc-message header."""
    raw = text.encode("utf-8", "replace")
    if all(0x20 <= byte <= 0x7E and byte != 0x25 for byte in raw):
        return raw
    return b"".join([bytes([b]) if 0x20 <= b <= 0x7E and b != 0x25 else b"%%%02X" % b for b in raw])


def decode_text(value: bytes) -> str:
    """Return the status text of a grpc-message header; what is not valid encoding is kept as it stands."""
    out = bytearray()
    at = 0
    while at < len(value):
        digits = value[at + 1 : at + 3]
        if value[at] == 0x25 and len(digits) == 2 and all(d in b"0123456789abcdefABCDEF" for d in digits):
            out.append(int(digits, 16))
            at += 3
        else:
            out.append(value[at])
            at += 1
    return out.decode("utf-8", "replace")


def status_fields(error: RpcError) -> list[Field]:
    """Return the trailers that carry a status."""
    fields = [(b"grpc-status", b"%d" % error.code)]
    if error.text:
        fields.append((b"grpc-message", encode_text(error.text)))
    return fields


# Blocks, and frames up to the stream id, which a reply is joined from.
OK_TRAILERS: Final = encode_fields([(b"grpc-status", b"0")])
OK_TRAILERS_PREFIX: Final = frames.frame_prefix(
    frames.HEADERS, frames.FLAG_END_HEADERS | frames.FLAG_END_STREAM, len(OK_TRAILERS)
)

TRAILERS_MEMO_COUNT: Final = 256
_trailers_memo: dict[tuple[int, str], bytes] = {}


def trailers_block(error: RpcError) -> bytes:
    """Return the header block of trailers; blocks of recurring statuses are made once."""
    key = (error.code, error.text)
    block = _trailers_memo.get(key)
    if block is None:
        block = encode_fields(status_fields(error))
        if len(_trailers_memo) >= TRAILERS_MEMO_COUNT:
            _trailers_memo.clear()
        _trailers_memo[key] = block
    return block


def response_block(content_type: bytes) -> bytes:
    """Return the header block that begins every response but the trailers-only ones."""
    return encode_fields([(b":status", b"200"), (b"content-type", content_type)])


def too_large(size: int, limit: int) -> RpcError:
    """Return the error for a message that is longer than the limit."""
    return RpcError(errors.RESOURCE_EXHAUSTED, f"grpc: received message larger than max ({size} vs. {limit})")


def unknown_encoding(name: bytes) -> RpcError:
    """Return the error for a grpc-encoding that we cannot decompress."""
    return RpcError(errors.UNIMPLEMENTED, f"grpc: Decompressor is not installed for grpc-encoding {quote(name)}")


def bad_flag(flag: int) -> RpcError:
    """Return the error for a prefix whose first byte is neither 0 nor 1."""
    return RpcError(errors.INTERNAL, f"grpc: received unexpected payload format {flag}")


def gunzip(data: bytes, limit: int) -> bytes:
    """Return the decompressed message. Raises RpcError for bad data, and for more than `limit` bytes of it.

    Never holds more than limit + 1 decompressed bytes, whatever the ratio.
    """
    stream = zlib.decompressobj(wbits=31)
    try:
        out = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise RpcError(errors.INTERNAL, f"grpc: failed to decompress the received message: {error}") from None
    if len(out) > limit:
        raise RpcError(errors.RESOURCE_EXHAUSTED, f"grpc: received message after decompression larger than max {limit}")
    if not stream.eof:
        raise RpcError(errors.INTERNAL, "grpc: failed to decompress the received message: unexpected EOF")
    return out


# What a client makes of an answer that carries no grpc-status (grpc doc/http-grpc-status-mapping.md).
_HTTP_CODES: Final = {
    400: errors.INTERNAL,
    401: errors.UNAUTHENTICATED,
    403: errors.PERMISSION_DENIED,
    404: errors.UNIMPLEMENTED,
    429: errors.UNAVAILABLE,
    502: errors.UNAVAILABLE,
    503: errors.UNAVAILABLE,
    504: errors.UNAVAILABLE,
}
_RESET_CODES: Final = {
    frames.REFUSED_STREAM: errors.UNAVAILABLE,
    frames.CANCEL: errors.CANCELED,
    frames.ENHANCE_YOUR_CALM: errors.RESOURCE_EXHAUSTED,
    frames.FLOW_CONTROL_ERROR: errors.RESOURCE_EXHAUSTED,
    frames.INADEQUATE_SECURITY: errors.PERMISSION_DENIED,
}


def code_of_http_status(status: int) -> int:
    """Return the gRPC code for an HTTP status."""
    return _HTTP_CODES.get(status, errors.UNKNOWN)


def code_of_reset(code: int) -> int:
    """Return the gRPC code for an RST_STREAM code (grpc-go: http2ErrConvTab)."""
    return _RESET_CODES.get(code, errors.INTERNAL)
