"""What is said of slow requests: by the node itself where the disk is slow, and field by field."""

from __future__ import annotations

import re
from typing import Any

from quorate.errors import LEASE_NOT_FOUND
from quorate.ports import NullLog
from quorate.proto.rpc_pb2 import Compare, PutRequest, RangeRequest, RequestOp, TxnRequest
from quorate.server import entry as kinds
from quorate.server.gotext import loggable
from quorate.server.slow import SlowLog
from quorate.server.stats import ServerStats
from tests.server.world import MS, SECOND, FakeLoop


class Lines(NullLog):
    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def info(self, caller: str, msg: str, **fields: object) -> None:
        self.lines.append(("info", msg, fields))

    def warn(self, caller: str, msg: str, **fields: object) -> None:
        self.lines.append(("warn", msg, {name: str(value) for name, value in fields.items()}))


def make() -> tuple[SlowLog, Lines, ServerStats, FakeLoop]:
    loop, log, stats = FakeLoop(), Lines(), ServerStats()
    return SlowLog(loop, log, 100 * MS, stats), log, stats, loop


def test_the_text_of_messages_is_go_s() -> None:
    put = PutRequest(key=b'a"\n\x00\xff', value=b"secret", lease=-1, prev_kv=True)
    assert loggable(put) == 'key:"a\\"\\n\\000\\377" value_size:6 lease:-1 prev_kv:true '
    txn = TxnRequest(
        compare=[Compare(result=Compare.GREATER, target=Compare.VALUE, key=b"k", value=b"hidden")],
        success=[RequestOp(request_put=put), RequestOp(request_range=RangeRequest(key=b"r", limit=3))],
    )
    assert loggable(txn) == (
        'compare:<result:GREATER target:VALUE key:"k" value_size:6 > '
        'success:<request_put:<key:"a\\"\\n\\000\\377" value_size:6 lease:-1 prev_kv:true > '
        'request_range:<key:"r" limit:3 > > failure:<>'
    )


def test_a_slow_entry_and_a_refused_one() -> None:
    slow, log, stats, _ = make()
    request = PutRequest(key=b"k", value=b"v")
    data = kinds.entry_data(kinds.PUT, request.SerializeToString(), b"\xa2\x06\x02\x08\x05")
    slow.entry(kinds.PUT, request, data, b"123", None, 150 * MS)
    slow.entry(kinds.PUT, request, data, b"", LEASE_NOT_FOUND, MS)
    text = 'header:<ID:5 > put:<key:"k" value_size:1 >'
    assert log.lines == [
        (
            "warn",
            "apply request took too long",
            {"took": "150ms", "expected-duration": "100ms", "prefix": "", "request": text, "response": "size:3"},
        ),
        (
            "warn",
            "failed to apply request",
            {"took": "1ms", "request": text, "response": "", "error": "lease not found"},
        ),
    ]
    assert stats.slow_apply_total == 1


def test_the_trace_of_a_write_and_of_a_read() -> None:
    slow, log, _, loop = make()
    slow.write(kinds.PUT, PutRequest(key=b"k", value=b"v"), b"1234", SECOND, SECOND + 140 * MS, SECOND + 150 * MS)
    level, message, fields = log.lines.pop()
    number = re.fullmatch(r"trace\[(\d+)\] put", message)
    assert level == "info"
    assert number
    assert list(fields) == ["detail", "duration", "start", "end", "steps", "step_count"]
    assert fields["detail"] == "{key:k; req_size:6; response_size:4; }"
    assert fields["duration"] == "150ms"
    assert fields["end"].time_ns - fields["start"].time_ns == 150 * MS
    assert fields["steps"] == [f"trace[{number[1]}] 'process raft request'  (duration: 140ms)"]
    loop.advance(10 * SECOND)
    now = loop.monotonic_ns()
    slow.read(RangeRequest(key=b"a", range_end=b"b"), b"12", None, now - 300 * MS, now - 10 * MS)
    (_, text, warned), (_, trace, traced) = log.lines
    assert text == "apply request took too long"
    assert (warned["prefix"], warned["request"]) == ("read-only range ", 'key:"a" range_end:"b" ')
    assert re.fullmatch(r"trace\[\d+\] range", trace)
    assert [step.partition("'")[2] for step in traced["steps"]] == [
        "agreement among raft nodes before linearized reading'  (duration: 290ms)"
    ]
