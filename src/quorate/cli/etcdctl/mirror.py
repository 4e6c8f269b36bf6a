"""make-mirror: copy all keys under a prefix to another cluster, then follow what changes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from quorate import errors
from quorate.cli.etcdctl.context import ERROR, Context, ExitError, bad_args
from quorate.cli.etcdctl.gotext import encode
from quorate.cli.etcdctl.session import CallError, Session
from quorate.cli.etcdctl.settings import credentials, make_tls, start_session
from quorate.cli.etcdctl.watching import Watch, cancel_text
from quorate.client import methods
from quorate.client.policy import prefix_end
from quorate.proto import rpc_pb2 as pb
from quorate.proto.kv_pb2 import Event

PAGE = 1000
REPORT_S = 30.0


class Mirror:
    """One run."""

    def __init__(self, context: Context, source: Session, target: Session) -> None:
        self.context = context
        self.source = source
        self.target = target
        self.prefix = encode(context.text("prefix"))
        self.target_prefix = encode(context.text("dest-prefix"))
        self.max_ops = context.number("max-txn-ops")
        self.total = 0
        self.report_s = time.monotonic() + REPORT_S

    def report(self) -> None:
        """Print the count every half minute."""
        if time.monotonic() >= self.report_s:
            self.report_s += REPORT_S
            self.context.print(f"{self.total}\n")

    def key(self, key: bytes) -> bytes:
        """Return a key's name in the target."""
        return key.replace(self.prefix, self.target_prefix, 1)

    def base(self) -> int:
        """Copy what is there; return the revision that was copied."""
        revision = self.source.call(methods.RANGE, pb.RangeRequest(key=self.prefix or b"foo")).header.revision
        start = self.prefix or b"\0"
        end = prefix_end(self.prefix) if self.prefix else b"\0"
        while True:
            request = pb.RangeRequest(key=start, range_end=end, limit=PAGE, revision=revision)
            page = self.source.call(methods.RANGE, request)
            for kv in page.kvs:
                self.target.call(methods.PUT, pb.PutRequest(key=self.key(kv.key), value=kv.value))
                self.total += 1
                self.report()
            if not page.more:
                return revision
            start = page.kvs[-1].key + b"\0"

    def follow(self, revision: int) -> None:
        """Repeat every change after the revision, a transaction for each revision."""
        start = self.prefix or b"\0"
        end = prefix_end(self.prefix) if self.prefix else b"\0"
        watch = Watch(self.source, pb.WatchCreateRequest(key=start, range_end=end, start_revision=revision + 1))
        while not watch.ended:
            response = watch.take(min(self.report_s, time.monotonic() + 1.0))
            self.report()
            self.target.pump(0)
            if response is None:
                continue
            if response.compact_revision:
                raise ExitError(ERROR, errors.COMPACTED.text)
            if response.canceled:
                raise ExitError(ERROR, cancel_text(response))
            self.apply(response.events)

    def apply(self, events: Sequence[Event]) -> None:
        """Do the events of one response."""
        ops: list[pb.RequestOp] = []
        last = 0
        for event in events:
            if ops and (event.kv.mod_revision > last or len(ops) >= self.max_ops):
                self.target.call(methods.TXN, pb.TxnRequest(success=ops))
                ops = []
            last = event.kv.mod_revision
            key = self.key(event.kv.key)
            if event.type == Event.PUT:
                ops.append(pb.RequestOp(request_put=pb.PutRequest(key=key, value=event.kv.value)))
            else:
                ops.append(pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key)))
            self.total += 1
        if ops:
            self.target.call(methods.TXN, pb.TxnRequest(success=ops))


def run(context: Context) -> None:
    """Mirror until interrupted."""
    if len(context.args) != 1:
        raise bad_args("make-mirror takes one destination argument")
    tls, configured = make_tls(
        context.text("dest-cacert"),
        context.text("dest-cert"),
        context.text("dest-key"),
        context.on("dest-insecure-transport"),
        False,
        "",
    )
    user, password = credentials(context.text("dest-user"), context.text("dest-password"), "Destination Password: ")
    target = start_session(context, [context.args[0]], tls, configured, user, password)
    try:
        mirror = Mirror(context, context.session, target)
        if context.on("no-dest-prefix") and mirror.target_prefix:
            raise bad_args("`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one")
        revision = max(context.number("rev") - 1, 0)
        if revision == 0:
            if not context.on("no-dest-prefix") and not mirror.target_prefix:
                mirror.target_prefix = mirror.prefix
            revision = mirror.base()
        mirror.follow(revision)
    except CallError as error:
        raise ExitError(ERROR, error.text) from None
    finally:
        target.close()
