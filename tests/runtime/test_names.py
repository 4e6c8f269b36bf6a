"""SRV records and addresses, asked of a name server on loopback."""

from __future__ import annotations

import pytest

from quorate.names import LookupFailedError, Names, Service, client_endpoints, in_order, initial_members, service_of
from tests.fakes.dns_server import dns_server

A = ("m1.a.test", "A")


def test_service_names() -> None:
    assert service_of("etcd-client", "", "http") == "etcd-client"
    assert service_of("etcd-client", "", "https") == "etcd-client-ssl"
    assert service_of("etcd-client", "blue", "http") == "etcd-client-blue"
    assert service_of("etcd-client", "blue", "https") == "etcd-client-ssl-blue"


def test_services_come_by_priority() -> None:
    records = {("_x._tcp.a.test", "SRV"): ["20 0 3 c.a.test.", "10 0 2 b.a.test.", "5 0 1 a.a.test."]}
    with dns_server(records) as server:
        found = Names(server.address).services("x", "a.test")
    assert found == [Service("a.a.test.", 1, 5, 0), Service("b.a.test.", 2, 10, 0), Service("c.a.test.", 3, 20, 0)]


def test_weights_decide_within_a_priority() -> None:
    heavy, light, none = Service("heavy.", 1, 0, 90), Service("light.", 1, 0, 10), Service("none.", 1, 0, 0)
    orders = [in_order([none, light, heavy]) for _ in range(400)]
    assert all(sorted(order, key=lambda each: each.target) == [heavy, light, none] for order in orders)
    first = [order[0] for order in orders]
    assert first.count(heavy) > first.count(light) > 0


def test_texts_of_failures() -> None:
    with dns_server({A: ["127.0.0.9"]}) as server:
        names = Names(server.address)
        with pytest.raises(LookupFailedError) as gone:
            names.services("x", "a.test")
        assert str(gone.value) == f"lookup _x._tcp.a.test on {server.address}: no such host"
        server.broken = True
        with pytest.raises(LookupFailedError) as broken:
            names.services("x", "a.test")
        assert str(broken.value) == f"lookup _x._tcp.a.test on {server.address}: server misbehaving"


def test_addresses() -> None:
    with dns_server({A: ["127.0.0.9"], ("six.a.test", "AAAA"): ["::9"]}) as server:
        names = Names(server.address)
        assert names.tcp_address("m1.a.test:2380") == "127.0.0.9:2380"
        assert names.tcp_address("m1.a.test.:2380") == "127.0.0.9:2380"
        assert names.tcp_address("six.a.test:1") == "[::9]:1"
        assert names.tcp_address("[::1]:1") == "[::1]:1"
        assert server.asked[0] == A
        with pytest.raises(LookupFailedError):
            names.address("other.test")
    assert Names("").tcp_address("localhost:7") == "127.0.0.1:7"


def test_client_endpoints_of_a_domain() -> None:
    records = {
        ("_etcd-client-ssl._tcp.a.test", "SRV"): ["0 0 2379 s.a.test."],
        ("_etcd-client._tcp.a.test", "SRV"): ["0 0 2379 p.a.test."],
        ("_etcd-client-blue._tcp.a.test", "SRV"): ["0 0 1 b.a.test."],
    }
    with dns_server(records) as server:
        names = Names(server.address)
        assert client_endpoints(names, "a.test", "") == ["https://s.a.test.:2379", "http://p.a.test.:2379"]
        assert client_endpoints(names, "a.test", "blue") == ["http://b.a.test.:1"]
        with pytest.raises(LookupFailedError) as nothing:
            client_endpoints(names, "a.test", "red")
    first, second = (
        f"lookup _etcd-client{ssl}-red._tcp.a.test on {server.address}: no such host" for ssl in ("-ssl", "")
    )
    assert str(nothing.value) == f"dns lookup errors: {first} and {second}"


def test_initial_members_of_a_domain() -> None:
    records = {
        ("_etcd-server._tcp.a.test", "SRV"): ["1 0 1 m1.a.test.", "2 0 1 m2.a.test.", "3 0 2 m1.a.test."],
        ("_lost._tcp.a.test", "SRV"): ["0 0 1 nowhere.a.test."],
        A: ["127.0.0.1"],
        ("m2.a.test", "A"): ["127.0.0.2"],
    }
    with dns_server(records) as server:
        names = Names(server.address)

        def found(*urls: str, scheme: str = "http", service: str = "etcd-server") -> list[str]:
            return initial_members(names, scheme, service, "me", "a.test", urls)

        assert found("http://127.0.0.2:1") == ["0=http://m1.a.test:1", "me=http://m2.a.test:1", "1=http://m1.a.test:2"]
        # A record that is ours by address, with another scheme, is left out.
        assert found("http://m1.a.test:1", scheme="https") == ["0=https://m2.a.test:1", "1=https://m1.a.test:2"]
        with pytest.raises(LookupFailedError) as lost:
            found("http://m1.a.test:1", service="lost")
        where = f"lookup nowhere.a.test. on {server.address}: no such host"
        assert str(lost.value) == f"error querying DNS SRV records for _lost {where}"
