"""The log entries with which a cluster begins, and those that make one member a cluster of its own.

A new cluster's log starts, alike on every member, with one configuration change a member (term 1, index 1 to n, sorted
by id), all of them committed. `--force-new-cluster` appends changes that remove everybody else. A log that ends before
the database that belongs to it is filled up with empty entries.
Source: etcd's server/etcdserver/bootstrap.go, raft's bootstrap.go, server/storage/util.go.
"""

from __future__ import annotations

from quorate.errors import CorruptError
from quorate.membership.cluster import ADD_LEARNER_NODE, ADD_NODE, REMOVE_NODE, UPDATE_NODE, Cluster
from quorate.membership.member import Member, member_json
from quorate.raft.codec import decode_conf_change, encode_conf_change
from quorate.raft.types import ENTRY_CONF_CHANGE, ENTRY_NORMAL, ConfChange, Entry, HardState, Snapshot

_LOST_PEER_URL = "http://localhost:2380"
"""The peer URL of a member whose own record is lost; etcd takes the same."""


class StartError(Exception):
    """The member cannot start as it is told to; nothing is wrong with its data. The text is etcd's where it has one."""

    headline = "discovery failed"
    """What the fatal line of the log says."""


def first_entries(cluster: Cluster) -> tuple[HardState, list[Entry]]:
    """Return the state and the entries with which a new cluster of these members begins."""
    entries = []
    for index, member in enumerate(cluster.member_list(), 1):
        data = encode_conf_change(ConfChange(0, ADD_NODE, member.id, member_json(member)))
        entries.append(Entry(ENTRY_CONF_CHANGE, 1, index, data))
    return HardState(1, 0, len(entries)), entries


def effective_ids(snapshot: Snapshot | None, entries: list[Entry]) -> list[int]:
    """Return the ids of all members, learners included, that a snapshot and the entries behind it name, ascending."""
    ids: set[int] = set()
    if snapshot is not None:
        ids.update(snapshot.conf_state.voters, snapshot.conf_state.learners)
    for entry in entries:
        if entry.type != ENTRY_CONF_CHANGE:
            continue
        try:
            change = decode_conf_change(entry.data or b"")
        except ValueError as error:
            raise CorruptError("raft log", -1, f"entry {entry.index}: configuration change: {error}") from error
        if change.type in (ADD_NODE, ADD_LEARNER_NODE):
            ids.add(change.node_id)
        elif change.type == REMOVE_NODE:
            ids.discard(change.node_id)
        elif change.type != UPDATE_NODE:
            raise CorruptError("raft log", -1, f"entry {entry.index}: unknown ConfChange type {change.type}")
    ids.discard(0)
    return sorted(ids)


def voter_ids(snapshot: Snapshot | None, entries: list[Entry]) -> set[int]:
    """Return the ids of the voters that a snapshot and the entries behind it name. `effective_ids` has checked them."""
    ids = set() if snapshot is None else set(snapshot.conf_state.voters)
    for entry in entries:
        if entry.type == ENTRY_CONF_CHANGE:
            change = decode_conf_change(entry.data or b"")
            if change.type == ADD_NODE:
                ids.add(change.node_id)
            elif change.type in (REMOVE_NODE, ADD_LEARNER_NODE):
                ids.discard(change.node_id)
    ids.discard(0)
    return ids


def filling_entries(last: int, index: int, term: int) -> list[Entry]:
    """Return empty entries behind `last` up to `index`."""
    return [Entry(ENTRY_NORMAL, term, number, None) for number in range(last + 1, index + 1)]


def isolating_entries(ids: list[int], local_id: int, term: int, index: int) -> list[Entry]:
    """Return the changes, behind `index`, after which `local_id` is the only member."""
    changes = []
    if local_id not in ids:
        # First of all, for raft must never be without a voter.
        context = member_json(Member(local_id, [_LOST_PEER_URL]))
        changes.append(ConfChange(0, ADD_NODE, local_id, context))
    changes += [ConfChange(0, REMOVE_NODE, member_id) for member_id in ids if member_id != local_id]
    return [
        Entry(ENTRY_CONF_CHANGE, term, index + 1 + place, encode_conf_change(change))
        for place, change in enumerate(changes)
    ]
