"""A client that sends what a well-behaved one never would: requests made with the h2 library, and raw bytes."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.events
import h2.exceptions

RANGE = "/etcdserverpb.KV/Range"


@dataclass
class Answer:
    """How one request ended: HTTP status, gRPC status and message, or the code of a reset or GOAWAY, or a close."""

    http: str | None = None
    status: str | None = None
    message: str | None = None
    reset: int | None = None
    goaway: int | None = None
    closed: bool = False


def prefixed(payload: bytes, flag: int = 0, length: int | None = None) -> bytes:
    """Return a gRPC message with a prefix that may lie."""
    size = len(payload) if length is None else length
    return bytes((flag,)) + size.to_bytes(4, "big") + payload


def request(
    port: int,
    body: bytes,
    path: str = RANGE,
    headers: list[tuple[str, str]] | None = None,
    method: str = "POST",
    content_type: str | None = "application/grpc",
    timeout: float = 10,
) -> Answer:
    """Send one request and return how it ended."""
    config = h2.config.H2Configuration(client_side=True, validate_outbound_headers=False, header_encoding="utf-8")
    link = h2.connection.H2Connection(config)
    answer = Answer()
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as sock:
        link.initiate_connection()
        fields = [(":method", method), (":scheme", "http"), (":authority", "127.0.0.1"), (":path", path)]
        if content_type is not None:
            fields.append(("content-type", content_type))
        fields += [("te", "trailers"), *(headers or [])]
        link.send_headers(1, fields, end_stream=not body)
        sock.sendall(link.data_to_send())
        deadline = time.monotonic() + timeout
        left = body
        while time.monotonic() < deadline:
            while left and (window := min(link.local_flow_control_window(1), link.max_outbound_frame_size)) > 0:
                link.send_data(1, left[:window], end_stream=len(left) <= window)
                left = left[window:]
            try:
                sock.sendall(link.data_to_send())
                data = sock.recv(65536)
            except TimeoutError:
                raise
            except OSError:
                answer.closed = True
                return answer
            if not data:
                answer.closed = True
                return answer
            try:
                events = link.receive_data(data)
            except h2.exceptions.ProtocolError:
                answer.closed = True
                return answer
            if _read(link, events, answer):
                return answer
            if answer.http or answer.status:
                left = b""  # it has answered before the whole body was there
    raise TimeoutError(answer)


def _read(link: h2.connection.H2Connection, events: list[object], answer: Answer) -> bool:
    for event in events:
        if isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
            fields = dict(event.headers)
            answer.http = fields.get(":status", answer.http)
            answer.status = fields.get("grpc-status", answer.status)
            if "grpc-message" in fields:
                answer.message = unquote(fields["grpc-message"])
        elif isinstance(event, h2.events.DataReceived):
            link.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            answer.reset = int(event.error_code)
            return True
        elif isinstance(event, h2.events.ConnectionTerminated):
            answer.goaway = int(event.error_code)
            return True
        elif isinstance(event, h2.events.StreamEnded):
            return True
    return False


def raw(port: int, data: bytes, timeout: float = 10, finish: bool = False) -> bytes:
    """Send bytes and return everything up to the server's close; `finish` closes our side first."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as sock:
        try:
            sock.sendall(data)
            if finish:
                sock.shutdown(socket.SHUT_WR)
            while chunk := sock.recv(65536):
                answer += chunk
        except ConnectionError:
            pass
    return answer
