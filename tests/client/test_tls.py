"""TLS: the client and etcdctl against real etcd and ours with certificates on both sides; users by certificate."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from quorate.cli.benchmark.main import run as benchmark
from quorate.client import BlockingClient, Client, EtcdError, PermissionDeniedError, TlsOptions
from tests.etcdctl.twins import environment
from tests.oracle import Member, real_binary, running

OURS = [sys.executable, "-m", "quorate.cli.etcdctl.main"]

pytestmark = [pytest.mark.oracle, pytest.mark.process]


class TlsMember(Member):
    """A member that wants certificates from its clients."""

    def __init__(self, kind: str, folder: Path) -> None:
        super().__init__(kind)
        self.folder = folder
        self.ca, self.cert, self.key = (str(folder / name) for name in ("ca.pem", "client.pem", "client-key.pem"))
        self.issue()
        self.flags = [
            f"--listen-client-urls=https://{self.endpoint}",
            f"--advertise-client-urls=https://{self.endpoint}",
            f"--cert-file={folder}/server.pem",
            f"--key-file={folder}/server-key.pem",
            f"--trusted-ca-file={self.ca}",
            "--client-cert-auth",
            "--bcrypt-cost=4",
        ]

    def issue(self) -> None:
        """Write certificates of a new authority."""
        ca = trustme.CA()
        server, client = ca.issue_cert("127.0.0.1"), ca.issue_cert("someone@example.org", common_name="someone")
        ca.cert_pem.write_to_path(self.ca)
        client.cert_chain_pems[0].write_to_path(self.cert)
        client.private_key_pem.write_to_path(self.key)
        server.cert_chain_pems[0].write_to_path(self.folder / "server.pem")
        server.private_key_pem.write_to_path(self.folder / "server-key.pem")

    def options(self) -> TlsOptions:
        return TlsOptions(self.ca, self.cert, self.key)

    def ready(self) -> None:
        with BlockingClient(self.endpoint, tls=self.options(), timeout_s=20) as client:
            client.get("ready")


@pytest.fixture(scope="module", params=["real", "ours"])
def member(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsMember]:
    member = TlsMember(request.param, tmp_path_factory.mktemp("tls"))
    try:
        member.start(wait=False)
        member.ready()
        yield member
    finally:
        member.close()


def test_asyncio(member: TlsMember) -> None:
    async def run() -> None:
        for endpoint in (member.endpoint, f"https://{member.endpoint}"):
            async with Client(endpoint, tls=member.options()) as client:
                await client.put("k", "v" * 1_000_000)
                found = await client.get("k")
                assert found is not None
                assert len(found.value) == 1_000_000
        async with Client(f"https://{member.endpoint}", timeout_s=1) as stranger:
            with pytest.raises(EtcdError, match="certificate"):
                await stranger.get("k")
        async with Client(f"https://{member.endpoint}", tls=TlsOptions(member.ca), timeout_s=1) as nobody:
            with pytest.raises(EtcdError):
                await nobody.get("k")

    asyncio.run(run())


def test_etcdctl(member: TlsMember) -> None:
    files = [f"--cacert={member.ca}", f"--cert={member.cert}", f"--key={member.key}"]
    limit = "--command-timeout=3s"
    forms = (
        [*files, f"--endpoints={member.endpoint}"],
        [*files, f"--endpoints=https://{member.endpoint}"],
        [*files[1:], f"--endpoints=https://{member.endpoint}"],
        [*files[1:], "--insecure-skip-tls-verify", f"--endpoints=https://{member.endpoint}"],
        [files[0], f"--endpoints=https://{member.endpoint}"],
        [*files, f"--endpoints=http://{member.endpoint}"],
        [f"--endpoints={member.endpoint}"],
    )
    # Against ours those that fail by a time limit are left out: nothing in them is the server's.
    for flags in forms if member.kind == "real" else forms[:4]:
        words = ["put", "tls", "v", limit, *flags]
        real, ours = (
            subprocess.run([*tool, *words], capture_output=True, text=True, check=False, env=environment(None))
            for tool in ([real_binary("etcdctl")], OURS)
        )
        assert (ours.stdout, ours.returncode) == (real.stdout, real.returncode), (flags, ours.stderr, real.stderr)
        assert ours.stderr.splitlines()[-1:] == real.stderr.splitlines()[-1:]


def test_the_user_of_a_certificate(member: TlsMember) -> None:
    with BlockingClient(member.endpoint, tls=member.options()) as client:
        client.user_add("root", "toor")
        client.user_grant_role("root", "root")
        client.user_add("someone", no_password=True)
        client.role_add("some")
        client.role_grant("some", "readwrite", "some/", prefix=True)
        client.user_grant_role("someone", "some")
        client.auth_enable()
    try:
        with BlockingClient(member.endpoint, tls=member.options()) as someone:
            someone.put("some/thing", "x")
            with someone.watch("some/", prefix=True, start_revision=1) as watcher:
                assert watcher.next(10) is not None
            with pytest.raises(PermissionDeniedError):
                someone.put("other", "x")
        with BlockingClient(member.endpoint, tls=member.options(), user="root", password="toor") as root:
            root.put("other", "x")  # a password goes before a certificate
    finally:
        with BlockingClient(member.endpoint, tls=member.options(), user="root", password="toor") as root:
            root.auth_disable()


def test_new_certificates_while_connected(member: TlsMember) -> None:
    async def run() -> None:
        async with Client(member.endpoint, tls=member.options(), timeout_s=20) as client:
            lease = await client.lease(30)
            await client.put("mortal", "x", lease=lease.id)
            async with client.watch("hot/", prefix=True) as watcher:
                for number in range(2):
                    await asyncio.to_thread(member.stop)
                    member.issue()
                    await asyncio.to_thread(member.start, False)
                    await asyncio.to_thread(member.ready)
                    while True:
                        try:
                            await client.put(f"hot/{number}", "x")
                        except EtcdError as error:
                            assert error.maybe_applied  # noqa: PT017
                        else:
                            break
                    batch = await watcher.next(20)
                    assert batch is not None
                    assert batch.events[0].kv.key == f"hot/{number}".encode()
            assert not lease.lost
            await lease.revoke()

    asyncio.run(run())


def test_benchmark(member: TlsMember, capsys: pytest.CaptureFixture[str]) -> None:
    files = [f"--cacert={member.ca}", f"--cert={member.cert}", f"--key={member.key}"]
    words = ["put", "--total=50", "--clients=5", "--conns=2"]
    assert benchmark([f"--endpoints={member.endpoint}", *files, *words]) == 0
    assert "Error distribution" not in capsys.readouterr().out
    assert benchmark([f"--endpoints=https://{member.endpoint}", *words]) == 1
    assert capsys.readouterr().err.startswith("dial error: ")


@pytest.mark.parametrize("kind", ["real", "ours"])
def test_signed_tokens_run_out(kind: str, tmp_path: Path) -> None:
    private = rsa.generate_private_key(65537, 2048)
    pem, pkcs8, public = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.PublicFormat
    (tmp_path / "key.pem").write_bytes(private.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    (tmp_path / "pub.pem").write_bytes(private.public_key().public_bytes(pem, public.SubjectPublicKeyInfo))
    token = f"--auth-token=jwt,pub-key={tmp_path}/pub.pem,priv-key={tmp_path}/key.pem,sign-method=RS256,ttl=1s"
    with running(kind, flags=[token, "--bcrypt-cost=4"]) as member:
        with BlockingClient(member.endpoint) as client:
            client.user_add("root", "toor")
            client.user_grant_role("root", "root")
            client.auth_enable()

        async def run() -> None:
            async with (
                Client(member.endpoint, user="root", password="toor") as client,
                client.watch("k") as watcher,
            ):
                first = (await client.put("k", "0")).header.revision
                for number in range(1, 8):
                    await asyncio.sleep(0.5)
                    await asyncio.gather(client.put("k", str(number)), client.get("k"))
                seen: list[int] = []
                while len(seen) < 8:
                    batch = await watcher.next(10)
                    assert batch is not None
                    seen += [event.kv.mod_revision for event in batch.events]
                assert seen == list(range(first, first + 8))

        asyncio.run(run())
