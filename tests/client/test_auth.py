"""Users: logging in, tokens that stop being good, and what is refused; calls, watches and leases alike."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from quorate.client import BlockingClient, Client, EtcdError, PermissionDeniedError
from tests.client.proxy import Proxy
from tests.oracle import Member, running

pytestmark = [pytest.mark.oracle, pytest.mark.process]


@pytest.fixture(scope="module", params=["real", "ours"])
def guarded(request: pytest.FixtureRequest) -> Iterator[Member]:
    """A member that knows root and alice; alice may do everything below a/."""
    with running(request.param, flags=["--bcrypt-cost=4"]) as member:
        with BlockingClient(member.endpoint) as client:
            client.user_add("root", "toor")
            client.user_grant_role("root", "root")
            client.role_add("a")
            client.role_grant("a", "readwrite", "a/", prefix=True)
            client.user_add("alice", "secret")
            client.user_grant_role("alice", "a")
            client.auth_enable()
        yield member


def void_tokens(member: Member) -> None:
    """A new password, even the same one, makes all of a user's tokens bad."""
    with BlockingClient(member.endpoint, user="root", password="toor") as root:
        root.user_change_password("alice", "secret")


def test_what_is_refused(guarded: Member) -> None:
    async def run() -> None:
        async with Client(guarded.endpoint, user="alice", password="wrong") as client:
            with pytest.raises(PermissionDeniedError, match="authentication failed"):
                await client.get("a/1")
            with pytest.raises(PermissionDeniedError, match="authentication failed"):
                await client.watch("a/1").next(5)
        async with Client(guarded.endpoint) as client:
            with pytest.raises(PermissionDeniedError, match="user name is empty"):
                await client.put("a/1", "x")
        async with Client(guarded.endpoint, user="alice", password="secret") as client:
            await client.put("a/1", "x")
            with pytest.raises(PermissionDeniedError) as caught:
                await client.put("b/1", "x")
            assert not caught.value.maybe_applied
            with pytest.raises(EtcdError, match="permission denied"):
                await client.watch("b/1").next(5)

    asyncio.run(run())


def test_calls_log_in_again(guarded: Member) -> None:
    async def run() -> None:
        async with Client(guarded.endpoint, user="alice", password="secret") as client:
            first = await client.put("a/n", "0")
            await asyncio.to_thread(void_tokens, guarded)
            await asyncio.gather(*[client.put("a/n", str(number)) for number in range(20)])
            found = await client.get("a/n")
            assert found is not None
            assert found.mod_revision == first.header.revision + 20

    asyncio.run(run())


def test_users_before_and_after_auth_is_switched_on(guarded: Member) -> None:
    async def run() -> None:
        async with (
            Client(guarded.endpoint, user="root", password="toor") as root,
            Client(guarded.endpoint, user="alice", password="secret") as alice,
        ):
            await root.auth_disable()
            try:
                await alice.put("b/1", "x")  # anybody may do anything
            finally:
                await root.auth_enable()
            async with alice.watch("a/", prefix=True):
                pass
            with pytest.raises(PermissionDeniedError):
                await alice.put("b/1", "x")
            await alice.put("a/1", "x")

    asyncio.run(run())


def test_watches_leases_and_snapshots_log_in_again(guarded: Member, tmp_path_factory: pytest.TempPathFactory) -> None:
    async def run() -> None:
        proxy = await Proxy(guarded.client_port).start()
        try:
            async with Client(proxy.endpoint, user="alice", password="secret") as client:
                lease = await client.lease(3)
                async with client.watch("a/w/", prefix=True) as watcher:
                    for number in range(3):
                        await asyncio.to_thread(void_tokens, guarded)
                        proxy.cut()
                        await asyncio.sleep(1)
                        await client.put(f"a/w/{number}", "x", lease=lease.id)
                        batch = await watcher.next(10)
                        assert batch is not None
                        assert [event.kv.key for event in batch.events] == [f"a/w/{number}".encode()]
                await asyncio.sleep(1.5)
                assert not lease.lost
                await lease.revoke()
            path = tmp_path_factory.mktemp("auth") / "snap.db"
            async with Client(proxy.endpoint, user="root", password="toor") as root:
                await root.get("a")
                with BlockingClient(guarded.endpoint, user="root", password="toor") as other:
                    await asyncio.to_thread(other.user_change_password, "root", "toor")
                assert await root.snapshot(str(path)) == path.stat().st_size
        finally:
            await proxy.close()

    asyncio.run(run())
