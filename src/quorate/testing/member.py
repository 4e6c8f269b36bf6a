"""One embedded member, for tests and for programs that bring their own etcd."""

from __future__ import annotations

import random
import shutil
import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from quorate.client import BlockingClient, Client, EtcdError, PermissionDeniedError
from quorate.runtime.log import ZapLog
from quorate.runtime.logout import FileOutput
from quorate.runtime.member import MemberThread
from quorate.runtime.settings import MemberSettings
from quorate.runtime.sockets import ListenError
from quorate.runtime.tls.info import TlsInfo
from quorate.runtime.urls import parse_urls

HOST = "127.0.0.1"
BIND_ATTEMPTS = 5
LOG_TAIL_BYTES = 4000


def free_port() -> int:
    """Return a port that nobody listens on, below the range from which kernels pick ports for clients."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


class EmbeddedMember:
    """A member in a thread of this process.

    `data_dir`: where its data stays; without one it is a temporary directory, removed by `close`. `client_port`,
    `peer_port`: 0 takes a free one. `fsync`: whether writes survive a loss of power; by default only those in a
    directory of yours do. `settings`: any other fields of `quorate.runtime.settings.MemberSettings`, by name.

    As a context manager it starts, and is closed at the end. Its ports stay the same through `stop` and `start`.
    """

    def __init__(
        self,
        data_dir: str | Path | None = None,
        *,
        name: str = "default",
        client_port: int = 0,
        peer_port: int = 0,
        fsync: bool | None = None,
        **settings: Any,
    ) -> None:
        self._temporary = None if data_dir is not None else tempfile.mkdtemp(prefix="quorate-")
        self._fixed_ports = bool(client_port and peer_port)
        self._fsync = data_dir is not None if fsync is None else fsync
        self._settings = settings
        self._thread: MemberThread | None = None
        self._output: FileOutput | None = None
        self.name = name
        self.data_dir = str(data_dir) if data_dir is not None else f"{self._temporary}/data"
        self.log_path = f"{self._temporary}/log" if data_dir is None else f"{self.data_dir}.log"
        self.client_port = client_port or free_port()
        self.peer_port = peer_port or free_port()

    # What others need

    @property
    def endpoint(self) -> str:
        """host:port for clients."""
        return f"{HOST}:{self.client_port}"

    @property
    def url(self) -> str:
        """http://host:port for clients, https:// when `settings` have a certificate for them (`client_tls`)."""
        tls: TlsInfo | None = self._settings.get("client_tls")
        return f"http://{self.endpoint}" if tls is None or tls.empty else f"https://{self.endpoint}"

    @property
    def peer_url(self) -> str:
        """http://host:port for other members."""
        return f"http://{HOST}:{self.peer_port}"

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._thread is not None

    def client(self, **options: Any) -> BlockingClient:
        """Return a blocking client of this member; `options` are those of BlockingClient."""
        return BlockingClient(self.endpoint, **options)

    def async_client(self, **options: Any) -> Client:
        """Return an asyncio client of this member; `options` are those of Client."""
        return Client(self.endpoint, **options)

    # Life

    def start(self, timeout_s: float = 30.0) -> EmbeddedMember:
        """Start, and return once clients are served.

        Raises what hinders it: quorate.runtime.sockets.ListenError, quorate.server.bootlog.StartError,
        quorate.errors.CorruptError, OSError, TimeoutError.
        """
        if self._thread is not None:
            return self
        for left in reversed(range(BIND_ATTEMPTS)):
            self._output = FileOutput(self.log_path)
            thread = MemberThread(self.settings(), ZapLog([self._output]))
            try:
                thread.start(timeout_s)
            except BaseException as error:
                self._output.close()
                if not isinstance(error, ListenError) or self._fixed_ports or left == 0 or Path(self.data_dir).exists():
                    raise
                # Somebody was faster.
                self.client_port, self.peer_port = free_port(), free_port()
            else:
                self._thread = thread
                break
        return self

    def settings(self) -> MemberSettings:
        """Return the settings it starts with."""
        client_urls, peer_urls = parse_urls([self.url]), parse_urls([self.peer_url])
        return MemberSettings(
            **{
                "name": self.name,
                "data_dir": self.data_dir,
                "listen_client_urls": client_urls,
                "advertise_client_urls": client_urls,
                "listen_peer_urls": peer_urls,
                "advertise_peer_urls": peer_urls,
                "unsafe_no_fsync": not self._fsync,
                **self._settings,
            }
        )

    def stop(self, timeout_s: float = 30.0) -> None:
        """Stop as on SIGTERM: calls are finished, everything is on the disk. Raises TimeoutError."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop(timeout_s)
        if self._output is not None:
            self._output.close()
            self._output = None

    def restart(self) -> None:
        """Stop and start on the same directory and ports."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop, and remove what is temporary."""
        try:
            self.stop()
        finally:
            if self._temporary is not None:
                shutil.rmtree(self._temporary, ignore_errors=True)

    def __enter__(self) -> EmbeddedMember:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Between tests

    def clear(self) -> None:
        """Remove all keys, leases, users, roles and alarms; revisions go on. Raises EtcdError.

        A member that asks for passwords lets nobody do this: it loses its data altogether, when that is temporary.
        """
        if not self.running:
            self.start()
        with self.client(timeout_s=10) as client:
            try:
                clear(client)
            except PermissionDeniedError:
                pass
            else:
                return
        if self._temporary is None:
            raise RuntimeError("authentication is on: disable it, or give this member a directory that may be removed")
        self.stop()
        shutil.rmtree(self.data_dir)
        self.start()

    def log(self) -> str:
        """Return the end of its log."""
        return Path(self.log_path).read_text(errors="replace")[-LOG_TAIL_BYTES:]


def clear(client: BlockingClient) -> None:
    """Remove all keys, leases, users, roles and alarms. Raises EtcdError."""
    for alarm in client.alarms():
        client.alarm_disarm(alarm)
    for lease in client.leases():
        try:
            client.lease_revoke(lease)
        except EtcdError as error:
            if "lease not found" not in error.text:  # it has just run out
                raise
    client.delete("", prefix=True)
    for user in client.users():
        client.user_delete(user)
    for role in client.roles():
        client.role_delete(role)
