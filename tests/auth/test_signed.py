"""Signed tokens change hands between real etcd 3.5.1 and ours; bad options end both."""

from __future__ import annotations

from pathlib import Path

import pytest

from quorate.auth.jwt import JwtTokens
from quorate.proto import rpc_pb2 as pb
from tests.auth.test_directories import AUTH, Client, set_up
from tests.auth.test_tokens import Loop, keys_of
from tests.oracle import Member, running

pytestmark = [pytest.mark.oracle, pytest.mark.process]

OLD = {"ours": "etcdserver: revision of auth store is old", "real": "auth: revision in header is old"}
"""3.5.1 does not give this error its public form."""


def option(folder: Path, method: str) -> str:
    private, public = keys_of(method)
    (folder / "key").write_bytes(private)
    (folder / "pub").write_bytes(public or b"-")
    public_option = f",pub-key={folder}/pub" if public else ""
    return f"--auth-token=jwt,sign-method={method},priv-key={folder}/key{public_option},ttl=1h"


@pytest.mark.parametrize("method", ["RS256", "PS384", "ES256", "HS512"])
def test_tokens_of_either_kind(tmp_path: Path, method: str) -> None:
    loop = Loop()
    loop.now_ns = 1 << 60  # a clock ahead of every other
    tokens = JwtTokens(loop, method, *keys_of(method), 1 << 62)
    flags = ["--bcrypt-cost=4", option(tmp_path, method)]
    issued = {}
    for kind in ("real", "ours"):
        with running(kind, flags=flags) as member, Client(member) as client:
            set_up(client)
            client.log_in("alice", "alice")
            issued[kind] = client.token
            assert isinstance(client.put(b"a"), pb.PutResponse)
            assert client.put(b"b") == "etcdserver: permission denied"
            client.token = tokens.sign("alice", 99)[:-4] + "AAAA"
            assert client.put(b"a") == "etcdserver: invalid auth token"
            client.token = tokens.sign("alice", 1)
            assert client.put(b"a") == OLD[kind]
            client.token = tokens.sign("root", 1)
            status = client.call(AUTH + "AuthStatus", pb.AuthStatusRequest(), pb.AuthStatusResponse)
            assert isinstance(status, pb.AuthStatusResponse), status
            client.token = tokens.sign("alice", status.authRevision)
            assert isinstance(client.put(b"a"), pb.PutResponse)
    loop.now_ns = 0  # and one behind, for which nothing has expired
    for token in issued.values():
        claim = tokens.claim(token.encode())
        assert claim is not None
        assert claim.username == "alice"


@pytest.mark.parametrize(
    "text", ["jwt", "paseto", "jwt,sign-method=RS256", "jwt,sign-method=HS256,priv-key=/nowhere", "simple,x"]
)
def test_bad_options(text: str) -> None:
    reasons = []
    for kind in ("real", "ours"):
        member = Member(kind, flags=[f"--auth-token={text}"])
        try:
            member.start(wait=False)
            assert member.process is not None
            assert member.process.wait(20) == 1
            reasons.append(
                "auth: missing key data" in member.log_tail() or "auth: invalid auth options" in member.log_tail()
            )
        finally:
            member.close()
    assert reasons == [True, True]
