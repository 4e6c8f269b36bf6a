"""JSON web tokens: signed statements of who somebody is, which need no memory of ours.

    {"alg":"RS256","typ":"JWT"} . {"exp":1700000300,"revision":7,"username":"alice"} . signature

Contract: `sign` makes tokens that real etcd verifies with the same key, and `claim` believes those that it would
believe: of the configured method only, not expired, with a text `username` and a number `revision`. Keys are loaded and
checked once, at start. With a public key alone tokens can be verified and not made.

The revision is the one at which the token was made; key operations refuse it once users or roles have changed.
Clocks come from the loop, so the library is used for signatures only. Verified tokens are remembered, up to a bound.
Source: etcd's server/auth/jwt.go, options.go; RFC 7519.
"""

from __future__ import annotations

import base64
import json
import warnings
from collections.abc import Callable
from typing import Any, Final

from quorate.auth.tokens import Claim, Tokens
from quorate.errors import UNKNOWN, RpcError
from quorate.ports import Loop

METHODS: Final = (
    "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512",
)  # fmt: skip
VERIFY_ONLY: Final = RpcError(UNKNOWN, "auth: token signing attempted with verify-only key")

_CACHE_MAX: Final = 1024
_TOKEN_BYTES_MAX: Final = 16_384
_CURVE_BITS: Final = {"ES256": 256, "ES384": 384, "ES512": 521}


class KeyProblem(Exception):  # noqa: N818 (the text is what etcd prints)
    """A key that cannot be used; the text is etcd's where it has one."""


class _Believed:
    """A token that was verified: what it says, and when it begins and ends to be valid, in nanoseconds."""

    def __init__(self, claim: Claim, from_ns: int, until_ns: int) -> None:
        self.claim = claim
        self.from_ns = from_ns
        self.until_ns = until_ns


class JwtTokens(Tokens):
    """Tokens of one signing method. Raises KeyProblem when the keys do not fit it."""

    def __init__(self, loop: Loop, method: str, private: bytes, public: bytes, ttl_ns: int) -> None:
        """`private` and `public` are the files' contents, b"" for none; for HS* `private` is the shared secret."""
        from jwt.algorithms import get_default_algorithms

        self._loop = loop
        self._method = method
        self._ttl_ns = ttl_ns
        self._algorithm: Any = get_default_algorithms()[method]
        self._signer, self._verifier = _load_keys(method, private, public)
        self._header = _encode(json.dumps({"alg": method, "typ": "JWT"}, separators=(",", ":")).encode())
        self._believed: dict[bytes, _Believed] = {}

    def sign(self, username: str, revision: int) -> str:
        """Return a new token. Raises VERIFY_ONLY."""
        if self._signer is None:
            raise VERIFY_ONLY
        expires_s = (self._loop.time_ns() + self._ttl_ns) // 1_000_000_000
        claims = {"exp": expires_s, "revision": revision, "username": username}
        body = _encode(json.dumps(claims, separators=(",", ":")).encode())
        signed = self._header + b"." + body
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about short HMAC secrets, which etcd takes
            signature: bytes = self._algorithm.sign(signed, self._signer)
        return (signed + b"." + _encode(signature)).decode()

    def claim(self, token: bytes) -> Claim | None:
        """Return what a token says."""
        found = self._believed.get(token)
        if found is None:
            found = self._verify(token)
            if found is None:
                return None
            if len(self._believed) >= _CACHE_MAX:
                del self._believed[next(iter(self._believed))]
            self._believed[token] = found
        return found.claim if found.from_ns <= self._loop.time_ns() < found.until_ns else None

    def _verify(self, token: bytes) -> _Believed | None:
        parts = token.split(b".")
        if len(parts) != 3 or len(token) > _TOKEN_BYTES_MAX:
            return None
        try:
            header = json.loads(_decode(parts[0]))
            signature = _decode(parts[2])
            if not isinstance(header, dict) or header.get("alg") != self._method:
                return None
            if not self._algorithm.verify(parts[0] + b"." + parts[1], self._verifier, signature):
                return None
            return _read_claims(json.loads(_decode(parts[1])))
        except (ValueError, RecursionError):
            return None


def _read_claims(claims: object) -> _Believed | None:
    if not isinstance(claims, dict):
        return None
    username = claims.get("username")
    revision: Any = claims.get("revision")
    if not isinstance(username, str) or not _is_number(revision):
        return None
    bounds: list[int] = []
    for name, default in (("nbf", 0), ("exp", 1 << 62)):
        value = claims.get(name)
        if value is None:
            bounds.append(default)
        elif _is_number(value):
            bounds.append(int(value * 1_000_000_000))
        else:
            return None
    return _Believed(Claim(username, max(0, int(revision))), bounds[0], bounds[1])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -(1e300) < value < 1e300


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    """Return the bytes of unpadded base64url. ValueError for anything else."""
    return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)


# -- Keys


def _load_keys(method: str, private: bytes, public: bytes) -> tuple[Any, Any]:
    """Return what signs (None: nothing does) and what verifies."""
    if method.startswith("HS"):
        if not private:
            raise KeyProblem("auth: missing key data")
        return private, private
    signer = _load(_private_key, private, method, "private") if private else None
    verifier = _load(_public_key, public, method, "public") if public else None
    if signer is None and verifier is None:
        raise KeyProblem("auth: missing key data")
    if signer is not None:
        own = signer.public_key()
        if verifier is not None and own != verifier:
            raise KeyProblem("auth: public and private keys don't match")
        verifier = own
    return signer, verifier


def _load(load: Callable[[bytes], Any], data: bytes, method: str, kind: str) -> Any:
    """Return a key of the right type. Raises KeyProblem."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    types: dict[str, tuple[str, tuple[type, type]]] = {
        "RS": ("RSA", (rsa.RSAPrivateKey, rsa.RSAPublicKey)),
        "PS": ("RSA", (rsa.RSAPrivateKey, rsa.RSAPublicKey)),
        "ES": ("ECDSA", (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey)),
        "Ed": ("Ed25519", (ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey)),
    }
    name, accepted = types[method[:2]]
    if b"-----BEGIN " not in data:
        raise KeyProblem("invalid key: Key must be a PEM encoded PKCS1 or PKCS8 key")
    try:
        key: Any = load(data)
    except (ValueError, TypeError) as error:
        raise KeyProblem(f"invalid {kind} key: {error}") from None
    if not isinstance(key, accepted):
        raise KeyProblem(f"key is not a valid {name} {kind} key")
    if (
        isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey)
        and key.curve.key_size != _CURVE_BITS[method]
    ):
        raise KeyProblem(f"invalid {kind} key: {method} needs a curve of {_CURVE_BITS[method]} bits")
    return key


def _private_key(data: bytes) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return load_pem_private_key(data, password=None)


def _public_key(data: bytes) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from cryptography.x509 import load_pem_x509_certificate

    if b"CERTIFICATE" in data:
        return load_pem_x509_certificate(data).public_key()
    return load_pem_public_key(data)
