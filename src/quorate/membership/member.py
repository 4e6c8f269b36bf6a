"""A member of the cluster: its id, its URLs, and the JSON that stands for it in the log, the db file and snapshots.

An id is the first 8 bytes, big endian, of a SHA-1:

    | peer URLs, sorted, without separator | cluster token | decimal unix seconds, only for a member added at run time |

Example: "http://127.0.0.1:24701" with token "tok1" is 97e6743b0e6fffb3; the cluster of that one member, which is the
SHA-1 of its members' ids (ascending, 8 bytes big endian each), is 858f3e332583e1fd. Ids are written in hexadecimal
without leading zeros in keys, logs and headers, and as decimal numbers in JSON.

The JSON is byte for byte what Go's encoding/json makes of etcd's structs: keys in the order of the struct's fields, no
spaces, empty optional fields left out, `<`, `>` and `&` escaped.
Source: etcd's server/etcdserver/api/membership/member.go and client/pkg/types/{id,urls,urlsmap}.go.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Final
from urllib.parse import urlsplit

_GO_ESCAPES: Final = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile(r"[\x00-\x20\x7f]")


class MalformedError(ValueError):
    """Stored or replicated JSON that does not describe what it should."""


def go_json(value: object) -> str:
    """Return the text that Go's encoding/json would make of the value (dicts keep their order)."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_GO_ESCAPES)


def hex_id(member_id: int) -> str:
    """Return an id as etcd writes it in keys and logs."""
    return f"{member_id:x}"


def parse_hex_id(text: str) -> int:
    """Return the id that a hexadecimal text names; ValueError when it is none."""
    if not re.fullmatch(r"[0-9a-fA-F]{1,16}", text):
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    return int(text, 16)


def compute_member_id(peer_urls: list[str], token: str, now_s: int | None = None) -> int:
    """Return the id of a member with these peer URLs; `now_s` is given for one that joins a running cluster."""
    text = "".join(sorted(peer_urls)) + token
    if now_s is not None:
        text += str(now_s)
    return int.from_bytes(hashlib.sha1(text.encode(), usedforsecurity=False).digest()[:8], "big")


def compute_cluster_id(member_ids: list[int]) -> int:
    """Return the id of a new cluster of these members."""
    packed = b"".join(member_id.to_bytes(8, "big") for member_id in sorted(member_ids))
    return int.from_bytes(hashlib.sha1(packed, usedforsecurity=False).digest()[:8], "big")


class Member:
    """A member. `name` and `client_urls` are empty until it has published itself."""

    def __init__(
        self,
        member_id: int,
        peer_urls: list[str],
        name: str = "",
        client_urls: list[str] | None = None,
        is_learner: bool = False,
    ) -> None:
        self.id = member_id
        self.peer_urls = peer_urls
        self.name = name
        self.client_urls = [] if client_urls is None else client_urls
        self.is_learner = is_learner

    def started(self) -> bool:
        """Tell whether the member has ever run: it publishes its name when it starts."""
        return self.name != ""

    def clone(self) -> Member:
        """Return a copy that shares nothing."""
        return Member(self.id, list(self.peer_urls), self.name, list(self.client_urls), self.is_learner)

    def __repr__(self) -> str:
        return f"Member({self.id:x}, {self.peer_urls}, {self.name!r}, {self.client_urls}, learner={self.is_learner})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Member) and member_json(self) == member_json(other)

    def __hash__(self) -> int:
        return hash(self.id)


def _raft_attributes(member: Member) -> dict[str, object]:
    # Go writes a slice that was never set as null.
    fields: dict[str, object] = {"peerURLs": member.peer_urls or None}
    if member.is_learner:
        fields["isLearner"] = True
    return fields


def _attributes(member: Member) -> dict[str, object]:
    fields: dict[str, object] = {}
    if member.name:
        fields["name"] = member.name
    if member.client_urls:
        fields["clientURLs"] = member.client_urls
    return fields


def raft_attributes_json(member: Member) -> str:
    """Return `{"peerURLs":[...],"isLearner":true}`, the value of a member's raftAttributes in a snapshot."""
    return go_json(_raft_attributes(member))


def attributes_json(member: Member) -> str:
    """Return `{"name":...,"clientURLs":[...]}`, the value of a member's attributes in a snapshot."""
    return go_json(_attributes(member))


def member_json(member: Member) -> bytes:
    """Return the member as it stands in the `members` bucket and in a configuration change's context."""
    return go_json({"id": member.id, **_raft_attributes(member), **_attributes(member)}).encode()


def promote_json(member_id: int) -> bytes:
    """Return the context of the configuration change that makes a voter of a learner."""
    return go_json({"id": member_id, "peerURLs": None, "isPromote": True}).encode()


def _strings(value: object) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise MalformedError("not a list of strings")
    return list(value)


def member_from_fields(fields: object, member_id: int = 0) -> tuple[Member, bool]:
    """Return the member a decoded JSON object describes, and whether the object asks for a promotion.

    `member_id` counts when the object has no "id". ValueError when a field has the wrong type.
    """
    if not isinstance(fields, dict):
        raise MalformedError("a member must be a JSON object")
    found_id = fields.get("id", member_id)
    name = fields.get("name", "")
    if isinstance(found_id, bool) or not isinstance(found_id, int) or not 0 <= found_id < 1 << 64:
        raise MalformedError(f"bad member id {found_id!r}")
    if not isinstance(name, str):
        raise MalformedError(f"bad member name {name!r}")
    member = Member(
        found_id,
        _strings(fields.get("peerURLs")),
        name,
        _strings(fields.get("clientURLs")),
        fields.get("isLearner") is True,
    )
    return member, fields.get("isPromote") is True


def parse_member_json(data: bytes | str, member_id: int = 0) -> tuple[Member, bool]:
    """Return the member in a JSON text and whether the text asks for a promotion; ValueError when it is malformed."""
    return member_from_fields(json.loads(data), member_id)


def _check_host_port(host_port: str, url: str) -> None:
    bare = ValueError(f'URL address does not have the form "host:port": {url}')
    if host_port.startswith("["):
        host, bracket, rest = host_port[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            raise bare
        port = rest[1:]
    else:
        host, colon, port = host_port.rpartition(":")
        if not colon or ":" in host:
            raise bare
    if not (port.isascii() and (port == "" or port.isdigit())):
        raise ValueError(f'parse "{url}": invalid port ":{port}" after host')


def _parse_url(text: str) -> str:
    url = text.strip()
    if _CONTROL.search(url) or _BAD_PERCENT.search(url):
        raise ValueError(f'parse "{url}": invalid character or escape in URL')
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        _check_host_port(parts.netloc.rpartition("@")[2], url)
        if parts.path:
            raise ValueError(f"URL must not contain a path: {url}")
    elif parts.scheme not in ("unix", "unixs"):
        raise ValueError(f"URL scheme must be http, https, unix, or unixs: {url}")
    return parts.scheme + url[len(parts.scheme) :]


def parse_urls(texts: list[str]) -> list[str]:
    """Return the URLs, checked, trimmed and sorted; ValueError with etcd's text when one is not acceptable."""
    if not texts:
        raise ValueError("no valid URLs given")
    return sorted(_parse_url(text) for text in texts)


def parse_initial_cluster(text: str) -> dict[str, list[str]]:
    """Return the peer URLs by member name of an --initial-cluster value, "name=url,name=url,..."; ValueError if bad."""
    urls: dict[str, list[str]] = {}
    for pair in text.split(","):
        if pair:
            name, _, url = pair.partition("=")
            urls.setdefault(name, []).append(url)
    return {name: parse_urls(values) for name, values in urls.items()}


def format_initial_cluster(urls: dict[str, list[str]]) -> str:
    """Return the --initial-cluster value for these peer URLs by name, sorted."""
    return ",".join(sorted(f"{name}={url}" for name, values in urls.items() for url in values))
