"""A call that writes down what is sent, and a server that executes at once, over a store in memory."""

from __future__ import annotations

from quorate import errors
from quorate.api.services import Services
from quorate.auth.access import Access
from quorate.auth.password import Passwords
from quorate.auth.store import NOBODY, AuthStore
from quorate.auth.tokens import SimpleTokens
from quorate.errors import RpcError
from quorate.lease.lessor import Lessor
from quorate.membership.cluster import Cluster
from quorate.membership.member import Member
from quorate.membership.version import V3_6
from quorate.mvcc.store import Store, StoreOptions
from quorate.mvcc.watch import WatchHub
from quorate.ports import Completion, NullLog
from quorate.proto import rpc_pb2 as pb
from quorate.server.alarm import Alarms
from quorate.server.authentries import AuthEntries
from quorate.server.config import ServerConfig
from quorate.server.core import Server
from quorate.server.encode import Headers
from quorate.server.entry import AUTHENTICATE
from quorate.server.execute import Executor
from quorate.server.permissions import Permissions
from quorate.server.quota import Quota
from quorate.server.refusals import Refusals
from quorate.server.txn import is_read_only
from quorate.wire.rpc import Router, ServerCall
from tests.mvcc.fakes import FakeBackend, FakeLoop


class FakeCall(ServerCall):
    """A call. `messages` is all that was sent; `error` and `finished` say how it ended."""

    def __init__(self, metadata: dict[bytes, bytes] | None = None, path: bytes = b"/test") -> None:
        self.path = path
        self.ended = False
        self.on_message = None
        self.on_half_close = None
        self.on_end = None
        self.on_drain = None
        self.headers = metadata or {}
        self.messages: list[bytes] = []
        self.error: RpcError | None = None
        self.finished = False
        self.slow = False
        self.waiting = 0

    def metadata(self, name):
        return self.headers.get(name)

    def peer(self):
        return "127.0.0.1:1"

    def complete(self, response):
        assert not self.finished
        assert self.error is None
        if not self.ended:
            self.messages.append(response)
            self.ended = self.finished = True

    def fail(self, error):
        assert isinstance(error, RpcError)
        if not self.ended:
            self.ended = True
            self.error = error

    def send(self, message):
        if not self.ended:
            self.messages.append(message)
            if self.slow:
                self.waiting += len(message)

    def finish(self):
        if not self.ended:
            self.ended = self.finished = True

    def queued_bytes(self):
        return self.waiting

    # The client's side

    def receive(self, message):
        if not self.ended and self.on_message is not None:
            self.on_message(message if isinstance(message, bytes) else message.SerializeToString())

    def half_close(self):
        if not self.ended and self.on_half_close is not None:
            self.on_half_close()

    def reset(self):
        if not self.ended:
            self.ended = True
            if self.on_end is not None:
                self.on_end()

    def drain(self):
        """The client has read everything."""
        self.waiting = 0
        if not self.ended and self.on_drain is not None:
            self.on_drain()

    def take(self, message_type):
        """Return what was sent since the last time, parsed."""
        messages, self.messages = self.messages, []
        return [message_type.FromString(message) for message in messages]


class WorkLoop(FakeLoop):
    """The loop with a worker that does its jobs in the next turn, and a random source that says the middle."""

    def work(self, job, done):
        def run():
            try:
                result = job()
            except Exception as error:
                done(None, error)
            else:
                done(result, None)

        self.soon(run)

    def random_bits(self, bits):
        return 1 << (bits - 1)


class FakeView:
    """A pinned view of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.closed = False

    @property
    def size(self):
        return len(self.data)

    def chunks(self, size):
        for at in range(0, len(self.data), size):
            assert not self.closed
            yield self.data[at : at + size]

    def close(self):
        self.closed = True


class FakeFile(FakeBackend):
    """The backend with what the Maintenance service asks for."""

    def __init__(self, loop):
        super().__init__(loop)
        self.file = b""
        self.views: list[FakeView] = []
        self.defragmentation: Exception | None = None
        self.bytes = 20480

    def size(self):
        return self.bytes

    def size_in_use(self):
        return 16384

    def hash(self, done):
        self.loop.soon(lambda: done(4242))

    def defragment(self, done):
        self.loop.soon(lambda: done(self.defragmentation))

    def snapshot_view(self, done):
        self.read_view(done)

    def file_view(self, done):
        def pin():
            self.views.append(FakeView(self.file))
            done(self.views[-1])

        self.loop.soon(pin)


class FakeServer(Server):
    """Executes every request when it comes, or when `release` is called while `hold` is set."""

    def __init__(self, config: ServerConfig | None = None) -> None:
        self.loop = WorkLoop()
        self.log = NullLog()
        self.config = config or ServerConfig()
        self.backend = FakeFile(self.loop)
        self.lessor = Lessor(self.backend, self.config.min_lease_ttl_s, self.config.request_timeout_ns)
        self.lessor.promote(0, self.loop.monotonic_ns())
        self.watch_hub = WatchHub()
        self.store = Store(self.backend, self.lessor, self.watch_hub, StoreOptions(), self.loop, self.log)
        self.store.restore()
        self.alarms = Alarms(self.backend)
        self.cluster = Cluster(self.log)
        self.cluster.members[7] = Member(7, ["http://p:1"], "m1", ["http://c:1"])
        self.cluster.set_id(7, 99)
        self.cluster.version = V3_6
        self.member_id = 7
        self.cluster_id = 99
        self.lead = 7
        self.no_leader_calls = []
        self.headers = Headers(99, 7)
        self.headers.set_term(2)
        self.tokens = SimpleTokens(self.loop, 300_000_000_000)
        self.passwords = Passwords(self.loop, 4)
        self.auth = AuthStore(self.loop, self.log, self.backend, self.tokens, 4)
        self.auth.recover()
        self.access = Access(self.auth, self.tokens)
        self.permissions = Permissions(self.auth, self.lessor)
        self.refusals = Refusals(self.auth, self.access, self.permissions)
        quota = Quota(self.backend, -1)
        self.executor = Executor(
            self.loop, self.store, self.lessor, self.alarms, quota, self.headers, self.auth, self.permissions
        )
        self.hold = False
        self.held = []
        self.logged: list[bytes] = []  # the bytes of the requests that went into the log
        self.read_error: RpcError | None = None
        self.asked: list[tuple] = []  # what was asked of the cluster
        self.outcome: RpcError | None = None
        self.room = True

    term = 2
    applied_index = 11
    committed_index = 12
    raft_index = 12

    @property
    def leader(self):
        return self.lead

    def _run(self, work, done: Completion):
        def act():
            try:
                response = work()
            except RpcError as error:
                done.fail(error)
            else:
                done.complete(response)

        if self.hold:
            self.held.append(act)
        else:
            act()

    def release(self):
        held, self.held = self.held, []
        for act in held:
            act()

    def _logged(self, execute, request, raw, done):
        assert type(request).FromString(raw) == request
        self.logged.append(raw)
        self._run(lambda: execute(request), done)

    def put(self, request, raw, done):
        self._logged(self.executor.put, request, raw, done)

    def delete_range(self, request, raw, done):
        self._logged(self.executor.delete_range, request, raw, done)

    def txn(self, request, raw, done):
        if is_read_only(request):
            self._run(lambda: self.executor.read_only_txn(request), done)
        else:
            self._logged(lambda txn: self.executor.txn(txn, True), request, raw, done)

    def compact(self, request, raw, done):
        self._logged(lambda compaction: self.executor.compact(compaction, None), request, raw, done)

    def lease_grant(self, request, raw, done):
        if request.ID == 0:
            request.ID = 1000 + len(self.logged)
            raw = request.SerializeToString()
        self._logged(self.executor.lease_grant, request, raw, done)

    def lease_revoke(self, request, raw, done):
        self._logged(self.executor.lease_revoke, request, raw, done)

    def change_auth(self, kind, request, raw, done):
        who = NOBODY
        if self.auth.enabled and kind != AUTHENTICATE:
            who = self.access.who(done)
            if isinstance(who, RpcError):
                done.fail(who)
                return
        entries = AuthEntries(self.auth, self.tokens, self.executor.current_header)
        self._logged(lambda change: entries.execute(kind, change, who, 4711, True), request, raw, done)

    def alarm(self, request, raw, done):
        self._logged(self.executor.alarm, request, raw, done)

    def range(self, request, done):
        self._run(lambda: self.executor.range(request), done)

    def linearizable(self, then):
        if self.hold:
            self.held.append(lambda: then(self.read_error))
        else:
            then(self.read_error)

    def lease_renew(self, lease_id, then):
        def act():
            if self.outcome is not None:
                then(0, self.outcome)
                return
            try:
                ttl = self.lessor.renew(lease_id, self.loop.monotonic_ns())
            except RpcError:
                ttl = 0
            then(ttl, None)

        if self.hold:
            self.held.append(act)
        else:
            act()

    def lease_time_to_live(self, lease_id, then):
        lease = self.lessor.lookup(lease_id)
        remaining = 0 if lease is None else lease.remaining_ns(self.loop.monotonic_ns()) // 1_000_000_000
        then(lease, remaining, self.outcome)

    def leases(self):
        return self.lessor.leases()

    def member_add(self, peer_urls, is_learner, then):
        self.asked.append(("add", peer_urls, is_learner))
        if self.outcome is not None:
            then(None, self.outcome)
        else:
            self.cluster.members[8] = Member(8, peer_urls, is_learner=is_learner)
            then(self.cluster.members[8], None)

    def member_remove(self, member_id, then):
        self.asked.append(("remove", member_id))
        then(self.outcome)

    def member_update(self, member_id, peer_urls, then):
        self.asked.append(("update", member_id, peer_urls))
        then(self.outcome)

    def member_promote(self, member_id, then, token=b""):
        self.asked.append(("promote", member_id))
        then(self.outcome)

    def move_leader(self, target_id, then):
        self.asked.append(("move", target_id))
        then(self.outcome)

    def downgrade(self, action, version, then):
        self.asked.append(("downgrade", action, version))
        then(self.outcome)

    def header(self, revision):
        return self.headers.header(revision)

    def quota_check(self, cost):
        return cost == 0 or self.room

    def is_leader(self):
        return self.lead == self.member_id

    def is_learner(self):
        return self.cluster.is_local_learner()

    def has_leader(self):
        return self.lead != 0


class Bench:
    """A server, all services over it, and calls."""

    def __init__(self, config: ServerConfig | None = None, watch_progress_ns: int = 1_000_000_000) -> None:
        self.server = FakeServer(config)
        self.services = Services(self.server, watch_progress_ns)
        self.router = Router()
        self.services.register(self.router)

    def call(self, path: str, request, metadata: dict[bytes, bytes] | None = None) -> FakeCall:
        """Make a unary call, with a message or bytes."""
        call = FakeCall(metadata, path.encode())
        raw = request if isinstance(request, bytes) else request.SerializeToString()
        method = self.router.methods[path.encode()]
        assert method.unary is not None
        method.unary(call, raw)
        return call

    def stream(self, path: str, *requests, metadata: dict[bytes, bytes] | None = None) -> FakeCall:
        """Open a stream and send requests on it."""
        call = FakeCall(metadata, path.encode())
        method = self.router.methods[path.encode()]
        assert method.stream is not None
        method.stream(call)
        for request in requests:
            call.receive(request)
        return call

    def answer(self, path: str, request, response_type):
        """Return the parsed response of a unary call."""
        call = self.call(path, request)
        assert call.error is None, call.error
        return response_type.FromString(call.messages[0])

    def error(self, path: str, request, metadata: dict[bytes, bytes] | None = None) -> tuple[int, str]:
        """Return code and text of a unary call that fails."""
        call = self.call(path, request, metadata)
        assert call.error is not None, call.messages
        return call.error.code, call.error.text

    def put(self, key: bytes, value: bytes = b"v", lease: int = 0) -> int:
        """Put a key; return the revision."""
        request = pb.PutRequest(key=key, value=value, lease=lease)
        return self.answer("/etcdserverpb.KV/Put", request, pb.PutResponse).header.revision

    def delete(self, key: bytes) -> int:
        """Delete a key; return the revision."""
        request = pb.DeleteRangeRequest(key=key)
        return self.answer("/etcdserverpb.KV/DeleteRange", request, pb.DeleteRangeResponse).header.revision

    def get(self, key: bytes):
        """Return a key's KeyValue, None when it is absent."""
        found = self.answer("/etcdserverpb.KV/Range", pb.RangeRequest(key=key), pb.RangeResponse)
        return found.kvs[0] if found.kvs else None

    def turns(self, count: int = 20) -> None:
        """Let the loop make the calls that are due now; timers do not fire."""
        for _ in range(count):
            if not self.server.loop.calls:
                return
            self.server.loop.turn()


def text_of(error: RpcError) -> tuple[int, str]:
    """Return what `Bench.error` returns for it."""
    return error.code, error.text


NO_LEADER = text_of(errors.NO_LEADER)
