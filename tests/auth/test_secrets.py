"""Nothing secret is logged, and nothing of the data may be read by other users of the machine."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from quorate.proto.rpc_pb2 import (
    AuthenticateRequest,
    AuthenticateResponse,
    AuthUserAddRequest,
    AuthUserAddResponse,
    AuthUserChangePasswordRequest,
    AuthUserChangePasswordResponse,
    PutRequest,
    PutResponse,
    RequestOp,
    TxnRequest,
    TxnResponse,
)
from tests.oracle import Member, running

pytestmark = pytest.mark.process

SLOW = ["--warning-apply-duration=1ns", "--experimental-warning-unary-request-duration=1ns"]
PASSWORDS = ("Root-Pass-7431", "User-Pass-5210", "Next-Pass-9977", "Wrong-Pass-1188", "Odd-Pass-6060")
VALUE = b"Stored-Value-3344"
OPTIONS = [("grpc.enable_http_proxy", 0)]


def key_pair(folder: Path) -> tuple[str, str]:
    """Files with an RSA key and its public half."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private, public = folder / "key.pem", folder / "pub.pem"
    form = serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    half = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, half))
    return str(private), str(public)


class Client:
    """Calls whose outcome does not matter; every token that comes back is remembered."""

    def __init__(self, member: Member) -> None:
        self.channel = grpc.insecure_channel(member.endpoint, options=OPTIONS)
        self.tokens: list[str] = []

    def call(self, path: str, request: object, answer: object, token: str = "") -> object:
        method = self.channel.unary_unary(path, type(request).SerializeToString, answer.FromString)
        try:
            return method(request, timeout=30, metadata=[("token", token)] if token else [])
        except grpc.RpcError:
            return None

    def login(self, name: str, password: str) -> str:
        path = "/etcdserverpb.Auth/Authenticate"
        answer = self.call(path, AuthenticateRequest(name=name, password=password), AuthenticateResponse)
        if answer is None:
            return ""
        self.tokens.append(answer.token)
        return answer.token


def use(member: Member) -> list[str]:
    """Everything that deals with secrets, well and badly; returns the secrets."""
    root, user, following, wrong, odd = PASSWORDS
    for words in (
        ["user", "add", f"root:{root}"],
        ["user", "grant-role", "root", "root"],
        ["user", "add", f"u:{user}"],
    ):
        assert member.etcdctl(*words).returncode == 0
    assert member.etcdctl("auth", "enable").returncode == 0
    assert member.etcdctl(f"--user=root:{root}", "user", "list").returncode == 0
    assert member.etcdctl(f"--user=u:{wrong}", "get", "k").returncode != 0
    client = Client(member)
    token = client.login("root", root)
    client.login("u", user)
    client.login("u", wrong)
    client.login("nobody", wrong)
    add, change = "/etcdserverpb.Auth/UserAdd", "/etcdserverpb.Auth/UserChangePassword"
    client.call(add, AuthUserAddRequest(name="v", password=odd), AuthUserAddResponse, token)
    client.call(add, AuthUserAddRequest(name="v", password=odd), AuthUserAddResponse, token)
    client.call(add, AuthUserAddRequest(name="w", hashedPassword=odd), AuthUserAddResponse, token)
    request = AuthUserChangePasswordRequest(name="u", password=following)
    client.call(change, request, AuthUserChangePasswordResponse, token)
    client.call(
        change, AuthUserChangePasswordRequest(name="x", password=following), AuthUserChangePasswordResponse, token
    )
    client.login("u", following)
    strange = ["not-a-token-8251", "aaaa.bbbb-8252.cccc", f"{token}x", "Bearer " + token]
    for each in [token, *strange]:
        client.call("/etcdserverpb.KV/Put", PutRequest(key=b"k", value=VALUE), PutResponse, each)
    txn = TxnRequest(success=[RequestOp(request_put=PutRequest(key=b"t", value=VALUE))])
    client.call("/etcdserverpb.KV/Txn", txn, TxnResponse, token)
    client.call("/etcdserverpb.KV/Txn", txn, TxnResponse, strange[0])
    curl = ["curl", "-s", "-H", f"Authorization: {token}", f"{member.url}/version"]
    subprocess.run(curl, capture_output=True, timeout=30, check=False)
    curl = ["curl", "-s", "-H", f"Authorization: {strange[0]}", "-d", '{"key":"aw=="}', f"{member.url}/v3/kv/range"]
    subprocess.run(curl, capture_output=True, timeout=30, check=False)
    client.channel.close()
    assert client.tokens
    return [*PASSWORDS, *client.tokens, *strange, VALUE.decode()]


@pytest.mark.parametrize("tokens", ["simple", "jwt"])
def test_nothing_secret_is_logged(tmp_path, tokens):
    private, public = key_pair(tmp_path)
    flags = ["--log-level=debug", "--bcrypt-cost=4", *SLOW]
    if tokens == "jwt":
        flags.append(f"--auth-token=jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl=10m")
    with running("ours", flags=flags) as member:
        secrets = use(member)
        # What is read back at the next start is not told either.
        member.stop()
        member.start()
        member.stop()
        log = Path(member.log_path).read_text(errors="replace")
    assert '"level":"debug"' in log
    assert "took too long" in log, "slow requests are to be told, without what is secret in them"
    found = [secret for secret in secrets if secret and secret in log]
    found += re.findall(r"\$2[aby]\$\d\d\$\S+", log)
    lines = Path(private).read_text().splitlines()[1:-1] + Path(public).read_text().splitlines()[1:-1]
    found += [line for line in lines if line in log]
    assert found == []


def modes(folder: str) -> dict[str, str]:
    """The mode of everything in a data directory, numbers in names left out."""
    found = {}
    for path, _, files in os.walk(folder):
        names = [path, *[f"{path}/{name}" for name in files]]
        for name in names:
            key = re.sub(r"[0-9a-f]{16}", "N", name[len(folder) :])
            found[key] = stat.filemode(os.stat(name).st_mode)
    return found


@pytest.mark.oracle
@pytest.mark.parametrize("mask", [0o000, 0o027])
def test_permissions_of_directories_and_files(mask):
    """As real etcd makes them, whatever the umask; and its warning when a directory is open to others."""
    seen = {}
    for kind in ("real", "ours"):
        old = os.umask(mask)
        try:
            member = Member(kind, flags=["--snapshot-count=5"])
            member.start()
        finally:
            os.umask(old)
        try:
            client = Client(member)
            for number in range(20):
                request = PutRequest(key=b"k", value=b"%d" % number)
                assert client.call("/etcdserverpb.KV/Put", request, PutResponse) is not None
            client.channel.close()
            member.stop()
            seen[kind] = modes(member.data_dir)
            os.chmod(member.data_dir, 0o755)
            os.chmod(f"{member.data_dir}/member/snap", 0o750)
            member.start()
            member.stop()
            pattern = r'"msg":"check file permission","error":"directory \\"\S*?/data(\S*?)\\" (exist, .*?)"\}'
            seen[kind, "warnings"] = re.findall(pattern, Path(member.log_path).read_text())
        finally:
            member.close()
    assert seen["ours"] == seen["real"]
    assert seen["ours"]["/member"] == "drwx------"
    assert seen["ours"]["/member/snap/db"] == "-rw-------"
    assert len(seen["ours", "warnings"]) >= 2
    assert set(seen["ours", "warnings"]) == set(seen["real", "warnings"])
