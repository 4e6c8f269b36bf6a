"""watch: events on stdout until interrupted, with a command a event, or several watches from stdin."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from quorate.cli.etcdctl.commands import WATCH_FLAGS
from quorate.cli.etcdctl.context import BAD_ARGS, ERROR, INTERRUPTED, INVALID_INPUT, Context, ExitError, bad_args
from quorate.cli.etcdctl.gotext import encode, quote
from quorate.cli.etcdctl.pflag import FlagError, FlagSet
from quorate.cli.etcdctl.session import CallError
from quorate.cli.etcdctl.watching import Watch, cancel_text
from quorate.client.policy import prefix_end
from quorate.proto import rpc_pb2 as pb

BAD_NUMBER = "bad number of arguments"
CONFLICT = "bad number of arguments (found conflicting environment key)"
NO_COMMAND = "bad number of arguments (found separator --, but no commands)"
EXCLUSIVE = "`range_end` and `--prefix` are mutually exclusive"
POLL_S = 0.05


def run(context: Context) -> None:
    """Watch."""
    key, end = os.environ.get("ETCDCTL_WATCH_KEY", ""), os.environ.get("ETCDCTL_WATCH_RANGE_END", "")
    if end and not key:
        raise bad_args(f"ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={quote(end)}")
    given = [key, end] if end else [key] if key else []
    if context.on("interactive"):
        _interactive(context, given)
        return
    after = context.words[context.words.index("--") + 1 :] if "--" in context.words else None
    args, command = split(context.args, after, given)
    session = context.session
    watch = Watch(session, request(context.flags, args, context.on("progress-notify")))
    try:
        while (response := watch.take()) is not None:
            show(context, response, command)
    except CallError as error:
        sys.stderr.write(f"watch was canceled ({error.text})\n")
    raise ExitError(INTERRUPTED, "watch is canceled by the server")


def split(args: list[str], after: list[str] | None, given: list[str]) -> tuple[list[str], list[str]]:
    """Return what to watch and the command: `after` is what follows "--", `given` what the environment names."""
    if after is not None and not after:
        raise bad_args(NO_COMMAND)
    command = after or []
    own = args[: len(args) - len(command)]
    if not own and not given:
        raise bad_args(BAD_NUMBER)
    if own and given:
        raise bad_args(CONFLICT)
    return own or given, command


def request(flags: FlagSet, args: list[str], notify: bool) -> pb.WatchCreateRequest:
    """Return the request of a watch."""
    key = encode(args[0])
    end = b""
    prefix = bool(flags.value("prefix"))
    if len(args) == 2:
        if prefix:
            raise bad_args(EXCLUSIVE)
        end = encode(args[1])
    if prefix:
        key, end = (key, prefix_end(key)) if key else (b"\0", b"\0")
    revision = flags.value("rev")
    assert isinstance(revision, int), revision
    return pb.WatchCreateRequest(
        key=key,
        range_end=end,
        start_revision=revision,
        prev_kv=bool(flags.value("prev-kv")),
        progress_notify=notify,
    )


def show(context: Context, response: pb.WatchResponse, command: list[str]) -> None:
    """Print a response and run the command for each event."""
    if response.canceled:
        sys.stderr.write(f"watch was canceled ({cancel_text(response)})\n")
        sys.stderr.flush()
    elif not response.events:
        context.print(f"progress notify: {response.header.revision}\n")
    context.printer.show("watch", response)
    if not command:
        return
    for event in response.events:
        extra = {
            b"ETCD_WATCH_REVISION": b"%d" % response.header.revision,
            b"ETCD_WATCH_EVENT_TYPE": quote("DELETE" if event.type else "PUT").encode(),
            b"ETCD_WATCH_KEY": encode(quote(event.kv.key)),
            b"ETCD_WATCH_VALUE": encode(quote(event.kv.value)),
        }
        failed = _run_command(command, {**os.environb, **extra})
        if failed:
            shown = "[" + " ".join([quote(word) for word in command]) + "]"
            sys.stderr.write(f"command {shown} error ({failed})\n")
            raise ExitError(ERROR)


def _run_command(command: list[str], env: dict[bytes, bytes]) -> str:
    try:
        status = subprocess.run(command, env=env, check=False).returncode
    except FileNotFoundError:
        return f"exec: {quote(command[0])}: executable file not found in $PATH"
    except OSError as error:
        return f"fork/exec {command[0]}: {(error.strerror or str(error)).lower()}"
    return f"exit status {status}" if status > 0 else f"signal: {-status}" if status else ""


def _interactive(context: Context, given: list[str]) -> None:
    """Serve lines from stdin and all watches they start."""
    from queue import Empty, SimpleQueue
    from threading import Thread

    session = context.session
    lines: SimpleQueue[bytes] = SimpleQueue()

    def read() -> None:
        for line in sys.stdin.buffer:
            lines.put(line)
        lines.put(b"")

    Thread(target=read, daemon=True).start()
    watches: list[tuple[Watch, list[str]]] = []
    while True:
        try:
            line: bytes | None = lines.get(timeout=None if not watches else 0.0001)
        except Empty:
            line = None
        if line is not None:
            if not line.endswith(b"\n"):
                raise ExitError(INVALID_INPUT, "error reading watch request line: EOF")
            _line(context, line[:-1].decode("utf-8", "surrogateescape"), given, watches)
            continue
        session.pump(POLL_S)
        for watch, command in list(watches):
            if watch.ready():
                response = watch.take(time.monotonic())
                if response is not None:
                    show(context, response, command)
            if watch.ended:
                watches.remove((watch, command))


def _line(context: Context, line: str, given: list[str], watches: list[tuple[Watch, list[str]]]) -> None:
    from quorate.cli.etcdctl.txn import split_words

    words = split_words(line)
    if not words:
        sys.stderr.write(f"Invalid command: {line} (watch and progress supported)\n")
    elif words[0] == "progress":
        for watch, _ in watches[:1]:
            watch.progress()
    elif words[0] != "watch":
        sys.stderr.write(f"Invalid command {line} (only support watch)\n")
    elif len(words) < 2 and not given:
        sys.stderr.write(f"Invalid command {line} (command type or key is not provided)\n")
    else:
        flags = FlagSet(WATCH_FLAGS)
        try:
            flags.parse(words[1:])
        except FlagError as error:
            raise ExitError(BAD_ARGS, str(error)) from None
        after = words[words.index("--") + 1 :] if "--" in words else None
        args, command = split(flags.args, after, given)
        try:
            wanted = request(flags, args, context.on("progress-notify"))
        except ExitError as error:
            sys.stderr.write(f"Invalid command {line} ({error.text})\n")
            return
        watch = Watch(context.session, wanted)
        watch.start()
        watches.append((watch, command))
    sys.stderr.flush()
