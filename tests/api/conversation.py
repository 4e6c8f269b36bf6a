"""A client that writes down what a server answers, so that two servers can be compared."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict

QUIET_S = 0.25
_HIDDEN = {"cluster_id", "member_id", "raft_term", "leader", "raftTerm", "raftIndex", "raftAppliedIndex"}


def plain(message: Any, own_id: int = 0) -> Any:
    """Return a message as plain data without what differs between any two servers."""
    fields = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return _scrub(fields, str(own_id))


def _scrub(value: Any, own_id: str) -> Any:
    if isinstance(value, dict):
        return {name: "*" if name in _HIDDEN else _scrub(item, own_id) for name, item in value.items()}
    if isinstance(value, list):
        return [_scrub(item, own_id) for item in value]
    return "own id" if value == own_id and own_id != "0" else value


class Client:
    """A gRPC client of one server, without any of a client library's wisdom."""

    def __init__(self, endpoint: str) -> None:
        self.channel = grpc.insecure_channel(endpoint, options=[("grpc.max_receive_message_length", -1)])
        self.own_id = 0

    def call(
        self, path: str, request: Any, response_type: Any, metadata: tuple[tuple[str, str | bytes], ...] = ()
    ) -> Any:
        """Make a unary call; return the response, or (code, text)."""
        raw = request if isinstance(request, bytes) else request.SerializeToString()
        method = self.channel.unary_unary(path, lambda data: data, response_type.FromString)
        try:
            return method(raw, timeout=10, metadata=metadata)
        except grpc.RpcError as error:
            return (error.code().name, error.details())

    def note(self, path: str, request: Any, response_type: Any, metadata: Any = ()) -> Any:
        """Return what a unary call gives, as plain data."""
        answer = self.call(path, request, response_type, metadata)
        return answer if isinstance(answer, tuple) else plain(answer, self.own_id)

    def talk(self, path: str, response_type: Any, metadata: Any = ()) -> Stream:
        """Open a stream."""
        return Stream(self, path, response_type, metadata)

    def close(self) -> None:
        """Close the channel."""
        self.channel.close()


class Stream:
    """A bidirectional stream: send, and take what has come when nothing comes any more."""

    def __init__(self, client: Client, path: str, response_type: Any, metadata: Any) -> None:
        self._client = client
        self._requests: queue.Queue[bytes | None] = queue.Queue()
        self._answers: queue.Queue[Any] = queue.Queue()
        method = client.channel.stream_stream(path, lambda data: data, response_type.FromString)
        self._call = method(self._iterate(), timeout=60, metadata=metadata)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _iterate(self) -> Iterator[bytes]:
        while (request := self._requests.get()) is not None:
            yield request

    def _read(self) -> None:
        try:
            for answer in self._call:
                self._answers.put(plain(answer, self._client.own_id))
            self._answers.put("the end")
        except grpc.RpcError as error:
            self._answers.put((error.code().name, error.details()))

    def send(self, request: Any) -> None:
        """Send one message."""
        self._requests.put(request if isinstance(request, bytes) else request.SerializeToString())

    def half_close(self) -> None:
        """Send nothing more."""
        self._requests.put(None)

    def take(self, quiet_s: float = QUIET_S) -> list[Any]:
        """Return what came until nothing came for a while."""
        answers = []
        while True:
            try:
                answers.append(self._answers.get(timeout=quiet_s))
            except queue.Empty:
                return answers

    def ask(self, request: Any) -> list[Any]:
        """Send one message and take what comes of it."""
        self.send(request)
        return self.take()

    def cancel(self) -> None:
        """Reset the stream."""
        self._requests.put(None)
        self._call.cancel()
        self._thread.join(5)
