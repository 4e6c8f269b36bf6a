"""The address of this machine that others can reach: that of the interface with the default route."""

from __future__ import annotations

import fcntl
import socket
import struct
from typing import Final

_SIOCGIFADDR: Final = 0x8915
_ROUTES: Final = "/proc/net/route"


def default_interface(routes: str) -> str:
    """Return the interface of the default route with the lowest metric in a /proc/net/route text; empty if none."""
    found: list[tuple[int, str]] = []
    for line in routes.splitlines()[1:]:
        columns = line.split()
        if len(columns) >= 8 and columns[1] == "00000000" and columns[7] == "00000000":
            found.append((int(columns[6]), columns[0]))
    return min(found)[1] if found else ""


def default_host() -> str:
    """Return the IPv4 address to advertise, empty when there is no default route."""
    try:
        with open(_ROUTES) as file:
            name = default_interface(file.read())
        if not name:
            return ""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            request = struct.pack("256s", name.encode()[:15])
            return socket.inet_ntoa(fcntl.ioctl(probe, _SIOCGIFADDR, request)[20:24])
    except (OSError, ValueError):
        return ""
