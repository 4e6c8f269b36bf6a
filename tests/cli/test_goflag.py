"""Go's flag syntax: forms, values, texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.cli.flags import definitions
from quorate.cli.goflag import FlagSet, HelpRequestedError, UsageError, parse_integer
from quorate.runtime.duration import FlagValueError, format_duration, parse_duration, quote


def parse(*words: str) -> FlagSet:
    flags = FlagSet(definitions())
    flags.parse(words)
    return flags


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--name=a"], "name", "a"),
        (["-name=a"], "name", "a"),
        (["--name", "a"], "name", "a"),
        (["-name", "-a"], "name", "-a"),
        (["--name="], "name", ""),
        (["--name=a=b"], "name", "a=b"),
        (["--name=a", "--name=b"], "name", "b"),
        (["--pre-vote"], "pre-vote", True),
        (["--pre-vote=F"], "pre-vote", False),
        (["--pre-vote=TRUE"], "pre-vote", True),
        (["--snapshot-count=0x10"], "snapshot-count", 16),
        (["--snapshot-count=1_000"], "snapshot-count", 1000),
        (["--snapshot-count=010"], "snapshot-count", 8),
        (["--quota-backend-bytes=-1"], "quota-backend-bytes", -1),
        (["--quota-backend-bytes", "-1"], "quota-backend-bytes", -1),
        (["--grpc-keepalive-min-time=1m30s"], "grpc-keepalive-min-time", 90 * 10**9),
        (["--log-outputs=b,a,b"], "log-outputs", ["a", "b"]),
        (["--feature-gates=AllAlpha=true,LeaseCheckpoint=false"], "feature-gates",
         {"AllAlpha": True, "LeaseCheckpoint": False}),
    ],
)  # fmt: skip
def test_forms(words: list[str], name: str, value: object) -> None:
    flags = parse(*words)
    assert flags.values == {name: value}
    assert flags.rest == []


def test_the_first_word_that_is_no_flag_ends_the_parsing() -> None:
    flags = parse("--strict-reconfig-check", "false", "--name=x")
    assert flags.values == {"strict-reconfig-check": True}
    assert flags.rest == ["false", "--name=x"]
    assert parse("--name=x", "--", "--name=y").rest == ["--name=y"]
    assert parse("-").rest == ["-"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--nosuch"], "flag provided but not defined: -nosuch"),
        (["-nosuch=1"], "flag provided but not defined: -nosuch"),
        (["--name"], "flag needs an argument: -name"),
        (["---x"], "bad flag syntax: ---x"),
        (["--=x"], "bad flag syntax: --=x"),
        (["--election-timeout=abc"], 'invalid value "abc" for flag -election-timeout: parse error'),
        (["--pre-vote=maybe"], 'invalid boolean value "maybe" for -pre-vote: parse error'),
        (["--max-wals=-1"], 'invalid value "-1" for flag -max-wals: parse error'),
        (["--max-wals=99999999999999999999"],
         'invalid value "99999999999999999999" for flag -max-wals: value out of range'),
        (["--grpc-keepalive-timeout=5"], 'invalid value "5" for flag -grpc-keepalive-timeout: parse error'),
        (["--initial-cluster-state=foo"], 'invalid value "foo" for flag -initial-cluster-state: invalid value'),
        (["--v2-deprecation=foo"], 'invalid value "foo" for flag -v2-deprecation: invalid value "foo"'),
        (["--max-concurrent-streams=x"],
         'invalid value "x" for flag -max-concurrent-streams: strconv.ParseUint: parsing "x": invalid syntax'),
        (["--cors=http://foo"],
         'invalid value "http://foo" for flag -cors: URL address does not have the form "host:port": http://foo'),
        (["--feature-gates=Foo=true"],
         'invalid value "Foo=true" for flag -feature-gates: unrecognized feature gate: Foo'),
        (["--feature-gates=AllBeta"],
         'invalid value "AllBeta" for flag -feature-gates: missing bool value for AllBeta'),
    ],
)  # fmt: skip
def test_texts(words: list[str], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(*words)
    assert str(caught.value) == text


def test_help_is_no_flag() -> None:
    for word in ("-h", "--help", "-help"):
        with pytest.raises(HelpRequestedError):
            parse(word)


def test_words_of_long_ago_are_ignored() -> None:
    assert parse("--snapshot", "-vv", "--force=nonsense", "--name=x").values["name"] == "x"


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1h", 3600 * 10**9), ("1.5h30m", 7200 * 10**9), ("100ms", 10**8), ("-1s", -(10**9)), (".5s", 5 * 10**8),
     ("1us", 1000), ("1µs", 1000), ("+2ns", 2)],
)  # fmt: skip
def test_durations(text: str, value: int) -> None:
    assert parse_duration(text) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("abc", 'time: invalid duration "abc"'),
        ("", 'time: invalid duration ""'),
        ("5", 'time: missing unit in duration "5"'),
        ("5x", 'time: unknown unit "x" in duration "5x"'),
        (".s", 'time: invalid duration ".s"'),
    ],
)
def test_bad_durations(text: str, why: str) -> None:
    with pytest.raises(FlagValueError) as caught:
        parse_duration(text)
    assert str(caught.value) == why


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0s"), (10**8, "100ms"), (10**9, "1s"), (15 * 10**8, "1.5s"), (7200 * 10**9, "2h0m0s"), (60 * 10**9, "1m0s"),
     (1, "1ns"), (1500, "1.5µs"), (-(10**9), "-1s")],
)  # fmt: skip
def test_durations_are_printed_as_go_prints_them(value: int, text: str) -> None:
    assert format_duration(value) == text


@given(st.integers(-(1 << 62), 1 << 62))
def test_a_printed_duration_reads_back(value: int) -> None:
    assert parse_duration(format_duration(value)) == value


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_integers_read_back(value: int) -> None:
    for text in (str(value), hex(value), oct(value), bin(value)):
        assert parse_integer(text, -(1 << 63), (1 << 63) - 1) == value


@given(st.text(max_size=12))
def test_nothing_but_a_value_or_an_error_comes_of_any_text(text: str) -> None:
    for definition in definitions():
        try:
            definition.parse(text)
        except FlagValueError:
            continue


def test_quoting() -> None:
    assert quote('a"b\\\n\x01é\u2028') == '"a\\"b\\\\\\n\\x01é\\u2028"'
