"""Whether two lists of peer URLs mean the same places: equal texts, or equal once their hosts are addresses.

Hosts named "localhost" and unix sockets stay as they are written. Source: etcd's pkg/netutil/netutil.go
(URLStringsEqual), whose texts the reasons are.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

Resolve = Callable[[str], str]
"""Gives "address:port" for "host:port", and raises ResolveError."""


class ResolveError(Exception):
    """A host has no address."""


def no_address(host_port: str) -> str:
    """Return addresses as they are, and know no names."""
    host = host_port.rpartition(":")[0].strip("[]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ResolveError(f"lookup {host}: no such host") from None
    return host_port


def difference(first: Sequence[str], second: Sequence[str], resolve: Resolve) -> str:
    """Return why two lists of URLs are not the same, in etcd's words; empty when they are."""
    a, b = sorted(first), sorted(second)
    if len(a) != len(b):
        return f"len({quoted(first)}) != len({quoted(second)})"
    if a == b:
        return ""
    try:
        a, b = (sorted(_resolved(url, resolve) for url in urls) for urls in (a, b))
    except ResolveError as error:
        return str(error)
    for one, other in zip(a, b, strict=True):
        if one != other:
            return f'resolved urls: "{one}" != "{other}"'
    return ""


def _resolved(url: str, resolve: Resolve) -> str:
    scheme, _, place = url.partition("://")
    if scheme in ("unix", "unixs") or place.rpartition(":")[0] == "localhost":
        return url
    try:
        return f"{scheme}://{resolve(place)}"
    except ResolveError as error:
        raise ResolveError(f'failed to resolve "{url}" ({error})') from None


def quoted(texts: Sequence[str]) -> str:
    """Return a list as Go's %q has it."""
    return "[" + " ".join(f'"{text}"' for text in texts) + "]"
