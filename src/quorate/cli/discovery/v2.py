"""Discovery by a v2 service (--discovery URL): discovery.etcd.io, or an etcd up to 3.5 with its v2 API enabled.

    URL/_config/size     how many members the new cluster will have
    URL/ID               "name=url,name=url2" of a member, made by itself and by nobody twice

The first SIZE members by creation are the cluster. A service that does not answer is asked again, with pauses that grow
from 2 to 256 seconds. Source: etcd 3.5's server/etcdserver/api/v2discovery/discovery.go and client/v2/keys.go.
"""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any, Final

from quorate.membership.member import hex_id, parse_initial_cluster
from quorate.ports import Log
from quorate.server.join import DiscoveryError, Registry

_CALLER: Final = "v2discovery/discovery.go"
REQUEST_S: Final = 5.0
WAIT_S: Final = 600.0
LONGEST_PAUSE: Final = 8
NODE_EXISTS: Final = 105
INDEX_CLEARED: Final = 401

Pause = Callable[[float], None]


class _KeysError(Exception):
    """An answer of the keys API that says no."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class _UnreachableError(Exception):
    """The service does not answer, or is broken."""


class V2Registry(Registry):
    """A registry behind a discovery URL. `proxy`: of the HTTP proxy to use, with or without "http://"."""

    def __init__(self, url: str, proxy: str = "", pause: Pause = time.sleep) -> None:
        self.token = url
        self._proxy = proxy
        self._pause = pause

    def join(self, member_id: int, own: str, log: Log) -> str:
        """Register a member, wait for the others, and return all of them. Raises DiscoveryError."""
        log.warn("etcdserver/bootstrap.go", "V2 discovery is deprecated!")
        proxies = {}
        if self._proxy:
            proxy = self._proxy if self._proxy.startswith("http") else f"http://{self._proxy}"
            fields: dict[str, object] = {"proxy-url": proxy}
            log.info(_CALLER, "running proxy with discovery", **fields)
            proxies = {"http": proxy, "https": proxy}
        opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
        return _Joining(_Keys(self.token, opener), hex_id(member_id), log, self._pause).join(own)


class _Keys:
    """The keys below the discovery URL."""

    def __init__(self, url: str, opener: urllib.request.OpenerDirector) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise DiscoveryError(f'parse "{url}": a discovery URL is http://host:port/path')
        self.service = f"{parts.scheme}://{parts.netloc}"
        self._base = url.rstrip("/")
        self._opener = opener

    def get(self, name: str, query: str = "", limit_s: float = REQUEST_S) -> tuple[dict[str, Any], int]:
        """Return a node and the index of the answer. Raises _KeysError, _UnreachableError, DiscoveryError."""
        return self._ask(urllib.request.Request(f"{self._base}{name}{query}"), limit_s)

    def create(self, name: str, value: str) -> None:
        """Make a node that must not exist."""
        body = urllib.parse.urlencode({"value": value}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        url = f"{self._base}{name}?prevExist=false"
        self._ask(urllib.request.Request(url, body, headers, method="PUT"), REQUEST_S)

    def _ask(self, request: urllib.request.Request, limit_s: float) -> tuple[dict[str, Any], int]:
        try:
            try:
                with self._opener.open(request, timeout=limit_s) as answer:
                    status, headers, body = answer.status, answer.headers, answer.read()
            except urllib.error.HTTPError as error:
                status, headers, body = error.code, error.headers, error.read()
        except (OSError, http.client.HTTPException) as error:
            raise _UnreachableError(str(error)) from None
        if status >= 500:
            raise _UnreachableError(f"client: etcd member {self.service} returns server error [{status}]")
        try:
            found = json.loads(body)
            if status not in (200, 201):
                code = int(found["errorCode"])
                where = f"({found.get('cause', '')}) [{found.get('index', 0)}]"
                raise _KeysError(code, f"{code}: {found.get('message', '')} {where}")
            return dict(found["node"]), int(headers.get("X-Etcd-Index") or 0)
        except (ValueError, KeyError, TypeError):
            raise DiscoveryError("discovery: bad discovery endpoint") from None


class _Joining:
    """One member's way into the registry."""

    def __init__(self, keys: _Keys, member: str, log: Log, pause: Pause) -> None:
        self._keys = keys
        self._member = member
        self._log = log
        self._pause = pause
        self._retries = 0
        self._fields: dict[str, object] = {"discovery-url": keys.service}

    def join(self, own: str) -> str:
        try:
            return self._join(own)
        except (_KeysError, _UnreachableError) as error:
            raise DiscoveryError(str(error)) from None

    def _join(self, own: str) -> str:
        self._check()
        try:
            self._keys.create(f"/{self._member}", own)
        except _KeysError as error:
            if error.code == NODE_EXISTS:
                raise DiscoveryError("discovery: found duplicate id", "id") from None
            raise
        size, nodes, index = self._check()
        while len(nodes) < size:
            missing = {"found-peers": len(nodes), "needed-peers": size - len(nodes)}
            text = "found peers from discovery server; waiting for more"
            self._log.info(_CALLER, text, **self._fields, **missing)
            try:
                query = f"?wait=true&recursive=true&waitIndex={index + 1}"
                node, _ = self._keys.get("", query, WAIT_S)
            except _UnreachableError as error:
                self._log.warn(_CALLER, "error while waiting for peers", **self._fields, error=str(error))
                self._back_off("waiting for other nodes")
                size, nodes, index = self._check()
            except _KeysError as error:
                if error.code != INDEX_CLEARED:
                    raise
                size, nodes, index = self._check()
            else:
                index = int(node.get("modifiedIndex", index + 1))
                self._found(node)
                nodes.append(node)
        fields = {"found-peers": len(nodes)}
        self._log.info(_CALLER, "found all needed peers from discovery server", **self._fields, **fields)
        return _cluster_of(nodes, size)

    def _check(self) -> tuple[int, list[dict[str, Any]], int]:
        """Return the size, the members' nodes in the order of their creation, and the index of what was read."""
        while True:
            try:
                size = self._size()
                root, index = self._keys.get("/")
            except _UnreachableError as error:
                text = "failed to get from discovery server"
                self._log.warn(_CALLER, text, **self._fields, error=str(error))
                self._back_off("cluster status check")
                continue
            nodes = [node for node in root.get("nodes") or [] if _name(node) != "_config"]
            nodes.sort(key=lambda node: int(node.get("createdIndex", 0)))
            for number, node in enumerate(nodes):
                if _name(node) == self._member:
                    break
                if number >= size - 1:
                    raise DiscoveryError("discovery: cluster is full")
            for node in nodes[:size]:
                self._found(node)
            return size, nodes[:size], index

    def _size(self) -> int:
        node, _ = self._keys.get("/_config/size")
        text = str(node.get("value", ""))
        if not re.fullmatch("[0-9]+", text) or int(text) == 0:
            raise DiscoveryError("discovery: size key is bad")
        return int(text)

    def _found(self, node: dict[str, Any]) -> None:
        name = _name(node)
        if name == self._member:
            self._log.info(_CALLER, "found self from discovery server", **self._fields, member=name)
        else:
            self._log.info(_CALLER, "found peer from discovery server", **self._fields, peer=name)

    def _back_off(self, step: str) -> None:
        self._retries += 1
        seconds = 1 << min(self._retries, LONGEST_PAUSE)
        fields = {"url": self._keys.service, "reason": step, "backoff": f"{seconds}s"}
        self._log.info(_CALLER, "retry connecting to discovery service", **fields)
        self._pause(seconds)


def _name(node: dict[str, Any]) -> str:
    return str(node.get("key", "")).rpartition("/")[2]


def _cluster_of(nodes: list[dict[str, Any]], size: int) -> str:
    text = ",".join(str(node.get("value", "")) for node in nodes)
    try:
        urls = parse_initial_cluster(text)
    except ValueError:
        raise DiscoveryError("discovery: invalid URL") from None
    if len(urls) != size:
        raise DiscoveryError("discovery: found duplicate name", "name")
    return text
