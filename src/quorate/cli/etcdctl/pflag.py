"""Flags as Go's pflag reads them: `--name value`, `--name=value`, `-n value`, `-nvalue`, `--bool`, until `--`.

Values are kept as str, bool, int, list[str] and, for durations, nanoseconds. Error texts are pflag's.
"""

from __future__ import annotations

from collections.abc import Sequence

STRING, BOOL, INT, UINT, DURATION, LIST = "string", "bool", "int", "uint", "duration", "list"
TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))
Value = str | bool | int | list[str]


class FlagError(Exception):
    """Words that do not fit; the text is pflag's."""


class Flag:
    """A defined flag. `shown` is its default as help prints it."""

    def __init__(self, name: str, kind: str, default: Value, usage: str, short: str = "", shown: str = "") -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.usage = usage
        self.short = short
        self.shown = shown or (f'"{default}"' if kind == STRING else str(default))


def parse_int(text: str, base: int, low: int, high: int, function: str) -> int:
    """Return what Go's strconv.ParseInt or ParseUint makes of a text. Raises ValueError with Go's text."""
    from quorate.cli.etcdctl.gotext import quote

    digits = text[1:] if function == "ParseInt" and text[:1] in ("+", "-") else text
    if "_" in digits and base != 0:
        digits = "_"
    try:
        if not digits or digits[0] in "+-" or not digits.isascii() or digits != digits.strip():
            raise ValueError
        if base == 0 and len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
            digits = "0o" + digits[1:]
        if base == 16 and digits[:2] in ("0x", "0X"):
            raise ValueError
        value = int(digits, base)
    except ValueError:
        raise ValueError(f"strconv.{function}: parsing {quote(text)}: invalid syntax") from None
    value = -value if text[0] == "-" else value
    if not low <= value <= high:
        raise ValueError(f"strconv.{function}: parsing {quote(text)}: value out of range")
    return value


def _convert(flag: Flag, text: str, before: Value | None) -> Value:
    kind = flag.kind
    if kind == STRING:
        return text
    if kind == BOOL:
        if text in TRUE or text in FALSE:
            return text in TRUE
        from quorate.cli.etcdctl.gotext import quote

        raise ValueError(f"strconv.ParseBool: parsing {quote(text)}: invalid syntax")
    if kind == INT:
        return parse_int(text, 0, -(2**63), 2**63 - 1, "ParseInt")
    if kind == UINT:
        return parse_int(text, 0, 0, 2**64 - 1, "ParseUint")
    if kind == DURATION:
        from quorate.runtime.duration import FlagValueError, parse_duration

        try:
            return parse_duration(text)
        except FlagValueError as error:
            raise ValueError(str(error)) from None
    words = text.split(",") if text else []
    return [*before, *words] if isinstance(before, list) else words


class FlagSet:
    """The flags of one command and what was given."""

    def __init__(self, flags: Sequence[Flag]) -> None:
        self.flags = {flag.name: flag for flag in flags}
        self.shorts = {flag.short: flag for flag in flags if flag.short}
        self.given: dict[str, Value] = {}
        self.changed: set[str] = set()
        self.args: list[str] = []

    def set(self, flag: Flag, text: str, changed: bool = True) -> None:
        """Set a flag from text. Raises ValueError."""
        self.given[flag.name] = _convert(flag, text, self.given.get(flag.name) if changed else None)
        if changed:
            self.changed.add(flag.name)

    def value(self, name: str) -> Value:
        """Return a flag's value or default."""
        return self.given.get(name, self.flags[name].default)

    def parse(self, words: Sequence[str]) -> None:
        """Take the words of a command line. Raises FlagError."""
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if len(word) < 2 or word[0] != "-":
                self.args.append(word)
            elif word == "--":
                self.args += rest
                return
            elif word[1] == "-":
                self._long(word, rest)
            else:
                self._shorts(word, rest)

    def _long(self, word: str, rest: list[str]) -> None:
        name, equals, text = word[2:].partition("=")
        if not name or name[0] in "-=":
            raise FlagError(f"bad flag syntax: {word}")
        flag = self.flags.get(name)
        if flag is None:
            raise FlagError(f"unknown flag: --{name}")
        if not equals:
            if flag.kind == BOOL:
                text = "true"
            elif rest:
                text = rest.pop(0)
            else:
                raise FlagError(f"flag needs an argument: {word}")
        self._give(flag, text)

    def _shorts(self, word: str, rest: list[str]) -> None:
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            flag = self.shorts.get(letter)
            if flag is None:
                raise FlagError(f"unknown shorthand flag: '{letter}' in {word}")
            if letters[:1] == "=" and len(letters) > 1:
                text, letters = letters[1:], ""
            elif flag.kind == BOOL:
                text = "true"
            elif letters:
                text, letters = letters, ""
            elif rest:
                text = rest.pop(0)
            else:
                raise FlagError(f"flag needs an argument: '{letter}' in {word}")
            self._give(flag, text)

    def _give(self, flag: Flag, text: str) -> None:
        from quorate.cli.etcdctl.gotext import quote

        try:
            self.set(flag, text)
        except ValueError as error:
            name = f"-{flag.short}, --{flag.name}" if flag.short else f"--{flag.name}"
            raise FlagError(f"invalid argument {quote(text)} for {quote(name)} flag: {error}") from None


class FlagReader:
    """What a command was told, by the types of its flags."""

    def __init__(self, flags: FlagSet) -> None:
        self.flags = flags

    def text(self, name: str) -> str:
        """Return a string flag."""
        value = self.flags.value(name)
        assert isinstance(value, str), name
        return value

    def on(self, name: str) -> bool:
        """Return a boolean flag."""
        return self.flags.value(name) is True

    def number(self, name: str) -> int:
        """Return an integer flag, or a duration's nanoseconds."""
        value = self.flags.value(name)
        assert isinstance(value, int), name
        return value
