"""What members tell each other in HTTP headers, and who may talk to whom by it.

Each request carries the sender's id, its version, the lowest cluster version that it can be part of, the cluster's id
and its own peer URLs. A receiver refuses first an incompatible version, then another cluster.
Source: etcd server/etcdserver/api/rafthttp/{util,http}.go.
"""

from __future__ import annotations

from typing import Final

from quorate.membership.member import hex_id, parse_hex_id
from quorate.membership.version import MIN_CLUSTER_VERSION, SERVER_VERSION, SERVER_VERSION_TEXT, Version, parse_version

Field = tuple[bytes, bytes]

FROM: Final = b"X-Server-From"
VERSION: Final = b"X-Server-Version"
MIN_VERSION: Final = b"X-Min-Cluster-Version"
CLUSTER_ID: Final = b"X-Etcd-Cluster-ID"
PEER_URLS: Final = b"X-PeerURLs"
RAFT_TO: Final = b"X-Raft-To"

INCOMPATIBLE: Final = "incompatible version"
MISMATCH: Final = "cluster ID mismatch"

# A member that says nothing of its version is older than the header.
_UNSAID: Final = Version(2, 0)


CONNECTION_LIMIT_NS: Final = 5_000_000_000


class Identity:
    """Who this member is, to others, and how long a connection to them may be silent, or take nothing."""

    def __init__(
        self,
        member_id: int,
        cluster_id: int,
        peer_urls: list[str],
        read_timeout_ns: int = CONNECTION_LIMIT_NS,
        write_timeout_ns: int = CONNECTION_LIMIT_NS,
    ) -> None:
        self.read_timeout_ns = read_timeout_ns
        self.write_timeout_ns = write_timeout_ns
        self.member_id = member_id
        self.cluster_id = cluster_id
        self.cluster_text: bytes = hex_id(cluster_id).encode()
        self.headers: list[Field] = [
            (FROM, hex_id(member_id).encode()),
            (VERSION, SERVER_VERSION_TEXT.encode()),
            (MIN_VERSION, str(MIN_CLUSTER_VERSION).encode()),
            (CLUSTER_ID, self.cluster_text),
            (PEER_URLS, ",".join(peer_urls).encode()),
        ]

    def refusal(self, headers: list[Field]) -> str:
        """Return why a request with these headers must be refused, "" when it is one of ours."""
        version = version_of(headers, VERSION)
        lowest = version_of(headers, MIN_VERSION)
        if version is None or lowest is None or not compatible(version, lowest):
            return INCOMPATIBLE
        if value_of(headers, CLUSTER_ID) != self.cluster_text:
            return MISMATCH
        return ""


def value_of(headers: list[Field], name: bytes) -> bytes:
    """Return a header's first value, b"" when it is absent. `headers` have lower-case names."""
    lower = name.lower()
    for key, value in headers:
        if key == lower:
            return value
    return b""


def version_of(headers: list[Field], name: bytes) -> Version | None:
    """Return the version in a header, 2.0.0 when it is absent, None when it is not a version."""
    text = value_of(headers, name)
    if not text:
        return _UNSAID
    try:
        return parse_version(text.decode("latin-1"))
    except ValueError:
        return None


def id_of(headers: list[Field], name: bytes) -> int:
    """Return the id in a header, 0 when there is none."""
    try:
        return parse_hex_id(value_of(headers, name).decode("latin-1"))
    except ValueError:
        return 0


def urls_of(headers: list[Field]) -> list[str]:
    """Return the sender's own peer URLs."""
    text = value_of(headers, PEER_URLS).decode("latin-1")
    return [url for url in text.split(",") if url]


def compatible(version: Version, min_cluster: Version) -> bool:
    """Tell whether a member of that version and demands can be in a cluster with us."""
    return not (version.minor_version() < MIN_CLUSTER_VERSION or SERVER_VERSION.minor_version() < min_cluster)
