"""The data of a log entry: an InternalRaftRequest that is spliced together here and parsed only when it is foreign.

    | tag of the request's field, LEN | the request's bytes as the client sent them | a2 06 LEN 08 <ID> |

Example: PutRequest `0a 01 6b` (key "k") with ID 0x1234_0000_0000_0100 becomes
`22 03 0a 01 6b  a2 06 0a 08 80 82 80 80 80 80 80 9a 12`: field 4, then field 100 (header) with its field 1 (ID).

An ID is (member ID & 0xFFFF) << 48 | counter; all IDs of a member encode to the same number of bytes, so the entry's
last bytes name the request, and a member recognizes its own proposals without parsing. With authentication enabled the
user and the auth revision come before it, as a field 100 of their own (`a2 06 LEN 12 LEN <username> 18 <revision>`);
decoders merge the two.

Empty data is a leader's first entry. Data that is no InternalRaftRequest is a v2 Request: etcd up to 3.5 wrote member
attributes and the cluster version so. Telling them apart rests on strict decoding: the method "PUT" in field 2 is not a
valid message. Source: etcd's api/etcdserverpb/raft_internal.proto, pkg/idutil/id.go, server/etcdserver/apply_v2.go.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError

from quorate.errors import CorruptError
from quorate.proto.etcdserver_pb2 import Request
from quorate.proto.raft_internal_pb2 import InternalRaftRequest
from quorate.server.encode import continued, varint, varint_width

# Kinds of request: the field numbers of InternalRaftRequest. EMPTY and V2 stand for entries without such a field.
EMPTY: Final = 0
V2: Final = 2
RANGE: Final = 3
PUT: Final = 4
DELETE_RANGE: Final = 5
TXN: Final = 6
COMPACTION: Final = 7
LEASE_GRANT: Final = 8
LEASE_REVOKE: Final = 9
ALARM: Final = 10
LEASE_CHECKPOINT: Final = 11
AUTH_ENABLE: Final = 1000
AUTH_DISABLE: Final = 1011
AUTHENTICATE: Final = 1012
AUTH_STATUS: Final = 1013
AUTH_USER_ADD: Final = 1100
AUTH_USER_DELETE: Final = 1101
AUTH_USER_GET: Final = 1102
AUTH_USER_CHANGE_PASSWORD: Final = 1103
AUTH_USER_GRANT_ROLE: Final = 1104
AUTH_USER_REVOKE_ROLE: Final = 1105
AUTH_USER_LIST: Final = 1106
AUTH_ROLE_LIST: Final = 1107
AUTH_ROLE_ADD: Final = 1200
AUTH_ROLE_DELETE: Final = 1201
AUTH_ROLE_GET: Final = 1202
AUTH_ROLE_GRANT_PERMISSION: Final = 1203
AUTH_ROLE_REVOKE_PERMISSION: Final = 1204
AUTH_FIRST: Final = AUTH_ENABLE
AUTH_LAST: Final = AUTH_ROLE_REVOKE_PERMISSION
CLUSTER_VERSION_SET: Final = 1300
CLUSTER_MEMBER_ATTR_SET: Final = 1301
DOWNGRADE_INFO_SET: Final = 1302
DOWNGRADE_VERSION_TEST: Final = 9900

NAMES: Final = {field.number: field.name for field in InternalRaftRequest.DESCRIPTOR.fields}

_HEADER_FIELD: Final = 100
_COUNTER_BITS: Final = 48
_COUNTER_MASK: Final = (1 << _COUNTER_BITS) - 1


class RequestIds:
    """Makes the IDs of a member's proposals, as the bytes that end the entry."""

    def __init__(self, member_id: int, now_ns: int) -> None:
        """Start from the time, so that IDs of an earlier run do not return."""
        self._member_bits = (member_id & 0xFFFF) << _COUNTER_BITS
        self._counter = (now_ns // 1_000_000 & (1 << 40) - 1) << 8
        width = varint_width(self._member_bits | _COUNTER_MASK)
        self._head = b"\xa2\x06" + bytes((1 + width,)) + b"\x08"
        self._high_width = width - 2
        self._high = self._encode_high()
        self.suffix_bytes = len(self._head) + width

    def _encode_high(self) -> bytes:
        # Padded to the full width by continuation bits, which every decoder takes.
        number = varint((self._member_bits | self._counter) >> 14)
        missing = self._high_width - len(number)
        if missing == 0:
            return number
        return number[:-1] + bytes((number[-1] | 0x80,)) + b"\x80" * (missing - 1) + b"\x00"

    def next_suffix(self) -> bytes:
        """Return the header field with the next ID."""
        self._counter = self._counter + 1 & _COUNTER_MASK
        low = self._counter & 0x3FFF
        if low == 0:
            self._high = self._encode_high()
        return self._head + continued(low) + self._high

    def next_id(self) -> int:
        """Return the next ID as a number, for those that do not travel in an entry's header."""
        self._counter = self._counter + 1 & _COUNTER_MASK
        if self._counter & 0x3FFF == 0:
            self._high = self._encode_high()
        return self._member_bits | self._counter


def entry_data(kind: int, raw: bytes, suffix: bytes) -> bytes:
    """Return an entry's data: the request's bytes as field `kind`, then the header."""
    tag = varint(kind << 3 | 2)
    return b"".join((tag, varint(len(raw)), raw, suffix))


class ParsedEntry:
    """A foreign entry's request: its kind, the message of that field (None for EMPTY), and who proposed it."""

    def __init__(self, kind: int, request: object, username: str = "", auth_revision: int = 0) -> None:
        self.kind = kind
        self.request = request
        self.username = username
        self.auth_revision = auth_revision


def parse_entry(data: bytes, index: int) -> ParsedEntry:
    """Return the request in an entry's data. CorruptError when it is neither form, or of a kind that we do not know."""
    if not data:
        return ParsedEntry(EMPTY, None)
    internal = InternalRaftRequest()
    try:
        internal.ParseFromString(data)
    except DecodeError:
        request = Request()
        try:
            request.ParseFromString(data)
        except DecodeError as error:
            raise CorruptError("raft log", -1, f"entry {index}: neither a request of v3 nor of v2: {error}") from error
        return ParsedEntry(V2, request)
    for descriptor, value in internal.ListFields():
        if descriptor.number not in (1, _HEADER_FIELD):
            header = internal.header
            return ParsedEntry(descriptor.number, value, header.username, header.auth_revision)
    raise CorruptError("raft log", -1, f"entry {index}: a request of an unknown kind; a newer etcd wrote this log")
