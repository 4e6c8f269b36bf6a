"""The Lease service of the proxy: keepalives of all clients share a stream to the cluster.

Requests for a lease that come while one for it is under way are answered together with that one. Whoever asks decides
whose stream it is: each user has one. Source: etcd's server/proxy/grpcproxy/lease.go, which keeps a lease alive on its
own for a while behind its client's last request; here only clients do.
"""

from __future__ import annotations

import asyncio
from typing import Final

from quorate.client.link import Stream
from quorate.client.policy import backoff_s
from quorate.errors import UNAVAILABLE, RpcError
from quorate.proto.rpc_pb2 import (
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
)
from quorate.proxy.kv import parse
from quorate.proxy.namespace import Namespace
from quorate.proxy.upstream import Forwarder, Upstream, fields_of, token_of
from quorate.wire.headers import Field
from quorate.wire.rpc import Router, ServerCall

KEEP_ALIVE: Final = b"/etcdserverpb.Lease/LeaseKeepAlive"
TIME_TO_LIVE: Final = b"/etcdserverpb.Lease/LeaseTimeToLive"


class LeaseProxy:
    """Keepalives and the keys of leases; the other methods are passed on."""

    def __init__(self, upstream: Upstream, namespace: Namespace, forwarder: Forwarder) -> None:
        self.coalesced = 0
        self._upstream = upstream
        self._namespace = namespace
        self._forwarder = forwarder
        self._renewers: dict[bytes, _Renewer] = {}

    def register(self, router: Router) -> None:
        """Put the two methods into the router."""
        router.stream(KEEP_ALIVE.decode(), "bidi_stream", self._keep_alive)
        if self._namespace.prefix:
            router.unary(
                TIME_TO_LIVE.decode(), lambda call, raw: self._upstream.answer(call, self._time_to_live(call, raw))
            )
        else:
            router.unary(TIME_TO_LIVE.decode(), self._forwarder.unary(TIME_TO_LIVE, True))

    async def _time_to_live(self, call: ServerCall, raw: bytes) -> bytes:
        parse(LeaseTimeToLiveRequest, raw)
        answer = await self._upstream.unary(TIME_TO_LIVE, fields_of(call), raw, True)
        response = LeaseTimeToLiveResponse.FromString(answer)
        keys = self._namespace.keys(response.keys)
        del response.keys[:]
        response.keys.extend(keys)
        return response.SerializeToString()

    def _keep_alive(self, call: ServerCall) -> None:
        token = token_of(call)
        renewer = self._renewers.get(token)
        if renewer is None or renewer.over:
            renewer = self._renewers[token] = _Renewer(self, self._upstream, token, fields_of(call))
        client = _Client(call, renewer)
        call.on_message = client.request
        call.on_half_close = client.half_closed
        call.on_end = client.gone

    def drop(self, token: bytes, renewer: _Renewer) -> None:
        """Let go of a stream to the cluster that has ended."""
        if self._renewers.get(token) is renewer:
            del self._renewers[token]


class _Client:
    """One client's stream."""

    def __init__(self, call: ServerCall, renewer: _Renewer) -> None:
        self.call = call
        self.waiting = 0
        self._renewer = renewer
        self._closing = False
        renewer.clients += 1

    def request(self, raw: bytes) -> None:
        try:
            lease_id = parse(LeaseKeepAliveRequest, raw).ID
        except RpcError as error:
            self._leave()
            self.call.fail(error)
            return
        self.waiting += 1
        self._renewer.ask(lease_id, self)

    def answer(self, raw: bytes) -> None:
        if self.call.ended:
            return
        self.waiting -= 1
        self.call.send(raw)
        if self._closing and not self.waiting:
            self._leave()
            self.call.finish()

    def half_closed(self) -> None:
        self._closing = True
        if not self.waiting:
            self._leave()
            self.call.finish()

    def gone(self) -> None:
        self._leave()

    def fail(self, error: RpcError) -> None:
        if not self.call.ended:
            self._leave()
            self.call.fail(error)

    def _leave(self) -> None:
        self._renewer.clients -= 1
        self._renewer.check_idle()


class _Renewer:
    """A stream of keepalives to the cluster."""

    def __init__(self, proxy: LeaseProxy, upstream: Upstream, token: bytes, fields: list[Field]) -> None:
        self.clients = 0
        self.over = False
        self._proxy = proxy
        self._upstream = upstream
        self._token = token
        self._fields = [field for field in fields if field[0] != b"hasleader"]
        self._asked: dict[int, list[_Client]] = {}
        self._stream: Stream | None = None
        self._task = upstream.spawn(self._run())

    def ask(self, lease_id: int, client: _Client) -> None:
        waiting = self._asked.get(lease_id)
        if waiting is not None:
            waiting.append(client)
            self._proxy.coalesced += 1
            return
        self._asked[lease_id] = [client]
        if self._stream is not None and not self._stream.ended:
            self._stream.send(LeaseKeepAliveRequest(ID=lease_id).SerializeToString())

    def check_idle(self) -> None:
        if self.clients == 0 and not self.over:
            self.over = True
            self._proxy.drop(self._token, self)
            self._task.cancel()

    async def _run(self) -> None:
        attempt = 0
        try:
            while True:
                try:
                    _, stream = await self._upstream.stream(KEEP_ALIVE, self._fields)
                    self._stream = stream
                    for lease_id in self._asked:
                        stream.send(LeaseKeepAliveRequest(ID=lease_id).SerializeToString())
                    while (raw := await stream.next()) is not None:
                        attempt = 0
                        self._answered(raw)
                except RpcError as error:
                    if error.code != UNAVAILABLE:
                        self._refused(error)
                        return
                attempt += 1
                await asyncio.sleep(backoff_s(attempt))
        finally:
            if self._stream is not None:
                self._stream.cancel()

    def _answered(self, raw: bytes) -> None:
        for client in self._asked.pop(LeaseKeepAliveResponse.FromString(raw).ID, []):
            client.answer(raw)

    def _refused(self, error: RpcError) -> None:
        self.over = True
        self._proxy.drop(self._token, self)
        asked, self._asked = self._asked, {}
        for client in {client: None for clients in asked.values() for client in clients}:
            client.fail(error)
