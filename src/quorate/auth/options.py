"""`--auth-token`: which tokens a member makes and believes.

    simple
    jwt,sign-method=RS256,pub-key=app.rsa.pub,priv-key=app.rsa,ttl=10m

Contract: what etcd refuses is refused with its words, as a TokenOptionError. Key files are read through the Disk port.
Source: etcd's server/auth/store.go (NewTokenProvider, decomposeOpts), options.go.
"""

from __future__ import annotations

import re
from typing import Final

from quorate.auth.tokens import SimpleTokens, Tokens
from quorate.ports import Disk, Log, Loop

_CALLER: Final = "auth/store.go"
_SECOND_NS: Final = 1_000_000_000
_DEFAULT_SIMPLE_TTL_S: Final = 300
_DEFAULT_JWT_TTL_NS: Final = 300 * _SECOND_NS
_KNOWN: Final = ("sign-method", "pub-key", "priv-key", "ttl")

_DURATION: Final = re.compile(r"[+-]?((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+")
_DURATION_PART: Final = re.compile(r"(\d*)(?:\.(\d*))?(ns|us|µs|μs|ms|s|m|h)")
_UNITS_NS: Final = {
    "ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip


class TokenOptionError(ValueError):
    """The option is not acceptable; the text is what etcd says."""


_INVALID: Final = "auth: invalid auth options"


def make_tokens(option: str, simple_ttl_s: int, loop: Loop, disk: Disk, log: Log) -> Tokens:
    """Return the tokens that an option describes. `simple_ttl_s` is `--auth-token-ttl`. Raises TokenOptionError."""
    kind, *rest = option.split(",")
    given: dict[str, str] = {}
    for text in rest:
        pair = text.split("=")
        if len(pair) != 2 or pair[0] in given:
            log.error(_CALLER, "invalid token option", option=option)
            raise TokenOptionError(_INVALID)
        given[pair[0]] = pair[1]
    if kind == "simple":
        log.warn(_CALLER, "simple token is not cryptographically signed")
        return SimpleTokens(loop, (simple_ttl_s if simple_ttl_s > 0 else _DEFAULT_SIMPLE_TTL_S) * _SECOND_NS)
    if kind == "jwt":
        return _make_jwt(given, loop, disk, log)
    if kind == "":
        return Tokens()
    log.warn(_CALLER, "unknown token type", type=kind, error=_INVALID)
    raise TokenOptionError(_INVALID)


def _make_jwt(given: dict[str, str], loop: Loop, disk: Disk, log: Log) -> Tokens:
    from quorate.auth.jwt import METHODS, JwtTokens, KeyProblem

    caller = "auth/jwt.go"
    try:
        ttl_ns = parse_go_duration(given["ttl"]) if given.get("ttl") else _DEFAULT_JWT_TTL_NS
        public = _read_file(disk, given.get("pub-key", ""))
        private = _read_file(disk, given.get("priv-key", ""))
    except (ValueError, OSError) as error:
        log.error(caller, "problem loading JWT options", error=str(error))  # noqa: TRY400
        raise TokenOptionError(_INVALID) from None
    method = given.get("sign-method", "")
    if method == "none":
        raise TokenOptionError("unsupported signing method: *jwt.signingMethodNone")
    if method not in METHODS:
        log.error(caller, "problem loading JWT options", error="auth: invalid auth signature method")
        raise TokenOptionError(_INVALID)
    unknown = [name for name in given if name not in _KNOWN]
    if unknown:
        log.warn(caller, "unknown JWT options", keys=unknown)
    try:
        return JwtTokens(loop, method, private, public, ttl_ns)
    except KeyProblem as problem:
        raise TokenOptionError(str(problem)) from None


def _read_file(disk: Disk, path: str) -> bytes:
    if not path:
        return b""
    file = disk.open(path, read_only=True)
    try:
        return file.read_at(file.size(), 0)
    finally:
        file.close()


def parse_go_duration(text: str) -> int:
    """Return the nanoseconds of a duration such as "1h30m"; ValueError when it is none."""
    if text in ("0", "+0", "-0"):
        return 0
    if _DURATION.fullmatch(text) is None:
        raise ValueError(f"time: invalid duration {text}")
    total = 0
    for whole, fraction, unit in _DURATION_PART.findall(text):
        scale = _UNITS_NS[unit]
        total += int(whole or "0") * scale
        if fraction:
            total += int(fraction) * scale // 10 ** len(fraction)
    return -total if text.startswith("-") else total
