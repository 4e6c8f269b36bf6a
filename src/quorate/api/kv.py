"""etcdserverpb.KV: checks of a request's form, in etcd's order and words; then the server does the rest.

    Put    quota -> empty key -> value with ignore_value -> lease with ignore_lease
    Range  empty key -> sort enums
    Txn    quota -> structure, depth first -> puts and deletes of one branch do not touch the same key twice

The call itself is handed to the server as the Completion: a put makes no object here but its parsed request.

A request's range_end can be present and empty, which no client library sends. Real etcd (up to 3.6) then reads from the
key on, as with "\\0", where the request is answered without the log; in the log the empty field is lost. Range does the
same here; inside a transaction we always take it for absent.
Source: etcd's server/etcdserver/api/v3rpc/{key,quota}.go.
"""

from __future__ import annotations

from quorate import errors
from quorate.api.check import LEARNER_SERIALIZABLE, Guard, add_raw
from quorate.api.forms import check_range, examine_txn
from quorate.api.strict import complaint
from quorate.auth.access import NEEDS_ROOT
from quorate.errors import INTERNAL, RpcError
from quorate.ports import Completion
from quorate.proto.rpc_pb2 import (
    CompactionRequest,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
)
from quorate.server.core import Server
from quorate.server.quota import KEY_COST, cost_of_txn
from quorate.wire.protobuf import BYTES, FieldScanner
from quorate.wire.rpc import Router, ServerCall


class KVService:
    """The KV service over a server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._max_txn_ops = server.config.max_txn_ops

    def register(self, router: Router, guard: Guard) -> None:
        """Add the service's methods to the router."""
        prefix = "/etcdserverpb.KV/"
        add_raw(router, guard, prefix + "Range", RangeRequest, self.range, LEARNER_SERIALIZABLE, logged=False)
        add_raw(router, guard, prefix + "Put", PutRequest, self.put)
        add_raw(router, guard, prefix + "DeleteRange", DeleteRangeRequest, self.delete_range)
        add_raw(router, guard, prefix + "Txn", TxnRequest, self.txn)
        add_raw(router, guard, prefix + "Compact", CompactionRequest, self.compact, need=NEEDS_ROOT)

    def range(self, call: ServerCall, request: RangeRequest, raw: bytes) -> None:
        """Serve Range."""
        error = check_range(request)
        if error is not None:
            # Range skips the strict look at its bytes until something is wrong with it.
            text = complaint(RangeRequest, raw)
            call.fail(error if text is None else RpcError(INTERNAL, "grpc: error unmarshalling request: " + text))
            return
        if not request.range_end and b"\x12\x00" in raw and _has_empty_range_end(raw):
            request.range_end = b"\0"
        self._server.range(request, call)

    def put(self, call: ServerCall, request: PutRequest, raw: bytes) -> None:
        """Serve Put."""
        key = request.key
        value = request.value
        if not self._server.quota_check(KEY_COST + len(key) + len(value)):
            call.fail(errors.NO_SPACE)
        elif not key:
            call.fail(errors.EMPTY_KEY)
        elif value and request.ignore_value:
            call.fail(errors.VALUE_PROVIDED)
        elif request.ignore_lease and request.lease:
            call.fail(errors.LEASE_PROVIDED)
        else:
            self._server.put(request, raw, call)

    def delete_range(self, call: ServerCall, request: DeleteRangeRequest, raw: bytes) -> None:
        """Serve DeleteRange."""
        if not request.key:
            call.fail(errors.EMPTY_KEY)
        else:
            self._server.delete_range(request, raw, call)

    def txn(self, call: ServerCall, request: TxnRequest, raw: bytes) -> None:
        """Serve Txn."""
        self.start_txn(request, raw, call)

    def start_txn(self, request: TxnRequest, raw: bytes, done: Completion) -> None:
        """Check and run a transaction for whoever asks: a client, or a service here that is built on transactions."""
        form = examine_txn(request, self._max_txn_ops)
        cost = form.cost if form.error is None else cost_of_txn(request)
        if not self._server.quota_check(cost):
            done.fail(errors.NO_SPACE)
        elif form.error is not None:
            done.fail(form.error)
        elif form.duplicate:
            done.fail(errors.DUPLICATE_KEY)
        else:
            self._server.txn(request, raw, done)

    def compact(self, call: ServerCall, request: CompactionRequest, raw: bytes) -> None:
        """Serve Compact."""
        self._server.compact(request, raw, call)


def _has_empty_range_end(raw: bytes) -> bool:
    # The last occurrence of a field counts.
    scanner = FieldScanner(raw)
    found = False
    try:
        while scanner.next():
            if scanner.number == 2 and scanner.wire == BYTES:
                found = scanner.start == scanner.end
    except ValueError:
        return False
    return found
