"""What the peer port answers.

    POST /raft                          one message: 204
    GET  /raft/stream/{msgapp,message}/<id>   a stream to that member, endless
    POST /raft/snapshot                 a database and its message: 204
    anything else                       `PeerWeb` (whole requests and replies), else 404

Checks come in etcd's order, with its replies: method, version, cluster, then the rest; `versions` says more. Nothing
that a peer sends can stop this member.
Source: etcd server/etcdserver/api/rafthttp/http.go.
"""

from __future__ import annotations

from typing import Final

from quorate.measure import Histogram
from quorate.membership.member import go_json, hex_id, parse_hex_id
from quorate.membership.version import SERVER_VERSION_TEXT
from quorate.peer.network import Network, TransferStats
from quorate.peer.snapreceive import SnapshotReceive
from quorate.peer.stream import MESSAGE, MSGAPP, PATHS
from quorate.peer.versions import CLUSTER_ID, FROM, INCOMPATIBLE, RAFT_TO, VERSION, id_of, urls_of, value_of
from quorate.ports import Disk, Log, Loop
from quorate.raft.codec import decode_message
from quorate.raft.types import Message
from quorate.wire.web import STREAMED, Field, HttpHandler, HttpReply, HttpRequest

MAX_MESSAGE_BYTES: Final = 64 << 20
MAX_SNAPSHOTS: Final = 4  # coming in at once; each may take 64 MB before it is known who sends it
MAX_REQUEST_BYTES: Final = 64 << 10
FSYNC_SECONDS: Final = tuple([0.001 * 2**step for step in range(14)])
SAVE_SECONDS: Final = tuple([0.1 * 2**step for step in range(10)])

_CALLER: Final = "rafthttp/http.go"
_TEXT: Final[list[Field]] = [
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"x-content-type-options", b"nosniff"),
]


class PeerHandler(HttpHandler):
    """Answers other members."""

    def __init__(self, loop: Loop, disk: Disk, log: Log, network: Network, snap_dir: str, others: HttpHandler) -> None:
        """`others` answers what is not raft's."""
        self.db_fsync_seconds = Histogram(FSYNC_SECONDS)
        self.db_save_seconds = Histogram(SAVE_SECONDS)
        self._loop = loop
        self._disk = disk
        self._log = log
        self._network = network
        self._snap_dir = snap_dir
        self._others = others
        self._cluster: Field = (CLUSTER_ID, network.identity.cluster_text)
        self._receiving = 0  # how many snapshots are coming in
        self._received = 0  # numbers the files of snapshots coming in

    def body_limit(self, request: HttpRequest) -> int:
        """Let a snapshot stream in; messages are as long as their entries."""
        path = request.path()
        if path == b"/raft/snapshot":
            return STREAMED
        if path != b"/raft":
            return MAX_REQUEST_BYTES
        server = self._network.server
        return MAX_MESSAGE_BYTES + (2 * server.config.max_request_bytes if server is not None else 0)

    def handle(self, request: HttpRequest, reply: HttpReply) -> None:
        """Answer."""
        path = request.path()
        if path == b"/raft":
            self._message(request, reply)
        elif path == b"/raft/snapshot":
            self._snapshot(request, reply)
        elif path.startswith(b"/raft/stream/"):
            self._stream(request, reply)
        else:
            self._others.handle(request, reply)

    # -- Common

    def _admit(self, request: HttpRequest, reply: HttpReply, method: bytes, more: list[Field]) -> bool:
        """Check method, version and cluster; when one does not fit, answer."""
        if request.method != method:
            self._error(reply, 405, "Method Not Allowed", [(b"Allow", method)])
            return False
        refusal = self._network.identity.refusal(request.headers)
        if refusal:
            text = "request version incompatibility" if refusal == INCOMPATIBLE else "request cluster ID mismatch"
            fields = {"remote-peer-server-version": value_of(request.headers, VERSION).decode("latin-1")}
            fields["remote-peer-cluster-id"] = value_of(request.headers, CLUSTER_ID).decode("latin-1")
            fields["remote-peer-id"] = value_of(request.headers, FROM).decode("latin-1")
            self._log.warn(_CALLER, text, error=refusal, **fields)
            self._error(reply, 412, refusal, more)
            return False
        return True

    def _error(self, reply: HttpReply, status: int, text: str, more: list[Field]) -> None:
        reply.respond(status, [*_TEXT, *more], (text + "\n").encode())

    def _respond(self, reply: HttpReply, status: int, text: str) -> None:
        """Answer what came of a message; 403 is JSON, as etcd has it."""
        if status == 204:
            reply.respond(204, [self._cluster], b"")
        elif status == 403:
            body = go_json({"message": text}).encode()
            reply.respond(403, [(b"content-type", b"application/json"), self._cluster], body)
        else:
            self._error(reply, status, text, [self._cluster])

    def _add_remote(self, request: HttpRequest) -> None:
        """Be able to answer a sender whom we do not know yet."""
        member_id = id_of(request.headers, FROM)
        urls = urls_of(request.headers)
        server = self._network.server
        if member_id and urls and server is not None and member_id not in server.cluster.removed:
            self._network.add_remote(member_id, urls)

    def _process(self, message: Message) -> tuple[int, str]:
        """Step a message that came alone."""
        network = self._network
        refusal = network.refusal(message)
        if refusal:
            fields = {"remote-peer-id": hex_id(message.frm), "error": refusal}
            self._log.warn(_CALLER, "failed to process Raft message", **fields)
            return (403 if network.server is not None else 500), refusal
        assert network.server is not None
        network.server.step(message)
        return 204, ""

    # -- POST /raft

    def _message(self, request: HttpRequest, reply: HttpReply) -> None:
        if not self._admit(request, reply, b"POST", [self._cluster]):
            return
        self._add_remote(request)
        try:
            message = decode_message(request.body)
        except ValueError as error:
            fields = {"local-member-id": hex_id(self._network.identity.member_id), "error": str(error)}
            self._log.warn(_CALLER, "failed to unmarshal Raft message", **fields)
            self._error(reply, 400, "error unmarshalling raft message", [self._cluster])
            return
        peer = self._network.peers.get(message.frm)
        if peer is not None:
            peer.stats.received_bytes += len(request.body)
        status, text = self._process(message)
        self._respond(reply, status, text)

    # -- GET /raft/stream/...

    def _stream(self, request: HttpRequest, reply: HttpReply) -> None:
        more: list[Field] = [(VERSION, SERVER_VERSION_TEXT.encode()), self._cluster]
        if not self._admit(request, reply, b"GET", more):
            return
        path, _, name = request.path().decode("latin-1").rpartition("/")
        if path not in PATHS:
            self._error(reply, 404, "invalid path", more)
            return
        kind = MSGAPP if path == PATHS[MSGAPP] else MESSAGE
        try:
            member_id = parse_hex_id(name)
        except ValueError:
            self._error(reply, 404, "invalid from", more)
            return
        network = self._network
        server = network.server
        if server is not None and member_id in server.cluster.removed:
            fields = {"remote-peer-id-from": name, "local-member-id": hex_id(network.identity.member_id)}
            self._log.warn(_CALLER, "rejected stream from remote peer because it was removed", **fields)
            self._error(reply, 410, "removed member", more)
            return
        peer = network.peers.get(member_id)
        if peer is None or peer.remote or server is None:
            self._add_remote(request)
            self._error(reply, 404, "error sender not found", more)
            return
        if id_of(request.headers, RAFT_TO) != network.identity.member_id:
            self._error(reply, 412, "to field mismatch", more)
            return
        reply.start(200, more)
        peer.attach(kind, reply)

    # -- POST /raft/snapshot

    def _snapshot(self, request: HttpRequest, reply: HttpReply) -> None:
        if not self._admit(request, reply, b"POST", [self._cluster]):
            return
        self._add_remote(request)
        if self._receiving >= MAX_SNAPSHOTS:
            self._error(reply, 503, "too many snapshots are coming in", [self._cluster])
            return
        member_id = id_of(request.headers, FROM)
        if member_id not in self._network.peers or self._network.peers[member_id].remote:
            member_id = 0  # anybody may claim to be somebody: no metrics of their own
        self._network.snapshots_received.setdefault(member_id, TransferStats()).inflights += 1
        self._receiving += 1
        self._received += 1
        name = f"tmp{self._received}"
        fields = {"local-member-id": hex_id(self._network.identity.member_id), "remote-snapshot-sender-id": member_id}
        self._log.info(_CALLER, "receiving database snapshot", **fields)
        ended = _Received(self, member_id)
        SnapshotReceive(
            self._loop,
            self._disk,
            self._snap_dir,
            name,
            request,
            reply,
            self._network.refusal,
            self._process,
            self._respond,
            ended.ended,
        ).start()

    def snapshot_ended(self, receive: SnapshotReceive, member_id: int, ok: bool) -> None:
        """A snapshot has come, or has not."""
        stats = self._network.snapshots_received.setdefault(member_id, TransferStats())
        stats.inflights -= 1
        self._receiving -= 1
        seconds = (self._loop.monotonic_ns() - receive.began_ns) / 1e9
        fields: dict[str, object] = {"remote-snapshot-sender-id": hex_id(member_id), "bytes": receive.bytes}
        if not ok:
            stats.failures += 1
            self._log.warn(_CALLER, "failed to receive database snapshot", **fields)
            return
        stats.success += 1
        stats.seconds.observe(seconds)
        self.db_save_seconds.observe(seconds)
        self.db_fsync_seconds.observe(receive.sync_ns / 1e9)
        self._log.info(_CALLER, "received and saved database snapshot", **fields, took=f"{seconds:.6f}s")


class _Received:
    """Tells the handler whose snapshot has ended."""

    def __init__(self, handler: PeerHandler, member_id: int) -> None:
        self._handler = handler
        self._member_id = member_id

    def ended(self, receive: SnapshotReceive, ok: bool) -> None:
        """It has ended."""
        self._handler.snapshot_ended(receive, self._member_id, ok)
