"""quorate.testing and the pytest fixtures, as their users use them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from quorate.client import BlockingClient, EtcdError
from quorate.runtime.sockets import ListenError
from quorate.testing import EmbeddedCluster, EmbeddedMember
from tests.oracle import ROOT, real_binary

pytest_plugins = ["pytester"]


def test_a_member_lives_and_leaves_nothing() -> None:
    with EmbeddedMember() as etcd:
        folder = Path(etcd.data_dir).parent
        with etcd.client() as client:
            client.put("k", "v")
            assert [member.clientURLs for member in client.members()] == [[etcd.url]]
        etcd.restart()

        async def read() -> bytes:
            async with etcd.async_client() as client:
                found = await client.get("k")
                return b"" if found is None else found.value

        assert asyncio.run(read()) == b"v"
        assert "ready to serve client requests" in etcd.log()
    assert not folder.exists()
    assert not etcd.running


def test_a_directory_of_ones_own_stays(tmp_path: Path) -> None:
    for number in range(2):
        with EmbeddedMember(tmp_path / "data", name="mine", quota_bytes=64 << 20) as etcd, etcd.client() as client:
            assert client.put("k", "v").header.revision == number + 2
            assert not etcd.settings().unsafe_no_fsync
            assert client.members()[0].name == "mine"
    assert (tmp_path / "data" / "member" / "snap" / "db").exists()


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    with EmbeddedMember() as first:
        second = EmbeddedMember(tmp_path / "d", client_port=first.client_port, peer_port=first.peer_port)
        with pytest.raises(ListenError, match="address already in use"):
            second.start()
        assert not second.running


def test_clear(etcd: EmbeddedMember) -> None:
    with etcd.client() as client:
        client.put("k", "v", lease=client.lease_grant(1000).ID)
        client.user_add("root", "toor")
        client.user_grant_role("root", "root")
        client.role_add("r")
        etcd.clear()
        assert (client.range("", prefix=True).count, client.leases(), client.users(), client.roles()) == (0, [], [], [])
        client.user_add("root", "toor")
        client.user_grant_role("root", "root")
        client.auth_enable()
    etcd.clear()
    with etcd.client() as client:
        client.put("k", "v")
    etcd.stop()
    etcd.clear()
    with etcd.client() as client:
        assert client.get("k") is None


@pytest.mark.oracle
def test_real_etcdctl_speaks_to_it(etcd: EmbeddedMember, etcd_client: BlockingClient) -> None:
    etcd_client.put("k", "v")
    done = subprocess.run(
        [real_binary("etcdctl"), f"--endpoints={etcd.endpoint}", "get", "k"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "k\nv\n"


def test_a_cluster(etcd_cluster: EmbeddedCluster) -> None:
    with etcd_cluster.client(timeout_s=20) as client:
        client.put("k", "v")
        assert len(client.members()) == 3
        leader = etcd_cluster.leader()
        assert leader is not None
        leader.stop()
        found = client.get("k")
        assert found is not None
        while True:
            try:
                client.put("k", "w")
            except EtcdError as error:
                assert error.maybe_applied  # noqa: PT017
            else:
                break
        leader.start()
        assert etcd_cluster.leader() is not leader


def test_the_fixtures_give_every_test_an_empty_member(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest

        @pytest.mark.parametrize("number", [1, 2])
        def test_empty(etcd_client, etcd, number):
            assert etcd_client.range("", prefix=True).count == 0
            etcd_client.put("k", "v")
            assert etcd.running
    """)
    pytester.syspathinsert(str(ROOT / "src"))
    done = pytester.runpytest_inprocess("-p", "quorate_pytest", "-p", "no:cacheprovider")
    done.assert_outcomes(passed=2)


def test_the_plugin_imports_nothing_of_ours() -> None:
    text = "import sys, quorate_pytest; print([name for name in sys.modules if name.split('.')[0] == 'quorate'])"
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True, env={"PYTHONPATH": f"{ROOT}/src"}
    )
    assert done.stdout == "[]\n"
