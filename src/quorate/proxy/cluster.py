"""The Cluster service of the proxy: its member list names proxies, so that clients stay with them.

With a resolver prefix every proxy registers itself below it, with a lease, and lists all that do; without, it lists
itself alone; without an advertised URL the cluster's list is passed on. Source: etcd's
server/proxy/grpcproxy/{cluster,register}.go and client/v3/naming/endpoints.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Final

from quorate.client.aio import Client
from quorate.client.errors import EtcdError
from quorate.ports import Log
from quorate.proto.kv_pb2 import Event
from quorate.proto.rpc_pb2 import Member, MemberListResponse
from quorate.proxy.upstream import Forwarder
from quorate.wire.rpc import Router, ServerCall

MEMBER_LIST: Final = b"/etcdserverpb.Cluster/MemberList"
RETRY_S: Final = 1.0


class ClusterProxy:
    """MemberList; the other methods are passed on. `prefix` is as the cluster knows it."""

    def __init__(self, forwarder: Forwarder, advertised: str, prefix: bytes, ttl_s: int, log: Log) -> None:
        self._forwarder = forwarder
        self._advertised = advertised
        self._prefix = prefix
        self._ttl_s = ttl_s
        self._log = log
        self._found: dict[bytes, Member] = {}

    def register(self, router: Router) -> None:
        """Put the method into the router."""
        router.unary(MEMBER_LIST.decode(), self._member_list)

    def _member_list(self, call: ServerCall, raw: bytes) -> None:
        if not self._advertised:
            self._forwarder.unary(MEMBER_LIST, True)(call, raw)
            return
        members = list(self._found.values()) or [Member(name=socket.gethostname(), clientURLs=[self._advertised])]
        call.complete(MemberListResponse(members=members).SerializeToString())

    async def stay_registered(self, client: Client) -> None:
        """Keep this proxy among those that are registered, for ever."""
        key = self._prefix + b"/" + self._advertised.encode()
        metadata = json.dumps({"name": socket.gethostname()}, separators=(",", ":"))
        value = json.dumps({"Op": 0, "Addr": self._advertised, "Metadata": metadata}, separators=(",", ":"))
        while True:
            try:
                lease = await client.lease(self._ttl_s)
                await client.put(key, value, lease=lease.id)
                fields = {"addr": self._advertised, "lease-ttl": self._ttl_s}
                self._log.info("grpcproxy/register.go", "registered session with lease", **fields)
                await lease.wait_lost()
                text = "session expired; possible network partition or server restart"
                self._log.warn("grpcproxy/register.go", text)
                self._log.warn("grpcproxy/register.go", "creating a new session to rejoin")
            except EtcdError as error:
                self._log.warn("grpcproxy/register.go", "failed to create a session", error=error.text)
            await asyncio.sleep(RETRY_S)

    async def follow(self, client: Client) -> None:
        """Know who is registered, for ever."""
        while True:
            try:
                listed = await client.range(self._prefix, prefix=True, serializable=True)
                self._found = {kv.key: _member(kv.value) for kv in listed.kvs}
                async for batch in client.watch(self._prefix, prefix=True, start_revision=listed.header.revision + 1):
                    for event in batch.events:
                        if event.type == Event.DELETE:
                            self._found.pop(event.kv.key, None)
                        else:
                            self._found[event.kv.key] = _member(event.kv.value)
            except (EtcdError, ValueError) as error:
                fields = {"prefix": self._prefix.decode("utf-8", "replace"), "error": str(error)}
                self._log.warn("grpcproxy/cluster.go", "failed to establish endpoint watch", **fields)
            await asyncio.sleep(RETRY_S)


def _member(value: bytes) -> Member:
    """Return what a registration says. Raises ValueError."""
    update = json.loads(value)
    metadata = json.loads(update["Metadata"]) if update.get("Metadata") else {}
    return Member(name=metadata.get("name", ""), clientURLs=[update["Addr"]])
