"""endpoint health, status, hashkv."""

from __future__ import annotations

import sys
import time
from typing import Any

from quorate import errors
from quorate.cli.etcdctl.context import ERROR, Context, ExitError
from quorate.cli.etcdctl.output import Health
from quorate.cli.etcdctl.session import CallError
from quorate.client import methods
from quorate.proto import rpc_pb2 as pb
from quorate.runtime.duration import format_duration

ALARMS = {1: "NOSPACE ", 2: "CORRUPT "}


def chosen(context: Context) -> list[str]:
    """Return the endpoints to ask: the given ones, or with --cluster all client URLs of the members."""
    context.prepare()
    if not context.on("cluster"):
        return context.endpoints()
    try:
        answer = context.session.call(
            methods.MEMBER_LIST, pb.MemberListRequest(linearizable=True), context.command_timeout_s
        )
    except CallError as error:
        raise ExitError(ERROR, f"failed to fetch endpoints from etcd cluster member list: {error.text}") from None
    return [url for member in answer.members for url in member.clientURLs]


def health(context: Context) -> None:
    """Read a key through every endpoint at once; print in the order of the answers."""
    from threading import Thread

    endpoints = chosen(context)
    found: list[Health] = []
    sessions = [context.session_with(endpoint, "client") for endpoint in endpoints]
    limit_s = context.command_timeout_s

    def ask(number: int) -> None:
        begun_ns = time.monotonic_ns()
        error = ""
        try:
            sessions[number].call(methods.RANGE, pb.RangeRequest(key=b"health"), limit_s)
        except CallError as failed:
            if failed.text != errors.PERMISSION_DENIED_ERROR.text:
                error = failed.text
        took = format_duration(time.monotonic_ns() - begun_ns)
        if not error:
            try:
                alarms = sessions[number].call(methods.ALARM_LIST, pb.AlarmRequest(), limit_s).alarms
                if alarms:
                    error = "Active Alarm(s): " + "".join([ALARMS.get(each.alarm, "UNKNOWN ") for each in alarms])
            except CallError:
                error = "Unable to fetch the alarm list"
        found.append(Health(endpoints[number], not error, took, error))

    threads = [Thread(target=ask, args=(number,)) for number in range(len(endpoints))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    context.printer.show("endpoint-health", found)
    if any(each.error for each in found):
        raise ExitError(ERROR, "unhealthy cluster")


def _each(context: Context, what: str, method: methods.Method[Any], request: methods.Message) -> tuple[list[Any], str]:
    found = []
    problem = ""
    for endpoint in chosen(context):
        session = context.session_with(endpoint)
        try:
            found.append((endpoint, session.call(method, request, context.command_timeout_s)))
        except CallError as error:
            problem = error.text
            sys.stderr.write(f"Failed to get the {what} of endpoint {endpoint} ({problem})\n")
        session.close()
    return found, problem


def status(context: Context) -> None:
    """Show every endpoint's state."""
    found, problem = _each(context, "status", methods.STATUS, pb.StatusRequest())
    context.printer.show("endpoint-status", found)
    if problem:
        raise ExitError(ERROR)


def hashkv(context: Context) -> None:
    """Show the hash of every endpoint's history."""
    found, problem = _each(context, "hash", methods.HASH_KV, pb.HashKVRequest(revision=context.number("rev")))
    context.printer.show("endpoint-hashkv", found)
    if problem:
        raise ExitError(ERROR, problem)
