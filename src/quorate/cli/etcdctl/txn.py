"""txn: comparisons and requests from stdin, three sections that each end with an empty line."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from quorate.cli.etcdctl import commands
from quorate.cli.etcdctl.context import BAD_CONNECTION, INVALID_INPUT, Context, ExitError, bad_args
from quorate.cli.etcdctl.gotext import quote, scan_quoted
from quorate.cli.etcdctl.kv import call, delete_request, get_request, put_request
from quorate.cli.etcdctl.pflag import FlagError, FlagSet, parse_int
from quorate.client import methods
from quorate.proto import rpc_pb2 as pb

_WORDS = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|[^\'"\s]\S*[^\'"\s]?')
_RESULTS = {"=": pb.Compare.EQUAL, "!=": pb.Compare.NOT_EQUAL, ">": pb.Compare.GREATER, "<": pb.Compare.LESS}
_TARGETS = {
    "ver": "version",
    "version": "version",
    "c": "create_revision",
    "create": "create_revision",
    "m": "mod_revision",
    "mod": "mod_revision",
    "val": "value",
    "value": "value",
}
_KINDS = {
    "version": pb.Compare.VERSION,
    "create_revision": pb.Compare.CREATE,
    "mod_revision": pb.Compare.MOD,
    "value": pb.Compare.VALUE,
}


def split_words(line: str) -> list[str]:
    """Return the words of a line: "double-quoted" with Go's escapes, 'single-quoted' as they are, or plain."""
    words = []
    for word in _WORDS.findall(line):
        if word[0] == "'":
            words.append(word[1:-1])
        elif word[0] == '"':
            found = scan_quoted(word)
            if found is None:
                raise ExitError(INVALID_INPUT, "invalid syntax")
            words.append(found[0].decode("utf-8", "surrogateescape"))
        else:
            words.append(word)
    return words


def panic(text: str) -> ExitError:
    """End as etcd's command does when Go panics."""
    sys.stderr.write(f"panic: {text}\n")
    return ExitError(BAD_CONNECTION)


def parse_compare(line: str) -> pb.Compare:
    """Return the comparison of a line such as mod("key") > "0"."""
    target, paren, rest = line.partition("(")
    if not paren:
        raise ExitError(INVALID_INPUT, f"malformed comparison: {line}")
    key, operator, wanted, whole = _scan(rest)
    if not whole:
        text = f"malformed comparison: {line}; got {target}({quote(key)}) {operator} {quote(wanted)}"
        raise ExitError(INVALID_INPUT, text)
    if target == "lease":
        raise panic("bad compare value")
    field = _TARGETS.get(target)
    if field is None:
        raise ExitError(INVALID_INPUT, f"malformed comparison: {line} (unknown target {target})")
    number = 0
    if field != "value":
        try:
            number = parse_int(wanted.decode("utf-8", "replace"), 10, -(2**63), 2**63 - 1, "ParseInt")
        except ValueError:
            raise ExitError(INVALID_INPUT, f"invalid txn compare request: {line}") from None
    if operator not in _RESULTS:
        raise panic("Unknown result op")
    compare = pb.Compare(result=_RESULTS[operator], target=_KINDS[field], key=key)
    if field == "value":
        compare.value = wanted
    else:
        setattr(compare, field, number)
    return compare


def _scan(text: str) -> tuple[bytes, str, bytes, bool]:
    # Go's Sscanf("%q) %s %q"): what was read before the first thing that does not fit.
    found = scan_quoted(text.lstrip(" "))
    if found is None:
        return b"", "", b"", False
    key, rest = found
    match = re.match(r"\) +(\S+)(?: +(.*))?", rest, re.DOTALL)
    if match is None:
        return key, "", b"", False
    last = scan_quoted(match.group(2) or "")
    if last is None:
        return key, match.group(1), b"", False
    return key, match.group(1), last[0], True


def parse_request(line: str) -> pb.RequestOp:
    """Return the request of a line such as put key value."""
    words = split_words(line)
    if len(words) < 2:
        raise ExitError(INVALID_INPUT, f"invalid txn compare request: {line}")
    kinds = {"put": commands.PUT_FLAGS, "get": commands.GET_FLAGS, "del": commands.DEL_FLAGS}
    wrong = ExitError(INVALID_INPUT, f"invalid txn request: {line}")
    if words[0] not in kinds:
        raise wrong
    flags = FlagSet(kinds[words[0]])
    try:
        flags.parse(words[1:])
    except FlagError:
        raise wrong from None
    if words[0] == "put":
        return pb.RequestOp(request_put=put_request(flags, b""))
    if words[0] == "get":
        return pb.RequestOp(request_range=get_request(flags))
    return pb.RequestOp(request_delete_range=delete_request(flags))


def _section() -> Iterator[str]:
    while True:
        line = sys.stdin.buffer.readline()
        if not line.endswith(b"\n"):
            raise ExitError(INVALID_INPUT, "EOF")
        text = line.decode("utf-8", "surrogateescape").strip()
        if not text:
            return
        yield text


def run(context: Context) -> None:
    """Read a transaction and do it."""
    if context.args:
        raise bad_args("txn command does not accept argument")
    _ = context.session
    interactive = context.on("interactive")
    request = pb.TxnRequest()
    for prompt, target in (
        ("compares:", None),
        ("success requests (get, put, del):", request.success),
        ("failure requests (get, put, del):", request.failure),
    ):
        if interactive:
            context.print(prompt + "\n")
        for line in _section():
            if target is None:
                request.compare.append(parse_compare(line))
            else:
                target.append(parse_request(line))
    context.printer.show("txn", call(context, methods.TXN, request, limited=False))
