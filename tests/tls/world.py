"""Members that speak TLS, as processes (real and ours) and in this process."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from quorate.proto.rpc_pb2 import PutRequest, PutResponse
from quorate.runtime.log import ZapLog
from quorate.runtime.logout import FileOutput
from quorate.runtime.member import MemberThread
from quorate.runtime.settings import MemberSettings
from quorate.runtime.tls.info import TlsInfo
from quorate.runtime.urls import parse_urls
from tests.cluster.harness import Cluster
from tests.oracle import Member
from tests.tls.certs import Authority, Pair


def client_context(authority: Authority | None, pair: Pair | None = None, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """Return a client's context; without an authority every server is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cafile=str(authority.cert))
    if pair is not None:
        context.load_cert_chain(str(pair.cert), str(pair.key))
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def https_get(port: int, path: str, context: ssl.SSLContext, host: str = "127.0.0.1") -> tuple[int, bytes]:
    """GET; raises OSError."""
    connection = http.client.HTTPSConnection(host, port, timeout=10, context=context)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def served(port: int, context: ssl.SSLContext) -> bool:
    """Tell whether a client with this context gets an answer."""
    try:
        return https_get(port, "/version", context)[0] in (200, 404)
    except (OSError, http.client.HTTPException):
        return False


def until(what: Callable[[], Any], seconds: float = 15) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)
    return found


class TlsMember(Member):
    """A process whose clients (and with `peers` the other members) speak TLS; etcdctl gets the client's pair."""

    def __init__(
        self,
        kind: str,
        authority: Authority,
        flags: list[str] | None = None,
        name: str = "m1",
        client: Pair | None = None,
        peers: bool = False,
        data_dir: str | None = None,
    ) -> None:
        super().__init__(kind, data_dir, flags, name)
        self.authority = authority
        self.client = client
        self.peers = peers

    @property
    def url(self) -> str:
        return f"https://{self.endpoint}"

    @property
    def peer_url(self) -> str:
        return f"{'https' if self.peers else 'http'}://127.0.0.1:{self.peer_port}"

    @property
    def tls_words(self) -> list[str]:
        """What etcdctl is told."""
        pair = [f"--cert={self.client.cert}", f"--key={self.client.key}"] if self.client else []
        return [f"--cacert={self.authority.cert}", *pair]

    def etcdctl(self, *args: str, **how: Any) -> subprocess.CompletedProcess[str]:
        return super().etcdctl(*self.tls_words, *args, **how)

    def wait_healthy(self, timeout: float = 30) -> None:
        context = client_context(self.authority, self.client)
        assert self.process is not None
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.kind} etcd exited with {self.process.returncode}: {self.log_tail()}")
            try:
                if json.loads(https_get(self.client_port, "/health", context)[1]).get("health") == "true":
                    return
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(0.02)
        raise RuntimeError(f"{self.kind} etcd is not healthy: {self.log_tail()}")

    def log_lines(self, text: str) -> list[dict[str, Any]]:
        """Return the log's lines whose message has this text."""
        return lines_of(Path(self.log_path), text)


def lines_of(path: Path, text: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if text in line["msg"]]


class TlsCluster(Cluster):
    """A cluster with mutual TLS on both kinds of ports."""

    def __init__(self, kinds: list[str], authority: Authority, server: Pair, client: Pair, flags: list[str]) -> None:
        self.authority, self.server, self.client = authority, server, client
        tls = [
            *server.flags(),
            f"--trusted-ca-file={authority.cert}",
            "--client-cert-auth",
            *server.flags("peer-"),
            f"--peer-trusted-ca-file={authority.cert}",
            "--peer-client-cert-auth",
        ]
        super().__init__(kinds, [*tls, *flags])

    def _make(self, kind: str) -> Member:
        self._count += 1
        return TlsMember(kind, self.authority, self.flags, f"m{self._count}", self.client, peers=True)

    def puts(self, member: Member, keys: list[str], value: str = "x") -> None:
        credentials = grpc.ssl_channel_credentials(
            self.authority.cert.read_bytes(), self.client.key.read_bytes(), self.client.cert.read_bytes()
        )
        with grpc.secure_channel(member.endpoint, credentials) as channel:
            put = channel.unary_unary("/etcdserverpb.KV/Put", PutRequest.SerializeToString, PutResponse.FromString)
            for key in keys:
                put(PutRequest(key=key.encode(), value=value.encode()), timeout=10)


class PeerTlsMember(Member):
    """A process that speaks TLS with the other members alone."""

    @property
    def peer_url(self) -> str:
        return f"https://127.0.0.1:{self.peer_port}"


class PeerTlsCluster(Cluster):
    """A cluster with mutual TLS among its members, and none for clients."""

    def __init__(self, kinds: list[str], authority: Authority, pair: Pair) -> None:
        trusted = [f"--peer-trusted-ca-file={authority.cert}", "--peer-client-cert-auth"]
        super().__init__(kinds, [*pair.flags("peer-"), *trusted])

    def _make(self, kind: str) -> Member:
        self._count += 1
        return PeerTlsMember(kind, flags=self.flags, name=f"m{self._count}")


@contextmanager
def peer_tls_cluster(kinds: list[str], authority: Authority, pair: Pair) -> Iterator[Cluster]:
    made = PeerTlsCluster(kinds, authority, pair)
    try:
        yield made.start()
    finally:
        made.close()


@contextmanager
def tls_cluster(
    kinds: list[str], authority: Authority, server: Pair, client: Pair, flags: list[str] | None = None
) -> Iterator[Cluster]:
    made = TlsCluster(kinds, authority, server, client, flags or [])
    try:
        yield made.start()
    finally:
        made.close()


@contextmanager
def tls_member(kind: str, authority: Authority, flags: list[str], client: Pair | None = None) -> Iterator[TlsMember]:
    member = TlsMember(kind, authority, flags, client=client)
    try:
        member.start()
        yield member
    finally:
        member.close()


class Embedded:
    """Our member in this process: TLS for clients, members and metrics, each on a port of the kernel's choice."""

    def __init__(self, folder: Path, client_tls: TlsInfo | None = None, peer_tls: TlsInfo | None = None) -> None:
        self.log_path = folder / "log"
        settings = MemberSettings(
            name="e",
            data_dir=str(folder / "data"),
            listen_client_urls=parse_urls([f"{'https' if client_tls else 'http'}://127.0.0.1:0"]),
            listen_metrics_urls=parse_urls(["https://127.0.0.1:0"] if client_tls else []),
            listen_peer_urls=parse_urls([f"{'https' if peer_tls else 'http'}://127.0.0.1:0"]),
            client_tls=client_tls or TlsInfo(),
            peer_tls=peer_tls or TlsInfo(),
        )
        self.thread = MemberThread(settings, ZapLog([FileOutput(str(self.log_path))], "debug")).start()
        member = self.thread.member
        self.client_port, self.peer_port = (
            member._clients[0].sock.getsockname()[1],
            member._peers[0].sock.getsockname()[1],
        )
        self.metrics_port = member._metrics[0].sock.getsockname()[1] if client_tls else 0

    def rejected(self, count: int = 1) -> list[dict[str, Any]]:
        """Wait for that many lines about connections that were turned away, and return what they say."""
        lines = until(lambda: found if len(found := lines_of(self.log_path, "rejected connection")) >= count else [])
        for line in lines:
            assert line["remote-addr"].startswith("127.0.0.1:")
        return lines

    def stop(self) -> None:
        self.thread.stop()


@contextmanager
def embedded(folder: Path, client_tls: TlsInfo | None = None, peer_tls: TlsInfo | None = None) -> Iterator[Embedded]:
    made = Embedded(folder, client_tls, peer_tls)
    try:
        yield made
    finally:
        made.stop()


def raw(port: int) -> socket.socket:
    """Return a connected plain socket."""
    return socket.create_connection(("127.0.0.1", port), 10)
