"""Streams through the gateway: watches, keepalives, snapshots, observers; bodies sent whole and in pieces."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import time
from typing import Any

import pytest

from tests.gateway.recorded import b64, of, put
from tests.gateway.twins import Conversation, Side

pytestmark = [pytest.mark.oracle, pytest.mark.process]


def do(side: Side, path: str, body: str) -> dict[str, Any]:
    answer = side.ask("POST", path, body.encode(), {})
    assert answer.status == 200, answer
    return dict(json.loads(answer.body))


def both(twins: list[Side], path: str, body: str) -> None:
    for side in twins:
        do(side, path, body)


def test_watch_sends_a_line_an_event(twins: list[Side]) -> None:
    talks = []
    for side in twins:
        talk = side.open("/v3/watch")
        talk.send((of(create_request={"key": b64("w"), "range_end": b64("x"), "prev_kv": True})).encode())
        talk.end()
        talks.append(talk)
    assert talks[0].line() == talks[1].line()
    for path, body in (
        ("/v3/kv/put", put("w1", "a")),
        ("/v3/kv/put", put("w1", "b")),
        ("/v3/kv/deleterange", of(key=b64("w1"))),
        ("/v3/kv/txn", of(success=[{"request_put": {"key": b64("w2")}}, {"request_put": {"key": b64("w3")}}])),
    ):
        both(twins, path, body)
        lines = [talk.line() for talk in talks]
        assert lines[1] == lines[0]
        assert '"events":[{' in lines[1]
    for talk in talks:
        talk.close()


def test_watch_takes_several_requests_from_one_body(twins: list[Side]) -> None:
    body = (
        of(create_request={"key": b64("a"), "watch_id": "7"})
        + of(create_request={"key": b64("b"), "watch_id": 7})
        + "\n"
        + of(progress_request={})
        + of(cancel_request={"watch_id": 7})
        + of(cancel_request={"watch_id": "99"})
        + of(createRequest={"key": b64("c"), "filters": ["NOPUT", 1], "start_revision": "1000"})
    )
    lines = []
    for side in twins:
        talk = side.open("/v3/watch")
        talk.send(body.encode())
        talk.end()
        lines.append(sorted(talk.line() for _ in range(4)))  # the order of these is not fixed in real etcd
        talk.close()
    assert lines[1] == lines[0]


def test_watch_of_a_compacted_revision_ends_in_words(twins: list[Side]) -> None:
    for number in range(5):
        both(twins, "/v3/kv/put", put("c", str(number)))
    lines = []
    for side in twins:
        revision = do(side, "/v3/kv/range", of(key=b64("c")))["header"]["revision"]
        do(side, "/v3/kv/compaction", of(revision=revision))
        talk = side.open("/v3/watch")
        talk.send(of(create_request={"key": b64("c"), "start_revision": 1}).encode())
        talk.end()
        lines.append([talk.line(), talk.line()])
        talk.close()
    assert lines[1] == lines[0]
    assert '"compact_revision":' in lines[1][1]


def test_requests_come_in_pieces_while_events_go_out(twins: list[Side]) -> None:
    """Ours answers before the body has ended; real etcd does so over HTTP/2 alone."""
    ours = twins[1]
    talk = Conversation(ours, "/v3/watch")
    for piece in (b'{"create_requ', b'est":{"key":"cA=', b'=","watch_id":"3"}}', b' {"create_request":{"key":"cQ=="'):
        talk.send(piece)
    assert '"watch_id":"3","created":true' in talk.line()
    do(ours, "/v3/kv/put", put("p", "1"))
    assert '"watch_id":"3","events":[{"kv":{"key":"cA=="' in talk.line()
    talk.send(b"}}")
    assert '"created":true' in talk.line()
    talk.send(of(cancel_request={"watch_id": 3}).encode())
    assert '"watch_id":"3","canceled":true' in talk.line()
    talk.end()
    do(ours, "/v3/kv/put", put("q", "1"))
    assert '"events":[{"kv":{"key":"cQ=="' in talk.line()
    talk.close()


def test_a_client_that_hangs_up_leaves_no_watch_behind(twins: list[Side]) -> None:
    ours = twins[1]
    talk = ours.open("/v3/watch")
    talk.send(of(create_request={"key": b64("gone")}).encode())
    talk.end()
    talk.line()
    before = _streams(ours)
    talk.close()
    deadline = time.monotonic() + 20
    while _streams(ours) >= before:
        assert time.monotonic() < deadline, "the stream is still there"
        time.sleep(0.02)


def _streams(side: Side) -> int:
    for line in side.ask("GET", "/metrics", b"", {}).body.decode().splitlines():
        if line.startswith("etcd_debugging_mvcc_watch_stream_total "):
            return int(float(line.split()[1]))
    raise AssertionError("no metric of watch streams")


def test_half_of_a_body_and_silence(twins: list[Side]) -> None:
    """A request that breaks off is no request; the server goes on."""
    for side in twins:
        for path in ("/v3/watch", "/v3/kv/put"):
            with socket.create_connection(("127.0.0.1", side.member.client_port), 20) as plain:
                head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
                plain.sendall(head.encode() + b'{"create_request":{"key"')
        assert do(side, "/v3/kv/range", of(key=b64("c")))["count"] == "1"


def test_snapshot_is_lines_of_blobs(twins: list[Side]) -> None:
    keys = []
    for side in twins:
        answer = side.ask("POST", "/v3/maintenance/snapshot", b"{}", {})
        assert answer.status == 200
        assert answer.body.endswith(b"}}\n")
        lines = [json.loads(line)["result"] for line in answer.body.splitlines()]
        file = b"".join(base64.b64decode(line["blob"]) for line in lines)
        assert hashlib.sha256(file[:-32]).digest() == file[-32:]
        assert int(lines[0].get("remaining_bytes", 0)) + len(base64.b64decode(lines[0]["blob"])) == len(file) - 32
        members = [sorted(set(line) - {"version"}) for line in (lines[0], lines[-1])]
        keys.append((members, side.seen(answer)[1]))
    assert keys[1] == keys[0]


def test_hash_of_keys_has_the_path_of_later_releases(twins: list[Side]) -> None:
    """3.5.1 hides HashKV behind Hash; since 3.5.10 it has a path."""
    real, ours = twins
    assert real.ask("POST", "/v3/maintenance/hashkv", b"{}", {}).status == 404
    said = do(ours, "/v3/maintenance/hashkv", "{}")
    assert said["hash"] > 0
    assert int(said["hash_revision"]) == int(said["header"]["revision"])
