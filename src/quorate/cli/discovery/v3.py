"""Discovery by a running cluster (--discovery-token, --discovery-endpoints).

    /_etcd/registry/TOKEN/_config/size     how many members the new cluster will have; somebody has put it there
    /_etcd/registry/TOKEN/members/ID       "name=url,name=url2" of a member, put by itself

The first SIZE members by create revision are the cluster; whoever comes later finds it full. A service that does not
answer is asked again, with pauses that grow from 2 to 256 seconds.
Source: etcd's server/etcdserver/api/v3discovery/discovery.go.
"""

from __future__ import annotations

import posixpath
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from quorate.client.blocking import BlockingClient
from quorate.client.errors import CompactedError, EtcdError
from quorate.client.target import TlsOptions
from quorate.membership.member import hex_id, parse_initial_cluster
from quorate.ports import Log
from quorate.server.join import DiscoveryError, Registry

_CALLER: Final = "v3discovery/discovery.go"
SIZE_NOT_FOUND: Final = "discovery: size key not found"
BAD_SIZE: Final = "discovery: size key is bad"
FULL: Final = "discovery: cluster is full"
INVALID_URL: Final = "discovery: invalid peer URL"
LONGEST_PAUSE: Final = 8

Pause = Callable[[float], None]


@dataclass(frozen=True)
class Service:
    """The cluster that keeps the registry, by the names of etcd's --discovery-... flags; times in seconds."""

    endpoints: list[str]
    token: str
    dial_timeout_s: float = 2.0
    request_timeout_s: float = 5.0
    keepalive_s: float = 2.0
    keepalive_timeout_s: float = 6.0
    tls: TlsOptions | None = None
    user: str = ""
    password: str = field(default="", repr=False)

    def client(self) -> BlockingClient:
        """Return a client of it. Raises ValueError for endpoints that cannot be, OSError for files."""
        return BlockingClient(
            self.endpoints,
            tls=self.tls,
            user=self.user,
            password=self.password,
            timeout_s=self.request_timeout_s,
            connect_timeout_s=self.dial_timeout_s,
            keepalive_s=self.keepalive_s,
            keepalive_timeout_s=self.keepalive_timeout_s,
        )


class V3Registry(Registry):
    """A registry in a running cluster."""

    def __init__(self, service: Service, pause: Pause = time.sleep) -> None:
        self.token = service.token
        self._service = service
        self._pause = pause

    def join(self, member_id: int, own: str, log: Log) -> str:
        """Register a member, wait for the others, and return all of them. Raises DiscoveryError."""
        log.info("etcdserver/bootstrap.go", "Bootstrapping cluster using v3 discovery.")
        fields: dict[str, object] = {
            "discovery-token": self.token,
            "discovery-endpoints": ",".join(self._service.endpoints),
        }
        problem: Exception | None = None
        text = ""
        try:
            with self._service.client() as client:
                text = _Joining(client, self.token, hex_id(member_id), log, fields, self._pause).join(own)
        except (DiscoveryError, ValueError, OSError) as error:
            problem = error
        if problem is not None:
            log.error(_CALLER, "discovery failed to join cluster", **fields, cluster="", error=str(problem))
            raise DiscoveryError(str(problem)) from problem
        log.info(_CALLER, "discovery joined cluster successfully", **fields, cluster=text)
        return text


class _Joining:
    """One member's way into the registry."""

    def __init__(
        self, client: BlockingClient, token: str, member: str, log: Log, fields: dict[str, object], pause: Pause
    ) -> None:
        self._root = posixpath.normpath(f"/_etcd/registry/{token}")
        self._client = client
        self._own_key = f"{self._root}/members/{member}"
        self._log = log
        self._fields = fields
        self._pause = pause
        self._retries = 0
        self._members: dict[str, tuple[int, str]] = {}  # create revision and URLs, by key

    def join(self, own: str) -> str:
        self._check()
        self._register(own)
        size, revision = self._check()
        if len(self._members) < size:
            self._wait(size, revision)
        first = sorted(self._members.values())[:size]
        text = ",".join(urls for _, urls in first)
        try:
            parse_initial_cluster(text)
        except ValueError:
            raise DiscoveryError(INVALID_URL) from None
        return text

    def _check(self) -> tuple[int, int]:
        """Read size and members; return the size and the revision that was read."""
        while True:
            try:
                size = self._size()
                found = self._client.range(f"{self._root}/members", prefix=True)
            except EtcdError as error:
                self._warn("failed to get cluster from discovery service", error)
                self._back_off("cluster status check")
                continue
            self._retries = 0
            self._members = {}
            for kv in found.kvs:
                self._add(kv.key, kv.value, kv.create_revision)
            for number, (key, _) in enumerate(sorted(self._members.items(), key=lambda item: item[1])):
                if key == self._own_key:
                    break
                if number >= size - 1:
                    raise DiscoveryError(FULL)
            return size, found.header.revision

    def _size(self) -> int:
        kv = self._client.get(f"{self._root}/_config/size")
        if kv is None:
            raise DiscoveryError(SIZE_NOT_FOUND)
        text = kv.value.decode(errors="replace")
        if not re.fullmatch(r"\+?[0-9]+", text) or not 0 < int(text) < 1 << 63:
            raise DiscoveryError(BAD_SIZE)
        return int(text)

    def _register(self, own: str) -> None:
        while True:
            try:
                self._client.put(self._own_key, own)
            except EtcdError as error:
                self._warn("failed to register members itself to the discovery service", error)
                self._back_off("register member itself")
                continue
            self._retries = 0
            self._log.info(
                _CALLER, "register member itself successfully", **self._fields, memberKey=self._own_key, memberInfo=own
            )
            return

    def _wait(self, size: int, revision: int) -> None:
        """Watch until there are enough members."""
        self._count("waiting for peers from discovery service", size)
        while len(self._members) < size:
            try:
                with self._client.watch(f"{self._root}/members", prefix=True, start_revision=revision + 1) as batches:
                    for batch in batches:
                        for event in batch.events:
                            if event.kv.value:
                                self._add(event.kv.key, event.kv.value, event.kv.create_revision)
                        if len(self._members) >= size:
                            break
            except CompactedError:
                _, revision = self._check()
            except EtcdError as error:
                self._warn("error while waiting for peers", error)
                self._back_off("waiting for other nodes")
                _, revision = self._check()
        self._count("found all needed peers from discovery service", size)

    def _add(self, key: bytes, value: bytes, revision: int) -> None:
        name, urls = key.decode(errors="replace").strip(), value.decode(errors="replace").strip()
        fields: dict[str, object] = {**self._fields, "memberKey": name, "memberInfo": urls}
        if "=" not in urls:
            self._log.warn(_CALLER, "invalid peer info returned from discovery service", **fields)
        elif name in self._members:
            self._log.warn(_CALLER, "found duplicate peer from discovery service", **fields)
        else:
            self._members[name] = (revision, urls)
            self._log.info(_CALLER, "found peer from discovery service", **fields)

    def _count(self, text: str, size: int) -> None:
        fields = {"clusterSize": size, "found-peers": len(self._members)}
        self._log.info(_CALLER, text, **self._fields, **fields)

    def _warn(self, text: str, error: EtcdError) -> None:
        self._log.warn(_CALLER, text, **self._fields, error=str(error))

    def _back_off(self, step: str) -> None:
        self._retries += 1
        seconds = 1 << min(self._retries, LONGEST_PAUSE)
        text = "retry connecting to discovery service"
        self._log.warn(_CALLER, text, **self._fields, reason=step, backoff=f"{seconds}s")
        self._pause(seconds)
