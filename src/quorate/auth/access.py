"""From a call to the user behind it.

    metadata "token", else "authorization" (with or without "Bearer ")   -> what the token says
    neither, and client certificates are asked for                       -> the certificate's CommonName
    nothing of it                                                        -> NOBODY, who may do nothing that needs a user

Contract: asked only while authentication is enabled. Everything is answered at once except for one case: a simple token
made by a log entry that this member has not applied yet. `wait` keeps such a call until the entry has been applied, or
until it has waited too long; how many may wait is bounded.
Source: etcd's server/auth/store.go (AuthInfoFromCtx, AuthInfoFromTLS).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.auth.store import NOBODY, AuthInfo, AuthStore
from quorate.auth.tokens import Tokens
from quorate.errors import INVALID_AUTH_TOKEN, USER_EMPTY, RpcError
from quorate.ports import Completion

NEEDS_NOTHING: Final = 0
NEEDS_USER: Final = 1
NEEDS_ROOT: Final = 2

WAITING_MAX: Final = 4096
_BEARER: Final = b"Bearer "


class _Waiting:
    """A call whose token names an index that is not applied yet."""

    def __init__(self, index: int, tick: int, resume: Callable[[RpcError | None], None]) -> None:
        self.index = index
        self.tick = tick
        self.resume = resume


class Access:
    """Says who is behind a call."""

    def __init__(self, store: AuthStore, tokens: Tokens, client_cert_auth: bool = False) -> None:
        self._store = store
        self._tokens = tokens
        self._client_cert_auth = client_cert_auth
        self._waiting: list[_Waiting] = []
        self._tick = 0

    def who(self, call: Completion) -> AuthInfo | RpcError:
        """Return the user behind a call, NOBODY, or INVALID_AUTH_TOKEN."""
        if call.as_root():
            return self._store.root()
        token = token_of(call)
        if token is None:
            return self._certified(call)
        claim = self._tokens.claim(token)
        if claim is None:
            return INVALID_AUTH_TOKEN
        return self._store.info(claim.username) if claim.revision < 0 else AuthInfo(claim.username, claim.revision)

    def _certified(self, call: Completion) -> AuthInfo:
        # The JSON gateway's calls come with the server's own certificate, which speaks for nobody.
        if not self._client_cert_auth or call.metadata(b"grpcgateway-accept") is not None:
            return NOBODY
        name = call.common_name()
        return NOBODY if name is None else self._store.info(name)

    def refusal(self, need: int, call: Completion) -> RpcError | None:
        """Return why a call must not be served that needs some user, or the root role."""
        who = self.who(call)
        if isinstance(who, RpcError):
            return who
        if need == NEEDS_ROOT:
            return self._store.admin_error(who)
        return USER_EMPTY if who is NOBODY else None

    # -- Tokens of entries to come

    def early_index(self, call: Completion, applied_index: int) -> int:
        """Return the index that a call must wait for, 0 when it need not."""
        token = None if call.as_root() else token_of(call)
        index = 0 if token is None else self._tokens.index_of(token)
        return index if index > applied_index else 0

    def wait(self, index: int, resume: Callable[[RpcError | None], None]) -> None:
        """Call `resume(None)` when the index is applied, `resume(INVALID_AUTH_TOKEN)` when that takes too long."""
        if len(self._waiting) >= WAITING_MAX:
            resume(INVALID_AUTH_TOKEN)
        else:
            self._waiting.append(_Waiting(index, self._tick, resume))

    @property
    def waiting(self) -> bool:
        """Whether any call waits."""
        return bool(self._waiting)

    def applied(self, index: int) -> None:
        """Let the calls go on that have waited for this index or one before."""
        ready = [one for one in self._waiting if one.index <= index]
        if ready:
            self._waiting = [one for one in self._waiting if one.index > index]
            for one in ready:
                one.resume(None)

    def tick(self, patience: int) -> None:
        """Count a tick; refuse the calls that have waited for more than `patience` ticks, and let tokens expire."""
        self._tick += 1
        self._tokens.expire()
        if self._waiting and self._waiting[0].tick + patience < self._tick:
            late = [one for one in self._waiting if one.tick + patience < self._tick]
            self._waiting = [one for one in self._waiting if one.tick + patience >= self._tick]
            for one in late:
                one.resume(INVALID_AUTH_TOKEN)


def token_of(call: Completion) -> bytes | None:
    """Return the token that came with a call, None when there is none."""
    token = call.metadata(b"token")
    if token is None:
        token = call.metadata(b"authorization")
    return None if token is None else token.removeprefix(_BEARER)
