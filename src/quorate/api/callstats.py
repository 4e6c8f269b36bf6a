"""The line "request stats": a unary call that took longer than --warning-unary-request-duration, or any at level debug.

    {"msg":"request stats","start time":...,"time spent":"310ms","remote":"127.0.0.1:4000",
     "response type":"/etcdserverpb.KV/Put","request count":1,"request size":9,"response count":0,"response size":28,
     "request content":"key:\\"a\\" value_size:3"}

Counts and sizes are -1 for methods that are not KV's. Source: etcd's server/etcdserver/api/v3rpc/interceptor.go.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError, Message

from quorate.measure import format_duration
from quorate.ports import Log, Loop, Moment
from quorate.proto.rpc_pb2 import (
    DeleteRangeRequest,
    DeleteRangeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    TxnRequest,
    TxnResponse,
)
from quorate.server.gotext import loggable
from quorate.wire.rpc import CallObserver, Method, ServerCall

_CALLER: Final = "v3rpc/interceptor.go"

_MESSAGES: Final[dict[bytes, tuple[type[Message], type[Message]]]] = {
    b"/etcdserverpb.KV/Range": (RangeRequest, RangeResponse),
    b"/etcdserverpb.KV/Put": (PutRequest, PutResponse),
    b"/etcdserverpb.KV/DeleteRange": (DeleteRangeRequest, DeleteRangeResponse),
    b"/etcdserverpb.KV/Txn": (TxnRequest, TxnResponse),
}


class Numbers:
    """What a line says of request and response; -1 where nothing is known."""

    def __init__(self) -> None:
        self.request_count = -1
        self.request_size = -1
        self.response_count = -1
        self.response_size = -1
        self.content = ""


class CallStats(CallObserver):
    """Writes the line. `debug`: of every call, at level debug."""

    def __init__(self, loop: Loop, log: Log, debug: bool) -> None:
        self._loop = loop
        self._log = log
        self._debug = debug

    def began(self, call: ServerCall, method: Method) -> None:
        """Nothing is said of a beginning."""

    def ended(self, call: ServerCall, method: Method, code: int, took_ns: int) -> None:
        """Only slow calls are told apart."""

    def slow(
        self,
        call: ServerCall,
        method: Method,
        request: bytes,
        response: bytes | None,
        code: int,  # noqa: ARG002
        took_ns: int,
    ) -> None:
        """Write the line."""
        if method.unary is None:
            return
        numbers = count(method.path, request, response)
        fields: dict[str, object] = {
            "start time": Moment(self._loop.time_ns() - took_ns),
            "time spent": format_duration(took_ns),
            "remote": call.peer(),
            "response type": method.path.decode(),
            "request count": numbers.request_count,
            "request size": numbers.request_size,
            "response count": numbers.response_count,
            "response size": numbers.response_size,
            "request content": numbers.content,
        }
        if self._debug:
            self._log.debug(_CALLER, "request stats", **fields)
        else:
            self._log.warn(_CALLER, "request stats", **fields)


def count(path: bytes, request: bytes, response: bytes | None) -> Numbers:
    """Return the numbers of a call; `response` is None when it failed, which etcd sees as an empty one of its type."""
    numbers = Numbers()
    types = _MESSAGES.get(path)
    if types is None:
        return numbers
    try:
        asked = types[0].FromString(request)
        answered = types[1].FromString(response or b"")
    except DecodeError:
        return numbers
    numbers.request_count = 0
    numbers.request_size = len(request)
    numbers.response_count = 0
    numbers.response_size = 0 if response is None else len(response)
    numbers.content = loggable(asked)
    if isinstance(answered, RangeResponse):
        numbers.response_count = answered.count
    elif isinstance(answered, PutResponse):
        numbers.request_count = 1
    elif isinstance(answered, DeleteRangeResponse):
        numbers.response_count = answered.deleted
    elif isinstance(asked, TxnRequest) and isinstance(answered, TxnResponse):
        if response is None:
            numbers.request_size = 0
            numbers.content = ""
            return numbers
        ran = asked.success if answered.succeeded else asked.failure
        numbers.request_count = len(ran)
        numbers.request_size = sum([one.ByteSize() for one in ran])
    return numbers
