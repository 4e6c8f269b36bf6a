"""A watch on a session that outlives its connection, for watch, lock, elect and make-mirror."""

from __future__ import annotations

import sys
import time

from quorate import errors
from quorate.cli.etcdctl.session import CallError, Session, public_text, zap
from quorate.client.direct import DirectCall
from quorate.client.methods import WATCH
from quorate.client.policy import backoff_s
from quorate.errors import RpcError
from quorate.proto import rpc_pb2 as pb
from quorate.wire.headers import Field

REQUIRE_LEADER: list[Field] = [(b"hasleader", b"true")]
FATAL = (errors.PERMISSION_DENIED, errors.UNAUTHENTICATED, errors.INVALID_ARGUMENT, errors.UNIMPLEMENTED)


class Watch:
    """One watch. `take` returns responses as the server gives them; after a break it starts where it was."""

    def __init__(self, session: Session, request: pb.WatchCreateRequest) -> None:
        self._session = session
        self._request = request
        self._next_revision = request.start_revision
        self._call: DirectCall | None = None
        self.ended = False
        self._lost = False

    def take(self, until_s: float | None = None) -> pb.WatchResponse | None:
        """Return the next response that says something, None when `until_s` is over. Raises CallError."""
        while not self.ended:
            call = self._call if self._call is not None else self._open()
            while not call.messages and not call.ended:
                if until_s is not None and time.monotonic() >= until_s:
                    return None
                call.conn.pump(until_s)
            if call.messages:
                response = WATCH.decode(call.messages.popleft())
                if self._note(response):
                    return response
            else:
                self._broken(call.error)
        return None

    def ready(self) -> bool:
        """Tell whether a response waits."""
        return self._call is not None and bool(self._call.messages or self._call.ended)

    def progress(self) -> None:
        """Ask how far the watch has come."""
        if self._call is not None:
            self._call.send(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))

    def start(self) -> None:
        """Send the request now."""
        if self._call is None:
            self._open()

    def close(self) -> None:
        """End the watch."""
        self.ended = True
        if self._call is not None:
            self._call.call.cancel()

    def _open(self) -> DirectCall:
        self._call = self._session.open(WATCH, REQUIRE_LEADER)
        self._request.start_revision = self._next_revision
        self._call.send(pb.WatchRequest(create_request=self._request))
        return self._call

    def _broken(self, error: RpcError | None) -> None:
        self._call = None
        if error is not None and error.code in FATAL:
            raise CallError(error)
        if sys.stderr.isatty() and not self._lost:
            zap("warn", "", "", f"connection lost; watching on from revision {self._next_revision} when it is back", {})
        self._lost = True
        self._session.leave()
        time.sleep(backoff_s(2))

    def _note(self, response: pb.WatchResponse) -> bool:
        if response.canceled:
            self.ended = True
            return True
        self._lost = False
        if response.created:
            if self._next_revision == 0:
                self._next_revision = response.header.revision + 1
            return False
        if response.events:
            self._next_revision = response.events[-1].kv.mod_revision + 1
        elif response.watch_id >= 0:
            self._next_revision = max(self._next_revision, response.header.revision + 1)
        return True


def cancel_text(response: pb.WatchResponse) -> str:
    """Return why the server ended a watch."""
    if response.compact_revision:
        return errors.COMPACTED.text
    return response.cancel_reason or public_text(errors.FUTURE_REV)
