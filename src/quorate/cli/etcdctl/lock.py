"""lock and elect: a place in the queue under a name, held by a lease that this command renews.

The keys are those of etcd's concurrency package (`<name>/<lease in hexadecimal>`), so that they exclude Go programs.
Everything runs on one thread: while it waits for a watch or for a command, it serves the lease.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from types import FrameType

from quorate.cli.etcdctl.context import ERROR, Context, ExitError, bad_args
from quorate.cli.etcdctl.gotext import encode, quote
from quorate.cli.etcdctl.lease import Renewal
from quorate.cli.etcdctl.session import CallError, Session
from quorate.cli.etcdctl.watching import Watch
from quorate.client import methods
from quorate.client.policy import prefix_end
from quorate.proto import rpc_pb2 as pb
from quorate.proto.kv_pb2 import Event

ELECT_TTL_S = 60
STEP_S = 0.1


class Stopped(Exception):  # noqa: N818
    """SIGINT or SIGTERM has come."""


def _interrupt(_: int, __: FrameType | None) -> None:
    raise Stopped


def _on_signals(handler: object) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)  # type: ignore[arg-type]


class Place:
    """Our place in the queue."""

    def __init__(self, session: Session, name: str, ttl_s: int) -> None:
        granted = session.call(methods.LEASE_GRANT, pb.LeaseGrantRequest(TTL=ttl_s))
        self.session = session
        self.prefix = encode(name) + b"/"
        self.lease = granted.ID
        self.key = self.prefix + b"%x" % granted.ID
        self.revision = 0
        self.header_revision = 0
        self.renewal = Renewal(session, granted.ID, granted.TTL)

    def serve(self, seconds: float = STEP_S) -> None:
        """Wait for a moment and renew. Raises ExitError when the lease is lost."""
        self.renewal.step()
        if self.renewal.lost:
            raise ExitError(ERROR, "session expired")
        self.session.pump(seconds)

    def take(self, value: bytes) -> None:
        """Queue up and wait until we are first."""
        missing = pb.Compare(key=self.key, target=pb.Compare.CREATE, result=pb.Compare.EQUAL, create_revision=0)
        create = pb.RequestOp(request_put=pb.PutRequest(key=self.key, value=value, lease=self.lease))
        read = pb.RequestOp(request_range=pb.RangeRequest(key=self.key))
        answer = self.session.call(methods.TXN, pb.TxnRequest(compare=[missing], success=[create], failure=[read]))
        self.revision = self.header_revision = answer.header.revision
        if not answer.succeeded:
            self.revision = answer.responses[0].response_range.kvs[0].create_revision
        while True:
            before = pb.RangeRequest(
                key=self.prefix,
                range_end=prefix_end(self.prefix),
                sort_order=pb.RangeRequest.DESCEND,
                sort_target=pb.RangeRequest.CREATE,
                limit=1,
                max_create_revision=self.revision - 1,
            )
            found = self.session.call(methods.RANGE, before)
            self.header_revision = found.header.revision
            if not found.kvs:
                return
            watch = Watch(
                self.session,
                pb.WatchCreateRequest(key=found.kvs[0].key, start_revision=found.header.revision + 1),
            )
            self.wait_for(watch, deleted=True)

    def wait_for(self, watch: Watch, deleted: bool) -> list[Event]:
        """Return the events that a watch brings, or those up to a deletion."""
        while True:
            self.renewal.step()
            if self.renewal.lost:
                raise ExitError(ERROR, "session expired")
            response = watch.take(time.monotonic() + STEP_S)
            if response is None:
                continue
            events = list(response.events)
            if response.canceled or (events and not deleted) or any(each.type == Event.DELETE for each in events):
                watch.close()
                return events

    def leave(self) -> None:
        """Delete our key."""
        self.session.call(methods.DELETE_RANGE, pb.DeleteRangeRequest(key=self.key))


def lock(context: Context) -> None:
    """Hold a lock until a signal comes or a command has ended."""
    if not context.args:
        raise bad_args("lock takes a lock name argument and an optional command to execute")
    session = context.session
    try:
        place = Place(session, context.args[0], context.number("ttl"))
        _take(place, b"")
        if context.args[1:]:
            _locked_command(place, context.args[1:])
            return
        _hold(context, place, "session expired")
    except CallError as error:
        raise ExitError(ERROR, error.text) from None


def _take(place: Place, value: bytes) -> None:
    _on_signals(_interrupt)
    try:
        place.take(value)
    except Stopped:
        _on_signals(signal.SIG_IGN)
        place.leave()
        raise ExitError(ERROR, "context canceled") from None


def _hold(context: Context, place: Place, expired: str) -> None:
    try:
        found = place.session.call(methods.RANGE, pb.RangeRequest(key=place.key))
        if not found.kvs:
            raise ExitError(ERROR, "lock lost on init")
        context.printer.show("get", found)
        while True:
            place.serve()
    except Stopped:
        _on_signals(signal.SIG_IGN)
        place.leave()
    except ExitError as error:
        raise ExitError(ERROR, expired if error.text == "session expired" else error.text) from None


def _locked_command(place: Place, command: list[str]) -> None:
    _on_signals(lambda *_: None)  # the command gets them too, and its end ends the lock
    env = {**os.environ, "ETCD_LOCK_REV": str(place.header_revision)}
    env["ETCD_LOCK_KEY"] = place.key.decode("utf-8", "surrogateescape")
    try:
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        place.leave()
        if "/" in command[0]:
            raise ExitError(ERROR, f"fork/exec {command[0]}: no such file or directory") from None
        raise ExitError(ERROR, f"exec: {quote(command[0])}: executable file not found in $PATH") from None
    except OSError as error:
        place.leave()
        raise ExitError(ERROR, f"fork/exec {command[0]}: {(error.strerror or str(error)).lower()}") from None
    while (status := process.poll()) is None:
        if not place.renewal.lost:
            place.renewal.step()
        place.session.pump(0.02)
    place.leave()
    if status > 0:
        raise ExitError(status, f"exit status {status}")
    if status < 0:
        raise ExitError(255, f"signal: {signal.Signals(-status).name.removeprefix('SIG').lower()}")


def elect(context: Context) -> None:
    """Campaign, or with -l follow who leads."""
    args = context.args
    if len(args) not in (1, 2):
        raise bad_args("elect takes one election name argument and an optional proposal argument")
    if len(args) == 1 and not context.on("listen"):
        raise bad_args("no proposal argument but -l not set")
    if len(args) == 2 and context.on("listen"):
        raise bad_args("proposal given but -l is set")
    try:
        place = Place(context.session, args[0], ELECT_TTL_S)
        if len(args) == 1:
            _observe(context, place)
        else:
            _take(place, encode(args[1]))
            _hold(context, place, "elect: session expired")
    except CallError as error:
        raise ExitError(ERROR, error.text) from None


def _observe(context: Context, place: Place) -> None:
    _on_signals(_interrupt)
    end = prefix_end(place.prefix)
    oldest = pb.RangeRequest(
        key=place.prefix,
        range_end=end,
        sort_order=pb.RangeRequest.ASCEND,
        sort_target=pb.RangeRequest.CREATE,
        limit=1,
    )
    try:
        while True:
            found = place.session.call(methods.RANGE, oldest)
            after = found.header.revision + 1
            if not found.kvs:
                watch = Watch(
                    place.session,
                    pb.WatchCreateRequest(
                        key=place.prefix,
                        range_end=end,
                        start_revision=after,
                        filters=[pb.WatchCreateRequest.NODELETE],
                    ),
                )
                place.wait_for(watch, deleted=False)
                continue
            leader = found.kvs[0]
            context.printer.show("get", pb.RangeResponse(header=found.header, kvs=[leader]))
            _follow(context, place, Watch(place.session, pb.WatchCreateRequest(key=leader.key, start_revision=after)))
    except Stopped:
        return


def _follow(context: Context, place: Place, watch: Watch) -> None:
    """Print what the leader says until it leads no more."""
    while not watch.ended:
        place.renewal.step()
        response = watch.take(time.monotonic() + STEP_S)
        for event in response.events if response is not None else ():
            if event.type == Event.DELETE:
                watch.close()
                return
            assert response is not None
            context.printer.show("get", pb.RangeResponse(header=response.header, kvs=[event.kv]))
