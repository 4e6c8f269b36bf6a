"""Go's flag package as etcd's users meet it: the syntax, the value formats and the error texts.

    -name value     --name value     -name=value     --name=value     -bool     -bool=false

Parsing ends at the first word that is no flag, or after "--". A boolean never takes the next word. Sources of the
formats: Go's flag, strconv (base-0 integers, booleans) and time (durations) packages. Values are held as text in the
table's canonical form and as Python values here: str, bool, int (durations: nanoseconds), list[str].
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from quorate.runtime.duration import FlagValueError, quote

TRUE: Final = frozenset(("1", "t", "T", "true", "TRUE", "True"))
FALSE: Final = frozenset(("0", "f", "F", "false", "FALSE", "False"))

_INTEGER = re.compile(r"[+-]?(0[xX](_?[0-9a-fA-F])+|0[bB](_?[01])+|0[oO](_?[0-7])+|0(_?[0-7])*|[1-9](_?[0-9])*)\Z")


class UsageError(Exception):
    """Words that do not parse as flags: the text goes to stderr, the usage after it, and the exit status is 2."""


class HelpRequestedError(Exception):
    """-h or -help was given and is not defined as a flag."""


def parse_bool(text: str) -> bool:
    """Return a boolean in one of Go's twelve spellings."""
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise FlagValueError("parse error")


def parse_integer(text: str, low: int, high: int) -> int:
    """Return an integer in Go's base-0 syntax (0x, 0b, 0o, leading 0, underscores) within [low, high]."""
    if not _INTEGER.match(text) or (low == 0 and text[0] in "+-"):
        raise FlagValueError("parse error")
    digits = text.lstrip("+-").replace("_", "").lower()
    if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
        digits = "0o" + digits[1:]
    value = int(digits, 0)
    if text[0] == "-":
        value = -value
    if not low <= value <= high:
        raise FlagValueError("value out of range")
    return value


class Definition:
    """A flag as the parser sees it: its name, whether it is boolean, and what turns a word into a value."""

    def __init__(self, name: str, boolean: bool, parse: Callable[[str], object]) -> None:
        self.name = name
        self.boolean = boolean
        self.parse = parse


class FlagSet:
    """The defined flags and what has been set so far. `values` holds only what was set, in the order it was set."""

    def __init__(self, definitions: Sequence[Definition]) -> None:
        self.definitions = {each.name: each for each in definitions}
        self.values: dict[str, object] = {}
        self.rest: list[str] = []

    def set(self, name: str, text: str) -> None:
        """Set one flag from text; raises FlagValueError."""
        self.values[name] = self.definitions[name].parse(text)

    def parse(self, words: Sequence[str]) -> None:
        """Take the words of a command line. Raises UsageError or HelpRequestedError at the first that does not fit."""
        position = 0
        while position < len(words):
            word = words[position]
            if len(word) < 2 or word[0] != "-":
                break
            dashes = 2 if word[1] == "-" else 1
            position += 1
            if word == "--":
                break
            name, equals, value = word[dashes:].partition("=")
            if not name or name[0] in "-=":
                raise UsageError(f"bad flag syntax: {word}")
            definition = self.definitions.get(name)
            if definition is None:
                if name in ("h", "help"):
                    raise HelpRequestedError
                raise UsageError(f"flag provided but not defined: -{name}")
            if not definition.boolean and not equals:
                if position >= len(words):
                    raise UsageError(f"flag needs an argument: -{name}")
                value = words[position]
                position += 1
            elif definition.boolean and not equals:
                value = "true"
            try:
                self.set(name, value)
            except FlagValueError as problem:
                what = f"boolean value {quote(value)} for" if definition.boolean else f"value {quote(value)} for flag"
                raise UsageError(f"invalid {what} -{name}: {problem}") from None
        self.rest = list(words[position:])
