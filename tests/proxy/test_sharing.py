"""What our gRPC proxy does for many clients: shared watches and keepalives, cache, namespaces, registration, TLS."""

from __future__ import annotations

import json
import re
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from quorate.client import BlockingClient, EtcdError, TlsOptions
from quorate.client.blocking import BlockingWatcher
from quorate.proto import rpc_pb2 as pb
from tests.oracle import Member, free_port, running
from tests.proxy.commands import Proxy, etcdctl
from tests.tls.certs import Authority
from tests.tls.world import tls_member

pytestmark = [pytest.mark.oracle, pytest.mark.process]


def until(what: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def metric(port: int, name: str, path: str = "/proxy/metrics") -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
    raise AssertionError(name)


@pytest.fixture(scope="module", params=["real", "ours"])
def member(request: pytest.FixtureRequest) -> Iterator[Member]:
    with running(request.param) as one:
        yield one


@pytest.fixture(scope="module")
def proxy(member: Member) -> Iterator[Proxy]:
    with Proxy("ours", "grpc-proxy", f"--endpoints={member.endpoint}", "--advertise-client-url=") as one:
        yield one


@pytest.fixture
def client(proxy: Proxy) -> Iterator[BlockingClient]:
    with BlockingClient(proxy.endpoint) as one:
        yield one


def values(watch: BlockingWatcher, count: int) -> list[str]:
    """Return the values of the next events."""
    found: list[str] = []
    while len(found) < count:
        batch = watch.next(20)
        assert batch is not None
        found += [event.kv.value.decode() for event in batch.events]
    return found


def test_watches_of_a_range_share_one(member: Member, proxy: Proxy, client: BlockingClient) -> None:
    def upstream() -> float:
        return metric(member.client_port, "etcd_debugging_mvcc_watcher_total", "/metrics")

    before = upstream()
    first = client.put("s/0", "0").header.revision
    client.put("s/1", "1")
    watches = [client.watch("s/", prefix=True) for _ in range(6)]
    late = client.watch("s/", prefix=True, start_revision=first)
    puts_only = client.watch("s/", prefix=True, deletes=False)
    for watch in (*watches, late, puts_only):
        watch.ready()
    for number in range(2, 50):
        client.put(f"s/{number % 4}", str(number))
    client.delete("s/0")
    client.put("s/0", "end")
    expected = [str(number) for number in range(2, 50)]
    for watch in watches:
        assert values(watch, 50) == [*expected, "", "end"]
    assert values(late, 52) == ["0", "1", *expected, "", "end"]
    assert values(puts_only, 49) == [*expected, "end"]
    # A watch of the cluster serves five clients at most before it takes no more by merging; eight need two or three.
    until(lambda: upstream() - before <= 3)
    assert metric(proxy.port, "etcd_grpc_proxy_watchers_coalescing_total") >= 5
    assert metric(proxy.port, "etcd_grpc_proxy_events_coalescing_total") > 0
    for watch in (*watches, late, puts_only):
        watch.close()
    until(lambda: upstream() == before)
    assert metric(proxy.port, "etcd_grpc_proxy_watchers_coalescing_total") == 0


def test_a_compacted_revision_ends_a_watch(client: BlockingClient) -> None:
    for number in range(5):
        revision = client.put("compacted", str(number)).header.revision
    client.compact(revision)
    with pytest.raises(EtcdError, match="required revision has been compacted"):
        client.watch("compacted", start_revision=1).next(20)


def test_ids_and_progress_as_a_member_has_them(client: BlockingClient, proxy: Proxy) -> None:
    """Beyond real etcd's proxy."""
    with grpc.insecure_channel(proxy.endpoint) as channel:
        requests: list[pb.WatchRequest] = [
            pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"id", watch_id=7)),
            pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"id", watch_id=7)),
            pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"id2")),
            pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"b", range_end=b"a")),
        ]
        watch = channel.stream_stream(
            "/etcdserverpb.Watch/Watch", pb.WatchRequest.SerializeToString, pb.WatchResponse.FromString
        )
        more: list[pb.WatchRequest] = []
        done: list[bool] = []

        def send() -> Iterator[pb.WatchRequest]:
            yield from requests
            while not done:
                while more:
                    yield more.pop(0)
                time.sleep(0.01)

        answers = watch(send(), timeout=30)
        created = [next(answers) for _ in range(4)]
        assert sorted((each.watch_id, each.created, each.canceled) for each in created) == [
            (-1, True, True),
            (-1, True, True),
            (0, True, False),
            (7, True, False),
        ]
        revision = client.put("id", "x").header.revision
        event = next(answers)
        assert (event.watch_id, event.header.revision) == (7, revision)
        revision = client.put("elsewhere", "x").header.revision
        more.append(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))
        progress = next(answers)
        assert (progress.watch_id, list(progress.events)) == (-1, [])
        assert progress.header.revision == revision
        more.append(pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=7)))
        canceled = next(answers)
        assert (canceled.watch_id, canceled.canceled) == (7, True)
        done.append(True)


def test_keepalives_are_shared(client: BlockingClient, member: Member, proxy: Proxy) -> None:
    lease = client.lease_grant(60).ID
    with grpc.insecure_channel(proxy.endpoint) as channel:
        keep_alive = channel.stream_stream(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            pb.LeaseKeepAliveRequest.SerializeToString,
            pb.LeaseKeepAliveResponse.FromString,
        )
        asked = [pb.LeaseKeepAliveRequest(ID=each) for each in (lease, lease, 99, lease)]
        streams = [keep_alive(iter(asked), timeout=20) for _ in range(5)]
        for stream in streams:
            assert sorted((each.ID, each.TTL) for each in stream) == [(99, 0), (lease, 60), (lease, 60), (lease, 60)]
    with client.lease(2) as kept:
        client.put("kept", "x", lease=kept.id)
        time.sleep(2.7)  # the lease would be gone by now
        assert not kept.lost
        assert client.get("kept") is not None


def test_serializable_reads_come_from_the_cache(client: BlockingClient, member: Member, proxy: Proxy) -> None:
    def hits() -> float:
        return metric(proxy.port, "etcd_grpc_proxy_cache_hits_total")

    client.put("k/1", "a")
    assert len(client.range("k/", prefix=True, serializable=True).kvs) == 1
    before = hits()
    assert client.range("k/", prefix=True, serializable=True).kvs[0].value == b"a"
    assert hits() == before + 1
    # A change that takes another way is not seen; one through the proxy is, and so is a linearizable read.
    assert etcdctl(member.endpoint, "put", "k/1", "b").returncode == 0
    assert client.range("k/", prefix=True, serializable=True).kvs[0].value == b"a"
    assert client.range("k/", prefix=True).kvs[0].value == b"b"
    assert client.range("k/", prefix=True, serializable=True).kvs[0].value == b"b"
    client.put("k/2", "c")
    assert len(client.range("k/", prefix=True, serializable=True).kvs) == 2
    assert len(client.range("k", from_key=True, serializable=True, limit=9).kvs) >= 2
    client.delete("k/", prefix=True)
    assert not client.range("k/", prefix=True, serializable=True).kvs
    assert not [kv for kv in client.range("k", from_key=True, serializable=True, limit=9).kvs if kv.key < b"k0"]


def test_a_namespace_hides_the_rest(member: Member) -> None:
    words = ("grpc-proxy", f"--endpoints={member.endpoint}", "--advertise-client-url=", "--namespace=ns/")
    with BlockingClient(member.endpoint) as direct:
        direct.put("outside", "x")
        with Proxy("ours", *words) as proxy, BlockingClient(proxy.endpoint) as inside:
            with inside.watch("", from_key=True, prev_kv=True) as watch:
                lease = inside.lease_grant(60).ID
                inside.put("a", "1", lease=lease)
                inside.put("a", "2", prev_kv=True)
                batches = [watch.next(20), watch.next(20)]
                events = [event for batch in batches if batch is not None for event in batch.events]
            assert [(event.kv.key, event.prev_kv.key) for event in events] == [(b"a", b""), (b"a", b"a")]
            assert [kv.key for kv in inside.range(b"\0", from_key=True).kvs] == [b"a"]
            found = direct.get("ns/a")
            assert found is not None
            assert found.value == b"2"
            direct.put("ns/leased", "x", lease=lease)
            direct.put("not-ns", "x", lease=lease)
            assert list(inside.lease_time_to_live(lease, keys=True).keys) == [b"leased"]
            put = pb.RequestOp(request_put=pb.PutRequest(key=b"t", value=b"v", prev_kv=True))
            get = pb.RequestOp(request_range=pb.RangeRequest(key=b"\0", range_end=b"\0"))
            version = pb.Compare(key=b"a", target=pb.Compare.VERSION, result=pb.Compare.EQUAL, version=2)
            nested = pb.RequestOp(request_txn=pb.TxnRequest(compare=[version], success=[put, get]))
            answer = inside.txn([version], [nested])
            inner = answer.responses[0].response_txn
            assert (answer.succeeded, inner.succeeded) == (True, True)
            assert [kv.key for kv in inner.responses[1].response_range.kvs] == [b"a", b"leased", b"t"]
            assert inside.delete(b"\0", from_key=True, prev_kv=True).deleted == 3
        assert direct.get("outside") is not None


def test_what_a_member_s_restart_does_to_watches() -> None:
    """Nothing: every event comes, once, in order."""
    with running("ours") as member:
        words = ("grpc-proxy", f"--endpoints={member.endpoint}", "--advertise-client-url=")
        with Proxy("ours", *words) as proxy, BlockingClient(proxy.endpoint, timeout_s=20) as client:
            watches = [client.watch("r", prefix=True) for _ in range(3)]
            for watch in watches:
                watch.ready()
            with client.lease(30) as lease:
                for number in range(5):
                    client.put("r", str(number))
                member.stop()
                member.start()
                for number in range(5, 10):
                    client.put("r", str(number), lease=lease.id)
                for watch in watches:
                    assert values(watch, 10) == [str(number) for number in range(10)]
                assert not lease.lost


def test_an_endpoint_that_is_silent_is_passed_over(member: Member) -> None:
    """One that takes connections and never answers costs its share of a call's time, not the call."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoints = f"--endpoints=127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{free_port()},{member.endpoint}"
        with Proxy("ours", "grpc-proxy", endpoints, "--advertise-client-url=") as proxy:
            for _ in range(3):
                assert etcdctl(proxy.endpoint, "put", "silent", "x").stdout == "OK\n"


def test_proxies_list_each_other(member: Member) -> None:
    """Ours and real ones, by the same registrations."""
    ports = [free_port(), free_port()]
    proxies = []
    try:
        for kind, port in zip(("real", "ours"), ports, strict=True):
            words = (f"--endpoints={member.endpoint}", f"--advertise-client-url=127.0.0.1:{port}")
            more = ("--resolver-prefix=proxies", "--resolver-ttl=2")
            proxies.append(Proxy(kind, "grpc-proxy", *words, *more, port=port).wait_listening())

        def listed(proxy: Proxy) -> list[str]:
            answer = json.loads(etcdctl(proxy.endpoint, "member", "list", "-w", "json").stdout)
            return sorted(f"{each['name']} {url}" for each in answer["members"] for url in each["clientURLs"])

        for proxy in proxies:
            until(lambda proxy=proxy: len(listed(proxy)) == 2)
        assert listed(proxies[0]) == listed(proxies[1])
        keys = etcdctl(member.endpoint, "get", "proxies", "--prefix").stdout.splitlines()
        entries = {keys[at].split("/")[1].split(":")[1]: re.sub(r"\d{4,5}", "PORT", keys[at + 1]) for at in (0, 2)}
        assert entries[str(ports[0])] == entries[str(ports[1])]
        proxies[0].close()
        until(lambda: len(listed(proxies[1])) == 1)
    finally:
        for proxy in proxies:
            proxy.close()


def test_users_get_what_is_theirs(member: Member, proxy: Proxy) -> None:
    """Neither the cache nor a shared watch tells one user what another one may see."""

    def do(*words: str) -> None:
        answer = etcdctl(proxy.endpoint, *words)
        assert answer.returncode == 0, answer

    do("put", "secret", "x")
    do("user", "add", "root:pw")
    do("role", "add", "root")
    do("user", "grant-role", "root", "root")
    do("user", "add", "u:pw")
    do("auth", "enable")
    try:
        with (
            BlockingClient(proxy.endpoint, user="root", password="pw") as root,
            BlockingClient(proxy.endpoint, user="u", password="pw") as user,
        ):
            assert len(root.range("secret", serializable=True).kvs) == 1
            assert len(root.range("secret", serializable=True).kvs) == 1
            with pytest.raises(EtcdError, match="permission denied"):
                user.range("secret", serializable=True)
            with root.watch("secret") as watch:
                with pytest.raises(EtcdError, match="permission denied"):
                    user.watch("secret").next(20)
                root.put("secret", "y")
                assert values(watch, 1) == ["y"]
            with pytest.raises(EtcdError, match="permission denied"):
                user.put("secret", "z")
    finally:
        do("--user=root:pw", "auth", "disable")


def test_reads_in_order(member: Member) -> None:
    words = ("grpc-proxy", f"--endpoints={member.endpoint}", "--experimental-serializable-ordering", "--enable-pprof")
    with Proxy("ours", *words) as proxy:
        with urllib.request.urlopen(f"http://{proxy.endpoint}/debug/pprof/goroutine", timeout=10) as answer:
            assert answer.status == 200
        assert "waiting for linearized read" in proxy.log()
        assert etcdctl(proxy.endpoint, "put", "o", "1").returncode == 0
        assert etcdctl(proxy.endpoint, "get", "o", "--consistency=s").stdout == "o\n1\n"


def test_tls_on_both_sides(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    server, named = authority.issue("server", "server"), authority.issue("named", "somebody")
    nameless = authority.issue("nameless", "")
    flags = [*server.flags(), f"--trusted-ca-file={authority.cert}", "--client-cert-auth"]
    with tls_member("real", authority, flags, nameless) as member:
        port = free_port()
        words = ["grpc-proxy", f"--endpoints=https://127.0.0.1:{member.client_port}", f"--cacert={authority.cert}"]
        words += [f"--advertise-client-url=https://127.0.0.1:{port}", *server.flags()]
        words.append(f"--trusted-ca-file={authority.cert}")
        refused = Proxy("ours", *words, f"--cert={named.cert}", f"--key={named.key}")
        assert refused.process.wait(20) == 1
        assert f"cert has non empty Common Name (somebody): {named.cert}" in refused.log()
        with Proxy("ours", *words, f"--cert={nameless.cert}", f"--key={nameless.key}", port=port) as proxy:
            tls = TlsOptions(str(authority.cert), str(named.cert), str(named.key))
            with BlockingClient(f"https://{proxy.endpoint}", tls=tls) as client:
                client.put("a", "b")
                assert client.range("a").kvs[0].value == b"b"
            files = [f"--cacert={authority.cert}", f"--cert={named.cert}", f"--key={named.key}"]
            answer = etcdctl(f"https://{proxy.endpoint}", *files, "get", "a")
            assert answer.stdout == "a\nb\n", answer
            assert (
                etcdctl(
                    f"https://{proxy.endpoint}", files[0], "--dial-timeout=500ms", "--command-timeout=1s", "get", "a"
                ).returncode
                != 0
            )
