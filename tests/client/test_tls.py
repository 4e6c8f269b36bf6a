"""TLS: the client and etcdctl against real etcd with certificates on both sides."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from quorate.client import BlockingClient, Client, EtcdError, TlsOptions
from tests.etcdctl.twins import OURS, environment
from tests.oracle import Member, real_binary

pytestmark = [pytest.mark.oracle, pytest.mark.process]


class TlsMember(Member):
    """Real etcd that wants certificates from its clients."""

    def __init__(self, folder: Path) -> None:
        super().__init__("real")
        ca = trustme.CA()
        server, client = ca.issue_cert("127.0.0.1"), ca.issue_cert("someone@example.org", common_name="someone")
        self.ca, self.cert, self.key = (str(folder / name) for name in ("ca.pem", "client.pem", "client-key.pem"))
        ca.cert_pem.write_to_path(self.ca)
        client.cert_chain_pems[0].write_to_path(self.cert)
        client.private_key_pem.write_to_path(self.key)
        server.cert_chain_pems[0].write_to_path(folder / "server.pem")
        server.private_key_pem.write_to_path(folder / "server-key.pem")
        self.flags = [
            f"--listen-client-urls=https://{self.endpoint}",
            f"--advertise-client-urls=https://{self.endpoint}",
            f"--cert-file={folder}/server.pem",
            f"--key-file={folder}/server-key.pem",
            f"--trusted-ca-file={self.ca}",
            "--client-cert-auth",
        ]

    def options(self) -> TlsOptions:
        return TlsOptions(self.ca, self.cert, self.key)


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsMember]:
    member = TlsMember(tmp_path_factory.mktemp("tls"))
    try:
        member.start(wait=False)
        with BlockingClient(member.endpoint, tls=member.options(), timeout_s=20) as client:
            client.get("ready")
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
    limit = "--command-timeout=700ms"
    for flags in (
        [*files, f"--endpoints={member.endpoint}"],
        [*files, f"--endpoints=https://{member.endpoint}"],
        [*files[1:], f"--endpoints=https://{member.endpoint}"],
        [*files[1:], "--insecure-skip-tls-verify", f"--endpoints=https://{member.endpoint}"],
        [files[0], f"--endpoints=https://{member.endpoint}"],
        [*files, f"--endpoints=http://{member.endpoint}"],
        [f"--endpoints={member.endpoint}"],
    ):
        words = ["put", "tls", "v", limit, *flags]
        real, ours = (
            subprocess.run([*tool, *words], capture_output=True, text=True, check=False, env=environment(None))
            for tool in ([real_binary("etcdctl")], OURS)
        )
        assert (ours.stdout, ours.returncode) == (real.stdout, real.returncode), (flags, ours.stderr, real.stderr)
        assert ours.stderr.splitlines()[-1:] == real.stderr.splitlines()[-1:]
