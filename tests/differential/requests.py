"""Random requests, valid and invalid, as hypothesis strategies.

A request is a function of the `State` of the run (the current revision, the leases granted), so that the same strategy
gives sensible revisions wherever it is used. Not generated, because 3.5.1 crashes or differs from 3.6, which we follow:

    unknown sort targets        3.5.1 crashes; 3.6 refuses them, and unknown orders
    unknown alarm types and     3.5.1 crashes, at every start too; we refuse them
      actions
    put that ignores value or   3.5.1 and 3.6 crash when a delete before it took its key, which the rule on duplicate
      lease, after a delete       keys lets through for a range_end of "\\0"
    negative watch start        3.5.1 watches from now on; 3.6.6 cancels
    compaction at a deletion    3.5.1 drops that tombstone, 3.5.16 and 3.6 keep it
    HashKV at a revision that   3.5.1 says it is compacted, 3.5.10 and 3.6 answer, for the last ten of them with what
      was compacted               the hash was before
    range_end present but       acts as "\\0" in what etcd reads without the log; we do so in Range alone
      empty, inside a Txn
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hypothesis import strategies as st

from quorate.proto import rpc_pb2 as pb

MAX_TXN_OPS = 128
INT64_MAX = (1 << 63) - 1
INT64_MIN = -(1 << 63)
FURTHEST = 99  # the number that stands for INT64_MAX, and negated for INT64_MIN


@dataclass
class State:
    """What the run knows about both servers."""

    base: int = 1
    revision: int = 1
    compacted: set[int] = field(default_factory=set)
    deletions: set[int] = field(default_factory=set)

    def rev(self, pick: int) -> int:
        """Turn a small number into a revision: mostly in reach, sometimes compacted, future, zero or negative."""
        if abs(pick) == FURTHEST:
            return INT64_MAX if pick > 0 else INT64_MIN
        if pick < -2:
            return pick
        if pick <= 0:
            return 0
        return max(self.base - 2, self.revision - pick + 3)


Build = Callable[[State], object]

keys = st.sampled_from(
    [b"a", b"a1", b"a2", b"ab", b"b", b"b/1", b"b/2", b"c", b"d\xff", b"\xff", b"\xff\xff", b"\0", b"e\0"]
)
maybe_key = st.one_of(keys, keys, keys, keys, st.just(b""))
ends = st.sampled_from([b"", b"", b"", b"\0", b"b", b"c", b"a2", b"a", b"zz", b"\xff", b"d", b"\0\0"])
values = st.sampled_from([b"", b"v", b"w", b"value", b"\0\xff", b"x" * 300])
lease_ids = st.sampled_from([0, 0, 0, 0, 1, 2, 3, 77, -5])
rev_picks = st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 8, 12, 20, -1, -7, FURTHEST, -FURTHEST])
limits = st.sampled_from([0, 0, 0, 0, 1, 1, 2, 3, 100, -1, INT64_MAX, INT64_MIN])
flags = st.sampled_from([False, False, False, True])


def ranges() -> st.SearchStrategy[Build]:
    """Range with every option."""
    return st.builds(
        lambda key, end, limit, pick, order, target, ser, ko, co, bounds: (
            lambda s: pb.RangeRequest(
                key=key,
                range_end=end,
                limit=limit,
                revision=s.rev(pick),
                sort_order=order,
                sort_target=target,
                serializable=ser,
                keys_only=ko,
                count_only=co,
                min_mod_revision=s.rev(bounds[0]),
                max_mod_revision=s.rev(bounds[1]),
                min_create_revision=s.rev(bounds[2]),
                max_create_revision=s.rev(bounds[3]),
            )
        ),
        maybe_key,
        ends,
        limits,
        rev_picks,
        st.sampled_from([0, 0, 0, 1, 2]),
        st.sampled_from([0, 0, 0, 1, 2, 3, 4]),
        flags,
        flags,
        flags,
        st.one_of(
            st.just((0, 0, 0, 0)),
            st.tuples(*[st.sampled_from([0] * 8 + [1, 3, 5, 9])] * 4),
            st.tuples(*[st.sampled_from([4, 5, 9, 12, 20, FURTHEST, -FURTHEST])] * 4),
        ),
    )


def puts() -> st.SearchStrategy[Build]:
    """Put with every option."""
    return st.builds(
        lambda key, value, lease, prev, iv, il: (
            lambda s: pb.PutRequest(key=key, value=value, lease=lease, prev_kv=prev, ignore_value=iv, ignore_lease=il)
        ),
        maybe_key,
        values,
        lease_ids,
        flags,
        st.sampled_from([False] * 7 + [True]),
        st.sampled_from([False] * 7 + [True]),
    )


def deletes() -> st.SearchStrategy[Build]:
    """DeleteRange."""
    return st.builds(
        lambda key, end, prev: lambda s: pb.DeleteRangeRequest(key=key, range_end=end, prev_kv=prev),
        maybe_key,
        ends,
        flags,
    )


def compares() -> st.SearchStrategy[Build]:
    """A Compare, with unions that fit the target and some that do not."""

    def build(key: bytes, end: bytes, result: int, target: int, union: str, pick: int, value: bytes) -> Build:
        def make(s: State) -> pb.Compare:
            compare = pb.Compare(key=key, range_end=end, result=result, target=target)
            if union == "value":
                compare.value = value
            elif union == "version":
                compare.version = pick
            elif union == "lease":
                compare.lease = pick
            elif union:
                setattr(compare, union, s.rev(pick))
            return compare

        return make

    unions = st.sampled_from(["version", "create_revision", "mod_revision", "value", "lease", ""])
    fitting = ["version", "create_revision", "mod_revision", "value", "lease"]
    fit = st.builds(
        lambda key, end, result, target, pick, value: build(key, end, result, target, fitting[target], pick, value),
        maybe_key,
        ends,
        st.integers(0, 3),
        st.integers(0, 4),
        st.sampled_from([0, 1, 2, 3, 5]),
        values,
    )
    misfit = st.builds(
        build, maybe_key, ends, st.integers(0, 5), st.integers(0, 6), unions, st.sampled_from([0, 1, 3]), values
    )
    return st.one_of(fit, fit, fit, misfit)


def _op(kind: str, inner: Build) -> Build:
    return lambda s: pb.RequestOp(**{kind: inner(s)})


def ops(depth: int) -> st.SearchStrategy[Build]:
    """A RequestOp; nested transactions down to `depth`."""
    choices = [
        st.builds(lambda b: _op("request_put", b), puts()),
        st.builds(lambda b: _op("request_put", b), puts()),
        st.builds(lambda b: _op("request_range", b), ranges()),
        st.builds(lambda b: _op("request_delete_range", b), deletes()),
    ]
    if depth > 0:
        choices.append(st.builds(lambda b: _op("request_txn", b), txns(depth - 1)))
        choices.append(st.just(lambda s: pb.RequestOp()) if depth == 1 else choices[0])
    return st.one_of(*choices)


def txns(depth: int = 3) -> st.SearchStrategy[Build]:
    """A Txn, as deep as `depth` below the outermost."""

    def build(compare: list[Build], success: list[Build], failure: list[Build]) -> Build:
        def make(s: State) -> pb.TxnRequest:
            txn = pb.TxnRequest(
                compare=[x(s) for x in compare], success=[x(s) for x in success], failure=[x(s) for x in failure]
            )
            if _deletes_from_key(txn):
                _ignore_nothing(txn)
            return txn

        return make

    return st.builds(
        build, st.lists(compares(), max_size=2), st.lists(ops(depth), max_size=3), st.lists(ops(depth), max_size=2)
    )


def chains() -> st.SearchStrategy[Build]:
    """A Txn with one operation on each of many levels."""

    def build(depth: int, compare: Build, inner: Build) -> Build:
        def make(s: State) -> pb.TxnRequest:
            txn = pb.TxnRequest(compare=[compare(s)], success=[inner(s)], failure=[inner(s)])
            for level in range(depth):
                op = pb.RequestOp(request_txn=txn)
                txn = pb.TxnRequest(success=[op], failure=[op]) if level == 0 else pb.TxnRequest(success=[op])
            return txn

        return make

    return st.builds(build, st.integers(2, 12), compares(), ops(0))


def _inner_ops(txn: pb.TxnRequest) -> Iterator[pb.RequestOp]:
    for op in (*txn.success, *txn.failure):
        yield op
        if op.HasField("request_txn"):
            yield from _inner_ops(op.request_txn)


def _deletes_from_key(txn: pb.TxnRequest) -> bool:
    return any(op.request_delete_range.range_end == b"\0" for op in _inner_ops(txn))


def _ignore_nothing(txn: pb.TxnRequest) -> None:
    for op in _inner_ops(txn):
        if op.HasField("request_put"):
            op.request_put.ignore_value = op.request_put.ignore_lease = False


def oversized_txns() -> st.SearchStrategy[Build]:
    """A Txn with too many operations, or just not, at the top or, the limit being shared, in a nested one."""

    def build(outer: int, nested: int) -> Build:
        def make(s: State) -> pb.TxnRequest:
            txn = pb.TxnRequest(success=[_put_number(b"n", i) for i in range(outer - (nested > 0))])
            if nested:
                inner = pb.TxnRequest(failure=[_put_number(b"m", i) for i in range(nested)])
                txn.success.append(pb.RequestOp(request_txn=inner))
            return txn

        return make

    sizes = [(MAX_TXN_OPS, 0), (MAX_TXN_OPS + 1, 0), (100, 28), (100, 29), (MAX_TXN_OPS, 1)]
    return st.sampled_from(sizes).map(lambda size: build(*size))


def _put_number(prefix: bytes, number: int) -> pb.RequestOp:
    return pb.RequestOp(request_put=pb.PutRequest(key=prefix + b"%d" % number, value=b"v"))


def compactions() -> st.SearchStrategy[Build]:
    """Compact, never at a revision that holds a deletion."""

    def build(pick: int, physical: bool) -> Build:
        def make(s: State) -> pb.CompactionRequest:
            rev = s.rev(pick)
            while rev in s.deletions:
                rev -= 1
            return pb.CompactionRequest(revision=rev, physical=physical)

        return make

    return st.builds(build, st.sampled_from([1, 4, 6, 9, 15, 20, 0, -7, FURTHEST, -FURTHEST]), st.just(True))


watch_keys = st.tuples(maybe_key, ends)


def watch_creates() -> st.SearchStrategy[Build]:
    """A watch creation."""
    return st.builds(
        lambda span, pick, prev, filters, wid, frag: (
            lambda s: pb.WatchRequest(
                create_request=pb.WatchCreateRequest(
                    key=span[0],
                    range_end=span[1],
                    start_revision=max(0, s.rev(pick)),
                    prev_kv=prev,
                    filters=filters,
                    watch_id=wid,
                    fragment=frag,
                )
            )
        ),
        watch_keys,
        rev_picks,
        flags,
        st.sampled_from([[], [], [], [0], [1], [0, 1]]),
        st.sampled_from([0, 0, 0, 0, 1, 2, 9]),
        flags,
    )


# What follows a message on the wire and does not belong there, or is written in an unusual way: wrong wire types, cut
# fields, lengths and numbers that overflow, groups, unknown fields, fields that are present but empty or come twice.
FRAGMENTS = [
    b"\x08\x01",
    b"\x0a",
    b"\x0a\x00",
    b"\x0a\x05ab",
    b"\x0a\x01z",
    b"\x12\x00",
    b"\x12\x00\x12\x01b",
    b"\x12\x01b\x12\x00",
    b"\x1a\x00",
    b"\x0b\x0c",
    b"\x0c",
    b"\x0f",
    b"\x00\x00",
    b"\x07",
    b"\x09\0\0\0\0\0\0\0\0",
    b"\xff" * 11,
    b"\x0a" + b"\xff" * 8 + b"\x01",
    b"\x0a" + b"\xff" * 9 + b"\x01",
    b"\x20" + b"\xff" * 9 + b"\x01",
    b"\x20" + b"\x80" * 9 + b"\x02",
    b"\xf8\x01\x05",
    b"\xfa\x01\x00",
    b"\xfb\x01\xfc\x01",
    b"\xfb\x01\x08\x01",
    b"\xf9\x01abcd",
]


def odd_bytes(strategy: st.SearchStrategy[Build]) -> st.SearchStrategy[Build]:
    """The bytes of a request with a fragment behind them, or cut short."""

    def build(inner: Build, fragment: bytes, cut: int) -> Build:
        return lambda s: (inner(s).SerializeToString() + fragment)[: -cut or None]

    return st.builds(build, strategy, st.sampled_from(FRAGMENTS), st.sampled_from([0, 0, 0, 0, 1, 2, 4]))


# What is no request at all, on a stream.
MALFORMED = [b"\x0a", b"\x0a\x05ab", b"\x0f", b"\x00\x00", b"\xff" * 11, b"\x08\x01\x0a", b"\x0c"]
