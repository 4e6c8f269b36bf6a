"""Passwords: bcrypt, computed where it cannot hold up the loop or the disk.

One check takes as long as a thousand puts (that is its purpose), so the jobs go to `Loop.compute`, a thread of their
own, one at a time; at most `JOBS_MAX` wait, and who comes after that is refused.

Contract: hashes have Go's form, "$2a$<cost>$<22 characters of salt><31 of hash>", so that members of real etcd verify
them. Only the first 72 bytes of a password count; a longer one is refused when it is set, as etcd does since 3.5.8, and
cut when it is checked. Nothing here is logged.
Source: golang.org/x/crypto/bcrypt.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Final

from quorate.errors import TOO_MANY_REQUESTS, UNKNOWN, RpcError
from quorate.ports import Loop

MIN_COST: Final = 4
MAX_COST: Final = 31
DEFAULT_COST: Final = 10
MAX_BYTES: Final = 72
JOBS_MAX: Final = 1024

TOO_LONG: Final = RpcError(UNKNOWN, "bcrypt: password length exceeds 72 bytes")

_STANDARD: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_BCRYPT: Final = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_TO_BCRYPT: Final = bytes.maketrans(_STANDARD, _BCRYPT)


def hash_password(password: bytes, cost: int, salt: bytes) -> bytes:
    """Return the bcrypt hash of a password of at most 72 bytes with 16 bytes of salt. Takes long."""
    import bcrypt

    encoded = base64.b64encode(salt).rstrip(b"=").translate(_TO_BCRYPT)
    return bcrypt.hashpw(password, b"$2a$%02d$%s" % (cost, encoded))


def matches(password: bytes, hashed: bytes) -> bool:
    """Tell whether a hash was made of this password; False for what is no hash. Takes long."""
    import bcrypt

    try:
        return bcrypt.checkpw(password[:MAX_BYTES], hashed)
    except ValueError:
        return False


class Passwords:
    """Hashes and checks passwords for the loop."""

    def __init__(self, loop: Loop, cost: int = DEFAULT_COST) -> None:
        self._loop = loop
        self.cost = cost if MIN_COST <= cost <= MAX_COST else DEFAULT_COST
        self._jobs = 0

    def hash(self, password: str, then: Callable[[bytes, RpcError | None], None]) -> None:
        """Hash; `then(hash, None)`, or an error when the password is too long or too many wait."""
        raw = password.encode()
        if len(raw) > MAX_BYTES:
            then(b"", TOO_LONG)
        elif self._jobs >= JOBS_MAX:
            then(b"", TOO_MANY_REQUESTS)
        else:
            self._jobs += 1
            salt = self._loop.random_bits(128).to_bytes(16, "big")
            self._loop.compute(_Hash(raw, self.cost, salt).run, _Hashed(self, then).take)

    def check(self, password: str, hashed: bytes, then: Callable[[bool, RpcError | None], None]) -> None:
        """Check a password against a hash; `then(whether it matches, None)`, or an error when too many wait."""
        if self._jobs >= JOBS_MAX:
            then(False, TOO_MANY_REQUESTS)
        else:
            self._jobs += 1
            self._loop.compute(_Check(password.encode(), hashed).run, _Checked(self, then).take)

    def finished(self) -> None:
        """One job is done."""
        self._jobs -= 1


class _Hash:
    """A password to hash."""

    def __init__(self, password: bytes, cost: int, salt: bytes) -> None:
        self._password = password
        self._cost = cost
        self._salt = salt

    def run(self) -> object:
        return hash_password(self._password, self._cost, self._salt)


class _Hashed:
    """Who waits for a hash."""

    def __init__(self, owner: Passwords, then: Callable[[bytes, RpcError | None], None]) -> None:
        self._owner = owner
        self._then = then

    def take(self, result: object, error: BaseException | None) -> None:
        self._owner.finished()
        if isinstance(result, bytes):
            self._then(result, None)
        else:
            self._then(b"", RpcError(UNKNOWN, str(error)))


class _Check:
    """A password to check."""

    def __init__(self, password: bytes, hashed: bytes) -> None:
        self._password = password
        self._hashed = hashed

    def run(self) -> object:
        return matches(self._password, self._hashed)


class _Checked:
    """Who waits for a check."""

    def __init__(self, owner: Passwords, then: Callable[[bool, RpcError | None], None]) -> None:
        self._owner = owner
        self._then = then

    def take(self, result: object, error: BaseException | None) -> None:
        self._owner.finished()
        if error is not None:
            self._then(False, RpcError(UNKNOWN, str(error)))
        else:
            self._then(result is True, None)
