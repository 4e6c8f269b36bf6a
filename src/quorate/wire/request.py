"""What a request's header list asks for: an RPC, an HTTP request, or a refusal in grpc-go's words.

A `RequestHead` depends on the fields and the router alone, so the connection keeps it by the bytes of its header block
and a repeated block costs one lookup. The order of checks is grpc-go's (internal/transport/http2_server.go, server.go).
"""

from __future__ import annotations

from typing import Final

from quorate import errors
from quorate.errors import RpcError
from quorate.wire import frames, grpc
from quorate.wire.headers import Field, encode_fields, valid_name, valid_value
from quorate.wire.rpc import Method, Router

RPC: Final = 0
HTTP: Final = 1
REFUSED: Final = 2  # answered at once with `refusal`
MALFORMED: Final = 3  # reset with PROTOCOL_ERROR

_CONNECTION_FIELDS: Final = frozenset(
    [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"]
)
_GRPC: Final = b"application/grpc"
_HEADERS_FLAGS: Final = frames.FLAG_END_HEADERS
_REPLY_BLOCK: Final = grpc.response_block(_GRPC)
_REPLY_PREFIX: Final = frames.frame_prefix(frames.HEADERS, _HEADERS_FLAGS, len(_REPLY_BLOCK))

KNOWN_KEPT: Final = 256
KNOWN_BYTES: Final = 2048


class RequestHead:
    """A decoded and judged request header list. `kind` says which of the other fields count."""

    def __init__(self, fields: list[Field]) -> None:
        self.fields = fields
        self.kind = MALFORMED
        self.verb = b""
        self.path = b""
        self.scheme = b""
        self.authority = b""
        self.method: Method | None = None
        self.refusal = b""  # the block of the trailers-only answer
        self.timeout_ns = -1  # -1 = none
        self.gzip = False
        self.content_length = -1  # -1 = not given
        self.reply_block = _REPLY_BLOCK
        self.reply_prefix = _REPLY_PREFIX

    def value(self, name: bytes) -> bytes | None:
        """Return the first value of a field."""
        for key, value in self.fields:
            if key == name:
                return value
        return None

    def count(self, name: bytes) -> int:
        """Return how often a field is given."""
        return len([0 for key, _ in self.fields if key == name])

    def set_content_type(self, content_type: bytes) -> None:
        """Answer with the content type of the request."""
        if content_type != _GRPC:
            self.reply_block = grpc.response_block(content_type)
            self.reply_prefix = frames.frame_prefix(frames.HEADERS, _HEADERS_FLAGS, len(self.reply_block))

    def with_timeout(self, fields: list[Field], timeout_ns: int) -> RequestHead:
        """Return the same RPC with another timeout."""
        head = RequestHead(fields)
        head.kind = self.kind
        head.verb = self.verb
        head.path = self.path
        head.scheme = self.scheme
        head.authority = self.authority
        head.method = self.method
        head.timeout_ns = timeout_ns
        head.gzip = self.gzip
        head.content_length = self.content_length
        head.reply_block = self.reply_block
        head.reply_prefix = self.reply_prefix
        return head

    def refuse(self, status: int, content_type: bytes, error: RpcError) -> None:
        """Make this a request that is answered with a status and nothing else."""
        self.kind = REFUSED
        first = [(b":status", b"%d" % status), (b"content-type", content_type)]
        self.refusal = encode_fields(first + grpc.status_fields(error))


class RequestReader:
    """Judges header lists, and remembers the verdicts on those that differ in nothing but their timeout.

    A Go client with deadlines sends a new grpc-timeout with every request, so its blocks never repeat; what is left of
    them without it does.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        self._known: dict[tuple[Field, ...], RequestHead] = {}

    def read(self, fields: list[Field]) -> RequestHead:
        """Judge a header list."""
        at = _timeout_at(fields)
        if at < 0:
            return read_request(fields, self._router)
        rest = (*fields[:at], *fields[at + 1 :])
        base = self._known.get(rest)
        if base is None:
            base = read_request(list(rest), self._router)
            if len(self._known) >= KNOWN_KEPT:
                self._known.clear()
            if sum([len(name) + len(value) for name, value in rest]) <= KNOWN_BYTES:
                self._known[rest] = base
        if base.kind != RPC:
            return read_request(fields, self._router)
        try:
            return base.with_timeout(fields, grpc.parse_timeout(fields[at][1]))
        except ValueError:
            return read_request(fields, self._router)


def _timeout_at(fields: list[Field]) -> int:
    """Return the place of a grpc-timeout that stands behind all pseudo-fields, or -1."""
    at = len(fields) - 1
    while at > 0:
        name = fields[at][0]
        if name == b"grpc-timeout":
            return at
        if name[:1] == b":":
            return -1
        at -= 1
    return -1


def read_request(fields: list[Field], router: Router) -> RequestHead:
    """Judge a header list."""
    head = RequestHead(fields)
    if not _well_formed(head):
        return head
    content_type = head.value(b"content-type") or b""
    if _GRPC in content_type.lower():
        _read_rpc(head, content_type, router)
    else:
        head.kind = HTTP
    return head


def _well_formed(head: RequestHead) -> bool:
    """Check RFC 9113, 8.2 and 8.3, and take the pseudo-fields."""
    seen: dict[bytes, bytes] = {}
    regular = False
    for name, value in head.fields:
        if name[:1] == b":":
            if regular or name in seen or name not in (b":method", b":scheme", b":path", b":authority"):
                return False
            seen[name] = value
        else:
            regular = True
            if not valid_name(name) or name in _CONNECTION_FIELDS:
                return False
            if name == b"te" and value != b"trailers":
                return False
            if name == b"content-length" and not _take_length(head, value):
                return False
        if not valid_value(value):
            return False
    head.verb = seen.get(b":method", b"")
    head.path = seen.get(b":path", b"")
    head.scheme = seen.get(b":scheme", b"")
    head.authority = seen.get(b":authority", b"") or head.value(b"host") or b""
    return bool(head.verb and head.path and head.scheme)


def _take_length(head: RequestHead, value: bytes) -> bool:
    if not value.isdigit() or len(value) > 18:
        return False
    length = int(value)
    if head.content_length not in (-1, length):
        return False
    head.content_length = length
    return True


def _read_rpc(head: RequestHead, content_type: bytes, router: Router) -> None:
    lowered = content_type.lower()
    rest = lowered[len(_GRPC) :]
    if not lowered.startswith(_GRPC) or (rest and rest[:1] not in (b"+", b";")):
        text = f"invalid gRPC request content-type {grpc.quote(content_type)}"
        head.refuse(415, _GRPC, RpcError(errors.INVALID_ARGUMENT, text))
        return
    # grpc-go answers with the subtype alone, without parameters.
    reply_type = _GRPC + b"+" + rest[1:].split(b";")[0] if len(rest) > 1 and rest[:1] == b"+" else _GRPC
    head.set_content_type(reply_type)
    hosts = head.count(b"host")
    if hosts > 1:
        text = (
            f"num values of :authority: {head.count(b':authority')}, num values of host: {hosts}, "
            "both must only have 1 value as per HTTP/2 spec"
        )
        head.refuse(400, reply_type, RpcError(errors.INTERNAL, text))
        return
    if head.verb != b"POST":
        text = f"Received a HEADERS frame with :method {grpc.quote(head.verb)} which should be POST"
        head.refuse(405, reply_type, RpcError(errors.INTERNAL, text))
        return
    timeout = head.value(b"grpc-timeout")
    if timeout is not None:
        try:
            head.timeout_ns = grpc.parse_timeout(timeout)
        except ValueError as error:
            head.refuse(400, reply_type, RpcError(errors.INTERNAL, f"malformed grpc-timeout: {error}"))
            return
    _find_method(head, reply_type, router)


def _find_method(head: RequestHead, reply_type: bytes, router: Router) -> None:
    method = router.methods.get(head.path)
    if method is None:
        head.refuse(200, reply_type, _unknown(head.path, router))
        return
    encoding = head.value(b"grpc-encoding") or b"identity"
    if encoding not in (b"identity", b"gzip"):
        head.refuse(200, reply_type, grpc.unknown_encoding(encoding))
        head.refusal += encode_fields([(b"grpc-accept-encoding", b"identity,gzip")])
        return
    head.gzip = encoding == b"gzip"
    head.method = method
    head.kind = RPC


def _unknown(path: bytes, router: Router) -> RpcError:
    slash = path.rfind(b"/")
    if path[:1] != b"/" or slash == 0:
        return RpcError(errors.UNIMPLEMENTED, f"malformed method name: {grpc.quote(path)}")
    prefix = path[: slash + 1]
    service = path[1:slash].decode("utf-8", "replace")
    if any(known.startswith(prefix) for known in router.methods):
        name = path[slash + 1 :].decode("utf-8", "replace")
        return RpcError(errors.UNIMPLEMENTED, f"unknown method {name} for service {service}")
    return RpcError(errors.UNIMPLEMENTED, f"unknown service {service}")
