"""Base64 as the gateway takes it: etcd 3.5's rule with its errors, and beyond it what 3.6 takes too.

3.6 (protojson) also takes the URL alphabet and lets the padding be left out.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

_CLEAN: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_ALPHABET: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_URL_SAFE: Final = str.maketrans("-_", "+/")


def decode(text: str) -> bytes:
    """Return the bytes. Raises ValueError with Go's text, which names the place of the first error."""
    if _CLEAN.fullmatch(text):
        return binascii.a2b_base64(text)
    other = text
    if "-" in text or "_" in text:
        other = text.translate(_URL_SAFE) if "+" not in text and "/" not in text else text
    if len(other) % 4 and "=" not in other:
        other += "=" * (-len(other) % 4)
    if _CLEAN.fullmatch(other):
        return binascii.a2b_base64(other)
    at = _first_error(text.encode().decode("latin-1"))
    if at >= 0:
        raise ValueError(f"illegal base64 data at input byte {at}")
    return binascii.a2b_base64(text.replace("\r", "").replace("\n", ""))


def _first_error(text: str) -> int:
    """Return the offset of what Go's decoder stops at, -1 when only line ends are in the way."""
    at, end = 0, len(text)
    while True:
        taken = 0
        while taken < 4:
            if at == end:
                return -1 if taken == 0 else at - taken
            char = text[at]
            at += 1
            if char in _ALPHABET:
                taken += 1
            elif char not in "\r\n":
                return _padding_error(text, at, taken) if char == "=" else at - 1


def _padding_error(text: str, at: int, taken: int) -> int:
    """Judge what follows the first padding character, which ended before `at`."""
    if taken < 2:
        return at - 1
    if taken == 2:
        at = _skip_lines(text, at)
        if at == len(text):
            return at
        if text[at] != "=":
            return at - 1
        at += 1
    at = _skip_lines(text, at)
    return at if at < len(text) else -1


def _skip_lines(text: str, at: int) -> int:
    while at < len(text) and text[at] in "\r\n":
        at += 1
    return at
