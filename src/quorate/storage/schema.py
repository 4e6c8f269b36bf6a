"""The backend's buckets, keys and values, as far as they are pure format (etcd: server/storage/schema).

| bucket | key | value |
|---|---|---|
| key | revision, 17 bytes (18 for a tombstone); see mvcc | mvccpb.KeyValue |
| meta | consistent_index, term | u64 big-endian |
| meta | confState | JSON of a raftpb.ConfState, for people only |
| meta | scheduledCompactRev, finishedCompactRev | revision, 17 bytes |
| meta | storageVersion | "3.6.0"; absent below cluster version 3.6 |
| lease | lease id, i64 big-endian | leasepb.Lease {1 ID, 2 TTL, 3 RemainingTTL} |
| alarm | etcdserverpb.AlarmMember {1 memberID, 2 alarm} | empty |
| cluster | clusterVersion, downgrade | "3.5.0", JSON |
| members, members_removed | member id in hex, unpadded | JSON, "removed" |
| auth, authUsers, authRoles | see auth | |

Example: lease 0x10 with 60 seconds is stored at 0000000000000010 as 0810 103c.
"""

from __future__ import annotations

import json
from typing import Final

from quorate.raft.codec import Reader, varint
from quorate.raft.types import ConfState

ALARM: Final = b"alarm"
AUTH: Final = b"auth"
AUTH_ROLES: Final = b"authRoles"
AUTH_USERS: Final = b"authUsers"
CLUSTER: Final = b"cluster"
KEY: Final = b"key"
LEASE: Final = b"lease"
MEMBERS: Final = b"members"
MEMBERS_REMOVED: Final = b"members_removed"
META: Final = b"meta"

BUCKETS: Final = (ALARM, AUTH, AUTH_ROLES, AUTH_USERS, CLUSTER, KEY, LEASE, MEMBERS, MEMBERS_REMOVED, META)

CONSISTENT_INDEX: Final = b"consistent_index"
TERM: Final = b"term"
CONF_STATE: Final = b"confState"
SCHEDULED_COMPACT_REV: Final = b"scheduledCompactRev"
FINISHED_COMPACT_REV: Final = b"finishedCompactRev"
STORAGE_VERSION: Final = b"storageVersion"
# What members may differ in although their state is the same; Maintenance.Hash leaves these keys of `meta` out.
VOLATILE_META: Final = (CONSISTENT_INDEX, TERM, STORAGE_VERSION)

CLUSTER_VERSION: Final = b"clusterVersion"
DOWNGRADE: Final = b"downgrade"
MEMBER_REMOVED: Final = b"removed"

_MASK: Final = 0xFFFFFFFFFFFFFFFF


def encode_u64(value: int) -> bytes:
    """Return a consistent index or term as it is stored."""
    return value.to_bytes(8, "big")


def decode_u64(value: bytes | None) -> int:
    """Return a stored consistent index or term; 0 when it is absent. Raises ValueError."""
    if not value:
        return 0
    if len(value) != 8:
        raise ValueError(f"malformed integer of {len(value)} bytes")
    return int.from_bytes(value, "big")


def layout_version(stored: bytes | None, term: bytes | None) -> str:
    """Return the version of a file's layout: `storageVersion`, or 3.5.0 by the presence of `term`, or "" for older."""
    if stored:
        return stored.decode("utf-8", "replace")
    return "3.5.0" if term else ""


def encode_conf_state(state: ConfState) -> bytes:
    """Return the JSON of a configuration."""
    fields: dict[str, object] = {}
    if state.voters:
        fields["voters"] = state.voters
    if state.learners:
        fields["learners"] = state.learners
    if state.voters_outgoing:
        fields["voters_outgoing"] = state.voters_outgoing
    if state.learners_next:
        fields["learners_next"] = state.learners_next
    fields["auto_leave"] = state.auto_leave
    return json.dumps(fields, separators=(",", ":")).encode()


def member_key(member_id: int) -> bytes:
    """Return the key of a member."""
    return b"%x" % member_id


def parse_member_key(key: bytes) -> int:
    """Return the member's id. Raises ValueError."""
    return int(key, 16)


def lease_key(lease_id: int) -> bytes:
    """Return the key of a lease; ids are signed."""
    return lease_id.to_bytes(8, "big", signed=True)


def parse_lease_key(key: bytes) -> int:
    """Return the lease's id. Raises ValueError."""
    if len(key) != 8:
        raise ValueError(f"malformed lease key of {len(key)} bytes")
    return int.from_bytes(key, "big", signed=True)


def encode_lease(lease_id: int, ttl_s: int, remaining_ttl_s: int) -> bytes:
    """Return leasepb.Lease."""
    return _fields(lease_id, ttl_s, remaining_ttl_s)


def decode_lease(value: bytes) -> tuple[int, int, int]:
    """Return id, TTL and remaining TTL in seconds. Raises ValueError."""
    reader = Reader(value)
    fields = [0, 0, 0]
    while reader.pos < reader.end:
        key = reader.varint()
        if 1 <= key >> 3 <= 3:
            number = reader.scalar(key)
            fields[(key >> 3) - 1] = number - (1 << 64) if number >> 63 else number
        else:
            reader.skip(key)
    return fields[0], fields[1], fields[2]


def encode_alarm(member_id: int, alarm: int) -> bytes:
    """Return etcdserverpb.AlarmMember, the key of an alarm."""
    return _fields(member_id, alarm)


def decode_alarm(key: bytes) -> tuple[int, int]:
    """Return the member and the alarm's type. Raises ValueError."""
    reader = Reader(key)
    member_id = 0
    alarm = 0
    while reader.pos < reader.end:
        tag = reader.varint()
        if tag >> 3 == 1:
            member_id = reader.scalar(tag)
        elif tag >> 3 == 2:
            alarm = reader.scalar(tag)
        else:
            reader.skip(tag)
    return member_id, alarm


def _fields(*values: int) -> bytes:
    # A proto3 message of integers, numbered from 1; zeros are left out.
    parts = []
    for place, value in enumerate(values):
        if value:
            parts.append(varint(8 * (place + 1)) + varint(value & _MASK))
    return b"".join(parts)
