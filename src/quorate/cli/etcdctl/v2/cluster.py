"""How a v2 command reaches the cluster: endpoints and files from flags or variables, then v3 calls to whoever answers.

v2 asks any member, with a leader or without, so lists are asked for as the member itself knows them.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import TypeVar
from urllib.parse import urlsplit

from quorate import errors
from quorate.cli.etcdctl.context import ExitError
from quorate.cli.etcdctl.session import CallError, Session, handshake_text
from quorate.cli.etcdctl.v2.app import Values, variable
from quorate.client import methods
from quorate.client.methods import Message, Method
from quorate.client.target import TlsOptions
from quorate.proto import rpc_pb2 as pb
from quorate.runtime.duration import parse_duration

DEFAULT = "http://127.0.0.1:2379,http://127.0.0.1:4001"
KEEPALIVE_NS = (10 * 10**9, 6 * 10**9)
MESSAGE_BYTES = (2 << 20, 2**31 - 1)
PORTS = {"http": 80, "https": 443}
Answer = TypeVar("Answer")


class ClusterError(Exception):
    """No endpoint answered; `problems` are theirs in turn, `dial` tells that none was even reached."""

    def __init__(self, problems: list[str], dial: bool) -> None:
        self.problems = problems
        self.dial = dial
        listed = "".join([f"; error #{number}: {text}\n" for number, text in enumerate(problems)])
        super().__init__("client: etcd cluster is unavailable or misconfigured" + listed)

    @property
    def detail(self) -> str:
        """A line for each endpoint."""
        return "".join([f"error #{number}: {text}\n" for number, text in enumerate(self.problems)])


class RefusedError(Exception):
    """A server said no; the text is its."""


class Cluster:
    """The members behind the endpoints."""

    def __init__(self, values: Values) -> None:
        """Read flags, variables and files. Raises OSError with Go's text for a file that is not there."""
        self.endpoints = _endpoints(values)
        self.tls = _tls(values)
        self.call_s = parse_duration(values.get("timeout", "2s")) / 1e9 or None
        self.total_s = parse_duration(values.get("total-timeout", "5s")) / 1e9 or None
        self._user = variable(values, "username")
        self._password = ""
        if self._user:
            self._user, colon, self._password = self._user.partition(":")
            if not colon:
                from quorate.cli.etcdctl.settings import ask

                self._password = ask("Password: ")
        if "debug" in values:
            sys.stderr.write(f"Cluster-Endpoints: {', '.join(self.endpoints)}\n")

    def members(self) -> pb.MemberListResponse:
        """Return the members, by id. Raises ClusterError, RefusedError."""
        answer = self.call(methods.MEMBER_LIST, pb.MemberListRequest())
        answer.members.sort(key=lambda each: each.ID)
        return answer

    def leader(self) -> int:
        """Return the leader's id. Raises ClusterError, RefusedError."""
        status = self.call(methods.STATUS, pb.StatusRequest())
        if not status.leader:
            raise ClusterError([f"client: etcd member {self.endpoints[0]} has no leader"], False)
        return status.leader

    def call(self, method: Method[Answer], request: Message) -> Answer:
        """Call the first endpoint that answers. Raises ClusterError, RefusedError."""
        problems = []
        dial = True
        until_s = None if self.total_s is None else time.monotonic() + self.total_s
        for endpoint in self.endpoints:
            try:
                return self._ask(endpoint, method, request)
            except OSError as error:
                problems.append(dial_text(endpoint, error))
            except CallError as error:
                dial = False
                if error.code not in (errors.UNAVAILABLE, errors.DEADLINE_EXCEEDED):
                    raise RefusedError(error.text) from None
                if error.text == errors.NO_LEADER.text:
                    problems.append(f"client: etcd member {endpoint} has no leader")
                else:
                    problems.append(f"client: endpoint {endpoint} exceeded header timeout")
            if until_s is not None and time.monotonic() > until_s:
                break
        raise ClusterError(problems, dial)

    def _ask(self, endpoint: str, method: Method[Answer], request: Message) -> Answer:
        host, port = host_port(endpoint)
        socket.create_connection((host, port), self.call_s).close()
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        scheme = "https" if endpoint.startswith("https://") else "http"
        limit_s = self.call_s or self.total_s
        dial_s = limit_s or 30.0
        session = Session(
            [f"{scheme}://{address}"], self.tls, True, dial_s, KEEPALIVE_NS, MESSAGE_BYTES, "etcd-client", quiet=True
        )
        try:
            if self._user:
                session.log_in(self._user, self._password)
            return session.call(method, request, limit_s)
        except CallError as error:
            if session.dial_error is not None:
                raise OSError(handshake_text(session.dial_error) or str(session.dial_error)) from None
            raise error from None
        finally:
            session.close()


def host_port(endpoint: str) -> tuple[str, int]:
    """Return where an http or https URL leads."""
    parts = urlsplit(endpoint)
    return (parts.hostname or "").removesuffix("."), parts.port or PORTS.get(parts.scheme, 80)


def dial_text(url: str, error: OSError) -> str:
    """Return a failure to connect in Go's words."""
    if reason := handshake_text(error):
        return reason
    if error.errno is None or not error.strerror:
        return str(error)
    host, port = host_port(url)
    if isinstance(error, socket.gaierror):
        return f"dial tcp: lookup {host}: no such host"
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"dial tcp {address}: connect: {os.strerror(error.errno).lower()}"


def _endpoints(values: Values) -> list[str]:
    domain = variable(values, "discovery-srv")
    found: list[str] = []
    if domain:
        from quorate.cli.etcdctl.settings import discovered, secure

        try:
            found = discovered(domain, os.environ.get("ETCDCTL_DISCOVERY_SRV_NAME", ""))
        except ExitError as error:
            raise OSError(error.text) from None
        found = secure(found, bool(variable(values, "insecure-discovery")))
    found = found or (variable(values, "endpoints", "endpoint", "peers") or DEFAULT).split(",")
    return [each if "://" in each else f"http://{each}" for each in found]


def _tls(values: Values) -> TlsOptions:
    names = [variable(values, name) for name in ("ca-file", "cert-file", "key-file")]
    if bool(names[1]) != bool(names[2]):
        raise OSError(f"KeyFile and CertFile must both be present[key: {names[2]}, cert: {names[1]}]")
    for name in names:
        if name and not os.path.exists(name):
            raise OSError(f"open {name}: no such file or directory")
    domain = "" if variable(values, "insecure-discovery") else variable(values, "discovery-srv")
    return TlsOptions(names[0], names[1], names[2], False, domain)
