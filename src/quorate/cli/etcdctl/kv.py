"""put, get, del, compaction."""

from __future__ import annotations

import sys
import time
from typing import TypeVar

from quorate.cli.etcdctl.context import BAD_FEATURE, ERROR, Context, ExitError, bad_args
from quorate.cli.etcdctl.gotext import encode, quote
from quorate.cli.etcdctl.pflag import FlagSet, parse_int
from quorate.cli.etcdctl.session import CallError
from quorate.client import methods
from quorate.client.policy import prefix_end
from quorate.proto import rpc_pb2 as pb

WARNING_S = 2
Answer = TypeVar("Answer")
NEEDS_VALUE = "put command needs 1 argument and input from stdin or 2 arguments"
_TARGETS = {
    "CREATE": pb.RangeRequest.CREATE,
    "KEY": pb.RangeRequest.KEY,
    "VERSION": pb.RangeRequest.VERSION,
    "MODIFY": pb.RangeRequest.MOD,
    "VALUE": pb.RangeRequest.VALUE,
}


def hex_id(word: str, text: str) -> int:
    """Return a lease's id, written in hexadecimal."""
    try:
        return parse_int(word, 16, -(2**63), 2**63 - 1, "ParseInt")
    except ValueError as error:
        raise bad_args(text.format(error)) from None


def flag_text(flags: FlagSet, name: str) -> str:
    """Return a string flag."""
    return str(flags.value(name))


def flag_number(flags: FlagSet, name: str) -> int:
    """Return an integer flag."""
    value = flags.value(name)
    assert isinstance(value, int), name
    return value


def put_request(flags: FlagSet, stdin: bytes | None) -> pb.PutRequest:
    """Return the request of a put; `stdin` is what to read the value from, None for the real one."""
    args = flags.args
    if not args:
        raise bad_args(NEEDS_VALUE)
    ignore_value = bool(flags.value("ignore-value"))
    if ignore_value and len(args) > 1:
        raise bad_args("put command needs only 1 argument when 'ignore-value' is set")
    value = b""
    if not ignore_value:
        if len(args) > 1:
            value = encode(args[1])
        else:
            value = sys.stdin.buffer.read() if stdin is None else stdin
            if not value:
                raise bad_args(NEEDS_VALUE)
    return pb.PutRequest(
        key=encode(args[0]),
        value=value,
        lease=hex_id(flag_text(flags, "lease"), "bad lease ID ({}), expecting ID in Hex"),
        prev_kv=bool(flags.value("prev-kv")),
        ignore_value=ignore_value,
        ignore_lease=bool(flags.value("ignore-lease")),
    )


def serializable(consistency: str) -> bool:
    """Tell whether a --consistency wants any member's view."""
    if consistency not in ("s", "l"):
        raise ExitError(BAD_FEATURE, f"unknown consistency flag {quote(consistency)}")
    return consistency == "s"


def span(args: list[str], prefix: bool, from_key: bool) -> tuple[bytes, bytes]:
    """Return key and range_end of get and del."""
    key = encode(args[0])
    if prefix and key:
        return key, prefix_end(key)
    if prefix or from_key:
        return key or b"\0", b"\0"
    return key, encode(args[1]) if len(args) > 1 else b""


def get_request(flags: FlagSet) -> pb.RangeRequest:
    """Return the request of a get."""
    args = flags.args
    if not args:
        raise bad_args("get command needs one argument as key and an optional argument as range_end")
    prefix, from_key = bool(flags.value("prefix")), bool(flags.value("from-key"))
    if prefix and from_key:
        raise bad_args("`--prefix` and `--from-key` cannot be set at the same time, choose one")
    if flags.value("keys-only") and flags.value("count-only"):
        raise bad_args("`--keys-only` and `--count-only` cannot be set at the same time, choose one")
    any_member = serializable(flag_text(flags, "consistency"))
    if len(args) > 1 and (prefix or from_key):
        raise bad_args("too many arguments, only accept one argument when `--prefix` or `--from-key` is set")
    order, target = _sorting(flag_text(flags, "order"), flag_text(flags, "sort-by"))
    start, end = span(args, prefix, from_key)
    bounds = {}
    for kind in ("Create", "Mod"):
        low, high = (max(flag_number(flags, f"{side}-{kind.lower()}-rev"), 0) for side in ("min", "max"))
        if 0 < high < low:
            raise ExitError(BAD_FEATURE, f"getMin{kind}Rev(={low}) > getMax{kind}Rev(={high})")
        bounds[kind] = (low, high)
    return pb.RangeRequest(
        key=start,
        range_end=end,
        limit=flag_number(flags, "limit"),
        revision=max(flag_number(flags, "rev"), 0),
        sort_order=order,
        sort_target=target,
        serializable=any_member,
        keys_only=bool(flags.value("keys-only")),
        count_only=bool(flags.value("count-only")),
        min_create_revision=bounds["Create"][0],
        max_create_revision=bounds["Create"][1],
        min_mod_revision=bounds["Mod"][0],
        max_mod_revision=bounds["Mod"][1],
    )


def _sorting(order: str, target: str) -> tuple[pb.RangeRequest.SortOrder, pb.RangeRequest.SortTarget]:
    orders = {"": pb.RangeRequest.NONE, "ASCEND": pb.RangeRequest.ASCEND, "DESCEND": pb.RangeRequest.DESCEND}
    chosen = orders.get(order.upper())
    if chosen is None:
        raise ExitError(BAD_FEATURE, f"bad sort order {order}")
    by = _TARGETS.get(target.upper() or "KEY")
    if by is None:
        raise ExitError(BAD_FEATURE, f"bad sort target {target}")
    # Keys come in ascending order anyhow; etcd's client leaves that sort out.
    if by == pb.RangeRequest.KEY and chosen == pb.RangeRequest.ASCEND:
        chosen = pb.RangeRequest.NONE
    return chosen, by


def delete_request(flags: FlagSet) -> pb.DeleteRangeRequest:
    """Return the request of a del, after the warning that a range deserves."""
    args = flags.args
    if not args or len(args) > 2:
        raise bad_args("del command needs one argument as key and an optional argument as range_end")
    prefix, from_key = bool(flags.value("prefix")), bool(flags.value("from-key"))
    if prefix and from_key:
        raise bad_args("`--prefix` and `--from-key` cannot be set at the same time, choose one")
    if len(args) > 1:
        if prefix or from_key:
            raise bad_args("too many arguments, only accept one argument when `--prefix` or `--from-key` is set")
        if not flags.value("range"):
            sys.stderr.write(
                f"Warning: Keys between {quote(args[0])} and {quote(args[1])} will be deleted. Please interrupt the "
                "command within next 2 seconds to cancel. You can provide `--range` flag to avoid the delay.\n"
            )
            sys.stderr.flush()
            time.sleep(WARNING_S)
    start, end = span(args, prefix, from_key)
    return pb.DeleteRangeRequest(key=start, range_end=end, prev_kv=bool(flags.value("prev-kv")))


def put(context: Context) -> None:
    """Write a key."""
    request = put_request(context.flags, None)
    answer = call(context, methods.PUT, request)
    context.printer.show("put", answer)


def get(context: Context) -> None:
    """Read keys."""
    request = get_request(context.flags)
    answer = call(context, methods.RANGE, request)
    printer = context.printer
    if request.count_only and printer.name != "fields":
        raise bad_args("--count-only is only for `--write-out=fields`")
    if context.on("print-value-only"):
        from quorate.cli.etcdctl.simple import SimplePrinter

        if not isinstance(printer, SimplePrinter):
            raise bad_args("print-value-only is only for `--write-out=simple`")
        printer.value_only = True
    printer.show("get", answer)


def delete(context: Context) -> None:
    """Delete keys."""
    answer = call(context, methods.DELETE_RANGE, delete_request(context.flags))
    context.printer.show("delete", answer)


def compaction(context: Context) -> None:
    """Compact history."""
    if len(context.args) != 1:
        raise bad_args("compaction command needs 1 argument")
    try:
        revision = parse_int(context.args[0], 10, -(2**63), 2**63 - 1, "ParseInt")
    except ValueError as error:
        raise ExitError(ERROR, str(error)) from None
    physical = context.on("physical")
    call(context, methods.COMPACT, pb.CompactionRequest(revision=revision, physical=physical), limited=not physical)
    context.print(f"compacted revision {revision}\n")


def call(
    context: Context,
    method: methods.Method[Answer],
    request: methods.Message,
    *,
    limited: bool = True,
    status: int = ERROR,
    wrap: str = "{}",
) -> Answer:
    """Make a call with the command's limit, or none; a failure ends the command with the status."""
    try:
        return context.session.call(method, request, context.command_timeout_s if limited else None)
    except CallError as error:
        raise ExitError(status, wrap.format(error.text)) from None
