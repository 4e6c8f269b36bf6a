"""Run the benchmark rows against real etcd and ours in turn and print the ratios.

    python -m bench [--rounds 3] [--scale 1.0] [ROW ...]

A row's figure is the median of its rounds; real and ours take turns within a round, each on a fresh member. Ratios
above 1 mean that ours is better (more per second, less time, less memory). Only ratios are quotable: absolute figures
depend on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import uvloop

from bench import load
from quorate.proto import rpc_pb2 as pb
from tests.cluster.harness import Cluster, cluster
from tests.oracle import Member, running
from tests.tls.certs import Authority
from tests.tls.world import TlsMember, peer_tls_cluster, tls_member

PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"
TXN = "/etcdserverpb.KV/Txn"
VALUE = b"v" * 256


def unary(member: Member, path: str, request: object, response: type) -> object:
    """Make one call with grpcio, an independent client."""
    if isinstance(member, TlsMember):
        credentials = grpc.ssl_channel_credentials(member.authority.cert.read_bytes())
        opened = grpc.secure_channel(member.endpoint, credentials)
    else:
        opened = grpc.insecure_channel(member.endpoint)
    with opened as channel:
        call = channel.unary_unary(
            path,
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return call(request, timeout=30)


def revision(member: Member) -> int:
    """Return the store's current revision."""
    answer = unary(member, RANGE, pb.RangeRequest(key=b"none", count_only=True), pb.RangeResponse)
    return answer.header.revision


def generate(member: Member, path: str, conns: int, streams: int, total: int, payload: Callable) -> load.LoadResult:
    """Run our generator."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(load.run([member.client_port], path, conns, streams, total, payload))


def h2load(member: Member, path: str, request: bytes, conns: int, streams: int, total: int) -> float:
    """Run nghttp2's h2load with one fixed request; return calls per second."""
    tool = shutil.which("h2load")
    if tool is None:
        raise SystemExit("h2load is not installed (Debian: nghttp2-client)")
    with tempfile.NamedTemporaryFile() as body:
        body.write(load.grpc_message(request))
        body.flush()
        result = subprocess.run(
            [tool, "-t1", f"-c{conns}", f"-m{streams}", f"-n{total}", "-d", body.name]
            + ["-H", "content-type: application/grpc", "-H", "te: trailers", f"{member.url}{path}"],
            capture_output=True,
            text=True,
            check=True,
        )
    for line in result.stdout.splitlines():
        if line.startswith("requests:") and f"{total} succeeded" not in line:
            raise RuntimeError(line)
        if line.startswith("finished in"):
            return float(line.split("req/s")[0].split(",")[1])
    raise RuntimeError(result.stdout)


def fill(member: Member, keys: int, value: bytes = VALUE) -> None:
    """Put that many keys."""
    before = revision(member)
    generate(member, PUT, 10, 20, keys, lambda c, n: pb.PutRequest(key=key_of(c, n), value=value).SerializeToString())
    assert revision(member) == before + keys


def key_of(connection: int, number: int) -> bytes:
    """Return a key of a realistic length, spread over prefixes."""
    return b"/registry/pods/namespace-%02d/pod-%08d" % (connection, number)


# Each row: a function of (member, scale) that returns a figure; `more` says whether more is better.


def put_h2load(conns: int, streams: int, total: int) -> Callable[[Member, float], float]:
    def row(member: Member, scale: float) -> float:
        count = int(total * scale) // conns * conns
        before = revision(member)
        request = pb.PutRequest(key=b"/registry/bench/key", value=VALUE).SerializeToString()
        figure = h2load(member, PUT, request, conns, streams, count)
        assert revision(member) == before + count
        return figure

    return row


def range_h2load(member: Member, scale: float) -> float:
    unary(member, PUT, pb.PutRequest(key=b"/registry/bench/key", value=VALUE), pb.PutResponse)
    request = pb.RangeRequest(key=b"/registry/bench/key").SerializeToString()
    return h2load(member, RANGE, request, 100, 10, int(200_000 * scale))


def put_distinct(member: Member, scale: float) -> float:
    total = int(100_000 * scale)
    before = revision(member)
    result = generate(
        member, PUT, 10, 20, total, lambda c, n: pb.PutRequest(key=key_of(c, n), value=VALUE).SerializeToString()
    )
    assert revision(member) == before + total
    return result.per_second


def put_one_by_one(member: Member, scale: float) -> float:
    result = generate(
        member,
        PUT,
        1,
        1,
        int(8_000 * scale),
        lambda c, n: pb.PutRequest(key=key_of(c, n % 1000), value=VALUE).SerializeToString(),
    )
    return result.median


def range_spread(member: Member, scale: float) -> float:
    fill(member, 10_000)
    return generate(
        member,
        RANGE,
        100,
        10,
        int(150_000 * scale),
        lambda c, n: pb.RangeRequest(key=key_of(c % 10, (n * 7919) % 1000)).SerializeToString(),
    ).per_second


def txn(member: Member, scale: float) -> float:
    def request(c: int, n: int) -> bytes:
        key = key_of(c, n % 2000)
        compare = pb.Compare(key=key, target=pb.Compare.VERSION, version=n // 2000, result=pb.Compare.EQUAL)
        put = pb.RequestOp(request_put=pb.PutRequest(key=key, value=VALUE))
        get = pb.RequestOp(request_range=pb.RangeRequest(key=key))
        return pb.TxnRequest(compare=[compare], success=[put], failure=[get]).SerializeToString()

    total = int(60_000 * scale)
    before = revision(member)
    result = generate(member, TXN, 10, 20, total, request)
    assert revision(member) > before
    return result.per_second


def range_thousand(member: Member, scale: float) -> float:
    fill(member, 10_000)
    request = pb.RangeRequest(key=key_of(3, 0), range_end=key_of(3, 99_999_999), limit=1000).SerializeToString()
    answer = unary(member, RANGE, pb.RangeRequest.FromString(request), pb.RangeResponse)
    assert len(answer.kvs) == 1000
    return generate(member, RANGE, 10, 2, int(2_000 * scale), lambda c, n: request).per_second


def watch_fan_out(member: Member, scale: float) -> float:
    """Return events per second delivered to 100 watchers of one key on 10 connections."""
    puts = int(2_000 * scale)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_watch_fan_out(member, puts))


async def _watch_fan_out(member: Member, puts: int) -> float:
    loop = asyncio.get_running_loop()
    key = b"/registry/bench/watched"
    create = pb.WatchRequest(create_request=pb.WatchCreateRequest(key=key)).SerializeToString()
    links = []
    for _ in range(10):
        _, link = await loop.create_connection(
            lambda: StreamConnection("/etcdserverpb.Watch/Watch"), "127.0.0.1", member.client_port
        )
        link.open(b"".join(load.grpc_message(create) for _ in range(10)))
        links.append(link)
    while any(link.messages < 10 for link in links):
        await asyncio.sleep(0.01)
    for link in links:
        link.marker = key  # a catch-up response holds many events: count them, not the messages
        link.expect(10 + 10 * puts)
    began = time.perf_counter()
    put = pb.PutRequest(key=key, value=VALUE).SerializeToString()
    await load.run([member.client_port], PUT, 2, 10, puts, lambda c, n: put)
    await asyncio.gather(*(link.reached for link in links))
    seconds = time.perf_counter() - began
    for link in links:
        link.transport.abort()
    return 100 * puts / seconds


def lease_keepalive(member: Member, scale: float) -> float:
    """Return keepalives per second on 10 streams that each have 20 requests under way."""
    answer = unary(member, "/etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantRequest(TTL=600), pb.LeaseGrantResponse)
    message = load.grpc_message(pb.LeaseKeepAliveRequest(ID=answer.ID).SerializeToString())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_keepalive(member, message, int(10_000 * scale)))


async def _keepalive(member: Member, message: bytes, each: int) -> float:
    loop = asyncio.get_running_loop()
    links = []
    for _ in range(10):
        _, link = await loop.create_connection(
            lambda: StreamConnection("/etcdserverpb.Lease/LeaseKeepAlive"), "127.0.0.1", member.client_port
        )
        links.append(link)
    began = time.perf_counter()
    for link in links:
        link.expect(each)
        link.repeat = message
        link.left = each - 20
        link.open(message * 20)
    await asyncio.gather(*(link.reached for link in links))
    seconds = time.perf_counter() - began
    for link in links:
        link.transport.abort()
    return 10 * each / seconds


class StreamConnection(load.LoadConnection):
    """One streaming call on one connection; counts the response messages."""

    def __init__(self, path: str) -> None:
        super().__init__(path, 1, 1, lambda n: b"")
        self.messages = 0
        self.expected = 2**62
        self.reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.marker = b""
        self.body = b""
        self.repeat = b""
        self.left = 0

    def open(self, body: bytes) -> None:
        """Start the call with these messages."""
        self.transport.write(
            load.frame(load.HEADERS, load.END_HEADERS, 1, self.first_block) + load.frame(load.DATA, 0, 1, body)
        )

    def expect(self, messages: int) -> None:
        """Set how many messages `reached` waits for."""
        self.expected = messages

    def data_received(self, data: bytes) -> None:
        """Count messages; with `repeat` set, answer each with another request."""
        data = self.buffer + data
        at, end, new = 0, len(data), 0
        out = []
        while end - at >= 9:
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if end - at < 9 + length:
                break
            kind, flags = data[at + 3], data[at + 4]
            if kind == load.DATA:
                self.received += length
                new += self._count(data[at + 9 : at + 9 + length])
            elif kind == load.PING and not flags & load.ACK:
                out.append(load.frame(load.PING, load.ACK, 0, data[at + 9 : at + 17]))
            elif kind == load.SETTINGS and not flags & load.ACK:
                out.append(load.frame(load.SETTINGS, load.ACK, 0, b""))
            elif kind == load.HEADERS and flags & load.END_STREAM:
                self.fail_stream(RuntimeError("the stream ended"))
            elif kind in (load.RST_STREAM, load.GOAWAY):
                self.fail_stream(RuntimeError(f"frame type {kind}"))
            at += 9 + length
        self.buffer = data[at:]
        if self.received > 2**20:
            update = struct.pack(">I", self.received)
            out += [load.frame(load.WINDOW_UPDATE, 0, 0, update), load.frame(load.WINDOW_UPDATE, 0, 1, update)]
            self.received = 0
        if self.repeat and new and self.left > 0:
            again = min(new, self.left)
            self.left -= again
            out.append(load.frame(load.DATA, 0, 1, self.repeat * again))
        if out:
            self.transport.write(b"".join(out))
        if self.messages >= self.expected and not self.reached.done():
            self.reached.set_result(None)

    def _count(self, body: bytes) -> int:
        self.body += body
        at, new = 0, 0
        while len(self.body) - at >= 5:
            size = int.from_bytes(self.body[at + 1 : at + 5], "big")
            if len(self.body) - at < 5 + size:
                break
            new += self.body.count(self.marker, at, at + 5 + size) if self.marker else 1
            at += 5 + size
        self.body = self.body[at:]
        self.messages += new
        return new

    def fail_stream(self, error: Exception) -> None:
        """End the wait with an error."""
        if not self.reached.done():
            self.reached.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the wait with an error unless it was over."""
        self.fail_stream(exc or ConnectionError("the server closed the connection"))


def restart(member: Member, scale: float) -> float:
    """Return the seconds from start to healthy with 100,000 keys."""
    fill(member, int(100_000 * scale))
    member.stop()
    began = time.perf_counter()
    member.start()
    return time.perf_counter() - began


def memory(member: Member, scale: float) -> float:
    """Return the resident bytes after 100,000 puts of 256 bytes and two seconds of rest."""
    fill(member, int(100_000 * scale))
    time.sleep(2)
    return member.rss_bytes()


# Rows of three members: functions of (cluster, scale).


def cluster_generate(cluster: Cluster, path: str, total: int, payload: Callable) -> float:
    """Run our generator on connections to all members; return calls per second."""
    ports = [member.client_port for member in cluster.members]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(load.run(ports, path, 30, 20, total, payload)).per_second


def cluster_put(cluster: Cluster, scale: float) -> float:
    return cluster_generate(
        cluster,
        PUT,
        int(60_000 * scale),
        lambda c, n: pb.PutRequest(key=key_of(c, n), value=VALUE).SerializeToString(),
    )


def cluster_put_leader(cluster: Cluster, scale: float) -> float:
    return put_distinct(cluster.leader(), scale * 0.6)


def cluster_range(cluster: Cluster, scale: float) -> float:
    fill(cluster.leader(), 10_000)
    return cluster_generate(
        cluster,
        RANGE,
        int(60_000 * scale),
        lambda c, n: pb.RangeRequest(key=key_of(c % 10, (n * 7919) % 1000)).SerializeToString(),
    )


def cluster_mixed(cluster: Cluster, scale: float) -> float:
    """Return calls per second of four linearizable ranges to one put, on all members."""
    fill(cluster.leader(), 10_000)
    ports = [member.client_port for member in cluster.members]
    puts = int(12_000 * scale)

    async def both() -> float:
        began = time.perf_counter()
        await asyncio.gather(
            load.run(
                ports, PUT, 6, 20, puts, lambda c, n: pb.PutRequest(key=key_of(c, n), value=VALUE).SerializeToString()
            ),
            load.run(
                ports,
                RANGE,
                24,
                20,
                4 * puts,
                lambda c, n: pb.RangeRequest(key=key_of(c % 10, n % 1000)).SerializeToString(),
            ),
        )
        return 5 * puts / (time.perf_counter() - began)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(both())


CLUSTER_ROWS: dict[str, tuple[str, bool, Callable[[Cluster, float], float]]] = {
    "3-put": ("3 members: put, 30 x 20 on all, distinct keys", True, cluster_put),
    "3-put-leader": ("3 members: put, 10 x 20 on the leader", True, cluster_put_leader),
    "3-range": ("3 members: linearizable range, 30 x 20 on all", True, cluster_range),
    "tls-3-put-leader": ("3 members, TLS among them: put, 10 x 20 on the leader", True, cluster_put_leader),
    "3-mixed": ("3 members: 4 ranges to 1 put, 30 x 20 on all", True, cluster_mixed),
}

ROWS: dict[str, tuple[str, bool, Callable[[Member, float], float]]] = {
    "put-10x20": ("put, 10 connections x 20 streams (h2load, one key)", True, put_h2load(10, 20, 60_000)),
    "put-100x10": ("put, 100 x 10 (h2load, one key)", True, put_h2load(100, 10, 60_000)),
    "put-100x1": ("put, 100 x 1 (h2load, one key)", True, put_h2load(100, 1, 40_000)),
    "put-1x1": ("put, 1 x 1 (h2load, one key)", True, put_h2load(1, 1, 6_000)),
    "range-100x10": ("range of one key, 100 x 10 (h2load)", True, range_h2load),
    "put-distinct": ("put, 10 x 20, distinct keys", True, put_distinct),
    "put-latency": ("put, 1 x 1, median latency", False, put_one_by_one),
    "range-spread": ("range of one key, 100 x 10, spread keys", True, range_spread),
    "txn": ("compare-then-put txn, 10 x 20", True, txn),
    "range-1000": ("range of 1,000 keys, 10 x 2", True, range_thousand),
    "watch": ("events to 100 watchers of one key", True, watch_fan_out),
    "keepalive": ("lease keepalive, 10 streams x 20", True, lease_keepalive),
    "restart": ("restart with 100,000 keys", False, restart),
    "memory": ("resident memory, 100,000 keys of 256 bytes", False, memory),
}


def tls_connect(member: Member, scale: float) -> float:
    """Return new connections per second, each with one range, 200 of them under way."""
    unary(member, PUT, pb.PutRequest(key=b"/registry/bench/key", value=VALUE), pb.PutResponse)
    request = pb.RangeRequest(key=b"/registry/bench/key").SerializeToString()
    count = 200
    figures = [h2load(member, RANGE, request, count, 1, count) for _ in range(max(int(10 * scale), 1))]
    return statistics.median(figures)


TLS_ROWS: dict[str, tuple[str, bool, Callable[[Member, float], float]]] = {
    "tls-put": ("TLS: put, 10 x 20 (h2load, one key)", True, put_h2load(10, 20, 60_000)),
    "tls-put-1x1": ("TLS: put, 1 x 1 (h2load, one key)", True, put_h2load(1, 1, 6_000)),
    "tls-range": ("TLS: range of one key, 100 x 10 (h2load)", True, range_h2load),
    "tls-connect": ("TLS: new connections (h2load, ECDSA certificate)", True, tls_connect),
    "tls-connect-rsa": ("TLS: new connections (h2load, RSA 2048 certificate)", True, tls_connect),
}


def measure_tls(name: str, kind: str, scale: float) -> float:
    """Measure a row on a member with a certificate."""
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(Path(folder))
        pair = authority.issue("server", key="rsa" if name.endswith("rsa") else "ec")
        with tls_member(kind, authority, pair.flags()) as member:
            return TLS_ROWS[name][2](member, scale)


def measure_three(name: str, kind: str, scale: float) -> float:
    """Measure a row on three members, which speak TLS with each other when the row's name says so."""
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(Path(folder))
        secure = name.startswith("tls-")
        made = peer_tls_cluster([kind] * 3, authority, authority.issue("m")) if secure else cluster([kind] * 3)
        with made as three:
            three.leader()
            return CLUSTER_ROWS[name][2](three, scale)


def measure(name: str, rounds: int, scale: float) -> tuple[float, float]:
    """Return the medians of real and ours for a row."""
    figures: dict[str, list[float]] = {"real": [], "ours": []}
    for turn in range(rounds):
        for kind in ("real", "ours") if turn % 2 == 0 else ("ours", "real"):
            if name in ROWS:
                with running(kind) as member:
                    figures[kind].append(ROWS[name][2](member, scale))
            elif name in TLS_ROWS:
                figures[kind].append(measure_tls(name, kind, scale))
            else:
                figures[kind].append(measure_three(name, kind, scale))
    return statistics.median(figures["real"]), statistics.median(figures["ours"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS, *TLS_ROWS, *CLUSTER_ROWS])
    options = parser.parse_args()
    print(f"{'row':<52} {'ours : real':>12} {'real':>12} {'ours':>12}")
    for name in options.rows or [*ROWS, *TLS_ROWS, *CLUSTER_ROWS]:
        title, more, _ = {**ROWS, **TLS_ROWS}[name] if name not in CLUSTER_ROWS else CLUSTER_ROWS[name]
        real, ours = measure(name, options.rounds, options.scale)
        ratio = ours / real if more else real / ours
        print(f"{title:<52} {ratio:>11.2f}x {show(real):>12} {show(ours):>12}", flush=True)
    return 0


def show(figure: float) -> str:
    """Return a figure in a readable form."""
    if figure >= 1_000_000:
        return f"{figure / 1e6:.1f}M"
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.4f}"


if __name__ == "__main__":
    sys.exit(main())
