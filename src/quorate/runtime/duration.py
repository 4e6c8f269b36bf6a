"""Durations and quoted texts as Go's standard library reads and prints them (packages time and strconv)."""

from __future__ import annotations

import re
from typing import Final

from quorate.measure import format_duration

__all__ = ["FlagValueError", "format_duration", "parse_duration", "quote"]

NS_UNITS: Final = {
    "ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip

_DURATION_PART = re.compile(r"(\d*)(?:\.(\d*))?([^\d.]+)")


class FlagValueError(Exception):
    """A value that does not parse; the text is Go's."""


def quote(text: str) -> str:
    """Return the text as Go's %q prints it."""
    out = ['"']
    for char in text:
        code = ord(char)
        if char in '"\\':
            out.append("\\" + char)
        elif char in "\a\b\f\n\r\t\v":
            out.append({7: "\\a", 8: "\\b", 12: "\\f", 10: "\\n", 13: "\\r", 9: "\\t", 11: "\\v"}[code])
        elif code < 32 or code == 127:
            out.append(f"\\x{code:02x}")
        elif char.isprintable():
            out.append(char)
        else:
            out.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    out.append('"')
    return "".join(out)


def parse_duration(text: str) -> int:
    """Return the nanoseconds of a duration such as "1h30m" or "1.5s"; the error text is that of Go's time package."""
    problem = FlagValueError(f"time: invalid duration {quote(text)}")
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    if not rest:
        raise problem
    total, position = 0, 0
    while position < len(rest):
        part = _DURATION_PART.match(rest, position)
        if part is None:
            if re.match(r"\d+(\.\d*)?\Z|\.\d+\Z", rest[position:]):
                raise FlagValueError(f"time: missing unit in duration {quote(text)}")
            raise problem
        whole, fraction, unit = part.groups()
        if not whole and not fraction:
            raise problem
        if unit not in NS_UNITS:
            raise FlagValueError(f"time: unknown unit {quote(unit)} in duration {quote(text)}")
        scale = NS_UNITS[unit]
        total += int(whole or "0") * scale
        if fraction:
            total += int(fraction) * scale // 10 ** len(fraction)
        position = part.end()
    if total >= 1 << 63:
        raise problem
    return -total if text[0] == "-" else total
