"""The small parts: names in certificates, cipher suites, PEM files, words."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from quorate.ports import NullLog
from quorate.runtime.duration import quote
from quorate.runtime.tls import ciphers
from quorate.runtime.tls.contexts import ClientContext, ServerContext
from quorate.runtime.tls.files import TlsError, WatchedFile, check_pair, load_authorities, pem_blocks, revoked_serials
from quorate.runtime.tls.hello import asked_name
from quorate.runtime.tls.identity import Identity, identify, name_matches_reverse, parse_address, serial_hex
from quorate.runtime.tls.info import TlsInfo
from quorate.runtime.tls.words import in_go_words
from quorate.server.bootlog import StartError
from tests.tls.certs import Authority


@pytest.mark.parametrize(
    ("names", "host", "good"),
    [
        (["a.example.org"], "a.example.org", True),
        (["A.example.org"], "a.EXAMPLE.org", True),
        (["a.example.org"], "a.example.org.", True),
        (["*.example.org"], "b.example.org", True),
        (["*.example.org"], "example.org", False),
        (["*.example.org"], "a.b.example.org", False),
        (["a.*.org"], "a.b.org", False),
        (["a*.example.org"], "ab.example.org", False),
        (["under_score"], "under_score", True),
        (["strange name"], "strange name", True),
        (["127.0.0.1"], "127.0.0.1", False),
        (["10.0.0.1"], "10.0.0.1", False),
        ([""], "", False),
    ],
)
def test_names(names: list[str], host: str, good: bool) -> None:
    assert Identity("", names, [], 1).is_for(host) is good


def test_addresses() -> None:
    four, six = parse_address("10.1.2.3"), parse_address("::1")
    assert four is not None
    assert six is not None
    identity = Identity("10.9.9.9", [], [four, six], 1)
    assert identity.is_for("10.1.2.3")
    assert identity.is_for("::ffff:10.1.2.3")
    assert identity.is_for("[::1]")
    assert not identity.is_for("10.9.9.9")
    assert identity.not_for("127.0.0.1") == "x509: certificate is valid for 10.1.2.3, ::1, not 127.0.0.1"
    assert Identity("", ["x", 'y"'], [], 1).not_among("1.1.1.1") == (
        'tls: "1.1.1.1" does not match any of DNSNames ["x" "y\\""]'
    )
    assert parse_address("localhost") is None


def test_reverse_names() -> None:
    assert name_matches_reverse(["a.b"], ["x", "a.b."])
    assert name_matches_reverse(["*.b"], ["deep.a.b"])
    assert not name_matches_reverse(["*.b"], ["b", "xb"])
    assert not name_matches_reverse(["a.b"], [])


def test_identity_of_a_certificate(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("x", "someone", ["a.b", "10.0.0.1"], serial=0x0A0B)
    identity = identify(pair.certificate.public_bytes(Encoding.DER))
    assert (identity.common_name, identity.dns_names, identity.serial) == ("someone", ["a.b"], 0x0A0B)
    assert list(map(str, identity.addresses)) == ["10.0.0.1"]
    assert serial_hex(identity.serial) == "0a0b"
    with pytest.raises(TlsError):
        identify(b"\x30\x00")


def test_cipher_names() -> None:
    ciphers.check_names(["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "TLS_AES_128_GCM_SHA256", "TLS_RSA_WITH_RC4_128_SHA"])
    with pytest.raises(StartError, match='unexpected TLS cipher suite "X"'):
        ciphers.check_names(["X"])
    with pytest.raises(StartError, match="is missing an HTTP/2-required AES_128_GCM_SHA256 cipher"):
        ciphers.check_http2(["TLS_RSA_WITH_AES_128_CBC_SHA"], "TLS1.2")
    ciphers.check_http2([], "TLS1.2")
    ciphers.check_http2([ciphers.NEEDED_FOR_HTTP2[1]], "TLS1.2")


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"], {"ECDHE-RSA-AES128-GCM-SHA256"}),
        (["TLS_RSA_WITH_AES_128_CBC_SHA", "TLS_RSA_WITH_RC4_128_SHA"], {"AES128-SHA"}),
    ],
)
def test_ciphers_of_a_context(asked: list[str], given: set[str]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ciphers.restrict(context, asked)
    assert {each["name"] for each in context.get_ciphers() if each["protocol"] != "TLSv1.3"} == given


def test_without_a_cipher_of_tls_1_2_only_tls_1_3_is_left() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ciphers.restrict(context, ["TLS_AES_128_GCM_SHA256"])
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one")
    file = WatchedFile(str(path))
    assert file.refresh() == file.refresh() == 1
    path.write_bytes(b"two")  # as long as before, and perhaps within the same tick of the clock
    assert file.refresh() == 2
    assert file.content == b"two"
    for name in (path,):  # old enough to be trusted by its stat alone
        os.utime(name, ns=(1, 1))
    assert file.refresh() == 2
    path.unlink()
    with pytest.raises(TlsError, match=f"open {path}: no such file or directory"):
        file.refresh()
    (tmp_path / "new").write_bytes(b"three")
    (tmp_path / "new").rename(path)
    assert file.refresh() == 3


def test_an_unchanged_file_costs_a_stat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one")
    file = WatchedFile(str(path))
    monkeypatch.setattr("quorate.runtime.tls.files.SETTLED_NS", -1)
    file.refresh()
    monkeypatch.setattr("builtins.open", None)
    assert file.refresh() == 1


def test_pem_blocks() -> None:
    text = (
        b"# note\n-----BEGIN A-----\nQUI=\n-----END A-----\njunk\n"
        b"-----BEGIN B KEY-----\nDEK-Info: x\n\nQUI=\n-----END B KEY-----"
    )
    assert pem_blocks(text) == [("A", b"", b"AB"), ("B KEY", b"DEK-Info: x\n", b"AB")]
    assert pem_blocks(b"-----BEGIN A-----\n*\n-----END B-----") == []


@pytest.mark.parametrize("key", ["ec", "ec384", "rsa", "ed25519"])
@pytest.mark.parametrize("form", ["", "pkcs8"])
def test_keys(key: str, form: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("x", key=key, form=form)
    check_pair(pair.cert.read_bytes(), pair.key.read_bytes())
    ServerContext(TlsInfo(str(pair.cert), str(pair.key)), NullLog()).context()


def test_crls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    for form in (Encoding.DER, Encoding.PEM):
        assert revoked_serials(authority.revoke([7, 255], form).read_bytes()) == {7, 255}
    with pytest.raises(TlsError):
        revoked_serials(b"junk")
    assert load_authorities(str(authority.cert)) == authority.certificate.public_bytes(Encoding.DER)


def test_what_we_show_where_we_dial_may_be_replaced(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair, other = authority.issue("x"), authority.issue("y")
    client = ClientContext(TlsInfo(str(pair.cert), str(pair.key), trusted_ca_file=str(authority.cert)), NullLog())
    first = client.context()
    assert client.context() is first
    pair.cert.write_bytes(other.cert.read_bytes())
    with pytest.raises(TlsError, match="private key does not match public key"):
        client.context()
    pair.key.write_bytes(other.key.read_bytes())
    second = client.context()
    assert second is not first
    assert second.check_hostname
    assert second.verify_mode == ssl.CERT_REQUIRED
    assert client.server_name("host") == "host"
    assert ClientContext(TlsInfo(server_name="example.org"), NullLog()).server_name("host") == "example.org"
    made_by_us = TlsInfo(str(other.cert), str(other.key), self_signed=True)
    assert ClientContext(made_by_us, NullLog()).context().verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize("name", [None, "localhost", "a-very-long-name.example.org"])
def test_the_name_that_a_client_asks_for(name: str | None) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    sent = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name).do_handshake()
    hello = sent.read()
    assert asked_name(hello) == (name or "")
    for length in range(0, len(hello), 7):
        assert (name or "").startswith(asked_name(hello[:length]))


def test_words() -> None:
    assert in_go_words(ssl.SSLEOFError(8, "EOF occurred")) == "EOF"
    assert in_go_words(OSError("broken")) == "broken"
    assert quote("a") == '"a"'
    assert TlsInfo("c", "k", client_cert_auth=True).describe() == (
        "cert = c, key = k, client-cert=, client-key=, trusted-ca = , client-cert-auth = true, crl-file = "
    )
