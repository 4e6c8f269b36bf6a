"""The gateway over TLS and HTTP/2, where requests and answers flow at the same time: real etcd and ours alike."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator

import h2.config
import h2.connection
import h2.events
import pytest

from tests.gateway.recorded import b64, of, put
from tests.gateway.twins import Side
from tests.tls.certs import Authority
from tests.tls.world import client_context, tls_member

pytestmark = [pytest.mark.oracle, pytest.mark.process]


class Http2:
    """One connection with one request."""

    def __init__(self, side: Side, context: ssl.SSLContext, path: str) -> None:
        self.side = side
        plain = socket.create_connection(("127.0.0.1", side.member.client_port), 20)
        self.socket = context.wrap_socket(plain, server_hostname="127.0.0.1")
        assert self.socket.selected_alpn_protocol() == "h2"
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.h2.send_headers(1, [(":method", "POST"), (":scheme", "https"), (":authority", "x"), (":path", path)])
        self.headers: dict[str, str] = {}
        self.data = b""
        self.ended = False
        self._flush()

    def _flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def send(self, body: str, end: bool = False) -> None:
        self.h2.send_data(1, body.encode(), end_stream=end)
        self._flush()

    def _receive(self) -> None:
        for event in self.h2.receive_data(self.socket.recv(65536)):
            if isinstance(event, h2.events.ResponseReceived):
                self.headers = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                self.data += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, 1)
            elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                self.ended = True
        self._flush()

    def line(self) -> str:
        """Read the next line, made comparable."""
        while b"\n" not in self.data:
            assert not self.ended, self.data
            self._receive()
        line, _, self.data = self.data.partition(b"\n")
        return self.side.normal(line.decode())

    def rest(self) -> tuple[dict[str, str], str]:
        """Read to the end."""
        while not self.ended:
            self._receive()
        return self.seen_headers(), self.side.normal(self.data.decode())

    def seen_headers(self) -> dict[str, str]:
        """Return what is comparable of the headers: over TLS real etcd repeats those of its own inner answer."""
        unlike = ("date", "content-length", "grpc-metadata-")
        return {name: value for name, value in self.headers.items() if not name.startswith(unlike)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Side], ssl.SSLContext]]:
    authority = Authority(tmp_path_factory.mktemp("ca"))
    flags = authority.issue("server", "server").flags()
    context = client_context(authority, alpn=("h2",))
    with tls_member("real", authority, flags) as real, tls_member("ours", authority, flags) as ours:
        yield [Side(real), Side(ours)], context


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v3/kv/put", put("a", "b")),
        ("/v3/kv/range", of(key=b64("a"))),
        ("/v3/kv/range", "{}"),
        ("/v3/kv/range", "bad"),
        ("/v3/nowhere", "{}"),
        ("/v3/lease/keepalive", of(ID=5) + of(ID=6)),
    ],
)
def test_one_request(world: tuple[list[Side], ssl.SSLContext], path: str, body: str) -> None:
    sides, context = world
    answers = []
    for side in sides:
        request = Http2(side, context, path)
        request.send(body, end=True)
        answers.append(request.rest())
        request.socket.close()
    assert answers[1] == answers[0]


def test_a_watch_while_its_body_goes_on(world: tuple[list[Side], ssl.SSLContext]) -> None:
    sides, context = world
    seen = []
    for side in sides:
        watch = Http2(side, context, "/v3/watch")
        lines = []
        for piece in ('{"create_requ', of(create_request={"key": b64("w"), "watch_id": 3})[13:]):
            watch.send(piece)
        lines.append(watch.line())
        change = Http2(side, context, "/v3/kv/put")
        change.send(put("w", "1"), end=True)
        assert json.loads(change.rest()[1])["header"]
        change.socket.close()
        lines.append(watch.line())
        watch.send(of(create_request={"key": b64("v")}))
        lines.append(watch.line())
        watch.send(of(cancel_request={"watch_id": 3}))
        lines.append(watch.line())
        watch.socket.close()
        seen.append((watch.seen_headers(), lines))
    assert seen[1] == seen[0]
