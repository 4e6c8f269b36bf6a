"""The server's name in a client's first message, for the log. (Python's own callback fails aloud for odd names.)

record: type 22, version 2, length 2 | message: type 1, length 3 | version 2, random 32, session id 1+, suites 2+,
compression 1+, extensions 2+: type 2, length 2; server_name is type 0: list 2, kind 1 (0 = host), name 2+
"""

from __future__ import annotations

from typing import Final

KEPT_BYTES: Final = 2048


def asked_name(data: bytes) -> str:
    """Return the name that a ClientHello asks for; empty when there is none or the message is cut short."""
    try:
        at = 5 + 4 + 2 + 32
        at += 1 + data[at]
        at += 2 + int.from_bytes(data[at : at + 2], "big")
        at += 1 + data[at]
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        at += 2
        while at + 4 <= end:
            kind, size = int.from_bytes(data[at : at + 2], "big"), int.from_bytes(data[at + 2 : at + 4], "big")
            at += 4
            if kind == 0 and data[at + 2] == 0:
                length = int.from_bytes(data[at + 3 : at + 5], "big")
                return data[at + 5 : at + 5 + length].decode("ascii", "replace")
            at += size
    except IndexError:
        pass
    return ""
