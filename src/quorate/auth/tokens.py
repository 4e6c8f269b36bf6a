"""Tokens: what a caller shows instead of a password once it has been checked.

    Authenticate("alice", ...)  ->  log entry 4711 {alice, "aQxPzRmVkTgYbWcE"}  ->  "aQxPzRmVkTgYbWcE.4711"

A simple token is 16 random letters, a dot, and the index of the log entry that made it. Every member learns it when it
applies the entry and keeps it in memory, until it has not been used for the time to live, its user's password changes,
the user is deleted, authentication is disabled, or the member restarts. A token whose index a member has not reached is
not unknown yet: the call waits (auth.access).

The random letters are drawn by the member that was asked, so that applying the entry is deterministic. Clocks are each
member's own, and so are the moments at which a token ends.
Source: etcd's server/auth/simple_token.go, nop.go.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

from quorate.errors import AUTH_FAILED
from quorate.ports import Loop

PREFIX_LETTERS: Final = 16
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MAX_INDEX: Final = (1 << 64) - 1
_MAX_INDEX_DIGITS: Final = 20


class Claim:
    """What a token says: the user, and the auth revision that it stands for (-1: whatever the present one is)."""

    def __init__(self, username: str, revision: int) -> None:
        self.username = username
        self.revision = revision


@mypyc_attr(allow_interpreted_subclasses=True)
class Tokens:
    """Makes and recognizes tokens. This one makes none and knows none (an empty `--auth-token`)."""

    def new_prefix(self) -> str:
        """Return what goes into the log entry for a token to be made of."""
        return ""

    def assign(self, username: str, prefix: str, index: int) -> str:  # noqa: ARG002
        """Return the token that the log entry at `index` makes, "" if the tokens have no part in the log."""
        return ""

    def sign(self, username: str, revision: int) -> str:  # noqa: ARG002
        """Return a token that this member makes on its own. Raises RpcError when it cannot."""
        raise AUTH_FAILED

    def claim(self, token: bytes) -> Claim | None:  # noqa: ARG002
        """Return what a token says, None when it is not to be believed."""
        return None

    def index_of(self, token: bytes) -> int:  # noqa: ARG002
        """Return the log index that must be applied before the token can be judged, 0 if it can be at any time."""
        return 0

    def drop_user(self, username: str) -> None:
        """Forget the tokens of a user."""

    def drop_all(self) -> None:
        """Forget all tokens."""

    def expire(self) -> None:
        """Forget the tokens whose time is over."""


class _Token:
    """A simple token that is in use."""

    def __init__(self, claim: Claim, until_ns: int) -> None:
        self.claim = claim
        self.until_ns = until_ns


class SimpleTokens(Tokens):
    """Simple tokens with a time to live that starts anew at each use.

    The dict is in order of the last use, so that the tokens that have expired are at its front.
    """

    def __init__(self, loop: Loop, ttl_ns: int) -> None:
        self._loop = loop
        self._ttl_ns = ttl_ns
        self._tokens: dict[bytes, _Token] = {}

    def __len__(self) -> int:
        return len(self._tokens)

    def new_prefix(self) -> str:
        """Return 16 random letters."""
        letters: list[str] = []
        while len(letters) < PREFIX_LETTERS:
            # Six bits pick one of 64; the twelve picks behind the last letter are drawn again.
            pick = self._loop.random_bits(6)
            if pick < len(_LETTERS):
                letters.append(_LETTERS[pick])
        return "".join(letters)

    def assign(self, username: str, prefix: str, index: int) -> str:
        """Remember and return a token."""
        token = f"{prefix}.{index}"
        self._tokens[token.encode()] = _Token(Claim(username, -1), self._loop.monotonic_ns() + self._ttl_ns)
        return token

    def claim(self, token: bytes) -> Claim | None:
        """Return a token's user, and let its time start anew."""
        found = self._tokens.get(token)
        if found is None:
            return None
        now_ns = self._loop.monotonic_ns()
        del self._tokens[token]
        if now_ns > found.until_ns:
            return None
        found.until_ns = now_ns + self._ttl_ns
        self._tokens[token] = found
        return found.claim

    def index_of(self, token: bytes) -> int:
        """Return the index that a token of the right form names, unless it is known already."""
        if token in self._tokens:
            return 0
        parts = token.split(b".")
        if len(parts) != 2 or not parts[1].isdigit() or len(parts[1]) > _MAX_INDEX_DIGITS:
            return 0
        index = int(parts[1])
        return index if index <= _MAX_INDEX else 0

    def drop_user(self, username: str) -> None:
        """Forget the tokens of a user."""
        gone = [token for token, found in self._tokens.items() if found.claim.username == username]
        for token in gone:
            del self._tokens[token]

    def drop_all(self) -> None:
        """Forget all tokens."""
        self._tokens = {}

    def expire(self) -> None:
        """Forget the tokens whose time is over."""
        now_ns = self._loop.monotonic_ns()
        gone: list[bytes] = []
        for token, found in self._tokens.items():
            if now_ns <= found.until_ns:
                break
            gone.append(token)
        for token in gone:
            del self._tokens[token]
