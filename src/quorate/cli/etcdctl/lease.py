"""lease grant, revoke, timetolive, list, keep-alive; and the renewal that lock and elect need."""

from __future__ import annotations

import time

from quorate import errors
from quorate.cli.etcdctl.context import BAD_CONNECTION, Context, ExitError, bad_args
from quorate.cli.etcdctl.kv import call, hex_id
from quorate.cli.etcdctl.pflag import parse_int
from quorate.cli.etcdctl.session import CallError, Session
from quorate.cli.etcdctl.simple import lease_id
from quorate.client import methods
from quorate.client.direct import DirectCall
from quorate.errors import RpcError
from quorate.proto import rpc_pb2 as pb

BAD_ID = "bad lease ID arg ({}), expecting ID in Hex"


def grant(context: Context) -> None:
    """Grant a lease."""
    if len(context.args) != 1:
        raise bad_args("lease grant command needs TTL argument")
    try:
        ttl_s = parse_int(context.args[0], 10, -(2**63), 2**63 - 1, "ParseInt")
    except ValueError as error:
        raise bad_args(f"bad TTL ({error})") from None
    answer = call(context, methods.LEASE_GRANT, pb.LeaseGrantRequest(TTL=ttl_s), wrap="failed to grant lease ({})")
    context.printer.show("grant", answer)


def revoke(context: Context) -> None:
    """Revoke a lease."""
    if len(context.args) != 1:
        raise bad_args("lease revoke command needs 1 argument")
    number = hex_id(context.args[0], BAD_ID)
    answer = call(context, methods.LEASE_REVOKE, pb.LeaseRevokeRequest(ID=number), wrap="failed to revoke lease ({})")
    context.printer.show("revoke", answer, number)


def time_to_live(context: Context) -> None:
    """Show what is left of a lease."""
    if len(context.args) != 1:
        raise bad_args("lease timetolive command needs lease ID as argument")
    _ = context.session
    keys = context.on("keys")
    request = pb.LeaseTimeToLiveRequest(ID=hex_id(context.args[0], BAD_ID), keys=keys)
    answer = call(context, methods.LEASE_TIME_TO_LIVE, request, limited=False, status=BAD_CONNECTION)
    context.printer.show("time-to-live", answer, keys)


def list_all(context: Context) -> None:
    """List all leases."""
    answer = call(context, methods.LEASE_LEASES, pb.LeaseLeasesRequest(), limited=False, status=BAD_CONNECTION)
    context.printer.show("leases", answer)


class Renewal:
    """Keeps a lease alive on a session; whoever waits on the session calls `step` now and then."""

    def __init__(self, session: Session, number: int, ttl_s: float) -> None:
        self.lost = False
        self._session = session
        self._request = pb.LeaseKeepAliveRequest(ID=number)
        self._call: DirectCall | None = None
        self._next_s = time.monotonic()
        self._until_s = self._next_s + ttl_s

    def step(self) -> pb.LeaseKeepAliveResponse | None:
        """Renew when it is time; return an answer that has come."""
        now_s = time.monotonic()
        if now_s >= self._until_s:
            self.lost = True
        if self.lost:
            return None
        if self._call is not None and self._call.ended and not self._call.messages:
            self._call = None
            self._session.leave()
            self._next_s = now_s
        if now_s >= self._next_s:
            try:
                if self._call is None:
                    self._call = self._session.open(methods.LEASE_KEEP_ALIVE, limit_s=max(self._until_s - now_s, 0.01))
                self._call.send(self._request)
            except CallError:
                return None
            self._next_s = now_s + 0.5  # asked again if no answer comes
        if self._call is not None and self._call.messages:
            answer = methods.LEASE_KEEP_ALIVE.decode(self._call.messages.popleft())
            if answer.TTL <= 0:
                self.lost = True
                return None
            self._next_s = now_s + answer.TTL / 3
            self._until_s = now_s + answer.TTL
            return answer
        return None


def keep_alive(context: Context) -> None:
    """Renew a lease, once or until it is gone."""
    if len(context.args) != 1:
        raise bad_args("lease keep-alive command needs lease ID as argument")
    number = hex_id(context.args[0], BAD_ID)
    session = context.session
    if context.on("once"):
        context.printer.show("keep-alive", _renew_once(session, number))
        return
    renewal = Renewal(session, number, 2**31)
    while not renewal.lost:
        answer = renewal.step()
        if answer is not None:
            context.printer.show("keep-alive", answer)
        else:
            session.pump(0.1)
    if context.printer.name == "simple":
        context.print(f"lease {lease_id(number)} expired or revoked.\n")


def _renew_once(session: Session, number: int) -> pb.LeaseKeepAliveResponse:
    while True:
        try:
            stream = session.open(methods.LEASE_KEEP_ALIVE)
            stream.send(pb.LeaseKeepAliveRequest(ID=number), last=True)
            data = stream.next(None)
        except CallError as error:
            raise ExitError(BAD_CONNECTION, error.text) from None
        except RpcError as error:
            if error.code == errors.UNAVAILABLE:
                session.leave()
                continue
            raise ExitError(BAD_CONNECTION, CallError(error).text) from None
        answer = methods.LEASE_KEEP_ALIVE.decode(data or b"")
        if answer.TTL <= 0:
            raise ExitError(BAD_CONNECTION, errors.LEASE_NOT_FOUND.text)
        return answer
