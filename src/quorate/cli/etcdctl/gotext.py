"""Texts as Go's fmt and strconv print and read them, for bytes that need not be UTF-8."""

from __future__ import annotations

_ESCAPES = {7: "\\a", 8: "\\b", 12: "\\f", 10: "\\n", 13: "\\r", 9: "\\t", 11: "\\v"}
_LETTERS = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34}


def quote(data: bytes | str) -> str:
    """Return what %q prints."""
    text = data.decode("utf-8", "surrogateescape") if isinstance(data, bytes) else data
    out = ['"']
    for char in text:
        code = ord(char)
        if char in '"\\':
            out.append("\\" + char)
        elif 32 <= code < 127:
            out.append(char)
        elif code in _ESCAPES:
            out.append(_ESCAPES[code])
        elif 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}")
        elif code < 128:
            out.append(f"\\x{code:02x}")
        elif char.isprintable():
            out.append(char)
        else:
            out.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    out.append('"')
    return "".join(out)


def scan_quoted(text: str) -> tuple[bytes, str] | None:
    """Return the bytes of the double-quoted Go string that begins the text, and what follows it, or None."""
    if text[:1] == "`":
        end = text.find("`", 1)
        return (encode(text[1:end]), text[end + 1 :]) if end > 0 else None
    if text[:1] != '"':
        return None
    out = bytearray()
    at = 1
    while at < len(text):
        char = text[at]
        if char == '"':
            return bytes(out), text[at + 1 :]
        if char == "\n":
            return None
        if char != "\\":
            out += encode(char)
            at += 1
            continue
        at += 1
        kind = text[at : at + 1]
        if kind in _LETTERS and kind:
            out.append(_LETTERS[kind])
            at += 1
            continue
        size, base = {"x": (2, 16), "u": (4, 16), "U": (8, 16)}.get(kind, (3, 8))
        start = at if base == 8 else at + 1
        digits = text[start : start + size]
        try:
            code = int(digits, base)
            if len(digits) != size or "_" in digits:
                return None
            out += bytes([code]) if kind == "x" or base == 8 else chr(code).encode()
        except (ValueError, OverflowError):
            return None
        at = start + size
    return None


def encode(text: str) -> bytes:
    """Return the bytes of a word from the command line or stdin."""
    return text.encode("utf-8", "surrogateescape")
