"""/version for everybody, and for peers /members and /raft/probing.

Source: etcd's server/etcdserver/api/etcdhttp/{version,peer}.go and rafthttp/probing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.http.mux import Mux, Reply, Request, Response, not_allowed
from quorate.membership.member import go_json, hex_id, member_json
from quorate.membership.version import NOT_DECIDED, SERVER_VERSION_TEXT
from quorate.server.core import Server
from quorate.storage.schema import META, STORAGE_VERSION, TERM, layout_version

STORAGE_UNKNOWN: Final = "unknown"
_JSON: Final = (("Content-Type", "application/json"),)


class Versions:
    """Answers about versions and members. `server` returns None until there is one."""

    def __init__(self, server: Callable[[], Server | None], now: Callable[[], str]) -> None:
        self.server = server
        self.now = now

    def register_client(self, mux: Mux) -> None:
        """Add what clients ask."""
        mux.add("/version", self.version)

    def register_peer(self, mux: Mux) -> None:
        """Add what other members ask before they are peers."""
        mux.add("/version", self.version)
        mux.add("/members", self.members)
        mux.add("/raft/probing", self.probing)

    def version(self, request: Request, reply: Reply) -> None:
        """Answer with the versions of server, cluster and storage."""
        if request.method != "GET":
            reply(not_allowed())
            return
        cluster, storage = NOT_DECIDED, STORAGE_UNKNOWN
        server = self.server()
        if server is not None:
            if server.cluster.version is not None:
                cluster = str(server.cluster.version)
            backend = server.backend
            storage = layout_version(backend.get(META, STORAGE_VERSION), backend.get(META, TERM)) or STORAGE_UNKNOWN
        body = go_json({"etcdserver": SERVER_VERSION_TEXT, "etcdcluster": cluster, "storage": storage})
        reply(Response(200, body.encode(), _JSON))

    def members(self, request: Request, reply: Reply) -> None:
        """Answer with the members' JSON."""
        if request.method != "GET":
            reply(not_allowed())
            return
        server = self.server()
        members = server.cluster.member_list() if server is not None else []
        body = b"[" + b",".join(member_json(member) for member in members) + b"]\n"
        cluster_id = server.cluster_id if server is not None else 0
        reply(Response(200, body, (*_JSON, ("X-Etcd-Cluster-Id", hex_id(cluster_id)))))

    def probing(self, request: Request, reply: Reply) -> None:  # noqa: ARG002
        """Answer that we are here, and what our clock says."""
        reply(Response(200, go_json({"OK": True, "Now": self.now()}).encode()))
