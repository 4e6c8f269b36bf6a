"""A JSON reader that takes and refuses what Go's encoding/json does, in its words, one value of a stream at a time.

A value becomes a dict (the last of equal keys counts), a list, or a `Leaf` that keeps the text as it was sent, since
what a string or a number means depends on the field that it is for. Source: Go 1.16, encoding/json/{scanner,decode}.go.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

STRING: Final = "string"
NUMBER: Final = "number"
BOOL: Final = "bool"
NULL: Final = "null"

MAX_DEPTH: Final = 10_000
END_OF_INPUT: Final = "unexpected end of JSON input"

_SPACE: Final = re.compile(rb"[ \t\r\n]*")
_STRING: Final = re.compile(rb'"(?:[^"\\\x00-\x1f]+|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*"')
_PLAIN: Final = re.compile(rb'[^"\\\x00-\x1f]*')
_NUMBER: Final = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_LITERALS: Final = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}
_SHORT: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_QUOTED_CONTROLS: Final = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
}  # fmt: skip
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")


class JsonError(Exception):
    """What is not JSON; the text is Go's."""


class Leaf:
    """A string (with its quotes), a number, a bool or a null, as it was sent."""

    __slots__ = ("kind", "raw")

    def __init__(self, kind: str, raw: bytes) -> None:
        self.kind = kind
        self.raw = raw


Value: TypeAlias = "dict[str, Value] | list[Value] | Leaf"


class NeedMoreError(Exception):
    """The value is not complete yet."""


def kind_of(value: Value) -> str:
    """Return what Go calls the kind of a value in its errors."""
    if isinstance(value, Leaf):
        return value.kind
    return "object" if isinstance(value, dict) else "array"


def read_value(data: bytes, at: int, ended: bool) -> tuple[Value, int]:
    """Return the value that begins at or behind `at`, and where it ends.

    Raises NeedMoreError when the data stop within it (or before it) and more may come (`ended` is False), and JsonError
    with an empty text when there is no value any more. What follows the value is not looked at.
    """
    reader = _Reader(data, at, ended)
    if reader.at == len(data) and ended:
        raise JsonError("")
    try:
        return reader.read(), reader.at
    except NeedMoreError:
        if ended:
            raise JsonError("unexpected EOF") from None
        raise


def read_all(data: bytes) -> Value:
    """Return the one value that the data are. Raises JsonError."""
    reader = _Reader(data, 0, True)
    try:
        value = reader.read()
    except NeedMoreError:
        raise JsonError(END_OF_INPUT) from None
    reader.skip_space()
    if reader.at < len(data):
        raise reader.unexpected("after top-level value")
    return value


class _Reader:
    def __init__(self, data: bytes, at: int, ended: bool) -> None:
        self.data = data
        self.at = at
        self.ended = ended
        self.skip_space()

    def skip_space(self) -> None:
        match = _SPACE.match(self.data, self.at)
        assert match is not None
        self.at = match.end()

    def peek(self) -> int:
        self.skip_space()
        if self.at >= len(self.data):
            raise NeedMoreError
        return self.data[self.at]

    def unexpected(self, context: str) -> JsonError:
        return JsonError(f"invalid character {_quote_char(self.data[self.at])} {context}")

    def read(self) -> Value:
        """Read a value without recursion: `open_values` are those that we are in, `keys` the keys of their members."""
        open_values: list[dict[str, Value] | list[Value]] = []
        keys: list[str] = []
        while True:
            value = self._begin(open_values, keys)
            while value is not None:  # a complete one: put it where it belongs, and see what follows
                if not open_values:
                    return value
                value = self._put(value, open_values, keys)

    def _begin(self, open_values: list[dict[str, Value] | list[Value]], keys: list[str]) -> Value | None:
        first = self.peek()
        if first not in b"{[":
            return self._leaf(first)
        if len(open_values) >= MAX_DEPTH:
            raise self.unexpected("exceeded max depth")
        self.at += 1
        if first == ord("{"):
            if self.peek() == ord("}"):
                self.at += 1
                return {}
            open_values.append({})
            keys.append(self._key())
        else:
            if self.peek() == ord("]"):
                self.at += 1
                return []
            open_values.append([])
            keys.append("")
        return None

    def _put(self, value: Value, open_values: list[dict[str, Value] | list[Value]], keys: list[str]) -> Value | None:
        inside = open_values[-1]
        following = self.peek()
        if isinstance(inside, dict):
            inside[keys[-1]] = value
            if following == ord(","):
                self.at += 1
                keys[-1] = self._key()
                return None
            if following != ord("}"):
                raise self.unexpected("after object key:value pair")
        else:
            inside.append(value)
            if following == ord(","):
                self.at += 1
                return None
            if following != ord("]"):
                raise self.unexpected("after array element")
        self.at += 1
        keys.pop()
        return open_values.pop()

    def _key(self) -> str:
        if self.peek() != ord('"'):
            raise self.unexpected("looking for beginning of object key string")
        key = unquote(self._string())
        if self.peek() != ord(":"):
            raise self.unexpected("after object key")
        self.at += 1
        return key

    def _leaf(self, first: int) -> Leaf:
        if first == ord('"'):
            return Leaf(STRING, self._string())
        if first == ord("-") or ord("0") <= first <= ord("9"):
            return Leaf(NUMBER, self._number())
        word = _LITERALS.get(first)
        if word is None:
            raise self.unexpected("looking for beginning of value")
        for offset, char in enumerate(word):
            if self.at == len(self.data):
                raise NeedMoreError
            if self.data[self.at] != char:
                raise self.unexpected(f"in literal {word.decode()} (expecting {_quote_char(word[offset])})")
            self.at += 1
        return Leaf(NULL if word == b"null" else BOOL, word)

    def _string(self) -> bytes:
        match = _STRING.match(self.data, self.at)
        if match is None:
            raise self._string_error()
        self.at = match.end()
        return match.group()

    def _string_error(self) -> Exception:
        """Find what is wrong with the string that begins here."""
        data, end = self.data, len(self.data)
        self.at += 1
        while True:
            match = _PLAIN.match(data, self.at)
            assert match is not None
            self.at = match.end()
            if self.at >= end:
                return NeedMoreError()
            if data[self.at] != ord("\\"):
                return self.unexpected("in string literal")
            self.at += 1
            if self.at >= end:
                return NeedMoreError()
            escape = data[self.at]
            if escape not in b'"\\/bfnrtu':
                return self.unexpected("in string escape code")
            self.at += 1
            if escape == ord("u"):
                for _ in range(4):
                    if self.at >= end:
                        return NeedMoreError()
                    if data[self.at] not in _HEX:
                        return self.unexpected("in \\u hexadecimal character escape")
                    self.at += 1

    def _number(self) -> bytes:
        data, end = self.data, len(self.data)
        match = _NUMBER.match(data, self.at)
        if match is None:  # a minus alone
            self.at += 1
            if self.at >= end:
                raise NeedMoreError
            raise self.unexpected("in numeric literal")
        start, self.at = self.at, match.end()
        if self.at == end:
            if not self.ended:
                raise NeedMoreError
            return data[start:]
        text = match.group()
        whole = b"." not in text and b"e" not in text.lower()
        if (data[self.at] == ord(".") and whole) or (data[self.at] in b"eE" and b"e" not in text.lower()):
            fraction = data[self.at] == ord(".")
            self.at += 1
            if not fraction and self.at < end and data[self.at] in b"+-":
                self.at += 1
            if self.at >= end:
                raise NeedMoreError
            raise self.unexpected(
                "after decimal point in numeric literal" if fraction else "in exponent of numeric literal"
            )
        return text


def unquote(raw: bytes) -> str:
    """Return the text of a string that came with its quotes; what is no Unicode becomes U+FFFD."""
    try:
        text = raw[1:-1].decode()
    except UnicodeDecodeError:
        text = _decode_lossy(raw[1:-1])
    if "\\" not in text:
        return text
    out: list[str] = []
    at = 0
    high = 0  # a surrogate that waits for its second half, which must follow at once
    for match in _ESCAPE.finditer(text):
        if high and match.start() != at:
            out.append("\ufffd")
            high = 0
        out.append(text[at : match.start()])
        at = match.end()
        code = int(match[1], 16) if match[1] is not None else -1
        if high:
            if 0xDC00 <= code < 0xE000:
                out.append(chr(0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00)))
                high = 0
                continue
            out.append("\ufffd")
            high = 0
        if 0xD800 <= code < 0xDC00:
            high = code
        elif 0xDC00 <= code < 0xE000:
            out.append("\ufffd")
        else:
            out.append(chr(code) if code >= 0 else _SHORT.get(match[2], match[2]))
    if high:
        out.append("\ufffd")
    out.append(text[at:])
    return "".join(out)


def _decode_lossy(raw: bytes) -> str:
    """Decode as Go does: every byte that does not belong to a character is one U+FFFD."""
    out: list[str] = []
    while raw:
        try:
            out.append(raw.decode())
            break
        except UnicodeDecodeError as error:
            out.append(raw[: error.start].decode())
            out.append("\ufffd")
            raw = raw[error.start + 1 :]
    return "".join(out)


def _quote_char(char: int) -> str:
    if char == ord("'"):
        return "'\\''"
    if char == ord('"'):
        return "'\"'"
    text = chr(char)
    if text == "\\":
        return "'\\\\'"
    if " " <= text <= "~" or (char > 0xA0 and char != 0xAD):
        return f"'{text}'"
    return f"'{_QUOTED_CONTROLS.get(text) or _hex_escape(char)}'"


def _hex_escape(char: int) -> str:
    return f"\\x{char:02x}" if char < 0x20 else f"\\u{char:04x}"
