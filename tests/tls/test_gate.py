"""Who may come in, and what the log says of those who may not: one member in this process."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import shutil
import socket
import ssl
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from quorate.runtime.tls import pipe, serve
from quorate.runtime.tls.info import TlsInfo
from tests.tls.certs import Authority, Pair
from tests.tls.world import client_context, embedded, https_get, raw, served, until

CLIENTS = "rejected connection on client endpoint"
PEERS = "rejected connection on peer endpoint"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


def info(pair: Pair, authority: Authority | None = None, **more: Any) -> TlsInfo:
    trusted = str(authority.cert) if authority is not None else ""
    return TlsInfo(str(pair.cert), str(pair.key), trusted_ca_file=trusted, **more)


def only(lines: list[dict[str, Any]]) -> tuple[str, str, str]:
    (line,) = lines
    return line["level"], line["msg"], line["error"]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_who_may_come_in(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "other", "other")
    server, good = authority.issue("server"), authority.issue("good", "someone")
    bad = [
        (None, "tls: client didn't provide a certificate"),
        (stranger.issue("x"), "tls: failed to verify certificate: x509: certificate signed by unknown authority"),
        (
            authority.issue("old", valid=timedelta(days=-1)),
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid",
        ),
        (
            authority.issue("servers", uses=("server",)),
            "tls: failed to verify certificate: x509: certificate specifies an incompatible key usage",
        ),
    ]
    with embedded(tmp_path, info(server, authority, client_cert_auth=True)) as member:
        context = client_context(authority, good)
        assert https_get(member.client_port, "/version", context)[0] == 200
        for number, (pair, text) in enumerate(bad, 1):
            assert not served(member.client_port, client_context(authority, pair))
            line = member.rejected(number)[-1]
            assert (line["level"], line["msg"], line["error"], line["server-name"]) == ("warn", CLIENTS, text, "")
        with pytest.raises(ssl.SSLError):
            https_get(member.client_port, "/version", client_context(stranger, good), "localhost")
        line = member.rejected(5)[-1]
        assert line["error"] == "remote error: tls: unknown certificate authority"
        assert line["server-name"] == "localhost"
        old = client_context(authority, good)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        assert not served(member.client_port, old)
        assert member.rejected(6)[-1]["error"] == "tls: client offered only unsupported versions"
        with raw(member.client_port) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert sock.recv(100) == b""
        assert member.rejected(7)[-1]["error"] == "tls: first record does not look like a TLS handshake"
        with raw(member.client_port) as sock:
            sock.sendall(b"\x16\x03\x01\x02")
        line = member.rejected(8)[-1]
        assert (line["level"], line["error"]) == ("debug", "EOF")
        assert served(member.client_port, context)


def test_each_version_and_its_limits(authority: Authority, tmp_path: Path) -> None:
    server = authority.issue("server")
    both = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    for lowest, highest, expected in (("TLS1.2", "", both), ("TLS1.3", "", both[1:]), ("TLS1.2", "TLS1.2", both[:1])):
        folder = tmp_path / f"{lowest}{highest}"
        folder.mkdir()
        with embedded(folder, info(server, min_version=lowest, max_version=highest)) as member:
            for version in both:
                context = client_context(authority)
                context.minimum_version = context.maximum_version = version
                assert served(member.client_port, context) is (version in expected)


def test_cipher_suites(authority: Authority, tmp_path: Path) -> None:
    server = authority.issue("server")
    wanted = ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]
    with embedded(tmp_path, info(server, cipher_suites=wanted, max_version="TLS1.2")) as member:
        context = client_context(authority)
        context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        assert served(member.client_port, context)
        context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
        assert not served(member.client_port, context)
        assert only(member.rejected())[2] == "tls: no cipher suite supported by both client and server"


def test_protocols(authority: Authority, tmp_path: Path) -> None:
    server = authority.issue("server")
    with embedded(tmp_path, info(server)) as member:
        for offered, chosen in ((("h2", "http/1.1"), "h2"), (("http/1.1",), "http/1.1"), ((), None), (("x",), None)):
            context = client_context(authority, alpn=offered)
            with context.wrap_socket(raw(member.client_port), server_hostname="localhost") as sock:
                assert sock.selected_alpn_protocol() == chosen
                assert sock.version() == "TLSv1.3"
                if chosen != "h2":
                    sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert sock.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_certificate_may_be_replaced(authority: Authority, tmp_path: Path) -> None:
    first, second = authority.issue("first", serial=1001), authority.issue("second", serial=1002)
    cert, key = tmp_path / "c.pem", tmp_path / "k.pem"

    def place(pair: Pair) -> None:
        for source, target in ((pair.cert, cert), (pair.key, key)):
            shutil.copy(source, f"{target}.new")
            os.rename(f"{target}.new", target)

    def serial() -> str:
        context = client_context(authority)
        with context.wrap_socket(raw(member.client_port), server_hostname="127.0.0.1") as sock:
            return str(sock.getpeercert()["serialNumber"])  # type: ignore[index]

    place(first)
    with embedded(tmp_path, TlsInfo(str(cert), str(key))) as member:
        open_one = http.client.HTTPSConnection("127.0.0.1", member.client_port, context=client_context(authority))
        open_one.request("GET", "/version")
        open_one.getresponse().read()
        assert serial() == "03E9"
        place(second)
        assert serial() == "03EA"
        shutil.copy(first.key, key)
        with pytest.raises(ssl.SSLError, match="internal error"):
            serial()
        assert only(member.rejected())[2] == "tls: private key does not match public key"
        cert.unlink()
        with pytest.raises(ssl.SSLError):
            serial()
        assert member.rejected(2)[-1]["error"] == f"open {cert}: no such file or directory"
        place(first)
        assert serial() == "03E9"
        open_one.request("GET", "/version")
        assert open_one.getresponse().status == 200
        open_one.close()


@pytest.mark.parametrize("form", ["DER", "PEM"])
def test_revoked_certificates(form: str, authority: Authority, tmp_path: Path) -> None:
    server = authority.issue("server")
    one, two = authority.issue("one", "one", serial=0x0102), authority.issue("two", "two")
    crl = authority.revoke([], getattr(Encoding, form))
    both = [client_context(authority, one), client_context(authority, two)]
    with embedded(tmp_path, info(server, authority, crl_file=str(crl))) as member:
        assert [served(member.client_port, each) for each in both] == [True, True]
        authority.revoke([0x0102], getattr(Encoding, form))
        assert [served(member.client_port, each) for each in both] == [False, True]
        (line,) = member.rejected()
        assert line["error"] == "transport: certificate serial 0102 revoked"
        assert (line["ip-addresses"], line["dns-names"]) == (["127.0.0.1"], ["localhost"])
        crl.write_bytes(b"junk")
        assert [served(member.client_port, each) for each in both] == [False, False]
        crl.unlink()
        assert not served(member.client_port, both[1])
        assert member.rejected(4)[-1]["error"] == f"open {crl}: no such file or directory"


def test_a_revoked_certificate_in_the_middle(authority: Authority, tmp_path: Path) -> None:
    middle = Authority(tmp_path / "middle", "middle", parent=authority)
    client = middle.issue("client", chain=True)
    crl = authority.revoke([middle.certificate.serial_number])
    with embedded(tmp_path, info(authority.issue("server"), authority, crl_file=str(crl))) as member:
        assert not served(member.client_port, client_context(authority, client))
        assert "revoked" in only(member.rejected())[2]


def test_an_authority_in_the_middle_is_trusted_by_itself(authority: Authority, tmp_path: Path) -> None:
    middle = Authority(tmp_path / "middle", "middle", parent=authority)
    server, inside, outside = authority.issue("server"), middle.issue("inside"), authority.issue("outside")
    with embedded(tmp_path, info(server, middle)) as member:
        assert served(member.client_port, client_context(authority, inside))
        assert not served(member.client_port, client_context(authority, outside))


def test_allowed_names_of_clients(authority: Authority, tmp_path: Path) -> None:
    server = authority.issue("server")
    allowed = info(server, authority, allowed_hostnames=["a.example.org", "10.0.0.1"])
    with embedded(tmp_path, allowed) as member:
        for number, (host, good) in enumerate((("*.example.org", True), ("10.0.0.1", True), ("b.org", False))):
            pair = authority.issue(f"n{number}", "a.example.org", [host])
            assert served(member.client_port, client_context(authority, pair)) is good
        assert only(member.rejected()) == ("warn", CLIENTS, "client certificate authentication failed")


def test_allowed_names_of_members(authority: Authority, tmp_path: Path) -> None:
    server = authority.issue("server", "m")
    with embedded(tmp_path, None, info(server, authority, allowed_cns=["m", "n"])) as member:
        for name, good in (("n", True), ("N", False), ("", False)):
            pair = authority.issue(f"cn-{name}", name)
            assert served(member.peer_port, client_context(authority, pair)) is good
        assert [line["error"] for line in member.rejected(2)] == ["client certificate authentication failed"] * 2


ADDRESSES: list[tuple[list[str], str]] = [
    (["127.0.0.1"], ""),
    ([], ""),
    (["localhost"], ""),
    (["10.9.9.9", "localhost"], ""),
    (["10.9.9.9"], "x509: certificate is valid for 10.9.9.9, not 127.0.0.1"),
    (["x.invalid"], 'tls: "127.0.0.1" does not match any of DNSNames ["x.invalid"]'),
    (["*.invalid"], 'tls: "127.0.0.1" does not match any of DNSNames ["*.invalid"]'),
]


def test_certificates_must_name_the_address_they_come_from(authority: Authority, tmp_path: Path) -> None:
    server = authority.issue("server")
    with embedded(tmp_path, info(server, authority), info(server, authority)) as member:
        count = 0
        for number, (hosts, problem) in enumerate(ADDRESSES):
            context = client_context(authority, authority.issue(f"a{number}", hosts=hosts))
            assert served(member.client_port, context)
            for port, text in ((member.peer_port, PEERS), (member.metrics_port, CLIENTS)):
                assert served(port, context) is not problem.startswith(("x509", "tls")), hosts
                if problem:
                    count += 1
                    line = member.rejected(count)[-1]
                    assert line["msg"] == text
                    assert line["error"].startswith(problem)
                    assert line["dns-names"] == [host for host in hosts if not host[0].isdigit()]


def test_addresses_need_not_match_when_told_so(authority: Authority, tmp_path: Path) -> None:
    server, odd = authority.issue("server"), authority.issue("odd", hosts=["10.9.9.9"])
    with embedded(tmp_path, None, info(server, authority, skip_client_san_verify=True)) as member:
        assert served(member.peer_port, client_context(authority, odd))


def test_bytes_that_come_during_the_look_up_are_kept(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(host: str) -> tuple[str, list[str], list[str]]:
        time.sleep(0.3)
        return "found.example.org", [], [host]

    monkeypatch.setattr(serve.socket, "gethostbyaddr", slow)
    server, client = authority.issue("server"), authority.issue("c", hosts=["*.example.org"])
    with embedded(tmp_path, None, info(server, authority)) as member:
        assert https_get(member.peer_port, "/version", client_context(authority, client))[0] == 200


def test_unfinished_handshakes_are_cut_off(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipe, "HANDSHAKE_S", 0.3)
    with embedded(tmp_path, info(authority.issue("server"))) as member:
        half = ssl.MemoryBIO()
        hello = client_context(authority).wrap_bio(ssl.MemoryBIO(), half, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            hello.do_handshake()
        for sent in (b"", half.read()[:50]):
            with raw(member.client_port) as sock:
                sock.sendall(sent)
                assert sock.recv(100) == b""
        for line in member.rejected(2):
            assert line["error"].startswith(f"read tcp 127.0.0.1:{member.client_port}->127.0.0.1:")
            assert line["error"].endswith(": i/o timeout")
        until(lambda: not member.thread.member._clients[0].listener.gate.waiting)  # type: ignore[union-attr]
        assert served(member.client_port, client_context(authority))


def test_large_bodies_both_ways(authority: Authority, tmp_path: Path) -> None:
    from quorate.client import BlockingClient, TlsOptions

    with embedded(tmp_path, info(authority.issue("server"))) as member:
        options = TlsOptions(str(authority.cert))
        with BlockingClient(f"https://localhost:{member.client_port}", tls=options, timeout_s=30) as client:
            value = os.urandom(1_000_000)
            for number in range(8):
                client.put(f"k{number}", value)
            assert [pair.value for pair in client.range("k", prefix=True).kvs] == [value] * 8
    assert "handler failed" not in member.log_path.read_text()


def test_ends(authority: Authority, tmp_path: Path) -> None:
    with embedded(tmp_path, info(authority.issue("server"))) as member:
        context = client_context(authority)
        sock = context.wrap_socket(raw(member.client_port), server_hostname="localhost")
        sock.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = b""
        while chunk := sock.recv(1000):  # a proper goodbye, not a reset
            data += chunk
        assert data.endswith(b"}")
        sock.close()
        sock = context.wrap_socket(raw(member.client_port), server_hostname="localhost")
        plain = sock.unwrap()  # our goodbye is answered
        plain.settimeout(5)
        assert plain.recv(10) == b""
        plain.close()
        sock = context.wrap_socket(raw(member.client_port), server_hostname="localhost")
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(10) == b""
        sock.close()
        junk = raw(member.client_port)
        sock = context.wrap_socket(junk.dup(), server_hostname="localhost")
        junk.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)  # a record that no key made
        junk.settimeout(5)
        while True:
            try:
                if not junk.recv(1000):
                    break
            except ConnectionResetError:
                break
        junk.close()
        sock.close()
        assert served(member.client_port, context)
        hub = member.thread.member._clients[0].listener.hub  # type: ignore[union-attr]
        until(lambda: not hub.links)


def test_sessions_do_not_outlive_the_files(authority: Authority, tmp_path: Path) -> None:
    """TLS 1.2: a session may be taken up again, with the same checks, until the certificate is replaced."""
    server, client = authority.issue("server"), authority.issue("client", "me", serial=77)
    crl = authority.revoke([])
    with embedded(tmp_path, info(server, authority, crl_file=str(crl))) as member:
        context = client_context(authority, client)
        context.maximum_version = ssl.TLSVersion.TLSv1_2

        def again(session: ssl.SSLSession | None) -> tuple[bool, bytes, ssl.SSLSession | None]:
            with context.wrap_socket(raw(member.client_port), server_hostname="localhost", session=session) as sock:
                sock.sendall(b"GET /version HTTP/1.0\r\n\r\n")
                return bool(sock.session_reused), sock.recv(100), sock.session

        reused, answer, session = again(None)
        assert (reused, answer[:12]) == (False, b"HTTP/1.1 200")
        reused, answer, _ = again(session)
        assert (reused, answer[:12]) == (True, b"HTTP/1.1 200")
        authority.revoke([77])
        with contextlib.suppress(ConnectionError):
            assert again(session)[1] == b""
        assert member.rejected()[0]["error"] == "transport: certificate serial 4d revoked"
        authority.revoke([])
        other = authority.issue("other")
        server.cert.write_bytes(other.cert.read_bytes())
        server.key.write_bytes(other.key.read_bytes())
        assert not again(session)[0]
        stats = member.thread.member._clients[0].listener.gate.context.context().session_stats()  # type: ignore[union-attr]
        assert stats["number"] == 0


@pytest.mark.filterwarnings("error")
def test_junk_that_looks_like_a_handshake(authority: Authority, tmp_path: Path) -> None:
    chance = random.Random(7)
    context = client_context(authority)
    greeting = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), greeting, server_hostname="localhost").do_handshake()
    hello = greeting.read()
    with embedded(
        tmp_path, info(authority.issue("server"), authority), info(authority.issue("peer"), authority)
    ) as member:
        for number in range(300):
            if number % 2:
                data = bytearray(hello)
                for _ in range(chance.randint(1, 8)):
                    data[chance.randrange(1, len(data))] = chance.randrange(256)
                data = data[: chance.randint(1, len(data))] if number % 3 == 0 else data
            else:
                data = bytearray(b"\x16\x03" + chance.randbytes(chance.randint(0, 400)))
            with raw((member.client_port, member.peer_port)[number % 4 < 2]) as sock:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):
                    while sock.recv(4096):
                        pass
        text = member.log_path.read_text()
        assert "Traceback" not in text
        assert "unexpected" not in text.replace("tls: unexpected message", "")
        assert served(member.client_port, client_context(authority, authority.issue("good")))
        for port in (member.thread.member._clients[0], member.thread.member._peers[0]):
            until(lambda: not port.listener.gate.waiting)  # type: ignore[union-attr]  # noqa: B023
