"""Versions: which etcd we say we are, and how the cluster's version is decided from those of its members.

A member has a server version (the etcd release it is compatible with), the cluster has one version that all members
agree on through the log: the lowest server version, major and minor only, and when we decide it not above
HIGHEST_OWN_CLUSTER_VERSION. Features are enabled by the cluster version.

Contract: pure functions and values. Times, requests to other members and the log are the server's business.
Source: etcd's api/version/version.go and server/etcdserver/version/{monitor,downgrade}.go; the text form is semver's.
"""

from __future__ import annotations

from typing import Final


class Version:
    """A semantic version: three numbers and perhaps a pre-release name. Build metadata is dropped when parsing."""

    def __init__(self, major: int, minor: int, patch: int = 0, pre: str = "") -> None:
        self.major = major
        self.minor = minor
        self.patch = patch
        self.pre = pre

    def __str__(self) -> str:
        text = f"{self.major}.{self.minor}.{self.patch}"
        return f"{text}-{self.pre}" if self.pre else text

    def __repr__(self) -> str:
        return f"Version({self})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._order() == other._order()

    def __hash__(self) -> int:
        return hash(self._order())

    def __lt__(self, other: Version) -> bool:
        return self._order() < other._order()

    def __le__(self, other: Version) -> bool:
        return self._order() <= other._order()

    def _order(self) -> tuple[int, int, int, bool, str]:
        # A release comes after its pre-releases.
        return (self.major, self.minor, self.patch, not self.pre, self.pre)

    def minor_version(self) -> Version:
        """Return the version with patch and pre-release dropped, as the cluster version has it."""
        return Version(self.major, self.minor)

    def cluster(self) -> str:
        """Return "3.6", the form in which etcd logs and reports a cluster version."""
        return f"{self.major}.{self.minor}"


def _number(text: str) -> int:
    # int() alone would take signs, underscores, spaces and other scripts' digits.
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


def parse_version(text: str) -> Version:
    """Return the version that a text such as "3.6.0" or "3.7.0-rc.1" names; ValueError when it is malformed."""
    core, _, _ = text.partition("+")
    core, _, pre = core.partition("-")
    parts = core.split(".")
    if len(parts) != 3:
        raise ValueError(f"{text} is not in dotted-tri format")
    return Version(_number(parts[0]), _number(parts[1]), _number(parts[2]), pre)


def parse_downgrade_target(text: str) -> Version:
    """Return the version a Downgrade request asks for: "3.5" and "3.5.2" both mean 3.5.0. ValueError when malformed."""
    try:
        return parse_version(text).minor_version()
    except ValueError:
        return parse_version(text + ".0").minor_version()


SERVER_VERSION_TEXT: Final = "3.6.14"
"""The etcd release that we are compatible with, and report to clients and peers."""

SERVER_VERSION: Final = Version(3, 6, 14)
MIN_CLUSTER_VERSION: Final = Version(3, 0)
"""The lowest cluster version that we can be part of; sent to peers."""

V3_5: Final = Version(3, 5)
V3_6: Final = Version(3, 6)

HIGHEST_OWN_CLUSTER_VERSION: Final = V3_5
"""The highest cluster version that a leader of ours sets by itself. From 3.6 on etcd 3.5 refuses the data directory,
until a downgrade; nothing that we serve needs 3.6, so a directory stays free to go back. A version that is higher
already, set by a leader of etcd's own 3.6, stays as it is."""

NOT_DECIDED: Final = "not_decided"
"""What stands in the place of the cluster version before there is one."""


class Downgrade:
    """The cluster's downgrade job: the version it goes to, while one is in progress."""

    def __init__(self, enabled: bool = False, target_version: str = "") -> None:
        self.enabled = enabled
        self.target_version = target_version


def allowed_downgrade(version: Version) -> Version:
    """Return the only version that a cluster at `version` can be downgraded to."""
    return Version(version.major, version.minor - 1)


def is_valid_cluster_change(old: Version, new: Version) -> bool:
    """Tell whether the cluster version may go from `old` to `new`: any minor up, or exactly one minor down."""
    old, new = old.minor_version(), new.minor_version()
    return new == allowed_downgrade(old) or (old.major == new.major and old < new)


def check_not_downgraded(cluster_version: Version | None) -> None:
    """Raise ValueError when this server is too old for the cluster; the member must not run."""
    if cluster_version is not None and SERVER_VERSION.minor_version() < cluster_version:
        raise ValueError("invalid downgrade; server version is lower than determined cluster version")


def decide_cluster_version(
    current: Version | None, servers: list[Version | None], downgrade: Downgrade
) -> Version | None:
    """Return the version that the leader should set for the cluster now, or None to leave it.

    `servers` holds every member's server version, None for one that did not answer. ValueError says that a downgrade
    job names a target that cannot be reached.
    """
    known = [version for version in servers if version is not None]
    lowest = min(known, key=Version._order) if servers and len(known) == len(servers) else None
    if current is None:
        return MIN_CLUSTER_VERSION if lowest is None else _own_choice(lowest)
    if lowest is None:
        return None
    if downgrade.enabled:
        target = parse_version(downgrade.target_version)
        if target == current:
            return None
        if target != allowed_downgrade(current) or target != allowed_downgrade(lowest.minor_version()):
            raise ValueError("invalid downgrade target")
        return target.minor_version()
    choice = _own_choice(lowest)
    if current < choice and is_valid_cluster_change(current, choice):
        return choice
    return None


def _own_choice(lowest: Version) -> Version:
    return min(lowest.minor_version(), HIGHEST_OWN_CLUSTER_VERSION, key=Version._order)
