"""HPACK (RFC 7541): a decoder for the hot path, and blocks encoded so that they can be kept and sent again.

    | 1 index u7+                      |  indexed field
    | 01 name index u6+ | [name] value |  literal, added to the dynamic table
    | 0000 or 0001 name index u4+ | [name] value |  literal, table untouched
    | 001 size u5+                     |  dynamic table size update, only before the first field
    a string is | H | length u7+ | bytes, Huffman-coded when H |

Example: 83 86 44 02 2f 61 is `:method: POST`, `:scheme: http`, `:path: /a` (added to the table).

Why not `hpack.Decoder`: a Go client with deadlines adds a new `grpc-timeout` to the table with every request, so its
blocks never repeat and each costs a whole decode. That takes 12 microseconds in `hpack`, as much as all the rest of a
put, and 2 here when compiled (5 when not). The static table and the Huffman decoder are the library's, and a test holds
the two decoders against each other.

What we send never touches a dynamic table: static indexes and literals without indexing. So a block depends on nothing
but its fields, and constant blocks are made once. Strings go uncoded: they are short, and Huffman would cost more than
it saves.
"""

from __future__ import annotations

from typing import Final

from hpack import HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from quorate.wire.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, Http2Error

Field = tuple[bytes, bytes]

TABLE_SIZE: Final = 4096
EMPTY_TABLE: Final = b"\x20"  # a size update to 0, at the start of a block
STATIC: Final[list[Field]] = [(b"", b""), *HeaderTable.STATIC_TABLE]
STATIC_COUNT: Final = 61
ENTRY_OVERHEAD: Final = 32

MAX_RESIZES: Final = 8  # of the table in one block; two have a use (RFC 7541, 4.2)
HUFFMAN_MEMO_COUNT: Final = 512
HUFFMAN_MEMO_BYTES: Final = 64

OPEN: Final = frozenset((
    b":authority", b":method", b":path", b":scheme", b"accept", b"accept-encoding", b"content-type",
    b"grpc-accept-encoding", b"grpc-encoding", b"te", b"user-agent",
))  # fmt: skip
"""Fields whose values are nobody's secret: what one connection has decoded of them is kept for the next ones."""

_shared: Final[dict[bytes, bytes]] = {}


class HeaderDecoder:
    """Decodes the header blocks of one connection, in order.

    `generation` grows whenever a block adds to or resizes the dynamic table. While it stands still, equal blocks have
    equal meaning: that is what lets a caller keep decoded blocks by their bytes.
    """

    def __init__(self, max_list_bytes: int) -> None:
        self.generation = 0
        self._max_list_bytes = max_list_bytes
        self._entries: list[Field] = []  # oldest first; those before _first have been evicted
        self._first = 0
        self._bytes = 0
        self._capacity = TABLE_SIZE
        self._block = b""
        self._at = 0
        self._memo: dict[bytes, bytes] = {}

    def decode(self, block: bytes) -> list[Field]:
        """Return the fields of a block. Raises Http2Error; the connection must then end, as the table is lost."""
        self._block = block
        self._at = 0
        size = len(block)
        fields: list[Field] = []
        list_bytes = 0
        resizes = 0
        while self._at < size:
            first = block[self._at]
            if first & 0x80:
                field = self._entry(self._integer(0x7F))
            elif first & 0x40:
                field = self._literal(0x3F)
                self._add(field)
            elif first & 0x20:
                resizes += 1
                if fields or resizes > MAX_RESIZES:
                    raise Http2Error(COMPRESSION_ERROR, "table size update out of place")
                self._resize(self._integer(0x1F))
                continue
            else:
                field = self._literal(0x0F)
            list_bytes += len(field[0]) + len(field[1]) + ENTRY_OVERHEAD
            if list_bytes > self._max_list_bytes:
                raise Http2Error(ENHANCE_YOUR_CALM, "header list too large")
            fields.append(field)
        return fields

    def _integer(self, mask: int) -> int:
        block = self._block
        at = self._at
        value = block[at] & mask
        at += 1
        if value == mask:
            shift = 0
            while True:
                if at >= len(block) or shift > 21:
                    raise Http2Error(COMPRESSION_ERROR, "bad integer in a header block")
                byte = block[at]
                at += 1
                value += (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
        self._at = at
        return value

    def _string(self, memo: dict[bytes, bytes]) -> bytes:
        block = self._block
        if self._at >= len(block):
            raise Http2Error(COMPRESSION_ERROR, "header block ends early")
        coded = block[self._at] & 0x80
        length = self._integer(0x7F)
        start = self._at
        end = start + length
        if end > len(block):
            raise Http2Error(COMPRESSION_ERROR, "header block ends early")
        self._at = end
        raw = block[start:end]
        return self._decode_huffman(raw, memo) if coded else raw

    def _decode_huffman(self, raw: bytes, memo: dict[bytes, bytes]) -> bytes:
        known = memo.get(raw)
        if known is not None:
            return known
        try:
            value = bytes(decode_huffman(raw))
        except HPACKError:
            raise Http2Error(COMPRESSION_ERROR, "bad Huffman string") from None
        if len(raw) <= HUFFMAN_MEMO_BYTES:
            if len(memo) >= HUFFMAN_MEMO_COUNT:
                memo.clear()
            memo[raw] = value
        return value

    def _literal(self, mask: int) -> Field:
        index = self._integer(mask)
        name = self._entry(index)[0] if index else self._string(_shared)
        return name, self._string(_shared if name in OPEN else self._memo)

    def _entry(self, index: int) -> Field:
        if 0 < index <= STATIC_COUNT:
            return STATIC[index]
        place = len(self._entries) - (index - STATIC_COUNT)
        if index == 0 or place < self._first:
            raise Http2Error(COMPRESSION_ERROR, "bad index in a header block")
        return self._entries[place]

    def _add(self, field: Field) -> None:
        self.generation += 1
        size = len(field[0]) + len(field[1]) + ENTRY_OVERHEAD
        self._evict(self._capacity - size)
        if size <= self._capacity:
            self._entries.append(field)
            self._bytes += size

    def _resize(self, capacity: int) -> None:
        if capacity > TABLE_SIZE:
            raise Http2Error(COMPRESSION_ERROR, "header table larger than allowed")
        self.generation += 1
        self._capacity = capacity
        self._evict(capacity)

    def _evict(self, room: int) -> None:
        """Drop the oldest entries until at most `room` bytes are left (none when it is negative)."""
        while self._bytes > room and self._first < len(self._entries):
            name, value = self._entries[self._first]
            self._bytes -= len(name) + len(value) + ENTRY_OVERHEAD
            self._first += 1
        if self._first >= 128:
            del self._entries[: self._first]
            self._first = 0


def _static_fields() -> dict[Field, int]:
    return {field: index for index, field in reversed(list(enumerate(STATIC))) if index}


def _static_names() -> dict[bytes, int]:
    return {field[0]: index for index, field in reversed(list(enumerate(STATIC))) if index}


_FIELD_INDEX: Final = _static_fields()
_NAME_INDEX: Final = _static_names()


def encode_integer(value: int, mask: int, pattern: int) -> bytes:
    """Return an HPACK integer in a prefix of `mask` bits, the other bits of the first byte set from `pattern`."""
    if value < mask:
        return bytes([pattern | value])
    out = bytearray([pattern | mask])
    value -= mask
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_field(name: bytes, value: bytes) -> bytes:
    """Return one field: a static index, or a literal without indexing. The name must be lower case."""
    index = _FIELD_INDEX.get((name, value), 0)
    if index:
        return encode_integer(index, 0x7F, 0x80)
    index = _NAME_INDEX.get(name, 0)
    head = encode_integer(index, 0x0F, 0x00)
    if not index:
        head += encode_integer(len(name), 0x7F, 0x00) + name
    return head + encode_integer(len(value), 0x7F, 0x00) + value


def encode_fields(fields: list[Field]) -> bytes:
    """Return a header block that leaves the peer's dynamic table as it was."""
    return b"".join([encode_field(name, value) for name, value in fields])


_TOKEN: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


def valid_name(name: bytes) -> bool:
    """Tell whether a field name is a lower-case token (RFC 9113, 8.2.1); pseudo-fields are checked by name."""
    return bool(name) and _TOKEN.issuperset(name)


def valid_value(value: bytes) -> bool:
    """Tell whether a field value is free of NUL, CR, LF and of white space at its ends (RFC 9113, 8.2.1)."""
    if not value:
        return True
    if b"\0" in value or b"\r" in value or b"\n" in value:
        return False
    return value[0] not in b" \t" and value[-1] not in b" \t"
