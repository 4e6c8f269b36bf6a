"""Calls to a cluster on plain sockets: one connection, moved to the next endpoint when it fails, until time is over.

What is repeated: reads after Unavailable, anything the server certainly did not process (`client.policy`). Each failed
unary call leaves the line on stderr that etcd's own client logs; `CallError.text` is what stands behind "Error: ".
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TypeVar

from quorate import errors
from quorate.client import methods
from quorate.client.direct import DirectCall, DirectConnection
from quorate.client.methods import Message, Method
from quorate.client.policy import backoff_s, client_limits, may_retry, stale_credentials
from quorate.client.target import Target, TlsOptions, parse_target, uses_tls
from quorate.errors import RpcError
from quorate.proto import rpc_pb2 as pb
from quorate.wire import grpc
from quorate.wire.headers import Field

Answer = TypeVar("Answer")

KNOWN = frozenset(each.text for each in vars(errors).values() if isinstance(each, RpcError))


class CallError(Exception):
    """A failed call."""

    def __init__(self, error: RpcError) -> None:
        self.code = error.code
        self.text = public_text(error)
        super().__init__(self.text)


def rpc_text(error: RpcError) -> str:
    """Return an error as grpc-go prints a status."""
    return f"rpc error: code = {errors.CODE_NAMES[error.code] if error.code < 17 else error.code} desc = {error.text}"


def public_text(error: RpcError) -> str:
    """Return an error as etcd's client gives it to callers: known texts stand alone."""
    if error.text in KNOWN or error in (grpc.DEADLINE, grpc.CANCELED):
        return error.text
    return rpc_text(error)


def zap(level: str, logger: str, caller: str, message: str, fields: Mapping[str, str | int]) -> None:
    """Write a log line as zap does; on a terminal, one for people."""
    if sys.stderr.isatty():
        from quorate.cli.etcdctl.people import show_log

        show_log(level, message, fields, sys.stderr)
        return
    import json

    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
    line: dict[str, str | int] = {"level": level, "ts": stamp}
    if logger:
        line["logger"] = logger
    line |= {"caller": caller, "msg": message, **fields}
    sys.stderr.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
    sys.stderr.flush()


def handshake_text(error: Exception) -> str:
    """Return what went wrong with TLS, in Go's words; "" for an error that is none of TLS."""
    if "ssl" not in sys.modules:
        return ""
    import ssl

    if not isinstance(error, ssl.SSLError):
        return ""
    from quorate.runtime.tls.words import in_go_words

    # 3.5 was built with a Go that does not say the first words.
    return in_go_words(error).removeprefix("tls: failed to verify certificate: ")


def dial_text(error: Exception, endpoint: str) -> str:
    """Return why a connection could not be made, in grpc-go's words."""
    if reason := handshake_text(error):
        return f'last connection error: connection error: desc = "transport: authentication handshake failed: {reason}"'
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        address = endpoint.rpartition("://")[2]
        text = f"dial tcp {address}: connect: {error.strerror.lower()}"
        if error.errno < 0:  # what getaddrinfo says
            text = f"dial tcp: lookup {address.rpartition(':')[0]}: no such host"
    return f'last connection error: connection error: desc = "transport: Error while dialing: {text}"'


class Session:
    """One client."""

    def __init__(
        self,
        endpoints: list[str],
        tls: TlsOptions | None,
        configured: bool,
        dial_timeout_s: float,
        keepalive_ns: tuple[int, int],
        message_bytes: tuple[int, int],
        log_name: str,
        quiet: bool = False,
    ) -> None:
        self.endpoints = endpoints
        self._quiet = quiet
        self._tls = tls
        self._with_tls = uses_tls(endpoints[0], configured)
        self._dial_timeout_s = dial_timeout_s
        self._max_send_bytes = message_bytes[0]
        self._limits = client_limits(*keepalive_ns)
        self._limits.max_receive_bytes = message_bytes[1]
        self._log_name = log_name
        self._conn: DirectConnection | None = None
        self._at = 0
        self._user = ""
        self._password = ""
        self._headers: list[Field] = []
        self.dial_error: Exception | None = None
        self._dialled = ""

    # Connections

    def connection(self, until_s: float | None) -> DirectConnection:
        """Return a usable connection, trying until the time is over. Raises RpcError DEADLINE."""
        attempt = 0
        while True:
            conn = self._conn
            if conn is not None and not conn.http.closed and not conn.http.draining:
                return conn
            if conn is not None:
                self.leave()
            try:
                self._conn = self._connect(self.endpoints[self._at % len(self.endpoints)], until_s)
                self.dial_error = None
                continue
            except (OSError, ValueError) as error:
                self.dial_error = error
                self._dialled = self.endpoints[self._at % len(self.endpoints)]
                self._at += 1
                attempt += 1
            pause_s = 0.0 if attempt < len(self.endpoints) else backoff_s(attempt - len(self.endpoints))
            if until_s is not None:
                left_s = until_s - time.monotonic()
                if left_s <= pause_s:
                    time.sleep(max(left_s, 0.0))
                    raise grpc.DEADLINE
            time.sleep(pause_s)

    def _connect(self, endpoint: str, until_s: float | None) -> DirectConnection:
        parsed = parse_target(endpoint, self._with_tls)
        target = Target(parsed.name, parsed.host, parsed.port, parsed.path, self._with_tls)
        limit_s = self._dial_timeout_s
        if until_s is not None:
            limit_s = max(min(limit_s, until_s - time.monotonic()), 0.001)
        return DirectConnection(target, self._tls, self._limits, limit_s)

    def leave(self) -> None:
        """Take the next endpoint from now on."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None
            self._at += 1

    def close(self) -> None:
        """Close the connection."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def pump(self, seconds: float) -> None:
        """Serve open calls for a while."""
        if self._conn is None:
            time.sleep(seconds)
        else:
            self._conn.pump(time.monotonic() + seconds, seconds)

    # Calls

    def log_in(self, user: str, password: str) -> None:
        """Get a token; go on without one when the server knows no users. Raises CallError."""
        self._user, self._password = user, password
        try:
            self._authenticate(time.monotonic() + self._dial_timeout_s)
        except RpcError as error:
            raise CallError(error) from None

    def _authenticate(self, until_s: float | None) -> None:
        request = pb.AuthenticateRequest(name=self._user, password=self._password)
        self._headers = []
        try:
            answer = self._once(methods.AUTHENTICATE, request, until_s)
        except RpcError as error:
            self._warn(error)
            if error.text == errors.AUTH_NOT_ENABLED.text:
                self._user = ""
                return
            raise
        self._headers = [(b"token", answer.token.encode())]

    def call(self, method: Method[Answer], request: Message, limit_s: float | None = None) -> Answer:
        """Make a unary call. Raises CallError. Without a limit it waits for as long as it takes."""
        until_s = None if limit_s is None else time.monotonic() + limit_s
        attempt = 0
        while True:
            try:
                return self._once(method, request, until_s)
            except Refused as refused:
                error, again = refused.error, True
            except RpcError as failed:
                error, again = failed, may_retry(failed, False, method.read)
            self._warn(error, attempt)
            if self._user and stale_credentials(error) and attempt < 2:
                try:
                    self._authenticate(until_s)
                except RpcError as failed:
                    raise CallError(failed) from None
            elif not again or error is grpc.DEADLINE:
                raise CallError(error)
            else:
                self.leave()
                time.sleep(backoff_s(attempt))
            attempt += 1

    def _once(self, method: Method[Answer], request: Message, until_s: float | None) -> Answer:
        data = request.SerializeToString()
        if len(data) > self._max_send_bytes:
            text = f"trying to send message larger than max ({len(data)} vs. {self._max_send_bytes})"
            raise RpcError(errors.RESOURCE_EXHAUSTED, text)
        conn = self.connection(until_s)
        if until_s is not None and time.monotonic() >= until_s:
            raise grpc.DEADLINE
        headers = self._headers
        if until_s is not None:
            left_ns = max(int((until_s - time.monotonic()) * 1e9), 1)
            headers = [*headers, (b"grpc-timeout", grpc.format_timeout(left_ns))]
        call = conn.start(method, headers)
        call.call.send_last(data)
        try:
            answer = call.next(until_s)
            if answer is None or call.next(until_s) is not None:
                raise grpc.TRUNCATED
        except RpcError as error:
            if call.unprocessed:
                raise Refused(error) from None
            raise
        return method.decode(answer)

    def open(
        self, method: Method[Answer], headers: list[Field] | None = None, limit_s: float | None = None
    ) -> DirectCall:
        """Open a stream. Raises CallError."""
        try:
            conn = self.connection(None if limit_s is None else time.monotonic() + limit_s)
        except RpcError as error:
            raise CallError(error) from None
        return conn.start(method, [*self._headers, *(headers or [])])

    def _warn(self, error: RpcError, attempt: int = 0) -> None:
        if self._quiet:
            return
        text = rpc_text(error)
        if error is grpc.DEADLINE and self.dial_error and self._conn is None:
            code = text.partition(" desc = ")[0]
            text = f"{code} desc = latest balancer error: {dial_text(self.dial_error, self._dialled)}"
        fields: dict[str, str | int] = {
            "target": f"etcd-endpoints://{id(self):#x}/{self.endpoints[0]}",
            "attempt": attempt,
            "error": text,
        }
        zap("warn", self._log_name, "v3/retry_interceptor.go:65", "retrying of unary invoker failed", fields)


class Refused(Exception):  # noqa: N818
    """The server certainly did nothing."""

    def __init__(self, error: RpcError) -> None:
        super().__init__(error.text)
        self.error = error
