"""Which series an expression of PromQL asks for: as much of its grammar as finds metric names and their matchers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.http.scrape import Family

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<range>\[[^\]]*\])
    |(?P<number>\d+(?:\.\d+)?(?:e[+-]?\d+)?[smhdw]?)
    |(?P<name>[a-zA-Z_:$][\w:]*)
    |(?P<operator>=~|!~|!=|==|<=|>=|[-+*/%^(){},=<>@])
    )""",
    re.X,
)
_WORDS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_OPERATORS = {"and", "or", "unless", "bool", "offset"}

# What Prometheus adds to every series, or makes itself.
_ADDED = {"job", "instance"}
_SYNTHETIC = {"up"}


@dataclass
class Selector:
    """A metric with its matchers (label, operator, text), and the labels by which the expression groups."""

    name: str
    matchers: list[tuple[str, str, str]]


def tokens(expression: str) -> list[str]:
    """Return the words of an expression; ValueError for what is none."""
    found = []
    at = 0
    expression = expression.rstrip()
    while at < len(expression):
        match = _TOKEN.match(expression, at)
        if match is None:
            raise ValueError(f"not PromQL at {expression[at:]!r}")
        if match.lastgroup != "range":
            found.append(match[match.lastgroup or 0])
        at = match.end()
    return found


def selectors(expression: str) -> tuple[list[Selector], set[str]]:
    """Return the selectors of an expression, and all labels that it groups by. ValueError: it does not parse."""
    words = tokens(expression)
    found: list[Selector] = []
    grouped: set[str] = set()
    depth = at = 0
    while at < len(words):
        word = words[at]
        following = words[at + 1] if at + 1 < len(words) else ""
        if word in _WORDS:
            if following != "(":
                raise ValueError(f"{word} without labels")
            end = words.index(")", at)
            grouped |= {label for label in words[at + 2 : end] if label != ","}
            at = end + 1
            continue
        depth += (word == "(") - (word == ")")
        if depth < 0:
            raise ValueError("a ) too many")
        if re.fullmatch(r"[a-zA-Z_:][\w:]*", word) and word not in _OPERATORS and following not in ("(", *_WORDS):
            matchers = []
            if following == "{":
                end = words.index("}", at)
                inside = words[at + 2 : end]
                for start in range(0, len(inside), 4):
                    label, operator, text = inside[start : start + 3]
                    if operator not in ("=", "!=", "=~", "!~") or inside[start + 3 : start + 4] not in ([], [","]):
                        raise ValueError(f"matchers of {word}")
                    matchers.append((label, operator, text[1:-1]))
                at = end
            found.append(Selector(word, matchers))
        elif word in "{}=":
            raise ValueError(f"{word!r} without a metric")
        at += 1
    if depth:
        raise ValueError("a ( too many")
    if not found:
        raise ValueError("no metric")
    return found, grouped


def missing(expression: str, scraped: dict[str, Family]) -> list[str]:
    """Return what an expression asks for that a scrape does not hold: metrics, labels, values to be equal to."""
    wanted, grouped = selectors(expression)
    lacks = []
    labels_found = set(_ADDED)
    for selector in wanted:
        if selector.name in _SYNTHETIC:
            continue
        base = re.sub(r"_(bucket|sum|count)$", "", selector.name)
        family = scraped.get(selector.name) or scraped.get(base)
        series = [dict(labels) for name, labels in family.samples if name == selector.name] if family else []
        matching = [labels for labels in series if all(_fits(labels, matcher) for matcher in selector.matchers)]
        if not matching:
            lacks.append(f"{selector.name}{selector.matchers}")
        for labels in matching:
            labels_found |= set(labels)
    return lacks + sorted(grouped - labels_found)


def _fits(labels: dict[str, str], matcher: tuple[str, str, str]) -> bool:
    label, operator, text = matcher
    if label in _ADDED:
        return True
    if label not in labels:
        return False
    if operator in ("=", "!="):
        return (labels[label] == text) is (operator == "=")
    return (re.fullmatch(text, labels[label]) is not None) is (operator == "=~")
