"""alarm, defrag, downgrade."""

from __future__ import annotations

import sys
import time

from quorate.cli.etcdctl.context import ERROR, Context, ExitError, bad_args
from quorate.cli.etcdctl.endpoint import chosen
from quorate.cli.etcdctl.kv import call
from quorate.cli.etcdctl.session import CallError
from quorate.client import methods
from quorate.proto import rpc_pb2 as pb
from quorate.runtime.duration import format_duration


def alarm_list(context: Context) -> None:
    """List the alarms."""
    if context.args:
        raise bad_args("alarm list command accepts no arguments")
    context.printer.show("alarm", call(context, methods.ALARM_LIST, pb.AlarmRequest()))


def alarm_disarm(context: Context) -> None:
    """Take back every alarm, one by one."""
    if context.args:
        raise bad_args("alarm disarm command accepts no arguments")
    removed = pb.AlarmResponse()
    for each in call(context, methods.ALARM_LIST, pb.AlarmRequest()).alarms:
        request = pb.AlarmRequest(action=pb.AlarmRequest.DEACTIVATE, memberID=each.memberID, alarm=each.alarm)
        removed.alarms.extend(call(context, methods.ALARM, request).alarms)
    context.printer.show("alarm", removed)


def defrag(context: Context) -> None:
    """Defragment every endpoint's database, one after the other; or, of a member that does not run, its directory."""
    if context.text("data-dir"):
        from quorate.cli.etcdctl.offline import defrag as defrag_offline

        defrag_offline(context)
        return
    failures = 0
    for endpoint in chosen(context):
        session = context.session_with(endpoint)
        begun_ns = time.monotonic_ns()
        try:
            session.call(methods.DEFRAGMENT, pb.DefragmentRequest(), context.command_timeout_s)
        except CallError as error:
            took = format_duration(time.monotonic_ns() - begun_ns)
            sys.stderr.write(f"Failed to defragment etcd member[{endpoint}]. took {took}. ({error.text})\n")
            failures += 1
        else:
            took = format_duration(time.monotonic_ns() - begun_ns)
            context.print(f"Finished defragmenting etcd member[{endpoint}]. took {took}\n")
        session.close()
    if failures:
        raise ExitError(ERROR)


def _downgrade(context: Context, kind: str, action: pb.DowngradeRequest.DowngradeAction, version: str) -> None:
    answer = call(context, methods.DOWNGRADE, pb.DowngradeRequest(action=action, version=version))
    context.printer.show(f"downgrade-{kind}", answer)


def _target(context: Context) -> str:
    if not context.args:
        raise bad_args("TARGET_VERSION not provided")
    if len(context.args) > 1:
        raise bad_args("too many arguments")
    if not context.args[0]:
        raise bad_args("target version not provided")
    return context.args[0]


def downgrade_validate(context: Context) -> None:
    """Ask whether a downgrade could begin."""
    _downgrade(context, "validate", pb.DowngradeRequest.VALIDATE, _target(context))


def downgrade_enable(context: Context) -> None:
    """Begin a downgrade."""
    _downgrade(context, "enable", pb.DowngradeRequest.ENABLE, _target(context))


def downgrade_cancel(context: Context) -> None:
    """Give a downgrade up."""
    _downgrade(context, "cancel", pb.DowngradeRequest.CANCEL, "")
