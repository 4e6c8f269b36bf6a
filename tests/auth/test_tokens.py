"""Simple tokens, signed tokens, and the option that chooses."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from quorate.auth.jwt import METHODS, VERIFY_ONLY, JwtTokens, KeyProblem
from quorate.auth.options import TokenOptionError, make_tokens, parse_go_duration
from quorate.auth.tokens import SimpleTokens, Tokens
from quorate.errors import AUTH_FAILED, RpcError
from quorate.ports import NullLog
from quorate.runtime.disk import OsDisk
from tests.api.fakes import WorkLoop

SECOND = 1_000_000_000


class Loop(WorkLoop):
    """A loop whose clock the test moves and whose random bits count up."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 1_700_000_000 * SECOND
        self.drawn = 40

    def random_bits(self, bits: int) -> int:
        self.drawn += 1
        return self.drawn % (1 << bits)


def private_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


RSA = rsa.generate_private_key(65537, 2048)
KEYS = {
    "RS": RSA, "PS": RSA, "Ed": ed25519.Ed25519PrivateKey.generate(),
    "ES256": ec.generate_private_key(ec.SECP256R1()), "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
}  # fmt: skip


def keys_of(method: str) -> tuple[bytes, bytes]:
    if method.startswith("HS"):
        return b"secret\n", b""
    key = KEYS.get(method) or KEYS[method[:2]]
    return private_pem(key), public_pem(key)  # type: ignore[arg-type]


# Simple tokens


def test_the_life_of_a_simple_token() -> None:
    loop = Loop()
    tokens = SimpleTokens(loop, 10)
    prefix = tokens.new_prefix()
    assert prefix == "PQRSTUVWXYZabcde"
    token = tokens.assign("u", prefix, 7).encode()
    assert token == b"PQRSTUVWXYZabcde.7"
    for _ in range(3):  # each use is a new start
        loop.now_ns += 10
        assert tokens.claim(token) is not None
    loop.now_ns += 11
    assert tokens.claim(token) is None
    assert len(tokens) == 0


def test_unused_tokens_are_forgotten() -> None:
    loop = Loop()
    tokens = SimpleTokens(loop, 10)
    for index in range(3):
        tokens.assign("u", "p", index)
        loop.now_ns += 3
    tokens.claim(b"p.0")
    loop.now_ns += 5
    tokens.expire()
    assert len(tokens) == 2
    assert tokens.claim(b"p.1") is None


def test_the_index_to_wait_for() -> None:
    tokens = SimpleTokens(Loop(), 10)
    tokens.assign("u", "p", 9)
    for token, index in (
        (b"p.9", 0), (b"q.9", 9), (b".9", 9), (b"q.", 0), (b"q", 0), (b"q.1.2", 0), (b"q.-1", 0), (b"q.+1", 0),
        (b"q.x", 0), (b"q.18446744073709551615", (1 << 64) - 1), (b"q.18446744073709551616", 0), (b"q." + b"9" * 99, 0),
    ):  # fmt: skip
        assert tokens.index_of(token) == index, token


def test_no_tokens() -> None:
    tokens = Tokens()
    assert tokens.claim(b"x") is None
    with pytest.raises(RpcError, match=AUTH_FAILED.text):
        tokens.sign("u", 1)


# Signed tokens


@pytest.mark.parametrize("method", METHODS)
def test_what_is_signed_is_believed(method: str) -> None:
    loop = Loop()
    private, public = keys_of(method)
    token = JwtTokens(loop, method, private, public, 60 * SECOND).sign("alice", 7).encode()
    header, body, _ = token.split(b".")
    assert json.loads(base64.urlsafe_b64decode(header + b"==")) == {"alg": method, "typ": "JWT"}
    claims = {"exp": 1_700_000_060, "revision": 7, "username": "alice"}
    assert json.loads(base64.urlsafe_b64decode(body + b"==")) == claims
    verifier = JwtTokens(loop, method, private if method.startswith("HS") else b"", public, 0)
    for _ in range(2):
        claim = verifier.claim(token)
        assert claim is not None
        assert (claim.username, claim.revision) == ("alice", 7)
    assert verifier.claim(token[:-6] + b"AAAAA" + token[-1:]) is None
    assert verifier.claim(token.replace(body, body[:-1] + b"A")) is None
    loop.now_ns += 60 * SECOND
    assert verifier.claim(token) is None
    if not method.startswith("HS"):
        with pytest.raises(RpcError) as caught:
            verifier.sign("alice", 7)
        assert caught.value is VERIFY_ONLY


def signed(claims: object, **header: object) -> bytes:
    """Return a token of HS256 with any content."""
    tokens = JwtTokens(Loop(), "HS256", b"secret", b"", 0)
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", **header}, claims)]
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = tokens._algorithm.sign(text, b"secret")
    return text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")


def test_what_is_not_believed() -> None:
    tokens = JwtTokens(Loop(), "HS256", b"secret", b"", 0)
    good = {"username": "u", "revision": 3}
    believed = tokens.claim(signed({**good, "revision": 3.9, "other": 1}))
    assert believed is not None
    assert believed.revision == 3
    now = 1_700_000_000
    for claims in (
        [], None, {}, {"username": "u"}, {"username": 1, "revision": 1}, {"username": "u", "revision": "1"},
        {"username": "u", "revision": True}, {**good, "exp": now}, {**good, "exp": "x"}, {**good, "nbf": now + 1},
    ):  # fmt: skip
        assert tokens.claim(signed(claims)) is None, claims
    assert tokens.claim(signed({**good, "nbf": now, "exp": now + 1})) is not None
    assert tokens.claim(signed(good, alg="none")) is None
    assert tokens.claim(signed(good, alg="HS512")) is None
    unsigned = signed(good).rsplit(b".", 1)[0]
    for token in (b"", b"a.b", b"a.b.c", b"....", unsigned + b".", b"\xff.\xff.\xff", b"e30.e30.", b"[]" * 20_000):
        assert tokens.claim(token) is None, token
    nested = base64.urlsafe_b64encode(b"[" * 9000).rstrip(b"=")
    assert tokens.claim(nested + b".e30.e30") is None


def test_keys_that_do_not_fit() -> None:
    private, _ = keys_of("RS256")
    other_private, other_public = keys_of("ES256")
    for method, texts in {
        "RS256": [
            (b"", b"", "missing key data"),
            (private, public_pem(rsa.generate_private_key(65537, 2048)), "public and private keys don't match"),
            (other_private, b"", "key is not a valid RSA private key"),
            (b"", other_public, "key is not a valid RSA public key"),
            (b"junk", b"", "invalid key: Key must be a PEM encoded PKCS1 or PKCS8 key"),
            (b"-----BEGIN X-----\n", b"", "invalid private key"),
        ],
        "ES256": [(private, b"", "not a valid ECDSA private key"), (keys_of("ES384")[0], b"", "256 bits")],
        "EdDSA": [(private, b"", "not a valid Ed25519 private key")],
        "HS256": [(b"", b"x", "missing key data")],
    }.items():
        for one, two, text in texts:
            with pytest.raises(KeyProblem, match=text):
                JwtTokens(Loop(), method, one, two, 0)


# --auth-token


def make(option: str) -> Tokens:
    return make_tokens(option, 300, Loop(), OsDisk(), NullLog())


def test_options(tmp_path: Path) -> None:
    private, public = keys_of("RS256")
    (tmp_path / "key").write_bytes(private)
    (tmp_path / "pub").write_bytes(public)
    assert isinstance(make("simple"), SimpleTokens)
    assert type(make("")) is Tokens
    pair = make(f"jwt,sign-method=RS256,pub-key={tmp_path}/pub,priv-key={tmp_path}/key,ttl=10m,colour=red")
    assert isinstance(pair, JwtTokens)
    assert pair._ttl_ns == 600 * SECOND
    verify_only = make(f"jwt,sign-method=PS512,pub-key={tmp_path}/pub")
    claim = verify_only.claim(make(f"jwt,sign-method=PS512,priv-key={tmp_path}/key").sign("u", 1).encode())
    assert claim is not None
    invalid = "^auth: invalid auth options$"
    for option, text in {
        "paseto": invalid, "simple,x": invalid, "jwt,a=b,a=c": invalid, "jwt,a=b=c": invalid, "jwt": invalid,
        "jwt,sign-method=ES256K": invalid, f"jwt,sign-method=RS256,pub-key={tmp_path}/absent": invalid,
        f"jwt,sign-method=RS256,pub-key={tmp_path}/pub,ttl=1": invalid,
        "jwt,sign-method=RS256": "^auth: missing key data$",
        "jwt,sign-method=none": "unsupported signing method",
        f"jwt,sign-method=RS256,priv-key={tmp_path}/pub": "key is not|invalid private key",
    }.items():  # fmt: skip
        with pytest.raises(TokenOptionError, match=text):
            make(option)


def test_durations() -> None:
    texts = {
        "0": 0,
        "1h30m": 5400 * SECOND,
        "1.5s": 1_500_000_000,
        "-2ms": -2_000_000,
        "10us": 10_000,
        ".5s": SECOND // 2,
    }
    assert {text: parse_go_duration(text) for text in texts} == texts
    for text in ("", "1", "s", "1x", "1s2", "+"):
        with pytest.raises(ValueError, match="invalid duration"):
            parse_go_duration(text)
