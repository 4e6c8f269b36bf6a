"""What a member answers to GET /members/hashkv: the hash of its history up to a revision, or why there is none.

    {"header":{"revision":7},"hash":2886734853,"compact_revision":3,"hash_revision":5}

`header.revision` is the revision that was current when it was asked; zero fields may be absent.
Source: etcd server/etcdserver/corrupt.go (HashKVHandler, HashByRev).
"""

from __future__ import annotations

import json
from typing import Final

HASH_KV_PATH: Final = "/members/hashkv"

# Reasons for no hash that are told apart; any other text may stand in their place.
COMPACTED: Final = "etcdserver: mvcc: required revision has been compacted"
FUTURE_REV: Final = "etcdserver: mvcc: required revision is a future revision"
OTHER_CLUSTER: Final = "rafthttp: cluster ID mismatch"


class PeerHash:
    """A member's answer. `error`: why there is no hash, "" when there is one; then the numbers count."""

    def __init__(self, member_id: int, error: str, rev: int = 0, hash_value: int = 0, compact_rev: int = 0) -> None:
        self.member_id = member_id
        self.error = error
        self.rev = rev
        self.hash = hash_value
        self.compact_rev = compact_rev


def hash_question(rev: int) -> bytes:
    """Return the body of the request."""
    return b'{"revision":%d}' % rev


def read_hash(member_id: int, status: int, body: bytes) -> PeerHash:
    """Return what a response says."""
    text = body.decode("utf-8", "replace").strip()
    if status == 400 and "required revision has been compacted" in text:
        return PeerHash(member_id, COMPACTED)
    if status == 400 and "required revision is a future revision" in text:
        return PeerHash(member_id, FUTURE_REV)
    if status == 412 and "cluster ID mismatch" in text:
        return PeerHash(member_id, OTHER_CLUSTER)
    if status != 200:
        return PeerHash(member_id, f"unknown error: {text}")
    try:
        fields = json.loads(body)
        rev, found = fields["header"].get("revision", 0), fields.get("hash", 0)
        compact_rev = fields.get("compact_revision", 0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return PeerHash(member_id, "malformed response")
    if not (isinstance(rev, int) and isinstance(found, int) and isinstance(compact_rev, int)):
        return PeerHash(member_id, "malformed response")
    return PeerHash(member_id, "", rev, found, compact_rev)
