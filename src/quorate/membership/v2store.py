"""The JSON in a .snap file: the membership, in the form of etcd's version 2 store.

Members up to 3.5 take members, removed ids and the cluster version from it when they start, so every snapshot that we
write holds all of them. What 3.6 writes, and we with it, is the whole state of a fresh v2 store in which the membership
has just been created: a tree of nodes, the history of those creations, and its counters.

    /0/members/<hex id>/raftAttributes    {"peerURLs":[...],"isLearner":true}   mandatory
    /0/members/<hex id>/attributes        {"name":...,"clientURLs":[...]}       absent before the member has published
    /0/removed_members/<hex id>           ""
    /0/version                            "3.6.0"

A node with "Children": null is a value, one with an object is a directory. Readers need only "Path", "Children" and
"Value". `Events` has exactly `Capacity` elements, nulls included, because 3.5 indexes it.

Contract: `encode` and `decode` are inverse on (members, removed ids, version). `decode` never believes what it has not
checked: ValueError tells what is wrong. Keys that clients wrote through the v2 API (etcd up to 3.5) are not read; they
are reported, since 3.6 refuses to start on them.
Source: etcd's server/etcdserver/api/membership/storev2.go and server/etcdserver/api/v2store.
"""

from __future__ import annotations

import json
from typing import Final

from quorate.membership.member import (
    MalformedError,
    Member,
    attributes_json,
    go_json,
    hex_id,
    member_from_fields,
    parse_hex_id,
    raft_attributes_json,
)
from quorate.membership.version import Version, parse_version

_CAPACITY: Final = 1000
_NEVER: Final = "0001-01-01T00:00:00Z"

Json = dict[str, object]


class Membership:
    """What a snapshot says about the cluster."""

    def __init__(self, members: dict[int, Member], removed: set[int], version: Version | None) -> None:
        self.members = members
        self.removed = removed
        self.version = version
        self.has_user_data = False
        """True when the v2 store holds keys that are not etcd's own."""


def _node(path: str, index: int, value: str, children: Json | None) -> Json:
    return {
        "Path": path,
        "CreatedIndex": index,
        "ModifiedIndex": index,
        "ExpireTime": _NEVER,
        "Value": value,
        "Children": children,
    }


def _sort_children(node: object) -> None:
    # Go writes a map's keys in order.
    assert isinstance(node, dict)
    children = node["Children"]
    if children is not None:
        node["Children"] = dict(sorted(children.items()))
        for child in children.values():
            _sort_children(child)


class _Writer:
    """A v2 store under construction: the tree, the history, and the index that counts changes."""

    def __init__(self) -> None:
        self.root_children: Json = {"0": _node("/0", 0, "", {}), "1": _node("/1", 0, "", {})}
        self.index = 0
        self.events: list[object] = []
        self.creates = 0
        self.sets = 0

    def add(self, path: str, value: str, action: str) -> None:
        """Create a value node and the directories above it."""
        self.index += 1
        children = self.root_children
        walked = ""
        parts = path.split("/")[1:]
        for name in parts[:-1]:
            walked += "/" + name
            if name not in children:
                children[name] = _node(walked, self.index, "", {})
            directory = children[name]
            assert isinstance(directory, dict), walked
            children = directory["Children"]
        children[parts[-1]] = _node(path, self.index, value, None)
        node = {"key": path, "value": value, "modifiedIndex": self.index, "createdIndex": self.index}
        self.events.append({"action": action, "node": node})
        if action == "create":
            self.creates += 1
        else:
            self.sets += 1

    def finish(self) -> bytes:
        recent = self.events[-_CAPACITY:]
        queue: Json = {
            "Events": recent + [None] * (_CAPACITY - len(recent)),
            "Size": len(recent),
            "Front": 0,
            "Back": len(recent) % _CAPACITY,
            "Capacity": _CAPACITY,
        }
        first = self.index - len(recent) + 1 if recent else 0
        stats: Json = {
            "getsSuccess": 0, "getsFail": 1, "setsSuccess": self.sets, "setsFail": 0, "deleteSuccess": 0,
            "deleteFail": 0, "updateSuccess": 0, "updateFail": 0, "createSuccess": self.creates, "createFail": 0,
            "compareAndSwapSuccess": 0, "compareAndSwapFail": 0, "compareAndDeleteSuccess": 0,
            "compareAndDeleteFail": 0, "expireCount": 0, "watchers": 0,
        }  # fmt: skip
        root = _node("/", 0, "", self.root_children)
        _sort_children(root)
        store: Json = {
            "Root": root,
            "WatcherHub": {"EventHistory": {"Queue": queue, "StartIndex": first, "LastIndex": self.index}},
            "CurrentIndex": self.index,
            "Stats": stats,
            "CurrentVersion": 2,
        }
        return go_json(store).encode()


def encode_v2store(membership: Membership) -> bytes:
    """Return the snapshot data for a membership."""
    writer = _Writer()
    for member_id in sorted(membership.members):
        member = membership.members[member_id]
        path = "/0/members/" + hex_id(member_id)
        writer.add(path + "/raftAttributes", raft_attributes_json(member), "create")
        if member.name or member.client_urls:
            writer.add(path + "/attributes", attributes_json(member), "set")
    for member_id in sorted(membership.removed):
        writer.add("/0/removed_members/" + hex_id(member_id), "", "create")
    if membership.version is not None:
        writer.add("/0/version", str(membership.version), "set")
    return writer.finish()


def _children(node: object, what: str) -> Json:
    if not isinstance(node, dict):
        raise MalformedError(f"v2 store: {what} is not a node")
    children = node.get("Children")
    if children is None:
        return {}
    if not isinstance(children, dict):
        raise MalformedError(f"v2 store: the children of {what} are not an object")
    return children


def _value(node: object, what: str) -> str:
    value = node.get("Value", "") if isinstance(node, dict) else None
    if not isinstance(value, str):
        raise MalformedError(f"v2 store: {what} has no text value")
    return value


def _decode_member(name: str, node: object) -> Member:
    member_id = parse_hex_id(name)
    fields: Json = {}
    parts = _children(node, name)
    if "raftAttributes" not in parts:
        raise MalformedError(f"v2 store: member {name}: raftAttributes key doesn't exist")
    for key, part in parts.items():
        if key not in ("raftAttributes", "attributes"):
            raise MalformedError(f"v2 store: member {name}: unknown key {key!r}")
        decoded = json.loads(_value(part, key))
        if not isinstance(decoded, dict):
            raise MalformedError(f"v2 store: member {name}: {key} is not an object")
        fields.update(decoded)
    fields["id"] = member_id
    return member_from_fields(fields)[0]


def _has_user_data(root: Json) -> bool:
    # 3.5's empty tables of v2 users and roles, below /2, are no user data.
    for name, node in root.items():
        children = _children(node, "/" + name)
        if name == "2":
            if any(_children(child, "/2") for child in children.values()):
                return True
        elif name != "0" and children:
            return True
    return False


def decode_v2store(data: bytes) -> Membership:
    """Return the membership in snapshot data, of any version from 3.4 on; ValueError when it cannot be believed."""
    try:
        store = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"v2 store: {error}") from error
    if not isinstance(store, dict):
        raise MalformedError("v2 store: not an object")
    root = _children(store.get("Root", {}), "/")
    zero = _children(root.get("0", {}), "/0")
    members: dict[int, Member] = {}
    for name, node in _children(zero.get("members", {}), "/0/members").items():
        member = _decode_member(name, node)
        members[member.id] = member
    removed = {parse_hex_id(name) for name in _children(zero.get("removed_members", {}), "/0/removed_members")}
    version = parse_version(_value(zero["version"], "/0/version")) if "version" in zero else None
    membership = Membership(members, removed, version)
    membership.has_user_data = _has_user_data(root)
    return membership
