"""What the differential test does: each step sends one request, or a few that belong together, to both servers.

Leases that could expire while the test runs are given back in the step that took them, since the two servers would not
let them expire at the same instant.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from quorate.proto import rpc_pb2 as pb
from tests.differential import requests as r
from tests.differential.runner import CLUSTER, KV, LEASE, MAINTENANCE, Runner

LONG_TTL = 100_000


class Step:
    """One step. A class of its own because hypothesis prints what fails, and a closure's source says nothing."""

    def __init__(self, name: str, run: Callable[[Runner], object]) -> None:
        self.name = name
        self.run = run

    def __repr__(self) -> str:
        return self.name


def unary(path: str, strategy: st.SearchStrategy[r.Build]) -> st.SearchStrategy[Step]:
    """A call with a generated request."""
    return strategy.map(lambda build: Step(path, lambda run: run.call(path, build(run.state))))


def fixed(path: str, requests: list[object]) -> st.SearchStrategy[Step]:
    """A call with one of these requests."""
    return st.sampled_from(requests).map(lambda request: Step(path, lambda run: run.call(path, request)))


def composite(run: Callable[[Runner], object]) -> st.SearchStrategy[Step]:
    """Always this step."""
    return st.just(Step(run.__name__, run))


def hash_kv(pick: int) -> Step:
    """HashKV, except where something was compacted."""

    def step(run: Runner) -> None:
        revision = run.state.rev(pick)
        if revision not in run.state.compacted:
            run.call(MAINTENANCE + "HashKV", pb.HashKVRequest(revision=revision))

    return Step("HashKV", step)


def alarm(run: Runner) -> None:
    """Raise NOSPACE, see writes refused, and take it back."""
    raised = pb.AlarmRequest(action=pb.AlarmRequest.ACTIVATE, memberID=7, alarm=pb.NOSPACE)
    lowered = pb.AlarmRequest(action=pb.AlarmRequest.DEACTIVATE, memberID=7, alarm=pb.NOSPACE)
    put = pb.RequestOp(request_put=pb.PutRequest(key=b"a", value=b"refused"))
    run.call(MAINTENANCE + "Alarm", raised)
    run.call(KV + "Put", put.request_put)
    run.call(KV + "Put", pb.PutRequest(value=b"no key"))
    run.call(KV + "Txn", pb.TxnRequest(success=[put]))
    run.call(KV + "Txn", pb.TxnRequest(success=[pb.RequestOp(request_range=pb.RangeRequest(key=b"a"))]))
    run.call(LEASE + "LeaseGrant", pb.LeaseGrantRequest(TTL=LONG_TTL, ID=99))
    run.call(KV + "DeleteRange", pb.DeleteRangeRequest(key=b"a"))
    run.call(MAINTENANCE + "Alarm", pb.AlarmRequest())
    run.call(MAINTENANCE + "Alarm", pb.AlarmRequest(alarm=pb.CORRUPT))
    run.call(MAINTENANCE + "Status", pb.StatusRequest())
    run.call(MAINTENANCE + "Alarm", raised)
    run.call(MAINTENANCE + "Alarm", lowered)
    run.call(MAINTENANCE + "Alarm", lowered)


def corrupt_alarm(run: Runner) -> None:
    """Raise CORRUPT, see everything refused that goes through the log, and take it back."""
    raised = pb.AlarmRequest(action=pb.AlarmRequest.ACTIVATE, memberID=9, alarm=pb.CORRUPT)
    lowered = pb.AlarmRequest(action=pb.AlarmRequest.DEACTIVATE, memberID=9, alarm=pb.CORRUPT)
    span = pb.RangeRequest(key=b"\0", range_end=b"\0")
    run.call(MAINTENANCE + "Alarm", raised)
    run.corrupt = True
    run.call(KV + "Put", pb.PutRequest(key=b"a", value=b"refused"))
    run.call(KV + "DeleteRange", pb.DeleteRangeRequest(key=b"a"))
    run.call(KV + "Txn", pb.TxnRequest(failure=[pb.RequestOp(request_put=pb.PutRequest(key=b"a"))]))
    run.call(KV + "Txn", pb.TxnRequest(success=[pb.RequestOp(request_range=span)]))
    run.call(KV + "Range", span)
    run.call(KV + "Compact", pb.CompactionRequest(revision=run.state.revision))
    run.call(LEASE + "LeaseGrant", pb.LeaseGrantRequest(TTL=LONG_TTL, ID=99))
    run.call(LEASE + "LeaseRevoke", pb.LeaseRevokeRequest(ID=1))
    run.call(LEASE + "LeaseTimeToLive", pb.LeaseTimeToLiveRequest(ID=1, keys=True))
    run.call(MAINTENANCE + "Alarm", pb.AlarmRequest(alarm=pb.CORRUPT))
    run.call(MAINTENANCE + "Status", pb.StatusRequest())
    run.call(MAINTENANCE + "Alarm", lowered)
    run.corrupt = False
    run.call(MAINTENANCE + "Alarm", pb.AlarmRequest())


def short_lease(ttl: int) -> Step:
    """Grant a lease whose TTL is raised to the shortest there is, look at it, and give it back."""

    def step(run: Runner) -> None:
        run.call(LEASE + "LeaseGrant", pb.LeaseGrantRequest(TTL=ttl, ID=55))
        run.call(LEASE + "LeaseTimeToLive", pb.LeaseTimeToLiveRequest(ID=55))
        run.renew([55])
        run.call(LEASE + "LeaseRevoke", pb.LeaseRevokeRequest(ID=55))

    return Step("short lease", step)


def lease_without_id(run: Runner) -> None:
    """Let the servers pick the id. No keys get it, since every hash from then on would differ."""
    answers = run.grant_any(LONG_TTL)
    run.call(LEASE + "LeaseTimeToLive", *(pb.LeaseTimeToLiveRequest(ID=a.ID, keys=True) for a in answers))
    run.call(LEASE + "LeaseRevoke", *(pb.LeaseRevokeRequest(ID=a.ID) for a in answers))
    run.call(LEASE + "LeaseRevoke", *(pb.LeaseRevokeRequest(ID=a.ID) for a in answers))


def bad_members(run: Runner) -> None:
    """Ask for changes of the cluster that are all refused, or change nothing."""

    def call(method: str, *requests: object) -> None:
        run.call(CLUSTER + method, *requests)
        # Real etcd drops a change, and never answers, that comes too soon after another or after a question to raft
        # (MemberPromote). When another entry has been applied, it is ready again.
        run.call(KV + "DeleteRange", pb.DeleteRangeRequest(key=b"absent"))

    for ident in (0, 12345):
        call("MemberRemove", pb.MemberRemoveRequest(ID=ident))
        call("MemberPromote", pb.MemberPromoteRequest(ID=ident))
        call("MemberUpdate", pb.MemberUpdateRequest(ID=ident, peerURLs=["http://127.0.0.1:1"]))
    own = [side.identity() for side in (run.real, run.ours)]
    call("MemberRemove", *(pb.MemberRemoveRequest(ID=ident) for ident, _ in own))
    call("MemberPromote", *(pb.MemberPromoteRequest(ID=ident) for ident, _ in own))
    call("MemberUpdate", *(pb.MemberUpdateRequest(ID=ident, peerURLs=urls) for ident, urls in own))
    for learner in (True, False):
        call("MemberAdd", *(pb.MemberAddRequest(peerURLs=urls, isLearner=learner) for _, urls in own))
    for urls in ([], ["nonsense"], ["http://127.0.0.1:1/path"], ["ftp://127.0.0.1:1"], ["http://127.0.0.1"], [""]):
        call("MemberAdd", pb.MemberAddRequest(peerURLs=urls))


def large_puts(run: Runner) -> None:
    """Put what is too large for a request, and too large for a message."""
    for size in (1_600_000, 2_200_000):
        run.call(KV + "Put", pb.PutRequest(key=b"a", value=b"x" * size))


LEASES = [1, 2, 3, 42, 0, -5]

rare = st.one_of(
    fixed(MAINTENANCE + "Defragment", [pb.DefragmentRequest()]),
    composite(lambda run: run.take_snapshot()),
    composite(alarm),
    composite(corrupt_alarm),
    composite(lease_without_id),
    composite(bad_members),
    composite(large_puts),
    st.sampled_from([0, 1, -1, -(10**9), r.INT64_MIN]).map(short_lease),
    st.tuples(st.integers(2, 4), st.booleans()).map(
        lambda x: Step("fragments", lambda run: run.fragments(x[0], x[1])),
    ),
    st.tuples(st.sampled_from(["Watch/Watch", "Lease/LeaseKeepAlive"]), st.sampled_from(r.MALFORMED)).map(
        lambda x: Step("malformed", lambda run: run.end_stream("/etcdserverpb." + x[0], x[1]))
    ),
)

leases = st.one_of(
    fixed(
        LEASE + "LeaseGrant",
        [pb.LeaseGrantRequest(TTL=LONG_TTL, ID=i) for i in (1, 1, 2, 2, 3, 3, -5)]
        + [pb.LeaseGrantRequest(TTL=ttl, ID=8) for ttl in (9_000_000_001, r.INT64_MAX)],
    ),
    fixed(LEASE + "LeaseRevoke", [pb.LeaseRevokeRequest(ID=i) for i in (*LEASES, r.INT64_MIN)]),
    fixed(LEASE + "LeaseTimeToLive", [pb.LeaseTimeToLiveRequest(ID=i, keys=k) for i in LEASES for k in (True, False)]),
    fixed(LEASE + "LeaseLeases", [pb.LeaseLeasesRequest()]),
    st.lists(st.sampled_from(LEASES), min_size=1, max_size=4).map(
        lambda ids: Step("renew", lambda run: run.renew(ids))
    ),
)

watches = st.one_of(
    r.watch_creates().map(lambda build: Step("watch", lambda run: run.watch(build(run.state)))),
    r.watch_creates().map(lambda build: Step("watch", lambda run: run.watch(build(run.state)))),
    st.sampled_from([0, 1, 2, 9, 33, -1]).map(
        lambda i: Step(
            "cancel", lambda run: run.watch(pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=i)))
        )
    ),
    composite(lambda run: run.watch(pb.WatchRequest())),
    composite(lambda run: run.watch(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))),
)

odd = st.one_of(
    unary(KV + "Range", r.odd_bytes(r.ranges())),
    unary(KV + "Put", r.odd_bytes(r.puts())),
    unary(KV + "DeleteRange", r.odd_bytes(r.deletes())),
    unary(KV + "Txn", r.odd_bytes(r.txns())),
    unary(LEASE + "LeaseRevoke", r.odd_bytes(st.just(lambda s: pb.LeaseRevokeRequest(ID=3)))),
    unary(LEASE + "LeaseTimeToLive", r.odd_bytes(st.just(lambda s: pb.LeaseTimeToLiveRequest(ID=1, keys=True)))),
    unary(LEASE + "LeaseLeases", r.odd_bytes(st.just(lambda s: pb.LeaseLeasesRequest()))),
    unary(MAINTENANCE + "Status", r.odd_bytes(st.just(lambda s: pb.StatusRequest()))),
    unary(CLUSTER + "MemberList", r.odd_bytes(st.just(lambda s: pb.MemberListRequest()))),
    unary(MAINTENANCE + "MoveLeader", r.odd_bytes(st.just(lambda s: pb.MoveLeaderRequest(targetID=5)))),
)

other = st.one_of(
    r.rev_picks.map(hash_kv),
    r.rev_picks.map(hash_kv),
    fixed(MAINTENANCE + "Status", [pb.StatusRequest()]),
    fixed(MAINTENANCE + "Hash", [pb.HashRequest()]),
    fixed(MAINTENANCE + "MoveLeader", [pb.MoveLeaderRequest(targetID=5), pb.MoveLeaderRequest()]),
    fixed(
        MAINTENANCE + "Alarm",
        [pb.AlarmRequest(action=a, memberID=m, alarm=k) for a, m, k in ((0, 0, 0), (0, 3, 1), (1, 3, 0), (2, 3, 2))],
    ),
    fixed(
        MAINTENANCE + "Downgrade",
        [pb.DowngradeRequest(action=a, version=v) for a, v in ((0, "x"), (0, ""), (1, "9.9.0"), (7, "3.5"))],
    ),
    fixed(CLUSTER + "MemberList", [pb.MemberListRequest(linearizable=x) for x in (True, False)]),
    fixed(KV + "Nothing", [pb.RangeRequest()]),
    fixed("/etcdserverpb.Nothing/Range", [pb.RangeRequest()]),
    unary(KV + "Compact", r.compactions()),
    unary(KV + "Txn", r.oversized_txns()),
)

steps = st.one_of(
    *[unary(KV + "Put", r.puts())] * 3,
    *[unary(KV + "Range", r.ranges())] * 3,
    *[unary(KV + "Txn", r.txns())] * 3,
    unary(KV + "DeleteRange", r.deletes()),
    unary(KV + "Txn", r.chains()),
    leases,
    watches,
    other,
    st.one_of(odd, odd, odd, rare),
)
